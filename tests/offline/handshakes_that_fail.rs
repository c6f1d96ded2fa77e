//! Callers that never get as far as a request: each is counted by its reason, and none keeps the server from serving.

use std::time::Duration;

use jiff::Timestamp;
use pullcred::pki::make_development;
use pullcred::webhook::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::injects::rule;
use crate::support::client::{connect_tls, trust};
use crate::support::server::Serving;
use crate::support::wait_for;

async fn serving(limits: Limits) -> Serving {
    Serving::start(&rule("regcred", &["r.io"]), limits).await
}

async fn counted(server: &Serving, reason: &str) {
    let series = format!("pullcred_handshake_failures_total{{reason=\"{reason}\"}}");
    wait_for(&series, Duration::from_secs(10), async || (server.metric(&series) >= 1).then_some(())).await;
}

/// Sends bytes without TLS and reads what comes back until the end.
async fn shout(server: &Serving, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // What is no TLS may be cut off; what matters is what came before.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_https() {
    let server = serving(Limits::default()).await;
    for request in
        ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"]
    {
        let answer = shout(&server, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(
            answer.contains(r#""message":"this port serves HTTPS, and the request came as plain HTTP""#),
            "{answer}"
        );
    }
    counted(&server, "plain_http").await;
}

#[tokio::test]
async fn what_is_not_tls_is_closed() {
    let server = serving(Limits::default()).await;
    shout(&server, b"\x00\x01\x02\x03").await;
    counted(&server, "not_tls").await;
    // Like a TLS record at the first glance, and not at the second.
    shout(&server, &[22, 3, 1, 0, 5, 255, 255, 255, 255, 255]).await;
    wait_for("the second", Duration::from_secs(10), async || {
        (server.metric("pullcred_handshake_failures_total{reason=\"not_tls\"}") == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_does_not_trust_our_authority_is_counted_as_such() {
    let server = serving(Limits::default()).await;
    let other = make_development(Timestamp::now()).unwrap().ca_crt;
    connect_tls(server.port, trust(other.as_bytes(), &["http/1.1"])).await.unwrap_err();
    counted(&server, "certificate_refused").await;
}

#[tokio::test]
async fn a_caller_that_speaks_http_2_alone_is_told_in_the_handshake() {
    let server = serving(Limits::default()).await;
    connect_tls(server.port, trust(&server.authority, &["h2"])).await.unwrap_err();
    counted(&server, "incompatible").await;
}

#[tokio::test]
async fn a_caller_that_connects_and_leaves_is_no_trouble() {
    let server = serving(Limits::default()).await;
    drop(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    counted(&server, "closed").await;
}

#[tokio::test]
async fn a_thousand_callers_that_say_nothing_are_let_go_and_keep_nobody_out() {
    let server = serving(Limits { handshake: Duration::from_millis(500), ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    }
    let body = serde_json::to_vec(&super::injects::review(&super::injects::pod(&["r.io/app"]))).unwrap();
    assert_eq!(server.client().await.review(body).await.unwrap().status, 200);
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it is closed without a word");
    }
    assert_eq!(server.metric("pullcred_handshake_failures_total{reason=\"timeout\"}"), 1000);
    wait_for("all to be closed", Duration::from_secs(10), async || {
        (server.metric("pullcred_connections") == 0).then_some(())
    })
    .await;
}
