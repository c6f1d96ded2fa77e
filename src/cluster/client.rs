//! Which cluster there is, how it is called, and when it was last heard of.

use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderValue, Response};
use http_body_util::BodyExt;
use kube::client::{ClientBuilder, DynBody};
use kube::config::InferConfigError;
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use crate::process::accept::Heartbeat;

/// A connection that is silent for so long while an answer is due is given up. A watch is ended by the server each minute.
const SILENCE: Duration = Duration::from_secs(75);

/// A request that cannot be sent for so long is given up.
const UNSENT: Duration = Duration::from_secs(30);

/// No cluster is known, or it cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// Neither a kubeconfig nor a `ServiceAccount` says where it is.
    #[error("no cluster is known: set KUBECONFIG, or run in one")]
    Nowhere(#[source] Box<InferConfigError>),
    /// What is said of it cannot be used.
    #[error("the cluster cannot be called")]
    Unusable(#[source] Box<kube::Error>),
}

/// The cluster that the usual rules name: `KUBECONFIG`, `~/.kube/config`, or the one that the process runs in.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    /// Where pullcred runs, and where source Secrets and certificates are.
    pub release_namespace: String,
}

impl Cluster {
    /// Finds the cluster. The release namespace, unless it is named, is that of the `ServiceAccount` or of the kubeconfig's
    /// context.
    ///
    /// # Errors
    /// No cluster is known.
    pub async fn infer(release_namespace: Option<String>) -> Result<Self, Unknown> {
        let mut config = Config::infer().await.map_err(|error| Unknown::Nowhere(Box::new(error)))?;
        config.read_timeout = Some(SILENCE);
        // Else the time for which a connection was idle counts against the next answer.
        config.reset_reader_on_write = true;
        config.write_timeout = Some(UNSENT);
        // Whoever is refused for want of time (429, 503) decides for itself what to do meanwhile; the client would sleep on it,
        // for minutes in the end.
        config.default_retry = false;
        let agent = HeaderValue::from_static(concat!("pullcred/", env!("CARGO_PKG_VERSION")));
        config.headers.push((USER_AGENT, agent));
        let release_namespace = release_namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { config, release_namespace })
    }

    /// A client, and what beats with each piece of a good answer that it hears: the API has no other sign of life than
    /// the bookmarks of a watch, and those are hidden by kube's watcher. A watch whose age matters has a client of its own.
    ///
    /// # Errors
    /// What is said of the cluster cannot be used.
    pub fn client(&self) -> Result<(Client, Heartbeat), Unknown> {
        let heard = Heartbeat::start();
        let beats = heard.clone();
        let stamps = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
            let beats = response.status().is_success().then(|| beats.clone());
            let beat = move || beats.iter().for_each(Heartbeat::beat);
            // A watch that goes on where it was may have nothing to say but its head.
            beat();
            response.map(|body| {
                body.map_frame(move |frame| {
                    beat();
                    frame
                })
            })
        });
        let builder =
            ClientBuilder::try_from(self.config.clone()).map_err(|error| Unknown::Unusable(Box::new(error)))?;
        Ok((builder.with_layer(&stamps).build(), heard))
    }
}
