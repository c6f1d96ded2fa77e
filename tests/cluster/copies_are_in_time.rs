//! How long after a Pod its copy is there: the kubelet looks after 200 to 300 ms.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::kubelet_oracle::Oracle;
use super::provided::{IMAGE, REGISTRY, World};
use crate::support::measure::Process;
use crate::support::program::Webhook;
use crate::support::wait_for;

/// How many Pods each test creates, each in a namespace of its own.
fn pods() -> usize {
    std::env::var("PULLCRED_TEST_PODS").ok().and_then(|pods| pods.parse().ok()).unwrap_or(100)
}

/// When each namespace got the Secret of that name, as its watch tells; ends once there are as many.
async fn arrivals(client: Client, name: String, version: String, count: usize) -> HashMap<String, Instant> {
    let secrets: Api<Secret> = Api::all(client);
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = secrets.watch(&parameters, &version).await.unwrap().boxed();
    let mut arrived = HashMap::new();
    while arrived.len() < count {
        if let WatchEvent::Added(secret) = events.next().await.expect("the watch goes on").unwrap() {
            arrived.insert(secret.namespace().unwrap(), Instant::now());
        }
    }
    arrived
}

/// Creates a Pod as soon as the API server takes it, which in a new namespace is when it has its ServiceAccount.
async fn create(client: Client, namespace: String, name: &str, secret: String) -> (String, Instant) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": IMAGE}], "imagePullSecrets": [{"name": secret}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    loop {
        match pods.create(&PostParams::default(), &pod).await {
            Ok(_) => return (namespace, Instant::now()),
            Err(kube::Error::Api(status)) if status.message.contains("serviceaccount") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Creates namespaces with one Pod each, this far apart, and gives the delays in ascending order. `midway` happens halfway.
async fn delays(world: &World, name: &str, apart: Duration, midway: impl AsyncFnOnce()) -> Vec<Duration> {
    let count = pods();
    let version =
        world.secrets("default").list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version;
    let mut watching = JoinSet::new();
    watching.spawn(arrivals(world.client.clone(), name.to_owned(), version.unwrap(), count));
    let mut creating = JoinSet::new();
    let mut ticks = tokio::time::interval(apart.max(Duration::from_micros(1)));
    let mut midway = Some(midway);
    for i in 0..count {
        ticks.tick().await;
        if i == count / 2
            && let Some(midway) = midway.take()
        {
            midway().await;
        }
        let namespace = world.namespace(&format!("{name}-n{i}"), json!({})).await;
        creating.spawn(create(world.client.clone(), namespace, "app", name.to_owned()));
        if apart.is_zero() {
            // One after another.
            while let Some(created) = creating.join_next().await {
                created_at(created.unwrap());
            }
        }
    }
    let mut created: HashMap<String, Instant> = creating.join_all().await.into_iter().collect();
    created.extend(CREATED.lock().unwrap().drain());
    let arrived = tokio::time::timeout(Duration::from_secs(60), watching.join_next()).await;
    let arrived = arrived.expect("every copy arrives").unwrap().unwrap();
    let mut delays: Vec<Duration> =
        created.iter().map(|(namespace, created)| arrived[namespace].saturating_duration_since(*created)).collect();
    delays.sort();
    delays
}

/// Pods that were created one after another.
static CREATED: std::sync::LazyLock<std::sync::Mutex<HashMap<String, Instant>>> =
    std::sync::LazyLock::new(Default::default);

fn created_at((namespace, at): (String, Instant)) {
    CREATED.lock().unwrap().insert(namespace, at);
}

fn judge(what: &str, delays: &[Duration]) {
    let quantile = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    let (p50, p99) = (quantile(50), quantile(99));
    println!("{what}: {} copies, p50 {p50:?}, p99 {p99:?}, longest {:?}", delays.len(), delays[delays.len() - 1]);
    assert!(p50 < Duration::from_millis(50), "{what}: p50 {p50:?}");
    // The aim; and for a debug build beside other tests when the kubelet looks, of all but a few.
    if cfg!(debug_assertions) {
        assert!(quantile(95) < Duration::from_millis(300), "{what}: p95 {:?}", quantile(95));
    } else {
        assert!(p99 < Duration::from_millis(150), "{what}: p99 {p99:?}");
    }
}

#[tokio::test]
async fn a_copy_is_there_before_the_kubelet_looks() {
    let world = World::new().await;
    let (one, many, rolled) = (world.name("one"), world.name("many"), world.name("rolled"));
    let mut first = world.controller().await;
    for name in [&one, &many, &rolled] {
        world.put_source(name, REGISTRY, "one").await;
        world.put_rule(name, json!({})).await;
        world.reason(name, "Provided").await;
    }
    judge("one after another", &delays(&world, &one, Duration::ZERO, async || {}).await);
    let fifty_a_second = Duration::from_millis(20);
    judge("50 a second", &delays(&world, &many, fifty_a_second, async || {}).await);
    let _second = world.follower().await;
    judge("while the leader is rolled", &delays(&world, &rolled, fifty_a_second, async || first.signal("TERM")).await);
    first.ended(Duration::from_secs(5)).await;
}

#[tokio::test]
#[allow(clippy::cast_precision_loss, reason = "as many as fit")]
async fn a_rotation_writes_each_copy_once() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({"distribution": "Eager", "namespaceSelector": {"matchLabels": {"of": name}}})).await;
    let count = pods();
    for i in 0..count {
        world.namespace(&format!("{name}-r{i}"), json!({"of": name})).await;
    }
    let copies = i64::try_from(count).unwrap();
    world.status(&name, |status| status.namespaces == Some(copies)).await;
    let all: Api<Secret> = Api::all(world.client.clone());
    let parameters = kube::api::ListParams::default().fields(&format!("metadata.name={name}"));
    let copies = async || {
        let found = all.list(&parameters).await.unwrap().items;
        found.into_iter().filter(|secret| secret.namespace().as_deref() != Some(world.release.as_str()))
    };
    let uids: HashMap<_, _> = copies().await.map(|secret| (secret.namespace(), secret.uid())).collect();
    let flow = world.flow("secrets", &["*"], &["secrets"]).await;
    let writes = async || controller.series("pullcred_controller_writes_total{outcome=\"done\"}").await;
    let before = (writes().await, flow.count().await);
    let version =
        all.list(&kube::api::ListParams::default().limit(1)).await.unwrap().metadata.resource_version.unwrap();
    let mut seen = JoinSet::new();
    seen.spawn(every_state(world.client.clone(), name.clone(), version, "two", count));
    let begun = Instant::now();
    world.put_source(&name, REGISTRY, "two").await;
    let limit = Duration::from_secs(60 + count as u64 / 100);
    let states = tokio::time::timeout(limit, seen.join_next()).await.expect("every copy is rotated").unwrap().unwrap();
    let took = begun.elapsed();
    // The last answers may still be on their way.
    wait_for("the answers", Duration::from_secs(5), async || {
        (writes().await - before.0 > count as f64 - 0.5).then_some(())
    })
    .await;
    let (written, asked) = (writes().await - before.0, flow.count().await - before.1);
    println!("{count} copies rotated in {took:?} by {written} writes, {asked} calls in all; {}", controller.memory());
    let after: HashMap<_, _> = copies().await.map(|secret| (secret.namespace(), secret.uid())).collect();
    assert_eq!(after, uids);
    assert_eq!(uids.len(), count);
    let most = count as f64;
    assert!((written - most).abs() < 0.5, "{written} writes");
    // A watch that happened to be begun again counts too.
    assert!((most..most + 5.0).contains(&asked), "{asked} calls");
    all_are_parsed(&states);
}

