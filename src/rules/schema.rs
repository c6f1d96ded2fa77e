//! The schema of the documents, made from their types: for the Kubernetes API as CRDs, and for the file reader.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::document::{ClusterPullSecret, PullSecret};

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
                    refuse_null(schema);
                }
            }
            crd
        })
        .collect()
}

/// kube lets every optional field be null; we let none, so that one spelling means one thing.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flatten().for_each(|(_, property)| refuse_null(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        refuse_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}

/// `images`: a bounded list of bounded patterns.
pub(super) fn images(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_IMAGES,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_IMAGE_LENGTH,
        },
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
