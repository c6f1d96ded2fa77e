//! Slices of docker configs: a copy answers for a rule's images as the whole config does, and holds nothing that could serve
//! none of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pullcred::image::{Credential, DockerConfig, ImagePattern, ImageReference, Keyring, SecretType};
use serde_json::json;

fn config(keys: &[&str]) -> DockerConfig {
    keys.iter().map(|key| ((*key).to_owned(), Credential::new(*key, "p"))).collect()
}

fn patterns(texts: &[&str]) -> Vec<ImagePattern> {
    texts.iter().map(|text| ImagePattern::parse(text).unwrap()).collect()
}

fn keys(config: &DockerConfig) -> Vec<&str> {
    config.entries().map(|(key, _)| key).collect()
}

/// The user names that the kubelet would try, in its order.
fn tried(config: &DockerConfig, image: &ImageReference<'_>) -> Vec<String> {
    let mut keyring = Keyring::default();
    keyring.add(config);
    keyring.lookup(image).iter().map(|entry| entry.credential.username().to_owned()).collect()
}

#[test]
fn an_entry_is_kept_where_key_and_pattern_can_meet() {
    for (pattern, key, kept) in [
        ("a.io", "a.io", true),
        ("a.io", "https://a.io/v1/", true),
        ("a.io", "b.io", false),
        ("a.io", "*.io", true),
        ("a.io", "a.io:443", false),
        ("a.io:443", "a.io:443", true),
        ("*.io", "a.*", true),
        ("x-*.io", "*-y.io", true),
        ("x-*.io", "y-*.io", false),
        ("*.io", "a.b.io", false),
        ("a.io/team", "a.io", true),
        ("a.io/team", "a.io/te", true),
        ("a.io/team", "a.io/team", true),
        ("a.io/team", "a.io/team/", true),
        ("a.io/team", "a.io/team/app", true),
        ("a.io/team", "a.io/team-b", false),
        ("a.io/team", "a.io/other", false),
        ("a.io", "a.io/team/", true),
        // No image has such a name.
        ("a.io", "a.io/Team", false),
        ("a.io", "a.io/*", false),
        ("a.io", "a.io/te%61m", true),
        // The Hub's own key serves the Hub, and hosts that look like none.
        ("docker.io", "https://index.docker.io/v1/", true),
        ("docker.io/team", "https://index.docker.io/v1/", true),
        ("*.io", "index.docker.io", true),
        ("localhost", "index.docker.io", true),
        ("localhost:5000", "index.docker.io", false),
        ("a.io", "https://index.docker.io/v1/", false),
        ("docker.io", "https://index.docker.io/v1", false),
        ("docker.io", "registry-1.docker.io", false),
        ("docker.io/library", "docker.io", true),
        // A class, as far as Go lets one stand: an IPv6 address without its port.
        ("A*", "[::A]", true),
        // Not a URL.
        ("a.io", "a.io:x", false),
    ] {
        let sliced = config(&[key]).slice(&patterns(&[pattern]));
        assert_eq!(!sliced.is_empty(), kept, "the entry `{key}` for the pattern `{pattern}`");
    }
}

#[test]
fn entries_without_a_credential_are_dropped() {
    let whole: DockerConfig = [
        ("a.io".to_owned(), Credential::default()),
        ("a.io/team".to_owned(), Credential::new("u", "")),
        ("a.io/x".to_owned(), Credential::new("", "token")),
    ]
    .into_iter()
    .collect();
    assert_eq!(keys(&whole.slice(&patterns(&["a.io"]))), ["a.io/team", "a.io/x"]);
}

#[test]
fn what_is_written_is_canonical() {
    let text = json!({"x": 1, "auths": {"b.io": {"auth": "dTpwOnE"}, "a.io": {"username": "ü", "password": "\"", "email": "e"}}});
    let read = DockerConfig::parse(SecretType::DockerConfigJson, text.to_string().as_bytes()).unwrap();
    assert_eq!(
        read.to_json().expose(),
        "{\"auths\":{\"a.io\":{\"auth\":\"w7w6Ig==\",\"password\":\"\\\"\",\"username\":\"ü\"},\
         \"b.io\":{\"auth\":\"dTpwOnE=\",\"password\":\"p:q\",\"username\":\"u\"}}}"
    );
    assert!(!format!("{:?}", read.to_json()).contains('ü'), "what holds the credential does not print");
}

#[test]
fn a_user_name_with_a_colon_is_written_so_that_nobody_reads_another() {
    let read = |text: &str| DockerConfig::parse(SecretType::DockerConfigJson, text.as_bytes()).unwrap();
    let whole: DockerConfig = [("a.io".to_owned(), Credential::new("u:v", "p"))].into_iter().collect();
    assert!(!whole.to_json().expose().contains("auth\":"));
    assert_eq!(read(whole.to_json().expose()), whole);
}

