//! Review bytes: every one gets an answer, the one that `serde_json`'s reading leads to; its patch applies and only appends pull
//! secrets, and a second run changes nothing.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use libfuzzer_sys::fuzz_target;
use pullcred::admission::{Answer, NamespaceLabels, Outcome, answer};
use pullcred::rules::{Labels, RuleSet, SourceFile, read_documents};
use serde::de::IgnoredAny;
use serde_json::Value;

const RULES: &[u8] = br#"
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: all}
spec: {images: [a.io, "*.b.io", docker.io/team], namespaceSelector: {}}
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: some}
spec: {images: [a.io/team], namespaceSelector: {matchLabels: {team: shop}}}
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: trial}
spec: {images: [docker.io], namespaceSelector: {}, mode: Shadow}
---
apiVersion: pullcred.io/v1alpha1
kind: PullSecret
metadata: {name: own, namespace: team}
spec: {images: ["localhost:5000"]}
"#;

static SET: LazyLock<RuleSet> = LazyLock::new(|| {
    let documents = read_documents(&[SourceFile { name: "rules", text: RULES }]).expect("the rules are valid");
    RuleSet::compile(documents.rules)
});

/// What is known of the namespace `team`, and of no other.
struct Team;

impl NamespaceLabels for Team {
    fn labels(&self, namespace: &str) -> Option<&Labels> {
        static LABELS: LazyLock<Labels> =
            LazyLock::new(|| [("team".to_owned(), "shop".to_owned())].into_iter().collect());
        (namespace == "team").then_some(&*LABELS)
    }
}

fn secrets(pod: &Value) -> Vec<Value> {
    pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn without_secrets(mut pod: Value) -> Value {
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("imagePullSecrets");
    }
    pod
}

/// Whether an answer is the one that `serde_json` leads to: none without a whole JSON value, the uid whenever one can be read.
fn agrees_with_serde_json(body: &[u8], answered: &Answer<'_>) {
    let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
    assert!(is_json || matches!(answered, Answer::NotAReview { .. }), "what is not JSON has no uid");
    let Ok(review) = serde_json::from_slice::<Value>(body) else { return };
    let uid = review["request"]["uid"].as_str().filter(|uid| (1..=512).contains(&uid.len()));
    match answered {
        Answer::Review { decision, .. } => {
            assert_eq!(Some(&*decision.uid), uid);
            // Written anew no name is repeated, and the last value of each is left.
            let again = serde_json::to_vec(&review).expect("a value is JSON");
            if decision.outcome != Outcome::Unreadable
                && let Answer::Review { decision: second, .. } = answer(&again, &SET, &Team)
            {
                assert_eq!((second.outcome, second.added), (decision.outcome, decision.added));
            }
        }
        Answer::NotAReview { message } => assert_eq!(uid, None, "{message}"),
        Answer::NamespaceUnknown { .. } => assert!(uid.is_some()),
    }
}

fuzz_target!(|body: &[u8]| {
    let answered = answer(body, &SET, &Team);
    agrees_with_serde_json(body, &answered);
    let Answer::Review { body: said, decision } = answered else { return };
    let said: Value = serde_json::from_slice(&said).expect("an answer is JSON");
    let response = &said["response"];
    assert_eq!(response["allowed"], true);
    assert_eq!(response["uid"], *decision.uid);
    let warnings = response["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.chars().count() <= 120)));
    assert_eq!(response["patch"].is_null(), decision.added == 0);
    let Ok(mut review) = serde_json::from_slice::<Value>(body) else { return };
    if decision.added == 0 {
        return;
    }

    let patch = response["patch"].as_str().expect("a patch is text");
    let patch = BASE64_STANDARD.decode(patch).expect("a patch is base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch is a JSON patch");
    let pod = review["request"]["object"].clone();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).expect("a patch applies");
    let (before, after) = (secrets(&pod), secrets(&patched));
    assert_eq!(after.len(), before.len() + decision.added);
    assert!(after.starts_with(&before));
    assert_eq!(without_secrets(patched.clone()), without_secrets(pod));

    review["request"]["object"] = patched;
    let again = serde_json::to_vec(&review).expect("a value is JSON");
    let Answer::Review { decision, .. } = answer(&again, &SET, &Team) else { panic!("the patched Pod gets no answer") };
    assert_eq!(decision.added, 0, "a second run changes nothing");
});
