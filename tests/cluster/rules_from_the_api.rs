//! A webhook whose rules, namespaces and certificate come from the Kubernetes API, with the rights of a webhook and no more.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use pullcred::pki::make_development;
use pullcred::rules::{ClusterPullSecret, PullSecret, crds};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::cluster::{Cluster, pod_of, secrets};
use crate::support::client::{self, connect_tls, trust};
use crate::support::control_plane::ControlPlane;
use crate::support::flow::Flow;
use crate::support::pods::review;
use crate::support::program::Webhook;
use crate::support::road::Road;
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(20);
const RELEASE: &str = "pullcred-system";
const TLS_SECRET: &str = "pullcred-tls";
const IMAGE: &str = "asia.gcr.io/my-project/app:1";

/// Control planes are large: one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A control plane of the test's own.
struct World {
    plane: ControlPlane,
    client: Client,
    /// Leads there as the webhook's `ServiceAccount`.
    kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What a webhook may do.
fn rights() -> Value {
    json!([
        {"apiGroups": ["pullcred.io"], "resources": ["clusterpullsecrets", "pullsecrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
    ])
}

impl World {
    /// With our definitions.
    async fn new() -> Self {
        let world = Self::empty().await;
        world.define(crds()).await;
        world.grant(rights()).await;
        world
    }

    /// Without our definitions, and with no right but to read the one Secret.
    async fn empty() -> Self {
        let turn = TURN.lock().await;
        let plane = ControlPlane::own().await;
        let client = plane.client().await;
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        let world = Self { plane, client, kubeconfig, _directory: directory, _turn: turn };
        world.namespace(RELEASE, json!({})).await;
        let account = json!({"metadata": {"name": "webhook"}});
        world.apply::<ServiceAccount>(world.released(), "webhook", account).await;
        let role = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [TLS_SECRET], "verbs": ["get", "list", "watch"]}]});
        world.apply::<Role>(world.released(), "webhook", role).await;
        let subjects = json!([{"kind": "ServiceAccount", "name": "webhook", "namespace": RELEASE}]);
        let binding = |kind| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "webhook"}, "subjects": subjects});
        world.apply::<RoleBinding>(world.released(), "webhook", binding("Role")).await;
        world.apply::<ClusterRoleBinding>(Api::all(world.client.clone()), "webhook", binding("ClusterRole")).await;

        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = world.released();
        let token = accounts.create_token_request("webhook", &PostParams::default(), &request).await.unwrap();
        let admin = std::fs::read_to_string(&world.plane.kubeconfig).unwrap();
        let restricted = admin.replace("admin-of-the-tests", &token.status.unwrap().token);
        assert_ne!(admin, restricted);
        std::fs::write(&world.kubeconfig, restricted).unwrap();
        world
    }

    fn released<K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), RELEASE)
    }

    async fn apply<K>(&self, api: Api<K>, name: &str, object: Value)
    where
        K: Resource<DynamicType = ()>,
    {
        let mut whole = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}});
        whole.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        whole["metadata"]["name"] = name.into();
        let parameters = PatchParams::apply("tests").force();
        let request = kube::core::Request::new(api.resource_url()).patch(name, &parameters, &Patch::Apply(whole));
        // Not as the type: what the API takes and the type does not is what some tests are about.
        let applied = self.client.request::<Value>(request.unwrap()).await;
        applied.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    async fn grant(&self, rules: Value) {
        self.apply::<ClusterRole>(Api::all(self.client.clone()), "webhook", json!({"rules": rules})).await;
    }

    async fn define(&self, crds: Vec<CustomResourceDefinition>) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in crds {
            let name = crd.metadata.name.clone().unwrap();
            self.apply(definitions.clone(), &name, serde_json::to_value(crd).unwrap()).await;
            wait_for("the definition to be served", LIMIT, async || {
                let status = definitions.get(&name).await.unwrap().status?;
                status.conditions?.iter().any(|is| is.type_ == "Established" && is.status == "True").then_some(())
            })
            .await;
        }
    }

    async fn namespace(&self, name: &str, labels: Value) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        self.apply(namespaces, name, json!({"metadata": {"labels": labels}})).await;
    }

    fn rules(&self) -> Api<ClusterPullSecret> {
        Api::all(self.client.clone())
    }

    /// A rule for the image's registry and every namespace, with these fields of its spec beside.
    async fn rule(&self, name: &str, spec: Value) {
        let mut whole = json!({"images": ["asia.gcr.io"], "namespaceSelector": {}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.apply(self.rules(), name, json!({"spec": whole})).await;
    }

    /// A webhook that follows this world, once it is ready.
    async fn webhook(&self) -> Webhook {
        Webhook::of_cluster(&self.kubeconfig, &[]).ready().await
    }
}

/// The Secrets that a Pod with the image gets in a namespace, by what the webhook answers; `None` when it says to ask again.
async fn given(webhook: &Webhook, namespace: &str) -> Option<Vec<String>> {
    let mut client = client::Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    let mut asked = review(&pod_of("app", &[IMAGE]));
    asked["request"]["namespace"] = namespace.into();
    let answer = client.review(asked.to_string()).await.unwrap();
    if answer.status == 503 {
        assert_eq!(answer.headers["retry-after"], "1");
        return None;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let response = answer.json()["response"].clone();
    let Some(patch) = response["patch"].as_str() else { return Some(vec![]) };
    let patch = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, patch).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let names = patch[0]["value"].as_array().unwrap().iter();
    Some(names.map(|reference| reference["name"].as_str().unwrap().to_owned()).collect())
}

async fn wait_for_given(webhook: &Webhook, namespace: &str, expected: &[&str], limit: Duration) {
    let start = Instant::now();
    loop {
        let given = given(webhook, namespace).await;
        if given.as_ref().is_some_and(|given| given == expected) {
            return;
        }
        assert!(start.elapsed() < limit, "{namespace} gets {given:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` answers with this code and these words.
async fn told(webhook: &Webhook, code: u16, words: &str, limit: Duration) {
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < limit {
        last = webhook.admin("/readyz").await;
        if last.as_ref().is_some_and(|(status, text)| *status == code && text.contains(words)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is not told {code} `{words}`: {last:?}");
}

async fn series(webhook: &Webhook, name: &str) -> u64 {
    let (_, text) = webhook.admin("/metrics").await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no series {name} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn rules_take_effect_as_they_are_written_changed_and_deleted() {
    let world = World::new().await;
    world.namespace("team", json!({"env": "test"})).await;
    let webhook = world.webhook().await;
    assert_eq!(given(&webhook, "team").await.unwrap(), [""; 0]);
    world.rule("regcred", json!({})).await;
    wait_for_given(&webhook, "team", &["regcred"], LIMIT).await;
    world.rule("regcred", json!({"secretName": "other"})).await;
    wait_for_given(&webhook, "team", &["other"], LIMIT).await;
    let team = json!({"spec": {"images": ["asia.gcr.io/my-project"]}});
    world.apply::<PullSecret>(Api::namespaced(world.client.clone(), "team"), "own", team).await;
    wait_for_given(&webhook, "team", &["own", "other"], LIMIT).await;
    assert_eq!(given(&webhook, RELEASE).await.unwrap(), ["other"]);
    world.rule("regcred", json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}})).await;
    wait_for_given(&webhook, "team", &["own"], LIMIT).await;
    world.namespace("team", json!({"env": "prod"})).await;
    wait_for_given(&webhook, "team", &["own", "regcred"], LIMIT).await;
    // A status changes no rule: nothing is compiled for it.
    let compiled = webhook.log().matches("rules are in force").count();
    let status = json!({"status": {"namespaces": 7}});
    world.rules().patch_status("regcred", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    world.rules().delete("regcred", &DeleteParams::default()).await.unwrap();
    wait_for_given(&webhook, "team", &["own"], LIMIT).await;
    assert_eq!(webhook.log().matches("rules are in force").count(), compiled + 1);
    told(&webhook, 200, "[+] rules: 1 in force", LIMIT).await;
    told(&webhook, 200, "[+] definitions: are as new as this version", LIMIT).await;
}

#[tokio::test]
async fn a_pod_right_behind_its_namespace_gets_its_secret() {
    let world = World::new().await;
    world
        .rule("regcred", json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}))
        .await;
    let webhook = world.webhook().await;
    assert_eq!(given(&webhook, "nobody-made-it").await, None, "its labels decide, and nobody knows them");
    let first = Cluster { client: world.client.clone(), namespace: "default".to_owned() };
    first.register("api.pullcred.io", &webhook, &["CREATE"], "Fail", None).await;
    world.namespace("default", json!({"team": "default"})).await;
    wait_for("the default ServiceAccount", LIMIT, async || {
        Api::<ServiceAccount>::namespaced(world.client.clone(), "default").get_opt("default").await.unwrap()
    })
    .await;
    first.wait_until_injected(IMAGE).await;
    for i in 0..50 {
        let namespace = format!("new-{i}");
        world.namespace(&namespace, json!({"team": "new"})).await;
        let cluster = Cluster { client: world.client.clone(), namespace };
        let start = Instant::now();
        let pod = loop {
            // Whether the ServiceAccount is there yet is not what this is about.
            match cluster.try_pod(&pod_of("app", &[IMAGE]), false).await {
                Ok(pod) => break pod,
                Err(kube::Error::Api(status)) if status.message.contains("serviceaccount") => {}
                Err(error) => panic!("{}: {error}", cluster.namespace),
            }
            assert!(start.elapsed() < LIMIT, "there is no ServiceAccount in {}", cluster.namespace);
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert_eq!(secrets(&pod), ["regcred"], "{}", cluster.namespace);
    }
}

#[tokio::test]
async fn an_object_that_is_no_rule_is_skipped_alone() {
    let world = World::empty().await;
    world.grant(rights()).await;
    // As definitions would be that know more modes, and check less.
    let lenient = crds().into_iter().map(|crd| {
        let mut crd = serde_json::to_value(crd).unwrap();
        let spec = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec["images"]["items"].as_object_mut().unwrap().remove("x-kubernetes-validations");
        spec["mode"]["enum"].as_array_mut().unwrap().push("Newer".into());
        serde_json::from_value(crd).unwrap()
    });
    world.define(lenient.collect()).await;
    world.rule("good", json!({})).await;
    world.rule("scheme", json!({"images": ["https://asia.gcr.io"]})).await;
    world.rule("newer", json!({"mode": "Newer"})).await;
    let webhook = world.webhook().await;
    wait_for_given(&webhook, "default", &["good"], LIMIT).await;
    told(&webhook, 200, "[!] rules: 1 in force", LIMIT).await;
    told(&webhook, 200, "; 2 skipped", LIMIT).await;
    told(&webhook, 200, "ClusterPullSecret scheme: PC", LIMIT).await;
    told(&webhook, 200, "ClusterPullSecret newer: it cannot be read", LIMIT).await;
    assert_eq!(series(&webhook, "pullcred_rule_findings").await, 2);
    assert!(webhook.log().contains("ClusterPullSecret scheme is skipped, and no other rule: PC"), "{}", webhook.log());
    world.rule("scheme", json!({})).await;
    wait_for_given(&webhook, "default", &["good", "scheme"], LIMIT).await;
    assert_eq!(series(&webhook, "pullcred_rule_findings").await, 1);
}

#[tokio::test]
async fn definitions_that_are_absent_or_older_are_told() {
    let world = World::empty().await;
    world.grant(rights()).await;
    let webhook = Webhook::of_cluster(&world.kubeconfig, &[]);
    told(&webhook, 503, "are not known to the Kubernetes API: apply what `pullcred generate crds` prints", LIMIT).await;
    assert_eq!(
        given(&webhook, "default").await,
        None,
        "no rule is known yet, which is not the same as that there is none"
    );
    let older = crds().into_iter().map(|crd| {
        let mut crd = serde_json::to_value(crd).unwrap();
        let spec = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec.as_object_mut().unwrap().remove("reclaimAfter");
        serde_json::from_value(crd).unwrap()
    });
    world.define(older.collect()).await;
    told(
        &webhook,
        200,
        "[!] definitions: are older than this version and lack ClusterPullSecret spec.reclaimAfter",
        LIMIT * 2,
    )
    .await;
    world.define(crds()).await;
    told(&webhook, 200, "[+] definitions: are as new as this version", LIMIT * 2).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_and_asked_for_again() {
    let world = World::empty().await;
    world.define(crds()).await;
    world.grant(json!([])).await;
    world.rule("regcred", json!({})).await;
    let user = format!("system:serviceaccount:{RELEASE}:webhook");
    let resources = ["clusterpullsecrets", "pullsecrets", "namespaces"];
    let flow = Flow::of(&world.client, "asked", &user, &["list", "watch"], &resources).await;
    let webhook = Webhook::of_cluster(&world.kubeconfig, &[]);
    told(&webhook, 503, "clusterpullsecrets may not be watched: grant `list` and `watch` on them", LIMIT).await;
    told(&webhook, 503, "namespaces may not be watched", LIMIT).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    // Three watches, each of which asks after 1, 2, 4, 8, 16 and then 30 seconds.
    let asked = flow.count().await;
    assert!((6.0..=18.0).contains(&asked), "{asked} requests:\n{}", webhook.log());
    world.grant(rights()).await;
    told(&webhook, 200, "[+] rules: 1 in force", Duration::from_secs(45)).await;
    assert_eq!(given(&webhook, "default").await.unwrap(), ["regcred"]);
}

#[tokio::test]
async fn the_last_rules_stay_in_force_while_the_api_server_is_away() {
    let mut world = World::new().await;
    world.rule("regcred", json!({})).await;
    let webhook = world.webhook().await;
    assert_eq!(given(&webhook, "default").await.unwrap(), ["regcred"]);
    world.plane.stop_api_server();
    told(&webhook, 200, "[!] rules: 1 in force", LIMIT).await;
    told(&webhook, 200, " s ago: clusterpullsecrets cannot be watched: ", LIMIT).await;
    wait_for("the age to grow", LIMIT, async || {
        (series(&webhook, "pullcred_rules_silence_seconds").await >= 3).then_some(())
    })
    .await;
    assert_eq!(given(&webhook, "default").await.unwrap(), ["regcred"]);
    world.plane.start_api_server().await;
    world.rule("regcred", json!({"secretName": "changed"})).await;
    wait_for_given(&webhook, "default", &["changed"], LIMIT * 2).await;
    told(&webhook, 200, "[+] rules: 1 in force", LIMIT * 2).await;
}

#[tokio::test]
async fn watches_that_are_cut_or_go_silent_are_begun_again() {
    let world = World::new().await;
    let road = Road::of(&world.kubeconfig).await;
    let webhook = Webhook::of_cluster(&road.kubeconfig, &[]).ready().await;
    for secret in ["first", "second"] {
        road.end_connections().await;
        world.rule("regcred", json!({"secretName": secret})).await;
        wait_for_given(&webhook, "default", &[secret], LIMIT).await;
    }
    // The connections stay open, and nothing comes through: only a limit on silence can notice.
    road.swallow().await;
    world.rule("regcred", json!({"secretName": "third"})).await;
    wait_for_given(&webhook, "default", &["third"], Duration::from_secs(100)).await;
}

#[tokio::test]
async fn the_certificate_of_a_secret_is_served_and_followed() {
    let world = World::new().await;
    let put = async |crt: &str, key: &str| {
        let data = json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": crt, "tls.key": key}});
        world.apply::<Secret>(world.released(), TLS_SECRET, data).await;
    };
    let arguments = ["--tls-secret", TLS_SECRET, "--release-namespace", RELEASE];
    let webhook = Webhook::of_cluster(&world.kubeconfig, &arguments);
    told(
        &webhook,
        503,
        "[-] certificate: what is there now cannot be served: Secret pullcred-system/pullcred-tls is not there",
        LIMIT,
    )
    .await;
    let serves = async |authority: &str| connect_tls(webhook.port, trust(authority.as_bytes(), &[])).await.is_ok();
    let pairs = [(); 2].map(|()| make_development(Timestamp::now()).unwrap());
    assert!(!serves(&pairs[0].ca_crt).await, "there is nothing to serve yet");
    for pair in &pairs {
        put(&pair.tls_crt, &pair.tls_key).await;
        wait_for("the certificate", LIMIT, async || serves(&pair.ca_crt).await.then_some(())).await;
        told(&webhook, 200, "[+] certificate: valid until", LIMIT).await;
    }
    assert!(!serves(&pairs[0].ca_crt).await);
    put(&pairs[0].tls_crt, &pairs[1].tls_key).await;
    told(&webhook, 200, "the key in tls.key of Secret pullcred-system/pullcred-tls does not belong", LIMIT).await;
    assert!(serves(&pairs[1].ca_crt).await, "the one before stays");
    world.released::<Secret>().delete(TLS_SECRET, &DeleteParams::default()).await.unwrap();
    told(&webhook, 200, "[!] certificate: valid until", LIMIT).await;
    told(&webhook, 200, "is not there", LIMIT).await;
    assert!(serves(&pairs[1].ca_crt).await, "the one before stays");
    assert!(!webhook.log().contains("PRIVATE KEY"));
}
