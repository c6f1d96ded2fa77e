//! `pullcred webhook`: where the server is put together, in one place to read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::net::TcpListener;

use super::{Failure, dev_certs};
use crate::process::accept::{Heartbeat, listen};
use crate::process::admin::{self, Admin};
use crate::process::readiness::Readiness;
use crate::process::rule_files::RuleFiles;
use crate::process::shutdown::{Signals, Stage, stages};
use crate::process::tasks::{Ended, Tasks};
use crate::process::{files, metrics};
use crate::rules::{Documents, parse_duration};
use crate::webhook::{
    Certificates, Following, Limits, LiveRules, PairFiles, PairPaths, Routes, Series, Server, ServingPair, router, tls,
};

/// The port that private GKE clusters let the control plane reach on nodes.
const PORT: u16 = 10250;

/// The task whose end ends the process in good order.
const SERVER: &str = "https server";

#[derive(Debug, Args)]
pub(super) struct Webhook {
    /// File or directory of rule documents; re-read on change. May be given several times
    #[arg(long, env = "PULLCRED_RULES", value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Address to serve HTTPS on [default: port 10250 of every address]
    #[arg(long, env = "PULLCRED_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address to serve /livez, /readyz and /metrics on, in plain HTTP [default: port 8080 of every address]
    #[arg(long, env = "PULLCRED_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Certificate chain in PEM; re-read on change
    #[arg(long, env = "PULLCRED_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key in PEM; re-read on change
    #[arg(long, env = "PULLCRED_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Directory with a certificate for localhost; made there if missing or expired
    #[arg(long, env = "PULLCRED_DEV_CERTS", value_name = "DIR", conflicts_with_all = ["tls_cert", "tls_key"])]
    dev_certs: Option<PathBuf>,
    /// How long to go on serving after SIGTERM, until every API server has heard of it
    #[arg(long, env = "PULLCRED_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    shutdown_delay: Duration,
}

/// What was asked for, read and found good.
struct Input {
    rules: Vec<PathBuf>,
    rule_files: RuleFiles,
    documents: Documents,
    pair_paths: PairPaths,
    pair_files: PairFiles,
    pair: ServingPair,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    shutdown_delay: Duration,
}

impl Webhook {
    pub(super) fn run(self) -> Result<(), Failure> {
        let input = self.read().map_err(Failure::Input)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        runtime.block_on(input.serve())
    }

    fn read(self) -> anyhow::Result<Input> {
        let Self { rules, listen, admin_listen, tls_cert, tls_key, dev_certs, shutdown_delay } = self;
        if rules.is_empty() {
            return Err(anyhow!("rules from the Kubernetes API are not available yet: name files with --rules PATH"));
        }
        let rule_files = RuleFiles::read(&rules);
        let documents = rule_files.documents().map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            anyhow!("the rules cannot be used ({} findings):\n{}", lines.len(), lines.join("\n"))
        })?;
        let pair_paths = match (tls_cert, tls_key, dev_certs) {
            (Some(certificate), Some(key), _) => PairPaths { certificate, key },
            (_, _, Some(directory)) => dev_certs::ensure(&directory)?,
            _ => {
                return Err(anyhow!("a certificate is needed: --tls-cert FILE and --tls-key FILE, or --dev-certs DIR"));
            }
        };
        let pair_files = pair_paths.read();
        let pair = ServingPair::new(&pair_files).context("the certificate cannot be served")?;
        Ok(Input { rules, rule_files, documents, pair_paths, pair_files, pair, listen, admin_listen, shutdown_delay })
    }
}

impl Input {
    async fn serve(self) -> Result<(), Failure> {
        let Self { rules, rule_files, documents, pair_paths, pair_files, pair, listen, admin_listen, shutdown_delay } =
            self;
        let mut signals = Signals::take_over().context("cannot wait for signals")?;
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

        let following = Following {
            rules: live.clone(),
            condition: readiness.condition("rules", "not read yet"),
            series: series.clone(),
        };
        following.load(documents);
        let certificates = Arc::new(Certificates::new(pair));
        let certificate = readiness.condition("certificate", "not looked at yet");
        let routes = Routes::new(live, series.clone(), shutdown.clone(), &limits, &mut registry);
        let server = Server {
            tls: tls(Arc::clone(&certificates))?,
            router: router(routes),
            series: series.clone(),
            shutdown,
            limits,
            heartbeat: heartbeat.clone(),
        };

        let mut tasks = Tasks::default();
        tasks.run("rule files", following.follow(rules, rule_files));
        tasks.run("certificate files", async move {
            certificates.follow(pair_paths, pair_files, certificate, series).await
        });
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
