//! Watches as tasks: what they see goes into one channel, in the order of each watch.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::process::logs::Seldom;

/// A watch that says nothing for so long is begun again by the server.
const SILENCE: u32 = 60;

/// A refused watch that must go on is tried again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What one watch sees of its objects.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// All objects are listed from here on.
    ListBegins,
    /// An object is there, or has changed.
    Put(T),
    /// An object is gone.
    Gone(T),
    /// The list is complete; what was not in it is gone.
    ListEnds,
    /// The API does not permit it.
    Denied,
}

/// What to do when the API does not permit a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenDenied {
    /// End, after saying so: somebody asks again and starts another.
    End,
    /// Log the missing right, and try again.
    TryAgain,
}

/// Watches until the receiver is gone or, if so wanted, the API does not permit it.
pub(super) async fn watch<K, S>(
    api: Api<K>,
    config: watcher::Config,
    when_denied: WhenDenied,
    out: mpsc::Sender<S>,
    wrap: impl Fn(Change<K>) -> S,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    static CANNOT_WATCH: Seldom = Seldom::at_most(5);
    loop {
        let mut events = watcher(api.clone(), config.clone().timeout(SILENCE)).default_backoff().boxed();
        let denied = loop {
            let Some(event) = events.next().await else { break false };
            let change = match event {
                Ok(Event::Init) => Change::ListBegins,
                Ok(Event::InitApply(object) | Event::Apply(object)) => Change::Put(object),
                Ok(Event::Delete(object)) => Change::Gone(object),
                Ok(Event::InitDone) => Change::ListEnds,
                Err(error) if code_of(&error) == Some(403) => break true,
                Err(error) if code_of(&error) == Some(404) => {
                    if let Some(unsaid) = CANNOT_WATCH.now() {
                        let kind = K::kind(&());
                        tracing::error!(unsaid, %kind, "the Kubernetes API does not know this kind: apply what `pullcred generate crds` prints");
                    }
                    continue;
                }
                Err(error) => {
                    if let Some(unsaid) = CANNOT_WATCH.now() {
                        tracing::warn!(%error, unsaid, kind = %K::kind(&()), "a watch was broken off; beginning again");
                    }
                    continue;
                }
            };
            if out.send(wrap(change)).await.is_err() {
                return;
            }
        };
        if denied && when_denied == WhenDenied::End {
            // Nobody is left to tell when the receiver is gone.
            let _ = out.send(wrap(Change::Denied)).await;
            return;
        }
        if denied {
            let (group, resource) = (K::group(&()), K::plural(&()));
            tracing::error!(%group, %resource, "not permitted: grant the controller `list` and `watch`; asking again in 30 s");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// Only the object of this name.
pub(super) fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}
