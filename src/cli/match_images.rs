//! `pullcred match`: which rules and which credentials cover an image, in the order in which Pods get them and the kubelet
//! tries them, and why what looks right is not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use crate::image::{
    DockerConfig, ImageReference, Keyring, SecretType, Specificity, key_near_miss, pattern_near_miss, shown_key,
};
use crate::process::rule_files::RuleFiles;
use crate::rules::{Documents, Labels, Mode, Rule, RuleKind, RuleSet};

/// Most near misses that are told of one image to a person.
const NEAR_MISSES: usize = 10;

/// Largest docker config: what a Secret can hold is 1 MiB, and its manifest a third more.
const CONFIG_BYTES: u64 = 4 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 what was asked covers every image, 1 something is not covered, 2 usage or input error."
)]
pub(super) struct Match {
    /// File or directory of rule documents. May be given several times
    #[arg(long, env = "PULLCRED_RULES", value_name = "PATH", required_unless_present = "docker_config")]
    rules: Vec<PathBuf>,
    /// Docker config, or a Secret of one as `kubectl get secret NAME -o json` prints it; several in the order of the Pod's list
    #[arg(long, env = "PULLCRED_DOCKER_CONFIG", value_name = "FILE")]
    docker_config: Vec<PathBuf>,
    /// The namespace of the Pods
    #[arg(long, short, env = "PULLCRED_NAMESPACE", value_name = "NAME", default_value = "default")]
    namespace: String,
    /// How the answer looks
    #[arg(long, env = "PULLCRED_FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Images as Pods name them; `-` reads them from standard input, one a line
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Match {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { rules, docker_config, namespace, format, images } = self;
        let images = read_images(images).map_err(Failure::Input)?;
        let rules = (!rules.is_empty()).then(|| Rules::read(&rules, &namespace)).transpose().map_err(Failure::Input)?;
        let configs = (!docker_config.is_empty()).then(|| Configs::read(&docker_config)).transpose();
        let configs = configs.map_err(Failure::Input)?;
        let answers = images.iter().map(|image| answer(image, rules.as_ref(), configs.as_ref())).collect();
        let answer = Answers { namespace, images: answers };

        let mut output = anstream::stdout().lock();
        match format {
            Format::Text => write!(output, "{answer}")?,
            Format::Json => writeln!(output, "{}", serde_json::to_string_pretty(&answer)?)?,
        }
        output.flush()?;
        let unreadable: Vec<&str> =
            answer.images.iter().filter(|image| image.error.is_some()).map(|image| image.image.as_str()).collect();
        if let [first, ..] = unreadable[..] {
            let more = unreadable.len() - 1;
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            return Err(Failure::Input(anyhow!("`{}` is no image reference{more}", first.escape_debug())));
        }
        if answer.images.iter().all(Answer::is_covered) { Ok(()) } else { Err(Failure::Findings) }
    }
}

fn read_images(arguments: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut images = Vec::new();
    for argument in arguments {
        if argument == "-" {
            for line in io::stdin().lock().lines() {
                let line = line.context("standard input cannot be read as lines of text")?;
                images.extend(Some(line.trim().to_owned()).filter(|line| !line.is_empty()));
            }
        } else {
            images.push(argument);
        }
    }
    if images.is_empty() {
        bail!("there are no images: standard input, which `-` reads, has none; write one a line");
    }
    Ok(images)
}

/// The rules, as the namespace sees them.
struct Rules {
    set: RuleSet,
    namespace: String,
    labels: Labels,
}

impl Rules {
    fn read(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Self> {
        let Documents { rules, mut namespaces } = RuleFiles::read(paths).documents().map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            anyhow!("the rules cannot be used ({} findings):\n{}", lines.len(), lines.join("\n"))
        })?;
        let labels = namespaces.remove(namespace).unwrap_or_default();
        Ok(Self { set: RuleSet::compile(rules), namespace: namespace.to_owned(), labels })
    }

    fn serves(&self, rule: &Rule) -> bool {
        rule.serves(&self.namespace, Some(&self.labels)) == Some(true)
    }

    /// The rules that cover the image here, in the order in which a Pod gets their Secrets; the narrowest pattern of each.
    fn matching(&self, image: &ImageReference<'_>) -> Vec<RuleMatch> {
        let mut found: Vec<(usize, Specificity)> = Vec::new();
        let mut patterns = Vec::new();
        self.set.matching(image, &self.namespace, |place, pattern| {
            if self.serves(&self.set.rules()[place]) {
                found.push((place, pattern.specificity()));
                patterns.push((place, pattern));
            }
        });
        self.set.sort_by_rank(&mut found);
        let mut matches: Vec<RuleMatch> = Vec::new();
        for (place, specificity) in found {
            let rule = &self.set.rules()[place];
            let of_this = |known: &&RuleMatch| known.rule == rule.id().to_string();
            let pattern = patterns.iter().find(|(of, pattern)| *of == place && pattern.specificity() == specificity);
            if let (None, Some((_, pattern))) = (matches.iter().find(of_this), pattern) {
                matches.push(RuleMatch {
                    rule: rule.id().to_string(),
                    pattern: pattern.to_string(),
                    secret: rule.secret_name().to_owned(),
                    mode: rule.mode(),
                });
            }
        }
        matches
    }

    /// Rules that cover the image elsewhere, and patterns that nearly do, of rules that do not cover it.
    fn near_misses(&self, image: &ImageReference<'_>, matches: &[RuleMatch]) -> Vec<NearMiss> {
        let mut misses = Vec::new();
        for rule in self.set.rules() {
            let name = rule.id().to_string();
            if matches.iter().any(|found| found.rule == name) {
                continue;
            }
            for pattern in rule.patterns() {
                let why = if pattern.covers(image) {
                    Some(self.not_here(rule))
                } else {
                    pattern_near_miss(pattern, image).map(|miss| miss.to_string())
                };
                let near = |why| NearMiss { of: Of::Rule { rule: name.clone(), pattern: pattern.to_string() }, why };
                misses.extend(why.map(near));
            }
        }
        misses
    }

    fn not_here(&self, rule: &Rule) -> String {
        match (rule.id().kind, &rule.id().namespace) {
            (RuleKind::PullSecret, Some(namespace)) => {
                format!("it serves the namespace `{namespace}` only, and this is `{}`", self.namespace)
            }
            _ => format!(
                "its namespaceSelector does not select `{}`{}",
                self.namespace,
                if self.labels.is_empty() {
                    ", of which the files tell no labels: add its Namespace document to them if it has some"
                } else {
                    ""
                }
            ),
        }
    }
}

