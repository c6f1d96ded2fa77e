//! Everything that is in the cluster, by kind and name, so that one can say what an installation leaves behind.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};

use crate::node::{LIMIT, Node, PAUSE, RELEASE_NAMESPACE};
use crate::support::wait_for_every;

/// What stays after `helm uninstall`, by docs/install.md. Kubernetes makes the `APIService` for the definitions, and removes it with them.
const DOCUMENTED: [&str; 6] = [
    "APIService v1alpha1.pullcred.io",
    "CustomResourceDefinition clusterpullsecrets.pullcred.io",
    "CustomResourceDefinition pullsecrets.pullcred.io",
    "Lease pullcred-tests/pullcred-controller",
    "Secret pullcred-tests/pullcred-ca",
    "Secret pullcred-tests/pullcred-tls",
];

/// What comes and goes by itself in any cluster.
const RESTLESS: [&str; 3] = ["CertificateSigningRequest", "ComponentStatus", "Event"];

/// All objects without a namespace, and those of the release namespace.
pub async fn everything(node: &Node) -> BTreeSet<String> {
    let discovery = Discovery::new(node.client.clone()).run().await.unwrap();
    let mut found = BTreeSet::new();
    for (resource, capabilities) in discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources) {
        if !capabilities.supports_operation(verbs::LIST) || RESTLESS.contains(&resource.kind.as_str()) {
            continue;
        }
        let api: Api<DynamicObject> = Api::all_with(node.client.clone(), &resource);
        for object in api.list_metadata(&ListParams::default()).await.unwrap().items {
            let name = object.name_any();
            match object.namespace() {
                None if resource.kind == "Namespace" && Node::is_ours(&name) => {}
                None => drop(found.insert(format!("{} {name}", resource.kind))),
                Some(namespace) if namespace == RELEASE_NAMESPACE => {
                    found.insert(format!("{} {namespace}/{name}", resource.kind));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Everything, once nothing of an installation before is on its way out any more.
pub async fn before(node: &Node) -> BTreeSet<String> {
    let is_gone = |name: &String| {
        let last = name.rsplit(['/', ' ']).next().unwrap();
        !last.contains("pullcred") || last == RELEASE_NAMESPACE || DOCUMENTED.contains(&name.as_str())
    };
    wait_for_every(PAUSE, "an installation before to be gone", LIMIT, async || {
        let now = everything(node).await;
        now.iter().all(is_gone).then_some(now)
    })
    .await
}

/// Waits until nothing is there that was not before, but what the documents say, and no copy in any namespace.
pub async fn are_as_documented(node: &Node, before: &BTreeSet<String>) {
    let start = Instant::now();
    loop {
        let now = everything(node).await;
        let lost: Vec<&String> = before.difference(&now).collect();
        assert!(lost.is_empty(), "gone with the release, and not of it: {lost:?}");
        let left: Vec<&String> = now.difference(before).filter(|name| !DOCUMENTED.contains(&name.as_str())).collect();
        if left.is_empty() {
            break;
        }
        assert!(start.elapsed() < LIMIT, "left behind: {left:#?}");
        tokio::time::sleep(PAUSE).await;
    }
    let copies = ListParams::default().labels("app.kubernetes.io/managed-by=pullcred");
    wait_for_every(PAUSE, "the copies to be gone", LIMIT, async || {
        let found = Api::<Secret>::all(node.client.clone()).list_metadata(&copies).await.unwrap().items;
        let found: Vec<_> =
            found.iter().filter(|copy| copy.namespace().as_deref() != Some(RELEASE_NAMESPACE)).collect();
        found.is_empty().then_some(())
    })
    .await;
}
