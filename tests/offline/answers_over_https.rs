//! What a caller gets back over a real TLS connection: a review for a review, and for everything else a `Status` that says
//! what was wrong.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pullcred::webhook::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::injects::{pod, review, rule};
use crate::support::client::{Answer, connect_tls, request, trust};
use crate::support::server::Serving;
use crate::support::wait_for;

async fn serving() -> Serving {
    Serving::start(&rule("regcred", &["r.io"]), Limits::default()).await
}

fn matching() -> Vec<u8> {
    serde_json::to_vec(&review(&pod(&["r.io/app"]))).unwrap()
}

/// The patch of an answer to a review, decoded.
fn patch(answer: &Answer) -> Option<Value> {
    let patch = answer.json()["response"]["patch"].as_str().map(|patch| STANDARD.decode(patch).unwrap());
    patch.map(|patch| serde_json::from_slice(&patch).unwrap())
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_review_is_answered_with_a_patch() {
    let server = serving().await;
    let answer = server.client().await.review(matching()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    let added = json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "regcred"}]}]);
    assert_eq!(patch(&answer), Some(added));
    assert!(!answer.headers.contains_key("connection"), "the connection is kept");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = serving().await;
    let mut client = server.client().await;
    for _ in 0..100 {
        assert_eq!(client.review(matching()).await.unwrap().status, 200);
    }
    assert_eq!(client.review("{}").await.unwrap().status, 400);
    assert_eq!(client.review(matching()).await.unwrap().status, 200, "a refusal does not end the connection");
    assert_eq!(server.metric("pullcred_connections_accepted_total"), 1);
    assert_eq!(server.metric("pullcred_decisions_total{outcome=\"injected\"}"), 101);
    assert_eq!(server.metric("pullcred_rule_matches_total{rule=\"regcred\"}"), 101);
}

