//! What is wrong with the values of the chart stops the render: with the key, or with a sentence that says what to do.

use serde_json::{Value, json};

use crate::support::chart::render;

const RELEASE: &str = "pullcred";
const NAMESPACE: &str = "registry-access";

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\nYQ==\n-----END {label}-----\n")
}

/// One rule, with a change.
fn rule(change: &Value) -> Value {
    let mut rule = json!({"name": "regcred", "images": ["asia.gcr.io"]});
    json_patch::merge(&mut rule, change);
    json!({"pullSecrets": [rule]})
}

/// What Helm says against the values.
fn refused(table: &[(Value, &str)]) {
    for (values, words) in table {
        match render(RELEASE, NAMESPACE, values) {
            Ok(_) => panic!("{values} is rendered"),
            Err(message) => assert!(message.contains(words), "{values}: {message}"),
        }
    }
}

#[test]
fn what_the_values_get_wrong_is_told_with_the_key() {
    let name_of_254 = "a".repeat(254);
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
        (rule(&json!({"image": ["asia.gcr.io"]})),                           "image"),
        (rule(&json!({"source": {"secret": {"name": "x"}}})),                "secret"),
        (rule(&json!({"namespaceSelector": {"matchLabel": {}}})),            "matchLabel"),
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
        (json!({"webhook": {"logLevel": "warning"}}),                        "logLevel"),
        (json!({"controller": {"logLevel": "info,pullcred::webhook"}}),      "logLevel"),
        (json!({"webhook": {"port": 443}}),                                  "port"),
        (json!({"webhook": {"excludedNamespaces": ["Kube-System"]}}),        "excludedNamespaces"),
        (json!({"webhook": {"service": {"ipFamilyPolicy": "Dual"}}}),        "ipFamilyPolicy"),
        (json!({"controller": {"leaseDuration": 10}}),                       "leaseDuration"),
        (json!({"controller": {"caFile": "ca.crt"}}),                        "caFile"),
        (json!({"image": {"digest": "sha256:short"}}),                       "digest"),
        (json!({"image": {"repository": "https://ghcr.io/pullcred"}}),       "repository"),
        (json!({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}}),         "apiServerCIDRs"),
        (json!({"test": {"namespace": ""}}),                                 "namespace"),
        (rule(&json!({"images": []})),                                       "images"),
        (rule(&json!({"name": null})),                                       "name"),
        (rule(&json!({"mode": "shadow"})),                                   "mode"),
        (rule(&json!({"source": {}})),                                       "source"),
        (rule(&json!({"source": {"unmanaged": {}, "secretRef": {"name": "x"}}})), "source"),
        (rule(&json!({"images": ["https://asia.gcr.io/"]})),                 "images"),
        (rule(&json!({"images": ["nginx"]})),                                "images"),
        (rule(&json!({"images": ["index.docker.io/team"]})),                 "images"),
        (rule(&json!({"images": ["asia.gcr.io/v2/team"]})),                  "images"),
        (rule(&json!({"namespaceSelector": {}, "reclaimAfter": "soon"})),    "reclaimAfter"),
        (rule(&json!({"namespaceSelector": {"matchLabels": {"-": "a"}}})),   "matchLabels"),
        (rule(&json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})), "missing property 'values'"),
        (rule(&json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}})), "values"),
        (rule(&json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["a"]}]}})), "values"),
        (json!({"webhook": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}), "missing property 'values'"),
        (json!({"fullnameOverride": "1abc"}),                                "fullnameOverride"),
        (json!({"fullnameOverride": "on"}),                                  "fullnameOverride"),
        (json!({"global": {"imageRegistry": "mirror.io/proxy/"}}),           "imageRegistry"),
        (json!({"image": {"repository": "pullcred:1"}}),                     "repository"),
        (json!({"metrics": {"serviceMonitor": {"interval": "1.5m"}}}),       "interval"),
    ];
    refused(&table);
}

