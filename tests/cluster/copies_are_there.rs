//! The Secret that a Pod references is there, holds only what is needed, and follows its source; what is not ours stays.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use pullcred::rules::{PullSecret, crds};
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
    let source = world.secret(&world.release, &name).await.unwrap();
    let other = world.namespace("other", json!({})).await;
    world.put_pod(&other, "app", &[&name]).await;
    world.copy(&other, &name, "one").await;
    assert_eq!(world.secret(&world.release, &name).await.unwrap(), source);
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
    let controller = world.controller().await;
    let not_ready = async |reason: &str, count: usize| {
        let line = format!("pullcred_controller_rules_not_ready{{reason=\"{reason}\"}} {count}");
        wait_for(&line, LIMIT, async || controller.admin("/metrics").await?.1.contains(&line).then_some(())).await;
    };
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
    not_ready("SourceMissing", 1).await;
    let namespace = world.namespace("late", json!({})).await;
    // What was good last goes to new namespaces too.
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "two").await;
    world.put_source(&name, "elsewhere.example", "three").await;
    let status = world.reason(&name, "SourceInvalid").await;
    assert!(message_of(&status).contains("elsewhere.example"), "{}", message_of(&status));
    world.copy(&copies[0].0, &name, "two").await;
    not_ready("SourceMissing", 0).await;
    not_ready("SourceInvalid", 1).await;
    world.put_source(&name, REGISTRY, "four").await;
    world.reason(&name, "Provided").await;
    not_ready("SourceInvalid", 0).await;
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

