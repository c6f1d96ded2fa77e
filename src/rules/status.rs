//! What the controller says about a rule. Injection depends on a rule's spec alone, never on this.

#![allow(unreachable_pub, reason = "kube's derive repeats each type inside a function to make its schema")]
#![allow(clippy::doc_markdown, reason = "`kubectl explain` prints these descriptions as plain text")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is true of a ClusterPullSecret now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPullSecretStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready: whether every copy that is needed is there and holds a working credential. When it is not, the reason is
    /// SourceMissing, SourceInvalid, ProviderFailed, NotPermitted or WriteRefused, and the message says what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Option<Vec<Condition>>,

    /// How many namespaces hold a copy now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i64>,

    /// Namespaces where a Secret of that name belongs to somebody else and is left in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,

    /// How many running or pending Pods the rule covers that lack the reference: they were created before the rule, while the
    /// webhook was not reached, or where it is not asked. Those left out by a label do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<i64>,

    /// When the credential that is in the copies ends. Absent when it has no known end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// When the credential was last read or fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Time>,
}

/// Namespaces where a Secret of the rule's name belongs to somebody else.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Conflicts {
    /// How many there are.
    pub count: i64,

    /// Some of them by name, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub namespaces: Vec<String>,
}

/// What is true of a PullSecret now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready: whether the rule is in force. When it is not, the reason is SourceInvalid, and the message says what is wrong
    /// with it. The Secret itself is the namespace's own and is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Option<Vec<Condition>>,

    /// How many running or pending Pods the rule covers that lack the reference: they were created before the rule, while the
    /// webhook was not reached, or where it is not asked. Those left out by a label do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<i64>,
}
