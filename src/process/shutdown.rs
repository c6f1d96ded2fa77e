//! The stages in which a process ends, so that no call is lost.
//!
//! A Pod that is told to end still gets calls until every API server has heard of it. So it first serves as before while it
//! says that it is not ready and sends each caller elsewhere (`Connection: close`), and only then stops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Where a process is in its life. Stages only ever advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Serving.
    Serving = 0,
    /// Told to end: not ready, serving as before, but each connection for one more answer only.
    Leaving = 1,
    /// Nothing new is accepted; what has begun is finished.
    Draining = 2,
}

/// Who moves a process from stage to stage.
#[derive(Debug)]
pub struct Ending(Shutdown, watch::Sender<Stage>);

/// Who asks at which stage the process is, or waits for one. Asking takes no lock.
#[derive(Debug, Clone)]
pub struct Shutdown {
    now: Arc<AtomicU8>,
    changed: watch::Receiver<Stage>,
}

/// A process that serves.
pub fn stages() -> (Ending, Shutdown) {
    let (sender, changed) = watch::channel(Stage::Serving);
    let shutdown = Shutdown { now: Arc::new(AtomicU8::new(Stage::Serving as u8)), changed };
    (Ending(shutdown.clone(), sender), shutdown)
}

impl Ending {
    /// Moves on to a stage.
    pub fn enter(&self, stage: Stage) {
        self.0.now.store(stage as u8, Ordering::Relaxed);
        self.1.send_replace(stage);
    }
}

impl Shutdown {
    /// The stage that has been reached.
    pub fn now(&self) -> Stage {
        match self.now.load(Ordering::Relaxed) {
            0 => Stage::Serving,
            1 => Stage::Leaving,
            _ => Stage::Draining,
        }
    }

    /// Whether a stage has been reached.
    pub fn has_reached(&self, stage: Stage) -> bool {
        self.now() >= stage
    }

    /// Waits for a stage. When nobody is left to move the process on, it is reached at once.
    pub async fn reached(&self, stage: Stage) {
        // An error says that the sender is gone: the process is ending, whatever the stage.
        let _ = self.changed.clone().wait_for(|now| *now >= stage).await;
    }
}

/// The signals that ask a process to end: SIGTERM, and SIGINT from a terminal.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over. From now on they end the process only by being waited for.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
