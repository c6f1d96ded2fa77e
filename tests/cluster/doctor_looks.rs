//! A sound installation in a cluster of its own, for the tests of `pullcred doctor` to break: the chart, a controller, a webhook
//! and its configuration, one rule and its source. And the command itself, as a person runs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::chart::{self, Installed};
use crate::support::control_plane::ControlPlane;
use crate::support::controller::Controller;
use crate::support::program::Webhook;
use crate::support::wait_for;

/// Where it is installed, and what the chart calls it.
pub const RELEASE: &str = "doctor";
pub const NAME: &str = "doctor-pullcred";
/// Where Pods are asked for.
pub const TEAM: &str = "team";
pub const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/doctor-pullcred";
pub const RULE: &str = "/apis/pullcred.io/v1alpha1/clusterpullsecrets/regcred";

const LIMIT: Duration = Duration::from_secs(40);

/// What was made once, and outlives each test.
pub struct Sound {
    pub plane: ControlPlane,
    pub installed: Installed,
    pub webhook: Webhook,
    pub controller: Option<Controller>,
}

/// The installation, for one test at a time, with a client of that test.
pub struct Patient {
    pub sound: MutexGuard<'static, Option<Sound>>,
    pub client: Client,
}

/// What the command told.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The codes of its findings, each once, in order.
    pub fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> =
            self.checks("wrong").iter().map(|check| check["code"].as_str().unwrap().to_owned()).collect();
        codes.sort();
        codes.dedup();
        codes
    }

    /// Those that are in this state.
    pub fn checks(&self, state: &str) -> Vec<Value> {
        let told = self.json();
        told["checks"].as_array().unwrap().iter().filter(|check| check["state"] == state).cloned().collect()
    }
}

/// Runs the command with these rights.
pub fn doctor(kubeconfig: &Path, arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_pullcred"))
        .args(["doctor", "--name", NAME, "--release-namespace", RELEASE])
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        // Arguments come before the environment, and none is given twice.
        .envs([("PULLCRED_FORMAT", "json"), ("PULLCRED_NAMESPACE", TEAM), ("NO_COLOR", "1")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Patient {
    /// The sound installation, made at the first call, and sound again at each.
    pub async fn new() -> Self {
        static SOUND: Mutex<Option<Sound>> = Mutex::const_new(None);
        let mut sound = SOUND.lock().await;
        if sound.is_none() {
            *sound = Some(Sound::install().await);
        }
        let client = sound.as_ref().unwrap().plane.client().await;
        let mut patient = Self { sound, client };
        patient.make_sound().await;
        patient
    }

    pub fn sound(&self) -> &Sound {
        self.sound.as_ref().unwrap()
    }

    /// Puts everything back that tests change, and waits until the doctor has nothing to say.
    pub async fn make_sound(&mut self) {
        let Self { sound, client } = self;
        let sound = sound.as_mut().unwrap();
        if sound.controller.is_none() {
            let controller = Controller::start(&sound.installed.controller.kubeconfig, RELEASE, CONTROLLER).await;
            sound.controller = Some(controller);
        }
        put(client, CONFIGURATION, configuration(&sound.webhook)).await;
        put(client, RULE, rule()).await;
        let kubeconfig = sound.plane.kubeconfig.clone();
        let mut last = None;
        let start = Instant::now();
        loop {
            let told = doctor(&kubeconfig, &[]);
            if told.code == 0 {
                return;
            }
            assert!(start.elapsed() < LIMIT, "not sound: {last:#?}");
            last = Some(told);
        }
    }

    /// Asks until exactly these codes are found, as caches of the API server and of our processes follow.
    pub fn finds(&self, arguments: &[&str], codes: &[&str]) -> Result<Told, String> {
        let start = Instant::now();
        loop {
            let told = doctor(&self.sound().plane.kubeconfig, arguments);
            if told.codes() == codes && told.code == 1 {
                return Ok(told);
            }
            if start.elapsed() > LIMIT {
                return Err(format!(
                    "wanted {codes:?}, exit code 1; exit code {}, {}\n{}",
                    told.code, told.out, told.err
                ));
            }
        }
    }

    pub async fn change(&self, path: &str, change: Value) {
        send(&self.client, "PATCH", path, &change).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub async fn put(&self, path: &str, object: Value) {
        put(&self.client, path, object).await;
    }

    pub async fn remove(&self, path: &str) {
        remove(&self.client, path).await;
    }

    pub async fn get(&self, path: &str) -> Value {
        send(&self.client, "GET", path, &Value::Null).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Changes the one entry of the webhook configuration.
    pub async fn change_entry(&self, change: Value) {
        let mut whole = configuration(&self.sound().webhook);
        json_patch::merge(&mut whole["webhooks"][0], &change);
        self.put(CONFIGURATION, whole).await;
    }
}

/// Without a Lease of seconds, each test that stops it would wait long.
const CONTROLLER: &[&str] = &["--lease-duration", "2s"];

impl Sound {
    async fn install() -> Self {
        let plane = ControlPlane::own().await;
        let client = plane.client().await;
        let installed = chart::apply(&plane, RELEASE, &json!({"rbac": {"secretNames": ["regcred"]}})).await;
        assert_eq!(installed.name, NAME);
        put(&client, "/api/v1/namespaces/team", json!({"metadata": {"labels": {"team": "shop"}}})).await;
        wait_for("the default ServiceAccount", LIMIT, async || {
            send(&client, "GET", "/api/v1/namespaces/team/serviceaccounts/default", &Value::Null).await.ok()
        })
        .await;
        put(&client, "/api/v1/namespaces/doctor/secrets/regcred", source()).await;
        let webhook = Webhook::of_cluster(&installed.webhook.kubeconfig, &[]).ready().await;
        Self { plane, installed, webhook, controller: None }
    }
}

pub fn source() -> Value {
    let config = json!({"auths": {"asia.gcr.io": {"username": "user", "password": "one"}}}).to_string();
    json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}})
}

pub fn rule() -> Value {
    json!({"spec": {"images": ["asia.gcr.io/team"], "namespaceSelector": {"matchLabels": {"team": "shop"}}}})
}

/// As the chart writes it, but for the URL: the API server of the tests reaches no Service.
pub fn configuration(webhook: &Webhook) -> Value {
    let bundle = base64::prelude::BASE64_STANDARD.encode(webhook.authority());
    json!({"webhooks": [{
        "name": "inject.pullcred.io",
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore", "timeoutSeconds": 5,
        "reinvocationPolicy": "IfNeeded", "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["doctor", "kube-system", "kube-node-lease", "kube-public"]},
            {"key": "pullcred.io/inject", "operator": "NotIn", "values": ["disabled"]},
        ]},
        "objectSelector": {"matchExpressions": [{"key": "pullcred.io/inject", "operator": "NotIn", "values": ["disabled"]}]},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
        "clientConfig": {"url": webhook.url(), "caBundle": bundle},
    }]})
}

