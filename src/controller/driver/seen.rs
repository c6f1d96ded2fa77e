//! What has been listed, and how the Secrets of a name are watched.

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::AbortHandle;

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

#[derive(Debug)]
pub(super) struct Listing<T> {
    pub(super) is_complete: bool,
    named: Option<HashSet<T>>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { is_complete: false, named: None }
    }
}

impl<T: std::hash::Hash + Eq> Listing<T> {
    pub(super) fn begins(&mut self) {
        self.named = Some(HashSet::new());
    }

    pub(super) fn names(&mut self, key: impl FnOnce() -> T) {
        if let Some(named) = &mut self.named {
            named.insert(key());
        }
    }

    pub(super) fn ends(&mut self) -> HashSet<T> {
        self.is_complete = true;
        self.named.take().unwrap_or_default()
    }
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
