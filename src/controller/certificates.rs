//! Looks after the authority, the leaf and the `caBundle`: what is there is read, `pki::rotation` says which one write is due, and
//! that is made against exactly the versions that were read. Watches only say when to look, and how long a bundle has been live.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as signal};
use tokio::task::JoinSet;

use super::copies::MANAGER;
use super::election::Lead;
use super::objects::MANAGED_BY;
use super::series::{CertificateSeries, Put};
use crate::cluster::configuration::{ENTRY, bundle};
use crate::cluster::objects::{meta, narrow};
use crate::cluster::{Change, WhenDenied, named, watch};
use crate::pki::rotation::{Content, Decision, Observed, Phase, Policy, Seen, Step, next};
use crate::process::logs::Seldom;
use crate::process::readiness::{Condition, State};
use crate::provision::retry_after;

/// The type of both Secrets.
const TLS: &str = "kubernetes.io/tls";

/// An API server that takes longer over one of these small requests is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// At most so many writes in such a time: whoever else writes there again and again meets a writer that does not hurry.
const WRITES: usize = 30;
const WINDOW: Duration = Duration::from_secs(20);

/// How long to wait after something that a person has to mend, and after what may pass by itself.
const REFUSED: Duration = Duration::from_secs(15);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);

/// Who looks after the certificates.
#[allow(missing_debug_implementations, reason = "kube's client has none")]
pub struct Certificates {
    /// The Kubernetes API.
    pub client: Client,
    /// Where the Secrets are.
    pub release_namespace: String,
    /// The Secret that the webhook serves.
    pub tls_secret: String,
    /// The Secret of the authorities, which nobody else reads.
    pub ca_secret: String,
    /// The webhook configuration.
    pub configuration: String,
    /// How long everything lives, and for which names.
    pub policy: Policy,
    /// The wall clock.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// What is counted.
    pub series: CertificateSeries,
    /// How it stands.
    pub condition: Condition,
}

/// A Secret of which nobody needs to know more than that it has changed.
#[derive(Clone, Debug, Deserialize)]
struct Mark {
    #[serde(deserialize_with = "meta")]
    metadata: ObjectMeta,
}

narrow!(Mark, "Secret", "secrets", NamespaceResourceScope);

#[allow(clippy::large_enum_variant, reason = "it is moved once, and events are few")]
enum Event {
    Secret,
    Configuration(Change<MutatingWebhookConfiguration>),
}

/// What the watch of the configuration is in the middle of.
#[derive(Default)]
struct Listing {
    is_on: bool,
    found: Option<MutatingWebhookConfiguration>,
}

/// What came of a look.
enum Outcome {
    /// Something was written, or somebody else was faster: look again.
    Again,
    /// Nothing is due for so long.
    Rest(Duration),
    /// It failed, for this reason, which a person has to mend or which may pass.
    Refused(String),
    Failed(String),
}

impl Certificates {
    /// Looks after the certificates while it has the lead, until `stop`. One that does not lead watches, so that it knows how long
    /// everything has been in place when it takes over.
    pub async fn run(self, mut lead: signal::Receiver<Lead>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let (out, mut events) = mpsc::channel(64);
        let _watches = self.watch_everything(&out);
        let started = Instant::now();
        let (mut seen, mut listing) = (Seen::default(), Listing::default());
        let mut writes = VecDeque::new();
        let mut failures = 0;
        // Since the start: when to look although nothing was seen, and before when not to look whatever is seen.
        let (mut look_at, mut not_before) = (Duration::ZERO, Duration::ZERO);
        let mut is_leading = false;
        loop {
            // A lead that is only renewed is nothing to look at.
            let changed = async { lead.wait_for(|lead| lead.holds() != is_leading).await.map(drop) };
            tokio::select! {
                () = &mut stop => return,
                Some(event) = events.recv() => {
                    see(&mut seen, &mut listing, event, started.elapsed());
                    while let Ok(event) = events.try_recv() {
                        see(&mut seen, &mut listing, event, started.elapsed());
                    }
                    look_at = look_at.min(not_before);
                }
                changed = changed => {
                    if changed.is_err() {
                        return;
                    }
                    look_at = look_at.min(not_before);
                }
                () = tokio::time::sleep(look_at.saturating_sub(started.elapsed())) => {}
            }
            is_leading = lead.borrow_and_update().holds();
            if started.elapsed() < look_at {
                continue;
            }
            let outcome = tokio::select! {
                () = &mut stop => return,
                outcome = self.look(&mut seen, started, is_leading) => outcome,
            };
            self.series.failing.set(i64::from(matches!(outcome, Outcome::Refused(_) | Outcome::Failed(_))));
            failures = if let Outcome::Refused(_) | Outcome::Failed(_) = outcome { failures + 1 } else { 0 };
            let now = started.elapsed();
            not_before = match &outcome {
                Outcome::Again => now + may_write_again(&mut writes, now),
                Outcome::Rest(_) => now,
                // It is not the next event that mends it.
                Outcome::Refused(_) => now + REFUSED,
                Outcome::Failed(_) => now + retry_after(FIRST, failures, LONGEST),
            };
            look_at = if let Outcome::Rest(pause) = outcome { now.saturating_add(pause) } else { not_before };
            if let Outcome::Refused(why) | Outcome::Failed(why) = outcome {
                self.say(&why);
            }
        }
    }

