//! Near misses: why a key of a docker config, or a rule's pattern, that looks as if it covered an image does not.

use std::borrow::Cow;

use super::glob;
use super::keyring::{self, HUB};
use super::pattern::ImagePattern;
use super::reference::{HUB as HUB_NAME, ImageReference};
use super::url;

/// What keeps a key or a pattern from covering an image. The text completes "it does not cover the image:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NearMiss {
    /// Go cannot parse the key.
    #[error("it is no URL, and the kubelet passes over it")]
    NotAUrl,
    /// `HTTPS://`.
    #[error("the kubelet takes off `https://` and `http://` in lower case only: write the host alone")]
    Scheme,
    /// One of the many other names of the Hub.
    #[error(
        "the kubelet knows Docker Hub as `https://index.docker.io/v1/`, with the slash at its end, or as `docker.io`"
    )]
    NotTheHub,
    /// The Hub's own key, and another covers the image.
    #[error("the Hub's own key is asked only when no other covers the image")]
    HubIsLast,
    /// The same host in other letters.
    #[error("upper and lower case differ in hosts, and the image's is `{image}`")]
    Case {
        /// Host and port of the image.
        image: String,
    },
    /// The same host on another port.
    #[error("ports are compared as they are written: {}, and the image has {}", port(key), port(image))]
    Port {
        /// The port of the key, if it has one.
        key: String,
        /// The port of the image, if it has one.
        image: String,
    },
    /// The host is that of the image with a label more or less.
    #[error("it has {key} labels between its dots, and the image's host {image}; a `*` stands for one")]
    Labels {
        /// Labels of the key.
        key: usize,
        /// Labels of the image's host.
        image: usize,
    },
    /// `a.io/v1`.
    #[error("`/v1` and `/v2` are taken off only with a slash behind them: write the host alone")]
    Version,
    /// A star where none is read.
    #[error("a `*` in a path is a star and nothing else: end the path before it")]
    StarInPath,
    /// `a.io/team/` and the image `a.io/team`.
    #[error("the slash at its end wants something behind it: leave the slash out")]
    SlashAtEnd,
    /// Upper case in the path.
    #[error("its path has upper case, and images have none")]
    UpperCase,
    /// A rule's path that ends within a part of the image's.
    #[error("a rule's path covers whole parts between slashes, and this one ends within one")]
    WithinAPart,
    /// Another path.
    #[error("the image's path, `{image}`, does not begin with its path")]
    Path {
        /// The repository of the image.
        image: String,
    },
}

fn port(port: &str) -> String {
    if port.is_empty() { "none".to_owned() } else { format!("`{port}`") }
}

/// A key as it may be shown: somebody may have written a user and a password before its host, which are as secret as those beside it.
pub fn shown_key(key: &str) -> Cow<'_, str> {
    let begin = key.find("://").map_or(0, |at| at + 3);
    let end = key[begin..].find(['/', '?', '#']).map_or(key.len(), |at| begin + at);
    match key[begin..end].rfind('@') {
        Some(at) => format!("{}***{}", &key[..begin], &key[begin + at..]).into(),
        None => key.into(),
    }
}

/// Why a key that does not serve an image nearly does: its host is the image's but for one thing. `None` for keys of other
/// registries.
pub fn key_near_miss(key: &str, image: &ImageReference<'_>) -> Option<NearMiss> {
    let lower = key.to_ascii_lowercase();
    let about = |host: &str| !host.is_empty() && lower.contains(host);
    let registry = image.registry();
    let Ok(reduced) = keyring::reduce(key.as_bytes()) else {
        return about(name_and_port(registry).0).then_some(NearMiss::NotAUrl);
    };
    if reduced == HUB {
        return keyring::falls_back_to_hub(&image.name()).then_some(NearMiss::HubIsLast);
    }
    let for_the_hub = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"];
    if registry == HUB_NAME && for_the_hub.into_iter().any(about) {
        return Some(NearMiss::NotTheHub);
    }
    let scheme = |text: &str| ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
    if scheme(&lower) && !scheme(key) {
        return about(registry).then_some(NearMiss::Scheme);
    }
    let parsed = url::parse(&reduced).ok()?;
    if let Err(miss) = compare_hosts(&parsed.host, registry) {
        return miss;
    }
    let path = String::from_utf8_lossy(&parsed.path);
    let name = format!("/{}", image.repository());
    Some(match path.as_ref() {
        "/v1" | "/v2" => NearMiss::Version,
        path if path.contains('*') => NearMiss::StarInPath,
        path if path.strip_suffix('/') == Some(&name) => NearMiss::SlashAtEnd,
        path if name.starts_with(&path.to_lowercase()) => NearMiss::UpperCase,
        path => return path_miss(path.trim_start_matches('/'), image),
    })
}

