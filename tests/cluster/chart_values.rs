//! The chart's values: each is documented, used, checked by the schema, and may be unset.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use pullcred::rules::crds;
use serde_json::{Value, json};

use crate::support::chart::{chart, helm, render, value_files, values_of};

const RELEASE: &str = "pullcred";
const NAMESPACE: &str = "registry-access";

/// Set, the document is written anew instead of compared.
const WRITE: &str = "PULLCRED_TEST_WRITE";

fn read(name: &str) -> String {
    fs::read_to_string(chart().join(name)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).unwrap()
}

/// The schema behind `$ref`.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("no {path}")),
        None => schema,
    }
}

/// Every value that has a field of its own in the schema, as a dotted path, and not what Kubernetes or the definitions define.
fn leaves(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = resolved(root, schema);
    let of_kubernetes = ["resources", "affinity", "namespaceSelector", "issuerRef"];
    match schema["properties"].as_object() {
        Some(fields) if !of_kubernetes.contains(&at.rsplit('.').next().unwrap()) => {
            for (key, schema) in fields {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                leaves(root, schema, &at, found);
            }
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

fn all_leaves() -> BTreeSet<String> {
    let (schema, mut found) = (schema(), BTreeSet::new());
    leaves(&schema, &schema, "", &mut found);
    found
}

/// A field that the schema lets pass without looking would be a typing error that nobody is told.
#[test]
fn the_schema_is_strict_wherever_the_chart_itself_reads() {
    fn walk(schema: &Value, at: &str, loose: &mut Vec<String>) {
        if schema["type"] == "object" && schema["additionalProperties"].is_null() {
            loose.push(at.to_owned());
        }
        for (key, schema) in ["definitions", "properties"].iter().filter_map(|part| schema[*part].as_object()).flatten()
        {
            walk(schema, &format!("{at}.{key}"), loose);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{at}[]"), loose);
        }
    }
    let mut loose = Vec::new();
    walk(&schema(), "", &mut loose);
    loose.sort();
    // Parts of Pods and NetworkPolicies, which the API server checks; what a parent chart keeps in `global`; the kubelet's file,
    // which the controller checks.
    let expected = [
        ".controller.affinity.nodeAffinity",
        ".controller.affinity.podAffinity",
        ".controller.affinity.podAntiAffinity",
        ".controller.credentialProviders.config",
        ".controller.volumeMounts[]",
        ".global",
        ".named[]",
        ".objects[]",
        ".webhook.affinity.nodeAffinity",
        ".webhook.affinity.podAffinity",
        ".webhook.affinity.podAntiAffinity",
    ];
    assert_eq!(loose, expected);
}

/// An item of `pullSecrets` is a name and the spec of a `ClusterPullSecret`.
#[test]
fn rules_among_the_values_have_the_fields_of_their_definition() {
    fn strict(root: &Value, schema: &Value) -> Value {
        let schema = resolved(root, schema);
        let mut kept = serde_json::Map::new();
        for (key, value) in schema.as_object().unwrap() {
            let value = match key.as_str() {
                "description" | "default" => continue,
                key if key.starts_with("x-kubernetes") => continue,
                "properties" => value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), strict(root, v))).collect(),
                "items" => strict(root, value),
                "additionalProperties" if value.is_object() => strict(root, value),
                _ => value.clone(),
            };
            kept.insert(key.clone(), value);
        }
        if kept.get("type") == Some(&json!("object")) && !kept.contains_key("additionalProperties") {
            kept.insert("additionalProperties".to_owned(), json!(false));
        }
        kept.into()
    }
    let root = schema();
    let mut ours = strict(&root, &root["definitions"]["rule"]);
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "ClusterPullSecret").unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut theirs = strict(spec, spec);
    // What a rule of CEL says there: the patterns are those, the rest is asked of the table above.
    for field in ["/properties/images/items", "/properties/reclaimAfter"] {
        let rules = spec.pointer(field).unwrap()["x-kubernetes-validations"].as_array().unwrap();
        let mut patterns = Vec::new();
        for rule in rules {
            let parts: Vec<&str> = rule["rule"].as_str().unwrap().split("self.matches('").collect();
            for (before, after) in parts.iter().zip(&parts[1..]) {
                let pattern = json!({"pattern": after.split("')").next().unwrap().replace(r"\\", r"\")});
                patterns.push(if before.ends_with('!') { json!({"not": pattern}) } else { pattern });
            }
        }
        assert_eq!(ours.pointer_mut(field).unwrap().as_object_mut().unwrap().remove("allOf"), Some(json!(patterns)));
    }
    let selector = ours.pointer_mut("/properties/namespaceSelector/properties").unwrap();
    for key in ["if", "then", "else"] {
        selector["matchExpressions"]["items"].as_object_mut().unwrap().remove(key).unwrap();
    }
    let key = selector["matchExpressions"]["items"]["properties"]["key"]["pattern"].as_str().unwrap().to_owned();
    let labels = selector["matchLabels"].as_object_mut().unwrap();
    let of_keys = labels.remove("patternProperties").unwrap();
    let value = labels.insert("additionalProperties".to_owned(), of_keys[&key].clone());
    assert_eq!((of_keys.as_object().unwrap().len(), value), (1, Some(json!(false))));
    // A name is added; the selector may be left out of the short form; "exactly one of" is a rule of CEL there.
    ours["properties"].as_object_mut().unwrap().remove("name").unwrap();
    assert_eq!(ours["required"], json!(["name", "images"]));
    ours["required"] = theirs["required"].clone();
    theirs["properties"]["source"]["minProperties"] = json!(1);
    theirs["properties"]["source"]["maxProperties"] = json!(1);
    assert_eq!(ours, theirs);
}

#[test]
fn every_value_has_a_default_and_is_in_the_schema() {
    fn defaults(values: &Value, leaves: &BTreeSet<String>, at: &str, found: &mut BTreeSet<String>) {
        if leaves.contains(at) {
            found.insert(at.to_owned());
            return;
        }
        for (key, value) in values.as_object().unwrap_or_else(|| panic!("{at} is not in the schema")) {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            defaults(value, leaves, &at, found);
        }
    }
    let (leaves, mut found) = (all_leaves(), BTreeSet::new());
    defaults(&serde_saphyr::from_str(&read("values.yaml")).unwrap(), &leaves, "", &mut found);
    assert_eq!(found, leaves);
}

/// Changing a value changes what is rendered, each by itself.
#[test]
fn every_value_is_used() {
    let base = json!({
        "metrics": {"serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
    });
    let cert_manager = json!({"certificates": {"mode": "certManager"}});
    let bundle = |content: &str| format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----");
    let person = json!({"certificates": {"mode": "existingSecret", "caBundle": bundle("YQ==")}});
    let plugins = json!({"controller": {"credentialProviders": {"config": {"a": 1}, "binDir": "/a"}}});
    let mut changes: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    // Whatever the file with everything sets is a change from the defaults.
    let everything = values_of("everything");
    let leaves = all_leaves();
    for leaf in &leaves {
        let pointer = format!("/{}", leaf.replace('.', "/"));
        if let Some(value) = everything.pointer(&pointer) {
            changes.insert(leaf.clone(), (json!({}), value.clone()));
        }
    }
    let mut put = |leaf: &str, context: &Value, value: Value| changes.insert(leaf.to_owned(), (context.clone(), value));
    put("image.repository", &json!({}), json!("example.com/other"));
    put("rbac.secretNames", &json!({}), json!(["other"]));
    put("rbac.sourceNames", &json!({}), json!(["other"]));
    put("rbac.copyMetadata", &json!({}), json!(["example.com/other"]));
    put("certificates.mode", &json!({}), json!("certManager"));
    put("certificates.certManager.issuerRef", &cert_manager, json!({"name": "other"}));
    put("certificates.certManager.duration", &cert_manager, json!("1000h"));
    put("certificates.certManager.renewBefore", &cert_manager, json!("1h"));
    put("certificates.caBundle", &person, json!(bundle("Yg==")));
    put("webhook.hostNetwork", &json!({"webhook": {"port": 9443}}), json!(true));
    put("webhook.podDisruptionBudget", &json!({}), json!(false));
    put("controller.podDisruptionBudget", &json!({}), json!(false));
    put("controller.initContainers", &json!({}), json!([{"name": "other"}]));
    put("controller.credentialProviders.config", &plugins, json!({"b": 1}));
    put("controller.credentialProviders.binDir", &plugins, json!("/b"));
    put("networkPolicy.enabled", &json!({}), json!(false));
    put("metrics.serviceMonitor.enabled", &json!({}), json!(false));
    put("metrics.prometheusRule.enabled", &json!({}), json!(false));
    put("metrics.prometheusRule.certificateExpiresWithin", &json!({}), json!("12h"));
    // Off it stops the render: `chart_refuses`.
    let leaves: BTreeSet<_> = leaves.into_iter().filter(|leaf| leaf != "enabled").collect();
    assert_eq!(changes.keys().cloned().collect::<BTreeSet<_>>(), leaves, "a change for every value");

    let text = |values: &Value| {
        let output = helm(&["template", RELEASE, "--namespace", NAMESPACE, chart().to_str().unwrap()], values);
        assert!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for (leaf, (context, value)) in changes {
        let mut before = base.clone();
        json_patch::merge(&mut before, &context);
        let change = leaf.rsplit('.').fold(value, |value, key| json!({key: value}));
        let mut after = before.clone();
        json_patch::merge(&mut after, &change);
        assert!(text(&before) != text(&after), "{leaf} changes nothing");
    }
}

/// `null` unsets a value: then it is as it is by default, or the key is named.
#[test]
fn a_value_that_is_unset_is_the_default_or_told_with_the_key() {
    let objects = render(RELEASE, NAMESPACE, &json!({})).unwrap();
    let mut paths = all_leaves();
    for leaf in all_leaves() {
        paths.extend(leaf.match_indices('.').map(|(at, _)| leaf[..at].to_owned()));
    }
    for path in paths {
        match render(RELEASE, NAMESPACE, &path.rsplit('.').fold(Value::Null, |value, key| json!({key: value}))) {
            Ok(rendered) => {
                let differ: Vec<_> = objects.iter().filter(|object| !rendered.contains(object)).collect();
                // Not to be excluded is what was asked for, and so are Pods without requests.
                let may = ["webhook.excludedNamespaces", "webhook.resources", "controller.resources"].contains(&&*path);
                assert!(differ.is_empty() || may, "{path}: {differ:#?}");
            }
            Err(message) => {
                let key = path.rsplit('.').next().unwrap();
                assert!(message.contains(&format!("missing property '{key}'")), "{path}: {message}");
            }
        }
    }
}

#[test]
fn the_same_values_render_the_same_bytes() {
    let chart = chart();
    for (name, values) in value_files() {
        let [one, two] = [(); 2].map(|()| helm(&["template", RELEASE, chart.to_str().unwrap()], &values).stdout);
        assert!(!one.is_empty() && one == two, "{name}");
    }
}

/// What Helm prints after an install: what there is, what to try, what to think about, what to do before an upgrade and in need.
#[test]
fn the_notes_say_what_there_is_and_what_is_risky() {
    let chart = chart();
    let notes_in = |namespace: &str, values: &Value| {
        let arguments = ["install", "--dry-run=client", "--namespace", namespace, RELEASE, chart.to_str().unwrap()];
        let output = helm(&arguments, values);
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("NOTES:").unwrap_or_else(|| panic!("{values}")).1.to_owned()
    };
    let notes = |values: &Value| notes_in(NAMESPACE, values);
    let rule = |selector: Value| json!({"pullSecrets": [{"name": "r", "images": ["*.a.io/team"], "namespaceSelector": selector}]});
    let some = json!({"matchLabels": {"a": "b"}});
    #[rustfmt::skip]
    let table = [
        (json!({}),                                                "no rules in pullSecrets"),
        (rule(json!({})),                                          "Rule r serves every namespace"),
        (rule(json!({})),                                          "kubectl run pullcred-trial --namespace default --image=any.a.io/team "),
        (rule(json!({})),                                          "create secret docker-registry r "),
        (values_of("rules"),                                       "create secret generic gcp-key --from-file=key.json="),
        (rule(some.clone()),                                       "make a rule that serves every namespace"),
        (json!({"webhook": {"failurePolicy": "Fail"}}),            "failurePolicy is Fail"),
        (json!({"webhook": {"replicas": 1}}),                      "One replica of the webhook"),
        (json!({"webhook": {"podDisruptionBudget": false}}),       "No PodDisruptionBudget"),
        (json!({"controller": {"replicas": 1}}),                   "One replica of the controller"),
        (json!({"webhook": {"excludedNamespaces": ["kube-system", "kube-public"]}}), "Pods of kube-node-lease go through"),
        (json!({"webhook": {"hostNetwork": true, "port": 9443}}),  "ports 9443 and 8080 (probes and metrics) there are open"),
        (json!({"networkPolicy": {"enabled": false}}),             "No NetworkPolicies"),
        (json!({"metrics": {"prometheusRule": {"enabled": true}}}), "service=\"pullcred-metrics\""),
        (json!({"test": {"namespace": "kube-system"}}),            "Pods of namespace kube-system are not shown"),
        (json!({"webhook": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}), "unless webhook.namespaceSelector selects namespace default"),
        (json!({"webhook": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}), "count as missed (PullcredPodsMissed)"),
        (json!({"rbac": {"copyMetadata": ["a.b/c"]}}),             "makes another controller fill Secrets"),
    ];
    for (values, words) in &table {
        let text = notes(values);
        assert!(text.contains(words), "{values}: {text}");
        assert!(text.contains("kubectl apply --server-side --force-conflicts"), "{text}");
        assert!(text.contains("kubectl delete mutatingwebhookconfiguration pullcred"), "{text}");
    }
    let text = notes_in("default", &rule(json!({})));
    for words in ["Pods of namespace default are not shown", "kubectl run pullcred-trial --namespace NAMESPACE "] {
        assert!(text.contains(words), "{text}");
    }
    let quiet = notes(&rule(some));
    assert!(!quiet.contains("To consider"), "{quiet}");
}

/// What makes a render depend on the cluster or on chance, or needs a Job that runs before or after.
#[test]
fn nothing_is_looked_up_or_made_up_while_rendering() {
    for entry in fs::read_dir(chart().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for word in [
            "lookup",
            "genCA",
            "genSigned",
            "genSelfSigned",
            "genPrivateKey",
            "rand",
            "uuidv4",
            "now ",
            ".Capabilities",
            "kind: Job",
        ] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
        for hook in text.lines().filter(|line| line.contains("helm.sh/hook:")) {
            assert_eq!(hook.trim(), "helm.sh/hook: test", "{}", path.display());
        }
    }
}

#[test]
fn the_definitions_are_those_that_the_program_generates() {
    let text = read("crds/crds.yaml");
    let shipped: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let generated: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    assert!(shipped == generated, "they differ: `pullcred generate crds > charts/pullcred/crds/crds.yaml`");
}

/// docs/values.md is made from the comments in values.yaml.
#[test]
fn every_value_is_documented() {
    let documented = documented(&read("values.yaml"));
    let names: BTreeSet<String> = documented.iter().map(|value| value.path.clone()).collect();
    assert_eq!(names, all_leaves());
    let mut text = "# Values of the chart\n\nMade from the comments in [values.yaml](../charts/pullcred/values.yaml); \
        [chart.md](chart.md) has what belongs together.\n"
        .to_owned();
    let mut section = "";
    for Documented { path, default, meaning } in &documented {
        let head = path.split('.').next().unwrap();
        if head != section {
            write!(text, "\n## {head}\n\n| value | default | meaning |\n|---|---|---|\n").unwrap();
            section = head;
        }
        assert!(!meaning.is_empty(), "{path} has no comment in values.yaml");
        writeln!(text, "| `{path}` | `{default}` | {} |", meaning.replace('|', "\\|")).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/values.md");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{} is behind values.yaml: run this test with {WRITE}=1", path.display());
}

struct Documented {
    path: String,
    default: String,
    meaning: String,
}

/// The leaves of values.yaml in its order, with the comment lines above each.
fn documented(text: &str) -> Vec<Documented> {
    let leaves = all_leaves();
    let values: Value = serde_saphyr::from_str(text).unwrap();
    let (mut found, mut path, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(words) = line.trim_start().strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let Some((key, _)) = line.trim_start().split_once(':') else {
            comment.clear();
            continue;
        };
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, key.to_owned()));
        let dotted = path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
        if leaves.contains(&dotted) {
            let default = values.pointer(&format!("/{}", dotted.replace('.', "/"))).unwrap().to_string();
            found.push(Documented { path: dotted, default, meaning: comment.join(" ") });
        }
        comment.clear();
    }
    found
}
