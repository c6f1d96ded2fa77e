//! `pullcred match`: what it tells of an image, and what its exit code says.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use pullcred::image::{DockerConfig, ImagePattern, ImageReference, Keyring, key_near_miss, pattern_near_miss};
use serde_json::{Value, json};

use crate::support::tables::rows;

const RULES: &str = r#"
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: regcred}
spec: {images: [asia.gcr.io, asia.gcr.io/p, "*.azurecr.io"], namespaceSelector: {}}
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: narrow}
spec: {images: [asia.gcr.io/p/app], namespaceSelector: {matchLabels: {team: shop}}, secretName: shop}
---
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: trial}
spec: {images: [asia.gcr.io], namespaceSelector: {}, mode: Shadow}
---
apiVersion: pullcred.io/v1alpha1
kind: PullSecret
metadata: {name: own, namespace: shop}
spec: {images: [ghcr.io/shop]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
"#;

struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

fn ask(directory: &Path, arguments: &[&str], input: &str) -> Told {
    let mut process = Command::new(env!("CARGO_BIN_EXE_pullcred"))
        .arg("match")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever refuses its arguments reads nothing.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn an_image_is_told_with_its_rules_and_secrets_narrowest_first() {
    let folder = folder(&[("rules.yaml", RULES)]);
    let told = ask(folder.path(), &["--rules", "rules.yaml", "--namespace", "shop", "asia.gcr.io/p/app"], "");
    assert_eq!(
        told.out,
        "\
asia.gcr.io/p/app
  is          asia.gcr.io/p/app:latest
  rule        ClusterPullSecret narrow   asia.gcr.io/p/app -> shop
  rule        ClusterPullSecret regcred  asia.gcr.io/p -> regcred
  rule        ClusterPullSecret trial    asia.gcr.io -> trial (Shadow: counted, not added)
  secrets     shop, regcred
"
    );
    assert_eq!((told.code, told.err.as_str()), (0, ""));
}

#[test]
fn a_rule_that_does_not_serve_the_namespace_is_told_with_the_reason() {
    let folder = folder(&[("rules.yaml", RULES)]);
    let told = ask(folder.path(), &["--rules", "rules.yaml", "asia.gcr.io/p/app", "ghcr.io/shop/x"], "");
    assert!(
        told.out.contains(
            "near miss   ClusterPullSecret narrow, asia.gcr.io/p/app: its namespaceSelector does not select `default`"
        ),
        "{}",
        told.out
    );
    assert!(
        told.out
            .contains("PullSecret shop/own, ghcr.io/shop: it serves the namespace `shop` only, and this is `default`"),
        "{}",
        told.out
    );
    assert!(told.out.contains("none covers it in `default`"));
    assert_eq!(told.code, 1);
}

#[test]
fn credentials_are_told_in_the_kubelets_order_with_their_keys_and_never_a_password() {
    let secret = |auths: Value| json!({ "auths": auths }).to_string();
    let first = secret(json!({"a.io": {"username": "hush", "password": "hush"}, "a.io:443": {"auth": "aHVzaDpodXNo"}}));
    let second = secret(json!({"a.io/team": {"auth": "aHVzaDpodXNo"}, "https://a.io/v1/": {}}));
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64::prelude::BASE64_STANDARD.encode(second)},
    });
    let folder = folder(&[("first.json", &first), ("second.json", &manifest.to_string())]);
    let arguments = ["--docker-config", "first.json", "--docker-config", "second.json", "a.io/team/app", "b.io/x"];
    let told = ask(folder.path(), &arguments, "");
    assert_eq!(
        told.out,
        "\
a.io/team/app
  is          a.io/team/app:latest
  try 1       a.io/team (second.json)
  try 2       a.io (first.json)
  try 3       https://a.io/v1/ (second.json, without user name and password: it stops anonymous pulls)
  near miss   a.io:443 (first.json): ports are compared as they are written: `443`, and the image has none

b.io/x
  is          b.io/x:latest
  try         no credential covers it: it is pulled anonymously
"
    );
    assert_eq!((told.code, told.err.as_str()), (1, ""));
    let told = ask(folder.path(), &[&["--format", "json"], &arguments[..]].concat(), "");
    assert!(!told.out.contains("hush") && !told.out.contains("aHVz"), "{}", told.out);
}

