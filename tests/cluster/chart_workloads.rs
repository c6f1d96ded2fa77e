//! The Pods of the chart: what they may do, where they run, how they are replaced, and what a person may add.

use serde_json::{Value, json};

use crate::support::chart::{object, render, value_files, values_of};

const NAMESPACE: &str = "registry-access";

fn rendered(values: &Value) -> Vec<Value> {
    render("pullcred", NAMESPACE, values).unwrap()
}

/// The Pods that come of these objects, by the name of what makes them.
fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    objects
        .iter()
        .filter_map(|object| {
            let spec = match object["kind"].as_str().unwrap() {
                "Deployment" => &object["spec"]["template"]["spec"],
                "Pod" => &object["spec"],
                _ => return None,
            };
            Some((object["metadata"]["name"].as_str().unwrap(), spec))
        })
        .collect()
}

fn deployment<'a>(objects: &'a [Value], component: &str) -> &'a Value {
    object(objects, "Deployment", &format!("pullcred-{component}"))
}

fn container<'a>(objects: &'a [Value], component: &str) -> &'a Value {
    &deployment(objects, component)["spec"]["template"]["spec"]["containers"][0]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn args(objects: &[Value], component: &str) -> Vec<String> {
    list(&container(objects, component)["args"]).iter().map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

/// The API server's own judgement is asked in `chart_accepted`; these go further than it does.
#[test]
fn pods_hold_no_right_that_they_do_not_need() {
    for (file, values) in value_files() {
        let objects = rendered(&values);
        let pods = pods(&objects);
        assert_eq!(pods.len(), 3, "{file}");
        for (name, pod) in pods {
            assert_eq!(
                pod["securityContext"],
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
            );
            assert_eq!(pod["enableServiceLinks"], false, "{file} {name}");
            assert!(pod["hostPID"].is_null() && pod["hostIPC"].is_null(), "{file} {name}");
            // Each asks the API server, so each has a token; the accounts give it to nobody else.
            assert_eq!(pod["automountServiceAccountToken"], true, "{file} {name}");
            let account = object(&objects, "ServiceAccount", pod["serviceAccountName"].as_str().unwrap());
            assert_eq!(account["automountServiceAccountToken"], false, "{file} {name}");
            for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
                let context = json!({
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                    "capabilities": {"drop": ["ALL"]},
                });
                assert_eq!(container["securityContext"], context, "{file} {name}");
                let resources = &container["resources"];
                assert!(resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string());
                assert!(
                    resources["limits"]["memory"].is_string() && resources["limits"]["cpu"].is_null(),
                    "{file} {name}"
                );
            }
        }
    }
}

/// `docs/webhook.md` says how much memory there can be at most.
#[test]
fn the_webhook_may_have_all_the_memory_that_it_can_take() {
    assert_eq!(container(&rendered(&json!({})), "webhook")["resources"]["limits"]["memory"], "256Mi");
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhook.md")).unwrap();
    assert!(document.contains("a limit of 256 MiB is enough"));
}

