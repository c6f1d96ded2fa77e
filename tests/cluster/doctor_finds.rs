//! Clusters that are broken, each in its own way, and what `pullcred doctor` finds; one that is sound, and persons who may see
//! little of it.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::doctor_looks::{CONFIGURATION, NAME, Patient, RELEASE, RULE, TEAM, configuration, doctor, rule};
use crate::support::program::Webhook;
use crate::support::{free_port, wait_for};

const SERVICE: &str = "/api/v1/namespaces/doctor/services/doctor-pullcred-webhook";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/doctor/leases/pullcred-controller";
const POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/doctor-pullcred-controller-secrets";
const BINDING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/doctor-pullcred-controller-webhook";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/doctor/endpointslices/doctor-slice";

#[tokio::test]
async fn a_sound_cluster_has_no_finding() {
    let patient = Patient::new().await;
    let told = doctor(&patient.sound().plane.kubeconfig, &[]);
    assert_eq!((told.code, told.codes(), told.checks("unknown")), (0, vec![], vec![]), "{told:?}");
    let report = told.json();
    assert_eq!((&report["wrong"], &report["unknown"], &report["name"]), (&json!(0), &json!(0), &json!(NAME)));
    // Every family has something to say, and the times of a call stand apart.
    let families = ["installation", "rights", "connection", "certificate", "rules", "accounts", "injection"];
    for family in families {
        assert!(told.checks("fine").iter().any(|check| check["family"] == family), "{family}: {}", told.out);
    }
    for step in ["tcpMilliseconds", "tlsMilliseconds", "httpMilliseconds"] {
        assert!(report["calls"][0][step].as_f64().unwrap() > 0.0, "{step}: {}", told.out);
    }
    let told = doctor(&patient.sound().plane.kubeconfig, &["--format", "text"]);
    assert!(told.out.ends_with("Everything is fine.\n"), "{}", told.out);
}