/// What each Secret of that name has held at any moment, until so many hold the password.
async fn every_state(client: Client, name: String, version: String, password: &str, count: usize) -> Vec<Secret> {
    let secrets: Api<Secret> = Api::all(client);
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = secrets.watch(&parameters, &version).await.unwrap().boxed();
    let (mut states, mut done) = (Vec::new(), std::collections::HashSet::new());
    while done.len() < count {
        if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) =
            events.next().await.expect("the watch goes on").unwrap()
        {
            if secret.owner_references().is_empty() {
                continue;
            }
            if super::provided::password_of(&secret, REGISTRY).as_deref() == Some(password) {
                done.insert(secret.namespace());
            }
            states.push(secret);
        }
    }
    states
}

/// The kubelet's own code finds a credential in each of them.
fn all_are_parsed(states: &[Secret]) {
    let question = |secret: &Secret| {
        let data = String::from_utf8(secret.data.as_ref().unwrap()[".dockerconfigjson"].0.clone()).unwrap();
        json!({"op": "lookup", "image": IMAGE, "secrets": [{"name": "copy", "type": secret.type_, "data": data}]})
    };
    let questions: Vec<_> = states.iter().map(question).collect();
    assert!(!questions.is_empty());
    for (question, answer) in questions.iter().zip(Oracle::kubelet().ask(&questions)) {
        assert_eq!(
            (&answer["ok"], answer["credentials"].as_array().map(Vec::len)),
            (&json!(true), Some(1)),
            "{question}"
        );
    }
}

