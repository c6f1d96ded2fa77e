//! `pullcred oracle`: what the image room makes of references, patterns and docker configs, as JSON lines, so that it can be
//! compared with the kubelet's own code.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::image::{DockerConfig, ImageReference, Keyring, SecretType, matches};

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Question {
    Parse { image: String },
    Lookup { secrets: Vec<Secret>, image: String },
    Match { pattern: String, image: String },
}

#[derive(Debug, Deserialize)]
struct Secret {
    #[serde(rename = "type")]
    kind: String,
    data: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Parse { ok: bool, registry: String, repository: String, tag: String, digest: String },
    Lookup { ok: bool, credentials: Vec<Login> },
    Match { ok: bool, matched: bool },
    Wrong { ok: bool, error: String },
}

#[derive(Debug, Serialize)]
struct Login {
    username: String,
    password: String,
}

/// Answers each line of the input by a line of the output.
///
/// # Errors
/// Where input or output fails, or a line is no question.
pub(super) fn run(input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    for line in input.lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let answer = answer(question).unwrap_or_else(|error| Answer::Wrong { ok: false, error });
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
    }
    Ok(output.flush()?)
}

fn answer(question: Question) -> Result<Answer, String> {
    Ok(match question {
        Question::Parse { image } => {
            let image = ImageReference::parse(&image).map_err(|error| error.to_string())?;
            Answer::Parse {
                ok: true,
                registry: image.registry().to_owned(),
                repository: image.repository().into_owned(),
                tag: image.tag().unwrap_or_default().to_owned(),
                digest: image.digest().unwrap_or_default().to_owned(),
            }
        }
        Question::Match { pattern, image } => {
            let matched = matches(pattern.as_bytes(), image.as_bytes()).map_err(|error| error.to_string())?;
            Answer::Match { ok: true, matched }
        }
        Question::Lookup { secrets, image } => {
            let mut keyring = Keyring::default();
            for secret in secrets.iter().filter(|secret| !secret.data.is_empty()) {
                let Some(kind) = SecretType::parse(&secret.kind) else { continue };
                keyring.add(&DockerConfig::parse(kind, secret.data.as_bytes()).map_err(|error| error.to_string())?);
            }
            let image = ImageReference::parse(&image).map_err(|error| error.to_string())?;
            let login = |entry: &crate::image::Entry| Login {
                username: entry.credential.username().to_owned(),
                password: entry.credential.password().to_owned(),
            };
            Answer::Lookup { ok: true, credentials: keyring.lookup(&image).into_iter().map(login).collect() }
        }
    })
}