/// Breaks the entry of the configuration in one way after the other.
#[tokio::test]
async fn a_configuration_that_is_wrong_is_recognised() {
    let patient = Patient::new().await;
    let rules = |change: Value| {
        let mut rule = configuration(&patient.sound().webhook)["webhooks"][0]["rules"][0].clone();
        json_patch::merge(&mut rule, &change);
        json!({"rules": [rule]})
    };
    let only_name = |name: &str| json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [name]}]}});
    let port = free_port();
    #[rustfmt::skip]
    let table = [
        ("an entry of another name",     json!({"name": "another.pullcred.io"}),                              "installation", "PC202"),
        ("UPDATE in the rules",          rules(json!({"operations": ["CREATE", "UPDATE"]})),                  "installation", "PC203"),
        ("a subresource in the rules",   rules(json!({"resources": ["pods", "pods/ephemeralcontainers"]})),   "installation", "PC203"),
        ("no CREATE in the rules",       rules(json!({"resources": []})),                                     "installation", "PC204"),
        ("only Pods with a label",       json!({"objectSelector": {"matchLabels": {"inject": "yes"}}}),       "installation", "PC204"),
        ("its own namespace served",     only_name("kube-system"),                                            "installation", "PC205"),
        ("a time-out of 30 s",           json!({"timeoutSeconds": 30}),                                       "installation", "PC206"),
        ("no second call",               json!({"reinvocationPolicy": "Never"}),                              "installation", "PC209"),
        ("a host that is not there",     json!({"clientConfig": {"url": "https://pullcred.invalid/mutate"}}), "connection",   "PC224"),
        ("a port that nobody listens on", json!({"clientConfig": {"url": format!("https://127.0.0.1:{port}/mutate")}}), "connection", "PC225"),
        ("a port that speaks no TLS",    json!({"clientConfig": {"url": format!("https://127.0.0.1:{}/mutate", patient.sound().webhook.admin_port)}}), "connection", "PC226"),
        ("another path",                 json!({"clientConfig": {"url": patient.sound().webhook.url().replace("mutate", "mutat")}}), "connection", "PC227"),
        ("an empty caBundle",            json!({"clientConfig": {"caBundle": null}}),                         "certificate",  "PC231"),
        ("a foreign authority",          json!({"clientConfig": {"caBundle": bundle(&Authority::new("another", 0, 365).pem)}}), "certificate", "PC233"),
        ("one of the same name",         json!({"clientConfig": {"caBundle": bundle(&Authority::new("pullcred development authority", 0, 365).pem)}}), "certificate", "PC233"),
        ("not called, under Ignore",     json!({"clientConfig": {"caBundle": null}}),                         "injection",    "PC262"),
        ("not called, under Fail",       json!({"failurePolicy": "Fail", "clientConfig": {"caBundle": null}}), "injection",   "PC263"),
    ];
    let mut wrong = Vec::new();
    for (broken, change, family, code) in table {
        if code == "PC204" && change["rules"].is_array() {
            // A rule must name a resource.
            patient.change_entry(rules(json!({"resources": ["services"]}))).await;
            if let Err(found) = patient.finds(&["--only", family], &["PC203", "PC204"]) {
                wrong.push(format!("{broken}: {found}"));
            }
            continue;
        }
        patient.change_entry(change).await;
        if let Err(found) = patient.finds(&["--only", family], &[code]) {
            wrong.push(format!("{broken}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut two = configuration(&patient.sound().webhook);
    let mut second = two["webhooks"][0].clone();
    second["name"] = json!("second.pullcred.io");
    two["webhooks"].as_array_mut().unwrap().push(second);
    patient.put(CONFIGURATION, two).await;
    patient.finds(&["--only", "installation"], &["PC202"]).unwrap();

    patient.remove(CONFIGURATION).await;
    let told = patient.finds(&["--only", "installation,connection,certificate"], &["PC201"]).unwrap();
    assert!(told.checks("fine").iter().all(|check| check["about"].as_str().unwrap().contains("Lease")), "{}", told.out);
    patient.finds(&["--only", "injection"], &["PC262"]).unwrap();
}

/// What the API server says of a bundle that is no certificate is its affair; that it is no good is ours.
#[tokio::test]
async fn a_bundle_that_is_no_certificate_is_recognised() {
    let patient = Patient::new().await;
    let garbage = "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n";
    patient.change_entry(json!({"clientConfig": {"caBundle": bundle(garbage)}})).await;
    patient.finds(&["--only", "certificate"], &["PC232"]).unwrap();
}

#[tokio::test]
async fn a_certificate_that_the_api_server_would_refuse_is_recognised() {
    let patient = Patient::new().await;
    let old = Authority::new("old", -400, -35);
    let young = Authority::new("young", -1, 365);
    #[rustfmt::skip]
    let table = [
        ("expired",                         &young, young.leaf("127.0.0.1", -30, -1),   "PC234", "expired on"),
        ("not valid yet",                   &young, young.leaf("127.0.0.1", 1, 30),     "PC234", "not valid before"),
        ("of an authority that has expired", &old,  old.leaf("127.0.0.1", -30, 30),     "PC234", "`CN=old` (expired on"),
        ("for another name",                &young, young.leaf("other.example", 0, 30), "PC235", "`other.example`"),
        ("for no name",                     &young, young.leaf("", 0, 30),              "PC235", "no name"),
        ("never renewed",                   &young, young.leaf("127.0.0.1", -29, 1),    "PC236", "renewed long ago"),
    ];
    for (what, authority, (certificate, key), code, words) in table {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (certificate, key) = (file("tls.crt", &certificate), file("tls.key", &key));
        let webhook = Webhook::spawn("", &["--tls-cert", &certificate, "--tls-key", &key]);
        wait_for("the webhook to listen", Duration::from_secs(20), async || {
            TcpStream::connect(("127.0.0.1", webhook.port)).await.ok()
        })
        .await;
        let config = json!({"url": webhook.url(), "caBundle": bundle(&authority.pem)});
        patient.change_entry(json!({"clientConfig": config})).await;
        let told = patient.finds(&["--only", "certificate"], &[code]).unwrap_or_else(|found| panic!("{what}: {found}"));
        assert!(told.out.contains(words), "{what}: {}", told.out);
    }
    // A certificate that signed itself is trusted when the bundle holds it, as by Go.
    let (pem, key) = self_signed("127.0.0.1");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("tls.crt"), &pem).unwrap();
    fs::write(path("tls.key"), key).unwrap();
    let webhook = Webhook::start("", &["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key")]).await;
    patient.change_entry(json!({"clientConfig": {"url": webhook.url(), "caBundle": bundle(&pem)}})).await;
    let told = doctor(&patient.sound().plane.kubeconfig, &["--only", "connection,certificate"]);
    assert_eq!((told.code, told.codes()), (0, vec![]), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_takes_long_is_recognised() {
    let patient = Patient::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (slow, webhook) = (listener.local_addr().unwrap().port(), patient.sound().webhook.port);
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let mut far = TcpStream::connect(("127.0.0.1", webhook)).await.unwrap();
            // Whoever asks may be gone.
            let _ = copy_bidirectional(&mut near, &mut far).await;
        }
    });
    let url = format!("https://127.0.0.1:{slow}/mutate");
    patient.change_entry(json!({"timeoutSeconds": 2, "clientConfig": {"url": url}})).await;
    let told = patient.finds(&["--only", "connection"], &["PC228"]).unwrap();
    let times = &told.json()["calls"][0];
    assert!(times["tlsMilliseconds"].as_f64().unwrap() >= 1000.0, "{times}");
    assert!(times["httpMilliseconds"].as_f64().unwrap() < 1000.0, "{times}");
}

