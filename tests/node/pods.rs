//! What became of the Pods of a namespace: whether they run, what kept them from it, and which events speak of them.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};

use crate::node::{LIMIT, Node, PAUSE, SECRET};
use crate::support::wait_for_every;
use crate::ways::Way;

/// How the kubelet says that an image could not be pulled.
const NOT_PULLED: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// What a registry says to somebody whom it does not know, in the words of the kubelet's events.
const UNKNOWN_TO_THE_REGISTRY: [&str; 4] = ["401", "unauthorized", "authorization failed", "no basic auth credentials"];

/// The names of a Pod's pull secrets.
pub fn secrets(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.as_ref().unwrap();
    spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.as_str()).collect()
}

/// Waits until a namespace has all Pods of this way, and they run or have ended well: as they did at the first try, without a
/// warning of anybody. Otherwise says what was in the way.
pub async fn run_at_the_first_try(node: &Node, namespace: &str, way: Way) -> Result<Vec<Pod>, String> {
    let pods = wait_for_every(PAUSE, &format!("{way:?} in {namespace}"), LIMIT, async || {
        let pods = node.all::<Pod>(namespace).await;
        let stuck = pods.iter().any(is_not_pulled);
        (stuck || (pods.len() == way.pods() && pods.iter().all(is_running_or_done))).then_some(pods)
    })
    .await;
    // The kubelet sends its events in their order: when there is one that says "Started", no warning is under way.
    let events = wait_for_every(PAUSE, &format!("events of {way:?} in {namespace}"), LIMIT, async || {
        let events = node.all::<Event>(namespace).await;
        let has_started = |pod: &Pod| of(&events, pod).any(|event| event.reason.as_deref() == Some("Started"));
        let is_told = pods.iter().any(is_not_pulled) && !warnings(&events).is_empty();
        (is_told || pods.iter().all(has_started)).then_some(events)
    })
    .await;
    let warnings = warnings(&events);
    if !warnings.is_empty() {
        return Err(warnings.join("; "));
    }
    for pod in &pods {
        if secrets(pod) != [SECRET] {
            return Err(format!("{} has the pull secrets {:?}", pod.name_any(), secrets(pod)));
        }
        if statuses(pod).any(|status| status.restart_count > 0) {
            return Err(format!("{} was restarted", pod.name_any()));
        }
    }
    Ok(pods)
}

/// Waits until the registry has refused every Pod of this way.
pub async fn are_refused(node: &Node, namespace: &str, way: Way) {
    wait_for_every(PAUSE, &format!("{way:?} in {namespace} to be refused"), LIMIT, async || {
        let pods = node.all::<Pod>(namespace).await;
        assert!(!pods.iter().any(is_running_or_done), "{way:?} runs without pullcred: is the image private?");
        let events = node.all::<Event>(namespace).await;
        let is_refused = |pod: &Pod| {
            of(&events, pod).filter_map(|event| event.message.as_deref()).any(|message| {
                message.contains(&node.private_image)
                    && UNKNOWN_TO_THE_REGISTRY.iter().any(|word| message.contains(word))
            })
        };
        let all = pods.iter().all(|pod| is_not_pulled(pod) && is_refused(pod));
        (pods.len() == way.pods() && all).then_some(())
    })
    .await;
}

/// Deletes the Pods of a namespace, so that the node has room for others.
pub async fn delete_all(node: &Node, namespace: &str) {
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    node.api::<Pod>(namespace).delete_collection(&at_once, &ListParams::default()).await.unwrap();
}

/// What the warnings of a namespace say.
pub fn warnings(events: &[Event]) -> Vec<String> {
    let warnings = events.iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    warnings
        .map(|event| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!("{} {}: {}", text(&event.involved_object.name), text(&event.reason), text(&event.message))
        })
        .collect()
}

fn of<'a>(events: &'a [Event], pod: &Pod) -> impl Iterator<Item = &'a Event> {
    let uid = pod.uid();
    events.iter().filter(move |event| event.involved_object.uid == uid)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn is_not_pulled(pod: &Pod) -> bool {
    let waiting = statuses(pod).filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waiting.into_iter().any(|reason| NOT_PULLED.contains(&reason))
}

fn is_running_or_done(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Succeeded") || (phase == Some("Running") && statuses(pod).all(|status| status.ready))
}
