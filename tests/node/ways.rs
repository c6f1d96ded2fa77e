//! The ways in which people come to a Pod of a private image, and the objects that they create for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Resource;
use kube::api::{Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::node::{LIMIT, Node, PAUSE, SECRET};
use crate::pods::secrets;
use crate::support::wait_for_every;

/// Who sees to it that a Pod references the Secret, and who creates the Pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// A Pod that says nothing of Secrets.
    Injection,
    /// A Pod whose manifest names the Secret. It is not shown to the webhook.
    Manifest,
    /// A Pod whose `ServiceAccount` was patched to name the Secret. It is not shown to the webhook.
    ServiceAccount,
    Deployment,
    Job,
    CronJob,
    /// A Pod whose container is public, and a volume of it private.
    ImageVolume,
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Injection,
        Self::Manifest,
        Self::ServiceAccount,
        Self::Deployment,
        Self::Job,
        Self::CronJob,
        Self::ImageVolume,
    ];

    /// How many Pods it makes.
    pub fn pods(self) -> usize {
        if self == Self::Deployment { 2 } else { 1 }
    }

    /// Makes a namespace, and creates there at once what makes the Pods.
    pub async fn begin(self, node: &Node) -> String {
        if self == Self::CronJob {
            just_before_the_minute().await;
        }
        let namespace = node.new_namespace().await;
        let image = &node.private_image;
        match self {
            Self::Injection => create::<Pod>(node, &namespace, pod(&serving(image))).await,
            Self::Manifest => {
                let mut pod = left_alone(pod(&serving(image)));
                pod["spec"]["imagePullSecrets"] = json!([{"name": SECRET}]);
                create::<Pod>(node, &namespace, pod).await;
            }
            Self::ServiceAccount => {
                let pod = left_alone(pod(&serving(image)));
                patch_account(node, &namespace, &pod).await;
                create::<Pod>(node, &namespace, pod).await;
            }
            Self::Deployment => create::<Deployment>(node, &namespace, deployment(image, self.pods())).await,
            Self::Job => {
                create::<Job>(node, &namespace, json!({"metadata": {"name": "app"}, "spec": job(image)})).await;
            }
            Self::CronJob => {
                let spec = json!({"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job(image)}});
                create::<CronJob>(node, &namespace, json!({"metadata": {"name": "app"}, "spec": spec})).await;
            }
            Self::ImageVolume => {
                let mut pod = pod(&serving(&node.image));
                pod["spec"]["volumes"] =
                    json!([{"name": "private", "image": {"reference": image, "pullPolicy": "Always"}}]);
                pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "private", "mountPath": "/private"}]);
                create::<Pod>(node, &namespace, pod).await;
            }
        }
        namespace
    }

    /// No more Pods come by it.
    pub async fn end(self, node: &Node, namespace: &str) {
        if self == Self::CronJob {
            let suspended = json!({"spec": {"suspend": true}});
            node.api::<CronJob>(namespace)
                .patch("app", &PatchParams::default(), &Patch::Merge(suspended))
                .await
                .unwrap();
        }
    }
}

/// A Deployment of the private image.
pub fn deployment(image: &str, replicas: usize) -> Value {
    let labels = json!({"app": "app"});
    json!({
        "metadata": {"name": "app"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": serving(image)},
        },
    })
}

pub fn pod(spec: &Value) -> Value {
    json!({"metadata": {"name": "app"}, "spec": spec})
}

/// What runs until it is told to end: the program waits for a line of its standard input. As the first process of a container it
/// hears no SIGTERM, hence the short grace. `Always`: the registry is asked each time, whatever the node has by now.
pub fn serving(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "app", "image": image, "imagePullPolicy": "Always", "args": ["oracle"], "stdin": true,
            "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}},
        }],
    })
}

/// What ends well by itself.
fn job(image: &str) -> Value {
    let mut spec = serving(image);
    spec["restartPolicy"] = json!("Never");
    spec["containers"][0]["args"] = json!(["--version"]);
    spec["containers"][0]["stdin"] = json!(false);
    json!({"backoffLimit": 0, "template": {"spec": spec}})
}

/// The same Pod with the label that keeps it from the webhook, so that what it has is not by injection.
fn left_alone(mut pod: Value) -> Value {
    pod["metadata"]["labels"] = json!({"pullcred.io/inject": "disabled"});
    pod
}

/// Patches the default `ServiceAccount` and waits until the API server gives its Secret to Pods: it reads accounts from a cache.
async fn patch_account(node: &Node, namespace: &str, pod: &Value) {
    let patch = json!({"imagePullSecrets": [{"name": SECRET}]});
    let accounts = node.api::<ServiceAccount>(namespace);
    accounts.patch("default", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    wait_for_every(PAUSE, "Pods to have their ServiceAccount's Secret", LIMIT, async || {
        let pod = node.api(namespace).create(&trial, &pod).await.unwrap();
        (secrets(&pod) == [SECRET]).then_some(())
    })
    .await;
}

/// The Pod of a `CronJob` comes with the minute: two seconds before it there is time for a namespace, and little more.
async fn just_before_the_minute() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let into = Duration::from_millis(u64::try_from(now.as_millis() % 60_000).unwrap());
    let this_minute = Duration::from_secs(58);
    let next_minute = Duration::from_secs(118);
    tokio::time::sleep(this_minute.checked_sub(into).unwrap_or(next_minute.saturating_sub(into))).await;
}

async fn create<K>(node: &Node, namespace: &str, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    node.api::<K>(namespace).create(&PostParams::default(), &object).await.unwrap();
}
