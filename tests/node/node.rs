//! What the environment gives these tests: a cluster, our image, and a private registry; and namespaces in that cluster.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::wait_for_every;

/// How long anything may take that a node does: it may be a busy one.
pub const LIMIT: Duration = Duration::from_secs(180);

/// How often it is asked. Many ask at once.
pub const PAUSE: Duration = Duration::from_millis(200);

/// The Secret beside pullcred, the rule that speaks of it, and the copies.
pub const SECRET: &str = "regcred";

/// Where these tests install. Not `pullcred`, where somebody may have installed it in earnest.
pub const RELEASE_NAMESPACE: &str = "pullcred-tests";

/// On every namespace that the tests make.
const OURS: &str = "tests/node";

/// The cluster and the registry.
pub struct Node {
    pub client: Client,
    /// Image of pullcred that nodes pull without a credential.
    pub image: String,
    /// The same program as an image that needs one.
    pub private_image: String,
    user: String,
    password: String,
    _turn: MutexGuard<'static, ()>,
}

/// A variable of the environment without which there is nothing to test.
fn given(name: &str, what: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: it names {what}. CONTRIBUTING.md says how these tests are run"))
}

impl Node {
    /// Waits for its turn. Namespaces of earlier runs go away.
    pub async fn turn() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        // Never the cluster that somebody happens to work with: it must be named for this.
        given("KUBECONFIG", "the cluster in which pullcred is installed and uninstalled");
        let mut config = Config::from_kubeconfig(&KubeConfigOptions::default()).await.unwrap();
        config.read_timeout = Some(Duration::from_secs(60));
        // What fails once has failed: a second try would hide it.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for old in namespaces.list_metadata(&ListParams::default().labels(OURS)).await.unwrap().items {
            namespaces.delete(&old.name_any(), &DeleteParams::default()).await.unwrap();
        }
        Self {
            client,
            image: given("PULLCRED_TEST_IMAGE", "the image of pullcred, which nodes pull without a credential"),
            private_image: given(
                "PULLCRED_TEST_PRIVATE_IMAGE",
                "the image of pullcred in a registry that demands a password",
            ),
            user: given("PULLCRED_TEST_REGISTRY_USER", "who may pull from that registry"),
            password: given("PULLCRED_TEST_REGISTRY_PASSWORD", "the password of PULLCRED_TEST_REGISTRY_USER"),
            _turn: turn,
        }
    }

    /// The host of the private image, with its port if it has one: what the rule and the Secret speak of.
    pub fn registry(&self) -> &str {
        let registry = self.private_image.split('/').next().unwrap();
        assert!(registry.contains(['.', ':']), "PULLCRED_TEST_PRIVATE_IMAGE names no registry: {}", self.private_image);
        registry
    }

    /// The release namespace, if need be, and in it the Secret that is the source of every copy.
    pub async fn put_source(&self) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": RELEASE_NAMESPACE}})).unwrap();
        match Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
        let config = json!({"auths": {self.registry(): {"username": self.user, "password": self.password}}});
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config.to_string()},
        }))
        .unwrap();
        let secrets: Api<Secret> = self.api(RELEASE_NAMESPACE);
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A new namespace, as soon as Kubernetes has put into it what every Pod wants: that is a second after it was made, or less.
    pub async fn new_namespace(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("node-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let namespace = json!({"metadata": {"name": name, "labels": {OURS: "true"}}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let (accounts, files): (Api<ServiceAccount>, Api<ConfigMap>) = (self.api(&name), self.api(&name));
        wait_for_every(PAUSE, "the default ServiceAccount and the authority's file", LIMIT, async || {
            accounts.get_opt("default").await.unwrap()?;
            files.get_opt("kube-root-ca.crt").await.unwrap().map(drop)
        })
        .await;
        name
    }

    /// Deletes a namespace, and waits for nothing: that takes Kubernetes long when there are many.
    pub async fn leave(&self, namespace: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
    }

    /// Whether a namespace is one that these tests made.
    pub fn is_ours(namespace: &str) -> bool {
        namespace.starts_with("node-")
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// All objects of a kind that a namespace has.
    pub async fn all<K>(&self, namespace: &str) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.api(namespace).list(&ListParams::default()).await.unwrap().items
    }
}
