//! The reviews that the benches ask about are what a real API server sends: recorded by this test, and compared with what one
//! sends today. `PULLCRED_RECORD=1` records them again.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::calls_as_the_api_server_does::{Act, Scripted, register};
use super::cluster::Cluster;

/// A Pod as a Deployment makes it from a short manifest.
fn small() -> Value {
    json!({
        "metadata": {
            "generateName": "app-7d4b9c6f5-",
            "labels": {"app": "app", "pod-template-hash": "7d4b9c6f5"},
        },
        "spec": {"containers": [{"name": "app", "image": "asia.gcr.io/my-project/app:1.4.2", "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

/// A Pod as platforms make them: many variables, probes, volumes, a sidecar, an init container.
fn large() -> Value {
    let variable =
        |n: usize| json!({"name": format!("APP_SETTING_{n:02}"), "value": format!("value-{n}.of.a.setting.example")});
    let from_secret = |n: usize| json!({"name": format!("APP_KEY_{n:02}"), "valueFrom": {"secretKeyRef": {"name": "app-keys", "key": format!("key-{n}")}}});
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 5, "failureThreshold": 3});
    let mount = |n: usize| json!({"name": format!("config-{n}"), "mountPath": format!("/etc/app/config-{n}"), "readOnly": true});
    let security =
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    let resources = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}});
    json!({
        "metadata": {
            "generateName": "checkout-6f7c9b8d5-",
            "labels": {
                "app.kubernetes.io/name": "checkout", "app.kubernetes.io/instance": "checkout-production",
                "app.kubernetes.io/version": "2.31.0", "app.kubernetes.io/part-of": "shop", "pod-template-hash": "6f7c9b8d5",
            },
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics",
                "checksum/config": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
            },
        },
        "spec": {
            "initContainers": [
                {"name": "migrate", "image": "asia.gcr.io/my-project/checkout-migrate:2.31.0", "args": ["up", "--wait"],
                 "env": (0..4).map(variable).collect::<Vec<_>>(), "securityContext": security, "resources": resources},
                {"name": "proxy", "image": "docker.io/envoyproxy/envoy:v1.31.0", "restartPolicy": "Always",
                 "ports": [{"name": "mesh", "containerPort": 15001}], "securityContext": security, "resources": resources},
            ],
            "containers": [
                {"name": "checkout", "image": "asia.gcr.io/my-project/checkout:2.31.0",
                 "args": ["serve", "--listen=:8080", "--metrics=:9090"],
                 "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
                 "env": (0..9).map(variable).chain((0..4).map(from_secret)).collect::<Vec<_>>(),
                 "livenessProbe": probe("/livez"), "readinessProbe": probe("/readyz"), "startupProbe": probe("/startupz"),
                 "volumeMounts": (0..3).map(mount).collect::<Vec<_>>(),
                 "securityContext": security, "resources": resources},
                {"name": "exporter", "image": "quay.io/prometheus/statsd-exporter:v0.27.1",
                 "ports": [{"name": "statsd", "containerPort": 9125, "protocol": "UDP"}],
                 "securityContext": security, "resources": resources},
            ],
            "volumes": (0..3).map(|n| json!({"name": format!("config-{n}"), "configMap": {"name": format!("checkout-config-{n}")}})).collect::<Vec<_>>(),
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "checkout"}},
                },
            }]}},
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "checkout"}},
            }],
        },
    })
}

/// Where values are, whatever they are: `request.object.spec.containers[].image`.
fn places(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, &format!("{at}.{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| places(item, &format!("{at}[]"), found)),
        _ => _ = found.insert(at.to_owned()),
    }
}

#[tokio::test]
async fn the_benches_ask_about_what_an_api_server_sends() {
    let cluster = Cluster::alone().await;
    let webhook = Scripted::start(&[Act::Admit]).await;
    register(&cluster, &webhook, "recorded.test.io", "/mutate", 5).await;
    for (name, pod, bytes) in [("small", small(), 2_700), ("large", large(), 12_000)] {
        cluster.try_pod(&pod, true).await.unwrap();
        let sent = webhook.body.lock().unwrap().clone();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/data/review-{name}.json"));
        if std::env::var_os("PULLCRED_RECORD").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &sent).unwrap();
        }
        let recorded = std::fs::read(&path).unwrap();
        let near = |length: usize| length.abs_diff(bytes) < bytes / 10;
        assert!(
            near(sent.len()) && near(recorded.len()),
            "{name}: {} bytes sent, {} recorded",
            sent.len(),
            recorded.len()
        );
        let places_of = |body: &[u8]| {
            let mut found = BTreeSet::new();
            places(&serde_json::from_slice(body).unwrap(), "", &mut found);
            found
        };
        let (recorded, sent) = (places_of(&recorded), places_of(&sent));
        assert_eq!(recorded, sent, "{name}: record it again, with PULLCRED_RECORD=1");
    }
}
