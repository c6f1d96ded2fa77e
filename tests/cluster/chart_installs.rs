//! The chart installed, upgraded, rolled back, removed and installed again by the real Helm, with both processes started as the
//! live Deployments say: their arguments and the rights of their accounts. What no node runs is done here by the test: it starts
//! what Pods would hold, and leads the Service to where they listen.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::chart_accepted::{apply, path};
use super::cluster::secrets;
use crate::support::chart::{Identity, bare_helm, chart, values_of};
use crate::support::control_plane::ControlPlane;
use crate::support::controller::Controller;
use crate::support::program::Webhook;
use crate::support::wait_for;

const RELEASE: &str = "pullcred";
const NAMESPACE: &str = "registry-access";
const LIMIT: Duration = Duration::from_secs(30);
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pullcred";

/// A cluster without pullcred, and the one who installs it.
struct World {
    plane: ControlPlane,
    admin: Client,
}

/// What two Pods of the chart would run.
struct Running {
    controller: Controller,
    webhook: Webhook,
    _accounts: [Identity; 2],
}

impl Running {
    /// Ends them as a rolled Deployment does: the controller gives up its Lease.
    async fn end(mut self) {
        self.controller.signal("TERM");
        assert!(self.controller.ended(LIMIT).await.success());
    }
}

impl World {
    async fn new() -> Self {
        let plane = ControlPlane::own().await;
        let admin = plane.client().await;
        Self { plane, admin }
    }

    /// Runs Helm in the release namespace, and gives what it prints.
    fn helm(&self, arguments: &[&str]) -> String {
        let common = ["--namespace", NAMESPACE, "--kubeconfig", self.plane.kubeconfig.to_str().unwrap()];
        let output = bare_helm(&[arguments, &common].concat());
        assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.find(path).await.unwrap_or_else(|| panic!("{path} is not there"))
    }

