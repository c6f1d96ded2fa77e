//! The loop of the controller: what is seen goes into the ledger, and what is due comes out of it. Nothing is decided here.

mod act;
mod see;
mod seen;
mod tell;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch as signal};
use tokio::task::{JoinError, JoinSet};

use super::copies::{self, MANAGER, Outcome};
use super::election::Lead;
use super::objects::{ClusterRule, Pod, Secret, SourceSecret, TeamRule};
use super::report::{self, News};
use super::rules::{Known, Origin, Team, Version, whole_seconds};
use super::series::{Asked, Series, Written};
use super::sources::outside::Outside;
use super::sources::plugin::{self, Plugins};
use super::sources::{Fetched, google};
use crate::cluster::objects::Namespace;
use crate::cluster::{Change, Trouble, WhenDenied, named, watch};
use crate::image::ImagePattern;
use crate::process::accept::Heartbeat;
use crate::process::readiness::Condition;
use crate::provision::{Due, Facts, Ledger, Name, Needs, Pace, Place, Rate, SourceState, status};
use crate::rules::{ClusterPullSecretStatus, Mode, PullSecretStatus, RuleId, RuleKind};
use seen::{Found, Lists, Source, Watched};

/// Writes under way at once, and writes a second.
const CONCURRENT: usize = 16;
const RATE: u32 = 200;

/// The loop comes round at least so often, so that liveness sees it.
const BEAT: Duration = Duration::from_secs(5);

/// One that takes the lead writes so long before it says how rules stand.
const NEW_LEAD: Duration = Duration::from_secs(3);

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
    /// The term in which this process leads, or led last, and whether it does.
    term: Option<i32>,
    is_leading: bool,
    /// When the rate permits the next write.
    rate_permits: Duration,
    rules: HashMap<Name, Known>,
    teams: HashMap<RuleId, Team>,
    lists: Lists,
    /// The Secret names that copies have, and how each is watched.
    names: HashMap<String, Watched>,
    /// The Secrets in the release namespace that rules read.
    sources: HashMap<String, Source>,
    watches: JoinSet<()>,
    /// Writes of copies under way.
    writes: JoinSet<Done>,
    /// What else is under way: questions, statuses, events. Whoever leads next does it anew.
    asides: JoinSet<Done>,
    /// Rules whose status is being written.
    telling: HashSet<RuleId>,
    /// Places of which a Pod has been told that there is no copy, with that Pod's uid.
    told: BTreeMap<Place, Box<str>>,
    /// Whether a status may have changed, and when to look.
    is_stirred: bool,
    look_at: Duration,
    /// Rules whose status was not written, and when to try again.
    untold: HashMap<RuleId, Pace>,
    out: mpsc::Sender<Seen>,
}

