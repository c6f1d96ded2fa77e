//! What one controller has seen without interruption, by a clock that nobody sets: how long every client trusts an authority.
//!
//! It is not stored anywhere. Whoever starts sees anew, which takes a soak longer and cannot be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::content::Content;
use crate::pki::Certificate;

/// What has been seen. Times are those of the process: how long it runs.
#[derive(Debug, Default)]
pub struct Seen {
    configuration: Option<Configuration>,
    /// Who issued the leaf in the Secret, and since when that is so.
    issuer: Option<(Vec<u8>, Duration)>,
}

#[derive(Debug)]
struct Configuration {
    /// Its version; none while there is no configuration.
    version: Option<String>,
    /// Since when nobody was told to trust anybody.
    absent_since: Option<Duration>,
    /// Since when each authority is in every bundle that was live.
    trusted: BTreeMap<Certificate, Duration>,
}

impl Seen {
    /// The webhook configuration, or that there is none, is seen at `at`: its version, and its `caBundle` in PEM. `is_next` when
    /// nothing can have been missed since the last time, as in a watch that goes on.
    pub fn configuration(&mut self, live: Option<(&str, &[u8])>, is_next: bool, at: Duration) {
        let version = live.map(|(version, _)| version.to_owned());
        let before = self.configuration.take().filter(|before| {
            // Every change has a version of its own.
            is_next || (version.is_some() && before.version == version)
        });
        let absent_before = before.as_ref().and_then(|before| before.absent_since);
        let mut trusted = before.map(|before| before.trusted).unwrap_or_default();
        let mut absent_since = None;
        if let Some((_, bundle)) = live {
            let bundle = Certificate::read_all(bundle);
            trusted.retain(|authority, _| bundle.contains(authority));
            for authority in bundle {
                trusted.entry(authority).or_insert(absent_before.unwrap_or(at));
            }
        } else {
            absent_since = Some(absent_before.unwrap_or(at));
        }
        self.configuration = Some(Configuration { version, absent_since, trusted });
    }

    /// The Secret that the webhook serves is seen at `at`.
    pub fn served(&mut self, content: Option<&Content>, at: Duration) {
        let leaf = content.and_then(|content| Certificate::read_all(content.0.get("tls.crt")?).into_iter().next());
        let issuer = leaf.map(|leaf| leaf.issuer());
        if self.issuer.as_ref().map(|(before, _)| before) != issuer.as_ref() {
            self.issuer = issuer.map(|issuer| (issuer, at));
        }
    }

    /// Since when no bundle has been live that lacks an authority. `None` when one is live now, or when the configuration
    /// is of another version than what was seen last.
    pub(super) fn trusted_since(&self, authority: &Certificate, version: Option<&str>) -> Option<Duration> {
        let seen = self.configuration.as_ref().filter(|seen| seen.version.as_deref() == version)?;
        let in_bundles = seen.trusted.get(authority).copied();
        match (in_bundles, seen.absent_since) {
            (Some(trusted), Some(absent)) => Some(trusted.min(absent)),
            (trusted, absent) => trusted.or(absent),
        }
    }

    /// Since when the leaf in the Secret has had its issuer.
    pub(super) fn issuer_since(&self) -> Option<Duration> {
        self.issuer.as_ref().map(|(_, since)| *since)
    }
}
