//! What a list that is coming in has named: once it is complete, what it has not named is gone.

use std::collections::HashSet;
use std::hash::Hash;

/// How far the listing of one kind is.
#[derive(Debug)]
pub struct Listing<T> {
    /// Whether all there is has been listed once.
    pub is_complete: bool,
    named: Option<HashSet<T>>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { is_complete: false, named: None }
    }
}

impl<T: Hash + Eq> Listing<T> {
    /// A list begins to come in.
    pub fn begins(&mut self) {
        self.named = Some(HashSet::new());
    }

    /// The object of this key is there. The key is made only while a list comes in.
    pub fn names(&mut self, key: impl FnOnce() -> T) {
        if let Some(named) = &mut self.named {
            named.insert(key());
        }
    }

    /// The list is complete. Gives all that it has named.
    pub fn ends(&mut self) -> HashSet<T> {
        self.is_complete = true;
        self.named.take().unwrap_or_default()
    }
}
