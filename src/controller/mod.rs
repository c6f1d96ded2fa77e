//! The controller: carries plans out against the Kubernetes API and gets credentials from where they come from.

pub mod sources;
