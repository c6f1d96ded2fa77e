//! `pullcred doctor`: what is wrong with an installation, and how to mend it.

use std::io::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Failure;
use crate::cluster::Cluster;
use crate::doctor::{Family, Setting, examine};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 everything is known to be fine, 1 something is wrong or unknown, 2 usage or input error, or no cluster is reached."
)]
pub(super) struct Doctor {
    /// Where pullcred runs [default: the namespace that the webhook configuration names, else that of the kubeconfig's context]
    #[arg(long, env = "PULLCRED_RELEASE_NAMESPACE", value_name = "NAME")]
    release_namespace: Option<String>,
    /// What the Helm chart calls everything: the webhook configuration, and what NAME-webhook and NAME-controller begin with
    #[arg(long, env = "PULLCRED_NAME", value_name = "NAME", default_value = "pullcred")]
    name: String,
    /// Where a dry-run Pod is asked for; nothing is created
    #[arg(long, short, env = "PULLCRED_NAMESPACE", value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Image of the dry-run Pod [default: one that a rule covers which serves the namespace]
    #[arg(long, env = "PULLCRED_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    /// Check only this. May be given several times, or with commas
    #[arg(long, env = "PULLCRED_ONLY", value_name = "FAMILY", value_enum, value_delimiter = ',')]
    only: Vec<Family>,
    /// How the answer looks
    #[arg(long, env = "PULLCRED_FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        runtime.block_on(self.examine())
    }

    async fn examine(self) -> Result<(), Failure> {
        let Self { release_namespace, name, namespace, image, only, format } = self;
        let cluster = Cluster::infer(None).await.map_err(|error| Failure::Input(error.into()))?;
        let (client, _) = cluster.client().map_err(|error| Failure::Input(error.into()))?;
        let own_namespace = cluster.release_namespace;
        let setting = Setting { name, release_namespace, own_namespace, namespace, image };
        let families = if only.is_empty() { Family::ALL } else { &only };
        let report = examine(client, setting, families).await.map_err(|error| Failure::Input(error.into()))?;

        let mut output = anstream::stdout().lock();
        match format {
            Format::Text => write!(output, "{report}")?,
            Format::Json => writeln!(output, "{}", serde_json::to_string_pretty(&report)?)?,
        }
        output.flush()?;
        if report.is_fine() { Ok(()) } else { Err(Failure::Findings) }
    }
}
