//! What all of this is for: Pods of a private image are refused, pullcred is installed with one Secret and one rule, and the same
//! Pods run at the first try, in namespaces that did not exist a second before.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::node::Node;
use crate::pods;
use crate::release::Release;
use crate::ways::Way;

/// In how many namespaces.
const NAMESPACES: usize = 100;

/// How many at a time: as many as one node starts at once. CronJobs do not wait for each other, their Pods come with the minute.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn at_the_first_try_in_100_new_namespaces_and_not_without_pullcred() {
    let node = Arc::new(Node::turn().await);
    Release::of(&node).absent().await;
    let mut refused = JoinSet::new();
    for way in Way::ALL {
        let node = Arc::clone(&node);
        refused.spawn(async move {
            let namespace = way.begin(&node).await;
            pods::are_refused(&node, &namespace, way).await;
            way.end(&node, &namespace).await;
            node.leave(&namespace).await;
        });
    }
    while let Some(ended) = refused.join_next().await {
        ended.unwrap();
    }

    node.put_source().await;
    Release::of(&node).install(&Release::of(&node).values()).await;

    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tries = JoinSet::new();
    for way in Way::ALL.into_iter().cycle().take(NAMESPACES) {
        let (node, room) = (Arc::clone(&node), Arc::clone(&room));
        tries.spawn(async move {
            let room = if way == Way::CronJob { None } else { Some(room.acquire_owned().await.unwrap()) };
            let namespace = way.begin(&node).await;
            let result = pods::run_at_the_first_try(&node, &namespace, way).await;
            way.end(&node, &namespace).await;
            pods::delete_all(&node, &namespace).await;
            node.leave(&namespace).await;
            drop(room);
            (way, result.map_err(|reason| format!("{way:?} in {namespace}: {reason}")))
        });
    }
    let results: Vec<(Way, Result<(), String>)> = tries.join_all().await;
    for way in Way::ALL {
        let of_way: Vec<_> = results.iter().filter(|(other, _)| *other == way).collect();
        let good = of_way.iter().filter(|(_, result)| result.is_ok()).count();
        println!("{way:?}: {good} of {} namespaces, at the first try, without a warning", of_way.len());
    }
    let failures: Vec<&String> = results.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
    assert_eq!(results.len(), NAMESPACES);
    assert!(failures.is_empty(), "{} of {NAMESPACES}: {failures:#?}", failures.len());
}
