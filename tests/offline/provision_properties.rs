//! Whatever the order of events, the controller's writes end in the state that a look at the whole gives, and what is not
//! ours is never written.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use pullcred::provision::{Action, Due, Ledger, Needs, Observed, Place, PodFacts, Refusal, RuleFacts, label_of};
use pullcred::rules::{ClusterPullSecret, Labels, Mode, Rule};
use serde_json::json;

const NAMESPACES: [&str; 4] = ["a", "b", "c", "release"];
const SECRETS: [&str; 2] = ["s", "t"];
const RULES: [&str; 3] = ["r0", "r1", "r2"];
const PODS: [&str; 3] = ["p0", "p1", "p2"];
const COVERED: &str = "registry.example/app";

#[derive(Clone, Debug)]
struct RuleState {
    secret: usize,
    tier: Option<bool>,
    eager: bool,
    shadow: bool,
    copied: bool,
    created: i64,
}

#[derive(Clone, Debug)]
enum Event {
    Rule(usize, Option<RuleState>),
    Material(usize, u64),
    Namespace(usize, Option<(bool, bool)>),
    Pod(usize, usize, Option<(bool, Vec<usize>)>),
    /// Somebody puts a Secret of their own, or deletes whatever is there, or edits it, or makes it immutable.
    Foreign(usize, usize),
    Deleted(usize, usize),
    Edited(usize, usize),
    Frozen(usize, usize),
    /// Somebody adds an owner.
    Shared(usize, usize),
    /// The controller writes so often.
    Writes(usize),
    /// What the copies of a rule are to hold is not known any more.
    Forgotten(usize),
    /// Another controller leads, or this one does again.
    Rests,
    Leads,
}

fn rule_state() -> impl Strategy<Value = RuleState> {
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.15), prop::bool::weighted(0.85));
    (0..SECRETS.len(), proptest::option::of(any::<bool>()), flags, 0..3_i64).prop_map(
        |(secret, tier, (eager, shadow, copied), created)| RuleState { secret, tier, eager, shadow, copied, created },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let (namespace, secret, rule) = (0..NAMESPACES.len(), 0..SECRETS.len(), 0..RULES.len());
    let references = proptest::collection::vec(0..SECRETS.len(), 0..3);
    prop_oneof![
        3 => (rule.clone(), proptest::option::weighted(0.8, rule_state())).prop_map(|(rule, state)| Event::Rule(rule, state)),
        2 => (rule.clone(), 0..3_u64).prop_map(|(rule, material)| Event::Material(rule, material)),
        1 => rule.prop_map(Event::Forgotten),
        3 => (namespace.clone(), proptest::option::weighted(0.8, (any::<bool>(), prop::bool::weighted(0.1))))
            .prop_map(|(namespace, state)| Event::Namespace(namespace, state)),
        4 => (namespace.clone(), 0..PODS.len(), proptest::option::weighted(0.75, (prop::bool::weighted(0.8), references)))
            .prop_map(|(namespace, pod, state)| Event::Pod(namespace, pod, state)),
        1 => (namespace.clone(), secret.clone()).prop_map(|(namespace, secret)| Event::Foreign(namespace, secret)),
        1 => (namespace.clone(), secret.clone()).prop_map(|(namespace, secret)| Event::Deleted(namespace, secret)),
        1 => (namespace.clone(), secret.clone()).prop_map(|(namespace, secret)| Event::Edited(namespace, secret)),
        1 => (namespace.clone(), secret.clone()).prop_map(|(namespace, secret)| Event::Frozen(namespace, secret)),
        1 => (namespace, secret).prop_map(|(namespace, secret)| Event::Shared(namespace, secret)),
        3 => (1..6_usize).prop_map(Event::Writes),
        1 => Just(Event::Rests),
        1 => Just(Event::Leads),
    ]
}

/// The cluster as it is, and a ledger that is told of every change.
struct World {
    ledger: Ledger,
    rests: bool,
    now: Duration,
    rules: BTreeMap<usize, (RuleState, String)>,
    materials: BTreeMap<usize, u64>,
    namespaces: BTreeMap<usize, (bool, bool)>,
    pods: BTreeMap<(usize, usize), (bool, Vec<usize>)>,
    secrets: BTreeMap<Place, Observed>,
    version: u64,
}

