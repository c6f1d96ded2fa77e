//! What was found: statements about objects, as text for people and as a stable shape in JSON (docs/doctor.md).

use std::fmt;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::rules::Code;

/// A family of checks: one file of this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    /// The webhook configuration and what stands around it
    Installation,
    /// What the two identities may do, and the policies that bind the controller
    Rights,
    /// From the Service to the webhook's answer, each step by itself
    Connection,
    /// What the webhook serves, against `caBundle`
    Certificate,
    /// The rules, what the controller says of them, and the definitions of their kinds
    Rules,
    /// `ServiceAccount`s that refuse pull secrets
    Accounts,
    /// A dry-run Pod that must come back patched
    Injection,
}

impl Family {
    /// All of them, in the order in which they are told.
    pub const ALL: &[Self] = &[
        Self::Installation,
        Self::Rights,
        Self::Connection,
        Self::Certificate,
        Self::Rules,
        Self::Accounts,
        Self::Injection,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Installation => "installation",
            Self::Rights => "rights",
            Self::Connection => "connection",
            Self::Certificate => "certificate",
            Self::Rules => "rules",
            Self::Accounts => "accounts",
            Self::Injection => "injection",
        }
    }
}

/// How it stands with what a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(super) enum State {
    /// It is as it should be.
    Fine,
    /// It is not.
    Wrong {
        /// What kind of finding this is.
        #[serde(serialize_with = "as_text")]
        code: Code,
        /// What to do about it.
        mend: String,
    },
    /// It could not be looked at; the message says why. Never fine.
    Unknown,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference to the field")]
fn as_text<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

/// How it stands with one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Statement {
    pub(super) family: Family,
    #[serde(flatten)]
    pub(super) state: State,
    /// The object, by kind, namespace and name.
    pub(super) about: String,
    pub(super) message: String,
}

/// Where a family says what it finds.
#[derive(Debug)]
pub(super) struct Statements {
    family: Family,
    said: Vec<Statement>,
}

impl Statements {
    pub(super) fn of(family: Family) -> Self {
        Self { family, said: Vec::new() }
    }

    pub(super) fn fine(&mut self, about: impl AsRef<str>, message: impl AsRef<str>) {
        self.say(State::Fine, about.as_ref(), message.as_ref());
    }

    pub(super) fn wrong(
        &mut self,
        code: Code,
        about: impl AsRef<str>,
        message: impl AsRef<str>,
        mend: impl Into<String>,
    ) {
        self.say(State::Wrong { code, mend: mend.into() }, about.as_ref(), message.as_ref());
    }

    pub(super) fn unknown(&mut self, about: impl AsRef<str>, why: impl AsRef<str>) {
        self.say(State::Unknown, about.as_ref(), why.as_ref());
    }

    fn say(&mut self, state: State, about: &str, message: &str) {
        let (about, message) = (on_one_line(about), on_one_line(message));
        self.said.push(Statement { family: self.family, state, about, message });
    }

    /// Whether nothing wrong and nothing unknown has been said since there were `before` statements.
    pub(super) fn is_fine_since(&self, before: usize) -> bool {
        self.said[before..].iter().all(|said| said.state == State::Fine)
    }

    pub(super) fn len(&self) -> usize {
        self.said.len()
    }

    pub(super) fn into_inner(self) -> Vec<Statement> {
        self.said
    }
}

/// Messages of the API and of objects are other people's text: nothing of it moves a terminal's cursor.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How long each step of a call of the webhook took; those that were not made are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Times {
    /// What was called: a Pod, a Service or a URL.
    pub(super) about: String,
    /// How.
    pub(super) road: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(super) dns_milliseconds: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(super) tcp_milliseconds: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(super) forward_milliseconds: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(super) tls_milliseconds: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(super) http_milliseconds: Option<Duration>,
}

#[allow(clippy::ref_option, reason = "serde gives a reference to the field")]
fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // To the microsecond: what is below that says nothing.
    serializer.serialize_f64((time.unwrap_or_default().as_secs_f64() * 1e6).round() / 1e3)
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub(super) name: String,
    pub(super) release_namespace: String,
    pub(super) namespace: String,
    /// How many statements are findings, and of how many things it is not known how they stand.
    pub(super) wrong: usize,
    pub(super) unknown: usize,
    /// The calls of the webhook that were made.
    pub(super) calls: Vec<Times>,
    pub(super) checks: Vec<Statement>,
}

impl Report {
    /// Whether everything that was looked at is known to be as it should be.
    pub fn is_fine(&self) -> bool {
        self.wrong == 0 && self.unknown == 0
    }
}

