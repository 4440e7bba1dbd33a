//! Long-term bandwidth: when a token-bucket policer drops much of what exceeds its rate, the rate seen over longer intervals that
//! begin and end with losses is the rate to send at, not the maximum that a full bucket lets through.

use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Instant};

/// Least and most rounds of a sampling interval.
const MIN_ROUNDS: u32 = 4;
const MAX_ROUNDS: u32 = 4 * MIN_ROUNDS;
/// Losses that make an interval look policed: 50/256, about 20 % of what was delivered.
const LOSS_THRESHOLD: u64 = 50;
const LOSS_ONE: u64 = 256;
/// Two intervals are consistent when their rates differ by 1/8 or by 4 kbit/s.
const CONSISTENT_RATIO: u64 = 8;
const CONSISTENT_DIFF: Bandwidth = Bandwidth::from_bits_per_sec(4_000);
/// Rounds after which the long-term rate is put to the test.
const USE_ROUNDS: u32 = 48;

/// Where a sampling interval began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Interval {
    start: Instant,
    delivered: u64,
    lost: u64,
    rounds: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum State {
    /// Nothing suspicious.
    Watching,
    /// Between two losses; the rate of the interval before, if it looked policed.
    Sampling(Interval, Option<Bandwidth>),
    /// Policed at this rate, for this many rounds of PROBE_BW.
    Policed(Bandwidth, u32),
}

/// The policer detector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PolicerDetector(State);

/// One ACK or timeout as the detector sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) now: Instant,
    /// Packets delivered and lost over the connection's life.
    pub(super) delivered: u64,
    pub(super) lost: u64,
    /// Something was marked lost right now.
    pub(super) losing: bool,
    pub(super) is_app_limited: bool,
    pub(super) round_start: bool,
    pub(super) in_probe_bw: bool,
    pub(super) mss: u32,
}

/// What the detector wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Nothing,
    /// The long-term rate has been used long enough: probe again from a fresh cycle.
    ProbeAgain,
}

impl PolicerDetector {
    pub(super) const fn new() -> Self {
        Self(State::Watching)
    }

    /// The policed rate, while one is in use.
    pub(super) const fn rate(&self) -> Option<Bandwidth> {
        match self.0 {
            State::Policed(rate, _) => Some(rate),
            State::Watching | State::Sampling(..) => None,
        }
    }

    pub(super) fn reset(&mut self) {
        self.0 = State::Watching;
    }

    pub(super) fn update(&mut self, v: &View) -> Verdict {
        let begin = Interval { start: v.now, delivered: v.delivered, lost: v.lost, rounds: 0 };
        match self.0 {
            State::Policed(rate, rounds) => {
                let rounds = rounds + u32::from(v.in_probe_bw && v.round_start);
                if rounds >= USE_ROUNDS {
                    self.0 = State::Watching;
                    return Verdict::ProbeAgain;
                }
                self.0 = State::Policed(rate, rounds);
            }
            // An interval begins with a loss: the policer's bucket is empty then.
            State::Watching if v.losing && !v.is_app_limited => self.0 = State::Sampling(begin, None),
            State::Watching => {}
            // An application that pauses lets the bucket fill.
            State::Sampling(..) if v.is_app_limited => self.0 = State::Watching,
            State::Sampling(mut interval, before) => {
                interval.rounds += u32::from(v.round_start);
                self.0 = if interval.rounds > MAX_ROUNDS { State::Watching } else { State::Sampling(interval, before) };
                // ... and ends with one.
                if v.losing && (MIN_ROUNDS..=MAX_ROUNDS).contains(&interval.rounds) {
                    self.end_interval(interval, before, begin, v);
                }
            }
        }
        Verdict::Nothing
    }

    fn end_interval(&mut self, interval: Interval, before: Option<Bandwidth>, next: Interval, v: &View) {
        let lost = v.lost.saturating_sub(interval.lost);
        let delivered = v.delivered - interval.delivered;
        let span = v.now - interval.start;
        if delivered == 0 || lost * LOSS_ONE < LOSS_THRESHOLD * delivered || span < Duration::from_millis(1) {
            return;
        }
        let rate = Bandwidth::from_delivery(delivered * u64::from(v.mss), span);
        self.0 = match before {
            Some(before) if are_consistent(before, rate) => {
                let mean = (before.as_bytes_per_sec() / 2).saturating_add(rate.as_bytes_per_sec() / 2);
                State::Policed(Bandwidth::from_bytes_per_sec(mean), 0)
            }
            Some(_) | None => State::Sampling(next, Some(rate)),
        };
    }
}

fn are_consistent(a: Bandwidth, b: Bandwidth) -> bool {
    let diff = a.as_bytes_per_sec().abs_diff(b.as_bytes_per_sec());
    diff <= a.as_bytes_per_sec() / CONSISTENT_RATIO || diff <= CONSISTENT_DIFF.as_bytes_per_sec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of 10 ms that deliver 100 packets and lose `lost`, `losing` at their end.
    fn rounds(d: &mut PolicerDetector, from: u64, n: u64, lost: u64) -> Vec<Verdict> {
        (from..from + n)
            .map(|r| {
                d.update(&View {
                    now: Instant::from_nanos(r * 10_000_000),
                    delivered: r * 100,
                    lost: r * lost,
                    losing: lost > 0,
                    is_app_limited: false,
                    round_start: true,
                    in_probe_bw: true,
                    mss: 1000,
                })
            })
            .collect()
    }

    #[test]
    fn two_consistent_lossy_intervals_are_a_policer() {
        let mut d = PolicerDetector::new();
        rounds(&mut d, 0, 9, 30);
        assert_eq!(d.rate(), Some(Bandwidth::from_bytes_per_sec(10_000_000)));
    }

    #[test]
    fn one_percent_loss_is_no_policer() {
        let mut d = PolicerDetector::new();
        rounds(&mut d, 0, 200, 1);
        assert_eq!(d.rate(), None);
    }

    #[test]
    fn the_rate_is_tested_after_48_rounds() {
        let mut d = PolicerDetector::new();
        rounds(&mut d, 0, 9, 30);
        let verdicts = rounds(&mut d, 9, 48, 0);
        assert_eq!(verdicts.iter().position(|v| *v == Verdict::ProbeAgain), Some(47));
        assert_eq!(d.rate(), None);
    }
}
