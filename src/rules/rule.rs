//! A rule: what a valid document says about images, in the form that decisions are made from.

use std::fmt;

pub use super::document::Mode;
use super::{
    Labels,
    document::{ClusterPullSecret, PullSecret},
    finding::Problem,
    selector::NamespaceSelector,
    validate,
};
use crate::image::ImagePattern;

/// Which of the two documents a rule was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// The platform team's, for every namespace that it selects.
    ClusterPullSecret,
    /// A team's own, for the namespace that it is in.
    PullSecret,
}

impl RuleKind {
    /// The `kind` of the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterPullSecret => "ClusterPullSecret",
            Self::PullSecret => "PullSecret",
        }
    }
}

/// What tells one rule from all others. Ordered by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The kind of the document.
    pub kind: RuleKind,
    /// The namespace of a `PullSecret`; a `ClusterPullSecret` has none.
    pub namespace: Option<String>,
    /// The name of the document.
    pub name: String,
}

/// `ClusterPullSecret regcred`, `PullSecret team/team-reg`.
impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.as_str())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A rule that is valid; no other exists. Made from a document by the functions here and by
/// [`read_documents`](super::read_documents).
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) id: RuleId,
    pub(super) secret_name: String,
    pub(super) mode: Mode,
    pub(super) patterns: Vec<ImagePattern>,
    pub(super) namespaces: NamespaceSelector,
}

impl Rule {
    /// The rule of an object that the Kubernetes API holds, or all that is wrong with it, in the same words as for a
    /// file.
    pub fn from_cluster_pull_secret(document: &ClusterPullSecret) -> Result<Self, Vec<Problem>> {
        validate::cluster_pull_secret(document)
    }

    /// The same for a `PullSecret`.
    pub fn from_pull_secret(document: &PullSecret) -> Result<Self, Vec<Problem>> {
        validate::pull_secret(document)
    }

    /// Which rule this is.
    pub fn id(&self) -> &RuleId {
        &self.id
    }

    /// The Secret that Pods reference.
    pub fn secret_name(&self) -> &str {
        &self.secret_name
    }

    /// Whether the rule acts or only watches.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The images that the rule covers.
    pub fn patterns(&self) -> &[ImagePattern] {
        &self.patterns
    }

    /// Whether the rule serves `namespace`, whose labels are `labels`.
    ///
    /// The label `kubernetes.io/metadata.name` is known from `namespace`. `None` means that another label decides and
    /// `labels` is `None`: what they are is not known (yet).
    pub fn serves(&self, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        self.namespaces.selects(namespace, labels)
    }
}
