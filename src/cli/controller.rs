//! `pullcred controller`: where the controller is put together, in one place to read.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::Timestamp;
use kube::{Api, Client};
use rustls::pki_types::DnsName;
use tokio::sync::watch;

use super::Failure;
use super::webhook::{cut_short, open};
use crate::cluster::{Cluster, definitions};
use crate::controller::sources::outside::Outside;
use crate::controller::sources::plugin::Plugins;
use crate::controller::{self, CertificateSeries, Certificates, Election, Lead, Series, Setup};
use crate::pki::rotation::Policy;
use crate::process::accept::Heartbeat;
use crate::process::admin::{self, Admin};
use crate::process::metrics;
use crate::process::readiness::{Condition, Readiness};
use crate::process::shutdown::{Signals, Stage, stages};
use crate::process::tasks::{Ended, Tasks};
use crate::rules::parse_duration;

/// The shortest lease: renewals need time to travel.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// A shorter soak is none: API servers take a second or two to hear of a new `caBundle`.
const SHORTEST_SOAK: Duration = Duration::from_secs(1);

/// Longer than anybody wants, and short enough to be written into a certificate.
const LONGEST_AUTHORITY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The tasks whose ends end the process in good order, one after the other.
const CONTROLLER: &str = "controller";
const CERTIFICATES: &str = "certificates";
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
    /// Who looks after the webhook's certificate: this process, or somebody else
    #[arg(long, env = "PULLCRED_CERTIFICATES", value_enum, default_value = "managed")]
    certificates: Mode,
    /// Secret that the webhook serves
    #[arg(long, env = "PULLCRED_TLS_SECRET", value_name = "NAME", default_value = "pullcred-tls")]
    tls_secret: String,
    /// Secret of the authority, with its key
    #[arg(long, env = "PULLCRED_CA_SECRET", value_name = "NAME", default_value = "pullcred-ca")]
    ca_secret: String,
    /// Service of the webhook, in the release namespace: what the certificate is for
    #[arg(long, env = "PULLCRED_SERVICE", value_name = "NAME", default_value = "pullcred-webhook")]
    service: String,
    /// Further name or address that the certificate is for, where API servers reach the webhook by a URL. May be given several times
    #[arg(long, env = "PULLCRED_EXTRA_NAME", value_name = "NAME", value_parser = parse_name)]
    extra_name: Vec<String>,
    /// Webhook configuration whose caBundle is kept
    #[arg(long, env = "PULLCRED_WEBHOOK_CONFIGURATION", value_name = "NAME", default_value = "pullcred")]
    webhook_configuration: String,
    /// How long an authority lives; another takes over with a third of it left
    #[arg(long, env = "PULLCRED_CA_LIFETIME", value_name = "DURATION", default_value = "8760h", value_parser = parse_duration)]
    ca_lifetime: Duration,
    /// How long a certificate of the webhook lives; it is renewed with a third of it left
    #[arg(long, env = "PULLCRED_LEAF_LIFETIME", value_name = "DURATION", default_value = "720h", value_parser = parse_duration)]
    leaf_lifetime: Duration,
    /// How long a new authority is announced before anything is signed by it: longer than any API server takes to hear of it
    #[arg(long, env = "PULLCRED_SOAK", value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    soak: Duration,
    /// Certificates in PEM to trust for calls to the outside, besides the bundled web roots
    #[arg(long, env = "PULLCRED_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Who looks after the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// This process: authority, leaf and caBundle.
    Managed,
    /// Somebody else: nothing of them is read or written.
    None,
}

/// What to look after, when that is to be done.
struct Managed {
    tls_secret: String,
    ca_secret: String,
    service: String,
    extra_names: Vec<String>,
    configuration: String,
    authority: Duration,
    leaf: Duration,
    soak: Duration,
}

/// What was asked for, read and found good.
struct Input {
    release_namespace: Option<String>,
    admin_listen: Option<SocketAddr>,
    lease_duration: Duration,
    plugins: Option<Plugins>,
    outside: Outside,
    certificates: Option<Managed>,
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
            certificates,
            tls_secret,
            ca_secret,
            service,
            extra_name,
            webhook_configuration,
            ca_lifetime,
            leaf_lifetime,
            soak,
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
        let managed = Managed {
            tls_secret,
            ca_secret,
            service,
            extra_names: extra_name,
            configuration: webhook_configuration,
            authority: ca_lifetime,
            leaf: leaf_lifetime,
            soak,
        };
        let certificates = (certificates == Mode::Managed).then(|| managed.checked()).transpose()?;
        Ok(Input { release_namespace, admin_listen, lease_duration, plugins, outside, certificates })
    }
}

impl Managed {
    /// In the last third of a life there must be time for what replaces it.
    fn checked(self) -> anyhow::Result<Self> {
        let Self { authority, leaf, soak, .. } = &self;
        if *soak < SHORTEST_SOAK {
            return Err(anyhow!("--soak is shorter than {} s", SHORTEST_SOAK.as_secs()));
        }
        if *leaf < *soak * 3 {
            return Err(anyhow!("--leaf-lifetime is shorter than three times --soak"));
        }
        if *authority < *leaf * 2 {
            return Err(anyhow!("--ca-lifetime is shorter than twice --leaf-lifetime"));
        }
        if *authority > LONGEST_AUTHORITY {
            return Err(anyhow!("--ca-lifetime is longer than 100 years"));
        }
        if self.tls_secret == self.ca_secret {
            return Err(anyhow!(
                "--tls-secret and --ca-secret name one Secret: the webhook may not read the authority's key"
            ));
        }
        Ok(self)
    }

