//! Where the credentials of rules come from.

pub(super) mod secret;
