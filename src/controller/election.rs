//! Who leads, by a Lease. Losing the lead late does no harm, since every write carries the state it was computed from; the
//! Lease keeps two leaders from doing the same work twice.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::sync::watch;

use crate::cluster::LEASE;
use crate::process::logs::Seldom;

/// Until when this process leads, by its own clock. A process that was paused for longer does not lead when it wakes, before
/// anybody has told it so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    until: Option<Instant>,
    term: i32,
}

impl Lead {
    /// The lead until then. `term`: how often the Lease has changed hands.
    pub fn until(until: Instant, term: i32) -> Self {
        Self { until: Some(until), term }
    }

    /// Whether this process leads now.
    pub fn holds(self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// While it stays the same, nobody else has led.
    pub fn term(self) -> i32 {
        self.term
    }
}

/// One candidate for the lead.
#[derive(Debug)]
pub struct Election {
    /// The Leases of the release namespace.
    pub leases: Api<Lease>,
    /// Who this candidate is; different for each process.
    pub identity: String,
    /// How long a leader that does not renew is still the leader.
    pub duration: Duration,
}

/// What a candidate has seen of the Lease.
struct Seen {
    lease: Option<Lease>,
    /// When it last changed, by our own clock: clocks of others do not count.
    since: Instant,
}

impl Election {
    /// Says through `lead` until when this process leads, until `stop`; then gives the lead back, so that another has it at
    /// once.
    pub async fn run(self, lead: watch::Sender<Lead>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = watch_object(self.leases.clone(), LEASE).default_backoff().boxed();
        let mut seen = Seen { lease: None, since: Instant::now() };
        let mut is_known = false;
        let mut renewed = Instant::now();
        let every = self.duration / 4;
        let mut ticks = tokio::time::interval(every.min(Duration::from_secs(1)));
        loop {
            let is_stop = tokio::select! {
                () = &mut stop => true,
                change = changes.next() => {
                    match change {
                        Some(Ok(lease)) => {
                            is_known = true;
                            if seen.lease != lease {
                                seen = Seen { lease, since: Instant::now() };
                            }
                        }
                        // Who has never seen it does not lead, and nothing else would say why.
                        Some(Err(error)) => cannot("the Lease cannot be watched", &error.to_string()),
                        None => {}
                    }
                    false
                }
                _ = ticks.tick() => false,
            };
            if is_stop {
                break;
            }
            let is_leading = lead.borrow().holds();
            if !is_leading && *lead.borrow() != Lead::default() {
                tracing::warn!("the lead could not be renewed in time and is given up");
                lead.send_replace(Lead::default());
            }
            let is_due = if is_leading { renewed.elapsed() >= every } else { is_known && self.is_free(&seen) };
            if !is_due {
                continue;
            }
            // The time of the attempt counts, not that of the answer.
            let begun = Instant::now();
            let attempt = tokio::time::timeout(self.duration / 2, self.hold(seen.lease.as_ref(), true));
            match attempt.await {
                Ok(Ok(lease)) => {
                    renewed = begun;
                    let term = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
                    seen = Seen { lease: Some(lease), since: Instant::now() };
                    if !is_leading {
                        tracing::info!(identity = self.identity, "leading");
                    }
                    lead.send_replace(Lead::until(begun + self.duration * 3 / 4, term));
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    // Somebody else wrote it: look, and if it is another leader, follow.
                    let look = tokio::time::timeout(self.duration / 4, self.leases.get_opt(LEASE));
                    if let Ok(Ok(lease)) = look.await {
                        if is_leading && holder(lease.as_ref()) != Some(&self.identity) {
                            tracing::warn!("another leads");
                            lead.send_replace(Lead::default());
                        }
                        seen = Seen { lease, since: Instant::now() };
                    }
                }
                Ok(Err(error)) => cannot(WRITE, &error.to_string()),
                Err(_) => cannot(WRITE, "the API server does not answer in time"),
            }
        }
        if lead.send_replace(Lead::default()).holds() {
            let released = tokio::time::timeout(self.duration / 2, self.hold(seen.lease.as_ref(), false)).await;
            match released {
                Ok(Ok(_)) => tracing::info!("the lead is released"),
                Ok(Err(error)) => tracing::warn!(%error, "the lead is not released; another takes it when it runs out"),
                Err(_) => tracing::warn!("the lead is not released in time; another takes it when it runs out"),
            }
        }
    }

    /// Whether nobody holds the Lease, or its holder has been silent for as long as it promised not to be.
    fn is_free(&self, seen: &Seen) -> bool {
        match holder(seen.lease.as_ref()) {
            // Ours, from before we gave up or were restarted.
            None => true,
            Some(other) if other == self.identity => true,
            Some(_) => {
                let spec = seen.lease.as_ref().and_then(|lease| lease.spec.as_ref());
                let promised = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
                seen.since.elapsed() >= promised.map_or(self.duration, Duration::from_secs)
            }
        }
    }

    /// Writes the Lease, from the state that was seen: taken or renewed, or given back.
    async fn hold(&self, seen: Option<&Lease>, is_held: bool) -> kube::Result<Lease> {
        let now = MicroTime(Timestamp::now());
        let before = seen.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = before.lease_transitions.unwrap_or_default();
        // Rounded up, as the Lease holds whole seconds.
        let seconds = i32::try_from(self.duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let spec = LeaseSpec {
            holder_identity: Some(if is_held { self.identity.clone() } else { String::new() }),
            lease_duration_seconds: Some(if is_held { seconds } else { 1 }),
            acquire_time: if is_ours { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if is_ours { transitions } else { transitions.saturating_add(1) }),
            ..before
        };
        let parameters = PostParams::default();
        if let Some(lease) = seen {
            let lease = Lease { metadata: lease.metadata.clone(), spec: Some(spec) };
            return self.leases.replace(LEASE, &parameters, &lease).await;
        }
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
        self.leases.create(&parameters, &Lease { metadata, spec: Some(spec) }).await
    }
}

fn holder(lease: Option<&Lease>) -> Option<&str> {
    let holder = lease?.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

const WRITE: &str = "the Lease cannot be written";

fn cannot(what: &str, error: &str) {
    static CANNOT: Seldom = Seldom::at_most(1);
    if let Some(unsaid) = CANNOT.now() {
        tracing::warn!(error, unsaid, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_lease_that_may_not_be_watched_is_told() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let refuse = async |_: Request<Body>| {
            let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "cannot list leases"});
            Ok::<_, io::Error>(
                Response::builder().status(403).body(Body::from(status.to_string().into_bytes())).unwrap(),
            )
        };
        let leases = Api::namespaced(Client::new(tower::service_fn(refuse), "pullcred"), "pullcred");
        let election = Election { leases, identity: "one".to_owned(), duration: Duration::from_secs(10) };
        let is_told = async {
            loop {
                let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
                if said.contains("the Lease cannot be watched") && said.contains("cannot list leases") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (lead, leading) = watch::channel(Lead::default());
        tokio::time::timeout(Duration::from_secs(20), election.run(lead, is_told)).await.unwrap();
        assert_eq!(*leading.borrow(), Lead::default());
    }
}