    async fn find(&self, path: &str) -> Option<Value> {
        let answer = self.admin.request_text(Request::get(path).body(Vec::new()).unwrap()).await;
        match answer {
            Ok(text) => Some(serde_json::from_str(&text).unwrap()),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Server-side apply by the test.
    async fn apply(&self, path: &str, object: &Value) {
        let url = format!("{path}?fieldManager=the-test&force=true");
        let request = Request::patch(url).header("content-type", "application/apply-patch+yaml");
        self.admin.request_text(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap();
    }

    async fn container(&self, component: &str) -> (Vec<String>, String) {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/pullcred-{component}");
        let pod = self.get(&path).await["spec"]["template"]["spec"].clone();
        let args = pod["containers"][0]["args"].as_array().unwrap();
        let args = args.iter().map(|argument| argument.as_str().unwrap().to_owned()).collect();
        (args, pod["serviceAccountName"].as_str().unwrap().to_owned())
    }

    /// Starts what the live Deployments describe, and waits until API servers call it.
    async fn start(&self) -> Running {
        let (args, account) = self.container("controller").await;
        let of_controller = Identity::of(&self.plane, NAMESPACE, &account).await;
        let controller = Controller::as_in(&args, &of_controller.kubeconfig).await.leading(LIMIT).await;
        let (args, account) = self.container("webhook").await;
        let of_webhook = Identity::of(&self.plane, NAMESPACE, &account).await;
        let webhook = Webhook::as_in(&args, &of_webhook.kubeconfig).ready().await;
        self.lead_to(Some(webhook.port)).await;
        Running { controller, webhook, _accounts: [of_controller, of_webhook] }
    }

    /// Leads the Service to a port of this machine as kube-proxy leads it to Pods; or takes that back, before Helm looks.
    async fn lead_to(&self, port: Option<u16>) {
        self.lead_service(port.is_some()).await;
        let mut entry = json!({"name": "inject.pullcred.io"});
        if let Some(port) = port {
            entry["clientConfig"] =
                json!({"service": {"name": "pullcred-webhook", "namespace": NAMESPACE, "port": port}});
        }
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullcred"}, "webhooks": [entry],
        });
        self.apply(CONFIGURATION, &object).await;
    }

    async fn lead_service(&self, here: bool) {
        let spec = if here { json!({"type": "ExternalName", "externalName": "localhost"}) } else { json!({}) };
        let path = format!("/api/v1/namespaces/{NAMESPACE}/services/pullcred-webhook");
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pullcred-webhook"}, "spec": spec});
        self.apply(&path, &object).await;
    }

    /// What `helm test` does: makes the objects of the hook, runs what its Pod runs, with the rights of its account, and removes
    /// them. Gives the exit code.
    async fn test(&self, hooks: &[Value]) -> Option<i32> {
        let (pods, others): (Vec<&Value>, Vec<&Value>) = hooks.iter().partition(|object| object["kind"] == "Pod");
        for object in &others {
            apply(&self.admin, object, "helm", false).await.unwrap();
        }
        let pod = &pods[0]["spec"];
        let account = Identity::of(&self.plane, NAMESPACE, pod["serviceAccountName"].as_str().unwrap()).await;
        // Its right to create Pods is one to dry runs.
        let trial: Pod = serde_json::from_value(json!({
            "metadata": {"name": "real"}, "spec": {"containers": [{"name": "c", "image": "asia.gcr.io/app"}]}
        }))
        .unwrap();
        let pods: Api<Pod> = Api::namespaced(account.client().await, "default");
        let pods_of_all: Api<Pod> = Api::namespaced(self.admin.clone(), "default");
        // The API server reads a new policy a second or so after it was made; until then it refuses nothing.
        let refusal = wait_for("the policy to be in force", LIMIT, async || {
            match pods.create(&PostParams::default(), &trial).await {
                Ok(_) => {
                    pods_of_all.delete("real", &DeleteParams::default().grace_period(0)).await.unwrap();
                    None
                }
                // Nor does it know roles at once.
                Err(refusal) => Some(refusal.to_string()).filter(|refusal| !refusal.contains(" cannot create ")),
            }
        })
        .await;
        assert!(refusal.contains("creates Pods as a dry run alone"), "{refusal}");

        let args = pod["containers"][0]["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_pullcred"))
            .args(args)
            .env("KUBECONFIG", &account.kubeconfig)
            .output()
            .unwrap();
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for object in others {
            let gone = Request::delete(path(object)).body(Vec::new()).unwrap();
            self.admin.request_text(gone).await.unwrap();
        }
        output.status.code()
    }

    async fn namespace(&self, name: &str, labels: Value) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        self.account(name).await;
    }

    async fn account(&self, namespace: &str) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), namespace);
        wait_for("the default ServiceAccount", LIMIT, async || accounts.get("default").await.ok()).await;
    }

    /// The pull secrets of a Pod with this image, which is really created.
    async fn pod(&self, namespace: &str, name: &str, labels: Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "c", "image": name_to_image(name)}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), namespace);
        secrets(&pods.create(&PostParams::default(), &pod).await.unwrap()).iter().map(ToString::to_string).collect()
    }

    async fn copy(&self, namespace: &str, name: &str) -> Option<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), namespace);
        secrets.get_opt(name).await.unwrap()
    }

    async fn wait_until_injected(&self) {
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), "default");
        let trial: Pod = serde_json::from_value(json!({
            "metadata": {"name": "trial"}, "spec": {"containers": [{"name": "c", "image": "asia.gcr.io/app"}]}
        }))
        .unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        wait_for("injection", LIMIT, async || {
            let pod = pods.create(&dry_run, &trial).await.unwrap();
            (secrets(&pod) == ["regcred"]).then_some(())
        })
        .await;
    }

    async fn bundle(&self) -> String {
        self.get(CONFIGURATION).await["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()
    }

    /// Everything in the cluster that carries the release's label, or its name.
    async fn of_the_release(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (group, resources) in [
            ("/api/v1", &["services", "serviceaccounts", "configmaps", "secrets", "pods", "resourcequotas"][..]),
            ("/apis/apps/v1", &["deployments", "replicasets"][..]),
            ("/apis/policy/v1", &["poddisruptionbudgets"][..]),
            ("/apis/networking.k8s.io/v1", &["networkpolicies"][..]),
            ("/apis/coordination.k8s.io/v1", &["leases"][..]),
            (
                "/apis/rbac.authorization.k8s.io/v1",
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"][..],
            ),
            (
                "/apis/admissionregistration.k8s.io/v1",
                &["mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings"]
                    [..],
            ),
            ("/apis/pullcred.io/v1alpha1", &["clusterpullsecrets", "pullsecrets"][..]),
            ("/apis/apiextensions.k8s.io/v1", &["customresourcedefinitions"][..]),
        ] {
            for resource in resources {
                let list = self.get(&format!("{group}/{resource}")).await;
                for item in list["items"].as_array().unwrap() {
                    let (metadata, name) = (&item["metadata"], item["metadata"]["name"].as_str().unwrap());
                    let ours = metadata["labels"]["app.kubernetes.io/instance"] == RELEASE
                        || name == "by-hand"
                        || name.contains("pullcred")
                        || metadata["namespace"] == NAMESPACE;
                    let of_kubernetes = ["kube-root-ca.crt", "default"].contains(&name);
                    if ours && !of_kubernetes {
                        found.insert(format!("{resource} {name}"));
                    }
                }
            }
        }
        found
    }
}

