//! What the two identities of the chart may do, and what stops them: real requests with real tokens to a real API server.
//!
//! What is refused is asked in earnest; what is allowed is asked as a dry run, which is authorised and admitted alike.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use crate::support::chart::{self, Installed};
use crate::support::control_plane::ControlPlane;
use crate::support::wait_for;
use By::{Allowed, Api, Policy, Rbac};

/// What decides about a request.
#[derive(Clone, Copy, Debug)]
enum By {
    Allowed,
    /// Refused: no role gives the right.
    Rbac,
    /// Refused by a policy of the chart, with these words.
    Policy(&'static str),
    /// Refused by the API itself, with these words.
    Api(&'static str),
}

/// A verb of the API, what it is about, and what is sent.
struct Ask(&'static str, String, Value);

const RELEASE: &str = "pullcred-rights";
const TEAM: &str = "rights-team";

const TYPE: &str = "writes only Secrets of type kubernetes.io/dockerconfigjson";
const COPY_TYPE: &str = "writes only copies of type";
const NAME: &str = "add it to the value rbac.secretNames";
const LABEL: &str = "with the label app.kubernetes.io/managed-by: pullcred";
const OWNER: &str = "that a ClusterPullSecret owns, and nobody else";
const FOREIGN: &str = "changes and deletes only Secrets that a ClusterPullSecret owns";
const LABELS: &str = "adds no labels";
const ANNOTATIONS: &str = "adds no annotations";
const FINALIZERS: &str = "adds no finalizers";
const BESIDE: &str = "writes no Secrets in its own namespace";
const LEASE: &str = "writes no Lease but";
const EVENT: &str = "writes no events but its own";
const CABUNDLE: &str = "nothing of its webhook configuration but caBundle";

#[tokio::test]
async fn the_webhook_reads_rules_and_its_certificate_and_nothing_else() {
    let installed = installed().await;
    let beside = |what: &str| format!("/api/v1/namespaces/{RELEASE}/{what}");
    let team = |what: &str| format!("/api/v1/namespaces/{TEAM}/{what}");
    let rules = |what: &str| format!("/apis/pullcred.io/v1alpha1/{what}");
    let admission = |what: &str| format!("/apis/admissionregistration.k8s.io/v1/{what}");
    let name = &installed.name;
    #[rustfmt::skip]
    let table = [
        (get(rules("clusterpullsecrets")),                                        Allowed),
        (watch(rules("clusterpullsecrets?")),                                     Allowed),
        (get(rules("pullsecrets")),                                               Allowed),
        (get("/api/v1/namespaces"),                                               Allowed),
        (get(rules("clusterpullsecrets/rights")),                                 Rbac),
        (get(format!("/api/v1/namespaces/{TEAM}")),                               Rbac),
        (get(beside("secrets/pullcred-tls")),                                     Rbac),
        (get(beside("secrets?fieldSelector=metadata.name=pullcred-tls")),         Allowed),
        (watch(beside("secrets?fieldSelector=metadata.name=pullcred-tls&")),      Allowed),
        (get(beside("secrets/pullcred-ca")),                                      Rbac),
        (get(beside("secrets/regcred")),                                          Rbac),
        (get(beside("secrets/gcp-key")),                                          Rbac),
        (get(beside("secrets")),                                                  Rbac),
        (watch(beside("secrets?")),                                               Rbac),
        (get(team("secrets/regcred")),                                            Rbac),
        (get(team("secrets/pullcred-tls")),                                       Rbac),
        (get("/api/v1/secrets"),                                                  Rbac),
        (watch("/api/v1/secrets?"),                                               Rbac),
        (get("/api/v1/secrets?fieldSelector=metadata.name=pullcred-tls"),         Rbac),
        (get("/api/v1/secrets?fieldSelector=metadata.name=regcred"),              Rbac),
        (patch(beside("secrets/pullcred-tls"), json!({"data": {}})),              Rbac),
        (delete(beside("secrets/pullcred-tls")),                                  Rbac),
        (create(team("secrets"), copy("regcred")),                                Rbac),
        (create(beside("secrets"), token_secret("regcred")),                      Rbac),
        (patch(rules("clusterpullsecrets/rights"), json!({"spec": {}})),          Rbac),
        (patch(rules("clusterpullsecrets/rights/status"), json!({"status": {}})), Rbac),
        (patch(rules(&format!("namespaces/{TEAM}/pullsecrets/rights/status")), json!({"status": {}})), Rbac),
        (get("/api/v1/pods"),                                                     Rbac),
        (create(team("pods"), json!({"metadata": {"name": "p"}})),                Rbac),
        (create(beside(&format!("serviceaccounts/{RELEASE}-controller/token")), json!({})), Rbac),
        (get(admission("mutatingwebhookconfigurations")),                          Rbac),
        (watch(admission("mutatingwebhookconfigurations?")),                       Rbac),
        (get(admission("mutatingwebhookconfigurations/another")),                  Rbac),
        (get(admission(&format!("mutatingwebhookconfigurations/{name}"))),         Rbac),
        (get(admission(&format!("mutatingwebhookconfigurations?fieldSelector=metadata.name={name}"))), Allowed),
        (watch(admission(&format!("mutatingwebhookconfigurations?fieldSelector=metadata.name={name}&"))), Allowed),
        (patch(admission(&format!("mutatingwebhookconfigurations/{name}")), json!({})), Rbac),
        (delete(admission(&format!("mutatingwebhookconfigurations/{name}"))),       Rbac),
    ];
    check(&installed.webhook.client().await, &table).await;
}

#[tokio::test]
async fn the_controller_reads_secrets_by_permitted_names_only() {
    let installed = installed().await;
    let beside = |what: &str| format!("/api/v1/namespaces/{RELEASE}/{what}");
    let team = |what: &str| format!("/api/v1/namespaces/{TEAM}/{what}");
    #[rustfmt::skip]
    let table = [
        (get("/apis/pullcred.io/v1alpha1/clusterpullsecrets"),               Allowed),
        (get("/apis/pullcred.io/v1alpha1/pullsecrets"),                      Allowed),
        (get("/api/v1/namespaces"),                                          Allowed),
        (get("/api/v1/pods"),                                                Allowed),
        (get("/api/v1/secrets?fieldSelector=metadata.name=regcred"),         Allowed),
        (get("/api/v1/secrets?fieldSelector=metadata.name=hubcred"),         Allowed),
        (watch("/api/v1/secrets?fieldSelector=metadata.name=regcred&"),      Allowed),
        (get(team("secrets/regcred")),                                       Allowed),
        (get(beside("secrets/regcred")),                                     Allowed),
        (get("/apis/pullcred.io/v1alpha1/clusterpullsecrets/rights"),        Rbac),
        (get(format!("/api/v1/namespaces/{TEAM}")),                          Rbac),
        (get(team("pods/p")),                                                Rbac),
        (get(beside("secrets/gcp-key")),                                     Rbac),
        (get(beside("secrets?fieldSelector=metadata.name=gcp-key")),         Allowed),
        (watch(beside("secrets?fieldSelector=metadata.name=gcp-key&")),      Allowed),
        (get(beside("secrets/pullcred-tls")),                                Allowed),
        (get(beside("secrets/pullcred-ca")),                                 Allowed),
        (get("/api/v1/secrets"),                                             Rbac),
        (watch("/api/v1/secrets?"),                                          Rbac),
        (get(beside("secrets")),                                             Rbac),
        (get(team("secrets")),                                               Rbac),
        (get(team("secrets/other")),                                         Rbac),
        (get(beside("secrets/other")),                                       Rbac),
        (get("/api/v1/secrets?fieldSelector=metadata.name=other"),           Rbac),
        (get("/api/v1/secrets?fieldSelector=metadata.name!=other"),          Rbac),
        (get("/api/v1/secrets?fieldSelector=metadata.name=gcp-key"),         Rbac),
        (get(team("secrets/gcp-key")),                                       Rbac),
        (get(team("secrets/pullcred-ca")),                                   Rbac),
        (get("/api/v1/namespaces/kube-system/secrets/pullcred-tls"),         Rbac),
        (get("/api/v1/nodes"),                                               Rbac),
        (get("/api/v1/configmaps"),                                          Rbac),
    ];
    check(&installed.controller.client().await, &table).await;
}

#[tokio::test]
async fn the_controller_writes_copies_with_permitted_names_and_no_other_secret() {
    let installed = installed().await;
    let team = format!("/api/v1/namespaces/{TEAM}/secrets");
    let beside = format!("/api/v1/namespaces/{RELEASE}/secrets");
    let system = "/api/v1/namespaces/kube-system/secrets";
    let regcred = format!("{team}/regcred");
    let hubcred = format!("{team}/hubcred");
    let new = |change: Value| changed(copy("newcred"), &change);
    let metadata = |change: Value| json!({"metadata": change});
    let replicate = json!({"replicator.v1.mittwald.de/replicate-from": "kube-system/powerful"});
    let somebody = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}]);
    let both = json!([owner(), {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}]);
    let tls = json!({"type": "kubernetes.io/tls", "data": {".dockerconfigjson": null, "tls.crt": "", "tls.key": ""}});
    #[rustfmt::skip]
    let table = [
        // What it is there for.
        (create(&*team, copy("newcred")),                                               Allowed),
        (patch(&*regcred, json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})),  Allowed),
        (apply(&*regcred, copy("regcred")),                                             Allowed),
        (delete(&*regcred),                                                             Allowed),
        // The way to cluster-admin: a token that the API server fills in, read back by a permitted name.
        (create(system, token_secret("newcred")),                                       Policy(TYPE)),
        (create(&*team, token_secret("newcred")),                                       Policy(TYPE)),
        (create(&*beside, token_secret("newcred")),                                     Policy(TYPE)),
        (create(&*beside, token_secret("pullcred-tls-2")),                              Policy(TYPE)),
        (create(format!("{system}?dryRun=All"), token_secret("newcred")),               Policy(TYPE)),
        (apply(format!("{system}/newcred"), token_secret("newcred")),                   Policy(TYPE)),
        // Credentials of new nodes.
        (create(system, changed(new(json!({"type": "bootstrap.kubernetes.io/token"})), &metadata(json!({"name": "bootstrap-token-abcdef"})))), Policy(TYPE)),
        (create(&*team, new(json!({"type": "Opaque"}))),                                Policy(TYPE)),
        (create(&*team, new(tls.clone())),                                              Policy(COPY_TYPE)),
        (create(&*team, copy("other")),                                                 Policy(NAME)),
        (create(system, copy("other")),                                                 Policy(NAME)),
        (create(&*team, new(metadata(json!({"name": null, "generateName": "newcred"})))), Policy(NAME)),
        (create(&*team, new(metadata(json!({"name": "pullcred-tls"})))),                Policy(NAME)),
        (apply(format!("{team}/other"), copy("other")),                                 Rbac),
        (create(&*team, new(metadata(json!({"labels": null})))),                        Policy(LABEL)),
        (create(&*team, new(metadata(json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}})))), Policy(LABEL)),
        (create(&*team, new(metadata(json!({"ownerReferences": null})))),               Policy(OWNER)),
        (create(&*team, new(metadata(json!({"ownerReferences": somebody})))),           Policy(OWNER)),
        (create(&*team, new(metadata(json!({"ownerReferences": both})))),               Policy(OWNER)),
        // Others that would fill it with what the controller then reads.
        (create(&*team, new(metadata(json!({"annotations": replicate})))),              Policy(ANNOTATIONS)),
        (create(&*team, new(metadata(json!({"labels": {"example.com/fill-from": "x"}})))), Policy(LABELS)),
        (create(&*team, new(metadata(json!({"labels": {"example.com/allowed": "x"}})))), Allowed),
        (create(&*team, new(metadata(json!({"finalizers": ["example.com/never"]})))),   Policy(FINALIZERS)),
        // A copy stays a copy.
        (patch(&*regcred, json!({"type": "kubernetes.io/service-account-token"})),      Api("field is immutable")),
        (patch(&*regcred, metadata(json!({"labels": null}))),                           Policy(LABEL)),
        (patch(&*regcred, metadata(json!({"ownerReferences": null}))),                  Policy(OWNER)),
        (patch(&*regcred, metadata(json!({"annotations": replicate}))),                 Policy(ANNOTATIONS)),
        (patch(&*regcred, metadata(json!({"labels": {"example.com/fill-from": "x"}}))), Policy(LABELS)),
        (patch(format!("{beside}/pullcred-ca"), metadata(json!({"finalizers": ["example.com/never"]}))), Policy(FINALIZERS)),
        // A person's own Secret of a permitted name stays theirs.
        (patch(&*hubcred, json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})),  Policy(LABEL)),
        (apply(&*hubcred, copy("hubcred")),                                             Policy(FOREIGN)),
        (delete(&*hubcred),                                                             Policy(FOREIGN)),
        // Beside pullcred only its certificates, and never the sources.
        (create(&*beside, copy("newcred")),                                             Policy(BESIDE)),
        (patch(format!("{beside}/regcred"), json!({"data": {}})),                       Policy(BESIDE)),
        (delete(format!("{beside}/regcred")),                                           Policy(BESIDE)),
        (patch(format!("{beside}/gcp-key"), json!({"data": {}})),                       Rbac),
        (delete(format!("{beside}/gcp-key")),                                           Rbac),
        (patch(format!("{beside}/pullcred-tls"), json!({"data": {"tls.crt": "eA=="}})), Allowed),
        (patch(format!("{beside}/pullcred-ca"), json!({"data": {"tls.crt": "eA=="}})),  Allowed),
        (delete(format!("{beside}/pullcred-ca")),                                       Rbac),
        // Verbs that nobody needs.
        (Ask("PUT", regcred.clone(), copy("regcred")),                                  Rbac),
        (delete(&*team),                                                                Rbac),
        (delete("/api/v1/secrets"),                                                     Rbac),
    ];
    check(&installed.controller.client().await, &table).await;
}

