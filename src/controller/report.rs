//! What the controller tells people: statuses and events on rules, and events on Pods whose copy cannot be provided.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::copies::MANAGER;
use crate::process::logs::Seldom;
use crate::rules::API_VERSION;

/// Writes a status, from the state of the object that it was computed from. Gives the object as it is then.
pub(super) async fn write_status<K: Resource<DynamicType = ()> + DeserializeOwned>(
    rules: Api<K>,
    metadata: ObjectMeta,
    status: impl Serialize,
) -> kube::Result<K> {
    let name = metadata.name.unwrap_or_default();
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": status,
    });
    rules.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body)).await
}

/// What is told in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) is_bad: bool,
    pub(super) reason: String,
    pub(super) note: String,
}

impl News {
    /// What the conditions of a status say that those of the last one did not.
    pub(super) fn between(before: Option<&[Condition]>, after: Option<&[Condition]>) -> Option<Self> {
        let (condition, old) = (after?.first()?, before.and_then(<[_]>::first));
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
