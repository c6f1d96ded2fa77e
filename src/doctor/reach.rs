//! A call of the webhook itself, its steps timed, and the certificate that it shows, trusted or not.
//!
//! A URL is called as it is. A Service is called by its address where that is known to lead into the cluster: inside one, or
//! where its DNS name has the address that the Service has. Elsewhere an address of the cluster may belong to a stranger, so
//! the road is a port-forward through the API server, to each Pod that is ready.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Request, Uri, header};
use futures::future::join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, ServiceReference};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, Client};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{Endpoint, port_number};
use super::installation::DEFAULT_SECONDS;
use super::observe::{Seen, about};
use super::report::Times;

/// Of more Pods no more is seen than of these.
const PODS: usize = 5;

/// More of an answer is not read.
const ANSWER: usize = 1 << 20;

/// One step of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Dns,
    Tcp,
    Forward,
    Tls,
    Http,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Forward => "port-forward",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
        }
    }
}

/// How calling the webhook went.
#[derive(Clone, Debug)]
pub(super) enum Contact {
    /// There is no way to it from here, for this reason.
    NotMade(String),
    /// It was called.
    Made(Made),
}

/// A call that was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    /// What was called: a Pod, a Service or a URL.
    pub(super) about: String,
    /// How the webhook was called, for people.
    pub(super) road: String,
    /// The name that its certificate must be for.
    pub(super) name: String,
    /// Steps that went well, with how long each took.
    pub(super) steps: Vec<(Step, Duration)>,
    /// The step that did not, and why.
    pub(super) trouble: Option<(Step, String)>,
    /// What the webhook shows, the leaf first; empty when it came to no handshake.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Status and text of the answer.
    pub(super) answer: Option<(u16, String)>,
}

impl Contact {
    pub(super) fn made(&self) -> Option<&Made> {
        if let Self::Made(made) = self { Some(made) } else { None }
    }
}

impl Made {
    pub(super) fn times(&self) -> Times {
        let time = |wanted| self.steps.iter().find(|(step, _)| *step == wanted).map(|(_, time)| *time);
        Times {
            about: self.about.clone(),
            road: self.road.clone(),
            dns_milliseconds: time(Step::Dns),
            tcp_milliseconds: time(Step::Tcp),
            forward_milliseconds: time(Step::Forward),
            tls_milliseconds: time(Step::Tls),
            http_milliseconds: time(Step::Http),
        }
    }

    /// Takes one step. What it gives, or `None` when it failed or did not come in time.
    async fn step<T, E: std::fmt::Display>(
        &mut self,
        step: Step,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let started = Instant::now();
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(given)) => {
                self.steps.push((step, started.elapsed()));
                return Some(given);
            }
            Ok(Err(error)) => self.trouble = Some((step, error.to_string())),
            Err(_) => self.trouble = Some((step, format!("nothing came within {} s", limit.as_secs()))),
        }
        None
    }
}

/// Calls the webhook that an entry names, with a review that changes nothing. Each step may take as long as the API server
/// waits for the whole.
pub(super) async fn call(
    client: &Client,
    entry: &MutatingWebhook,
    service: &Seen<Service>,
    endpoints: &Seen<Vec<Endpoint>>,
    namespace: &str,
) -> Vec<Contact> {
    let seconds = entry.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1));
    match (&entry.client_config.service, &entry.client_config.url) {
        (Some(named), _) => {
            let path = named.path.clone().unwrap_or_else(|| "/".to_owned());
            let target = Target { path, namespace, limit };
            call_service(client, named, service, endpoints, target).await
        }
        (None, Some(url)) => vec![call_url(url, namespace, limit).await],
        (None, None) => vec![Contact::NotMade("the configuration names neither a Service nor a URL".to_owned())],
    }
}

/// What is asked for, once there is a connection.
#[derive(Clone)]
struct Target<'a> {
    path: String,
    /// The namespace that the Pod of the review would be in.
    namespace: &'a str,
    limit: Duration,
}

async fn call_url(url: &str, namespace: &str, limit: Duration) -> Contact {
    let Some((uri, host)) = url.parse::<Uri>().ok().and_then(|uri| {
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        Some((uri, host))
    }) else {
        return Contact::NotMade(format!("`{url}` is no URL"));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let mut made = Made { about: url.to_owned(), road: "by its URL".to_owned(), name: host.clone(), ..Made::default() };
    if let Some(addresses) = resolve(&mut made, &host, port, limit).await {
        connect(&mut made, &addresses, Target { path, namespace, limit }).await;
    }
    Contact::Made(made)
}

/// The addresses of a host; for one that is an address already no step is taken.
async fn resolve(made: &mut Made, host: &str, port: u16, limit: Duration) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let work = async { tokio::net::lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>) };
    made.step(Step::Dns, limit, work).await
}