#[tokio::test]
async fn the_controller_gains_no_further_rights() {
    let installed = installed().await;
    let controller = installed.controller.client().await;
    let name = &installed.name;
    let rbac = |what: &str| format!("/apis/rbac.authorization.k8s.io/v1/{what}");
    let admission = |what: &str| format!("/apis/admissionregistration.k8s.io/v1/{what}");
    let rule = "/apis/pullcred.io/v1alpha1/clusterpullsecrets/rights";
    let team_rule = format!("/apis/pullcred.io/v1alpha1/namespaces/{TEAM}/pullsecrets/rights");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{RELEASE}/leases");
    let events = format!("/apis/events.k8s.io/v1/namespaces/{TEAM}/events");
    let own = admission(&format!("mutatingwebhookconfigurations/{name}"));
    let webhook = webhook(installed).await;
    let entry = |change: Value| json!({"webhooks": [changed(webhook.clone(), &change)]});
    let elsewhere = json!({"clientConfig": {"url": "https://attacker.example/", "service": null}});
    let everything =
        json!({"rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]});
    let owned = json!({"metadata": {"ownerReferences": [owner()]}});
    // The policies come into force one by one.
    wait_for("the policy about the webhook configuration", Duration::from_secs(20), async || {
        send(&controller, &patch(format!("{own}?dryRun=All"), entry(elsewhere.clone()))).await.err()
    })
    .await;
    #[rustfmt::skip]
    let table = [
        (apply(format!("{rule}/status"), json!({"status": {"namespaces": 1}})),         Allowed),
        (patch(rule, json!({"spec": {"images": ["evil.example"]}})),                     Rbac),
        (delete(rule),                                                                   Rbac),
        (apply(format!("{team_rule}/status"), json!({"status": {"missed": 1}})),         Allowed),
        (patch(&*team_rule, json!({"spec": {"images": ["evil.example"]}})),              Rbac),
        (delete(&*team_rule),                                                            Rbac),
        (create(rbac("clusterrolebindings"), json!({"metadata": {"name": "x"}})),        Rbac),
        (patch(rbac(&format!("clusterroles/{name}-controller")), json!({"rules": []})),  Rbac),
        (create(format!("/api/v1/namespaces/{TEAM}/pods"), json!({})),                   Rbac),
        (create(format!("/api/v1/namespaces/{TEAM}/pods/p/exec"), json!({})),            Rbac),
        (create("/api/v1/namespaces/kube-system/serviceaccounts/default/token", json!({})), Rbac),
        (patch("/api/v1/namespaces/default/serviceaccounts/default", json!({})),         Rbac),
        (patch(format!("/api/v1/namespaces/{TEAM}"), json!({})),                         Rbac),
        (delete(admission(&format!("validatingadmissionpolicies/{name}-controller-secrets"))), Rbac),
        (delete(admission(&format!("validatingadmissionpolicybindings/{name}-controller-secrets"))), Rbac),
        (create(admission("mutatingwebhookconfigurations"), json!({})),                  Rbac),
        (patch(admission("mutatingwebhookconfigurations/another"), json!({})),           Rbac),
        (patch(admission(&format!("validatingwebhookconfigurations/{name}")), json!({})), Rbac),
        (delete(&*own),                                                                  Rbac),
        (patch(&*own, entry(json!({"clientConfig": {"caBundle": authority()}}))),        Allowed),
        (apply(&*own, json!({"webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": authority()}}]})), Allowed),
        (patch(&*own, entry(elsewhere)),                                                 Policy(CABUNDLE)),
        (patch(&*own, entry(everything)),                                                Policy(CABUNDLE)),
        (patch(&*own, entry(json!({"failurePolicy": "Fail"}))),                          Policy(CABUNDLE)),
        (patch(&*own, entry(json!({"namespaceSelector": null}))),                          Policy(CABUNDLE)),
        (patch(&*own, entry(json!({"name": "another.pullcred.io"}))),                    Policy(CABUNDLE)),
        (patch(&*own, json!({"webhooks": [webhook.clone(), changed(webhook.clone(), &json!({"name": "b.pullcred.io"}))]})), Policy(CABUNDLE)),
        (patch(&*own, json!({"webhooks": []})),                                          Policy(CABUNDLE)),
        (patch(&*own, owned),                                                            Policy(CABUNDLE)),
        (create(&*leases, json!({"metadata": {"name": "pullcred-controller"}})),         Allowed),
        (create(&*leases, json!({"metadata": {"name": "another"}})),                     Policy(LEASE)),
        (create("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", json!({"metadata": {"name": "pullcred-controller"}})), Rbac),
        (create(&*events, event("pullcred-controller")),                                 Allowed),
        (create("/apis/events.k8s.io/v1/namespaces/default/events", changed(event("pullcred-controller"), &json!({"metadata": {"namespace": "default"}, "regarding": {"namespace": "default"}}))), Allowed),
        (create(&*events, event("kubelet")),                                             Policy(EVENT)),
        (create(format!("/api/v1/namespaces/{TEAM}/events"), json!({})),                 Rbac),
        (create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "secrets"}}})), Allowed),
        (create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json!({"spec": {"namespace": "default"}})), Allowed),
    ];
    check(&controller, &table).await;

    // A status takes nothing else along.
    let body =
        json!({"spec": {"images": ["evil.example"]}, "metadata": {"labels": {"x": "y"}}, "status": {"namespaces": 1}});
    let answer = send(&controller, &patch(format!("{rule}/status?dryRun=All"), body)).await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["spec"]["images"], &answer["metadata"]["labels"]), (&json!(["never.example"]), &Value::Null));
}

