//! Durations as Istio's YAML writes them: `1s`, `1h1m`, `100ms`, `1.5s` (proto-JSON and Go's form).

use std::time::Duration;

/// The longest duration accepted, in hours: what a protobuf Duration can hold is far more than anybody means.
pub const HOURS_MAX: u64 = 24 * 365 * 100;

/// Reads a duration; `None` when the text is not one, is negative, or is beyond [`HOURS_MAX`].
///
/// A bare `0` is a duration, as in Go; any other number needs a unit (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`).
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let mut rest = text;
    let mut nanos: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let value: f64 = number.parse().ok()?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        nanos += value * unit_nanos(unit)?;
        rest = tail;
    }
    let limit = HOURS_MAX as f64 * 3.6e12;
    (nanos <= limit).then(|| Duration::from_nanos(nanos.round() as u64))
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 6e10,
        "h" => 3.6e12,
        _ => return None,
    })
}

/// Writes a duration in seconds, `1.5s`: the form that proto-JSON and `config_dump` use.
pub fn seconds(duration: Duration) -> String {
    let text = format!("{:.9}", duration.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("1s", 1_000),
            ("1h1m", 3_660_000),
            ("100ms", 100),
            ("1.5s", 1_500),
            ("0s", 0),
            ("0", 0),
            ("1800s", 1_800_000),
            ("3m", 180_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "5", "s", "1x", "-1s", "1s ", "..s", "99999999999h"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn writes_seconds() {
        assert_eq!(seconds(Duration::from_millis(1500)), "1.5s");
        assert_eq!(seconds(Duration::from_secs(30)), "30s");
        assert_eq!(seconds(Duration::ZERO), "0s");
    }
}
