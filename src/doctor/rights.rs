//! What the two identities may do, by asking the API server as `kubectl auth can-i --as` does, and whether the policies are
//! there that keep the controller from what RBAC cannot say.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

use super::observe::{Rules, Seen, about};
use super::report::Statements;
use crate::rules::{ClusterPullSecret, Code, Mode};

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) name: String,
    pub(super) release_namespace: String,
    /// Why it is not known which Secrets the rules need, if so.
    pub(super) rules_unseen: Option<String>,
    /// Each with its name.
    pub(super) policies: Vec<(String, Seen<ValidatingAdmissionPolicy>, Seen<ValidatingAdmissionPolicyBinding>)>,
    /// Each with whether it is allowed.
    pub(super) needs: Vec<(Need, Seen<bool>)>,
}

/// A right that an identity needs.
#[derive(Clone, Debug)]
pub(super) struct Need {
    /// `webhook` or `controller`.
    pub(super) component: &'static str,
    pub(super) attributes: ResourceAttributes,
}

/// The names of the policies and of their bindings, as the chart makes them.
pub(super) fn policies(name: &str) -> [String; 3] {
    ["secrets", "records", "webhook"].map(|about| format!("{name}-controller-{about}"))
}

/// Rights on one kind of resource: verbs, its API group, and its name, with a subresource behind a slash.
type Right = (&'static str, &'static str, &'static str);

/// What each identity needs everywhere, whatever the rules are.
const EVERYWHERE: [(&str, &[Right]); 2] = [
    (
        "webhook",
        &[
            ("list watch", "pullcred.io", "clusterpullsecrets"),
            ("list watch", "pullcred.io", "pullsecrets"),
            ("list watch", "", "namespaces"),
        ],
    ),
    (
        CONTROLLER,
        &[
            ("list watch", "pullcred.io", "clusterpullsecrets"),
            ("list watch", "pullcred.io", "pullsecrets"),
            ("patch", "pullcred.io", "clusterpullsecrets/status"),
            ("patch", "pullcred.io", "pullsecrets/status"),
            ("list watch", "", "namespaces"),
            ("list watch", "", "pods"),
            ("create patch", "events.k8s.io", "events"),
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
            ("create", "authorization.k8s.io", "selfsubjectrulesreviews"),
        ],
    ),
];

const CONTROLLER: &str = "controller";

/// On the Lease, and on Leases: `create` cannot be limited to a name.
const LEASE: Right = ("get list watch update", "coordination.k8s.io", "leases");
const LEASES: Right = ("create", "coordination.k8s.io", "leases");

/// On the name of copies everywhere, and on Secrets.
const COPY: Right = ("get list watch patch delete", "", "secrets");
const COPIES: Right = ("create", "", "secrets");

/// On a source beside pullcred.
const SOURCE: Right = ("list watch", "", "secrets");

/// What the identities need: always, and for the rules that there are; nothing that the chart does not grant. The rights on
/// certificates are not among them: which there should be depends on who makes the certificates, and the family `certificate`
/// sees what comes of it.
pub(super) fn needs(release_namespace: &str, rules: &Rules) -> Vec<Need> {
    let mut needs = Vec::new();
    for (component, rights) in EVERYWHERE {
        needs.extend(rights.iter().flat_map(|right| each(component, *right, None, None)));
    }
    let beside = Some(release_namespace);
    needs.extend(each(CONTROLLER, LEASE, Some(crate::cluster::LEASE), beside));
    needs.extend(each(CONTROLLER, LEASES, None, beside));

    let cluster = rules.cluster.there().into_iter().flatten();
    let copied: Vec<_> = cluster.filter(|known| is_copied(known.object.as_ref())).collect();
    if !copied.is_empty() {
        needs.extend(each(CONTROLLER, COPIES, None, None));
    }
    for known in copied {
        let Ok(rule) = &known.rule else { continue };
        needs.extend(each(CONTROLLER, COPY, Some(rule.secret_name()), None));
        if let Some(source) = known.object.as_ref().and_then(source_secret) {
            needs.extend(each(CONTROLLER, SOURCE, Some(&source), beside));
        }
    }
    let mut unique: Vec<Need> = Vec::new();
    for need in needs {
        if !unique.iter().any(|known| known.component == need.component && known.attributes == need.attributes) {
            unique.push(need);
        }
    }
    unique
}

/// A need for each verb of a right.
fn each<'a>(
    component: &'static str,
    (verbs, group, resource): Right,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
) -> impl Iterator<Item = Need> + 'a {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(of, sub)| (of, Some(sub)));
    let text = |text: &str| Some(text.to_owned());
    verbs.split(' ').map(move |verb| Need {
        component,
        attributes: ResourceAttributes {
            verb: text(verb),
            group: text(group),
            resource: text(resource),
            subresource: subresource.map(str::to_owned),
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        },
    })
}

