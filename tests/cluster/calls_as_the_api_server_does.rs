//! The client that stands for the API server in other tests, against the real one: both call a webhook that follows a
//! script, and what the webhook sees of the one and of the other must be the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, PostParams};
use pullcred::pki::{Leaf, make_development};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use super::cluster::{Cluster, pod_of};
use crate::support::api_server::ApiServer;
use crate::support::client::trust;
use crate::support::pods::{pod, review};
use crate::support::server::acceptor;
use crate::support::wait_for;

/// What the webhook does with a request.
#[derive(Clone)]
pub(super) enum Act {
    Admit,
    /// Admits after so long.
    Late(Duration),
    /// This status, and these headers.
    Say(u16, &'static str),
    /// Resets the connection.
    Reset,
    /// Closes the connection without an answer.
    Close,
    /// Admits once as many requests are here.
    Together(Arc<Barrier>),
}

/// Request by request, what the webhook does; with those after it, the last.
type Script = Vec<Act>;

/// A webhook that follows a script once it is told to begin, and admits everything before.
pub(super) struct Scripted {
    port: u16,
    certificate: Leaf,
    script: Script,
    begun: AtomicBool,
    /// The body of the last request.
    pub(super) body: Mutex<Vec<u8>>,
    /// The requests since the beginning: number of the connection, path, and when.
    requests: Mutex<Vec<(usize, String, Instant)>>,
    /// How many connections were ever made.
    connections: AtomicUsize,
    /// How long each connection that the caller closed had been idle.
    idle: Mutex<Vec<Duration>>,
}

impl Scripted {
    pub(super) async fn start(script: &[Act]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let certificate = make_development(Timestamp::now()).unwrap();
        let tls = acceptor(certificate.tls_crt.as_bytes(), certificate.tls_key.as_bytes());
        let scripted = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            certificate,
            script: script.to_vec(),
            begun: AtomicBool::default(),
            body: Mutex::default(),
            requests: Mutex::default(),
            connections: AtomicUsize::default(),
            idle: Mutex::default(),
        });
        let server = Arc::clone(&scripted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (Arc::clone(&server), tls.clone());
                let number = server.connections.fetch_add(1, Ordering::Relaxed);
                // A connection that ends in an error is what some scripts are about.
                tokio::spawn(async move { server.serve(stream, &tls, number).await });
            }
        });
        scripted
    }

    async fn serve(&self, stream: TcpStream, tls: &TlsAcceptor, connection: usize) -> std::io::Result<()> {
        let mut stream = tls.accept(stream).await?;
        loop {
            let since = Instant::now();
            let Some((path, body)) = read_request(&mut stream).await? else {
                self.idle.lock().unwrap().push(since.elapsed());
                return Ok(());
            };
            let uid = serde_json::from_slice::<Value>(&body)?["request"]["uid"].take();
            *self.body.lock().unwrap() = body;
            let act = if self.begun.load(Ordering::Relaxed) {
                let mut requests = self.requests.lock().unwrap();
                requests.push((connection, path, Instant::now()));
                self.script.get(requests.len() - 1).or(self.script.last()).unwrap().clone()
            } else {
                Act::Admit
            };
            let (status, header) = match &act {
                Act::Reset => return stream.get_ref().0.set_zero_linger(),
                Act::Close => return stream.shutdown().await,
                Act::Say(status, header) => (*status, *header),
                Act::Late(delay) => {
                    tokio::time::sleep(*delay).await;
                    (200, "")
                }
                Act::Together(all) => {
                    all.wait().await;
                    (200, "")
                }
                Act::Admit => (200, ""),
            };
            let answer = json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": uid, "allowed": true},
            })
            .to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{header}\r\n",
                answer.len()
            );
            stream.write_all((head + &answer).as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

/// The path and body of the next request, unless the caller closes the connection.
async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(Some((head.split(' ').nth(1).unwrap().to_owned(), body)))
}

/// Who calls a webhook.
enum Caller {
    Real(Cluster),
    Ours(Arc<ApiServer>),
}

impl Caller {
    /// One call, for a Pod that is not kept; whether it succeeded.
    async fn call(&self, number: usize) -> bool {
        match self {
            Self::Real(cluster) => cluster.try_pod(&pod_of(&format!("p{number}"), &["r.io/app"]), true).await.is_ok(),
            Self::Ours(api_server) => {
                let body = serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap();
                api_server.call(Bytes::from(body)).await.is_ok()
            }
        }
    }
}

