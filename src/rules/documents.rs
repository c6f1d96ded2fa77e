//! The two documents that a person writes, as Rust types that are CRD types too. The descriptions are what
//! `kubectl explain` shows.

// The derives repeat these types in private modules, where the lint sees them.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of the documents.
pub const GROUP: &str = "pullcred.io";
/// The version of the documents.
pub const VERSION: &str = "v1alpha1";

/// Which images need which pull secret, for the whole cluster.
#[derive(CustomResource, KubeSchema, Deserialize, Serialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pullcred.io",
    version = "v1alpha1",
    kind = "ClusterPullSecret",
    status = "PullSecretStatus",
    derive = "PartialEq",
    shortname = "cps",
    category = "pullcred",
    doc = "A ClusterPullSecret says which images need which pull secret, in which namespaces, and where the credential comes from.",
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretName"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces"),
    printcolumn(name = "Missed", type_ = "integer", json_path = ".status.missed"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".status.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.source) || (!has(self.source.credentialProvider) && !has(self.source.googleServiceAccountKey)) || !self.images.exists(image, image.contains('*'))"
).message("images must hold no `*` when the source is a plugin or a Google key: the registry to ask for must be known").field_path(".images"))]
pub struct ClusterPullSecretSpec {
    /// Images that need the credential: `host[:port][/path]`, with `*` for any part of a host's label. A path covers whole
    /// segments: `reg.io/team` covers `reg.io/team/app` and not `reg.io/team-b`.
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(image, !image.contains('://'))").message("an image pattern has a scheme: write host[:port][/path]"),
        validation = Rule::new("self.all(image, !image.contains('@'))").message("an image pattern has a digest or a user name: write host[:port][/path]"),
        validation = Rule::new("self.all(image, !image.endsWith('/'))").message("an image pattern ends with a slash: write it without"),
        validation = Rule::new(r"self.all(image, image.matches('^([A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?([.][A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?)*(:[0-9]+)?|[[][0-9A-Fa-f:]+[]]:[0-9]+)(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$'))").message("an image pattern is not host[:port][/path], with `*` in the host only")
    )]
    pub images: Vec<String>,

    /// Namespaces that are served; `{}` is every namespace. This is the security boundary: whoever may create Pods in a
    /// served namespace can read the credential.
    pub namespace_selector: NamespaceSelector,

    /// The Secret that Pods will reference. Default: the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,

    /// Where the credential comes from: exactly one of the fields. Default: `secretRef` with the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// When a namespace gets its copy of the Secret. Default: `OnDemand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,

    /// How long a copy that nothing uses is kept, as a Go duration (`24h`, `1h30m`); `OnDemand` only. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub reclaim_after: Option<String>,

    /// Whether Pods are changed, or it is only counted and noted what would happen. Default: `Inject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// A team's own Secret for its own images, in its own namespace. It is never copied.
#[derive(CustomResource, KubeSchema, Deserialize, Serialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pullcred.io",
    version = "v1alpha1",
    kind = "PullSecret",
    namespaced,
    status = "PullSecretStatus",
    derive = "PartialEq",
    shortname = "pls",
    category = "pullcred",
    doc = "A PullSecret says which images need a Secret of its own namespace; Pods there get the reference.",
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretName"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Missed", type_ = "integer", json_path = ".status.missed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretSpec {
    /// Images that need the credential: `host[:port][/path]`, with `*` for any part of a host's label. A path covers whole
    /// segments: `reg.io/team` covers `reg.io/team/app` and not `reg.io/team-b`.
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(image, !image.contains('://'))").message("an image pattern has a scheme: write host[:port][/path]"),
        validation = Rule::new("self.all(image, !image.contains('@'))").message("an image pattern has a digest or a user name: write host[:port][/path]"),
        validation = Rule::new("self.all(image, !image.endsWith('/'))").message("an image pattern ends with a slash: write it without"),
        validation = Rule::new(r"self.all(image, image.matches('^([A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?([.][A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?)*(:[0-9]+)?|[[][0-9A-Fa-f:]+[]]:[0-9]+)(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$'))").message("an image pattern is not host[:port][/path], with `*` in the host only")
    )]
    pub images: Vec<String>,

    /// The Secret that Pods will reference. Default: the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,

    /// Whether Pods are changed, or it is only counted and noted what would happen. Default: `Inject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// What a rule does with a Pod that it matches.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The Pod gets the reference.
    #[default]
    Inject,
    /// It is decided, counted and annotated; the Pod is not changed and nothing is copied.
    Shadow,
}

/// When a namespace gets its copy of the Secret.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// When a Pod there references it.
    #[default]
    OnDemand,
    /// As soon as the namespace exists.
    Eager,
}

/// Which namespaces are served, by their labels; an empty selector is every namespace.
///
/// `kubernetes.io/metadata.name` is a label of every namespace.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<Requirement>,
}

/// One condition on a label.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How the label is compared.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// Where the credential comes from: exactly one of the fields.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.secretRef), has(self.credentialProvider), has(self.googleServiceAccountKey), has(self.unmanaged)].filter(given, given).size() == 1"
).message("source needs exactly one of secretRef, credentialProvider, googleServiceAccountKey, unmanaged"))]
pub struct Source {
    /// A Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` in the release namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// A credential-provider plugin that the operator of pullcred has configured, as for the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_provider: Option<CredentialProvider>,
    /// The key of a Google service account, in a Secret in the release namespace; copies hold one-hour access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google_service_account_key: Option<GoogleServiceAccountKey>,
    /// Somebody else puts the Secret into each namespace; only the reference is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Unmanaged>,
}

/// A Secret in the release namespace.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A credential-provider plugin.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct CredentialProvider {
    /// The plugin's name in the configuration that the operator of pullcred has given.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The key of a Google service account.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GoogleServiceAccountKey {
    /// The Secret that holds the key.
    pub secret_ref: SecretKeyReference,
}

/// One entry of a Secret in the release namespace.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretKeyReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry's key. Default: `key.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Nothing: the presence of this field says it all.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmanaged {}

/// What the controller has seen and done for a rule.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many namespaces hold a copy now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i64>,
    /// Namespaces in which somebody else's Secret has the name, which is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
    /// Running or pending Pods that the rule covers and that lack the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<i64>,
    /// When the credential in the copies ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the credential was last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Time>,
}

/// Namespaces in which somebody else's Secret has the name.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// How many there are.
    pub count: i64,
    /// Some of them, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub namespaces: Vec<String>,
}

/// The CustomResourceDefinitions of both documents.
pub fn crds() -> [CustomResourceDefinition; 2] {
    [ClusterPullSecret::crd(), PullSecret::crd()]
}
