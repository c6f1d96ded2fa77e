//! How the rules in force, and what is known of namespaces, follow the Kubernetes API.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{Debug, Write};
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Config;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::follow::{Following, SAID};
use super::namespaces::Namespaces;
use super::snapshot::Snapshot;
use crate::cluster::objects::Namespace;
use crate::cluster::{Change, Cluster, Listing, Trouble, Unknown, WhenDenied, watch};
use crate::process::accept::Heartbeat;
use crate::process::readiness::State;
use crate::process::tasks::Tasks;
use crate::rules::{ClusterPullSecret, Problem, PullSecret, Rule, RuleId, RuleKind};

/// How often it is looked how old everything is.
const LOOK: Duration = Duration::from_secs(1);

/// A watch that is well is heard of each minute.
const SILENT: Duration = Duration::from_secs(90);

/// What one of the watches sees.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once, and rules are few")]
enum Seen {
    Cluster(Change<DeserializeGuard<ClusterPullSecret>>),
    Team(Change<DeserializeGuard<PullSecret>>),
    Namespace(Change<Namespace>),
}

/// One of the watches: what it is of, and how it does.
#[derive(Debug)]
struct Source {
    resources: &'static str,
    heard: Heartbeat,
    trouble: Option<(Instant, Trouble)>,
}

impl Source {
    /// Begins to watch all objects of one kind, by a client of its own.
    fn start<K>(
        resources: &'static str,
        cluster: &Cluster,
        tasks: &mut Tasks,
        out: mpsc::Sender<Seen>,
        wrap: impl Fn(Change<K>) -> Seen + Send + 'static,
    ) -> Result<Self, Unknown>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let (client, heard) = cluster.client()?;
        let watching = watch(Api::all(client), Config::default(), WhenDenied::TryAgain, out, wrap);
        tasks.run_until_asked(resources, watching);
        Ok(Self { resources, heard, trouble: None })
    }

    /// What is wrong with it now. Hearing anything good ends a trouble.
    fn wrong(&self) -> Option<String> {
        let silent = self.heard.silent_for();
        let trouble = self.trouble.as_ref().filter(|(at, _)| at.elapsed() < silent);
        match trouble {
            Some((_, trouble)) => Some(format!("{} {trouble}", self.resources)),
            None if silent > SILENT => Some(format!("nothing is heard of {}", self.resources)),
            None => None,
        }
    }
}

/// An object as it was last seen.
struct Known {
    /// Its uid and generation: while both stay, nothing has changed but its status.
    version: (Option<String>, Option<i64>),
    /// The rule or, when it is none, why.
    rule: Result<Rule, String>,
}

/// Rules and namespaces as the API has them, and what is in force of them.
pub struct FollowingApi {
    following: Following,
    inbox: mpsc::Receiver<Seen>,
    rules: BTreeMap<RuleId, Known>,
    namespaces: Namespaces,
    cluster_rules: Listing<RuleId>,
    team_rules: Listing<RuleId>,
    namespace_names: Listing<String>,
    sources: [Source; 3],
    rules_changed: bool,
    namespaces_changed: bool,
}

impl FollowingApi {
    /// Begins to watch, in tasks of its own.
    ///
    /// # Errors
    /// The cluster cannot be called.
    pub fn start(following: Following, cluster: &Cluster, tasks: &mut Tasks) -> Result<Self, Unknown> {
        let (out, inbox) = mpsc::channel(1024);
        let sources = [
            Source::start("clusterpullsecrets", cluster, tasks, out.clone(), Seen::Cluster)?,
            Source::start("pullsecrets", cluster, tasks, out.clone(), Seen::Team)?,
            Source::start("namespaces", cluster, tasks, out, Seen::Namespace)?,
        ];
        Ok(Self {
            following,
            inbox,
            rules: BTreeMap::new(),
            namespaces: Namespaces::default(),
            cluster_rules: Listing::default(),
            team_rules: Listing::default(),
            namespace_names: Listing::default(),
            sources,
            rules_changed: true,
            namespaces_changed: true,
        })
    }

