//! What the chart renders from which values, by the real Helm.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use pullcred::rules::crds;
use serde_json::{Value, json};

use crate::support::chart::{chart, helm, render};
use crate::support::control_plane::ControlPlane;

const RELEASE: &str = "pullcred";
const NAMESPACE: &str = "registry-access";

fn rendered(values: &Value) -> Vec<Value> {
    render(RELEASE, NAMESPACE, values).unwrap()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
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
    let sources = ["get list watch: gcp-key"];
    let of = |values: Value, role: &str| secret_rights(&rendered(&values), "Role", role);
    assert_eq!(of(json!({}), "pullcred-controller"), certificates);
    assert_eq!(
        of(json!({"rbac": {"sourceNames": ["gcp-key"]}}), "pullcred-controller"),
        [&sources[..], &certificates].concat()
    );
    for mode in ["certManager", "existingSecret"] {
        let values =
            json!({"certificates": {"mode": mode}, "rbac": {"sourceNames": ["gcp-key"], "secretNames": ["regcred"]}});
        assert_eq!(of(values.clone(), "pullcred-controller"), sources, "{mode}");
        let objects = rendered(&values);
        let role = object(&objects, "ClusterRole", "pullcred-controller").to_string();
        assert!(!role.contains("mutatingwebhookconfigurations"), "{mode}: {role}");
        let policy = object(&objects, "ValidatingAdmissionPolicy", "pullcred-controller-secrets").to_string();
        assert!(policy.contains("variables.name in [] &&"), "{mode}: {policy}");
    }
    let named = json!({"certificates": {"tlsSecretName": "tls", "caSecretName": "ca"}});
    assert_eq!(of(named.clone(), "pullcred-controller")[0], "get list watch patch: tls ca");
    assert_eq!(of(named, "pullcred-webhook"), ["get list watch: tls"]);
    assert_eq!(of(json!({}), "pullcred-webhook"), ["get list watch: pullcred-tls"]);
}

#[test]
fn no_role_has_wildcards_or_verbs_that_raise_rights() {
    let objects = rendered(&json!({"rbac": {"secretNames": ["regcred"], "sourceNames": ["gcp-key"]}}));
    let roles: Vec<_> = objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role")).collect();
    assert_eq!(roles.len(), 4);
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
    assert_eq!(policies.len(), 3);
    for policy in policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let condition = "request.userInfo.username == \"system:serviceaccount:elsewhere:any-pullcred-controller\"";
        assert_eq!(policy["spec"]["matchConditions"], json!([{"name": "is-the-controller", "expression": condition}]));
        let name = policy["metadata"]["name"].as_str().unwrap();
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
        let accounts = objects.iter().filter(|object| object["kind"] == "ServiceAccount");
        assert!(accounts.clone().all(|account| account["metadata"]["name"].as_str().unwrap().len() <= 63));
        assert_eq!(accounts.count(), 2);
    }
}

#[test]
fn what_the_values_get_wrong_is_told_with_the_key() {
    let name_of_254 = "a".repeat(254);
    #[rustfmt::skip]
    let table = [
        (json!({"rbac": {"secretName": ["regcred"]}}),                       "secretName"),
        (json!({"rbca": {}}),                                                "rbca"),
        (json!({"rbac": {"secretNames": "regcred"}}),                        "secretNames"),
        (json!({"rbac": {"secretNames": [7]}}),                              "secretNames"),
        (json!({"rbac": {"secretNames": [""]}}),                             "secretNames"),
        (json!({"rbac": {"secretNames": ["*"]}}),                            "secretNames"),
        (json!({"rbac": {"secretNames": ["Regcred"]}}),                      "secretNames"),
        (json!({"rbac": {"secretNames": [name_of_254]}}),                    "secretNames"),
        (json!({"rbac": {"secretNames": ["a", "a"]}}),                       "secretNames"),
        (json!({"rbac": {"secretNames": ["a\"] || true || x in [\""]}}),     "secretNames"),
        (json!({"rbac": {"sourceNames": ["-"]}}),                            "sourceNames"),
        (json!({"rbac": {"copyMetadata": ["it's"]}}),                        "copyMetadata"),
        (json!({"certificates": {"mode": "manged"}}),                        "mode"),
        (json!({"certificates": {"tlsSecretName": ""}}),                     "tlsSecretName"),
        (json!({"fullnameOverride": "a".repeat(53)}),                        "fullnameOverride"),
        (json!({"rbac": {"secretNames": ["pullcred-ca"]}}),                  "pullcred-ca is the Secret of a certificate"),
        (json!({"rbac": {"sourceNames": ["pullcred-tls"]}}),                 "pullcred-tls is the Secret of a certificate"),
        (json!({"certificates": {"caSecretName": "pullcred-tls"}}),          "name two Secrets"),
    ];
    for (values, words) in table {
        match render(RELEASE, NAMESPACE, &values) {
            Ok(_) => panic!("{values} is rendered"),
            Err(message) => assert!(message.contains(words), "{values}: {message}"),
        }
    }
}

#[test]
fn the_same_values_render_the_same_bytes() {
    let values = json!({"rbac": {"secretNames": ["regcred", "hubcred"], "sourceNames": ["gcp-key"]}});
    let chart = chart();
    let [one, two] = [(); 2].map(|()| helm(&["template", RELEASE, chart.to_str().unwrap()], &values).stdout);
    assert!(!one.is_empty() && one == two);
}

#[test]
fn every_value_has_a_default_and_is_in_the_schema() {
    fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{key}");
            keys(value, &at, found);
            found.insert(at);
        }
    }
    fn described(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{key}");
            described(schema, &at, found);
            found.insert(at);
        }
    }
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let (mut defaults, mut schema) = (BTreeSet::new(), BTreeSet::new());
    keys(&serde_saphyr::from_str(&read("values.yaml")).unwrap(), "", &mut defaults);
    described(&serde_json::from_str(&read("values.schema.json")).unwrap(), "", &mut schema);
    // Helm brings it for charts that have this one as a part.
    assert!(schema.remove(".global"));
    assert_eq!(defaults, schema);
}

#[test]
fn the_definitions_are_those_that_the_program_generates() {
    let text = fs::read_to_string(chart().join("crds/crds.yaml")).unwrap();
    let shipped: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let generated: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    assert!(shipped == generated, "they differ: `pullcred generate crds > charts/pullcred/crds/crds.yaml`");
}

/// Schemas are not at hand without network; the API server knows them better.
#[tokio::test]
async fn the_api_server_accepts_every_object_strictly() {
    let client = ControlPlane::shared().await.client().await;
    let values =
        json!({"rbac": {"secretNames": ["regcred", "hubcred"], "sourceNames": ["gcp-key"], "copyMetadata": ["a.b/c"]}});
    for mut object in render(RELEASE, "default", &values).unwrap() {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let plural = if kind.ends_with("Policy") { kind.replace("Policy", "Policies") } else { format!("{kind}s") };
        let namespace =
            object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let url = format!("{root}{namespace}/{}?dryRun=All&fieldValidation=Strict", plural.to_lowercase());
        // Another test may have installed it.
        object["metadata"]["name"] = format!("strict-{}", object["metadata"]["name"].as_str().unwrap()).into();
        let request = http::Request::post(url).header("content-type", "application/json");
        let answer = client.request_text(request.body(object.to_string().into_bytes()).unwrap()).await;
        if let Err(error) = answer {
            panic!("{object:#}: {error}");
        }
    }
}

/// Role by role: who, where, which verbs, on what.
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
