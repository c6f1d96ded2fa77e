//! What the server will hold at once, so that nobody can make it grow.

use std::time::Duration;

/// The largest body that is read. A review holds an object and its predecessor of up to 3 MiB each.
pub(super) const BODY: usize = 8 << 20;

/// Bytes of a connection's reading buffer: one TLS record. Larger ones would be kept by every connection that ever sent
/// something large.
pub(super) const READ_BUFFER: usize = 16 << 10;

/// What may be open, in work, and in memory at once, and how long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Requests; further ones are answered 503.
    pub requests: usize,
    /// Bytes of bodies; requests whose body does not fit are answered 503.
    pub body_bytes: usize,
    /// How long a handshake may take. It takes milliseconds; whoever connects and says nothing is not waited for.
    pub handshake: Duration,
    /// How long a body may take to come, whatever deadline the caller names.
    pub body: Duration,
    /// How long a connection may be silent between requests. The API server keeps idle connections for 90 s and never
    /// repeats a request that meets a closed one, so it must be the one that closes.
    pub idle: Duration,
    /// How long a peer may acknowledge nothing, or take in nothing, of what is sent to it, and how long it may be silent before
    /// the kernel asks whether it is still there. At least a second.
    pub unacknowledged: Duration,
    /// How long a connection that we close is read from, so that an answer given before its request was read arrives.
    pub linger: Duration,
    /// How long what has begun may take to end when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2500,
            requests: 1000,
            body_bytes: 64 << 20,
            handshake: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            unacknowledged: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// File descriptors for everything else: files, the admin port, the runtime.
    const RESERVED: usize = 128;

    /// These limits for a process that may open only so many file descriptors: probes and file reads must still find some
    /// when every connection is taken.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        let connections = descriptors.saturating_sub(Self::RESERVED).max(descriptors / 2).max(1);
        Self { connections: self.connections.min(connections), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_everything_else() {
        for (descriptors, connections) in [(1_000_000, 2500), (1024, 896), (200, 100), (64, 32), (0, 1)] {
            assert_eq!(Limits::default().within(descriptors).connections, connections, "{descriptors}");
        }
    }
}
