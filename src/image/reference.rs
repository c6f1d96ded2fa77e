//! Image references: what a Pod writes, split and completed as containerd and the kubelet do.
//!
//! The rules are those of `ParseNormalizedNamed` in github.com/distribution/reference, with the kubelet's default tag
//! (pkg/util/parsers in Kubernetes).

use std::borrow::Cow;
use std::fmt;

/// Docker Hub, as references name it.
pub(super) const HUB: &str = "docker.io";
/// Another name of Docker Hub, that references replace by [`HUB`].
const HUB_INDEX: &str = "index.docker.io";
/// Where Docker Hub keeps images of one-part names.
const LIBRARY: &str = "library";
/// Longest repository, with `library/` and without the registry.
const REPOSITORY_LENGTH: usize = 255;
/// Longest tag.
const TAG_LENGTH: usize = 128;

/// An image reference that the kubelet would take, normalised. Borrows from the text; parsing allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageReference<'a> {
    registry: &'a str,
    /// The repository as written; `library/` belongs before it when `in_library`.
    path: &'a str,
    in_library: bool,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

/// Why a text is no image reference. The message completes "image … cannot be pulled:".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// What `docker images` prints, and no name.
    #[error("64 hexadecimal digits are an image id; write a name")]
    ImageId,
    /// Upper case is for registries and tags.
    #[error("the repository must be lower case")]
    UpperCase,
    /// Neither a registry's host nor the first part of a repository.
    #[error("the part before the first slash is no registry (host, or host:port)")]
    Registry,
    /// A part of the repository is empty or has a character or a separator in the wrong place.
    #[error(
        "the repository must be of a-z and 0-9, with single `.`, `_`, `__` or dashes between, and `/` between its parts"
    )]
    Repository,
    /// Too long.
    #[error("the repository is longer than 255 characters")]
    TooLong,
    /// Not a tag.
    #[error("the tag must be 1 to 128 of letters, digits, `_`, `.`, `-`, and not start with `.` or `-`")]
    Tag,
    /// Not a digest.
    #[error("the digest must be sha256, sha384 or sha512, a colon, and all its lower-case hexadecimal digits")]
    Digest,
}

impl<'a> ImageReference<'a> {
    /// Reads a reference as a Pod writes it.
    ///
    /// # Errors
    /// Exactly where `ParseNormalizedNamed` fails, and the kubelet reports `InvalidImageName`.
    pub fn parse(text: &'a str) -> Result<Self, ImageReferenceError> {
        use ImageReferenceError as E;
        if text.is_empty() {
            return Err(E::Empty);
        }
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(E::ImageId);
        }
        let (registry, remainder) = split_registry(text);
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder, None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(E::UpperCase);
        }
        if !is_repository(path) {
            return Err(E::Repository);
        }
        // A first part with `_` looks like a registry, and is none; Go's pattern then takes it as part of the repository.
        let (registry, path) = match registry {
            Some(host) if is_registry(host) => (host, path),
            Some(host) if is_repository(host) => ("", &text[..host.len() + 1 + path.len()]),
            Some(_) => return Err(E::Registry),
            None => (HUB, path),
        };
        let registry = if registry == HUB_INDEX { HUB } else { registry };
        let in_library = registry == HUB && !path.contains('/');
        if path.len() + if in_library { LIBRARY.len() + 1 } else { 0 } > REPOSITORY_LENGTH {
            return Err(E::TooLong);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(E::Tag);
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(E::Digest);
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest") } else { tag };
        Ok(Self { registry, path, in_library, tag, digest })
    }

    /// The registry, `host` or `host:port`; `docker.io` where none is written. Empty only where the first part looks like a
    /// host and is none (`a_b.c/app`).
    pub fn registry(&self) -> &'a str {
        self.registry
    }

    /// The repository, with `library/` for one-part names of Docker Hub.
    pub fn repository(&self) -> Cow<'a, str> {
        if self.in_library { Cow::Owned(format!("{LIBRARY}/{}", self.path)) } else { Cow::Borrowed(self.path) }
    }

    /// The parts of the repository, between its slashes.
    pub fn segments(&self) -> impl Iterator<Item = &'a str> {
        self.in_library.then_some(LIBRARY).into_iter().chain(self.path.split('/'))
    }

    /// The tag; `latest` when neither a tag nor a digest is written.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// The digest with its algorithm, when one is written.
    pub fn digest(&self) -> Option<&'a str> {
        self.digest
    }

    /// Registry and repository, as the kubelet looks up credentials.
    pub fn name(&self) -> String {
        if self.registry.is_empty() { self.path.to_owned() } else { format!("{}/{}", self.registry, self.repository()) }
    }
}

/// The whole reference, normalised.
impl fmt::Display for ImageReference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part, where it is a registry, and the rest (`splitDockerDomain`).
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if looks_like_registry(first) => (Some(first), rest),
        _ => (None, text),
    }
}

/// Whether the first part of a name is taken for a registry: only then is it not part of a Docker Hub repository.
pub(super) fn looks_like_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

/// Whether a text is `host` or `host:port`, as references allow it: labels of letters, digits and inner dashes, or an IPv6
/// address in brackets.
pub(super) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    }
    host.split('.').all(|label| {
        let label = label.as_bytes();
        label.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && label.first().is_some_and(u8::is_ascii_alphanumeric)
            && label.last().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// Whether a text is a repository: parts of lower-case letters and digits, with one `.`, one or two `_` or any number of
/// dashes between them.
pub(super) fn is_repository(path: &str) -> bool {
    path.split('/').all(|part| {
        let mut separator = 0..0; // the run of separators we are in
        for (i, byte) in part.bytes().enumerate() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' => {
                    let run = &part[separator.clone()];
                    if !run.is_empty() && !matches!(run, "." | "_" | "__") && !run.bytes().all(|byte| byte == b'-') {
                        return false;
                    }
                    separator = i + 1..i + 1;
                }
                b'.' | b'_' | b'-' if i > 0 => separator.end = i + 1,
                _ => return false,
            }
        }
        !part.is_empty() && separator.is_empty()
    })
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= TAG_LENGTH
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
