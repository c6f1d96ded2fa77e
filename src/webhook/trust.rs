//! Whether the API server trusts the certificate that is served, by the `caBundle` of the webhook configuration as it is. The first
//! readiness waits for it; later it is only told, so that one wiped `caBundle` does not take all replicas out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::Series;
use super::certificate::Certificates;
use crate::cluster::configuration::{ENTRY, bundle};
use crate::cluster::{Change, Trouble};
use crate::pki::{Certificate, trusts};
use crate::process::readiness::{Condition, Readiness, State};

/// How often it is looked whether the certificate has changed.
const LOOK: Duration = Duration::from_millis(200);

/// Who compares the certificate with the configuration.
pub struct FollowingTrust {
    /// What is served.
    pub certificates: Arc<Certificates>,
    /// The configuration's name.
    pub name: String,
    /// How it stands.
    pub condition: Condition,
    /// All other conditions: together they say when the process is ready for the first time.
    pub others: Readiness,
    /// What is counted.
    pub series: Series,
}

/// What is known of the configuration.
enum Known {
    /// Nothing yet, for this reason.
    Nothing(String),
    /// There is none, which is a normal state: nobody calls then.
    Absent,
    /// Its bundle; none where it has no entry of ours.
    There(Option<Vec<Certificate>>),
}

impl FollowingTrust {
    /// Follows the configuration, which the changes are of, and the certificate.
    pub async fn follow(self, mut changes: mpsc::Receiver<Change<MutatingWebhookConfiguration>>) -> Infallible {
        let mut known = Known::Nothing(format!("configuration {} is not read yet", self.name));
        let mut is_listed = false;
        let mut was_ready = false;
        let mut said = None;
        let mut looks = interval(LOOK);
        loop {
            let change = tokio::select! {
                Some(change) = changes.recv() => Some(change),
                _ = looks.tick() => None,
            };
            match change {
                Some(Change::ListBegins) => is_listed = false,
                Some(Change::Put(configuration)) => {
                    is_listed = true;
                    known = Known::There(bundle(&configuration).map(Certificate::read_all));
                }
                Some(Change::ListEnds) if is_listed => {}
                Some(Change::ListEnds | Change::Gone(_)) => known = Known::Absent,
                // A right that is missing is told, and is no reason to serve nobody.
                Some(Change::Trouble(trouble)) => match &known {
                    Known::Nothing(_) => {
                        was_ready |= trouble == Trouble::Denied;
                        known = Known::Nothing(format!("mutatingwebhookconfigurations {trouble}"));
                    }
                    Known::Absent | Known::There(_) => {}
                },
                None => {}
            }
            let state = self.compare(&known, was_ready);
            was_ready |= matches!(state, State::Met(_)) && self.others.report().ready;
            if said.as_ref() != Some(&state) {
                match &state {
                    State::Met(text) => tracing::info!("caBundle: {text}"),
                    State::Warned(text) | State::Missing(text) => tracing::warn!("caBundle: {text}"),
                }
                said = Some(state.clone());
            }
            self.condition.set(state);
        }
    }

    fn compare(&self, known: &Known, was_ready: bool) -> State {
        let name = &self.name;
        let wrong = match known {
            Known::Nothing(why) => why.clone(),
            Known::Absent => {
                self.series.certificate_trusted.set(0);
                return State::Met(format!("there is no configuration {name}: nobody calls"));
            }
            Known::There(None) => format!("configuration {name} has no entry {ENTRY}: install it by the chart"),
            Known::There(Some(bundle)) => match self.certificates.now() {
                Some(pair) if trusts(bundle, &pair.chain()) => {
                    self.series.certificate_trusted.set(1);
                    return State::Met(format!("configuration {name} trusts the certificate"));
                }
                Some(_) => {
                    format!("the caBundle of configuration {name} does not trust the certificate that is served")
                }
                None => "there is no certificate yet".to_owned(),
            },
        };
        self.series.certificate_trusted.set(0);
        if was_ready { State::Warned(wrong) } else { State::Missing(wrong) }
    }
}
