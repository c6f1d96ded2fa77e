//! Who reaches the Pods of the chart, and whom they reach.

use serde_json::{Value, json};

use crate::support::chart::{object, render, values_of};

fn policy(values: &Value, component: &str) -> Value {
    let objects = render("pullcred", "registry-access", values).unwrap();
    let policy = &object(&objects, "NetworkPolicy", &format!("pullcred-{component}"))["spec"];
    let deployment = object(&objects, "Deployment", &format!("pullcred-{component}"));
    assert_eq!(policy["podSelector"], deployment["spec"]["selector"]);
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    policy.clone()
}

fn ports(rules: &Value) -> Vec<String> {
    let rules = rules.as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap().iter());
    rules
        .map(|port| format!("{} {}", port["protocol"].as_str().unwrap(), port["port"].to_string().trim_matches('"')))
        .collect()
}

#[test]
fn the_webhook_is_reached_on_its_ports_and_reaches_api_servers_alone() {
    let policy = policy(&json!({}), "webhook");
    assert_eq!(ports(&policy["ingress"]), ["TCP https", "TCP admin"]);
    assert_eq!(ports(&policy["egress"]), ["TCP 443", "TCP 6443", "TCP 8443", "TCP 16443"]);
    assert!(!policy.to_string().contains("from") && !policy.to_string().contains("\"to\""));
}

/// The port on which a plugin or Google answers is among those of API servers.
#[test]
fn the_controller_finds_names_and_calls_outside() {
    let policy = policy(&json!({}), "controller");
    assert_eq!(ports(&policy["ingress"]), ["TCP admin"]);
    let egress = ports(&policy["egress"]);
    assert_eq!(egress, ["TCP 443", "TCP 6443", "TCP 8443", "TCP 16443", "UDP 53", "TCP 53", "UDP 5353", "TCP 5353"]);
}

#[test]
fn a_person_says_who_calls_who_reads_metrics_and_what_is_reached() {
    let values = json!({"networkPolicy": values_of("everything")["networkPolicy"]});
    let webhook = policy(&values, "webhook");
    assert_eq!(
        webhook["ingress"][0]["from"],
        json!([{"ipBlock": {"cidr": "10.0.0.0/28"}}, {"ipBlock": {"cidr": "fd00::/64"}}])
    );
    assert_eq!(webhook["ingress"][1]["from"], values["networkPolicy"]["metricsFrom"]);
    assert_eq!(ports(&webhook["egress"]), ["TCP 6443"]);
    let controller = policy(&values, "controller");
    assert_eq!(controller["ingress"][0]["from"], values["networkPolicy"]["metricsFrom"]);
    assert_eq!(controller["egress"].as_array().unwrap().last(), values["networkPolicy"]["controllerEgress"].get(0));
}

/// It has no port, so that nobody reaches it.
#[test]
fn the_test_reaches_api_servers_alone() {
    let objects = render("pullcred", "registry-access", &json!({})).unwrap();
    let policy = &object(&objects, "NetworkPolicy", "pullcred-test")["spec"];
    let labels = &object(&objects, "Pod", "pullcred-test")["metadata"]["labels"];
    for (key, value) in policy["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], *value);
    }
    assert!(policy["ingress"].is_null() && policy["policyTypes"] == json!(["Ingress", "Egress"]));
    assert_eq!(ports(&policy["egress"]), ["TCP 443", "TCP 6443", "TCP 8443", "TCP 16443"]);
}

#[test]
fn without_them_there_are_none() {
    let objects = render("pullcred", "registry-access", &json!({"networkPolicy": {"enabled": false}})).unwrap();
    assert!(!objects.iter().any(|object| object["kind"] == "NetworkPolicy"));
}
