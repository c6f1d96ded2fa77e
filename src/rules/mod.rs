//! The documents a person writes, and the rules compiled from them.
//!
//! A document comes from a file or from the Kubernetes API; both become the same types ([`document`]), pass the same
//! validation, and are refused in the same words ([`Problem`]). What is valid is a [`Rule`]; all rules together are a
//! [`RuleSet`], which answers for an image which rules cover it.

pub mod document;
mod duration;
mod finding;
mod names;
mod provider_config;
mod reader;
mod rule;
mod rule_set;
mod scalar;
mod schema;
mod selector;
mod shape;
mod status;
mod tree;
mod validate;

use std::collections::BTreeMap;

pub use document::{API_VERSION, ClusterPullSecret, ClusterPullSecretSpec, Distribution, PullSecret, PullSecretSpec};
pub use duration::parse as parse_duration;
pub use finding::{Code, FieldPath, Finding, Position, Problem, Step};
pub use provider_config::{Provider, read_credential_provider_config};
pub use reader::{Documents, MAX_FILE_BYTES, SourceFile, read_documents};
pub use rule::{Mode, Rule, RuleId, RuleKind};
pub use rule_set::RuleSet;
pub use schema::crds;
pub use selector::NAME_LABEL;
pub use status::{ClusterPullSecretStatus, Conflicts, PullSecretStatus};

/// The label, and its value, by which a Pod or a namespace is left out: the webhook configuration of the chart does not show it.
const LEFT_OUT: (&str, &str) = ("pullcred.io/inject", "disabled");

/// Whether these labels leave out what has them.
pub fn is_left_out(labels: Option<&Labels>) -> bool {
    labels.and_then(|labels| labels.get(LEFT_OUT.0)).is_some_and(|value| value == LEFT_OUT.1)
}

/// The labels of one Kubernetes object.
pub type Labels = BTreeMap<String, String>;