// ---- words for the tables

fn get(path: impl Into<String>) -> Ask {
    Ask("GET", path.into(), Value::Null)
}

/// The path ends with `?` or `&`.
fn watch(path: impl Into<String>) -> Ask {
    Ask("GET", format!("{}watch=true&timeoutSeconds=1", path.into()), Value::Null)
}

fn create(path: impl Into<String>, body: Value) -> Ask {
    Ask("POST", path.into(), body)
}

fn patch(path: impl Into<String>, body: Value) -> Ask {
    Ask("PATCH", path.into(), body)
}

/// Server-side apply, forced.
fn apply(path: impl Into<String>, body: Value) -> Ask {
    Ask("APPLY", path.into(), body)
}

fn delete(path: impl Into<String>) -> Ask {
    Ask("DELETE", path.into(), Value::Null)
}

fn owner() -> Value {
    json!({"apiVersion": "pullcred.io/v1alpha1", "kind": "ClusterPullSecret", "name": "rights", "uid": "no-rule-has-this"})
}

/// A copy as the controller writes it.
fn copy(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "pullcred", "pullcred.io/rule": "rights"},
            "ownerReferences": [owner()],
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
    })
}

/// A Secret that the API server fills with a token of a `ServiceAccount`.
fn token_secret(name: &str) -> Value {
    let account = json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}}});
    changed(copy(name), &changed(account, &json!({"type": "kubernetes.io/service-account-token", "data": null})))
}

