//! An amount that is shared by all requests, of which each takes its part or is turned away. Nobody waits for it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left of an amount.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
    whole: usize,
}

/// A part of a budget; it goes back when this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Taken<'a> {
    budget: &'a Budget,
    amount: usize,
}

impl Budget {
    pub(super) fn new(whole: usize) -> Self {
        Self { left: AtomicUsize::new(whole), whole }
    }

    /// Takes a part, if there is as much.
    pub(super) fn take(&self, amount: usize) -> Option<Taken<'_>> {
        self.left
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(amount))
            .is_ok()
            .then(|| Taken { budget: self, amount })
    }

    pub(super) fn used(&self) -> usize {
        self.whole - self.left.load(Ordering::Relaxed)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_than_there_is_can_be_taken() {
        let budget = Budget::new(10);
        let first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert_eq!(budget.used(), 6, "what was not taken is not given back");
        let second = budget.take(4).unwrap();
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 4);
        drop(second);
        assert!(budget.take(10).is_some());
        assert_eq!(budget.used(), 0);
    }
}
