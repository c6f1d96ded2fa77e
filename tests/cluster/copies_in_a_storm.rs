//! Copies while the API server has too much to do, others write too, or it is not there; and how little is asked of it else.

use std::time::{Duration, Instant};

use http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use super::provided::{REGISTRY, World, password_of};
use crate::support::controller::Controller;
use crate::support::gate::Gate;
use crate::support::road::Road;
use crate::support::wait_for;

/// A rule with a copy in each of so many namespaces.
async fn with_copies(world: &World, name: &str, count: usize) -> Vec<String> {
    world.put_source(name, REGISTRY, "one").await;
    world.put_rule(name, json!({"distribution": "Eager", "namespaceSelector": {"matchLabels": {"of": name}}})).await;
    let mut namespaces = Vec::new();
    for i in 0..count {
        namespaces.push(world.namespace(&format!("team-{i}"), json!({"of": name})).await);
    }
    let copies = i64::try_from(count).unwrap();
    world.status(name, |status| status.namespaces == Some(copies)).await;
    namespaces
}

/// How many copies hold this password.
async fn holding(world: &World, name: &str, password: &str) -> usize {
    copies(world, name).await.iter().filter(|copy| password_of(copy, REGISTRY).as_deref() == Some(password)).count()
}

async fn copies(world: &World, name: &str) -> Vec<Secret> {
    let all: Api<Secret> = Api::all(world.client.clone());
    let found = all.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await.unwrap().items;
    found.into_iter().filter(|secret| secret.namespace().as_deref() != Some(world.release.as_str())).collect()
}

async fn all_hold(world: &World, name: &str, password: &str, count: usize) {
    wait_for(&format!("{count} copies with {password}"), Duration::from_secs(40), async || {
        (holding(world, name, password).await == count).then_some(())
    })
    .await;
}

