//! A gate before the API server that passes requests on, and refuses some of them in the API server's place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use pullcred::pki::make_development;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::client::trust;
use super::server::acceptor;

pub struct Gate {
    /// A kubeconfig that leads through it.
    pub kubeconfig: PathBuf,
    state: Arc<State>,
    _directory: tempfile::TempDir,
    _task: JoinSet<()>,
}

struct State {
    client: Client<HttpsConnector<HttpConnector>, Incoming>,
    server: String,
    /// The code with which writes of Secrets are refused; 0 for not at all.
    code: AtomicU16,
    writes: AtomicU64,
}

impl Gate {
    /// A gate before where this kubeconfig leads.
    pub async fn before(kubeconfig: &Path) -> Self {
        let text = fs::read_to_string(kubeconfig).unwrap();
        let quoted =
            |before: &str| text.split(before).nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
        let (server, authority) = (quoted("server: '"), quoted("certificate-authority: '"));
        let tls = trust(&fs::read(&authority).unwrap(), &[]);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let state =
            Arc::new(State { client, server: server.clone(), code: AtomicU16::new(0), writes: AtomicU64::new(0) });

        let made = make_development(Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (own, through) = (directory.path().join("ca.crt"), directory.path().join("kubeconfig"));
        fs::write(&own, &made.ca_crt).unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        fs::write(&through, text.replace(&server, &url).replace(&authority, own.to_str().unwrap())).unwrap();

        let acceptor = acceptor(made.tls_crt.as_bytes(), made.tls_key.as_bytes());
        let (mut task, passing) = (JoinSet::new(), Arc::clone(&state));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&passing));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let pass = service_fn(move |request| pass(Arc::clone(&state), request));
                    // Either side may go away.
                    let _ended =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await;
                });
            }
        });
        Self { kubeconfig: through, state, _directory: directory, _task: task }
    }

    /// Refuses all writes of Secrets from now on: 429 as the API server says it that has too much to do, or another code.
    pub fn refuse(&self, code: StatusCode) {
        self.state.code.store(code.as_u16(), Ordering::SeqCst);
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.state.code.store(0, Ordering::SeqCst);
    }

    /// How many writes of Secrets have come to it.
    pub fn writes(&self) -> u64 {
        self.state.writes.load(Ordering::SeqCst)
    }
}

type Answer = Response<Either<Full<Bytes>, Incoming>>;

async fn pass(state: Arc<State>, mut request: Request<Incoming>) -> Result<Answer, hyper_util::client::legacy::Error> {
    let is_write = [Method::POST, Method::PATCH, Method::DELETE].contains(request.method());
    let is_write = is_write && request.uri().path().contains("/secrets");
    state.writes.fetch_add(u64::from(is_write), Ordering::SeqCst);
    if let Ok(code) = StatusCode::from_u16(state.code.load(Ordering::SeqCst))
        && is_write
    {
        let text = "Too many requests, please try again later.\n";
        let answer = Response::builder().status(code).header("Retry-After", "1").header("Content-Type", "text/plain");
        return Ok(answer.body(Either::Left(Full::from(text))).unwrap());
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("{}{path}", state.server).parse::<Uri>().unwrap();
    Ok(state.client.request(request).await?.map(Either::Right))
}
