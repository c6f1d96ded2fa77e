//! The chart, installed by Helm as a person does it, and its Pods.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope};
use serde_json::{Value, json};

use crate::node::{LIMIT, Node, PAUSE, RELEASE_NAMESPACE, SECRET};
use crate::pods::secrets;
use crate::support::{chart, wait_for_every};
use crate::ways;

/// The release, and by that what everything in the chart is called.
pub const NAME: &str = "pullcred";

/// The release of these tests.
#[derive(Clone, Copy)]
pub struct Release<'a> {
    node: &'a Node,
}

impl<'a> Release<'a> {
    pub fn of(node: &'a Node) -> Self {
        Self { node }
    }

    /// The image that this cluster can pull, and one rule in the short form.
    pub fn values(self) -> Value {
        let image = &self.node.image;
        let (repository, tag) =
            image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, "latest"));
        json!({
            "image": {"repository": repository, "tag": tag},
            "pullSecrets": [{"name": SECRET, "images": [self.node.registry()]}],
        })
    }

    /// Installs it beside its Secret, and waits until the API server calls it.
    pub async fn install(self, values: &Value) {
        self.node.put_source().await;
        let chart = chart::chart();
        self.must(&["install", NAME, chart.to_str().unwrap(), "--wait", "--timeout=180s"], Some(values)).await;
        self.is_called().await;
    }

    /// Installs it with `failurePolicy: Fail`, and in place of what a test before has left. Gives the values.
    pub async fn install_to_fail(self) -> Value {
        self.absent().await;
        let mut values = self.values();
        values["webhook"] = json!({"failurePolicy": "Fail"});
        self.install(&values).await;
        values
    }

    /// Upgrades it to other values, all of which are given.
    pub async fn upgrade(self, values: &Value) {
        let chart = chart::chart();
        self.must(&["upgrade", NAME, chart.to_str().unwrap(), "--wait", "--timeout=180s"], Some(values)).await;
    }

    /// Back to how it was, in its first revision.
    pub async fn roll_back(self) {
        self.must(&["rollback", NAME, "1", "--wait", "--timeout=180s"], None).await;
    }

    pub async fn uninstall(self) {
        self.must(&["uninstall", NAME, "--wait", "--timeout=180s"], None).await;
    }

    /// Uninstalls what a test before has left, if any, and waits until its Pods have ended.
    pub async fn absent(self) {
        if self.helm(&["status", NAME], None).await.is_ok() {
            self.uninstall().await;
        }
        for component in ["webhook", "controller"] {
            self.pods(component, 0).await;
        }
    }

    /// `helm test`, and what doctor says in it.
    pub async fn test(self) -> Result<String, String> {
        self.helm(&["test", NAME, "--timeout=120s"], None).await
    }

    /// Every object of the release as it is in the cluster.
    pub async fn objects(self) -> Vec<DynamicObject> {
        let manifest = self.must(&["get", "manifest", NAME], None).await;
        let rendered: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
        let discovery = Discovery::new(self.node.client.clone()).run().await.unwrap();
        let mut objects = Vec::new();
        for object in rendered {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
            let kind = GroupVersionKind::gvk(group, version, text("/kind"));
            let (resource, capabilities) =
                discovery.resolve_gvk(&kind).unwrap_or_else(|| panic!("no such kind: {kind:?}"));
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Cluster => Api::all_with(self.node.client.clone(), &resource),
                Scope::Namespaced => {
                    Api::namespaced_with(self.node.client.clone(), text("/metadata/namespace"), &resource)
                }
            };
            objects.push(api.get(text("/metadata/name")).await.unwrap());
        }
        objects
    }

    /// The Pods of `webhook` or `controller`, once there are as many and no others end any more.
    pub async fn pods(self, component: &str, count: usize) -> Vec<Pod> {
        let labels = format!("app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}");
        let parameters = ListParams::default().labels(&labels);
        wait_for_every(PAUSE, &format!("{count} Pods of the {component}"), LIMIT, async || {
            let pods = self.node.api::<Pod>(RELEASE_NAMESPACE).list(&parameters).await.unwrap().items;
            (pods.len() == count).then_some(pods)
        })
        .await
    }

    /// Waits until a Deployment of the release runs what it says, with all of its replicas and none of before.
    pub async fn is_rolled_out(self, component: &str) {
        rolled_out(self.node, RELEASE_NAMESPACE, &format!("{NAME}-{component}")).await;
    }

    /// Asks for a Pod of the private image, as a dry run.
    pub async fn ask(self) -> kube::Result<Pod> {
        let trial = PostParams { dry_run: true, ..PostParams::default() };
        let pod: Pod = serde_json::from_value(ways::pod(&ways::serving(&self.node.private_image))).unwrap();
        self.node.api("default").create(&trial, &pod).await
    }

    /// The API server reads a new webhook configuration a second or two after it was made.
    pub async fn is_called(self) {
        wait_for_every(PAUSE, "the API server to call the webhook", LIMIT, async || {
            (secrets(&self.ask().await.ok()?) == [SECRET]).then_some(())
        })
        .await;
    }

    async fn must(self, arguments: &[&str], values: Option<&Value>) -> String {
        self.helm(arguments, values).await.unwrap_or_else(|error| panic!("helm {}: {error}", arguments[0]))
    }

    /// What Helm says, or why it fails.
    async fn helm(self, arguments: &[&str], values: Option<&Value>) -> Result<String, String> {
        let arguments: Vec<String> =
            arguments.iter().chain(&["--namespace", RELEASE_NAMESPACE]).map(ToString::to_string).collect();
        let values = values.cloned();
        let output = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            values.map_or_else(|| chart::bare_helm(&arguments), |values| chart::helm(&arguments, &values))
        });
        let output = output.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// Waits until a Deployment has as many ready Pods of its newest kind as it should, and no others.
pub async fn rolled_out(node: &Node, namespace: &str, name: &str) {
    let deployments: Api<Deployment> = node.api(namespace);
    wait_for_every(Duration::from_millis(500), &format!("{name} to be rolled out"), LIMIT, async || {
        let deployment = deployments.get(name).await.unwrap();
        let (spec, status) = (deployment.spec?, deployment.status?);
        let wanted = spec.replicas?;
        let is_all = [status.replicas, status.updated_replicas, status.available_replicas]
            .iter()
            .all(|count| count.unwrap_or_default() == wanted);
        (is_all && status.observed_generation == deployment.metadata.generation).then_some(())
    })
    .await;
}
