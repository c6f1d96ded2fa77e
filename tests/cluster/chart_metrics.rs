//! What the chart lets Prometheus read, and its alerts: every series that they name is there, every runbook is written. Whether they
//! fire is tested with promtool (`.ci/run chart`, `tests/chart/alerts.yaml`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use super::chart_accepted::{definitions, namespace};
use super::cluster::pod_of;
use crate::support::chart::{object, plane, render, values_of};
use crate::support::controller::Controller;
use crate::support::pods::rule;
use crate::support::program::Webhook;
use crate::support::wait_for;

fn alerts(values: &Value) -> Vec<Value> {
    let objects = render("pullcred", "registry-access", values).unwrap();
    let rules = object(&objects, "PrometheusRule", "pullcred");
    rules["spec"]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn with_alerts() -> Value {
    json!({"metrics": {"prometheusRule": {"enabled": true}}})
}

/// Series with the labels that an expression asks for, `name` -> `label` -> values.
fn asked(expression: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut found = BTreeMap::new();
    for (at, _) in expression.match_indices('{') {
        let (before, after) = (&expression[..at], &expression[at + 1..]);
        let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let labels: &mut BTreeMap<String, BTreeSet<String>> = found.entry(name.to_owned()).or_default();
        for matcher in after.split('}').next().unwrap().split(", ") {
            let (label, values) = matcher.split_once('=').unwrap();
            let values = values.trim_start_matches('~').trim_matches('"').split('|').map(ToOwned::to_owned);
            labels.entry(label.to_owned()).or_default().extend(values);
        }
    }
    found
}

/// A misspelt series is an alert that never fires.
#[tokio::test]
async fn every_series_that_an_alert_names_is_there() {
    let plane = plane().await;
    let client = plane.client().await;
    definitions(&client).await;
    let webhook = Webhook::start(&rule("regcred", &["asia.gcr.io"]), &[]).await;
    namespace(&client, "metrics", json!({})).await;
    let managing = ["--webhook-configuration", "none-of-this-name"];
    let controller = Controller::start(&plane.kubeconfig, "metrics", &managing).await;
    let mut pages = Vec::new();
    pages.push(webhook.admin("/metrics").await.unwrap().1);
    pages.push(controller.admin("/metrics").await.unwrap().1);
    for (policy, counted) in [
        ("Ignore", "apiserver_admission_webhook_fail_open_count{"),
        ("Fail", "apiserver_admission_webhook_rejection_count{"),
    ] {
        pages.push(calls_that_failed(&client, policy, counted).await);
    }
    let pages = pages.join("\n");
    let series: Vec<&str> = pages.lines().filter(|line| !line.starts_with('#')).collect();

    let mut count = 0;
    for alert in alerts(&with_alerts()) {
        let expression = alert["expr"].as_str().unwrap();
        for (name, labels) in asked(expression) {
            let lines: Vec<&&str> = series.iter().filter(|line| line.split(['{', ' ']).next() == Some(&name)).collect();
            assert!(!lines.is_empty(), "{}: nobody has {name}", alert["alert"]);
            count += 1;
            for (label, values) in labels {
                // Where it was read: the operator adds these.
                if ["namespace", "service"].contains(&label.as_str()) {
                    continue;
                }
                for value in values {
                    let pair = format!("{label}=\"{value}\"");
                    assert!(lines.iter().any(|line| line.contains(&pair)), "{}: no {name} with {pair}", alert["alert"]);
                }
            }
        }
    }
    assert!(count >= 18, "{count}");
}

/// What the API server counts when it cannot call a webhook of our name.
async fn calls_that_failed(client: &Client, policy: &str, counted: &str) -> String {
    let name = &format!("on-failure-{}", policy.to_lowercase());
    namespace(client, name, json!({})).await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configuration = serde_json::from_value(json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "inject.pullcred.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": policy,
            "clientConfig": {"url": "https://127.0.0.1:1/mutate"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    }));
    configurations.create(&PostParams::default(), &configuration.unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let trial = serde_json::from_value(pod_of("trial", &["asia.gcr.io/app"])).unwrap();
    let page = wait_for("a call that fails", Duration::from_secs(30), async || {
        // Its account may not be there yet.
        let _ = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &trial).await;
        let page = client.request_text(http::Request::get("/metrics").body(Vec::new()).unwrap()).await.unwrap();
        let mut lines = page.lines().filter(|line| line.starts_with(counted));
        lines.any(|line| line.contains("name=\"inject.pullcred.io\"")).then_some(page)
    })
    .await;
    configurations.delete(name, &DeleteParams::default()).await.unwrap();
    page
}