/// `app` is an image of the first rule, `other` one of the second.
fn name_to_image(name: &str) -> &'static str {
    if name.starts_with("other") { "other.example.com/app" } else { "asia.gcr.io/my-project/app:1" }
}

/// Who owns which fields of an object, without those whose names do not matter.
fn managers(object: &Value) -> BTreeSet<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    entries
        .map(|entry| format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn installed_used_upgraded_rolled_back_removed_and_installed_again() {
    let world = World::new().await;
    let chart = chart();
    let chart = chart.to_str().unwrap();

    // The first install, as the README has it.
    let first = r#"pullSecrets=[{"name":"regcred","images":["asia.gcr.io"]}]"#;
    world.helm(&["install", RELEASE, chart, "--create-namespace", "--set-json", first]);
    assert_eq!(world.bundle().await, "", "in mode managed the chart renders none");
    let docker_config =
        r#"{"auths":{"asia.gcr.io":{"username":"u","password":"p"},"quay.io":{"username":"v","password":"q"}}}"#;
    let source: Secret = serde_json::from_value(json!({
        "metadata": {"name": "regcred"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": docker_config},
    }))
    .unwrap();
    let beside: Api<Secret> = Api::namespaced(world.admin.clone(), NAMESPACE);
    beside.create(&PostParams::default(), &source).await.unwrap();
    world.account("default").await;
    let running = world.start().await;
    world.wait_until_injected().await;
    let bundle = world.bundle().await;
    assert!(!bundle.is_empty(), "the controller has written it");

    the_notes_tell_the_truth(&world).await;
    let hooks: Vec<Value> = serde_saphyr::from_multiple(&world.helm(&["get", "hooks", RELEASE])).unwrap();
    assert_eq!(world.test(&hooks).await, Some(0));

    pods_get_their_secrets(&world).await;

    // Another version of the values. Nothing fights: Helm does not ask for force, and `caBundle` stays as it is.
    let second = r#"pullSecrets=[{"name":"regcred","images":["asia.gcr.io"]},{"name":"other","images":["other.example.com"],"namespaceSelector":{},"source":{"secretRef":{"name":"regcred"}}}]"#;
    let before = world.container("webhook").await;
    world.lead_to(None).await;
    world.helm(&[
        "upgrade",
        RELEASE,
        chart,
        "--set-json",
        second,
        "--set",
        "webhook.logLevel=debug",
        "--set",
        "webhook.timeoutSeconds=3",
    ]);
    assert_eq!(world.bundle().await, bundle, "an upgrade leaves caBundle alone");
    let after = world.container("webhook").await;
    assert!(after.0.contains(&"--log-level=debug".to_owned()) && before != after, "{after:?}");
    let configuration = world.get(CONFIGURATION).await;
    assert_eq!(configuration["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(configuration["webhooks"][0]["timeoutSeconds"], 3);
    let managers_of = managers(&configuration);
    assert!(managers_of.contains("helm Apply") && managers_of.contains("pullcred-controller Apply"), "{managers_of:?}");
    // As a rolled Deployment would: new processes with the new arguments, the old ones end.
    running.end().await;
    let running = world.start().await;
    world.wait_until_injected().await;
    assert_eq!(world.pod("team", "other", json!({})).await, ["other"]);

    // And back. What `helm test` runs says so when nobody is reached.
    world.lead_to(None).await;
    assert_eq!(world.test(&hooks).await, Some(1));
    world.helm(&["rollback", RELEASE, "1"]);
    assert_eq!(world.container("webhook").await, before);
    assert_eq!(world.bundle().await, bundle);
    assert!(world.find("/apis/pullcred.io/v1alpha1/clusterpullsecrets/other").await.is_none());
    running.end().await;
    let running = world.start().await;
    world.wait_until_injected().await;
    assert_eq!(world.pod("team", "other-again", json!({})).await, [""; 0]);

    // The emergency exit, and the way back.
    world.admin.request_text(Request::delete(CONFIGURATION).body(Vec::new()).unwrap()).await.unwrap();
    wait_for("the exit", LIMIT, async || {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let name = format!("app-exit-{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        world.pod("team", &name, json!({})).await.is_empty().then_some(())
    })
    .await;
    world.lead_service(false).await;
    world.helm(&["upgrade", RELEASE, chart, "--set-json", first]);
    wait_for("caBundle to be written again", LIMIT, async || (world.bundle().await == bundle).then_some(())).await;
    world.lead_to(Some(running.webhook.port)).await;
    world.wait_until_injected().await;

    // A rule that somebody made, with a copy: it stays, and so does what the documentation lists.
    let by_hand = json!({
        "apiVersion": "pullcred.io/v1alpha1", "kind": "ClusterPullSecret", "metadata": {"name": "by-hand"},
        "spec": {"images": ["asia.gcr.io/by-hand"], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hand"}}, "secretName": "regcred", "source": {"secretRef": {"name": "regcred"}}},
    });
    world.apply("/apis/pullcred.io/v1alpha1/clusterpullsecrets/by-hand", &by_hand).await;
    world.lead_to(None).await;
    world.helm(&["uninstall", RELEASE, "--wait"]);
    running.end().await;
    what_stays_is_documented(&world).await;

    // Again, over what stayed.
    world.helm(&["install", RELEASE, chart, "--set-json", first]);
    let _running = world.start().await;
    world.wait_until_injected().await;
    assert_eq!(world.pod("team", "app-once-more", json!({})).await, ["regcred"]);
    wait_for("the copy", LIMIT, async || world.copy("team", "regcred").await).await;
}

/// What the notes tell to type, as far as it goes without kubectl: the same Pod, the same dry run, the same answer.
async fn the_notes_tell_the_truth(world: &World) {
    let notes = world.helm(&["get", "notes", RELEASE]);
    let command = notes.lines().find(|line| line.contains("kubectl run")).unwrap();
    let argument = |after: &str| command.split(after).nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(command.contains("--dry-run=server"), "{command}");
    let trial: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pullcred-trial"}, "spec": {"containers": [{"name": "c", "image": argument("--image=")}]}
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(world.admin.clone(), argument("--namespace "));
    let pod = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &trial).await.unwrap();
    assert!(notes.contains(&format!("It should say {}:", secrets(&pod).join(" "))), "{notes}");
}

/// Pods in namespaces made a moment before, and all that are left out.
async fn pods_get_their_secrets(world: &World) {
    world.namespace("team", json!({})).await;
    world.namespace("out", json!({"pullcred.io/inject": "disabled"})).await;
    assert_eq!(world.pod("team", "app", json!({})).await, ["regcred"]);
    let copy = wait_for("the copy", LIMIT, async || world.copy("team", "regcred").await).await;
    let content: Value = serde_json::from_slice(&copy.data.unwrap()[".dockerconfigjson"].0).unwrap();
    assert_eq!(content["auths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["asia.gcr.io"]);
    assert_eq!(world.pod("team", "app-out", json!({"pullcred.io/inject": "disabled"})).await, [""; 0]);
    assert_eq!(world.pod("out", "app", json!({})).await, [""; 0]);
    for namespace in ["kube-system", "kube-public", "kube-node-lease", NAMESPACE] {
        world.account(namespace).await;
        assert_eq!(world.pod(namespace, "app", json!({})).await, [""; 0], "{namespace}");
    }
}

/// After the uninstall: no rule of the chart, no copy of theirs, and nothing but what docs/chart.md lists.
async fn what_stays_is_documented(world: &World) {
    // The collector of Kubernetes hears of definitions, which are new here, twice a minute.
    wait_for("the copies of the chart's rules to be gone", Duration::from_secs(120), async || {
        world.copy("team", "regcred").await.is_none().then_some(())
    })
    .await;
    wait_for("Pods of the Deployments to be gone", LIMIT, async || {
        let pods: Api<Pod> = Api::namespaced(world.admin.clone(), NAMESPACE);
        let left = pods.list(&ListParams::default().labels("app.kubernetes.io/instance=pullcred")).await.unwrap();
        left.items.is_empty().then_some(())
    })
    .await;
    let left: Vec<String> =
        world.of_the_release().await.into_iter().filter(|object| !object.starts_with("pods app")).collect();
    let stays = [
        "clusterpullsecrets by-hand",
        "customresourcedefinitions clusterpullsecrets.pullcred.io",
        "customresourcedefinitions pullsecrets.pullcred.io",
        "leases pullcred-controller",
        "secrets pullcred-ca",
        "secrets pullcred-tls",
        "secrets regcred",
    ];
    assert_eq!(left, stays);
}

/// A person's own certificate, and two releases' worth of rules in one file of values.
#[tokio::test]
async fn a_persons_certificate_is_served_and_the_controller_touches_none() {
    let world = World::new().await;
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "a person");
    let bundle = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let host = format!("pullcred-webhook.{NAMESPACE}.svc");
    let leaf = rcgen::CertificateParams::new([host]).unwrap().signed_by(&key, &issuer).unwrap();

    let mut values = values_of("first-rule");
    values["certificates"] = json!({"mode": "existingSecret", "tlsSecretName": "persons-tls", "caBundle": bundle});
    let set = format!("certificates={}", values["certificates"]);
    let rules = format!("pullSecrets={}", values["pullSecrets"]);
    world.namespace(NAMESPACE, json!({})).await;
    let tls: Secret = serde_json::from_value(json!({
        "metadata": {"name": "persons-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": leaf.pem(), "tls.key": key.serialize_pem()},
    }))
    .unwrap();
    let beside: Api<Secret> = Api::namespaced(world.admin.clone(), NAMESPACE);
    let before = beside.create(&PostParams::default(), &tls).await.unwrap();
    let chart = chart();
    world.helm(&["install", RELEASE, chart.to_str().unwrap(), "--set-json", &set, "--set-json", &rules]);
    world.account("default").await;
    let _running = world.start().await;
    world.wait_until_injected().await;
    assert_eq!(
        managers(&world.get(CONFIGURATION).await),
        BTreeSet::from(["helm Apply".to_owned(), "the-test Apply".to_owned()])
    );
    let names: BTreeSet<String> = beside
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|secret| secret.metadata.name)
        .collect();
    assert!(!names.contains("pullcred-ca") && !names.contains("pullcred-tls"), "{names:?}");
    assert_eq!(beside.get("persons-tls").await.unwrap().metadata.resource_version, before.metadata.resource_version);
}
