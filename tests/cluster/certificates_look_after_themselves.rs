//! The authority, the leaf and the `caBundle` in mode `managed`: made when nothing is there, and mended whatever is done to them.

use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pullcred::pki::{Certificate, make_development};
use serde_json::{Value, json};

use crate::support::trust::{CA_SECRET, Release, TLS_SECRET};
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> ByteString {
    ByteString(bytes.to_vec())
}

#[tokio::test]
async fn an_empty_cluster_gets_everything_and_the_webhook_is_ready_when_it_is_trusted() {
    let release = Release::install("trust-empty").await;
    let webhook = release.webhook(&[]);
    let told = async |code: u16, words: &str| {
        wait_for(words, LIMIT, async || {
            let (status, text) = webhook.admin("/readyz?verbose").await?;
            (status == code && text.contains(words)).then_some(())
        })
        .await;
    };
    told(503, "[-] certificate: what is there now cannot be served: Secret trust-empty/pullcred-tls is not there")
        .await;
    told(503, "[+] trusted: there is no configuration trust-empty-pullcred: nobody calls").await;
    release.register("Fail").await;
    told(503, "[-] trusted: there is no certificate yet").await;
    // Somebody else's, whom the bundle does not name.
    let foreign = make_development(jiff::Timestamp::now()).unwrap();
    let secret = json!({"metadata": {"name": TLS_SECRET}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": foreign.tls_crt, "tls.key": foreign.tls_key}});
    let secret = serde_json::from_value(secret).unwrap();
    release.secrets().create(&PostParams::default(), &secret).await.unwrap();
    told(503, "[-] trusted: the caBundle of configuration trust-empty-pullcred does not trust the certificate").await;
    told(503, "[+] certificate: valid until").await;

    let controller = release.controller(&["--soak", "1s"]).await;
    release.whole().await;
    told(200, "[+] trusted: configuration trust-empty-pullcred trusts the certificate").await;
    let (_, text) = controller.admin("/readyz").await.unwrap();
    assert!(text.contains("[+] certificates: leaf until 2"), "{text}");
    for (secret, keys) in [(TLS_SECRET, vec!["ca.crt", "tls.crt", "tls.key"]), (CA_SECRET, vec!["tls.crt", "tls.key"])]
    {
        let secret = release.secrets().get(secret).await.unwrap();
        assert_eq!(secret.data.as_ref().unwrap().keys().collect::<Vec<_>>(), keys, "{}", secret.name_any());
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    }
    assert_eq!(release.bundle().await, release.held(TLS_SECRET, "ca.crt").await);
    assert_eq!(release.bundle().await, release.held(CA_SECRET, "tls.crt").await);
    for (name, value) in [("rotation_phase", 1.0), ("certificates_failing", 0.0)] {
        let found = controller.series(&format!("pullcred_controller_{name}")).await;
        assert!((found - value).abs() < 0.1, "{name} is {found}");
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for (name, days) in [("authority", 365.0), ("leaf", 30.0)] {
        let ends = controller.series(&format!("pullcred_controller_{name}_not_after_timestamp_seconds")).await;
        assert!((ends - now - days * 86400.0).abs() < 120.0, "{name} ends {} s from now", ends - now);
    }

    // A wiped bundle takes no replica out that was ready once.
    drop(controller);
    wipe(&release, json!(null)).await;
    told(200, "[!] trusted: the caBundle of configuration trust-empty-pullcred does not trust the certificate").await;
    let log = webhook.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN"), "{log}");
}

async fn wipe(release: &Release, bundle: Value) {
    let patch = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch).unwrap());
    release.configurations().patch(&release.installed.name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn whatever_is_done_to_secrets_and_configuration_is_mended() {
    let release = Release::install("trust-faults").await;
    release.register("Fail").await;
    let controller = release.controller(&["--soak", "1s"]).await;
    release.whole().await;
    let other = make_development(jiff::Timestamp::now()).unwrap();
    let other_authority =
        pullcred::pki::Authority::make(None, Duration::from_secs(3600), jiff::Timestamp::now()).unwrap();
    let foreign_key = text(other.tls_key.as_bytes());
    let changes = [
        ("emptied", json!({"data": {"tls.crt": "", "tls.key": "", "ca.crt": null}})),
        (
            "garbage",
            json!({"data": {"tls.crt": text(b"\0\xff-----BEGIN CERTIFICATE-----\nx"), "tls.key": text(b"garbage")}}),
        ),
        ("of another key", json!({"data": {"tls.key": foreign_key}})),
        ("of somebody else", json!({"data": {"tls.crt": text(other.tls_crt.as_bytes()), "tls.key": foreign_key}})),
    ];
    for secret in [TLS_SECRET, CA_SECRET] {
        for (what, change) in &changes {
            eprintln!("{secret} {what}");
            let before = release.secrets().get(secret).await.unwrap().resource_version();
            release.change(secret, change.clone()).await;
            let broken = release.held(secret, "tls.key").await;
            wait_for(what, LIMIT, async || (release.held(secret, "tls.key").await != broken).then_some(())).await;
            release.whole().await;
            assert_ne!(release.secrets().get(secret).await.unwrap().resource_version(), before);
        }
        eprintln!("{secret} deleted");
        let uid = release.secrets().get(secret).await.unwrap().uid();
        release.secrets().delete(secret, &DeleteParams::default()).await.unwrap();
        wait_for("the Secret to be there again", LIMIT, async || {
            let found = release.secrets().get_opt(secret).await.unwrap()?;
            (found.uid() != uid).then_some(())
        })
        .await;
        release.whole().await;
    }
    eprintln!("both deleted");
    for secret in [TLS_SECRET, CA_SECRET] {
        release.secrets().delete(secret, &DeleteParams::default()).await.unwrap();
    }
    release.whole().await;
    let foreign = other_authority.certificate().pem();
    for bundle in [json!(null), json!(text(foreign.as_bytes())), json!(text(other.ca_crt.as_bytes()))] {
        wipe(&release, bundle).await;
        let authorities = async || Certificate::read_all(&release.held(CA_SECRET, "tls.crt").await);
        wait_for("the caBundle to be as it should", LIMIT, async || {
            let bundle = Certificate::read_all(&release.bundle().await);
            let strangers = [&foreign, &other.ca_crt].map(|pem| Certificate::read_all(pem.as_bytes()));
            let is_clean = strangers.iter().all(|stranger| !bundle.contains(&stranger[0]));
            (is_clean && bundle.starts_with(&authorities().await)).then_some(())
        })
        .await;
    }
    release.unregister().await;
    // Nothing to do is no trouble.
    wait_for("the absence to be noticed", LIMIT, async || {
        let (_, text) = controller.admin("/readyz").await?;
        text.contains("[+] certificates: leaf until 2").then_some(())?;
        text.contains("there is no webhook configuration").then_some(())
    })
    .await;
    release.register("Fail").await;
    release.whole().await;
    let log = controller.log();
    assert!(!log.contains("cannot be looked after"), "{log}");
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN"), "{log}");
}

/// A tool of the kind of Argo CD that has the bundle in its manifests, or an injector with an annotation of before.
#[tokio::test]
async fn whoever_writes_the_bundle_again_and_again_meets_a_writer_that_does_not_hurry() {
    let release = Release::install("trust-fight").await;
    release.register("Ignore").await;
    let controller = release.controller(&["--soak", "1s"]).await;
    release.whole().await;
    let begin = Instant::now();
    let mut wiped = 0;
    while begin.elapsed() < Duration::from_secs(15) {
        wipe(&release, json!(null)).await;
        wiped += 1;
        let mended = async { while release.bundle().await.is_empty() {} };
        _ = tokio::time::timeout(Duration::from_millis(100), mended).await;
    }
    let written = controller.log().matches("caBundle is written").count();
    // Thirty in twenty seconds, those before the fight among them.
    assert!(wiped > 60 && (10..=30).contains(&written), "{wiped} times wiped, {written} times written");
    release.whole().await;
    assert!(!controller.log().contains("cannot be looked after"), "{}", controller.log());
}
