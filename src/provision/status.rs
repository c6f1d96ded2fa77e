//! What to say about a rule: counts, and one condition that says whether all is well and, if not, what to do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::ledger::{Refusal, Standing};
use crate::rules::{ClusterPullSecretStatus, Conflicts, Mode, PullSecretStatus, Rule};

/// The condition's type.
const READY: &str = "Ready";

/// The reasons of the condition of a rule that is not ready.
pub const NOT_READY: [&str; 6] =
    [PENDING, "SourceMissing", "SourceInvalid", "ProviderFailed", "NotPermitted", "WriteRefused"];

/// That of a rule of which not everything is known yet.
const PENDING: &str = "Pending";

/// What a Shadow rule does.
const ONLY_COUNTS: &str = "The rule decides and counts only.";

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
    let before = before.and_then(|before| before.conditions.as_deref());
    let ready = ready(is_ready, reason, message, facts.generation, before, now);
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

/// The status of a `PullSecret`, for which nothing is written: whether it is in force, and how many Pods it has missed.
pub fn team_status(
    rule: Result<&Rule, &str>,
    generation: Option<i64>,
    missed: usize,
    before: Option<&PullSecretStatus>,
    now: Timestamp,
) -> PullSecretStatus {
    let (is_ready, reason, message) = match rule.map(Rule::mode) {
        Err(wrong) => ("False", "SourceInvalid", format!("The rule is left out: {wrong}.")),
        Ok(Mode::Shadow) => ("True", "Shadow", ONLY_COUNTS.to_owned()),
        Ok(Mode::Inject) => {
            ("True", "Unmanaged", "The Secret is the namespace's own; pullcred does not look at it.".to_owned())
        }
    };
    let before = before.and_then(|before| before.conditions.as_deref());
    PullSecretStatus {
        observed_generation: generation,
        conditions: Some(vec![ready(is_ready, reason, message, generation, before, now)]),
        missed: Some(count(missed)),
    }
}

/// The one condition. It keeps the time of its last change.
fn ready(
    is_ready: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    before: Option<&[Condition]>,
    now: Timestamp,
) -> Condition {
    let old = before.and_then(|before| before.iter().find(|condition| condition.type_ == READY));
    let since = old.filter(|old| old.status == is_ready).map_or(now, |old| old.last_transition_time.0);
    Condition {
        type_: READY.to_owned(),
        status: is_ready.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(since),
    }
}

fn condition(facts: &Facts) -> (&'static str, &'static str, String) {
    let well = |reason, words: &str| refusal(&facts.standing).unwrap_or_else(|| ("True", reason, words.to_owned()));
    if facts.mode == Mode::Shadow {
        return well("Shadow", ONLY_COUNTS);
    }
    match (&facts.not_permitted, &facts.source) {
        (_, SourceState::Unmanaged) => well("Unmanaged", "Somebody else provides the Secrets."),
        (Some(words), _) => ("False", "NotPermitted", words.clone()),
        (None, SourceState::Unknown) => ("Unknown", PENDING, "The source has not been read yet.".to_owned()),
        (None, SourceState::Missing(words)) => ("False", "SourceMissing", words.clone()),
        (None, SourceState::Invalid(words)) => ("False", "SourceInvalid", words.clone()),
        (None, SourceState::Failed(words)) => ("False", "ProviderFailed", words.clone()),
        (None, SourceState::Good) => well("Provided", "Every copy that is needed is there."),
    }
}

/// What the API refuses.
fn refusal(standing: &Standing) -> Option<(&'static str, &'static str, String)> {
    let Standing { refused, not_removed, .. } = standing;
    // A missing right is mended for all namespaces at once.
    let right = refused.values().chain(not_removed.values()).find(|why| matches!(why, Refusal::NotPermitted(_)));
    if let Some(right) = right {
        return Some(("False", "NotPermitted", right.words().to_owned()));
    }
    let (all, what) = if refused.is_empty() { (not_removed, "The removal of the copy") } else { (refused, "The copy") };
    let (namespace, why) = all.first_key_value()?;
    let more = if all.len() > 1 { format!(" ({} more)", all.len() - 1) } else { String::new() };
    let message = format!("{what} in namespace {namespace}{more} is refused: {}", why.words());
    Some(("False", "WriteRefused", message))
}

/// Why a rule with these conditions is not ready, as one of [`NOT_READY`]. `None`: it is ready.
pub fn not_ready(conditions: Option<&[Condition]>) -> Option<&str> {
    let ready = conditions.unwrap_or_default().iter().find(|condition| condition.type_ == READY);
    ready.map_or(Some(PENDING), |ready| (ready.status != "True").then_some(&ready.reason))
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
    use crate::rules::{PullSecret, PullSecretSpec};

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
        standing.refused.insert("team".into(), Refusal::Other("exceeded quota".to_owned()));
        let words = || "do this".to_owned();
        let mut forbidden = standing.clone();
        forbidden.refused.insert("zone".into(), Refusal::NotPermitted(words()));
        let mut kept = Standing::default();
        kept.not_removed.insert("team".into(), Refusal::Other("a policy".to_owned()));
        for (facts, expected) in [
            (facts(), ("True", "Provided")),
            (Facts { standing: standing.clone(), ..facts() }, ("False", "WriteRefused")),
            (Facts { standing: forbidden, ..facts() }, ("False", "NotPermitted")),
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
            (Facts { standing: kept.clone(), ..facts() }, ("False", "WriteRefused")),
            (Facts { standing: kept.clone(), mode: Mode::Shadow, ..facts() }, ("False", "WriteRefused")),
            (Facts { standing: kept, source: SourceState::Unmanaged, ..facts() }, ("False", "WriteRefused")),
        ] {
            let status = status(&facts, None, Timestamp::UNIX_EPOCH);
            let condition = &status.conditions.as_ref().unwrap()[0];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
            let why = not_ready(status.conditions.as_deref());
            assert_eq!(why, (expected.0 != "True").then_some(expected.1));
            assert!(why.is_none_or(|why| NOT_READY.contains(&why)), "{why:?}");
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

    #[test]
    fn a_teams_rule_is_ready_unless_it_is_left_out() {
        let spec = PullSecretSpec { images: Some(vec!["ghcr.io/team".to_owned()]), ..PullSecretSpec::default() };
        let mut team = PullSecret::new("team", spec);
        team.metadata.namespace = Some("team".to_owned());
        let rule = Rule::from_pull_secret(&team).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        for (rule, expected) in [(Ok(&rule), ("True", "Unmanaged")), (Err("no images"), ("False", "SourceInvalid"))] {
            let status = team_status(rule, Some(3), 2, None, now);
            let condition = &status.conditions.as_ref().unwrap()[0];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
            assert_eq!((status.missed, status.observed_generation), (Some(2), Some(3)));
            let later = Timestamp::from_second(60).unwrap();
            assert_eq!(team_status(rule, Some(3), 2, Some(&status), later), status);
        }
    }
}
