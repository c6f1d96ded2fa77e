//! Which rules cover an image, and which namespaces they serve.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::core::{Selector, SelectorExt};
use proptest::prelude::*;
use pullcred::{
    image::ImageReference,
    rules::{
        Labels, Rule, RuleKind, RuleSet,
        document::{
            ClusterPullSecret, ClusterPullSecretSpec, LabelSelector, LabelSelectorRequirement, Operator, PullSecret,
            PullSecretSpec,
        },
    },
};

fn cluster_rule(name: &str, images: &[&str], selector: LabelSelector) -> Rule {
    let spec = ClusterPullSecretSpec {
        images: Some(images.iter().map(ToString::to_string).collect()),
        namespace_selector: Some(selector),
        reclaim_after: "24h".to_owned(),
        ..ClusterPullSecretSpec::default()
    };
    Rule::from_cluster_pull_secret(&ClusterPullSecret::new(name, spec)).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}

fn team_rule(namespace: &str, name: &str, images: &[&str]) -> Rule {
    let images = Some(images.iter().map(ToString::to_string).collect());
    let mut document = PullSecret::new(name, PullSecretSpec { images, ..PullSecretSpec::default() });
    document.metadata.namespace = Some(namespace.to_owned());
    Rule::from_pull_secret(&document).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}

/// The rules that the set finds for an image of a Pod in `namespace`, with the patterns that cover it.
fn found(rules: &RuleSet, image: &str, namespace: &str) -> BTreeSet<(String, String)> {
    let image = ImageReference::parse(image).unwrap();
    let mut found = BTreeSet::new();
    rules.matching(&image, namespace, |rule, pattern| {
        found.insert((rules.rules()[rule].id().to_string(), pattern.as_str().to_owned()));
    });
    found
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn match_labels(pairs: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(pairs)), match_expressions: None }
}

fn expression(key: &str, operator: Operator, values: &[&str]) -> LabelSelectorRequirement {
    let values = values.iter().map(ToString::to_string).collect();
    LabelSelectorRequirement { key: Some(key.to_owned()), operator: Some(operator), values: Some(values) }
}

#[test]
fn rules_are_found_by_host_by_path_and_by_glob() {
    let rules = RuleSet::compile(vec![
        cluster_rule("host", &["asia.gcr.io"], LabelSelector::default()),
        cluster_rule("path", &["asia.gcr.io/p/app"], LabelSelector::default()),
        cluster_rule("port", &["reg.example.com:5000"], LabelSelector::default()),
        cluster_rule("glob", &["*.gcr.io", "*.gcr.io/p"], LabelSelector::default()),
        cluster_rule("last", &["reg.example.c*"], LabelSelector::default()),
        cluster_rule("hub", &["docker.io"], LabelSelector::default()),
        cluster_rule("library", &["docker.io/library/nginx"], LabelSelector::default()),
    ]);
    for (image, expected) in [
        ("asia.gcr.io/p/app:1", vec!["glob *.gcr.io", "glob *.gcr.io/p", "host asia.gcr.io", "path asia.gcr.io/p/app"]),
        ("asia.gcr.io/p/app/x", vec!["glob *.gcr.io", "glob *.gcr.io/p", "host asia.gcr.io", "path asia.gcr.io/p/app"]),
        ("asia.gcr.io/p/app-2", vec!["glob *.gcr.io", "glob *.gcr.io/p", "host asia.gcr.io"]),
        ("asia.gcr.io/p2", vec!["glob *.gcr.io", "host asia.gcr.io"]),
        ("asia.gcr.io.evil.example/p/app", vec![]),
        ("reg.example.com:5000/a", vec!["port reg.example.com:5000"]),
        ("reg.example.com/a", vec!["last reg.example.c*"]),
        ("nginx", vec!["hub docker.io", "library docker.io/library/nginx"]),
        ("team/nginx", vec!["hub docker.io"]),
    ] {
        let found: Vec<String> = found(&rules, image, "default")
            .into_iter()
            .map(|(rule, pattern)| format!("{} {pattern}", rule.trim_start_matches("ClusterPullSecret ")))
            .collect();
        assert_eq!(found, expected, "{image}");
    }
}

