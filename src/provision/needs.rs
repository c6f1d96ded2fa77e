//! Who needs a copy: Pods, namespaces and rules as they come and go, and what follows from them for each place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Name, Place, RuleFacts};
use crate::image::ImageReference;
use crate::rules::{Labels, Mode, Rule, RuleId, RuleSet, is_left_out};

/// What provisioning has to know of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its uid, which events about it name.
    pub uid: String,
    /// Whether it is neither Succeeded nor Failed.
    pub live: bool,
    /// The Secrets that it references, each once.
    pub secrets: Vec<String>,
    /// Its images; none for a mirror Pod and for one that is left out by its label.
    pub images: Vec<String>,
}

/// Whether a place needs a copy, and of which rule.
#[derive(Debug)]
pub enum Want<'a> {
    /// No rule that writes copies serves it.
    NotServed,
    /// This rule serves it, and nothing needs the copy now.
    Unused(&'a RuleFacts),
    /// This rule serves it, and the copy is needed.
    Needed(&'a RuleFacts),
    /// It cannot be written to: the namespace is ending, or nothing is known of it yet.
    Unknown,
}

#[derive(Debug)]
struct Pod {
    uid: Box<str>,
    secrets: Box<[Name]>,
    images: Box<[Name]>,
    missed: Box<[Arc<RuleId>]>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// `None` until the namespace itself has been seen.
    labels: Option<Labels>,
    ending: bool,
    /// Those that are live.
    pods: HashMap<Box<str>, Pod>,
    /// How many of them reference each Secret.
    references: HashMap<Name, usize>,
}

/// Pods, namespaces and rules, and what they need. Work on a change is proportional to what the change can concern.
#[derive(Debug, Default)]
pub struct Needs {
    /// Where sources are, and never a copy.
    release_namespace: Box<str>,
    /// By name.
    rules: BTreeMap<Name, RuleFacts>,
    /// Their uids.
    uids: HashSet<Name>,
    teams: BTreeMap<RuleId, Rule>,
    /// The rules that want a Secret name, the one that serves first: `Inject` ones alone, the oldest first.
    by_secret: HashMap<Name, Vec<Name>>,
    namespaces: HashMap<Name, Namespace>,
    names: HashSet<Name>,
    /// How many places the interner held when it was last cleared of what nobody holds.
    names_kept: usize,
    /// For counting Pods that a rule covers and that lack its reference.
    set: RuleSet,
    set_is_stale: bool,
    missed: HashMap<Arc<RuleId>, usize>,
    dirty: BTreeSet<Place>,
    /// Namespaces that are known anew or otherwise: all their places are, with those that no rule wants any more.
    dirty_namespaces: BTreeSet<Name>,
}

impl Needs {
    /// Nothing is needed yet, and never anything in the release namespace.
    pub fn new(release_namespace: &str) -> Self {
        Self { release_namespace: release_namespace.into(), ..Self::default() }
    }

    /// The places whose needs may have changed since this was last asked.
    pub fn take_dirty(&mut self) -> BTreeSet<Place> {
        std::mem::take(&mut self.dirty)
    }

    /// The namespaces in which every place may be decided otherwise since this was last asked.
    pub fn take_dirty_namespaces(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.dirty_namespaces)
    }

    /// A rule is there, or has changed.
    pub fn put_rule(&mut self, facts: RuleFacts) {
        let (name, uid): (Name, Name) = (facts.rule.id().name.as_str().into(), Arc::clone(&facts.uid));
        if let Some(old) = self.rules.insert(Arc::clone(&name), facts) {
            self.uids.remove(&old.uid);
            self.withdraw(&name, old.rule.secret_name());
        }
        self.uids.insert(uid);
        let facts = &self.rules[&name];
        let secret: Name = facts.rule.secret_name().into();
        if facts.rule.mode() == Mode::Inject {
            let contenders = self.by_secret.entry(Arc::clone(&secret)).or_default();
            contenders.push(name);
            let rules = &self.rules;
            contenders.sort_by(|a, b| (rules[a].created, a).cmp(&(rules[b].created, b)));
        }
        self.every_namespace_is_dirty(&secret);
        self.set_is_stale = true;
    }

    /// A rule is gone, or is no longer valid.
    pub fn remove_rule(&mut self, name: &str) {
        if let Some((name, old)) = self.rules.remove_entry(name) {
            self.uids.remove(&old.uid);
            self.withdraw(&name, old.rule.secret_name());
            self.set_is_stale = true;
        }
    }

    /// A `PullSecret` is there, has changed, or is gone. It needs no copies; Pods that lack its reference count.
    pub fn set_team_rule(&mut self, id: RuleId, rule: Option<Rule>) {
        match rule {
            Some(rule) => _ = self.teams.insert(id, rule),
            None => _ = self.teams.remove(&id),
        }
        self.set_is_stale = true;
    }

    fn withdraw(&mut self, rule: &str, secret: &str) {
        let secret: Name = secret.into();
        if let Some(contenders) = self.by_secret.get_mut(&secret) {
            contenders.retain(|name| **name != *rule);
            if contenders.is_empty() {
                self.by_secret.remove(&secret);
            }
        }
        self.every_namespace_is_dirty(&secret);
    }

    pub(super) fn every_namespace_is_dirty(&mut self, secret: &Name) {
        let place = |namespace: &Name| Place { namespace: Arc::clone(namespace), secret: Arc::clone(secret) };
        self.dirty.extend(self.namespaces.keys().map(place));
    }

    /// A namespace is there, or has changed.
    pub fn put_namespace(&mut self, name: &str, labels: Labels, ending: bool) {
        let name = self.intern(name);
        let namespace = self.namespaces.entry(Arc::clone(&name)).or_default();
        let (before, was_known) = (namespace.labels.replace(labels), namespace.labels.is_some());
        if was_known && before == namespace.labels && namespace.ending == ending {
            return;
        }
        namespace.ending = ending;
        self.dirty_namespaces.insert(Arc::clone(&name));
        self.recount(&name);
    }

    /// A namespace is gone. Pods of it that are still there wait for it to come back.
    pub fn remove_namespace(&mut self, name: &str) {
        let Some((name, namespace)) = self.namespaces.get_key_value(name) else { return };
        let name = Arc::clone(name);
        self.dirty_namespaces.insert(Arc::clone(&name));
        if namespace.pods.is_empty() {
            self.namespaces.remove(&name);
        } else if let Some(namespace) = self.namespaces.get_mut(&name) {
            namespace.labels = None;
            namespace.ending = false;
            self.recount(&name);
        }
        self.forget_names();
    }

    /// A Pod is there, or has changed.
    pub fn put_pod(&mut self, namespace: &str, name: &str, facts: &PodFacts) {
        let known = self.namespaces.get(namespace).and_then(|state| state.pods.get(name));
        let same = |known: &[Name], now: &[String]| known.iter().map(AsRef::as_ref).eq(now.iter().map(String::as_str));
        // Most changes of a Pod are none to us.
        if let Some(known) = known
            && facts.live
            && *known.uid == *facts.uid
            && same(&known.secrets, &facts.secrets)
            && same(&known.images, &facts.images)
        {
            return;
        }
        self.remove_pod(namespace, name);
        if !facts.live {
            return;
        }
        self.settle();
        let namespace = self.intern(namespace);
        let secrets: Box<[Name]> = facts.secrets.iter().map(|secret| self.intern(secret)).collect();
        let images: Box<[Name]> = facts.images.iter().map(|image| self.intern(image)).collect();
        if !self.namespaces.contains_key(&namespace) {
            self.dirty_namespaces.insert(Arc::clone(&namespace));
        }
        let state = self.namespaces.entry(Arc::clone(&namespace)).or_default();
        for secret in &secrets {
            let count = state.references.entry(Arc::clone(secret)).or_default();
            *count += 1;
            if *count == 1 {
                self.dirty.insert(Place { namespace: Arc::clone(&namespace), secret: Arc::clone(secret) });
            }
        }
        let mut pod = Pod { uid: facts.uid.as_str().into(), secrets, images, missed: Box::default() };
        pod.missed = self.missed_by(&namespace, &pod);
        for rule in &pod.missed {
            *self.missed.entry(Arc::clone(rule)).or_default() += 1;
        }
        if let Some(state) = self.namespaces.get_mut(&namespace) {
            state.pods.insert(name.into(), pod);
        }
    }

    /// A Pod is gone.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some((key, _)) = self.namespaces.get_key_value(namespace) else { return };
        let key = Arc::clone(key);
        let Some(state) = self.namespaces.get_mut(&key) else { return };
        let Some(pod) = state.pods.remove(name) else { return };
        for secret in &pod.secrets {
            if let Some(count) = state.references.get_mut(secret) {
                *count -= 1;
                if *count == 0 {
                    state.references.remove(secret);
                    self.dirty.insert(Place { namespace: Arc::clone(&key), secret: Arc::clone(secret) });
                }
            }
        }
        if state.pods.is_empty() && state.labels.is_none() {
            self.namespaces.remove(&key);
        }
        for rule in &pod.missed {
            decrement(&mut self.missed, rule);
        }
        drop(pod);
        self.forget_names();
    }

    /// Whether it is the namespace of the sources.
    pub fn is_release(&self, namespace: &str) -> bool {
        *namespace == *self.release_namespace
    }

    /// Whether a place needs a copy.
    pub fn want(&self, place: &Place) -> Want<'_> {
        let Some(namespace) = self.namespaces.get(&place.namespace) else { return Want::Unknown };
        // Where the sources are nothing is ours to write or to remove.
        if namespace.ending || self.is_release(&place.namespace) {
            return Want::Unknown;
        }
        for name in self.by_secret.get(&place.secret).into_iter().flatten() {
            let rule = &self.rules[name];
            match rule.rule.serves(&place.namespace, namespace.labels.as_ref()) {
                Some(true) if !rule.copied => return Want::NotServed,
                Some(true) if rule.eager && namespace.labels.is_some() => return Want::Needed(rule),
                Some(true) if namespace.references.contains_key(&place.secret) => return Want::Needed(rule),
                Some(true) => return Want::Unused(rule),
                Some(false) => {}
                // A label decides, and it is not known yet.
                None => return Want::Unknown,
            }
        }
        Want::NotServed
    }

    /// In how many namespaces an older rule with the same Secret name serves in place of this one, and some of them.
    pub fn outranked(&self, rule: &str) -> (usize, Vec<Name>) {
        let Some(facts) = self.rules.get(rule) else { return (0, Vec::new()) };
        let contenders = self.by_secret.get(facts.rule.secret_name()).map_or(&[][..], Vec::as_slice);
        let Some(rank) = contenders.iter().position(|name| **name == *rule) else { return (0, Vec::new()) };
        let older: Vec<&RuleFacts> = contenders[..rank].iter().map(|name| &self.rules[name]).collect();
        if older.is_empty() {
            return (0, Vec::new());
        }
        let serves = |facts: &RuleFacts, (name, state): &(&Name, &Namespace)| {
            facts.rule.serves(name, state.labels.as_ref()) == Some(true)
        };
        let outranked = self.namespaces.iter().filter(|namespace| {
            **namespace.0 != *self.release_namespace
                && serves(facts, namespace)
                && older.iter().any(|older| serves(older, namespace))
        });
        let names: BTreeSet<Name> = outranked.map(|(name, _)| Arc::clone(name)).collect();
        (names.len(), names.into_iter().take(10).collect())
    }

    /// The rule of that name.
    pub fn rule(&self, name: &str) -> Option<&RuleFacts> {
        self.rules.get(name)
    }

    /// All `ClusterPullSecret`s, by name.
    pub fn rules(&self) -> impl Iterator<Item = (&Name, &RuleFacts)> {
        self.rules.iter()
    }

    /// The `ClusterPullSecret` with that uid.
    pub fn rule_of(&self, uid: &str) -> Option<&RuleFacts> {
        self.rules.values().find(|facts| *facts.uid == *uid)
    }

    /// Whether a `ClusterPullSecret` with that uid is there.
    pub fn is_rule(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    /// The namespaces that need a copy of a rule.
    pub fn needing<'a>(&'a self, rule: &'a RuleFacts) -> impl Iterator<Item = &'a Name> {
        let secret: Name = rule.rule.secret_name().into();
        self.namespaces.keys().filter(move |namespace| {
            let place = Place { namespace: Arc::clone(namespace), secret: Arc::clone(&secret) };
            matches!(self.want(&place), Want::Needed(needed) if needed.uid == rule.uid)
        })
    }

    /// How many Pods a rule covers that lack its reference.
    pub fn missed(&mut self, rule: &RuleId) -> usize {
        self.settle();
        self.missed.get(rule).copied().unwrap_or_default()
    }

    /// The live Pods of a namespace that reference a Secret, each with its uid.
    pub fn pods_that_need<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pods = self.namespaces.get(&place.namespace).into_iter().flat_map(|state| &state.pods);
        pods.filter(|(_, pod)| pod.secrets.contains(&place.secret)).map(|(name, pod)| (&**name, &*pod.uid))
    }

    /// A list of all namespaces is complete: those that it did not name are gone.
    pub fn retain_namespaces(&mut self, listed: impl Fn(&str) -> bool) {
        let known = self.namespaces.iter().filter(|(_, state)| state.labels.is_some());
        let gone: Vec<Name> = known.map(|(name, _)| name).filter(|name| !listed(name)).cloned().collect();
        for name in gone {
            self.remove_namespace(&name);
        }
    }

    /// A list of all `PullSecret`s is complete: those that it did not name are gone.
    pub fn retain_team_rules(&mut self, listed: impl Fn(&RuleId) -> bool) {
        self.teams.retain(|id, _| listed(id));
        self.set_is_stale = true;
    }

    /// A list of all Pods is complete: those that it did not name are gone.
    pub fn retain_pods(&mut self, listed: impl Fn(&str, &str) -> bool) {
        let all = self
            .namespaces
            .iter()
            .flat_map(|(namespace, state)| state.pods.keys().map(move |name| (Arc::clone(namespace), name.clone())));
        let gone: Vec<(Name, Box<str>)> = all.filter(|(namespace, name)| !listed(namespace, name)).collect();
        for (namespace, name) in gone {
            self.remove_pod(&namespace, &name);
        }
    }

    /// After rules have changed, every Pod is looked at once, however many rules it were.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.set_is_stale) {
            return;
        }
        let rules = self.rules.values().map(|facts| &facts.rule).chain(self.teams.values());
        self.set = RuleSet::compile(rules.filter(|rule| rule.mode() == Mode::Inject).cloned().collect());
        self.missed.clear();
        let names: Vec<Name> = self.namespaces.keys().cloned().collect();
        for name in names {
            if let Some(namespace) = self.namespaces.get_mut(&name) {
                for pod in namespace.pods.values_mut() {
                    pod.missed = Box::default();
                }
            }
            self.recount(&name);
        }
    }

    /// Counts the Pods of one namespace anew.
    fn recount(&mut self, name: &Name) {
        if self.set_is_stale {
            return;
        }
        let Some(mut namespace) = self.namespaces.remove(name) else { return };
        let mut pods = std::mem::take(&mut namespace.pods);
        // `missed_by` looks at the namespace's labels.
        self.namespaces.insert(Arc::clone(name), namespace);
        for pod in pods.values_mut() {
            for rule in &pod.missed {
                decrement(&mut self.missed, rule);
            }
            pod.missed = self.missed_by(name, pod);
            for rule in &pod.missed {
                *self.missed.entry(Arc::clone(rule)).or_default() += 1;
            }
        }
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.pods = pods;
        }
    }

    /// The rules that cover the Pod, serve its namespace, and whose reference it lacks. None where that is as it should be: in the
    /// release namespace, and in one that is left out.
    fn missed_by(&self, namespace: &Name, pod: &Pod) -> Box<[Arc<RuleId>]> {
        let labels = self.namespaces.get(namespace).and_then(|state| state.labels.as_ref());
        if **namespace == *self.release_namespace || is_left_out(labels) {
            return Box::default();
        }
        let mut missed: Vec<Arc<RuleId>> = Vec::new();
        for image in pod.images.iter().filter_map(|image| ImageReference::parse(image).ok()) {
            self.set.matching(&image, namespace, |place, _| {
                let rule = &self.set.rules()[place];
                let lacks = pod.secrets.iter().all(|secret| **secret != *rule.secret_name())
                    && rule.serves(namespace, labels) == Some(true);
                if lacks && missed.iter().all(|known| **known != *rule.id()) {
                    let known = self.missed.get_key_value(rule.id()).map(|(known, _)| Arc::clone(known));
                    missed.push(known.unwrap_or_else(|| Arc::new(rule.id().clone())));
                }
            });
        }
        missed.into()
    }

    /// The one copy of a name that all places share.
    fn intern(&mut self, name: &str) -> Name {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let new: Name = name.into();
        self.names.insert(Arc::clone(&new));
        new
    }

    /// Drops the names that nobody else holds, once they may be half of all.
    fn forget_names(&mut self) {
        if self.names.len() > 2 * self.names_kept + 1024 {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.names_kept = self.names.len();
        }
    }
}

fn decrement(counts: &mut HashMap<Arc<RuleId>, usize>, rule: &Arc<RuleId>) {
    if let Some(count) = counts.get_mut(rule) {
        *count -= 1;
        if *count == 0 {
            counts.remove(rule);
        }
    }
}