#[test]
fn every_alert_has_a_runbook_and_a_summary() {
    let document = include_str!("../../docs/alerts.md");
    let mut names = BTreeSet::new();
    for alert in alerts(&with_alerts()) {
        let name = alert["alert"].as_str().unwrap();
        let heading = format!("## {name}\n");
        assert!(document.contains(&heading), "docs/alerts.md has no {heading}");
        let runbook = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(
            runbook,
            format!("https://github.com/pullcred/pullcred/blob/main/docs/alerts.md#{}", name.to_lowercase())
        );
        assert!(!alert["annotations"]["summary"].as_str().unwrap().is_empty());
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()));
        names.insert(name.to_owned());
    }
    let headings = document.lines().filter_map(|line| line.strip_prefix("## ")).map(ToOwned::to_owned);
    assert_eq!(headings.collect::<BTreeSet<_>>(), names);
}

/// Later than any renewal, however short a life is: half of what is left then, and five days at most.
#[test]
fn a_certificate_that_ends_is_told_after_it_should_have_been_renewed() {
    let threshold = |certificates: Value| {
        let mut values = with_alerts();
        values["certificates"] = certificates;
        let alerts = alerts(&values);
        let alert = alerts.iter().find(|alert| alert["alert"] == "PullcredCertificateExpires").unwrap();
        alert["expr"].as_str().unwrap().rsplit_once("- time() < ").unwrap().1.parse::<u64>().unwrap()
    };
    let hour = 3600;
    let managed = |leaf: &str| json!({"managed": {"leafLifetime": leaf}});
    let of_cert_manager = |before: &str| json!({"mode": "certManager", "certManager": {"renewBefore": before}});
    #[rustfmt::skip]
    let table = [
        (json!({}),                                      120 * hour),
        (managed("720h"),                                120 * hour),
        (managed("4000h"),                               120 * hour),
        (managed("240h"),                                40 * hour),
        (managed("6h"),                                  hour),
        (managed("1h30m3.6s"),                           900),
        (of_cert_manager("240h"),                        120 * hour),
        (of_cert_manager("500h"),                        120 * hour),
        (of_cert_manager("48h"),                         24 * hour),
        (values_of("existing-secret")["certificates"].clone(), 120 * hour),
    ];
    for (certificates, seconds) in table {
        assert_eq!(threshold(certificates.clone()), seconds, "{certificates}");
    }
}

/// The controller alone knows about certificates of its own.
#[test]
fn alerts_are_about_what_the_values_install() {
    let has = |values: &Value| alerts(values).iter().any(|alert| alert["alert"] == "PullcredCertificatesFail");
    assert!(has(&with_alerts()));
    let mut values = values_of("cert-manager");
    values["metrics"] = with_alerts()["metrics"].clone();
    assert!(!has(&values));
}

/// The Service finds the Pods of both Deployments and not that of the test, ready or not.
#[test]
fn metrics_of_every_pod_are_read() {
    let objects = render("pullcred", "registry-access", &values_of("everything")).unwrap();
    let service = object(&objects, "Service", "credentials-metrics");
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    let selects = |labels: &Value| {
        service["spec"]["selector"].as_object().unwrap().iter().all(|(key, value)| labels[key] == *value)
    };
    for component in ["webhook", "controller"] {
        let deployment = object(&objects, "Deployment", &format!("credentials-{component}"));
        assert!(selects(&deployment["spec"]["template"]["metadata"]["labels"]), "{component}");
    }
    assert!(!selects(&object(&objects, "Pod", "credentials-test")["metadata"]["labels"]));
    let monitor = &object(&objects, "ServiceMonitor", "credentials");
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][key], *value);
    }
    assert_eq!(monitor["spec"]["endpoints"], json!([{"port": "admin", "path": "/metrics", "interval": "15s"}]));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    // By default nothing of it needs the operator's definitions.
    let objects = render("pullcred", "registry-access", &json!({})).unwrap();
    assert!(!objects.iter().any(|object| object["apiVersion"].as_str().unwrap().starts_with("monitoring.coreos.com")));
}
