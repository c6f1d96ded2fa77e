//! The admin port: whether it lives, whether it is ready and what is missing, and what it counts.

use super::injects::rule;
use crate::support::program::Webhook;

#[tokio::test]
async fn readiness_names_its_conditions() {
    let webhook = Webhook::start(&rule("regcred", &["r.io"]), &[]).await;
    for path in ["/readyz", "/readyz?verbose"] {
        let (status, body) = webhook.admin(path).await.unwrap();
        let [serving, rules, certificate, ready] = body.lines().collect::<Vec<_>>()[..] else { panic!("{body}") };
        assert_eq!((status, ready), (200, "ready"));
        assert_eq!(serving, format!("[+] serving: on 127.0.0.1:{}", webhook.port));
        assert_eq!(rules, "[+] rules: 1 in force");
        assert!(certificate.starts_with("[+] certificate: valid until 20"), "{certificate}");
    }
    assert_eq!(webhook.admin("/livez").await.unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(webhook.admin("/mutate").await.unwrap().0, 404);
}

#[tokio::test]
async fn the_series_are_those_that_are_documented() {
    let webhook = Webhook::start(&rule("regcred", &["r.io"]), &[]).await;
    let (status, metrics) = webhook.admin("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.ends_with("# EOF\n"));
    let mut served: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let documentation = include_str!("../../docs/webhook.md");
    let mut documented: Vec<&str> =
        documentation.lines().filter_map(|line| line.strip_prefix("| `pullcred_")?.split(['`', '{']).next()).collect();
    served.sort_unstable();
    documented.sort_unstable();
    let documented: Vec<String> = documented.iter().map(|name| format!("pullcred_{name}")).collect();
    // Counters are documented as they are queried.
    let served: Vec<String> = served
        .into_iter()
        .map(|name| {
            let total = format!("{name}_total");
            let info = format!("{name}_info");
            let is = |sample: &str| {
                metrics
                    .lines()
                    .any(|line| line.starts_with(&format!("{sample}{{")) || line.starts_with(&format!("{sample} ")))
            };
            if is(&total) {
                total
            } else if is(&info) {
                info
            } else {
                name.to_owned()
            }
        })
        .collect();
    assert_eq!(served, documented);
}
