//! The least that a webhook on our stack can do: TLS, HTTP/1.1, a route, the whole body read, and always the same answer. It has no
//! limits, deadlines, series or logs.

use std::path::Path;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::support::server::acceptor;

/// What an admission webhook answers when it adds a reference.
const ANSWER: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL3NwZWMvaW1hZ2VQdWxsU2VjcmV0cyIsInZhbHVlIjpbeyJuYW1lIjoicmVnY3JlZCJ9XX1d"}}"#;

/// Serves on a port of 127.0.0.1, with the certificate in a folder, until it is killed.
pub fn serve(port: u16, certificates: &Path) {
    let read = |name| std::fs::read(certificates.join(name)).unwrap();
    let acceptor = acceptor(&read("tls.crt"), &read("tls.key"));
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
                // A caller may go without a word.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}