fn place(namespace: usize, secret: usize) -> Place {
    Place { namespace: NAMESPACES[namespace].into(), secret: SECRETS[secret].into() }
}

fn empty() -> Ledger {
    let mut ledger = Ledger::new(Needs::new("release"));
    for secret in SECRETS {
        ledger.list_begins(secret);
        ledger.list_ends(secret);
    }
    ledger
}

fn facts(rule: usize, state: &RuleState, uid: &str) -> RuleFacts {
    let selector = match state.tier {
        Some(tier) => json!({"matchLabels": {"tier": tier.to_string()}}),
        None => json!({}),
    };
    let mode = if state.shadow { Mode::Shadow } else { Mode::Inject };
    let document: ClusterPullSecret = serde_json::from_value(json!({
        "apiVersion": "pullcred.io/v1alpha1", "kind": "ClusterPullSecret", "metadata": {"name": RULES[rule]},
        "spec": {"images": ["registry.example"], "namespaceSelector": selector, "secretName": SECRETS[state.secret], "mode": mode},
    }))
    .unwrap();
    RuleFacts {
        rule: Rule::from_cluster_pull_secret(&document).unwrap(),
        uid: uid.into(),
        created: state.created,
        eager: state.eager,
        reclaim_after: Duration::MAX,
        copied: state.copied,
    }
}

fn serves_all() -> RuleState {
    RuleState { secret: 0, tier: None, eager: false, shadow: false, copied: true, created: 0 }
}

fn labels(tier: bool) -> Labels {
    [("tier".to_owned(), tier.to_string())].into()
}

fn pod_facts(live: bool, secrets: &[usize]) -> PodFacts {
    let mut names: Vec<String> = secrets.iter().map(|secret| SECRETS[*secret].to_owned()).collect();
    names.sort();
    names.dedup();
    PodFacts { uid: String::new(), live, secrets: names, images: vec![COVERED.to_owned()] }
}

impl World {
    fn new() -> Self {
        Self {
            ledger: empty(),
            rests: false,
            now: Duration::ZERO,
            rules: BTreeMap::new(),
            materials: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            secrets: BTreeMap::new(),
            version: 0,
        }
    }

    /// One namespace with one Pod that needs the copy of one rule.
    fn with_a_pod() -> Self {
        let mut world = Self::new();
        world.happen(&Event::Namespace(0, Some((true, false))));
        world.happen(&Event::Pod(0, 0, Some((true, vec![0]))));
        world.happen(&Event::Rule(0, Some(serves_all())));
        world.happen(&Event::Material(0, 1));
        world
    }

