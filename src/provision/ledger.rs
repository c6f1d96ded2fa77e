//! Needs, what was seen of Secrets, and what is under way: the next write that is due, and when to look again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::needs::{Needs, Want};
use super::pace::Pace;
use super::plan::{Action, Copy, Desired, Observed, plan};
use super::waiting::Waiting;
use super::{Name, Place};

/// A refused write is tried again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A write that failed so often in a row, with an answer, is told as one that is refused.
const TOLD_AFTER: u32 = 3;

/// As many places are remembered that were written before those that are calm are forgotten.
const PACES: usize = 4096;

/// Calm ones are looked for so often at most: that takes as long as there are places.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// A write that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Where.
    pub place: Place,
    /// Which: never `Nothing` or `Conflict`.
    pub action: Action,
    /// The copy to write; `None` for a removal.
    pub copy: Option<Copy>,
}

/// Why the API refuses a write, in words for whoever reads the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A right is missing; the words say which to grant.
    NotPermitted(String),
    /// Everything else: a quota, a policy.
    Other(String),
}

impl Refusal {
    /// The words.
    pub fn words(&self) -> &str {
        match self {
            Self::NotPermitted(words) | Self::Other(words) => words,
        }
    }
}

/// How a rule stands in all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many namespaces hold a copy of it.
    pub copies: usize,
    /// Where a Secret that is not ours stands in the place of a needed copy.
    pub conflicts: BTreeSet<Name>,
    /// Where the API refuses to let a copy be written, and why.
    pub refused: BTreeMap<Name, Refusal>,
    /// Where it refuses to let one be removed, and why.
    pub not_removed: BTreeMap<Name, Refusal>,
    /// Where a copy is needed, none is there, and no credential is known that could be written.
    pub unprovided: BTreeSet<Name>,
}

/// A refused write.
#[derive(Debug)]
struct Refused {
    rule: Name,
    is_removal: bool,
    why: Refusal,
}

/// The Secrets of one name.
#[derive(Debug, Default)]
struct Book {
    /// Whether all of them have been seen.
    complete: bool,
    there: HashMap<Name, Observed>,
    /// How many of them each owner has, by its uid.
    owned: HashMap<Box<str>, usize>,
    /// While a list comes in: the namespaces that it has named so far.
    listed: Option<HashSet<Name>>,
    /// Places of a needed copy that somebody else's Secret has, with the rule that serves there.
    conflicts: HashMap<Name, Name>,
    /// Places where a write was refused.
    refused: HashMap<Name, Refused>,
    /// Places of a needed copy for which nothing is known that could be written, with the rule.
    unprovided: HashMap<Name, Name>,
}

impl Book {
    /// Where there is one, or something is said of one.
    fn places(&self, name: &Name) -> impl Iterator<Item = Place> {
        let namespaces = self.there.keys().chain(self.conflicts.keys()).chain(self.refused.keys());
        let place = |namespace: &Name| Place { namespace: Arc::clone(namespace), secret: Arc::clone(name) };
        namespaces.chain(self.unprovided.keys()).map(place)
    }

    fn put(&mut self, namespace: &Name, observed: Observed) {
        self.remove(namespace);
        for owner in &observed.owners {
            *self.owned.entry(owner.clone()).or_default() += 1;
        }
        self.there.insert(Arc::clone(namespace), observed);
    }

    fn remove(&mut self, namespace: &Name) {
        for owner in self.there.remove(namespace).iter().flat_map(|gone| &gone.owners) {
            if let Some(count) = self.owned.get_mut(owner) {
                *count -= 1;
                if *count == 0 {
                    self.owned.remove(owner);
                }
            }
        }
    }
}

/// Everything that decisions are made from.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Who needs what.
    pub needs: Needs,
    /// For each rule whose credential is known, a hash of its docker config.
    materials: HashMap<Name, u64>,
    books: HashMap<Name, Book>,
    dirty: BTreeSet<Place>,
    /// Those among them that have been looked at: what is there is to be changed or removed.
    later: BTreeSet<Place>,
    waiting: Waiting,
    /// What is under way, with the content of the copy that is written.
    in_flight: HashMap<Place, Option<u64>>,
    paces: HashMap<Place, Pace>,
    /// Paces that are calm are not looked for before then.
    forget_at: Duration,
    /// Since when the copy in a place is not used.
    unused_since: HashMap<Place, Duration>,
}

impl Ledger {
    /// An empty one.
    pub fn new(needs: Needs) -> Self {
        Self { needs, ..Self::default() }
    }

