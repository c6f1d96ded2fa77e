//! The webhook configuration and what stands around it: for which requests the API server calls, how long it waits, and what
//! becomes of Pods when nobody answers.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::observe::{Seen, about, name_label};
use super::report::Statements;
use crate::cluster::LEASE;
use crate::cluster::configuration::ENTRY;
use crate::rules::{Code, Labels, NAME_LABEL};

/// Longer than this nobody should wait for a Pod: callers such as `kubectl` and controllers have time-outs of their own.
const LONGEST_SECONDS: i32 = 10;

/// What the API server takes where the configuration names none.
pub(super) const DEFAULT_SECONDS: i32 = 10;

/// One replica may be away at any time.
const FEWEST_READY: usize = 2;

/// A lease is as good as lost when it has not been renewed for this many of its durations; clocks differ.
const LEASES_MISSED: i64 = 6;

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) name: String,
    pub(super) release_namespace: String,
    pub(super) configuration: Seen<MutatingWebhookConfiguration>,
    /// The labels of the release namespace, and of `kube-system`.
    pub(super) namespaces: Vec<(String, Seen<Labels>)>,
    pub(super) lease: Seen<Lease>,
    /// How many Pods behind the Service are ready.
    pub(super) ready: Seen<usize>,
    /// The labels of the Pods that the Service selects; looked at where the webhook fails closed.
    pub(super) pods: Seen<Vec<Labels>>,
    pub(super) budgets: Seen<Vec<PodDisruptionBudget>>,
    pub(super) now: Timestamp,
}

/// Whether Pods are refused when the webhook does not answer; that is what Kubernetes takes where nothing is written.
pub(super) fn fails_closed(entry: &MutatingWebhook) -> bool {
    entry.failure_policy.as_deref() != Some("Ignore")
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    let about = about::<MutatingWebhookConfiguration>(None, &seen.name);
    match &seen.configuration {
        Seen::Unknown(why) => said.unknown(about, why),
        Seen::Absent => said.wrong(
            Code::NoConfiguration,
            about,
            "is not there: the API server calls no webhook, and no Pod gets its pull secrets",
            "install or upgrade the Helm chart; if it has another name, say so with --name",
        ),
        Seen::There(configuration) => judge_entries(seen, configuration, &about, said),
    }
    judge_lease(seen, said);
}

fn judge_entries(seen: &Observed, configuration: &MutatingWebhookConfiguration, about: &str, said: &mut Statements) {
    let entries = configuration.webhooks.as_deref().unwrap_or_default();
    let before = said.len();
    if !matches!(entries, [entry] if entry.name == ENTRY) {
        let names = entries.iter().map(|entry| format!("`{}`", entry.name)).collect::<Vec<_>>().join(", ");
        let names = if names.is_empty() { "none".to_owned() } else { names };
        said.wrong(
            Code::Entry,
            about,
            format!("has these entries: {names}; it should have one, called `{ENTRY}`"),
            "upgrade the Helm chart, or take the other entries out with `kubectl edit`",
        );
    }
    let Some(entry) = entries.iter().find(|entry| entry.name == ENTRY).or(entries.first()) else { return };
    judge_rules(entry, about, said);
    judge_selectors(seen, entry, about, said);
    judge_manner(entry, about, said);
    if said.is_fine_since(before) {
        let seconds = entry.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
        let policy = entry.failure_policy.as_deref().unwrap_or("Fail");
        said.fine(about, format!("calls `{}` for new Pods, time-out {seconds} s, failurePolicy {policy}", entry.name));
    }
    if fails_closed(entry) {
        judge_replicas(seen, entry, said);
    }
}

