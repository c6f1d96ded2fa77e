//! The two documents, as a person writes them and as the Kubernetes API stores them: the types that both the file
//! reader and the API's schema are made from.
//!
//! A field that must be there is an `Option` here all the same, and required in the schema: an object that slipped
//! through is then skipped with a message instead of failing the whole list it came in.

#![allow(unreachable_pub, reason = "kube's derive repeats each type inside a function to make its schema")]
#![allow(clippy::doc_markdown, reason = "`kubectl explain` prints these descriptions as plain text")]
#![allow(clippy::duplicated_attributes, reason = "printer columns share their types")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{KEY_PATTERN, NAME_PATTERN, PROVIDER_PATTERN, images, reclaim_after};
pub use super::{
    selector::{LabelSelector, LabelSelectorRequirement, Operator},
    status::{ClusterPullSecretStatus, Conflicts, PullSecretStatus},
};

/// The API group and version of both documents.
pub const API_VERSION: &str = "pullcred.io/v1alpha1";

/// One private registry, the namespaces that may pull from it, and where its credential comes from.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "pullcred.io",
    version = "v1alpha1",
    kind = "ClusterPullSecret",
    doc = "A ClusterPullSecret gives the Pods of the selected namespaces, whose images match, a reference to one pull \
           secret, and puts that Secret into their namespace. It is for the platform team.",
    status = "ClusterPullSecretStatus",
    derive = "PartialEq",
    shortname = "cps",
    category = "pullcred",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether every copy that is needed is there and holds a working credential"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not, in one word"
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "integer",
        json_path = ".status.namespaces",
        description = "Namespaces that hold a copy now"
    ),
    printcolumn(
        name = "Missed",
        type_ = "integer",
        json_path = ".status.missed",
        description = "Pods that the rule covers and that lack the reference"
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Inject, or Shadow: decide and count only",
        priority = 1
    ),
    printcolumn(
        name = "Conflicts",
        type_ = "integer",
        json_path = ".status.conflicts.count",
        description = "Namespaces where somebody else's Secret of that name is left in place",
        priority = 1
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the credential that is in the copies ends",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long the rule has been there"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.source) || !(has(self.source.credentialProvider) || has(self.source.googleServiceAccountKey)) \
     || self.images.all(image, !image.contains('*'))"
).message("images must name each registry in full, without *: the source has to know which registry to ask for").field_path(".images"))]
pub struct ClusterPullSecretSpec {
    /// The images that need this credential: registry host, port if there is one, and path if only a part of the
    /// registry is meant, such as asia.gcr.io/my-project. A path covers whole segments. In the host, * stands for
    /// any characters of one label: *.azurecr.io. No scheme, tag, digest or user. At most 128 patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, schema_with = "images")]
    pub images: Option<Vec<String>>,

    /// The namespaces whose Pods get the reference, by the labels of the namespace. Required, since it decides who
    /// can read the credential: whoever may create Pods in a selected namespace can. An empty selector ({}) is every
    /// namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub namespace_selector: Option<LabelSelector>,

    /// The name of the Secret that Pods reference. The name of this rule unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub secret_name: Option<String>,

    /// Where the credential comes from: exactly one of the fields. Unless written, it is the Secret beside pullcred
    /// that has the name of this rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// OnDemand: a namespace gets its copy when a Pod needs it. Eager: every selected namespace has one as soon as
    /// it exists.
    #[serde(default)]
    pub distribution: Distribution,

    /// How long an OnDemand copy stays that no Pod uses any more, as Go writes durations: 24h, 1h30m.
    #[serde(default = "default_reclaim_after")]
    #[schemars(schema_with = "reclaim_after")]
    pub reclaim_after: String,

    /// Inject: add the reference to Pods. Shadow: decide, count and annotate only; no reference and no copy.
    #[serde(default)]
    pub mode: Mode,
}

/// Where the credential of a rule comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.secretRef), has(self.credentialProvider), has(self.googleServiceAccountKey), has(self.unmanaged)]\
     .filter(named, named).size() == 1"
).message("source must hold exactly one of secretRef, credentialProvider, googleServiceAccountKey and unmanaged; \
           without source it is the Secret that has the rule's name"))]
pub struct Source {
    /// A Secret of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg in the release namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// A credential provider plugin that the operator of pullcred has configured, as for the kubelet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_provider: Option<CredentialProvider>,

    /// The key of a Google service account, from which pullcred makes access tokens that last one hour. The key itself
    /// stays where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_service_account_key: Option<GoogleServiceAccountKey>,

    /// Nobody: somebody else puts the Secret into each namespace, and pullcred only adds the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Unmanaged>,
}

/// A Secret in the release namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: Option<String>,
}

/// A credential provider plugin.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialProvider {
    /// The name of the plugin in the CredentialProviderConfig that pullcred's operator has given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 253), regex(pattern = PROVIDER_PATTERN))]
    pub name: Option<String>,
}

/// The key of a Google service account.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GoogleServiceAccountKey {
    /// The Secret in the release namespace, and the key in it, that hold the JSON file which Google gave out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One key of a Secret in the release namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: Option<String>,

    /// The key in the Secret's data.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub key: String,
}

/// Nothing to say: the Secret is somebody else's affair.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Unmanaged {}

/// When a namespace gets its copy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// When a Pod needs it.
    #[default]
    OnDemand,
    /// As soon as the namespace exists.
    Eager,
}

/// What a rule does to Pods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Add the reference.
    #[default]
    Inject,
    /// Decide, count and annotate; change nothing.
    Shadow,
}

/// A team's own Secret for its own images, in its own namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "pullcred.io",
    version = "v1alpha1",
    kind = "PullSecret",
    namespaced,
    doc = "A PullSecret gives the Pods of its own namespace, whose images match, a reference to a Secret that is there \
           already. It is for the team that owns the namespace; nothing is copied.",
    status = "PullSecretStatus",
    derive = "PartialEq",
    shortname = "ps",
    category = "pullcred",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the rule is in force"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not, in one word"
    ),
    printcolumn(
        name = "Missed",
        type_ = "integer",
        json_path = ".status.missed",
        description = "Pods that the rule covers and that lack the reference"
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Inject, or Shadow: decide and count only",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long the rule has been there"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretSpec {
    /// The images that need this credential: registry host, port if there is one, and path if only a part of the
    /// registry is meant, such as ghcr.io/team. A path covers whole segments. In the host, * stands for any
    /// characters of one label: *.azurecr.io. No scheme, tag, digest or user. At most 128 patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, schema_with = "images")]
    pub images: Option<Vec<String>>,

    /// The name of the Secret that Pods reference. The name of this rule unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub secret_name: Option<String>,

    /// Inject: add the reference to Pods. Shadow: decide, count and annotate only.
    #[serde(default)]
    pub mode: Mode,
}

fn default_reclaim_after() -> String {
    "24h".to_owned()
}

fn default_key() -> String {
    "key.json".to_owned()
}