#[test]
fn a_pullsecret_serves_its_own_namespace_only() {
    let rules = RuleSet::compile(vec![team_rule("a", "reg", &["ghcr.io/x"]), team_rule("b", "reg", &["ghcr.io/x"])]);
    assert_eq!(found(&rules, "ghcr.io/x/y", "b"), BTreeSet::from([("PullSecret b/reg".into(), "ghcr.io/x".into())]));
    assert_eq!(found(&rules, "ghcr.io/x/y", "c"), BTreeSet::new());
    assert_eq!(rules.rules()[0].serves("a", None), Some(true));
    assert_eq!(rules.rules()[0].serves("b", None), Some(false));
}

#[test]
fn rules_are_in_an_order_of_their_own() {
    let a = || team_rule("b", "a", &["a.io"]);
    let b = || team_rule("a", "b", &["a.io"]);
    let c = || cluster_rule("c", &["a.io"], LabelSelector::default());
    let order =
        |rules| -> Vec<String> { RuleSet::compile(rules).rules().iter().map(|rule| rule.id().to_string()).collect() };
    assert_eq!(order(vec![a(), b(), c()]), ["ClusterPullSecret c", "PullSecret a/b", "PullSecret b/a"]);
    assert_eq!(order(vec![c(), b(), a()]), order(vec![a(), b(), c()]));
}

#[test]
fn an_empty_selector_serves_every_namespace_even_one_that_is_not_known() {
    let rule = cluster_rule("all", &["a.io"], LabelSelector::default());
    assert_eq!(rule.serves("anything", None), Some(true));
    assert_eq!(rule.serves("anything", Some(&labels(&[]))), Some(true));
}

#[test]
fn a_namespace_is_selected_by_name_without_knowing_its_labels() {
    let by_label = cluster_rule("a", &["a.io"], match_labels(&[("kubernetes.io/metadata.name", "shop")]));
    let among = LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![expression("kubernetes.io/metadata.name", Operator::In, &["till", "shop"])]),
    };
    for rule in [by_label, cluster_rule("b", &["a.io"], among)] {
        assert_eq!(rule.serves("shop", None), Some(true));
        assert_eq!(rule.serves("kube-system", None), Some(false));
    }
}

#[test]
fn only_labels_that_decide_must_be_known() {
    let rule = cluster_rule(
        "both",
        &["a.io"],
        match_labels(&[("kubernetes.io/metadata.name", "shop"), ("tier", "production")]),
    );
    assert_eq!(rule.serves("kube-system", None), Some(false), "the name decides");
    assert_eq!(rule.serves("shop", None), None, "the other label decides");
    assert_eq!(rule.serves("shop", Some(&labels(&[("tier", "production")]))), Some(true));
    assert_eq!(rule.serves("shop", Some(&labels(&[]))), Some(false));
}

#[test]
fn what_slipped_past_the_api_is_refused_in_the_words_of_files() {
    let spec = ClusterPullSecretSpec {
        images: Some(vec!["https://asia.gcr.io".to_owned()]),
        reclaim_after: "1d".to_owned(),
        ..ClusterPullSecretSpec::default()
    };
    let wrong = Rule::from_cluster_pull_secret(&ClusterPullSecret::new("regcred", spec)).unwrap_err();
    assert_eq!(
        wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "PC008 spec.images[0]: `https://asia.gcr.io` has a scheme: write `asia.gcr.io`",
            "PC006 spec.namespaceSelector: is missing: write which namespaces may use this credential, `{}` for all of them",
            "PC012 spec.reclaimAfter: `1d` has the unknown unit `d` (a day is `24h`): write `h`, `m`, `s`, `ms`, `us` or \
             `ns`",
        ]
    );
}

