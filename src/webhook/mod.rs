//! The HTTPS server of `pullcred webhook`.
//!
//! `connection` turns an accepted socket into requests, `routes` answers them from the current `snapshot` of the rules within
//! the `limits`. `certificate` is what the socket shows, `trust` whether the API server trusts it, `handshake` what is told when a caller does not like it. None of it
//! waits for anything but its own socket, and a request takes no lock.

mod budget;
mod certificate;
mod connection;
mod follow;
mod follow_api;
mod handshake;
mod limits;
mod namespaces;
mod routes;
mod series;
mod server;
mod snapshot;
mod status;
mod trust;

pub use certificate::{Certificates, FollowingPair, PairError, PairFiles, PairPaths, ServingPair, TlsSecret};
pub use follow::Following;
pub use follow_api::FollowingApi;
pub use limits::Limits;
pub use routes::Routes;
pub use series::Series;
pub use server::{Server, tls};
pub use snapshot::{LiveRules, Snapshot};
pub use trust::FollowingTrust;
