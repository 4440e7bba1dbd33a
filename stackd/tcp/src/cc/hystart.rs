//! HyStart: leaving slow start before it overflows the bottleneck (Ha and Rhee, "Taming the elephants", 2011), as Linux's
//! CUBIC does it: an ACK train as long as the path, or an RTT that rises within a round. (RFC 9406's HyStart++ keeps only the
//! second; Linux's counters, `TCPHystartTrainDetect` and `TCPHystartDelayDetect`, need both.)

use super::{CcNote, RateSample};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// Below this window (packets) slow start is never left early.
const LOW_WINDOW: u32 = 16;
/// RTT samples of a round before the RTT is judged.
const MIN_SAMPLES: u32 = 8;
/// ACKs closer than this belong to one train.
const TRAIN_GAP: Duration = Duration::from_millis(2);
/// Bounds of the RTT rise that counts.
const MIN_RISE: Duration = Duration::from_millis(4);
const MAX_RISE: Duration = Duration::from_millis(16);
/// Most that a receiver's GRO is assumed to hold ACKs back.
const MAX_ACK_DELAY: Duration = Duration::from_millis(1);

/// The detector. One per connection; starts over with each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hystart {
    /// The round ends when a packet is acked that was sent after this many were delivered.
    round_ends_at: u64,
    round_start: Instant,
    last_ack: Instant,
    /// Smallest RTT of the connection.
    min_rtt: Option<Duration>,
    /// Smallest RTT of this round.
    round_rtt: Option<Duration>,
    samples: u32,
    note: Option<CcNote>,
}

impl Hystart {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            round_ends_at: 0,
            round_start: now,
            last_ack: now,
            min_rtt: None,
            round_rtt: None,
            samples: 0,
            note: None,
        }
    }

    /// Slow start begins anew (after an RTO): what was known of the path's delay may be stale.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(super) const fn take_note(&mut self) -> Option<CcNote> {
        self.note.take()
    }

    /// An ACK in slow start, at this window. True = leave slow start here.
    pub(super) fn on_ack(&mut self, s: &RateSample, cwnd: u32) -> bool {
        if s.prior_delivered >= self.round_ends_at {
            self.round_ends_at = s.delivered_total;
            self.round_start = s.now;
            self.last_ack = s.now;
            self.round_rtt = None;
            self.samples = 0;
        }
        let Some(rtt) = s.rtt else { return false };
        let path = self.min_rtt.map_or(rtt, |m| m.min(rtt));
        self.min_rtt = Some(path);
        if cwnd < LOW_WINDOW {
            return false;
        }
        let found = self.train_is_as_long_as_the_path(s, path, cwnd) || self.rtt_has_risen(rtt, path, cwnd);
        found && self.note.is_some()
    }

    /// ACKs of one round that follow closely show how long the data took to pass the bottleneck: half an RTT of it fills the
    /// forward path.
    fn train_is_as_long_as_the_path(&mut self, s: &RateSample, path: Duration, cwnd: u32) -> bool {
        if s.now - self.last_ack > TRAIN_GAP {
            return false;
        }
        self.last_ack = s.now;
        // Four GSO frames at twice the window per RTT may be late together; a pacing sender spreads a train over half an RTT.
        let gro = path.mul_ratio(4 * 65_536, (2 * u64::from(cwnd) * u64::from(s.mss)).max(1)).min(MAX_ACK_DELAY);
        let limit = if s.pacing_lead.is_zero() { path / 2 } else { path } + gro;
        if s.now - self.round_start <= limit {
            return false;
        }
        self.note = Some(CcNote::HystartTrain { cwnd });
        true
    }

    fn rtt_has_risen(&mut self, rtt: Duration, path: Duration, cwnd: u32) -> bool {
        let lowest = self.round_rtt.map_or(rtt, |r| r.min(rtt));
        self.round_rtt = Some(lowest);
        if self.samples < MIN_SAMPLES {
            self.samples += 1;
            return false;
        }
        if lowest <= path + (path / 8).max(MIN_RISE).min(MAX_RISE) {
            return false;
        }
        self.note = Some(CcNote::HystartDelay { cwnd });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testpath::ack;
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    fn sample(us: u64, rtt_ms: u64, prior: u64, total: u64) -> RateSample {
        let mut s = ack(at(us), 1);
        (s.rtt, s.prior_delivered, s.delivered_total) = (Some(Duration::from_millis(rtt_ms)), prior, total);
        s
    }

    #[test]
    fn a_rising_rtt_ends_slow_start_after_eight_samples() {
        let mut h = Hystart::new(at(0));
        assert!(!h.on_ack(&sample(40_000, 40, 0, 20), 20));
        // Next round, each ACK 5 ms after the one before (no train), RTT 6 ms higher than the path's.
        let left: Vec<bool> = (0..10).map(|i| h.on_ack(&sample(80_000 + i * 5_000, 46, 20, 40), 40)).collect();
        assert_eq!(left.iter().position(|l| *l), Some(8));
        assert_eq!(h.take_note(), Some(CcNote::HystartDelay { cwnd: 40 }));
    }

    #[test]
    fn a_train_longer_than_half_the_path_ends_slow_start() {
        let mut h = Hystart::new(at(0));
        let mut left_at = None;
        for i in 0..60u64 {
            if h.on_ack(&sample(40_000 + i * 1_000, 40, 0, 100), 100) && left_at.is_none() {
                left_at = Some(i);
            }
        }
        assert!(matches!(left_at, Some(20..=23)), "{left_at:?}");
        assert!(matches!(h.take_note(), Some(CcNote::HystartTrain { cwnd: 100 })));
    }

    #[test]
    fn a_small_window_is_left_alone() {
        let mut h = Hystart::new(at(0));
        assert!((0..60u64).all(|i| !h.on_ack(&sample(40_000 + i * 1_000, 40 + i, 0, 100), LOW_WINDOW - 1)));
    }

    #[test]
    fn a_queue_below_the_threshold_is_jitter() {
        let mut h = Hystart::new(at(0));
        assert!(!h.on_ack(&sample(40_000, 40, 0, 20), 20));
        assert!((0..20u64).all(|i| !h.on_ack(&sample(80_000 + i * 5_000, 44, 20, 40), 40)));
    }
}