/// A Pod does not wait until a rotation of all the others is over.
#[tokio::test]
async fn a_rotation_keeps_no_pod_waiting() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({"distribution": "Eager", "namespaceSelector": {"matchLabels": {"of": name}}})).await;
    // More than the second of writes that may be made at once.
    let count = pods().max(600);
    for i in 0..count {
        world.namespace(&format!("{name}-a{i}"), json!({"of": name})).await;
    }
    let copies = i64::try_from(count).unwrap();
    world.status(&name, |status| status.namespaces == Some(copies)).await;
    world.put_source(&name, REGISTRY, "two").await;
    let begun = Instant::now();
    let namespace = world.namespace(&format!("{name}-z"), json!({"of": name})).await;
    let secrets = world.secrets(&namespace);
    wait_for("the copy", Duration::from_secs(20), async || secrets.get_opt(&name).await.unwrap()).await;
    let waited = begun.elapsed();
    let all: Api<Secret> = Api::all(world.client.clone());
    let parameters = kube::api::ListParams::default().fields(&format!("metadata.name={name}"));
    let found = all.list(&parameters).await.unwrap().items;
    let is_old = |copy: &&Secret| super::provided::password_of(copy, REGISTRY).as_deref() == Some("one");
    let left = found.iter().filter(is_old).count();
    println!("{count} copies in rotation: a new one was there after {waited:?}, with {left} still to be written");
    assert!(left > 0, "the rotation was over before");
}

#[tokio::test]
async fn memory_is_bounded_with_two_pods_in_each_namespace() {
    const CONTROLLER_KIB: u64 = 64 * 1024;
    const WEBHOOK_KIB: u64 = 32 * 1024;
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    let webhook = Webhook::of_cluster(&world.installed.webhook.kubeconfig, &[]).ready().await;
    let idle = [controller.id(), webhook.id()].map(|process| Process(process).resident());
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({"namespaceSelector": {"matchLabels": {"of": name}}})).await;
    let count = pods();
    let mut creating = JoinSet::new();
    for i in 0..count {
        let namespace = world.namespace(&format!("{name}-m{i}"), json!({"of": name})).await;
        for pod in ["app", "other"] {
            creating.spawn(create(world.client.clone(), namespace.clone(), pod, name.clone()));
        }
        while creating.len() > 32 {
            creating.join_next().await.unwrap().unwrap();
        }
    }
    creating.join_all().await;
    let copies = i64::try_from(count).unwrap();
    world.status(&name, |status| status.namespaces == Some(copies)).await;
    // With all of it listed anew, too.
    let fresh = world.follower().await;
    let again = Webhook::of_cluster(&world.installed.webhook.kubeconfig, &[]).ready().await;
    println!("idle: controller {} KiB, webhook {} KiB", idle[0], idle[1]);
    for (what, process, most) in [
        ("controller", controller.id(), CONTROLLER_KIB),
        ("controller that has just started", fresh.id(), CONTROLLER_KIB),
        ("webhook", webhook.id(), WEBHOOK_KIB),
        ("webhook that has just started", again.id(), WEBHOOK_KIB),
    ] {
        let (resident, peak) = (Process(process).resident(), Process(process).peak());
        println!("{count} namespaces and copies, {} Pods: {what}: {resident} KiB, {peak} KiB at most", 2 * count);
        // The bars are those of a release build.
        let most = if cfg!(debug_assertions) { 2 * most } else { most };
        assert!(resident < most, "{what}: {resident} KiB");
    }
}
