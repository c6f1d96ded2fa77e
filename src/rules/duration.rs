//! Durations as Go writes them (`24h`, `1h30m`): what Kubernetes uses, in documents and flags alike.
//!
//! kube has a reader of them too, but it panics on values that Go refuses as too large.

use std::time::Duration;

/// Go's largest duration: its type counts nanoseconds in a signed 64-bit integer.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Reads `text` as Go's `time.ParseDuration` does (`src/time/format.go`), except that a sign is refused: no duration
/// of ours can be negative.
///
/// The error says what is wrong and what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("is empty: write a duration such as `24h` or `1h30m`".to_owned());
    }
    if text.starts_with(['-', '+']) {
        return Err("has a sign: a duration is never negative, write for example `24h`".to_owned());
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanoseconds: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| !c.is_ascii_digit() && c != '.');
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err("is not a duration: write numbers with units, such as `24h` or `1h30m`".to_owned());
        }
        if unit.is_empty() {
            return Err(format!(
                "has no unit after `{number}`: write for example `{number}h`, `{number}m` or `{number}s`"
            ));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let days = if unit == "d" { " (a day is `24h`)" } else { "" };
            return Err(format!("has the unknown unit `{unit}`{days}: write `h`, `m`, `s`, `ms`, `us` or `ns`"));
        };
        nanoseconds = decimal(whole, fraction, *scale)
            .and_then(|part| nanoseconds.checked_add(part))
            .filter(|sum| *sum <= MAX_NANOSECONDS)
            .ok_or("is more than a duration can be: at most `2562047h`")?;
        rest = after;
    }
    let whole_seconds = u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
    let nanoseconds = u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0);
    Ok(Duration::new(whole_seconds, nanoseconds))
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// `whole.fraction` times `scale`; what is less than a nanosecond is dropped. `None` when too large.
fn decimal(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than this cannot make a nanosecond of difference, even of hours.
    let fraction = &fraction[..fraction.len().min(18)];
    let fraction = if fraction.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction.len()).ok()?;
        fraction.parse::<u128>().ok()?.checked_mul(scale)? / 10u128.pow(digits)
    };
    whole.checked_mul(scale)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let second = Duration::from_secs(1);
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("24h", 24 * 3600 * second),
            ("1h30m", 5400 * second),
            ("1h15m30.918273645s", Duration::new(4530, 918_273_645)),
            (".5s", second / 2),
            ("5.s", 5 * second),
            ("1.5h", 5400 * second),
            ("10ns", Duration::from_nanos(10)),
            ("11us", Duration::from_micros(11)),
            ("12\u{b5}s", Duration::from_micros(12)),
            ("12\u{3bc}s", Duration::from_micros(12)),
            ("13ms", Duration::from_millis(13)),
            ("9223372036.854775807s", Duration::from_nanos(i64::MAX as u64)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_with_what_to_write_instead() {
        for (text, message) in [
            ("", "is empty: write a duration such as `24h` or `1h30m`"),
            ("-5m", "has a sign: a duration is never negative, write for example `24h`"),
            ("24", "has no unit after `24`: write for example `24h`, `24m` or `24s`"),
            ("1d", "has the unknown unit `d` (a day is `24h`): write `h`, `m`, `s`, `ms`, `us` or `ns`"),
            ("1 h", "has the unknown unit ` h`: write `h`, `m`, `s`, `ms`, `us` or `ns`"),
            ("h", "is not a duration: write numbers with units, such as `24h` or `1h30m`"),
            (".s", "is not a duration: write numbers with units, such as `24h` or `1h30m`"),
            ("1.2.3s", "is not a duration: write numbers with units, such as `24h` or `1h30m`"),
            ("2562048h", "is more than a duration can be: at most `2562047h`"),
            ("9999999999999999999999999999999999999999h", "is more than a duration can be: at most `2562047h`"),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }
}
