//! `POST /mutate`: a review in, an answer out, and a `Status` that says what was wrong for everything else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use prometheus_client::registry::Registry;

use super::budget::Budget;
use super::limits::{BODY, Limits};
use super::series::{Refused, Series, Shed, Used};
use super::snapshot::{LiveRules, Snapshot};
use super::status::{come_again, status};
use crate::admission::{Answer, Decision, answer};
use crate::process::logs::Seldom;
use crate::process::shutdown::{Shutdown, Stage};
use crate::rules::parse_duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What requests are answered from.
#[derive(Debug)]
pub struct Routes {
    rules: LiveRules,
    series: Series,
    shutdown: Shutdown,
    requests: Arc<Budget>,
    body_bytes: Arc<Budget>,
    body_time: Duration,
}

impl Routes {
    /// Answers from these rules, within these limits, and registers how much of them is used.
    pub fn new(rules: LiveRules, series: Series, shutdown: Shutdown, limits: &Limits, registry: &mut Registry) -> Self {
        let (requests, body_bytes) = (Arc::new(Budget::new(limits.requests)), Arc::new(Budget::new(limits.body_bytes)));
        registry.register("requests_in_flight", "Requests in work", Used(Arc::clone(&requests)));
        registry.register("body_bytes_reserved", "Bytes set aside for bodies in work", Used(Arc::clone(&body_bytes)));
        Self { rules, series, shutdown, requests, body_bytes, body_time: limits.body }
    }
}

impl Routes {
    /// Answers a request. There is one route, and its answer is one piece.
    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (path, method) = (request.uri().path(), request.method());
        if path != "/mutate" {
            let message = format!("nothing is at `{}`: reviews go to /mutate", short(path));
            return self.refuse(Refused::Path, StatusCode::NOT_FOUND, &message);
        }
        if method != Method::POST {
            let message = format!("/mutate takes POST, not {}", short(method.as_str()));
            let mut response = self.refuse(Refused::Method, StatusCode::METHOD_NOT_ALLOWED, &message);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let started = Instant::now();
        let response = self.review(request, started).await;
        self.series.duration.observe(started.elapsed());
        response
    }

