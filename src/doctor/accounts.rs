//! `ServiceAccount`s that enforce mountable secrets: they refuse every Pod with a pull secret that they do not list, also when a
//! webhook has added it (`plugin/pkg/admission/serviceaccount` in Kubernetes).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;

use super::observe::{Rules, Seen, about};
use super::report::Statements;
use crate::rules::{Code, Labels, Mode};

/// What makes an account enforce it, when its value is true.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// As Go's `strconv.ParseBool` reads them.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// Those of all namespaces.
    pub(super) accounts: Seen<Vec<ServiceAccount>>,
    /// The labels of the namespaces, by name.
    pub(super) namespaces: Seen<BTreeMap<String, Labels>>,
    pub(super) rules: Rules,
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    let accounts = match &seen.accounts {
        Seen::There(accounts) => accounts,
        Seen::Unknown(why) => return said.unknown("ServiceAccounts", why),
        Seen::Absent => return said.unknown("ServiceAccounts", "the API server does not know them"),
    };
    for rules in [seen.rules.cluster.as_ref().map(|_| ()), seen.rules.team.as_ref().map(|_| ())] {
        if let Seen::Unknown(why) = rules {
            return said.unknown("ServiceAccounts", format!("whether their Pods get pull secrets: {why}"));
        }
    }
    let before = said.len();
    let enforcing = |account: &&ServiceAccount| {
        account.annotations().get(ENFORCE).is_some_and(|value| TRUE.contains(&value.as_str()))
    };
    for account in accounts.iter().filter(enforcing) {
        let namespace = account.namespace().unwrap_or_default();
        let about = about::<ServiceAccount>(Some(&namespace), &account.name_any());
        let labels = seen.namespaces.there().and_then(|namespaces| namespaces.get(&namespace));
        let listed: BTreeSet<&str> =
            account.image_pull_secrets.iter().flatten().map(|reference| reference.name.as_str()).collect();
        let mut refused = BTreeSet::new();
        for rule in seen.rules.valid().filter(|rule| rule.mode() == Mode::Inject) {
            match rule.serves(&namespace, labels) {
                Some(true) if !listed.contains(rule.secret_name()) => _ = refused.insert(rule.secret_name()),
                None => said.unknown(
                    &about,
                    format!("whether {} serves its namespace, whose labels cannot be seen", rule.id()),
                ),
                Some(_) => {}
            }
        }
        if !refused.is_empty() {
            let names = refused.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            said.wrong(
                Code::MountableSecrets,
                about,
                format!("has the annotation {ENFORCE} and does not list {names}: Pods that get it are refused"),
                format!("add {names} to its imagePullSecrets, or take the annotation (deprecated since Kubernetes 1.32) away"),
            );
        }
    }
    if said.is_fine_since(before) {
        said.fine("ServiceAccounts", format!("none of {} refuses a pull secret that its Pods get", accounts.len()));
    }
}
