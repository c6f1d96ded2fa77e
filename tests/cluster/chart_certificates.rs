//! Who writes the certificate in which mode, and that the chart writes none.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::chart::{object, render, value_files, values_of};

const NAMESPACE: &str = "registry-access";

fn rendered(values: &Value) -> Vec<Value> {
    render("pullcred", NAMESPACE, values).unwrap()
}

fn ca_bundle(objects: &[Value]) -> Option<String> {
    let configuration = object(objects, "MutatingWebhookConfiguration", "pullcred");
    configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().map(ToOwned::to_owned)
}

fn args(objects: &[Value], component: &str) -> Vec<String> {
    let deployment = object(objects, "Deployment", &format!("pullcred-{component}"));
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_controller_manages_certificates_and_the_chart_renders_no_ca_bundle() {
    let objects = rendered(&json!({}));
    assert_eq!(ca_bundle(&objects), None);
    let args = args(&objects, "controller");
    for wanted in [
        "--certificates=managed",
        "--tls-secret=pullcred-tls",
        "--ca-secret=pullcred-ca",
        "--service=pullcred-webhook",
        "--webhook-configuration=pullcred",
        "--ca-lifetime=8760h",
        "--leaf-lifetime=720h",
        "--soak=10m",
    ] {
        assert!(args.contains(&wanted.to_owned()), "{wanted}: {args:?}");
    }
    assert!(!objects.iter().any(|object| object.to_string().contains("cert-manager.io")));
}

#[test]
fn cert_manager_gets_an_authority_of_the_charts_own() {
    let objects = rendered(&values_of("cert-manager"));
    assert_eq!(ca_bundle(&objects), None);
    let configuration = object(&objects, "MutatingWebhookConfiguration", "pullcred");
    let certificate = object(&objects, "Certificate", "pullcred-webhook");
    assert_eq!(
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        format!("{NAMESPACE}/{}", certificate["metadata"]["name"].as_str().unwrap())
    );
    // What it is issued by leads back to the authority that signs itself.
    let issuer = object(&objects, "Issuer", certificate["spec"]["issuerRef"]["name"].as_str().unwrap());
    let authority = object(&objects, "Certificate", "pullcred-ca");
    assert_eq!(issuer["spec"]["ca"]["secretName"], authority["spec"]["secretName"]);
    assert_eq!(authority["spec"]["isCA"], true);
    let signs_itself = object(&objects, "Issuer", authority["spec"]["issuerRef"]["name"].as_str().unwrap());
    assert_eq!(signs_itself["spec"], json!({"selfSigned": {}}));
    assert_eq!(args(&objects, "controller").last().unwrap(), "--certificates=none");
}

#[test]
fn cert_manager_takes_an_issuer_that_is_there() {
    let objects = rendered(&values_of("cert-manager-issuer"));
    let certificate = &object(&objects, "Certificate", "pullcred-webhook")["spec"];
    assert_eq!(
        certificate["issuerRef"],
        json!({"name": "platform", "kind": "ClusterIssuer", "group": "cert-manager.io"})
    );
    assert_eq!((&certificate["duration"], &certificate["renewBefore"]), (&json!("2160h"), &json!("360h")));
    assert!(!objects.iter().any(|object| object["kind"] == "Issuer"));
    assert_eq!(objects.iter().filter(|object| object["kind"] == "Certificate").count(), 1);
}

#[test]
fn a_persons_certificate_comes_with_its_authority() {
    let values = values_of("existing-secret");
    let objects = rendered(&values);
    let bundle = BASE64_STANDARD.decode(ca_bundle(&objects).unwrap()).unwrap();
    assert_eq!(String::from_utf8(bundle).unwrap(), values["certificates"]["caBundle"].as_str().unwrap());
    assert!(args(&objects, "webhook").contains(&"--tls-secret=webhook-tls".to_owned()));
    assert_eq!(args(&objects, "controller").last().unwrap(), "--certificates=none");
}

/// In every mode the certificate is for the name that the API server calls, and the webhook serves what is written.
#[test]
fn the_secret_that_is_written_is_the_one_that_is_served() {
    for (file, values) in value_files() {
        let objects = rendered(&values);
        let name = if file == "everything" { "credentials" } else { "pullcred" };
        let tls = values["certificates"]["tlsSecretName"].as_str().unwrap_or("pullcred-tls");
        let deployment = object(&objects, "Deployment", &format!("{name}-webhook"));
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(args.contains(&format!("--tls-secret={tls}\"")), "{file}: {args}");
        assert!(args.contains(&format!("--webhook-configuration={name}\"")), "{file}: {args}");
        let role = object(&objects, "Role", &format!("{name}-webhook"));
        assert!(role["rules"].to_string().contains(&format!("[\"{tls}\"]")), "{file}: {role}");
        if let Some(certificate) = objects
            .iter()
            .find(|object| object["kind"] == "Certificate" && object["metadata"]["name"] == "pullcred-webhook")
        {
            let service =
                &object(&objects, "MutatingWebhookConfiguration", name)["webhooks"][0]["clientConfig"]["service"];
            let host = format!("{}.{}.svc", service["name"].as_str().unwrap(), service["namespace"].as_str().unwrap());
            assert!(certificate["spec"]["dnsNames"].as_array().unwrap().contains(&json!(host)), "{file}");
            assert_eq!(certificate["spec"]["secretName"], tls, "{file}");
        }
    }
}
