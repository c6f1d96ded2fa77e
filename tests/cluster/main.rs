//! Tests against a real API server, one module per thing a user would say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only the pure rooms do without files and clocks"
)]

#[path = "../support/mod.rs"]
mod support;

mod calls_as_the_api_server_does;
mod certificates_look_after_themselves;
mod certificates_of_others;
mod certificates_rotate;
mod chart_accepted;
mod chart_admission;
mod chart_certificates;
mod chart_installs;
mod chart_metrics;
mod chart_network;
mod chart_refuses;
mod chart_renders;
mod chart_values;
mod chart_workloads;
mod cluster;
mod copies_are_in_time;
mod copies_are_there;
mod copies_in_a_storm;
mod copies_of_tokens;
mod copies_survive;
mod copies_within_rights;
mod doctor_finds;
mod doctor_looks;
mod kubelet_oracle;
mod pods_get_their_secrets;
mod provided;
mod recorded_reviews;
mod rights;
mod rules_from_the_api;
mod the_api_refuses_what_files_refuse;
mod the_secret_is_there;
mod values_in_documents;
mod webhook_goes_away;
mod what_kubectl_shows;
