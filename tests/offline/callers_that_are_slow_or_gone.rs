//! Callers that send a byte at a time, read a byte at a time, or vanish: none keeps its connection for long.

use std::time::Duration;

use pullcred::webhook::Limits;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::{connect_tls, trust};
use crate::support::pods::{pod, review, rule};
use crate::support::server::Serving;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(20);

/// Much shorter than what a test waits for, while what it does not mean to test is much longer.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

fn patient() -> Limits {
    Limits { handshake: LONG, body: LONG, idle: LONG, unacknowledged: LONG, ..Limits::default() }
}

async fn serving(limits: Limits) -> Serving {
    Serving::start(&rule("regcred", &["r.io"]), limits).await
}

async fn connect(server: &Serving) -> TlsStream<TcpStream> {
    connect_tls(server.port, trust(&server.authority, &[])).await.unwrap()
}

fn request() -> Vec<u8> {
    let body = serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap();
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ";
    [head.as_bytes(), body.len().to_string().as_bytes(), b"\r\n\r\n", &body].concat()
}

/// Waits until this many connections are open.
async fn open(server: &Serving, count: u64) {
    wait_for("connections to be closed", SOON, async || (server.metric("pullcred_connections") == count).then_some(()))
        .await;
}

#[tokio::test]
async fn a_handshake_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let server = serving(Limits { handshake: SHORT, ..patient() }).await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    // The head of a record that announces a ClientHello of 512 bytes.
    for byte in [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(7)) {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.metric("pullcred_handshake_failures_total{reason=\"timeout\"}"), 1);
    open(&server, 0).await;
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let server = serving(Limits { idle: SHORT, linger: SHORT, ..patient() }).await;
    let (mut read, mut write) = tokio::io::split(connect(&server).await);
    let dribble = tokio::spawn(async move {
        for byte in b"POST /mutate HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = Vec::new();
    // The server may close before it has read the last byte.
    let _ = tokio::time::timeout(SOON, read.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    open(&server, 0).await;
    dribble.await.unwrap();
}

/// Whoever sends request after request and reads an answer a byte at a time stops being listened to; then the kernel finds
/// that it takes nothing in.
#[tokio::test]
async fn a_caller_that_reads_a_byte_at_a_time_is_let_go() {
    let server = serving(Limits { unacknowledged: SHORT, ..patient() }).await;
    let (mut read, mut write) = tokio::io::split(connect(&server).await);
    let flood = tokio::spawn(async move {
        let request = request();
        while write.write_all(&request).await.is_ok() && write.flush().await.is_ok() {}
    });
    let sip = tokio::spawn(async move {
        while read.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    open(&server, 1).await;
    open(&server, 0).await;
    assert_eq!(server.metric("pullcred_requests_in_flight"), 0);
    for task in [flood, sip] {
        task.abort();
    }
}

/// From now on nothing that is sent to this socket arrives, and nobody answers for it: its machine is gone.
fn vanish(stream: &TcpStream) {
    const DROP_EVERYTHING: u16 = 6;
    SockRef::from(stream).attach_filter(&[SockFilter::new(DROP_EVERYTHING, 0, 0, 0)]).unwrap();
}

#[tokio::test]
async fn callers_whose_machine_is_gone_are_noticed() {
    let server = serving(Limits { unacknowledged: SHORT, ..patient() }).await;
    let request = request();
    // Before the handshake; between requests; in the middle of a head, and of a body; with an answer on its way.
    let silent = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    vanish(&silent);
    let mut gone = Vec::new();
    for sent in [0, 30, request.len() - 10, request.len()] {
        let mut stream = connect(&server).await;
        stream.write_all(&request).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        vanish(stream.get_ref().0);
        stream.write_all(&request[..sent]).await.unwrap();
        stream.flush().await.unwrap();
        gone.push(stream);
    }
    assert_eq!(server.metric("pullcred_connections_accepted_total"), 5);
    open(&server, 0).await;
    assert_eq!(server.metric("pullcred_requests_in_flight"), 0);
    assert_eq!(server.metric("pullcred_body_bytes_reserved"), 0);
    let mut stays = connect(&server).await;
    tokio::time::sleep(SHORT * 3).await;
    stays.write_all(&request).await.unwrap();
    stays.read_exact(&mut [0; 12]).await.expect("who is only silent is not taken for one that is gone");
    drop((silent, gone));
}
