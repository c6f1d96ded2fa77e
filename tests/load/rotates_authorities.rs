//! Authorities that follow one another as fast as they can, under a steady load and while replicas are rolled: the Secrets are those
//! of a real API server, the controllers and webhooks real processes, and the callers trust what the `caBundle` said a moment ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::ALONE;
use super::loses_no_call::Load;
use crate::support::api_server::ApiServer;
use crate::support::client::trust;
use crate::support::program::Webhook;
use crate::support::trust::{CA_SECRET, Release};

const SOON: Duration = Duration::from_secs(20);

/// A leaf is renewed every 10 s, an authority replaced every 20 s, and API servers hear of a bundle half a second late.
const LIVES: [&str; 6] = ["--ca-lifetime", "30s", "--leaf-lifetime", "15s", "--soak", "3s"];
const LATE: Duration = Duration::from_millis(500);

const WEBHOOK: [&str; 4] = ["--shutdown-delay", "2s", "--log-level", "info"];

/// An API server that hears of each `caBundle` late.
struct Hearing {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Hearing {
    fn start(release: &Arc<Release>, api_server: &Arc<ApiServer>, first: Vec<u8>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (release, api_server, stopped) = (Arc::clone(release), Arc::clone(api_server), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut trusted = first;
            let mut changes = 0;
            while !stopped.load(Ordering::Relaxed) {
                let bundle = release.bundle().await;
                if bundle != trusted {
                    sleep(LATE).await;
                    api_server.trusts(trust(&bundle, &["http/1.1"]));
                    trusted = bundle;
                    changes += 1;
                }
                sleep(Duration::from_millis(50)).await;
            }
            changes
        });
        Self { stop, task }
    }

    /// How often the bundle has changed.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_that_follow_one_another_while_replicas_are_rolled_lose_none() {
    let _alone = ALONE.lock().await;
    let release = Arc::new(Release::install("trust-load").await);
    release.register("Fail").await;
    let mut controllers = vec![release.controller(&LIVES).await, release.controller(&LIVES).await];
    release.whole().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(release.webhook(&WEBHOOK).ready().await);
    }
    let ports = |replicas: &[Webhook]| replicas.iter().map(|replica| replica.port).collect::<Vec<_>>();
    let first = release.bundle().await;
    let api_server = ApiServer::new(trust(&first, &["http/1.1"]), Duration::from_secs(10));
    api_server.hears_of(&ports(&replicas));
    let hearing = Hearing::start(&release, &api_server, first);
    let load = Load::start(&api_server);

    let mut authorities = vec![release.held(CA_SECRET, "tls.crt").await];
    let began = Instant::now();
    let mut rolled = 0;
    while began.elapsed() < Duration::from_secs(85) {
        replicas.push(release.webhook(&WEBHOOK).ready().await);
        api_server.hears_of(&ports(&replicas));
        let mut old = replicas.remove(0);
        old.signal("TERM");
        sleep(Duration::from_millis(500)).await;
        api_server.hears_of(&ports(&replicas));
        assert_eq!(old.ended(SOON).await.code(), Some(0));
        rolled += 1;
        if rolled % 8 == 4 {
            // The leader goes away in the middle of it.
            controllers.push(release.controller(&LIVES).await);
            let mut old = controllers.remove(0);
            old.signal("TERM");
            assert_eq!(old.ended(SOON).await.code(), Some(0));
        }
        let authority = release.held(CA_SECRET, "tls.crt").await;
        if authorities.last() != Some(&authority) {
            authorities.push(authority);
        }
    }
    let calls = load.end().await;
    let bundles = hearing.end().await;
    eprintln!("{} authorities, {bundles} bundles, {rolled} replicas rolled", authorities.len());
    calls.none_is_lost();
    assert!(authorities.len() >= 4, "{} authorities are no rotation", authorities.len());
    assert!(bundles >= 4 && rolled >= 6, "{bundles} bundles, {rolled} replicas");
}
