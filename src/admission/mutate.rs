//! The decision: which rules a Pod's images match, which Secrets it lacks, and what it is told.

use std::fmt::Write;

use super::NamespaceLabels;
use super::pod::PodView;
use super::review::AuditAnnotations;
use crate::image::{ImageReference, Specificity};
use crate::rules::{Code, Mode, Rule, RuleSet};

/// Longest warning; the API server cuts at 256 bytes and asks for 120 characters (KEP-1693).
const WARNING_LENGTH: usize = 120;
/// Most warnings for one Pod, so that a Pod of a thousand bad images does not fill its author's terminal.
const WARNINGS: usize = 5;

/// What is to be done with one Pod.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict<'r> {
    /// The rules that match an image and serve the namespace, as indices into the rule set; most specific first.
    pub(super) matched: Vec<usize>,
    /// Whether a matched rule is not in Shadow mode.
    pub(super) injects: bool,
    /// The Secrets to append, in order.
    pub(super) missing: Vec<&'r str>,
    pub(super) warnings: Vec<String>,
}

/// The labels of the Pod's namespace decide, and they are not known yet.
#[derive(Debug, PartialEq)]
pub(super) struct NamespaceUnknown;

/// One rule that matched, with the most specific of its patterns that did.
type Hit = (usize, Specificity);

/// Decides what a Pod in this namespace gets.
pub(super) fn decide<'r>(
    pod: &PodView<'_>,
    namespace: &str,
    rules: &'r RuleSet,
    namespaces: &impl NamespaceLabels,
) -> Result<Verdict<'r>, NamespaceUnknown> {
    let mut verdict = Verdict::default();
    let mut hits = matching(pod, namespace, rules, &mut verdict.warnings);
    if hits.is_empty() {
        return Ok(verdict);
    }

    let all = rules.rules();
    let labels = namespaces.labels(namespace);
    let mut unknown = false;
    hits.retain(|&(index, _)| {
        let rule = &all[index];
        rule.serves(namespace, labels).unwrap_or_else(|| {
            // Nobody waits for a decision that could not change the Pod.
            unknown |= rule.mode() == Mode::Inject && !pod.names_secret(rule.secret_name());
            false
        })
    });
    if unknown {
        return Err(NamespaceUnknown);
    }

    // One rule for each Secret is enough, the most specific: sort by Secret to drop the others, then into final order.
    let mut wanted: Vec<Hit> = hits.iter().filter(|(index, _)| all[*index].mode() == Mode::Inject).copied().collect();
    verdict.injects = !wanted.is_empty();
    wanted.sort_unstable_by(|a, b| all[a.0].secret_name().cmp(all[b.0].secret_name()).then_with(|| b.1.cmp(&a.1)));
    wanted.dedup_by(|next, kept| all[next.0].secret_name() == all[kept.0].secret_name());
    wanted.retain(|(index, _)| !pod.names_secret(all[*index].secret_name()));
    rules.sort_by_rank(&mut wanted);
    verdict.missing = wanted.into_iter().map(|(index, _)| all[index].secret_name()).collect();

    rules.sort_by_rank(&mut hits);
    verdict.matched = hits.into_iter().map(|(index, _)| index).collect();
    Ok(verdict)
}

/// Every rule with a pattern that covers an image of the Pod, once each, in the order of the set; of the `PullSecret`s only
/// those of its namespace.
fn matching(pod: &PodView<'_>, namespace: &str, rules: &RuleSet, warnings: &mut Vec<String>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = Vec::new();
    // A Pod may hold very many images of one registry: repeated hits are merged before they outgrow the rules.
    let mut merge_at = 64;
    for text in pod.images().filter(|text| !text.is_empty()) {
        match ImageReference::parse(text) {
            Ok(image) => rules.matching(&image, namespace, |index, pattern| hits.push((index, pattern.specificity()))),
            Err(error) if warnings.len() < WARNINGS => warnings.push(warning(Code::ImageReference, |w| {
                write!(w, "image `{}` cannot be pulled: {error}", text.escape_debug())
            })),
            Err(_) => {}
        }
        if hits.len() >= merge_at {
            merge(&mut hits);
            merge_at = 64.max(2 * hits.len());
        }
    }
    merge(&mut hits);
    hits
}

fn merge(hits: &mut Vec<Hit>) {
    hits.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    hits.dedup_by_key(|hit| hit.0);
}

/// A warning for the person who created the Pod: its code, then the text, cut to what `kubectl` shows whole.
pub(super) fn warning(code: Code, text: impl FnOnce(&mut Short) -> std::fmt::Result) -> String {
    let mut warning = Short { text: String::new(), left: WARNING_LENGTH };
    if write!(warning, "pullcred {code}: ").and_then(|()| text(&mut warning)).is_err() {
        warning.text.pop();
        warning.text.push('…');
    }
    warning.text
}

/// Text that takes only so many characters and then no more, however long what is written may be.
pub(super) struct Short {
    text: String,
    left: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(std::fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

/// What the audit log keeps of a Pod that a rule matched; `None` when none did.
pub(super) fn audit_annotations(matched: &[usize], rules: &[Rule]) -> Option<AuditAnnotations> {
    if matched.is_empty() {
        return None;
    }
    let (mut names, mut secrets) = (String::with_capacity(64), String::with_capacity(64));
    let mut last = None;
    for rule in matched.iter().map(|&index| &rules[index]) {
        if !names.is_empty() {
            names.push(',');
        }
        if let Some(namespace) = &rule.id().namespace {
            names.push_str(namespace);
            names.push('/');
        }
        names.push_str(&rule.id().name);
        // Equal names are neighbours only if their rules are equally specific; an audit entry may name one twice otherwise.
        if last.replace(rule.secret_name()) != Some(rule.secret_name()) {
            if !secrets.is_empty() {
                secrets.push(',');
            }
            secrets.push_str(rule.secret_name());
        }
    }
    Some(AuditAnnotations { rules: names, secrets })
}
