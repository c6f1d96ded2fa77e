//! Credential provider plugins, asked as the kubelet asks them (pkg/credentialprovider/plugin/plugin.go in Kubernetes 1.36):
//! a request on standard input, an answer on standard output, an end within a minute.
//!
//! Where this differs from a kubelet: a plugin is asked for a registry and not for an image of a Pod, so an answer that
//! holds for one image only (`cacheKeyType: Image`) is refused. Output is limited, and a plugin that is ended takes along
//! every process that it has started.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Fetched, Lifetime, one_line, without};
use crate::image::{self, Credential, DockerConfig, ImagePattern};
use crate::rules::{Code, Finding, Provider, SourceFile, parse_duration, read_credential_provider_config};

/// The kubelet's.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Most that an answer may be. Real ones are a few kilobytes.
const MOST_OUTPUT: usize = 1024 * 1024;
/// Most of its standard error that is kept; an error shows less.
const MOST_ERROR_TEXT: usize = 4096;

/// The plugins that the operator has configured; none by default.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    providers: Vec<Provider>,
    directory: PathBuf,
    time_limit: Duration,
}

impl Plugins {
    /// Those of a `CredentialProviderConfig` file, whose programs are in `directory` (`--credential-provider-config`,
    /// `--credential-provider-bin-dir`).
    ///
    /// # Errors
    /// All that is wrong in the file, or that keeps the file or the directory from being read. Whether the programs are
    /// there is seen when they are asked, so that one that is missing takes no other along.
    pub fn read(config: &Path, directory: &Path) -> Result<Self, Vec<Finding>> {
        let about = |path: &Path, message: String| {
            vec![Finding::about_file(&path.display().to_string(), Code::Unreadable, message)]
        };
        let text = std::fs::read(config).map_err(|error| about(config, format!("cannot be read: {error}")))?;
        let file = SourceFile { name: &config.display().to_string(), text: &text };
        let providers = read_credential_provider_config(&file)?;
        if !directory.is_dir() {
            return Err(about(directory, "is no directory: name the one that holds the plugins' programs".to_owned()));
        }
        Ok(Self { providers, directory: directory.to_owned(), time_limit: TIME_LIMIT })
    }

    /// The same with another time limit than the kubelet's minute.
    #[must_use]
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Their names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|provider| provider.name.as_str())
    }
}

/// Why a plugin has given no credential: which, and what happened.
#[derive(Debug, thiserror::Error)]
#[error("the credential provider `{name}` {fault}")]
pub struct PluginError {
    name: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("is not configured: {0}")]
    Unknown(String),
    #[error(
        "may not be asked for `{0}`: no entry of its `matchImages` covers that; add one, or take it out of the rule"
    )]
    NotMatched(String),
    #[error("has no registry to be asked for in `{0}`: write the host without `*`")]
    Glob(String),
    #[error("cannot be started: there is no program `{0}`, or not the interpreter that its first line names")]
    NotThere(String),
    #[error("cannot be started: `{0}` may not be executed; set its executable bit")]
    NotExecutable(String),
    #[error("cannot be started: {0}")]
    NotStarted(io::Error),
    #[error("was ended: neither it nor what it had started was done within {limit:?}{said}")]
    TooSlow { limit: Duration, said: Said },
    #[error("was ended: it printed more than {MOST_OUTPUT} bytes, where an answer of a few thousand belongs")]
    TooMuch,
    #[error("could not be talked to: {0}")]
    Pipe(io::Error),
    #[error("failed with {status}{said}")]
    Failed { status: ExitStatus, said: Said },
    #[error("answered with what is not JSON (line {0}, column {1})")]
    NotJson(usize, usize),
    #[error("answered with another `apiVersion` than it was asked in, `{0}`")]
    ApiVersion(String),
    #[error("answered with another `kind` than `CredentialProviderResponse`")]
    Kind,
    #[error(
        "answered with a CredentialProviderResponse that has unknown, repeated or mistyped fields (line {0}, column {1})"
    )]
    NotAResponse(usize, usize),
    #[error(
        "answered with `cacheKeyType: Image`: its credentials hold for one image, and a copy serves all images of a \
         registry; set it to answer with `Registry` or `Global`, or let the kubelets run it"
    )]
    PerImage,
    #[error("answered without a `cacheKeyType` of `Registry` or `Global`")]
    CacheKeyType,
    #[error("answered with a `cacheDuration` that is no duration such as `1h0m0s`")]
    CacheDuration,
    #[error("answered without a credential for `{0}`: it may not be permitted to read that registry")]
    NoCredential(String),
    #[error("answered with credentials none of which covers `{0}`: the keys of `auth` are other registries")]
    OtherRegistry(String),
}

