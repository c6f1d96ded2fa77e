//! Tests on a real node, in the cluster that `KUBECONFIG` names and with any private registry: CONTRIBUTING.md says how. They
//! take turns, for each wants to say whether pullcred is installed.

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

mod doctor_sees_pods;
mod fields;
mod leftovers;
mod loses_no_pod;
mod node;
mod pods;
mod private_images_run;
mod release;
mod upgrades_and_goes;
mod ways;
mod webhook_by_its_service;
