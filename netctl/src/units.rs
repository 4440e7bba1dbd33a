//! tc's units: rates, sizes and times, read and written as iproute2 does.

use ss_rs::number::general;

/// A rate in bytes per second: `1mbit`, `10Gbit`, `5mbps` (bytes), `1gibit`, a bare number of bits per second.
pub fn parse_rate(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let (bytes, prefix) = match unit.strip_suffix("bit") {
        Some(prefix) => (false, prefix),
        None => match unit.strip_suffix("bps") {
            Some(prefix) => (true, prefix),
            None if unit.is_empty() => (false, ""),
            None => return None,
        },
    };
    let scale = match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024f64.powi(2),
        "gi" => 1024f64.powi(3),
        "ti" => 1024f64.powi(4),
        _ => return None,
    };
    let value = number * scale / if bytes { 1.0 } else { 8.0 };
    (value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

/// `1Mbit`, as `tc` prints a rate of bytes per second.
pub fn show_rate(bytes_per_second: u64) -> String {
    let mut bits = u128::from(bytes_per_second) * 8;
    for unit in ["bit", "Kbit", "Mbit", "Gbit"] {
        // iproute2 climbs while nothing is lost, or while the number stays long.
        if bits < 1000 || (bits % 1000 != 0 && bits < 1_000_000) {
            return format!("{bits}{unit}");
        }
        bits /= 1000;
    }
    format!("{bits}Tbit")
}

/// Bytes: `10k`, `1mb`, `1500`, `3b`, `1mbit`.
pub fn parse_size(text: &str) -> Option<u32> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1024.0,
        "m" | "mb" => 1024f64.powi(2),
        "g" | "gb" => 1024f64.powi(3),
        "kbit" => 1024.0 / 8.0,
        "mbit" => 1024f64.powi(2) / 8.0,
        "gbit" => 1024f64.powi(3) / 8.0,
        _ => return None,
    };
    let value = number * scale;
    (value.is_finite() && value <= f64::from(u32::MAX)).then_some(value as u32)
}

/// `10Kb`, `1514b`.
pub fn show_size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && (b - (b >> 20 << 20)) < 1024 => format!("{}Mb", b >> 20),
        b if b >= 1 << 10 && (b - (b >> 10 << 10)) < 16 => format!("{}Kb", b >> 10),
        b => format!("{b}b"),
    }
}

/// Nanoseconds: `100ms`, `1.5s`, `20us`, `7ns`; a bare number is microseconds.
pub fn parse_time_ns(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "us" | "usec" | "usecs" => 1e3,
        "ns" | "nsec" | "nsecs" => 1.0,
        "ms" | "msec" | "msecs" => 1e6,
        "s" | "sec" | "secs" => 1e9,
        _ => return None,
    };
    let value = number * scale;
    (value.is_finite() && value < u64::MAX as f64).then(|| value.round() as u64)
}

/// `100ms`, `1.5s`, `20us`, `7ns`.
pub fn show_time_ns(ns: u64) -> String {
    match ns {
        n if n >= 1_000_000_000 => format!("{}s", general(n as f64 / 1e9, 3)),
        n if n >= 1_000_000 => format!("{}ms", general(n as f64 / 1e6, 3)),
        n if n >= 1000 => format!("{}us", general(n as f64 / 1e3, 3)),
        n => format!("{n}ns"),
    }
}

/// `1%`, `0.5%`, `25`: percent, 0..=100.
pub fn parse_percent(text: &str) -> Option<f64> {
    let value: f64 = text.strip_suffix('%').unwrap_or(text).parse().ok()?;
    (0.0..=100.0).contains(&value).then_some(value)
}

/// `1%`.
pub fn show_percent(percent: f64) -> String {
    format!("{}%", general(percent, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, bytes) in
            [("1mbit", 125_000), ("10Gbit", 1_250_000_000), ("8", 1), ("1kbps", 1000), ("1.5mbit", 187_500)]
        {
            assert_eq!(parse_rate(text), Some(bytes), "{text}");
        }
        for text in ["", "mbit", "1furlong", "-1mbit", "1e400bit"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
        assert_eq!(show_rate(125_000), "1Mbit");
        assert_eq!(show_rate(1_250_000_000), "10Gbit");
        assert_eq!(show_rate(187_500), "1500Kbit");
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(parse_size("10k"), Some(10_240));
        assert_eq!(show_size(10_240), "10Kb");
        assert_eq!(show_size(1514), "1514b");
        assert_eq!(parse_size("5g"), None);
        assert_eq!(parse_time_ns("100ms"), Some(100_000_000));
        assert_eq!(parse_time_ns("50"), Some(50_000));
        assert_eq!(show_time_ns(50_000_000), "50ms");
        assert_eq!(show_time_ns(10_000), "10us");
        assert_eq!(parse_percent("0.5%"), Some(0.5));
        assert_eq!(parse_percent("101%"), None);
    }
}
