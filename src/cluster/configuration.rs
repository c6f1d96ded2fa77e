//! The webhook configuration: which of its entries is ours, and whom the API server trusts by it.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;

/// The name of the one entry that a configuration of ours has, for ever: an entry that somebody applies to is kept alive by that, and
/// a renamed one would be two.
pub const ENTRY: &str = "inject.pullcred.io";

/// The `caBundle` of our entry, in PEM; empty where it has none. `None` when there is no such entry.
pub fn bundle(configuration: &MutatingWebhookConfiguration) -> Option<&[u8]> {
    let entry = configuration.webhooks.iter().flatten().find(|entry| entry.name == ENTRY)?;
    Some(entry.client_config.ca_bundle.as_ref().map_or(&[], |bundle| bundle.0.as_slice()))
}