/// Parts that meet often, in every place where keys, patterns and images have one.
fn host() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "ab", "a-b", "io", "docker", "A"]);
    (prop::collection::vec(label, 1..3), prop::sample::select(vec!["", "", "", ":5000", ":443"]))
        .prop_map(|(labels, port)| labels.join(".") + port)
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["team", "te", "app", "v1", "a", "team-b"]);
    prop::collection::vec(part, 0..4).prop_map(|parts| [vec![""], parts].concat().join("/"))
}

fn globbed(host: &str, stars: &[(usize, bool)]) -> String {
    let mut host = host.to_owned();
    for (at, replaced) in stars {
        let end = host.find(':').unwrap_or(host.len());
        let at = at % (end + 1);
        let replaced = *replaced && at < end && host.as_bytes()[at] != b'.';
        host.replace_range(at..at + usize::from(replaced), "*");
    }
    host
}

fn glob() -> impl Strategy<Value = String> {
    (host(), prop::collection::vec((0..9_usize, any::<bool>()), 0..3)).prop_map(|(host, stars)| globbed(&host, &stars))
}

fn key() -> impl Strategy<Value = String> {
    let schemes = prop::sample::select(vec!["", "", "https://", "http://", "HTTPS://"]);
    let ends = prop::sample::select(vec!["", "", "/", "?x", "#x", "-"]);
    let written =
        (schemes, glob(), path(), ends).prop_map(|(scheme, host, path, end)| scheme.to_owned() + &host + &path + end);
    let known = prop::sample::select(vec![
        "https://index.docker.io/v1/",
        "index.docker.io",
        "https://index.docker.io/v1",
        "docker.io",
        "docker.io/library/",
        "[::A]",
        "a.io:",
        "a.io:x",
        "a.io/%74eam",
        "u@a.io",
    ]);
    prop_oneof![4 => written, 1 => known.prop_map(str::to_owned)]
}

fn pattern() -> impl Strategy<Value = ImagePattern> {
    (glob(), path()).prop_filter_map("no pattern", |(host, path)| ImagePattern::parse(&(host + &path)).ok())
}

fn images() -> impl Strategy<Value = Vec<String>> {
    let image =
        (prop_oneof![4 => host(), 1 => Just("docker.io".to_owned()), 1 => Just("localhost".to_owned())], path())
            .prop_map(|(host, path)| host + if path.is_empty() { "/app" } else { &path });
    prop::collection::vec(prop_oneof![8 => image, 1 => Just("nginx".to_owned())], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// All that is there counts, but for entries that hold nothing: those stop anonymous pulls, and are never copied.
    #[test]
    fn a_slice_answers_for_its_images_as_the_whole_does(
        entries in prop::collection::btree_map(key(), 0..5_u8, 0..8),
        patterns in prop::collection::vec(pattern(), 1..4),
        images in images(),
    ) {
        let entries: BTreeMap<String, Credential> = entries
            .into_iter()
            .map(|(key, empty)| { let c = if empty == 0 { Credential::default() } else { Credential::new(&key, "p") }; (key, c) })
            .collect();
        let whole: DockerConfig = entries.clone().into_iter().filter(|(_, credential)| !credential.is_empty()).collect();
        let sliced = entries.into_iter().collect::<DockerConfig>().slice(&patterns);
        for image in &images {
            let Ok(image) = ImageReference::parse(image) else { continue };
            if patterns.iter().any(|pattern| pattern.covers(&image)) {
                prop_assert_eq!(tried(&sliced, &image), tried(&whole, &image), "{}", image);
            }
        }
    }

    #[test]
    fn what_a_slice_drops_could_serve_no_image(key in key(), patterns in prop::collection::vec(pattern(), 1..4), images in images()) {
        let whole = config(&[&key]);
        if whole.slice(&patterns).is_empty() {
            for image in &images {
                let Ok(image) = ImageReference::parse(image) else { continue };
                let covered = patterns.iter().any(|pattern| pattern.covers(&image)) && !tried(&whole, &image).is_empty();
                prop_assert!(!covered, "{}", image);
            }
        }
    }

    /// What a slice keeps is there for an image: the pattern's own, or the key's, with something in the place of each star.
    #[test]
    fn what_a_slice_keeps_serves_some_image(host in host(), path in path(), stars in prop::collection::vec((0..9_usize, any::<bool>()), 0..3), pattern in pattern()) {
        let key = globbed(&host, &stars) + &path;
        let whole = config(&[&key]);
        let image = host + if path.is_empty() { "/app" } else { &path };
        if let Ok(image) = ImageReference::parse(&image) && pattern.covers(&image) && !tried(&whole, &image).is_empty() {
            prop_assert_eq!(whole.slice(&[pattern]), whole);
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was(entries in prop::collection::btree_map("\\PC{0,20}", ("\\PC{0,9}", "\\PC{0,9}"), 0..6)) {
        let whole: DockerConfig = entries.into_iter().map(|(key, (user, password))| (key, Credential::new(user, password))).collect();
        let written = whole.to_json();
        let read = DockerConfig::parse(SecretType::DockerConfigJson, written.expose().as_bytes()).unwrap();
        prop_assert_eq!(read.to_json(), written);
        prop_assert_eq!(read, whole);
    }
}
