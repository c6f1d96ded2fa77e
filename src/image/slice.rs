//! Slices: the entries of a docker config that can serve the images of a rule, so that a copy holds nothing else.

use super::docker_config::DockerConfig;
use super::keyring::{self, HUB};
use super::pattern::ImagePattern;
use super::reference::{HUB as HUB_NAME, is_repository};
use super::url::{self, HostAndPath};

impl DockerConfig {
    /// The entries that can serve an image which one of `patterns` covers, with their keys as written.
    ///
    /// For every such image the kubelet finds in the slice what it finds in the whole, in the same order. Entries without
    /// user name and password are dropped: the kubelet tries them, and pulls no public image of that registry any more.
    #[must_use]
    pub fn slice(&self, patterns: &[ImagePattern]) -> Self {
        let serves = |key: &str| {
            let Ok(reduced) = keyring::reduce(key.as_bytes()) else { return false };
            if reduced == HUB {
                return patterns.iter().any(falls_back_to_hub);
            }
            // The kubelet parses what it made of a key once more before it compares.
            let Ok(key) = url::parse(&reduced) else { return false };
            patterns.iter().any(|pattern| overlap(&key, pattern))
        };
        let entries = self.entries().filter(|(key, credential)| !credential.is_empty() && serves(key));
        entries.map(|(key, credential)| (key.to_owned(), credential.clone())).collect()
    }
}

/// Whether the pattern covers images that are looked for under the Hub's own key when nothing else covers them: those of the
/// Hub, and those of registries without dot and port (`isDefaultRegistryMatch` in pkg/credentialprovider/keyring.go).
fn falls_back_to_hub(pattern: &ImagePattern) -> bool {
    !pattern.host().contains(['.', ':']) || pattern.covers_registry(HUB_NAME)
}

/// Whether some image is covered by both.
fn overlap(key: &HostAndPath, pattern: &ImagePattern) -> bool {
    let ((key_host, key_port), (host, port)) = (url::split_port(&key.host), url::split_port(pattern.host().as_bytes()));
    let labels = |host: &'_ [u8]| host.split(|byte| *byte == b'.').count();
    key_port == port
        && labels(key_host) == labels(host)
        && key_host
            .split(|byte| *byte == b'.')
            .zip(host.split(|byte| *byte == b'.'))
            .all(|(key, pattern)| labels_overlap(key, pattern))
        && paths_overlap(&key.path, pattern.path())
}

/// Whether a repository that is `path` or lies below it can begin, after its slash, as the key's path does. No `path` is every
/// repository.
fn paths_overlap(key: &[u8], path: &str) -> bool {
    let Ok(key) = std::str::from_utf8(key) else { return false };
    let Some(key) = key.strip_prefix('/') else { return key.is_empty() };
    if path.starts_with(key) {
        return true;
    }
    let below = path.is_empty() || key.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    below && (is_repository(key) || is_repository(&format!("{key}a")))
}

/// One character of a label's glob, or any number of them.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    Byte(u8),
    Any,
    Star,
}

/// Whether two globs match a label in common. A class counts as any character.
fn labels_overlap(a: &[u8], b: &[u8]) -> bool {
    let (Some(a), Some(b)) = (tokens(a), tokens(b)) else { return false };
    let star = |tokens: &[Token]| tokens.iter().position(|token| *token == Token::Star);
    match (star(&a), star(&b)) {
        (None, None) => a.len() == b.len() && agree(&a, &b),
        (Some(_), None) => covers(&a, &b),
        (None, Some(_)) => covers(&b, &a),
        // What stands before the first star of each, and after the last, is all that can exclude: between them the stars
        // of one take in what the other wants.
        (Some(first_a), Some(first_b)) => {
            let end = |tokens: &[Token]| -> Vec<Token> {
                tokens.iter().rev().take_while(|token| **token != Token::Star).copied().collect()
            };
            agree(&a[..first_a], &b[..first_b]) && agree(&end(&a), &end(&b))
        }
    }
}

/// Whether two starless texts agree as far as both reach.
fn agree(a: &[Token], b: &[Token]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (Token::Byte(a), Token::Byte(b)) => a == b,
        _ => true,
    })
}

/// Whether a glob with stars covers a starless text: its pieces in their order, each as early as it can be, the last at the
/// end.
fn covers(glob: &[Token], text: &[Token]) -> bool {
    let mut pieces: Vec<&[Token]> = glob.split(|token| *token == Token::Star).collect();
    let last = pieces.pop().unwrap_or_default();
    let first = pieces.first().copied().unwrap_or_default();
    if text.len() < first.len() + last.len() {
        return false;
    }
    let (mut text, end) = text.split_at(text.len() - last.len());
    if !agree(first, text) || !agree(last, end) {
        return false;
    }
    text = &text[first.len()..];
    for piece in pieces.iter().skip(1).filter(|piece| !piece.is_empty()) {
        let Some(at) = text.windows(piece.len()).position(|window| agree(window, piece)) else { return false };
        text = &text[at + piece.len()..];
    }
    true
}

/// What `filepath.Match` reads in a label; `None` where it is no glob, which matches nothing.
fn tokens(label: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::with_capacity(label.len());
    let mut rest = label;
    while let [first, after @ ..] = rest {
        rest = after;
        tokens.push(match first {
            b'*' => Token::Star,
            b'?' => Token::Any,
            b'[' => {
                rest = &rest[rest.iter().position(|byte| *byte == b']')? + 1..];
                Token::Any
            }
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                Token::Byte(*escaped)
            }
            byte => Token::Byte(*byte),
        });
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::super::glob;
    use super::labels_overlap;

    /// All texts of at most `longest` of the characters of `alphabet`.
    fn texts(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
        let mut all = vec![vec![]];
        let mut from = 0;
        for _ in 0..longest {
            let to = all.len();
            for at in from..to {
                for byte in alphabet {
                    all.push([all[at].as_slice(), &[*byte]].concat());
                }
            }
            from = to;
        }
        all
    }

    #[test]
    fn globs_overlap_exactly_where_a_label_matches_both() {
        let globs = texts(b"ab*", 4);
        let labels = texts(b"ab", 7);
        let matched = |glob: &Vec<u8>| -> Vec<bool> {
            labels.iter().map(|label| glob::matches(glob, label) == Ok(true)).collect()
        };
        let matched: Vec<Vec<bool>> = globs.iter().map(matched).collect();
        for (a, a_matched) in globs.iter().zip(&matched) {
            for (b, b_matched) in globs.iter().zip(&matched) {
                let both = a_matched.iter().zip(b_matched).any(|(a, b)| *a && *b);
                let (a_text, b_text) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
                assert_eq!(labels_overlap(a, b), both, "{a_text} and {b_text}");
            }
        }
    }

    #[test]
    fn a_class_counts_as_any_character() {
        for (a, b, overlap) in [
            ("[xy]", "A", true),
            ("a[::1]c", "a*c", true),
            ("a[xy]", "a", false),
            ("[xy", "x", false),
            ("a?", "ab", true),
            ("\\*", "a", false),
            ("\\*", "*", true),
            ("a\\", "*", false),
        ] {
            assert_eq!(labels_overlap(a.as_bytes(), b.as_bytes()), overlap, "{a} and {b}");
            assert_eq!(labels_overlap(b.as_bytes(), a.as_bytes()), overlap, "{b} and {a}");
        }
    }
}
