//! Requests of one identity as the API server itself sorts and counts them (API priority and fairness).

use std::time::Duration;

use http::Request;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::wait_for;

/// Requests of one `ServiceAccount`.
pub struct Flow {
    client: Client,
    name: String,
}

impl Flow {
    /// Those of these verbs on these resources (`*` for all); the first flow that fits a request counts it, by the flows' names.
    /// `user` is what the API server calls the account.
    pub async fn of(client: &Client, name: &str, user: &str, verbs: &[&str], resources: &[&str]) -> Self {
        let [.., namespace, account] = user.split(':').collect::<Vec<_>>()[..] else { panic!("{user}") };
        let mut rule = json!({
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}}],
            "resourceRules": [{"verbs": verbs, "apiGroups": ["*"], "resources": resources, "clusterScope": true, "namespaces": ["*"]}],
        });
        if resources == ["*"] {
            rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        }
        let flow = Self { client: client.clone(), name: format!("tests-{namespace}-{name}") };
        let spec = json!({"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 2, "rules": [rule]});
        flow.apply(&spec).await;
        // The API server says so once it sorts by it.
        let flows: Api<FlowSchema> = Api::all(client.clone());
        wait_for("the flow to be in force", Duration::from_secs(20), async || {
            let status = flows.get(&flow.name).await.unwrap().status?;
            status
                .conditions?
                .iter()
                .any(|is| is.type_.as_deref() == Some("Dangling") && is.status.as_deref() == Some("False"))
                .then_some(())
        })
        .await;
        flow
    }

    async fn apply(&self, spec: &Value) {
        let (version, kind) = (FlowSchema::api_version(&()), FlowSchema::kind(&()));
        let whole = json!({"apiVersion": version, "kind": kind, "metadata": {"name": self.name}, "spec": spec});
        let flows: Api<FlowSchema> = Api::all(self.client.clone());
        flows.patch(&self.name, &PatchParams::apply("tests").force(), &Patch::Apply(whole)).await.unwrap();
    }

    /// How many of them there were so far.
    pub async fn count(&self) -> f64 {
        let metrics = Request::get("/metrics").body(Vec::new()).unwrap();
        let metrics = self.client.request_text(metrics).await.unwrap();
        let label = format!("flow_schema=\"{}\"", self.name);
        let is_ours =
            |line: &&str| line.starts_with("apiserver_flowcontrol_dispatched_requests_total{") && line.contains(&label);
        metrics.lines().filter(is_ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
