//! The rights that the chart gives from which values, and what things are called.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::chart::{bare_helm, chart, helm, object, render, values_of};

const RELEASE: &str = "pullcred";
const NAMESPACE: &str = "registry-access";

fn rendered(values: &Value) -> Vec<Value> {
    render(RELEASE, NAMESPACE, values).unwrap()
}

/// The rules about Secrets, as `verbs: names`; a rule without names says `ANY`.
fn secret_rights(objects: &[Value], kind: &str, name: &str) -> Vec<String> {
    let words =
        |list: &Value| list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ");
    let rules = object(objects, kind, name)["rules"].as_array().unwrap();
    let of_secrets = rules.iter().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!("secrets")));
    of_secrets
        .map(|rule| {
            let names = if rule["resourceNames"].is_null() { "ANY".to_owned() } else { words(&rule["resourceNames"]) };
            format!("{}: {names}", words(&rule["verbs"]))
        })
        .collect()
}

#[test]
fn permitted_names_are_the_only_secrets_that_the_controller_has_rights_on() {
    let verbs = "get list watch patch delete";
    #[rustfmt::skip]
    let table = [
        (json!([]),                     vec![]),
        (json!(["regcred"]),            vec![format!("{verbs}: regcred"), "create: ANY".to_owned()]),
        (json!(["regcred", "hubcred"]), vec![format!("{verbs}: regcred hubcred"), "create: ANY".to_owned()]),
        (json!(["123"]),                vec![format!("{verbs}: 123"), "create: ANY".to_owned()]),
    ];
    for (names, rights) in table {
        let objects = rendered(&json!({"rbac": {"secretNames": names}}));
        assert_eq!(secret_rights(&objects, "ClusterRole", "pullcred-controller"), rights, "{names}");
        assert_eq!(secret_rights(&objects, "ClusterRole", "pullcred-webhook"), [""; 0]);
        let policy = object(&objects, "ValidatingAdmissionPolicy", "pullcred-controller-secrets").to_string();
        assert!(policy.contains(&format!("variables.name in {}", names.to_string().replace('"', "\\\""))), "{policy}");
    }
}

#[test]
fn sources_and_certificates_are_read_beside_pullcred_only() {
    let certificates = ["get list watch patch: pullcred-tls pullcred-ca", "create: ANY"];
    let sources = ["list watch: gcp-key"];
    let of = |values: Value, role: &str| secret_rights(&rendered(&values), "Role", role);
    assert_eq!(of(json!({}), "pullcred-controller"), certificates);
    assert_eq!(
        of(json!({"rbac": {"sourceNames": ["gcp-key"]}}), "pullcred-controller"),
        [&sources[..], &certificates].concat()
    );
    for mode in ["certManager", "existingSecret"] {
        let mut values = json!({"rbac": {"sourceNames": ["gcp-key"], "secretNames": ["regcred"]}});
        values["certificates"] =
            values_of(if mode == "certManager" { "cert-manager" } else { "existing-secret" })["certificates"].clone();
        assert_eq!(of(values.clone(), "pullcred-controller"), sources, "{mode}");
        let objects = rendered(&values);
        let role = object(&objects, "ClusterRole", "pullcred-controller").to_string();
        assert!(!role.contains("mutatingwebhookconfigurations"), "{mode}: {role}");
        let policy = object(&objects, "ValidatingAdmissionPolicy", "pullcred-controller-secrets").to_string();
        assert!(policy.contains("variables.name in [] &&"), "{mode}: {policy}");
    }
    let named = json!({"certificates": {"tlsSecretName": "tls", "caSecretName": "ca"}});
    assert_eq!(of(named.clone(), "pullcred-controller")[0], "get list watch patch: tls ca");
    assert_eq!(of(named, "pullcred-webhook"), ["list watch: tls"]);
    assert_eq!(of(json!({}), "pullcred-webhook"), ["list watch: pullcred-tls"]);
}

