//! The loop of the controller: what is seen goes into the ledger, and what is due comes out of it. Nothing is decided here.

mod act;
mod seen;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::{mpsc, watch as signal};
use tokio::task::JoinSet;

use super::copies::{self, MANAGER, Outcome};
use super::objects::{Namespace, Pod, Secret, SourceSecret};
use super::report::{self, News};
use super::rules::{Known, Origin, whole_seconds};
use super::series::{Asked, Series, Written};
use super::sources::outside::Outside;
use super::sources::plugin::{self, Plugins};
use super::sources::{Fetched, google};
use super::watch::{Change, WhenDenied, named, watch};
use crate::image::ImagePattern;
use crate::process::accept::Heartbeat;
use crate::process::readiness::Condition;
use crate::provision::{Due, Facts, Ledger, Name, Needs, Place, Rate, SourceState, status};
use crate::rules::{ClusterPullSecret, ClusterPullSecretStatus, Mode, PullSecret, Rule, RuleId, RuleKind};
use seen::{Found, Lists, Source, Watched};

/// Writes under way at once, and writes a second.
const CONCURRENT: usize = 16;
const RATE: u32 = 200;

/// A right that is missing is asked for again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Statuses are looked at so often at most.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The loop comes round at least so often, so that liveness sees it.
const BEAT: Duration = Duration::from_secs(5);

/// How long writes under way may take when the process ends.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// What the controller is made of.
#[allow(missing_debug_implementations, reason = "kube's client has none")]
pub struct Setup {
    /// The Kubernetes API.
    pub client: Client,
    /// Where sources are, and never a copy.
    pub release_namespace: String,
    /// The plugins that the operator has configured, if any.
    pub plugins: Option<Plugins>,
    /// How to call what is outside the cluster.
    pub outside: Outside,
    /// What is counted.
    pub series: Series,
    /// What liveness is about.
    pub heartbeat: Heartbeat,
    /// Met once everything has been listed.
    pub listed: Condition,
}

/// The controller.
#[allow(missing_debug_implementations, reason = "kube's client has none")]
pub struct Controller {
    setup: Setup,
    recorder: Recorder,
    started: Instant,
    ledger: Ledger,
    rate: Rate,
    /// When the rate permits the next write.
    rate_permits: Duration,
    rules: HashMap<Name, Known>,
    lists: Lists,
    /// The Secret names that copies have, and how each is watched.
    names: HashMap<String, Watched>,
    /// The Secrets in the release namespace that rules read.
    sources: HashMap<String, Source>,
    watches: JoinSet<()>,
    tasks: JoinSet<Done>,
    writes: usize,
    /// Rules whose status is being written.
    telling: HashSet<Name>,
    /// Places whose Pods have been told that there is no copy.
    told: BTreeSet<Place>,
    /// Whether a status may have changed, and when to look.
    is_stirred: bool,
    look_at: Duration,
    out: mpsc::Sender<Seen>,
}

/// What a watch has seen.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once, and most of them are Pods")]
enum Seen {
    Rule(Change<ClusterPullSecret>),
    Team(Change<PullSecret>),
    Namespace(Change<Namespace>),
    Pod(Change<Pod>),
    Copy(Name, Change<Secret>),
    Source(String, Change<SourceSecret>),
}

/// Where the watches of a controller put what they see.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Seen>);

/// What a task has done.
enum Done {
    Wrote(Due, Outcome),
    May { secret: String, is_source: bool, answer: bool },
    Fetched { rule: Name, uid: Option<String>, asked: Timestamp, answer: Result<Fetched, SourceState> },
    Told(Name, Box<kube::Result<ClusterPullSecret>>, Option<News>),
    Nothing,
}

impl Controller {
    /// A controller that has seen nothing yet.
    pub fn new(setup: Setup) -> (Self, Inbox) {
        let (out, seen) = mpsc::channel(1024);
        let reporter = Reporter { controller: MANAGER.into(), instance: None };
        let controller = Self {
            recorder: Recorder::new(setup.client.clone(), reporter),
            ledger: Ledger::new(Needs::new(&setup.release_namespace)),
            setup,
            started: Instant::now(),
            rate: Rate::new(RATE),
            rate_permits: Duration::ZERO,
            rules: HashMap::new(),
            lists: Lists::default(),
            names: HashMap::new(),
            sources: HashMap::new(),
            watches: JoinSet::new(),
            tasks: JoinSet::new(),
            writes: 0,
            telling: HashSet::new(),
            told: BTreeSet::new(),
            is_stirred: true,
            look_at: Duration::ZERO,
            out,
        };
        (controller, Inbox(seen))
    }

