//! Certificates that somebody else looks after: Secrets in the shapes in which cert-manager and people write them are served like our own,
//! and a controller with `--certificates none` leaves them alone.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pullcred::pki::Certificate;
use serde_json::{Value, json};

use crate::support::client::{connect_tls, trust};
use crate::support::trust::{CA_SECRET, Release, TLS_SECRET};
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(30);

/// What a Secret of one of these shapes holds, and what goes into `caBundle`.
struct Shape {
    what: &'static str,
    certificate: String,
    key: String,
    /// Beside the two.
    more: Vec<(&'static str, String)>,
    metadata: Value,
    bundle: String,
}

fn openssl(directory: &std::path::Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn shapes() -> Vec<Shape> {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    openssl(
        directory.path(),
        "
        # cert-manager's default: RSA keys in PKCS #1, a root, and an authority between it and the leaf.
        printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n' >ca.ext
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >leaf.ext
        openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 3650 -subj /CN=root
        openssl req -newkey rsa:2048 -nodes -keyout between.key -out between.csr -subj /CN=between
        openssl x509 -req -in between.csr -CA root.crt -CAkey root.key -CAcreateserial -days 365 -extfile ca.ext -out between.crt
        openssl req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /O=cert-manager
        openssl x509 -req -in leaf.csr -CA between.crt -CAkey between.key -CAcreateserial -days 90 -extfile leaf.ext -out leaf.crt
        openssl rsa -in leaf.key -traditional -out leaf-pkcs1.key
        cat leaf.crt between.crt >chain.crt
        # A person's: signed by itself, an EC key in SEC 1 behind its parameters.
        openssl ecparam -name prime256v1 -genkey -out own.key
        openssl req -x509 -key own.key -out own.crt -days 365 -subj /CN=own -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1'
        ",
    );
    vec![
        Shape {
            what: "cert-manager's, with an authority between",
            certificate: read("chain.crt"),
            key: read("leaf-pkcs1.key"),
            more: vec![
                ("ca.crt", read("root.crt")),
                ("tls-combined.pem", read("leaf.key") + &read("chain.crt")),
                ("keystore.jks", "binary".to_owned()),
            ],
            metadata: json!({
                "labels": {"controller.cert-manager.io/fao": "true"},
                "annotations": {
                    "cert-manager.io/certificate-name": "pullcred-tls", "cert-manager.io/common-name": "",
                    "cert-manager.io/issuer-kind": "Issuer", "cert-manager.io/issuer-name": "pullcred",
                    "cert-manager.io/alt-names": "localhost", "cert-manager.io/ip-sans": "127.0.0.1",
                },
            }),
            bundle: read("root.crt"),
        },
        Shape {
            what: "a person's, by `kubectl create secret tls`, signed by itself",
            certificate: read("own.crt"),
            key: read("own.key"),
            more: vec![],
            metadata: json!({}),
            bundle: read("own.crt"),
        },
        Shape {
            what: "a person's, with a bundle of several, comments and carriage returns",
            certificate: format!("subject=leaf\r\n{}", read("chain.crt")).replace('\n', "\r\n"),
            key: read("leaf.key"),
            more: vec![("ca.crt", String::new())],
            metadata: json!({}),
            bundle: format!("# ours\n{}# theirs\n{}", read("own.crt"), read("root.crt")),
        },
    ]
}

#[tokio::test]
async fn secrets_of_cert_manager_and_of_people_are_served_alike_and_left_alone() {
    let release = Release::install("trust-others").await;
    release.register("Fail").await;
    let controller = release.controller(&["--certificates", "none"]).await;
    for Shape { what, certificate, key, more, metadata, bundle } in shapes() {
        eprintln!("{what}");
        let mut data = json!({"tls.crt": certificate, "tls.key": key});
        data.as_object_mut().unwrap().extend(more.into_iter().map(|(key, text)| (key.to_owned(), text.into())));
        let mut secret = json!({"metadata": metadata, "type": "kubernetes.io/tls", "stringData": data});
        secret["metadata"]["name"] = TLS_SECRET.into();
        let _ = release.secrets().delete(TLS_SECRET, &DeleteParams::default()).await;
        release.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        let before = release.secrets().get(TLS_SECRET).await.unwrap().resource_version();

        let webhook = release.webhook(&[]);
        wait_for("the webhook to see that it is not trusted", LIMIT, async || {
            let (code, text) = webhook.admin("/readyz").await?;
            (code == 503 && text.contains("[-] trusted") && text.contains("[+] certificate: valid")).then_some(())
        })
        .await;
        let value = json!(ByteString(bundle.as_bytes().to_vec()));
        let patch = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}]);
        let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch).unwrap());
        release.configurations().patch(&release.installed.name, &PatchParams::default(), &patch).await.unwrap();
        let webhook = webhook.ready().await;
        let served = Certificate::read_all(certificate.as_bytes());
        assert!(pullcred::pki::trusts(&Certificate::read_all(bundle.as_bytes()), &served), "{what}");
        if !what.contains("signed by itself") {
            // The client of these tests wants an authority, where Go takes the leaf itself.
            connect_tls(webhook.port, trust(bundle.as_bytes(), &["http/1.1"])).await.unwrap();
        }
        assert_eq!(release.secrets().get(TLS_SECRET).await.unwrap().resource_version(), before, "{what}");
        assert_eq!(release.bundle().await, bundle.as_bytes());
        let remove = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]);
        let remove: Patch<Value> = Patch::Json(serde_json::from_value(remove).unwrap());
        release.configurations().patch(&release.installed.name, &PatchParams::default(), &remove).await.unwrap();
    }
    assert!(release.secrets().get_opt(CA_SECRET).await.unwrap().is_none(), "nobody asked for an authority");
    let (_, text) = controller.admin("/readyz").await.unwrap();
    assert!(!text.contains("certificates"), "{text}");
}
