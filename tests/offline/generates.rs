//! `pullcred generate`: what goes to standard output can be used as it is.

use std::io::Read;
use std::process::{Command, Stdio};

use pullcred::rules::crds;

fn generated(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pullcred")).arg("generate").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn definitions_for_the_api_are_documents_that_kubectl_reads() {
    let documents = generated(&["crds"]);
    let documents: Vec<serde_json::Value> =
        documents.split("---\n").skip(1).map(|document| serde_json::from_str(document).unwrap()).collect();
    let expected: Vec<_> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    assert_eq!(documents, expected);
}

#[test]
fn completions_and_the_manual_page_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(generated(&["completions", shell]).contains("shutdown-delay"), "{shell}");
    }
    assert!(generated(&["man"]).starts_with(".ie") && generated(&["man"]).contains("webhook"));
}

#[test]
fn development_certificates_are_made_where_they_are_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("some/certs");
    generated(&["dev-certs", certs.to_str().unwrap()]);
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        assert!(certs.join(name).exists(), "{name}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_pullcred"))
        .args(["generate", "crds"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((process.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
