//! Names as Kubernetes validates them (`k8s.io/apimachinery/pkg/util/validation`).
//!
//! Each function answers with what is wrong and what to write instead.

/// A name that may hold dots: Secrets and rules. RFC 1123 subdomain, at most 253 characters.
pub(super) fn subdomain(name: &str) -> Result<(), String> {
    const WANTED: &str = "lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit";
    checked(name, 253, WANTED, name.split('.').all(is_label))
}

/// A name without dots: namespaces. RFC 1123 label, at most 63 characters.
pub(super) fn label(name: &str) -> Result<(), String> {
    const WANTED: &str = "lower-case letters, digits and `-`, beginning and ending with a letter or digit";
    checked(name, 63, WANTED, is_label(name))
}

/// A key inside a Secret.
pub(super) fn secret_key(key: &str) -> Result<(), String> {
    const WANTED: &str = "letters, digits, `-`, `_` and `.`, and not `.` or a beginning of `..`";
    let right =
        bytes_are(key, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && key != "." && !key.starts_with("..");
    checked(key, 253, WANTED, right)
}

/// The name of a credential provider: it is the name of a program file
/// (`pkg/credentialprovider/plugin/config.go`, `validateCredentialProviderConfig`).
pub(super) fn credential_provider(name: &str) -> Result<(), String> {
    const WANTED: &str = "the bare file name of the program, without `/` and spaces";
    let right =
        !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) && name != "." && name != "..";
    checked(name, 253, WANTED, right)
}

/// The key of a label: `name` or `prefix/name`.
pub(super) fn label_key(key: &str) -> Result<(), String> {
    const WANTED: &str = "at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit, \
                          and before a `/` at most a domain name";
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let right = name.len() <= 63 && is_label_text(name) && prefix.is_none_or(|prefix| subdomain(prefix).is_ok());
    checked(key, 253 + 1 + 63, WANTED, right)
}

/// The value of a label; empty is one.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    const WANTED: &str = "letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit";
    if value.is_empty() { Ok(()) } else { checked(value, 63, WANTED, is_label_text(value)) }
}

fn checked(text: &str, longest: usize, wanted: &str, right: bool) -> Result<(), String> {
    if text.is_empty() {
        Err(format!("is empty: write {wanted}"))
    } else if text.len() > longest {
        Err(format!("is {} characters long: at most {longest} are allowed", text.len()))
    } else if right {
        Ok(())
    } else {
        Err(format!("is not a name that Kubernetes takes: write {wanted}"))
    }
}

/// One part between dots of a host-like name. Kubernetes limits its length only where it stands alone.
fn is_label(text: &str) -> bool {
    !text.starts_with('-')
        && !text.ends_with('-')
        && bytes_are(text, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && bytes_are(text, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn bytes_are(text: &str, right: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_refused_as_kubernetes_does() {
        type Check = fn(&str) -> Result<(), String>;
        let long = |length: usize| "a".repeat(length);
        let cases: [(Check, Vec<String>, Vec<String>); 6] = [
            (
                subdomain,
                ["regcred", "a.b-c.d0", "0"].map(String::from).into_iter().chain([long(253)]).collect(),
                ["", "A", "a_b", "-a", "a-", ".a", "a..b", "a.-b", "a/b", "ä"]
                    .map(String::from)
                    .into_iter()
                    .chain([long(254)])
                    .collect(),
            ),
            (
                label,
                ["team", "a-b", "0a"].map(String::from).into_iter().chain([long(63)]).collect(),
                ["", "a.b", "a-", "Team"].map(String::from).into_iter().chain([long(64)]).collect(),
            ),
            (
                secret_key,
                ["key.json", ".dockerconfigjson", "A_b-c", ".a."].map(String::from).into(),
                ["", ".", "..", "..a", "a/b", "a b"].map(String::from).into(),
            ),
            (
                credential_provider,
                ["ecr-credential-provider", "gcp.exe", "A_1"].map(String::from).into(),
                ["", ".", "..", "bin/x", "a b", "a\tb"].map(String::from).into(),
            ),
            (
                label_key,
                ["env", "kubernetes.io/metadata.name", "A_b.c-d"]
                    .map(String::from)
                    .into_iter()
                    .chain([long(63)])
                    .collect(),
                ["", "/a", "a/", "a/b/c", "A/b", "-a", "a-", "a b"]
                    .map(String::from)
                    .into_iter()
                    .chain([long(64), format!("{}/a", long(254))])
                    .collect(),
            ),
            (
                label_value,
                ["", "true", "A_b.c-d", "0"].map(String::from).into_iter().chain([long(63)]).collect(),
                ["-a", "a-", "a/b", "a b"].map(String::from).into_iter().chain([long(64)]).collect(),
            ),
        ];
        for (check, good, bad) in cases {
            for name in good {
                assert_eq!(check(&name), Ok(()), "{name}");
            }
            for name in bad {
                assert!(check(&name).is_err(), "{name}");
            }
        }
    }
}
