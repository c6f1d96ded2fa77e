//! What to say about a rule: counts, and one condition that says whether all is well and, if not, what to do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::ledger::Standing;
use crate::rules::{ClusterPullSecretStatus, Conflicts, Mode};

/// The condition's type.
const READY: &str = "Ready";

/// How many namespaces a status names.
const NAMED: usize = 10;

/// How the credential of a rule stands. The texts say what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not looked at yet.
    Unknown,
    /// It is known, and good.
    Good,
    /// Somebody else's affair.
    Unmanaged,
    /// It is not there.
    Missing(String),
    /// It is there and cannot be used.
    Invalid(String),
    /// Who should give it does not.
    Failed(String),
}

/// Everything that a status speaks of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The generation of the spec that was looked at.
    pub generation: Option<i64>,
    /// What the rule does.
    pub mode: Mode,
    /// The credential.
    pub source: SourceState,
    /// What to do so that the rule's Secret may be written, if it may not.
    pub not_permitted: Option<String>,
    /// The namespaces.
    pub standing: Standing,
    /// In how many namespaces an older rule with the same Secret name serves, and some of them.
    pub outranked: (usize, Vec<super::Name>),
    /// Pods that the rule covers and that lack the reference.
    pub missed: usize,
    /// When the credential ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last read or fetched.
    pub refreshed_at: Option<Timestamp>,
}

impl Facts {
    /// Of a rule that nothing is done for.
    pub fn nothing(generation: Option<i64>) -> Self {
        Self {
            generation,
            mode: Mode::Inject,
            source: SourceState::Unknown,
            not_permitted: None,
            standing: Standing::default(),
            outranked: (0, Vec::new()),
            missed: 0,
            expires_at: None,
            refreshed_at: None,
        }
    }
}

/// The status that the facts amount to. `before` is what the object says: the condition keeps the time of its last change.
pub fn status(facts: &Facts, before: Option<&ClusterPullSecretStatus>, now: Timestamp) -> ClusterPullSecretStatus {
    let (is_ready, reason, mut message) = condition(facts);
    let (outranked, names) = &facts.outranked;
    if *outranked > 0 {
        let names = listed(names.iter().map(AsRef::as_ref), *outranked);
        message = format!("{message} An older rule with the same secretName serves in its place in {names}.");
    }
    let old = before.and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == READY));
    let since = old.filter(|old| old.status == is_ready).map_or(now, |old| old.last_transition_time.0);
    let ready = Condition {
        type_: READY.to_owned(),
        status: is_ready.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: facts.generation,
        last_transition_time: Time(since),
    };
    let conflicts = &facts.standing.conflicts;
    ClusterPullSecretStatus {
        observed_generation: facts.generation,
        conditions: Some(vec![ready]),
        namespaces: Some(count(facts.standing.copies)),
        conflicts: Some(Conflicts {
            count: count(conflicts.len()),
            namespaces: conflicts.iter().take(NAMED).map(|name| (**name).to_owned()).collect(),
        }),
        missed: Some(count(facts.missed)),
        expires_at: facts.expires_at.map(Time),
        refreshed_at: facts.refreshed_at.map(Time),
    }
}

fn condition(facts: &Facts) -> (&'static str, &'static str, String) {
    if facts.mode == Mode::Shadow {
        return ("True", "Shadow", "The rule decides and counts only.".to_owned());
    }
    match (&facts.not_permitted, &facts.source) {
        (_, SourceState::Unmanaged) => ("True", "Unmanaged", "Somebody else provides the Secrets.".to_owned()),
        (Some(words), _) => ("False", "NotPermitted", words.clone()),
        (None, SourceState::Unknown) => ("Unknown", "Pending", "The source has not been read yet.".to_owned()),
        (None, SourceState::Missing(words)) => ("False", "SourceMissing", words.clone()),
        (None, SourceState::Invalid(words)) => ("False", "SourceInvalid", words.clone()),
        (None, SourceState::Failed(words)) => ("False", "ProviderFailed", words.clone()),
        (None, SourceState::Good) => match facts.standing.refused.first_key_value() {
            Some((namespace, words)) => {
                let refused = facts.standing.refused.len();
                let more = if refused > 1 { format!(" ({} more)", refused - 1) } else { String::new() };
                ("False", "WriteRefused", format!("The copy in namespace {namespace}{more} is refused: {words}"))
            }
            None => ("True", "Provided", "Every copy that is needed is there.".to_owned()),
        },
    }
}

