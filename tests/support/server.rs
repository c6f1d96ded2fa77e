//! The HTTPS server of `pullcred webhook` inside the test, for limits that a process of its own would not let one set; and TLS
//! for servers that are the tests' own.

use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use pullcred::pki::make_development;
use pullcred::process::accept::Heartbeat;
use pullcred::process::metrics;
use pullcred::process::shutdown::{Ending, stages};
use pullcred::rules::{SourceFile, read_documents};
use pullcred::webhook::{
    Certificates, Limits, LiveRules, PairPaths, Routes, Series, Server, ServingPair, Snapshot, tls,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::client::Client;

/// TLS for HTTP/1.1 as a server of the tests' own speaks it, with a certificate and its key in PEM.
pub fn acceptor(certificate: &[u8], key: &[u8]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificate).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A server on a port of its own. Dropping it ends it.
pub struct Serving {
    pub port: u16,
    /// The authority of its certificate, in PEM.
    pub authority: Vec<u8>,
    pub ending: Ending,
    pub rules: LiveRules,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves these rule documents.
    pub async fn start(rules: &str, limits: Limits) -> Self {
        let made = make_development(Timestamp::now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let paths = PairPaths { certificate: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
        std::fs::write(&paths.certificate, made.tls_crt).unwrap();
        std::fs::write(&paths.key, made.tls_key).unwrap();
        let pair = ServingPair::new(&paths.read()).unwrap();

        let mut registry = metrics::registry();
        let series = Series::register(&mut registry);
        let (ending, shutdown) = stages();
        let live = LiveRules::default();
        registry.register_collector(Box::new(live.clone()));
        let documents = read_documents(&[SourceFile { name: "rules.yaml", text: rules.as_bytes() }]).unwrap();
        live.replace(Snapshot::from_files(documents, &live.now()));
        let routes = Routes::new(live.clone(), series.clone(), shutdown.clone(), &limits, &mut registry);
        let certificates = Arc::new(Certificates::default());
        certificates.serve(pair);
        let server =
            Server { tls: tls(certificates).unwrap(), routes, series, shutdown, limits, heartbeat: Heartbeat::start() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(server.run(listener));
        Self { port, authority: made.ca_crt.into_bytes(), ending, rules: live, registry, task }
    }

    /// A new connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.port, &self.authority).await.unwrap()
    }

    /// The value of a series, by its name and labels as `/metrics` shows them.
    pub fn metric(&self, series: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) {
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}