    fn watch_everything(&self, out: &mpsc::Sender<Event>) -> JoinSet<()> {
        let mut watches = JoinSet::new();
        for name in [&self.tls_secret, &self.ca_secret] {
            let secrets: Api<Mark> = Api::namespaced(self.client.clone(), &self.release_namespace);
            watches.spawn(watch(secrets, named(name), WhenDenied::TryAgain, out.clone(), |_| Event::Secret));
        }
        let configurations = Api::all(self.client.clone());
        let only = named(&self.configuration);
        watches.spawn(watch(configurations, only, WhenDenied::TryAgain, out.clone(), Event::Configuration));
        watches
    }

    /// Reads what is there, and makes the write that is due.
    async fn look(&self, seen: &mut Seen, started: Instant, is_leading: bool) -> Outcome {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.release_namespace);
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        // In this order: see `Observed`.
        let read = async {
            let serving = secrets.get_opt(&self.tls_secret).await?;
            let configuration = configurations.get_opt(&self.configuration).await?;
            let authorities = secrets.get_opt(&self.ca_secret).await?;
            Ok((serving, configuration, authorities))
        };
        let (serving, configuration, authorities) = match in_time(read).await {
            Ok(read) => read,
            Err(error) => return of_error("what is there cannot be read", error),
        };
        for (secret, name) in [(&serving, &self.tls_secret), (&authorities, &self.ca_secret)] {
            if let Some(type_) =
                secret.as_ref().and_then(|secret| secret.type_.as_deref()).filter(|type_| *type_ != TLS)
            {
                let place = format!("{}/{name}", self.release_namespace);
                return Outcome::Refused(format!("Secret {place} has the type {type_}, and not {TLS}: delete it"));
            }
        }
        let (served, held) = (serving.as_ref().map(content), authorities.as_ref().map(content));
        seen.served(served.as_ref(), started.elapsed());
        let version =
            configuration.as_ref().and_then(|configuration| configuration.metadata.resource_version.as_deref());
        let observed = Observed {
            serving: served.as_ref(),
            live: version.zip(configuration.as_ref().and_then(bundle)),
            authorities: held.as_ref(),
            seen,
            uptime: started.elapsed(),
        };
        let decision = match next(&self.policy, &observed, (self.clock)()) {
            Ok(decision) => decision,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        self.tell(&decision, configuration.as_ref());
        if let Step::Wait(pause) = decision.step {
            return Outcome::Rest(pause);
        }
        if !is_leading {
            return Outcome::Rest(Duration::from_secs(60));
        }
        let written = in_time(async {
            match &decision.step {
                Step::PutAuthorities(content, why) => {
                    put(&secrets, &self.ca_secret, authorities.as_ref(), content).await?;
                    Ok((Put::Authorities, *why))
                }
                Step::PutServing(content, why) => {
                    put(&secrets, &self.tls_secret, serving.as_ref(), content).await?;
                    Ok((Put::Leaf, *why))
                }
                Step::Announce(pem) => {
                    self.announce(&configurations, configuration.as_ref(), pem).await?;
                    Ok((Put::CaBundle, "it was not what it should be"))
                }
                Step::Wait(_) => Ok((Put::Leaf, "nothing")),
            }
        });
        match written.await {
            Ok((what, why)) => {
                self.series.writes.of(what).inc();
                match what {
                    Put::Authorities => tracing::info!(why, secret = self.ca_secret, "authorities are written"),
                    Put::Leaf => tracing::info!(why, secret = self.tls_secret, "a new leaf is there to be served"),
                    Put::CaBundle => tracing::info!(why, configuration = self.configuration, "caBundle is written"),
                }
                Outcome::Again
            }
            // Somebody else was faster, or it is not there any more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Outcome::Again,
            Err(error) => of_error("what is due cannot be written", error),
        }
    }

