//! A cluster with rules and a controller, and short words for what tests of copies look at.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use pullcred::rules::{ClusterPullSecret, ClusterPullSecretStatus};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::chart::{self, Installed};
use crate::support::control_plane::ControlPlane;
use crate::support::controller::Controller;
use crate::support::flow::Flow;
use crate::support::wait_for;

pub const LIMIT: Duration = Duration::from_secs(20);

/// The image and registry that these tests are about.
pub const REGISTRY: &str = "registry.example:5000";
pub const IMAGE: &str = "registry.example:5000/team/app:1";

/// Rules are for all namespaces, so tests with a controller take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// A release namespace, and names that no other test has.
pub struct World {
    pub client: Client,
    pub release: String,
    /// What controllers are started with: the identity of the chart, unless a test puts something else there.
    pub kubeconfig: PathBuf,
    /// A control plane of its own, if it has one.
    pub plane: Option<ControlPlane>,
    // Its directory holds the kubeconfigs.
    pub installed: Installed,
    unique: u32,
    rules: std::sync::Mutex<Vec<String>>,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Its controllers have the rights that the chart gives, with every name that most tests use permitted.
    pub async fn new() -> Self {
        Self::permitting(&["regcred", "one", "other", "younger", "many", "rolled", "gcr"]).await
    }

    /// With these Secret names permitted, each as `name` makes it.
    pub async fn permitting(names: &[&str]) -> Self {
        let turn = TURN.lock().await;
        let client = super::the_api_refuses_what_files_refuse::cluster().await;
        // Rules of tests that failed.
        let rules: Api<ClusterPullSecret> = Api::all(client.clone());
        rules.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        Self::on(None, client, names, turn).await
    }

    /// On a control plane of its own.
    pub async fn alone() -> Self {
        let turn = TURN.lock().await;
        let plane = ControlPlane::own().await;
        let client = plane.client().await;
        Self::on(Some(plane), client, &["regcred", "other"], turn).await
    }

    async fn on(plane: Option<ControlPlane>, client: Client, names: &[&str], turn: MutexGuard<'static, ()>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let unique = NUMBER.fetch_add(1, Ordering::Relaxed);
        let release = format!("release-{unique}");
        let installed = install(plane.as_ref(), &release, unique, names).await;
        let kubeconfig = installed.controller.kubeconfig.clone();
        Self { client, release, kubeconfig, plane, installed, unique, rules: std::sync::Mutex::default(), _turn: turn }
    }

    /// Upgrades the chart, so that these Secret names are permitted. Controllers that run go on.
    pub async fn permit(&mut self, names: &[&str]) {
        self.installed = install(self.plane.as_ref(), &self.release, self.unique, names).await;
        self.kubeconfig.clone_from(&self.installed.controller.kubeconfig);
    }

    /// The controller's requests of these verbs on these resources.
    pub async fn flow(&self, name: &str, verbs: &[&str], resources: &[&str]) -> Flow {
        Flow::of(&self.client, name, &self.installed.controller.user, verbs, resources).await
    }

    /// A name that no other test has.
    pub fn name(&self, name: &str) -> String {
        unique_name(name, self.unique)
    }

    pub async fn controller(&self) -> Controller {
        self.follower().await.leading(LIMIT).await
    }

    /// One that leads only when no other does.
    pub async fn follower(&self) -> Controller {
        self.controller_with(&[]).await
    }

    /// One with the Lease that is the default.
    pub async fn patient(&self) -> Controller {
        Controller::start(&self.kubeconfig, &self.release, &[]).await
    }

    /// The same as `follower` with further arguments.
    pub async fn controller_with(&self, arguments: &[&str]) -> Controller {
        Controller::start(&self.kubeconfig, &self.release, &[&["--lease-duration", "4s"], arguments].concat()).await
    }

