//! The JSON patch (RFC 6902) that appends pull secrets to a Pod and does nothing else.

use serde::Serialize;

#[derive(Serialize)]
struct Reference<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "op", rename = "add")]
struct Add<'a, V> {
    path: &'a str,
    value: V,
}

/// Writes the patch that appends these Secrets, in this order.
///
/// `has_list` says whether `spec.imagePullSecrets` is a list in the Pod. Where it is absent or null the whole list is added
/// (RFC 6902: `add` to a member that exists replaces it, so `null` is replaced too); to a list each entry is appended, since
/// another webhook may have added its own.
pub(super) fn append(secrets: &[&str], has_list: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 96 * secrets.len());
    let references = secrets.iter().map(|name| Reference { name });
    let written = if has_list {
        let path = "/spec/imagePullSecrets/-";
        serde_json::to_writer(&mut bytes, &references.map(|value| Add { path, value }).collect::<Vec<_>>())
    } else {
        let path = "/spec/imagePullSecrets";
        serde_json::to_writer(&mut bytes, &[Add { path, value: references.collect::<Vec<_>>() }])
    };
    // Strings and structs written to memory: there is nothing that could fail.
    debug_assert!(written.is_ok());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secrets: &[&str], has_list: bool) -> String {
        String::from_utf8(append(secrets, has_list)).unwrap()
    }

    #[test]
    fn a_pod_without_a_list_gets_one() {
        assert_eq!(
            text(&["a", "b"], false),
            r#"[{"op":"add","path":"/spec/imagePullSecrets","value":[{"name":"a"},{"name":"b"}]}]"#
        );
    }

    #[test]
    fn a_list_that_is_there_grows_at_its_end() {
        assert_eq!(
            text(&["a", "b"], true),
            r#"[{"op":"add","path":"/spec/imagePullSecrets/-","value":{"name":"a"}},{"op":"add","path":"/spec/imagePullSecrets/-","value":{"name":"b"}}]"#
        );
    }
}
