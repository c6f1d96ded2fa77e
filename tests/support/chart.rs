//! The chart, rendered and installed by the real Helm, and the identities that it makes.
//!
//! Helm is built from `tests/chart` (Go) when it is not under `target/` yet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::wait_for;

/// The chart in a cluster.
pub struct Installed {
    /// The release's name too, so that releases of several tests stand side by side.
    pub namespace: String,
    /// What cluster-scoped objects and the webhook configuration are called.
    pub name: String,
    pub webhook: Identity,
    pub controller: Identity,
}

/// One of the chart's `ServiceAccount`s, with a real token of an hour.
pub struct Identity {
    /// What a process of pullcred is started with, to have exactly these rights.
    pub kubeconfig: PathBuf,
    /// As the API server names it.
    pub user: String,
    // Holds the kubeconfig.
    _directory: tempfile::TempDir,
}

impl Identity {
    /// A token for an account that is there.
    pub async fn of(plane: &ControlPlane, namespace: &str, account: &str) -> Self {
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let token = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, plane.kubeconfig_of(&token.status.unwrap().token, namespace)).unwrap();
        Self { kubeconfig, user: format!("system:serviceaccount:{namespace}:{account}"), _directory: directory }
    }

    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }
}

/// A control plane for the tests that make definitions and rules of the whole cluster.
pub async fn plane() -> &'static ControlPlane {
    static PLANE: tokio::sync::OnceCell<ControlPlane> = tokio::sync::OnceCell::const_new();
    PLANE.get_or_init(ControlPlane::own).await
}

/// Installs the chart into a namespace, which is made when it is not there, and waits until its policies are in force.
/// Later calls for the same namespace upgrade it. Nobody serves its webhook, so only namespaces with the label `tests/chart` and
/// the release's name are shown to it: the API server would wait for it wherever Pods are created.
pub async fn apply(plane: &ControlPlane, namespace: &str, values: &Value) -> Installed {
    let chart = chart();
    let kubeconfig = plane.kubeconfig.to_str().unwrap();
    let arguments =
        ["upgrade", "--install", "--create-namespace", "--namespace", namespace, "--kubeconfig", kubeconfig];
    let mut values = values.clone();
    values["webhook"]["namespaceSelector"] = json!({"matchLabels": {"tests/chart": namespace}});
    let output = helm(&[&arguments[..], &[namespace, chart.to_str().unwrap()]].concat(), &values);
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));

    let name = if namespace.contains("pullcred") { namespace.to_owned() } else { format!("{namespace}-pullcred") };
    let identity = async |component: &str| Identity::of(plane, namespace, &format!("{name}-{component}")).await;
    let (webhook, controller) = (identity("webhook").await, identity("controller").await);
    wait_for_the_policies(&controller.client().await, namespace).await;
    Installed { namespace: namespace.to_owned(), name, webhook, controller }
}

/// The API server reads new policies a second or so after they were made; until then they refuse nothing.
async fn wait_for_the_policies(controller: &Client, namespace: &str) {
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "trial"}})).unwrap();
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "trial"}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(controller.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(controller.clone(), namespace);
    wait_for("the policies to be in force", Duration::from_secs(30), async || {
        let is_refused = |answer: kube::Result<()>| matches!(answer, Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy"));
        (is_refused(secrets.create(&trial, &secret).await.map(drop)) && is_refused(leases.create(&trial, &lease).await.map(drop)))
            .then_some(())
    })
    .await;
}

/// The objects that Helm renders, or what it says against the values.
pub fn render(release: &str, namespace: &str, values: &Value) -> Result<Vec<Value>, String> {
    let chart = chart();
    let output = helm(&["template", "--namespace", namespace, release, chart.to_str().unwrap()], values);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap())
}

/// The object of a kind and name among those that were rendered.
pub fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The files of values that every object is looked at with, and the examples, by their names.
pub fn value_files() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries =
        ["tests/chart/values", "examples/values"].map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    files.iter().map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(path))).collect()
}

/// The values of one of these files.
pub fn values_of(name: &str) -> Value {
    let found = value_files().into_iter().find(|(file, _)| file == name);
    found.unwrap_or_else(|| panic!("no file of values {name}")).1
}

/// Where the chart is.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/pullcred")
}

/// Runs Helm with these values.
pub fn helm(arguments: &[&str], values: &Value) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    bare_helm(&[arguments, &["--values", file.to_str().unwrap()]].concat())
}

/// Runs Helm as it is told, with nothing of the configuration of whoever runs the tests.
pub fn bare_helm(arguments: &[&str]) -> Output {
    static HELM: LazyLock<PathBuf> = LazyLock::new(build);
    let home = tempfile::tempdir().unwrap();
    Command::new(&*HELM)
        .args(arguments)
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap()
}

/// Builds Helm from Go modules: minutes the first time, and not again until its version changes.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("chart");
    fs::create_dir_all(&target).unwrap();
    // Several test programs may get here at the same time; Go's own cache makes the second build a short one.
    let lock = File::create(target.join("lock")).unwrap();
    lock.lock().unwrap();
    let program = target.join("helm");
    let status = Command::new("go")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart"))
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(&program)
        .arg("helm.sh/helm/v4/cmd/helm")
        .status()
        .unwrap_or_else(|error| panic!("tests of the chart need Go 1.26 or later to build Helm: {error}"));
    assert!(status.success(), "`go build` of Helm ended with {status}");
    program
}
