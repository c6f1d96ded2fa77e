//! The image room against the kubelet's own code: the same questions to `pullcred oracle` and to a program built from
//! Kubernetes' packages, and not one answer may differ.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use pullcred::image::{ImagePattern, ImageReference};
use serde_json::{Value, json};

use crate::support::control_plane;

/// Generated questions of each kind.
const CASES: usize = 10_000;

/// Asks a program all questions, and gives its answers.
fn ask(program: &Path, arguments: &[&str], questions: &[Value]) -> Vec<Value> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut input = child.stdin.take().unwrap();
    let lines = questions.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{} ended with {}", program.display(), output.status);
    let answers: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), questions.len(), "an answer for each question");
    answers
}

/// An answer as it is compared: error texts are each program's own, and several spellings of one key inside one Secret come
/// in random order from the kubelet, so that neighbours are sorted.
fn comparable(mut answer: Value, sort: bool) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("error");
    }
    if sort && let Some(credentials) = answer["credentials"].as_array_mut() {
        credentials.sort_by_key(Value::to_string);
    }
    answer
}

/// Asks both, and fails with the first questions on which they differ.
fn compare(what: &str, questions: &[Value], sort: impl Fn(&Value) -> bool) {
    let kubelet = control_plane::built().join("kubelet-oracle");
    let theirs = ask(&kubelet, &[], questions);
    let ours = ask(Path::new(env!("CARGO_BIN_EXE_pullcred")), &["oracle"], questions);
    let mut differing = Vec::new();
    let (mut valid, mut found) = (0, 0);
    for ((question, theirs), ours) in questions.iter().zip(theirs).zip(ours) {
        let sort = sort(question);
        let (theirs, ours) = (comparable(theirs, sort), comparable(ours, sort));
        valid += usize::from(theirs["ok"] == true);
        found += usize::from(
            theirs["matched"] == true || theirs["credentials"].as_array().is_some_and(|some| !some.is_empty()),
        );
        if theirs != ours {
            differing.push(format!("{question}\n  kubelet:  {theirs}\n  pullcred: {ours}"));
        }
    }
    differing.sort_by_key(String::len);
    println!(
        "{what}: {} questions, {valid} valid, {found} with a match, {} disagreements",
        questions.len(),
        differing.len()
    );
    assert!(valid > questions.len() / 10, "{what}: the questions are hardly ever valid, and show little");
    assert!(what == "parse" || found > questions.len() / 50, "{what}: hardly anything matches, which shows little");
    let shown = differing.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(differing.is_empty(), "{what}: {} disagreements, the shortest of them:\n{shown}", differing.len());
}