    /// Follows what the watches see. What comes at once is put in force at once.
    pub async fn follow(mut self) -> Infallible {
        let mut looks = interval(LOOK);
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                // The watches end with the process.
                1.. = self.inbox.recv_many(&mut seen, 1024) => {}
                _ = looks.tick() => {}
            }
            seen.drain(..).for_each(|seen| self.take(seen));
            self.put_in_force();
            self.tell();
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Cluster(change) => {
                let rule = |document: &ClusterPullSecret| Rule::from_cluster_pull_secret(document);
                self.take_rule(RuleKind::ClusterPullSecret, change, rule);
            }
            Seen::Team(change) => self.take_rule(RuleKind::PullSecret, change, Rule::from_pull_secret),
            Seen::Namespace(change) => self.take_namespace(change),
        }
    }

    fn take_rule<K: Resource<DynamicType = ()>>(
        &mut self,
        kind: RuleKind,
        change: Change<DeserializeGuard<K>>,
        rule: impl Fn(&K) -> Result<Rule, Vec<Problem>>,
    ) {
        let id = |object: &DeserializeGuard<K>| RuleId { kind, namespace: object.namespace(), name: object.name_any() };
        let (listing, source) = match kind {
            RuleKind::ClusterPullSecret => (&mut self.cluster_rules, &mut self.sources[0]),
            RuleKind::PullSecret => (&mut self.team_rules, &mut self.sources[1]),
        };
        match change {
            Change::ListBegins => listing.begins(),
            Change::Put(object) => {
                let id = id(&object);
                listing.names(|| id.clone());
                let version = (object.uid(), object.meta().generation);
                if self.rules.get(&id).is_some_and(|known| known.version == version && version.1.is_some()) {
                    return;
                }
                let rule = match &object.0 {
                    Ok(document) => rule(document)
                        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
                    Err(wrong) => Err(format!("it cannot be read ({}); it may be of a newer version", wrong.error)),
                };
                self.put_rule(id, Known { version, rule });
            }
            Change::Gone(object) => self.rules_changed |= self.rules.remove(&id(&object)).is_some(),
            Change::ListEnds => {
                let named = listing.ends();
                let before = self.rules.len();
                self.rules.retain(|id, _| id.kind != kind || named.contains(id));
                self.rules_changed |= before != self.rules.len();
            }
            Change::Trouble(trouble) => source.trouble = Some((Instant::now(), trouble)),
        }
    }

    fn put_rule(&mut self, id: RuleId, known: Known) {
        if let Err(wrong) = &known.rule {
            tracing::error!("{id} is skipped, and no other rule: {wrong}");
            self.following.series.rule_rejections.inc();
        }
        self.rules.insert(id, known);
        self.rules_changed = true;
    }

    fn take_namespace(&mut self, change: Change<Namespace>) {
        match change {
            Change::ListBegins => return self.namespace_names.begins(),
            Change::Put(namespace) => {
                let name = namespace.name_any();
                self.namespaces.put(&name, namespace.into_labels());
                self.namespace_names.names(|| name);
            }
            Change::Gone(namespace) => self.namespaces.remove(&namespace.name_any()),
            Change::ListEnds => {
                let named = self.namespace_names.ends();
                self.namespaces.retain(|name| named.contains(name));
            }
            Change::Trouble(trouble) => {
                self.sources[2].trouble = Some((Instant::now(), trouble));
                return;
            }
        }
        self.namespaces_changed = true;
    }

    fn is_complete(&self) -> bool {
        self.cluster_rules.is_complete && self.team_rules.is_complete && self.namespace_names.is_complete
    }

    fn put_in_force(&mut self) {
        if !self.is_complete() || !(self.rules_changed || self.namespaces_changed) {
            return;
        }
        let before = self.following.rules.now();
        let snapshot = if self.rules_changed {
            let rules = self.rules.values().filter_map(|known| known.rule.as_ref().ok()).cloned().collect();
            let snapshot = Snapshot::new(rules, self.namespaces.clone(), &before);
            let (count, skipped) = (snapshot.rules.rules().len(), self.rules.len() - snapshot.rules.rules().len());
            self.following.count(count, skipped);
            tracing::info!(rules = count, skipped, "rules are in force");
            snapshot
        } else {
            before.with_namespaces(self.namespaces.clone())
        };
        drop(before);
        self.following.rules.replace(snapshot);
        (self.rules_changed, self.namespaces_changed) = (false, false);
    }

    /// Says how it stands.
    fn tell(&self) {
        let silence = self.sources.iter().map(|source| source.heard.silent_for()).max().unwrap_or_default();
        self.following.series.rules_silence.set(i64::try_from(silence.as_secs()).unwrap_or(i64::MAX));
        let wrong: Vec<String> = self.sources.iter().filter_map(Source::wrong).collect();
        let condition = &self.following.condition;
        if !self.is_complete() {
            let wrong = if wrong.is_empty() { String::new() } else { format!(": {}", wrong.join("; ")) };
            return condition.missing(format!("rules and namespaces are not listed yet{wrong}"));
        }
        let count = self.rules.values().filter(|known| known.rule.is_ok()).count();
        let mut text = format!("{count} in force, and {} namespaces known", self.namespaces.len());
        if !wrong.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, ", as they were {} s ago: {}", silence.as_secs(), wrong.join("; "));
        }
        let wrong_of = |(id, known): (&RuleId, &Known)| Some(format!("\n      {id}: {}", known.rule.as_ref().err()?));
        let skipped: Vec<String> = self.rules.iter().filter_map(wrong_of).collect();
        if !skipped.is_empty() {
            let _ = write!(text, "; {} skipped", skipped.len());
            text.extend(skipped.iter().take(SAID).map(String::as_str));
        }
        let is_well = wrong.is_empty() && skipped.is_empty();
        condition.set(if is_well { State::Met(text) } else { State::Warned(text) });
    }
}
