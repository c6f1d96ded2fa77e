//! Image patterns: what a rule writes, `host[:port][/path]` with `*` inside the labels of the host.
//!
//! They are the kubelet's `matchImages` (KEP-2133, pkg/credentialprovider in Kubernetes) but for one thing: a path covers
//! whole segments. What can match nothing, or not what it seems to say, is refused with the text to write instead.

use std::cmp::Reverse;
use std::fmt;

use super::glob;
use super::reference::{ImageReference, is_registry, is_repository, looks_like_registry};

/// Longest pattern, in characters; the CRD's schema says the same.
const LENGTH: usize = 512;

/// An image pattern; exists only when it parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    /// Where the host, with its port, ends.
    host: usize,
    specificity: Specificity,
}

/// How narrow a pattern is; greater is narrower: more path segments, then a literal host before one with globs, then fewer
/// globs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    segments: usize,
    globs: Reverse<usize>,
}

/// Why a text is no image pattern, and what to write instead where that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePatternError {
    text: String,
    wrong: &'static str,
    instead: Option<String>,
}

impl ImagePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where it is not `host[:port][/path]`, where it could match nothing, and where the kubelet would read the same text as
    /// a key of a docker config in another way.
    pub fn parse(text: &str) -> Result<Self, ImagePatternError> {
        let (wrong, mut instead) = match check(text) {
            Ok(pattern) => return Ok(pattern),
            Err(found) => found,
        };
        // One mend may show the next fault (`https://reg.io/app:1`): suggest only what is right in the end.
        for _ in 0..8 {
            match instead.as_deref().map(check) {
                Some(Err((_, next))) => instead = next,
                Some(Ok(_)) | None => break,
            }
        }
        let instead = instead.filter(|text| check(text).is_ok());
        Err(ImagePatternError { text: text.chars().take(80).collect(), wrong, instead })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host with its port, when there is no `*` in it.
    pub fn exact_host(&self) -> Option<&str> {
        (self.specificity.globs.0 == 0).then(|| self.host())
    }

    /// The host with its port; may hold `*`.
    pub fn host(&self) -> &str {
        &self.text[..self.host]
    }

    /// The path, without the slash before it; empty when the pattern is a host alone.
    pub fn path(&self) -> &str {
        self.text.get(self.host + 1..).unwrap_or_default()
    }

    /// How narrow the pattern is.
    pub fn specificity(&self) -> Specificity {
        self.specificity
    }

    /// Whether the pattern covers an image: the same number of labels, each matching, the same port as text, and the path's
    /// segments at the start of the repository. Tag and digest do not matter. Upper and lower case differ.
    pub fn covers(&self, image: &ImageReference<'_>) -> bool {
        self.covers_registry(image.registry()) && self.covers_repository(image)
    }

    pub(super) fn covers_registry(&self, registry: &str) -> bool {
        if self.specificity.globs.0 == 0 {
            return self.host() == registry;
        }
        // With a `*` there is no IPv6 address, so the first colon is the port's.
        let split = |text| -> (&str, Option<&str>) {
            str::split_once(text, ':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let ((host, port), (name, name_port)) = (split(self.host()), split(registry));
        let (mut labels, mut name_labels) = (host.split('.'), name.split('.'));
        port == name_port
            && loop {
                match (labels.next(), name_labels.next()) {
                    (Some(label), Some(name)) if glob::matches(label.as_bytes(), name.as_bytes()) == Ok(true) => {}
                    (None, None) => break true,
                    _ => break false,
                }
            }
    }

    fn covers_repository(&self, image: &ImageReference<'_>) -> bool {
        let mut segments = image.segments();
        self.path().is_empty() || self.path().split('/').all(|segment| segments.next() == Some(segment))
    }
}

/// A fault, and the text with that fault mended where it can be.
type Fault = (&'static str, Option<String>);

fn check(text: &str) -> Result<ImagePattern, Fault> {
    let fault = |wrong, instead: &str| Err((wrong, Some(instead.to_owned())));
    if text.trim() != text {
        return fault("has space around it", text.trim());
    }
    if text.is_empty() {
        return Err(("is empty: name a registry, as in `asia.gcr.io` or `*.azurecr.io/team`", None));
    }
    if text.chars().count() > LENGTH {
        return Err(("is longer than 512 characters", None));
    }
    if let Some((_, rest)) = text.split_once("//").filter(|(before, _)| before.is_empty() || before.ends_with(':')) {
        return fault("has a scheme", rest);
    }
    let authority = text.find('/').unwrap_or(text.len());
    if let Some(at) = text.rfind('@') {
        if at < authority && text[at..].contains(['.', '/']) {
            return fault("has a user name", &text[at + 1..]);
        }
        return fault(
            "has a digest, and every version needs the same credential",
            &text[..text.find('@').unwrap_or(at)],
        );
    }
    if text.contains(['?', '#', '%', '\\']) {
        return Err((
            "has a character that no image name holds; the only wildcard is `*`, inside a label of the host",
            None,
        ));
    }
    if let Some(rest) = text.strip_suffix('/') {
        return fault("ends with a slash", rest);
    }
    let (host, path) = text.split_once('/').map_or((text, None), |(host, path)| (host, Some(path)));
    check_host(text, host, path)?;
    if let Some(path) = path {
        check_path(host, path)?;
    }
    let specificity = Specificity {
        segments: path.map_or(0, |path| path.split('/').count()),
        globs: Reverse(host.bytes().filter(|&byte| byte == b'*').count()),
    };
    Ok(ImagePattern { text: text.to_owned(), host: host.len(), specificity })
}

fn check_host(text: &str, host: &str, path: Option<&str>) -> Result<(), Fault> {
    let fault = |wrong, instead: String| Err((wrong, Some(instead)));
    let with_path = |host: &str| path.map_or(host.to_owned(), |path| format!("{host}/{path}"));
    if host.is_empty() {
        return fault("starts with a slash", text.trim_start_matches('/').to_owned());
    }
    if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        // `https://index.docker.io/v1/` is what a docker config calls the whole Hub.
        let whole = matches!(path, Some("v1" | "v2"));
        return fault(
            "is not how images name Docker Hub",
            if whole { "docker.io".to_owned() } else { with_path("docker.io") },
        );
    }
    if host.starts_with('[') {
        // The kubelet splits `[::1]` at its last colon, and never finds it again.
        return match host.split_once("]:") {
            Some(_) if is_registry(host) => Ok(()),
            _ => Err(("is no IPv6 registry: write address and port, as in `[fd00::1]:5000`", None)),
        };
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    if !looks_like_registry(host) {
        if host.contains('*') {
            return Err((
                "has a `*` that stands for a whole registry; it stands for one label: write each registry, as in `*.azurecr.io`",
                None,
            ));
        }
        let hub = if path.is_none() { "docker.io/library/" } else { "docker.io/" };
        return fault("names no registry, so it is an image of Docker Hub", format!("{hub}{text}"));
    }
    if let Some(port) = port {
        if port.contains('*') {
            return Err(("has a `*` in the port: write each port", None));
        }
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if !is_port && path.is_none() && !port.is_empty() {
            return fault("has a tag, and every version needs the same credential", name.to_owned());
        }
        if !is_port {
            return Err(("has no number from 1 to 65535 as its port", Some(with_path(name))));
        }
    }
    // A star may stand for any part of a label, so what is left must be a host with a letter in each star's place.
    if !is_registry(&host.replace('*', "x")) {
        return Err(("has no host of letters, digits, dashes and dots (and `*`)", None));
    }
    Ok(())
}

fn check_path(host: &str, path: &str) -> Result<(), Fault> {
    let fault = |wrong, path: &str| {
        Err((wrong, Some(if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") })))
    };
    if path.contains('*') {
        let kept: Vec<&str> = path.split('/').take_while(|segment| !segment.contains('*')).collect();
        return fault("has a `*` in the path; a path covers everything below it", &kept.join("/"));
    }
    if let Some((path, _)) = path.split_once(':') {
        return fault("has a tag, and every version needs the same credential", path);
    }
    if path.split('/').any(str::is_empty) {
        let kept: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        return fault("has an empty part in its path", &kept.join("/"));
    }
    if path.chars().any(char::is_uppercase) {
        return fault("has upper case in its path, where no image has any", &path.to_lowercase());
    }
    if !is_repository(path) {
        return Err((
            "has a path that no image has: parts of a-z and 0-9, with `.`, `_`, `__` or dashes between",
            None,
        ));
    }
    if path.starts_with("v1/") || path.starts_with("v2/") {
        // pkg/credentialprovider/keyring.go cuts it off a key, so no credential could be kept for this path.
        return fault("starts its path with `v1/` or `v2/`, which the kubelet drops from credentials", "");
    }
    Ok(())
}

impl fmt::Debug for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImagePattern({})", self.text)
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ImagePatternError {
    /// What to write instead, which is a pattern; `None` where that cannot be told.
    pub fn instead(&self) -> Option<&str> {
        self.instead.as_deref()
    }
}

impl fmt::Display for ImagePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.text.escape_debug(), self.wrong)?;
        match &self.instead {
            Some(instead) => write!(f, ": write `{instead}`"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ImagePatternError {}
