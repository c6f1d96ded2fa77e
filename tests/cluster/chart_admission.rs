//! The webhook configuration and the rules that the chart renders: what the API server asks, of whom, and for which Pods.

use serde_json::{Value, json};

use crate::support::chart::{object, render, value_files, values_of};

const NAMESPACE: &str = "registry-access";

fn rendered(values: &Value) -> Vec<Value> {
    render("pullcred", NAMESPACE, values).unwrap()
}

fn entry(objects: &[Value]) -> &Value {
    let configuration = objects.iter().find(|object| object["kind"] == "MutatingWebhookConfiguration").unwrap();
    let entries = configuration["webhooks"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "whoever wrote caBundle keeps an entry alive that Helm wants to drop");
    &entries[0]
}

fn excluded(objects: &[Value]) -> Value {
    let expressions = entry(objects)["namespaceSelector"]["matchExpressions"].as_array().unwrap();
    let names = expressions.iter().find(|one| one["key"] == "kubernetes.io/metadata.name").unwrap();
    assert_eq!(names["operator"], "NotIn");
    names["values"].clone()
}

#[test]
fn the_api_server_shows_created_pods_and_waits_for_five_seconds() {
    let objects = rendered(&json!({}));
    let mut entry = entry(&objects).clone();
    assert_eq!(entry["namespaceSelector"].take()["matchExpressions"].as_array().unwrap().len(), 2);
    let out = json!({"matchExpressions": [{"key": "pullcred.io/inject", "operator": "NotIn", "values": ["disabled"]}]});
    assert_eq!(
        entry,
        json!({
            "name": "inject.pullcred.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "pullcred-webhook", "namespace": NAMESPACE, "path": "/mutate", "port": 443}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
            "failurePolicy": "Ignore", "matchPolicy": "Equivalent", "reinvocationPolicy": "IfNeeded", "sideEffects": "None",
            "timeoutSeconds": 5, "namespaceSelector": null, "objectSelector": out,
        })
    );
}

/// A new name is a new entry, beside the one that others keep alive.
#[test]
fn the_entry_has_one_name_whatever_the_values_are() {
    for (file, values) in value_files() {
        for release in ["pullcred", "another"] {
            let objects = render(release, NAMESPACE, &values).unwrap();
            assert_eq!(entry(&objects)["name"], "inject.pullcred.io", "{file} {release}");
            let configuration = objects.iter().find(|object| object["kind"] == "MutatingWebhookConfiguration").unwrap();
            assert_eq!(configuration["metadata"]["annotations"]["admissions.enforcer/disabled"], "true", "AKS: {file}");
        }
    }
}

#[test]
fn an_annotation_of_a_persons_own_counts_instead_of_the_charts() {
    #[rustfmt::skip]
    let table = [
        (json!({}),                                        json!({"admissions.enforcer/disabled": "true"})),
        (json!({"a.b/c": "d"}),                            json!({"admissions.enforcer/disabled": "true", "a.b/c": "d"})),
        (json!({"admissions.enforcer/disabled": "false"}), json!({"admissions.enforcer/disabled": "false"})),
    ];
    for (annotations, wanted) in table {
        let objects = rendered(&json!({"webhook": {"configurationAnnotations": annotations}}));
        assert_eq!(
            object(&objects, "MutatingWebhookConfiguration", "pullcred")["metadata"]["annotations"],
            wanted,
            "{annotations}"
        );
    }
}

