//! The key of a Google service account becomes an access token: by a real token server on the loopback address, directly and
//! through a real proxy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use pullcred::controller::sources::google::{self, ServiceAccountKey};
use pullcred::controller::sources::outside::Outside;
use pullcred::controller::sources::{Fetched, Lifetime};
use pullcred::image::ImagePattern;
use serde_json::{Value, json};

use crate::support::free_port;
use crate::support::outside::{Proxy, Site, json};

const TOKEN: &str = "ya29.hush-hush-token";

/// The time at which every test asks.
fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// An RSA key in PEM, made once for all tests.
fn private_key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(new_private_key)
}

fn new_private_key() -> String {
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]).stderr(Stdio::null()).output();
    String::from_utf8(made.expect("`openssl` makes the keys of the tests").stdout).unwrap()
}

fn key_file(token_uri: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "hush-key-id",
        "private_key": private_key(),
        "client_email": "puller@project.iam.gserviceaccount.com",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    })
}

fn direct() -> Outside {
    Outside::new(None, "", "").unwrap()
}

async fn fetch(outside: &Outside, token_uri: &str) -> Result<Fetched, String> {
    let key = ServiceAccountKey::parse(key_file(token_uri).to_string().as_bytes()).unwrap();
    let images = ["asia.gcr.io/project", "europe-docker.pkg.dev"].map(|image| ImagePattern::parse(image).unwrap());
    let fetched = google::fetch(&key, &images, now(), outside).await;
    fetched.map_err(|error| {
        let error = error.to_string();
        assert!(!error.contains("hush") && !error.contains("eyJ") && !error.contains('\n'), "{error}");
        error
    })
}