async fn writes(controller: &Controller, outcome: &str) -> f64 {
    controller.series(&format!("pullcred_controller_writes_total{{outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn an_api_server_that_has_too_much_to_do_is_left_alone_and_nothing_is_lost() {
    let mut world = World::new().await;
    let name = world.name("regcred");
    let gate = Gate::before(&world.kubeconfig).await;
    world.kubeconfig.clone_from(&gate.kubeconfig);
    let controller = world.controller().await;
    with_copies(&world, &name, 30).await;
    for (turn, (code, password)) in [
        (StatusCode::TOO_MANY_REQUESTS, "two"),
        (StatusCode::SERVICE_UNAVAILABLE, "three"),
        (StatusCode::CONFLICT, "four"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = gate.writes();
        gate.refuse(code);
        world.put_source(&name, REGISTRY, password).await;
        let late = world.namespace(&format!("late-{turn}"), json!({"of": name})).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let refused = gate.writes() - before;
        println!("{refused} writes in 4 s that {code} refused");
        // With 429 and 503 those under way at once, and as many after each pause; with 409 three in each place, and then after
        // 1, 2 and 4 seconds: not the hundreds a second that it could ask.
        assert!((1..200).contains(&refused), "{refused} writes in 4 s that {code} refused");
        assert!(controller.leads().await);
        assert_eq!(holding(&world, &name, password).await, 0);
        gate.open();
        all_hold(&world, &name, password, 31 + turn).await;
        assert!(world.secret(&late, &name).await.is_some());
    }
}

#[tokio::test]
async fn writers_that_are_always_faster_are_met_with_patience_and_the_copy_is_right_in_the_end() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    let namespaces = with_copies(&world, &name, 5).await;
    let flow = world.flow("writes", &["patch"], &["secrets"]).await;
    let mut editing = JoinSet::new();
    let end = Instant::now() + Duration::from_secs(5);
    // Each copy changes every few milliseconds, so that what a write was computed from is gone when it arrives.
    for namespace in &namespaces {
        for editor in 0..6 {
            let (secrets, name) = (world.secrets(namespace), name.clone());
            editing.spawn(async move {
                let mut edits = 0;
                while Instant::now() < end {
                    let edit =
                        Patch::Merge(json!({"metadata": {"annotations": {format!("e{editor}"): edits.to_string()}}}));
                    secrets.patch(&name, &PatchParams::default(), &edit).await.unwrap();
                    edits += 1;
                }
                edits
            });
        }
    }
    world.put_source(&name, REGISTRY, "two").await;
    let edits: u32 = editing.join_all().await.into_iter().sum();
    all_hold(&world, &name, "two", 5).await;
    let (overtaken, asked) = (writes(&controller, "overtaken").await, flow.count().await);
    println!("{edits} edits by others, {asked} writes of ours, {overtaken} of them overtaken");
    assert!(overtaken >= 1.0, "nobody was faster than the controller");
    // Three at once in each place, then after 1, 2, 4 and 8 seconds.
    assert!(asked <= 5.0 * 8.0, "{asked} writes against {edits} edits");
}

#[tokio::test]
async fn a_rotation_that_a_kill_interrupts_is_ended_by_the_next_leader() {
    const COPIES: usize = 500;
    let world = World::new().await;
    let name = world.name("regcred");
    let mut first = world.controller().await;
    let second = world.follower().await;
    with_copies(&world, &name, COPIES).await;
    let uids = async || {
        let mut uids: Vec<_> = copies(&world, &name).await.iter().map(ResourceExt::uid).collect();
        uids.sort();
        uids
    };
    let before = uids().await;
    world.put_source(&name, REGISTRY, "two").await;
    wait_for("the rotation to begin", Duration::from_secs(10), async || {
        (holding(&world, &name, "two").await > 0).then_some(())
    })
    .await;
    first.signal("KILL");
    first.ended(Duration::from_secs(5)).await;
    let written = holding(&world, &name, "two").await;
    assert!((1..COPIES).contains(&written), "{written} of {COPIES} were written before the kill");
    all_hold(&world, &name, "two", COPIES).await;
    assert!(second.leads().await);
    assert_eq!(uids().await, before);
}

#[tokio::test]
async fn a_leader_that_is_paused_with_writes_to_do_writes_nothing_when_it_wakes() {
    let mut world = World::new().await;
    let name = world.name("regcred");
    let gate = Gate::before(&world.kubeconfig).await;
    let beside = std::mem::replace(&mut world.kubeconfig, gate.kubeconfig.clone());
    let first = world.controller().await;
    world.kubeconfig = beside;
    with_copies(&world, &name, 20).await;
    gate.refuse(StatusCode::TOO_MANY_REQUESTS);
    let second = world.follower().await;
    world.put_source(&name, REGISTRY, "two").await;
    // It knows what to write, and tries as much as it does at once again and again.
    wait_for("the first to be refused", Duration::from_secs(10), async || (gate.writes() >= 16).then_some(())).await;
    first.signal("STOP");
    gate.open();
    let _second = second.leading(Duration::from_secs(15)).await;
    all_hold(&world, &name, "two", 20).await;
    world.put_source(&name, REGISTRY, "three").await;
    all_hold(&world, &name, "three", 20).await;
    let versions = async || copies(&world, &name).await.iter().map(ResourceExt::resource_version).collect::<Vec<_>>();
    let (before, written) = (versions().await, gate.writes());
    first.signal("CONT");
    wait_for("the first to follow", Duration::from_secs(10), async || (!first.leads().await).then_some(())).await;
    let late = world.namespace("late", json!({"of": name})).await;
    wait_for("the copy", Duration::from_secs(10), async || world.secret(&late, &name).await).await;
    // What was on its way when it was paused arrives, too late to change anything; and that is all.
    let written = gate.writes() - written;
    assert!(written <= 16, "the woken leader began {} writes", written - 16);
    let changed = versions().await.iter().filter(|version| !before.contains(version)).count();
    assert_eq!(changed, 1, "the late one is new, and no other is written");
}

#[tokio::test]
async fn a_leader_that_crashes_is_replaced_within_fifteen_seconds() {
    let world = World::new().await;
    let mut first = world.patient().await.leading(Duration::from_secs(20)).await;
    let second = world.patient().await;
    first.signal("KILL");
    let killed = Instant::now();
    first.ended(Duration::from_secs(5)).await;
    let _second = second.leading(Duration::from_secs(15)).await;
    println!("replaced after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn next_to_nothing_is_asked_of_the_api_server_while_nothing_happens() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.patient().await.leading(Duration::from_secs(20)).await;
    with_copies(&world, &name, 5).await;
    // By their names the first comes first.
    let lease = world.flow("a-lease", &["update"], &["leases"]).await;
    let others = world.flow("others", &["*"], &["*"]).await;
    // The statuses of the last changes, and until the flows are in force.
    wait_for("the Lease to be counted", Duration::from_secs(20), async || (lease.count().await > 0.0).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = (lease.count().await, others.count().await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (renewed, asked) = (lease.count().await - before.0, others.count().await - before.1);
    println!("in 20 s: the Lease renewed {renewed} times, {asked} other requests");
    assert!((6.0..=10.0).contains(&renewed), "the Lease renewed {renewed} times");
    // Seven watches, each of which the server ends after a minute, and a look at the definitions each five.
    assert!(asked <= 8.0, "{asked} requests");
    // And what happens is counted.
    world.put_source(&name, REGISTRY, "two").await;
    all_hold(&world, &name, "two", 5).await;
    let counted = others.count().await - before.1 - asked;
    assert!(counted >= 5.0, "{counted} requests for five copies");
}

#[tokio::test]
async fn an_api_server_that_is_stopped_and_started_is_caught_up_with() {
    let mut world = World::alone().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    with_copies(&world, &name, 10).await;
    let mut plane = world.plane.take().unwrap();
    plane.stop_api_server();
    wait_for("the lead to be given up", Duration::from_secs(20), async || (!controller.leads().await).then_some(()))
        .await;
    let lines = controller.log().lines().count();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lines = controller.log().lines().count() - lines;
    assert!(lines < 60, "{lines} lines in 5 s:\n{}", controller.log());
    assert_eq!(controller.admin("/livez").await.unwrap().0, 200);
    plane.start_api_server().await;
    world.put_source(&name, REGISTRY, "two").await;
    world.namespace("late", json!({"of": name})).await;
    all_hold(&world, &name, "two", 11).await;
    world.plane = Some(plane);
}

#[tokio::test]
async fn watches_that_are_cut_or_go_silent_are_begun_again() {
    let mut world = World::new().await;
    let name = world.name("regcred");
    let road = Road::of(&world.kubeconfig).await;
    world.kubeconfig.clone_from(&road.kubeconfig);
    let _controller = world.controller().await;
    let namespaces = with_copies(&world, &name, 3).await;
    for (turn, password) in ["two", "three"].into_iter().enumerate() {
        road.end_connections().await;
        world.put_source(&name, REGISTRY, password).await;
        world.namespace(&format!("late-{turn}"), json!({"of": name})).await;
        all_hold(&world, &name, password, namespaces.len() + turn + 1).await;
    }
    // The connections stay open, and nothing comes through: only a limit on silence can notice.
    road.swallow().await;
    world.put_source(&name, REGISTRY, "four").await;
    wait_for("the silence to be noticed", Duration::from_secs(120), async || {
        (holding(&world, &name, "four").await == namespaces.len() + 2).then_some(())
    })
    .await;
}
