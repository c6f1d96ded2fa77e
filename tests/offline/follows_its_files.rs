//! Rules and certificate follow their files while the server serves: no restart, no dropped connection, and what cannot be
//! used changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pullcred::pki::make_development;

use super::injects::{pod, review, rule};
use crate::support::client::{Answer, Client};
use crate::support::program::Webhook;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(10);

fn matching() -> Vec<u8> {
    serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap()
}

fn secrets(answer: &Answer) -> String {
    answer.json()["response"]["auditAnnotations"]["secrets"].as_str().unwrap_or_default().to_owned()
}

async fn connect(webhook: &Webhook) -> Client {
    Client::connect(webhook.port, &webhook.authority()).await.unwrap()
}

async fn wait_for_secret(client: &mut Client, secret: &str) {
    wait_for(secret, SOON, async || (secrets(&client.review(matching()).await.unwrap()) == secret).then_some(())).await;
}

async fn readyz(webhook: &Webhook) -> (u16, String) {
    webhook.admin("/readyz").await.unwrap()
}

#[tokio::test]
async fn an_edit_of_the_rules_is_in_force_within_seconds_on_open_connections() {
    let webhook = Webhook::start(&rule("before", &["r.io"]), &[]).await;
    let mut client = connect(&webhook).await;
    wait_for_secret(&mut client, "before").await;
    fs::write(webhook.rules(), rule("after", &["r.io"])).unwrap();
    wait_for_secret(&mut client, "after").await;
}

#[tokio::test]
async fn a_bad_edit_keeps_the_rules_before_and_says_so_everywhere() {
    let webhook = Webhook::start(&rule("good", &["r.io"]), &[]).await;
    let mut client = connect(&webhook).await;
    let bad = rule("bad", &["https://r.io", "r.io:*"]);
    fs::write(webhook.rules(), &bad).unwrap();
    wait_for("the findings on /readyz", SOON, async || {
        let (status, body) = readyz(&webhook).await;
        assert_eq!(status, 200, "{body}");
        let told = body.contains("[!] rules: 1 in force; the files as they are now cannot be used (2 findings)");
        (told && body.matches("rules.yaml:").count() == 2 && body.contains("PC008")).then_some(())
    })
    .await;
    assert_eq!(secrets(&client.review(matching()).await.unwrap()), "good");
    let metrics = webhook.admin("/metrics").await.unwrap().1;
    for line in ["pullcred_rule_findings 2", "pullcred_rule_rejections_total 1", "pullcred_rules 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(
        webhook.log().matches("PC008 spec.images").count(),
        2,
        "each finding is logged once:\n{}",
        webhook.log()
    );

    fs::write(webhook.rules(), rule("mended", &["r.io"])).unwrap();
    wait_for_secret(&mut client, "mended").await;
    assert!(readyz(&webhook).await.1.contains("[+] rules: 1 in force\n"));
}

#[tokio::test]
async fn rules_that_vanish_stay_in_force() {
    let webhook = Webhook::start(&rule("good", &["r.io"]), &[]).await;
    let mut client = connect(&webhook).await;
    fs::remove_file(webhook.rules()).unwrap();
    wait_for("the finding", SOON, async || {
        readyz(&webhook).await.1.contains("PC001: the directory holds no rule files").then_some(())
    })
    .await;
    fs::remove_dir(webhook.rules().parent().unwrap()).unwrap();
    wait_for("the finding", SOON, async || readyz(&webhook).await.1.contains("PC001: is not there").then_some(()))
        .await;
    assert_eq!(secrets(&client.review(matching()).await.unwrap()), "good");
}

/// Lays out a directory as the kubelet does for a `ConfigMap` or Secret: `name -> ..data/name`, `..data -> ..version`.
fn mount(directory: &Path, version: &str, files: &[(&str, &str)]) {
    let data = directory.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
        if fs::symlink_metadata(directory.join(name)).is_err() {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
    }
    symlink(format!("..{version}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[tokio::test]
async fn a_swap_of_the_data_link_is_noticed_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), "0", &[("rules.yaml", &rule("secret-0", &["r.io"]))]);
    // Beside the rules of the program's own directory, which match nothing here.
    let path = directory.path().to_str().unwrap();
    let webhook = Webhook::start(&rule("other", &["other.io"]), &["--rules", path]).await;
    let mut client = connect(&webhook).await;
    wait_for_secret(&mut client, "secret-0").await;
    for version in 1..4 {
        let secret = format!("secret-{version}");
        mount(directory.path(), &version.to_string(), &[("rules.yaml", &rule(&secret, &["r.io"]))]);
        fs::remove_dir_all(directory.path().join(format!("..{}", version - 1))).unwrap();
        wait_for_secret(&mut client, &secret).await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let directory = tempfile::tempdir().unwrap();
    let first = make_development(Timestamp::now()).unwrap();
    mount(directory.path(), "0", &[("tls.crt", &first.tls_crt), ("tls.key", &first.tls_key)]);
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let webhook =
        Webhook::start(&rule("good", &["r.io"]), &["--tls-cert", &file("tls.crt"), "--tls-key", &file("tls.key")])
            .await;
    let mut old = Client::connect(webhook.port, first.ca_crt.as_bytes()).await.unwrap();
    old.review(matching()).await.unwrap();

    let second = make_development(Timestamp::now()).unwrap();
    mount(directory.path(), "1", &[("tls.crt", &second.tls_crt), ("tls.key", &second.tls_key)]);
    let mut new = wait_for("the new certificate", SOON, async || {
        Client::connect(webhook.port, second.ca_crt.as_bytes()).await.ok()
    })
    .await;
    assert_ne!(new.certificate, old.certificate);
    assert_eq!(new.review(matching()).await.unwrap().status, 200);
    assert_eq!(old.review(matching()).await.unwrap().status, 200, "the open connection is still there");

    let third = make_development(Timestamp::now()).unwrap();
    mount(directory.path(), "2", &[("tls.crt", &third.tls_crt), ("tls.key", &second.tls_key)]);
    let words = format!("the key in {} does not belong to the certificate in {}", file("tls.key"), file("tls.crt"));
    wait_for("the mismatch on /readyz", SOON, async || {
        let (status, body) = readyz(&webhook).await;
        assert_eq!(status, 200);
        (body.contains("[!] certificate: valid until") && body.contains(&words)).then_some(())
    })
    .await;
    assert!(webhook.log().contains(&words));
    let metrics = webhook.admin("/metrics").await.unwrap().1;
    assert!(metrics.contains("\npullcred_certificate_rejected 1\n"), "{metrics}");
    assert!(metrics.contains("\npullcred_certificate_rejections_total 1\n"), "{metrics}");
    let still = Client::connect(webhook.port, second.ca_crt.as_bytes()).await.unwrap();
    assert_eq!(still.certificate, new.certificate, "the pair before is still served");

    mount(directory.path(), "3", &[("tls.crt", &third.tls_crt), ("tls.key", &third.tls_key)]);
    wait_for("the third", SOON, async || Client::connect(webhook.port, third.ca_crt.as_bytes()).await.ok()).await;
    assert_eq!(old.review(matching()).await.unwrap().status, 200, "three certificates later it is still there");
}
