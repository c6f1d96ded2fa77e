//! The commands, one file each, and what they have in common: arguments, exit codes, and how an error is told.

mod controller;
mod dev_certs;
mod doctor;
mod generate;
mod match_images;
mod oracle;
mod webhook;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::process::logs;

/// Something is wrong with what was asked for, or with the input: exit code 2.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "pullcred", version, about, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 fine, 1 findings or failure, 2 usage or input error.")]
struct Arguments {
    #[command(flatten)]
    logs: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct LogArguments {
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, global = true, env = "PULLCRED_LOG_FORMAT", value_enum)]
    log_format: Option<logs::Format>,
    /// Which log lines there are: a level, or directives such as `info,pullcred::webhook=debug`
    #[arg(long, global = true, env = "PULLCRED_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve AdmissionReviews over HTTPS
    Webhook(webhook::Webhook),
    /// Put pull secrets into the namespaces that need them
    Controller(controller::Controller),
    /// Say which rules and which credentials cover an image, in order, and what nearly does
    Match(match_images::Match),
    /// Say what is wrong with an installation, and how to mend it
    Doctor(doctor::Doctor),
    /// Make files: definitions for the Kubernetes API, certificates, completions, a manual page
    #[command(subcommand)]
    Generate(generate::Generate),
    /// Answer questions about images and credentials, as JSON lines
    #[command(hide = true)]
    Oracle,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// What was asked for, or the input, is wrong: exit code 2.
    Input(anyhow::Error),
    /// It went wrong: exit code 1.
    Fault(anyhow::Error),
    /// The answer, which is told already, is not the good one: exit code 1.
    Findings,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// Runs the command that the arguments name, and gives the exit code: 0 fine, 1 findings or failure, 2 usage or input error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return match error.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ if asked_for => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    let result = match logs::start(arguments.logs.log_format, &arguments.logs.log_level) {
        Ok(()) => match arguments.command {
            Command::Webhook(webhook) => webhook.run(),
            Command::Controller(controller) => controller.run(),
            Command::Match(images) => images.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Generate(generate) => generate.run(),
            Command::Oracle => {
                oracle::run(io::stdin().lock(), io::BufWriter::new(io::stdout().lock())).map_err(Failure::Input)
            }
        },
        Err(error) => Err(Failure::Input(anyhow::Error::new(error).context("--log-level"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Findings) => ExitCode::FAILURE,
        Err(Failure::Input(error)) => tell(&error, USAGE),
        Err(Failure::Fault(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Fault(error)) => tell(&error, 1),
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

fn tell(error: &anyhow::Error, code: u8) -> ExitCode {
    // Where standard error is gone, the exit code has to do.
    let _ = writeln!(io::stderr(), "pullcred: {error:#}");
    ExitCode::from(code)
}