const HEAD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const OPEN: Style = AnsiColor::Yellow.on_default();

/// The longest `about` that the messages behind it are aligned to.
const WIDEST: usize = 64;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|said| said.about.chars().count()).max().unwrap_or_default().min(WIDEST);
        let mut family = None;
        for Statement { family: of, state, about, message } in &self.checks {
            if family.replace(*of) != Some(*of) {
                writeln!(f, "{HEAD}{}{HEAD:#}", of.as_str())?;
            }
            let (style, word) = match state {
                State::Fine => (GOOD, "fine"),
                State::Wrong { code, .. } => (BAD, code.as_str()),
                State::Unknown => (OPEN, "unknown"),
            };
            writeln!(f, "  {style}{word:<7}{style:#}  {about:<width$}  {message}")?;
            if let State::Wrong { mend, .. } = state {
                writeln!(f, "  {:<7}  {:<width$}  mend: {mend}", "", "")?;
            }
        }
        let (found, unknown) = (count(self.wrong, "finding"), count(self.unknown, "thing"));
        match (self.wrong, self.unknown) {
            (0, 0) => writeln!(f, "{GOOD}Everything is fine.{GOOD:#}"),
            (0, _) => writeln!(f, "{OPEN}No findings, but {unknown} unknown.{OPEN:#}"),
            (_, 0) => writeln!(f, "{BAD}{found}.{BAD:#} Each code is explained in docs/findings.md."),
            _ => writeln!(f, "{BAD}{found}{BAD:#}, and {unknown} unknown. Each code is explained in docs/findings.md."),
        }
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let mut said = Statements::of(Family::Installation);
        said.fine("Lease pullcred/pullcred-controller", "`one` leads");
        said.wrong(Code::NoConfiguration, "MutatingWebhookConfiguration pullcred", "is not there", "install it");
        let mut rights = Statements::of(Family::Rights);
        rights.unknown("ServiceAccount pullcred/pullcred-webhook", "forbidden");
        let times = Times {
            about: "https://webhook.example/mutate".to_owned(),
            road: "by its URL".to_owned(),
            tcp_milliseconds: Some(Duration::from_micros(170)),
            tls_milliseconds: Some(Duration::from_nanos(2_000_400)),
            ..Times::default()
        };
        Report {
            name: "pullcred".to_owned(),
            release_namespace: "pullcred".to_owned(),
            namespace: "default".to_owned(),
            wrong: 1,
            unknown: 1,
            calls: vec![times],
            checks: said.into_inner().into_iter().chain(rights.into_inner()).collect(),
        }
    }

    /// The shape that `docs/doctor.md` promises.
    #[test]
    fn json_has_the_documented_shape() {
        let about = "MutatingWebhookConfiguration pullcred";
        let wanted = json!({
            "name": "pullcred", "releaseNamespace": "pullcred", "namespace": "default", "wrong": 1, "unknown": 1,
            "calls": [{"about": "https://webhook.example/mutate", "road": "by its URL", "tcpMilliseconds": 0.17, "tlsMilliseconds": 2.0}],
            "checks": [
                {"family": "installation", "state": "fine", "about": "Lease pullcred/pullcred-controller", "message": "`one` leads"},
                {"family": "installation", "state": "wrong", "code": "PC201", "mend": "install it", "about": about, "message": "is not there"},
                {"family": "rights", "state": "unknown", "about": "ServiceAccount pullcred/pullcred-webhook", "message": "forbidden"},
            ],
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), wanted);
    }

    #[test]
    fn text_is_aligned_and_says_what_to_do() {
        let text = anstream::adapter::strip_str(&report().to_string()).to_string();
        let wanted = "installation\n  \
            fine     Lease pullcred/pullcred-controller        `one` leads\n  \
            PC201    MutatingWebhookConfiguration pullcred     is not there\n                                                     mend: install it\n\
            rights\n  \
            unknown  ServiceAccount pullcred/pullcred-webhook  forbidden\n\
            1 finding, and 1 thing unknown. Each code is explained in docs/findings.md.\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_others_have_written_moves_no_cursor() {
        let mut said = Statements::of(Family::Rules);
        said.unknown("ClusterPullSecret a", "not ready:\n\u{1b}[2Jgone");
        assert_eq!(said.into_inner()[0].message, "not ready:  [2Jgone");
    }

    /// What is unknown is not fine.
    #[test]
    fn only_what_is_known_to_be_well_is_fine() {
        for (wrong, unknown, is_fine) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            assert_eq!(Report { wrong, unknown, ..report() }.is_fine(), is_fine);
        }
    }
}
