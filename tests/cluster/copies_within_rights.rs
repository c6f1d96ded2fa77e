//! A controller that may do only what the chart grants, and that says which right is missing.

use std::time::Duration;

use serde_json::json;

use super::provided::{REGISTRY, World, message_of};

#[tokio::test]
async fn a_name_that_is_not_permitted_is_told_and_served_once_it_is() {
    let mut world = World::permitting(&["permitted"]).await;
    let (permitted, other) = (world.name("permitted"), world.name("other"));
    let controller = world.controller().await;
    for name in [&permitted, &other] {
        world.put_source(name, REGISTRY, "one").await;
        world.put_rule(name, json!({})).await;
    }
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&permitted, &other]).await;
    world.copy(&namespace, &permitted, "one").await;
    world.reason(&permitted, "Provided").await;
    let status = world.reason(&other, "NotPermitted").await;
    let (message, named) =
        (message_of(&status), format!("add {other} to the value rbac.secretNames of the Helm chart"));
    assert!(message.contains(&named), "{message}");
    assert!(world.secret(&namespace, &other).await.is_none());

    world.permit(&["permitted", "other"]).await;
    // It asks again every 30 seconds.
    crate::support::wait_for("the copy", Duration::from_secs(45), async || world.secret(&namespace, &other).await)
        .await;
    world.reason(&other, "Provided").await;
    // Everything else that it needed was among the rights.
    let log = controller.log();
    assert!(!log.contains("may not be watched") && !log.contains("cannot be written"), "{log}");
    world.put_source(&other, REGISTRY, "two").await;
    world.copy(&namespace, &other, "two").await;
}
