//! Tests that need no network and no cluster, one module per thing a user would say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only the pure rooms do without files and clocks"
)]

#[path = "../support/mod.rs"]
mod support;

mod allocates_little;
mod answers_over_https;
mod callers_that_are_slow_or_gone;
mod certificate_rotation;
mod credential_providers;
mod credentials;
mod doctor_without_a_cluster;
mod ends_in_good_order;
mod finding_codes;
mod follows_its_files;
mod generates;
mod google_keys;
mod handshakes_that_fail;
mod holds_its_limits;
mod house;
mod image_names;
mod injection_properties;
mod injects;
mod matches_images;
mod provision_properties;
mod rule_files;
mod rule_matching;
mod rule_schema;
mod rules_reference;
mod slices;
mod starts_or_says_why_not;
mod tells_how_it_is;