/// What a plugin has said on standard error; prints as the end of a sentence.
#[derive(Debug)]
struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str(" and said nothing") } else { write!(f, " and said: {}", self.0) }
    }
}

/// Asks the plugin of this name for the registries of a rule's images, once each; once altogether when the answer says
/// that it holds for all (`Global`).
///
/// # Errors
/// When it is not configured, may not be asked for one of these, or gives no credential for one.
pub async fn fetch(plugins: &Plugins, name: &str, images: &[ImagePattern]) -> Result<Fetched, PluginError> {
    let failed = |fault| PluginError { name: name.to_owned(), fault };
    let provider = plugins.providers.iter().find(|provider| provider.name == name);
    let provider = provider.ok_or_else(|| {
        let known: Vec<&str> = plugins.names().collect();
        failed(Fault::Unknown(match known[..] {
            [] => "the controller runs without --credential-provider-config".to_owned(),
            _ => format!("the controller's CredentialProviderConfig has {}", known.join(", ")),
        }))
    })?;
    fetch_from(plugins, provider, images).await.map_err(failed)
}

async fn fetch_from(plugins: &Plugins, provider: &Provider, images: &[ImagePattern]) -> Result<Fetched, Fault> {
    for pattern in images {
        if pattern.exact_host().is_none() {
            return Err(Fault::Glob(pattern.as_str().to_owned()));
        }
        let image = to_ask_for(pattern);
        let covers = |key: &String| image::matches(key.as_bytes(), image.as_bytes()) == Ok(true);
        if !provider.match_images.iter().any(covers) {
            return Err(Fault::NotMatched(pattern.as_str().to_owned()));
        }
    }
    let mut auths: BTreeMap<String, Credential> = BTreeMap::new();
    let mut lifetime = Lifetime::Unlimited;
    let mut asked = HashSet::new();
    for pattern in images.iter().filter(|pattern| asked.insert(pattern.host())) {
        let answer = ask(plugins, provider, &to_ask_for(pattern)).await?;
        let served = if answer.is_global { images.to_vec() } else { of_registry(images, pattern.host()) };
        if answer.auths.is_empty() {
            return Err(Fault::NoCredential(pattern.host().to_owned()));
        }
        for image in &served {
            if answer.auths.slice(std::slice::from_ref(image)).is_empty() {
                return Err(Fault::OtherRegistry(image.as_str().to_owned()));
            }
        }
        let entries = answer.auths.slice(&served);
        auths.extend(entries.entries().map(|(key, credential)| (key.to_owned(), credential.clone())));
        lifetime = lifetime.min(answer.lifetime);
        if answer.is_global {
            break;
        }
    }
    Ok(Fetched { auths: auths.into_iter().collect(), lifetime })
}

fn of_registry(images: &[ImagePattern], host: &str) -> Vec<ImagePattern> {
    images.iter().filter(|pattern| pattern.host() == host).cloned().collect()
}

/// The image to ask for. The kubelet asks for images, which always have a path; a host alone would be read as an image of
/// Docker Hub by plugins that parse it. An answer for the registry must not depend on the path.
fn to_ask_for(pattern: &ImagePattern) -> String {
    if pattern.path().is_empty() { format!("{}/pullcred", pattern.host()) } else { pattern.as_str().to_owned() }
}

struct Answer {
    auths: DockerConfig,
    lifetime: Lifetime,
    is_global: bool,
}

async fn ask(plugins: &Plugins, provider: &Provider, image: &str) -> Result<Answer, Fault> {
    let request = serde_json::json!({
        "apiVersion": provider.api_version,
        "kind": "CredentialProviderRequest",
        "image": image,
    });
    let request = request.to_string();
    let mut plugin = Running::start(&plugins.directory.join(&provider.name), provider)?;
    let (mut output, mut said) = (Vec::new(), Vec::new());
    let ended = timeout(plugins.time_limit, plugin.talk(request.as_bytes(), &mut output, &mut said)).await;
    // One that has not ended by itself ends here, with all that it has started.
    drop(plugin);
    let said = || Said(one_line(&without(&String::from_utf8_lossy(&said), &String::from_utf8_lossy(&output))));
    match ended {
        Err(_) => Err(Fault::TooSlow { limit: plugins.time_limit, said: said() }),
        Ok(Err(fault)) => Err(fault),
        Ok(Ok(status)) if !status.success() => Err(Fault::Failed { status, said: said() }),
        Ok(Ok(_)) => read(&output, provider),
    }
}

