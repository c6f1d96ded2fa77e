//! The life of a release: install, upgrade with other values, rollback, uninstall, install again. After each step the fields'
//! owners are read, and after the uninstall everything that is left.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use pullcred::rules::ClusterPullSecret;
use serde_json::{Value, json};

use crate::node::{Node, SECRET};
use crate::pods::{run_at_the_first_try, secrets};
use crate::release::{NAME, Release};
use crate::ways::Way;
use crate::{fields, leftovers};

#[tokio::test]
async fn a_release_is_upgraded_rolled_back_uninstalled_and_installed_again() {
    let node = Node::turn().await;
    let release = Release::of(&node);
    release.absent().await;
    node.put_source().await;
    let before = leftovers::before(&node).await;

    release.install(&release.values()).await;
    let installed = look(release).await;
    let bundle = ca_bundle(&node).await;
    let namespace = runs_in_a_new_namespace(&node).await;
    let copy = copy_of(&node, &namespace).await;
    release.test().await.unwrap();

    let mut values = release.values();
    values["webhook"] = json!({"replicas": 2, "timeoutSeconds": 4, "logLevel": "debug"});
    values["controller"] = json!({"replicas": 1});
    values["labels"] = json!({"tests/upgraded": "true"});
    values["rbac"] = json!({"secretNames": ["hubcred"]});
    values["pullSecrets"].as_array_mut().unwrap().push(
        json!({"name": "hubcred", "images": ["docker.io/team"], "namespaceSelector": {}, "source": {"unmanaged": {}}}),
    );
    release.upgrade(&values).await;
    let upgraded = look(release).await;
    assert_eq!(release.pods("webhook", 2).await.len(), 2);
    assert_eq!(release.pods("controller", 1).await.len(), 1);
    assert_eq!(configuration(&node).await.webhooks.unwrap()[0].timeout_seconds, Some(4));
    assert!(upgraded.iter().all(|object| object.labels().contains_key("tests/upgraded")));
    assert!(rule(&node, "hubcred").await.is_some());
    assert_eq!(ca_bundle(&node).await, bundle, "an upgrade leaves the certificate alone");
    assert_eq!(copy_of(&node, &namespace).await, copy, "an upgrade leaves copies alone");

    release.roll_back().await;
    let back = look(release).await;
    assert!(rule(&node, "hubcred").await.is_none());
    for (installed, back) in installed.iter().zip(&back) {
        assert_eq!(content(back), content(installed), "{}", fields::told(back));
    }
    assert_eq!(back.len(), installed.len());
    assert_eq!(ca_bundle(&node).await, bundle);
    assert_eq!(copy_of(&node, &namespace).await, copy);
    release.test().await.unwrap();

    release.uninstall().await;
    leftovers::are_as_documented(&node, &before).await;
    let pod = node.api::<Pod>(&namespace).get("app").await.unwrap();
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"), "what runs goes on");
    assert!(secrets(&release.ask().await.unwrap()).is_empty());

    release.install(&release.values()).await;
    look(release).await;
    assert_eq!(ca_bundle(&node).await, bundle, "the authority that was left is taken up again");
    let again = runs_in_a_new_namespace(&node).await;
    release.test().await.unwrap();
    release.absent().await;
    leftovers::are_as_documented(&node, &before).await;
    node.leave(&namespace).await;
    node.leave(&again).await;
}

/// Gives the namespace.
async fn runs_in_a_new_namespace(node: &Node) -> String {
    let namespace = Way::Injection.begin(node).await;
    run_at_the_first_try(node, &namespace, Way::Injection).await.unwrap();
    namespace
}

/// The release's objects, once they have come to rest and nobody has fought over them.
async fn look(release: Release<'_>) -> Vec<DynamicObject> {
    let objects = fields::at_rest(release).await;
    let fights = fields::fights(&objects);
    assert!(fights.is_empty(), "{fights:#?}");
    objects
}

/// What a person or a chart has said of an object, without what the API server counts and others report.
fn content(object: &DynamicObject) -> Value {
    let mut content = object.data.clone();
    content.as_object_mut().unwrap().remove("status");
    json!({"labels": object.labels(), "content": content})
}

async fn configuration(node: &Node) -> MutatingWebhookConfiguration {
    Api::all(node.client.clone()).get(NAME).await.unwrap()
}

async fn ca_bundle(node: &Node) -> Vec<u8> {
    configuration(node).await.webhooks.unwrap().remove(0).client_config.ca_bundle.unwrap().0
}

async fn rule(node: &Node, name: &str) -> Option<ClusterPullSecret> {
    Api::all(node.client.clone()).get_opt(name).await.unwrap()
}

/// By which a copy that was written again, or made again, would be told from the one before.
async fn copy_of(node: &Node, namespace: &str) -> (Option<String>, Option<String>) {
    let copy = node.api::<Secret>(namespace).get(SECRET).await.unwrap();
    (copy.uid(), copy.resource_version())
}