    async fn review(&self, request: Request<Incoming>, started: Instant) -> Response<Full<Bytes>> {
        if self.shutdown.has_reached(Stage::Draining) {
            return self.shed(Shed::Stopping, "the webhook stops: ask again");
        }
        let (head, body) = request.into_parts();
        if let Err(message) = is_json(&head.headers) {
            return self.refuse(Refused::ContentType, StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
        }
        let announced = body.size_hint().upper().map_or(Some(BODY), |bytes| usize::try_from(bytes).ok());
        let Some(room) = announced.filter(|bytes| *bytes <= BODY) else { return self.too_large() };
        let Some(_in_work) = self.requests.take(1) else {
            return self.shed(Shed::Requests, "too many requests are in work: ask again");
        };
        let Some(_reserved) = self.body_bytes.take(room) else {
            return self.shed(Shed::BodyBytes, "too many bytes of reviews are in memory: ask again");
        };

        let deadline = deadline(&head.uri).map(|timeout| started + timeout);
        let longest = started + self.body_time;
        let patience = deadline.map_or(longest, |deadline| deadline.min(longest));
        let body = match tokio::time::timeout_at(patience.into(), read(body, room)).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return self.too_large(),
            Ok(Err(Unread::Broken)) => {
                return self.refuse(
                    Refused::BrokenBody,
                    StatusCode::BAD_REQUEST,
                    "the body ended early, or is framed wrongly",
                );
            }
            // On a slow network, or with too little left of this machine for all that is sent to it: whoever still waits may
            // fare better with another replica.
            Err(_) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                return self.shed(Shed::SlowBody, "the body did not come in time: ask again");
            }
            Err(_) => return self.late(),
        };
        // Nobody waits for the answer any more.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return self.late();
        }
        self.answer(&body, started)
    }

    fn answer(&self, body: &[u8], started: Instant) -> Response<Full<Bytes>> {
        let snapshot = self.rules.now();
        if !snapshot.is_loaded {
            return self.shed(Shed::RulesUnknown, "the rules are not known yet: ask again");
        }
        match answer(body, &snapshot.rules, &**snapshot) {
            Answer::Review { body, decision } => {
                self.series.decisions.of(decision.outcome).inc();
                for rule in &decision.rules {
                    snapshot.matched(*rule);
                }
                log(&decision, &snapshot, started);
                let mut response = Response::new(Full::from(body));
                response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                response
            }
            Answer::NotAReview { message } => self.refuse(Refused::NotAReview, StatusCode::BAD_REQUEST, &message),
            Answer::NamespaceUnknown { namespace } => {
                let namespace = short(&namespace).escape_debug();
                let message = format!("the labels of namespace `{namespace}` are not known yet: ask again");
                self.shed(Shed::NamespaceUnknown, &message)
            }
        }
    }

    fn late(&self) -> Response<Full<Bytes>> {
        self.series.shed.of(Shed::Late).inc();
        status(StatusCode::GATEWAY_TIMEOUT, "the deadline that `timeout` names has passed")
    }

    fn too_large(&self) -> Response<Full<Bytes>> {
        let message = format!("the body is larger than {} MiB, which no review is", BODY >> 20);
        self.refuse(Refused::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, &message)
    }

    fn refuse(&self, reason: Refused, code: StatusCode, message: &str) -> Response<Full<Bytes>> {
        static SAID: Seldom = Seldom::at_most(10);
        self.series.refused.of(reason).inc();
        if let Some(unsaid) = SAID.now() {
            tracing::warn!(code = code.as_u16(), unsaid, "a request is refused: {message}");
        }
        status(code, message)
    }

    fn shed(&self, reason: Shed, message: &str) -> Response<Full<Bytes>> {
        static SAID: Seldom = Seldom::at_most(10);
        self.series.shed.of(reason).inc();
        if let Some(unsaid) = SAID.now() {
            tracing::warn!(unsaid, "a request is turned away: {message}");
        }
        come_again(message)
    }
}

/// Whether the headers say that the body is JSON as it is. The message says what they should.
fn is_json(headers: &HeaderMap) -> Result<(), &'static str> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err("the content type must be application/json");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err("the body must not be compressed"),
        _ => Ok(()),
    }
}

/// As much of a stranger's text as is repeated: a name in Kubernetes has at most 253 characters.
fn short(text: &str) -> &str {
    const LENGTH: usize = 253;
    if text.len() <= LENGTH {
        return text;
    }
    text.char_indices().nth(LENGTH).map_or(text, |(end, _)| &text[..end])
}

/// The deadline that the API server names: `?timeout=10s`.
fn deadline(uri: &Uri) -> Option<Duration> {
    let value = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    parse_duration(value).ok()
}

enum Unread {
    TooLarge,
    Broken,
}

/// Reads a body of at most `room` bytes. One that came in one piece is not copied.
async fn read(mut body: Incoming, room: usize) -> Result<Bytes, Unread> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > room {
            return Err(Unread::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                // All at once: a buffer that grows is copied, and takes more than was set aside.
                whole.reserve(room);
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// One line for a decision, and one for each of its warnings; nothing of the Pod but its name.
fn log(decision: &Decision<'_>, snapshot: &Snapshot, started: Instant) {
    static SAID: Seldom = Seldom::at_most(50);
    let Decision { outcome, rules, added, warnings, uid, namespace, pod } = decision;
    let (uid, namespace, pod) = (short(uid), short(namespace), short(pod));
    tracing::debug!(
        outcome = outcome.as_str(),
        namespace,
        pod,
        uid,
        added,
        rules = rules.iter().map(|rule| snapshot.rules.rules()[*rule].id().to_string()).collect::<Vec<_>>().join(", "),
        micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "decided"
    );
    for warning in warnings {
        if let Some(unsaid) = SAID.now() {
            tracing::warn!(namespace, pod, uid, unsaid, "{warning}");
        }
    }
}