/// Registers a webhook for the Pods of a namespace, at this path, and waits until it is called.
pub(super) async fn register(cluster: &Cluster, webhook: &Scripted, name: &str, path: &str, seconds: u64) {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &webhook.certificate.ca_crt);
    let configuration = json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": seconds,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", webhook.port), "caBundle": encoded},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
    Api::all(cluster.client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
    wait_for("the webhook to be called", Duration::from_secs(30), async || {
        cluster.try_pod(&pod_of("probe", &["r.io/app"]), true).await.unwrap();
        (webhook.connections.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
}

/// What is seen of a caller.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Whether each call succeeded.
    succeeded: Vec<bool>,
    /// The connection of each request, in the order of requests. The one that is idle at the start is 0.
    connections: Vec<usize>,
    /// The paths that were asked for.
    paths: Vec<String>,
    /// Whole seconds between one request and the next.
    pauses: Vec<u64>,
}

/// A real API server and ours, each before a webhook of its own that has been called once, with a `timeoutSeconds` of 5.
async fn both(name: &str, script: impl Fn() -> Script) -> [(Caller, Arc<Scripted>); 2] {
    let cluster = Cluster::alone().await;
    let real = Scripted::start(&script()).await;
    register(&cluster, &real, name, "/mutate", 5).await;

    let ours = Scripted::start(&script()).await;
    let api_server = ApiServer::new(trust(ours.certificate.ca_crt.as_bytes(), &["http/1.1"]), Duration::from_secs(5));
    api_server.hears_of(&[ours.port]);
    let pair = [(Caller::Real(cluster), real), (Caller::Ours(api_server), ours)];
    assert!(pair[1].0.call(0).await);
    for (_, webhook) in &pair {
        assert_eq!(webhook.connections.load(Ordering::Relaxed), 1);
        webhook.begun.store(true, Ordering::Relaxed);
    }
    pair
}

/// Lets both make so many calls one after the other, and tells what is seen of them, which is the same.
async fn calls(name: &str, count: usize, script: &[Act]) -> Seen {
    let seen = join_all(both(name, || script.to_vec()).await.iter().map(async |(caller, webhook)| {
        let mut succeeded = Vec::new();
        for number in 0..count {
            succeeded.push(caller.call(number).await);
        }
        let requests = webhook.requests.lock().unwrap();
        let mut paths: Vec<_> = requests.iter().map(|(_, path, _)| path.clone()).collect();
        paths.dedup();
        Seen {
            succeeded,
            connections: requests.iter().map(|(connection, ..)| *connection).collect(),
            paths,
            pauses: requests
                .windows(2)
                .map(|pair| (pair[1].2 - pair[0].2 + Duration::from_millis(500)).as_secs())
                .collect(),
        }
    }))
    .await;
    assert_eq!(seen[0], seen[1], "the real API server, and ours");
    seen.into_iter().next().unwrap()
}

const BUSY: Act = Act::Say(503, "retry-after: 1\r\n");

#[tokio::test]
async fn an_idle_connection_is_used_again_and_the_deadline_is_in_the_url() {
    let seen = calls("idle.test.io", 5, &[Act::Admit]).await;
    assert_eq!(seen.connections, [0; 5]);
    assert_eq!(seen.paths, ["/mutate?timeout=5s"]);
}

#[tokio::test]
async fn who_is_told_when_to_come_again_comes_again() {
    let seen = calls("again.test.io", 1, &[BUSY, Act::Say(429, "retry-after: 1\r\n"), Act::Admit]).await;
    assert_eq!((seen.succeeded, seen.connections, seen.pauses), (vec![true], vec![0; 3], vec![1; 2]));
}

#[tokio::test]
async fn who_comes_again_does_so_within_the_deadline() {
    let seen = calls("deadline.test.io", 1, &[BUSY]).await;
    assert_eq!((seen.succeeded, seen.connections), (vec![false], vec![0; 5]));
}

#[tokio::test]
async fn who_comes_again_does_so_ten_times() {
    let seen = calls("ten.test.io", 1, &[Act::Say(503, "retry-after: 0\r\n")]).await;
    assert_eq!((seen.succeeded, seen.connections), (vec![false], vec![0; 11]));
}

#[tokio::test]
async fn who_is_not_told_when_does_not_come_again() {
    let dated = Act::Say(503, "retry-after: Wed, 21 Oct 2037 07:28:00 GMT\r\n");
    let script = [Act::Say(503, ""), dated, Act::Say(400, "retry-after: 1\r\n"), Act::Admit];
    let seen = calls("never.test.io", 4, &script).await;
    assert_eq!((seen.succeeded, seen.connections), (vec![false, false, false, true], vec![0; 4]));
}

#[tokio::test]
async fn a_call_that_was_written_is_lost_with_its_connection() {
    // On a connection that had been used before, and on one that had not.
    for (name, act) in [("reset.test.io", Act::Reset), ("close.test.io", Act::Close)] {
        let seen = calls(name, 3, &[act.clone(), act, Act::Admit]).await;
        assert_eq!((seen.succeeded, seen.connections), (vec![false, false, true], vec![0, 1, 2]), "{name}");
    }
}

#[tokio::test]
async fn a_connection_that_is_said_to_close_is_not_used_again() {
    let close = "connection: close\r\n";
    let seen = calls("closed.test.io", 5, &[Act::Say(200, close), Act::Say(200, close), Act::Admit]).await;
    assert_eq!((seen.succeeded, seen.connections), (vec![true; 5], vec![0, 1, 2, 2, 2]));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_not_waited_for_and_costs_the_connection() {
    let seen = calls("late.test.io", 2, &[Act::Late(Duration::from_secs(20)), Act::Admit]).await;
    assert_eq!((seen.succeeded, seen.connections, seen.pauses), (vec![false, true], vec![0, 1], vec![5]));
}

/// Calls that come at once have a connection each, 25 of which are kept, for 90 s.
#[tokio::test]
async fn twenty_five_connections_are_kept_for_ninety_seconds() {
    let script = || {
        let all = Arc::new(Barrier::new(40));
        vec![Act::Together(all); 80]
    };
    join_all(both("pool.test.io", script).await.iter().map(async |(caller, webhook)| {
        for connections in [40, 55] {
            let made = join_all((0..40).map(|number| caller.call(number))).await;
            assert_eq!(made, [true; 40]);
            assert_eq!(webhook.connections.load(Ordering::Relaxed), connections);
        }
        wait_for("the idle connections to be closed", Duration::from_secs(100), async || {
            (webhook.idle.lock().unwrap().len() == 55).then_some(())
        })
        .await;
        let idle = webhook.idle.lock().unwrap();
        let kept = idle.iter().filter(|time| (88..95).contains(&time.as_secs())).count();
        assert_eq!((kept, idle.iter().filter(|time| time.as_secs() < 5).count()), (25, 30), "{idle:?}");
    }))
    .await;
}

/// All webhooks of one request share 34 s: the second is told what the first has left.
#[tokio::test]
async fn the_webhooks_of_a_request_share_its_time() {
    let cluster = Cluster::alone().await;
    let (first, second) = (Duration::from_millis(6100), Duration::from_millis(100));
    let real = Scripted::start(&[Act::Late(first), Act::Late(second)]).await;
    // Webhooks are called in the order of their names.
    register(&cluster, &real, "a.share.test.io", "/mutate", 30).await;
    register(&cluster, &real, "b.share.test.io", "/mutate", 30).await;
    wait_for("both to be called", Duration::from_secs(30), async || {
        real.requests.lock().unwrap().clear();
        real.begun.store(true, Ordering::Relaxed);
        cluster.try_pod(&pod_of("probe", &["r.io/app"]), true).await.unwrap();
        (real.requests.lock().unwrap().len() == 2).then_some(())
    })
    .await;
    let ours = Scripted::start(&[Act::Admit]).await;
    ours.begun.store(true, Ordering::Relaxed);
    let api_server = ApiServer::new(trust(ours.certificate.ca_crt.as_bytes(), &["http/1.1"]), Duration::from_secs(30));
    api_server.hears_of(&[ours.port]);
    let body = Bytes::from(serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap());
    for others in [Duration::ZERO, first] {
        api_server.call_after(others, body.clone()).await.unwrap();
    }
    let paths = |webhook: &Scripted| webhook.requests.lock().unwrap().iter().map(|(_, path, _)| path.clone()).collect();
    let (real, ours): (Vec<_>, Vec<_>) = (paths(&real), paths(&ours));
    assert_eq!(real, ours);
    assert_eq!(real, ["/mutate?timeout=30s", "/mutate?timeout=28s"]);
}
