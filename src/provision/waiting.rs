//! Places that are to be looked at later.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::Place;

/// Places to be looked at later: each of them once, however often it is asked for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_time: BTreeSet<(Duration, Place)>,
    of: HashMap<Place, Duration>,
}

impl Waiting {
    /// The place is looked at then, or before.
    pub(super) fn until(&mut self, due: Duration, place: &Place) {
        match self.of.get(place) {
            Some(sooner) if *sooner <= due => return,
            Some(later) => _ = self.by_time.remove(&(*later, place.clone())),
            None => {}
        }
        self.of.insert(place.clone(), due);
        self.by_time.insert((due, place.clone()));
    }

    pub(super) fn forget(&mut self, place: &Place) {
        if let Some((place, due)) = self.of.remove_entry(place) {
            self.by_time.remove(&(due, place));
        }
    }

    pub(super) fn first(&self) -> Option<Duration> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// A place whose time has come. It is not waiting any more.
    pub(super) fn take(&mut self, now: Duration) -> Option<Place> {
        if self.first()? > now {
            return None;
        }
        let (_, place) = self.by_time.pop_first()?;
        self.of.remove(&place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_waits_once_however_often_it_is_asked_for_and_never_too_long() {
        let mut waiting = Waiting::default();
        let place = |name: &str| Place { namespace: name.into(), secret: "regcred".into() };
        let seconds = Duration::from_secs;
        for turn in 0..1000 {
            waiting.until(seconds(86400 + turn), &place("a"));
        }
        assert_eq!((waiting.by_time.len(), waiting.of.len()), (1, 1));
        waiting.until(seconds(5), &place("a"));
        waiting.until(seconds(7), &place("b"));
        assert_eq!(waiting.take(seconds(4)), None);
        assert_eq!(waiting.take(seconds(6)), Some(place("a")));
        assert_eq!(waiting.first(), Some(seconds(7)));
        waiting.until(seconds(86400), &place("a"));
        assert_eq!(waiting.take(seconds(8)), Some(place("b")));
        assert_eq!((waiting.first(), waiting.of.len()), (Some(seconds(86400)), 1));
    }
}
