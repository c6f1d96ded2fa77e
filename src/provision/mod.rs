//! What should be in which namespace: who needs a copy, what is there, and what to write.
//!
//! [`Needs`] says which rule serves a Secret name in a namespace and whether a Pod there needs it. [`plan()`] compares what
//! should be there with what is, and gives the one write that is due. [`Ledger`] keeps both together with what was seen and
//! what is under way. Time comes in as how long the process runs, or as a timestamp where people read it.

mod ledger;
mod needs;
mod pace;
mod plan;
mod refresh;
mod status;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

pub use ledger::{Due, Ledger, Refusal, Standing};
pub use needs::{Needs, PodFacts, Want};
pub use pace::{Pace, Rate, retry_after};
pub use plan::{Action, Copy, Desired, Observed, Precondition, label_of, plan};
pub use refresh::{Life, Refresh};
pub use status::{Facts, NOT_READY, SourceState, not_ready, status, team_status};

use crate::rules::Rule;

/// A name that many places share.
pub type Name = Arc<str>;

/// One Secret name in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The namespace.
    pub namespace: Name,
    /// The name of the Secret.
    pub secret: Name,
}

/// What provisioning has to know of a `ClusterPullSecret` beside what matching knows.
#[derive(Clone, Debug)]
pub struct RuleFacts {
    /// The rule.
    pub rule: Rule,
    /// The object's uid, which owner references carry.
    pub uid: Name,
    /// When it was created, in seconds since 1970: the older of two rules serves.
    pub created: i64,
    /// Whether every selected namespace has a copy, needed or not.
    pub eager: bool,
    /// How long a copy stays that nothing uses.
    pub reclaim_after: Duration,
    /// Whether pullcred writes copies; `false` for an unmanaged source.
    pub copied: bool,
}