    async fn announce(
        &self,
        configurations: &Api<MutatingWebhookConfiguration>,
        seen: Option<&MutatingWebhookConfiguration>,
        pem: &str,
    ) -> kube::Result<()> {
        let metadata = seen.map(|seen| &seen.metadata);
        let body = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {
                "name": self.configuration,
                "uid": metadata.and_then(|metadata| metadata.uid.as_deref()),
                "resourceVersion": metadata.and_then(|metadata| metadata.resource_version.as_deref()),
            },
            "webhooks": [{"name": ENTRY, "clientConfig": {"caBundle": ByteString(pem.as_bytes().to_vec())}}],
        });
        let parameters = PatchParams::apply(MANAGER).force();
        configurations.patch(&self.configuration, &parameters, &Patch::Apply(body)).await.map(drop)
    }

    /// Says how everything stands.
    fn tell(&self, decision: &Decision, configuration: Option<&MutatingWebhookConfiguration>) {
        let Decision { phase, authority_ends, leaf_ends, .. } = decision;
        self.series.authority_ends.set(authority_ends.map_or(0, Timestamp::as_second));
        self.series.leaf_ends.set(leaf_ends.map_or(0, Timestamp::as_second));
        self.series.phase.set(match phase {
            Phase::Nothing => 0,
            Phase::Settled => 1,
            Phase::Announced => 2,
            Phase::Switched => 3,
        });
        let until =
            |ends: &Option<Timestamp>| ends.map_or_else(|| "there is none".to_owned(), |ends| format!("until {ends}"));
        let phase = match phase {
            Phase::Nothing | Phase::Settled => "",
            Phase::Announced => "; a new authority is being announced",
            Phase::Switched => "; the authority before is still trusted",
        };
        let text = format!("leaf {}, authority {}{phase}", until(leaf_ends), until(authority_ends));
        let name = &self.configuration;
        self.condition.set(match configuration {
            None => State::Met(format!("{text}; there is no webhook configuration {name}")),
            Some(configuration) if bundle(configuration).is_none() => State::Warned(format!(
                "{text}; webhook configuration {name} has no entry {ENTRY}: install it by the chart"
            )),
            Some(_) => State::Met(text),
        });
    }

    fn say(&self, why: &str) {
        static SAID: Seldom = Seldom::at_most(2);
        if let Some(unsaid) = SAID.now() {
            tracing::error!(unsaid, "certificates cannot be looked after: {why}");
        }
        self.condition.set(State::Warned(format!("cannot be looked after: {why}")));
    }
}

fn see(seen: &mut Seen, listing: &mut Listing, event: Event, at: Duration) {
    let live = |configuration: &MutatingWebhookConfiguration| {
        let version = configuration.metadata.resource_version.clone();
        version.zip(bundle(configuration).map(<[u8]>::to_vec))
    };
    let mut look = |configuration: Option<&MutatingWebhookConfiguration>, is_next| {
        let live = configuration.and_then(live);
        seen.configuration(live.as_ref().map(|(version, bundle)| (version.as_str(), bundle.as_slice())), is_next, at);
    };
    match event {
        Event::Secret | Event::Configuration(Change::Trouble(_)) => {}
        Event::Configuration(Change::ListBegins) => *listing = Listing { is_on: true, found: None },
        Event::Configuration(Change::Put(found)) if listing.is_on => listing.found = Some(found),
        Event::Configuration(Change::Put(found)) => look(Some(&found), true),
        Event::Configuration(Change::Gone(_)) => look(None, true),
        Event::Configuration(Change::ListEnds) => {
            listing.is_on = false;
            look(listing.found.take().as_ref(), false);
        }
    }
}

/// When the next write may be, after one at `now`.
fn may_write_again(writes: &mut VecDeque<Duration>, now: Duration) -> Duration {
    writes.push_back(now);
    if writes.len() <= WRITES {
        return Duration::ZERO;
    }
    let first = writes.pop_front().unwrap_or_default();
    (first + WINDOW).saturating_sub(now)
}

async fn in_time<T>(requests: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| Err(kube::Error::Service("the API server does not answer in time".into()));
    tokio::time::timeout(PATIENCE, requests).await.unwrap_or_else(late)
}

fn of_error(what: &str, error: kube::Error) -> Outcome {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422) => {
            Outcome::Refused(format!("{what}: {}", status.message))
        }
        error => Outcome::Failed(format!("{what}: {error}")),
    }
}

fn content(secret: &Secret) -> Content {
    let data = secret.data.iter().flatten();
    Content(data.map(|(key, ByteString(bytes))| (key.clone(), bytes.clone())).collect())
}

/// Writes a Secret in place of what was seen: one that is not there can only be made, one that is there can only be changed from the
/// version that was read.
async fn put(secrets: &Api<Secret>, name: &str, seen: Option<&Secret>, content: &Content) -> kube::Result<()> {
    let data = content.0.iter().map(|(key, bytes)| (key.clone(), ByteString(bytes.clone())));
    let Some(seen) = seen else {
        let labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
            type_: Some(TLS.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        };
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        return secrets.create(&parameters, &secret).await.map(drop);
    };
    // What is there and should not be is taken away.
    let mut whole: BTreeMap<String, Value> =
        seen.data.iter().flatten().map(|(key, _)| (key.clone(), Value::Null)).collect();
    whole.extend(data.map(|(key, bytes)| (key, json!(bytes))));
    let patch = json!({"metadata": {"uid": seen.uid(), "resourceVersion": seen.resource_version()}, "data": whole});
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    secrets.patch(name, &parameters, &Patch::Merge(patch)).await.map(drop)
}
