//! The schema of the documents, made from their types: for the Kubernetes API as CRDs, and for the file reader.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::{
    document::{ClusterPullSecret, PullSecret},
    selector::{LABEL_KEY_PATTERN, LABEL_VALUE_PATTERN, MAX_REQUIREMENTS},
};

/// How many image patterns one rule may hold.
pub(super) const MAX_IMAGES: usize = 128;
/// How long one image pattern may be, in bytes.
pub(super) const MAX_IMAGE_LENGTH: usize = 512;
/// How long a duration may be, in bytes: more is no duration that a person means.
pub(super) const MAX_DURATION_LENGTH: usize = 64;
/// An RFC 1123 subdomain, as Kubernetes names Secrets.
pub(super) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A key of a Secret.
pub(super) const KEY_PATTERN: &str = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)$";
/// A bare file name: no slash, no space, and neither `.` nor `..`.
pub(super) const PROVIDER_PATTERN: &str = r"^([^./\s][^/\s]*|\.[^./\s][^/\s]*|\.\.[^/\s]+)$";

/// The definitions of both kinds, for the Kubernetes API: `ClusterPullSecret`, then `PullSecret`.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [ClusterPullSecret::crd(), PullSecret::crd()]
        .into_iter()
        .map(|mut crd| {
            for version in &mut crd.spec.versions {
                if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                    tidy(schema);
                }
            }
            crd
        })
        .collect()
}

/// kube lets every optional field be null; we let none, so that one spelling means one thing. And descriptions are in
/// lines as wide as this source: whoever shows them breaks them anew.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = description.split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| tidy(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// `images`: a bounded list of bounded patterns. The rules are those of [`ImagePattern`](crate::image::ImagePattern), in
/// CEL; the last one refuses whatever the others have no better words for.
pub(super) fn images(_: &mut SchemaGenerator) -> Schema {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_IMAGES,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_IMAGE_LENGTH,
            "x-kubernetes-validations": [
                rule("!self.contains('//')", "has a scheme or an empty path segment: write host[:port][/path]"),
                rule("!self.contains('@')", "has a user or a digest: write host[:port][/path]"),
                rule("!self.endsWith('/')", "ends with a slash: write it without"),
                rule(
                    "self.matches('^(localhost|[^/]*[.:A-Z][^/]*)(/|$)')",
                    "names no registry: write the host, or docker.io/ before an image of Docker Hub",
                ),
                rule(
                    "!self.matches('^(index|registry-1)[.]docker[.]io(/|$)')",
                    "is not how images name Docker Hub: write docker.io",
                ),
                rule("!self.matches('^[^/]*/v[12]/')", "has a path that begins with v1/ or v2/, which the kubelet drops"),
                rule(
                    "self.contains('//') || self.contains('@') || self.endsWith('/') \
                     || self.matches('^(LABEL([.]LABEL)*(:PORT)?|[[][0-9A-Fa-f:]+[]]:PORT)(/PART(/PART)*)?$')"
                        .replace("LABEL", "[A-Za-z0-9*]([-A-Za-z0-9*]*[A-Za-z0-9*])?")
                        .replace("PORT", "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])")
                        .replace("PART", "[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*")
                        .as_str(),
                    "is not host[:port][/path], with * in labels of the host only, and without a tag",
                ),
            ],
        },
    })
}

/// `matchLabels`: a bounded map of label keys to label values.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_REQUIREMENTS,
        "additionalProperties": {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN},
        "x-kubernetes-validations": [{
            "rule": format!("self.all(key, key.size() <= 317 && key.matches('{}'))", LABEL_KEY_PATTERN.replace('\\', r"\\")),
            "message": "keys must be those of labels: letters, digits, -, _ and ., with at most a domain name before one /",
        }],
    })
}

/// `reclaimAfter`: a duration as Go reads it, without a sign.
pub(super) fn reclaim_after(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_DURATION_LENGTH,
        "x-kubernetes-validations": [{
            "rule": r"self.matches('^(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$') && duration(self) >= duration('0s')",
            "message": "must be a duration such as 24h or 1h30m, at most 2562047h",
        }],
    })
}
