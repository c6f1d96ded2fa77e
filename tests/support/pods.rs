//! The rules, Pods and reviews that most tests speak of.

use serde_json::{Value, json};

/// A rule for every namespace, in the short words of a test: `secret: pattern pattern …`.
pub fn rule(secret: &str, images: &[&str]) -> String {
    format!(
        "---\napiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {{name: {secret}}}\nspec: {{images: {}, namespaceSelector: {{}}}}\n",
        json!(images)
    )
}

/// What the API server asks about a Pod.
pub fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "team",
            "operation": "CREATE",
            "object": pod,
        }
    })
}

/// A Pod of these images.
pub fn pod(images: &[&str]) -> Value {
    let containers: Vec<Value> = images.iter().map(|image| json!({"name": "c", "image": image})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {"containers": containers}})
}