    pub async fn create_namespace(&self, name: &str, labels: Value) {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: serde_json::from_value(labels).unwrap(),
            ..ObjectMeta::default()
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Default::default() }).await.unwrap();
    }

    /// A namespace of its own for this test.
    pub async fn namespace(&self, name: &str, labels: Value) -> String {
        let name = self.name(name);
        self.create_namespace(&name, labels).await;
        name
    }

    /// A docker registry Secret as `kubectl create secret docker-registry` makes it.
    pub async fn put_source(&self, name: &str, registry: &str, password: &str) {
        self.put_secret(&self.release, name, registry, password).await;
    }

    pub async fn put_secret(&self, namespace: &str, name: &str, registry: &str, password: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json!({"auths": {
                registry: {"username": "user", "password": password},
                "other.example": {"username": "other", "password": "of no concern"},
            }}).to_string()},
        });
        let parameters = PatchParams::apply("kubectl").force();
        self.secrets(namespace).patch(name, &parameters, &Patch::Apply(secret)).await.unwrap();
    }

    /// A rule for `REGISTRY`, with these fields of its spec beside.
    pub async fn put_rule(&self, name: &str, spec: Value) {
        let mut whole = json!({"images": [REGISTRY], "namespaceSelector": {}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let rule = json!({"apiVersion": "pullcred.io/v1alpha1", "kind": "ClusterPullSecret", "metadata": {"name": name}, "spec": whole});
        self.rules().patch(name, &PatchParams::apply("kubectl").force(), &Patch::Apply(rule)).await.unwrap();
        self.rules.lock().unwrap().push(name.to_owned());
    }

    pub fn rules(&self) -> Api<ClusterPullSecret> {
        Api::all(self.client.clone())
    }

    pub async fn uid(&self, rule: &str) -> String {
        self.rules().get(rule).await.unwrap().uid().unwrap()
    }

    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.secrets(namespace).get_opt(name).await.unwrap()
    }

    /// A Pod that references a Secret itself.
    pub async fn put_pod(&self, namespace: &str, name: &str, secrets: &[&str]) {
        let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
        let pod = json!({
            "metadata": {"name": name},
            // Whether the ServiceAccount is there yet is not what these tests are about.
            "spec": {"containers": [{"name": "c", "image": IMAGE}], "imagePullSecrets": secrets,
                     "automountServiceAccountToken": false, "serviceAccountName": "default"},
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        wait_for("the Pod to be taken", LIMIT, async || match pods.create(&PostParams::default(), &pod).await {
            Ok(pod) => Some(pod),
            Err(kube::Error::Api(status)) if status.message.contains("serviceaccount") => None,
            Err(error) => panic!("{error}"),
        })
        .await;
    }

    /// The copy, once it is there with this password.
    pub async fn copy(&self, namespace: &str, name: &str, password: &str) -> Secret {
        wait_for(&format!("the copy {name} in {namespace} with {password}"), LIMIT, async || {
            let secret = self.secret(namespace, name).await?;
            (password_of(&secret, REGISTRY).as_deref() == Some(password)).then_some(secret)
        })
        .await
    }

    /// Waits until there is no copy.
    pub async fn no_copy(&self, namespace: &str, name: &str) {
        wait_for(&format!("{name} in {namespace} to be gone"), LIMIT, async || {
            self.secret(namespace, name).await.is_none().then_some(())
        })
        .await;
    }

    /// The status of a rule, once it is so.
    pub async fn status(&self, rule: &str, so: impl Fn(&ClusterPullSecretStatus) -> bool) -> ClusterPullSecretStatus {
        let mut last = None;
        let start = std::time::Instant::now();
        while start.elapsed() < LIMIT {
            last = self.rules().get(rule).await.unwrap().status;
            if let Some(status) = last.clone().filter(&so) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the status of {rule} stays {last:#?}");
    }

    /// The events of a namespace with this reason.
    pub async fn events(&self, namespace: &str, reason: &str) -> Vec<Event> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut events = events.list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| event.reason.as_deref() == Some(reason));
        events
    }

    /// The first of them.
    pub async fn told(&self, namespace: &str, reason: &str) -> Event {
        let first = async || self.events(namespace, reason).await.into_iter().next();
        wait_for(&format!("an event {reason} in {namespace}"), LIMIT, first).await
    }

    pub async fn reason(&self, rule: &str, reason: &str) -> ClusterPullSecretStatus {
        self.status(rule, |status| reason_of(status) == reason).await
    }
}

fn unique_name(name: &str, unique: u32) -> String {
    format!("{name}-{unique}")
}

async fn install(plane: Option<&ControlPlane>, release: &str, unique: u32, names: &[&str]) -> Installed {
    let names: Vec<String> = names.iter().map(|name| unique_name(name, unique)).collect();
    let values = json!({"rbac": {"secretNames": names, "sourceNames": ["gcp-key"]}});
    let plane = match plane {
        Some(own) => own,
        None => ControlPlane::shared().await,
    };
    chart::apply(plane, release, &values).await
}

pub fn reason_of(status: &ClusterPullSecretStatus) -> &str {
    status
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.first())
        .map_or("", |condition| condition.reason.as_str())
}

pub fn message_of(status: &ClusterPullSecretStatus) -> &str {
    status
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.first())
        .map_or("", |condition| condition.message.as_str())
}

/// The docker config of a Secret.
pub fn config_of(secret: &Secret) -> Value {
    let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
    data.and_then(|ByteString(bytes)| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}

pub fn password_of(secret: &Secret, registry: &str) -> Option<String> {
    config_of(secret)["auths"][registry]["password"].as_str().map(str::to_owned)
}
