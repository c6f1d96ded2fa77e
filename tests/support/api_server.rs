//! A client that calls a webhook as the API server does (client-go's `rest` over Go's `net/http`): HTTP/1.1, at most 25 idle
//! connections, the one used last first, each for at most 90 s; a call that finds none takes whichever comes first, one that
//! is dialled for it or one that another call is done with; a POST that has been written is never sent again; 429 and
//! 5xx with an integer `Retry-After` are asked again up to ten times, and all of it within a deadline, which the URL names.
//!
//! `tests/cluster/calls_as_the_api_server_does.rs` compares it with the real one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use rustls::ClientConfig;
use tokio::sync::oneshot;

use super::client::{Answer, Client, Unsent, request};

const IDLE_CONNECTIONS: usize = 25;
const IDLE_TIME: Duration = Duration::from_secs(90);
const RETRIES: usize = 10;

/// What all webhooks of one request may take together (`requestTimeoutUpperBound`).
const WHOLE_REQUEST: Duration = Duration::from_secs(34);

/// One API server and the webhook's Service as it sees it.
pub struct ApiServer {
    trust: Mutex<ClientConfig>,
    timeout: Duration,
    /// The ports of the replicas that are ready, as far as this API server has heard.
    endpoints: Mutex<Vec<u16>>,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Idle connections with the time since when, the one used last at the end.
    idle: Vec<(Client, Instant)>,
    /// Calls that wait for a connection, the one that waits longest first. Some have been served by their own dial.
    waiting: VecDeque<Arc<Want>>,
}

impl Pool {
    fn forget_the_stale(&mut self) {
        self.idle.retain(|(client, since)| since.elapsed() < IDLE_TIME && !client.is_closed());
    }
}

type Dialled = Result<Client, String>;

/// A call that wants a connection, until it has one.
struct Want(Mutex<Option<oneshot::Sender<Dialled>>>);

impl Want {
    /// Gives it back when nobody wants it any more.
    fn deliver(&self, dialled: Dialled) -> Result<(), Dialled> {
        match self.0.lock().unwrap().take() {
            Some(sender) => sender.send(dialled),
            None => Err(dialled),
        }
    }
}

impl ApiServer {
    /// One that trusts a `caBundle` and waits so long for an answer (`timeoutSeconds`).
    pub fn new(trust: ClientConfig, timeout: Duration) -> Arc<Self> {
        let api_server =
            Arc::new(Self { trust: Mutex::new(trust), timeout, endpoints: Mutex::default(), pool: Mutex::default() });
        let weak = Arc::downgrade(&api_server);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            loop {
                ticks.tick().await;
                let Some(api_server) = weak.upgrade() else { return };
                api_server.pool.lock().unwrap().forget_the_stale();
            }
        });
        api_server
    }

    /// It hears of another `caBundle`: it makes itself another client, with connections of its own. Calls under way are finished.
    pub fn trusts(&self, trust: ClientConfig) {
        *self.trust.lock().unwrap() = trust;
        self.pool.lock().unwrap().idle.clear();
    }

    /// It hears which replicas are ready.
    pub fn hears_of(&self, endpoints: &[u16]) {
        endpoints.clone_into(&mut self.endpoints.lock().unwrap());
    }

    /// Calls the webhook. The error says why the call is lost, in which case `failurePolicy` would decide.
    pub async fn call(self: &Arc<Self>, body: Bytes) -> Result<Answer, String> {
        self.call_after(Duration::ZERO, body).await
    }

    /// Calls the webhook for a request in which the webhooks before it took so long.
    pub async fn call_after(self: &Arc<Self>, others: Duration, body: Bytes) -> Result<Answer, String> {
        let deadline = self.timeout.min(WHOLE_REQUEST.saturating_sub(others));
        // Whole seconds, rounded up.
        let path = format!("/mutate?timeout={}s", deadline.as_millis().div_ceil(1000));
        let calls = self.call_and_call_again(&path, body);
        tokio::time::timeout(deadline, calls).await.unwrap_or_else(|_| Err("the deadline has passed".to_owned()))
    }

    async fn call_and_call_again(self: &Arc<Self>, path: &str, body: Bytes) -> Result<Answer, String> {
        let mut retries = 0;
        loop {
            let answer = self.round_trip(path, &body).await?;
            let retry = answer.status == 429 || answer.status.is_server_error();
            let after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            match after {
                Some(seconds) if retry && retries < RETRIES => {
                    retries += 1;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ if answer.status.is_success() => return Ok(answer),
                _ => return Err(format!("{}: {}", answer.status, answer.text())),
            }
        }
    }

    /// One request on an idle connection or a new one; on another one if nothing of it could be written.
    async fn round_trip(self: &Arc<Self>, path: &str, body: &Bytes) -> Result<Answer, String> {
        loop {
            let mut client = self.connection().await?;
            let request = request(Method::POST, path, &[("content-type", "application/json")], body.clone());
            match client.try_send(request).await {
                Ok(answer) => {
                    if answer.headers.get("connection").is_none_or(|value| value != "close") {
                        self.put_idle(client);
                    }
                    return Ok(answer);
                }
                Err(Unsent::Nothing) => {}
                Err(Unsent::Lost(error)) => return Err(format!("lost: {error}")),
            }
        }
    }

    async fn connection(self: &Arc<Self>) -> Dialled {
        let (sender, receiver) = oneshot::channel();
        let want = Arc::new(Want(Mutex::new(Some(sender))));
        {
            let mut pool = self.pool.lock().unwrap();
            pool.forget_the_stale();
            if let Some((client, _)) = pool.idle.pop() {
                return Ok(client);
            }
            pool.waiting.push_back(Arc::clone(&want));
        }
        let api_server = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(Ok(unwanted)) = want.deliver(api_server.dial().await) {
                api_server.put_idle(unwanted);
            }
        });
        receiver.await.unwrap()
    }

    async fn dial(&self) -> Dialled {
        let port = {
            let mut endpoints = self.endpoints.lock().unwrap();
            if endpoints.is_empty() {
                return Err("no endpoints".to_owned());
            }
            // One after the other, as a Service spreads connections.
            endpoints.rotate_left(1);
            endpoints[endpoints.len() - 1]
        };
        let trust = self.trust.lock().unwrap().clone();
        Client::connect_with(port, trust).await.map_err(|error| format!("dial: {error}"))
    }

    /// Hands a connection to the call that waits longest, or keeps it, or closes it when there are enough.
    fn put_idle(&self, client: Client) {
        let mut pool = self.pool.lock().unwrap();
        let mut unwanted = Ok(client);
        while let Some(want) = pool.waiting.pop_front() {
            match want.deliver(unwanted) {
                Ok(()) => return,
                Err(back) => unwanted = back,
            }
        }
        if let Ok(client) = unwanted
            && pool.idle.len() < IDLE_CONNECTIONS
        {
            pool.idle.push((client, Instant::now()));
        }
    }
}
