//! What a real API server says to every object of the chart: strictly, as an apply, and of its Pods as Pod Security `restricted`.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use crate::support::chart::{chart, plane, render, value_files, values_of};
use crate::support::wait_for;

/// Where an object is among the paths of the API.
pub(super) fn path(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = if kind.ends_with("Policy") { kind.replace("Policy", "Policies") } else { format!("{kind}s") };
    let namespace = object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}"));
    let name = object["metadata"]["name"].as_str().unwrap();
    format!("{root}{}/{}/{name}", namespace.unwrap_or_default(), plural.to_lowercase())
}

/// Server-side apply, as `manager` does it.
pub(super) async fn apply(client: &Client, object: &Value, manager: &str, dry_run: bool) -> Result<Value, String> {
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let url = format!("{}?fieldManager={manager}&force=true&fieldValidation=Strict{dry_run}", path(object));
    let request = Request::patch(url).header("content-type", "application/apply-patch+yaml");
    let answer = client.request_text(request.body(object.to_string().into_bytes()).unwrap()).await;
    answer.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.to_string())
}

/// The definitions of our own and of others.
pub(super) async fn definitions(client: &Client) {
    let own: Vec<Value> =
        serde_saphyr::from_multiple(&std::fs::read_to_string(chart().join("crds/crds.yaml")).unwrap()).unwrap();
    let foreign: Vec<Value> = serde_saphyr::from_multiple(include_str!("../chart/foreign-crds.yaml")).unwrap();
    for definition in own.iter().chain(&foreign) {
        apply(client, definition, "tests", false).await.unwrap();
    }
    let group = "/apis/monitoring.coreos.com/v1/servicemonitors";
    for served in [group, "/apis/cert-manager.io/v1/certificates", "/apis/pullcred.io/v1alpha1/clusterpullsecrets"] {
        wait_for("the definitions to be served", Duration::from_secs(20), async || {
            client.request_text(Request::get(served).body(Vec::new()).unwrap()).await.ok()
        })
        .await;
    }
}

pub(super) async fn namespace(client: &Client, name: &str, labels: Value) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    apply(client, &namespace, "tests", false).await.unwrap();
}

