//! Objects of the API as narrow as they are needed: what is not kept is not decoded.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::ObjectMeta;
use kube::core::ClusterResourceScope;
use serde::{Deserialize, Deserializer};

use crate::rules::{Labels, NAME_LABEL};

/// What is read of an object's metadata; `managedFields` and the like are most of its size.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Annotations,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

/// What marks the image of a Pod that a kubelet reads from a file.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Reads metadata as narrow as it is needed: what a field of type `ObjectMeta` is deserialized with.
pub(crate) fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Meta {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
    } = Meta::deserialize(deserializer)?;
    let annotations = annotations.mirror.map(|mirror| BTreeMap::from([(MIRROR.to_owned(), mirror)]));
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    })
}

/// Says which resource a narrow type is of: of the core API, unless group and version are given. It has a field `metadata`.
macro_rules! narrow {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        $crate::cluster::objects::narrow!($type, "", "v1", $kind, $plural, $scope);
    };
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl ::kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> ::std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> ::std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &::kube::api::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ::kube::api::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(crate) use narrow;

narrow!(Namespace, "Namespace", "namespaces", ClusterResourceScope);

/// A namespace: its labels, and whether it is ending.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Namespace {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
}

impl Namespace {
    /// Its labels, without the one that holds its own name: that is known without asking.
    pub(crate) fn into_labels(self) -> Labels {
        let mut labels = self.metadata.labels.unwrap_or_default();
        labels.remove(NAME_LABEL);
        labels
    }
}
