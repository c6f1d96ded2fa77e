//! The rules: whether the cluster knows their kinds as this program does, whether there are any, whether they are valid, and
//! what the controller says of them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use super::observe::{Known, Rules, Seen};
use super::report::Statements;
use crate::cluster::definitions::{Compared, words};
use crate::rules::{ClusterPullSecret, Code};

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// How the definitions of the cluster compare to ours, or why that is not known.
    pub(super) definitions: Result<Compared, String>,
    pub(super) rules: Rules,
    pub(super) now: Timestamp,
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    judge_definitions(&seen.definitions, said);
    let Rules { cluster, team } = &seen.rules;
    let mut count = 0;
    for (kind, list) in
        [("ClusterPullSecrets", cluster.as_ref().map(Vec::len)), ("PullSecrets", team.as_ref().map(Vec::len))]
    {
        match list {
            Seen::There(found) => count += found,
            // Said of the definitions already.
            Seen::Absent => {}
            Seen::Unknown(why) => said.unknown(kind, why),
        }
    }
    if count == 0 && matches!((cluster, team), (Seen::There(_), Seen::There(_))) {
        said.wrong(
            Code::NoRules,
            "rules",
            "there are none: no Pod gets a pull secret",
            "write a ClusterPullSecret that names your registry; docs/rules.md begins with one",
        );
    }
    for rule in cluster.there().into_iter().flatten() {
        let before = said.len();
        judge_document(rule, said);
        if let Some(object) = &rule.object {
            judge_status(rule, object, seen.now, said);
        }
        if said.is_fine_since(before) {
            said.fine(&rule.about, "is valid, and ready");
        }
    }
    for rule in team.there().into_iter().flatten() {
        let before = said.len();
        judge_document(rule, said);
        if let Some(object) = &rule.object {
            let status = object.status.clone().unwrap_or_default();
            judge_ready(rule, status.conditions.as_deref(), said);
            judge_missed(rule, status.missed, said);
        }
        if said.is_fine_since(before) {
            said.fine(&rule.about, "is valid");
        }
    }
}

fn judge_definitions(definitions: &Result<Compared, String>, said: &mut Statements) {
    const ABOUT: &str = "CustomResourceDefinitions";
    const MEND: &str = "pullcred generate crds | kubectl apply --server-side --force-conflicts -f -";
    match definitions {
        Ok(compared @ Compared::Equal) => said.fine(ABOUT, words(compared)),
        Ok(compared @ Compared::Absent) => said.wrong(Code::NoDefinitions, ABOUT, words(compared), MEND),
        Ok(compared @ Compared::Lacking(_)) => said.wrong(Code::OldDefinitions, ABOUT, words(compared), MEND),
        Err(why) => said.unknown(ABOUT, why),
    }
}

fn judge_document<K>(known: &Known<K>, said: &mut Statements) {
    if let Err(why) = &known.rule {
        said.wrong(
            Code::InvalidRule,
            &known.about,
            format!("is skipped, for it is not valid: {why}"),
            "correct the field that the message names; each PC0xx code has its own section in docs/findings.md",
        );
    }
}

fn judge_status(known: &Known<ClusterPullSecret>, object: &ClusterPullSecret, now: Timestamp, said: &mut Statements) {
    let status = object.status.clone().unwrap_or_default();
    if status.observed_generation.is_none() || status.observed_generation < object.meta().generation {
        said.wrong(
            Code::NotObserved,
            &known.about,
            "the controller has said nothing about it as it is now",
            "if this stays so for more than a minute, no controller leads: see the check of its Lease, and its log",
        );
        return;
    }
    judge_ready(known, status.conditions.as_deref(), said);
    judge_missed(known, status.missed, said);
    if let Some(end) = status.expires_at
        && end.0 < now
    {
        said.wrong(
            Code::CredentialEnded,
            &known.about,
            format!("the credential in its copies ended on {}", end.0),
            "see what the condition Ready says, and the controller's log; docs/sources.md says how each source is renewed",
        );
    }
}

fn judge_ready<K>(known: &Known<K>, conditions: Option<&[Condition]>, said: &mut Statements) {
    let ready = conditions.unwrap_or_default().iter().find(|condition| condition.type_ == "Ready");
    if let Some(Condition { reason, message, .. }) = ready.filter(|condition| condition.status != "True") {
        said.wrong(
            Code::NotReady,
            &known.about,
            format!("is not ready, {reason}: {message}"),
            "do what the message says; docs/controller.md has a table of the reasons",
        );
    }
}

fn judge_missed<K>(known: &Known<K>, missed: Option<i64>, said: &mut Statements) {
    if let Some(missed) = missed.filter(|missed| *missed > 0) {
        said.wrong(
            Code::MissedPods,
            &known.about,
            format!("{missed} running or pending Pods lack the reference that it gives: they were created while the webhook was not reached or before the rule, or are in a namespace of excludedNamespaces"),
            "mend what the other findings name, then create them anew: kubectl rollout restart, in their namespaces",
        );
    }
}
