//! `pullcred webhook` as a process of its own, as a cluster runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{free_port, wait_for};

/// A running webhook with its own rules and development certificate; killed when dropped.
pub struct Webhook {
    process: Child,
    // A static is never dropped: this shell ends the webhook when the test program ends, however that ends.
    keeper: Child,
    directory: tempfile::TempDir,
    /// Port of the HTTPS server on 127.0.0.1.
    pub port: u16,
    /// Port of `/livez`, `/readyz` and `/metrics` on 127.0.0.1.
    pub admin_port: u16,
}

impl Webhook {
    /// Starts it with these rule documents and further arguments, and waits until it is ready.
    pub async fn start(rules: &str, arguments: &[&str]) -> Self {
        Self::spawn(rules, arguments).ready().await
    }

    /// Waits until it is ready.
    pub async fn ready(mut self) -> Self {
        let limit = Duration::from_secs(20);
        wait_for("the webhook to be ready", limit, async || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the webhook ended with {status}:\n{}", self.log());
            }
            (self.admin("/readyz").await?.0 == 200).then_some(())
        })
        .await;
        self
    }

    /// Starts it with a limit on open files, and waits until it is ready.
    pub async fn start_with_descriptors(rules: &str, most: usize) -> Self {
        let program = env!("CARGO_BIN_EXE_pullcred");
        Self::spawn_by(Command::new("prlimit").args([&format!("--nofile={most}:{most}"), program]), rules, &[])
            .ready()
            .await
    }

    /// Starts it with the rules of the Kubernetes API that this kubeconfig names, and waits for nothing.
    pub fn of_cluster(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pullcred"));
        Self::spawn_with(program.env("KUBECONFIG", kubeconfig), None, arguments)
    }

    /// Starts it with these rule documents and the certificate of the cluster that this kubeconfig names, and waits for nothing.
    pub fn with_certificate_of_cluster(kubeconfig: &Path, rules: &str, arguments: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pullcred"));
        Self::spawn_with(program.env("KUBECONFIG", kubeconfig), Some(rules), arguments)
    }

    /// Starts it with exactly the arguments of a container, but for the addresses of its ports, and waits for nothing.
    pub fn as_in(container: &[String], kubeconfig: &Path) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let arguments = listening(container, &[("--listen", port), ("--admin-listen", admin_port)]);
        let mut program = Command::new(env!("CARGO_BIN_EXE_pullcred"));
        Self::run(program.args(arguments).env("KUBECONFIG", kubeconfig), tempfile::tempdir().unwrap(), port, admin_port)
    }

    /// Starts it and waits for nothing. It makes a development certificate of its own unless the arguments name another.
    pub fn spawn(rules: &str, arguments: &[&str]) -> Self {
        Self::spawn_by(&mut Command::new(env!("CARGO_BIN_EXE_pullcred")), rules, arguments)
    }

    fn spawn_by(program: &mut Command, rules: &str, arguments: &[&str]) -> Self {
        Self::spawn_with(program, Some(rules), arguments)
    }

    fn spawn_with(program: &mut Command, rules: Option<&str>, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = path("rules");
        fs::create_dir(&files).unwrap();
        let rules = rules.map(|rules| fs::write(path("rules/rules.yaml"), rules).unwrap());
        let rules = rules.map(|()| ["--rules".as_ref(), files.as_os_str()]);
        let (port, admin_port) = (free_port(), free_port());
        let certs = path("certs");
        let named = arguments.contains(&"--tls-cert") || arguments.contains(&"--tls-secret");
        let certificate = if named { vec![] } else { vec!["--dev-certs".as_ref(), certs.as_os_str()] };
        program
            .arg("webhook")
            .args(rules.into_iter().flatten())
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--log-format", "json"])
            .env("PULLCRED_LOG_LEVEL", "debug")
            .args(certificate)
            .args(arguments);
        Self::run(program, directory, port, admin_port)
    }

    fn run(program: &mut Command, directory: tempfile::TempDir, port: u16, admin_port: u16) -> Self {
        let log = File::create(directory.path().join("log")).unwrap();
        let process = program.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let keeper = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -s KILL \"$1\" 2>/dev/null", "keeper", &process.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, keeper, directory, port, admin_port }
    }

    /// The authority of its certificate, in PEM: what goes into `caBundle`.
    pub fn authority(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("certs/ca.crt")).unwrap()
    }

    /// Where its rule documents are.
    pub fn rules(&self) -> PathBuf {
        self.directory.path().join("rules/rules.yaml")
    }

    /// Where its certificate files are.
    pub fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        read(&self.directory.path().join("log"))
    }

    /// The URL that a webhook configuration names.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/mutate", self.port)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks the admin port; `None` when nobody answers.
    pub async fn admin(&self, path: &str) -> Option<(u16, String)> {
        ask(self.admin_port, path).await
    }

    /// Sends a signal by its name, as `kill` does.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let process = &mut self.process;
        wait_for("the webhook to end", limit, async || process.try_wait().unwrap()).await
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the webhook:\n{}", self.log());
        }
        // The keeper first: the webhook's id may be another's once it has been waited for.
        for process in [&mut self.keeper, &mut self.process] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The arguments of a container with other addresses to listen on, each of which must be there already.
pub fn listening(container: &[String], ports: &[(&str, u16)]) -> Vec<String> {
    let mut arguments = container.to_owned();
    for (flag, port) in ports {
        let found = arguments.iter_mut().find(|argument| argument.starts_with(&format!("{flag}=")));
        *found.unwrap_or_else(|| panic!("no {flag} in {container:?}")) = format!("{flag}=127.0.0.1:{port}");
    }
    arguments
}

/// Asks an admin port; `None` when nobody answers.
pub async fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