    /// What the copies of a rule hold from now on, by a hash of it. `None`: nothing is known, and what is there stays.
    pub fn set_material(&mut self, rule: &str, fingerprint: Option<u64>) {
        let before = match fingerprint {
            Some(fingerprint) => self.materials.insert(rule.into(), fingerprint),
            None => self.materials.remove(rule),
        };
        if before != fingerprint
            && let Some(facts) = self.needs.rule(rule)
        {
            let secret: Name = facts.rule.secret_name().into();
            self.needs.every_namespace_is_dirty(&secret);
        }
    }

    /// A list of the Secrets of this name begins.
    pub fn list_begins(&mut self, secret: &str) {
        self.books.entry(secret.into()).or_default().listed = Some(HashSet::new());
    }

    /// The list is complete: what it did not name is gone.
    pub fn list_ends(&mut self, secret: &str) {
        let name: Name = secret.into();
        let Some(book) = self.books.get_mut(&name) else { return };
        book.complete = true;
        if let Some(listed) = book.listed.take() {
            let gone = book.there.keys().filter(|namespace| !listed.contains(*namespace));
            for namespace in gone.cloned().collect::<Vec<_>>() {
                book.remove(&namespace);
                self.dirty.insert(Place { namespace, secret: Arc::clone(&name) });
            }
        }
        self.dirty.extend(book.places(&name));
        self.needs.every_namespace_is_dirty(&name);
    }

    /// Nobody asks for writes: what has changed until then need not be remembered, but that a copy may have been used.
    pub fn rest(&mut self) {
        self.dirty.append(&mut self.needs.take_dirty());
        let namespaces = self.needs.take_dirty_namespaces();
        let changed = std::mem::take(&mut self.dirty);
        self.unused_since.retain(|place, _| !changed.contains(place) && !namespaces.contains(&place.namespace));
        self.later.clear();
    }

    /// Writes are asked for from now on: every place is looked at. `another`: somebody else has written meanwhile, and since when copies
    /// are not used is not known any more.
    pub fn begin(&mut self, another: bool) {
        self.waiting = Waiting::default();
        if another {
            self.unused_since.clear();
        }
        for (name, book) in &self.books {
            self.dirty.extend(book.places(name));
            self.needs.every_namespace_is_dirty(name);
        }
    }

    /// The Secrets of this name are not seen any more: nothing is decided about them until they are listed again.
    pub fn unwatched(&mut self, secret: &str) {
        self.books.remove(secret);
    }

    /// Whether all Secrets of this name have been seen.
    pub fn is_complete(&self, secret: &str) -> bool {
        self.books.get(secret).is_some_and(|book| book.complete)
    }

    /// Whether a copy of this name is still there, whatever rule wanted it.
    pub fn holds_copies(&self, secret: &str) -> bool {
        self.books.get(secret).is_some_and(|book| book.owned.keys().any(|owner| self.needs.is_rule(owner)))
    }

    /// A Secret is there, or has changed. What is older than what is known is passed over.
    pub fn seen(&mut self, place: &Place, observed: Observed) {
        // A source may have the name of a copy, and even the owner of one that it was restored from.
        if self.needs.is_release(&place.namespace) {
            return;
        }
        let book = self.books.entry(Arc::clone(&place.secret)).or_default();
        if let Some(listed) = &mut book.listed {
            listed.insert(Arc::clone(&place.namespace));
        }
        // The versions of one kind can be compared, whatever object they are of.
        if book.there.get(&place.namespace).is_some_and(|known| is_newer(known, &observed)) {
            return;
        }
        book.put(&place.namespace, observed);
        self.dirty.insert(place.clone());
    }

    /// A Secret is gone; `last` is the state in which it went, if that was seen. What is newer stays.
    pub fn gone(&mut self, place: &Place, last: Option<&Observed>) {
        let Some(book) = self.books.get_mut(&place.secret) else { return };
        if let (Some(known), Some(last)) = (book.there.get(&place.namespace), last)
            && is_newer(known, last)
        {
            return;
        }
        book.remove(&place.namespace);
        self.dirty.insert(place.clone());
    }

