//! `pullcred doctor` as a person runs it, from outside the cluster: it sees what each Pod serves through a port-forward.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::node::{LIMIT, Node, PAUSE, RELEASE_NAMESPACE};
use crate::release::{NAME, Release};
use crate::support::wait_for_every;

#[tokio::test(flavor = "multi_thread")]
async fn doctor_sees_what_each_pod_serves_and_says_when_that_is_no_webhook() {
    let node = Node::turn().await;
    let release = Release::of(&node);
    release.absent().await;
    release.install(&release.values()).await;
    let pods = release.pods("webhook", 3).await;
    release.is_rolled_out("webhook").await;

    // A Deployment may have rolled out before its last Pod is an endpoint of the Service: another controller of Kubernetes makes that so.
    let pods: BTreeSet<String> = pods.iter().map(|pod| format!("Pod {RELEASE_NAMESPACE}/{}", pod.name_any())).collect();
    let sound = wait_for_every(PAUSE, "a call of each Pod, and no finding", LIMIT, async || {
        let (code, report) = doctor(&[]);
        let calls = report["calls"].as_array().unwrap().iter();
        let called: BTreeSet<String> = calls.map(|call| call["about"].as_str().unwrap().to_owned()).collect();
        (code == 0 && called == pods).then_some(report)
    })
    .await;
    let calls = sound["calls"].as_array().unwrap();
    for step in ["forwardMilliseconds", "tlsMilliseconds", "httpMilliseconds"] {
        assert!(calls.iter().all(|call| call[step].as_f64().unwrap() > 0.0), "{step}: {sound}");
    }
    let trusted =
        |check: &&Value| check["message"].as_str().unwrap().contains("which caBundle trusts for `pullcred-webhook.");
    assert_eq!(sound["checks"].as_array().unwrap().iter().filter(trusted).count(), 3, "{sound}");

    // The admin port speaks no TLS, and nobody listens on the other.
    for (port, code) in [(8080, "PC226"), (9, "PC225")] {
        let change = Patch::Strategic(json!({"spec": {"ports": [{"port": 443, "targetPort": port}]}}));
        node.api::<Service>(RELEASE_NAMESPACE)
            .patch("pullcred-webhook", &PatchParams::default(), &change)
            .await
            .unwrap();
        wait_for_every(PAUSE, code, LIMIT, async || {
            let (exit, report) = doctor(&["--only", "connection"]);
            let wrong = report["checks"].as_array().unwrap().iter().filter(|check| check["state"] == "wrong");
            let codes: Vec<_> = wrong.map(|check| check["code"].clone()).collect();
            (exit == 1 && codes == [code, code, code]).then_some(())
        })
        .await;
    }
    release.absent().await;
}

/// Its exit code and what it tells.
fn doctor(arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_pullcred"))
        .args(["doctor", "--name", NAME, "--format", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}
