//! Under a steady load from a client that behaves as the API server does, no call is lost by what happens in the life of a
//! webhook: rules and certificates that change every second, replicas that are rolled.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use pullcred::pki::{Leaf, make_development};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ALONE;
use crate::support::api_server::ApiServer;
use crate::support::client::trust;
use crate::support::pods::{pod, review, rule};
use crate::support::program::Webhook;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(20);

const CALLS_PER_SECOND: u32 = 500;

/// What a Deployment of webhooks shares: the certificate that is mounted into each.
struct Mounted {
    directory: tempfile::TempDir,
    /// Pairs that take turns, all of whose authorities are in the `caBundle`.
    pairs: Vec<Leaf>,
}

impl Mounted {
    fn new() -> Self {
        let pairs = (0..3).map(|_| make_development(Timestamp::now()).unwrap()).collect();
        let mounted = Self { directory: tempfile::tempdir().unwrap(), pairs };
        mounted.show(0);
        mounted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Swaps in the next pair, in two steps that are not one: certificate, then key.
    fn show(&self, turn: usize) {
        let pair = &self.pairs[turn % self.pairs.len()];
        replace(&self.path("tls.crt"), &pair.tls_crt);
        replace(&self.path("tls.key"), &pair.tls_key);
    }

    async fn replica(&self, rules: &str) -> Webhook {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        let arguments = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let more = ["--shutdown-delay", "2s", "--log-level", "info"];
        Webhook::start(rules, &[arguments, more].concat()).await
    }

    fn api_server(&self) -> Arc<ApiServer> {
        let bundle: String = self.pairs.iter().map(|pair| pair.ca_crt.as_str()).collect();
        ApiServer::new(trust(bundle.as_bytes(), &["http/1.1"]), Duration::from_secs(10))
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// What became of a load.
#[derive(Debug)]
pub struct Calls {
    made: usize,
    /// Those that are lost: when they began, and what became of them.
    lost: Vec<(Instant, String)>,
}

/// A steady load, until it is told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Calls>,
}

impl Load {
    pub fn start(api_server: &Arc<ApiServer>) -> Self {
        let body = Bytes::from(serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (api_server, stopped) = (Arc::clone(api_server), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / CALLS_PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = JoinSet::new();
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (api_server, body) = (Arc::clone(&api_server), body.clone());
                calls.spawn(async move {
                    let began = Instant::now();
                    match api_server.call(body).await.map(|answer| answer.json()["response"].take()) {
                        Ok(response) if response["patch"].is_string() => None,
                        Ok(response) => Some((began, format!("not injected: {response}"))),
                        Err(why) => Some((began, why)),
                    }
                });
            }
            let results = calls.join_all().await;
            Calls { made: results.len(), lost: results.into_iter().flatten().collect() }
        });
        Self { stop, task }
    }

    pub async fn end(self) -> Calls {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

impl Calls {
    pub fn none_is_lost(&self) {
        eprintln!("{} calls, {} lost", self.made, self.lost.len());
        assert!(self.lost.is_empty(), "{self:?}");
        assert!(self.made > 2000, "{} calls are no load", self.made);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_certificates_that_change_every_second_lose_none() {
    let _alone = ALONE.lock().await;
    let mounted = Mounted::new();
    let webhook = mounted.replica(&rule("secret", &["r.io"])).await;
    let api_server = mounted.api_server();
    api_server.hears_of(&[webhook.port]);
    let load = Load::start(&api_server);
    let taken_up = || {
        let log = webhook.log();
        (log.matches("rules are in force").count(), log.matches("serving the new one").count())
    };
    for turn in 1..8 {
        let before = taken_up();
        mounted.show(turn);
        replace(&webhook.rules(), &rule(&format!("secret-{turn}"), &["r.io"]));
        sleep(Duration::from_secs(1)).await;
        wait_for("both to be taken up", SOON, async || {
            let now = taken_up();
            (now.0 > before.0 && now.1 > before.1).then_some(())
        })
        .await;
    }
    load.end().await.none_is_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_rolled_one_by_one_lose_none_while_rules_and_certificates_change() {
    let _alone = ALONE.lock().await;
    let mounted = Mounted::new();
    let rules = rule("secret", &["r.io"]);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(mounted.replica(&rules).await);
    }
    let ports = |replicas: &[Webhook]| replicas.iter().map(|replica| replica.port).collect::<Vec<_>>();
    let api_server = mounted.api_server();
    api_server.hears_of(&ports(&replicas));
    let load = Load::start(&api_server);
    for turn in 1..4 {
        mounted.show(turn);
        for replica in &replicas {
            replace(&replica.rules(), &rule(&format!("secret-{turn}"), &["r.io"]));
        }
        replicas.push(mounted.replica(&rules).await);
        let mut old = replicas.remove(0);
        old.signal("TERM");
        // Every API server hears of it some time later, and dials until then.
        sleep(Duration::from_millis(500)).await;
        api_server.hears_of(&ports(&replicas));
        assert_eq!(old.ended(SOON).await.code(), Some(0));
    }
    load.end().await.none_is_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_loses_no_more_than_what_was_in_flight_on_it() {
    let _alone = ALONE.lock().await;
    let mounted = Mounted::new();
    let rules = rule("secret", &["r.io"]);
    let mut killed = mounted.replica(&rules).await;
    let others = [mounted.replica(&rules).await, mounted.replica(&rules).await];
    let others: Vec<u16> = others.iter().map(|replica| replica.port).collect();
    let api_server = mounted.api_server();
    api_server.hears_of(&[&[killed.port], &others[..]].concat());
    let load = Load::start(&api_server);
    sleep(Duration::from_secs(1)).await;
    // It is no endpoint any more, but connections to it are in the pool.
    api_server.hears_of(&others);
    killed.signal("KILL");
    killed.ended(SOON).await;
    let gone = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let calls = load.end().await;
    eprintln!("{} calls, {} lost with the replica", calls.made, calls.lost.len());
    assert!(calls.lost.len() <= 25, "{calls:?}");
    for (began, why) in &calls.lost {
        // It was written, or on its way to be.
        let is_in_flight = ["lost: ", "dial: "].iter().any(|how| why.starts_with(how));
        assert!(*began < gone && is_in_flight, "it was not in flight on the replica: {why}");
    }
}