#[test]
fn json_has_the_documented_shape() {
    let folder =
        folder(&[("rules.yaml", RULES), ("config.json", r#"{"auths":{"asia.gcr.io":{"username":"u"},"gcr.io":{}}}"#)]);
    let arguments = ["--rules", "rules.yaml", "--docker-config", "config.json", "--format", "json", "-"];
    let told = ask(folder.path(), &arguments, "asia.gcr.io/x@y\n\n  asia.gcr.io/x  \n");
    assert_eq!(
        told.json(),
        json!({
            "namespace": "default",
            "images": [
                {
                    "image": "asia.gcr.io/x@y",
                    "error": "the digest must be sha256, sha384 or sha512, a colon, and all its lower-case hexadecimal digits",
                    "nearMisses": [],
                },
                {
                    "image": "asia.gcr.io/x",
                    "reference": "asia.gcr.io/x:latest",
                    "rules": [
                        {"rule": "ClusterPullSecret regcred", "pattern": "asia.gcr.io", "secret": "regcred", "mode": "Inject"},
                        {"rule": "ClusterPullSecret trial", "pattern": "asia.gcr.io", "secret": "trial", "mode": "Shadow"},
                    ],
                    "secrets": ["regcred"],
                    "credentials": [{"config": "config.json", "key": "asia.gcr.io", "empty": false}],
                    "nearMisses": [{
                        "config": "config.json",
                        "key": "gcr.io",
                        "why": "it has 2 labels between its dots, and the image's host 3; a `*` stands for one",
                    }],
                },
            ],
        })
    );
    assert_eq!((told.code, told.err.as_str()), (2, "pullcred: `asia.gcr.io/x@y` is no image reference\n"));
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_of_a_secret() {
    let folder = folder(&[
        ("bad.yaml", "kind: ClusterPullSecret"),
        ("bad.json", r#"{"auths":{"a.io":{"auth":"hush"}}}"#),
        ("url.json", r#"{"auths":{"https://user:hush@a.io/x":{"auth":"?"}}}"#),
        ("opaque.json", r#"{"kind":"Secret","type":"Opaque","data":{}}"#),
        ("empty.json", r#"{"kind":"Secret","type":"kubernetes.io/dockercfg"}"#),
        ("empty-config.json", r#"{"auths":{}}"#),
        ("null.json", r#"{"kind":"Secret","type":"kubernetes.io/dockerconfigjson","data":null}"#),
        ("text.json", r#"{"kind":"Secret","type":"kubernetes.io/dockerconfigjson","data":"hush"}"#),
        ("list.json", r#"{"apiVersion":"v1","kind":"List","items":[{"kind":"Secret","data":{"x":"hush"}}]}"#),
    ]);
    for (arguments, words) in [
        (&["nginx"][..], "--rules <PATH>"),
        (&["--rules", "bad.yaml"], "required"),
        (&["--rules", "bad.yaml", "nginx"], "bad.yaml:1:"),
        (&["--docker-config", "absent.json", "nginx"], "absent.json: No such file"),
        (
            &["--docker-config", "bad.yaml", "nginx"],
            "bad.yaml: the docker config is not JSON (line 1, column 1); a Pod that lists",
        ),
        (
            &["--docker-config", "bad.json", "nginx"],
            "bad.json: the entry `a.io` has an `auth` that is not base64 of `user:password`; a Pod",
        ),
        (&["--docker-config", "url.json", "nginx"], "url.json: the entry `https://***@a.io/x` has an `auth`"),
        (&["--docker-config", "opaque.json", "nginx"], "passes over a Secret of type `Opaque`"),
        (&["--docker-config", "empty.json", "nginx"], "the Secret has no `.dockercfg`"),
        (&["--docker-config", "null.json", "nginx"], "the Secret has no `.dockerconfigjson` under `data`"),
        (&["--docker-config", "text.json", "nginx"], "`data` an object of base64 texts"),
        (&["--docker-config", "list.json", "nginx"], "its kind is `List`: pass one Secret"),
        (&["--docker-config", "empty-config.json", "-"], "there are no images: standard input"),
    ] {
        let told = ask(folder.path(), arguments, "");
        assert!(told.err.contains(words) && !told.err.contains("hush"), "{arguments:?}: {}", told.err);
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{arguments:?}");
    }
}

#[test]
fn near_misses_are_told_as_the_table_says() {
    let mut seen = 0;
    for line in rows(include_str!("data/images/near-misses.txt")) {
        let (key, rest) = line.split_once(' ').unwrap();
        let (text, told) = rest.trim_start().split_once(' ').unwrap();
        let image = ImageReference::parse(text).unwrap();
        let miss = if let Some(pattern) = key.strip_prefix("pattern:") {
            let pattern = ImagePattern::parse(pattern).unwrap();
            assert!(!pattern.covers(&image), "{line}");
            pattern_near_miss(&pattern, &image)
        } else {
            let mut keyring = Keyring::default();
            let config = json!({"auths": {key: {"username": "u"}, "docker.io": {}}}).to_string();
            keyring
                .add(&DockerConfig::parse(pullcred::image::SecretType::DockerConfigJson, config.as_bytes()).unwrap());
            assert!(!keyring.lookup(&image).iter().any(|entry| entry.key == key), "{line}");
            key_near_miss(key, &image)
        };
        match told.trim() {
            "-" => assert_eq!(miss, None, "{line}"),
            told => {
                let miss = miss.map(|miss| miss.to_string()).unwrap_or_default();
                assert!(miss.starts_with(told), "{line}: {miss:?}");
            }
        }
        seen += 1;
    }
    assert!(seen > 25, "the table was read");
}
