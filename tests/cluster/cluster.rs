//! The cluster of this run with a webhook registered in it, and short words for what the tests create.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::program::Webhook;
use crate::support::wait_for;

/// What the shared webhook serves.
pub const RULES: &str = concat!(
    include_str!("../../examples/rules/asia.yaml"),
    r#"
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: example-registry}
spec: {images: ["registry.example.com:5000/team"], namespaceSelector: {}}
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: hub}
spec: {images: [docker.io/my-team], namespaceSelector: {}}
"#
);

/// A namespace of its own in the shared cluster.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

/// Namespaces with this label are served by no webhook but the one that a test registers for them.
pub const ALONE: &str = "tests/alone";

impl Cluster {
    /// A new namespace in the shared cluster, behind the shared webhook.
    pub async fn new() -> Self {
        static WEBHOOK: OnceLock<tokio::sync::Mutex<Option<Webhook>>> = OnceLock::new();
        let cluster = Self::with_labels(&[]).await;
        let mut webhook = WEBHOOK.get_or_init(Default::default).lock().await;
        if webhook.is_none() {
            let started = Webhook::start(RULES, &[]).await;
            cluster.register("shared.pullcred.io", &started, &["CREATE"], "Fail", None).await;
            cluster.wait_until_injected("asia.gcr.io/team/app").await;
            *webhook = Some(started);
        }
        cluster
    }

    /// A new namespace that the shared webhook leaves alone.
    pub async fn alone() -> Self {
        Self::with_labels(&[(ALONE, "true")]).await
    }

    async fn with_labels(labels: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let client = ControlPlane::shared().await.client().await;
        let namespace = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let metadata = ObjectMeta { name: Some(namespace.clone()), labels: Some(labels), ..Default::default() };
        let created = Namespace { metadata, ..Default::default() };
        Api::all(client.clone()).create(&PostParams::default(), &created).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        wait_for("the default ServiceAccount", Duration::from_secs(30), async || accounts.get("default").await.ok())
            .await;
        Self { client, namespace }
    }

    /// Registers a webhook by URL: for all namespaces but those that are served alone, or for one alone.
    pub async fn register(
        &self,
        name: &str,
        webhook: &Webhook,
        operations: &[&str],
        failure_policy: &str,
        only: Option<&str>,
    ) {
        let selector = match only {
            Some(namespace) => LabelSelector {
                match_labels: Some([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())].into()),
                ..Default::default()
            },
            None => LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: ALONE.to_owned(),
                    operator: "DoesNotExist".to_owned(),
                    values: None,
                }]),
                ..Default::default()
            },
        };
        let configuration = MutatingWebhookConfiguration {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            webhooks: Some(vec![MutatingWebhook {
                name: name.to_owned(),
                admission_review_versions: vec!["v1".to_owned()],
                side_effects: "None".to_owned(),
                failure_policy: Some(failure_policy.to_owned()),
                timeout_seconds: Some(5),
                reinvocation_policy: Some("IfNeeded".to_owned()),
                namespace_selector: Some(selector),
                client_config: WebhookClientConfig {
                    url: Some(webhook.url()),
                    ca_bundle: Some(ByteString(webhook.authority())),
                    service: None,
                },
                rules: Some(vec![RuleWithOperations {
                    api_groups: Some(vec![String::new()]),
                    api_versions: Some(vec!["v1".to_owned()]),
                    operations: Some(operations.iter().map(|operation| (*operation).to_owned()).collect()),
                    resources: Some(vec!["pods".to_owned(), "pods/ephemeralcontainers".to_owned()]),
                    scope: None,
                }]),
                ..Default::default()
            }]),
        };
        Api::all(self.client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
    }

    /// The API server reads a new configuration a second or two after it was made.
    pub async fn wait_until_injected(&self, image: &str) {
        wait_for("the webhook to be called", Duration::from_secs(30), async || {
            let probe = self.try_pod(&pod_of("probe", &[image]), true).await.ok()?;
            (!secrets(&probe).is_empty()).then_some(())
        })
        .await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a Pod from JSON as written, so that fields which no type knows reach the API server too.
    pub async fn try_pod(&self, pod: &Value, dry_run: bool) -> kube::Result<Pod> {
        let url = format!("/api/v1/namespaces/{}/pods{}", self.namespace, if dry_run { "?dryRun=All" } else { "" });
        let body = serde_json::to_vec(pod).unwrap();
        let request = http::Request::post(url).header("content-type", "application/json").body(body).unwrap();
        self.client.request(request).await
    }

    pub async fn create_pod(&self, pod: &Value) -> Pod {
        self.try_pod(pod, false).await.unwrap_or_else(|error| panic!("{} is refused: {error}", pod["metadata"]["name"]))
    }

    /// Creates any object of the namespace from JSON.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        self.api().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// The Pods with this label, once there are as many.
    pub async fn pods_labelled(&self, selector: &str, count: usize) -> Vec<Pod> {
        let pods: Api<Pod> = self.api();
        let parameters = kube::api::ListParams::default().labels(selector);
        wait_for("Pods of a controller", Duration::from_secs(30), async || {
            let found = pods.list(&parameters).await.unwrap().items;
            (found.len() == count).then_some(found)
        })
        .await
    }
}

/// The names of a Pod's pull secrets.
pub fn secrets(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.as_ref().unwrap();
    spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.as_str()).collect()
}

/// A Pod of these images that is not created yet.
pub fn pod_of(name: &str, images: &[&str]) -> Value {
    let containers: Vec<Value> =
        images.iter().enumerate().map(|(i, image)| json!({"name": format!("c{i}"), "image": image})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}})
}
