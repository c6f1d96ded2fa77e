//! What a Pod gets at admission, and what it never gets: section by section of the contract, on whole reviews.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pullcred::admission::{Answer, NamespaceLabels, Outcome, answer};
use pullcred::rules::{Labels, RuleSet, SourceFile, read_documents};
use serde_json::{Value, json};

pub use crate::support::pods::{pod, review, rule};

/// The namespaces of a test: those that are not listed are unknown.
pub struct Namespaces(pub BTreeMap<String, Labels>);

impl NamespaceLabels for Namespaces {
    fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.0.get(namespace)
    }
}

pub fn known(namespaces: &[(&str, &[(&str, &str)])]) -> Namespaces {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Namespaces(namespaces.iter().map(|(name, pairs)| ((*name).to_owned(), labels(pairs))).collect())
}

pub fn rules(yaml: &str) -> RuleSet {
    let documents =
        read_documents(&[SourceFile { name: "rules.yaml", text: yaml.as_bytes() }]).unwrap_or_else(|findings| {
            panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
    RuleSet::compile(documents.rules)
}

/// What came back for one review.
#[derive(Debug)]
pub struct Seen {
    pub outcome: Outcome,
    pub response: Value,
    /// The Pod after the patch.
    pub pod: Value,
}

impl Seen {
    pub fn secrets(&self) -> Vec<&str> {
        let list = self.pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
        list.into_iter().flatten().map(|entry| entry["name"].as_str().unwrap_or("-")).collect()
    }

    fn audit(&self, key: &str) -> Option<&str> {
        self.response.pointer("/response/auditAnnotations")?[key].as_str()
    }

    fn warnings(&self) -> Vec<&str> {
        self.response["response"]["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// Sends a review through admission and applies the patch with json-patch as the referee.
pub fn admit(review: &Value, rules: &RuleSet, namespaces: &Namespaces) -> Seen {
    let bytes = serde_json::to_vec(review).unwrap();
    let Answer::Review { body, decision } = answer(&bytes, rules, namespaces) else {
        panic!("no review came back for {review}");
    };
    let response: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(response["kind"], "AdmissionReview");
    assert_eq!(response["response"]["uid"], review["request"]["uid"]);
    assert_eq!(response["response"]["allowed"], true);
    let mut pod = review["request"]["object"].clone();
    let patch = &response["response"]["patch"];
    assert_eq!(patch.is_null(), response["response"]["patchType"].is_null(), "patch and patchType go together");
    if let Some(patch) = patch.as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut pod, &patch).expect("a patch always applies");
    }
    Seen { outcome: decision.outcome, response, pod }
}

fn admit_pod(pod: &Value, rules: &RuleSet) -> Seen {
    admit(&review(pod), rules, &known(&[("team", &[])]))
}

#[test]
fn a_pod_whose_image_matches_gets_the_secret() {
    let seen = admit_pod(&pod(&["asia.gcr.io/my-project/app:1"]), &rules(&rule("regcred", &["asia.gcr.io"])));
    assert_eq!(seen.outcome, Outcome::Injected);
    assert_eq!(seen.secrets(), ["regcred"]);
    assert_eq!((seen.audit("rules"), seen.audit("secrets")), (Some("regcred"), Some("regcred")));
    assert_eq!(seen.warnings(), [""; 0], "an ordinary injection gives no warning");
}

#[test]
fn a_pod_that_matches_nothing_is_left_as_it_is() {
    let rules = rules(&rule("regcred", &["asia.gcr.io"]));
    for image in
        ["nginx", "asia.gcr.io.evil.example/app", "eu.asia.gcr.io/app", "asia.gcr.io:5000/app", "asia.gcr.i/app"]
    {
        let seen = admit_pod(&pod(&[image]), &rules);
        assert_eq!(seen.outcome, Outcome::NoMatch, "{image}");
        assert!(seen.response["response"]["patch"].is_null(), "{image}");
        assert_eq!(seen.audit("rules"), None, "{image}");
    }
}

#[test]
fn every_place_that_holds_an_image_counts() {
    let rules = rules(&rule("regcred", &["r.io"]));
    for (place, spec) in [
        ("container", json!({"containers": [{"image": "r.io/a"}]})),
        ("init container", json!({"containers": [{"image": "x"}], "initContainers": [{"image": "r.io/a"}]})),
        ("ephemeral container", json!({"containers": [{"image": "x"}], "ephemeralContainers": [{"image": "r.io/a"}]})),
        ("image volume", json!({"containers": [{"image": "x"}], "volumes": [{"image": {"reference": "r.io/a"}}]})),
    ] {
        assert_eq!(admit_pod(&json!({"spec": spec}), &rules).secrets(), ["regcred"], "{place}");
    }
}

#[test]
fn what_the_pod_has_stays_first_and_in_order() {
    let rules = rules(&(rule("a", &["r.io"]) + &rule("b", &["r.io/team"])));
    let mut own = pod(&["r.io/team/app"]);
    own["spec"]["imagePullSecrets"] = json!([{"name": "z"}, {}, {"name": "y", "unknown": 1}]);
    let seen = admit_pod(&own, &rules);
    assert_eq!(seen.secrets(), ["z", "-", "y", "b", "a"]);
    assert_eq!(seen.pod["spec"]["imagePullSecrets"][2], json!({"name": "y", "unknown": 1}));
}

#[test]
fn a_secret_the_pod_already_names_is_not_added_twice() {
    let rules = rules(&(rule("a", &["r.io"]) + &rule("b", &["r.io"])));
    let mut own = pod(&["r.io/app"]);
    own["spec"]["imagePullSecrets"] = json!([{"name": "a"}]);
    assert_eq!(admit_pod(&own, &rules).secrets(), ["a", "b"]);
    own["spec"]["imagePullSecrets"] = json!([{"name": "b"}, {"name": "a"}]);
    let seen = admit_pod(&own, &rules);
    assert_eq!((seen.outcome, seen.secrets()), (Outcome::AlreadyThere, vec!["b", "a"]));
    assert_eq!(seen.audit("rules"), Some("a,b"));
}

#[test]
fn the_most_specific_pattern_comes_first_then_the_name() {
    let rules = rules(
        &[
            rule("by-glob", &["*.r.io"]),
            rule("z-host", &["a.r.io"]),
            rule("host", &["a.r.io"]),
            rule("path", &["a.r.io/team"]),
            rule("deep", &["*.r.io/team/app", "a.r.io"]),
            rule("two-globs", &["*.*.io"]),
        ]
        .concat(),
    );
    let seen = admit_pod(&pod(&["a.r.io/team/app"]), &rules);
    assert_eq!(seen.secrets(), ["deep", "path", "host", "z-host", "by-glob", "two-globs"]);
}

#[test]
fn two_registries_in_one_pod_get_both_secrets() {
    let rules = rules(&(rule("one", &["one.io"]) + &rule("two", &["two.io:5000"])));
    assert_eq!(admit_pod(&pod(&["two.io:5000/a", "one.io/b", "one.io/c"]), &rules).secrets(), ["one", "two"]);
}

#[test]
fn a_docker_hub_short_name_is_matched_by_docker_io() {
    let rules = rules(&(rule("hub", &["docker.io"]) + &rule("team", &["docker.io/team"])));
    assert_eq!(admit_pod(&pod(&["nginx"]), &rules).secrets(), ["hub"]);
    assert_eq!(admit_pod(&pod(&["team/app:1"]), &rules).secrets(), ["team", "hub"]);
    assert_eq!(admit_pod(&pod(&["index.docker.io/team/app"]), &rules).secrets(), ["team", "hub"]);
}

#[test]
fn two_rules_with_one_secret_give_it_once() {
    let yaml = rule("a", &["r.io"]) + &rule("b", &["r.io/team"]).replace("images", "secretName: shared, images");
    let yaml = yaml.replace("spec: {images: [\"r.io\"]", "spec: {secretName: shared, images: [\"r.io\"]");
    let seen = admit_pod(&pod(&["r.io/team/app"]), &rules(&yaml));
    assert_eq!(seen.secrets(), ["shared"]);
    assert_eq!((seen.audit("rules"), seen.audit("secrets")), (Some("b,a"), Some("shared")));
}

#[test]
fn a_rule_in_shadow_mode_is_decided_and_annotated_and_adds_nothing() {
    let yaml = rule("shadow", &["r.io"]).replace("spec: {", "spec: {mode: Shadow, ");
    let seen = admit_pod(&pod(&["r.io/app"]), &rules(&yaml));
    assert_eq!((seen.outcome, seen.secrets().len()), (Outcome::Shadowed, 0));
    assert_eq!((seen.audit("rules"), seen.audit("secrets")), (Some("shadow"), Some("shadow")));
    let seen = admit_pod(&pod(&["r.io/app"]), &rules(&(yaml + &rule("real", &["r.io/app"]))));
    assert_eq!((seen.outcome, seen.secrets()), (Outcome::Injected, vec!["real"]));
    assert_eq!(seen.audit("rules"), Some("real,shadow"));
}

#[test]
fn a_pull_secret_serves_its_own_namespace_only() {
    let yaml = "apiVersion: pullcred.io/v1alpha1\nkind: PullSecret\nmetadata: {name: team-reg, namespace: team}\nspec: {images: [ghcr.io/team]}\n";
    let seen = admit_pod(&pod(&["ghcr.io/team/app"]), &rules(yaml));
    assert_eq!((seen.secrets(), seen.audit("rules")), (vec!["team-reg"], Some("team/team-reg")));
    let elsewhere = yaml.replace("namespace: team", "namespace: other");
    assert_eq!(admit_pod(&pod(&["ghcr.io/team/app"]), &rules(&elsewhere)).outcome, Outcome::NoMatch);
}

const SELECTED: &str = "apiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {name: s}\nspec: {images: [r.io], namespaceSelector: {matchLabels: {tier: prod}}}\n";

#[test]
fn labels_of_the_namespace_decide() {
    let rules = rules(SELECTED);
    let review = review(&pod(&["r.io/app"]));
    assert_eq!(admit(&review, &rules, &known(&[("team", &[("tier", "prod")])])).secrets(), ["s"]);
    assert_eq!(admit(&review, &rules, &known(&[("team", &[("tier", "dev")])])).outcome, Outcome::NoMatch);
}

#[test]
fn an_unknown_namespace_waits_only_where_its_labels_could_change_the_pod() {
    let rules = rules(SELECTED);
    let ask = |review: &Value| {
        let bytes = serde_json::to_vec(review).unwrap();
        match answer(&bytes, &rules, &known(&[])) {
            Answer::NamespaceUnknown { namespace } => Err(namespace.into_owned()),
            Answer::Review { decision, .. } => Ok(decision.outcome),
            Answer::NotAReview { message } => panic!("{message}"),
        }
    };
    assert_eq!(ask(&review(&pod(&["r.io/app"]))), Err("team".to_owned()));
    assert_eq!(ask(&review(&pod(&["other.io/app"]))), Ok(Outcome::NoMatch));
    let mut named = pod(&["r.io/app"]);
    named["spec"]["imagePullSecrets"] = json!([{"name": "s"}]);
    assert_eq!(ask(&review(&named)), Ok(Outcome::NoMatch));
}

#[test]
fn the_name_of_a_namespace_is_known_without_its_labels() {
    let yaml = SELECTED.replace("{tier: prod}", "{kubernetes.io/metadata.name: team}");
    assert_eq!(admit(&review(&pod(&["r.io/app"])), &rules(&yaml), &known(&[])).secrets(), ["s"]);
}

#[test]
fn mirror_pods_other_operations_and_other_resources_are_left_alone() {
    let rules = rules(&rule("regcred", &["r.io"]));
    let matching = pod(&["r.io/app"]);
    let mut mirror = matching.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(admit_pod(&mirror, &rules).outcome, Outcome::LeftAlone);
    for (pointer, value) in [
        ("operation", json!("UPDATE")),
        ("operation", json!("DELETE")),
        ("operation", json!("CONNECT")),
        ("subResource", json!("ephemeralcontainers")),
        ("resource", json!({"group": "apps", "version": "v1", "resource": "pods"})),
        ("resource", json!({"group": "", "version": "v1", "resource": "podtemplates"})),
    ] {
        let mut review = review(&matching);
        review["request"][pointer] = value.clone();
        let seen = admit(&review, &rules, &known(&[("team", &[])]));
        assert_eq!(seen.outcome, Outcome::LeftAlone, "{pointer} {value}");
        assert_eq!(seen.secrets().len(), 0, "{pointer} {value}");
    }
}

#[test]
fn an_object_of_another_kind_is_left_alone_whatever_its_shape() {
    let rules = rules(&rule("regcred", &["r.io"]));
    let mut review = review(&json!({"spec": {"containers": "r.io/app", "volumes": 5}}));
    review["request"]["resource"] = json!({"group": "example.io", "version": "v1", "resource": "things"});
    let seen = admit(&review, &rules, &known(&[]));
    assert_eq!((seen.outcome, seen.warnings().len()), (Outcome::LeftAlone, 0));
}

#[test]
fn v1beta1_is_answered_in_its_own_version() {
    let rules = rules(&rule("regcred", &["r.io"]));
    let mut review = review(&pod(&["r.io/app"]));
    review["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let seen = admit(&review, &rules, &known(&[("team", &[])]));
    assert_eq!(seen.response["apiVersion"], "admission.k8s.io/v1beta1");
    assert_eq!(seen.secrets(), ["regcred"]);
}

#[test]
fn an_image_that_nobody_can_pull_is_a_warning_and_no_reason_to_refuse() {
    let seen = admit_pod(&pod(&["r.io/UPPER", "r.io/app"]), &rules(&rule("regcred", &["r.io"])));
    assert_eq!(seen.secrets(), ["regcred"]);
    let [warning] = seen.warnings()[..] else { panic!("{:?}", seen.warnings()) };
    assert!(warning.starts_with("pullcred PC101: image `r.io/UPPER` cannot be pulled: "), "{warning}");
}

#[test]
fn warnings_are_few_and_short_whatever_the_pod_holds() {
    let long = "ä".repeat(5000);
    let images: Vec<&str> = std::iter::repeat_n(long.as_str(), 50).collect();
    let seen = admit_pod(&pod(&images), &rules(&rule("regcred", &["r.io"])));
    assert!(!seen.warnings().is_empty() && seen.warnings().len() <= 5);
    assert!(seen.warnings().iter().all(|warning| warning.chars().count() <= 120));
}

#[test]
fn a_review_without_a_readable_pod_is_allowed_with_a_warning() {
    let rules = rules(&rule("regcred", &["r.io"]));
    for (object, place) in [
        (json!(null), "request.object"),
        (json!("pod"), "request.object"),
        (json!({"spec": {"containers": {}}}), "spec.containers"),
        (json!({"spec": {"containers": [{"image": "r.io/a"}], "imagePullSecrets": "x"}}), "spec.imagePullSecrets"),
        (json!({"spec": {"containers": [{"image": "r.io/a"}], "imagePullSecrets": ["x"]}}), "spec.imagePullSecrets"),
    ] {
        let seen = admit_pod(&object, &rules);
        assert_eq!((seen.outcome, &seen.pod), (Outcome::Unreadable, &object));
        let [warning] = seen.warnings()[..] else { panic!("{object}: {:?}", seen.warnings()) };
        assert!(warning.starts_with("pullcred PC102: nothing injected: ") && warning.contains(place), "{warning}");
    }
}

#[test]
fn a_uid_comes_back_from_the_worst_of_reviews() {
    let rules = rules(&rule("regcred", &["r.io"]));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        br#"{"request":{"uid":"u"}}"#.to_vec(),
        br#"{"apiVersion":"admission.k8s.io/v2","request":{"uid":"u","object":{}}}"#.to_vec(),
        br#"{"apiVersion":7,"request":{"uid":"u","operation":[],"object":1e999}}"#.to_vec(),
        br#"{"request":{"uid":5},"request":{"uid":"x","uid":"u","namespace":{}}}"#.to_vec(),
        br#"{"request":{"uid":"u","operation":"CREATE","resource":{"resource":"pods"},"object":{"spec":{"containers":[{"image":"\ud800"}]}}}}"#.to_vec(),
        b"{\"request\":{\"uid\":\"u\",\"object\":{\"\xff\":\"\xfe\"}}}".to_vec(),
        format!(r#"{{"request":{{"uid":"u","object":{deep}}}}}"#).into_bytes(),
        format!(r#"{{"request":{{"object":{{"spec":{{"containers":[{{"image":{deep}}}]}}}},"uid":"u"}}}}"#).into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let Answer::Review { body, decision } = answer(&body, &rules, &known(&[])) else { panic!("{shown}") };
        let response: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&*decision.uid, response["response"]["uid"].as_str()), ("u", Some("u")), "{shown}");
        assert!(response["response"]["patch"].is_null(), "{shown}");
    }
}

#[test]
fn a_body_without_a_uid_is_refused_with_the_reason() {
    let rules = rules(&rule("regcred", &["r.io"]));
    for (body, reason) in [
        (&b""[..], "empty"),
        (b"hello", "not JSON (line 1, column 1)"),
        (b"{\"request\":{\"uid\":\"u\"}", "not JSON"),
        (b"{\"request\":{\"uid\":\"u\"}} trailing", "not JSON"),
        (b"[]", "no request.uid"),
        (b"{\"kind\":\"Pod\"}", "no request.uid"),
        (b"{\"request\":{\"uid\":7}}", "no request.uid"),
        (b"{\"request\":{\"uid\":\"\"}}", "no request.uid"),
        (b"{\"request\":{\"uid\":\"u\",\"uid\":null}}", "no request.uid"),
    ] {
        match answer(body, &rules, &known(&[])) {
            Answer::NotAReview { message } => assert!(message.contains(reason), "{message}"),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
        }
    }
}
