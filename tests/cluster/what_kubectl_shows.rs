//! What `kubectl get`, `kubectl explain` and `kubectl api-resources` make of our kinds: what the API server tells them.

use http::Request;
use kube::Client;
use serde_json::Value;

use super::the_api_refuses_what_files_refuse::cluster;

async fn get(client: &Client, path: &str, accept: &str) -> Value {
    let request = Request::get(path).header("accept", accept).body(Vec::new()).unwrap();
    serde_json::from_str(&client.request_text(request).await.unwrap()).unwrap()
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn columns_show_what_a_person_asks_first() {
    let client = cluster().await;
    for (plural, columns) in [
        ("clusterpullsecrets", "Name Ready Reason Namespaces Missed Mode Conflicts Expires Age"),
        ("pullsecrets", "Name Ready Reason Missed Mode Age"),
    ] {
        let path = format!("/apis/pullcred.io/v1alpha1/{plural}");
        let table = get(&client, &path, "application/json;as=Table;g=meta.k8s.io;v=v1").await;
        assert_eq!(names(&table["columnDefinitions"], "name").join(" "), columns);
    }
}

#[tokio::test]
async fn kinds_have_short_names_a_category_and_a_status_of_their_own() {
    let client = cluster().await;
    let resources = get(&client, "/apis/pullcred.io/v1alpha1", "application/json").await["resources"].take();
    for (plural, short) in [("clusterpullsecrets", "cps"), ("pullsecrets", "ps")] {
        let resource = resources.as_array().unwrap().iter().find(|resource| resource["name"] == plural).unwrap();
        assert_eq!(
            (&resource["shortNames"][0], &resource["categories"][0]),
            (&Value::from(short), &Value::from("pullcred"))
        );
        assert!(names(&resources, "name").contains(&format!("{plural}/status")));
    }
}

#[tokio::test]
async fn kubectl_explain_has_words_for_every_field() {
    let client = cluster().await;
    let served = get(&client, "/openapi/v3/apis/pullcred.io/v1alpha1", "application/json").await;
    let mut silent = Vec::new();
    let mut told = 0;
    for kind in ["ClusterPullSecret", "PullSecret"] {
        let schema = &served["components"]["schemas"][format!("io.pullcred.v1alpha1.{kind}")];
        assert!(schema["description"].as_str().is_some_and(|words| words.len() > 50), "{kind}: {schema}");
        for part in ["spec", "status"] {
            walk(&schema["properties"][part], &format!("{kind}.{part}"), &mut told, &mut silent);
        }
    }
    assert!(silent.is_empty(), "no description: {silent:?}");
    assert!(told > 40, "{told} fields");
}

fn walk(schema: &Value, path: &str, told: &mut usize, silent: &mut Vec<String>) {
    match schema["description"].as_str() {
        Some(words) if words.ends_with('.') || words.contains(' ') => *told += 1,
        _ => silent.push(path.to_owned()),
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(below, &format!("{path}.{name}"), told, silent);
    }
    for (name, below) in schema["items"]["properties"].as_object().into_iter().flatten() {
        walk(below, &format!("{path}[].{name}"), told, silent);
    }
}