/// A plugin's process, the first of a group of its own. When this is dropped before the end was waited for, the whole group
/// is killed.
struct Running(Child);

impl Running {
    fn start(program: &Path, provider: &Provider) -> Result<Self, Fault> {
        let mut command = Command::new(program);
        command
            .args(&provider.args)
            .envs(provider.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let name = || program.display().to_string();
        command.spawn().map(Self).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Fault::NotThere(name()),
            io::ErrorKind::PermissionDenied => Fault::NotExecutable(name()),
            _ => Fault::NotStarted(error),
        })
    }

    /// Until it has ended, and nobody can print for it any more.
    async fn talk(&mut self, request: &[u8], output: &mut Vec<u8>, said: &mut Vec<u8>) -> Result<ExitStatus, Fault> {
        let (stdin, stdout, stderr) = (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return Err(Fault::Pipe(io::Error::other("it has no pipes")));
        };
        let ask = async {
            match stdin.write_all(request).await {
                // A plugin for one registry need not read what it is asked.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::Pipe(error)),
                _ => {
                    drop(stdin);
                    Ok(())
                }
            }
        };
        let read_answer = async {
            let mut stdout = stdout.take(MOST_OUTPUT as u64 + 1);
            while stdout.read_buf(output).await.map_err(Fault::Pipe)? > 0 {}
            if output.len() > MOST_OUTPUT { Err(Fault::TooMuch) } else { Ok(()) }
        };
        let read_errors = async {
            let mut more = vec![0; MOST_ERROR_TEXT];
            loop {
                let count = stderr.read(&mut more).await.map_err(Fault::Pipe)?;
                if count == 0 {
                    return Ok(());
                }
                said.extend(&more[..count.min(MOST_ERROR_TEXT - said.len())]);
            }
        };
        tokio::try_join!(ask, read_answer, read_errors)?;
        // Not before: while it has not been waited for, its id is no other's, and so the group is safe to kill.
        self.0.wait().await.map_err(Fault::Pipe)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is none once it was waited for.
        let group = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // It fails only when no process is left.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The meta part is read first, as the kubelet does, so that an answer in another version is told as such.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// Fields as in staging/src/k8s.io/kubelet/pkg/apis/credentialprovider/v1/types.go; `null` is as if absent, in Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Response {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    cache_key_type: Option<String>,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Option<Auth>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    username: Option<String>,
    password: Option<String>,
}

/// Of the texts in the answer no error tells any: whichever of them may be a credential that got into the wrong place.
fn read(output: &[u8], provider: &Provider) -> Result<Answer, Fault> {
    let value: serde_json::Value =
        serde_json::from_slice(output).map_err(|error| Fault::NotJson(error.line(), error.column()))?;
    let meta = Meta::deserialize(&value).map_err(|_| Fault::ApiVersion(provider.api_version.clone()))?;
    if meta.api_version != provider.api_version {
        return Err(Fault::ApiVersion(provider.api_version.clone()));
    }
    if meta.kind != "CredentialProviderResponse" {
        return Err(Fault::Kind);
    }
    let response: Response =
        serde_json::from_slice(output).map_err(|error| Fault::NotAResponse(error.line(), error.column()))?;
    let is_global = match response.cache_key_type.as_deref() {
        Some("Global") => true,
        Some("Registry") => false,
        Some("Image") => return Err(Fault::PerImage),
        _ => return Err(Fault::CacheKeyType),
    };
    let lifetime = match response.cache_duration.as_deref() {
        None => provider.default_cache_duration,
        // Already over, which the kubelet does not keep either.
        Some(past) if past.starts_with('-') => Duration::ZERO,
        Some(text) => parse_duration(text.strip_prefix('+').unwrap_or(text)).map_err(|_| Fault::CacheDuration)?,
    };
    let lifetime = if lifetime.is_zero() { Lifetime::Once } else { Lifetime::For(lifetime) };
    let credential = |auth: Option<Auth>| {
        let Auth { username, password } = auth.unwrap_or_default();
        Credential::new(username.unwrap_or_default(), password.unwrap_or_default())
    };
    let auths = response.auth.unwrap_or_default().into_iter().map(|(key, auth)| (key, credential(auth))).collect();
    Ok(Answer { auths, lifetime, is_global })
}
