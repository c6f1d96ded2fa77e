//! A single value as it is written in YAML, and what YAML takes it for.

use std::borrow::Cow;

/// A single value.
#[derive(Debug)]
pub(super) struct Scalar<'t> {
    pub(super) text: Cow<'t, str>,
    /// Without quotes or other signs that it is text: YAML may take it as a number, a truth value or nothing.
    pub(super) plain: bool,
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Number,
    Boolean,
    Null,
}

impl Scalar<'_> {
    /// As the YAML library that Kubernetes uses takes it (`go.yaml.in/yaml/v2`, `resolve.go`): YAML 1.1, where `yes`
    /// is a truth value and `0777` and `1_000` are numbers, with the octal numbers of 1.2.
    pub(super) fn kind(&self) -> ScalarKind {
        if !self.plain {
            return ScalarKind::Text;
        }
        match &*self.text {
            "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off"
            | "OFF" | "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
            text if is_number(text) => ScalarKind::Number,
            _ => ScalarKind::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let digits = unsigned.replace('_', "");
    let of_base = |prefixes: [&str; 2], base: u32| {
        let digits = prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix));
        digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base)))
    };
    if of_base(["0x", "0X"], 16) || of_base(["0o", "0O"], 8) || of_base(["0b", "0B"], 2) {
        return true;
    }
    // What Rust reads as a float beyond digits, point and exponent (`inf`, `nan`) is text in YAML.
    unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') && digits.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_taken_for_what_kubernetes_takes_it_for() {
        use ScalarKind::{Boolean, Null, Number, Text};
        for (kind, texts) in [
            (Null, &["", "~", "null", "Null", "NULL"][..]),
            (Boolean, &["true", "False", "yes", "NO", "on", "Off", "y", "N"]),
            (Number, &["0", "-1", "+1", "1_000", "1.5", ".5", "1e3", "-.inf", ".NaN", "0x1F", "0o17", "0b10", "0777"]),
            (
                Text,
                &[
                    "asia.gcr.io",
                    "24h",
                    "1.2.3",
                    "nan",
                    "inf",
                    "infinity",
                    "nULL",
                    "yEs",
                    "0x",
                    "0xg",
                    "1e",
                    "-",
                    ".",
                    "1 2",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(Scalar { text: (*text).into(), plain: true }.kind(), kind, "{text:?}");
                assert_eq!(Scalar { text: (*text).into(), plain: false }.kind(), Text, "{text:?} in quotes");
            }
        }
    }
}
