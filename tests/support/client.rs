//! A client of the webhook that says what it likes: whole requests over TLS, or any bytes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One connection to the webhook, kept alive. It is open until this is dropped or the server closes it.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    /// The certificate that the server showed when this connection was made.
    pub certificate: CertificateDer<'static>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unsent {
    /// Nothing was written, so it may be sent again.
    Nothing,
    /// It was written, and nobody knows what became of it.
    Lost(hyper::Error),
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `Status` that says what was wrong: its code and message, once it is well formed.
    pub fn wrong(&self) -> (u16, String) {
        let status = self.json();
        assert_eq!((&status["kind"], &status["apiVersion"]), (&"Status".into(), &"v1".into()), "{status}");
        assert_eq!(status["code"], self.status.as_u16(), "{status}");
        assert_eq!(self.headers["content-type"], "application/json");
        (self.status.as_u16(), status["message"].as_str().unwrap().to_owned())
    }
}

/// How a client trusts authorities, given in PEM, and which protocols it offers.
pub fn trust(authorities: &[u8], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities) {
        roots.add(authority.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A TLS connection to a port of 127.0.0.1.
pub async fn connect_tls(port: u16, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Client {
    /// Connects to a port of 127.0.0.1, trusting an authority given in PEM.
    pub async fn connect(port: u16, authority: &[u8]) -> std::io::Result<Self> {
        Self::connect_with(port, trust(authority, &["h2", "http/1.1"])).await
    }

    /// The same with trust in more than one authority.
    pub async fn connect_with(port: u16, trust: ClientConfig) -> std::io::Result<Self> {
        let stream = connect_tls(port, trust).await?;
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/1.1 alone is spoken");
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        Ok(Self { sender, connection: tokio::spawn(connection), certificate })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    /// Sends a request, and tells when that failed whether anything of it was written.
    pub async fn try_send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Unsent> {
        self.sender.ready().await.map_err(|_| Unsent::Nothing)?;
        let (head, body) = match self.sender.try_send_request(request).await {
            Ok(answer) => answer.into_parts(),
            Err(error) if error.message().is_some() => return Err(Unsent::Nothing),
            Err(error) => return Err(Unsent::Lost(error.into_error())),
        };
        let body = body.collect().await.map_err(Unsent::Lost)?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a body to `/mutate` as the API server does.
    pub async fn review(&mut self, body: impl Into<Bytes>) -> hyper::Result<Answer> {
        self.send(review(body)).await
    }

    /// Waits until the server has closed the connection, which is not an error.
    pub async fn closed(&mut self) {
        (&mut self.connection).await.unwrap().unwrap();
    }
}

/// The request that the API server sends for a review.
pub fn review(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, "/mutate?timeout=10s", &[("content-type", "application/json")], body)
}

/// Any request.
pub fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("host", "webhook.pullcred.svc".parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    request
}