#[tokio::test]
async fn a_service_that_leads_nowhere_is_recognised() {
    let patient = Patient::new().await;
    let named = json!({"clientConfig": {"url": null, "service": {"namespace": RELEASE, "name": "doctor-pullcred-webhook", "path": "/mutate"}}});
    patient.change_entry(named.clone()).await;
    patient.remove(SERVICE).await;
    let only = ["--only", "connection"];
    let told = patient.finds(&only, &["PC221"]).unwrap();
    assert_eq!(told.checks("unknown").len(), 1, "{}", told.out);

    let service = |port: u16| json!({"spec": {"selector": {"app": "webhook"}, "ports": [{"name": "https", "port": port, "targetPort": 10250}]}});
    patient.put(SERVICE, service(8443)).await;
    patient.finds(&only, &["PC222", "PC223"]).unwrap();
    patient.put(SERVICE, service(443)).await;
    patient.finds(&only, &["PC223"]).unwrap();
    patient.put(SLICE, slice(&[false])).await;
    let told = patient.finds(&only, &["PC223"]).unwrap();
    assert!(told.out.contains("none of the 1 Pods behind it is ready"), "{}", told.out);

    // With endpoints that are ready, only the road is missing: no kubelet forwards a port here.
    patient.put(SLICE, slice(&[true, false])).await;
    let told = doctor(&patient.sound().plane.kubeconfig, &only);
    assert_eq!((told.code, told.codes()), (1, vec![]), "{told:?}");
    let unknown = told.checks("unknown");
    assert!(
        unknown[0]["message"].as_str().unwrap().contains("no port can be forwarded to Pod doctor/webhook-0"),
        "{}",
        told.out
    );

    // Failing closed needs more than one, and a budget.
    let mut fail = named;
    fail["failurePolicy"] = json!("Fail");
    patient.change_entry(fail).await;
    let pod = |name: &str| {
        (
            format!("/api/v1/namespaces/{RELEASE}/pods/{name}"),
            json!({"metadata": {"labels": {"app": "webhook", "tier": "all"}}, "spec": {"containers": [{"name": "c", "image": "c"}]}}),
        )
    };
    let (path, object) = pod("webhook-0");
    patient.put(&path, object).await;
    let only = ["--only", "installation"];
    patient.finds(&only, &["PC207", "PC208"]).unwrap();
    patient.put(SLICE, slice(&[true, true])).await;
    patient.finds(&only, &["PC208"]).unwrap();
    let budget = format!("/apis/policy/v1/namespaces/{RELEASE}/poddisruptionbudgets/webhook");
    patient.put(&budget, json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"tier": "all"}}}})).await;
    wait_for("no finding", Duration::from_secs(20), async || {
        (doctor(&patient.sound().plane.kubeconfig, &only).code == 0).then_some(())
    })
    .await;
    for path in [SERVICE, SLICE, &budget, &path] {
        patient.remove(path).await;
    }
}

