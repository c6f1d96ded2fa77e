//! What has been listed, and how the Secrets of a name are watched.

use std::time::Duration;

use tokio::task::AbortHandle;

use crate::cluster::Listing;
use crate::controller::objects::SourceSecret;
use crate::rules::RuleId;

/// What is missing until everything has been listed once, and what a list that is coming in has named.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) rules: Listing<String>,
    pub(super) teams: Listing<RuleId>,
    pub(super) namespaces: Listing<String>,
    pub(super) pods: Listing<(String, String)>,
}

/// How the Secrets of a name are watched.
#[derive(Debug)]
pub(super) enum Watched {
    By(AbortHandle),
    /// The API does not permit it; what to tell, and when to ask again.
    Not {
        words: String,
        ask_at: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) watched: Watched,
    /// Whether the list that is coming in has named it.
    pub(super) is_named: bool,
    /// What was found.
    pub(super) found: Found,
}

/// What a watch has found of a source.
#[derive(Debug)]
pub(super) enum Found {
    /// It has not been listed yet.
    NotYet,
    /// It is not there.
    Absent,
    /// It is there.
    There(Box<SourceSecret>),
}
