//! The Secret that a Pod references is there, holds only what is needed, and follows its source; what is not ours stays.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::provided::{LIMIT, REGISTRY, World, config_of, message_of, password_of};
use crate::support::wait_for;

#[tokio::test]
async fn a_pod_finds_the_secret_that_it_names_in_a_namespace_made_a_moment_ago() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;

    let copy = world.copy(&namespace, &name, "one").await;
    assert_eq!(copy.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    let auth = "dXNlcjpvbmU=";
    assert_eq!(config_of(&copy), json!({"auths": {REGISTRY: {"username": "user", "password": "one", "auth": auth}}}));
    assert_eq!(copy.labels()["app.kubernetes.io/managed-by"], "pullcred");
    assert_eq!(copy.labels()["pullcred.io/rule"], name);
    let owners = copy.owner_references();
    assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "ClusterPullSecret"));
    assert_eq!(owners[0].uid, world.uid(&name).await);

    let status = world.status(&name, |status| status.namespaces == Some(1)).await;
    assert_eq!(super::provided::reason_of(&status), "Provided");
    assert!(status.refreshed_at.is_some() && status.expires_at.is_none());
    assert_eq!(status.conflicts.unwrap().count, 0);
    // The release namespace is no target, whoever references the name there.
    world.put_pod(&world.release, "app", &[&name]).await;
    world.put_pod(&namespace, "second", &[&name]).await;
    let source = world.secret(&world.release, &name).await.unwrap();
    assert!(source.owner_references().is_empty());
}

#[tokio::test]
async fn a_patched_service_account_is_enough() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &namespace);
    wait_for("the default ServiceAccount", LIMIT, async || accounts.get_opt("default").await.unwrap()).await;
    let patch = Patch::Merge(json!({"imagePullSecrets": [{"name": name}]}));
    accounts.patch("default", &PatchParams::default(), &patch).await.unwrap();
    wait_for("a Pod of the patched ServiceAccount", LIMIT, async || {
        // The API server reads ServiceAccounts from a cache.
        world.put_pod(&namespace, "app", &[]).await;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &namespace);
        let pod = pods.get("app").await.unwrap();
        let has = pod.spec.unwrap().image_pull_secrets.is_some();
        if !has {
            pods.delete("app", &DeleteParams::default().grace_period(0)).await.unwrap();
        }
        has.then_some(())
    })
    .await;
    world.copy(&namespace, &name, "one").await;
}

#[tokio::test]
async fn a_changed_source_reaches_every_copy_in_place_and_a_lost_one_leaves_the_last() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let mut copies = Vec::new();
    for i in 0..5 {
        let namespace = world.namespace(&format!("team-{i}"), json!({})).await;
        world.put_pod(&namespace, "app", &[&name]).await;
        let uid = world.copy(&namespace, &name, "one").await.uid();
        copies.push((namespace, uid));
    }
    world.put_source(&name, REGISTRY, "two").await;
    for (namespace, uid) in &copies {
        assert_eq!(world.copy(namespace, &name, "two").await.uid(), *uid);
    }

    world.secrets(&world.release).delete(&name, &DeleteParams::default()).await.unwrap();
    let status = world.reason(&name, "SourceMissing").await;
    assert!(message_of(&status).contains("kubectl create secret docker-registry"), "{}", message_of(&status));
    assert_eq!(status.namespaces, Some(5));
    let namespace = world.namespace("late", json!({})).await;
    // What was good last goes to new namespaces too.
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "two").await;
    world.put_source(&name, "elsewhere.example", "three").await;
    let status = world.reason(&name, "SourceInvalid").await;
    assert!(message_of(&status).contains("elsewhere.example"), "{}", message_of(&status));
    world.copy(&copies[0].0, &name, "two").await;
    world.put_source(&name, REGISTRY, "four").await;
    world.reason(&name, "Provided").await;
    for (namespace, uid) in &copies {
        assert_eq!(world.copy(namespace, &name, "four").await.uid(), *uid);
    }
}