    /// The next write that is due at `now`, which is under way from now on. `None`: there is none until something is seen or
    /// the time of [`next_wake`](Self::next_wake) has come.
    pub fn next(&mut self, now: Duration) -> Option<Due> {
        self.dirty.append(&mut self.needs.take_dirty());
        for namespace in self.needs.take_dirty_namespaces() {
            let place = |secret: &Name| Place { namespace: Arc::clone(&namespace), secret: Arc::clone(secret) };
            self.dirty.extend(self.books.keys().map(place));
        }
        while let Some(place) = self.waiting.take(now) {
            self.dirty.insert(place);
        }
        // A Pod may wait for what is not there. What is there comes after, however much of it there is.
        while let Some(place) = self.dirty.pop_first() {
            match self.due(&place, now) {
                Some(due) if due.action != Action::Create => _ = self.later.insert(place),
                Some(due) => return Some(self.begun(due)),
                None => {}
            }
        }
        while let Some(place) = self.later.pop_first() {
            if let Some(due) = self.due(&place, now) {
                return Some(self.begun(due));
            }
        }
        None
    }

    /// The write that is due in a place, if one is and may begin now.
    fn due(&mut self, place: &Place, now: Duration) -> Option<Due> {
        // When a write is done its place is looked at again, as is every place of a book that becomes complete.
        if self.in_flight.contains_key(place) || !self.books.get(&place.secret).is_some_and(|book| book.complete) {
            return None;
        }
        let (action, desired) = self.decide(place, now);
        if matches!(action, Action::Nothing | Action::Conflict) {
            return None;
        }
        let copy = match desired {
            Desired::Copy(copy) => Some(copy),
            Desired::Absent | Desired::Keep(_) => None,
        };
        let content = copy.as_ref().map(|copy| copy.fingerprint);
        let not_before = self.paces.get(place).map_or(Duration::ZERO, |pace| pace.not_before(content));
        if not_before > now {
            self.waiting.until(not_before, place);
            return None;
        }
        Some(Due { place: place.clone(), action, copy })
    }

    fn begun(&mut self, due: Due) -> Due {
        self.in_flight.insert(due.place.clone(), due.copy.as_ref().map(|copy| copy.fingerprint));
        due
    }

    /// When to ask for the next write although nothing was seen.
    pub fn next_wake(&self) -> Option<Duration> {
        self.waiting.first()
    }

    /// A write is done, and this is there now.
    pub fn wrote(&mut self, place: &Place, now: Duration, there: Option<Observed>) {
        self.ended(place, now, |pace, content| pace.wrote(now, content));
        if let Some(book) = self.books.get_mut(&place.secret) {
            book.refused.remove(&place.namespace);
        }
        match there {
            Some(observed) => self.seen(place, observed),
            None => self.gone(place, None),
        }
    }

    /// A write was refused. It is tried again later.
    pub fn refused(&mut self, place: &Place, now: Duration, why: Refusal) {
        let is_removal = self.ended(place, now, |pace, content| pace.failed(now, content, ASK_AGAIN));
        self.tell(place, is_removal, why);
    }

    fn tell(&mut self, place: &Place, is_removal: bool, why: Refusal) {
        let Some(book) = self.books.get_mut(&place.secret) else { return };
        let rule = match self.needs.want(place) {
            Want::Needed(facts) | Want::Unused(facts) => Some(facts),
            // That of the copy which is to go.
            Want::NotServed => {
                let there = book.there.get(&place.namespace);
                let owners = there.map_or(&[][..], |there| &there.owners);
                owners.iter().find_map(|owner| self.needs.rule_of(owner))
            }
            Want::Unknown => None,
        };
        if let Some(rule) = rule {
            let refused = Refused { rule: rule.rule.id().name.as_str().into(), is_removal, why };
            book.refused.insert(Arc::clone(&place.namespace), refused);
        }
    }

    /// A write failed, and nothing is known of its effect. It is tried again after `pause`, and when it fails again, later. `words`:
    /// what the API said, if it answered. Whether that is told from now on.
    pub fn failed(&mut self, place: &Place, now: Duration, pause: Duration, words: Option<&str>) -> bool {
        let is_removal = self.ended(place, now, |pace, content| pace.failed(now, content, pause));
        let failures = self.paces.get(place).map_or(0, Pace::failures);
        let told = words.filter(|_| failures >= TOLD_AFTER);
        if let Some(words) = told {
            self.tell(place, is_removal, Refusal::Other(words.to_owned()));
        }
        told.is_some() && failures == TOLD_AFTER
    }

    /// A write that is due is not begun yet, but after `pause`.
    pub fn postponed(&mut self, place: &Place, now: Duration, pause: Duration) {
        self.in_flight.remove(place);
        self.waiting.until(now + pause, place);
    }

