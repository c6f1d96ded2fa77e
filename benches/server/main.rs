//! The whole server as a process, side by side with an echo on the same stack and with a webhook in Go that does the same the
//! usual way: CPU time of a request. Then what the program alone is asked: how late its answers are at a steady rate, how soon
//! it is ready, how much memory and how many bytes it takes.
//!
//! The servers take turns, so that what else the machine does falls on all of them, and of all rounds the median counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs, unreachable_pub, reason = "it is no library")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only the pure rooms do without files and clocks"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod echo;

/// As in the program, whose stack the echo is on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use support::api_server::ApiServer;
use support::client::{Client, trust};
use support::measure::Process;
use support::pods::rule;
use support::program::Webhook;
use support::{free_port, wait_for};
use tokio::time::interval_at;

const REVIEWS: [(&str, &[u8]); 2] =
    [("2.7 KB", include_bytes!("../data/review-small.json")), ("12 KB", include_bytes!("../data/review-large.json"))];
const IMAGE: &str = "asia.gcr.io/my-project";
const SECRET: &str = "regcred";

const ROUNDS: usize = 9;
const REQUESTS: u32 = 1600;
const CONNECTIONS: u32 = 8;
/// Requests a second: as fast as each answers on 8 connections, and as many as the slowest can answer on one core. Where there
/// is time to sleep in between, going to sleep, waking up and cold caches are most of what a small request costs.
const PACES: [(&str, Option<u32>); 2] = [("as fast as each can", None), ("500 a second", Some(500))];

/// Killed when dropped.
struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Server {
    fn start(program: &mut Command, port: u16) -> Self {
        let program = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(program.spawn().unwrap(), port)
    }
}

/// So many rules, of which one covers the reviews' images.
fn rules(count: usize) -> String {
    let others = (1..count).map(|n| rule(&format!("rule-{n}"), &[&format!("registry-{n}.example.com/team")]));
    others.chain([rule(SECRET, &[IMAGE])]).collect()
}

fn build_peer() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    let status = Command::new("go")
        .args(["build", "-C", "benches/peer", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(&program)
        .status()
        .unwrap_or_else(|error| panic!("go builds the peer: {error}"));
    assert!(status.success(), "go build: {status}");
    program
}

/// CPU time that a request takes the server, in microseconds.
async fn cost(process: u32, port: u16, authority: &[u8], body: &'static [u8], rate: Option<u32>) -> f64 {
    let process = Process(process);
    let mut callers = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect_with(port, trust(authority, &[])).await.unwrap();
        let answer = client.review(body).await.unwrap();
        let patch = STANDARD.decode(answer.json()["response"]["patch"].as_str().unwrap()).unwrap();
        let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": SECRET}]}]));
        clients.push(client);
    }
    let before = process.computing();
    let begin = tokio::time::Instant::now();
    for (number, mut client) in (0..).zip(clients) {
        callers.spawn(async move {
            // The connections take turns.
            let mut ticks = rate.map(|rate| {
                let second = Duration::from_secs(1);
                interval_at(begin + second * number / rate, second * CONNECTIONS / rate)
            });
            for _ in 0..REQUESTS / CONNECTIONS {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                assert_eq!(client.review(body).await.unwrap().status, 200);
            }
        });
    }
    callers.join_all().await;
    process.computing().saturating_sub(before).as_secs_f64() * 1e6 / f64::from(REQUESTS)
}

fn median(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let [first, .., last] = values[..] else { panic!("too few rounds") };
    format!("{:.2} ({first:.2} to {last:.2})", values[values.len() / 2])
}