/// Questions from a strategy, the same for the same seed: `PULLCRED_TEST_SEED`, or 1.
fn generated<T>(strategy: impl Strategy<Value = T>, question: impl Fn(T) -> Value) -> Vec<Value> {
    let seed: u64 = std::env::var("PULLCRED_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..CASES).map(|_| question(strategy.new_tree(&mut runner).unwrap().current())).collect()
}

/// Hosts, ports and paths that are near one another, so that answers are not all the same.
fn place() -> impl Strategy<Value = String> {
    use proptest::prelude::*;
    let label = prop_oneof![4 => "[ab]{1,2}", 1 => "\\*", 1 => "[ab]?\\*[ab]?", 1 => "[A-Za-z0-9_%~<>\"-]{0,3}", 1 => "\\[[a-b^-]{0,3}\\]?"];
    let host = prop_oneof![
        8 => proptest::collection::vec(label, 1..4).prop_map(|labels| labels.join(".")),
        2 => proptest::sample::select(vec![
            "docker.io", "index.docker.io", "registry-1.docker.io", "localhost", "a.io", "[::1]", "[fd00::1%25a]", "127.0.0.1", "é.io",
            "%c3%a9.io", "%41.io", "[::ffff:1.2.3.4]",
        ]).prop_map(str::to_owned),
    ];
    let port = prop_oneof![6 => Just(String::new()), 2 => Just(":5000".to_owned()), 1 => ":[0-9*]{0,2}", 1 => Just(":443".to_owned())];
    let path = prop_oneof![
        3 => Just(String::new()),
        6 => "(/[ab]{1,2}){1,3}",
        1 => "/",
        1 => "/v[123](/[ab]?)?",
        1 => "(/[ab%2*_.A-]{0,3}){1,3}/?",
    ];
    let anything = (host, port, path).prop_map(|(host, port, path)| host + &port + &path);
    // Few enough that keys and images meet.
    let hosts = vec![
        "a.io",
        "a.b.io",
        "b.io:5000",
        "docker.io",
        "index.docker.io",
        "localhost",
        "[::1]:5000",
        "*.io",
        "*.b.io",
        "a*.io",
    ];
    let near = (
        proptest::sample::select(hosts),
        proptest::sample::select(vec!["", "/", "/a", "/a/b", "/aa", "/a/", "/v1/", "/v2/a"]),
    );
    prop_oneof![1 => anything, 3 => near.prop_map(|(host, path)| format!("{host}{path}"))]
}

fn key() -> impl Strategy<Value = String> {
    use proptest::prelude::*;
    let before = prop_oneof![
        20 => Just(""), 6 => Just("https://"), 1 => Just("http://"), 1 => Just("HTTPS://"), 1 => Just("u@"), 1 => Just("https://u:p@"), 1 => Just("//"),
    ];
    let after = prop_oneof![30 => Just(""), 1 => Just("/"), 1 => Just("?a"), 1 => Just("#%"), 1 => Just("#a"), 1 => Just(" "), 1 => Just("\u{7f}")];
    (before, place(), after).prop_map(|(before, place, after)| format!("{before}{place}{after}"))
}

fn image() -> impl Strategy<Value = String> {
    use proptest::prelude::*;
    let rest = prop_oneof![
        4 => Just(String::new()),
        2 => ":[a-zA-Z0-9._-]{0,4}",
        1 => Just(format!("@sha256:{}", "0".repeat(64))),
        1 => "@(sha256|sha512|md5)?:[0-9a-f]{60,66}",
        1 => Just(format!(":1@sha512:{}", "a".repeat(128))),
    ];
    let hosts = vec![
        "a.io/",
        "a.b.io/",
        "b.io:5000/",
        "docker.io/",
        "index.docker.io/",
        "localhost/",
        "[::1]:5000/",
        "",
        "ab.io/",
    ];
    let near = (
        proptest::sample::select(hosts),
        proptest::sample::select(vec!["a", "a/b", "a/b/a", "aa", "aa/b", "v1/a", "library/a"]),
        proptest::sample::select(vec!["", ":1"]),
    );
    prop_oneof![
        20 => near.prop_map(|(host, path, tag)| format!("{host}{path}{tag}")),
        8 => (place(), "(/[ab]{1,2})?", rest).prop_map(|(place, more, rest)| place + &more + &rest),
        1 => "[a-c._/:@-]{0,12}",
        1 => proptest::sample::select(vec!["nginx", "team/app", "docker.io/a/b", "localhost/a", "a.io/a", "a.io/aa/b"]).prop_map(str::to_owned),
    ]
}

/// The data of a Secret: mostly right, and wrong in each way there is.
fn data() -> impl Strategy<Value = (bool, String)> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use proptest::prelude::*;
    let auth = prop_oneof![
        6 => "[a-z]{1,3}:[a-z:]{0,3}".prop_map(|text| STANDARD.encode(text)),
        2 => "[a-z]{1,3}:[a-z:]{0,3}".prop_map(|text| STANDARD_NO_PAD.encode(text)),
        1 => proptest::collection::vec(any::<u8>(), 1..6).prop_map(|mut bytes| { bytes.push(b':'); STANDARD.encode(bytes) }),
        1 => "[a-z]{1,3}:[a-z]{0,3}".prop_map(|text| { let text = STANDARD.encode(text); format!("{}\n{}\r\n", &text[..2], &text[2..]) }),
        1 => "[A-Za-z0-9+/=_ -]{0,6}",
    ];
    let entry = prop_oneof![
        6 => auth.prop_map(|auth| json!({"auth": auth}).to_string()),
        4 => ("[a-z]{0,2}", "[a-z]{0,2}").prop_map(|(user, password)| json!({"username": user, "password": password}).to_string()),
        1 => proptest::sample::select(vec![
            "null", "{}", "{\"identitytoken\":\"t\"}", "{\"USERNAME\":\"U\",\"Password\":\"P\"}", "{\"username\":\"a\",\"username\":null}",
            "{\"u\u{17f}ername\":\"s\"}", "{\"username\":\"\\ud800\\u0041\\udc00\"}", "{\"username\":\"a\",\"username\":\"b\"}",
            "{\"auth\":\"YTpi\",\"username\":\"x\"}", "{\"auth\":\"\",\"username\":\"x\"}", "{\"auth\":null}", "{\"unknown\":[1e999]}",
        ]).prop_map(str::to_owned),
        1 => proptest::sample::select(vec!["[]", "\"x\"", "7", "true", "{\"auth\":7}", "{\"email\":[]}", "{\"username\":{}}"]).prop_map(str::to_owned),
    ];
    let entries = proptest::collection::vec((key(), entry), 0..4).prop_map(|entries| {
        let members: Vec<String> = entries.iter().map(|(key, entry)| format!("{}:{entry}", json!(key))).collect();
        format!("{{{}}}", members.join(","))
    });
    let entries = entries.boxed();
    let config = prop_oneof![
        12 => entries.clone().prop_map(|auths| format!("{{\"auths\":{auths}}}")),
        1 => (entries.clone(), entries.clone()).prop_map(|(a, b)| format!("{{\"auths\":{a},\"AUTHS\":{b}}}")),
        1 => entries.clone().prop_map(|auths| format!("{{\"auths\":{auths},\"auths\":null}}")),
        1 => entries.clone().prop_map(|auths| format!("{{\"HttpHeaders\":{{\"a\":\"b\"}},\"credsStore\":5,\"auth\u{17f}\":{auths}}}")),
        1 => proptest::sample::select(vec![
            "", " ", "null", "[]", "{}", "{", "{}x", "{\"auths\":[]}", "{\"auths\":\"\"}", "{\"HttpHeaders\":{\"a\":1}}", "{\"HttpHeaders\":[]}", "{\"auths\":{}}\n",
        ]).prop_map(str::to_owned),
    ];
    prop_oneof![5 => config.prop_map(|data| (true, data)), 1 => entries.prop_map(|data| (false, data))]
}

