//! What always holds of an injection, whatever the Pod and the rules are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, ImageVolumeSource, LocalObjectReference, Pod, PodSpec, Volume,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use pullcred::admission::{Answer, Outcome, answer};
use serde_json::{Value, json};

use super::injects::{Namespaces, admit, known, review, rule, rules};

/// Images that rules of [`rule_sets`] match often, near misses, and noise.
fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (select(vec!["r.io", "a.r.io", "b.a.r.io", "r.io:5000", "r.i", "docker.io", "localhost"]),
              select(vec!["team", "team/app", "team-b/app", "app"]),
              select(vec!["", ":1", "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]))
            .prop_map(|(host, path, rest)| format!("{host}/{path}{rest}")),
        1 => Just("nginx".to_owned()),
        1 => any::<String>(),
        1 => "[a-zA-Z0-9.:/@_-]{0,40}",
    ]
}

fn pods() -> impl Strategy<Value = Value> {
    let secrets = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        vec(
            prop_oneof![
                Just(json!({})),
                select(vec!["s0", "s1", "s2", "own"]).prop_map(|name| json!({"name": name})),
                Just(json!({"name": "own", "future": [1, 2]})),
            ],
            0..4
        )
        .prop_map(|entries| Some(Value::Array(entries))),
    ];
    let places =
        (vec(image(), 0..4), option::of(vec(image(), 0..3)), option::of(vec(image(), 0..2)), vec(image(), 0..3));
    (places, secrets, any::<bool>(), any::<bool>()).prop_map(
        |((main, init, ephemeral, volumes), secrets, future, named)| {
            let container = |image| Container { name: "c".into(), image: Some(image), ..Default::default() };
            let mut pod = serde_json::to_value(Pod {
                metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: named.then(|| "app".into()),
                    generate_name: Some("app-".into()),
                    ..Default::default()
                },
                spec: Some(PodSpec {
                    containers: main.into_iter().map(container).collect(),
                    init_containers: init.map(|images| images.into_iter().map(container).collect()),
                    ephemeral_containers: ephemeral.map(|images| {
                        let debug =
                            |image| EphemeralContainer { name: "d".into(), image: Some(image), ..Default::default() };
                        images.into_iter().map(debug).collect()
                    }),
                    volumes: Some(
                        volumes
                            .into_iter()
                            .map(|reference| Volume {
                                name: "v".into(),
                                image: Some(ImageVolumeSource { reference: Some(reference), pull_policy: None }),
                                ..Default::default()
                            })
                            .collect(),
                    ),
                    // Typed so that a field renamed in the API breaks this test; the odd lists are put in below.
                    image_pull_secrets: Some(vec![LocalObjectReference::default()]),
                    ..Default::default()
                }),
                status: None,
            })
            .unwrap();
            let spec = pod["spec"].as_object_mut().unwrap();
            match secrets {
                None => spec.remove("imagePullSecrets"),
                Some(secrets) => spec.insert("imagePullSecrets".to_owned(), secrets),
            };
            if future {
                spec.insert("fieldOfTomorrow".to_owned(), json!({"containers": [{"image": "r.io/not-an-image"}]}));
            }
            pod
        },
    )
}

fn rule_sets() -> impl Strategy<Value = String> {
    let pattern = select(vec![
        "r.io",
        "*.r.io",
        "r.io/team",
        "*.*.r.io",
        "a.r.io/team/app",
        "r.io:5000",
        "docker.io",
        "docker.io/library/nginx",
        "localhost",
        "other.io",
    ]);
    vec((vec(pattern, 1..4), any::<bool>()), 0..4).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (patterns, shadow))| {
                let yaml = rule(&format!("s{i}"), &patterns);
                if shadow { yaml.replace("spec: {", "spec: {mode: Shadow, ") } else { yaml }
            })
            .collect()
    })
}

