//! `pullcred generate`: files that pullcred can make by itself. All but certificates go to standard output.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use super::{Arguments, Failure, dev_certs};
use crate::rules::crds;

#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// The `CustomResourceDefinitions` of both kinds of rules, for `kubectl apply --server-side -f -`
    Crds,
    /// A certificate for localhost, as `pullcred webhook --dev-certs` makes it
    DevCerts {
        /// Where to make ca.crt, tls.crt and tls.key, unless they are there and valid
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// What a shell needs to complete our commands and flags
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The manual page
    Man,
}

impl Generate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut output = Vec::new();
        match self {
            Self::Crds => {
                // JSON is YAML too, and so are several documents of it.
                for crd in crds() {
                    output.extend_from_slice(b"---\n");
                    serde_json::to_writer_pretty(&mut output, &crd)?;
                    output.push(b'\n');
                }
            }
            Self::DevCerts { directory } => {
                dev_certs::ensure(&directory).map_err(Failure::Input)?;
            }
            Self::Completions { shell } => {
                let mut command = Arguments::command();
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut output);
            }
            Self::Man => clap_mangen::Man::new(Arguments::command()).render(&mut output)?,
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&output)?;
        Ok(stdout.flush()?)
    }
}
