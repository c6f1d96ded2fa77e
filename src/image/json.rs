//! JSON as Go's `encoding/json` reads it into structs and maps: names of fields without regard to case, repeated members one
//! after the other, `null` as nothing, and text that is not Unicode as U+FFFD.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting that Go reads.
const DEPTH: usize = 10_000;

/// The text is not what Go would read without an error. What it held is not told: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    #[error("is not JSON (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("is nested deeper than {DEPTH}")]
    Depth,
    #[error("has something else where a mapping belongs")]
    NotAnObject,
    #[error("has something else where text belongs")]
    NotText,
}

/// Replaces what is not UTF-8 as Go does: each byte by itself.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    text
}

/// Checks that a text is one JSON value that Go reads.
pub(super) fn value(text: &str) -> Result<&RawValue, JsonError> {
    if deepest(text.as_bytes()) > DEPTH {
        return Err(JsonError::Depth);
    }
    serde_json::from_str(text).map_err(|error| JsonError::Syntax { line: error.line(), column: error.column() })
}

fn deepest(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The members of a mapping in their order, repeated ones too; `None` for `null`.
pub(super) fn members(value: &RawValue) -> Result<Option<Vec<(String, &RawValue)>>, JsonError> {
    match value.get().as_bytes().first() {
        Some(b'{') => serde_json::from_str::<Members<'_>>(value.get())
            .map(|members| Some(members.0))
            .map_err(|_| JsonError::NotAnObject),
        Some(b'n') => Ok(None),
        _ => Err(JsonError::NotAnObject),
    }
}

/// A text; `None` for `null`.
pub(super) fn text(value: &RawValue) -> Result<Option<String>, JsonError> {
    match value.get().as_bytes().first() {
        Some(b'"') => Text
            .deserialize(&mut serde_json::Deserializer::from_str(value.get()))
            .map(Some)
            .map_err(|_| JsonError::NotText),
        Some(b'n') => Ok(None),
        _ => Err(JsonError::NotText),
    }
}

/// Whether the name of a member names a field: Go folds case as Unicode does, in which `ſ` is an s and `K` (the sign) a k.
pub(super) fn names(member: &str, field: &str) -> bool {
    let fold = |char: char| match char {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        char => char.to_ascii_lowercase(),
    };
    member.chars().map(fold).eq(field.chars().map(fold))
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key_seed(Text)? {
                    members.push((name, map.next_value()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Each).map(Self)
    }
}

/// Reads text by its bytes: `serde_json` then hands over a lone surrogate, which it would refuse in a string.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    /// What was UTF-8 before can only fail to be now by surrogates, of three bytes each.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
        let mut text = String::with_capacity(bytes.len());
        let mut invalid = 0;
        for chunk in bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                invalid = 0;
            }
            text.push_str(chunk.valid());
            for _ in chunk.invalid() {
                if invalid % 3 == 0 {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
                invalid += 1;
            }
        }
        Ok(text)
    }
}
