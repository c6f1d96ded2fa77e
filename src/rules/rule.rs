//! Rules: documents that hold, with their defaults filled in. The one validation for files and for the Kubernetes API.

use std::fmt;

use super::documents::{ClusterPullSecretSpec, Mode, PullSecretSpec, Source};
use super::finding::{Code, Path, Problem};
use super::selector::{Labels, Selector};
use super::{duration, names};
use crate::image::ImagePattern;

/// Most patterns of one rule; the CRD's schema says the same.
const PATTERNS: usize = 128;

/// Which of the two documents a rule was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// For the whole cluster.
    ClusterPullSecret,
    /// For one namespace.
    PullSecret,
}

/// The name of a rule, as a person says it: `ClusterPullSecret regcred`, `PullSecret team/team-reg`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// Which document.
    pub kind: RuleKind,
    /// The namespace of a `PullSecret`.
    pub namespace: Option<String>,
    /// The document's name.
    pub name: String,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.namespace) {
            (RuleKind::PullSecret, Some(namespace)) => write!(f, "PullSecret {namespace}/{}", self.name),
            (RuleKind::PullSecret, None) => write!(f, "PullSecret {}", self.name),
            (RuleKind::ClusterPullSecret, _) => write!(f, "ClusterPullSecret {}", self.name),
        }
    }
}

/// A valid rule: which images, in which namespaces, get which Secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    id: RuleId,
    patterns: Vec<ImagePattern>,
    scope: Scope,
    secret_name: String,
    mode: Mode,
}

#[derive(Debug, Clone, PartialEq)]
enum Scope {
    Selected(Selector),
    Own(String),
}

impl Rule {
    /// The rule that a `ClusterPullSecret` of this name makes.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_cluster_pull_secret(name: &str, spec: &ClusterPullSecretSpec) -> Result<Self, Vec<Problem>> {
        let at = Path::of(&["spec"]);
        let mut problems = Vec::new();
        let patterns = patterns(&spec.images, &at, &mut problems);
        let secret_name = secret_name(name, spec.secret_name.as_deref(), &at, &mut problems);
        let selector = Selector::compile(&spec.namespace_selector, &at.field("namespaceSelector"))
            .map_err(|found| problems.extend(found));
        if let Some(source) = &spec.source {
            check_source(source, &spec.images, &at, &mut problems);
        }
        if let Some(text) = spec.reclaim_after.as_deref().filter(|text| duration::parse(text).is_none()) {
            let message = format!("`{}` is no duration: write it as in `24h` or `1h30m`", text.escape_debug());
            problems.push(Problem::new(Code::Duration, at.field("reclaimAfter"), message));
        }
        let id = RuleId { kind: RuleKind::ClusterPullSecret, namespace: None, name: name.to_owned() };
        check_name(&id.name, &mut problems);
        let mode = spec.mode.unwrap_or_default();
        match selector {
            Ok(selector) if problems.is_empty() => {
                Ok(Self { id, patterns, scope: Scope::Selected(selector), secret_name, mode })
            }
            _ => Err(problems),
        }
    }

    /// The rule that a `PullSecret` of this namespace and name makes.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_pull_secret(namespace: &str, name: &str, spec: &PullSecretSpec) -> Result<Self, Vec<Problem>> {
        let at = Path::of(&["spec"]);
        let mut problems = Vec::new();
        let patterns = patterns(&spec.images, &at, &mut problems);
        let secret_name = secret_name(name, spec.secret_name.as_deref(), &at, &mut problems);
        check_name(name, &mut problems);
        if !names::is_label(namespace) {
            let message = if namespace.is_empty() {
                "a PullSecret belongs to a namespace: name it".to_owned()
            } else {
                format!("`{}` is no namespace: {DNS_LABEL}", namespace.escape_debug())
            };
            problems.push(Problem::new(Code::Name, Path::of(&["metadata", "namespace"]), message));
        }
        let id = RuleId { kind: RuleKind::PullSecret, namespace: Some(namespace.to_owned()), name: name.to_owned() };
        let mode = spec.mode.unwrap_or_default();
        if problems.is_empty() {
            Ok(Self { id, patterns, scope: Scope::Own(namespace.to_owned()), secret_name, mode })
        } else {
            Err(problems)
        }
    }

    /// The document it was.
    pub fn id(&self) -> &RuleId {
        &self.id
    }

    /// The Secret that Pods get a reference to.
    pub fn secret_name(&self) -> &str {
        &self.secret_name
    }

    /// What it does with a Pod that it matches.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its image patterns, in the order of the document.
    pub fn patterns(&self) -> &[ImagePattern] {
        &self.patterns
    }

    /// Whether the rule serves a namespace. `None` when that hangs on labels and `labels` is `None`: the namespace is not
    /// known yet.
    pub fn serves(&self, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        match &self.scope {
            Scope::Selected(selector) => selector.selects(namespace, labels),
            Scope::Own(own) => Some(own == namespace),
        }
    }
}

