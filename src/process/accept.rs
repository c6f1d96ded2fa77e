//! Listening, and accepting connections one by one: bounded in number, each served by a task that the loop owns.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::logs::Seldom;

/// How many connections the kernel keeps for us until we accept them (it applies its own limit, `somaxconn`).
const BACKLOG: u32 = 4096;

/// How long to leave a listener alone that cannot accept, which is mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on an address, or on a port of every address. `[::]`, which is what the latter means too, is IPv6 and IPv4 together,
/// and IPv4 where there is no IPv6.
///
/// # Errors
/// The address is in use, is not ours, or the port wants privileges.
pub fn listen(address: Option<SocketAddr>, default_port: u16) -> io::Result<TcpListener> {
    let address = address.unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, default_port).into());
    bind(address).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ if address.ip() == Ipv6Addr::UNSPECIFIED => bind((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        _ => Err(error),
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds the port free although connections of its predecessor still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// When a loop last came round: what liveness is about.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds from `started`.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// How often a live loop beats.
    const EVERY: Duration = Duration::from_secs(1);

    /// A heart that has just beaten.
    pub fn start() -> Self {
        Self { started: Instant::now(), last: Arc::default() }
    }

    /// Beats.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// How long ago it last did.
    pub fn silent_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Accepts connections until `stop`, each served by a task of its own, and never more than `limit` at once: those beyond
/// it wait in the kernel's queue. What stands in that queue at the stop is accepted too, since closing a listener resets it.
///
/// Gives back the tasks that are not done. Dropping them ends them.
pub async fn accept_until<S>(
    listener: &TcpListener,
    limit: usize,
    heartbeat: &Heartbeat,
    stop: impl Future<Output = ()>,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> S,
) -> JoinSet<()>
where
    S: Future<Output = ()> + Send + 'static,
{
    static CANNOT_ACCEPT: Seldom = Seldom::at_most(1);
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    let mut ticks = tokio::time::interval(Heartbeat::EVERY);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => heartbeat.beat(),
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < limit => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer));
                }
                Err(error) => {
                    if let Some(unsaid) = CANNOT_ACCEPT.now() {
                        tracing::error!(%error, unsaid, "cannot accept a connection; trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    while let Some(Ok((stream, peer))) = waiting(listener).await {
        connections.spawn(serve(stream, peer));
    }
    connections
}

/// A connection that waits in the kernel's queue at this moment.
async fn waiting(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|context| match listener.poll_accept(context) {
        std::task::Poll::Ready(accepted) => std::task::Poll::Ready(Some(accepted)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Waits for connections to end by themselves, and ends those that have not after `limit`. Gives how many were cut off.
pub async fn drain(mut connections: JoinSet<()>, limit: Duration) -> usize {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(limit, all).await.is_ok() {
        return 0;
    }
    let cut_off = connections.len();
    connections.shutdown().await;
    cut_off
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a fault of ours");
    }
}
