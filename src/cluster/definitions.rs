//! Whether the cluster's definitions of our kinds are as new as this program. Helm never upgrades them, and a field that
//! a definition lacks is dropped in silence.
//!
//! They are compared by the schema that the API serves to everybody (`/openapi/v3`), so that no right to read definitions is
//! needed. Nothing is ever written.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::Client;
use serde_json::Value;

use crate::process::readiness::{Condition, State};
use crate::rules::crds;

/// How often they are looked at, and how often while something is wrong with them.
const EVERY: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(10);

/// As many fields are named.
const NAMED: usize = 5;

/// What to do about it.
const APPLY: &str = "apply what `pullcred generate crds` of this version prints";

/// How the cluster's definitions compare to those of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// All that this program knows is there. What is newer is no harm.
    Equal,
    /// The API does not know our kinds.
    Absent,
    /// These are not there, each as `Kind spec.field`.
    Lacking(Vec<String>),
}

/// Looks at the definitions again and again, and says how they stand. It never makes a process unready: the watches of the
/// rules know better whether those can be read.
pub async fn follow(client: Client, condition: Condition) -> Infallible {
    let mut said = None;
    condition.met("not compared yet");
    loop {
        let compared = match compare(&client).await {
            Ok(compared) => compared,
            Err(error) => {
                condition.met(format!("cannot be compared with this version: {error}"));
                tokio::time::sleep(SOON).await;
                continue;
            }
        };
        let is_equal = compared == Compared::Equal;
        let words = words(&compared);
        condition.set(if is_equal { State::Met(words.clone()) } else { State::Warned(words.clone()) });
        if said.as_ref() != Some(&compared) {
            if is_equal {
                tracing::info!("the cluster's definitions {words}");
            } else {
                tracing::error!("the cluster's definitions {words}");
            }
            said = Some(compared);
        }
        tokio::time::sleep(if is_equal { EVERY } else { SOON }).await;
    }
}

/// How they compare, as the end of a sentence about the definitions.
pub(crate) fn words(compared: &Compared) -> String {
    match compared {
        Compared::Equal => "are as new as this version".to_owned(),
        Compared::Absent => format!("of pullcred.io/v1alpha1 are absent: {APPLY}"),
        Compared::Lacking(fields) => {
            let more = fields.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let fields = fields.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("are older than this version and lack {fields}{more}: {APPLY}")
        }
    }
}

/// Compares them once.
pub(crate) async fn compare(client: &Client) -> Result<Compared, kube::Error> {
    let request = Request::get("/openapi/v3/apis/pullcred.io/v1alpha1").body(Vec::new());
    match client.request::<Value>(request.map_err(kube::Error::HttpError)?).await {
        Ok(served) => Ok(against(&served["components"]["schemas"])),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Compared::Absent),
        Err(error) => Err(error),
    }
}

/// Our definitions against the schemas that the API serves, by their names in its documents.
fn against(schemas: &Value) -> Compared {
    let mut lacking = Vec::new();
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        let served = &schemas[format!("io.pullcred.v1alpha1.{kind}")];
        if served.is_null() {
            return Compared::Absent;
        }
        let ours = crd.spec.versions.iter().filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        ours.for_each(|ours| collect_lacking(ours, served, &format!("{kind} "), &mut lacking));
    }
    if lacking.is_empty() { Compared::Equal } else { Compared::Lacking(lacking) }
}

/// Fields and values that `ours` has and `served` has not. A field that is not there is named without what is below it.
fn collect_lacking(ours: &JSONSchemaProps, served: &Value, path: &str, lacking: &mut Vec<String>) {
    for (name, property) in ours.properties.iter().flatten() {
        let (below, served) = (format!("{path}{name}"), &served["properties"][name]);
        if served.is_null() {
            lacking.push(below);
        } else {
            let values = property.enum_.iter().flatten().map(|value| &value.0);
            let known = served["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
            lacking.extend(values.filter(|value| !known.contains(value)).map(|value| format!("{below}: {value}")));
            collect_lacking(property, served, &format!("{below}."), lacking);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &ours.items {
        collect_lacking(items, &served["items"], path, lacking);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &ours.additional_properties {
        collect_lacking(values, &served["additionalProperties"], path, lacking);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn served() -> Value {
        let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let [cluster, team] = [0, 1].map(|at| schema(&serde_json::to_value(&crds()[at]).unwrap()));
        json!({"io.pullcred.v1alpha1.ClusterPullSecret": cluster, "io.pullcred.v1alpha1.PullSecret": team})
    }

    #[test]
    fn our_own_definitions_lack_nothing_and_newer_ones_neither() {
        let mut served = served();
        assert_eq!(against(&served), Compared::Equal);
        served["io.pullcred.v1alpha1.PullSecret"]["properties"]["spec"]["properties"]["newer"] =
            json!({"type": "string"});
        assert_eq!(against(&served), Compared::Equal);
    }

    #[test]
    fn a_field_or_value_that_is_not_there_is_named() {
        let mut served = served();
        let spec = &mut served["io.pullcred.v1alpha1.ClusterPullSecret"]["properties"]["spec"]["properties"];
        spec["source"]["properties"].as_object_mut().unwrap().remove("unmanaged");
        spec["mode"]["enum"] = json!(["Inject"]);
        let lacking = ["ClusterPullSecret spec.mode: \"Shadow\"", "ClusterPullSecret spec.source.unmanaged"];
        assert_eq!(against(&served), Compared::Lacking(lacking.map(str::to_owned).into()));
    }

    #[test]
    fn a_kind_that_is_not_there_is_absent() {
        let mut served = served();
        served.as_object_mut().unwrap().remove("io.pullcred.v1alpha1.PullSecret");
        assert_eq!(against(&served), Compared::Absent);
    }
}
