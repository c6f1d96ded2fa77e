//! How the rules in force follow the files that they came from.

use std::convert::Infallible;
use std::path::PathBuf;

use jiff::Timestamp;

use super::series::Series;
use super::snapshot::{LiveRules, Snapshot};
use crate::process::files;
use crate::process::readiness::{Condition, State};
use crate::process::rule_files::RuleFiles;
use crate::rules::{Documents, Finding};

/// As many findings are said one by one in the log; ten thousand would bury the first.
pub(super) const SAID: usize = 100;

/// Who puts rules in force and tells how that went.
pub struct Following {
    /// What is in force.
    pub rules: LiveRules,
    /// How the rules stand.
    pub condition: Condition,
    /// What is counted.
    pub series: Series,
}

impl Following {
    /// Puts the rules of these documents in force.
    pub fn load(&self, documents: Documents) {
        let snapshot = Snapshot::from_files(documents, &self.rules.now());
        let count = snapshot.rules.rules().len();
        self.rules.replace(snapshot);
        self.count(count, 0);
        if count == 0 {
            tracing::warn!("the rule files hold no rules: nothing is injected");
            self.condition.set(State::Warned("the rule files hold no rules: nothing is injected".to_owned()));
        } else {
            tracing::info!(rules = count, "rules are in force");
            self.condition.met(format!("{count} in force"));
        }
    }

    /// Counts what is in force from now on, and what is wrong with the rest.
    pub(super) fn count(&self, rules: usize, findings: usize) {
        self.series.rules.set(i64::try_from(rules).unwrap_or(i64::MAX));
        self.series.rule_findings.set(i64::try_from(findings).unwrap_or(i64::MAX));
        self.series.rules_loaded_at.set(Timestamp::now().as_second());
    }

    /// Follows the files. An edit in which anything is wrong leaves the rules before in force, loudly.
    pub async fn follow(self, paths: Vec<PathBuf>, first: RuleFiles) -> Infallible {
        files::watch(
            &first,
            move || RuleFiles::read(&paths),
            |found| match found.map(|found| found.documents()) {
                Some(Ok(documents)) => self.load(documents),
                Some(Err(findings)) => self.reject(&findings),
                None => {}
            },
        )
        .await
    }

    fn reject(&self, findings: &[Finding]) {
        let count = findings.len();
        self.series.rule_rejections.inc();
        self.series.rule_findings.set(i64::try_from(count).unwrap_or(i64::MAX));
        tracing::error!(findings = count, "the rule files changed and cannot be used; the rules before stay in force");
        for finding in findings.iter().take(SAID) {
            tracing::error!(code = finding.problem.code.as_str(), "{finding}");
        }
        let rules = self.rules.now().rules.rules().len();
        let mut text = format!("{rules} in force; the files as they are now cannot be used ({count} findings)");
        for finding in findings.iter().take(SAID) {
            text.push_str("\n      ");
            text.push_str(&finding.to_string());
        }
        self.condition.set(State::Warned(text));
    }
}