/// For which requests the API server calls.
fn judge_rules(entry: &MutatingWebhook, about: &str, said: &mut Statements) {
    let mut calls_for_pods = false;
    let mut more = Vec::new();
    for rule in entry.rules.iter().flatten() {
        let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
        let [groups, versions, operations, resources] =
            [&rule.api_groups, &rule.api_versions, &rule.operations, &rule.resources].map(list);
        let holds = |values: &[String], wanted: &[&str]| values.iter().any(|value| wanted.contains(&value.as_str()));
        let reaches_namespaces = rule.scope.as_deref() != Some("Cluster");
        calls_for_pods |= reaches_namespaces
            && holds(&groups, &["", "*"])
            && holds(&versions, &["v1", "*"])
            && holds(&operations, &["CREATE", "*"])
            && holds(&resources, &["pods", "*", "*/*"]);
        more.extend(operations.into_iter().filter(|operation| operation != "CREATE"));
        more.extend(resources.into_iter().filter(|resource| resource != "pods"));
        more.extend(groups.into_iter().filter(|group| !group.is_empty()).map(|group| format!("group {group}")));
    }
    if !calls_for_pods {
        said.wrong(
            Code::NotCalledForPods,
            about,
            "its rules do not name CREATE of `pods` in version `v1` of the core group: the webhook is never asked about a Pod",
            "upgrade the Helm chart, or write a rule with apiGroups [\"\"], apiVersions [v1], operations [CREATE], resources [pods]",
        );
    }
    if !more.is_empty() {
        more.dedup();
        said.wrong(
            Code::CalledForMore,
            about,
            format!(
                "its rules also name {}: each such request waits for the webhook, which leaves it as it is; a Pod's \
                 pull secrets cannot be changed any more once it is created",
                more.join(", ")
            ),
            "leave operations [CREATE] and resources [pods] alone in the rules",
        );
    }
}

/// For which namespaces and Pods.
fn judge_selectors(seen: &Observed, entry: &MutatingWebhook, about: &str, said: &mut Statements) {
    let closed = fails_closed(entry);
    for (namespace, labels) in &seen.namespaces {
        let is_release = *namespace == seen.release_namespace;
        if !(is_release || closed) {
            continue;
        }
        match selects(entry.namespace_selector.as_ref(), namespace, labels) {
            Ok(false) => {}
            Ok(true) => said.wrong(
                Code::OwnNamespace,
                about,
                if is_release {
                    format!("its namespaceSelector selects `{namespace}`, where pullcred runs: its own Pods wait for it")
                } else {
                    format!("its namespaceSelector selects `{namespace}` with failurePolicy Fail: the cluster may not get up again")
                },
                format!(
                    "exclude it: in namespaceSelector, {{key: {NAME_LABEL}, operator: NotIn, values: [{namespace}]}}"
                ),
            ),
            Err(why) => said.unknown(about, format!("whether it selects the namespace `{namespace}`: {why}")),
        }
    }
    if let Seen::There(false) = seen_selected(entry.object_selector.as_ref(), &Labels::new()) {
        said.wrong(
            Code::NotCalledForPods,
            about,
            "its objectSelector selects only Pods with certain labels; all others get nothing",
            "take objectSelector out, or let it exclude only {key: pullcred.io/inject, operator: NotIn, values: [disabled]}",
        );
    }
}

/// How it calls.
fn judge_manner(entry: &MutatingWebhook, about: &str, said: &mut Statements) {
    let seconds = entry.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    if seconds > LONGEST_SECONDS {
        said.wrong(
            Code::TimeOut,
            about,
            format!("the API server waits {seconds} s for an answer that takes milliseconds: while the webhook is not reached, so long does each new Pod take"),
            "set timeoutSeconds to 5",
        );
    }
    if entry.reinvocation_policy.as_deref() != Some("IfNeeded") {
        said.wrong(
            Code::NotCalledAgain,
            about,
            "reinvocationPolicy is Never: containers that another webhook adds after this one, such as sidecars, get no pull secrets",
            "set reinvocationPolicy to IfNeeded",
        );
    }
}

