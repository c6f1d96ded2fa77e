//! Copies while controllers come and go: killed, paused, rolled, and not there at all.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::provided::{REGISTRY, World};
use crate::support::road::Road;

#[tokio::test]
async fn a_rule_takes_its_copies_along_even_when_no_controller_runs() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    drop(controller);
    world.rules().delete(&name, &DeleteParams::default()).await.unwrap();
    world.no_copy(&namespace, &name).await;
}

#[tokio::test]
async fn a_leader_that_is_killed_is_replaced_and_one_that_ends_hands_over_at_once() {
    let world = World::new().await;
    let name = world.name("regcred");
    let mut first = world.controller().await;
    let mut second = world.follower().await;
    assert!(!second.leads().await);
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;

    first.signal("KILL");
    first.ended(Duration::from_secs(5)).await;
    let killed = Instant::now();
    world.put_source(&name, REGISTRY, "two").await;
    world.copy(&namespace, &name, "two").await;
    // The lease of these tests lasts four seconds.
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());
    assert!(second.leads().await);

    let third = world.follower().await;
    second.signal("TERM");
    assert!(second.ended(Duration::from_secs(5)).await.success());
    let ended = Instant::now();
    let third = third.leading(Duration::from_secs(5)).await;
    assert!(ended.elapsed() < Duration::from_secs(2), "{:?}", ended.elapsed());
    world.put_source(&name, REGISTRY, "three").await;
    world.copy(&namespace, &name, "three").await;
    drop(third);
}

#[tokio::test]
async fn a_leader_that_was_paused_and_wakes_puts_nothing_old_back() {
    let world = World::new().await;
    let name = world.name("regcred");
    let first = world.controller().await;
    let second = world.follower().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let mut namespaces = Vec::new();
    for i in 0..20 {
        let namespace = world.namespace(&format!("team-{i}"), json!({})).await;
        world.put_pod(&namespace, "app", &[&name]).await;
        world.copy(&namespace, &name, "one").await;
        namespaces.push(namespace);
    }
    first.signal("STOP");
    let _second = second.leading(Duration::from_secs(15)).await;
    world.put_source(&name, REGISTRY, "two").await;
    let mut versions = Vec::new();
    for namespace in &namespaces {
        versions.push(world.copy(namespace, &name, "two").await.resource_version());
    }
    first.signal("CONT");
    crate::support::wait_for("the first to follow", Duration::from_secs(10), async || {
        (!first.leads().await).then_some(())
    })
    .await;
    // A copy by the leader comes after whatever the woken one had still to say.
    let late = world.namespace("late", json!({})).await;
    world.put_pod(&late, "app", &[&name]).await;
    world.copy(&late, &name, "two").await;
    for (namespace, version) in namespaces.iter().zip(versions) {
        assert_eq!(world.secret(namespace, &name).await.unwrap().resource_version(), version, "{namespace}");
    }
}

#[tokio::test]
async fn an_idle_controller_leaves_the_api_server_alone() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let before = world.copy(&namespace, &name, "one").await;
    let status = world.status(&name, |status| status.namespaces == Some(1)).await;
    let version = world.rules().get(&name).await.unwrap().resource_version();
    let writes = controller.series("pullcred_controller_writes_total{outcome=\"done\"}").await;
    assert!(writes >= 1.0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.rules().get(&name).await.unwrap().resource_version(), version);
    assert_eq!(world.rules().get(&name).await.unwrap().status, Some(status));
    assert_eq!(world.secret(&namespace, &name).await.unwrap().resource_version(), before.resource_version());
    let later = controller.series("pullcred_controller_writes_total{outcome=\"done\"}").await;
    assert!((later - writes).abs() < 0.5, "{} writes while nothing happened", later - writes);

    // Nor does a restart say anything that was said already.
    drop(controller);
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "two").await;
    let copy = world.copy(&namespace, &name, "two").await;
    assert_ne!(copy.resource_version(), before.resource_version());
    assert_eq!(reasons(&world, &name).await, ["Provided"]);
    drop(controller);
}

/// The reasons of the events about a rule, and that of its condition.
async fn reasons(world: &World, rule: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let events = events.list(&ListParams::default()).await.unwrap().items.into_iter();
    let about = |event: &Event| event.regarding.as_ref().and_then(|regarding| regarding.name.clone());
    let told = events.filter(|event| about(event).as_deref() == Some(rule)).filter_map(|event| event.reason);
    let status = world.rules().get(rule).await.unwrap().status.unwrap();
    told.chain([super::provided::reason_of(&status).to_owned()]).collect()
}

#[tokio::test]
async fn whoever_edits_a_copy_in_a_loop_meets_a_writer_that_slows_down() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    let writes = async || controller.series("pullcred_controller_writes_total{outcome=\"done\"}").await;
    let before = writes().await;
    let secrets = world.secrets(&namespace);
    let begun = Instant::now();
    let mut edits = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let edit =
            Patch::Merge(json!({"stringData": {".dockerconfigjson": format!("{{\"auths\":{{}},\"n\":{edits}}}")}}));
        secrets.patch(&name, &PatchParams::default(), &edit).await.unwrap();
        edits += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let written = writes().await - before;
    // Two more at once, then after 1, 2, 4 seconds.
    assert!((1.0..8.0).contains(&written), "{written} writes against {edits} edits");
    world.copy(&namespace, &name, "one").await;
}

#[tokio::test]
async fn a_namespace_that_ends_is_left_to_end() {
    let world = World::new().await;
    let name = world.name("regcred");
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    crate::support::wait_for("the namespace to be gone", Duration::from_secs(60), async || {
        namespaces.get_opt(&namespace).await.unwrap().is_none().then_some(())
    })
    .await;
    world.status(&name, |status| status.namespaces == Some(0)).await;
    for outcome in ["refused", "failed"] {
        let count = controller.series(&format!("pullcred_controller_writes_total{{outcome=\"{outcome}\"}}")).await;
        assert!(count < 3.0, "{count} writes {outcome}");
    }
}

#[tokio::test]
async fn an_api_server_that_was_away_is_caught_up_with() {
    let mut world = World::new().await;
    let name = world.name("regcred");
    let road = Road::of(&world.kubeconfig).await;
    world.kubeconfig = road.kubeconfig.clone();
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let (first, second) = (world.namespace("first", json!({})).await, world.namespace("second", json!({})).await);
    world.put_pod(&first, "app", &[&name]).await;
    world.copy(&first, &name, "one").await;

    road.cut().await;
    // All of it happens while nobody looks.
    world.put_source(&name, REGISTRY, "two").await;
    world.put_pod(&second, "app", &[&name]).await;
    crate::support::wait_for("the lead to be given up", Duration::from_secs(15), async || {
        (!controller.leads().await).then_some(())
    })
    .await;
    road.mend();
    world.copy(&first, &name, "two").await;
    world.copy(&second, &name, "two").await;
    assert!(controller.leads().await);
}