    /// Watches from now on, and writes while `leading` says so, until `stop`; writes under way are waited for.
    pub async fn run(mut self, inbox: Inbox, mut leading: signal::Receiver<bool>, stop: impl Future<Output = ()>) {
        let Inbox(mut seen) = inbox;
        let mut stop = std::pin::pin!(stop);
        self.watch_everything();
        loop {
            self.setup.heartbeat.beat();
            let is_leading = *leading.borrow_and_update();
            self.setup.series.leading.set(i64::from(is_leading));
            if is_leading && self.is_listed() {
                self.write_what_is_due();
                self.fetch_what_is_due();
                self.tell_what_has_changed();
            }
            self.ask_again();
            let pause = self.next_turn(is_leading).saturating_sub(self.now());
            tokio::select! {
                () = &mut stop => break,
                Some(first) = seen.recv() => {
                    self.see(first);
                    // What came in together is decided together.
                    for _ in 0..256 {
                        let Ok(more) = seen.try_recv() else { break };
                        self.see(more);
                    }
                    self.is_stirred = true;
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(%error, "a task ended by a fault of ours"),
                },
                changed = leading.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.watches.abort_all();
        let last = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WRITES, last).await.is_err() {
            tracing::warn!("writes under way did not end in time");
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_listed(&self) -> bool {
        let Lists { rules, namespaces, pods, .. } = &self.lists;
        rules.is_complete && namespaces.is_complete && pods.is_complete
    }

    /// When to come round again although nothing was seen.
    fn next_turn(&self, is_leading: bool) -> Duration {
        let mut next = self.now() + BEAT;
        if is_leading && self.is_listed() {
            if self.writes < CONCURRENT {
                let due = self.ledger.next_wake();
                next = next.min(due.map_or(next, |due| due.max(self.rate_permits)));
                if self.rate_permits > self.now() {
                    next = next.min(self.rate_permits);
                }
            }
            if self.is_stirred {
                next = next.min(self.look_at);
            }
            let fetches = self.rules.values().filter(|known| !known.is_asking);
            next = fetches.filter_map(|known| known.refresh.as_ref()?.next()).min().map_or(next, |due| next.min(due));
        }
        next
    }

    fn watch_everything(&mut self) {
        let client = &self.setup.client;
        let config = watcher::Config::default;
        let again = WhenDenied::TryAgain;
        let out = || self.out.clone();
        self.watches.spawn(watch(Api::all(client.clone()), config(), again, out(), Seen::Rule));
        self.watches.spawn(watch(Api::all(client.clone()), config(), again, out(), Seen::Team));
        self.watches.spawn(watch(Api::all(client.clone()), config(), again, out(), Seen::Namespace));
        self.watches.spawn(watch(Api::all(client.clone()), config(), again, out(), Seen::Pod));
    }

    fn watch_copies(&mut self, secret: &str) {
        let api: Api<Secret> = Api::all(self.setup.client.clone());
        let name: Name = secret.into();
        let wrap = move |change| Seen::Copy(Arc::clone(&name), change);
        let task = watch(api, named(secret), WhenDenied::End, self.out.clone(), wrap);
        let handle = self.watches.spawn(task);
        self.names.insert(secret.to_owned(), Watched::By(handle));
    }

    fn watch_source(&mut self, secret: &str) {
        let api: Api<SourceSecret> = Api::namespaced(self.setup.client.clone(), &self.setup.release_namespace);
        let name = secret.to_owned();
        let wrap = move |change| Seen::Source(name.clone(), change);
        let task = watch(api, named(secret), WhenDenied::End, self.out.clone(), wrap);
        let watched = Watched::By(self.watches.spawn(task));
        let found = self.sources.remove(secret).map_or(Found::NotYet, |source| source.found);
        self.sources.insert(secret.to_owned(), Source { watched, is_named: false, found });
    }

    /// Watches the Secrets that the rules name, and no others.
    fn tend_watches(&mut self) {
        let valid = || self.rules.values().filter_map(|known| Some((known, known.rule.as_ref().ok()?)));
        let names: HashSet<String> = valid().map(|(_, rule)| rule.secret_name().to_owned()).collect();
        let sources: HashSet<String> =
            valid().filter_map(|(known, _)| Some(known.origin.secret()?.to_owned())).collect();
        let end = |watched: &Watched| {
            if let Watched::By(handle) = watched {
                handle.abort();
            }
        };
        let ledger = &mut self.ledger;
        self.names.retain(|name, watched| {
            // What a rule was renamed away from is watched until the last copy is gone.
            let stays = names.contains(name) || ledger.holds_copies(name);
            if !stays {
                end(watched);
                ledger.unwatched(name);
            }
            stays
        });
        self.sources.retain(|name, source| {
            let stays = sources.contains(name);
            if !stays {
                end(&source.watched);
            }
            stays
        });
        for name in names {
            if !self.names.contains_key(&name) {
                self.watch_copies(&name);
            }
        }
        for name in sources {
            if !self.sources.contains_key(&name) {
                self.watch_source(&name);
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Rule(change) => self.see_rule(change),
            Seen::Team(change) => self.see_team(change),
            Seen::Namespace(change) => match change {
                Change::ListBegins => self.lists.namespaces.begins(),
                Change::Put(namespace) => {
                    let name = namespace.name_any();
                    self.lists.namespaces.names(|| name.clone());
                    let is_ending = namespace.metadata.deletion_timestamp.is_some();
                    self.ledger.needs.put_namespace(&name, namespace.metadata.labels.unwrap_or_default(), is_ending);
                }
                Change::Gone(namespace) => self.ledger.needs.remove_namespace(&namespace.name_any()),
                Change::ListEnds => {
                    let named = self.lists.namespaces.ends();
                    self.ledger.needs.retain_namespaces(|name| named.contains(name));
                    self.say_what_is_listed();
                }
                Change::Denied => {}
            },
            Seen::Pod(change) => match change {
                Change::ListBegins => self.lists.pods.begins(),
                Change::Put(pod) => {
                    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
                    self.lists.pods.names(|| (namespace.clone(), name.clone()));
                    self.ledger.needs.put_pod(&namespace, &name, &pod.facts());
                }
                Change::Gone(pod) => {
                    self.ledger.needs.remove_pod(&pod.namespace().unwrap_or_default(), &pod.name_any());
                }
                Change::ListEnds => {
                    let named = self.lists.pods.ends();
                    let is_named =
                        |namespace: &str, name: &str| named.contains(&(namespace.to_owned(), name.to_owned()));
                    self.ledger.needs.retain_pods(is_named);
                    self.say_what_is_listed();
                }
                Change::Denied => {}
            },
            Seen::Copy(secret, change) => self.see_copy(&secret, change),
            Seen::Source(name, change) => self.see_source(&name, change),
        }
    }

    fn say_what_is_listed(&mut self) {
        if self.is_listed() {
            self.setup.listed.met("rules, namespaces and Pods");
        }
    }

    fn see_rule(&mut self, change: Change<ClusterPullSecret>) {
        match change {
            Change::ListBegins => self.lists.rules.begins(),
            Change::Put(document) => {
                let name = document.name_any();
                self.lists.rules.names(|| name.clone());
                self.put_rule(&name, document);
            }
            Change::Gone(document) => self.remove_rule(&document.name_any()),
            Change::ListEnds => {
                let named = self.lists.rules.ends();
                let gone: Vec<Name> = self.rules.keys().filter(|name| !named.contains(&***name)).cloned().collect();
                for name in gone {
                    self.remove_rule(&name);
                }
                self.say_what_is_listed();
            }
            Change::Denied => {}
        }
    }

    fn put_rule(&mut self, name: &str, document: ClusterPullSecret) {
        let now = self.now();
        let is_other = if let Some(known) = self.rules.get_mut(name) {
            known.update(document, now)
        } else {
            self.rules.insert(name.into(), Known::new(document, now));
            true
        };
        let Some(known) = self.rules.get(name).filter(|_| is_other) else { return };
        match (known.facts(), &known.rule) {
            (Some(facts), _) => self.ledger.needs.put_rule(facts),
            (None, wrong) => {
                if let Err(wrong) = wrong {
                    tracing::warn!(rule = name, wrong, "a rule is not valid and is left out");
                }
                self.ledger.needs.remove_rule(name);
            }
        }
        self.tend_watches();
        self.read_source_of(name);
    }

    fn remove_rule(&mut self, name: &str) {
        self.rules.remove(name);
        self.ledger.needs.remove_rule(name);
        self.ledger.set_material(name, None);
        self.tend_watches();
    }

    fn see_team(&mut self, change: Change<PullSecret>) {
        let id = |document: &PullSecret| RuleId {
            kind: RuleKind::PullSecret,
            namespace: document.namespace(),
            name: document.name_any(),
        };
        match change {
            Change::ListBegins => self.lists.teams.begins(),
            Change::Put(document) => {
                let id = id(&document);
                self.lists.teams.names(|| id.clone());
                self.ledger.needs.set_team_rule(id, Rule::from_pull_secret(&document).ok());
            }
            Change::Gone(document) => self.ledger.needs.set_team_rule(id(&document), None),
            Change::ListEnds => {
                let named = self.lists.teams.ends();
                self.ledger.needs.retain_team_rules(|id| named.contains(id));
            }
            Change::Denied => {}
        }
    }

    fn see_copy(&mut self, secret: &Name, change: Change<Secret>) {
        let place = |object: &Secret| Place {
            namespace: object.namespace().unwrap_or_default().into(),
            secret: Arc::clone(secret),
        };
        match change {
            // A watch that was ended may have left something in the channel.
            _ if !matches!(self.names.get(&**secret), Some(Watched::By(_))) => {}
            Change::ListBegins => self.ledger.list_begins(secret),
            Change::Put(object) => self.ledger.seen(&place(&object), object.observed()),
            Change::Gone(object) => self.ledger.gone(&place(&object)),
            Change::ListEnds => self.ledger.list_ends(secret),
            Change::Denied => {
                self.ledger.unwatched(secret);
                let words = copies::not_permitted("watch", secret);
                tracing::error!(secret = %secret, "{words}");
                let ask_at = self.now() + ASK_AGAIN;
                self.names.insert((**secret).to_owned(), Watched::Not { words, ask_at });
            }
        }
    }

    fn see_source(&mut self, name: &str, change: Change<SourceSecret>) {
        let ask_at = self.now() + ASK_AGAIN;
        let Some(source) = self.sources.get_mut(name) else { return };
        match change {
            Change::ListBegins => {
                source.is_named = false;
                return;
            }
            Change::Put(object) => {
                source.is_named = true;
                source.found = Found::There(Box::new(object));
            }
            Change::ListEnds if source.is_named => return,
            Change::Gone(_) | Change::ListEnds => source.found = Found::Absent,
            Change::Denied => {
                let words = format!(
                    "The controller may not read Secret {name} in namespace {}: add {name} to the value rbac.sourceNames \
                     of the Helm chart.",
                    self.setup.release_namespace
                );
                tracing::error!(secret = name, "{words}");
                source.watched = Watched::Not { words, ask_at };
                return;
            }
        }
        let readers = self.rules.iter().filter(|(_, known)| known.origin.secret() == Some(name));
        let readers: Vec<Name> = readers.map(|(rule, _)| Arc::clone(rule)).collect();
        for rule in readers {
            self.read_source_of(&rule);
        }
    }

    /// Looks at the Secret that a rule's credential comes from, if one is known.
    fn read_source_of(&mut self, rule: &str) {
        let now = self.now();
        let Some(known) = self.rules.get_mut(rule) else { return };
        let Some(source) = known.origin.secret().and_then(|name| self.sources.get(name)) else { return };
        let found = match &source.found {
            Found::NotYet => return,
            Found::Absent => None,
            Found::There(found) => Some(&**found),
        };
        if let Origin::Google { .. } = known.origin {
            // Another key is asked with at once.
            known.key_is_there(now);
            return;
        }
        let fingerprint = known.read_secret(found, &self.setup.release_namespace, Timestamp::now());
        if fingerprint.is_some() {
            self.ledger.set_material(rule, fingerprint);
        }
    }
}
