//! A controller that may do only what the chart grants, and that says which right is missing.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::provided::{LIMIT, REGISTRY, World, message_of};

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
    // Where it shows, it names the value to change: on the rule, in the log, and on the Pod.
    assert!(controller.log().contains(&named), "{}", controller.log());
    let told = world.told(&namespace, "PullSecretNotProvided").await;
    assert!(told.note.as_ref().unwrap().contains(&named), "{told:?}");

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

/// Whoever fills the Secrets of an `unmanaged` rule, the controller needs no right to them.
#[tokio::test]
async fn a_name_that_is_nobodys_to_write_is_no_missing_right() {
    let world = World::permitting(&[]).await;
    let (name, unmanaged) = (world.name("regcred"), world.name("vault"));
    let controller = world.controller().await;
    world.put_rule(&unmanaged, json!({"source": {"unmanaged": {}}})).await;
    world.reason(&unmanaged, "Unmanaged").await;
    world.put_rule(&name, json!({})).await;
    world.reason(&name, "NotPermitted").await;
    let log = controller.log();
    assert!(log.contains(&format!("Secrets named {name}")) && !log.contains(&unmanaged), "{log}");
}

/// With the chart alone this cannot be; with roles of one's own it can.
#[tokio::test]
async fn a_right_that_only_a_write_misses_is_told_as_one() {
    let world = World::permitting(&["regcred"]).await;
    let name = world.name("regcred");
    without_on_secrets(&world, &["create", "patch"]).await;
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let message = message_of(&world.reason(&name, "NotPermitted").await).to_owned();
    let expected = format!("may not create Secrets named {name}: add {name} to the value rbac.secretNames");
    assert!(message.contains(&expected), "{message}");
    assert!(controller.log().contains(&expected), "{}", controller.log());
}

/// A credential that stays where it was taken away from is nothing to call `Ready`.
#[tokio::test]
async fn a_copy_that_may_not_be_removed_is_told_as_such() {
    let world = World::permitting(&["regcred"]).await;
    let name = world.name("regcred");
    without_on_secrets(&world, &["delete"]).await;
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    world.put_rule(&name, json!({"namespaceSelector": {"matchLabels": {"tier": "none"}}})).await;
    let message = message_of(&world.reason(&name, "NotPermitted").await).to_owned();
    assert!(message.contains(&format!("may not delete Secrets named {name}")), "{message}");
}

/// Somebody's webhook that is away: what the API answers then is no refusal, and no better for whoever waits.
#[tokio::test]
async fn a_copy_that_fails_again_and_again_is_told_as_refused() {
    let world = World::new().await;
    let name = world.name("regcred");
    let namespace = world.namespace("team", json!({})).await;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    let configuration = serde_json::from_value(json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "away.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
        }],
    }))
    .unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    // The API server reads it a second or so later.
    let secrets = world.secrets(&namespace);
    let trial = serde_json::from_value(json!({"metadata": {"name": "trial"}})).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    crate::support::wait_for("the webhook to be called", LIMIT, async || {
        secrets.create(&dry_run, &trial).await.is_err().then_some(())
    })
    .await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let message = message_of(&world.reason(&name, "WriteRefused").await).to_owned();
    assert!(message.contains(&namespace) && message.contains("away.example.com"), "{message}");
    assert_eq!(controller.log().matches("cannot be written again and again").count(), 1);
    configurations.delete(&name, &DeleteParams::default()).await.unwrap();
    world.reason(&name, "Provided").await;
    world.copy(&namespace, &name, "one").await;
}

/// A policy that refuses.
struct Denial {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Denial {
    async fn of(world: &World, policy: &ValidatingAdmissionPolicy) -> Self {
        let name = policy.metadata.name.clone().unwrap();
        let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
        }))
        .unwrap();
        let (policies, bindings) = (Api::all(world.client.clone()), Api::all(world.client.clone()));
        policies.create(&PostParams::default(), policy).await.unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        Self { policies, bindings, name }
    }

    async fn lift(self) {
        self.bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.policies.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// A policy of somebody's that refuses what we write: the API server is not asked again every second, and other rules are not kept
/// waiting.
#[tokio::test]
async fn a_status_that_is_refused_is_tried_again_more_and_more_seldom() {
    let world = World::new().await;
    let (refused, other) = (world.name("regcred"), world.name("other"));
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": refused},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["pullcred.io"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["clusterpullsecrets/status"],
                "resourceNames": [refused],
            }]},
            "validations": [{"expression": "false", "message": "not today"}],
        },
    }))
    .unwrap();
    let denial = Denial::of(&world, &policy).await;
    let controller = world.controller().await;
    let lines = || controller.log().lines().filter(|line| line.contains("a status is not written")).count();
    // Until the API server has read the policy, what is said is written.
    let mut turn = 0;
    crate::support::wait_for("a line in the log", Duration::from_secs(20), async || {
        turn += 1;
        world.put_rule(&refused, json!({"reclaimAfter": format!("{turn}h")})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (lines() > 0).then_some(())
    })
    .await;
    assert!(controller.log().contains("not today"), "{}", controller.log());
    world.put_rule(&other, json!({})).await;
    world.reason(&other, "SourceMissing").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    // After 1, 2 and 4 seconds, and not each second.
    assert!((2..=4).contains(&lines()), "{}", controller.log());
    denial.lift().await;
    world.reason(&refused, "SourceMissing").await;
}

#[tokio::test]
async fn a_status_that_may_not_be_written_is_a_line_in_the_log() {
    let world = World::permitting(&["regcred"]).await;
    let name = world.name("regcred");
    let is_of_statuses =
        |rule: &PolicyRule| rule.resources.iter().flatten().any(|resource| resource.ends_with("/status"));
    change_role(&world, |rules| rules.retain(|rule| !is_of_statuses(rule))).await;
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    // What is needed is there all the same.
    world.copy(&namespace, &name, "one").await;
    let line = "grant the controller `patch` on `clusterpullsecrets/status`";
    crate::support::wait_for("the line", Duration::from_secs(20), async || {
        controller.log().contains(line).then_some(())
    })
    .await;
}

/// Takes rights on Secrets from the controller's cluster role.
async fn without_on_secrets(world: &World, verbs: &[&str]) {
    change_role(world, |rules| {
        for rule in rules {
            let is_of_secrets = rule.resources.iter().flatten().any(|resource| resource == "secrets");
            rule.verbs.retain(|verb| !is_of_secrets || !verbs.contains(&verb.as_str()));
            if rule.verbs.is_empty() {
                rule.verbs.push("get".to_owned());
            }
        }
    })
    .await;
}

/// Changes what the controller's cluster role grants, as somebody does who writes the roles by hand.
async fn change_role(world: &World, change: impl FnOnce(&mut Vec<PolicyRule>)) {
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    let name = format!("{}-controller", world.installed.name);
    let mut role = roles.get(&name).await.unwrap();
    change(role.rules.as_mut().unwrap());
    roles.replace(&name, &PostParams::default(), &role).await.unwrap();
}
