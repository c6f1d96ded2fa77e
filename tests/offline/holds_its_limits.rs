//! Under more than it can hold, every caller gets the right answer or is told to come again, and afterwards all is as before.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pullcred::webhook::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::injects::{pod, review, rule};
use crate::support::client::{Client, connect_tls, request, trust};
use crate::support::program::Webhook;
use crate::support::server::Serving;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(20);

fn rules() -> String {
    rule("regcred", &["r.io"])
}

fn matching() -> Vec<u8> {
    serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap()
}

/// A review of about so many bytes.
fn large(bytes: usize) -> Vec<u8> {
    let mut pod = pod(&["r.io/app"]);
    pod["spec"]["containers"][0]["args"] = serde_json::json!(["x".repeat(bytes)]);
    serde_json::to_vec(&review(&pod)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_callers_at_once_each_get_an_answer() {
    // Both sides share two slow, unoptimised threads: it is not patience that is tested.
    let patient = Duration::from_secs(60);
    let limits = Limits { requests: 50, handshake: patient, body: patient, ..Limits::default() };
    let server = Arc::new(Serving::start(&rules(), limits).await);
    let body = Bytes::from(large(20 << 10));
    let mut calls = JoinSet::new();
    for _ in 0..600 {
        let (server, body) = (Arc::clone(&server), body.clone());
        calls.spawn(async move {
            let mut client = server.client().await;
            let mut answers = [0, 0];
            for _ in 0..3 {
                let request = request(Method::POST, "/mutate", &[("content-type", "application/json")], body.clone());
                let answer = client.send(request).await.expect("no call is reset");
                if answer.status == 200 {
                    answers[0] += 1;
                    continue;
                }
                assert_eq!((answer.wrong().0, &answer.headers["retry-after"]), (503, &"1".parse().unwrap()));
                answers[1] += 1;
                client = server.client().await;
            }
            answers
        });
    }
    let answers = calls.join_all().await;
    let answered: u64 = answers.iter().map(|one| one[0]).sum();
    let turned_away: u64 = answers.iter().map(|one| one[1]).sum();
    assert_eq!(answered + turned_away, 1800);
    assert_eq!(server.metric("pullcred_decisions_total{outcome=\"injected\"}"), answered);
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"requests\"}"), turned_away);
    assert_eq!(server.metric("pullcred_requests_in_flight"), 0);
    assert_eq!(server.metric("pullcred_body_bytes_reserved"), 0);
}

/// Sends the head of a request whose body is to have this length, and waits until it is in work.
async fn announce(server: &Serving, length: usize) -> tokio_rustls::client::TlsStream<TcpStream> {
    let before = server.metric("pullcred_requests_in_flight");
    let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    wait_for("the request to be in work", SOON, async || {
        (server.metric("pullcred_requests_in_flight") > before).then_some(())
    })
    .await;
    stream
}

#[tokio::test]
async fn what_a_body_may_take_is_set_aside_before_it_is_read() {
    let server = Serving::start(&rules(), Limits { body_bytes: 10 << 20, ..Limits::default() }).await;
    let first = announce(&server, 8 << 20).await;
    assert_eq!(server.metric("pullcred_body_bytes_reserved"), 8 << 20);
    let answer = server.client().await.review(large(3 << 20)).await.unwrap();
    let (code, message) = answer.wrong();
    assert_eq!((code, &answer.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(message.contains("too many bytes of reviews"), "{message}");
    assert_eq!(server.client().await.review(large(1 << 20)).await.unwrap().status, 200, "what fits is served");
    drop(first);
    wait_for("the room to be given back", SOON, async || {
        (server.metric("pullcred_body_bytes_reserved") == 0).then_some(())
    })
    .await;
    assert_eq!(server.client().await.review(large(3 << 20)).await.unwrap().status, 200);
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"body_bytes\"}"), 1);
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_sent_arrives() {
    let server = Serving::start(&rules(), Limits { body_bytes: 1, ..Limits::default() }).await;
    for _ in 0..20 {
        let answer = server.client().await.review(large(7 << 20)).await.expect("the connection is not reset");
        assert_eq!(answer.status, 503);
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let server = Serving::start(&rules(), Limits { connections: 2, ..Limits::default() }).await;
    let (first, second) = (server.client().await, server.client().await);
    let third = server.client();
    let mut third = std::pin::pin!(third);
    let waiting = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
    assert!(waiting.is_err(), "the third is not accepted while two are open");
    drop(first);
    assert_eq!(third.await.review(matching()).await.unwrap().status, 200);
    drop(second);
}

#[tokio::test]
async fn a_caller_that_reads_nothing_holds_nobody_up() {
    let server = Serving::start(&rules(), Limits::default()).await;
    let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
    let body = matching();
    let request = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        body.len(),
        String::from_utf8(body).unwrap()
    );
    // Requests one after the other until the server stops reading them, since nobody reads its answers.
    let flood = async {
        while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write_all(request.as_bytes())).await
        {
            written.unwrap();
        }
    };
    tokio::time::timeout(SOON, flood).await.expect("the server stops reading");
    assert_eq!(server.metric("pullcred_requests_in_flight"), 0, "an answer that is not read is not in work");
    assert_eq!(server.client().await.review(matching()).await.unwrap().status, 200);
}

/// The real program with few file descriptors, all of which strangers take.
#[tokio::test]
async fn with_no_file_descriptors_left_it_serves_on_and_is_still_probed() {
    let webhook = Webhook::start(&rules(), &[]).await;
    let limited = Command::new("prlimit").args(["--pid", &webhook.id().to_string(), "--nofile=48:48"]).status();
    assert!(limited.unwrap().success());
    let mut strangers = Vec::new();
    for _ in 0..100 {
        strangers.push(TcpStream::connect(("127.0.0.1", webhook.port)).await.unwrap());
    }
    wait_for("the descriptors to run out", SOON, async || {
        webhook.log().contains("cannot accept a connection").then_some(())
    })
    .await;
    drop(strangers);
    let mut client = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    assert_eq!(client.review(matching()).await.unwrap().status, 200);
    assert_eq!(webhook.admin("/livez").await.unwrap().0, 200);
    assert_eq!(webhook.log().matches("cannot accept a connection").count(), 1, "it is not said a hundred times");
}

/// Started with few file descriptors, it takes fewer connections, so that probes find some.
#[tokio::test]
async fn probes_are_answered_while_every_connection_is_taken() {
    let webhook = Webhook::start_with_descriptors(&rules(), 200).await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        strangers.push(TcpStream::connect(("127.0.0.1", webhook.port)).await.unwrap());
    }
    wait_for("every connection to be taken", SOON, async || {
        webhook.admin("/metrics").await.unwrap().1.contains("\npullcred_connections 100\n").then_some(())
    })
    .await;
    assert_eq!(webhook.admin("/livez").await.unwrap().0, 200);
    assert_eq!(webhook.admin("/readyz").await.unwrap().0, 200);
    assert!(!webhook.log().contains("cannot accept a connection"), "{}", webhook.log());
    drop(strangers);
    let mut client = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    assert_eq!(client.review(matching()).await.unwrap().status, 200);
}
