//! One connection, from the accepted socket to its end: TLS, then requests one after the other.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::handshake::Failure;
use super::limits::READ_BUFFER;
use super::server::Server;
use super::status::status;
use crate::process::shutdown::Stage;

/// First byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Serves a connection to its end.
pub(super) async fn serve(server: Arc<Server>, mut stream: TcpStream, peer: SocketAddr) {
    server.series.accepted.inc();
    let _open = Open::count(&server);
    if let Err(error) = prepare(&stream, server.limits.unacknowledged) {
        tracing::debug!(%peer, %error, "a connection ended before it began");
        return;
    }
    let deadline = Instant::now() + server.limits.handshake;
    let failed = match timeout_at(deadline, first_byte(&stream)).await {
        Err(_) => Some((Failure::Timeout, None)),
        Ok(Err(error)) => Some((Failure::of(&error), Some(error))),
        Ok(Ok(None)) => Some((Failure::Closed, None)),
        Ok(Ok(Some(TLS_HANDSHAKE))) => None,
        Ok(Ok(Some(byte))) if byte.is_ascii_uppercase() => {
            answer_plain_http(&mut stream, server.limits.linger).await;
            Some((Failure::PlainHttp, None))
        }
        Ok(Ok(Some(_))) => Some((Failure::NotTls, None)),
    };
    let failed = match failed {
        Some(failed) => failed,
        // The handshake and the stream are boxed, since every await that they live through would make room for them in the
        // task of every connection.
        None => match timeout_at(deadline, Box::pin(server.tls.accept(stream))).await {
            Ok(Ok(stream)) => return requests(&server, Box::new(stream), peer).await,
            Ok(Err(error)) => (Failure::of(&error), Some(error)),
            Err(_) => (Failure::Timeout, None),
        },
    };
    let (failure, error) = failed;
    server.series.handshake_failures.of(failure).inc();
    failure.say(peer, error.as_ref());
}

/// Counts an open connection for as long as it lives.
struct Open<'a>(&'a Server);

impl<'a> Open<'a> {
    fn count(server: &'a Server) -> Self {
        server.series.connections.inc();
        Self(server)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.series.connections.dec();
    }
}

/// Small answers leave at once, and a peer that is gone, or reads next to nothing, is noticed.
fn prepare(stream: &TcpStream, unacknowledged: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let interval = (unacknowledged / 3).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(unacknowledged).with_interval(interval))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    Ok(())
}

async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut first = [0];
    Ok((stream.peek(&mut first).await? > 0).then_some(first[0]))
}

/// Tells whoever speaks HTTP without TLS why that does not work, as Go's server does.
async fn answer_plain_http(stream: &mut TcpStream, limit: Duration) {
    let body =
        status(StatusCode::BAD_REQUEST, "this port serves HTTPS, and the request came as plain HTTP").into_body();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    // Whether it arrives is the caller's business; that it came is counted and logged.
    if timeout(limit, stream.write_all(&answer)).await.is_ok_and(|written| written.is_ok()) {
        linger(stream, limit).await;
    }
}

/// Serves the requests of a connection.
async fn requests(server: &Server, stream: Box<TlsStream<TcpStream>>, peer: SocketAddr) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(server.limits.idle).max_buf_size(READ_BUFFER);
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        Box::pin(respond(server, request))
    });
    let mut connection = http.serve_connection(TokioIo::new(stream), service);

    // This is a task of its own, so its waker never changes: while the server runs it is enough to register for the next stage
    // once, and not with each request, which would take the lock in which the registrations are. As soon as a stage has come
    // every poll registers: one that saw the new stage before its notice came would otherwise use the notice up, and sleep
    // through the next.
    let mut draining = Box::pin(server.shutdown.reached(Stage::Draining));
    let mut registered = false;
    let mut grace = None;
    let mut told = false;
    let ended = std::future::poll_fn(|context| {
        let stage = server.shutdown.now();
        if (!registered || stage >= Stage::Leaving) && !told {
            registered = true;
            if stage < Stage::Draining && draining.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        // First what has arrived: a request that is here already is still answered.
        let ended = connection.poll_without_shutdown(context);
        if ended.is_ready() || told || stage < Stage::Draining {
            return ended;
        }
        // hyper would close a connection that has asked for nothing yet, and its first request is on the way most likely.
        if !asked.load(Ordering::Relaxed) {
            let grace = grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(server.limits.linger)));
            ready!(grace.as_mut().poll(context));
        }
        told = true;
        Pin::new(&mut connection).graceful_shutdown();
        connection.poll_without_shutdown(context)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
        if !error.is_parse() && !error.is_timeout() {
            return;
        }
    }
    close(connection.into_parts().io.into_inner(), server.limits.linger).await;
}

/// Answers one request. From the moment that the process is told to end, each answer is the last of its connection, so that
/// its caller goes elsewhere with the next.
async fn respond(server: &Server, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = server.routes.respond(request).await;
    if server.shutdown.has_reached(Stage::Leaving) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Ends a connection so that an answer that was given before its request was read arrives: closing a socket in which
/// something is unread resets it, and the peer may then never see the answer.
async fn close(mut stream: Box<TlsStream<TcpStream>>, limit: Duration) {
    if timeout(limit, stream.shutdown()).await.is_ok_and(|closed| closed.is_ok()) {
        linger(&mut stream.into_inner().0, limit).await;
    }
}

/// Reads and forgets until the peer has closed too, or has taken too long.
async fn linger(stream: &mut TcpStream, limit: Duration) {
    // On the heap: it would make the task of every connection larger.
    let mut unread = vec![0; 4096];
    let until_closed = async { while matches!(stream.read(&mut unread).await, Ok(1..)) {} };
    // The time is up or the peer is gone: the connection ends either way.
    let _ = timeout(limit, until_closed).await;
}
