//! Writing copies: each write carries the state it was computed from, and each refusal says what to do about it.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use kube::api::{Api, DeleteParams, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Error};
use serde_json::{Value, json};

use super::objects::{COPY_KEY, COPY_TYPE, MANAGED_BY, RULE_LABEL, Secret};
use crate::image::DockerConfigJson;
use crate::provision::{Action, Copy, Due, Observed, Place, Precondition, label_of};
use crate::rules::API_VERSION;

/// Who owns the fields that the controller writes.
pub(super) const MANAGER: &str = "pullcred-controller";

/// An API server that has just come back denies everything, until it has read the roles.
const ROLES_READ: Duration = Duration::from_secs(2);

/// What became of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done, and this is there now.
    There(Option<Observed>),
    /// Somebody else was faster, and this is there now.
    Overtaken(Option<Observed>),
    /// The API refuses it, in these words.
    Refused(String),
    /// The controller has no right to it; the words say which to grant.
    NotPermitted(String),
    /// It failed for a reason that may pass. Try again after so long. What the API said, if it answered.
    Failed(Duration, Option<String>),
    /// The API server has too much to do. Write nothing at all for so long.
    Overloaded(Duration),
}

/// Carries out a write that is due. `config` is the docker config of the copy, when there is one to write.
pub(super) async fn write(client: &Client, due: &Due, config: Option<&DockerConfigJson>) -> Outcome {
    let written = match (&due.action, &due.copy, config) {
        (Action::Create, Some(copy), Some(config)) => create(client, &due.place, copy, config).await.map(Some),
        (Action::Update(state), Some(copy), Some(config)) => {
            update(client, &due.place, copy, config, state).await.map(Some)
        }
        (Action::Replace(state), Some(copy), Some(config)) => match delete(client, &due.place, state).await {
            Ok(()) => create(client, &due.place, copy, config).await.map(Some),
            Err(error) => Err(error),
        },
        (Action::Delete(state), _, _) => delete(client, &due.place, state).await.map(|()| None),
        // What was to be written is not known any more; it is decided anew.
        _ => return Outcome::Failed(Duration::from_millis(100), None),
    };
    match written {
        Ok(secret) => Outcome::There(secret.map(|secret| secret.observed())),
        Err(error) => failed(client, due, error).await,
    }
}

async fn create(client: &Client, place: &Place, copy: &Copy, config: &DockerConfigJson) -> Result<Secret, Error> {
    let body = serde_json::to_vec(&body(place, copy, config, None)).map_err(Error::SerdeError)?;
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let request = Request::new(url(place)).create(&parameters, body).map_err(Error::BuildRequest)?;
    client.request(request).await
}

async fn update(
    client: &Client,
    place: &Place,
    copy: &Copy,
    config: &DockerConfigJson,
    state: &Precondition,
) -> Result<Secret, Error> {
    let patch = kube::api::Patch::Apply(body(place, copy, config, Some(state)));
    let parameters = PatchParams::apply(MANAGER).force();
    let request = Request::new(url(place)).patch(&place.secret, &parameters, &patch).map_err(Error::BuildRequest)?;
    client.request(request).await
}

async fn delete(client: &Client, place: &Place, state: &Precondition) -> Result<(), Error> {
    let preconditions =
        Preconditions { uid: Some(state.uid.to_string()), resource_version: Some(state.version.to_string()) };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let request = Request::new(url(place)).delete(&place.secret, &parameters).map_err(Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}

fn url(place: &Place) -> String {
    format!("/api/v1/namespaces/{}/secrets", place.namespace)
}

fn body(place: &Place, copy: &Copy, config: &DockerConfigJson, state: Option<&Precondition>) -> Value {
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": &*place.secret,
            "namespace": &*place.namespace,
            "labels": {MANAGED_BY.0: MANAGED_BY.1, RULE_LABEL: label_of(&copy.rule)},
            "ownerReferences": [{
                "apiVersion": API_VERSION,
                "kind": "ClusterPullSecret",
                "name": &*copy.rule,
                "uid": &*copy.rule_uid,
            }],
        },
        "type": COPY_TYPE,
        "data": {COPY_KEY: k8s_openapi::ByteString(config.expose().as_bytes().to_vec())},
    });
    if let Some(state) = state {
        body["metadata"]["uid"] = (*state.uid).into();
        body["metadata"]["resourceVersion"] = (*state.version).into();
    }
    body
}

