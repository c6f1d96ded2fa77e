//! What the cluster sees of a webhook that ends.

use std::time::Duration;

use super::cluster::{Cluster, pod_of, secrets};
use crate::support::program::Webhook;

const IMAGE: &str = "asia.gcr.io/my-project/app:1";

/// Killed in mid-flight, with `failurePolicy: Ignore`: every Pod is created, with the Secret before and without it after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_killed_refuses_no_pod() {
    let cluster = Cluster::alone().await;
    let mut webhook = Webhook::start(super::cluster::RULES, &[]).await;
    cluster.register("killed.pullcred.io", &webhook, &["CREATE"], "Ignore", Some(&cluster.namespace)).await;
    cluster.wait_until_injected(IMAGE).await;

    let mut tasks = tokio::task::JoinSet::new();
    let mut with_secret = 0;
    for i in 0..200 {
        let (client, namespace) = (cluster.client.clone(), cluster.namespace.clone());
        let cluster = Cluster { client, namespace };
        tasks.spawn(async move {
            let pod = pod_of(&format!("app-{i}"), &[IMAGE]);
            secrets(&cluster.create_pod(&pod).await).len()
        });
    }
    while with_secret < 20 {
        with_secret += tasks.join_next().await.unwrap().unwrap();
    }
    webhook.signal("KILL");
    with_secret += tasks.join_all().await.into_iter().sum::<usize>();
    webhook.ended(Duration::from_secs(5)).await;
    assert!((20..200).contains(&with_secret), "the kill came too late to show anything");
    let after = cluster.create_pod(&pod_of("after", &[IMAGE])).await;
    assert_eq!(secrets(&after), [""; 0]);
}
