//! What the controller counts.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::process::metrics::{Counters, label};
use crate::provision::NOT_READY;

label! {
    /// What became of a write.
    Written, "outcome":
    /// Done.
    Done = "done",
    /// Somebody else was faster: what is there by then was looked at.
    Overtaken = "overtaken",
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

label! {
    /// What of the certificates was written.
    Put, "what":
    /// The Secret of the authorities.
    Authorities = "authorities",
    /// The Secret that the webhook serves.
    Leaf = "leaf",
    /// The `caBundle`.
    CaBundle = "ca_bundle",
}

/// The series of the certificates.
#[derive(Debug, Clone, Default)]
pub struct CertificateSeries {
    /// When the newest authority ends.
    pub(super) authority_ends: Gauge,
    /// When the leaf in the Secret ends.
    pub(super) leaf_ends: Gauge,
    /// How far a rotation is.
    pub(super) phase: Gauge,
    /// 1 while the last attempt failed.
    pub(super) failing: Gauge,
    /// Writes that were done.
    pub(super) writes: Counters<Put>,
}

impl CertificateSeries {
    /// Registers the series.
    pub fn register(registry: &mut Registry) -> Self {
        let series = Self::default();
        let Self { authority_ends, leaf_ends, phase, failing, writes } = series.clone();
        let ends = "controller_authority_not_after_timestamp_seconds";
        registry.register(ends, "When the newest authority ends; 0 while there is none", authority_ends);
        let ends = "controller_leaf_not_after_timestamp_seconds";
        registry.register(ends, "When the leaf in the Secret ends; 0 while there is none", leaf_ends);
        registry.register(
            "controller_rotation_phase",
            "0 nothing there yet, 1 settled, 2 a new authority is announced, 3 it signs and the old one is still trusted",
            phase,
        );
        registry.register(
            "controller_certificates_failing",
            "1 while certificates or caBundle cannot be looked after",
            failing,
        );
        registry.register("controller_certificate_writes", "Writes of certificates and caBundle", writes);
        series
    }
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
    /// Rules that are not ready, by the reason of their condition.
    not_ready: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl Series {
    /// Registers the series.
    pub fn register(registry: &mut Registry) -> Self {
        let series = Self::default();
        let Self { leading, writes, fetches, copies, conflicts, missed, not_ready } = series.clone();
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
        registry.register("controller_rules_not_ready", "Rules that are not ready, by reason", not_ready);
        series.set_not_ready(&[]);
        series
    }

    /// Counts the rules that are not ready, each given by its reason. A reason that no rule has any more falls back to 0.
    pub(super) fn set_not_ready(&self, reasons: &[String]) {
        for reason in NOT_READY {
            let count = reasons.iter().filter(|found| *found == reason).count();
            self.not_ready.get_or_create(&[("reason", reason)]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