#[test]
fn its_own_namespace_is_never_shown_to_the_webhook() {
    #[rustfmt::skip]
    let table = [
        (json!({}),                                              json!([NAMESPACE, "kube-system", "kube-node-lease", "kube-public"])),
        (json!({"webhook": {"excludedNamespaces": []}}),         json!([NAMESPACE])),
        (json!({"webhook": {"excludedNamespaces": ["a"]}}),      json!([NAMESPACE, "a"])),
        (json!({"webhook": {"excludedNamespaces": [NAMESPACE]}}), json!([NAMESPACE])),
        (json!({"webhook": {"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}, "excludedNamespaces": []}}), json!([NAMESPACE])),
    ];
    for (values, names) in table {
        assert_eq!(excluded(&rendered(&values)), names, "{values}");
    }
}

#[test]
fn a_selector_of_a_persons_own_narrows_and_never_widens() {
    let objects = rendered(&values_of("everything"));
    let selector = &entry(&objects)["namespaceSelector"];
    assert_eq!(selector["matchLabels"], json!({"served": "true"}));
    let keys: Vec<_> = selector["matchExpressions"].as_array().unwrap().iter().map(|one| one["key"].clone()).collect();
    assert_eq!(keys, ["kubernetes.io/metadata.name", "pullcred.io/inject", "stage"]);
    assert_eq!(entry(&objects)["failurePolicy"], "Fail");
    assert_eq!(entry(&objects)["timeoutSeconds"], 3);
}

#[test]
fn a_rule_is_a_name_and_images_or_the_whole_spec() {
    let values = values_of("rules");
    let objects = rendered(&values);
    let spec = |name: &str| object(&objects, "ClusterPullSecret", name)["spec"].clone();
    assert_eq!(spec("regcred"), json!({"images": ["asia.gcr.io/my-project", "*.azurecr.io"], "namespaceSelector": {}}));
    for written in values["pullSecrets"].as_array().unwrap() {
        let mut wanted = written.clone();
        let name = wanted.as_object_mut().unwrap().remove("name").unwrap();
        if wanted["namespaceSelector"].is_null() {
            wanted["namespaceSelector"] = json!({});
        }
        assert_eq!(spec(name.as_str().unwrap()), wanted);
    }
    let count = objects.iter().filter(|object| object["kind"] == "ClusterPullSecret").count();
    assert_eq!(count, values["pullSecrets"].as_array().unwrap().len());
}

/// The first install sets a rule and nothing else.
#[test]
fn rights_follow_from_the_rules() {
    let rights = |values: &Value, kind: &str| {
        let objects = rendered(values);
        let rules = object(&objects, kind, "pullcred-controller")["rules"].as_array().unwrap().clone();
        let of_secrets = rules.into_iter().filter(|rule| rule["resources"] == json!(["secrets"]));
        of_secrets.map(|mut rule| rule["resourceNames"].take()).collect::<Vec<_>>()
    };
    let certificates = json!(["pullcred-tls", "pullcred-ca"]);
    let first = values_of("first-rule");
    assert_eq!(rights(&first, "ClusterRole"), [json!(["regcred"]), Value::Null]);
    // The source has the name of the copy, so it is in the list above.
    assert_eq!(rights(&first, "Role"), [certificates.clone(), Value::Null]);
    // A copy that somebody else puts there (`vault`) is none of ours; each source is named once.
    let rules = values_of("rules");
    assert_eq!(rights(&rules, "ClusterRole"), [json!(["regcred", "hubcred", "gcr", "byhand"]), Value::Null]);
    assert_eq!(rights(&rules, "Role"), [json!(["hub-robot", "gcp-key", "byhand-source"]), certificates, Value::Null]);
    let policy = object(&rendered(&rules), "ValidatingAdmissionPolicy", "pullcred-controller-secrets").to_string();
    assert!(policy.contains(r#"variables.name in [\"regcred\",\"hubcred\",\"gcr\",\"byhand\"]"#), "{policy}");
}

/// Those who may edit a namespace get the rules in it and not those of the cluster.
#[test]
fn roles_for_people_are_about_pull_secrets_of_a_namespace() {
    let objects = rendered(&json!({}));
    let label = |role: &Value, to: &str| {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")] == "true"
    };
    let view = object(&objects, "ClusterRole", "pullcred-view");
    let edit = object(&objects, "ClusterRole", "pullcred-edit");
    assert_eq!(
        ["view", "edit", "admin"].map(|to| (label(view, to), label(edit, to))),
        [(true, false), (true, true), (true, true)]
    );
    assert_eq!(
        view["rules"],
        json!([{"apiGroups": ["pullcred.io"], "resources": ["pullsecrets"], "verbs": ["get", "list", "watch"]}])
    );
    assert_eq!(
        edit["rules"],
        json!([{"apiGroups": ["pullcred.io"], "resources": ["pullsecrets"], "verbs": ["create", "update", "patch", "delete"]}])
    );
    let without = rendered(&json!({"rbac": {"aggregate": false}}));
    assert!(!without.iter().any(|object| object.to_string().contains("aggregate-to")));
}
