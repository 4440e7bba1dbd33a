//! Rates and gains, as types that cannot be confused with counts.

use crate::Duration;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Bytes per second. Never compared with a gain or a count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// Nothing moves.
    pub const ZERO: Self = Self(0);
    /// Unlimited (Linux's `~0` of `SO_MAX_PACING_RATE`).
    pub const MAX: Self = Self(u64::MAX);

    /// `n` bytes per second.
    pub const fn from_bytes_per_sec(n: u64) -> Self {
        Self(n)
    }
    /// `n` bits per second, rounded down to whole bytes.
    pub const fn from_bits_per_sec(n: u64) -> Self {
        Self(n / 8)
    }
    /// What moved `bytes` in `over`; a zero span counts as one nanosecond.
    pub const fn from_delivery(bytes: u64, over: Duration) -> Self {
        let ns = if over.as_nanos() == 0 { 1 } else { over.as_nanos() };
        let v = bytes as u128 * 1_000_000_000 / ns as u128;
        Self(if v > u64::MAX as u128 { u64::MAX } else { v as u64 })
    }
    /// Bytes per second.
    pub const fn as_bytes_per_sec(self) -> u64 {
        self.0
    }
    /// Bits per second, saturating.
    pub const fn as_bits_per_sec(self) -> u64 {
        self.0.saturating_mul(8)
    }
    /// True when no rate is set.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// Time to send `bytes` at this rate, rounded up; `None` at rate zero.
    pub const fn transmission_time(self, bytes: u64) -> Option<Duration> {
        if self.0 == 0 {
            return None;
        }
        let ns = (bytes as u128 * 1_000_000_000).div_ceil(self.0 as u128);
        Some(Duration::from_nanos(if ns > u64::MAX as u128 { u64::MAX } else { ns as u64 }))
    }
    /// Bytes that fit into `span` at this rate, rounded down.
    pub const fn bytes_in(self, span: Duration) -> u64 {
        let v = self.0 as u128 * span.as_nanos() as u128 / 1_000_000_000;
        if v > u64::MAX as u128 { u64::MAX } else { v as u64 }
    }
    /// This rate scaled by a gain, saturating.
    pub const fn scaled(self, gain: Gain) -> Self {
        Self(gain.apply(self.0))
    }
}

impl fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}bps", self.as_bits_per_sec())
    }
}

/// A dimensionless factor in fixed point, 1.0 = 256 (the unit of Linux's BBR, `BBR_UNIT`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gain(pub u32);

impl Gain {
    /// 1.0
    pub const ONE: Self = Self(256);
    /// `num / den`, rounded down to 1/256.
    pub const fn from_ratio(num: u32, den: u32) -> Self {
        Self(num * 256 / den)
    }
    /// `value * gain`, saturating.
    pub const fn apply(self, value: u64) -> u64 {
        let v = value as u128 * self.0 as u128 / 256;
        if v > u64::MAX as u128 { u64::MAX } else { v as u64 }
    }
}

impl fmt::Debug for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", f64::from(self.0) / 256.0)
    }
}

/// The most payload bytes one TCP segment may carry on this path, options already subtracted. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Mss(u16);

impl Mss {
    /// RFC 9293, 3.7.1: "If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536".
    pub const DEFAULT_V4: Self = Self(536);
    /// RFC 9293, 3.7.1: 1220 for IPv6 (1280 - 40 - 20).
    pub const DEFAULT_V6: Self = Self(1220);

    /// `None` for zero.
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes == 0 { None } else { Some(Self(bytes)) }
    }
    /// At least one byte.
    pub const fn new_clamped(bytes: u32) -> Self {
        Self(if bytes == 0 {
            1
        } else if bytes > 65_535 {
            65_535
        } else {
            bytes as u16
        })
    }
    /// In bytes.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
    /// Segments needed for `bytes`, rounded up.
    pub const fn segments(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transmission_time_rounds_up_and_knows_zero() {
        let gbit = Bandwidth::from_bits_per_sec(1_000_000_000);
        assert_eq!(gbit.transmission_time(125), Some(Duration::from_micros(1)));
        assert_eq!(gbit.transmission_time(1), Some(Duration::from_nanos(8)));
        assert_eq!(Bandwidth::ZERO.transmission_time(1), None);
        assert_eq!(gbit.bytes_in(Duration::from_secs(1)), 125_000_000);
    }

    #[test]
    fn gains_scale_without_overflow() {
        assert_eq!(Gain::from_ratio(5, 4).apply(1000), 1250);
        assert_eq!(Bandwidth::MAX.scaled(Gain(512)), Bandwidth::MAX);
    }
}
