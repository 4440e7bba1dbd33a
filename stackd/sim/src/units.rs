//! Numbers as `tc` writes them.

use stackd_base::{Bandwidth, Duration};

fn split(s: &str) -> Result<(f64, String), String> {
    let at = s.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(s.len());
    let n: f64 = s[..at].parse().map_err(|_| format!("{s}: no number"))?;
    Ok((n, s[at..].trim().to_ascii_lowercase()))
}

/// `10gbit`, `1.5mbit`, `9600bit`.
pub fn rate(s: &str) -> Result<Bandwidth, String> {
    let (n, unit) = split(s)?;
    let factor = match unit.as_str() {
        "bit" | "bps" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err(format!("{s}: want a number with bit, kbit, mbit or gbit")),
    };
    let bits = n * factor;
    if bits < 8.0 {
        return Err(format!("{s}: less than a byte a second"));
    }
    Ok(Bandwidth::from_bits_per_sec(bits as u64))
}

/// `100ms`, `20us`, `1.5s`.
pub fn time(s: &str) -> Result<Duration, String> {
    let (n, unit) = split(s)?;
    let factor = match unit.as_str() {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(format!("{s}: want a number with ns, us, ms or s")),
    };
    Ok(Duration::from_nanos((n * factor) as u64))
}

/// `250mb` (10^6), `64mib` (2^20), `1000`.
pub fn bytes(s: &str) -> Result<u64, String> {
    let (n, unit) = split(s)?;
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(format!("{s}: want a number, or one with kb, mb, gb, kib, mib or gib")),
    };
    Ok((n * factor) as u64)
}

/// `1%` or `0.01`.
pub fn fraction(s: &str) -> Result<f64, String> {
    let (n, unit) = split(s)?;
    let f = match unit.as_str() {
        "" => n,
        "%" => n / 100.0,
        _ => return Err(format!("{s}: want a fraction or a percentage")),
    };
    if f > 1.0 { Err(format!("{s}: more than everything; want at most 100%")) } else { Ok(f) }
}

/// A rate for a reader.
pub fn show_rate(bits: u64) -> String {
    match bits {
        0..1_000_000 => format!("{:.1} kbit/s", bits as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} Mbit/s", bits as f64 / 1e6),
        _ => format!("{:.2} Gbit/s", bits as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_tc_s() {
        assert_eq!(rate("10gbit"), Ok(Bandwidth::from_bytes_per_sec(1_250_000_000)));
        assert_eq!(time("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!((bytes("250mb"), bytes("1kib"), bytes("7")), (Ok(250_000_000), Ok(1024), Ok(7)));
        assert_eq!((fraction("1%"), fraction("0.25")), (Ok(0.01), Ok(0.25)));
        assert!(rate("10").is_err() && time("5m").is_err() && fraction("200%").is_err() && bytes("x").is_err());
    }
}
