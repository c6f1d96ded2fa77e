//! `pullcred webhook`: where the server is put together, in one place to read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use kube::Api;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Failure, dev_certs};
use crate::cluster::{Cluster, WhenDenied, definitions, named, watch};
use crate::process::accept::{Heartbeat, listen};
use crate::process::admin::{self, Admin};
use crate::process::readiness::Readiness;
use crate::process::rule_files::RuleFiles;
use crate::process::shutdown::{Signals, Stage, stages};
use crate::process::tasks::{Ended, Tasks};
use crate::process::{files, metrics};
use crate::rules::{Documents, parse_duration};
use crate::webhook::{
    Certificates, Following, FollowingApi, FollowingPair, FollowingTrust, Limits, LiveRules, PairFiles, PairPaths,
    Routes, Series, Server, ServingPair, tls,
};

/// The port that private GKE clusters let the control plane reach on nodes.
const PORT: u16 = 10250;

/// Most threads that answer requests. One answers more than 10,000 a second, and each may hold, beside the bodies that are
/// set aside, what it reads of one: so the bound of memory holds on machines with many cores.
const THREADS: usize = 4;

/// The task whose end ends the process in good order.
const SERVER: &str = "https server";

#[derive(Debug, Args)]
#[allow(clippy::struct_field_names, reason = "fields are called as their flags are")]
pub(super) struct Webhook {
    /// File or directory of rule documents; re-read on change. May be given several times [default: the Kubernetes API]
    #[arg(long, env = "PULLCRED_RULES", value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Namespace of --tls-secret [default: that of the `ServiceAccount`, or of the kubeconfig's context]
    #[arg(long, env = "PULLCRED_RELEASE_NAMESPACE", value_name = "NAME")]
    release_namespace: Option<String>,
    /// Address to serve HTTPS on [default: port 10250 of every address]
    #[arg(long, env = "PULLCRED_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address to serve /livez, /readyz and /metrics on, in plain HTTP [default: port 8080 of every address]
    #[arg(long, env = "PULLCRED_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Secret of type kubernetes.io/tls to serve; followed on change
    #[arg(long, env = "PULLCRED_TLS_SECRET", value_name = "NAME", conflicts_with_all = ["tls_cert", "tls_key", "dev_certs"])]
    tls_secret: Option<String>,
    /// Certificate chain in PEM; re-read on change
    #[arg(long, env = "PULLCRED_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key in PEM; re-read on change
    #[arg(long, env = "PULLCRED_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Directory with a certificate for localhost; made there if missing or expired
    #[arg(long, env = "PULLCRED_DEV_CERTS", value_name = "DIR", conflicts_with_all = ["tls_cert", "tls_key"])]
    dev_certs: Option<PathBuf>,
    /// Webhook configuration that must trust the certificate, if it is there, before the process is ready for the first time
    #[arg(long, env = "PULLCRED_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    webhook_configuration: Option<String>,
    /// How long to go on serving after SIGTERM, until every API server has heard of it
    #[arg(long, env = "PULLCRED_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    shutdown_delay: Duration,
}

/// What to do where there is no cluster.
const FROM_THE_API: &str = "without --rules PATH, or with --tls-secret or --webhook-configuration, a cluster is needed";

/// Whoever asks for what is in the API has found the cluster before.
const NO_CLUSTER: &str = "no cluster is known";

/// What was asked for, read and found good.
struct Input {
    rules: Rules,
    pair: Pair,
    release_namespace: Option<String>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    webhook_configuration: Option<String>,
    shutdown_delay: Duration,
}

/// Where rules come from.
enum Rules {
    Files { paths: Vec<PathBuf>, files: RuleFiles, documents: Documents },
    Api,
}

/// Where the certificate comes from.
enum Pair {
    Files { paths: PairPaths, files: PairFiles, pair: ServingPair },
    Secret(String),
}