#[tokio::test]
async fn a_persons_secret_is_never_touched_not_even_with_the_very_bytes_of_the_copy() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let (ours, theirs, same) = (
        world.namespace("ours", json!({})).await,
        world.namespace("theirs", json!({})).await,
        world.namespace("same", json!({})).await,
    );
    world.put_pod(&ours, "app", &[&name]).await;
    let copy = world.copy(&ours, &name, "one").await;
    world.put_secret(&theirs, &name, REGISTRY, "of a person").await;
    let mut equal = Secret { data: copy.data.clone(), type_: copy.type_.clone(), ..Secret::default() };
    equal.metadata.name = Some(name.clone());
    equal.metadata.labels = copy.metadata.labels.clone();
    world.secrets(&same).create(&PostParams::default(), &equal).await.unwrap();
    let before = [world.secret(&theirs, &name).await, world.secret(&same, &name).await];
    for namespace in [&theirs, &same] {
        world.put_pod(namespace, "app", &[&name]).await;
    }
    let status =
        world.status(&name, |status| status.conflicts.as_ref().is_some_and(|conflicts| conflicts.count == 2)).await;
    assert_eq!(status.conflicts.unwrap().namespaces, [same.clone(), theirs.clone()]);
    assert_eq!(status.conditions.unwrap()[0].status, "True");
    assert_eq!(status.namespaces, Some(1));
    // Rotation, and the end of the rule, pass them by.
    world.put_source(&name, REGISTRY, "two").await;
    world.copy(&ours, &name, "two").await;
    world.rules().delete(&name, &DeleteParams::default()).await.unwrap();
    world.no_copy(&ours, &name).await;
    assert_eq!([world.secret(&theirs, &name).await, world.secret(&same, &name).await], before);
}

#[tokio::test]
async fn a_persons_secret_that_goes_makes_room() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_secret(&namespace, &name, REGISTRY, "of a person").await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.status(&name, |status| status.conflicts.as_ref().is_some_and(|conflicts| conflicts.count == 1)).await;
    world.secrets(&namespace).delete(&name, &DeleteParams::default()).await.unwrap();
    world.copy(&namespace, &name, "one").await;
    world.status(&name, |status| status.conflicts.as_ref().is_some_and(|conflicts| conflicts.count == 0)).await;
}

#[tokio::test]
async fn a_namespace_that_the_selector_stops_serving_loses_its_copy_at_once() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let selector = json!({"namespaceSelector": {"matchLabels": {"tier": "gold"}}});
    world.put_rule(&name, selector).await;
    let served = world.namespace("served", json!({"tier": "gold"})).await;
    let other = world.namespace("other", json!({"tier": "tin"})).await;
    for namespace in [&served, &other] {
        world.put_pod(namespace, "app", &[&name]).await;
    }
    world.copy(&served, &name, "one").await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    let label = |tier: &str| Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    namespaces.patch(&other, &PatchParams::default(), &label("gold")).await.unwrap();
    world.copy(&other, &name, "one").await;
    namespaces.patch(&served, &PatchParams::default(), &label("tin")).await.unwrap();
    world.no_copy(&served, &name).await;
    world.put_rule(&name, json!({"namespaceSelector": {"matchLabels": {"tier": "none"}}})).await;
    world.no_copy(&other, &name).await;
    world.status(&name, |status| status.namespaces == Some(0)).await;
}

#[tokio::test]
async fn a_shadow_rule_has_no_copies_and_an_eager_one_needs_no_pods() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({"of": name})).await;
    let spec =
        |mode: &str| json!({"mode": mode, "distribution": "Eager", "namespaceSelector": {"matchLabels": {"of": name}}});
    world.put_rule(&name, spec("Inject")).await;
    world.copy(&namespace, &name, "one").await;
    world.put_rule(&name, spec("Shadow")).await;
    world.no_copy(&namespace, &name).await;
    assert_eq!(world.reason(&name, "Shadow").await.namespaces, Some(0));
    world.put_rule(&name, spec("Inject")).await;
    world.copy(&namespace, &name, "one").await;
    let late = world.namespace("late", json!({"of": name})).await;
    world.copy(&late, &name, "one").await;
}

#[tokio::test]
async fn a_copy_that_nothing_uses_is_reclaimed() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({"reclaimAfter": "1s"})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &namespace);
    // A Pod that has ended needs nothing, and nobody else does.
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("app", &PatchParams::default(), &ended).await.unwrap();
    world.no_copy(&namespace, &name).await;
    world.put_pod(&namespace, "again", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
}