    fn look_after(
        self,
        client: Client,
        release_namespace: &str,
        series: CertificateSeries,
        condition: Condition,
    ) -> Certificates {
        let Self { tls_secret, ca_secret, service, extra_names, configuration, authority, leaf, soak } = self;
        let namespace = release_namespace;
        let mut names = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service,
        ];
        names.extend(extra_names);
        Certificates {
            client,
            release_namespace: namespace.to_owned(),
            tls_secret,
            ca_secret,
            configuration,
            policy: Policy { authority, leaf, soak, names },
            clock: Box::new(Timestamp::now),
            series,
            condition,
        }
    }
}

impl Input {
    async fn serve(self) -> Result<(), Failure> {
        let Self { release_namespace, admin_listen, lease_duration, plugins, outside, certificates } = self;
        let mut signals = Signals::take_over().context("cannot wait for signals")?;
        let cluster = Cluster::infer(release_namespace).await.map_err(|error| Failure::Input(error.into()))?;
        let (client, _) = cluster.client()?;
        let release_namespace = cluster.release_namespace;
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
        let compared = readiness.condition("definitions", "");
        let definitions = definitions::follow(client.clone(), compared);
        let certificates = certificates.map(|managed| {
            let condition = readiness.condition("certificates", "");
            condition.met("not looked at yet");
            let series = CertificateSeries::register(&mut registry);
            managed.look_after(client.clone(), &release_namespace, series, condition)
        });
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
        let (lead, leading) = watch::channel(Lead::default());

        let mut tasks = Tasks::default();
        let stop = shutdown.clone();
        let mut writers = vec![CONTROLLER];
        if let Some(certificates) = certificates {
            let (leading, stop) = (leading.clone(), shutdown.clone());
            tasks.run_until_asked(CERTIFICATES, async move {
                certificates.run(leading, stop.reached(Stage::Leaving)).await;
            });
            writers.push(CERTIFICATES);
        }
        tasks.run_until_asked(CONTROLLER, async move {
            controller.run(inbox, leading, stop.reached(Stage::Leaving)).await;
        });
        tasks.run_until_asked(ELECTION, async move { election.run(lead, shutdown.reached(Stage::Draining)).await });
        tasks.run("definitions", definitions);
        tasks.run("admin port", admin::serve(admin_listener, admin::router(Admin { readiness, heartbeat, registry })));
        running.met("since the start");

        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = tasks.next_end() => return Err(ended.into()),
        };
        tracing::info!(signal, "ending: writes under way are finished, then the lead is released");
        running.missing(format!("{signal} came, the process ends"));
        // The lead goes to another only when nothing of ours is under way any more.
        for (stage, mut left) in [(Stage::Leaving, writers), (Stage::Draining, vec![ELECTION])] {
            ending.enter(stage);
            while !left.is_empty() {
                tokio::select! {
                    ended = tasks.next_end() => match ended {
                        Ended::Returned(name) if left.contains(&name) => left.retain(|task| *task != name),
                        ended => return Err(ended.into()),
                    },
                    again = signals.next() => return Err(cut_short(again)),
                }
            }
        }
        tracing::info!("ended");
        Ok(())
    }
}

/// A name or an address in the one form in which a certificate holds it: in another it would never be found there, and the
/// certificate would be renewed without end.
fn parse_name(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bracketed {
        Some(text) => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse().ok(),
    };
    if let Some(address) = address {
        return Ok(address.to_string());
    }
    match DnsName::try_from(text.strip_prefix("*.").unwrap_or(text)) {
        Ok(_) if !text.ends_with('.') => Ok(text.to_ascii_lowercase()),
        _ => {
            Err("neither an IP address nor a DNS name: write the host of the URL, without scheme, port and path"
                .to_owned())
        }
    }
}

/// Another for each process, and readable: the Pod's name, where there is one.
fn identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "pullcred".to_owned());
    format!("{host}_{:x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Certificate};

    #[test]
    fn an_extra_name_is_found_in_the_certificate_that_is_made_for_it() {
        let hour = Duration::from_secs(3600);
        let authority = Authority::make(None, hour, Timestamp::now()).unwrap();
        for (written, name) in [
            ("10.0.0.1", "10.0.0.1"),
            ("FD00::1", "fd00::1"),
            ("fd00:0:0:0::1", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
            ("Webhook.Example.COM", "webhook.example.com"),
            ("*.example.com", "*.example.com"),
            ("localhost", "localhost"),
        ] {
            let names = [parse_name(written).unwrap()];
            assert_eq!(names, [name]);
            let leaf = authority.sign("pullcred webhook", &names, hour, Timestamp::now()).unwrap();
            let [leaf] = &Certificate::read_all(leaf.tls_crt.as_bytes())[..] else { panic!("one certificate") };
            assert!(leaf.is_for(&names), "{written}: {leaf:?}");
        }
        // One that was made with another case is still for the name.
        let names = ["Webhook.Example.COM".to_owned()];
        let leaf = authority.sign("pullcred webhook", &names, hour, Timestamp::now()).unwrap();
        assert!(Certificate::read_all(leaf.tls_crt.as_bytes())[0].is_for(&["webhook.example.com".to_owned()]));
    }

    #[test]
    fn what_no_certificate_can_be_for_is_no_extra_name() {
        for text in [
            "",
            "[fd00::1",
            "fd00::1]",
            "[10.0.0.1]",
            "fd00::1%eth0",
            "10.0.0.256",
            "10.0.0.1:443",
            "[fd00::1]:443",
            "https://a.io",
            "a.io/x",
            "a.io.",
            "a..io",
            "-a.io",
            "ä.io",
            "a.*.io",
            "a io",
        ] {
            assert!(parse_name(text).is_err(), "{text}");
        }
    }
}
