//! The whole story, both processes with the rights of the chart: a credential beside pullcred, one rule, and every Pod of a
//! namespace made a moment ago has its Secret, whoever wrote the reference.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, secrets};
use super::provided::{IMAGE, LIMIT, REGISTRY, World};
use crate::support::program::Webhook;
use crate::support::wait_for;

/// A Pod that is taken as soon as its ServiceAccount is there.
async fn put(cluster: &Cluster, pod: &Value) -> Pod {
    wait_for("the Pod to be taken", LIMIT, async || match cluster.try_pod(pod, false).await {
        Ok(pod) => Some(pod),
        Err(kube::Error::Api(status)) if status.message.contains("serviceaccount") => None,
        Err(error) => panic!("{error}"),
    })
    .await
}

fn pod(spec: &Value) -> Value {
    let mut whole = json!({"containers": [{"name": "c", "image": IMAGE}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "app-"}, "spec": whole})
}

/// Registers the webhook for namespaces with this label.
async fn register(world: &World, webhook: &Webhook, label: &str) {
    let configuration = json!({"metadata": {"name": label}, "webhooks": [{
        "name": "inject.pullcred.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "timeoutSeconds": 5, "reinvocationPolicy": "IfNeeded", "namespaceSelector": {"matchLabels": {"tests/story": label}},
        "clientConfig": {"url": webhook.url(), "caBundle": ByteString(webhook.authority())},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    }]});
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    configurations.create(&PostParams::default(), &serde_json::from_value(configuration).unwrap()).await.unwrap();
}

#[tokio::test]
async fn one_credential_and_one_rule_are_all_that_anybody_does() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    let webhook = Webhook::of_cluster(&world.installed.webhook.kubeconfig, &[]).ready().await;
    register(&world, &webhook, &name).await;
    let cluster = async |of: &str| {
        let namespace = world.namespace(of, json!({"tests/story": name})).await;
        Cluster { client: world.client.clone(), namespace }
    };

    // What `kubectl create secret docker-registry` makes, and the rule.
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({"namespaceSelector": {"matchLabels": {"tests/story": name}}})).await;
    let early = cluster("early").await;
    early.wait_until_injected(IMAGE).await;

    let injected = cluster("injected").await;
    assert_eq!(secrets(&put(&injected, &pod(&json!({}))).await), [&name]);
    let explicit = cluster("explicit").await;
    assert_eq!(secrets(&put(&explicit, &pod(&json!({"imagePullSecrets": [{"name": name}]}))).await), [&name]);
    let patched = cluster("patched").await;
    let accounts: Api<ServiceAccount> = patched.api();
    wait_for("the default ServiceAccount", LIMIT, async || accounts.get_opt("default").await.unwrap()).await;
    let patch = Patch::Merge(json!({"imagePullSecrets": [{"name": name}]}));
    accounts.patch("default", &PatchParams::default(), &patch).await.unwrap();
    // An image of which no rule knows: the ServiceAccount alone gives the reference, once the API server has heard of it.
    wait_for("the ServiceAccount's reference", LIMIT, async || {
        let pod = put(&patched, &pod(&json!({"containers": [{"name": "c", "image": "public.example/app"}]}))).await;
        let has = secrets(&pod) == [&name];
        if !has {
            patched.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
        }
        has.then_some(())
    })
    .await;
    for cluster in [&injected, &explicit, &patched] {
        let copy = world.copy(&cluster.namespace, &name, "one").await;
        assert_eq!(copy.owner_references()[0].uid, world.uid(&name).await);
    }
    // Nobody needed one here.
    assert!(world.secret(&early.namespace, &name).await.is_none());
    let status = world.status(&name, |status| status.namespaces == Some(3)).await;
    assert_eq!(status.missed, Some(0));

    // While nobody is asked, Pods come without the reference, and the rule says how many.
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    configurations.delete(&name, &DeleteParams::default()).await.unwrap();
    wait_for("a Pod that is missed", LIMIT, async || {
        put(&early, &pod(&json!({}))).await;
        world.rules().get(&name).await.unwrap().status?.missed.filter(|missed| *missed > 0)
    })
    .await;
}
