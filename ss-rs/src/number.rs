//! Numbers as C's printf and `ss` write them.

/// `%.{precision}g`: `precision` significant digits, no trailing zeros, exponent form outside 1e-4 .. 10^precision.
pub fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into();
    }
    let precision = precision.max(1);
    // Rounding may carry into a new digit, so the exponent is read off the rounded form.
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}")).to_owned()
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A rate in bits per second, without the `bps`: `50.8G`; with `numeric` the plain number.
pub fn rate(bits_per_second: f64, numeric: bool) -> String {
    if numeric {
        return format!("{bits_per_second:.0}");
    }
    let (scaled, unit) = match bits_per_second {
        b if b > 1e12 => (b / 1e12, "T"),
        b if b > 1e9 => (b / 1e9, "G"),
        b if b > 1e6 => (b / 1e6, "M"),
        b if b > 1e3 => (b / 1e3, "k"),
        b => return general(b, 6),
    };
    format!("{}{unit}", general(scaled, 3))
}

/// Microseconds as milliseconds, `%g`.
pub fn millis(us: u64) -> String {
    general(us as f64 / 1000.0, 6)
}

/// A timer's rest as `ss` shows it: `204ms`, `1.004ms`, `59sec`, `1min59sec`, `119min`.
pub fn timer(ms: u64) -> String {
    let (mut secs, mut msecs) = (ms / 1000, ms % 1000);
    let minutes = secs / 60;
    secs %= 60;
    let mut out = String::new();
    if minutes > 0 {
        msecs = 0;
        out.push_str(&format!("{minutes}min"));
        if minutes > 9 {
            secs = 0;
        }
    }
    if secs > 0 {
        if secs > 9 {
            msecs = 0;
        }
        out.push_str(&format!("{secs}{}", if msecs > 0 { "." } else { "sec" }));
    }
    if msecs > 0 || out.is_empty() {
        out.push_str(&format!("{msecs:03}ms"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_is_c_printf() {
        for (value, precision, want) in [
            (0.016, 6, "0.016"),
            (204.0, 6, "204"),
            (2.88671875, 6, "2.88672"),
            (50.790396968, 3, "50.8"),
            (999.9, 3, "1e+03"),
            (1_234_567.0, 6, "1.23457e+06"),
            (0.00001234, 6, "1.234e-05"),
            (0.0001, 6, "0.0001"),
            (100.0, 3, "100"),
            (0.0, 6, "0"),
        ] {
            assert_eq!(general(value, precision), want);
        }
    }

    #[test]
    fn rates_as_ss_shows_them() {
        assert_eq!(rate(50_790_396_968.0, false), "50.8G");
        assert_eq!(rate(50_790_396_968.0, true), "50790396968");
        assert_eq!(rate(163_840_000_000.0, false), "164G");
        assert_eq!(rate(0.0, false), "0");
        assert_eq!(rate(1000.0, false), "1000");
        assert_eq!(rate(12_500.0, false), "12.5k");
    }

    #[test]
    fn timers_as_ss_shows_them() {
        for (ms, want) in [
            (204, "204ms"),
            (5, "005ms"),
            (1004, "1.004ms"),
            (12_345, "12sec"),
            (59_000, "59sec"),
            (119_000, "1min59sec"),
            (7_190_000, "119min"),
            (60_000, "1min"),
            (0, "000ms"),
        ] {
            assert_eq!(timer(ms), want, "{ms}");
        }
    }
}
