//! Rules compiled for matching: the cost of a match does not grow with the number of rules for other registries.

use std::collections::HashMap;

use super::rule::Rule;
use crate::image::{ImagePattern, ImageReference};

/// A pattern of the set, by the index of its rule and its index there.
type Entry = (usize, usize);

/// All rules that are in force, ordered by kind, namespace and name.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Patterns without `*`, by their host and port.
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// Patterns with `*`, by the number of labels of their host: no other number can match.
    globs: HashMap<usize, Vec<Entry>>,
}

impl RuleSet {
    /// Compiles rules.
    pub fn compile(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.id().cmp(b.id()));
        let mut exact: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
        let mut globs: HashMap<usize, Vec<Entry>> = HashMap::new();
        for (r, rule) in rules.iter().enumerate() {
            for (p, pattern) in rule.patterns().iter().enumerate() {
                match pattern.exact_host() {
                    Some(host) => exact.entry(host.into()).or_default().push((r, p)),
                    None => globs.entry(labels(pattern.host())).or_default().push((r, p)),
                }
            }
        }
        Self { rules, exact, globs }
    }

    /// The rules, in their order; indices elsewhere are into this slice.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Reports each pattern that covers an image, with the index of its rule. A rule is reported once for each of its
    /// patterns that covers the image; whether it serves a namespace is not looked at. Allocates nothing.
    pub fn matching<'s>(&'s self, image: &ImageReference<'_>, mut found: impl FnMut(usize, &'s ImagePattern)) {
        let exact = self.exact.get(image.registry());
        let globs = self.globs.get(&labels(image.registry()));
        for &(rule, pattern) in exact.into_iter().chain(globs).flatten() {
            let pattern = &self.rules[rule].patterns()[pattern];
            if pattern.covers(image) {
                found(rule, pattern);
            }
        }
    }
}

fn labels(host: &str) -> usize {
    host.split('.').count()
}