/// One edit gives a rule another source and more namespaces. What the former source gave is not for those.
#[tokio::test]
async fn a_rule_that_is_given_another_source_puts_nothing_of_the_former_one_anywhere() {
    let world = World::new().await;
    let (name, production, trial) = (world.name("regcred"), world.name("one"), world.name("other"));
    let _controller = world.controller().await;
    world.put_source(&production, REGISTRY, "one").await;
    let served = world.namespace("served", json!({"tier": "gold"})).await;
    let other = world.namespace("other", json!({})).await;
    let selector = json!({"matchLabels": {"tier": "gold"}});
    world.put_rule(&name, json!({"source": {"secretRef": {"name": production}}, "namespaceSelector": selector})).await;
    for namespace in [&served, &other] {
        world.put_pod(namespace, "app", &[&name]).await;
    }
    world.copy(&served, &name, "one").await;
    world.put_rule(&name, json!({"source": {"secretRef": {"name": trial}}})).await;
    world.reason(&name, "SourceMissing").await;
    // By then it would have been written.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.secret(&other, &name).await.is_none());
    world.copy(&served, &name, "one").await;
    world.put_source(&trial, REGISTRY, "two").await;
    for namespace in [&served, &other] {
        world.copy(namespace, &name, "two").await;
    }
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
    wait_for("the event", LIMIT, async || {
        let of_rule = |event: &Event| event.regarding.as_ref().and_then(|of| of.name.as_deref()) == Some(name.as_str());
        world.events("default", "CopyReplaced").await.iter().any(of_rule).then_some(())
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
    // Two that lack it as they should.
    let left_out = world.namespace("left-out", json!({"of": name, "pullcred.io/inject": "disabled"})).await;
    world.put_pod(&left_out, "app", &[]).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &namespace);
    world.put_pod(&namespace, "left-out", &[]).await;
    world.status(&name, |status| status.missed == Some(1)).await;
    let label = json!({"metadata": {"labels": {"pullcred.io/inject": "disabled"}}});
    pods.patch("left-out", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    world.status(&name, |status| status.missed == Some(0)).await;
    world.put_pod(&namespace, "missed", &[]).await;
    world.put_pod(&namespace, "waits", &[&name]).await;
    world.status(&name, |status| status.missed == Some(1)).await;
    world.reason(&name, "SourceMissing").await;
    let event = world.told(&namespace, "PullSecretNotProvided").await;
    assert_eq!(event.regarding.unwrap().name.as_deref(), Some("waits"));
    assert!(event.note.unwrap().contains("kubectl create secret docker-registry"));
    // Its successor is told too.
    pods.delete("waits", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.put_pod(&namespace, "successor", &[&name]).await;
    wait_for("the successor to be told", LIMIT, async || {
        let about = |event: &Event| event.regarding.as_ref().and_then(|regarding| regarding.name.clone());
        let events = world.events(&namespace, "PullSecretNotProvided").await;
        events.iter().any(|event| about(event).as_deref() == Some("successor")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_teams_rule_says_that_it_is_in_force_and_how_many_pods_it_has_missed() {
    let world = World::new().await;
    let _controller = world.controller().await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "missed", &[]).await;
    let rules: Api<PullSecret> = Api::namespaced(world.client.clone(), &namespace);
    let spec = json!({"images": [REGISTRY], "secretName": "own"});
    let rule =
        json!({"apiVersion": "pullcred.io/v1alpha1", "kind": "PullSecret", "metadata": {"name": "team"}, "spec": spec});
    rules.patch("team", &PatchParams::apply("kubectl").force(), &Patch::Apply(rule)).await.unwrap();
    let status = async |missed| {
        wait_for(&format!("a status with {missed} missed"), LIMIT, async || {
            rules.get("team").await.unwrap().status.filter(|status| status.missed == Some(missed))
        })
        .await
    };
    let condition = status(1).await.conditions.unwrap().remove(0);
    assert_eq!(
        (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()),
        ("Ready", "True", "Unmanaged")
    );
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &namespace);
    pods.delete("missed", &DeleteParams::default().grace_period(0)).await.unwrap();
    status(0).await;
}

/// As definitions would be that know more modes: such an object must not make all others unreadable.
#[tokio::test]
async fn a_rule_that_only_a_newer_version_can_read_is_left_out_alone_and_says_so() {
    let world = World::alone().await;
    let (name, newer) = (world.name("regcred"), world.name("other"));
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for crd in crds() {
        let mut crd = serde_json::to_value(crd).unwrap();
        let spec = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec["mode"]["enum"].as_array_mut().unwrap().push("Newer".into());
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        definitions.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(crd)).await.unwrap();
    }
    world.put_source(&name, REGISTRY, "one").await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    // As what the API stores, and not as a type of ours.
    let put = async |kind: &str, path: &str, name: &str, spec: serde_json::Value| {
        let rule =
            json!({"apiVersion": "pullcred.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let path = format!("/apis/pullcred.io/v1alpha1/{path}");
        let put = async || {
            let request = http::Request::post(&path).header("content-type", "application/json");
            world.client.request::<serde_json::Value>(request.body(rule.to_string().into_bytes()).unwrap()).await.ok()
        };
        wait_for("the definition to be in force", LIMIT, put).await;
    };
    let spec = json!({"images": [REGISTRY], "namespaceSelector": {}, "mode": "Newer"});
    put("ClusterPullSecret", "clusterpullsecrets", &newer, spec).await;
    put(
        "PullSecret",
        &format!("namespaces/{namespace}/pullsecrets"),
        "newer",
        json!({"images": [REGISTRY], "mode": "Newer"}),
    )
    .await;
    let controller = world.controller().await;
    world.put_rule(&name, json!({})).await;
    world.copy(&namespace, &name, "one").await;
    for path in [format!("clusterpullsecrets/{newer}"), format!("namespaces/{namespace}/pullsecrets/newer")] {
        let condition = wait_for("the condition", LIMIT, async || {
            let request = http::Request::get(format!("/apis/pullcred.io/v1alpha1/{path}")).body(Vec::new()).unwrap();
            let object: serde_json::Value = world.client.request(request).await.unwrap();
            object["status"]["conditions"].get(0).cloned()
        })
        .await;
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("SourceInvalid")), "{path}");
        let message = condition["message"].as_str().unwrap();
        assert!(message.contains("it may be of a newer version") && message.contains("Newer"), "{message}");
    }
    assert!(!controller.log().contains("cannot be watched"), "{}", controller.log());
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
    let told = world.told(&namespace, "PullSecretNotProvided").await;
    assert!(told.note.as_ref().unwrap().contains("exceeded quota"), "{told:?}");
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    // It is tried again every 30 seconds.
    wait_for("the copy", Duration::from_secs(45), async || world.secret(&namespace, &name).await).await;
    world.reason(&name, "Provided").await;
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

#[tokio::test]
async fn copies_of_the_secret_name_before_go_away_though_no_controller_saw_the_change() {
    let world = World::new().await;
    let (name, other) = (world.name("regcred"), world.name("other"));
    let controller = world.controller().await;
    world.put_source(&name, REGISTRY, "one").await;
    let (namespace, kept) = (world.namespace("team", json!({})).await, world.namespace("kept", json!({})).await);
    world.put_rule(&name, json!({})).await;
    world.put_pod(&namespace, "app", &[&name, &other]).await;
    world.put_pod(&kept, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    world.copy(&kept, &name, "one").await;
    drop(controller);
    world.put_rule(&name, json!({"secretName": other})).await;
    let _controller = world.controller().await;
    world.copy(&namespace, &other, "one").await;
    world.no_copy(&namespace, &name).await;
    world.no_copy(&kept, &name).await;
}
