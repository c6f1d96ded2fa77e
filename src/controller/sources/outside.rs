//! Calls to the outside of the cluster: HTTPS by the bundled web roots and the operator's own, through the operator's proxy,
//! limited in time and size, following no redirect.
//!
//! One connection for each call: there is about one an hour.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::one_line;

const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Most that an answer may be.
const MOST_ANSWER: usize = 64 * 1024;

/// Who may be called, and how.
#[derive(Debug, Clone)]
pub struct Outside {
    tls: ClientConfig,
    proxies: Arc<Matcher>,
    time_limit: Duration,
}

/// How the outside cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of further authorities.
    #[error("--ca-file {file}: {wrong}")]
    CaFile {
        /// Its name.
        file: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// What the environment names as a proxy. The value may hold a password and is not told.
    #[error("HTTPS_PROXY is no proxy that can be used: write `http://host:port` or `https://host:port`")]
    Proxy,
    /// The cryptography that was built in cannot do TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or one that broke.
    #[error("{host} cannot be reached{way}: {why}")]
    Unreachable {
        /// Whom it was for.
        host: String,
        /// By which proxy, if by one.
        way: String,
        /// What happened.
        why: String,
    },
    /// The time is over.
    #[error("{host} has not answered within {limit:?}")]
    TooSlow {
        /// Whom it was for.
        host: String,
        /// The time.
        limit: Duration,
    },
    /// The answer is too large, or ended early.
    #[error("the answer of {host} cannot be read: {why}")]
    Answer {
        /// Who has answered.
        host: String,
        /// What happened.
        why: String,
    },
}

impl Outside {
    /// Trusts the web roots and the authorities in `ca_file` (PEM); goes through `https_proxy` to all that `no_proxy` does
    /// not name. Empty is none. Plain HTTP never goes through a proxy: it is for the loopback address.
    ///
    /// # Errors
    /// Where the file holds no authority, or the proxy is none.
    pub fn new(ca_file: Option<&Path>, https_proxy: &str, no_proxy: &str) -> Result<Self, SetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = ca_file {
            add_authorities(&mut roots, file)
                .map_err(|wrong| SetupError::CaFile { file: file.display().to_string(), wrong })?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let any = Uri::from_static("https://registry.example/");
        let usable = Matcher::builder().https(https_proxy).build().intercept(&any);
        if !https_proxy.is_empty()
            && !usable.is_some_and(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")))
        {
            return Err(SetupError::Proxy);
        }
        let proxies = Arc::new(Matcher::builder().https(https_proxy).no(no_proxy).build());
        Ok(Self { tls, proxies, time_limit: TIME_LIMIT })
    }

    /// The same with the proxy that the environment names as Go's programs read it: `HTTPS_PROXY` and `NO_PROXY`, or both in
    /// small letters.
    ///
    /// # Errors
    /// As [`Outside::new`].
    pub fn from_environment(ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let value = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(|name| std::env::var(name).ok());
            values.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self::new(ca_file, &value(["HTTPS_PROXY", "https_proxy"]), &value(["NO_PROXY", "no_proxy"]))
    }

    /// The same with another time limit than 30 seconds.
    #[must_use]
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Posts a form, and answers with whatever came back: no redirect is followed, since it would take the form elsewhere.
    ///
    /// # Errors
    /// Where no whole answer of at most 64 KiB came in time.
    pub async fn post_form(&self, uri: &Uri, form: String) -> Result<(StatusCode, Bytes), CallError> {
        let host = uri.host().unwrap_or_default().to_owned();
        let call = self.call(uri, form, &host);
        match tokio::time::timeout(self.time_limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::TooSlow { host, limit: self.time_limit }),
        }
    }

    async fn call(&self, uri: &Uri, form: String, host: &str) -> Result<(StatusCode, Bytes), CallError> {
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        let proxy = self.proxies.intercept(uri);
        let way = proxy.as_ref().and_then(|proxy| proxy.uri().authority()).map(|at| format!(" by the proxy {at}"));
        let sent = match proxy {
            None => send(self.over(tcp()), request).await,
            Some(proxy) => {
                let tunnel = Tunnel::new(proxy.uri().clone(), self.over(tcp()));
                let tunnel = match proxy.basic_auth() {
                    Some(auth) => tunnel.with_auth(auth.clone()),
                    None => tunnel,
                };
                send(self.over(tunnel), request).await
            }
        };
        let (head, body) = sent
            .map_err(|error| CallError::Unreachable {
                host: host.to_owned(),
                way: way.unwrap_or_default(),
                why: causes(&error),
            })?
            .into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body =
            body.map_err(|error| CallError::Answer { host: host.to_owned(), why: one_line(&error.to_string()) })?;
        Ok((head.status, body.to_bytes()))
    }

    fn over<C>(&self, inner: C) -> HttpsConnector<C> {
        HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(inner)
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp
}

async fn send<C>(
    connector: C,
    request: Request<Full<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, hyper_util::client::legacy::Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    client.request(request).await
}

/// An error and what it came from, without the client's own words for it, which say only at which step it was.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let first = std::error::Error::source(error);
    let causes: Vec<String> =
        std::iter::successors(first, |error| error.source()).map(|error| one_line(&error.to_string())).collect();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("holds a certificate that cannot be used: {error}"))?;
        found = true;
    }
    if found { Ok(()) } else { Err("holds no certificate in PEM".to_owned()) }
}