fn entries(pod: &Value) -> Vec<Value> {
    pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn without_secrets(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["spec"].as_object_mut().unwrap().remove("imagePullSecrets");
    pod
}

fn team() -> Namespaces {
    known(&[("team", &[])])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // `admit` has json-patch apply the patch, so each case also shows that it applies.
    #[test]
    fn only_pull_secrets_change_and_only_by_appending_what_rules_name(pod in pods(), yaml in rule_sets()) {
        let rules = rules(&yaml);
        let seen = admit(&review(&pod), &rules, &team());
        prop_assert_eq!(without_secrets(&seen.pod), without_secrets(&pod));
        let (before, after) = (entries(&pod), entries(&seen.pod));
        prop_assert_eq!(&after[..before.len()], &before[..], "what was there stays, in order");
        let added: Vec<&str> = after[before.len()..].iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        let distinct: BTreeSet<&str> = added.iter().copied().collect();
        prop_assert_eq!(distinct.len(), added.len(), "nothing is added twice");
        for name in &added {
            prop_assert!(rules.rules().iter().any(|rule| rule.secret_name() == *name));
            prop_assert!(!before.iter().any(|entry| entry["name"] == **name));
        }
        prop_assert_eq!(seen.outcome == Outcome::Injected, !added.is_empty());
        prop_assert_eq!(seen.response["response"]["patch"].is_null(), added.is_empty());
    }

    #[test]
    fn a_second_run_changes_nothing(pod in pods(), yaml in rule_sets()) {
        let rules = rules(&yaml);
        let first = admit(&review(&pod), &rules, &team());
        let second = admit(&review(&first.pod), &rules, &team());
        prop_assert!(second.outcome != Outcome::Injected);
        prop_assert_eq!(second.pod, first.pod);
    }

    // The index of a rule set is an optimisation: asking every pattern of every rule must give the same.
    #[test]
    fn a_rule_that_covers_an_image_gives_its_secret_and_no_other_does(pod in pods(), yaml in rule_sets()) {
        use pullcred::image::ImageReference;
        use pullcred::rules::{Mode, Rule};
        let rules = rules(&yaml);
        let seen = admit(&review(&pod), &rules, &team());
        let spec = &pod["spec"];
        let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let images: Vec<String> = ["containers", "initContainers", "ephemeralContainers"].iter().flat_map(|field| list(field))
            .map(|container| container["image"].clone())
            .chain(list("volumes").into_iter().map(|volume| volume["image"]["reference"].clone()))
            .map(|image| image.as_str().unwrap().to_owned()).collect();
        let wanted: BTreeSet<&str> = rules.rules().iter()
            .filter(|rule| rule.mode() == Mode::Inject)
            .filter(|rule| images.iter().filter_map(|text| ImageReference::parse(text).ok())
                .any(|image| rule.patterns().iter().any(|pattern| pattern.covers(&image))))
            .map(Rule::secret_name).collect();
        let there: BTreeSet<String> = entries(&seen.pod).iter().filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect();
        let had: BTreeSet<String> = entries(&pod).iter().filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect();
        prop_assert_eq!(there, had.into_iter().chain(wanted.into_iter().map(str::to_owned)).collect::<BTreeSet<_>>());
    }

    #[test]
    fn every_byte_string_gets_an_answer(bytes in vec(any::<u8>(), 0..300)) {
        let rules = rules(&rule("s0", &["r.io"]));
        let answered = answer(&bytes, &rules, &team());
        prop_assert!(matches!(answered, Answer::NotAReview { .. }), "noise holds no uid");
    }

    // A review with damage anywhere: whenever serde_json still reads a uid, that uid comes back.
    #[test]
    fn the_uid_comes_back_whenever_one_can_be_read(
        pod in pods(),
        damage in vec((any::<Index>(), prop_oneof![any::<u8>(), select(b"\"{}[],:0\\".to_vec())]), 0..4),
        cut in option::of(any::<Index>()),
    ) {
        let rules = rules(&rule("s0", &["r.io"]));
        let mut bytes = serde_json::to_vec(&review(&pod)).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let uid = serde_json::from_slice::<Value>(&bytes).ok()
            .and_then(|value| value["request"]["uid"].as_str().map(str::to_owned))
            .filter(|uid| !uid.is_empty());
        match answer(&bytes, &rules, &team()) {
            Answer::Review { body, decision } => {
                let response: Value = serde_json::from_slice(&body).unwrap();
                prop_assert_eq!(response["response"]["uid"].as_str(), Some(&*decision.uid));
                prop_assert_eq!(&response["response"]["allowed"], &json!(true));
                if let Some(uid) = uid {
                    prop_assert_eq!(&*decision.uid, uid);
                }
            }
            Answer::NotAReview { message } => prop_assert!(uid.is_none(), "{message}"),
            Answer::NamespaceUnknown { .. } => prop_assert!(false, "no rule asks for labels"),
        }
    }
}