const WEBHOOK: &str = "inject.pullcred.io";

/// The one entry of the webhook configuration, as it is in the cluster.
async fn webhook(installed: &Installed) -> Value {
    let admin = ControlPlane::shared().await.client().await;
    let path = format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}", installed.name);
    let answer = send(&admin, &get(path)).await.unwrap_or_else(|status| panic!("{}", status.message));
    let configuration: Value = serde_json::from_str(&answer).unwrap();
    configuration["webhooks"][0].clone()
}

fn authority() -> String {
    use base64::Engine;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    base64::prelude::BASE64_STANDARD.encode(certificate.pem())
}

fn event(controller: &str) -> Value {
    json!({
        "metadata": {"name": "rights.1", "namespace": TEAM}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": controller, "reportingInstance": "one", "action": "Provide", "reason": "CopyReplaced",
        "type": "Normal", "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": TEAM},
    })
}

/// With a JSON merge patch.
fn changed(mut object: Value, change: &Value) -> Value {
    json_patch::merge(&mut object, change);
    object
}

// ---- asking

async fn send(client: &Client, Ask(verb, path, body): &Ask) -> Result<String, kube::core::Status> {
    let mut body = body.clone();
    let (method, kind) = match *verb {
        "PATCH" => ("PATCH", "application/merge-patch+json"),
        "APPLY" => {
            // An apply says what it is.
            let (version, kind) = match path.as_str() {
                path if path.contains("/secrets/") => ("v1", "Secret"),
                path if path.contains("/clusterpullsecrets/") => ("pullcred.io/v1alpha1", "ClusterPullSecret"),
                path if path.contains("/pullsecrets/") => ("pullcred.io/v1alpha1", "PullSecret"),
                _ => ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
            };
            let name = path.split('?').next().unwrap().trim_end_matches("/status").rsplit('/').next();
            body = changed(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}}), &body);
            ("PATCH", "application/apply-patch+yaml")
        }
        verb => (verb, "application/json"),
    };
    let join = if path.contains('?') { '&' } else { '?' };
    let path = if *verb == "APPLY" {
        format!("{path}{join}fieldManager=pullcred-controller&force=true")
    } else {
        path.clone()
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
    match client.request_text(request).await {
        Ok(text) => Ok(text),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{error}"),
    }
}