/// The same for a rule's pattern, which covers whole parts of a path.
pub fn pattern_near_miss(pattern: &ImagePattern, image: &ImageReference<'_>) -> Option<NearMiss> {
    if let Err(miss) = compare_hosts(pattern.host().as_bytes(), image.registry()) {
        return miss;
    }
    if image.repository().starts_with(pattern.path()) {
        Some(NearMiss::WithinAPart)
    } else {
        path_miss(pattern.path(), image)
    }
}

/// Another path of the same registry is near when its first part is the image's, or looks like a mistyped one.
fn path_miss(path: &str, image: &ImageReference<'_>) -> Option<NearMiss> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let repository = image.repository();
    let (ours, theirs) = (first(path), first(&repository));
    let near = strsim::osa_distance(&ours, &theirs) * 3 <= theirs.len();
    near.then(|| NearMiss::Path { image: repository.into_owned() })
}
/// Where the hosts differ, what is between them, if that is little.
fn compare_hosts(key: &[u8], registry: &str) -> Result<(), Option<NearMiss>> {
    let ((key_name, key_port), (name, port)) = (url::split_port(key), name_and_port(registry));
    let labels = |name: &[u8]| name.split(|byte| *byte == b'.').count();
    let (many, wanted) = (labels(key_name), labels(name.as_bytes()));
    // From the right, as far as both have labels: the left is where one is too many.
    let alike = |fold: fn(&[u8]) -> Vec<u8>| {
        key_name
            .rsplit(|byte| *byte == b'.')
            .zip(name.as_bytes().rsplit(|byte| *byte == b'.'))
            .all(|(key, label)| glob::matches(&fold(key), &fold(label)) == Ok(true))
    };
    if !alike(<[u8]>::to_vec) {
        let case = many == wanted && alike(<[u8]>::to_ascii_lowercase);
        return Err(case.then(|| NearMiss::Case { image: registry.to_owned() }));
    }
    if many != wanted {
        // `io` and `*` are near to everything.
        let near = many.min(wanted) > 1;
        return Err(near.then_some(NearMiss::Labels { key: many, image: wanted }));
    }
    if key_port != port {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Err(Some(NearMiss::Port { key: text(key_port), image: text(port) }));
    }
    Ok(())
}

/// Host and port of a registry; it is ASCII.
fn name_and_port(registry: &str) -> (&str, &[u8]) {
    let (name, port) = url::split_port(registry.as_bytes());
    (std::str::from_utf8(name).unwrap_or_default(), port)
}

#[cfg(test)]
mod tests {
    use super::shown_key;

    #[test]
    fn a_key_is_shown_without_user_and_password() {
        for (key, shown) in [
            ("asia.gcr.io", "asia.gcr.io"),
            ("https://index.docker.io/v1/", "https://index.docker.io/v1/"),
            ("https://user:pass@a.io:5000/v2/", "https://***@a.io:5000/v2/"),
            ("user:p@ss@a.io/team", "***@a.io/team"),
            ("a.io/team@home", "a.io/team@home"),
            ("https://a.io?x=@", "https://a.io?x=@"),
            ("@", "***@"),
            ("", ""),
        ] {
            assert_eq!(shown_key(key), shown, "{key}");
        }
    }
}
