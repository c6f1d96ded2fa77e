//! What the server counts. Every label value is known beforehand.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::budget::Budget;
use super::handshake::Failure;
use crate::admission::Outcome;
use crate::process::metrics::{Counters, Histogram, LabelValue, label};

/// From 50 us, what a decision takes, to 10 s, the API server's usual patience.
const DURATIONS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The series of the server. Clones count together.
#[derive(Debug, Clone)]
pub struct Series {
    pub(super) decisions: Counters<Outcome>,
    pub(super) refused: Counters<Refused>,
    pub(super) shed: Counters<Shed>,
    pub(super) duration: Histogram,
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) cut_off: Counter,
    pub(super) handshake_failures: Counters<Failure>,
    pub(super) certificate_not_after: Gauge,
    pub(super) certificate_rejected: Gauge,
    pub(super) certificate_rejections: Counter,
    pub(super) certificate_trusted: Gauge,
    pub(super) rules: Gauge,
    pub(super) rule_findings: Gauge,
    pub(super) rule_rejections: Counter,
    pub(super) rules_loaded_at: Gauge,
    pub(super) rules_silence: Gauge,
}

impl Series {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let duration = Histogram::new(&DURATIONS);
        registry.register("request_duration_seconds", "From a request's head to its answer", duration.clone());
        Self {
            duration,
            decisions: counters(registry, "decisions", "Reviews by what came of them"),
            refused: counters(registry, "requests_refused", "Requests that were wrong in themselves (4xx)"),
            shed: counters(
                registry,
                "requests_shed",
                "Requests that were turned away for want of room or time (503, 504)",
            ),
            connections: gauge(registry, "connections", "Open connections"),
            accepted: counter(registry, "connections_accepted", "Connections accepted"),
            cut_off: counter(registry, "connections_cut_off", "Connections that were not done when the server stopped"),
            handshake_failures: counters(registry, "handshake_failures", "TLS handshakes that failed"),
            certificate_not_after: gauge(
                registry,
                "certificate_not_after_timestamp_seconds",
                "When the certificate that is served expires",
            ),
            certificate_rejected: gauge(
                registry,
                "certificate_rejected",
                "1 while the files or the Secret hold a pair that cannot be served, and the one before is, if any",
            ),
            certificate_rejections: counter(
                registry,
                "certificate_rejections",
                "Changes of the pair that were rejected",
            ),
            certificate_trusted: gauge(
                registry,
                "certificate_trusted",
                "1 while the caBundle of --webhook-configuration trusts the certificate that is served",
            ),
            rules: gauge(registry, "rules", "Rules in force"),
            rule_findings: gauge(
                registry,
                "rule_findings",
                "Findings in the rule files as they are, which leave the rules before in force, or objects that are skipped",
            ),
            rule_rejections: counter(registry, "rule_rejections", "Changes of rules that were rejected"),
            rules_loaded_at: gauge(
                registry,
                "rules_loaded_timestamp_seconds",
                "When the rules in force were read; those that did not change are not read again",
            ),
            rules_silence: gauge(
                registry,
                "rules_silence_seconds",
                "Since the Kubernetes API was last heard of rules and namespaces, each minute when all is well; 0 with files",
            ),
        }
    }
}

fn counters<V: LabelValue>(registry: &mut Registry, name: &str, help: &str) -> Counters<V> {
    let counters = Counters::default();
    registry.register(name, help, counters.clone());
    counters
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// What of a budget is taken, as a gauge.
#[derive(Debug)]
pub(super) struct Used(pub(super) Arc<Budget>);

impl EncodeMetric for Used {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.used())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

label! {
    /// What was wrong with a request.
    Refused, "reason":
    /// Not `/mutate`.
    Path = "path",
    /// Not POST.
    Method = "method",
    /// Not JSON by its headers.
    ContentType = "content_type",
    /// A body of more than 8 MiB.
    TooLarge = "too_large",
    /// A body that ended early or was framed wrongly.
    BrokenBody = "broken_body",
    /// A body in which there is no uid to answer to.
    NotAReview = "not_a_review",
}

label! {
    /// For want of what a request was turned away.
    Shed, "reason":
    /// Too many requests are in work.
    Requests = "requests",
    /// Too many bytes of bodies are in memory.
    BodyBytes = "body_bytes",
    /// The server stops.
    Stopping = "stopping",
    /// The body did not come in time.
    SlowBody = "slow_body",
    /// The deadline that the caller named has passed.
    Late = "late",
    /// The rules are not listed yet.
    RulesUnknown = "rules_unknown",
    /// The labels of the namespace decide, and are not known yet.
    NamespaceUnknown = "namespace_unknown",
}

impl LabelValue for Outcome {
    const LABEL: &'static str = "outcome";
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}
