//! What the controller counts.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::process::metrics::{Counters, label};

label! {
    /// What became of a write.
    Written, "outcome":
    /// Done.
    Done = "done",
    /// Refused by the API.
    Refused = "refused",
    /// No right to it.
    NotPermitted = "not_permitted",
    /// Failed, and tried again.
    Failed = "failed",
}

label! {
    /// What came of asking a source.
    Asked, "outcome":
    /// A credential.
    Given = "given",
    /// An error.
    Error = "error",
}

/// The series of the controller.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Whether this process leads.
    pub(super) leading: Gauge,
    /// Writes of copies.
    pub(super) writes: Counters<Written>,
    /// Plugins and keys asked for credentials.
    pub(super) fetches: Counters<Asked>,
    /// Copies that are there, over all rules.
    pub(super) copies: Gauge,
    /// Secrets of others in the place of needed copies, over all rules.
    pub(super) conflicts: Gauge,
    /// Pods that a rule covers and that lack its reference, over all rules.
    pub(super) missed: Gauge,
}

impl Series {
    /// Registers the series.
    pub fn register(registry: &mut Registry) -> Self {
        let series = Self::default();
        let Self { leading, writes, fetches, copies, conflicts, missed } = series.clone();
        registry.register("controller_leading", "Whether this process leads", leading);
        registry.register("controller_writes", "Writes of copies, by outcome", writes);
        registry.register(
            "controller_fetches",
            "Credentials asked for from plugins and with keys, by outcome",
            fetches,
        );
        registry.register("controller_copies", "Copies that are there", copies);
        registry.register("controller_conflicts", "Secrets of others in the place of needed copies", conflicts);
        registry.register("controller_missed_pods", "Pods that a rule covers and that lack its reference", missed);
        series
    }
}