#[tokio::test]
async fn a_request_that_is_no_review_is_told_what_is_wrong_with_it() {
    let server = serving().await;
    for (method, path, headers, body, code, words) in [
        (Method::POST, "/", &[JSON][..], matching(), 404, "nothing is at `/`: reviews go to /mutate"),
        (Method::POST, "/mutate/", &[JSON], matching(), 404, "reviews go to /mutate"),
        (Method::POST, "/Mutate", &[JSON], matching(), 404, "reviews go to /mutate"),
        (Method::GET, "/readyz", &[], vec![], 404, "nothing is at `/readyz`"),
        (Method::GET, "/mutate", &[], vec![], 405, "/mutate takes POST, not GET"),
        (Method::PUT, "/mutate", &[JSON], matching(), 405, "/mutate takes POST, not PUT"),
        (Method::OPTIONS, "/mutate", &[], vec![], 405, "/mutate takes POST, not OPTIONS"),
        (Method::POST, "/mutate", &[], matching(), 415, "must be application/json"),
        (Method::POST, "/mutate", &[("content-type", "application/yaml")], matching(), 415, "must be application/json"),
        (
            Method::POST,
            "/mutate",
            &[("content-type", "application/jsonx")],
            matching(),
            415,
            "must be application/json",
        ),
        (Method::POST, "/mutate", &[JSON, ("content-encoding", "gzip")], matching(), 415, "must not be compressed"),
        (Method::POST, "/mutate", &[JSON], vec![], 400, "empty"),
        (Method::POST, "/mutate", &[JSON], b"hello".to_vec(), 400, "not JSON"),
        (Method::POST, "/mutate", &[JSON], br#"{"kind":"Pod"}"#.to_vec(), 400, "no request.uid"),
        (Method::POST, "/mutate", &[JSON], vec![b' '; 9 << 20], 413, "larger than 8 MiB"),
    ] {
        let what = format!("{method} {path} {headers:?}");
        let answer = server.client().await.send(request(method, path, headers, body)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (was, message) = answer.wrong();
        assert!(was == code && message.contains(words), "{what}: {was} {message}");
        assert_eq!(answer.headers.contains_key("allow"), code == 405, "{what}");
        assert!(!answer.headers.contains_key("retry-after"), "{what}: asking again would not help");
    }
    assert_eq!(server.metric("pullcred_requests_refused_total{reason=\"path\"}"), 4);
    assert_eq!(server.metric("pullcred_requests_refused_total{reason=\"method\"}"), 3);
    assert_eq!(server.metric("pullcred_requests_refused_total{reason=\"content_type\"}"), 4);
    assert_eq!(server.metric("pullcred_requests_refused_total{reason=\"not_a_review\"}"), 3);
    assert_eq!(server.metric("pullcred_requests_refused_total{reason=\"too_large\"}"), 1);
}

#[tokio::test]
async fn the_content_type_may_name_a_charset_and_be_in_any_case() {
    let server = serving().await;
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
        let request = request(Method::POST, "/mutate", &[("content-type", content_type)], matching());
        assert_eq!(server.client().await.send(request).await.unwrap().status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn whatever_a_pod_holds_it_is_allowed_and_patched_only_when_it_can_be_read() {
    let server = serving().await;
    let mut client = server.client().await;
    let spec = |spec: Value| json!({"metadata": {"name": "app"}, "spec": spec});
    let containers = json!([{"name": "c", "image": "r.io/app"}]);
    for (what, pod, patched, warned) in [
        ("imagePullSecrets null", spec(json!({"containers": containers, "imagePullSecrets": null})), true, false),
        ("imagePullSecrets []", spec(json!({"containers": containers, "imagePullSecrets": []})), true, false),
        ("imagePullSecrets [{}]", spec(json!({"containers": containers, "imagePullSecrets": [{}]})), true, false),
        ("imagePullSecrets text", spec(json!({"containers": containers, "imagePullSecrets": "x"})), false, true),
        ("no containers", spec(json!({})), false, false),
        ("containers of another type", spec(json!({"containers": "r.io/app"})), false, true),
        ("no image", spec(json!({"containers": [{"name": "c", "image": ""}]})), false, false),
        ("a long image", spec(json!({"containers": [{"image": "x".repeat(5000)}]})), false, true),
        ("an image in Unicode", spec(json!({"containers": [{"image": "r.io/\u{e4}pp"}]})), false, true),
        ("an image of another type", spec(json!({"containers": [{"image": 5}]})), false, true),
        ("no object", Value::Null, false, true),
    ] {
        let answer = client.review(serde_json::to_vec(&review(&pod)).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{what}");
        let response = answer.json()["response"].clone();
        assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &review(&pod)["request"]["uid"]), "{what}");
        assert_eq!(patch(&answer).is_some(), patched, "{what}: {response}");
        assert_eq!(response["warnings"].is_array(), warned, "{what}: {response}");
    }
}

#[tokio::test]
async fn bodies_that_are_hardly_json_get_an_answer() {
    let server = serving().await;
    let mut client = server.client().await;
    let whole = String::from_utf8(matching()).unwrap();
    let deep = format!(r#"{{"request":{{"uid":"u","object":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let beta = whole.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    let repeated = whole.replace(r#""uid":"#, r#""uid":"first","uid":"#);
    for (what, body, code) in [
        ("truncated", whole.as_bytes()[..whole.len() - 10].to_vec(), 400),
        ("a uid of the wrong type", br#"{"request":{"uid":7}}"#.to_vec(), 400),
        ("another kind", br#"{"apiVersion":"v1","kind":"Pod","metadata":{"uid":"x"}}"#.to_vec(), 400),
        ("nested 100,000 deep", deep.into_bytes(), 200),
        ("a key twice", repeated.into_bytes(), 200),
        (
            "bytes that are not UTF-8",
            whole.replace("r.io/app", "\u{1}").replace('\u{1}', "r.io/\\ud800").into_bytes(),
            200,
        ),
        ("invalid UTF-8", [b"{\"request\":{\"uid\":\"".as_slice(), b"\xff\xfe\"}}"].concat(), 200),
        ("v1beta1", beta.into_bytes(), 200),
    ] {
        let answer = client.review(body).await.unwrap();
        assert_eq!(answer.status, code, "{what}: {}", answer.text());
        if code == 200 {
            assert_eq!(answer.json()["response"]["allowed"], true, "{what}");
        } else {
            answer.wrong();
        }
    }
    let answer = client.review(whole.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1")).await.unwrap();
    assert_eq!(answer.json()["apiVersion"], "admission.k8s.io/v1beta1");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_and_one_that_grows_too_large_is_refused() {
    let server = serving().await;
    for (body, code) in [(matching(), "200"), (vec![b' '; 9 << 20], "413")] {
        let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
        let head =
            "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for chunk in body.chunks(64 << 10) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
            stream.write_all(chunk).await.unwrap();
            if stream.write_all(b"\r\n").await.is_err() {
                break;
            }
        }
        // The server may have answered and closed before this.
        let _ = stream.write_all(b"0\r\n\r\n").await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, format!("HTTP/1.1 {code}").as_bytes());
    }
}

#[tokio::test]
async fn a_caller_that_wants_to_be_asked_for_its_body_is_asked() {
    let server = serving().await;
    let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
    let body = matching();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 21];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start[..12], b"HTTP/1.1 100");
    stream.write_all(&body).await.unwrap();
    let mut start = [0; 12];
    loop {
        stream.read_exact(&mut start[..1]).await.unwrap();
        if start[0] == b'H' {
            break;
        }
    }
    stream.read_exact(&mut start[1..]).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_dropped() {
    let server = serving().await;
    for (timeout, code) in [("0s", 504), ("0", 504), ("1ns", 504), ("10s", 200), ("nonsense", 200), ("", 200)] {
        let request = request(Method::POST, &format!("/mutate?timeout={timeout}"), &[JSON], matching());
        let answer = server.client().await.send(request).await.unwrap();
        assert_eq!(answer.status, code, "{timeout}");
    }
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"late\"}"), 3);
    assert_eq!(server.metric("pullcred_decisions_total{outcome=\"injected\"}"), 3);
}

#[tokio::test]
async fn a_body_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let limits = Limits { body: Duration::from_millis(200), ..Limits::default() };
    let server = Serving::start(&rule("regcred", &["r.io"]), limits).await;
    // Whoever would wait longer may ask again.
    for (query, code, words) in [
        ("", 503, "did not come in time: ask again"),
        ("?timeout=30s", 503, "did not come in time: ask again"),
        ("?timeout=100ms", 504, "the deadline that `timeout` names has passed"),
    ] {
        let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
        let head = format!(
            "POST /mutate{query} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let dribble = tokio::spawn(async move {
            while write.write_all(b" ").await.is_ok() && write.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(words), "{query}: {answer}");
        assert_eq!(answer.contains("retry-after: 1"), code == 503, "{query}: {answer}");
        dribble.await.unwrap();
    }
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"slow_body\"}"), 2);
    assert_eq!(server.metric("pullcred_requests_shed_total{reason=\"late\"}"), 1);
    assert_eq!(server.metric("pullcred_body_bytes_reserved"), 0);
}