/// Whether the controller makes copies for a rule.
fn is_copied(rule: Option<&ClusterPullSecret>) -> bool {
    rule.is_some_and(|rule| {
        let unmanaged = rule.spec.source.as_ref().is_some_and(|source| source.unmanaged.is_some());
        rule.spec.mode == Mode::Inject && !unmanaged
    })
}

/// The Secret beside pullcred that a rule's credential comes from.
fn source_secret(rule: &ClusterPullSecret) -> Option<String> {
    let Some(source) = &rule.spec.source else { return rule.metadata.name.clone() };
    match (&source.secret_ref, &source.google_service_account_key) {
        (Some(named), _) => named.name.clone(),
        (_, Some(key)) => key.secret_ref.as_ref()?.name.clone(),
        _ => None,
    }
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    for component in ["webhook", "controller"] {
        let account = format!("{}-{component}", seen.name);
        let about = about::<k8s_openapi::api::core::v1::ServiceAccount>(Some(&seen.release_namespace), &account);
        let asked = || seen.needs.iter().filter(|(need, _)| need.component == component);
        let lacking: Vec<String> =
            asked().filter(|(_, allowed)| *allowed == Seen::There(false)).map(|(need, _)| words(need)).collect();
        let unknown = asked().find_map(|(_, allowed)| match allowed {
            Seen::There(_) => None,
            Seen::Absent => Some("the API server does not say".to_owned()),
            Seen::Unknown(why) => Some(why.clone()),
        });
        let unseen = seen.rules_unseen.as_ref().filter(|_| component == "controller");
        let unknown = unknown.or(unseen.map(|why| format!("which Secrets it needs rights on: {why}")));
        if !lacking.is_empty() {
            let mend = if lacking.iter().any(|right| right.contains("secrets `")) {
                "add the names to the Helm values rbac.secretNames (copies) or rbac.sourceNames (sources beside pullcred), and upgrade"
            } else {
                "upgrade the Helm chart, which makes the roles and their bindings; docs/rbac.md has them all"
            };
            said.wrong(Code::Rights, &about, format!("may not {}", lacking.join(", ")), mend);
        }
        match unknown {
            Some(why) => said.unknown(about, why),
            None if lacking.is_empty() => {
                let message = format!("has the rights that it needs ({} asked)", asked().count());
                said.fine(about, message);
            }
            None => {}
        }
    }
    for (name, policy, binding) in &seen.policies {
        judge_policy(name, policy, binding, said);
    }
}

/// `patch secrets `regcred` in pullcred`
fn words(need: &Need) -> String {
    let ResourceAttributes { verb, resource, subresource, name, namespace, .. } = &need.attributes;
    let mut text = format!("{} {}", verb.as_deref().unwrap_or_default(), resource.as_deref().unwrap_or_default());
    for (before, part, after) in [("/", subresource, ""), (" `", name, "`"), (" in ", namespace, "")] {
        if let Some(part) = part {
            text.extend([before, part, after]);
        }
    }
    text
}

