//! Durations as Go writes them: `24h`, `1h30m`, `1.5s`.

use std::time::Duration;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads a duration (`time.ParseDuration` in Go, without negative ones): numbers with units, one after the other, or `0`.
/// `None` where it is none, or is longer than Go can hold (about 292 years).
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        seconds += number * factor;
        rest = &rest[unit..];
    }
    const GO_LIMIT: f64 = 9_223_372_036.0;
    (seconds <= GO_LIMIT).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [("24h", 86_400.0), ("1h30m", 5_400.0), ("1.5s", 1.5), ("0", 0.0), ("+90m", 5_400.0), (".5m", 30.0), ("100ms", 0.1)] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "24", "1d", "h", "-1h", "1h ", " 1h", "1 h", "1..5s", "+", "1hh", "9999999999h", "1e3s"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
