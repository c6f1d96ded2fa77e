//! A real control plane for the tests of one run: etcd, kube-apiserver and kube-controller-manager.
//!
//! It is built from `tests/control-plane` (Go) when it is not under `target/` yet, unless `KUBEBUILDER_ASSETS` names a
//! directory that holds the programs. It ends with the test program, however that ends: its standard input closes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{free_port, wait_for};

/// Where it stands among the processes.
const API_SERVER: usize = 1;

const TOKEN: &str = "admin-of-the-tests";
/// Kubernetes' version, as the programs report it: the one that tests/control-plane/go.mod requires.
static KUBERNETES: LazyLock<String> = LazyLock::new(|| {
    let module = include_str!("../control-plane/go.mod");
    let line = module.lines().find(|line| line.trim_start().starts_with("k8s.io/kubernetes v"));
    line.and_then(|line| line.split_whitespace().nth(1)).expect("go.mod requires k8s.io/kubernetes").to_owned()
});

/// The control plane of this test run.
pub struct ControlPlane {
    /// A kubeconfig with all rights.
    pub kubeconfig: PathBuf,
    // Dropping a child closes its standard input, which ends it.
    processes: Vec<Child>,
    api_server: Starting,
}

/// How a program is started, as often as wanted.
struct Starting {
    name: &'static str,
    arguments: Vec<String>,
    directory: PathBuf,
}

