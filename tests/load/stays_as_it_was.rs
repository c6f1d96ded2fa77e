//! As many callers as there can be, and as much as each may send: every one gets the right answer or is told when to come
//! again, probes are answered all the while, memory stays below its bound, and afterwards the process is as it was before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::ALONE;
use crate::support::client::{Answer, Client, connect_tls, request, trust};
use crate::support::measure::Process;
use crate::support::pods::{pod, review, rule};
use crate::support::program::Webhook;
use crate::support::wait_for;

/// What docs/webhook.md says: this much, and so much more for each connection. In KiB.
const MEMORY: u64 = 128 << 10;
const MEMORY_OF_A_CONNECTION: u64 = 48;

/// How much of what a load has taken the allocator may keep, in KiB.
const KEPT: u64 = 16 << 10;

const SOON: Duration = Duration::from_secs(30);

async fn webhook() -> Arc<Webhook> {
    Arc::new(Webhook::start(&rule("regcred", &["r.io"]), &["--log-level", "info"]).await)
}

fn small() -> Bytes {
    serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap().into()
}

/// The largest body that is read.
fn largest() -> Bytes {
    let mut pod = pod(&["r.io/app"]);
    pod["spec"]["containers"][0]["args"] = serde_json::json!([""]);
    let frame = serde_json::to_vec(&review(&pod)).unwrap().len();
    pod["spec"]["containers"][0]["args"] = serde_json::json!(["x".repeat((8 << 20) - frame)]);
    let body = serde_json::to_vec(&review(&pod)).unwrap();
    assert_eq!(body.len(), 8 << 20);
    body.into()
}

/// How many got an answer, and how many were told to come again.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Count {
    answered: u64,
    turned_away: u64,
}

impl Count {
    /// Counts an answer, which is one of the two.
    fn add(&mut self, answer: &Answer) {
        if answer.status == 200 {
            assert!(answer.json()["response"]["patch"].is_string(), "{}", answer.text());
            self.answered += 1;
        } else {
            assert_eq!(answer.wrong().0, 503, "{}", answer.text());
            assert_eq!(answer.headers["retry-after"], "1");
            self.turned_away += 1;
        }
    }

    fn sum(counts: impl IntoIterator<Item = Self>) -> Self {
        counts.into_iter().fold(Self::default(), |sum, one| Self {
            answered: sum.answered + one.answered,
            turned_away: sum.turned_away + one.turned_away,
        })
    }
}

/// So many connections that send a body at the same time, so often.
async fn burst(webhook: &Arc<Webhook>, connections: usize, body: &Bytes, rounds: usize) -> Count {
    let all = Arc::new(tokio::sync::Barrier::new(connections));
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let (webhook, body, all) = (Arc::clone(webhook), body.clone(), Arc::clone(&all));
        callers.spawn(async move {
            let mut count = Count::default();
            let mut client = Client::connect(webhook.port, &webhook.authority()).await.expect("all are let in");
            all.wait().await;
            for _ in 0..rounds {
                // The longest deadline there is: on a slow machine most of it goes into sending.
                let headers = [("content-type", "application/json")];
                let request = request(Method::POST, "/mutate?timeout=30s", &headers, body.clone());
                let answer = client.send(request).await.expect("no call is lost or reset");
                count.add(&answer);
                if answer.status == 503 {
                    client = Client::connect(webhook.port, &webhook.authority()).await.expect("all are let in");
                }
            }
            count
        });
    }
    Count::sum(callers.join_all().await)
}

/// Asks `/livez` and `/readyz` over and over until it is told to stop; on a thread of its own, as the kubelet is not one of
/// the callers.
struct Probes {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Duration)>,
}

impl Probes {
    fn start(webhook: &Arc<Webhook>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (webhook, stopped) = (Arc::clone(webhook), Arc::clone(&stop));
        let asking = async move {
            let (mut asked, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                for path in ["/livez", "/readyz"] {
                    let start = Instant::now();
                    let (code, text) = webhook.admin(path).await.expect("a probe is answered");
                    assert_eq!(code, 200, "{path}: {text}");
                    slowest = slowest.max(start.elapsed());
                    asked += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (asked, slowest)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { stop, thread: std::thread::spawn(move || runtime.block_on(asking)) }
    }

    /// All were answered, each in less than the two seconds that a probe of the chart waits.
    fn were_answered(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, slowest) = self.thread.join().unwrap();
        assert!(asked > 2, "{asked} probes");
        assert!(slowest < Duration::from_secs(2), "a probe took {slowest:?}");
        format!("{asked} probes, the slowest {} ms", slowest.as_millis())
    }
}

/// Many small requests, one after the other on each of 8 connections: CPU time that each takes the server, and
/// memory at the end.
async fn steady(webhook: &Arc<Webhook>, requests: usize) -> (Duration, u64) {
    let process = Process(webhook.id());
    let before = process.computing();
    let left = Arc::new(AtomicUsize::new(requests));
    let body = small();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (webhook, left, body) = (Arc::clone(webhook), Arc::clone(&left), body.clone());
        callers.spawn(async move {
            let mut client = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let answer = client.review(body.clone()).await.expect("no call is lost or reset");
                assert_eq!(answer.status, 200);
            }
        });
    }
    callers.join_all().await;
    let taken = process.computing().saturating_sub(before);
    (taken / u32::try_from(requests).unwrap(), process.resident())
}

