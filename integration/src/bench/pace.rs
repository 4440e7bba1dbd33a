//! How evenly a paced flow arrives: the times the peer's kernel gave its frames.
//!
//! A sender paced at rate R sends a frame of L bytes and then nothing for L / R. The gap after each frame is compared with that; the
//! figure is the root of the mean square error, in percent of the mean gap.

use crate::sniff::{Arrival, Sniffer};
use anyhow::{Result, ensure};
use std::net::IpAddr;

/// SO_MAX_PACING_RATE of the flow, in bytes per second: 1 Gbit/s.
pub const RATE: u64 = 125_000_000;
/// The figure's name.
pub const FIELD: &str = "gap_nrmse_percent";

/// Slow start and the last frames are not looked at: this part of the frames at either end.
const SKIPPED: usize = 4;
/// The longest part of a frame that is no data: Ethernet, IPv4, TCP with timestamps.
const HEADERS: usize = 14 + 20 + 32;

/// A peer that writes down what arrives.
#[derive(Debug)]
pub struct Watch(Sniffer);

impl Watch {
    /// Frames from this address.
    pub fn start(from: IpAddr) -> Result<Self> {
        Ok(Self(Sniffer::start_with(from, true)?))
    }

    /// The figure.
    pub fn stop(self) -> Result<f64> {
        let seen = self.0.stop()?;
        let data: Vec<Arrival> = seen.arrivals.into_iter().filter(|a| a.len > HEADERS).collect();
        let skip = data.len() / SKIPPED;
        let middle = data.get(skip..data.len() - skip).unwrap_or_default();
        ensure!(middle.len() > 100, "only {} frames of data", data.len());
        Ok(nrmse(middle))
    }
}

fn nrmse(frames: &[Arrival]) -> f64 {
    let (mut square, mut sum) = (0.0, 0.0);
    for pair in frames.windows(2) {
        let due = (pair[0].len - HEADERS) as f64 / RATE as f64;
        let gap = pair[1].at.saturating_sub(pair[0].at).as_secs_f64();
        square += (gap - due) * (gap - due);
        sum += due;
    }
    let n = (frames.len() - 1) as f64;
    (square / n).sqrt() / (sum / n) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Frames of `len` data bytes, each `late` after its time.
    fn frames(len: usize, late: impl Fn(u32) -> Duration) -> Vec<Arrival> {
        let gap = Duration::from_secs_f64(len as f64 / RATE as f64);
        (0..1000).map(|i| Arrival { at: gap * i + late(i), len: len + HEADERS }).collect()
    }

    #[test]
    fn an_even_flow_has_no_error_and_a_late_frame_counts_twice() {
        assert!(nrmse(&frames(12_500, |_| Duration::ZERO)) < 0.01);
        // Every second frame 10 us late: every gap of 100 us is 10 % wrong.
        let uneven = nrmse(&frames(12_500, |i| Duration::from_micros(u64::from(i % 2) * 10)));
        assert!((uneven - 10.0).abs() < 0.1, "{uneven}");
    }
}
