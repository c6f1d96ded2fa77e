//! A release of the chart whose controllers look after the certificates of its webhooks, with the rights that the chart gives them.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use pullcred::pki::{Certificate, trusts};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::balancer::Balancer;
use super::chart::{self, Installed};
use super::control_plane::ControlPlane;
use super::controller::Controller;
use super::pods::rule;
use super::program::Webhook;
use super::wait_for;

pub const TLS_SECRET: &str = "pullcred-tls";
pub const CA_SECRET: &str = "pullcred-ca";
const LIMIT: Duration = Duration::from_secs(30);

pub struct Release {
    pub client: Client,
    pub installed: Installed,
    /// The Service, at which the configuration points by a URL.
    pub service: Balancer,
}

impl Release {
    /// Installed into a namespace, and nothing started yet.
    pub async fn install(namespace: &str) -> Self {
        // Whole controllers report on every rule of a cluster: one of their own, apart from the tests that look at statuses.
        static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
        let plane = PLANE.get_or_init(ControlPlane::own).await;
        let installed = chart::apply(plane, namespace, &json!({})).await;
        let release = Self { client: plane.client().await, installed, service: Balancer::start().await };
        release.unregister().await;
        release
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.installed.namespace)
    }

    pub fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    /// The label, with its value, of namespaces that the webhook is called for.
    pub fn label(&self) -> (&'static str, &str) {
        ("tests/trust", &self.installed.namespace)
    }

    /// Makes the webhook configuration, without a `caBundle`.
    pub async fn register(&self, failure_policy: &str) {
        let (label, value) = self.label();
        let configuration = json!({
            "metadata": {"name": self.installed.name},
            "webhooks": [{
                "name": "inject.pullcred.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": failure_policy,
                "timeoutSeconds": 5,
                "namespaceSelector": {"matchLabels": {label: value}},
                "clientConfig": {"url": format!("https://127.0.0.1:{}/mutate", self.service.port)},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        let configuration = serde_json::from_value(configuration).unwrap();
        self.configurations().create(&PostParams::default(), &configuration).await.unwrap();
    }

    /// Deletes the webhook configuration, if there is one.
    pub async fn unregister(&self) {
        match self.configurations().delete(&self.installed.name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A controller that looks after the certificates, once it has listed everything.
    pub async fn controller(&self, arguments: &[&str]) -> Controller {
        let installed = &self.installed;
        let service = format!("{}-webhook", installed.name);
        let own = [
            "--webhook-configuration",
            &installed.name,
            "--service",
            &service,
            "--extra-name",
            "127.0.0.1",
            "--extra-name",
            "localhost",
            "--lease-duration",
            "4s",
        ];
        Controller::start(&installed.controller.kubeconfig, &installed.namespace, &[&own[..], arguments].concat()).await
    }

    /// A webhook that serves the Secret, with a rule for images of `r.io`. It waits for nothing.
    pub fn webhook(&self, arguments: &[&str]) -> Webhook {
        let installed = &self.installed;
        let own = [
            "--tls-secret",
            TLS_SECRET,
            "--release-namespace",
            &installed.namespace,
            "--webhook-configuration",
            &installed.name,
        ];
        let arguments = [&own[..], arguments].concat();
        let rules = rule("regcred", &["r.io"]);
        Webhook::with_certificate_of_cluster(&installed.webhook.kubeconfig, &rules, &arguments)
    }

    /// The `caBundle` as it is; empty where there is none.
    pub async fn bundle(&self) -> Vec<u8> {
        let configuration = self.configurations().get_opt(&self.installed.name).await.unwrap();
        let entry = configuration.and_then(|configuration| configuration.webhooks?.into_iter().next());
        entry.and_then(|entry| entry.client_config.ca_bundle).map(|bundle| bundle.0).unwrap_or_default()
    }

    /// What a Secret holds under a key; empty where there is nothing.
    pub async fn held(&self, secret: &str, key: &str) -> Vec<u8> {
        let secret = self.secrets().get_opt(secret).await.unwrap();
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        data.get(key).map(|ByteString(bytes)| bytes.clone()).unwrap_or_default()
    }

    /// Whether all three agree: the authority signs, its leaf is in the Secret, and the `caBundle` trusts it.
    pub async fn is_whole(&self) -> bool {
        let leaf = Certificate::read_all(&self.held(TLS_SECRET, "tls.crt").await);
        let authority = Certificate::read_all(&self.held(CA_SECRET, "tls.crt").await);
        let bundle = Certificate::read_all(&self.bundle().await);
        let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let (name, namespace) = (&self.installed.name, &self.installed.namespace);
        names.extend([format!("{name}-webhook.{namespace}.svc"), format!("{name}-webhook")]);
        trusts(&authority, &leaf)
            && trusts(&bundle, &leaf)
            && bundle.contains(&authority[0])
            && leaf[0].is_for(&names)
            && leaf[0].ends() > jiff::Timestamp::now()
    }

    /// Waits until it is whole.
    pub async fn whole(&self) {
        wait_for("authority, leaf and caBundle to agree", LIMIT, async || self.is_whole().await.then_some(())).await;
    }

    /// Sends a change to a Secret, as a person with all rights.
    pub async fn change(&self, secret: &str, patch: Value) {
        let patch = kube::api::Patch::Merge(patch);
        self.secrets().patch(secret, &kube::api::PatchParams::default(), &patch).await.unwrap();
    }
}
