//! ACK aggregation: how much more than the estimated bandwidth explains is acknowledged at once. Wi-Fi, cable and receivers with GRO
//! deliver ACKs in bursts; a window of only the BDP would run dry between two of them.

use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Instant};

/// Rounds after which the older half of the maximum is forgotten: the window is 5 to 10 rounds.
const WINDOW_ROUNDS: u8 = 5;
/// An epoch ends after this many packets at the latest, for it is compared with an estimate that may be wrong.
const EPOCH_LIMIT: u64 = 1 << 20;
/// Aggregation is provisioned for up to this span of bandwidth.
const MAX_SPAN: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Aggregation {
    epoch_start: Instant,
    epoch_acked: u64,
    /// Maxima of this half of the window and of the one before, in packets.
    extra: [u64; 2],
    rounds: u8,
    current: usize,
}

impl Aggregation {
    pub(super) const fn new(now: Instant) -> Self {
        Self { epoch_start: now, epoch_acked: 0, extra: [0; 2], rounds: 0, current: 0 }
    }

    /// A new epoch, for what was measured across an idle span says nothing.
    pub(super) const fn restart_epoch(&mut self, now: Instant) {
        self.epoch_start = now;
        self.epoch_acked = 0;
    }

    /// `acked` packets were just (s)acked; `bw` is the estimate; `cwnd` bounds what a window can add.
    pub(super) fn update(&mut self, now: Instant, acked: u32, bw: Bandwidth, mss: u32, cwnd: u32, round_start: bool) {
        if round_start {
            self.rounds += 1;
            if self.rounds >= WINDOW_ROUNDS {
                self.rounds = 0;
                self.current ^= 1;
                self.extra[self.current] = 0;
            }
        }
        let mut expected = bw.bytes_in(now - self.epoch_start) / u64::from(mss.max(1));
        // ACKs no longer come faster than the estimate: the burst is over.
        if self.epoch_acked <= expected || self.epoch_acked + u64::from(acked) >= EPOCH_LIMIT {
            self.restart_epoch(now);
            expected = 0;
        }
        self.epoch_acked += u64::from(acked);
        let extra = (self.epoch_acked - expected.min(self.epoch_acked)).min(u64::from(cwnd));
        self.extra[self.current] = self.extra[self.current].max(extra);
    }

    /// Packets to add to the window.
    pub(super) fn cwnd_bonus(&self, bw: Bandwidth, mss: u32) -> u64 {
        let most = bw.bytes_in(MAX_SPAN) / u64::from(mss.max(1));
        self.extra[0].max(self.extra[1]).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 Mbit/s with packets of 1500 bytes: one packet a millisecond.
    const BW: Bandwidth = Bandwidth::from_bits_per_sec(12_000_000);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_burst_of_acks_adds_what_the_bandwidth_does_not_explain() {
        let mut a = Aggregation::new(at(0));
        for burst in 1..=5 {
            a.update(at(burst * 20), 20, BW, 1500, 100, false);
        }
        assert_eq!(a.cwnd_bonus(BW, 1500), 20);
    }

    #[test]
    fn smooth_acks_add_one_packet() {
        let mut a = Aggregation::new(at(0));
        (1..=100).for_each(|ms| a.update(at(ms), 1, BW, 1500, 100, false));
        assert_eq!(a.cwnd_bonus(BW, 1500), 1);
    }

    #[test]
    fn a_burst_is_forgotten_after_ten_rounds() {
        let mut a = Aggregation::new(at(0));
        a.update(at(20), 50, BW, 1500, 100, true);
        for round in 1..=10 {
            a.update(at(100 + round), 1, BW, 1500, 100, true);
        }
        assert!(a.cwnd_bonus(BW, 1500) <= 2);
    }

    #[test]
    fn the_bonus_is_at_most_a_tenth_of_a_second_of_bandwidth() {
        let mut a = Aggregation::new(at(0));
        a.update(at(1), 5_000, BW, 1500, 5_000, false);
        assert_eq!(a.cwnd_bonus(BW, 1500), 100);
    }
}
