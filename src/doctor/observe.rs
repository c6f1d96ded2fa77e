//! What the Kubernetes API says, with the rights of whoever asks. What may not be seen is unknown, and never taken for absent.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope, ObjectList};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::connection::Endpoint;
use super::reach::{Contact, Made};
use super::report::{Report, State, Statement};
use super::rights::Need;
use super::{accounts, certificate, connection, injection, installation, reach, rights, rules};
use crate::cluster::configuration::ENTRY;
use crate::cluster::definitions;
use crate::rules::{ClusterPullSecret, Labels, Problem, PullSecret, Rule};

/// An API that does not answer its first question for so long is not reached.
const FIRST: Duration = Duration::from_secs(15);

/// What to look at.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What the chart calls everything: `<name>-webhook`, `<name>-controller`.
    pub name: String,
    /// Where pullcred runs. Without it, where the webhook configuration says that its Service is.
    pub release_namespace: Option<String>,
    /// Where it is taken to run when the configuration does not say so either.
    pub own_namespace: String,
    /// Where the dry-run Pod is asked for.
    pub namespace: String,
    /// Its image. Without it, one that a rule covers.
    pub image: Option<String>,
}

/// Nothing can be said of the installation.
#[derive(Debug, thiserror::Error)]
pub enum CannotLook {
    /// There is no answer from the Kubernetes API.
    #[error("the Kubernetes API cannot be reached: {0}; check KUBECONFIG and the network")]
    NotReached(String),
    /// The Kubernetes API does not accept who asks.
    #[error("the Kubernetes API does not know who asks ({0}): log in again, or name another KUBECONFIG")]
    NotKnown(String),
    /// The namespace for the dry-run Pod is not there.
    #[error("there is no namespace `{0}` to ask for a dry-run Pod in: name another with --namespace")]
    NoNamespace(String),
}

/// What was seen of something.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen<T> {
    There(T),
    Absent,
    /// It could not be looked at, for this reason.
    Unknown(String),
}

impl<T> Seen<T> {
    fn of(answer: kube::Result<Option<T>>) -> Self {
        match answer {
            Ok(Some(object)) => Self::There(object),
            Ok(None) => Self::Absent,
            Err(kube::Error::Api(status)) if status.code == 404 => Self::Absent,
            Err(error) => Self::Unknown(words(&error)),
        }
    }

    pub(super) fn map<U>(self, with: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::There(object) => Seen::There(with(object)),
            Self::Absent => Seen::Absent,
            Self::Unknown(why) => Seen::Unknown(why),
        }
    }

    pub(super) fn as_ref(&self) -> Seen<&T> {
        match self {
            Self::There(object) => Seen::There(object),
            Self::Absent => Seen::Absent,
            Self::Unknown(why) => Seen::Unknown(why.clone()),
        }
    }

    pub(super) fn there(&self) -> Option<&T> {
        if let Self::There(object) = self { Some(object) } else { None }
    }
}

/// What an error says to a person.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

/// The rules, with what is wrong with those that are none.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) cluster: Seen<Vec<Known<ClusterPullSecret>>>,
    pub(super) team: Seen<Vec<Known<PullSecret>>>,
}

/// An object that should be a rule.
#[derive(Clone, Debug)]
pub(super) struct Known<K> {
    /// As it is written in statements.
    pub(super) about: String,
    /// `None` where it cannot be read at all.
    pub(super) object: Option<K>,
    pub(super) rule: Result<Rule, String>,
}

impl Rules {
    /// Those that are valid.
    pub(super) fn valid(&self) -> impl Iterator<Item = &Rule> {
        let cluster = self.cluster.there().into_iter().flatten().filter_map(|known| known.rule.as_ref().ok());
        let team = self.team.there().into_iter().flatten().filter_map(|known| known.rule.as_ref().ok());
        cluster.chain(team)
    }
}