#[test]
fn a_newer_field_does_not_make_the_api_rule_unreadable() {
    let object = serde_json::json!({
        "apiVersion": "pullcred.io/v1alpha1",
        "kind": "ClusterPullSecret",
        "metadata": {"name": "regcred"},
        "spec": {"images": ["asia.gcr.io"], "namespaceSelector": {}, "newer": true},
        "status": {"conditions": []}
    });
    let document: ClusterPullSecret = serde_json::from_value(object).unwrap();
    assert_eq!(Rule::from_cluster_pull_secret(&document).unwrap().secret_name(), "regcred");
}

/// Hosts, paths and names from few letters, so that they meet often.
fn pattern() -> impl Strategy<Value = String> {
    let host = "(a|b|[*]|a[*])[.](a|[*]b?)([.](io|[*]))?(:5000)?";
    let path = "(/(p|q|library)){0,3}";
    prop_oneof![4 => (host, path).prop_map(|(host, path)| host + &path), 1 => ("docker[.]io", path).prop_map(|(h, p)| h + &p)]
}

fn image() -> impl Strategy<Value = String> {
    prop_oneof!["(a|b|ab)[.](a|b|ab)([.](io|b))?(:5000)?(/(p|q|library|p-2)){1,4}(:1)?", "(p|q|library/p|p/q)"]
}

proptest! {
    #[test]
    fn the_set_finds_just_what_asking_every_pattern_finds(
        patterns in prop::collection::vec((pattern(), prop::option::of("[ab]")), 1..20),
        image in image(),
        namespace in "[ab]",
    ) {
        let rules = patterns.iter().enumerate().map(|(number, (pattern, namespace))| match namespace {
            Some(namespace) => team_rule(namespace, &format!("r{number}"), &[pattern]),
            None => cluster_rule(&format!("r{number}"), &[pattern], LabelSelector::default()),
        });
        let rules = RuleSet::compile(rules.collect());
        let reference = ImageReference::parse(&image).unwrap();
        let expected: BTreeSet<(String, String)> = rules
            .rules()
            .iter()
            .filter(|rule| rule.id().kind == RuleKind::ClusterPullSecret || rule.serves(&namespace, None) == Some(true))
            .flat_map(|rule| rule.patterns().iter().map(move |pattern| (rule, pattern)))
            .filter(|(_, pattern)| pattern.covers(&reference))
            .map(|(rule, pattern)| (rule.id().to_string(), pattern.as_str().to_owned()))
            .collect();
        prop_assert_eq!(found(&rules, &image, &namespace), expected);
    }

    #[test]
    fn selectors_select_as_those_of_kubernetes_do(
        equal in prop::collection::btree_map("[abc]", "[xyz]", 0..3),
        expressions in prop::collection::vec(("[abc]", 0..4_usize, prop::collection::vec("[xyz]", 1..3)), 0..4),
        labels in prop::collection::btree_map("[abc]", "[xyz]", 0..4),
    ) {
        const OPERATORS: [(Operator, &str); 4] = [
            (Operator::In, "In"),
            (Operator::NotIn, "NotIn"),
            (Operator::Exists, "Exists"),
            (Operator::DoesNotExist, "DoesNotExist"),
        ];
        let values = |operator, values: &[String]| match operator {
            Operator::In | Operator::NotIn => Some(values.to_vec()),
            Operator::Exists | Operator::DoesNotExist => None,
        };
        let ours = LabelSelector {
            match_labels: Some(equal.clone()),
            match_expressions: Some(expressions.iter().map(|(key, operator, given)| {
                let (operator, _) = OPERATORS[*operator];
                LabelSelectorRequirement { key: Some(key.clone()), operator: Some(operator), values: values(operator, given) }
            }).collect()),
        };
        let theirs: Selector = meta::LabelSelector {
            match_labels: Some(equal),
            match_expressions: Some(expressions.iter().map(|(key, operator, given)| {
                let (operator, name) = OPERATORS[*operator];
                meta::LabelSelectorRequirement { key: key.clone(), operator: name.to_owned(), values: values(operator, given) }
            }).collect()),
        }.try_into().unwrap();
        let labels: BTreeMap<String, String> = labels;
        let rule = cluster_rule("any", &["a.io"], ours);
        prop_assert_eq!(rule.serves("shop", Some(&labels)), Some(theirs.matches(&labels)));
    }
}
