//! One AdmissionReview in, one answer out.
//!
//! Bytes are read into a `Review`, whose Pod is looked at through a `PodView`; the rules that match its images give the
//! Secrets that it lacks; these become a JSON patch and the answer's bytes. Nothing here waits, and nothing is remembered.

mod json;
mod mutate;
mod patch;
mod pod;
mod review;

use std::borrow::Cow;
use std::fmt::Write;

use crate::rules::{Code, Labels, RuleSet};
use mutate::{decide, warning};
use review::{Response, Review};

/// Where the labels of namespaces are known.
pub trait NamespaceLabels {
    /// The labels of a namespace; `None` when the namespace is not known (yet).
    fn labels(&self, namespace: &str) -> Option<&Labels>;
}

/// What to answer to a request body.
#[derive(Debug)]
pub enum Answer<'a> {
    /// HTTP 200 with this AdmissionReview as `application/json`.
    Review {
        /// The AdmissionReview.
        body: Vec<u8>,
        /// What it says, for logs and metrics.
        decision: Decision<'a>,
    },
    /// HTTP 400: there is no uid to answer to. The message says what is wrong.
    NotAReview {
        /// For the `Status` that goes back.
        message: String,
    },
    /// HTTP 503 with `Retry-After: 1`: the labels of a namespace decide and are not known yet. The API server asks again.
    NamespaceUnknown {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
}

/// What was decided about one request.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What came of it.
    pub outcome: Outcome,
    /// The rules that match an image and serve the namespace, as indices into [`RuleSet::rules`], most specific first.
    pub rules: Vec<usize>,
    /// How many Secrets were added.
    pub added: usize,
    /// What the person who created the Pod is told; each starts with `pullcred` and a finding code.
    pub warnings: Vec<String>,
    /// The request's uid.
    pub uid: Cow<'a, str>,
    /// The request's namespace.
    pub namespace: Cow<'a, str>,
    /// The Pod's name, or the stem of it and a star; empty where no Pod could be read.
    pub pod: Cow<'a, str>,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Secrets were added.
    Injected,
    /// A rule matches, and the Pod names its Secret already.
    AlreadyThere,
    /// No rule matches.
    NoMatch,
    /// Only rules in Shadow mode match.
    Shadowed,
    /// Not the creation of a Pod, or a mirror Pod.
    LeftAlone,
    /// The review does not hold a readable Pod: allowed with a warning.
    Unreadable,
}

impl Outcome {
    /// Every outcome, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Injected, Self::AlreadyThere, Self::NoMatch, Self::Shadowed, Self::LeftAlone, Self::Unreadable];

    /// The outcome as metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::AlreadyThere => "already_there",
            Self::NoMatch => "no_match",
            Self::Shadowed => "shadowed",
            Self::LeftAlone => "left_alone",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Answers one request body, whatever its bytes are.
pub fn answer<'a>(body: &'a [u8], rules: &RuleSet, namespaces: &impl NamespaceLabels) -> Answer<'a> {
    let review = match Review::read(body) {
        Ok(review) => review,
        Err(error) => return Answer::NotAReview { message: error.to_string() },
    };
    let Review { version, uid, namespace, creates_a_pod, pod } = review;
    let mut decision = Decision {
        outcome: Outcome::LeftAlone,
        rules: vec![],
        added: 0,
        warnings: vec![],
        uid,
        namespace,
        pod: Cow::default(),
    };
    let mut patch = None;
    let mut audit_annotations = None;
    match pod {
        _ if !creates_a_pod => {}
        Err(wrong) => decision.not_readable(&wrong),
        Ok(_) if decision.namespace.is_empty() => decision.not_readable("request.namespace is missing"),
        Ok(pod) => {
            decision.pod = pod.display_name();
            if !pod.is_mirror {
                let Ok(verdict) = decide(&pod, &decision.namespace, rules, namespaces) else {
                    return Answer::NamespaceUnknown { namespace: decision.namespace };
                };
                decision.outcome = match () {
                    () if !verdict.missing.is_empty() => Outcome::Injected,
                    () if verdict.injects => Outcome::AlreadyThere,
                    () if !verdict.matched.is_empty() => Outcome::Shadowed,
                    () => Outcome::NoMatch,
                };
                if !verdict.missing.is_empty() {
                    patch = Some(patch::append(&verdict.missing, pod.pull_secrets.is_some()));
                }
                audit_annotations = mutate::audit_annotations(&verdict.matched, rules.rules());
                decision.added = verdict.missing.len();
                decision.rules = verdict.matched;
                decision.warnings = verdict.warnings;
            }
        }
    }
    let response = Response { patch: patch.as_deref(), audit_annotations, warnings: &decision.warnings };
    Answer::Review { body: response.write(version, &decision.uid), decision }
}

impl Decision<'_> {
    fn not_readable(&mut self, wrong: &str) {
        self.outcome = Outcome::Unreadable;
        self.warnings.push(warning(Code::NotAPodReview, |text| write!(text, "nothing injected: {wrong}")));
    }
}
