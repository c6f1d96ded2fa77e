//! Tasks that run as long as the process does: each is owned and has a name, and none may end by itself.

use std::convert::Infallible;
use std::future::Future;

use tokio::task::JoinSet;

/// The tasks of a process. Dropping this ends them.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<&'static str>);

/// A task ended that nobody had asked to end.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It panicked.
    #[error("a task ended by a fault of ours: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// It returned.
    #[error("the task `{0}` ended, which it never should")]
    Returned(&'static str),
}

impl Tasks {
    /// Runs a task that never ends.
    pub fn run(&mut self, name: &'static str, task: impl Future<Output = Infallible> + Send + 'static) {
        self.run_until_asked(name, async move { match task.await {} });
    }

    /// Runs a task that ends only when it is asked to, by means that it knows.
    pub fn run_until_asked(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits for the next task to end. Never comes back while there is none.
    pub async fn next_end(&mut self) -> Ended {
        match self.0.join_next().await {
            Some(Ok(name)) => Ended::Returned(name),
            Some(Err(error)) => Ended::Panicked(error),
            None => std::future::pending().await,
        }
    }
}
