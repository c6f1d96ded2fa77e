//! What Kubernetes allows as names and labels (apimachinery, pkg/util/validation).

/// Whether a text is a DNS label: the name of a namespace.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_part(text)
}

/// Whether a text is a DNS subdomain: the name of a Secret, and of most objects.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_part)
}

/// Whether a text is a label's key: a name, and before a slash a DNS subdomain.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Whether a text is a label's value.
pub(super) fn is_label_value(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && ends(bytes.first())
        && ends(bytes.last())
}

/// Lower-case letters and digits, with dashes inside.
fn is_dns_part(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_allows() {
        for name in ["regcred", "a", "a-b.c", "0", "a.b.c-d"] {
            assert!(is_subdomain(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a..b", ".a", "a.", "a/b", &"a".repeat(254)] {
            assert!(!is_subdomain(name), "{name}");
        }
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)) && !is_label("a.b"));
        for key in ["tier", "kubernetes.io/metadata.name", "A_b.c"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", "/a", "a/", "a/b/c", "UPPER.io/a", "-a"] {
            assert!(!is_label_key(key), "{key}");
        }
        assert!(is_label_value("") && is_label_value("Prod_1.x") && !is_label_value("a b") && !is_label_value("a-"));
    }
}
