//! The admin port: `/livez`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and Prometheus.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::accept::{Heartbeat, accept_until};
use super::readiness::Readiness;

/// The port where no other is asked for.
pub const PORT: u16 = 8080;

/// A loop that has not come round for so long will not come round again.
const DEAD: Duration = Duration::from_secs(30);

/// Probes and scrapes are few; whoever opens more connections waits.
const CONNECTIONS: usize = 64;

/// A connection that sends no request for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What the admin port tells about.
#[derive(Debug)]
pub struct Admin {
    /// What `/readyz` shows.
    pub readiness: Readiness,
    /// The loop that `/livez` is about.
    pub heartbeat: Heartbeat,
    /// What `/metrics` shows.
    pub registry: Registry,
}

/// The routes of the admin port.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(admin))
}

/// Serves the routes for as long as it is polled.
pub async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let own = Heartbeat::start();
    let service = TowerToHyperService::new(router);
    accept_until(&listener, CONNECTIONS, &own, std::future::pending(), |stream, peer| {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE);
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection to the admin port ended early");
            }
        }
    })
    .await;
    std::future::pending().await
}

async fn livez(State(admin): State<Arc<Admin>>) -> Response {
    let silent = admin.heartbeat.silent_for();
    if silent < DEAD {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let text = format!("the accept loop has not come round for {} s\n", silent.as_secs());
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let report = admin.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, report.text).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the series cannot be written: {error}\n")).into_response()
        }
    }
}
