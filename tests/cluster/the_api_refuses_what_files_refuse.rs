//! The schema that the Kubernetes API is given refuses the same documents as the reader of files, and takes the same.

use std::{fs, path::Path, time::Duration};

use http::Request;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use pullcred::rules::crds;

use crate::support::{control_plane::ControlPlane, wait_for};

/// A client of a cluster that knows both kinds.
pub async fn cluster() -> Client {
    let client = ControlPlane::shared().await.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        let apply = PatchParams::apply("tests").force();
        definitions.patch(&name, &apply, &Patch::Apply(&crd)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        wait_for("the definition to be served", Duration::from_secs(30), async || {
            let status = definitions.get(&name).await.unwrap().status?;
            let is_true = |kind| status.conditions.iter().flatten().any(|is| is.type_ == kind && is.status == "True");
            assert!(!is_true("NonStructuralSchema"), "{name}: {:?}", status.conditions);
            is_true("Established").then_some(())
        })
        .await;
    }
    client
}

async fn namespace(client: &Client, name: &str) {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(name, &PatchParams::apply("tests"), &Patch::Apply(&namespace)).await.unwrap();
}

/// What the API says to a document, strictly read and not kept.
async fn write(client: &Client, document: &str) -> Result<String, kube::Error> {
    let path = if document.contains("kind: PullSecret") {
        let namespace = if document.contains("namespace: my-team") { "my-team" } else { "team" };
        format!("namespaces/{namespace}/pullsecrets")
    } else {
        "clusterpullsecrets".to_owned()
    };
    let request = Request::post(format!("/apis/pullcred.io/v1alpha1/{path}?fieldValidation=Strict&dryRun=All"))
        .header("content-type", "application/yaml")
        .body(document.as_bytes().to_vec())
        .unwrap();
    client.request_text(request).await
}

fn documents(directory: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut documents = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        for document in fs::read_to_string(&path).unwrap().split("---\n") {
            documents.push((path.file_name().unwrap().display().to_string(), document.to_owned()));
        }
    }
    documents.retain(|(_, document)| document.contains("apiVersion: pullcred.io/"));
    documents
}

#[tokio::test]
async fn what_files_refuse_the_api_refuses() {
    let client = cluster().await;
    namespace(&client, "team").await;
    let mut taken = Vec::new();
    for (file, document) in documents("tests/offline/data/bad-rules/api") {
        // The field that the reader of files names, up to the first place in a list.
        let finding = document.lines().find_map(|line| line.strip_prefix("# PC0")).unwrap();
        let field = finding.split([' ', ':', '[']).nth(1).unwrap();
        match write(&client, &document).await {
            Err(kube::Error::Api(status)) if status.message.contains(field) => {}
            other => taken.push(format!("{file}: {other:?}\n{document}")),
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

#[tokio::test]
async fn the_examples_are_taken() {
    let client = cluster().await;
    namespace(&client, "my-team").await;
    for (file, document) in documents("examples/rules") {
        write(&client, &document).await.unwrap_or_else(|error| panic!("{file}: {error}\n{document}"));
    }
}
