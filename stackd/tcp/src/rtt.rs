//! Round-trip time: smoothing, deviation, RTO (RFC 6298) and the windowed minimum.

use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// RFC 6298, 2.1: "Until a round-trip time (RTT) measurement has been made ..., the sender SHOULD set RTO <- 1 second".
pub(crate) const INITIAL_RTO: Duration = Duration::from_secs(1);
/// Linux's `tcp_min_rtt_wlen` default.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(300);

/// Estimator of one connection.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rtt {
    srtt: Option<Duration>,
    /// Four times the mean deviation.
    mdev: Duration,
    mdev_max: Duration,
    rttvar: Duration,
    /// Position that ends the current round for the deviation's decay.
    round_end: u64,
    min: MinFilter,
    /// Last sample.
    last: Option<Duration>,
}

impl Rtt {
    /// RFC 6298, 2.2 and 2.3, with Linux's refinement: the deviation used is the largest of the last round trip and never below
    /// `rto_min`, so that the RTO is at least `srtt + rto_min`.
    pub fn sample(&mut self, rtt: Duration, una: u64, nxt: u64, rto_min: Duration) {
        self.last = Some(rtt);
        let Some(srtt) = self.srtt else {
            self.srtt = Some(rtt);
            self.mdev = rtt * 2;
            self.rttvar = self.mdev.max(rto_min);
            self.mdev_max = self.rttvar;
            self.round_end = nxt;
            return;
        };
        let (r, s) = (rtt.as_nanos() as i64, srtt.as_nanos() as i64);
        let err = r - s;
        self.srtt = Some(Duration::from_nanos((s + err / 8).max(1) as u64));
        let mdev = self.mdev.as_nanos() as i64;
        let mut delta = err.abs() - mdev / 4;
        // A sudden fall of the RTT must not inflate the deviation as a rise does.
        if err < 0 && delta > 0 {
            delta /= 8;
        }
        self.mdev = Duration::from_nanos((mdev + delta).max(0) as u64);
        if self.mdev > self.mdev_max {
            self.mdev_max = self.mdev;
            self.rttvar = self.rttvar.max(self.mdev_max);
        }
        if una > self.round_end {
            if self.mdev_max < self.rttvar {
                self.rttvar = self.rttvar - (self.rttvar - self.mdev_max) / 4;
            }
            self.round_end = nxt;
            self.mdev_max = rto_min;
            // The least RTO may have been raised meanwhile (a sysctl, another route).
            self.rttvar = self.rttvar.max(rto_min);
        }
    }

    /// Feeds the windowed minimum.
    pub fn sample_min(&mut self, now: Instant, rtt: Duration) {
        self.min.update(now, rtt);
    }
    /// Smoothed RTT; `None` before the first sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.srtt
    }
    /// Mean deviation.
    pub fn rttvar(&self) -> Duration {
        self.mdev / 4
    }
    /// Windowed minimum.
    pub fn min(&self) -> Option<Duration> {
        self.min.get()
    }
    /// RFC 6298, 2.3: "RTO <- SRTT + max (G, K*RTTVAR)". Without backoff.
    pub fn rto(&self, rto_max: Duration) -> Duration {
        match self.srtt {
            None => INITIAL_RTO,
            Some(s) => (s + self.rttvar).min(rto_max),
        }
    }
}

/// Minimum over the current and the previous half of the window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct MinFilter {
    half_start: Instant,
    current: Option<Duration>,
    previous: Option<Duration>,
}

impl MinFilter {
    fn update(&mut self, now: Instant, v: Duration) {
        let half = MIN_RTT_WINDOW / 2;
        let age = now - self.half_start;
        if self.current.is_none() || age >= half {
            self.previous = if age >= MIN_RTT_WINDOW { None } else { self.current };
            self.current = None;
            self.half_start = now;
        }
        self.current = Some(self.current.map_or(v, |c| c.min(v)));
    }
    fn get(&self) -> Option<Duration> {
        match (self.current, self.previous) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