    /// The same, with the copy, which is reclaimed when nothing has used it for so long.
    fn with_a_copy(reclaim_after: Duration) -> Self {
        let mut world = Self::with_a_pod();
        world.ledger.needs.put_rule(RuleFacts { reclaim_after, ..facts(0, &serves_all(), &world.rules[&0].1) });
        world.settle();
        world
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Rule(rule, Some(state)) => {
                let uid = self.rules.get(rule).map_or_else(
                    || {
                        self.version += 1;
                        format!("uid-of-{}-{}", RULES[*rule], self.version)
                    },
                    |(_, uid)| uid.clone(),
                );
                self.ledger.needs.put_rule(facts(*rule, state, &uid));
                self.rules.insert(*rule, (state.clone(), uid));
            }
            Event::Rule(rule, None) => {
                self.rules.remove(rule);
                self.materials.remove(rule);
                self.ledger.needs.remove_rule(RULES[*rule]);
                self.ledger.set_material(RULES[*rule], None);
            }
            Event::Material(rule, material) => {
                if self.rules.contains_key(rule) {
                    self.materials.insert(*rule, *material);
                    self.ledger.set_material(RULES[*rule], Some(*material));
                }
            }
            Event::Namespace(namespace, Some((tier, ending))) => {
                self.namespaces.insert(*namespace, (*tier, *ending));
                self.ledger.needs.put_namespace(NAMESPACES[*namespace], labels(*tier), *ending);
            }
            Event::Namespace(namespace, None) => {
                self.namespaces.remove(namespace);
                self.ledger.needs.remove_namespace(NAMESPACES[*namespace]);
            }
            Event::Pod(namespace, pod, Some((live, secrets))) => {
                self.pods.insert((*namespace, *pod), (*live, secrets.clone()));
                self.ledger.needs.put_pod(NAMESPACES[*namespace], PODS[*pod], &pod_facts(*live, secrets));
            }
            Event::Pod(namespace, pod, None) => {
                self.pods.remove(&(*namespace, *pod));
                self.ledger.needs.remove_pod(NAMESPACES[*namespace], PODS[*pod]);
            }
            Event::Foreign(namespace, secret) => {
                let place = place(*namespace, *secret);
                if !self.secrets.contains_key(&place) {
                    let foreign = Observed { owners: Box::default(), ..self.new_secret() };
                    self.put(&place, foreign);
                }
            }
            Event::Deleted(namespace, secret) => {
                let place = place(*namespace, *secret);
                if self.secrets.remove(&place).is_some() {
                    self.ledger.gone(&place, None);
                }
            }
            Event::Edited(namespace, secret) => {
                self.edit(&place(*namespace, *secret), |secret| secret.fingerprint = None);
            }
            Event::Shared(namespace, secret) => {
                self.edit(&place(*namespace, *secret), |secret| secret.is_shared = true);
            }
            Event::Frozen(namespace, secret) => {
                self.edit(&place(*namespace, *secret), |secret| secret.immutable = true);
            }
            Event::Writes(_) if self.rests => {}
            Event::Writes(count) => (0..*count).for_each(|_| _ = self.write()),
            Event::Forgotten(rule) => {
                self.materials.remove(rule);
                self.ledger.set_material(RULES[*rule], None);
            }
            Event::Rests => self.rests = true,
            Event::Leads => self.lead(),
        }
        if self.rests {
            self.ledger.rest();
        }
    }

    fn lead(&mut self) {
        if std::mem::take(&mut self.rests) {
            self.ledger.begin(true);
        }
    }

    fn new_secret(&mut self) -> Observed {
        self.version += 1;
        Observed {
            uid: format!("secret-{}", self.version).into(),
            version: self.version.to_string().into(),
            owners: Box::default(),
            is_shared: false,
            fingerprint: None,
            managed: false,
            rule: None,
            is_docker_config: true,
            immutable: false,
            terminating: false,
        }
    }

    fn put(&mut self, place: &Place, secret: Observed) {
        self.secrets.insert(place.clone(), secret.clone());
        self.ledger.seen(place, secret);
    }

    fn edit(&mut self, place: &Place, change: impl Fn(&mut Observed)) {
        let Some(mut secret) = self.secrets.get(place).cloned() else { return };
        change(&mut secret);
        self.version += 1;
        secret.version = self.version.to_string().into();
        self.put(place, secret);
    }

    fn is_rule(&self, uid: &str) -> bool {
        self.rules.values().any(|(_, known)| known == uid)
    }

    /// Carries out the next write that is due, as the API would. Nothing foreign may be its target.
    fn write(&mut self) -> bool {
        // Nobody waits here: places slow down after a few writes.
        self.now += Duration::from_secs(1000);
        let Some(Due { place, action, copy }) = self.ledger.next(self.now) else { return false };
        let there = self.secrets.get(&place).cloned();
        if let Some(there) = &there {
            assert!(
                there.owners.iter().any(|owner| self.is_rule(owner)),
                "{action:?} of what is not ours in {place:?}"
            );
        }
        let written = |uid: Option<Box<str>>, world: &mut Self| {
            let copy = copy.clone().expect("there is something to write");
            let new = world.new_secret();
            Observed {
                uid: uid.unwrap_or_else(|| new.uid.clone()),
                owners: [(*copy.rule_uid).into()].into(),
                fingerprint: Some(copy.fingerprint),
                managed: true,
                rule: Some(label_of(&copy.rule).into()),
                ..new
            }
        };
        let result = match &action {
            Action::Create => {
                assert!(there.is_none(), "what is there cannot be created");
                Some(written(None, self))
            }
            Action::Update(state) => {
                let there = there.expect("it is there");
                assert_eq!((&state.uid, &state.version), (&there.uid, &there.version));
                Some(written(Some(there.uid), self))
            }
            Action::Replace(state) | Action::Delete(state) => {
                let there = there.expect("it is there");
                assert_eq!((&state.uid, &state.version), (&there.uid, &there.version));
                matches!(action, Action::Replace(_)).then(|| written(None, self))
            }
            Action::Nothing | Action::Conflict => panic!("that is no write"),
        };
        match &result {
            Some(secret) => _ = self.secrets.insert(place.clone(), secret.clone()),
            None => _ = self.secrets.remove(&place),
        }
        self.ledger.wrote(&place, self.now, result);
        true
    }

    fn settle(&mut self) {
        self.lead();
        for _ in 0..200 {
            if !self.write() {
                return;
            }
        }
        panic!("the writes do not come to an end");
    }

    /// A ledger that sees the present state for the first time.
    fn fresh_ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(Needs::new("release"));
        for ((namespace, pod), (live, secrets)) in &self.pods {
            ledger.needs.put_pod(NAMESPACES[*namespace], PODS[*pod], &pod_facts(*live, secrets));
        }
        for (namespace, (tier, ending)) in &self.namespaces {
            ledger.needs.put_namespace(NAMESPACES[*namespace], labels(*tier), *ending);
        }
        for (rule, (state, uid)) in &self.rules {
            ledger.needs.put_rule(facts(*rule, state, uid));
        }
        for (rule, material) in &self.materials {
            ledger.set_material(RULES[*rule], Some(*material));
        }
        for secret in SECRETS {
            ledger.list_begins(secret);
            for (place, observed) in self.secrets.iter().filter(|(place, _)| *place.secret == *secret) {
                ledger.seen(place, observed.clone());
            }
            ledger.list_ends(secret);
        }
        ledger
    }

    /// Section 6, said once more and without anything remembered: the rule that serves, and whether its copy is needed.
    fn expected(&self, namespace: usize, secret: usize) -> Option<(usize, bool)> {
        let known = self.namespaces.get(&namespace);
        let mut contenders: Vec<(&usize, &RuleState)> =
            self.rules.iter().map(|(rule, (state, _))| (rule, state)).collect();
        contenders.retain(|(_, state)| state.secret == secret && !state.shadow);
        contenders.sort_by_key(|(rule, state)| (state.created, **rule));
        let serves = |state: &RuleState| state.tier.is_none() || known.map(|(tier, _)| *tier) == state.tier;
        let (rule, state) = contenders.into_iter().find(|(_, state)| serves(state))?;
        let referenced =
            self.pods.iter().any(|((of, _), (live, secrets))| *of == namespace && *live && secrets.contains(&secret));
        state.copied.then_some((*rule, referenced || (state.eager && known.is_some())))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_order_of_events_ends_as_a_look_at_the_whole(
        events in proptest::collection::vec(event(), 0..60),
        relist in proptest::option::of(any::<Index>()),
    ) {
        let mut world = World::new();
        for (number, event) in events.iter().enumerate() {
            world.happen(event);
            if relist.is_some_and(|relist| relist.index(events.len()) == number) {
                for secret in SECRETS {
                    world.ledger.list_begins(secret);
                    for (place, observed) in world.secrets.clone().iter().filter(|(place, _)| *place.secret == *secret) {
                        world.ledger.seen(place, observed.clone());
                    }
                    world.ledger.list_ends(secret);
                }
            }
        }
        world.settle();

        let mut fresh = world.fresh_ledger();
        prop_assert_eq!(fresh.next(Duration::ZERO), None);
        for (rule, (state, uid)) in &world.rules {
            let id = facts(*rule, state, uid).rule.id().clone();
            prop_assert_eq!(world.ledger.standing(RULES[*rule]), fresh.standing(RULES[*rule]));
            prop_assert_eq!(world.ledger.needs.missed(&id), fresh.needs.missed(&id));
            prop_assert_eq!(world.ledger.needs.outranked(RULES[*rule]), fresh.needs.outranked(RULES[*rule]));
        }
        for (namespace, name) in NAMESPACES.iter().enumerate() {
            let is_decided = match world.namespaces.get(&namespace) {
                Some((_, ending)) => !ending,
                // Nothing is decided where a label decides and none is known.
                None => false,
            };
            for secret in 0..SECRETS.len() {
                let place = place(namespace, secret);
                let there = world.secrets.get(&place);
                let ours = there.filter(|there| there.owners.iter().any(|owner| world.is_rule(owner)));
                if *name == "release" {
                    prop_assert!(ours.is_none());
                } else if is_decided {
                    match world.expected(namespace, secret) {
                        None => prop_assert!(ours.is_none(), "{:?} is in {:?}", ours, place),
                        Some((rule, needed)) => {
                            let uid = &world.rules[&rule].1;
                            let of_rule = ours.is_some_and(|ours| *ours.owners[0] == **uid);
                            prop_assert!(ours.is_none() || of_rule);
                            if let Some(material) = world.materials.get(&rule) {
                                prop_assert!(!needed || there.is_some());
                                prop_assert!(ours.is_none_or(|ours| ours.fingerprint == Some(*material) && !ours.immutable));
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_copy_that_nothing_uses_goes_when_its_time_has_come_and_not_when_it_is_used_again() {
    let hour = Duration::from_secs(3600);
    let mut world = World::with_a_copy(hour);
    world.now = Duration::from_secs(100_000);
    world.happen(&Event::Pod(0, 0, Some((false, vec![0]))));
    assert_eq!(world.ledger.next(world.now), None);
    assert_eq!(world.ledger.next_wake(), Some(world.now + hour));
    // Used again in between: the clock begins anew.
    world.happen(&Event::Pod(0, 1, Some((true, vec![0]))));
    assert_eq!(world.ledger.next(world.now + hour), None);
    world.happen(&Event::Pod(0, 1, None));
    let again = world.now + hour;
    assert_eq!(world.ledger.next(again), None);
    assert_eq!(world.ledger.next(again + hour.mul_f32(0.9)), None);
    let due = world.ledger.next(again + hour).unwrap();
    assert!(matches!(due.action, Action::Delete(_)));
}

/// A credential that stays where it was taken away from is news of its rule, whatever name its copies have now.
#[test]
fn a_copy_that_may_not_be_removed_is_told_of_its_rule_until_it_is_gone() {
    let serves = |tier| RuleState { tier: Some(tier), ..serves_all() };
    let mut world = World::new();
    world.happen(&Event::Namespace(0, Some((true, false))));
    world.happen(&Event::Pod(0, 0, Some((true, vec![0]))));
    world.happen(&Event::Rule(0, Some(serves(true))));
    world.happen(&Event::Material(0, 1));
    world.settle();
    for change in [serves(false), RuleState { secret: 1, ..serves(true) }, RuleState { shadow: true, ..serves_all() }] {
        world.happen(&Event::Rule(0, Some(change)));
        world.now += Duration::from_secs(1000);
        let due = world.ledger.next(world.now).unwrap();
        assert!(matches!(due.action, Action::Delete(_)));
        world.ledger.refused(&due.place, world.now, Refusal::Other("a policy".to_owned()));
        let standing = world.ledger.standing(RULES[0]);
        assert_eq!((standing.refused.len(), standing.not_removed.len()), (0, 1));
        assert!(standing.not_removed.contains_key(NAMESPACES[0]));
        // A lead that was lost for a moment is no reason to say that all is well.
        world.happen(&Event::Rests);
        world.happen(&Event::Leads);
        assert_eq!(world.ledger.next(world.now), None);
        assert_eq!(world.ledger.standing(RULES[0]), standing);
    }
    world.happen(&Event::Deleted(0, 0));
    world.settle();
    assert_eq!(world.ledger.standing(RULES[0]).not_removed.len(), 0);
}

/// A source that was restored from a copy has the copy's owner.
#[test]
fn nothing_is_removed_where_the_sources_are() {
    let mut world = World::new();
    let release = NAMESPACES.iter().position(|name| *name == "release").unwrap();
    world.happen(&Event::Namespace(release, Some((true, false))));
    world.happen(&Event::Rule(0, Some(serves_all())));
    world.happen(&Event::Material(0, 1));
    let uid = world.rules[&0].1.as_str().into();
    let restored = Observed { owners: [uid].into(), ..world.new_secret() };
    world.put(&place(release, 0), restored);
    world.happen(&Event::Pod(release, 0, Some((true, vec![0]))));
    assert_eq!(world.ledger.next(world.now), None);
    assert_eq!(world.ledger.standing(RULES[0]).copies, 0);
}

/// Somebody's webhook that is away, or an API server with a fault: not a refusal, and no better for whoever waits.
#[test]
fn what_fails_again_and_again_with_an_answer_is_told() {
    let mut world = World::with_a_pod();
    let second = Duration::from_secs(1);
    let mut told = Vec::new();
    for words in [None, Some("a"), Some("b"), Some("c"), None] {
        world.now += Duration::from_secs(60);
        let due = world.ledger.next(world.now).unwrap();
        let is_new = world.ledger.failed(&due.place, world.now, second, words);
        let why = world.ledger.standing(RULES[0]).refused.get(NAMESPACES[0]).map(|why| why.words().to_owned());
        told.push((is_new, why));
    }
    let of = |words: &str| Some(words.to_owned());
    assert_eq!(told, [(false, None), (false, None), (true, of("b")), (false, of("c")), (false, of("c"))]);
    world.settle();
    assert!(world.ledger.standing(RULES[0]).refused.is_empty());
}

/// Namespaces come and go for as long as a cluster lives, and for as long does a process wait for the lead.
#[test]
fn who_does_not_lead_remembers_nothing_of_what_is_gone() {
    let mut world = World::new();
    world.happen(&Event::Rests);
    for number in 0..1000 {
        let name = format!("run-{number}");
        world.ledger.needs.put_namespace(&name, labels(true), false);
        world.ledger.needs.put_pod(&name, "app", &pod_facts(true, &[0]));
        world.ledger.needs.remove_pod(&name, "app");
        world.ledger.needs.remove_namespace(&name);
        world.ledger.rest();
        assert!(world.ledger.needs.take_dirty().is_empty() && world.ledger.needs.take_dirty_namespaces().is_empty());
    }
    world.happen(&Event::Namespace(0, Some((true, false))));
    world.happen(&Event::Pod(0, 0, Some((true, vec![0]))));
    world.happen(&Event::Rule(0, Some(serves_all())));
    world.happen(&Event::Material(0, 1));
    assert_eq!(world.ledger.next(world.now), None);
    world.happen(&Event::Leads);
    assert_eq!(world.ledger.next(world.now).unwrap().action, Action::Create);
}

#[test]
fn a_copy_that_was_used_while_nobody_led_is_not_reclaimed_too_early() {
    let hour = Duration::from_secs(3600);
    let mut world = World::with_a_copy(hour);
    world.happen(&Event::Pod(0, 0, None));
    assert_eq!(world.ledger.next(world.now), None);
    let since = world.now;
    for used in [false, true] {
        world.ledger.rest();
        if used {
            world.ledger.needs.put_pod(NAMESPACES[0], PODS[0], &pod_facts(true, &[0]));
            world.ledger.rest();
            world.ledger.needs.remove_pod(NAMESPACES[0], PODS[0]);
            world.ledger.rest();
        }
        world.now += hour / 2;
        world.ledger.begin(false);
        assert_eq!(world.ledger.next(world.now), None);
        let from = if used { world.now } else { since };
        assert_eq!(world.ledger.next_wake(), Some(from + hour));
    }
}

#[test]
fn a_copy_that_is_to_be_reclaimed_is_forgotten_with_its_namespace() {
    let hour = Duration::from_secs(3600);
    let mut world = World::with_a_copy(hour);
    world.happen(&Event::Pod(0, 0, None));
    assert_eq!(world.ledger.next(world.now), None);
    assert_eq!(world.ledger.next_wake(), Some(world.now + hour));
    world.happen(&Event::Deleted(0, 0));
    world.happen(&Event::Namespace(0, None));
    assert_eq!(world.ledger.next(world.now), None);
    assert_eq!(world.ledger.next_wake(), None);
}

#[test]
fn a_place_under_way_is_left_alone_until_its_write_is_done() {
    let state = RuleState { secret: 0, tier: None, eager: true, shadow: false, copied: true, created: 0 };
    let mut world = World::new();
    world.happen(&Event::Namespace(0, Some((true, false))));
    world.happen(&Event::Rule(0, Some(state)));
    world.happen(&Event::Material(0, 1));
    let due = world.ledger.next(Duration::ZERO).unwrap();
    world.happen(&Event::Material(0, 2));
    assert_eq!(world.ledger.next(Duration::ZERO), None);
    world.ledger.failed(&due.place, Duration::ZERO, Duration::from_secs(1), None);
    // What failed was another content.
    let again = world.ledger.next(Duration::ZERO).unwrap();
    assert_eq!(again.copy.as_ref().unwrap().fingerprint, 2);
    world.ledger.failed(&again.place, Duration::ZERO, Duration::from_secs(1), None);
    assert_eq!(world.ledger.next(Duration::ZERO), None);
    assert_eq!(world.ledger.next(Duration::from_secs(1)), Some(again));
}

/// A quota, a right or somebody's webhook that is broken for an hour, and then mended.
#[test]
fn what_was_refused_for_long_is_written_half_a_minute_after_it_was_mended() {
    let mut world = World::with_a_pod();
    let mut now = world.now;
    let mut tries = 0;
    while now < world.now + Duration::from_secs(3600) {
        let due = world.ledger.next(now).unwrap();
        tries += 1;
        world.ledger.refused(&due.place, now, Refusal::Other("exceeded quota".to_owned()));
        // Pods come and go meanwhile, and nobody asks the API again for each of them.
        for pod in 1..3 {
            world.happen(&Event::Pod(0, pod, Some((true, vec![0]))));
            assert_eq!(world.ledger.next(now), None);
            world.happen(&Event::Pod(0, pod, None));
        }
        let next = world.ledger.next_wake().unwrap();
        assert!(next <= now + Duration::from_secs(30));
        now = next;
    }
    assert_eq!(tries, 120);
}

#[test]
fn a_secret_name_that_is_not_watched_is_not_written() {
    let state = RuleState { secret: 0, tier: None, eager: true, shadow: false, copied: true, created: 0 };
    let mut world = World::new();
    world.ledger = Ledger::new(Needs::new("release"));
    world.happen(&Event::Namespace(0, Some((true, false))));
    world.happen(&Event::Rule(0, Some(state)));
    world.happen(&Event::Material(0, 1));
    assert_eq!(world.ledger.next(Duration::ZERO), None);
    world.ledger.list_begins("s");
    assert_eq!(world.ledger.next(Duration::ZERO), None);
    world.ledger.list_ends("s");
    assert_eq!(world.ledger.next(Duration::ZERO).unwrap().action, Action::Create);
}

/// A rotation of everything must not keep a Pod waiting that needs what is not there yet.
#[test]
fn a_copy_that_is_not_there_comes_before_all_that_are() {
    let mut world = World::new();
    world.happen(&Event::Rule(0, Some(serves_all())));
    world.happen(&Event::Material(0, 1));
    let last = 2;
    for namespace in 0..=last {
        world.happen(&Event::Namespace(namespace, Some((true, false))));
        if namespace < last {
            world.happen(&Event::Pod(namespace, 0, Some((true, vec![0]))));
        }
    }
    world.settle();
    world.happen(&Event::Material(0, 2));
    assert!(matches!(world.ledger.next(world.now).unwrap().action, Action::Update(_)));
    world.happen(&Event::Pod(last, 0, Some((true, vec![0]))));
    let due = world.ledger.next(world.now).unwrap();
    assert_eq!((&*due.place.namespace, due.action), (NAMESPACES[last], Action::Create));
    assert!(matches!(world.ledger.next(world.now).unwrap().action, Action::Update(_)));
}

/// What a write answers may be heard of before the watch tells of what was there before it.
#[test]
fn news_of_a_secret_that_was_replaced_since_changes_nothing() {
    let mut world = World::new();
    let place = place(0, 0);
    let (old, new) = (world.new_secret(), world.new_secret());
    let gone = Observed { version: old.version.clone(), ..old.clone() };
    world.happen(&Event::Namespace(0, Some((true, false))));
    world.happen(&Event::Pod(0, 0, Some((true, vec![0]))));
    world.happen(&Event::Rule(0, Some(serves_all())));
    world.happen(&Event::Material(0, 1));
    let conflicts = |world: &World| world.ledger.standing(RULES[0]).conflicts.len();
    world.ledger.seen(&place, new);
    assert_eq!(world.ledger.next(world.now), None);
    for stale in [false, true] {
        if stale {
            world.ledger.seen(&place, old.clone());
        } else {
            world.ledger.gone(&place, Some(&gone));
        }
        assert_eq!((world.ledger.next(world.now), conflicts(&world)), (None, 1), "somebody's Secret is there");
    }
    world.ledger.gone(&place, None);
    assert!(matches!(world.ledger.next(world.now).unwrap().action, Action::Create));
}
