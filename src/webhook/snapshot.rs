//! The rules in force, as one piece that requests read without a lock and that is replaced as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use super::namespaces::Namespaces;
use crate::admission::NamespaceLabels;
use crate::rules::{Documents, Labels, Rule, RuleKind, RuleSet};

/// As many rules have a series of their own. What is beyond, and every rule of one namespace, counts as `other`.
const SERIES: usize = 100;
const OTHER: &str = "other";

/// Rules, what is known of namespaces, and what is counted about each rule.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// Whether the rules have been read at all.
    pub(super) is_loaded: bool,
    namespaces: Namespaces,
    counters: Arc<RuleCounters>,
}

/// What is counted about rules.
#[derive(Debug, Default)]
struct RuleCounters {
    /// By the index of the rule; several rules may share one.
    matches: Vec<Counter>,
    /// The counters by what the series calls them.
    series: BTreeMap<String, Counter>,
}

impl Snapshot {
    /// Compiles what files hold. Without a cluster the labels of a namespace are those of its document among them. A namespace
    /// without one has none but its name, which is always known.
    pub fn from_files(documents: Documents, before: &Self) -> Self {
        Self::new(documents.rules, Namespaces::just(documents.namespaces), before)
    }

    /// Compiles rules. Counters of those that `before` has too go on counting.
    pub(super) fn new(rules: Vec<Rule>, namespaces: Namespaces, before: &Self) -> Self {
        let rules = RuleSet::compile(rules);
        let mut series: BTreeMap<String, Counter> = BTreeMap::new();
        let known = &before.counters.series;
        let matches = rules.rules().iter().map(|rule| {
            let id = rule.id();
            let own = id.kind == RuleKind::ClusterPullSecret
                && (series.contains_key(&id.name) || series.len() - usize::from(series.contains_key(OTHER)) < SERIES);
            let name = if own { &id.name } else { OTHER };
            let counter = || known.get(name).cloned().unwrap_or_default();
            series.entry(name.to_owned()).or_insert_with(counter).clone()
        });
        let matches = matches.collect();
        let counters = Arc::new(RuleCounters { matches, series });
        Self { rules: Arc::new(rules), is_loaded: true, namespaces, counters }
    }

    /// The same rules, while something else is known of namespaces.
    pub(super) fn with_namespaces(&self, namespaces: Namespaces) -> Self {
        let Self { rules, is_loaded, namespaces: _, counters } = self;
        Self { rules: Arc::clone(rules), is_loaded: *is_loaded, namespaces, counters: Arc::clone(counters) }
    }

    /// Counts a match of a rule, by its index.
    pub(super) fn matched(&self, rule: usize) {
        self.counters.matches[rule].inc();
    }
}

impl NamespaceLabels for Snapshot {
    fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.labels(namespace)
    }
}

/// The snapshot in force. Clones are the same one.
#[derive(Clone, Default)]
pub struct LiveRules(Arc<ArcSwap<Snapshot>>);

impl LiveRules {
    /// What is in force now.
    pub fn now(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Puts another in force. Requests that have begun end with the one they began with.
    pub fn replace(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

impl fmt::Debug for LiveRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveRules").field(&self.now().rules.rules().len()).finish()
    }
}

/// The series of the rules in force.
impl Collector for LiveRules {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.now();
        let help = "Reviews in which a rule matched an image and served the namespace";
        let mut family = encoder.encode_descriptor("rule_matches", help, None, MetricType::Counter)?;
        for (rule, counter) in &snapshot.counters.series {
            counter.encode(family.encode_family(&[("rule", rule.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{SourceFile, read_documents};

    fn documents(names: impl Iterator<Item = String>) -> Documents {
        let head = "---\napiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\n";
        let spec = "spec: {images: [r.io], namespaceSelector: {}}\n";
        let rules: Vec<String> = names.map(|name| format!("{head}metadata: {{name: {name}}}\n{spec}")).collect();
        let text = rules.concat();
        read_documents(&[SourceFile { name: "rules.yaml", text: text.as_bytes() }]).unwrap()
    }

    #[test]
    fn series_are_bounded_however_many_rules_there_are() {
        let names = (0..250).map(|i| format!("rule-{i:03}"));
        let snapshot = Snapshot::from_files(documents(names.chain(["other".to_owned()])), &Snapshot::default());
        assert_eq!((snapshot.counters.matches.len(), snapshot.counters.series.len()), (251, SERIES + 1));
        snapshot.matched(99);
        snapshot.matched(249);
        snapshot.matched(250);
        assert_eq!((snapshot.counters.series["rule-098"].get(), snapshot.counters.series["other"].get()), (1, 2));
    }

    #[test]
    fn a_rule_that_stays_goes_on_counting_and_one_that_goes_is_forgotten() {
        let before =
            Snapshot::from_files(documents(["a".to_owned(), "b".to_owned()].into_iter()), &Snapshot::default());
        before.matched(0);
        let after = Snapshot::from_files(documents(["a".to_owned(), "c".to_owned()].into_iter()), &before);
        assert_eq!(after.counters.series.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(after.counters.series["a"].get(), 1);
    }
}