#[test]
fn an_update_takes_no_pod_away_before_another_is_ready() {
    let objects = rendered(&json!({}));
    for (component, replicas) in [("webhook", 3), ("controller", 2)] {
        let spec = &deployment(&objects, component)["spec"];
        assert_eq!(spec["replicas"], replicas);
        assert_eq!(spec["strategy"], json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
        let container = container(&objects, component);
        assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/readyz", "port": "admin"}));
        assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/livez", "port": "admin"}));
    }
    // Two Pods of one node cannot have its ports.
    let objects = rendered(&values_of("host-network"));
    assert_eq!(
        deployment(&objects, "webhook")["spec"]["strategy"],
        json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
}

#[test]
fn a_pod_has_the_time_that_it_takes_to_end() {
    for delay in [0, 10, 90] {
        let objects = rendered(&json!({"webhook": {"shutdownDelaySeconds": delay}}));
        assert!(args(&objects, "webhook").contains(&format!("--shutdown-delay={delay}s")));
        let grace =
            deployment(&objects, "webhook")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_i64();
        assert!(grace.unwrap() > delay + 15, "docs/webhook.md: more than the delay and 15 s");
    }
}

/// A cluster of one node, or of one zone, runs everything.
#[test]
fn pods_prefer_different_nodes_and_demand_nothing() {
    let objects = rendered(&json!({}));
    for component in ["webhook", "controller"] {
        let pod = &deployment(&objects, component)["spec"]["template"]["spec"];
        assert!(!pod["affinity"].to_string().contains("required"));
        let preferred = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        let labels = &deployment(&objects, component)["spec"]["selector"]["matchLabels"];
        assert_eq!(preferred["podAffinityTerm"]["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(preferred["podAffinityTerm"]["labelSelector"]["matchLabels"], *labels);
        let spread = list(&pod["topologySpreadConstraints"]);
        assert_eq!(spread.len(), 2);
        for constraint in spread {
            assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway");
            assert_eq!(constraint["labelSelector"]["matchLabels"], *labels);
        }
    }
}

#[test]
fn a_drain_takes_one_pod_at_a_time_and_waits_for_none_that_is_not_ready() {
    let objects = rendered(&json!({}));
    for component in ["webhook", "controller"] {
        let budget = &object(&objects, "PodDisruptionBudget", &format!("pullcred-{component}"))["spec"];
        assert_eq!((&budget["maxUnavailable"], &budget["minAvailable"]), (&json!(1), &Value::Null));
        assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        assert_eq!(budget["selector"], deployment(&objects, component)["spec"]["selector"]);
    }
    let without = rendered(&values_of("one-node"));
    assert!(!without.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
}

#[test]
fn our_own_image_comes_from_where_the_values_say() {
    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let version = env!("CARGO_PKG_VERSION");
    #[rustfmt::skip]
    let table = [
        (json!({}),                                                             format!("ghcr.io/pullcred/pullcred:{version}")),
        (json!({"image": {"tag": "1.2.3"}}),                                    "ghcr.io/pullcred/pullcred:1.2.3".to_owned()),
        (json!({"image": {"digest": DIGEST}}),                                  format!("ghcr.io/pullcred/pullcred@{DIGEST}")),
        (json!({"image": {"digest": DIGEST, "tag": "1"}}),                      format!("ghcr.io/pullcred/pullcred:1@{DIGEST}")),
        (json!({"image": {"repository": "registry.lab.test:5000/a/b"}}),        format!("registry.lab.test:5000/a/b:{version}")),
        (json!({"global": {"imageRegistry": "mirror.example.com"}}),            format!("mirror.example.com/pullcred/pullcred:{version}")),
        (json!({"global": {"imageRegistry": "mirror.example.com/ghcr"}}),       format!("mirror.example.com/ghcr/pullcred/pullcred:{version}")),
        (json!({"global": {"imageRegistry": "a.io"}, "image": {"repository": "localhost/b"}}), format!("a.io/b:{version}")),
        // Without a registry of its own nothing is replaced.
        (json!({"global": {"imageRegistry": "a.io"}, "image": {"repository": "team/b"}}), format!("a.io/team/b:{version}")),
        (json!({"global": {"imageRegistry": "a.io"}, "image": {"repository": "b"}}), format!("a.io/b:{version}")),
    ];
    for (values, image) in table {
        let objects = rendered(&values);
        for (name, pod) in pods(&objects) {
            assert_eq!(pod["containers"][0]["image"], *image, "{name} {values}");
            assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent");
        }
    }
    let objects = rendered(&json!({"imagePullSecrets": [{"name": "mirror"}], "image": {"pullPolicy": "Always"}}));
    for (_, pod) in pods(&objects) {
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "mirror"}]));
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    }
}

/// The chart names no version but its own, and that is the program's.
#[test]
fn chart_and_program_have_one_version() {
    let chart: Value = serde_saphyr::from_str(include_str!("../../charts/pullcred/Chart.yaml")).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn what_a_person_adds_is_where_it_belongs() {
    let values = values_of("everything");
    let objects = render("pullcred", NAMESPACE, &values).unwrap();
    for component in ["webhook", "controller"] {
        let deployment = object(&objects, "Deployment", &format!("credentials-{component}"));
        let template = &deployment["spec"]["template"];
        let (pod, wanted) = (&template["spec"], &values[component]);
        for (place, value) in [
            (&deployment["spec"]["replicas"], "replicas"),
            (&deployment["metadata"]["annotations"], "annotations"),
            (&template["metadata"]["annotations"], "podAnnotations"),
            (&pod["nodeSelector"], "nodeSelector"),
            (&pod["tolerations"], "tolerations"),
            (&pod["affinity"], "affinity"),
            (&pod["priorityClassName"], "priorityClassName"),
            (&pod["containers"][0]["env"], "env"),
            (&pod["containers"][0]["resources"], "resources"),
        ] {
            assert_eq!(*place, wanted[value], "{component} {value}");
        }
        let labels = &template["metadata"]["labels"];
        assert_eq!((&labels["zone"], &labels["team"]), (&wanted["podLabels"]["zone"], &json!("platform")));
        // What Pods are found by is theirs.
        for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels[key], *value);
        }
        assert!(deployment["spec"]["selector"]["matchLabels"]["team"].is_null(), "a selector cannot change later");
    }
    for object in &objects {
        assert_eq!(
            object["metadata"]["labels"]["team"], "platform",
            "{} {}",
            object["kind"], object["metadata"]["name"]
        );
    }
    let account = object(&objects, "ServiceAccount", "credentials-controller");
    assert_eq!(account["metadata"]["annotations"], values["controller"]["serviceAccountAnnotations"]);
    let controller = &object(&objects, "Deployment", "credentials-controller")["spec"]["template"]["spec"];
    assert_eq!(controller["volumes"], values["controller"]["volumes"]);
    assert_eq!(controller["containers"][0]["volumeMounts"], values["controller"]["volumeMounts"]);
}