#[test]
fn references_are_parsed_as_the_kubelet_parses_them() {
    let table = include_str!("../offline/data/images/references.txt").lines().filter_map(|line| line.split_once("=>"));
    let mut questions: Vec<Value> = table.map(|(image, _)| json!({"op": "parse", "image": image.trim()})).collect();
    questions.extend(generated(image(), |image| json!({"op": "parse", "image": image})));
    compare("parse", &questions, |_| false);
}

#[test]
fn keys_match_as_the_kubelet_matches_them() {
    let questions =
        generated((key(), image()), |(pattern, image)| json!({"op": "match", "pattern": pattern, "image": image}));
    compare("match", &questions, |_| false);
}

#[test]
fn credentials_are_found_as_the_kubelet_finds_them() {
    let secrets = proptest::collection::vec(data(), 1..4);
    let questions = generated((secrets, image()), |(secrets, image)| {
        let secrets: Vec<Value> = secrets
            .iter()
            .map(|(json, data)| json!({"name": "s", "type": if *json { "kubernetes.io/dockerconfigjson" } else { "kubernetes.io/dockercfg" }, "data": data}))
            .collect();
        json!({"op": "lookup", "secrets": secrets, "image": image})
    });
    compare("lookup", &questions, |_| true);
}

/// One Secret for each key, so that the order is the kubelet's own and not a map's.
#[test]
fn credentials_come_in_the_kubelets_order() {
    let keys = proptest::collection::vec(key(), 1..6);
    let questions = generated((keys, image()), |(keys, image)| {
        let secret = |(i, key): (usize, &String)| {
            let data = json!({"auths": {key: {"username": i.to_string()}}}).to_string();
            json!({"name": "s", "type": "kubernetes.io/dockerconfigjson", "data": data})
        };
        let secrets: Vec<Value> = keys.iter().enumerate().map(secret).collect();
        json!({"op": "lookup", "secrets": secrets, "image": image})
    });
    compare("order", &questions, |_| false);
}

#[test]
fn the_table_of_keys_is_what_the_kubelet_says() {
    let rows = include_str!("../offline/data/images/credentials.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split_whitespace().collect()).collect();
    let questions: Vec<Value> = rows
        .iter()
        .map(|row| {
            let data = json!({"auths": {row[0]: {"username": "u"}}}).to_string();
            let secret = json!({"name": "s", "type": "kubernetes.io/dockerconfigjson", "data": data});
            json!({"op": "lookup", "secrets": [secret], "image": row[2]})
        })
        .collect();
    compare("table", &questions, |_| false);
    let answers = ask(&control_plane::built().join("kubelet-oracle"), &[], &questions);
    let wrong: BTreeMap<String, Value> = rows
        .iter()
        .zip(answers)
        .filter(|(row, answer)| {
            (row[1] == "covers") != answer["credentials"].as_array().is_some_and(|found| !found.is_empty())
        })
        .map(|(row, answer)| (row.join("  "), answer))
        .collect();
    assert!(wrong.is_empty(), "the kubelet says otherwise: {wrong:#?}");
}

/// What a rule covers, the same text as a key in a docker config covers too: a rule never promises what no credential keeps.
#[test]
fn a_pattern_covers_nothing_that_the_same_key_would_not() {
    let asked = generated((place(), image()), |(pattern, image)| json!([pattern, image]));
    let covered: Vec<Value> = asked
        .iter()
        .filter_map(|pair| {
            let (text, image) = (pair[0].as_str()?, pair[1].as_str()?);
            let pattern = ImagePattern::parse(text).ok()?;
            pattern.covers(&ImageReference::parse(image).ok()?).then(|| {
                let data = json!({"auths": {text: {"username": "u"}}}).to_string();
                let secret = json!({"name": "s", "type": "kubernetes.io/dockerconfigjson", "data": data});
                json!({"op": "lookup", "secrets": [secret], "image": image})
            })
        })
        .collect();
    println!("{} pairs of {} covered", covered.len(), asked.len());
    assert!(covered.len() > 50, "too few pairs match to show anything");
    for (question, answer) in covered.iter().zip(ask(&control_plane::built().join("kubelet-oracle"), &[], &covered)) {
        assert_eq!(answer["credentials"][0]["username"], "u", "{question}");
    }
}
