//! The documents a person writes, and the rules compiled from them.
//!
//! `documents` are the Rust types that are CRD types too. From files, [`read_documents`] reads text into a `tree` that knows
//! where everything stands, walks it along the `schema` of the CRDs, and then reads the types from it. From wherever a
//! document came, [`Rule`] validates it, and a [`RuleSet`] is compiled from rules.

mod documents;
mod duration;
mod finding;
mod names;
mod read;
mod rule;
mod schema;
mod selector;
mod set;
mod tree;

pub use documents::{
    ClusterPullSecret, ClusterPullSecretSpec, Conflicts, CredentialProvider, Distribution, GROUP,
    GoogleServiceAccountKey, Mode, NamespaceSelector, Operator, PullSecret, PullSecretSpec, PullSecretStatus,
    Requirement, SecretKeyReference, SecretReference, Source, Unmanaged, VERSION, crds,
};
pub use duration::parse as parse_duration;
pub use finding::{Code, Finding, Path, Problem, Step};
pub use read::{Documents, SourceFile, read_documents};
pub use rule::{Rule, RuleId, RuleKind};
pub use selector::Labels;
pub use set::RuleSet;
