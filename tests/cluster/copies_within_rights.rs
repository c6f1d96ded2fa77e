//! A controller that may do only what it is granted, and that says which right is missing.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::provided::{REGISTRY, World, message_of};

/// The rights of the controller, with copies of these names.
fn rights(names: &[&str]) -> Value {
    json!([
        {"apiGroups": ["pullcred.io"], "resources": ["clusterpullsecrets", "pullsecrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["pullcred.io"], "resources": ["clusterpullsecrets/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get", "list", "watch", "patch", "delete"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["pullcred-controller"],
         "verbs": ["get", "list", "watch", "update"]},
    ])
}

async fn grant(world: &World, names: &[&str]) {
    let name = world.name("controller");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": rights(names)});
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    roles.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(role)).await.unwrap();
}

/// Makes the world's controllers run as a ServiceAccount that may do what is granted.
async fn restrict(world: &mut World, directory: &std::path::Path) {
    let name = world.name("controller");
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.release);
    let account = json!({"metadata": {"name": name}});
    accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": world.release}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let token = accounts.create_token_request(&name, &PostParams::default(), &request).await.unwrap();
    let admin = fs::read_to_string(&world.kubeconfig).unwrap();
    let token = token.status.unwrap().token;
    let restricted = admin.replace("admin-of-the-tests", &token);
    assert_ne!(admin, restricted);
    world.kubeconfig = directory.join("kubeconfig");
    fs::write(&world.kubeconfig, restricted).unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_permitted_is_told_and_served_once_it_is() {
    let mut world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (permitted, other) = (world.name("permitted"), world.name("other"));
    grant(&world, &[&permitted]).await;
    restrict(&mut world, directory.path()).await;
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
    let (message, named) = (message_of(&status), format!("add {other} to"));
    assert!(message.contains(&named) && message.contains("Helm chart"), "{message}");
    assert!(world.secret(&namespace, &other).await.is_none());

    grant(&world, &[&permitted, &other]).await;
    // It asks again every 30 seconds.
    crate::support::wait_for("the copy", Duration::from_secs(45), async || world.secret(&namespace, &other).await)
        .await;
    world.reason(&other, "Provided").await;
    // Everything else that it needed was among the rights.
    let log = controller.log();
    assert!(!log.contains("not permitted: grant") && !log.contains("cannot be written"), "{log}");
    world.put_source(&other, REGISTRY, "two").await;
    world.copy(&namespace, &other, "two").await;
}