/// Asks everything in a table, and says all that is not as it stands there.
async fn check(client: &Client, table: &[(Ask, By)]) {
    let mut wrong = Vec::new();
    for (Ask(verb, path, body), by) in table {
        let is_write = *verb != "GET" && matches!(by, Allowed);
        let path = if is_write { format!("{path}?dryRun=All") } else { path.clone() };
        let ask = Ask(verb, path, body.clone());
        let answer = send(client, &ask).await;
        let is_right = match (by, &answer) {
            (Allowed, Ok(_)) => true,
            (Rbac, Err(status)) => {
                status.code == 403 && status.message.contains(" cannot ") && status.message.contains(" resource \"")
            }
            (Policy(words), Err(status)) => {
                status.message.contains("ValidatingAdmissionPolicy 'pullcred-rights-controller-")
                    && status.message.contains(words)
            }
            (Api(words), Err(status)) => {
                !status.message.contains("ValidatingAdmissionPolicy") && status.message.contains(words)
            }
            _ => false,
        };
        if !is_right {
            let answer =
                answer.map_or_else(|status| format!("{} {}", status.code, status.message), |_| "done".to_owned());
            wrong.push(format!("{verb} {} {body}\n  wanted: {by:?}\n  answer: {answer}", ask.1));
        }
    }
    assert!(wrong.is_empty(), "{} of {} requests:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// The chart with two permitted names and one source beside, a namespace, and Secrets to go after.
async fn installed() -> &'static Installed {
    static INSTALLED: tokio::sync::OnceCell<Installed> = tokio::sync::OnceCell::const_new();
    INSTALLED.get_or_init(install).await
}

async fn install() -> Installed {
    let plane = ControlPlane::shared().await;
    let values = json!({"rbac": {
        "secretNames": ["regcred", "hubcred", "newcred"], "sourceNames": ["gcp-key"], "copyMetadata": ["example.com/allowed"],
    }});
    let installed = chart::apply(plane, RELEASE, &values).await;
    let admin = plane.client().await;
    let put = async |path: String, body: Value| {
        send(&admin, &create(path, body)).await.unwrap_or_else(|status| panic!("{}", status.message));
    };
    put("/api/v1/namespaces".to_owned(), json!({"metadata": {"name": TEAM}})).await;
    let opaque = |name: &str| json!({"metadata": {"name": name}});
    let tls = |name: &str| json!({"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}});
    let persons = |name: &str| changed(copy(name), &json!({"metadata": {"labels": null, "ownerReferences": null}}));
    // Its owner is not there: without a finalizer it would be collected.
    let kept = changed(copy("regcred"), &json!({"metadata": {"finalizers": ["tests.pullcred.io/stays"]}}));
    for (namespace, secret) in [
        (RELEASE, tls("pullcred-tls")),
        (RELEASE, tls("pullcred-ca")),
        (RELEASE, persons("regcred")),
        (RELEASE, opaque("gcp-key")),
        (RELEASE, opaque("other")),
        (TEAM, opaque("other")),
        (TEAM, kept),
        (TEAM, persons("hubcred")),
    ] {
        put(format!("/api/v1/namespaces/{namespace}/secrets"), secret).await;
    }
    // Other tests remove rules that are not theirs; this one they only mark.
    let rule = json!({
        "apiVersion": "pullcred.io/v1alpha1",
        "kind": "ClusterPullSecret",
        "metadata": {"name": "rights", "finalizers": ["tests.pullcred.io/stays"]},
        "spec": {"images": ["never.example"], "namespaceSelector": {"matchLabels": {"tests/rights": "none"}}, "source": {"unmanaged": {}}, "mode": "Shadow"},
    });
    wait_for("the definitions to be served", Duration::from_secs(20), async || {
        send(&admin, &create("/apis/pullcred.io/v1alpha1/clusterpullsecrets", rule.clone())).await.ok()
    })
    .await;
    let team_rule = json!({
        "apiVersion": "pullcred.io/v1alpha1", "kind": "PullSecret", "metadata": {"name": "rights"}, "spec": {"images": ["never.example"]},
    });
    wait_for("the other definition to be served", Duration::from_secs(20), async || {
        let path = format!("/apis/pullcred.io/v1alpha1/namespaces/{TEAM}/pullsecrets");
        send(&admin, &create(path, team_rule.clone())).await.ok()
    })
    .await;
    installed
}
