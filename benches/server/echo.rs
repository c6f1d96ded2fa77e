//! The least that a webhook on our stack can do: TLS, HTTP/1.1, a route, the whole body read, and always the same answer.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What an admission webhook answers when it adds a reference.
const ANSWER: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL3NwZWMvaW1hZ2VQdWxsU2VjcmV0cyIsInZhbHVlIjpbeyJuYW1lIjoicmVnY3JlZCJ9XX1d"}}"#;

/// Serves on a port of 127.0.0.1, with the certificate in a folder, until it is killed.
pub fn serve(port: u16, certificates: &Path) {
    let chain = CertificateDer::pem_file_iter(certificates.join("tls.crt")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates.join("tls.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer = async |body: Bytes| {
        assert!(!body.is_empty());
        ([(CONTENT_TYPE, "application/json")], ANSWER)
    };
    let router = Router::new().route("/mutate", post(answer));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // Who only looks whether the port is open yet does not shake hands.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap();
            });
        }
    });
}
