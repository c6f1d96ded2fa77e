//! What became of the Pods of a namespace: whether they run, what kept them from it, and which events speak of them.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::task::JoinSet;

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

/// Why Pods did not run at the first try, or not without a warning.
#[derive(Debug)]
pub struct Fault {
    /// What the warnings say, or what is wrong with the Pods.
    pub what: String,
    /// Whether all was in its place in time. The API server lets a node read what a Pod names once its authorizer has seen the Pod
    /// there. A kubelet that asks before is refused, asks again a second later, and by then has given up.
    pub is_of_the_kubelet: bool,
}

/// When what matters was first seen in a namespace.
struct Seen {
    secret: Arc<OnceLock<Instant>>,
    refusal: Option<Instant>,
    // Ends with this.
    _watch: JoinSet<()>,
}

impl Seen {
    /// Sees the Secret when it is there, whatever else takes its time.
    fn begin(node: &Node, namespace: &str) -> Self {
        let secret = Arc::new(OnceLock::new());
        let (at, secrets) = (Arc::clone(&secret), node.api::<Secret>(namespace));
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            let mut changes = pin!(watch_object(secrets, SECRET).default_backoff());
            while let Some(change) = changes.next().await {
                if let Ok(Some(_)) = change {
                    at.get_or_init(Instant::now);
                    return;
                }
            }
        });
        Self { secret, refusal: None, _watch: watch }
    }

    /// Gives the events.
    async fn look(&mut self, node: &Node, namespace: &str) -> Vec<Event> {
        let events = node.api::<Event>(namespace).list(&ListParams::default()).await.unwrap().items;
        if self.refusal.is_none()
            && events.iter().any(|event| event.reason.as_deref() == Some("FailedToRetrieveImagePullSecret"))
        {
            self.refusal = Some(Instant::now());
        }
        events
    }

    /// Whether the Secret was there so long before the kubelet said that it could not get it, that it was there when the kubelet
    /// looked. A Secret that is not there is told at once; for its own cache the kubelet waits a second.
    fn was_in_time(&self) -> bool {
        let (Some(secret), Some(refusal)) = (self.secret.get(), self.refusal) else { return false };
        refusal.duration_since(*secret) >= Duration::from_millis(500)
    }
}

/// Waits until a namespace has all Pods of this way, and they run or have ended well: as they did at the first try, without a
/// warning of anybody. Otherwise says what was in the way.
pub async fn run_at_the_first_try(node: &Node, namespace: &str, way: Way) -> Result<Vec<Pod>, Fault> {
    let mut seen = Seen::begin(node, namespace);
    let pods = wait_for_every(PAUSE, &format!("{way:?} in {namespace}"), LIMIT, async || {
        seen.look(node, namespace).await;
        let pods = node.api::<Pod>(namespace).list(&ListParams::default()).await.unwrap().items;
        let stuck = pods.iter().any(is_not_pulled);
        (stuck || (pods.len() == way.pods() && pods.iter().all(is_running_or_done))).then_some(pods)
    })
    .await;
    // The kubelet sends its events in their order: when there is one that says "Started", no warning is under way.
    let events = wait_for_every(PAUSE, &format!("events of {way:?} in {namespace}"), LIMIT, async || {
        let events = seen.look(node, namespace).await;
        let has_started = |pod: &Pod| of(&events, pod).any(|event| event.reason.as_deref() == Some("Started"));
        let is_told = pods.iter().any(is_not_pulled) && !warnings(&events).is_empty();
        (is_told || pods.iter().all(has_started)).then_some(events)
    })
    .await;
    let warnings = warnings(&events);
    if !warnings.is_empty() {
        // In a namespace so new a kubelet now and then waits for the token and the authority's file of any Pod.
        let is_of_every_pod =
            |warning: &String| warning.contains(" FailedMount: ") && warning.contains("\"kube-api-access-");
        let is_of_the_kubelet = seen.was_in_time() || warnings.iter().all(is_of_every_pod);
        return Err(Fault { what: warnings.join("; "), is_of_the_kubelet });
    }
    let wrong = |what: String| Err(Fault { what, is_of_the_kubelet: false });
    for pod in &pods {
        if secrets(pod) != [SECRET] {
            return wrong(format!("{} has the pull secrets {:?}", pod.name_any(), secrets(pod)));
        }
        if statuses(pod).any(|status| status.restart_count > 0) {
            return wrong(format!("{} was restarted", pod.name_any()));
        }
    }
    Ok(pods)
}

/// Waits until a namespace has all Pods of this way, and they run or have ended well, at whichever try.
pub async fn run(node: &Node, namespace: &str, way: Way) {
    wait_for_every(PAUSE, &format!("{way:?} in {namespace} to run by itself"), LIMIT, async || {
        let pods = node.api::<Pod>(namespace).list(&ListParams::default()).await.unwrap().items;
        (pods.len() == way.pods() && pods.iter().all(is_running_or_done)).then_some(())
    })
    .await;
}

/// Waits until the registry has refused every Pod of this way.
pub async fn are_refused(node: &Node, namespace: &str, way: Way) {
    wait_for_every(PAUSE, &format!("{way:?} in {namespace} to be refused"), LIMIT, async || {
        let pods = node.api::<Pod>(namespace).list(&ListParams::default()).await.unwrap().items;
        assert!(!pods.iter().any(is_running_or_done), "{way:?} runs without pullcred: is the image private?");
        let events = node.api::<Event>(namespace).list(&ListParams::default()).await.unwrap().items;
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
