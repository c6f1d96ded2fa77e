//! Questions about images, keys and Secrets: from tables, and generated so that keys and images meet.

use proptest::strategy::{BoxedStrategy, Strategy};
use serde_json::{Value, json};

use crate::support::tables::{expand, rows};

/// Tables, which tests/offline asks pullcred about too.
pub fn references() -> Vec<Value> {
    rows(include_str!("../../offline/data/images/references.txt")).filter_map(reference).collect()
}

/// What a row of the table of references asks.
fn reference(row: &str) -> Option<Value> {
    row.split_once("=>").map(|(image, _)| json!({"op": "parse", "image": expand(image.trim())}))
}

/// The table of keys, each row with the key, `covers` or `misses`, and the image.
pub fn keys() -> Vec<(Vec<&'static str>, Value)> {
    rows(include_str!("../../offline/data/images/credentials.txt"))
        .map(|line| {
            let row: Vec<&str> = line.split_whitespace().collect();
            let data = json!({"auths": {row[0]: {"username": "u"}}}).to_string();
            let question = lookup(&[secret(true, &data)], row[2]);
            (row, question)
        })
        .collect()
}

/// The table of Secrets: the row, the question, and what is expected.
pub fn secrets() -> Vec<(&'static str, Value, &'static str)> {
    rows(include_str!("../../offline/data/images/secrets.txt"))
        .map(|line| {
            let (question, expected) = of_secrets(line).unwrap_or_else(|| panic!("{line}"));
            (line, question, expected)
        })
        .collect()
}

/// What a row of the table of Secrets asks, and what it expects.
fn of_secrets(row: &str) -> Option<(Value, &str)> {
    let [data, image, expected] = row.split("  =>  ").collect::<Vec<_>>()[..] else { return None };
    let secrets: Vec<Value> = data
        .split(" + ")
        .map(|data| match data.strip_prefix("dockercfg ") {
            Some(data) => secret(false, data),
            None => secret(true, data),
        })
        .collect();
    Some((lookup(&secrets, image), expected))
}

/// The row that asks a question and expects the kubelet's answer, ready for `references.txt` or `secrets.txt`; `None` where no
/// row can say it, as with a line break in a Secret. Which words an error has is pullcred's to say, so a reference that is
/// refused leaves them out.
pub fn row(question: &Value, answer: &Value) -> Option<String> {
    let image = question["image"].as_str()?;
    let (row, asks) = if question["op"] == "parse" {
        let column = |name: &str, empty: &str| match answer[name].as_str() {
            Some("") | None => empty.to_owned(),
            Some(text) => text.to_owned(),
        };
        let parts = [column("registry", "\"\""), column("repository", "-"), column("tag", "-"), column("digest", "-")];
        let made = if answer["ok"] == true { parts.join("  ") } else { "error: ".to_owned() };
        let row = format!("{image}  =>  {made}");
        let asks = reference(&row);
        (row, asks)
    } else {
        let data = question["secrets"].as_array()?.iter().map(|secret| {
            let legacy = if secret["type"] == "kubernetes.io/dockercfg" { "dockercfg " } else { "" };
            Some(format!("{legacy}{}", secret["data"].as_str()?))
        });
        let data = data.collect::<Option<Vec<_>>>()?.join(" + ");
        let row = format!("{data}  =>  {image}  =>  {}", told(answer));
        let asks = of_secrets(&row).map(|(question, _)| question);
        (row, asks)
    };
    // As the table is read: a line break, a `#` in front or a `<` would make another question of it.
    (rows(&row).eq([row.trim()]) && asks.as_ref() == Some(question)).then_some(row)
}

/// An answer to a lookup as the table of Secrets has it.
pub fn told(answer: &Value) -> String {
    let login = |found: &Value| {
        let text = |name: &str| found[name].as_str().unwrap_or_default();
        format!("{}:{}", text("username"), text("password"))
    };
    match answer["credentials"].as_array() {
        Some(found) if found.is_empty() => "nothing".to_owned(),
        Some(found) => found.iter().map(login).collect::<Vec<_>>().join(" "),
        None => "error".to_owned(),
    }
}

/// A Secret of either type.
pub fn secret(json: bool, data: &str) -> Value {
    let kind = if json { "kubernetes.io/dockerconfigjson" } else { "kubernetes.io/dockercfg" };
    json!({"name": "s", "type": kind, "data": data})
}

/// Which credentials cover an image.
pub fn lookup(secrets: &[Value], image: &str) -> Value {
    json!({"op": "lookup", "secrets": secrets, "image": image})
}

/// References of images.
pub fn parse() -> BoxedStrategy<Value> {
    image().prop_map(|image| json!({"op": "parse", "image": image})).boxed()
}

/// One key and one image.
pub fn matching() -> BoxedStrategy<Value> {
    (key(), image()).prop_map(|(pattern, image)| json!({"op": "match", "pattern": pattern, "image": image})).boxed()
}

/// Up to three Secrets of any content, and an image.
pub fn lookups() -> BoxedStrategy<Value> {
    (proptest::collection::vec(data(), 1..4), image())
        .prop_map(|(secrets, image)| {
            let secrets: Vec<Value> = secrets.iter().map(|(json, data)| secret(*json, data)).collect();
            lookup(&secrets, &image)
        })
        .boxed()
}

/// One Secret for each key, so that the order is the kubelet's own and not a map's.
pub fn order() -> BoxedStrategy<Value> {
    (proptest::collection::vec(key(), 1..6), image())
        .prop_map(|(keys, image)| {
            let one = |(i, key): (usize, &String)| {
                secret(true, &json!({"auths": {key: {"username": i.to_string()}}}).to_string())
            };
            lookup(&keys.iter().enumerate().map(one).collect::<Vec<_>>(), &image)
        })
        .boxed()
}

/// A rule's pattern and an image, and the same text as a key.
pub fn patterns() -> BoxedStrategy<(String, String, Value)> {
    (place(), image())
        .prop_map(|(pattern, image)| {
            let data = json!({"auths": {&pattern: {"username": "u"}}}).to_string();
            let question = lookup(&[secret(true, &data)], &image);
            (pattern, image, question)
        })
        .boxed()
}

/// Patterns of a rule, a docker config and an image.
pub fn slices() -> BoxedStrategy<(Vec<String>, String, String)> {
    (proptest::collection::vec(place(), 1..8), data(), image())
        .prop_map(|(patterns, (_, data), image)| (patterns, data, image))
        .boxed()
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