/// Whether Pods can be created while one replica is away.
fn judge_replicas(seen: &Observed, entry: &MutatingWebhook, said: &mut Statements) {
    let Some(service) = &entry.client_config.service else {
        let url = entry.client_config.url.as_deref().unwrap_or_default();
        return said.unknown(url, "failurePolicy is Fail, and how many replicas there are behind a URL cannot be seen");
    };
    let about = about::<k8s_openapi::api::core::v1::Service>(Some(&service.namespace), &service.name);
    match &seen.ready {
        Seen::There(ready) if *ready < FEWEST_READY => said.wrong(
            Code::FewReplicas,
            &about,
            format!("failurePolicy is Fail, and {ready} of the Pods behind it are ready: while there is none, no Pod of the cluster is created"),
            "run at least two replicas (Helm value webhook.replicas; three on nodes of their own are better), or set failurePolicy to Ignore",
        ),
        Seen::There(ready) => said.fine(&about, format!("{ready} Pods behind it are ready, for failurePolicy Fail")),
        Seen::Absent => said.unknown(&about, "how many Pods behind it are ready cannot be seen"),
        Seen::Unknown(why) => said.unknown(&about, why),
    }
    let (pods, budgets) = match (&seen.pods, &seen.budgets) {
        (Seen::There(pods), Seen::There(budgets)) => (pods, budgets),
        (Seen::Unknown(why), _) | (_, Seen::Unknown(why)) => {
            return said.unknown(&about, format!("whether a PodDisruptionBudget covers its Pods: {why}"));
        }
        _ => return said.unknown(&about, "whether a PodDisruptionBudget covers its Pods"),
    };
    // Without a Pod there is nothing that a budget could cover, and that is a finding of its own.
    let Some(pod) = pods.first() else { return };
    let covers = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some() && matches!(seen_selected(selector, pod), Seen::There(true))
    };
    match budgets.iter().find(covers) {
        Some(budget) => said.fine(&about, format!("PodDisruptionBudget {} covers its Pods", budget.name_any())),
        None => said.wrong(
            Code::NoDisruptionBudget,
            &about,
            "failurePolicy is Fail, and no PodDisruptionBudget covers its Pods: draining nodes may take all of them at once",
            "create one, as the Helm chart does with more than one replica",
        ),
    }
}

/// Whether a controller leads.
fn judge_lease(seen: &Observed, said: &mut Statements) {
    let about = about::<Lease>(Some(&seen.release_namespace), LEASE);
    let mend = format!(
        "look at the Pods of Deployment {}/{}-controller and their logs; if pullcred runs elsewhere, say so with --release-namespace",
        seen.release_namespace, seen.name
    );
    let lease = match &seen.lease {
        Seen::Unknown(why) => return said.unknown(about, why),
        Seen::Absent => {
            let message = "is not there: no controller has ever led, and nobody makes copies and certificates";
            return said.wrong(Code::NobodyLeads, about, message, mend);
        }
        Seen::There(lease) => lease.spec.clone().unwrap_or_default(),
    };
    let holder = lease.holder_identity.filter(|holder| !holder.is_empty());
    let promised = i64::from(lease.lease_duration_seconds.unwrap_or(10));
    let age = lease.renew_time.map(|at| seen.now.duration_since(at.0).as_secs());
    match (holder, age) {
        (Some(holder), Some(age)) if age <= LEASES_MISSED * promised => said.fine(about, format!("`{holder}` leads")),
        (holder, Some(age)) => {
            let holder = holder.map_or("nobody holds it".to_owned(), |holder| format!("`{holder}` holds it"));
            let message = format!("{holder}, and it was renewed {age} s ago: nobody makes copies and certificates");
            said.wrong(Code::NobodyLeads, about, message, mend);
        }
        (_, None) => said.wrong(Code::NobodyLeads, about, "has never been renewed: nobody leads", mend),
    }
}

/// Whether a selector selects a namespace, as far as its labels tell.
pub(super) fn selects(
    selector: Option<&LabelSelector>,
    namespace: &str,
    labels: &Seen<Labels>,
) -> Result<bool, String> {
    let known = match labels {
        Seen::There(labels) => labels.clone(),
        // A selector that looks at names alone can be judged without the namespace.
        _ if selector.is_none_or(only_names) => name_label(namespace),
        Seen::Absent => return Err("it is not there".to_owned()),
        Seen::Unknown(why) => return Err(why.clone()),
    };
    match seen_selected(selector, &known) {
        Seen::There(selected) => Ok(selected),
        _ => Err("the selector cannot be read".to_owned()),
    }
}

fn only_names(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().all(|(key, _)| key == NAME_LABEL)
        && selector.match_expressions.iter().flatten().all(|expression| expression.key == NAME_LABEL)
}

fn seen_selected(selector: Option<&LabelSelector>, labels: &Labels) -> Seen<bool> {
    match selector.cloned().map(Selector::try_from) {
        None => Seen::There(true),
        Some(Ok(selector)) => Seen::There(selector.matches(labels)),
        Some(Err(error)) => Seen::Unknown(error.to_string()),
    }
}