#[tokio::test]
async fn a_copy_that_somebody_edits_freezes_or_deletes_comes_back() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_rule(&name, json!({})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let uid = world.copy(&namespace, &name, "one").await.uid();
    let secrets = world.secrets(&namespace);
    let edit = |patch: serde_json::Value| {
        let (secrets, name) = (secrets.clone(), name.clone());
        async move { secrets.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap() }
    };
    edit(json!({"stringData": {".dockerconfigjson": "{\"auths\":{}}"}})).await;
    assert_eq!(world.copy(&namespace, &name, "one").await.uid(), uid);
    edit(json!({"metadata": {"labels": {"pullcred.io/rule": "else"}}})).await;
    wait_for("the label", LIMIT, async || {
        let secret = world.secret(&namespace, &name).await?;
        (secret.labels()["pullcred.io/rule"] == name).then_some(())
    })
    .await;
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    let second = world.copy(&namespace, &name, "one").await.uid();
    assert_ne!(second, uid);
    edit(json!({"immutable": true})).await;
    wait_for("the copy to be replaced", LIMIT, async || {
        let secret = world.secret(&namespace, &name).await?;
        (secret.uid() != second && secret.immutable != Some(true)).then_some(())
    })
    .await;
    assert_eq!(password_of(&world.secret(&namespace, &name).await.unwrap(), REGISTRY).as_deref(), Some("one"));
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), "default");
    wait_for("the event", LIMIT, async || {
        let events = events.list(&kube::api::ListParams::default()).await.unwrap();
        let of_rule = |event: &k8s_openapi::api::events::v1::Event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name.as_str())
                && event.reason.as_deref() == Some("CopyReplaced")
        };
        events.items.iter().any(of_rule).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_two_rules_with_one_name_the_older_serves_and_the_other_says_so() {
    let world = World::new().await;
    let (name, younger) = (world.name("regcred"), world.name("younger"));
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    world.put_source(&younger, REGISTRY, "two").await;
    let namespace = world.namespace("team", json!({"of": name})).await;
    let only = json!({"matchLabels": {"of": name}});
    world.put_rule(&name, json!({"namespaceSelector": only})).await;
    // Times of creation are whole seconds; between equals names decide, and "regcred" comes before "younger".
    world.put_rule(&younger, json!({"namespaceSelector": only, "secretName": name})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    let status = world.status(&younger, |status| message_of(status).contains("older rule")).await;
    assert!(message_of(&status).contains(&namespace), "{}", message_of(&status));
    world.rules().delete(&name, &DeleteParams::default()).await.unwrap();
    world.copy(&namespace, &name, "two").await;
}

#[tokio::test]
async fn a_pod_that_lacks_the_reference_is_missed_and_one_that_waits_in_vain_is_told() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    let namespace = world.namespace("team", json!({"of": name})).await;
    world.put_rule(&name, json!({"namespaceSelector": {"matchLabels": {"of": name}}})).await;
    world.put_pod(&namespace, "missed", &[]).await;
    world.put_pod(&namespace, "waits", &[&name]).await;
    world.status(&name, |status| status.missed == Some(1)).await;
    world.reason(&name, "SourceMissing").await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), &namespace);
    let event = wait_for("the event", LIMIT, async || {
        let events = events.list(&kube::api::ListParams::default()).await.unwrap();
        events.items.into_iter().find(|event| event.reason.as_deref() == Some("PullSecretNotProvided"))
    })
    .await;
    assert_eq!(event.regarding.unwrap().name.as_deref(), Some("waits"));
    assert!(event.note.unwrap().contains("kubectl create secret docker-registry"));
}

#[tokio::test]
async fn an_exhausted_quota_is_a_refused_write_and_says_where() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> = Api::namespaced(world.client.clone(), &namespace);
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/secrets": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    wait_for("the quota to count", LIMIT, async || quotas.get("none").await.unwrap().status?.hard).await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let status = world.reason(&name, "WriteRefused").await;
    assert!(message_of(&status).contains(&namespace), "{}", message_of(&status));
}

#[tokio::test]
async fn a_rule_that_is_given_another_secret_name_takes_the_old_copies_away() {
    let world = World::new().await;
    let (name, other) = (world.name("regcred"), world.name("other"));
    let _controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name, &other]).await;
    world.copy(&namespace, &name, "one").await;
    world.put_rule(&name, json!({"secretName": other})).await;
    world.copy(&namespace, &other, "one").await;
    world.no_copy(&namespace, &name).await;
}
