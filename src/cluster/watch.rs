//! Watches as tasks: what they see goes into a channel, in the order of each watch, and so does what troubles them.

use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::process::logs::Seldom;

/// A watch is begun again by the server after so many seconds, so one that is silent for longer is dead.
const RENEWED: u32 = 60;

/// What one watch sees of its objects.
#[derive(Debug)]
pub enum Change<T> {
    /// All objects are listed from here on.
    ListBegins,
    /// An object is there, or has changed.
    Put(T),
    /// An object is gone.
    Gone(T),
    /// The list is complete; what was not in it is gone.
    ListEnds,
    /// Nothing can be seen for the time being. What was seen before stays true for all that is known.
    Trouble(Trouble),
}

/// Why a watch sees nothing. Prints as the end of a sentence that begins with the resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The API does not permit it (403).
    #[error("may not be watched: grant `list` and `watch` on them")]
    Denied,
    /// The API does not know the kind (404).
    #[error("are not known to the Kubernetes API: apply what `pullcred generate crds` prints")]
    UnknownKind,
    /// The API is away, overloaded, or broke the watch off.
    #[error("cannot be watched: {0}")]
    Broken(String),
}

impl Trouble {
    fn of(error: &watcher::Error) -> Self {
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status.code),
            _ => None,
        };
        match code {
            Some(403) => Self::Denied,
            Some(404) => Self::UnknownKind,
            _ => Self::Broken(innermost(error)),
        }
    }
}

/// What an error comes down to: kube and hyper each wrap it in words of their own.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What to do when the API does not permit a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDenied {
    /// End, after saying so: somebody asks again and starts another.
    End,
    /// Log the missing right, and try again.
    TryAgain,
}

/// Watches until the receiver is gone or, if so wanted, the API does not permit it. A list that hangs is given up by the
/// client's own limit.
pub async fn watch<K, S>(
    api: Api<K>,
    config: watcher::Config,
    when_denied: WhenDenied,
    out: mpsc::Sender<S>,
    wrap: impl Fn(Change<K>) -> S,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, config.timeout(RENEWED)));
    let mut pauses = Pauses::default();
    while let Some(event) = events.next().await {
        let mut pause = None;
        let mut ends = false;
        let change = match event {
            // The list has not come yet.
            Ok(Event::Init) => Change::ListBegins,
            Ok(Event::InitApply(object) | Event::Apply(object)) => Change::Put(object),
            Ok(Event::Delete(object)) => Change::Gone(object),
            Ok(Event::InitDone) => {
                pauses = Pauses::default();
                Change::ListEnds
            }
            Err(error) => {
                let trouble = Trouble::of(&error);
                ends = trouble == Trouble::Denied && when_denied == WhenDenied::End;
                if !ends {
                    say(&K::plural(&()), &trouble);
                }
                pause = Some(pauses.after(&trouble, Instant::now()));
                Change::Trouble(trouble)
            }
        };
        if out.send(wrap(change)).await.is_err() || ends {
            return;
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

fn say(resources: &str, trouble: &Trouble) {
    static SAID: Seldom = Seldom::at_most(5);
    let Some(unsaid) = SAID.now() else { return };
    match trouble {
        Trouble::Broken(_) => tracing::warn!(unsaid, "{resources} {trouble}; trying again"),
        Trouble::Denied | Trouble::UnknownKind => tracing::error!(unsaid, "{resources} {trouble}; asking again"),
    }
}

/// How long to leave the API alone after trouble. kube's own back-off begins anew with each attempt to list.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<(Instant, Duration, Kind)>,
}

/// Pauses grow for as long as the trouble is of one kind: an API server that has just come back denies everything for a
/// moment, before it has read the roles.
type Kind = std::mem::Discriminant<Trouble>;

impl Pauses {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(15);
    const UNKNOWN_KIND: Duration = Duration::from_secs(5);
    const FIRST_DENIED: Duration = Duration::from_secs(1);
    const DENIED: Duration = Duration::from_secs(30);
    /// A watch that goes on where it was tells nothing of its success, but that no trouble follows.
    const FORGOTTEN: Duration = Duration::from_secs(60);

    fn after(&mut self, trouble: &Trouble, now: Instant) -> Duration {
        let kind = std::mem::discriminant(trouble);
        let recent = self.last.filter(|(at, _, last)| now.duration_since(*at) < Self::FORGOTTEN && *last == kind);
        let grown = |first: Duration, longest| recent.map_or(first, |(_, pause, _)| (pause * 2).min(longest));
        let pause = match trouble {
            Trouble::Denied => grown(Self::FIRST_DENIED, Self::DENIED),
            Trouble::UnknownKind => Self::UNKNOWN_KIND,
            Trouble::Broken(_) => grown(Self::FIRST, Self::LONGEST),
        };
        self.last = Some((now, pause, kind));
        pause
    }
}

/// Only the object of this name.
pub fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew_after_a_quiet_minute() {
        let broken = Trouble::Broken(String::new());
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let mut waited = Vec::new();
        for _ in 0..8 {
            let pause = pauses.after(&broken, now);
            now += pause;
            waited.push(pause.as_millis());
        }
        assert_eq!(waited, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert_eq!(pauses.after(&broken, now + Pauses::FORGOTTEN), Pauses::FIRST);
    }

    #[test]
    fn what_a_person_must_grant_is_asked_for_soon_and_then_every_half_minute() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        // What was wrong before counts for nothing.
        for _ in 0..8 {
            now += pauses.after(&Trouble::Broken(String::new()), now);
        }
        let mut waited = Vec::new();
        for _ in 0..7 {
            let pause = pauses.after(&Trouble::Denied, now);
            now += pause;
            waited.push(pause.as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 30, 30]);
        for _ in 0..3 {
            assert_eq!(pauses.after(&Trouble::UnknownKind, now), Pauses::UNKNOWN_KIND);
        }
    }
}
