//! Which credentials cover an image, in the order in which the kubelet tries them (pkg/credentialprovider/keyring.go in
//! Kubernetes, `BasicDockerKeyring`).

use std::collections::BTreeMap;

use super::docker_config::{Credential, DockerConfig};
use super::glob::{self, BadPattern};
use super::reference::ImageReference;
use super::url::{self, HostAndPath, NotAUrl};

/// What a key that stands for Docker Hub comes down to.
pub(super) const HUB: &[u8] = b"index.docker.io";

/// The credentials of several docker configs.
#[derive(Debug, Default)]
pub struct Keyring {
    /// By what each key comes down to; within it, in the order in which they were added.
    entries: BTreeMap<Vec<u8>, Vec<Entry>>,
    /// How many docker configs were added.
    configs: usize,
}

/// A credential with the key that it was found under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key as the docker config has it.
    pub key: String,
    /// Which docker config that was, in the order in which they were added, from 0.
    pub config: usize,
    /// What is behind it.
    pub credential: Credential,
}

impl Keyring {
    /// Adds the entries of a docker config. Keys that are no URL are passed over, as the kubelet does.
    pub fn add(&mut self, config: &DockerConfig) {
        for (key, credential) in config.entries() {
            let Ok(reduced) = reduce(key.as_bytes()) else { continue };
            let entry = Entry { key: key.to_owned(), config: self.configs, credential: credential.clone() };
            self.entries.entry(reduced).or_default().push(entry);
        }
        self.configs += 1;
    }

    /// The credentials that cover an image, in the order in which the kubelet tries them; the same one as often as it is
    /// there.
    pub fn lookup(&self, image: &ImageReference<'_>) -> Vec<&Entry> {
        let name = image.name();
        // More specific keys are greater, mostly: a path follows its host.
        let covering = self.entries.iter().rev().filter(|(key, _)| matches(key, name.as_bytes()) == Ok(true));
        let found: Vec<&Entry> = covering.flat_map(|(_, entries)| entries).collect();
        if found.is_empty() && falls_back_to_hub(&name) {
            return self.entries.get(HUB).into_iter().flatten().collect();
        }
        found
    }
}

/// What the kubelet makes of a key: host and path, without scheme, userinfo, query, fragment, and one leading `/v1` or `/v2`.
pub(super) fn reduce(key: &[u8]) -> Result<Vec<u8>, NotAUrl> {
    let stripped = [&b"https://"[..], b"http://"].iter().find_map(|scheme| key.strip_prefix(*scheme)).unwrap_or(key);
    let HostAndPath { mut host, path } = url::parse(stripped)?;
    let path = if path.starts_with(b"/v2/") || path.starts_with(b"/v1/") { &path[3..] } else { &path[..] };
    if path != b"/" {
        host.extend(path);
    }
    Ok(host)
}

/// Whether a key covers a name, neither with a scheme (`URLsMatchStr`): the same port, as many labels, each matching, and the
/// key's path at the start of the name's.
///
/// # Errors
/// Where one of them is no URL, or a label is no glob.
pub fn matches(key: &[u8], name: &[u8]) -> Result<bool, NoMatch> {
    let (key, name) = (url::parse(key)?, url::parse(name)?);
    let ((key_host, key_port), (host, port)) = (url::split_port(&key.host), url::split_port(&name.host));
    let labels = |host: &[u8]| host.split(|byte| *byte == b'.').count();
    if key_port != port || labels(key_host) != labels(host) || !name.path.starts_with(&key.path) {
        return Ok(false);
    }
    for (pattern, label) in key_host.split(|byte| *byte == b'.').zip(host.split(|byte| *byte == b'.')) {
        if !glob::matches(pattern, label)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a key cannot be compared with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// One of them is no URL.
    #[error("the pattern or the image is no URL without a scheme")]
    NotAUrl,
    /// A label of the pattern is no glob.
    #[error("the pattern has a `[` without its `]`, or another mistake of a glob")]
    BadPattern,
}

impl From<NotAUrl> for NoMatch {
    fn from(NotAUrl: NotAUrl) -> Self {
        Self::NotAUrl
    }
}

impl From<BadPattern> for NoMatch {
    fn from(BadPattern: BadPattern) -> Self {
        Self::BadPattern
    }
}

/// `isDefaultRegistryMatch`: the Hub, and every registry whose name does not look like one.
pub(super) fn falls_back_to_hub(name: &str) -> bool {
    match name.split_once('/') {
        None => !name.is_empty(),
        Some(("docker.io" | "index.docker.io", _)) => true,
        Some((host, _)) => !host.is_empty() && !host.contains(['.', ':']),
    }
}