impl Webhook {
    pub(super) fn run(self) -> Result<(), Failure> {
        let input = self.read().map_err(Failure::Input)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .context("cannot start threads")?;
        runtime.block_on(input.serve())
    }

    fn read(self) -> anyhow::Result<Input> {
        let Self {
            rules,
            release_namespace,
            listen,
            admin_listen,
            tls_secret,
            tls_cert,
            tls_key,
            dev_certs,
            webhook_configuration,
            shutdown_delay,
        } = self;
        let rules = if rules.is_empty() { Rules::Api } else { read_rules(rules)? };
        let pair = match (tls_secret, tls_cert, tls_key, dev_certs) {
            (Some(name), ..) => Pair::Secret(name),
            (_, Some(certificate), Some(key), _) => read_pair(PairPaths { certificate, key })?,
            (.., Some(directory)) => read_pair(dev_certs::ensure(&directory)?)?,
            _ => {
                return Err(anyhow!(
                    "a certificate is needed: --tls-secret NAME, --tls-cert FILE and --tls-key FILE, or --dev-certs DIR"
                ));
            }
        };
        Ok(Input { rules, pair, release_namespace, listen, admin_listen, webhook_configuration, shutdown_delay })
    }
}

impl Rules {
    fn follow(
        self,
        following: Following,
        cluster: Option<&Cluster>,
        readiness: &mut Readiness,
        tasks: &mut Tasks,
    ) -> Result<(), Failure> {
        match self {
            Self::Files { paths, files, documents } => {
                following.load(documents);
                tasks.run("rule files", following.follow(paths, files));
            }
            Self::Api => {
                let cluster = cluster.context(NO_CLUSTER)?;
                let following = FollowingApi::start(following, cluster, tasks)?;
                tasks.run("rules", following.follow());
                let (client, _) = cluster.client()?;
                tasks.run("definitions", definitions::follow(client, readiness.condition("definitions", "")));
            }
        }
        Ok(())
    }
}

impl Pair {
    fn follow(self, following: FollowingPair, cluster: Option<&Cluster>, tasks: &mut Tasks) -> Result<(), Failure> {
        match self {
            Self::Files { paths, files, pair } => {
                following.certificates.serve(pair);
                tasks.run("certificate files", following.follow_files(paths, files));
            }
            Self::Secret(name) => {
                let cluster = cluster.context(NO_CLUSTER)?;
                let (out, changes) = mpsc::channel(16);
                let api = Api::namespaced(cluster.client()?.0, &cluster.release_namespace);
                let watching = watch(api, named(&name), WhenDenied::TryAgain, out, |change| change);
                tasks.run_until_asked("watch of the certificate", watching);
                let place = format!("{}/{name}", cluster.release_namespace);
                tasks.run("certificate", following.follow_secret(place, changes));
            }
        }
        Ok(())
    }
}

fn follow_trust(following: FollowingTrust, cluster: Option<&Cluster>, tasks: &mut Tasks) -> Result<(), Failure> {
    let (out, changes) = mpsc::channel(16);
    let api = Api::all(cluster.context(NO_CLUSTER)?.client()?.0);
    let watching = watch(api, named(&following.name), WhenDenied::TryAgain, out, |change| change);
    tasks.run_until_asked("watch of the webhook configuration", watching);
    tasks.run("trust", following.follow(changes));
    Ok(())
}

fn read_rules(paths: Vec<PathBuf>) -> anyhow::Result<Rules> {
    let files = RuleFiles::read(&paths);
    let documents = files.documents().map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow!("the rules cannot be used ({} findings):\n{}", lines.len(), lines.join("\n"))
    })?;
    Ok(Rules::Files { paths, files, documents })
}

fn read_pair(paths: PairPaths) -> anyhow::Result<Pair> {
    let files = paths.read();
    let pair = ServingPair::new(&files).context("the certificate cannot be served")?;
    Ok(Pair::Files { paths, files, pair })
}