async fn failed(client: &Client, due: &Due, error: Error) -> Outcome {
    let Error::Api(status) = &error else {
        tracing::debug!(%error, namespace = %due.place.namespace, secret = %due.place.secret, "a copy could not be written");
        return Outcome::Failed(Duration::from_secs(1), None);
    };
    let details = status.details.as_ref();
    match status.code {
        // Somebody else was faster, or it is not there any more: look again.
        404 | 409 => look(client, &due.place).await,
        403 if details
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")) =>
        {
            Outcome::Failed(Duration::from_secs(5), None)
        }
        403 => match missing_right(client, &due.place, &due.action).await {
            Some(words) => Outcome::NotPermitted(words),
            // A quota and a policy refuse with 403 too.
            None => Outcome::Refused(status.message.clone()),
        },
        400 | 413 | 422 => Outcome::Refused(status.message.clone()),
        429 | 503 => {
            let seconds = details.map_or(0, |details| u64::from(details.retry_after_seconds));
            Outcome::Overloaded(Duration::from_secs(seconds.max(1)))
        }
        _ => Outcome::Failed(Duration::from_secs(1), Some(status.message.clone())),
    }
}

async fn look(client: &Client, place: &Place) -> Outcome {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    match secrets.get_opt(&place.secret).await {
        Ok(found) => Outcome::Overtaken(found.map(|secret| secret.observed())),
        Err(_) => Outcome::Failed(Duration::from_secs(1), None),
    }
}

/// The right that a write needs and that is not granted.
async fn missing_right(client: &Client, place: &Place, action: &Action) -> Option<String> {
    let verbs: &[&str] = match action {
        Action::Create => &["create"],
        Action::Update(_) => &["patch"],
        Action::Replace(_) => &["delete", "create"],
        _ => &["delete"],
    };
    for verb in verbs {
        let is_denied = async || !may(client, verb, Some(&place.namespace), &place.secret).await.unwrap_or(true);
        if is_denied().await {
            tokio::time::sleep(ROLES_READ).await;
            if is_denied().await {
                return Some(not_permitted(verb, &place.secret));
            }
        }
    }
    None
}

/// What to tell a person whose rule has a Secret name that is not permitted.
pub(super) fn not_permitted(verb: &str, secret: &str) -> String {
    format!(
        "The controller may not {verb} Secrets named {secret}: add {secret} to the value rbac.secretNames of the Helm chart."
    )
}

/// The names of which the controller may watch Secrets in all namespaces: those that the rules have now, and some that they have had.
pub(super) async fn permitted_names(client: &Client) -> Result<Vec<String>, Error> {
    // Whichever namespace is asked about, it tells the rights in all. Those in `default` alone, where the release may be, come with them:
    // a watch of their names is refused and dropped.
    let spec = SelfSubjectRulesReviewSpec { namespace: Some("default".to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..Default::default() };
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    let is_to_watch = |rule: &ResourceRule| {
        rule.resources.iter().flatten().any(|resource| resource == "secrets")
            && rule.verbs.iter().any(|verb| verb == "watch")
    };
    let rules = answer.status.into_iter().flat_map(|status| status.resource_rules).filter(is_to_watch);
    Ok(rules.flat_map(|rule| rule.resource_names.unwrap_or_default()).collect())
}

/// Whether the controller has a right to the Secrets of a name, in one namespace or in all.
pub(super) async fn may(client: &Client, verb: &str, namespace: Option<&str>, secret: &str) -> Result<bool, Error> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        resource: Some("secrets".to_owned()),
        name: Some(secret.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