fn slice(ready: &[bool]) -> Value {
    let endpoint = |(place, ready): (usize, &bool)| {
        json!({
            "addresses": [format!("10.1.0.{}", place + 1)], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "namespace": RELEASE, "name": format!("webhook-{place}")},
        })
    };
    json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "doctor-pullcred-webhook"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 10250}],
        "endpoints": ready.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn rights_and_policies_that_are_missing_are_recognised() {
    let patient = Patient::new().await;
    let only = ["--only", "rights"];
    let policy = patient.get(POLICY).await;
    let mut ignoring = policy.clone();
    ignoring["spec"]["failurePolicy"] = json!("Ignore");
    patient.put(POLICY, ignoring).await;
    patient.finds(&only, &["PC211"]).unwrap();
    patient.remove(POLICY).await;
    patient.finds(&only, &["PC211"]).unwrap();
    patient.put(POLICY, policy).await;

    let binding = patient.get(BINDING).await;
    let mut auditing = binding.clone();
    auditing["spec"]["validationActions"] = json!(["Audit"]);
    patient.put(BINDING, auditing).await;
    patient.finds(&only, &["PC211"]).unwrap();
    patient.remove(BINDING).await;
    patient.finds(&only, &["PC211"]).unwrap();
    patient.put(BINDING, binding).await;

    for component in ["webhook", "controller"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{NAME}-{component}");
        let binding = patient.get(&path).await;
        patient.remove(&path).await;
        let told = patient.finds(&only, &["PC212"]).unwrap();
        let wrong = told.checks("wrong");
        assert_eq!(wrong[0]["about"], format!("ServiceAccount {RELEASE}/{NAME}-{component}"), "{}", told.out);
        patient.put(&path, binding).await;
    }
    // A rule whose Secret the chart has not been told of.
    let mut rule = rule();
    rule["spec"]["secretName"] = json!("another");
    patient.put(RULE, rule).await;
    let told = patient.finds(&only, &["PC212"]).unwrap();
    assert!(told.out.contains("patch secrets `another`") && told.out.contains("rbac.secretNames"), "{}", told.out);
}

#[tokio::test]
async fn rules_that_are_not_well_are_recognised() {
    let mut patient = Patient::new().await;
    let only = ["--only", "rules"];
    let mut sourceless = rule();
    sourceless["spec"]["source"] = json!({"secretRef": {"name": "regcred"}});
    sourceless["spec"]["secretName"] = json!("another");
    patient.put(RULE, sourceless).await;
    let told = patient.finds(&only, &["PC245"]).unwrap();
    assert!(told.out.contains("NotPermitted"), "{}", told.out);
    patient.put(RULE, rule()).await;

    // A Pod from a time without the webhook.
    patient.remove(CONFIGURATION).await;
    let pod = json!({"spec": {"containers": [{"name": "app", "image": "asia.gcr.io/team/app"}]}});
    let path = format!("/api/v1/namespaces/{TEAM}/pods/missed");
    wait_for("a Pod that is not patched", Duration::from_secs(20), async || {
        patient.put(&path, pod.clone()).await;
        let is_missed = patient.get(&path).await["spec"]["imagePullSecrets"].is_null();
        if !is_missed {
            patient
                .client
                .request::<Value>(http::Request::delete(format!("{path}?gracePeriodSeconds=0")).body(vec![]).unwrap())
                .await
                .unwrap();
        }
        is_missed.then_some(())
    })
    .await;
    let told = patient.finds(&only, &["PC247"]).unwrap();
    assert!(told.out.contains("1 running or pending Pods lack"), "{}", told.out);
    patient
        .client
        .request::<Value>(http::Request::delete(format!("{path}?gracePeriodSeconds=0")).body(vec![]).unwrap())
        .await
        .unwrap();

    // Nobody leads any more.
    patient.sound.as_mut().unwrap().controller = None;
    let told = patient.finds(&["--only", "installation"], &["PC201", "PC210"]).unwrap();
    assert!(told.out.contains("nobody makes copies"), "{}", told.out);
    let mut changed = rule();
    changed["spec"]["reclaimAfter"] = json!("1h");
    patient.put(RULE, changed).await;
    patient.finds(&only, &["PC246"]).unwrap();
    let generation = patient.get(RULE).await["metadata"]["generation"].clone();
    let ended = json!({"status": {"observedGeneration": generation, "expiresAt": "2026-01-01T00:00:00Z", "missed": 0}});
    patient.change(&format!("{RULE}/status"), ended).await;
    patient.finds(&only, &["PC248"]).unwrap();
    patient.remove(LEASE).await;
    patient.finds(&["--only", "installation"], &["PC201", "PC210"]).unwrap();
    patient.remove(RULE).await;
    patient.finds(&only, &["PC243"]).unwrap();
}

