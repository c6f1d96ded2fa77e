//! Authorities that follow one another while the real API server calls: Deployments whose Pods must not be created without their
//! secrets, an API server that is away for longer than a leaf lives, clocks that are wrong, and controllers that all write.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use prometheus_client::registry::Registry;
use pullcred::controller::{CertificateSeries, Certificates, Lead};
use pullcred::pki::Certificate;
use pullcred::pki::rotation::Policy;
use pullcred::process::readiness::Readiness;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::secrets;
use crate::support::program::Webhook;
use crate::support::road::Road;
use crate::support::trust::{CA_SECRET, Release, TLS_SECRET};
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(60);
const YEAR: i64 = 365 * 24 * 3600;

/// API servers hear of a new `caBundle` a second or two later.
const LIVES: [&str; 6] = ["--ca-lifetime", "36s", "--leaf-lifetime", "18s", "--soak", "5s"];

fn for_ever() -> Lead {
    Lead::until(Instant::now() + Duration::from_secs(86_400), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_is_created_without_its_secrets_while_authorities_and_replicas_change() {
    let release = Release::install("trust-pods").await;
    release.register("Fail").await;
    let _controllers = [release.controller(&LIVES).await, release.controller(&LIVES).await];
    release.whole().await;
    let delay = ["--shutdown-delay", "3s"];
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(release.webhook(&delay).ready().await);
    }
    let ports = |replicas: &[Webhook]| replicas.iter().map(|replica| replica.port).collect::<Vec<_>>();
    release.service.hears_of(&ports(&replicas));

    let (label, value) = release.label();
    let namespace = json!({"metadata": {"name": "trust-pods-team", "labels": {label: value}}});
    let namespaces: Api<Namespace> = Api::all(release.client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(release.client.clone(), "trust-pods-team");
    let pods: Api<Pod> = Api::namespaced(release.client.clone(), "trust-pods-team");
    // Whoever trusts nobody yet is not called: the API server has read the configuration once a Pod comes back injected.
    let probe: Pod = serde_json::from_value(
        json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "c", "image": "r.io/app"}]}}),
    )
    .unwrap();
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    wait_for("the webhook to be called", LIMIT, async || {
        let pod = pods.create(&trial, &probe).await.ok()?;
        (secrets(&pod) == ["regcred"]).then_some(())
    })
    .await;

    let mut authorities = vec![release.held(CA_SECRET, "tls.crt").await];
    let (began, mut made, mut rolled) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(80) {
        let name = format!("app-{made}");
        let deployment = json!({"metadata": {"name": name}, "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "r.io/app"}]}},
        }});
        deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
        made += 1;
        if made % 8 == 0 {
            replicas.push(release.webhook(&delay).ready().await);
            let mut old = replicas.remove(0);
            old.signal("TERM");
            release.service.hears_of(&ports(&replicas));
            assert_eq!(old.ended(LIMIT).await.code(), Some(0));
            rolled += 1;
        }
        let authority = release.held(CA_SECRET, "tls.crt").await;
        if authorities.last() != Some(&authority) {
            authorities.push(authority);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let created = wait_for("all Pods to be there", LIMIT, async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        (pods.len() == made * 5).then_some(pods)
    })
    .await;
    let without: Vec<_> = created.iter().filter(|pod| secrets(pod) != ["regcred"]).collect();
    assert!(without.is_empty(), "{} of {} Pods have no secret", without.len(), created.len());
    // `failurePolicy: Fail`: a call that is lost is a creation that the ReplicaSet controller was refused, and an event about it.
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(release.client.clone(), "trust-pods-team");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let refused: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate")).collect();
    assert!(refused.is_empty(), "{refused:?}");
    eprintln!("{} Pods, {} authorities, {rolled} replicas rolled, 0 calls lost", created.len(), authorities.len());
    assert!(authorities.len() >= 3 && rolled >= 3 && created.len() > 100);
    namespaces.delete("trust-pods-team", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_is_away_for_longer_than_a_leaf_lives_is_caught_up_with() {
    let mut release = Release::install("trust-away").await;
    release.register("Fail").await;
    let road = Road::of(&release.installed.controller.kubeconfig).await;
    release.installed.controller.kubeconfig.clone_from(&road.kubeconfig);
    // Neither the leaf nor the authority outlives it.
    let _controller = release.controller(&["--ca-lifetime", "8s", "--leaf-lifetime", "4s", "--soak", "1s"]).await;
    release.whole().await;
    road.cut().await;
    let ends = Certificate::read_all(&release.held(CA_SECRET, "tls.crt").await)[0].ends();
    wait_for("the authority to end", LIMIT, async || (Timestamp::now() > ends).then_some(())).await;
    assert!(!release.is_whole().await);
    road.mend();
    release.whole().await;
    let webhook = release.webhook(&[]).ready().await;
    drop(webhook);
}

/// Somebody who looks after the certificates in this process, with a clock that can be set, and as if it led.
struct Inside {
    ahead: Arc<AtomicI64>,
    registry: Registry,
    lead: watch::Sender<Lead>,
    _task: JoinSet<()>,
}

impl Inside {
    async fn start(release: &Release) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&ahead);
        let mut registry = Registry::default();
        let installed = &release.installed;
        let names = ["127.0.0.1", "localhost"].map(str::to_owned).into_iter();
        let own =
            [format!("{}-webhook.{}.svc", installed.name, installed.namespace), format!("{}-webhook", installed.name)];
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let certificates = Certificates {
            client: installed.controller.client().await,
            release_namespace: installed.namespace.clone(),
            tls_secret: TLS_SECRET.to_owned(),
            ca_secret: CA_SECRET.to_owned(),
            configuration: installed.name.clone(),
            policy: Policy {
                authority: hours(8760),
                leaf: hours(720),
                soak: Duration::from_secs(5),
                names: names.chain(own).collect(),
            },
            clock: Box::new(move || Timestamp::now() + SignedDuration::from_secs(clock.load(Ordering::SeqCst))),
            series: CertificateSeries::register(&mut registry),
            condition: Readiness::default().condition("certificates", ""),
        };
        let (lead, leading) = watch::channel(for_ever());
        let mut task = JoinSet::new();
        task.spawn(certificates.run(leading, std::future::pending()));
        Self { ahead, registry, lead, _task: task }
    }

    /// Sets its clock, and has it look at once, as it does each minute.
    fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
        // It loses the lead, and has it again.
        self.lead.send_replace(Lead::default());
        std::thread::sleep(Duration::from_millis(200));
        self.lead.send_replace(for_ever());
    }

    fn wrote(&self, what: &str) -> u32 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = format!("controller_certificate_writes_total{{what=\"{what}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_start_in_the_same_instant_end_with_one_authority() {
    let release = Release::install("trust-two").await;
    release.register("Fail").await;
    for round in 0..10 {
        for secret in [TLS_SECRET, CA_SECRET] {
            let _ = release.secrets().delete(secret, &DeleteParams::default()).await;
        }
        let both = [Inside::start(&release).await, Inside::start(&release).await];
        release.whole().await;
        let wrote = |what| both.iter().map(|one| one.wrote(what)).collect::<Vec<_>>();
        assert_eq!(wrote("authorities").iter().sum::<u32>(), 1, "round {round}: {:?}", wrote("authorities"));
        assert_eq!(release.held(CA_SECRET, "tls.crt").await, release.held(TLS_SECRET, "ca.crt").await);
        assert_eq!(release.held(CA_SECRET, "tls.crt").await, release.bundle().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_a_year_ahead_or_back_leaves_the_webhook_trusted_all_the_while() {
    let release = Release::install("trust-clocks").await;
    release.register("Fail").await;
    let inside = Inside::start(&release).await;
    release.whole().await;
    let webhook = release.webhook(&[]).ready().await;
    let first = release.held(CA_SECRET, "tls.crt").await;

    inside.set(-YEAR);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(release.held(CA_SECRET, "tls.crt").await, first, "nothing is due for a clock that is behind");

    // Everything looks ended: it is replaced in good order, and whoever trusted a bundle within the last soak is never refused.
    let mut bundles = vec![(Instant::now(), release.bundle().await)];
    inside.set(YEAR);
    wait_for("another authority to have signed", LIMIT, async || {
        let bundle = release.bundle().await;
        if bundles.last().unwrap().1 != bundle {
            bundles.push((Instant::now(), bundle));
        }
        // The one before counts for as long as the soak is, less what asking takes, on however slow a machine.
        let old =
            bundles.iter().rev().nth(1).filter(|_| bundles.last().unwrap().0.elapsed() < Duration::from_millis(1500));
        for (_, bundle) in old.into_iter().chain(bundles.last()) {
            let trust = crate::support::client::trust(bundle, &["http/1.1"]);
            crate::support::client::connect_tls(webhook.port, trust).await.expect("nobody is refused");
        }
        let signed = release.held(TLS_SECRET, "ca.crt").await;
        (signed != first && signed == release.held(CA_SECRET, "tls.crt").await).then_some(())
    })
    .await;
    assert!(bundles.len() >= 2, "{bundles:?}");

    inside.set(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    release.whole().await;
    wait_for("the webhook to serve it", LIMIT, async || {
        let (code, text) = webhook.admin("/readyz").await?;
        (code == 200 && text.contains("[+] trusted") && text.contains("[+] certificate: valid until")).then_some(())
    })
    .await;
}