impl Starting {
    fn start(&self) -> Child {
        let Self { name, arguments, directory } = self;
        let program = programs().join(name);
        let log = File::options().append(true).create(true).open(directory.join(format!("{name}.log"))).unwrap();
        Command::new(&program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
    }
}

impl ControlPlane {
    /// The one control plane that all tests of this run share, started by the first that asks.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        let plane =
            tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Self::start(&directory_of_this_run()))).await.unwrap();
        plane.answers().await;
        plane
    }

    /// One for a test alone.
    pub async fn own() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let plane = tokio::task::spawn_blocking(|| {
            let directory = directory_of_this_run().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
            fs::create_dir_all(&directory).unwrap();
            Self::start(&directory)
        });
        let plane = plane.await.unwrap();
        plane.answers().await;
        plane
    }

    /// Ends the API server, as a crash would.
    pub fn stop_api_server(&mut self) {
        self.processes[API_SERVER].kill().unwrap();
        self.processes[API_SERVER].wait().unwrap();
    }

    /// Starts it again, and waits until it answers.
    pub async fn start_api_server(&mut self) {
        self.processes[API_SERVER] = self.api_server.start();
        self.answers().await;
    }

    async fn answers(&self) {
        let client = self.client().await;
        wait_for("the API server", Duration::from_secs(60), async || {
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(ready).await.ok()
        })
        .await;
    }

    /// A client with all rights. A client belongs to the runtime it was made in, so each test makes its own.
    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.read_timeout = Some(Duration::from_secs(60));
        Client::try_from(config).unwrap()
    }

    /// A kubeconfig for the owner of a token, in text.
    pub fn kubeconfig_of(&self, token: &str, namespace: &str) -> String {
        let admins = fs::read_to_string(&self.kubeconfig).unwrap();
        admins.replace(TOKEN, token).replace("user: admin}", &format!("user: admin, namespace: {namespace}}}"))
    }

    fn start(directory: &Path) -> Self {
        let (etcd_port, port) = (free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let file = |name: &str| directory.join(name).display().to_string();
        certificates(directory);

        let kubeconfig = directory.join("kubeconfig");
        fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: tests\n\
                 clusters: [{{name: tests, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\n\
                 users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n\
                 contexts: [{{name: tests, context: {{cluster: tests, user: admin}}}}]\n",
                file("ca.crt")
            ),
        )
        .unwrap();
        fs::write(directory.join("tokens"), format!("{TOKEN},admin,admin,system:masters\n")).unwrap();

        let starting = |name, arguments| Starting { name, arguments, directory: directory.to_owned() };
        let etcd = starting(
            "etcd",
            vec![
                format!("--data-dir={}", file("etcd")),
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            ],
        );
        let api_server = starting(
            "kube-apiserver",
            vec![
                format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={}", file("apiserver.crt")),
                format!("--tls-private-key-file={}", file("apiserver.key")),
                format!("--cert-dir={}", file("certs")),
                format!("--token-auth-file={}", file("tokens")),
                "--authorization-mode=RBAC".to_owned(),
                // Of both families, for Services that ask for them.
                "--service-cluster-ip-range=10.0.0.0/24,fd00:10::/112".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", file("service-account.pub")),
                format!("--service-account-signing-key-file={}", file("service-account.key")),
            ],
        );
        let mut processes = vec![etcd.start(), api_server.start()];
        if programs().join("kube-controller-manager").exists() {
            wait_until_it_accepts(port, directory);
            let manager = starting(
                "kube-controller-manager",
                vec![
                    format!("--kubeconfig={}", kubeconfig.display()),
                    "--secure-port=0".to_owned(),
                    "--leader-elect=false".to_owned(),
                    // At the default of 20 a second, new namespaces wait seconds for their ServiceAccount.
                    "--kube-api-qps=1000".to_owned(),
                    "--kube-api-burst=1000".to_owned(),
                    format!("--service-account-private-key-file={}", file("service-account.key")),
                    format!("--root-ca-file={}", file("ca.crt")),
                ],
            );
            processes.push(manager.start());
        } else {
            panic!(
                "{} holds no kube-controller-manager, and tests create Deployments: put one there, or unset KUBEBUILDER_ASSETS",
                programs().display()
            );
        }
        Self { kubeconfig, processes, api_server }
    }
}

fn wait_until_it_accepts(port: u16, directory: &Path) {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > Duration::from_secs(90) {
            let log = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
            panic!("the API server does not come up:\n{}\n{}", log("etcd.log"), log("kube-apiserver.log"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One authority; a certificate for the API server; a key that signs the tokens of `ServiceAccount`s.
fn certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "tests");
    write("ca.crt", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);

    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    write("apiserver.crt", leaf.signed_by(&key, &issuer).unwrap().pem());
    write("apiserver.key", key.serialize_pem());
    // The API server takes the public half from a private key only in formats that ring does not write.
    let key = KeyPair::generate().unwrap();
    write("service-account.pub", key.public_key_pem());
    write("service-account.key", key.serialize_pem());
}

/// A new directory under `target/tmp`. Those of runs that have ended are removed: the last act of a run is not ours.
fn directory_of_this_run() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("control-plane");
    fs::create_dir_all(&parent).unwrap();
    for entry in fs::read_dir(&parent).unwrap().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let directory = parent.join(std::process::id().to_string());
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The directory that holds the programs.
pub fn programs() -> PathBuf {
    std::env::var_os("KUBEBUILDER_ASSETS").map_or_else(|| built().to_owned(), PathBuf::from)
}

/// The directory of the programs that are built here; `kubelet-oracle` is never among others.
pub fn built() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(build);
    &BUILT
}

/// Builds the programs from Go modules: minutes the first time, and not again until their source changes.
fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("control-plane");
    fs::create_dir_all(&target).unwrap();
    // Several test programs may get here at the same time; Go's own cache makes the second build a short one.
    let lock = File::create(target.join("lock")).unwrap();
    lock.lock().unwrap();

    let version = KUBERNETES.as_str();
    let minor = version.split('.').nth(1).unwrap();
    let [one, two] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!("-X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}")
    });
    let flags = format!("-s -w {one} {two}");
    let program = target.join("control-plane");
    // `go build` looks at what changed, better than we could.
    let status = Command::new("go")
        .current_dir(&source)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
        .arg(&program)
        .arg(".")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("`go build` in {} ended with {status}", source.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!(
            "cluster tests need Go 1.26 or later to build a control plane, or KUBEBUILDER_ASSETS to name one: go is not on PATH"
        ),
        Err(error) => panic!("cannot run go: {error}"),
    }
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kubelet-oracle"] {
        let link = target.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink("control-plane", &link).unwrap();
        }
    }
    target
}