#[tokio::test]
async fn definitions_that_are_old_or_absent_are_recognised() {
    let patient = Patient::new().await;
    let only = ["--only", "rules"];
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterpullsecrets.pullcred.io";
    let definition = patient.get(path).await;
    let mut old = definition.clone();
    old.as_object_mut().unwrap().remove("status");
    let spec = &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    // As an older version of ours might have been: without a field, and without the checks of patterns.
    spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    spec["properties"].as_object_mut().unwrap().remove("reclaimAfter");
    spec["properties"]["images"] = json!({"type": "array", "items": {"type": "string"}});
    patient.put(path, old).await;
    let told = patient.finds(&only, &["PC242"]).unwrap();
    assert!(told.out.contains("ClusterPullSecret spec.reclaimAfter"), "{}", told.out);

    let mut invalid = rule();
    invalid["spec"]["images"] = json!(["https://asia.gcr.io"]);
    wait_for("the API server to take a rule that is none", Duration::from_secs(20), async || {
        super::doctor_looks::send(&patient.client, "PATCH", RULE, &invalid).await.ok()
    })
    .await;
    let told = patient.finds(&only, &["PC242", "PC244", "PC245"]);
    let told = match told {
        Ok(told) => told,
        // Whether the controller says so as well, or nothing, is its affair.
        Err(_) => patient.finds(&only, &["PC242", "PC244", "PC246"]).unwrap(),
    };
    assert!(told.out.contains("PC008 spec.images[0]"), "{}", told.out);

    patient.remove(path).await;
    patient.finds(&only, &["PC241"]).unwrap();
    patient.put(path, definition).await;
    wait_for("the definition to be served", Duration::from_secs(20), async || {
        super::doctor_looks::send(&patient.client, "GET", "/apis/pullcred.io/v1alpha1/clusterpullsecrets", &Value::Null)
            .await
            .ok()
    })
    .await;
}

#[tokio::test]
async fn an_account_that_refuses_pull_secrets_is_recognised() {
    let patient = Patient::new().await;
    let account = format!("/api/v1/namespaces/{TEAM}/serviceaccounts/strict");
    let strict = |listed: Value| json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}, "imagePullSecrets": listed});
    patient.put(&account, strict(json!([]))).await;
    let only = ["--only", "accounts"];
    let told = patient.finds(&only, &["PC251"]).unwrap();
    assert_eq!(told.checks("wrong")[0]["about"], format!("ServiceAccount {TEAM}/strict"));

    // It is right: the API server refuses such a Pod.
    let mut pod = json!({"spec": {"serviceAccountName": "strict", "containers": [{"name": "app", "image": "asia.gcr.io/team/app"}]}});
    pod["metadata"] = json!({"name": "strict"});
    let path = format!("/api/v1/namespaces/{TEAM}/pods?dryRun=All");
    let refused = super::doctor_looks::send(&patient.client, "POST", &path, &pod).await.unwrap_err().to_string();
    assert!(refused.contains("regcred"), "{refused}");

    patient.put(&account, strict(json!([{"name": "regcred"}]))).await;
    assert_eq!(doctor(&patient.sound().plane.kubeconfig, &only).code, 0);
    patient.remove(&account).await;
}

/// The webhook answers, but from other rules than the cluster has.
#[tokio::test]
async fn a_webhook_of_other_rules_is_recognised() {
    let patient = Patient::new().await;
    let other = "apiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {name: other}\n\
                 spec: {images: [other.example], namespaceSelector: {}}\n";
    let webhook = Webhook::start(other, &[]).await;
    patient.put(CONFIGURATION, configuration(&webhook)).await;
    patient.finds(&["--only", "injection"], &["PC261"]).unwrap();
    // An image that no rule covers shows at least that the webhook is called.
    let told = doctor(&patient.sound().plane.kubeconfig, &["--only", "injection", "--image", "nginx"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("the webhook is called; no patch is expected"), "{}", told.out);
    // A namespace that is excluded tells nothing.
    let told = doctor(&patient.sound().plane.kubeconfig, &["--only", "injection", "--namespace", "kube-system"]);
    assert_eq!((told.code, told.checks("unknown").len()), (1, 1), "{told:?}");
}

#[tokio::test]
async fn what_a_person_may_not_see_is_unknown_and_never_fine() {
    let patient = Patient::new().await;
    let plane = &patient.sound().plane;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_of(&patient, "nobody").await).unwrap();

    let told = doctor(&kubeconfig, &[]);
    assert_eq!((told.code, told.codes()), (1, vec![]), "{told:?}");
    // The definitions are served to everybody.
    let fine = told.checks("fine");
    assert!(fine.iter().all(|check| check["about"] == "CustomResourceDefinitions"), "{fine:#?}");
    let unknown = told.checks("unknown");
    for family in ["installation", "rights", "connection", "certificate", "rules", "accounts", "injection"] {
        let of_family: Vec<_> = unknown.iter().filter(|check| check["family"] == family).collect();
        assert!(!of_family.is_empty(), "{family}: {}", told.out);
        assert!(
            of_family.iter().any(|check| check["message"].as_str().unwrap().contains("forbidden")),
            "{of_family:#?}"
        );
    }

    fs::write(&kubeconfig, plane.kubeconfig_of("no-token-at-all", TEAM)).unwrap();
    let told = doctor(&kubeconfig, &[]);
    assert!(told.code == 2 && told.err.contains("does not know who asks"), "{told:?}");
    let told = doctor(&plane.kubeconfig, &["--only", "injection", "--namespace", "nowhere"]);
    assert!(told.code == 2 && told.err.contains("there is no namespace `nowhere`"), "{told:?}");
}