async fn side_by_side() {
    let ours = Webhook::start(&rules(1), &["--log-level", "info"]).await;
    let authority = ours.authority();
    let port = free_port();
    let this = std::env::current_exe().unwrap();
    let echo = Server::start(Command::new(this).args(["echo", &port.to_string()]).arg(ours.certificates()), port);
    let port = free_port();
    let peer = Server::start(
        Command::new(build_peer())
            .args(["-port", &port.to_string(), "-image", IMAGE, "-secret", SECRET, "-certificates"])
            .arg(ours.certificates()),
        port,
    );
    let open = async |server: &Server| {
        wait_for("a server to listen", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", server.1)).await.ok()
        })
        .await;
    };
    open(&echo).await;
    open(&peer).await;

    println!("| pace | review | CPU of a request: pullcred | echo | Go peer | pullcred / echo | Go peer / pullcred |");
    println!("|---|---|---|---|---|---|---|");
    for ((pace, rate), (size, body)) in PACES.into_iter().flat_map(|pace| REVIEWS.map(|review| (pace, review))) {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let of = async |process, port| cost(process, port, &authority, body, rate).await;
            rounds.push([of(ours.id(), ours.port).await, of(echo.0.id(), echo.1).await, of(peer.0.id(), peer.1).await]);
        }
        let column = |place: usize| median(rounds.iter().map(|round| round[place]));
        println!(
            "| {pace} | {size} | {} us | {} us | {} us | {} | {} |",
            column(0),
            column(1),
            column(2),
            median(rounds.iter().map(|[ours, echo, _]| ours / echo)),
            median(rounds.iter().map(|[ours, _, peer]| peer / ours)),
        );
    }
}

/// The share of requests at or below each bound of the histogram, as `/metrics` tells it.
async fn histogram(webhook: &Webhook) -> Vec<(f64, f64)> {
    let metrics = webhook.admin("/metrics").await.unwrap().1;
    let buckets = metrics.lines().filter_map(|line| {
        let (bound, count) = line.strip_prefix("pullcred_request_duration_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap()))
    });
    buckets.collect()
}

/// 1,000 requests a second, each begun when its time has come, whatever became of those before it.
async fn steady() {
    const SECONDS: u32 = 30;
    let webhook = Webhook::start(&rules(100), &["--log-level", "info"]).await;
    let api_server = ApiServer::new(trust(&webhook.authority(), &["http/1.1"]), Duration::from_secs(10));
    api_server.hears_of(&[webhook.port]);
    for (size, body) in REVIEWS {
        let before = histogram(&webhook).await;
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..SECONDS * 1000 {
            let due = ticks.tick().await;
            let api_server = Arc::clone(&api_server);
            calls.spawn(async move {
                api_server.call(Bytes::from_static(body)).await.unwrap();
                due.elapsed().as_secs_f64() * 1e3
            });
        }
        let mut times = calls.join_all().await;
        times.sort_by(f64::total_cmp);
        let after = histogram(&webhook).await;
        let all = f64::from(SECONDS * 1000);
        let bound = |share: f64| {
            let reached = before.iter().zip(&after).find(|(before, after)| after.1 - before.1 >= share * all);
            reached.map_or(f64::INFINITY, |(_, after)| after.0) * 1e3
        };
        let outside = |share: f64| times[(share * (all - 1.0)) as usize];
        println!(
            "1,000 requests a second, {size}, 100 rules: in the server p50 <= {} ms, p99 <= {} ms, p99.9 <= {} ms; \
             from outside p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            bound(0.5),
            bound(0.99),
            bound(0.999),
            outside(0.5),
            outside(0.99),
            outside(0.999),
        );
    }
}

async fn beginning() {
    for count in [1, 1000, 10_000] {
        let rules = rules(count);
        let (mut times, mut resident) = (Vec::new(), 0);
        for _ in 0..5 {
            let start = Instant::now();
            let webhook = Webhook::spawn(&rules, &["--log-level", "info"]);
            while webhook.admin("/readyz").await.is_none_or(|(code, _)| code != 200) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
            resident = Process(webhook.id()).resident();
        }
        println!("{count} rules: ready after {} ms, with {resident} KiB", median(times.into_iter()));
    }
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_pullcred")).unwrap();
    println!("program: {:.1} MiB", program.len() as f64 / f64::from(1 << 20));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, port, certificates] = &arguments[..]
        && what == "echo"
    {
        return echo::serve(port.parse().unwrap(), Path::new(certificates));
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        side_by_side().await;
        steady().await;
        beginning().await;
    });
}