#[test]
fn no_role_has_wildcards_or_verbs_that_raise_rights() {
    let objects = rendered(&json!({"rbac": {"secretNames": ["regcred"], "sourceNames": ["gcp-key"]}}));
    let roles: Vec<_> = objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role")).collect();
    // Two of each process, two of the test, and those that are aggregated.
    assert_eq!(roles.len(), 8);
    for role in roles {
        let text = role["rules"].to_string();
        for word in ["*", "deletecollection", "impersonate", "escalate", "bind", "/token", "rbac.authorization.k8s.io"]
        {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn admissions_own_labels_are_let_through_by_name() {
    let objects = rendered(&json!({"rbac": {"copyMetadata": ["example.com/cost-centre"]}}));
    let policy = object(&objects, "ValidatingAdmissionPolicy", "pullcred-controller-secrets");
    let variables = policy["spec"]["variables"].as_array().unwrap();
    assert!(
        variables.contains(&json!({"name": "added", "expression": "[\"example.com/cost-centre\"]"})),
        "{variables:#?}"
    );
}

#[test]
fn policies_fail_closed_deny_and_name_the_identity_that_the_roles_are_bound_to() {
    let objects = render("any", "elsewhere", &json!({})).unwrap();
    let policies: Vec<_> = objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy").collect();
    assert_eq!(policies.len(), 4);
    for policy in policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let name = policy["metadata"]["name"].as_str().unwrap();
        let who = if name.ends_with("-test") { "test" } else { "controller" };
        let condition = format!("request.userInfo.username == \"system:serviceaccount:elsewhere:any-pullcred-{who}\"");
        let conditions = json!([{"name": format!("is-the-{who}"), "expression": condition}]);
        assert_eq!(policy["spec"]["matchConditions"], conditions);
        let binding = &object(&objects, "ValidatingAdmissionPolicyBinding", name)["spec"];
        assert_eq!(*binding, json!({"policyName": name, "validationActions": ["Deny", "Audit"]}));
    }
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        let subjects = &object(&objects, kind, "any-pullcred-controller")["subjects"];
        assert_eq!(
            *subjects,
            json!([{"kind": "ServiceAccount", "name": "any-pullcred-controller", "namespace": "elsewhere"}])
        );
    }
}

#[test]
fn names_fit_whatever_the_release_is_called() {
    let long = "r".repeat(53);
    let with_word = format!("{}-pullcred-{}", "a".repeat(20), "b".repeat(20));
    #[rustfmt::skip]
    let table = [
        ("pullcred",  json!({}),                                 "pullcred-webhook".to_owned()),
        ("any",       json!({}),                                 "any-pullcred-webhook".to_owned()),
        ("my.pullcred", json!({}),                               "my-pullcred-webhook".to_owned()),
        ("1.any",     json!({"fullnameOverride": "credentials"}), "credentials-webhook".to_owned()),
        (&*long,      json!({}),                                 format!("{}-pullcred-webhook", "r".repeat(43))),
        (&*with_word, json!({}),                                 format!("{with_word}-webhook")),
        ("any",       json!({"fullnameOverride": "credentials"}), "credentials-webhook".to_owned()),
    ];
    for (release, values, name) in table {
        let objects = render(release, NAMESPACE, &values).unwrap();
        object(&objects, "ServiceAccount", &name);
        for object in &objects {
            assert!(object["metadata"]["name"].as_str().unwrap().len() <= 72, "{}", object["metadata"]["name"]);
        }
        let limited = objects.iter().filter(|object| {
            ["ServiceAccount", "Service", "Deployment", "Pod"].contains(&object["kind"].as_str().unwrap())
        });
        assert!(limited.clone().all(|object| object["metadata"]["name"].as_str().unwrap().len() <= 63));
        let services = objects.iter().filter(|object| object["kind"] == "Service");
        for name in services.map(|object| object["metadata"]["name"].as_str().unwrap()) {
            assert!(!name.contains('.') && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        }
        assert_eq!(limited.count(), 3 + 2 + 2 + 1);
    }
    let message = render("1abc", NAMESPACE, &json!({})).unwrap_err();
    assert!(message.contains("names of Services begin with a letter"), "{message}");
}

/// Role by role: who, where, which verbs, on what.
/// The chart as an archive of this version.
fn packaged(directory: &Path, version: &str) {
    let (chart, directory) = (chart(), directory.to_str().unwrap());
    let output = bare_helm(&["package", chart.to_str().unwrap(), "--version", version, "--destination", directory]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Flux adds the digest of the artifact to a chart's version, behind a `+`.
#[test]
fn labels_are_labels_whatever_the_version_is() {
    let directory = tempfile::tempdir().unwrap();
    let version = format!("0.1.0+{}", "4fda46fd8c4e.".repeat(5) + "1");
    packaged(directory.path(), &version);
    let archive = directory.path().join(format!("pullcred-{version}.tgz"));
    let output = helm(&["template", RELEASE, archive.to_str().unwrap()], &json!({}));
    let objects: Vec<Value> = serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    for object in &objects {
        let label = object["metadata"]["labels"]["helm.sh/chart"].as_str();
        // Of the Pod of `helm test` there is none.
        let Some(label) = label else { continue };
        assert!(label.starts_with("pullcred-0.1.0_4fda46fd8c4e.") && label.len() == 63, "{label}");
    }
    assert!(objects.len() > 20, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_parent_chart_takes_it_in_or_leaves_it_out() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path();
    fs::create_dir(parent.join("charts")).unwrap();
    packaged(&parent.join("charts"), "0.1.0");
    fs::write(
        parent.join("Chart.yaml"),
        "apiVersion: v2\nname: platform\nversion: 1.0.0\ndependencies:\n- {name: pullcred, version: 0.1.0, condition: pullcred.enabled}\n",
    )
    .unwrap();
    let objects = |enabled: bool| {
        let values =
            json!({"pullcred": {"enabled": enabled, "pullSecrets": [{"name": "regcred", "images": ["asia.gcr.io"]}]}});
        let output = helm(&["template", RELEASE, parent.to_str().unwrap()], &values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().matches("\nkind: ").count()
    };
    assert!(objects(true) > 20);
    assert_eq!(objects(false), 0);
}

#[test]
fn the_documented_rights_are_those_that_are_rendered() {
    let objects = rendered(&json!({"rbac": {"secretNames": ["regcred"], "sourceNames": ["gcp-key"]}}));
    let words =
        |list: &Value| list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ");
    let mut block = "```\n".to_owned();
    for who in ["webhook", "controller"] {
        for (kind, place) in [("ClusterRole", "everywhere"), ("Role", "beside")] {
            for rule in object(&objects, kind, &format!("pullcred-{who}"))["rules"].as_array().unwrap() {
                let names = if rule["resourceNames"].is_null() {
                    String::new()
                } else {
                    format!(": {}", words(&rule["resourceNames"]))
                };
                let (verbs, resources) = (words(&rule["verbs"]), words(&rule["resources"]));
                writeln!(block, "{who:<11} {place:<11} {verbs:<28} {resources}{names}").unwrap();
            }
        }
    }
    block += "```\n";
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rbac.md")).unwrap();
    assert!(document.contains(&block), "docs/rbac.md should hold\n{block}");
}