/// Schemas are not at hand without network; the API server knows them better.
#[tokio::test]
async fn every_object_of_every_file_of_values_is_accepted_strictly() {
    let client = plane().await.client().await;
    definitions(&client).await;
    for name in ["strict", "trials"] {
        namespace(&client, name, json!({})).await;
    }
    let (mut kinds, mut wrong) = (BTreeSet::new(), Vec::new());
    for (file, values) in value_files() {
        for object in render("strict", "strict", &values).unwrap() {
            kinds.insert(object["kind"].as_str().unwrap().to_owned());
            // A Pod is looked at only where its account is there.
            let is_needed = object["kind"] == "ServiceAccount";
            if let Err(error) = apply(&client, &object, "tests", !is_needed).await {
                wrong.push(format!("{file}: {}: {error}", path(&object)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rare =
        ["Certificate", "ConfigMap", "Issuer", "NetworkPolicy", "PrometheusRule", "ResourceQuota", "ServiceMonitor"];
    assert!(rare.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");

    // It does refuse.
    let mut object = render("strict", "strict", &json!({}))
        .unwrap()
        .into_iter()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    object["spec"]["replica"] = json!(3);
    let error = apply(&client, &object, "tests", true).await.unwrap_err();
    assert!(error.contains(".spec.replica: field not declared in schema"), "{error}");
}

#[tokio::test]
async fn pods_pass_as_restricted_unless_they_use_the_network_of_the_node() {
    let client = plane().await.client().await;
    let name = "restricted-pods";
    namespace(&client, name, json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    let mut wrong = Vec::new();
    for (file, values) in value_files() {
        let objects = render("restricted", name, &values).unwrap();
        let accounts = objects.iter().filter(|object| object["kind"] == "ServiceAccount");
        for account in accounts {
            apply(&client, account, "tests", false).await.unwrap();
        }
        for object in &objects {
            let (metadata, spec) = match object["kind"].as_str().unwrap() {
                "Deployment" => (&object["spec"]["template"]["metadata"], &object["spec"]["template"]["spec"]),
                "Pod" => (&object["metadata"], &object["spec"]),
                _ => continue,
            };
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            pod["metadata"]["name"] = object["metadata"]["name"].clone();
            pod["metadata"]["namespace"] = json!(name);
            let answer = apply(&client, &pod, "tests", true).await;
            let uses_the_network_of_the_node = spec["hostNetwork"] == true;
            match answer {
                Ok(_) if !uses_the_network_of_the_node => {}
                Err(error) if uses_the_network_of_the_node && error.contains("host namespaces (hostNetwork=true)") => {}
                answer => wrong.push(format!("{file}: {}: {answer:?}", object["metadata"]["name"])),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every field counts: without any one of them a Pod is refused.
    let objects = render("restricted", name, &json!({})).unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let whole = &deployment["spec"]["template"];
    for missing in [
        "/spec/securityContext/seccompProfile",
        "/spec/containers/0/securityContext/allowPrivilegeEscalation",
        "/spec/containers/0/securityContext/capabilities",
    ] {
        let mut pod = whole.clone();
        let removal: json_patch::Patch = serde_json::from_value(json!([{"op": "remove", "path": missing}])).unwrap();
        json_patch::patch(&mut pod, &removal).unwrap();
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": pod["spec"]});
        pod["metadata"]["name"] = json!("less");
        pod["metadata"]["namespace"] = json!(name);
        let error = apply(&client, &pod, "tests", true).await.unwrap_err();
        assert!(error.contains("violates PodSecurity \"restricted:latest\""), "{missing}: {error}");
    }
}

/// Argo CD and Flux apply what is rendered, and ask by a dry run whether that would change anything. It never does: neither by what
/// the API server fills in, nor by what others write (`caBundle`, statuses).
#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let client = plane().await.client().await;
    definitions(&client).await;
    let name = "gitops";
    namespace(&client, name, json!({})).await;
    namespace(&client, "trials", json!({})).await;
    for file in ["default", "rules", "everything", "cert-manager", "ecr-image-volume"] {
        let mut values = values_of(file);
        // Nobody serves it: the API server would wait for it wherever Pods are created.
        values["webhook"]["namespaceSelector"] = json!({"matchLabels": {"tests/chart": name}});
        let rendered = render(&format!("gitops-{file}"), name, &values).unwrap();
        let lasting = rendered.iter().filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null());
        for object in lasting.clone() {
            let mut live = apply(&client, object, "argocd-controller", false).await.unwrap();
            if object["kind"] == "MutatingWebhookConfiguration" {
                let written = json!({
                    "apiVersion": object["apiVersion"],
                    "kind": object["kind"],
                    "metadata": {"name": object["metadata"]["name"]},
                    "webhooks": [{"name": "inject.pullcred.io", "clientConfig": {"caBundle": authority()}}],
                });
                live = apply(&client, &written, "pullcred-controller", false).await.unwrap();
            }
            let mut again = apply(&client, object, "argocd-controller", true).await.unwrap();
            // That is the Deployment controller's, whenever it comes to it.
            for seen in [&mut live, &mut again] {
                if let Some(annotations) = seen["metadata"]["annotations"].as_object_mut() {
                    annotations.remove("deployment.kubernetes.io/revision");
                }
            }
            let wanted = ["spec", "data", "webhooks", "rules", "subjects", "roleRef"];
            for part in wanted {
                assert_eq!(again[part], live[part], "{file}: {}", path(object));
            }
            assert_eq!(again["metadata"]["labels"], live["metadata"]["labels"]);
            let annotations = |seen: &Value| seen["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            assert_eq!(annotations(&again), annotations(&live));
        }
        for object in lasting {
            let gone = Request::delete(path(object)).body(Vec::new()).unwrap();
            client.request_text(gone).await.unwrap();
        }
    }
}

/// A certificate in base64, as `caBundle` wants one.
fn authority() -> String {
    use base64::Engine;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    base64::prelude::BASE64_STANDARD.encode(certificate.pem())
}
