//! Files that are read whole and within bounds, and watched by their content.
//!
//! They are polled: what Kubernetes mounts changes by a swap of the link `..data`, which a watch on the file's inode
//! misses the second time.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often watched files are read. A change counts when two readings agree on it, so within a second.
pub const EVERY: Duration = Duration::from_millis(500);

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Opening it could block for ever.
    #[error("is not a file but a {0}")]
    NotAFile(&'static str),
    /// More than we are willing to hold.
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads a regular file of at most `limit` bytes. Nothing else is opened, whatever a link leads to.
///
/// # Errors
/// It is not there, not readable, not a regular file, or too large.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let metadata = fs::metadata(path)?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        return Err(FileError::NotAFile(describe(kind)));
    }
    // With room for a byte more than there is the end is found at once, without a buffer that grows.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1);
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge(limit));
    }
    Ok(bytes)
}

fn describe(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_fifo() => "named pipe",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

/// Reads again and again, and after each reading calls `looked`: with the reading, once it differs from what was acted on
/// and a second reading agrees with it, else with nothing. So an edit that is half written is not looked at. `first` is what
/// has been acted on already.
pub async fn watch<T: Hash + Send + 'static>(
    first: &T,
    read: impl Fn() -> T + Clone + Send + 'static,
    mut looked: impl FnMut(Option<T>) + Send,
) -> Infallible {
    let mut acted_on = fingerprint(first);
    let mut seen = acted_on;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match tokio::task::spawn_blocking(read.clone()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "reading watched files failed by a fault of ours; trying again");
                continue;
            }
        };
        let now = fingerprint(&found);
        let changed = now != acted_on && now == seen;
        seen = now;
        if changed {
            acted_on = now;
        }
        looked(changed.then_some(found));
    }
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How many file descriptors the process may have open; `None` where the system does not say so in `/proc`.
pub fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    /// What `watch` reports when its readings are these, one after the other, the last one for ever.
    async fn reported(first: &'static str, readings: &'static [&'static str]) -> Vec<&'static str> {
        let (sender, receiver) = mpsc::channel();
        let next = Arc::new(AtomicUsize::new(0));
        let read = move || readings[next.fetch_add(1, Ordering::Relaxed).min(readings.len() - 1)];
        let watching = watch(&first, read, move |found| sender.send(found).unwrap());
        let readings = u32::try_from(readings.len()).unwrap() + 3;
        assert!(tokio::time::timeout(EVERY * readings, watching).await.is_err());
        receiver.iter().flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_once_and_when_two_readings_agree() {
        for (readings, expected) in [
            (&["a"][..], &[][..]),
            (&["b"], &["b"]),
            (&["a", "b", "b", "b", "a", "a"], &["b", "a"]),
            (&["half", "whole"], &["whole"]),
            (&["half", "a"], &[]),
            (&["a", "x", "y", "z", "z"], &["z"]),
        ] {
            assert_eq!(reported("a", readings).await, expected, "{readings:?}");
        }
    }

    #[test]
    fn only_regular_files_within_bounds_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&file, 4).unwrap_err().to_string(), "is larger than 4 bytes");
        assert_eq!(read(directory.path(), 4).unwrap_err().to_string(), "is not a file but a directory");
        assert_eq!(read(Path::new("/dev/zero"), 4).unwrap_err().to_string(), "is not a file but a device");
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(read(&socket, 4).unwrap_err().to_string(), "is not a file but a socket");
    }
}