/// What a watch has seen.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once, and most of them are Pods")]
enum Seen {
    Rule(Change<ClusterRule>),
    Team(Change<TeamRule>),
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
    Permitted(Vec<String>),
    May { secret: String, is_source: bool, answer: Option<bool> },
    Fetched { rule: Name, version: Version, asked: Timestamp, answer: Result<Fetched, SourceState> },
    Told(Name, Box<(ClusterPullSecretStatus, kube::Result<ClusterRule>)>, Option<News>),
    ToldTeam(RuleId, Box<(PullSecretStatus, kube::Result<TeamRule>)>, Option<News>),
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
            term: None,
            is_leading: false,
            rate_permits: Duration::ZERO,
            rules: HashMap::new(),
            teams: HashMap::new(),
            lists: Lists::default(),
            names: HashMap::new(),
            sources: HashMap::new(),
            watches: JoinSet::new(),
            writes: JoinSet::new(),
            asides: JoinSet::new(),
            telling: HashSet::new(),
            told: BTreeMap::new(),
            is_stirred: true,
            look_at: Duration::ZERO,
            untold: HashMap::new(),
            out,
        };
        (controller, Inbox(seen))
    }

    /// Watches from now on, and writes while it has the lead, until `stop`; writes of copies under way are waited for, and nothing
    /// else: nobody provides until the lead is given back.
    pub async fn run(mut self, inbox: Inbox, mut lead: signal::Receiver<Lead>, stop: impl Future<Output = ()>) {
        let Inbox(mut seen) = inbox;
        let mut stop = std::pin::pin!(stop);
        self.watch_everything();
        self.ask_for_names();
        loop {
            self.setup.heartbeat.beat();
            self.follow(*lead.borrow_and_update());
            if self.is_leading && self.is_listed() {
                self.write_what_is_due();
                self.fetch_what_is_due();
                self.tell_what_has_changed();
            }
            self.ask_again();
            let pause = self.next_turn().saturating_sub(self.now());
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
                Some(done) = self.writes.join_next() => if self.is_broken_by(done) { return },
                Some(done) = self.asides.join_next() => if self.is_broken_by(done) { return },
                Some(ended) = self.watches.join_next() => if let Err(error) = ended && error.is_panic() {
                    return tracing::error!(%error, "a watch ended by a fault of ours");
                },
                changed = lead.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.watches.abort_all();
        let last = async { while self.writes.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WRITES, last).await.is_err() {
            tracing::warn!("writes under way did not end in time");
        }
    }

    /// Takes in what a task has done. After a fault of ours what it was about would stay undecided for ever: whoever starts us anew
    /// begins with all of it.
    fn is_broken_by(&mut self, done: Result<Done, JoinError>) -> bool {
        match done {
            Ok(done) => self.done(done),
            Err(error) => {
                tracing::error!(%error, "a task ended by a fault of ours");
                return true;
            }
        }
        false
    }

    /// Takes the lead, or goes without it.
    fn follow(&mut self, lead: Lead) {
        let was_leading = std::mem::replace(&mut self.is_leading, lead.holds());
        self.setup.series.leading.set(i64::from(self.is_leading));
        if !self.is_leading {
            self.ledger.rest();
            return;
        }
        let another = self.term.replace(lead.term()).is_some_and(|before| before != lead.term());
        if !was_leading {
            self.ledger.begin(another);
            if self.is_listed() {
                // What is refused is known once it has been tried.
                self.look_at = self.now() + NEW_LEAD;
            }
        }
        if another {
            let now = self.now();
            for (name, known) in &mut self.rules {
                if known.forget_fetched(now) {
                    self.ledger.set_material(name, None);
                }
            }
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
    fn next_turn(&self) -> Duration {
        let mut next = self.now() + BEAT;
        let watched = self.names.values().chain(self.sources.values().map(|source| &source.watched));
        next = watched.filter_map(Watched::ask_at).min().map_or(next, |due| next.min(due));
        if self.is_leading && self.is_listed() {
            if self.writes.len() < CONCURRENT {
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

    /// Asks once which names there may be copies of. A rule may have been given another Secret name while no controller ran: nothing
    /// else tells where its copies of before are.
    fn ask_for_names(&mut self) {
        let client = self.setup.client.clone();
        self.asides.spawn(async move {
            loop {
                match copies::permitted_names(&client).await {
                    Ok(names) => return Done::Permitted(names),
                    Err(error) => tracing::debug!(%error, "the permitted names cannot be asked for"),
                }
                tokio::time::sleep(BEAT).await;
            }
        });
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

    /// Watches the Secrets that the rules name, those of which copies are left, and, until that is known, those of which some may be.
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
        let are_rules_known = self.lists.rules.is_complete;
        let ledger = &mut self.ledger;
        self.names.retain(|name, watched| {
            // What a rule was renamed away from is watched until the last copy is gone.
            let is_unknown = !are_rules_known || (matches!(watched, Watched::By(_)) && !ledger.is_complete(name));
            let stays = names.contains(name) || ledger.holds_copies(name) || is_unknown;
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
}
