//! Pods created in a real API server come out with the pull secrets that their images need, and with nothing else changed.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, pod_of, secrets};
use crate::support::wait_for;

const IMAGE: &str = "asia.gcr.io/my-project/app:1";

#[tokio::test]
async fn a_pod_gets_the_secret_of_its_image() {
    let cluster = Cluster::new().await;
    let pod = cluster.create_pod(&pod_of("app", &[IMAGE])).await;
    assert_eq!(secrets(&pod), ["regcred"]);
}

#[tokio::test]
async fn pods_of_a_deployment_get_it() {
    let cluster = Cluster::new().await;
    cluster
        .create::<Deployment>(json!({
            "metadata": {"name": "app"},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [{"name": "c", "image": IMAGE}]}}
            }
        }))
        .await;
    for pod in cluster.pods_labelled("app=app", 3).await {
        assert_eq!(secrets(&pod), ["regcred"]);
    }
}

#[tokio::test]
async fn the_pod_of_a_job_gets_it() {
    let cluster = Cluster::new().await;
    cluster
        .create::<Job>(json!({
            "metadata": {"name": "once"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": IMAGE}]}}}
        }))
        .await;
    let pods = cluster.pods_labelled("job-name=once", 1).await;
    assert_eq!(secrets(&pods[0]), ["regcred"]);
}

#[tokio::test]
async fn images_of_init_containers_sidecars_and_volumes_count() {
    let cluster = Cluster::new().await;
    for (name, spec) in [
        ("init", json!({"initContainers": [{"name": "i", "image": IMAGE}]})),
        ("sidecar", json!({"initContainers": [{"name": "i", "image": IMAGE, "restartPolicy": "Always"}]})),
        ("volume", json!({"volumes": [{"name": "v", "image": {"reference": IMAGE}}]})),
    ] {
        let mut pod = pod_of(name, &["public.example/app"]);
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        assert_eq!(secrets(&cluster.create_pod(&pod).await), ["regcred"], "{name}");
    }
}

#[tokio::test]
async fn a_pods_own_list_stays_first() {
    let cluster = Cluster::new().await;
    let mut pod = pod_of("own", &[IMAGE]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "mine"}, {"name": "other"}]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["mine", "other", "regcred"]);
    let mut pod = pod_of("named", &[IMAGE]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "regcred"}, {"name": "other"}]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["regcred", "other"]);
    let mut pod = pod_of("empty", &[IMAGE]);
    pod["spec"]["imagePullSecrets"] = json!([]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["regcred"]);
    let mut pod = pod_of("null", &[IMAGE]);
    pod["spec"]["imagePullSecrets"] = Value::Null;
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["regcred"]);
}

#[tokio::test]
async fn the_list_of_the_service_account_is_merged_and_not_replaced() {
    let cluster = Cluster::new().await;
    cluster
        .create::<ServiceAccount>(
            json!({"metadata": {"name": "deployer"}, "imagePullSecrets": [{"name": "of-account"}]}),
        )
        .await;
    let mut pod = pod_of("app", &[IMAGE]);
    pod["spec"]["serviceAccountName"] = json!("deployer");
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["of-account", "regcred"]);
}

#[tokio::test]
async fn two_registries_in_one_pod_give_two_secrets() {
    let cluster = Cluster::new().await;
    let pod = pod_of("two", &["registry.example.com:5000/team/app", IMAGE]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["example-registry", "regcred"]);
}

#[tokio::test]
async fn a_docker_hub_short_name_is_an_image_of_docker_io() {
    let cluster = Cluster::new().await;
    assert_eq!(secrets(&cluster.create_pod(&pod_of("team", &["my-team/app"])).await), ["hub"]);
    assert_eq!(secrets(&cluster.create_pod(&pod_of("nginx", &["nginx"])).await), [""; 0]);
}

#[tokio::test]
async fn a_look_alike_host_gets_nothing() {
    let cluster = Cluster::new().await;
    for (name, image) in [
        ("evil", "asia.gcr.io.evil.example/app"),
        ("port", "asia.gcr.io:8443/app"),
        ("path", "evil.example/asia.gcr.io/app"),
    ] {
        assert_eq!(secrets(&cluster.create_pod(&pod_of(name, &[image])).await), [""; 0], "{image}");
    }
}

