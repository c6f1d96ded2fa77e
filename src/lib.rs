//! Every Pod gets the pull credentials its images need, and only those.
//!
//! A map of the house; `ARCHITECTURE.md` says what holds it up.
//!
//! | room | what it knows | pure |
//! |---|---|---|
//! | [`image`] | how the kubelet reads image names and patterns | yes |
//! | [`rules`] | the documents a person writes, and the rules compiled from them | yes |
//! | [`admission`] | an AdmissionReview in, an answer out | yes |
//! | [`pki`] | certificate authorities and leaves | yes |
//! | [`provision`] | what should be in which namespace, and the write that makes it so | yes |
//! | [`process`] | what every long-running command is made of: admin port, logs, metrics, shutdown | no |
//! | [`cluster`] | the Kubernetes API as both processes read it | no |
//! | [`webhook`] | the HTTPS server | no |
//! | [`controller`] | carrying plans out: the copies, and where their credentials come from | no |
//! | [`doctor`] | what is wrong with an installation, and how to mend it | no |
//! | [`cli`] | the commands | no |
//!
//! A pure room knows no clock, environment, file, socket, runtime or log: what it needs comes in as an argument.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod admission;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod doctor;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod image;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod pki;
pub mod process;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod provision;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod rules;
pub mod webhook;