fn a_token() -> String {
    json("200 OK", &format!(r#"{{"access_token":"{TOKEN}","expires_in":3599,"token_type":"Bearer"}}"#))
}

#[tokio::test]
async fn a_key_becomes_an_access_token_for_the_images_of_the_rule() {
    let site = Site::start(false, |_| a_token()).await;
    let uri = format!("http://127.0.0.1:{}/token", site.port);
    let fetched = fetch(&direct(), &uri).await.unwrap();
    assert_eq!(fetched.lifetime, Lifetime::For(Duration::from_secs(3599)));
    let entries: Vec<_> = fetched.auths.entries().map(|(key, of)| (key, of.username(), of.password())).collect();
    assert_eq!(
        entries,
        [("asia.gcr.io/project", "oauth2accesstoken", TOKEN), ("europe-docker.pkg.dev", "oauth2accesstoken", TOKEN)]
    );

    let [request] = &site.requests()[..] else { panic!("it is asked once") };
    let (head, form) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-www-form-urlencoded"), "{head}");
    let assertion =
        form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=").unwrap();
    let [header, claims, signature] = assertion.split('.').collect::<Vec<_>>()[..] else { panic!("{assertion}") };
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let read = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
    assert_eq!(read(header), json!({"alg": "RS256", "typ": "JWT", "kid": "hush-key-id"}));
    assert_eq!(
        read(claims),
        json!({
            "iss": "puller@project.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/devstorage.read_only",
            "aud": uri,
            "iat": now().as_second(),
            "exp": now().as_second() + 3600,
        })
    );
    assert!(verifies(private_key(), &format!("{header}.{claims}"), &decode(signature)));
    assert!(!verifies(private_key(), "another message", &decode(signature)));
}

/// Whether OpenSSL finds the signature right by the public half of a key.
fn verifies(key: &str, message: &str, signature: &[u8]) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let verified = Command::new("openssl")
        .args(["dgst", "-sha256", "-prverify"])
        .arg(file("key", key.as_bytes()))
        .arg("-signature")
        .arg(file("signature", signature))
        .arg(file("message", message.as_bytes()))
        .output();
    verified.unwrap().status.success()
}

/// What Google does with an assertion: checks the signature by the key that it knows, and the times by its own clock.
fn judge(request: &str, key: &str, clock: Timestamp) -> String {
    let refuse =
        |why: &str| json("400 Bad Request", &json!({"error": "invalid_grant", "error_description": why}).to_string());
    let (message, signature) = request.rsplit_once('=').unwrap().1.rsplit_once('.').unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(message.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let (from, to) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    if !verifies(key, message, &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()) {
        refuse("Invalid JWT Signature.")
    } else if to - from > 3600 || !(from - 300..to).contains(&clock.as_second()) {
        refuse("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.")
    } else {
        a_token()
    }
}

#[tokio::test]
async fn a_key_that_was_replaced_and_a_clock_that_is_wrong_are_refused_with_a_hint() {
    let hint = "(the key may be deleted or disabled, or this machine's clock wrong)";
    let ask = async |key: String, clock: &str| {
        let clock = clock.parse().unwrap();
        let site = Site::start(false, move |request| judge(request, &key, clock)).await;
        fetch(&direct(), &format!("http://127.0.0.1:{}", site.port)).await
    };
    ask(private_key().to_owned(), "2026-11-24T12:00:05Z").await.unwrap();
    let error = ask(new_private_key(), "2026-11-24T12:00:05Z").await.unwrap_err();
    assert!(error.contains("invalid_grant: Invalid JWT Signature.") && error.ends_with(hint), "{error}");
    for clock in ["2026-11-24T11:50:00Z", "2026-11-24T13:00:01Z"] {
        let error = ask(private_key().to_owned(), clock).await.unwrap_err();
        assert!(error.contains("in a reasonable timeframe.") && error.ends_with(hint), "{error}");
    }
}

#[tokio::test]
async fn refusals_and_answers_without_a_token_are_told_in_clear_words() {
    for (status, body, words) in [
        (
            "400 Bad Request",
            r#"{"error":"invalid_grant","error_description":"Invalid JWT\nSignature."}"#,
            "127.0.0.1 refused with status 400: invalid_grant: Invalid JWT Signature. (the key may be deleted or \
             disabled, or this machine's clock wrong)",
        ),
        ("400 Bad Request", "<html>hush</html>", "127.0.0.1 refused with status 400"),
        ("500 Internal Server Error", "", "127.0.0.1 refused with status 500"),
        ("302 Found", "", "127.0.0.1 refused with status 302: it sends elsewhere, which is not followed"),
        ("200 OK", "hush", "the answer of 127.0.0.1 is no JSON with an `access_token`"),
        ("200 OK", r#"{"id_token":"hush"}"#, "the answer of 127.0.0.1 is no JSON with an `access_token`"),
        ("200 OK", r#"{"access_token":"","expires_in":1}"#, "holds an `access_token` that is none"),
        ("200 OK", r#"{"access_token":"hush\n","expires_in":1}"#, "holds an `access_token` that is none"),
        ("200 OK", r#"{"access_token":"hush","expires_in":0}"#, "does not say in `expires_in` how long"),
        ("200 OK", r#"{"access_token":"hush"}"#, "does not say in `expires_in` how long"),
    ] {
        let site = Site::start(false, move |_| json(status, body)).await;
        let error = fetch(&direct(), &format!("http://127.0.0.1:{}", site.port)).await.unwrap_err();
        assert!(error.starts_with("no Google access token: ") && error.contains(words), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_that_repeats_the_assertion_is_told_without_it() {
    let site = Site::start(false, |request| {
        let assertion = request.rsplit('=').next().unwrap();
        let parts = assertion.replace('.', " and ");
        json(
            "400 Bad Request",
            &json!({"error": "odd", "error_description": format!("{assertion}, {parts}")}).to_string(),
        )
    })
    .await;
    let error = fetch(&direct(), &format!("http://127.0.0.1:{}", site.port)).await.unwrap_err();
    assert!(error.ends_with("status 400: odd: ***, *** and *** and ***"), "{error}");
}

#[tokio::test]
async fn a_redirect_takes_the_assertion_nowhere() {
    let elsewhere = Site::start(false, |_| a_token()).await;
    let port = elsewhere.port;
    let site = Site::start(false, move |_| {
        format!("HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let error = fetch(&direct(), &format!("http://127.0.0.1:{}", site.port)).await.unwrap_err();
    assert!(error.contains("status 307: it sends elsewhere"), "{error}");
    assert_eq!((site.requests().len(), elsewhere.requests().len()), (1, 0));
}

#[tokio::test]
async fn servers_that_are_silent_endless_or_not_there_are_given_up() {
    let silent = Site::start(false, |_| String::new()).await;
    let outside = direct().with_time_limit(Duration::from_millis(300));
    let error = fetch(&outside, &format!("http://localhost:{}", silent.port)).await.unwrap_err();
    assert_eq!(error, "no Google access token: localhost has not answered within 300ms");
    let endless = Site::start(false, |_| json("200 OK", &" ".repeat(100_000))).await;
    let error = fetch(&direct(), &format!("http://127.0.0.1:{}", endless.port)).await.unwrap_err();
    assert_eq!(error, "no Google access token: the answer of 127.0.0.1 cannot be read: length limit exceeded");
    let error = fetch(&direct(), &format!("http://127.0.0.1:{}", free_port())).await.unwrap_err();
    assert!(error.contains("127.0.0.1 cannot be reached: ") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_its_file_is_named() {
    let site = Site::start(true, |_| a_token()).await;
    let uri = format!("https://localhost:{}/token", site.port);
    let error = fetch(&direct(), &uri).await.unwrap_err();
    assert!(error.contains("localhost cannot be reached: ") && error.contains("UnknownIssuer"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let file = ca_file(directory.path(), &site.authority);
    let outside = Outside::new(Some(&file), "", "").unwrap();
    fetch(&outside, &uri).await.unwrap();
    assert_eq!(site.requests().len(), 1);
}

fn ca_file(directory: &Path, authority: &str) -> std::path::PathBuf {
    let file = directory.join("ca.crt");
    fs::write(&file, authority).unwrap();
    file
}

#[tokio::test]
async fn a_proxy_is_gone_through_unless_no_proxy_names_the_host() {
    let site = Site::start(true, |_| a_token()).await;
    let uri = format!("https://localhost:{}/token", site.port);
    let directory = tempfile::tempdir().unwrap();
    let file = ca_file(directory.path(), &site.authority);
    // `user:p@ss`
    let proxy = Proxy::start(false, Some("Basic dXNlcjpwQHNz")).await;
    let through = |user: &str, no_proxy: &str| {
        Outside::new(Some(&file), &format!("http://{user}127.0.0.1:{}", proxy.port), no_proxy).unwrap()
    };
    fetch(&through("user:p%40ss@", "other.example"), &uri).await.unwrap();
    let [request] = &proxy.requests()[..] else { panic!("the proxy is asked once") };
    assert!(request.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", site.port)), "{request}");
    for no_proxy in ["localhost", "*", "a.example, localhost"] {
        fetch(&through("", no_proxy), &uri).await.unwrap();
    }
    assert_eq!((proxy.requests().len(), site.requests().len()), (1, 4));

    let error = fetch(&through("user:hush@", ""), &uri).await.unwrap_err();
    let way = format!("localhost cannot be reached by the proxy 127.0.0.1:{}: ", proxy.port);
    assert!(error.contains(&way) && error.contains("proxy authorization required"), "{error}");
    assert_eq!(site.requests().len(), 4);
    let nobody = Outside::new(Some(&file), &format!("http://127.0.0.1:{}", free_port()), "").unwrap();
    assert!(fetch(&nobody, &uri).await.unwrap_err().contains("refused"));
}

#[tokio::test]
async fn a_proxy_may_itself_be_spoken_to_by_tls() {
    let (site, proxy) = (Site::start(true, |_| a_token()).await, Proxy::start(true, None).await);
    let directory = tempfile::tempdir().unwrap();
    let file = ca_file(directory.path(), &format!("{}{}", site.authority, proxy.authority));
    let outside = Outside::new(Some(&file), &format!("https://localhost:{}", proxy.port), "").unwrap();
    fetch(&outside, &format!("https://localhost:{}/token", site.port)).await.unwrap();
    assert_eq!((proxy.requests().len(), site.requests().len()), (1, 1));
}

#[test]
fn settings_that_cannot_be_used_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let new = |file: Option<&Path>, proxy: &str| Outside::new(file, proxy, "").unwrap_err().to_string();
    for proxy in ["socks5://127.0.0.1:1", "hush hush", "ftp://user:hush@a.example"] {
        assert_eq!(
            new(None, proxy),
            "HTTPS_PROXY is no proxy that can be used: write `http://host:port` or `https://host:port`"
        );
    }
    assert!(Outside::new(None, "proxy.example:3128", "").is_ok());
    let missing = directory.path().join("missing.crt");
    assert!(new(Some(&missing), "").contains("missing.crt: cannot be read"));
    let file = ca_file(directory.path(), "nothing");
    assert!(new(Some(&file), "").ends_with("ca.crt: holds no certificate in PEM"));
}

#[test]
fn what_is_no_key_is_refused_and_nothing_of_it_told() {
    let with = |field: &str, value: Value| {
        let mut file = key_file("https://oauth2.googleapis.com/token");
        file[field] = value;
        file.to_string()
    };
    let truncated = private_key().replace('\n', "");
    let elliptic = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .output()
        .unwrap()
        .stdout;
    for (file, words) in [
        ("hush".to_owned(), "is not JSON (line 1, column 1)"),
        ("[]".to_owned(), "has not `\"type\": \"service_account\"`"),
        (with("type", json!("authorized_user")), "has not `\"type\": \"service_account\"`"),
        (with("client_email", json!(["hush"])), "has no `client_email`, or it is not text"),
        (with("private_key", Value::Null), "has no `private_key`"),
        (with("private_key", json!("hush")), "the `private_key` of the key is no RSA key in PEM"),
        (with("private_key", json!(truncated)), "the `private_key` of the key is no RSA key in PEM"),
        (with("private_key", json!(String::from_utf8(elliptic).unwrap())), "is no RSA key in PEM"),
        (with("token_uri", json!("http://oauth2.googleapis.com/token")), "the `token_uri` of the key must be"),
        (with("token_uri", json!("https://user:hush@oauth2.googleapis.com")), "the `token_uri` of the key must be"),
        (with("token_uri", json!("file:///hush")), "the `token_uri` of the key must be"),
        (with("token_uri", json!("http://127.0.0.1.hush.example/")), "the `token_uri` of the key must be"),
        (with("token_uri", json!("/hush")), "the `token_uri` of the key must be"),
    ] {
        let error = ServiceAccountKey::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hush") && !error.contains("BEGIN"), "{error}");
    }
    for uri in ["http://localhost:1/", "http://127.0.0.2/", "http://[::1]:80/", "https://oauth2.googleapis.com/token"] {
        assert!(ServiceAccountKey::parse(with("token_uri", json!(uri)).as_bytes()).is_ok(), "{uri}");
    }
}

#[tokio::test]
async fn keys_and_tokens_do_not_print() {
    let key = ServiceAccountKey::parse(key_file("https://oauth2.googleapis.com/token").to_string().as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "ServiceAccountKey(***)");
    let site = Site::start(false, |_| a_token()).await;
    let fetched = fetch(&direct(), &format!("http://127.0.0.1:{}", site.port)).await.unwrap();
    assert!(!format!("{fetched:?}").contains("hush"), "{fetched:?}");
}
