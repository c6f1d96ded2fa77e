//! Objects of the API as narrow as they are needed: what is not kept is not decoded, and a Secret's data becomes a hash.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use kube::api::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::cluster::objects::{MIRROR, meta, narrow};
use crate::provision::{Observed, PodFacts};
use crate::rules::{
    ClusterPullSecret, ClusterPullSecretSpec, ClusterPullSecretStatus, PullSecret, PullSecretSpec, PullSecretStatus,
    is_left_out,
};

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

narrow!(Pod, "Pod", "pods", NamespaceResourceScope);
narrow!(Secret, "Secret", "secrets", NamespaceResourceScope);
narrow!(SourceSecret, "Secret", "secrets", NamespaceResourceScope);
narrow!(ClusterRule, "pullcred.io", "v1alpha1", "ClusterPullSecret", "clusterpullsecrets", ClusterResourceScope);
narrow!(TeamRule, "pullcred.io", "v1alpha1", "PullSecret", "pullsecrets", NamespaceResourceScope);

/// A `ClusterPullSecret` as the API has it. One that this version cannot read takes no other along.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ClusterRule {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default = "no_spec", deserialize_with = "readable")]
    spec: Result<ClusterPullSecretSpec, String>,
    /// `None` too when it is one that this version cannot read: it is written anew.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<ClusterPullSecretStatus>,
}

impl ClusterRule {
    /// The object and, when this version cannot read its spec, why; the spec is empty then.
    pub(super) fn into_document(self) -> (ClusterPullSecret, Option<String>) {
        let Self { metadata, spec, status } = self;
        let (spec, unreadable) =
            spec.map_or_else(|why| (ClusterPullSecretSpec::default(), Some(why)), |spec| (spec, None));
        (ClusterPullSecret { metadata, spec, status }, unreadable)
    }
}

/// A `PullSecret` as the API has it, likewise.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TeamRule {
    #[serde(deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default = "no_spec", deserialize_with = "readable")]
    spec: Result<PullSecretSpec, String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<PullSecretStatus>,
}

impl TeamRule {
    /// The object and, when this version cannot read its spec, why; the spec is empty then.
    pub(super) fn into_document(self) -> (PullSecret, Option<String>) {
        let Self { metadata, spec, status } = self;
        let (spec, unreadable) = spec.map_or_else(|why| (PullSecretSpec::default(), Some(why)), |spec| (spec, None));
        (PullSecret { metadata, spec, status }, unreadable)
    }
}

fn no_spec<T>() -> Result<T, String> {
    Err("it has no spec".to_owned())
}

fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Result<T, String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let newer = |error| format!("it cannot be read ({error}); it may be of a newer version");
    Ok(serde_json::from_value(value).map_err(newer))
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(deserializer)?).unwrap_or_default())
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
        let is_left_alone = is_mirror || is_left_out(metadata.labels.as_ref());
        let mut secrets: Vec<String> =
            spec.image_pull_secrets.into_iter().flatten().filter_map(|reference| reference.name).collect();
        secrets.sort_unstable();
        secrets.dedup();
        let containers = [spec.containers, spec.init_containers, spec.ephemeral_containers];
        let containers = containers.into_iter().flatten().flatten().filter_map(|container| container.image);
        let volumes = spec.volumes.into_iter().flatten().filter_map(|volume| volume.image?.reference);
        let mut images: Vec<String> = containers.chain(volumes).filter(|_| !is_left_alone).collect();
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

impl SourceSecret {
    /// Whether both hold the same, whatever else is written on them.
    pub(super) fn holds_the_same(&self, other: &Self) -> bool {
        (&self.metadata.uid, &self.type_, &self.data) == (&other.metadata.uid, &other.type_, &other.data)
    }
}

impl fmt::Debug for SourceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceSecret(***)")
    }
}
