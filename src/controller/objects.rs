//! Objects of the API as narrow as they are needed: what is not kept is not decoded, and a Secret's data becomes a hash.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};

use crate::provision::{Observed, PodFacts};

/// The label that says who manages a copy, and its value.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "pullcred");
/// The label that says which rule a copy serves.
pub(super) const RULE_LABEL: &str = "pullcred.io/rule";
/// The type of every copy, and its one key.
pub(super) const COPY_TYPE: &str = "kubernetes.io/dockerconfigjson";
pub(super) const COPY_KEY: &str = ".dockerconfigjson";

/// A hash of a docker config. Its key is drawn anew by each process, so that nobody can write two configs with one hash.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYED.hash_one(bytes)
}

/// What is read of an object's metadata; `managedFields` and the like are most of its size.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
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

const MIRROR: &str = "kubernetes.io/config.mirror";

fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Meta { name, namespace, uid, resource_version, deletion_timestamp, labels, annotations, owner_references } =
        Meta::deserialize(deserializer)?;
    let annotations = annotations.mirror.map(|mirror| BTreeMap::from([(MIRROR.to_owned(), mirror)]));
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    })
}

macro_rules! narrow {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

narrow!(Pod, "Pod", "pods", NamespaceResourceScope);
narrow!(Namespace, "Namespace", "namespaces", ClusterResourceScope);
narrow!(Secret, "Secret", "secrets", NamespaceResourceScope);
narrow!(SourceSecret, "Secret", "secrets", NamespaceResourceScope);

/// A namespace: its labels, and whether it is ending.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Namespace {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
}

/// A Pod: its phase, its pull secrets and its images.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    image_pull_secrets: Option<Vec<Reference>>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    image: Option<ImageVolume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ImageVolume {
    reference: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
}

impl Pod {
    /// What provisioning has to know of it.
    pub(super) fn facts(self) -> PodFacts {
        let Self { metadata, spec, status } = self;
        let is_mirror = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR));
        let mut secrets: Vec<String> =
            spec.image_pull_secrets.into_iter().flatten().filter_map(|reference| reference.name).collect();
        secrets.sort_unstable();
        secrets.dedup();
        let containers = [spec.containers, spec.init_containers, spec.ephemeral_containers];
        let containers = containers.into_iter().flatten().flatten().filter_map(|container| container.image);
        let volumes = spec.volumes.into_iter().flatten().filter_map(|volume| volume.image?.reference);
        let mut images: Vec<String> = containers.chain(volumes).filter(|_| !is_mirror).collect();
        images.sort_unstable();
        images.dedup();
        let live = !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        PodFacts { uid: metadata.uid.unwrap_or_default(), live, secrets, images }
    }
}

/// A Secret of a name that copies have: a hash of its docker config, never the config.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Secret {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    type_: Option<String>,
    #[serde(default)]
    immutable: Option<bool>,
    #[serde(default)]
    data: Option<HashedData>,
}

#[derive(Clone, Debug, Deserialize)]
struct HashedData {
    #[serde(rename = ".dockerconfigjson", default, deserialize_with = "hashed")]
    docker_config: Option<u64>,
}

fn hashed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| BASE64_STANDARD.decode(text.as_bytes()).ok()).map(|bytes| fingerprint(&bytes)))
}

impl Secret {
    /// What planning has to know of it.
    pub(super) fn observed(&self) -> Observed {
        let label = |key: &str| self.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let rules = owners
            .iter()
            .filter(|owner| owner.kind == "ClusterPullSecret" && owner.api_version.starts_with("pullcred.io/"));
        let rules: Box<[Box<str>]> = rules.map(|owner| owner.uid.as_str().into()).collect();
        Observed {
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            version: self.metadata.resource_version.as_deref().unwrap_or_default().into(),
            is_shared: rules.len() < owners.len(),
            owners: rules,
            fingerprint: self.data.as_ref().and_then(|data| data.docker_config),
            managed: label(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1),
            rule: label(RULE_LABEL).map(|value| value.as_str().into()),
            is_docker_config: self.type_.as_deref() == Some(COPY_TYPE),
            immutable: self.immutable == Some(true),
            terminating: self.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// A Secret beside pullcred that holds the credential of a rule.
#[derive(Clone, Deserialize)]
pub(super) struct SourceSecret {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    /// Its type.
    #[serde(rename = "type", default)]
    pub(super) type_: Option<String>,
    /// Its data.
    #[serde(default)]
    pub(super) data: Option<BTreeMap<String, ByteString>>,
}

impl fmt::Debug for SourceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceSecret(***)")
    }
}