impl Input {
    async fn serve(self) -> Result<(), Failure> {
        let Self { rules, pair, release_namespace, listen, admin_listen, webhook_configuration, shutdown_delay } = self;
        let mut signals = Signals::take_over().context("cannot wait for signals")?;
        let cluster = match (&rules, &pair, &webhook_configuration) {
            (Rules::Files { .. }, Pair::Files { .. }, None) => None,
            _ => Some(Cluster::infer(release_namespace).await.context(FROM_THE_API).map_err(Failure::Input)?),
        };
        let listener = open(listen, PORT, "--listen")?;
        let admin_listener = open(admin_listen, admin::PORT, "--admin-listen")?;
        let address = listener.local_addr()?;
        tracing::info!(https = %address, admin = %admin_listener.local_addr()?, "listening");

        let mut registry = metrics::registry();
        let mut readiness = Readiness::default();
        let serving = readiness.condition("serving", "not yet");
        let series = Series::register(&mut registry);
        let live = LiveRules::default();
        registry.register_collector(Box::new(live.clone()));
        let (ending, shutdown) = stages();
        let heartbeat = Heartbeat::start();
        let limits = files::descriptors().map_or_else(Limits::default, |most| Limits::default().within(most));

        let mut tasks = Tasks::default();
        let following = Following {
            rules: live.clone(),
            condition: readiness.condition("rules", "not read yet"),
            series: series.clone(),
        };
        rules.follow(following, cluster.as_ref(), &mut readiness, &mut tasks)?;
        let certificates = Arc::new(Certificates::default());
        let following = FollowingPair {
            certificates: Arc::clone(&certificates),
            condition: readiness.condition("certificate", "not looked at yet"),
            series: series.clone(),
        };
        pair.follow(following, cluster.as_ref(), &mut tasks)?;
        if let Some(name) = webhook_configuration {
            let following = FollowingTrust {
                certificates: Arc::clone(&certificates),
                others: readiness.clone(),
                condition: readiness.condition("trusted", "not looked at yet"),
                name,
                series: series.clone(),
            };
            follow_trust(following, cluster.as_ref(), &mut tasks)?;
        }
        let routes = Routes::new(live, series.clone(), shutdown.clone(), &limits, &mut registry);
        let server = Server { tls: tls(certificates)?, routes, series, shutdown, limits, heartbeat: heartbeat.clone() };
        tasks.run("admin port", admin::serve(admin_listener, admin::router(Admin { readiness, heartbeat, registry })));
        tasks.run_until_asked(SERVER, server.run(listener));
        serving.met(format!("on {address}"));

        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = tasks.next_end() => return Err(ended.into()),
        };
        tracing::info!(
            signal,
            delay_seconds = shutdown_delay.as_secs_f64(),
            "ending: not ready, and serving until the delay is over"
        );
        serving.missing(format!("{signal} came, the process ends"));
        ending.enter(Stage::Leaving);
        tokio::select! {
            () = tokio::time::sleep(shutdown_delay) => {}
            again = signals.next() => return Err(cut_short(again)),
            ended = tasks.next_end() => return Err(ended.into()),
        }
        ending.enter(Stage::Draining);
        tokio::select! {
            ended = tasks.next_end() => match ended {
                Ended::Returned(SERVER) => {}
                ended => return Err(ended.into()),
            },
            again = signals.next() => return Err(cut_short(again)),
        }
        tracing::info!("ended");
        Ok(())
    }
}

pub(super) fn cut_short(signal: &str) -> Failure {
    Failure::Fault(anyhow!("{signal} came again: ended at once"))
}

pub(super) fn open(address: Option<SocketAddr>, default_port: u16, flag: &str) -> Result<TcpListener, Failure> {
    listen(address, default_port).map_err(|error| {
        let shown = address.map_or_else(|| format!("port {default_port}"), |address| address.to_string());
        Failure::Input(
            anyhow::Error::new(error).context(format!("cannot listen on {shown} (choose another with {flag})")),
        )
    })
}
