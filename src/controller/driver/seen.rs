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
    /// The API does not permit it.
    Not(Denied),
}

/// A right that is missing.
#[derive(Debug)]
pub(super) struct Denied {
    /// What to tell.
    pub(super) words: String,
    /// When to ask again, and how long after that.
    pub(super) ask_at: Duration,
    pub(super) pause: Duration,
    /// Whether it was asked for once more. An API server that has just come back denies everything for a moment.
    pub(super) is_sure: bool,
}

impl Denied {
    /// Asked for again so long after the first refusal, and so long after all others at most.
    const FIRST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(30);

    pub(super) fn new(words: String, now: Duration) -> Self {
        Self { words, ask_at: now + Self::FIRST, pause: Self::FIRST, is_sure: false }
    }

    /// Whether it is time to ask; if so it is asked.
    pub(super) fn asks(&mut self, now: Duration) -> bool {
        let is_due = self.ask_at <= now;
        if is_due {
            self.pause = (self.pause * 2).min(Self::LONGEST);
            self.ask_at = now + self.pause;
        }
        is_due
    }
}

impl Watched {
    /// When to ask for the right again, if it is missing.
    pub(super) fn ask_at(&self) -> Option<Duration> {
        match self {
            Self::Not(denied) => Some(denied.ask_at),
            Self::By(_) => None,
        }
    }

    /// What to tell of it.
    pub(super) fn denied(&self) -> Option<&str> {
        match self {
            Self::Not(denied) if denied.is_sure => Some(&denied.words),
            Self::Not(_) | Self::By(_) => None,
        }
    }
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
