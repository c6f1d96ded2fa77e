//! A client that calls a webhook as the API server does (client-go's `rest` over Go's `net/http`): HTTP/1.1, at most 25 idle
//! connections, the one used last first, each for at most 90 s; a POST that has been written is never sent again; 429 and
//! 5xx with an integer `Retry-After` are asked again up to ten times, and all of it within a deadline.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ClientConfig;

use super::client::{Answer, Client, Unsent, review};

const IDLE_CONNECTIONS: usize = 25;
const IDLE_TIME: Duration = Duration::from_secs(90);
const RETRIES: usize = 10;

/// One API server and the webhook's Service as it sees it.
pub struct ApiServer {
    trust: ClientConfig,
    deadline: Duration,
    /// The ports of the replicas that are ready, as far as this API server has heard.
    endpoints: Mutex<Vec<u16>>,
    /// Idle connections with the time since when, the one used last at the end.
    idle: Mutex<Vec<(Client, Instant)>>,
}

impl ApiServer {
    /// One that trusts a `caBundle` and waits so long for an answer (`timeoutSeconds`).
    pub fn new(trust: ClientConfig, deadline: Duration) -> Self {
        Self { trust, deadline, endpoints: Mutex::default(), idle: Mutex::default() }
    }

    /// It hears which replicas are ready.
    pub fn hears_of(&self, endpoints: &[u16]) {
        endpoints.clone_into(&mut self.endpoints.lock().unwrap());
    }

    /// Calls the webhook. The error says why the call is lost, in which case `failurePolicy` would decide.
    pub async fn call(&self, body: Bytes) -> Result<Answer, String> {
        let calls = self.call_and_call_again(body);
        tokio::time::timeout(self.deadline, calls).await.unwrap_or_else(|_| Err("the deadline has passed".to_owned()))
    }

    async fn call_and_call_again(&self, body: Bytes) -> Result<Answer, String> {
        let mut retries = 0;
        loop {
            let answer = self.round_trip(&body).await?;
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
    async fn round_trip(&self, body: &Bytes) -> Result<Answer, String> {
        loop {
            let mut client = match self.take_idle() {
                Some(client) => client,
                None => self.dial().await?,
            };
            match client.try_send(review(body.clone())).await {
                Ok(answer) => {
                    self.put_idle(client, &answer);
                    return Ok(answer);
                }
                Err(Unsent::Nothing) => {}
                Err(Unsent::Lost(error)) => return Err(format!("lost: {error}")),
            }
        }
    }

    async fn dial(&self) -> Result<Client, String> {
        let port = {
            let mut endpoints = self.endpoints.lock().unwrap();
            // One after the other, as a Service spreads connections.
            endpoints.rotate_left(1);
            *endpoints.last().ok_or("no endpoints")?
        };
        Client::connect_with(port, self.trust.clone()).await.map_err(|error| format!("dial: {error}"))
    }

    fn take_idle(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap();
        idle.retain(|(client, since)| since.elapsed() < IDLE_TIME && !client.is_closed());
        idle.pop().map(|(client, _)| client)
    }

    fn put_idle(&self, client: Client, answer: &Answer) {
        let mut idle = self.idle.lock().unwrap();
        let closing = answer.headers.get("connection").is_some_and(|value| value == "close");
        if !closing && idle.len() < IDLE_CONNECTIONS {
            idle.push((client, Instant::now()));
        }
    }
}
