//! How fast writes may follow one another: in one place, and in all.

use std::time::Duration;

/// So many writes in one place follow each other at once.
const FREE: u32 = 3;
/// A place where nothing was written for so long is calm again.
const CALM: Duration = Duration::from_secs(600);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// What fails or is refused is tried again after so long at most: whoever mends it is not to wait longer.
const LONGEST_FAILING: Duration = Duration::from_secs(30);

/// Writes of one content in one place: whoever else writes there again and again meets a writer that becomes slower. Another
/// content is another matter: a credential that is renewed often goes out each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    content: Option<u64>,
    writes: u32,
    failures: u32,
    last: Duration,
    not_before: Duration,
}

impl Pace {
    /// Counts a write at `now`, of a copy with this content or, without one, a removal.
    pub fn wrote(&mut self, now: Duration, content: Option<u64>) {
        if self.is_calm(now) || self.is_other(content) {
            *self = Self::default();
        }
        self.content = content.or(self.content);
        self.writes = self.writes.saturating_add(1);
        self.failures = 0;
        self.last = now;
        self.not_before = match self.writes.checked_sub(FREE) {
            Some(beyond) => now + doubled(FIRST, beyond, LONGEST),
            None => now,
        };
    }

    /// Counts a write at `now` that was not made: the next is `pause` later, and twice as long after each other such one. Nobody
    /// fights there, so the place is not slowed down for it once a write succeeds.
    pub fn failed(&mut self, now: Duration, content: Option<u64>, pause: Duration) {
        if self.is_calm(now) || self.is_other(content) {
            *self = Self::default();
        }
        self.content = content.or(self.content);
        self.last = now;
        self.not_before = self.not_before.max(now + doubled(pause, self.failures, LONGEST_FAILING));
        self.failures = self.failures.saturating_add(1);
    }

    /// How many writes in a row were not made.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next write may be, of a copy with this content or, without one, a removal.
    pub fn not_before(&self, content: Option<u64>) -> Duration {
        if self.is_other(content) { Duration::ZERO } else { self.not_before }
    }

    fn is_other(&self, content: Option<u64>) -> bool {
        content.is_some() && self.content.is_some() && content != self.content
    }

    /// Whether nothing is left to remember.
    pub fn is_calm(&self, now: Duration) -> bool {
        now >= self.last + CALM
    }
}

/// How long to wait after `failures` failures in a row: from `first`, doubled each time, to `longest`.
pub fn retry_after(first: Duration, failures: u32, longest: Duration) -> Duration {
    doubled(first, failures.saturating_sub(1), longest)
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times.min(31))).min(longest)
}

/// A bucket of permits that fills evenly: how many writes there may be in all.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: u32,
    burst: Duration,
    /// When the bucket would be full, were nothing more taken.
    full_at: Duration,
}

impl Rate {
    /// So many a second, and as many at once.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), burst: Duration::from_secs(1), full_at: Duration::ZERO }
    }

    /// Takes a permit, or says when there will be one.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let after = self.full_at.max(now) + Duration::from_secs(1) / self.per_second;
        match after.checked_sub(self.burst) {
            Some(ready) if ready > now => Err(ready),
            _ => {
                self.full_at = after;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_that_fight_slow_down_to_a_write_in_five_minutes() {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        let mut writes = 0;
        while now < Duration::from_secs(3600) {
            pace.wrote(now, Some(1));
            writes += 1;
            now = pace.not_before(Some(1)).max(now + Duration::from_millis(1));
        }
        assert!((15..=30).contains(&writes), "{writes} writes in an hour");
    }

    #[test]
    fn a_place_that_was_left_alone_is_written_at_once() {
        let mut pace = Pace::default();
        for second in 0..20 {
            pace.wrote(Duration::from_secs(second), Some(1));
        }
        let later = Duration::from_secs(19) + CALM;
        pace.wrote(later, Some(1));
        assert_eq!(pace.not_before(Some(1)), later);
    }

    #[test]
    fn a_credential_that_is_renewed_every_few_minutes_is_written_at_once_each_time() {
        let mut pace = Pace::default();
        for renewal in 0..50 {
            let now = Duration::from_secs(240) * renewal;
            let content = Some(u64::from(renewal));
            assert!(pace.not_before(content) <= now, "renewal {renewal} waits until {:?}", pace.not_before(content));
            pace.wrote(now, content);
        }
    }

    #[test]
    fn what_is_refused_is_tried_every_30_seconds_and_what_fails_at_least_as_often() {
        for pause in [1, 5, 30].map(Duration::from_secs) {
            let mut pace = Pace::default();
            let mut now = Duration::from_secs(7);
            for _ in 0..1000 {
                pace.failed(now, Some(1), pause);
                let next = pace.not_before(Some(1));
                let range = now + pause..=now + LONGEST_FAILING;
                assert!(range.contains(&next), "{next:?} after {now:?} with {pause:?}");
                now = next;
            }
            // What was mended counts as if nothing had been.
            pace.wrote(now, Some(1));
            assert_eq!(pace.not_before(Some(1)), now);
        }
    }

    #[test]
    fn copies_that_are_needed_and_removed_in_turn_are_written_more_and_more_slowly() {
        let mut pace = Pace::default();
        for turn in 0..10 {
            pace.wrote(Duration::from_secs(turn), (turn % 2 == 0).then_some(1));
        }
        assert!(pace.not_before(Some(1)) > Duration::from_secs(100));
        assert!(pace.not_before(None) > Duration::from_secs(100));
    }

    #[test]
    fn a_bucket_gives_a_second_of_permits_at_once_and_then_as_many_each_second() {
        let mut rate = Rate::new(10);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            assert_eq!(rate.take(now), Ok(()));
        }
        for _ in 0..20 {
            let ready = rate.take(now).unwrap_err();
            assert!(ready > now);
            now = ready;
            assert_eq!(rate.take(now), Ok(()));
        }
        assert_eq!(now, Duration::from_secs(2));
    }
}
