//! What happens at SIGTERM: not ready at once, serving on for the delay, then finishing what has begun.

use std::time::Duration;

use pullcred::process::shutdown::Stage;
use pullcred::webhook::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::injects::{pod, review, rule};
use crate::support::client::{Client, connect_tls, trust};
use crate::support::program::Webhook;
use crate::support::server::Serving;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(10);

fn rules() -> String {
    rule("regcred", &["r.io"])
}

fn matching() -> Vec<u8> {
    serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap()
}

async fn wait_until_leaving(webhook: &Webhook) -> String {
    wait_for("/readyz to say no", SOON, async || {
        let (status, body) = webhook.admin("/readyz").await?;
        (status == 503).then_some(body)
    })
    .await
}

#[tokio::test]
async fn after_sigterm_it_is_not_ready_and_serves_on_and_sends_callers_elsewhere() {
    let mut webhook = Webhook::start(&rules(), &["--shutdown-delay", "3s"]).await;
    let mut client = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    let mut idle = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    assert!(!client.review(matching()).await.unwrap().headers.contains_key("connection"));
    idle.review(matching()).await.unwrap();

    webhook.signal("TERM");
    let body = wait_until_leaving(&webhook).await;
    assert!(body.contains("[-] serving: SIGTERM came, the process ends\n") && body.ends_with("not ready\n"), "{body}");
    assert_eq!(webhook.admin("/livez").await.unwrap().0, 200);

    let answer = client.review(matching()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.headers["connection"]), (200, &"close".parse().unwrap()));
    client.closed().await;
    let mut late = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    assert_eq!(late.review(matching()).await.unwrap().status, 200, "new connections are still served");

    idle.closed().await;
    assert_eq!(webhook.ended(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_has_begun_is_finished() {
    let mut webhook = Webhook::start(&rules(), &["--shutdown-delay", "0s"]).await;
    let mut stream = connect_tls(webhook.port, trust(&webhook.authority(), &[])).await.unwrap();
    let body = matching();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..10]).await.unwrap();
    stream.flush().await.unwrap();
    wait_for("the request to be in work", SOON, async || {
        webhook.admin("/metrics").await?.1.contains("\npullcred_requests_in_flight 1\n").then_some(())
    })
    .await;
    webhook.signal("TERM");
    wait_for("the listener to be closed", SOON, async || {
        TcpStream::connect(("127.0.0.1", webhook.port)).await.is_err().then_some(())
    })
    .await;
    stream.write_all(&body[10..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(webhook.ended(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut webhook = Webhook::start(&rules(), &["--shutdown-delay", "10m"]).await;
    webhook.signal("INT");
    wait_until_leaving(&webhook).await;
    webhook.signal("TERM");
    assert_eq!(webhook.ended(SOON).await.code(), Some(1));
    assert!(webhook.log().contains("SIGTERM came again: ended at once"), "{}", webhook.log());
}

#[tokio::test]
async fn a_connection_that_is_open_when_it_stops_is_told_to_come_again() {
    let server = Serving::start(&rules(), Limits::default()).await;
    // It has shaken hands and asked for nothing yet, so it may ask once more.
    let mut client = server.client().await;
    server.ending.enter(Stage::Draining);
    let answer = client.review(matching()).await.unwrap();
    assert_eq!(answer.wrong().0, 503);
    assert_eq!(
        (&answer.headers["retry-after"], &answer.headers["connection"]),
        (&"1".parse().unwrap(), &"close".parse().unwrap())
    );
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"stopping\"}"), 1);
    client.closed().await;
    server.ended().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let server = Serving::start(&rules(), limits).await;
    let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
    stream.write_all(b"POST /mutate HTTP/1.1\r\n").await.unwrap();
    server.ending.enter(Stage::Draining);
    server.ended().await;
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).await.is_err() || rest.is_empty());
}
