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

/// What the identities need: always, and for the rules that there are. The rights on certificates are not among them: which
/// there should be depends on who makes the certificates, and the family `certificate` sees what comes of it.
pub(super) fn needs(release_namespace: &str, rules: &Rules) -> Vec<Need> {
    let text = |text: &str| Some(text.to_owned());
    let need = |component, verb: &str, group: &str, resource: &str| Need {
        component,
        attributes: ResourceAttributes {
            verb: text(verb),
            group: text(group),
            resource: text(resource),
            ..ResourceAttributes::default()
        },
    };
    let named = |need: Need, name: &str, namespace: Option<&str>| Need {
        attributes: ResourceAttributes { name: text(name), namespace: namespace.map(str::to_owned), ..need.attributes },
        ..need
    };
    let mut needs = Vec::new();
    for component in ["webhook", "controller"] {
        for resource in ["clusterpullsecrets", "pullsecrets"] {
            needs.extend(["list", "watch"].map(|verb| need(component, verb, "pullcred.io", resource)));
        }
        needs.extend(["list", "watch"].map(|verb| need(component, verb, "", "namespaces")));
    }
    needs.extend(["list", "watch"].map(|verb| need("controller", verb, "", "pods")));
    needs.push(need("controller", "create", "events.k8s.io", "events"));
    let mut status = need("controller", "patch", "pullcred.io", "clusterpullsecrets");
    status.attributes.subresource = text("status");
    needs.push(status);
    let lease = need("controller", "update", "coordination.k8s.io", "leases");
    needs.push(named(lease, crate::cluster::LEASE, Some(release_namespace)));

    let cluster = rules.cluster.there().into_iter().flatten();
    let copied: Vec<_> = cluster.filter(|known| is_copied(known.object.as_ref())).collect();
    if !copied.is_empty() {
        needs.push(need("controller", "create", "", "secrets"));
    }
    for known in copied {
        let Ok(rule) = &known.rule else { continue };
        needs.extend(
            ["watch", "patch"].map(|verb| named(need("controller", verb, "", "secrets"), rule.secret_name(), None)),
        );
        if let Some(source) = known.object.as_ref().and_then(source_secret) {
            needs.push(named(need("controller", "watch", "", "secrets"), &source, Some(release_namespace)));
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
