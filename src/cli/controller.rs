//! `pullcred controller`: where the controller is put together, in one place to read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use kube::{Api, Client, Config};
use tokio::sync::watch;

use super::Failure;
use super::webhook::{cut_short, open};
use crate::controller::sources::outside::Outside;
use crate::controller::sources::plugin::Plugins;
use crate::controller::{self, Election, Series, Setup};
use crate::process::accept::Heartbeat;
use crate::process::admin::{self, Admin};
use crate::process::metrics;
use crate::process::readiness::Readiness;
use crate::process::shutdown::{Signals, Stage, stages};
use crate::process::tasks::{Ended, Tasks};
use crate::rules::parse_duration;

/// The shortest lease: renewals need time to travel.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// The tasks whose ends end the process in good order, one after the other.
const CONTROLLER: &str = "controller";
const ELECTION: &str = "election";

#[derive(Debug, Args)]
pub(super) struct Controller {
    /// Namespace that source Secrets are in, and the Lease [default: that of the `ServiceAccount`, or of the kubeconfig's context]
    #[arg(long, env = "PULLCRED_RELEASE_NAMESPACE", value_name = "NAME")]
    release_namespace: Option<String>,
    /// Address to serve /livez, /readyz and /metrics on, in plain HTTP [default: port 8080 of every address]
    #[arg(long, env = "PULLCRED_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// How long a leader that is not heard of stays the leader
    #[arg(long, env = "PULLCRED_LEASE_DURATION", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    lease_duration: Duration,
    /// `CredentialProviderConfig` file, as the kubelet reads it
    #[arg(
        long,
        env = "PULLCRED_CREDENTIAL_PROVIDER_CONFIG",
        value_name = "FILE",
        requires = "credential_provider_bin_dir"
    )]
    credential_provider_config: Option<PathBuf>,
    /// Directory that holds the programs of its plugins
    #[arg(
        long,
        env = "PULLCRED_CREDENTIAL_PROVIDER_BIN_DIR",
        value_name = "DIR",
        requires = "credential_provider_config"
    )]
    credential_provider_bin_dir: Option<PathBuf>,
    /// Certificates in PEM to trust for calls to the outside, besides the bundled web roots
    #[arg(long, env = "PULLCRED_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// What was asked for, read and found good.
struct Input {
    release_namespace: Option<String>,
    admin_listen: Option<SocketAddr>,
    lease_duration: Duration,
    plugins: Option<Plugins>,
    outside: Outside,
}

impl Controller {
    pub(super) fn run(self) -> Result<(), Failure> {
        let input = self.read().map_err(Failure::Input)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        runtime.block_on(input.serve())
    }

    fn read(self) -> anyhow::Result<Input> {
        let Self {
            release_namespace,
            admin_listen,
            lease_duration,
            credential_provider_config,
            credential_provider_bin_dir,
            ca_file,
        } = self;
        if lease_duration < SHORTEST_LEASE {
            return Err(anyhow!("--lease-duration is shorter than {} s", SHORTEST_LEASE.as_secs()));
        }
        let plugins = match (credential_provider_config, credential_provider_bin_dir) {
            (Some(config), Some(directory)) => Some(Plugins::read(&config, &directory).map_err(|findings| {
                let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                anyhow!("--credential-provider-config cannot be used:\n{}", lines.join("\n"))
            })?),
            _ => None,
        };
        let outside = Outside::from_environment(ca_file.as_deref()).context("calls to the outside cannot be made")?;
        Ok(Input { release_namespace, admin_listen, lease_duration, plugins, outside })
    }
}

impl Input {
    async fn serve(self) -> Result<(), Failure> {
        let Self { release_namespace, admin_listen, lease_duration, plugins, outside } = self;
        let mut signals = Signals::take_over().context("cannot wait for signals")?;
        let mut config = Config::infer()
            .await
            .map_err(|error| Failure::Input(anyhow::Error::new(error).context("no cluster is known")))?;
        // An answer that does not come is asked for anew, and a watch says something every minute.
        config.read_timeout = Some(Duration::from_secs(90));
        config.write_timeout = Some(Duration::from_secs(30));
        let release_namespace = release_namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the cluster cannot be called")?;
        let admin_listener = open(admin_listen, admin::PORT, "--admin-listen")?;
        let identity = identity();
        tracing::info!(admin = %admin_listener.local_addr()?, release_namespace, identity, "listening");

        let mut registry = metrics::registry();
        let mut readiness = Readiness::default();
        let heartbeat = Heartbeat::start();
        let running = readiness.condition("running", "not yet");
        let election = Election {
            leases: Api::namespaced(client.clone(), &release_namespace),
            identity,
            duration: lease_duration,
        };
        let (controller, inbox) = controller::Controller::new(Setup {
            client,
            release_namespace,
            plugins,
            outside,
            series: Series::register(&mut registry),
            heartbeat: heartbeat.clone(),
            listed: readiness.condition("listed", "rules, namespaces and Pods are not listed yet"),
        });
        let (ending, shutdown) = stages();
        let (lead, leading) = watch::channel(false);

        let mut tasks = Tasks::default();
        let stop = shutdown.clone();
        tasks.run_until_asked(CONTROLLER, async move {
            controller.run(inbox, leading, stop.reached(Stage::Leaving)).await;
        });
        tasks.run_until_asked(ELECTION, async move { election.run(lead, shutdown.reached(Stage::Draining)).await });
        tasks.run("admin port", admin::serve(admin_listener, admin::router(Admin { readiness, heartbeat, registry })));
        running.met("since the start");

        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = tasks.next_end() => return Err(ended.into()),
        };
        tracing::info!(signal, "ending: writes under way are finished, then the lead is released");
        running.missing(format!("{signal} came, the process ends"));
        // The lead goes to another only when nothing of ours is under way any more.
        for (stage, task) in [(Stage::Leaving, CONTROLLER), (Stage::Draining, ELECTION)] {
            ending.enter(stage);
            tokio::select! {
                ended = tasks.next_end() => match ended {
                    Ended::Returned(name) if name == task => {}
                    ended => return Err(ended.into()),
                },
                again = signals.next() => return Err(cut_short(again)),
            }
        }
        tracing::info!("ended");
        Ok(())
    }
}

/// Another for each process, and readable: the Pod's name, where there is one.
fn identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "pullcred".to_owned());
    format!("{host}_{:x}", RandomState::new().hash_one(std::process::id()))
}
