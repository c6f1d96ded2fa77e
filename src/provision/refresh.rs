//! When to ask for a credential again: ahead of its end, or after a failure.

use std::time::Duration;

use super::pace::retry_after;

/// A credential that holds for one use is asked for at most so often.
const ONCE_A: Duration = Duration::from_secs(60);
/// Never more often than this, however short a credential's life.
const SHORTEST: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// How long a credential holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// For one use.
    Once,
    /// So long.
    For(Duration),
    /// Until its source changes.
    Unlimited,
}

/// A credential that somebody is asked for: when it was, and when it is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// When the last attempt began.
    asked: Option<Duration>,
    /// When the next is due; `None` for not before something changes.
    next: Option<Duration>,
    failures: u32,
    once: bool,
}

impl Refresh {
    /// Of a rule that has just appeared: it is asked for at once, not at the first need.
    pub fn at_once(now: Duration) -> Self {
        Self { next: Some(now), ..Self::default() }
    }

    /// When to ask next.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// An attempt begins.
    pub fn asks(&mut self, now: Duration) {
        self.asked = Some(now);
        self.next = None;
    }

    /// It has brought a credential, whose life began with the attempt. `jitter`, from 0 to 1, keeps those that began
    /// together from being asked for together.
    pub fn succeeded(&mut self, life: Life, jitter: f64) {
        self.failures = 0;
        self.once = life == Life::Once;
        let asked = self.asked.unwrap_or_default();
        self.next = match life {
            Life::Once | Life::Unlimited => None,
            Life::For(life) => {
                let share = 2.0 / 3.0 - jitter.clamp(0.0, 1.0) / 10.0;
                Some(asked + life.mul_f64(share).max(SHORTEST))
            }
        };
    }

    /// It has not. What there was stays.
    pub fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + retry_after(FIRST_RETRY, self.failures, LONGEST_RETRY));
    }

    /// The credential has ended by the clock on the wall, which the time that runs here need not know: a machine that slept
    /// has stood still. It is asked for at once, unless somebody was asked a moment ago or keeps failing.
    pub fn has_ended(&mut self, now: Duration) {
        if self.failures == 0 && self.next.is_some() && self.asked.is_none_or(|asked| now >= asked + SHORTEST) {
            self.next = Some(now);
        }
    }

    /// Whether the last credential was for one use, and who gave it gives another: copies wait for that. After a failure they get what
    /// there is.
    pub fn is_for_one_use(&self) -> bool {
        self.once && self.failures == 0
    }

    /// Whether a copy that is needed at `now` wants a fresh credential first: the last was for one use, and it is a minute
    /// since anybody was asked.
    pub fn is_used_up(&self, now: Duration) -> bool {
        self.is_for_one_use() && self.asked.is_none_or(|asked| now >= asked + ONCE_A)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_credential_is_asked_for_at_two_thirds_of_its_life_or_a_little_before() {
        for (jitter, minutes) in [(0.0, 40.0), (0.5, 37.0), (1.0, 34.0)] {
            let mut refresh = Refresh::at_once(HOUR);
            assert_eq!(refresh.next(), Some(HOUR));
            refresh.asks(HOUR);
            refresh.succeeded(Life::For(HOUR), jitter);
            let after = refresh.next().unwrap().checked_sub(HOUR).unwrap();
            assert!((after.as_secs_f64() - minutes * 60.0).abs() < 1.0, "{after:?}");
        }
    }

    #[test]
    fn a_failure_is_followed_by_longer_and_longer_pauses() {
        let mut refresh = Refresh::at_once(Duration::ZERO);
        let mut pauses = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..8 {
            refresh.asks(now);
            refresh.failed(now);
            pauses.push(refresh.next().unwrap().checked_sub(now).unwrap().as_secs());
            now = refresh.next().unwrap();
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        refresh.asks(now);
        refresh.succeeded(Life::Unlimited, 0.0);
        assert_eq!(refresh.next(), None);
    }

    #[test]
    fn what_holds_for_one_use_is_asked_for_at_the_next_need_and_at_most_once_a_minute() {
        let mut refresh = Refresh::at_once(Duration::ZERO);
        refresh.asks(Duration::ZERO);
        refresh.succeeded(Life::Once, 0.5);
        assert_eq!(refresh.next(), None);
        assert!(!refresh.is_used_up(Duration::from_secs(59)));
        assert!(refresh.is_used_up(Duration::from_secs(60)));
        // One that hangs is asked again as any other that fails, and no copy waits for it.
        refresh.asks(Duration::from_secs(60));
        assert!(refresh.is_for_one_use());
        refresh.failed(Duration::from_secs(120));
        assert!(!refresh.is_for_one_use() && !refresh.is_used_up(Duration::from_secs(1000)));
        assert_eq!(refresh.next(), Some(Duration::from_secs(125)));
    }

    #[test]
    fn a_very_short_life_is_no_reason_to_ask_without_end() {
        let mut refresh = Refresh::at_once(Duration::ZERO);
        refresh.asks(Duration::ZERO);
        refresh.succeeded(Life::For(Duration::from_millis(1)), 0.0);
        assert_eq!(refresh.next(), Some(SHORTEST));
    }

    #[test]
    fn what_ended_while_the_machine_slept_is_asked_for_at_once_and_not_without_end() {
        let mut refresh = Refresh::at_once(Duration::ZERO);
        refresh.asks(Duration::ZERO);
        refresh.has_ended(HOUR);
        assert_eq!(refresh.next(), None, "somebody is being asked");
        refresh.succeeded(Life::For(HOUR), 0.0);
        let planned = refresh.next();
        refresh.has_ended(SHORTEST / 2);
        assert_eq!(refresh.next(), planned, "a wall clock that is wrong makes nobody ask without end");
        refresh.has_ended(SHORTEST);
        assert_eq!(refresh.next(), Some(SHORTEST));
        refresh.asks(SHORTEST);
        refresh.failed(SHORTEST);
        let again = refresh.next();
        refresh.has_ended(HOUR);
        assert_eq!(refresh.next(), again);
    }
}