/// Sends bytes inside TLS, then ends its side or not, and reads what comes back until the end.
async fn say(server: &Serving, bytes: &[u8], and_end: bool) -> String {
    let mut stream = connect_tls(server.port, trust(&server.authority, &[])).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    if and_end {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_connection_ended() {
    let server = serving().await;
    for (bytes, start) in [
        ("hello\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        ("POST /mutate HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000)), "HTTP/1.1 431 "),
    ] {
        let answer = say(&server, bytes.as_bytes(), false).await;
        assert!(answer.starts_with(start), "{bytes:.40}: {answer}");
    }
    assert_eq!(server.client().await.review(matching()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_ends_early_is_dropped() {
    let server = serving().await;
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    let answer = say(&server, head.as_bytes(), true).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    wait_for("the request to be over", Duration::from_secs(10), async || {
        (server.metric("pullcred_requests_in_flight") == 0 && server.metric("pullcred_body_bytes_reserved") == 0)
            .then_some(())
    })
    .await;
    assert_eq!(server.metric("pullcred_decisions_total{outcome=\"unreadable\"}"), 0);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_in_its_time() {
    let limits = Limits { idle: Duration::from_millis(300), linger: Duration::from_millis(100), ..Limits::default() };
    let server = Serving::start(&rule("regcred", &["r.io"]), limits).await;
    // Never a request; a request and then nothing; a head that does not end.
    assert_eq!(say(&server, b"", false).await, "");
    let mut client = server.client().await;
    assert_eq!(client.review(matching()).await.unwrap().status, 200);
    client.closed().await;
    let answer = say(&server, b"POST /mutate HTTP/1.1\r\nhost:", false).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    wait_for("all to be closed", Duration::from_secs(10), async || {
        (server.metric("pullcred_connections") == 0).then_some(())
    })
    .await;
}
