//! The chart's values: each is documented, used and checked, and what is wrong with them stops the render with a sentence.

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

#[test]
fn what_the_values_get_wrong_is_told_with_the_key() {
    let name_of_254 = "a".repeat(254);
    let pem = |label: &str| format!("-----BEGIN {label}-----\nYQ==\n-----END {label}-----\n");
    let rule = |change: Value| {
        let mut rule = json!({"name": "regcred", "images": ["asia.gcr.io"]});
        json_patch::merge(&mut rule, &change);
        json!({"pullSecrets": [rule]})
    };
    #[rustfmt::skip]
    let table = [
        // Typing errors name the key.
        (json!({"rbca": {}}),                                                "rbca"),
        (json!({"rbac": {"secretName": ["regcred"]}}),                       "secretName"),
        (json!({"image": {"tagg": "1"}}),                                    "tagg"),
        (json!({"webhook": {"replica": 3}}),                                 "replica"),
        (json!({"webhook": {"service": {"ipFamily": []}}}),                  "ipFamily"),
        (json!({"webhook": {"namespaceSelector": {"matchLabel": {}}}}),      "matchLabel"),
        (json!({"webhook": {"affinity": {"podAntiAfinity": {}}}}),           "podAntiAfinity"),
        (json!({"webhook": {"resources": {"limit": {}}}}),                   "limit"),
        (json!({"controller": {"credentialProviders": {"bindir": "/"}}}),    "bindir"),
        (json!({"metrics": {"serviceMonitor": {"enable": true}}}),           "enable"),
        (json!({"certificates": {"certManager": {"issuer": {}}}}),           "issuer"),
        (json!({"networkPolicy": {"apiServerCidrs": []}}),                   "apiServerCidrs"),
        (json!({"imagePullSecrets": [{"nam": "x"}]}),                        "nam"),
        (rule(json!({"image": ["asia.gcr.io"]})),                            "image"),
        (rule(json!({"source": {"secret": {"name": "x"}}})),                 "secret"),
        (rule(json!({"namespaceSelector": {"matchLabel": {}}})),             "matchLabel"),
        // Wrong kinds of values, and values that cannot be.
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
        (json!({"certificates": {"managed": {"leafLifetime": "30d"}}}),      "leafLifetime"),
        (json!({"certificates": {"caBundle": pem("RSA PRIVATE KEY")}}),      "caBundle"),
        (json!({"certificates": {"certManager": {"issuerRef": {"kind": "Issuer"}}}}), "issuerRef"),
        (json!({"fullnameOverride": "a".repeat(53)}),                        "fullnameOverride"),
        (json!({"webhook": {"failurePolicy": "fail"}}),                      "failurePolicy"),
        (json!({"webhook": {"timeoutSeconds": 31}}),                         "timeoutSeconds"),
        (json!({"webhook": {"replicas": 0}}),                                "replicas"),
        (json!({"webhook": {"replicas": "3"}}),                              "replicas"),
        (json!({"webhook": {"port": 443}}),                                  "port"),
        (json!({"webhook": {"excludedNamespaces": ["Kube-System"]}}),        "excludedNamespaces"),
        (json!({"webhook": {"service": {"ipFamilyPolicy": "Dual"}}}),        "ipFamilyPolicy"),
        (json!({"controller": {"leaseDuration": 10}}),                       "leaseDuration"),
        (json!({"controller": {"caFile": "ca.crt"}}),                        "caFile"),
        (json!({"image": {"digest": "sha256:short"}}),                       "digest"),
        (json!({"image": {"repository": "https://ghcr.io/pullcred"}}),       "repository"),
        (json!({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}}),         "apiServerCIDRs"),
        (json!({"test": {"namespace": ""}}),                                 "namespace"),
        (rule(json!({"images": []})),                                        "images"),
        (rule(json!({"name": null})),                                        "name"),
        (rule(json!({"mode": "shadow"})),                                    "mode"),
        (rule(json!({"source": {}})),                                        "source"),
        (rule(json!({"source": {"unmanaged": {}, "secretRef": {"name": "x"}}})), "source"),
        // Contradictions say what to do.
        (json!({"rbac": {"secretNames": ["pullcred-ca"]}}),                  "pullcred-ca is the Secret of a certificate"),
        (json!({"rbac": {"sourceNames": ["pullcred-tls"]}}),                 "pullcred-tls is the Secret of a certificate"),
        (rule(json!({"name": "pullcred-tls"})),                              "pullcred-tls is the Secret of a certificate"),
        (rule(json!({"namespaceSelector": {}, "source": {"secretRef": {"name": "pullcred-ca"}}})), "pullcred-ca is the Secret of a certificate"),
        (json!({"certificates": {"caSecretName": "pullcred-tls"}}),          "name two Secrets"),
        (json!({"certificates": {"mode": "existingSecret"}}),                "needs caBundle"),
        (json!({"certificates": {"caBundle": pem("CERTIFICATE")}}),          "caBundle is for mode existingSecret"),
        (json!({"certificates": {"certManager": {"issuerRef": {"name": "x"}}}}), "issuerRef is for mode certManager"),
        (json!({"pullSecrets": [{"name": "a", "images": ["a.io"]}, {"name": "a", "images": ["b.io"]}]}), "two rules are called a"),
        (rule(json!({"mode": "Shadow"})),                                    "namespaceSelector, which decides who can read the credential"),
        (rule(json!({"namespaceSelector": {}, "source": {"credentialProvider": {"name": "ecr"}}})), "credential provider ecr is not in"),
        (json!({"webhook": {"failurePolicy": "Fail", "replicas": 1}}),       "Set replicas to 2 or more"),
        (json!({"webhook": {"failurePolicy": "Fail", "podDisruptionBudget": false}}), "Set podDisruptionBudget to true"),
        (json!({"webhook": {"failurePolicy": "Fail", "excludedNamespaces": ["kube-system", "kube-public"]}}), "put kube-node-lease back"),
        (json!({"webhook": {"failurePolicy": "Fail", "excludedNamespaces": []}}), "put kube-system back"),
        (json!({"webhook": {"hostNetwork": true}}),                          "port 10250 is taken on every node"),
        (json!({"webhook": {"port": 8080}}),                                 "port and adminPort are the same"),
        (json!({"webhook": {"service": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}}}), "SingleStack takes one"),
        (json!({"controller": {"credentialProviders": {"binDir": "/opt"}}}), "needs both config and binDir"),
        (json!({"controller": {"credentialProviders": {"config": {"kind": "x"}}}}), "needs both config and binDir"),
        (json!({"networkPolicy": {"enabled": false, "apiServerCIDRs": ["10.0.0.0/8"]}}), "does nothing while enabled is false"),
        (json!({"labels": {"app.kubernetes.io/name": "x"}}),                 "is a label that the chart sets itself"),
        (json!({"webhook": {"podLabels": {"app.kubernetes.io/component": "x"}}}), "is a label that the chart sets itself"),
        (json!({"labels": {"team": "a"}, "controller": {"podLabels": {"team": "b"}}}), "team is in labels too"),
    ];
    for (values, words) in table {
        match render(RELEASE, NAMESPACE, &values) {
            Ok(_) => panic!("{values} is rendered"),
            Err(message) => assert!(message.contains(words), "{values}: {message}"),
        }
    }
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
    put("certificates.certManager.duration", &cert_manager, json!("1h"));
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
    let notes = |values: &Value| {
        let arguments = ["install", "--dry-run=client", "--namespace", NAMESPACE, RELEASE, chart.to_str().unwrap()];
        let output = helm(&arguments, values);
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("NOTES:").unwrap_or_else(|| panic!("{values}")).1.to_owned()
    };
    let rule = |selector: Value| json!({"pullSecrets": [{"name": "r", "images": ["*.a.io/team"], "namespaceSelector": selector}]});
    let some = json!({"matchLabels": {"a": "b"}});
    #[rustfmt::skip]
    let table = [
        (json!({}),                                                "no rules in pullSecrets"),
        (rule(json!({})),                                          "Rule r serves every namespace"),
        (rule(json!({})),                                          "kubectl run pullcred-trial --namespace default --image=any.a.io/team "),
        (rule(json!({})),                                          "create secret docker-registry r "),
        (rule(some.clone()),                                       "make a rule that serves every namespace"),
        (json!({"webhook": {"failurePolicy": "Fail"}}),            "failurePolicy is Fail"),
        (json!({"webhook": {"replicas": 1}}),                      "One replica of the webhook"),
        (json!({"webhook": {"podDisruptionBudget": false}}),       "No PodDisruptionBudget"),
        (json!({"controller": {"replicas": 1}}),                   "One replica of the controller"),
        (json!({"webhook": {"excludedNamespaces": ["kube-system", "kube-public"]}}), "Pods of kube-node-lease go through"),
        (json!({"webhook": {"hostNetwork": true, "port": 9443}}),  "port 9443 there is open"),
        (json!({"networkPolicy": {"enabled": false}}),             "No NetworkPolicies"),
        (json!({"rbac": {"copyMetadata": ["a.b/c"]}}),             "makes another controller fill Secrets"),
    ];
    for (values, words) in &table {
        let text = notes(values);
        assert!(text.contains(words), "{values}: {text}");
        assert!(text.contains("kubectl apply --server-side --force-conflicts"), "{text}");
        assert!(text.contains("kubectl delete mutatingwebhookconfiguration pullcred"), "{text}");
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