/// What `docs/doctor.md` asks for is what it needs.
#[tokio::test]
async fn the_rights_of_the_document_are_enough() {
    let patient = Patient::new().await;
    let document = include_str!("../../docs/doctor.md");
    let roles = document.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let roles: Vec<Value> = serde_saphyr::from_multiple(roles).unwrap();
    assert_eq!(roles.len(), 3);
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_of(&patient, "somebody").await).unwrap();
    let subject = json!([{"kind": "ServiceAccount", "name": "somebody", "namespace": TEAM}]);
    for role in roles {
        let (kind, name) =
            (role["kind"].as_str().unwrap().to_owned(), role["metadata"]["name"].as_str().unwrap().to_owned());
        // The document has the usual names of namespaces.
        let namespace =
            role["metadata"]["namespace"].as_str().map(|name| if name == "default" { TEAM } else { RELEASE });
        let group = "/apis/rbac.authorization.k8s.io/v1";
        let (roles, bindings) = match namespace {
            Some(namespace) => (
                format!("{group}/namespaces/{namespace}/roles"),
                format!("{group}/namespaces/{namespace}/rolebindings"),
            ),
            None => (format!("{group}/clusterroles"), format!("{group}/clusterrolebindings")),
        };
        patient.put(&format!("{roles}/{name}"), json!({"rules": role["rules"]})).await;
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        patient.put(&format!("{bindings}/{name}"), json!({"roleRef": reference, "subjects": subject})).await;
    }
    let start = std::time::Instant::now();
    loop {
        let told = doctor(&kubeconfig, &[]);
        if (told.code, told.checks("unknown").len()) == (0, 0) {
            break;
        }
        // RBAC is read from a cache.
        assert!(start.elapsed() < Duration::from_secs(20), "{told:?}");
    }
}

async fn kubeconfig_of(patient: &Patient, account: &str) -> String {
    let path = format!("/api/v1/namespaces/{TEAM}/serviceaccounts/{account}");
    patient.put(&path, json!({})).await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = super::doctor_looks::send(&patient.client, "POST", &format!("{path}/token"), &request).await.unwrap();
    patient.sound().plane.kubeconfig_of(answer["status"]["token"].as_str().unwrap(), TEAM)
}

// ---- certificates

fn bundle(pem: &str) -> String {
    base64::prelude::BASE64_STANDARD.encode(pem)
}

/// An authority that signs what a test needs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Valid from and until so many days from now.
    fn new(name: &str, from: i64, until: i64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = params(&[], name, from, until);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { pem: authority.self_signed(&key).unwrap().pem(), issuer: Issuer::new(authority, key) }
    }

    /// A certificate and its key, in PEM.
    fn leaf(&self, name: &str, from: i64, until: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: &[&str] = if name.is_empty() { &[] } else { &[name] };
        let leaf = params(names, "webhook", from, until).signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }
}

/// A certificate as `openssl req -x509` makes it: an authority and a leaf in one.
fn self_signed(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut both = params(&[name], "both", -1, 365);
    both.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (both.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn params(names: &[&str], common_name: &str, from: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let day =
        |days: i64| OffsetDateTime::from_unix_timestamp(jiff::Timestamp::now().as_second() + days * 86400).unwrap();
    (params.not_before, params.not_after) = (day(from), day(until));
    params
}