async fn connect(made: &mut Made, addresses: &[SocketAddr], target: Target<'_>) {
    let work = async {
        let stream = TcpStream::connect(addresses).await?;
        // Else the body waits for the acknowledgement of the head.
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    if let Some(stream) = made.step(Step::Tcp, target.limit, work).await {
        converse(made, stream, target).await;
    }
}

async fn call_service(
    client: &Client,
    named: &ServiceReference,
    service: &Seen<Service>,
    endpoints: &Seen<Vec<Endpoint>>,
    target: Target<'_>,
) -> Vec<Contact> {
    let name = format!("{}.{}.svc", named.name, named.namespace);
    let port = port_number(named);
    let spec = service.there().and_then(|service| service.spec.as_ref());
    let own: Vec<IpAddr> = spec
        .iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
        .filter_map(|address| address.parse().ok())
        .collect();
    let endpoints = endpoints.there().map(Vec::as_slice).unwrap_or_default();
    let behind = endpoints.iter().flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok());
    let known: Vec<IpAddr> = own.iter().copied().chain(behind).collect();
    let is_inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();

    let about = about::<Service>(Some(&named.namespace), &named.name);
    let fresh = |road| Made { about: about.clone(), road, name: name.clone(), ..Made::default() };
    let mut made = fresh(format!("at {name}:{port}"));
    let mut addresses = resolve(&mut made, &name, port, target.limit).await.unwrap_or_default();
    let mut leads_there = addresses.iter().any(|address| is_inside || known.contains(&address.ip()));
    if !leads_there && is_inside && !own.is_empty() {
        // The API server does not ask DNS for a Service either.
        addresses = own.iter().map(|address| SocketAddr::new(*address, port)).collect();
        made = fresh(format!("at {}, the Service's address", addresses[0]));
        leads_there = true;
    }
    if leads_there {
        connect(&mut made, &addresses, target.clone()).await;
        // A NetworkPolicy may let API servers in and nobody else: then there is the other road.
        if !matches!(made.trouble, Some((Step::Tcp, _))) {
            return vec![Contact::Made(made)];
        }
    }
    let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready);
    let pods = ready.filter_map(|endpoint| Some((endpoint.pod.as_ref()?, endpoint.port?))).take(PODS);
    let calls = pods.map(|(pod, port)| forward(client, fresh(String::new()), pod, port, target.clone()));
    let mut contacts = join_all(calls).await;
    if leads_there && contacts.iter().all(|contact| contact.made().is_none()) {
        return vec![Contact::Made(made)];
    }
    if contacts.is_empty() {
        let why = "its address leads nowhere from outside the cluster, and no ready Pod behind the Service is known to forward a port to";
        contacts.push(Contact::NotMade(why.to_owned()));
    } else if contacts.iter().all(|contact| contact.made().is_none()) {
        // The same right is missing for each.
        contacts.truncate(1);
    }
    contacts
}

async fn forward(
    client: &Client,
    mut made: Made,
    (namespace, pod): &(String, String),
    port: u16,
    target: Target<'_>,
) -> Contact {
    made.about = about::<Pod>(Some(namespace), pod);
    made.road = format!("by a port-forward to port {port}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let work = async {
        let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| error.to_string())?;
        let stream = forwarder.take_stream(port).ok_or("the port was not forwarded")?;
        Ok::<_, String>((forwarder.take_error(port), stream))
    };
    let Some((refusal, stream)) = made.step(Step::Forward, target.limit, work).await else {
        // Most often a right that the person lacks (`pods/portforward`): it says nothing of the webhook.
        let why = made.trouble.take().map(|(_, why)| why).unwrap_or_default();
        return Contact::NotMade(format!("no port can be forwarded to Pod {namespace}/{pod}: {why}"));
    };
    converse(&mut made, stream, target).await;
    // The kubelet says what was wrong on a channel of its own: nothing listens on that port, for one.
    if made.trouble.is_some()
        && let Some(refusal) = refusal
        && let Ok(Some(why)) = tokio::time::timeout(Duration::from_secs(1), refusal).await
    {
        made.trouble = Some((Step::Forward, why.trim().to_owned()));
        made.steps.clear();
    }
    Contact::Made(made)
}

/// TLS and HTTP over a connection.
async fn converse(made: &mut Made, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, target: Target<'_>) {
    let Ok(name) = ServerName::try_from(made.name.clone()) else {
        made.trouble = Some((Step::Tls, format!("`{}` is no name that a certificate can be for", made.name)));
        return;
    };
    let witness = Arc::new(Witness::default());
    let connector = match config(&witness) {
        Ok(config) => TlsConnector::from(Arc::new(config)),
        Err(error) => {
            made.trouble = Some((Step::Tls, error.to_string()));
            return;
        }
    };
    let stream = made.step(Step::Tls, target.limit, connector.connect(name, stream)).await;
    made.chain = witness.seen();
    let Some(stream) = stream else { return };
    let host = made.name.clone();
    let work = ask(TokioIo::new(stream), &host, &target);
    if let Some(answer) = made.step(Step::Http, target.limit, work).await {
        made.answer = Some(answer);
    }
}

async fn ask(
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    host: &str,
    target: &Target<'_>,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::post(&target.path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(review(target.namespace))))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER).collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // The connection is driven until the answer is there, and then no more.
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

/// A review of a Pod whose image no rule covers: names under `invalid` belong to nobody (RFC 2606).
fn review(namespace: &str) -> String {
    let uid = "6d1b0c1e-pullcred-doctor";
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": namespace,
            "dryRun": true,
            "userInfo": {"username": "pullcred-doctor"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "pullcred-doctor", "namespace": namespace},
                "spec": {"containers": [{"name": "doctor", "image": "pullcred.invalid/doctor"}]},
            },
        },
    })
    .to_string()
}

fn config(witness: &Arc<Witness>) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(witness) as Arc<dyn ServerCertVerifier>);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Keeps the certificate that is shown, and refuses none: whether it is to be trusted is judged afterwards, and nothing that is
/// sent over the connection is secret.
#[derive(Debug)]
struct Witness {
    provider: CryptoProvider,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl Default for Witness {
    fn default() -> Self {
        Self { provider: ring::default_provider(), chain: Mutex::default() }
    }
}

impl Witness {
    fn seen(&self) -> Vec<CertificateDer<'static>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = std::iter::once(end_entity).chain(intermediates).map(|one| one.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
