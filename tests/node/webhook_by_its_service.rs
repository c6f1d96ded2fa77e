//! How the API server comes to the webhook: by its Service, which kube-proxy leads to the Pods that are ready. And what happens
//! when there are none.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::node::{LIMIT, Node, PAUSE, RELEASE_NAMESPACE, SECRET};
use crate::pods::secrets;
use crate::release::{NAME, Release};
use crate::support::wait_for_every;

/// How many Pods are asked for, as dry runs.
const ASKED: usize = 20;

#[tokio::test]
async fn the_api_server_reaches_the_webhook_through_its_service_and_refuses_pods_when_nobody_is_there() {
    let node = Node::turn().await;
    let release = Release::of(&node);
    release.install_to_fail().await;

    // The configuration names the Service and no address; its address is no Pod's, so only kube-proxy knows the way.
    let configuration: MutatingWebhookConfiguration = Api::all(node.client.clone()).get(NAME).await.unwrap();
    let client = configuration.webhooks.unwrap().remove(0).client_config;
    assert_eq!((client.url, client.service.unwrap().name.as_str()), (None, "pullcred-webhook"));
    let service: Service = node.api(RELEASE_NAMESPACE).get("pullcred-webhook").await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let pods = release.pods("webhook", 3).await;
    let of_pods = pods.iter().map(|pod| pod.status.clone().unwrap().pod_ip.unwrap()).collect();
    // The last one is an endpoint a moment after it is ready.
    wait_for_every(PAUSE, "the Pods to be the endpoints", LIMIT, async || {
        (ready_addresses(&node).await == of_pods).then_some(())
    })
    .await;
    assert!(!of_pods.contains(&address));

    let before = decisions(&node, &pods).await;
    for _ in 0..ASKED {
        assert_eq!(secrets(&release.ask().await.unwrap()), [SECRET]);
    }
    assert!(decisions(&node, &pods).await >= before + ASKED, "the Pods have counted the calls");

    // Nobody there: nothing is created without its Secret, and doctor says that something is wrong.
    scale(&node, 0).await;
    release.pods("webhook", 0).await;
    let refusal = wait_for_every(PAUSE, "a Pod to be refused", LIMIT, async || release.ask().await.err()).await;
    let refusal = refusal.to_string();
    assert!(refusal.contains("inject.pullcred.io") && refusal.contains("pullcred-webhook"), "{refusal}");
    let found = release.test().await.expect_err("the test of the release finds that");
    assert!(found.contains("PC2"), "{found}");

    // Its own Pods do not pass through it, so that it can come back.
    scale(&node, 3).await;
    release.is_rolled_out("webhook").await;
    release.is_called().await;
    release.absent().await;
}

async fn scale(node: &Node, replicas: u32) {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::api::{Patch, PatchParams};
    let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    node.api::<Deployment>(RELEASE_NAMESPACE)
        .patch_scale("pullcred-webhook", &PatchParams::default(), &scale)
        .await
        .unwrap();
}

async fn ready_addresses(node: &Node) -> BTreeSet<String> {
    let slices = ListParams::default().labels("kubernetes.io/service-name=pullcred-webhook");
    let slices = node.api::<EndpointSlice>(RELEASE_NAMESPACE).list(&slices).await.unwrap().items;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    let is_ready = |conditions: &k8s_openapi::api::discovery::v1::EndpointConditions| conditions.ready == Some(true);
    endpoints
        .filter(|endpoint| endpoint.conditions.as_ref().is_some_and(is_ready))
        .flat_map(|endpoint| endpoint.addresses)
        .collect()
}

/// How many decisions these Pods have made, by their metrics, which the API server hands through.
async fn decisions(node: &Node, pods: &[Pod]) -> usize {
    let mut sum = 0;
    for pod in pods {
        let url = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
        let text = node.client.request_text(http::Request::get(url).body(Vec::new()).unwrap()).await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("pullcred_decisions_total"));
        sum += lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>();
    }
    sum
}
