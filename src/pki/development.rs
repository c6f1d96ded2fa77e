//! Certificates for a person's own machine: an authority that signs one leaf for the loopback names and is then forgotten.

use std::time::Duration;

use jiff::Timestamp;

use super::{Authority, Facts, Leaf, MakeError};

/// The names that the leaf is valid for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The authority's common name, by which its leaves are known again.
const AUTHORITY: &str = "pullcred development authority";

/// The leaf and its authority are valid for a year.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes an authority and a leaf for `localhost`, `127.0.0.1` and `::1`. The authority's key is forgotten: nothing else can
/// ever be signed with it.
///
/// # Errors
/// The cryptography refuses.
pub fn make_development(now: Timestamp) -> Result<Leaf, MakeError> {
    let authority = Authority::make(Some(AUTHORITY), LIFETIME, now)?;
    authority.sign("pullcred development webhook", &NAMES.map(str::to_owned), LIFETIME, now)
}

/// Whether a leaf is one that [`make_development`] made, and so may be replaced.
pub fn was_made_here(leaf: &Facts) -> bool {
    leaf.issuer == AUTHORITY
}
