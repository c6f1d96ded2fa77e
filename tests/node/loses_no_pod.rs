//! The webhook is rolled, drained, upgraded and rolled back while Deployments scale up and down, with `failurePolicy: Fail`: every
//! Pod that is wanted is created, with its Secret.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{EvictParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::node::{LIMIT, Node, PAUSE, RELEASE_NAMESPACE, SECRET};
use crate::pods::{secrets, warnings};
use crate::release::{Release, rolled_out};
use crate::support::wait_for_every;
use crate::ways;

/// How many Deployments scale, each to as many Pods and down to none.
const DEPLOYMENTS: usize = 3;
const REPLICAS: usize = 4;

/// How often a Pod is asked for beside that, as a dry run.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// Pods by name, with their pull secrets.
type Seen = RefCell<BTreeMap<String, Vec<String>>>;

#[tokio::test]
async fn while_the_webhook_is_rolled_drained_and_upgraded_no_pod_is_lost_and_none_lacks_its_secret() {
    let node = Node::turn().await;
    let release = Release::of(&node);
    let values = release.install_to_fail().await;

    let namespaces = join_all([(); DEPLOYMENTS].map(|()| node.new_namespace())).await;
    let (seen, is_over) = (Seen::default(), Cell::new(false));
    let events = async {
        roll_drain_and_upgrade(&node, release, values).await;
        is_over.set(true);
    };
    let scaling = join_all(namespaces.iter().map(|namespace| scale_up_and_down(&node, namespace, &is_over)));
    let all = async { tokio::join!(events, scaling, ask_again_and_again(release, &is_over)) };
    let watching = join_all(namespaces.iter().map(|namespace| watch_pods(&node, namespace, &seen)));
    let ((), scaled, (asked, lost)) = tokio::select! {
        result = all => result,
        _ = watching => panic!("a watch has ended"),
    };

    assert!(lost.is_empty(), "{} of {asked} calls: {lost:#?}", lost.len());
    for namespace in &namespaces {
        let events = node.all::<Event>(namespace).await;
        // What the kubelet warns of by itself (private_images_run.rs) is no Pod lost.
        let refused = warnings(&events).into_iter().filter(|warning| warning.contains(" FailedCreate: "));
        assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
        node.leave(namespace).await;
    }
    let seen = seen.into_inner();
    let scaled: usize = scaled.into_iter().sum();
    println!("{} Pods of Deployments, which were scaled {scaled} times; {asked} more asked for; none lost", seen.len());
    assert!(seen.len() >= DEPLOYMENTS * REPLICAS * 2, "only {} Pods", seen.len());
    let without: Vec<_> = seen.iter().filter(|(_, secrets)| **secrets != [SECRET]).collect();
    assert!(without.is_empty(), "{without:#?}");
    release.absent().await;
}

/// What happens to the webhook meanwhile.
async fn roll_drain_and_upgrade(node: &Node, release: Release<'_>, mut values: Value) {
    node.api::<Deployment>(RELEASE_NAMESPACE).restart("pullcred-webhook").await.unwrap();
    release.is_rolled_out("webhook").await;
    println!("rolled");
    let held_up = drain(node, release).await;
    println!("drained; the PodDisruptionBudget held evictions up {held_up} times");
    assert!(held_up > 0, "three Pods that are evicted at once wait for each other");
    values["webhook"]["logLevel"] = json!("debug");
    release.upgrade(&values).await;
    release.is_rolled_out("webhook").await;
    println!("upgraded");
    release.roll_back().await;
    release.is_rolled_out("webhook").await;
    println!("rolled back");
}

/// Every Pod of a namespace that ever was.
async fn watch_pods(node: &Node, namespace: &str, seen: &Seen) {
    let pods = watcher(node.api::<Pod>(namespace), watcher::Config::default()).applied_objects();
    let each = async |pod: Pod| {
        let names = secrets(&pod).into_iter().map(str::to_owned).collect();
        seen.borrow_mut().insert(pod.name_any(), names);
        Ok(())
    };
    pods.try_for_each(each).await.unwrap();
}

/// Gives how often it scaled. Each time, all Pods that are wanted run before it goes on.
async fn scale_up_and_down(node: &Node, namespace: &str, is_over: &Cell<bool>) -> usize {
    let deployments = node.api::<Deployment>(namespace);
    let deployment = serde_json::from_value(ways::deployment(&node.private_image, 0)).unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let mut scaled = 0;
    while !is_over.get() {
        for replicas in [REPLICAS, 0] {
            let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            deployments.patch_scale("app", &PatchParams::default(), &scale).await.unwrap();
            rolled_out(node, namespace, "app").await;
            scaled += 1;
        }
    }
    scaled
}

/// Gives how often it asked, and what went wrong.
async fn ask_again_and_again(release: Release<'_>, is_over: &Cell<bool>) -> (usize, Vec<String>) {
    let mut pace = tokio::time::interval(ASKED_EVERY);
    let (mut asked, mut lost) = (0, Vec::new());
    while !is_over.get() {
        pace.tick().await;
        asked += 1;
        match release.ask().await {
            Ok(pod) if secrets(&pod) == [SECRET] => {}
            Ok(pod) => lost.push(format!("{:?} for pull secrets", secrets(&pod))),
            Err(error) => lost.push(error.to_string()),
        }
    }
    (asked, lost)
}

/// Evicts every Pod of the webhook, all at once, as often as the `PodDisruptionBudget` holds it up: as `kubectl drain` does. Gives
/// how often it did.
async fn drain(node: &Node, release: Release<'_>) -> usize {
    let mut held_up = 0;
    let mut names: Vec<String> = release.pods("webhook", 3).await.iter().map(ResourceExt::name_any).collect();
    let pods = node.api::<Pod>(RELEASE_NAMESPACE);
    wait_for_every(PAUSE, "all Pods of the webhook to be evicted", LIMIT, async || {
        let mut left = Vec::new();
        for name in &names {
            match pods.evict(name, &EvictParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    held_up += 1;
                    left.push(name.clone());
                }
                Err(error) => panic!("{error}"),
            }
        }
        names = left;
        names.is_empty().then_some(())
    })
    .await;
    release.is_rolled_out("webhook").await;
    held_up
}
