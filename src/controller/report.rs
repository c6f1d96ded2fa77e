//! What the controller tells people: statuses and events on rules, and events on Pods whose copy cannot be provided.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource};
use serde_json::json;

use super::copies::MANAGER;
use crate::process::logs::Seldom;
use crate::rules::{API_VERSION, ClusterPullSecret, ClusterPullSecretStatus};

/// Writes a status, from the state of the object that it was computed from. Gives the object as it is then.
pub(super) async fn write_status(
    client: Client,
    document: &ClusterPullSecret,
    status: &ClusterPullSecretStatus,
) -> kube::Result<ClusterPullSecret> {
    let metadata = &document.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "ClusterPullSecret",
        "metadata": {"name": name, "uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": status,
    });
    let rules: Api<ClusterPullSecret> = Api::all(client);
    rules.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body)).await
}

/// What is told in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) is_bad: bool,
    pub(super) reason: String,
    pub(super) note: String,
}

impl News {
    /// What a status says that the last one did not.
    pub(super) fn between(before: Option<&ClusterPullSecretStatus>, after: &ClusterPullSecretStatus) -> Option<Self> {
        let condition = after.conditions.as_ref()?.first()?;
        let old = before.and_then(|before| before.conditions.as_ref()?.first());
        // A rule that is well from the start is no news.
        let is_news = match old {
            Some(old) => old.reason != condition.reason,
            None => condition.status == "False",
        };
        is_news.then(|| Self {
            is_bad: condition.status == "False",
            reason: condition.reason.clone(),
            note: condition.message.clone(),
        })
    }
}

/// Publishes an event; the recorder counts those that repeat in one. An event that is lost is no harm: the status says the same.
pub(super) async fn publish(recorder: &Recorder, about: &ObjectReference, news: News) {
    static CANNOT_TELL: Seldom = Seldom::at_most(1);
    let event = Event {
        type_: if news.is_bad { EventType::Warning } else { EventType::Normal },
        reason: news.reason,
        // The API takes 1,024 bytes.
        note: Some(news.note.chars().take(250).collect()),
        action: "Provide".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, about).await
        && let Some(unsaid) = CANNOT_TELL.now()
    {
        tracing::warn!(%error, unsaid, "an event cannot be written");
    }
}

/// What events about a rule refer to.
pub(super) fn reference(document: &ClusterPullSecret) -> ObjectReference {
    document.object_ref(&())
}