const DNS_LABEL: &str = "at most 63 lower-case letters, digits and inner dashes";
const DNS_SUBDOMAIN: &str = "at most 253 lower-case letters, digits, inner dashes, and dots between";

fn patterns(images: &[String], spec: &Path, problems: &mut Vec<Problem>) -> Vec<ImagePattern> {
    let at = spec.field("images");
    if images.is_empty() {
        let message = "a rule without images matches nothing: list at least one, as in `asia.gcr.io`";
        problems.push(Problem::new(Code::Missing, at.clone(), message));
    }
    if images.len() > PATTERNS {
        let message = format!("{} patterns are more than {PATTERNS}: make a second rule", images.len());
        problems.push(Problem::new(Code::TooLarge, at.clone(), message));
    }
    let mut parsed = Vec::with_capacity(images.len());
    for (i, text) in images.iter().enumerate() {
        match ImagePattern::parse(text) {
            Ok(pattern) => parsed.push(pattern),
            Err(error) => problems.push(Problem::new(Code::ImagePattern, at.item(i), error.to_string())),
        }
    }
    parsed
}

fn secret_name(name: &str, given: Option<&str>, spec: &Path, problems: &mut Vec<Problem>) -> String {
    if let Some(given) = given.filter(|given| !names::is_subdomain(given)) {
        let message = format!("`{}` is no name for a Secret: {DNS_SUBDOMAIN}", given.escape_debug());
        problems.push(Problem::new(Code::Name, spec.field("secretName"), message));
    }
    given.unwrap_or(name).to_owned()
}

fn check_name(name: &str, problems: &mut Vec<Problem>) {
    if !names::is_subdomain(name) {
        let message = format!("`{}` is no name: {DNS_SUBDOMAIN}", name.escape_debug());
        problems.push(Problem::new(Code::Name, Path::of(&["metadata", "name"]), message));
    }
}

fn check_source(source: &Source, images: &[String], spec: &Path, problems: &mut Vec<Problem>) {
    let at = spec.field("source");
    let given = [
        source.secret_ref.is_some(),
        source.credential_provider.is_some(),
        source.google_service_account_key.is_some(),
        source.unmanaged.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let message = "exactly one of secretRef, credentialProvider, googleServiceAccountKey, unmanaged is needed";
        problems.push(Problem::new(Code::Source, at.clone(), message));
    }
    let mut name = |text: &str, path: Path| {
        if !names::is_subdomain(text) {
            let message = format!("`{}` is no name: {DNS_SUBDOMAIN}", text.escape_debug());
            problems.push(Problem::new(Code::Name, path, message));
        }
    };
    if let Some(reference) = &source.secret_ref {
        name(&reference.name, at.field("secretRef").field("name"));
    }
    if let Some(key) = &source.google_service_account_key {
        let at = at.field("googleServiceAccountKey").field("secretRef");
        name(&key.secret_ref.name, at.field("name"));
        // ConfigMap and Secret keys (apimachinery IsConfigMapKey): close enough to a label's value to say the same.
        let entry = key.secret_ref.key.as_deref().unwrap_or("key.json");
        if entry.is_empty() || entry.len() > 253 || !entry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            let message = format!("`{}` is no key of a Secret: letters, digits, `-`, `_` and `.`", entry.escape_debug());
            problems.push(Problem::new(Code::Name, at.field("key"), message));
        }
    }
    if let Some(provider) = source.credential_provider.as_ref().filter(|provider| provider.name.trim().is_empty()) {
        let message = format!("`{}` names no plugin", provider.name.escape_debug());
        problems.push(Problem::new(Code::Name, at.field("credentialProvider").field("name"), message));
    }
    if source.credential_provider.is_some() || source.google_service_account_key.is_some() {
        for (i, _) in images.iter().enumerate().filter(|(_, image)| image.contains('*')) {
            let message = "with this source the registry to ask for must be known: write each registry without `*`";
            problems.push(Problem::new(Code::Source, spec.field("images").item(i), message));
        }
    }
}