/// The quickest of three, since whatever else the machine does only ever adds; of up to twelve while that is not quick enough.
async fn at_rest(webhook: &Arc<Webhook>, quick_enough: Duration) -> (Duration, u64) {
    let mut quickest = steady(webhook, 10_000).await;
    for round in 1..12 {
        if round >= 3 && quickest.0 < quick_enough {
            break;
        }
        let (time, resident) = steady(webhook, 10_000).await;
        quickest = (quickest.0.min(time), resident);
    }
    quickest
}

async fn until_all_are_gone(webhook: &Webhook) {
    wait_for("all connections to be closed", SOON, async || {
        webhook.admin("/metrics").await.unwrap().1.contains("\npullcred_connections 0\n").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_callers_at_once_leave_no_trace() {
    let _alone = ALONE.lock().await;
    let webhook = webhook().await;
    let process = Process(webhook.id());
    let (time_before, resident_before) = at_rest(&webhook, Duration::MAX).await;
    let mut resident = Vec::new();
    let mut answered = [0; 2];
    for connections in [600, 2000, 2000] {
        for (index, (what, body, rounds)) in [("small", small(), 5), ("8 MiB", largest(), 1)].into_iter().enumerate() {
            process.forget_peak();
            let (probes, start) = (Probes::start(&webhook), Instant::now());
            let count = burst(&webhook, connections, &body, rounds).await;
            let probes = probes.were_answered();
            let peak = process.peak();
            eprintln!(
                "{connections} connections, {what}: {count:?} in {:.1} s, peak {peak} KiB; {probes}",
                start.elapsed().as_secs_f64()
            );
            assert_eq!(count.answered + count.turned_away, (connections * rounds) as u64);
            answered[index] += count.answered;
            let bound = MEMORY + MEMORY_OF_A_CONNECTION * connections as u64;
            assert!(peak < bound, "{peak} KiB are more than {bound} KiB");
            until_all_are_gone(&webhook).await;
        }
        resident.push(process.resident());
    }
    eprintln!("after each: {resident:?} KiB");
    // In one burst all may be turned away: on a machine that is slow enough no body comes in time.
    assert!(answered.iter().all(|&count| count > 0), "small and large: {answered:?} were answered");
    let limit = time_before * 5 / 4;
    let (time_after, resident_after) = at_rest(&webhook, limit).await;
    eprintln!("before: {time_before:?} a request, {resident_before} KiB; after: {time_after:?}, {resident_after} KiB");
    assert!(resident_after < resident_before + KEPT, "{resident_before} KiB became {resident_after} KiB");
    assert!(time_after < limit, "a request took {time_before:?}, and takes {time_after:?}");
}

/// More requests at once than may be in work: the excess is turned away, and what was let in is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_limit_are_told_to_come_again_and_probes_are_answered() {
    const CALLERS: usize = 1500;
    let _alone = ALONE.lock().await;
    let webhook = webhook().await;
    let body = small();
    let head = format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (rest, go) = tokio::sync::watch::channel(false);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (webhook, body, head, mut go) = (Arc::clone(&webhook), body.clone(), head.clone(), go.clone());
        callers.spawn(async move {
            let mut stream = connect_tls(webhook.port, trust(&webhook.authority(), &[])).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // Those who are turned away are told before they have sent anything of the body.
            let mut first = [0; 12];
            tokio::select! {
                read = stream.read_exact(&mut first) => { read.expect("no call is reset"); }
                going = go.changed() => {
                    going.unwrap();
                    stream.write_all(&body).await.expect("no call is reset");
                    stream.read_exact(&mut first).await.expect("no call is reset");
                }
            }
            String::from_utf8(first.to_vec()).unwrap()
        });
    }
    let probes = Probes::start(&webhook);
    wait_for("the webhook to be full, and to have said so to all others", SOON, async || {
        let metrics = webhook.admin("/metrics").await.unwrap().1;
        let shed = format!("\npullcred_requests_shed_total{{reason=\"requests\"}} {}\n", CALLERS - 1000);
        (metrics.contains("\npullcred_requests_in_flight 1000\n") && metrics.contains(&shed)).then_some(())
    })
    .await;
    rest.send(true).unwrap();
    let answers = callers.join_all().await;
    eprintln!("{}", probes.were_answered());
    let count = |start| answers.iter().filter(|answer| *answer == start).count();
    assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 503")), (1000, CALLERS - 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_requests_and_ten_thousand_connections_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let requests = 1_000_000;
    let webhook = webhook().await;
    let (time_before, resident_before) = steady(&webhook, requests / 10).await;
    let start = Instant::now();
    let (time_after, resident_after) = steady(&webhook, requests).await;
    eprintln!(
        "{requests} requests in {:.1} s: {resident_before} KiB became {resident_after} KiB, {time_before:?} a request became {time_after:?}",
        start.elapsed().as_secs_f64()
    );
    assert!(resident_after < resident_before + 1024, "{resident_before} KiB became {resident_after} KiB");

    let connections = requests / 100;
    let round = async || {
        for _ in 0..connections / 20 {
            burst(&webhook, 20, &small(), 1).await;
        }
        until_all_are_gone(&webhook).await;
        Process(webhook.id()).resident()
    };
    let (resident_before, resident_after) = (round().await, round().await);
    eprintln!("{connections} connections: {resident_before} KiB became {resident_after} KiB");
    assert!(resident_after < resident_before + 1024, "{resident_before} KiB became {resident_after} KiB");
}
