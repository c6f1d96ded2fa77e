//! What several tests stand on: the control plane, the chart, the program as a process, the server inside the test, a client of it,
//! a Service, certificates that are looked after, tables, what the kernel says of a process, what the API server counts, and waiting
//! for a condition with a limit.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod api_server;
pub mod balancer;
pub mod chart;
pub mod client;
pub mod control_plane;
pub mod controller;
pub mod flow;
pub mod gate;
pub mod measure;
pub mod outside;
pub mod pods;
pub mod program;
pub mod road;
pub mod server;
pub mod tables;
pub mod trust;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Asks every 20 ms until the answer is there. Ends the test with what was waited for when the limit has passed.
pub async fn wait_for<T>(what: &str, limit: Duration, ask: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for_every(Duration::from_millis(20), what, limit, ask).await
}

/// The same at another pace, for what is asked many times at once.
pub async fn wait_for_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < limit, "gave up waiting for {what} after {limit:?}");
        tokio::time::sleep(pause).await;
    }
}

/// A port of the loopback address that nothing listens on, and that nobody else is given: no other test, and no connection, for the
/// system takes those from higher ones.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    // Another test program may run beside this one.
    let begin = u16::try_from(std::process::id().wrapping_mul(1009) % u32::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
