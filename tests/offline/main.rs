//! Tests that need no network and no cluster, one module per thing a user would say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only the pure rooms do without files and clocks"
)]

mod finding_codes;
mod house;
mod injection_properties;
mod injects;
mod rule_files;
mod rule_matching;
mod rule_schema;
