//! The JSON patch (RFC 6902) that appends pull secrets to a Pod and does nothing else.

use super::json::put_text;

/// Writes the patch that appends these Secrets, in this order.
///
/// `has_list` says whether `spec.imagePullSecrets` is a list in the Pod. Where it is absent or null the whole list is added
/// (RFC 6902: `add` to a member that exists replaces it, so `null` is replaced too); to a list each entry is appended, since
/// another webhook may have added its own.
pub(super) fn append(secrets: &[&str], has_list: bool) -> Vec<u8> {
    const EACH: &[u8] = br#"{"op":"add","path":"/spec/imagePullSecrets/-","value":"#;
    let mut patch = Vec::with_capacity(64 + 96 * secrets.len());
    patch.extend_from_slice(if has_list { b"[" } else { br#"[{"op":"add","path":"/spec/imagePullSecrets","value":["# });
    for (number, secret) in secrets.iter().enumerate() {
        if number > 0 {
            patch.push(b',');
        }
        patch.extend_from_slice(if has_list { EACH } else { b"" });
        patch.extend_from_slice(br#"{"name":"#);
        put_text(&mut patch, secret);
        patch.extend_from_slice(if has_list { b"}}" } else { b"}" });
    }
    patch.extend_from_slice(if has_list { b"]" } else { b"]}]" });
    patch
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