/// Sends a request with a body, and gives the object that comes back.
pub async fn send(client: &Client, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client
        .request(http::Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap())
        .await
}

async fn remove(client: &Client, path: &str) {
    match send(client, "DELETE", path, &Value::Null).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return,
        Err(error) => panic!("{path}: {error}"),
    }
    wait_for("an object to be gone", LIMIT, async || send(client, "GET", path, &Value::Null).await.err()).await;
}

/// Makes the object at a path what it should be, whatever was there: deletes it when it is another.
pub async fn put(client: &Client, path: &str, mut object: Value) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    object["metadata"]["name"] = json!(name);
    let kind = parent.rsplit_once('/').unwrap().1;
    let (version, kind) = match kind {
        "namespaces" => ("v1", "Namespace"),
        "secrets" => ("v1", "Secret"),
        "services" => ("v1", "Service"),
        "pods" => ("v1", "Pod"),
        "serviceaccounts" => ("v1", "ServiceAccount"),
        "endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
        "poddisruptionbudgets" => ("policy/v1", "PodDisruptionBudget"),
        "leases" => ("coordination.k8s.io/v1", "Lease"),
        "mutatingwebhookconfigurations" => ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        "clusterpullsecrets" => ("pullcred.io/v1alpha1", "ClusterPullSecret"),
        "customresourcedefinitions" => ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        other if other.starts_with("validatingadmissionpolic") => {
            let bindings = other.ends_with("bindings");
            let kind = if bindings { "ValidatingAdmissionPolicyBinding" } else { "ValidatingAdmissionPolicy" };
            ("admissionregistration.k8s.io/v1", kind)
        }
        "clusterroles" => ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        "roles" => ("rbac.authorization.k8s.io/v1", "Role"),
        "rolebindings" => ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        "clusterrolebindings" => ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        other => panic!("what is {other}?"),
    };
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    for key in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(key);
    }
    if let Ok(there) = send(client, "GET", path, &Value::Null).await {
        object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
        match send(client, "PUT", path, &object).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 409 => remove(client, path).await,
            Err(error) => panic!("{path}: {error}"),
        }
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    }
    send(client, "POST", parent, &object).await.unwrap_or_else(|error| panic!("{path}: {error}"));
}