/// The docker configs, as the kubelet puts them together.
struct Configs {
    keyring: Keyring,
    /// Each with the file that it came from.
    configs: Vec<(String, DockerConfig)>,
}

impl Configs {
    fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let (mut keyring, mut configs) = (Keyring::default(), Vec::new());
        for path in paths {
            let file = path.display().to_string();
            let config = read_config(path).map_err(|error| anyhow!("{file}: {error}"))?;
            keyring.add(&config);
            configs.push((file, config));
        }
        Ok(Self { keyring, configs })
    }

    fn credentials(&self, image: &ImageReference<'_>) -> Vec<Credential> {
        let tell = |entry: &crate::image::Entry| Credential {
            config: self.configs[entry.config].0.clone(),
            key: shown_key(&entry.key).into_owned(),
            empty: entry.credential.is_empty(),
        };
        self.keyring.lookup(image).into_iter().map(tell).collect()
    }

    fn near_misses(&self, image: &ImageReference<'_>, credentials: &[Credential]) -> Vec<NearMiss> {
        let mut misses = Vec::new();
        for (file, config) in &self.configs {
            for (key, _) in config.entries() {
                if !credentials.iter().any(|known| known.config == *file && known.key == shown_key(key))
                    && let Some(miss) = key_near_miss(key, image)
                {
                    let of = Of::Key { config: file.clone(), key: shown_key(key).into_owned() };
                    misses.push(NearMiss { of, why: miss.to_string() });
                }
            }
        }
        misses
    }
}

/// What an object of Kubernetes has, and a docker config has not.
#[derive(Deserialize)]
struct Object {
    kind: Value,
}

/// A Secret, as far as it matters here. `data` is base64.
#[derive(Deserialize)]
struct Secret {
    #[serde(rename = "type")]
    of: Option<String>,
    data: Option<BTreeMap<String, String>>,
}