fn known<K: Resource<DynamicType = ()> + Clone>(
    list: ObjectList<DeserializeGuard<K>>,
    rule: fn(&K) -> Result<Rule, Vec<Problem>>,
) -> Vec<Known<K>> {
    let know = |object: DeserializeGuard<K>| {
        let about = about::<K>(object.namespace().as_deref(), &object.name_any());
        match object.0 {
            Ok(object) => {
                let rule = rule(&object)
                    .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
                Known { about, object: Some(object), rule }
            }
            Err(wrong) => {
                let why = format!("it cannot be read ({}); it may be of a newer version", wrong.error);
                Known { about, object: None, rule: Err(why) }
            }
        }
    };
    list.items.into_iter().map(know).collect()
}

/// `Service pullcred/pullcred-webhook`, `Namespace team`.
pub(super) fn about<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", K::kind(&())),
        None => format!("{} {name}", K::kind(&())),
    }
}

/// An installation, and what is known of it by now. What several families need is asked once.
pub(super) struct Look {
    client: Client,
    setting: Setting,
    release_namespace: String,
    configuration: Seen<MutatingWebhookConfiguration>,
    behind: OnceCell<(Seen<Service>, Seen<Vec<Endpoint>>)>,
    contacts: OnceCell<Vec<Contact>>,
    rules: OnceCell<Rules>,
}

