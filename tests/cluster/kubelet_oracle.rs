//! The image room against the kubelet's own code: the same questions to `pullcred oracle` and to a program built from
//! Kubernetes' packages, and not one answer may differ.

mod compare;
mod mutants;
mod questions;

use pullcred::image::{Credential, DockerConfig, ImagePattern, ImageReference, SecretType};
use serde_json::Value;

pub use compare::Oracle;
use compare::{comparable, compare, generated, shrink};

/// Generated questions of each kind.
const CASES: usize = 10_000;

#[test]
fn references_are_parsed_as_the_kubelet_parses_them() {
    compare("parse", questions::references(), &questions::parse(), CASES, false);
}

#[test]
fn keys_match_as_the_kubelet_matches_them() {
    compare("match", vec![], &questions::matching(), CASES, false);
}

#[test]
fn credentials_are_found_as_the_kubelet_finds_them() {
    compare("lookup", vec![], &questions::lookups(), CASES, true);
}

#[test]
fn credentials_come_in_the_kubelets_order() {
    let keys = questions::keys().into_iter().map(|(_, question)| question);
    let secrets = questions::secrets().into_iter().map(|(_, question, _)| question);
    compare("order", keys.chain(secrets).collect(), &questions::order(), CASES, false);
}

#[test]
fn the_table_of_keys_is_what_the_kubelet_says() {
    let (rows, asked): (Vec<_>, Vec<_>) = questions::keys().into_iter().unzip();
    for (row, answer) in rows.iter().zip(Oracle::kubelet().ask(&asked)) {
        let covers = answer["credentials"].as_array().is_some_and(|found| !found.is_empty());
        assert_eq!(row[1] == "covers", covers, "the kubelet says otherwise: {}", row.join("  "));
    }
}

#[test]
fn the_table_of_secrets_is_what_the_kubelet_says() {
    let asked: Vec<Value> = questions::secrets().into_iter().map(|(_, question, _)| question).collect();
    for ((row, _, expected), answer) in questions::secrets().iter().zip(Oracle::kubelet().ask(&asked)) {
        assert_eq!(questions::told(&answer), *expected, "the kubelet says otherwise: {row}");
    }
}

/// What a rule covers, the same text as a key in a docker config covers too: a rule never promises what no credential keeps.
#[test]
fn a_pattern_covers_nothing_that_the_same_key_would_not() {
    let asked = generated(&questions::patterns(), CASES);
    let covered: Vec<Value> = asked
        .iter()
        .filter_map(|tree| {
            let (pattern, image, question) = tree.current();
            let pattern = ImagePattern::parse(&pattern).ok()?;
            pattern.covers(&ImageReference::parse(&image).ok()?).then_some(question)
        })
        .collect();
    println!("{} pairs of {} covered", covered.len(), asked.len());
    assert!(covered.len() > 50, "too few pairs match to show anything");
    for (question, answer) in covered.iter().zip(Oracle::kubelet().ask(&covered)) {
        assert_eq!(answer["credentials"][0]["username"], "u", "{question}");
    }
}

/// What a copy holds, as it is written, is to the kubelet what the whole is, for the images of the rule.
#[test]
fn a_slice_is_to_the_kubelet_what_the_whole_is() {
    let (mut whole, mut sliced, mut smaller) = (Vec::new(), Vec::new(), 0);
    for tree in generated(&questions::slices(), 2 * CASES) {
        let (patterns, data, image) = tree.current();
        let patterns: Vec<ImagePattern> = patterns.iter().filter_map(|text| ImagePattern::parse(text).ok()).collect();
        let Ok(config) = DockerConfig::parse(SecretType::DockerConfigJson, data.as_bytes()) else { continue };
        let Ok(parsed) = ImageReference::parse(&image) else { continue };
        if !patterns.iter().any(|pattern| pattern.covers(&parsed)) {
            continue;
        }
        let filled = |(key, found): (&str, &Credential)| (!found.is_empty()).then(|| (key.to_owned(), found.clone()));
        let full: DockerConfig = config.entries().filter_map(filled).collect();
        let slice = config.slice(&patterns);
        smaller += usize::from(slice != full);
        let ask =
            |config: &DockerConfig| questions::lookup(&[questions::secret(true, config.to_json().expose())], &image);
        whole.push(ask(&full));
        sliced.push(ask(&slice));
    }
    let answers = |questions: &[Value]| -> Vec<Value> {
        Oracle::kubelet().ask(questions).into_iter().map(|answer| comparable(answer, true)).collect()
    };
    let (of_whole, of_slice) = (answers(&whole), answers(&sliced));
    let found = of_whole.iter().filter(|answer| answer["credentials"] != Value::Array(vec![])).count();
    println!("{} configs, {smaller} of them sliced smaller, {found} with a credential", whole.len());
    assert!(found > 50 && smaller > 50, "too few to show anything");
    for ((whole, sliced), (of_whole, of_slice)) in whole.iter().zip(&sliced).zip(of_whole.iter().zip(&of_slice)) {
        assert_eq!(of_whole["ok"], true, "what is written is always read: {whole}");
        assert_eq!(of_whole, of_slice, "{whole} became {sliced}");
    }
}

/// What is printed of a disagreement can be put into a table as it is: made again from the kubelet's answers, rows are the same.
#[test]
fn a_question_and_its_answer_make_a_row_of_a_table() {
    let (lines, asked): (Vec<_>, Vec<_>) =
        questions::secrets().into_iter().map(|(line, question, _)| (line, question)).unzip();
    for ((line, question), answer) in lines.iter().zip(&asked).zip(Oracle::kubelet().ask(&asked)) {
        assert_eq!(questions::row(question, &answer).as_deref(), Some(*line));
    }
    let question = serde_json::json!({"op": "parse", "image": "a.io/x:1"});
    let answer = Oracle::kubelet().ask(std::slice::from_ref(&question)).remove(0);
    assert_eq!(questions::row(&question, &answer).as_deref(), Some("a.io/x:1  =>  a.io  x  1  -"));
    let broken = questions::lookup(&[questions::secret(true, "{\n}")], "a.io/x");
    assert_eq!(questions::row(&broken, &answer), None, "a row has one line");
}

#[test]
fn a_question_on_which_they_differ_is_made_small() {
    // As if they differed on every image of one registry with a port.
    let differs = |question: &Value| question["image"].as_str().is_some_and(|image| image.contains(":5000/"));
    let mut trees = generated(&questions::lookups(), 200);
    let tree = trees.iter_mut().find(|tree| differs(&tree.current())).expect("one of 200 has a port");
    let before = tree.current().to_string();
    let small = shrink(&mut **tree, differs);
    assert!(differs(&small), "it still shows the difference: {small}");
    assert_eq!(small["secrets"].as_array().unwrap().len(), 1, "{before} became {small}");
    assert!(small.to_string().len() <= before.len());
}