fn read_config(path: &Path) -> anyhow::Result<DockerConfig> {
    // Pipes are welcome: `kubectl get secret NAME -o json | pullcred match --docker-config /dev/stdin IMAGE`.
    let mut text = Vec::new();
    File::open(path)?.take(CONFIG_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES {
        bail!("it is larger than {} MiB", CONFIG_BYTES >> 20);
    }
    match serde_json::from_slice::<Object>(&text) {
        Err(_) => parse(SecretType::DockerConfigJson, &text),
        Ok(Object { kind }) if kind == "Secret" => read_secret(&text),
        Ok(Object { kind }) => bail!(
            "its kind is `{}`: pass one Secret, as `kubectl get secret NAME -o json` prints it, or a docker config",
            kind.as_str().unwrap_or_default().escape_debug()
        ),
    }
}

fn read_secret(text: &[u8]) -> anyhow::Result<DockerConfig> {
    // What serde says would quote what is in it.
    let Ok(Secret { of, data }) = serde_json::from_slice(text) else {
        bail!("the Secret cannot be read: `type` must be text, and `data` an object of base64 texts");
    };
    let of = of.unwrap_or_default();
    let Some(kind) = SecretType::parse(&of) else {
        bail!("the kubelet passes over a Secret of type `{of}`: it must be `kubernetes.io/dockerconfigjson`");
    };
    let (key, data) = (kind.data_key(), data.unwrap_or_default());
    let data = data
        .get(key)
        .ok_or_else(|| anyhow!("the Secret has no `{key}` under `data`, and the kubelet passes over it"))?;
    let data = BASE64_STANDARD.decode(data).map_err(|_| anyhow!("`{key}` of the Secret is not base64"))?;
    parse(kind, &data)
}

fn parse(kind: SecretType, data: &[u8]) -> anyhow::Result<DockerConfig> {
    DockerConfig::parse(kind, data)
        .map_err(|error| anyhow!("{error}; a Pod that lists such a Secret gets no credential for any of its images"))
}

fn answer(text: &str, rules: Option<&Rules>, configs: Option<&Configs>) -> Answer {
    let mut answer = Answer { image: text.to_owned(), ..Answer::default() };
    let image = match ImageReference::parse(text) {
        Ok(image) => image,
        Err(error) => {
            answer.error = Some(error.to_string());
            return answer;
        }
    };
    answer.reference = Some(image.to_string());
    if let Some(rules) = rules {
        let matches = rules.matching(&image);
        answer.near_misses = rules.near_misses(&image, &matches);
        let mut secrets: Vec<String> = Vec::new();
        for found in matches.iter().filter(|found| found.mode == Mode::Inject) {
            if !secrets.contains(&found.secret) {
                secrets.push(found.secret.clone());
            }
        }
        answer.secrets = Some(secrets);
        answer.rules = Some(matches);
    }
    if let Some(configs) = configs {
        let credentials = configs.credentials(&image);
        answer.near_misses.extend(configs.near_misses(&image, &credentials));
        answer.credentials = Some(credentials);
    }
    answer
}

/// What is told; as JSON, a documented shape (docs/matching.md).
#[derive(Debug, Serialize)]
struct Answers {
    namespace: String,
    images: Vec<Answer>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<RuleMatch>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<Vec<Credential>>,
    near_misses: Vec<NearMiss>,
}

impl Answer {
    fn is_covered(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| !rules.is_empty())
            && self.credentials.as_ref().is_none_or(|credentials| !credentials.is_empty())
    }
}

#[derive(Debug, Serialize)]
struct RuleMatch {
    rule: String,
    pattern: String,
    secret: String,
    mode: Mode,
}

#[derive(Debug, Serialize)]
struct Credential {
    config: String,
    key: String,
    /// Neither user name nor password.
    empty: bool,
}

#[derive(Debug, Serialize)]
struct NearMiss {
    #[serde(flatten)]
    of: Of,
    why: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Of {
    Rule { rule: String, pattern: String },
    Key { config: String, key: String },
}

const HEAD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const NEAR: Style = AnsiColor::Yellow.on_default();

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, answer) in self.images.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            answer.tell(f, &self.namespace)?;
        }
        Ok(())
    }
}

impl Answer {
    fn tell(&self, f: &mut fmt::Formatter<'_>, namespace: &str) -> fmt::Result {
        writeln!(f, "{HEAD}{}{HEAD:#}", self.image.escape_debug())?;
        let line = |f: &mut fmt::Formatter<'_>, style: Style, word: &str, text: fmt::Arguments<'_>| {
            writeln!(f, "  {style}{word:<10}{style:#}  {text}")
        };
        if let Some(error) = &self.error {
            return line(f, BAD, "error", format_args!("it cannot be pulled: {error}"));
        }
        let plain = Style::new();
        line(f, plain, "is", format_args!("{}", self.reference.as_deref().unwrap_or_default()))?;
        if let Some(rules) = &self.rules {
            let width = rules.iter().map(|found| found.rule.len()).max().unwrap_or_default();
            for RuleMatch { rule, pattern, secret, mode } in rules {
                let shadow = if *mode == Mode::Shadow { " (Shadow: counted, not added)" } else { "" };
                line(f, GOOD, "rule", format_args!("{rule:<width$}  {pattern} -> {secret}{shadow}"))?;
            }
            match self.secrets.as_deref().unwrap_or_default() {
                [] if rules.is_empty() => line(f, BAD, "rule", format_args!("none covers it in `{namespace}`"))?,
                [] => line(f, plain, "secrets", format_args!("none"))?,
                secrets => line(f, plain, "secrets", format_args!("{}", secrets.join(", ")))?,
            }
        }
        if let Some(credentials) = &self.credentials {
            for (place, Credential { config, key, empty }) in credentials.iter().enumerate() {
                let empty = if *empty { ", without user name and password: it stops anonymous pulls" } else { "" };
                line(f, GOOD, &format!("try {}", place + 1), format_args!("{key} ({config}{empty})"))?;
            }
            if credentials.is_empty() {
                line(f, BAD, "try", format_args!("no credential covers it: it is pulled anonymously"))?;
            }
        }
        for NearMiss { of, why } in self.near_misses.iter().take(NEAR_MISSES) {
            match of {
                Of::Rule { rule, pattern } => line(f, NEAR, "near miss", format_args!("{rule}, {pattern}: {why}"))?,
                Of::Key { config, key } => line(f, NEAR, "near miss", format_args!("{key} ({config}): {why}"))?,
            }
        }
        match self.near_misses.len().saturating_sub(NEAR_MISSES) {
            0 => Ok(()),
            more => line(f, NEAR, "near miss", format_args!("and {more} more, which --format json tells")),
        }
    }
}