    /// A write is under way no more: it counts, and its place is looked at again, for which `due` finds the time. Whether it was a
    /// removal.
    fn ended(&mut self, place: &Place, now: Duration, count: impl FnOnce(&mut Pace, Option<u64>)) -> bool {
        let content = self.in_flight.remove(place);
        count(self.paces.entry(place.clone()).or_default(), content.flatten());
        if self.paces.len() > PACES && now >= self.forget_at {
            self.paces.retain(|_, pace| !pace.is_calm(now));
            self.forget_at = now + FORGET_EVERY;
        }
        self.dirty.insert(place.clone());
        content == Some(None)
    }

    /// What should be in the place, and the write that makes it so.
    fn decide(&mut self, place: &Place, now: Duration) -> (Action, Desired) {
        let Some(book) = self.books.get_mut(&place.secret) else { return (Action::Nothing, Desired::Absent) };
        let there = book.there.get(&place.namespace);
        let want = self.needs.want(place);
        if !matches!(want, Want::Unused(_)) {
            self.unused_since.remove(place);
        }
        let copy = |name: &str, uid: &Name| match self.materials.get(name) {
            Some(fingerprint) => {
                Desired::Copy(Copy { rule: name.into(), rule_uid: Arc::clone(uid), fingerprint: *fingerprint })
            }
            None => Desired::Keep(Arc::clone(uid)),
        };
        let desired = match &want {
            Want::Unknown => {
                book.conflicts.remove(&place.namespace);
                book.unprovided.remove(&place.namespace);
                book.refused.remove(&place.namespace);
                // Another namespace of this name begins anew.
                self.paces.remove(place);
                self.waiting.forget(place);
                return (Action::Nothing, Desired::Absent);
            }
            Want::NotServed => Desired::Absent,
            Want::Needed(facts) => copy(&facts.rule.id().name, &facts.uid),
            Want::Unused(facts) => match there {
                Some(there) if there.owners.iter().any(|owner| **owner == *facts.uid) => {
                    let since = *self.unused_since.entry(place.clone()).or_insert(now);
                    let until = since.saturating_add(facts.reclaim_after);
                    if until <= now {
                        Desired::Absent
                    } else {
                        self.waiting.until(until, place);
                        copy(&facts.rule.id().name, &facts.uid)
                    }
                }
                _ => Desired::Keep(Arc::clone(&facts.uid)),
            },
        };
        let action = plan(&desired, there, |uid| self.needs.is_rule(uid));
        match &want {
            Want::Needed(facts) if action == Action::Conflict => {
                book.conflicts.insert(Arc::clone(&place.namespace), facts.rule.id().name.as_str().into());
            }
            _ => _ = book.conflicts.remove(&place.namespace),
        }
        match (&want, &desired) {
            (Want::Needed(facts), Desired::Keep(_)) if there.is_none() => {
                book.unprovided.insert(Arc::clone(&place.namespace), facts.rule.id().name.as_str().into());
            }
            _ => _ = book.unprovided.remove(&place.namespace),
        }
        let still_refused =
            matches!(action, Action::Create | Action::Update(_) | Action::Replace(_) | Action::Delete(_));
        if !still_refused {
            book.refused.remove(&place.namespace);
        }
        if there.is_none() {
            self.unused_since.remove(place);
        }
        (action, desired)
    }

    /// How a rule stands.
    pub fn standing(&self, rule: &str) -> Standing {
        let mut standing = Standing::default();
        let Some(facts) = self.needs.rule(rule) else { return standing };
        // A rule that was given another Secret name has copies of the former one to remove.
        for (namespace, refused) in self.books.values().flat_map(|book| &book.refused) {
            if *refused.rule == *rule {
                let all = if refused.is_removal { &mut standing.not_removed } else { &mut standing.refused };
                all.insert(Arc::clone(namespace), refused.why.clone());
            }
        }
        let Some(book) = self.books.get(facts.rule.secret_name()) else { return standing };
        standing.copies = book.owned.get(&*facts.uid).copied().unwrap_or_default();
        let own = |(namespace, of): (&Name, &Name)| (**of == *rule).then(|| Arc::clone(namespace));
        standing.conflicts = book.conflicts.iter().filter_map(own).collect();
        standing.unprovided = book.unprovided.iter().filter_map(own).collect();
        standing
    }
}

fn is_newer(known: &Observed, other: &Observed) -> bool {
    let version = |observed: &Observed| observed.version.parse::<u64>().ok();
    version(known) > version(other)
}
