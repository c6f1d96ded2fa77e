//! Where the credential of a rule comes from when it is not a Secret that somebody wrote: a credential provider plugin, or
//! the key of a Google service account.
//!
//! The boundary is two functions, [`plugin::fetch`] and [`google::fetch`]. Each asks once and remembers nothing; who calls
//! them decides when ([`Lifetime`] says how long an answer holds) and keeps the last good answer when they fail. Both take
//! the patterns of a rule, none of which holds a `*`, and answer with entries that serve these images and no others. Their
//! errors are for conditions, events and logs: one line, no part of a credential; a [`google::KeyError`] is `SourceInvalid`,
//! everything else `ProviderFailed`. What a process needs for them is read
//! once at its start: [`plugin::Plugins`] from the operator's file and directory, [`outside::Outside`] from `--ca-file` and
//! the proxy variables.

pub mod google;
pub mod outside;
pub mod plugin;
pub(super) mod secret;

use std::time::Duration;

use crate::image::DockerConfig;

/// What a source has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The entries that serve the rule's images; never empty.
    pub auths: DockerConfig,
    /// How long they hold.
    pub lifetime: Lifetime,
}

/// How long a credential holds, counted from when it was asked for. The shorter is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifetime {
    /// For one use: the next need asks again.
    Once,
    /// So long.
    For(Duration),
    /// Until the source changes.
    Unlimited,
}

/// Why a source has given no credential.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A plugin.
    #[error(transparent)]
    Plugin(#[from] plugin::PluginError),
    /// A Google service account's key.
    #[error(transparent)]
    Google(#[from] google::GoogleError),
}

/// Text from outside, fit to stand in an error: one line, not endless, without control characters.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 500;
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Text from outside without what may be a credential: every piece of `secret` that it holds is `***`.
fn without(text: &str, secret: &str) -> String {
    /// What is shorter is a word of the language more likely than a password.
    const SHORTEST: usize = 6;
    let parts = |c: char| c.is_whitespace() || c.is_control() || "\"'`{}[]()<>,;:=&".contains(c);
    let mut pieces: Vec<&str> =
        secret.split(parts).filter(|piece| piece.len() >= SHORTEST && text.contains(*piece)).collect();
    // One may hold another.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    pieces.into_iter().fold(text.to_owned(), |text, piece| text.replace(piece, "***"))
}
