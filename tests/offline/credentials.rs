//! Docker configs: which credential the kubelet would try for an image, and that none of them is ever printed.

use pullcred::image::{DockerConfig, DockerConfigError, ImageReference, Keyring, SecretType};
use serde_json::json;

use crate::support::tables::rows;

fn parse(data: &str) -> Result<DockerConfig, DockerConfigError> {
    DockerConfig::parse(SecretType::DockerConfigJson, data.as_bytes())
}

/// User names in the order in which the kubelet would try them.
fn tried(secrets: &[&str], image: &str) -> Vec<String> {
    let mut keyring = Keyring::default();
    for data in secrets {
        keyring.add(&parse(data).unwrap());
    }
    let image = ImageReference::parse(image).unwrap();
    keyring.lookup(&image).iter().map(|entry| entry.credential.username().to_owned()).collect()
}

#[test]
fn keys_cover_what_the_table_says() {
    let mut seen = 0;
    for line in rows(include_str!("data/images/credentials.txt")) {
        let [key, verb, image] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let found = tried(&[&json!({"auths": {key: {"username": "u"}}}).to_string()], image);
        assert_eq!(!found.is_empty(), verb == "covers", "{line}");
        assert!(matches!(verb, "covers" | "misses"), "{line}");
        seen += 1;
    }
    assert!(seen > 40, "the table was read");
}

#[test]
fn longer_keys_are_tried_first_and_secrets_in_their_order() {
    let secret = |key: &str, user: &str| json!({"auths": {key: {"username": user}}}).to_string();
    let secrets = [secret("a.io", "host"), secret("a.io/team", "path"), secret("https://a.io/v1/", "host again")];
    let secrets = secrets.each_ref().map(String::as_str);
    assert_eq!(tried(&secrets, "a.io/team/app"), ["path", "host", "host again"]);
    assert_eq!(tried(&secrets, "a.io/other"), ["host", "host again"]);
}

#[test]
fn auth_wins_over_user_name_and_password() {
    let data = r#"{"auths":{"a.io":{"username":"x","password":"y","auth":"dTpwOnE="}}}"#;
    let config = parse(data).unwrap();
    let (_, credential) = config.entries().next().unwrap();
    assert_eq!((credential.username(), credential.password()), ("u", "p:q"));
}

#[test]
fn the_legacy_type_holds_the_entries_alone() {
    let data = br#"{"a.io":{"username":"u"}}"#;
    let config = DockerConfig::parse(SecretType::DockerCfg, data).unwrap();
    assert_eq!(config.entries().map(|(key, _)| key).collect::<Vec<_>>(), ["a.io"]);
    assert_eq!(parse(std::str::from_utf8(data).unwrap()).unwrap().entries().count(), 0);
}

#[test]
fn what_is_wrong_is_told_and_nothing_of_the_secret() {
    for (data, words) in [
        ("", "is not JSON"),
        ("{\"auths\":{\"a.io\":{\"password\":\"hush\"", "is not JSON"),
        (r#"["hush"]"#, "where a mapping belongs"),
        (r#"{"auths":"hush"}"#, "where a mapping belongs"),
        (r#"{"auths":{"a.io":{"password":["hush"]}}}"#, "where text belongs"),
        (r#"{"auths":{"a.io":{"auth":"hush!"}}}"#, "not base64 of `user:password`"),
        (r#"{"auths":{"a.io":{"auth":"aHVzaA=="}}}"#, "not base64 of `user:password`"),
    ] {
        let message = parse(data).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains("hush"), "{data}: {message}");
    }
}

#[test]
fn credentials_do_not_print() {
    let config = parse(r#"{"auths":{"a.io":{"username":"hush","password":"hush"}}}"#).unwrap();
    let mut keyring = Keyring::default();
    keyring.add(&config);
    let printed = format!("{config:?} {keyring:?}");
    assert!(printed.contains("***") && !printed.contains("hush"), "{printed}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), text in "\\PC{0,100}") {
        for kind in [SecretType::DockerConfigJson, SecretType::DockerCfg] {
            let _ = DockerConfig::parse(kind, &bytes);
            if let Ok(config) = DockerConfig::parse(kind, text.as_bytes()) {
                Keyring::default().add(&config);
            }
        }
    }
}

#[test]
fn secrets_are_read_as_the_table_says() {
    let mut seen = 0;
    for line in rows(include_str!("data/images/secrets.txt")) {
        let [data, image, expected] = line.split("  =>  ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let told = || {
            let mut keyring = Keyring::default();
            for data in data.split(" + ") {
                let (kind, data) = match data.strip_prefix("dockercfg ") {
                    Some(data) => (SecretType::DockerCfg, data),
                    None => (SecretType::DockerConfigJson, data),
                };
                keyring.add(&DockerConfig::parse(kind, data.as_bytes()).ok()?);
            }
            let image = ImageReference::parse(image).ok()?;
            let login = |entry: &&pullcred::image::Entry| {
                format!("{}:{}", entry.credential.username(), entry.credential.password())
            };
            Some(keyring.lookup(&image).iter().map(login).collect::<Vec<_>>().join(" "))
        };
        let told =
            told().map_or("error".to_owned(), |found| if found.is_empty() { "nothing".to_owned() } else { found });
        assert_eq!(told, expected, "{line}");
        seen += 1;
    }
    assert!(seen > 40, "the table was read");
}
