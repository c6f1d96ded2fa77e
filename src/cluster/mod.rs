//! The Kubernetes API as both processes read it.
//!
//! | file | what |
//! |---|---|
//! | `client` | which cluster there is, how it is called, and when it was last heard of |
//! | `watch` | watches as tasks that never give up, and say what troubles them |
//! | `listing` | what a list that is coming in has named, so that the rest is known to be gone |
//! | `configuration` | which entry of the webhook configuration is ours, and its `caBundle` |
//! | `objects` | objects as narrow as they are needed |
//! | `definitions` | whether the cluster's definitions of our kinds are as new as this program |

mod client;
pub mod configuration;
pub mod definitions;
mod listing;
pub(crate) mod objects;
mod watch;

pub use client::{Cluster, Unknown};
pub use listing::Listing;
pub use watch::{Change, Trouble, WhenDenied, named, watch};

/// The Lease, in the release namespace, of the controller that leads.
pub(crate) const LEASE: &str = "pullcred-controller";