fn judge_policy(
    name: &str,
    policy: &Seen<ValidatingAdmissionPolicy>,
    binding: &Seen<ValidatingAdmissionPolicyBinding>,
    said: &mut Statements,
) {
    let about = about::<ValidatingAdmissionPolicy>(None, name);
    let mend =
        "upgrade the Helm chart, which makes the policies and their bindings; docs/rbac.md says what they keep off";
    let mut wrong = |message: &str| said.wrong(Code::Policy, &about, message, mend);
    match policy {
        Seen::Unknown(why) => return said.unknown(about, why),
        Seen::Absent => {
            return wrong(
                "is not there: whoever has the controller's token can do what RBAC cannot refuse, as making themselves tokens",
            );
        }
        Seen::There(policy) => {
            let ignores = policy.spec.as_ref().is_some_and(|spec| spec.failure_policy.as_deref() == Some("Ignore"));
            if ignores {
                return wrong("its failurePolicy is Ignore: what it cannot judge passes");
            }
        }
    }
    match binding {
        Seen::Unknown(why) => said.unknown(about, format!("whether it is bound: {why}")),
        Seen::Absent => wrong("has no binding of the same name: it refuses nothing"),
        Seen::There(binding) => {
            let spec = binding.spec.clone().unwrap_or_default();
            let denies = spec.validation_actions.iter().flatten().any(|action| action == "Deny");
            match spec.policy_name.as_deref() {
                Some(bound) if bound == name && denies => said.fine(about, "is there, and refuses"),
                Some(bound) if bound == name => wrong("its binding has no validationAction Deny: it refuses nothing"),
                _ => wrong("the binding of the same name binds another policy: it refuses nothing"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::observe::Known;
    use super::*;
    use crate::rules::Rule;

    /// A rule as the API has it, with its Secret and its source.
    fn known() -> Known<ClusterPullSecret> {
        let object: ClusterPullSecret = serde_json::from_value(json!({
            "apiVersion": "pullcred.io/v1alpha1",
            "kind": "ClusterPullSecret",
            "metadata": {"name": "regcred"},
            "spec": {
                "images": ["asia.gcr.io"],
                "namespaceSelector": {},
                "source": {"googleServiceAccountKey": {"secretRef": {"name": "gcp-key"}}},
            },
        }))
        .unwrap();
        Known { about: String::new(), rule: Ok(Rule::from_cluster_pull_secret(&object).unwrap()), object: Some(object) }
    }

    /// Who, where, a verb, a resource, and the name if it is limited to one.
    type Granted = BTreeSet<[String; 5]>;

    /// What docs/rbac.md says the chart grants, which `tests/cluster/chart_renders.rs` compares with the chart; rights on
    /// certificates left out.
    fn granted() -> Granted {
        let document = include_str!("../../docs/rbac.md");
        let lines = document.lines().filter(|line| line.starts_with("webhook ") || line.starts_with("controller "));
        let mut granted = Granted::new();
        for line in lines {
            let mut words = line.split_whitespace();
            let (who, place) = (words.next().unwrap(), words.next().unwrap());
            let rest: Vec<&str> = words.collect();
            let first = rest.iter().position(|word| !VERBS.contains(word)).unwrap();
            let (verbs, resources) = rest.split_at(first);
            let resources = resources.join(" ");
            let (resources, names) = resources.split_once(": ").unwrap_or((&resources, ""));
            let is_of_certificates = resources == "mutatingwebhookconfigurations"
                || names.starts_with("pullcred-tls")
                || (place == "beside" && resources == "secrets" && names.is_empty());
            if is_of_certificates {
                continue;
            }
            for verb in verbs {
                for resource in resources.split(' ') {
                    granted.insert([who, place, verb, resource, names].map(str::to_owned));
                }
            }
        }
        granted
    }

    const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

    #[test]
    fn what_is_asked_for_is_what_the_chart_grants_and_no_less() {
        let rules = Rules { cluster: Seen::There(vec![known()]), team: Seen::There(vec![]) };
        let asked = needs("pullcred", &rules).into_iter().map(|Need { component, attributes }| {
            let ResourceAttributes { verb, resource, subresource, name, namespace, .. } = attributes;
            let place = if namespace.is_some() { "beside" } else { "everywhere" };
            let resource = [resource, subresource].into_iter().flatten().collect::<Vec<_>>().join("/");
            [component.to_owned(), place.to_owned(), verb.unwrap(), resource, name.unwrap_or_default()]
        });
        assert_eq!(asked.collect::<Granted>(), granted());
    }
}