/// GKE refuses Pods of these classes outside kube-system where no quota expects them.
#[test]
fn priority_classes_of_the_system_come_with_their_quota() {
    let quota = |webhook: &str, controller: &str| {
        let objects = rendered(
            &json!({"webhook": {"priorityClassName": webhook}, "controller": {"priorityClassName": controller}}),
        );
        objects
            .into_iter()
            .find(|object| object["kind"] == "ResourceQuota")
            .map(|quota| quota["spec"]["scopeSelector"]["matchExpressions"][0]["values"].clone())
    };
    let most = rendered(&json!({"webhook": {"priorityClassName": "system-cluster-critical"}}));
    // A hundred of each and one more during an update, and as many that are still ending.
    assert!(object(&most, "ResourceQuota", "pullcred-critical-pods")["spec"]["hard"]["pods"] == "1000");
    assert_eq!(quota("", ""), None);
    assert_eq!(quota("important", ""), None);
    assert_eq!(quota("system-cluster-critical", ""), Some(json!(["system-cluster-critical"])));
    assert_eq!(quota("system-cluster-critical", "system-cluster-critical"), Some(json!(["system-cluster-critical"])));
    assert_eq!(
        quota("system-node-critical", "system-cluster-critical"),
        Some(json!(["system-node-critical", "system-cluster-critical"]))
    );
}

#[test]
fn the_network_of_the_node_goes_with_a_port_of_its_own() {
    let objects = rendered(&values_of("host-network"));
    let pod = &deployment(&objects, "webhook")["spec"]["template"]["spec"];
    assert_eq!((&pod["hostNetwork"], &pod["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert!(args(&objects, "webhook").contains(&"--listen=[::]:9443".to_owned()));
    assert!(args(&objects, "webhook").contains(&"--admin-listen=[::]:9480".to_owned()));
    assert_eq!(
        pod["containers"][0]["ports"],
        json!([{"name": "admin", "containerPort": 9480, "protocol": "TCP"}, {"name": "https", "containerPort": 9443, "protocol": "TCP"}])
    );
    assert!(deployment(&objects, "controller")["spec"]["template"]["spec"]["hostNetwork"].is_null());
}

/// The Service is found by 443 and finds Pods by the name of their port.
#[test]
fn the_service_leads_to_the_webhook_alone() {
    let objects = rendered(&json!({}));
    let service = &object(&objects, "Service", "pullcred-webhook")["spec"];
    assert_eq!(service["ports"], json!([{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}]));
    assert_eq!(service["selector"], deployment(&objects, "webhook")["spec"]["selector"]["matchLabels"]);
    assert!(args(&objects, "webhook").contains(&"--listen=[::]:10250".to_owned()));
    assert!(service["ipFamilies"].is_null() && service["ipFamilyPolicy"].is_null());

    let dual = json!({"webhook": {"service": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}}});
    let objects = rendered(&dual);
    for name in ["pullcred-webhook", "pullcred-metrics"] {
        let service = &object(&objects, "Service", name)["spec"];
        assert_eq!(service["ipFamilyPolicy"], "RequireDualStack");
        assert_eq!(service["ipFamilies"], json!(["IPv6", "IPv4"]));
    }
}

/// Both examples, as far as the API server's objects go: the plugin's file, its programs, and Pods that follow a change.
#[test]
fn plugins_are_brought_to_the_controller() {
    for example in ["ecr-image-volume", "acr-init-container"] {
        let values = values_of(example);
        let objects = rendered(&values);
        let args = args(&objects, "controller");
        let file = "/etc/pullcred/credential-providers/config.yaml";
        assert!(args.contains(&format!("--credential-provider-config={file}")), "{args:?}");
        assert!(args.contains(&"--credential-provider-bin-dir=/opt/credential-providers".to_owned()));
        let pod = &deployment(&objects, "controller")["spec"]["template"];
        let mounts = list(&pod["spec"]["containers"][0]["volumeMounts"]);
        for mount in ["/etc/pullcred/credential-providers", "/opt/credential-providers"] {
            let mount = mounts.iter().find(|found| found["mountPath"] == mount).unwrap();
            assert_eq!(mount["readOnly"], true);
            assert!(list(&pod["spec"]["volumes"]).iter().any(|volume| volume["name"] == mount["name"]));
        }
        let config = &object(&objects, "ConfigMap", "pullcred-controller")["data"]["config.yaml"];
        let config: Value = serde_saphyr::from_str(config.as_str().unwrap()).unwrap();
        assert_eq!(config, values["controller"]["credentialProviders"]["config"]);

        let mut changed = values.clone();
        changed["controller"]["credentialProviders"]["config"]["providers"][0]["defaultCacheDuration"] = json!("1h");
        let after = rendered(&changed);
        assert_ne!(deployment(&after, "controller")["spec"]["template"]["metadata"], pod["metadata"], "{example}");
        assert!(deployment(&objects, "webhook")["spec"]["template"]["spec"]["volumes"].is_null());
    }
}