#[tokio::test]
async fn a_dry_run_shows_what_would_happen() {
    let cluster = Cluster::new().await;
    let pod = cluster.try_pod(&pod_of("dry", &[IMAGE]), true).await.unwrap();
    assert_eq!(secrets(&pod), ["regcred"]);
    assert!(cluster.api::<Pod>().get_opt("dry").await.unwrap().is_none());
}

#[tokio::test]
async fn a_mirror_pod_is_left_alone() {
    let cluster = Cluster::new().await;
    // With any reference to a Secret the API server would refuse it.
    let mut pod = pod_of("static", &[IMAGE]);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    pod["spec"]["nodeName"] = json!("node-1");
    assert_eq!(secrets(&cluster.create_pod(&pod).await), [""; 0]);
}

#[tokio::test]
async fn a_pod_of_one_megabyte_is_no_trouble() {
    let cluster = Cluster::new().await;
    let mut pod = pod_of("large", &[IMAGE]);
    pod["spec"]["containers"][0]["args"] = json!(["x".repeat(1024 * 1024)]);
    let created = cluster.create_pod(&pod).await;
    assert_eq!(secrets(&created), ["regcred"]);
    assert_eq!(created.spec.unwrap().containers[0].args.as_ref().unwrap()[0].len(), 1024 * 1024);
}

#[tokio::test]
async fn fields_that_no_version_knows_today_are_no_trouble() {
    let cluster = Cluster::new().await;
    let mut pod = pod_of("future", &[IMAGE]);
    pod["spec"]["fieldOfTomorrow"] = json!({"containers": "r.io/app", "imagePullSecrets": 7});
    pod["spec"]["containers"][0]["imageOfTomorrow"] = json!(["x"]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), ["regcred"]);
}

#[tokio::test]
async fn nothing_but_the_pull_secrets_differs_from_a_pod_made_without_us() {
    let (with, without) = (Cluster::new().await, Cluster::alone().await);
    let mut pod = pod_of("app", &[IMAGE, "nginx"]);
    pod["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    let strip = |created: Pod| {
        let mut spec = serde_json::to_value(created.spec.unwrap()).unwrap();
        let spec_map = spec.as_object_mut().unwrap();
        spec_map.remove("imagePullSecrets");
        // The ServiceAccount's token volume gets a random name in each Pod.
        let volume = spec_map["volumes"][0]["name"].as_str().unwrap().to_owned();
        serde_json::to_string(&spec).unwrap().replace(&volume, "token")
    };
    let (mine, theirs) = (with.create_pod(&pod).await, without.create_pod(&pod).await);
    assert_eq!((secrets(&mine), secrets(&theirs)), (vec!["regcred"], vec![]));
    assert_eq!(strip(mine), strip(theirs));
}

/// With webhooks that patch on UPDATE, finalizers could not be removed and Pods would hang in Terminating for ever.
#[tokio::test]
async fn an_old_pod_can_be_changed_and_deleted_with_the_webhook_registered_for_update_too() {
    let cluster = Cluster::alone().await;
    let mut pod = pod_of("old", &[IMAGE]);
    pod["metadata"]["finalizers"] = json!(["tests/hold"]);
    assert_eq!(secrets(&cluster.create_pod(&pod).await), [""; 0], "created before there was a webhook");

    let webhook = crate::support::program::Webhook::start(super::cluster::RULES, &[]).await;
    let operations = ["CREATE", "UPDATE", "DELETE"];
    cluster.register("update.pullcred.io", &webhook, &operations, "Fail", Some(&cluster.namespace)).await;
    cluster.wait_until_injected(IMAGE).await;

    let pods = cluster.api::<Pod>();
    let label = Patch::Merge(json!({"metadata": {"labels": {"changed": "yes"}}}));
    pods.patch("old", &PatchParams::default(), &label).await.unwrap();
    let debug = Patch::Strategic(json!({"spec": {"ephemeralContainers": [{"name": "d", "image": IMAGE}]}}));
    pods.patch_ephemeral_containers("old", &PatchParams::default(), &debug).await.unwrap();
    pods.delete("old", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get("old").await.unwrap().metadata.deletion_timestamp.is_some(), "the finalizer holds it");
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let changed = pods.patch("old", &PatchParams::default(), &release).await.unwrap();
    assert_eq!(secrets(&changed), [""; 0]);
    let limit = std::time::Duration::from_secs(20);
    wait_for("the Pod to go", limit, async || pods.get_opt("old").await.unwrap().is_none().then_some(())).await;
}
