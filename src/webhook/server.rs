//! The server: a listener, the certificate that it shows, and the routes behind it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificates;
use super::connection;
use super::limits::Limits;
use super::routes::Routes;
use super::series::Series;
use crate::process::accept::{Heartbeat, accept_until, drain};
use crate::process::shutdown::{Shutdown, Stage};

/// What connections are served with.
pub struct Server {
    /// TLS, as [`tls`] makes it.
    pub tls: TlsAcceptor,
    /// Who answers.
    pub routes: Routes,
    /// What is counted.
    pub series: Series,
    /// At which stage the process is.
    pub shutdown: Shutdown,
    /// How much there may be of everything.
    pub limits: Limits,
    /// Beats as long as the accept loop comes round.
    pub heartbeat: Heartbeat,
}

/// TLS 1.2 and 1.3 with HTTP/1.1 alone: it is all that the API server speaks to webhooks in a cluster. Sessions are not
/// resumed, which the API server does not do either, so that nothing is kept for it.
///
/// # Errors
/// The versions do not go with the cryptography, which would be a fault of ours.
pub fn tls(certificates: Arc<Certificates>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Server {
    /// Serves until the process drains, then finishes what has begun.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let stop = server.shutdown.reached(Stage::Draining);
        let connections =
            accept_until(&listener, server.limits.connections, &server.heartbeat, stop, |stream, peer| {
                connection::serve(Arc::clone(&server), stream, peer)
            })
            .await;
        drop(listener);
        let cut_off = drain(connections, server.limits.drain).await;
        if cut_off > 0 {
            server.series.cut_off.inc_by(cut_off as u64);
            tracing::warn!(cut_off, "connections were not done in time, and are cut off");
        }
    }
}
