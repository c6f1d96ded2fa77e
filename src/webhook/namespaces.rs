//! What is known of namespaces, as a value that a change shares all but a small part of.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::rules::Labels;

/// In as many parts: with ten thousand namespaces a change copies about forty of them.
const PARTS: usize = 256;

/// The labels of namespaces. A clone is cheap, and changing it leaves the one it came from as it was.
#[derive(Clone, Debug)]
pub(super) struct Namespaces {
    parts: Vec<Arc<HashMap<Box<str>, Labels>>>,
    /// Whether a namespace that is not among them has no labels, or labels that are not known yet.
    others_have_none: bool,
}

impl Default for Namespaces {
    /// None is known yet.
    fn default() -> Self {
        Self { parts: vec![Arc::default(); PARTS], others_have_none: false }
    }
}

impl Namespaces {
    /// These, and no other has labels.
    pub(super) fn just(labels: impl IntoIterator<Item = (String, Labels)>) -> Self {
        let mut namespaces = Self { others_have_none: true, ..Self::default() };
        labels.into_iter().for_each(|(name, labels)| namespaces.put(&name, labels));
        namespaces
    }

    /// The labels of a namespace; `None` when they are not known.
    pub(super) fn labels(&self, name: &str) -> Option<&Labels> {
        static NONE: Labels = Labels::new();
        self.parts[part(name)].get(name).or_else(|| self.others_have_none.then_some(&NONE))
    }

    pub(super) fn put(&mut self, name: &str, labels: Labels) {
        // Statuses and annotations change too, and are none of our business.
        if self.parts[part(name)].get(name) != Some(&labels) {
            Arc::make_mut(&mut self.parts[part(name)]).insert(name.into(), labels);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.parts[part(name)].contains_key(name) {
            Arc::make_mut(&mut self.parts[part(name)]).remove(name);
        }
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&str) -> bool) {
        for part in &mut self.parts {
            if part.keys().any(|name| !stays(name)) {
                Arc::make_mut(part).retain(|name, _| stays(name));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

fn part(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    // The remainder is smaller than the number of parts.
    usize::try_from(hasher.finish() % PARTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> Labels {
        Labels::from([("env".to_owned(), value.to_owned())])
    }

    #[test]
    fn a_change_leaves_the_value_it_came_from_as_it_was() {
        let mut before = Namespaces::default();
        for i in 0..1000 {
            before.put(&format!("ns-{i}"), labels("old"));
        }
        let mut after = before.clone();
        after.put("ns-1", labels("new"));
        after.remove("ns-2");
        assert_eq!((before.labels("ns-1"), after.labels("ns-1")), (Some(&labels("old")), Some(&labels("new"))));
        assert_eq!((before.labels("ns-2"), after.labels("ns-2")), (Some(&labels("old")), None));
        after.retain(|name| name == "ns-1");
        assert_eq!((before.len(), after.len()), (1000, 1));
    }

    #[test]
    fn what_is_not_known_differs_from_what_is_not_there() {
        let files = Namespaces::just([("team".to_owned(), labels("a"))]);
        assert_eq!((files.labels("team"), files.labels("other")), (Some(&labels("a")), Some(&Labels::new())));
        assert_eq!(Namespaces::default().labels("other"), None);
    }
}
