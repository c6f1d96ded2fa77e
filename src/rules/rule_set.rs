//! All rules together, arranged so that finding those which cover an image costs the same for ten rules and for ten
//! thousand.

use std::collections::HashMap;

use super::rule::{Rule, RuleKind};
use crate::image::{ImagePattern, ImageReference, Specificity};

/// Every rule in force. Cheap to ask; made anew when a rule changes.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// The patterns of all `ClusterPullSecret`s.
    cluster: Index,
    /// The patterns of the `PullSecret`s, by the namespace that they are in.
    namespaces: HashMap<Box<str>, Index>,
}

impl RuleSet {
    /// Arranges `rules` for matching, in an order of their own: by kind, namespace and name.
    pub fn compile(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.id().cmp(b.id()));
        let mut cluster = Index::default();
        let mut namespaces: HashMap<Box<str>, Index> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            let index = match (rule.id().kind, &rule.id().namespace) {
                (RuleKind::PullSecret, Some(namespace)) => namespaces.entry(namespace.as_str().into()).or_default(),
                _ => &mut cluster,
            };
            for (pattern, text) in rule.patterns().iter().enumerate() {
                index.add(text, Hit { rule: place, pattern });
            }
        }
        Self { rules, cluster, namespaces }
    }

    /// The rules, ordered by kind, namespace and name.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Puts matches, each the place of a rule and how narrow its pattern is, into the order in which Pods get the Secrets:
    /// the most specific pattern first, then by the Secret's name; rules that share both stay in the order of the set.
    pub fn sort_by_rank(&self, matches: &mut [(usize, Specificity)]) {
        let secret = |place: usize| self.rules[place].secret_name();
        matches.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| secret(a.0).cmp(secret(b.0))).then(a.0.cmp(&b.0)));
    }

    /// Calls `found` with every pattern that covers `image`, and with the place in [`rules`](Self::rules) of the rule it
    /// belongs to. A rule is reported once for each of its patterns that covers the image.
    ///
    /// `PullSecret`s of other namespaces than `namespace` are not reported, for they serve only their own. Whether a
    /// `ClusterPullSecret` serves it is for [`Rule::serves`] to say. Allocates nothing.
    pub fn matching<'s>(
        &'s self,
        image: &ImageReference<'_>,
        namespace: &str,
        mut found: impl FnMut(usize, &'s ImagePattern),
    ) {
        for index in [Some(&self.cluster), self.namespaces.get(namespace)].into_iter().flatten() {
            index.candidates(image, |Hit { rule, pattern }| {
                let pattern = &self.rules[rule].patterns()[pattern];
                if pattern.covers(image) {
                    found(rule, pattern);
                }
            });
        }
    }
}

/// One pattern of one rule, by their places.
#[derive(Clone, Copy, Debug)]
struct Hit {
    rule: usize,
    pattern: usize,
}

/// Where to look for the patterns that may cover an image.
#[derive(Debug, Default)]
struct Index {
    /// Patterns whose host has no `*`, by host and port.
    exact: HashMap<Box<str>, Paths>,
    /// Patterns whose host has a `*`, by what follows the last label that has one (nothing, if that is the last).
    globs: HashMap<Box<str>, Vec<Hit>>,
}

/// Patterns of one registry, by the segments of their paths.
#[derive(Debug, Default)]
struct Paths {
    /// Those whose path ends here: they cover everything below.
    here: Vec<Hit>,
    below: HashMap<Box<str>, Paths>,
}

impl Index {
    fn add(&mut self, pattern: &ImagePattern, hit: Hit) {
        if let Some(host) = pattern.exact_host() {
            let mut paths = self.exact.entry(host.into()).or_default();
            for segment in pattern.path().split('/').filter(|segment| !segment.is_empty()) {
                paths = paths.below.entry(segment.into()).or_default();
            }
            paths.here.push(hit);
        } else {
            self.globs.entry(after_globs(pattern.host()).into()).or_default().push(hit);
        }
    }

    /// Calls `visit` with every pattern that may cover `image`, and with few others.
    fn candidates(&self, image: &ImageReference<'_>, mut visit: impl FnMut(Hit)) {
        let host = image.registry();
        let mut segments = image.segments();
        let mut paths = self.exact.get(host);
        while let Some(Paths { here, below }) = paths {
            here.iter().copied().for_each(&mut visit);
            paths = segments.next().and_then(|segment| below.get(segment));
        }
        if !self.globs.is_empty() {
            let tails = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
            for tail in tails.chain([""]) {
                self.globs.get(tail).into_iter().flatten().copied().for_each(&mut visit);
            }
        }
    }
}

/// The labels of a host, with the port, that follow the last label with a `*`.
fn after_globs(host: &str) -> &str {
    let last = host.rfind('*').unwrap_or(0);
    host[last..].split_once('.').map_or("", |(_, tail)| tail)
}