impl Look {
    /// Finds the API and the webhook configuration.
    ///
    /// # Errors
    /// The API does not answer, or does not know who asks.
    pub(super) async fn begin(client: Client, setting: Setting) -> Result<Self, CannotLook> {
        match tokio::time::timeout(FIRST, client.apiserver_version()).await {
            Err(_) => return Err(CannotLook::NotReached(format!("no answer within {} s", FIRST.as_secs()))),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                return Err(CannotLook::NotKnown(status.message));
            }
            // Whoever may not ask for the version is answered all the same.
            Ok(Ok(_) | Err(kube::Error::Api(_))) => {}
            Ok(Err(error)) => return Err(CannotLook::NotReached(causes(&error))),
        }
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let configuration = Seen::of(configurations.get_opt(&setting.name).await);
        // Whoever brings no credential is somebody to the API server, and hardly ever meant to be.
        if let Seen::Unknown(why) = &configuration
            && why.contains("system:anonymous")
        {
            return Err(CannotLook::NotKnown(why.clone()));
        }
        let of_service = entry(&configuration).and_then(|entry| Some(&entry.client_config.service.as_ref()?.namespace));
        let release_namespace =
            setting.release_namespace.as_ref().or(of_service).unwrap_or(&setting.own_namespace).clone();
        Ok(Self {
            client,
            setting,
            release_namespace,
            configuration,
            behind: OnceCell::new(),
            contacts: OnceCell::new(),
            rules: OnceCell::new(),
        })
    }

    pub(super) async fn installation(&self) -> installation::Observed {
        let release = self.release_namespace.clone();
        let asked = join_all([release.as_str(), "kube-system"].map(|name| self.labels(name)));
        let leases: Api<Lease> = self.beside();
        let lease = async { Seen::of(leases.get_opt(crate::cluster::LEASE).await) };
        let (labels, lease) = futures::join!(asked, lease);
        let fails = entry(&self.configuration).is_some_and(installation::fails_closed);
        let (service, endpoints) = self.behind().await;
        // Which Pods there are matters where Pods are refused without them.
        let (pods, budgets) = if fails {
            let selector = service.there().and_then(|service| service.spec.as_ref()?.selector.as_ref());
            let selector = selector.map(|labels| labels.iter().map(|(key, value)| format!("{key}={value}")));
            let selector = selector.map(|terms| terms.collect::<Vec<_>>().join(",")).unwrap_or_default();
            let (pods, budgets): (Api<Pod>, Api<PodDisruptionBudget>) = (self.beside(), self.beside());
            let pods = list(&pods, &ListParams::default().labels(&selector)).await;
            (pods, list(&budgets, &ListParams::default()).await)
        } else {
            (Seen::Absent, Seen::Absent)
        };
        installation::Observed {
            name: self.setting.name.clone(),
            release_namespace: release.clone(),
            configuration: self.configuration.clone(),
            namespaces: [release, "kube-system".to_owned()].into_iter().zip(labels).collect(),
            lease,
            ready: endpoints.as_ref().map(|endpoints| endpoints.iter().filter(|one| one.is_ready).count()),
            pods: pods.map(|pods| pods.into_iter().map(|pod| pod.metadata.labels.unwrap_or_default()).collect()),
            budgets,
            now: Timestamp::now(),
        }
    }

    pub(super) async fn rights(&self) -> rights::Observed {
        let names = rights::policies(&self.setting.name);
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.client.clone());
        let mut bound = Vec::new();
        for name in names {
            let (policy, binding) = futures::join!(policies.get_opt(&name), bindings.get_opt(&name));
            bound.push((name, Seen::of(policy), Seen::of(binding)));
        }
        let rules = self.rules().await;
        let needs = rights::needs(&self.release_namespace, &rules);
        let allowed = join_all(needs.iter().map(|need| self.is_allowed(need))).await;
        rights::Observed {
            name: self.setting.name.clone(),
            release_namespace: self.release_namespace.clone(),
            rules_unseen: if let Seen::Unknown(why) = rules.cluster { Some(why) } else { None },
            policies: bound,
            needs: needs.into_iter().zip(allowed).collect(),
        }
    }

    /// Whether an identity of the installation may do what it needs.
    async fn is_allowed(&self, need: &Need) -> Seen<bool> {
        let (release, name) = (&self.release_namespace, &self.setting.name);
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{release}")];
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{release}:{name}-{}", need.component)),
            groups: Some(groups.into_iter().chain(["system:authenticated".to_owned()]).collect()),
            resource_attributes: Some(need.attributes.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        Seen::of(answer.map(|review| review.status.map(|status| status.allowed)))
    }

    pub(super) async fn connection(&self) -> connection::Observed {
        let (service, endpoints) = self.behind().await;
        connection::Observed {
            entry: self.entry(),
            service: service.clone(),
            endpoints: endpoints.clone(),
            contacts: self.contacts().await.to_vec(),
        }
    }

    pub(super) async fn certificate(&self) -> certificate::Observed {
        certificate::Observed {
            configuration: self.setting.name.clone(),
            entry: self.entry(),
            contacts: self.contacts().await.to_vec(),
            now: Timestamp::now(),
        }
    }

    pub(super) async fn rules_family(&self) -> rules::Observed {
        rules::Observed {
            definitions: definitions::compare(&self.client).await.map_err(|error| words(&error)),
            rules: self.rules().await,
            now: Timestamp::now(),
        }
    }

    pub(super) async fn accounts(&self) -> accounts::Observed {
        let (accounts, namespaces): (Api<ServiceAccount>, Api<Namespace>) =
            (Api::all(self.client.clone()), Api::all(self.client.clone()));
        let accounts = list(&accounts, &ListParams::default()).await;
        let labels =
            |list: Vec<Namespace>| list.into_iter().map(|one| (one.name_any(), one.labels().clone())).collect();
        accounts::Observed {
            accounts,
            namespaces: list(&namespaces, &ListParams::default()).await.map(labels),
            rules: self.rules().await,
        }
    }

    /// # Errors
    /// The namespace for the Pod is not there.
    pub(super) async fn injection(&self) -> Result<injection::Observed, CannotLook> {
        let namespace = self.setting.namespace.clone();
        let labels = self.labels(&namespace).await;
        if labels == Seen::Absent {
            return Err(CannotLook::NoNamespace(namespace));
        }
        let wanted = injection::wanted(&self.rules().await, &namespace, labels.there(), self.setting.image.as_deref());
        let excluded = injection::is_excluded(&self.entry(), &namespace, &labels);
        let (mut patched, mut called) = (None, None);
        if excluded != Some(true) {
            if let Ok(wanted) = &wanted {
                patched = Some(injection::ask(&self.client, &namespace, &wanted.image).await);
            }
            let is_patched = patched.as_ref().is_some_and(|trial| injection::is_patched(trial, &wanted));
            // Policies about images may refuse an image that nobody can read: it is asked for only where it can tell more.
            if !is_patched && !patched.as_ref().is_some_and(injection::is_refused) {
                called = Some(injection::ask(&self.client, &namespace, injection::UNREADABLE).await);
            }
        }
        Ok(injection::Observed { namespace, wanted, excluded, patched, called })
    }

    /// The report of what has been said.
    pub(super) fn report(self, checks: Vec<Statement>) -> Report {
        let wrong = checks.iter().filter(|said| matches!(said.state, State::Wrong { .. })).count();
        let unknown = checks.iter().filter(|said| said.state == State::Unknown).count();
        Report {
            name: self.setting.name,
            release_namespace: self.release_namespace,
            namespace: self.setting.namespace,
            wrong,
            unknown,
            calls: self.contacts.get().into_iter().flatten().filter_map(Contact::made).map(Made::times).collect(),
            checks,
        }
    }

    fn entry(&self) -> Seen<MutatingWebhook> {
        match &self.configuration {
            Seen::There(_) => entry(&self.configuration).cloned().map_or(Seen::Absent, Seen::There),
            Seen::Absent => Seen::Absent,
            Seen::Unknown(why) => Seen::Unknown(why.clone()),
        }
    }

    fn beside<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.release_namespace)
    }

    async fn labels(&self, namespace: &str) -> Seen<Labels> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        Seen::of(namespaces.get_opt(namespace).await).map(|namespace| namespace.labels().clone())
    }

    /// The Service that the configuration names, and the Pods behind it.
    async fn behind(&self) -> &(Seen<Service>, Seen<Vec<Endpoint>>) {
        let ask = async || {
            let Some(named) = entry(&self.configuration).and_then(|entry| entry.client_config.service.as_ref()) else {
                return (Seen::Absent, Seen::Absent);
            };
            let services: Api<Service> = Api::namespaced(self.client.clone(), &named.namespace);
            let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &named.namespace);
            let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", named.name));
            let (service, slices) = futures::join!(services.get_opt(&named.name), list(&slices, &of_service));
            let service = Seen::of(service);
            let endpoints = slices.map(|slices| connection::endpoints(named, service.there(), slices));
            (service, endpoints)
        };
        self.behind.get_or_init(ask).await
    }

    /// Calls of the webhook, by the best road there is; at least one that was made or not.
    async fn contacts(&self) -> &[Contact] {
        let call = async || {
            let entry = match &self.configuration {
                Seen::There(_) => entry(&self.configuration),
                Seen::Absent => None,
                Seen::Unknown(why) => return vec![Contact::NotMade(format!("where it is cannot be seen: {why}"))],
            };
            let Some(entry) = entry else {
                return vec![Contact::NotMade("where it is is not known without the webhook configuration".to_owned())];
            };
            let (service, endpoints) = self.behind().await;
            reach::call(&self.client, entry, service, endpoints, &self.setting.namespace).await
        };
        self.contacts.get_or_init(call).await
    }

    async fn rules(&self) -> Rules {
        let ask = async || {
            let cluster: Api<DeserializeGuard<ClusterPullSecret>> = Api::all(self.client.clone());
            let team: Api<DeserializeGuard<PullSecret>> = Api::all(self.client.clone());
            let every = ListParams::default();
            let (cluster, team) = futures::join!(cluster.list(&every), team.list(&every));
            Rules {
                cluster: Seen::of(cluster.map(Some)).map(|list| known(list, Rule::from_cluster_pull_secret)),
                team: Seen::of(team.map(Some)).map(|list| known(list, Rule::from_pull_secret)),
            }
        };
        self.rules.get_or_init(ask).await.clone()
    }
}

/// The one entry by its name; one of another name is better than none.
fn entry(configuration: &Seen<MutatingWebhookConfiguration>) -> Option<&MutatingWebhook> {
    let entries = configuration.there()?.webhooks.as_deref().unwrap_or_default();
    entries.iter().find(|entry| entry.name == ENTRY).or(entries.first())
}

async fn list<K: Resource + Clone + DeserializeOwned + std::fmt::Debug>(api: &Api<K>, of: &ListParams) -> Seen<Vec<K>> {
    Seen::of(api.list(of).await.map(|list| Some(list.items)))
}

/// An error with what caused it, the outermost first; kube's own text repeats the next one.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// The labels by which a selector may judge a namespace of which nothing but the name is known.
pub(super) fn name_label(namespace: &str) -> Labels {
    BTreeMap::from([(crate::rules::NAME_LABEL.to_owned(), namespace.to_owned())])
}