#[test]
fn contradictions_among_the_values_say_what_to_do() {
    #[rustfmt::skip]
    let table = [
        (json!({"enabled": false}),                                          "add `condition: pullcred.enabled`"),
        (json!({"rbac": {"secretNames": ["pullcred-ca"]}}),                  "pullcred-ca is the Secret of a certificate"),
        (json!({"rbac": {"sourceNames": ["pullcred-tls"]}}),                 "pullcred-tls is the Secret of a certificate"),
        (rule(&json!({"name": "pullcred-tls"})),                             "pullcred-tls is the Secret of a certificate"),
        (rule(&json!({"namespaceSelector": {}, "source": {"secretRef": {"name": "pullcred-ca"}}})), "pullcred-ca is the Secret of a certificate"),
        (json!({"certificates": {"caSecretName": "pullcred-tls"}}),          "name two Secrets"),
        (json!({"certificates": {"mode": "existingSecret"}}),                "needs caBundle"),
        (json!({"certificates": {"caBundle": pem("CERTIFICATE")}}),          "caBundle is for mode existingSecret"),
        (json!({"certificates": {"certManager": {"issuerRef": {"name": "x"}}}}), "issuerRef is for mode certManager"),
        (json!({"certificates": {"mode": "certManager", "certManager": {"duration": "240h"}}}), "renewBefore 240h is not shorter than duration 240h"),
        (json!({"certificates": {"managed": {"soak": "0.9s"}}}),             "soak 0.9s is shorter than 1 s"),
        (json!({"certificates": {"managed": {"leafLifetime": "29m59s"}}}),   "leafLifetime 29m59s is shorter than three times soak 10m"),
        (json!({"certificates": {"managed": {"caLifetime": "1439h"}}}),      "caLifetime 1439h is shorter than twice leafLifetime 720h"),
        (json!({"certificates": {"managed": {"caLifetime": "876001h"}}}),    "caLifetime 876001h is longer than 100 years"),
        (json!({"controller": {"leaseDuration": "1s"}}),                     "leaseDuration 1s is shorter than 2 s"),
        (json!({"pullSecrets": [{"name": "a", "images": ["a.io"]}, {"name": "a", "images": ["b.io"]}]}), "two rules are called a"),
        (rule(&json!({"mode": "Shadow"})),                                   "namespaceSelector, which decides who can read the credential"),
        (rule(&json!({"namespaceSelector": {}, "source": {"credentialProvider": {"name": "ecr"}}})), "credential provider ecr is not in"),
        (rule(&json!({"images": ["*.azurecr.io"], "namespaceSelector": {}, "source": {"credentialProvider": {"name": "acr"}}})), "name each registry in full"),
        (rule(&json!({"images": ["*.gcr.io"], "namespaceSelector": {}, "source": {"googleServiceAccountKey": {"secretRef": {"name": "x"}}}})), "name each registry in full"),
        (json!({"webhook": {"failurePolicy": "Fail", "replicas": 1}}),       "Set replicas to 2 or more"),
        (json!({"webhook": {"failurePolicy": "Fail", "podDisruptionBudget": false}}), "Set podDisruptionBudget to true"),
        (json!({"webhook": {"failurePolicy": "Fail", "excludedNamespaces": ["kube-system", "kube-public"]}}), "put kube-node-lease back"),
        (json!({"webhook": {"failurePolicy": "Fail", "excludedNamespaces": []}}), "put kube-system back"),
        (json!({"webhook": {"hostNetwork": true}}),                          "port 10250 is taken on every node (kubelet, kube-proxy): choose another port, and"),
        (json!({"webhook": {"hostNetwork": true, "port": 9443, "adminPort": 10249}}), "choose another adminPort"),
        (json!({"webhook": {"port": 8080}}),                                 "port and adminPort are the same"),
        (json!({"webhook": {"service": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}}}), "SingleStack takes one"),
        (json!({"controller": {"volumes": [{"name": "credential-providers", "emptyDir": {}}], "credentialProviders": {"config": {"kind": "x"}, "binDir": "/opt"}}}), "volumes has one called credential-providers"),
        (json!({"controller": {"initContainers": [{"name": "controller"}]}}), "initContainers has one called controller"),
        (json!({"controller": {"credentialProviders": {"binDir": "/opt"}}}), "needs both config and binDir"),
        (json!({"controller": {"credentialProviders": {"config": {"kind": "x"}}}}), "needs both config and binDir"),
        (json!({"networkPolicy": {"enabled": false, "apiServerCIDRs": ["10.0.0.0/8"]}}), "does nothing while enabled is false"),
        (json!({"networkPolicy": {"enabled": false, "metricsFrom": [{"podSelector": {}}]}}), "metricsFrom does nothing while enabled is false"),
        (json!({"networkPolicy": {"enabled": false, "controllerEgress": [{}]}}), "controllerEgress does nothing while enabled is false"),
        (json!({"networkPolicy": {"apiServerCIDRs": ["10.0.0.0/8"]}, "webhook": {"hostNetwork": true, "port": 9443}}), "does nothing while webhook.hostNetwork is true"),
        (json!({"labels": {"app.kubernetes.io/name": "x"}}),                 "is a label that the chart sets itself"),
        (json!({"webhook": {"podLabels": {"app.kubernetes.io/component": "x"}}}), "is a label that the chart sets itself"),
        (json!({"labels": {"team": "a"}, "controller": {"podLabels": {"team": "b"}}}), "team is in labels too"),
    ];
    refused(&table);
}
