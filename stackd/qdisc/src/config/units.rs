//! Numbers with tc's units.

use super::ConfigError;
use stackd_base::{Bandwidth, Duration};

fn split(text: &str) -> Option<(f64, String)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let value: f64 = text[..end].parse().ok()?;
    Some((value, text[end..].to_ascii_lowercase()))
}

fn bad(key: &str, value: &str, want: &'static str) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), value: value.to_owned(), want }
}

/// "10mbit", "1.5gbit", "125kbps" (bytes), "1mibit"; a bare number is bits per second.
pub(super) fn rate(key: &str, text: &str) -> Result<Bandwidth, ConfigError> {
    let parse = || {
        let (value, unit) = split(text)?;
        let (scale, per_byte) = match unit.strip_suffix("bit") {
            Some(s) => (s, 8.0),
            None if unit.is_empty() => ("", 8.0),
            None => (unit.strip_suffix("bps")?, 1.0),
        };
        let factor = match scale {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            "t" => 1e12,
            "ki" => 1024.0,
            "mi" => 1_048_576.0,
            "gi" => 1_073_741_824.0,
            _ => return None,
        };
        Some(Bandwidth::from_bytes_per_sec((value * factor / per_byte) as u64))
    };
    parse().ok_or_else(|| bad(key, text, "a rate such as 10mbit, 1.5gbit or 125kbps (bytes)"))
}

/// "100ms", "1.5s", "10us", "500ns"; a bare number is microseconds.
pub(super) fn time(key: &str, text: &str) -> Result<Duration, ConfigError> {
    let parse = || {
        let (value, unit) = split(text)?;
        let ns = match unit.as_str() {
            "s" | "sec" | "secs" => 1e9,
            "ms" | "msec" | "msecs" => 1e6,
            "" | "us" | "usec" | "usecs" => 1e3,
            "ns" | "nsec" | "nsecs" => 1.0,
            _ => return None,
        };
        Some(Duration::from_nanos((value * ns).round() as u64))
    };
    parse().ok_or_else(|| bad(key, text, "a time such as 100ms, 10us or 1s"))
}

/// "1514", "1514b", "32k", "10mb", "1mbit"; in bytes, k = 1024.
pub(super) fn size(key: &str, text: &str) -> Result<u32, ConfigError> {
    let parse = || {
        let (value, unit) = split(text)?;
        let factor = match unit.as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1024.0,
            "m" | "mb" => 1_048_576.0,
            "g" | "gb" => 1_073_741_824.0,
            "kbit" => 128.0,
            "mbit" => 131_072.0,
            _ => return None,
        };
        let bytes = value * factor;
        (bytes <= f64::from(u32::MAX)).then_some(bytes as u32)
    };
    parse().ok_or_else(|| bad(key, text, "a size in bytes below 4g, such as 1514, 32k or 10mb"))
}

/// "1%" or "1"; percent.
pub(super) fn percent(key: &str, text: &str) -> Result<f64, ConfigError> {
    let value = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    value.filter(|v| (0.0..=100.0).contains(v)).ok_or_else(|| bad(key, text, "a percentage between 0% and 100%"))
}

/// A count.
pub(super) fn count(key: &str, text: &str) -> Result<u32, ConfigError> {
    text.parse().map_err(|_| bad(key, text, "a whole number below 2^32"))
}

/// As [`rate`] reads it, exactly.
pub(super) fn show_rate(rate: Bandwidth) -> String {
    let bytes = rate.as_bytes_per_sec();
    for (unit, size) in [("gbit", 125_000_000), ("mbit", 125_000), ("kbit", 125)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}bps")
}

/// As [`time`] reads it, exactly.
pub(super) fn show_time(time: Duration) -> String {
    let ns = time.as_nanos();
    for (unit, size) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if ns >= size && ns.is_multiple_of(size) {
            return format!("{}{unit}", ns / size);
        }
    }
    format!("{ns}ns")
}
