//! Tests that load the program as much as a large cluster does, one after the other, in a release build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only the pure rooms do without files and clocks"
)]

#[path = "../support/mod.rs"]
mod support;

mod loses_no_call;
mod rotates_authorities;
mod stays_as_it_was;

/// One load at a time: each would measure the others.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