/// `a, b and 3 more namespaces`.
fn listed<'a>(names: impl Iterator<Item = &'a str>, all: usize) -> String {
    let shown: Vec<&str> = names.take(3).collect();
    match all - shown.len() {
        0 => format!("{} ({})", if all == 1 { "one namespace" } else { "namespaces" }, shown.join(", ")),
        more => format!("{all} namespaces ({}, and {more} more)", shown.join(", ")),
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            generation: Some(3),
            mode: Mode::Inject,
            source: SourceState::Good,
            not_permitted: None,
            standing: Standing { copies: 2, ..Standing::default() },
            outranked: (0, Vec::new()),
            missed: 0,
            expires_at: None,
            refreshed_at: None,
        }
    }

    #[test]
    fn the_worst_news_comes_first() {
        let mut standing = Standing::default();
        standing.refused.insert("team".into(), "exceeded quota".to_owned());
        let words = || "do this".to_owned();
        for (facts, expected) in [
            (facts(), ("True", "Provided")),
            (Facts { standing: standing.clone(), ..facts() }, ("False", "WriteRefused")),
            (
                Facts { source: SourceState::Missing(words()), standing: standing.clone(), ..facts() },
                ("False", "SourceMissing"),
            ),
            (Facts { source: SourceState::Invalid(words()), ..facts() }, ("False", "SourceInvalid")),
            (Facts { source: SourceState::Failed(words()), ..facts() }, ("False", "ProviderFailed")),
            (Facts { source: SourceState::Unknown, ..facts() }, ("Unknown", "Pending")),
            (
                Facts { source: SourceState::Missing(words()), not_permitted: Some(words()), ..facts() },
                ("False", "NotPermitted"),
            ),
            (Facts { source: SourceState::Unmanaged, not_permitted: Some(words()), ..facts() }, ("True", "Unmanaged")),
            (Facts { mode: Mode::Shadow, source: SourceState::Missing(words()), ..facts() }, ("True", "Shadow")),
        ] {
            let status = status(&facts, None, Timestamp::UNIX_EPOCH);
            let condition = &status.conditions.unwrap()[0];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
        }
    }

    #[test]
    fn a_conflict_leaves_a_rule_ready_and_ten_are_named() {
        let conflicts = (0..12).map(|i| format!("team-{i:02}").into()).collect();
        let standing = Standing { conflicts, ..Standing::default() };
        let status = status(&Facts { standing, ..facts() }, None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions.unwrap()[0].status, "True");
        let conflicts = status.conflicts.unwrap();
        assert_eq!((conflicts.count, conflicts.namespaces.len()), (12, 10));
    }

    #[test]
    fn nothing_changes_while_nothing_changes() {
        let early = status(&facts(), None, Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(status(&facts(), Some(&early), later), early);
        let missing = Facts { source: SourceState::Missing("gone".to_owned()), ..facts() };
        let changed = status(&missing, Some(&early), later);
        assert_eq!(changed.conditions.unwrap()[0].last_transition_time.0, later);
    }

    #[test]
    fn a_rule_that_an_older_one_outranks_says_where() {
        let outranked = (5, vec!["a".into(), "b".into(), "c".into(), "d".into(), "e".into()]);
        let status = status(&Facts { outranked, ..facts() }, None, Timestamp::UNIX_EPOCH);
        let message = &status.conditions.as_ref().unwrap()[0].message;
        assert!(message.ends_with("in its place in 5 namespaces (a, b, c, and 2 more)."), "{message}");
    }
}
