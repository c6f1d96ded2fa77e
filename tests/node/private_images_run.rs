//! What all of this is for: Pods of a private image are refused, pullcred is installed with one Secret and one rule, and the same
//! Pods run at the first try, in namespaces that did not exist a second before.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};
use tokio::sync::Semaphore;

use crate::node::Node;
use crate::pods;
use crate::release::Release;
use crate::ways::Way;

/// In how many namespaces.
const NAMESPACES: usize = 100;

/// How many at a time: two cores that are the whole cluster start no more at once. The Pods of `CronJob`s come with the minute: of them
/// so many begin together.
const AT_ONCE: usize = 2;
const EACH_MINUTE: usize = 5;

#[tokio::test]
async fn at_the_first_try_in_100_new_namespaces_and_not_without_pullcred() {
    let node = Node::turn().await;
    let release = Release::of(&node);
    release.absent().await;
    join_all(Way::ALL.map(async |way| {
        let namespace = way.begin(&node).await;
        pods::are_refused(&node, &namespace, way).await;
        way.end(&node, &namespace).await;
        node.leave(&namespace).await;
    }))
    .await;
    println!("without pullcred, all are refused: {:?}", Way::ALL);

    release.install(&release.values()).await;

    let (room, room_of_minute) = (Semaphore::new(AT_ONCE), Semaphore::new(EACH_MINUTE));
    let tries = Way::ALL.into_iter().cycle().take(NAMESPACES).map(async |way| {
        let room = if way == Way::CronJob { &room_of_minute } else { &room };
        let _room = room.acquire().await.unwrap();
        let namespace = way.begin(&node).await;
        let age = match pods::run_at_the_first_try(&node, &namespace, way).await {
            Ok(pods) => Ok(age_before(&node, &namespace, &pods).await),
            Err(why) => Err(format!("{way:?} in {namespace}: {why}")),
        };
        way.end(&node, &namespace).await;
        pods::delete_all(&node, &namespace).await;
        node.leave(&namespace).await;
        (way, age)
    });
    let results = join_all(tries).await;

    for way in Way::ALL {
        let of_way: Vec<_> = results.iter().filter(|(other, _)| *other == way).collect();
        let good = of_way.iter().filter(|(_, age)| age.is_ok()).count();
        println!("{way:?}: at the first try, without a warning, in {good} of {} namespaces", of_way.len());
    }
    let mut ages: Vec<i64> = results.iter().filter_map(|(_, age)| age.as_ref().ok().copied()).collect();
    ages.sort_unstable();
    println!("seconds from namespace to Pod: {ages:?}");
    assert_eq!(results.len(), NAMESPACES);
    let faults: Vec<_> = results.iter().filter_map(|(_, age)| age.as_ref().err()).collect();
    assert!(
        faults.is_empty(),
        "{} of {NAMESPACES} not at the first try, or not without a warning: {faults:#?}. Where the controller's log has the Secret \
         before the warning, or the warning is of kube-api-access, the kubelet was ahead of the API server: a control plane \
         needs cores of its own, or to go first",
        faults.len()
    );
    release.absent().await;
}

/// How many seconds a namespace was there before the first of these Pods, as Kubernetes tells time: in whole ones.
async fn age_before(node: &Node, namespace: &str, pods: &[Pod]) -> i64 {
    let namespace: Namespace = Api::all(node.client.clone()).get(namespace).await.unwrap();
    let born = |at: Option<Time>| at.unwrap().0.as_second();
    let first = pods.iter().map(|pod| born(pod.creation_timestamp())).min().unwrap();
    first - born(namespace.creation_timestamp())
}
