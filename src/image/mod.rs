//! How the kubelet reads image names, patterns and the credentials of registries.
//!
//! [`ImageReference`] and [`ImagePattern`] are what Pods and rules write. A [`DockerConfig`] is what a Secret holds, and a
//! [`Keyring`] says which of its credentials the kubelet would try for an image. The differential test in
//! `tests/cluster/kubelet_oracle.rs` compares them with the kubelet's own code.

mod docker_config;
mod glob;
mod json;
mod keyring;
mod near_miss;
mod pattern;
mod reference;
mod slice;
mod url;

pub use docker_config::{Credential, DockerConfig, DockerConfigError, DockerConfigJson, NotDockerConfig, SecretType};
pub use keyring::{Entry, Keyring, NoMatch, matches};
pub use near_miss::{NearMiss, key_near_miss, pattern_near_miss, shown_key};
pub use pattern::{ImagePattern, ImagePatternError, Specificity};
pub use reference::{ImageReference, ImageReferenceError};
