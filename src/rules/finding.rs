//! What is wrong with a document: a stable code, the place, the field, and what to write instead.

use std::{fmt, sync::Arc};

/// Declares the codes once, so that no list of them can miss one.
macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A stable name for a kind of finding: the same in text output, JSON, logs and warnings, and never reused.
        /// `docs/findings.md` says for each what it means and how to mend it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])+ $name,)+
        }

        impl Code {
            /// Every code there is, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// `PC001`, `PC002`, ...
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// The file is not there, may not be read, or is too large.
    Unreadable = "PC001",
    /// The text is neither YAML nor JSON.
    Syntax = "PC002",
    /// A mapping holds one key twice.
    DuplicateKey = "PC003",
    /// A field that the document does not have.
    UnknownField = "PC004",
    /// A number where text is wanted, text where a list is wanted, and so on.
    WrongType = "PC005",
    /// A field that must be there is missing, or holds nothing.
    Missing = "PC006",
    /// A document that pullcred does not read.
    UnknownKind = "PC007",
    /// An image pattern that no image could match as its author means it.
    ImagePattern = "PC008",
    /// A name that Kubernetes would refuse.
    Name = "PC009",
    /// Not exactly one source, or a source that does not go with the rule's images.
    Source = "PC010",
    /// A label selector that Kubernetes would refuse.
    Selector = "PC011",
    /// Not a duration as Go writes it.
    Duration = "PC012",
    /// Two documents of one kind and name.
    Duplicate = "PC013",
    /// A value that is not one of those allowed.
    NotAllowed = "PC014",
    /// A Pod names an image in a way that nobody can read.
    ImageReference = "PC101",
    /// What came as a review does not hold a Pod that can be read.
    NotAPodReview = "PC102",
    /// There is no webhook configuration.
    NoConfiguration = "PC201",
    /// The configuration has not exactly the one entry that it should have.
    Entry = "PC202",
    /// The webhook is called for more than new Pods.
    CalledForMore = "PC203",
    /// The webhook is not called for new Pods.
    NotCalledForPods = "PC204",
    /// The webhook is called for Pods that it, or the cluster, needs to come back.
    OwnNamespace = "PC205",
    /// The API server waits for the webhook longer than is sensible.
    TimeOut = "PC206",
    /// Pods are refused when the webhook is away, and it has too few replicas for that.
    FewReplicas = "PC207",
    /// Pods are refused when the webhook is away, and nothing keeps a drain from taking all replicas.
    NoDisruptionBudget = "PC208",
    /// The webhook is not called again for what other webhooks add to a Pod.
    NotCalledAgain = "PC209",
    /// No controller leads.
    NobodyLeads = "PC210",
    /// A policy that binds the controller is missing, or does not bind.
    Policy = "PC211",
    /// An identity lacks a right.
    Rights = "PC212",
    /// There is no Service.
    NoService = "PC221",
    /// The Service has not the port that the configuration names.
    ServicePort = "PC222",
    /// No webhook Pod behind the Service is ready.
    NoEndpoint = "PC223",
    /// The webhook's host has no address.
    Dns = "PC224",
    /// No connection to the webhook comes about.
    Tcp = "PC225",
    /// What listens there does not finish a TLS handshake.
    Tls = "PC226",
    /// What listens there does not answer a review.
    Http = "PC227",
    /// The webhook answers, but slowly.
    Slow = "PC228",
    /// The `caBundle` is empty.
    NoBundle = "PC231",
    /// The `caBundle` holds what cannot be read.
    BadBundle = "PC232",
    /// The `caBundle` does not trust the certificate that is served.
    NotTrusted = "PC233",
    /// The certificate, or the authority that signed it, is not valid now.
    NotValid = "PC234",
    /// The certificate is not for the name that the API server calls.
    WrongName = "PC235",
    /// The certificate should have been renewed.
    NotRenewed = "PC236",
    /// The cluster does not know the kinds of our rules.
    NoDefinitions = "PC241",
    /// The definitions of our rules are older than the program.
    OldDefinitions = "PC242",
    /// There are no rules.
    NoRules = "PC243",
    /// A rule is not valid, and is skipped.
    InvalidRule = "PC244",
    /// The controller says that a rule is not ready.
    NotReady = "PC245",
    /// The controller has said nothing about a rule as it is now.
    NotObserved = "PC246",
    /// Pods were created without the reference that a rule gives.
    MissedPods = "PC247",
    /// The credential in the copies of a rule has ended.
    CredentialEnded = "PC248",
    /// A `ServiceAccount` refuses Pods with the pull secrets that they get.
    MountableSecrets = "PC251",
    /// The webhook is called, and gives a Pod other references than the rules say.
    NotPatched = "PC261",
    /// The API server does not get an answer from the webhook.
    NotCalled = "PC262",
    /// The API server refuses a Pod because of the webhook.
    CallFailed = "PC263",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a file, as editors count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// One thing that is wrong in a document, wherever the document came from.
///
/// `Display` is the text of a condition, where the object is known: ``PC008 spec.images[0]: `https://asia.gcr.io` has a
/// scheme: write `asia.gcr.io` ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing is wrong.
    pub code: Code,
    /// The field; empty when it concerns the whole document.
    pub path: FieldPath,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    pub(super) fn new(code: Code, path: FieldPath, message: impl Into<String>) -> Self {
        Self { code, path, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())?;
        if !self.path.0.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A problem and its place in a file; prints as `a.yaml:7:13: ` and the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, by the name that the caller gave it.
    pub file: Arc<str>,
    /// Where in the file; `None` when it concerns the file as a whole.
    pub at: Option<Position>,
    /// What is wrong there.
    pub problem: Problem,
}

impl Finding {
    /// A finding about a file as a whole, for the caller who could not read it.
    pub fn about_file(file: &str, code: Code, message: impl Into<String>) -> Self {
        Self { file: file.into(), at: None, problem: Problem::new(code, FieldPath::default(), message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.problem)
    }
}

/// One step from a mapping or list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of a known name: `.images`.
    Field(String),
    /// A key that the author chose: `[team]`.
    Key(String),
    /// A place in a list, from 0: `[3]`.
    Index(usize),
}

/// The way from a document's root to a value in it; prints as Kubernetes prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    pub(super) fn field(&self, name: &str) -> Self {
        self.with(Step::Field(name.to_owned()))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The way along this path and then along `other`.
    pub(super) fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Text that somebody wrote, fit to stand in a message: in backquotes, on one line, and not endless.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted = String::from("`");
    for (place, character) in text.chars().enumerate() {
        if place == LONGEST {
            quoted.push_str("...");
            break;
        }
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('`');
    quoted
}

/// `a, b or c`, each quoted.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut quoted: Vec<String> = names.into_iter().map(quoted).collect();
    match quoted.pop() {
        None => String::new(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} or {last}", quoted.join(", ")),
    }
}

/// Which of the `known` names a mistyped `name` most likely means, if any is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// No name of ours comes near this length, and comparing costs the product of the lengths.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (known, strsim::jaro_winkler(&name, &known.to_ascii_lowercase())))
        .filter(|(_, likeness)| *likeness > 0.8)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(known, _)| known)
}
