//! HyStart++ (RFC 9406): leaving slow start before it overflows the bottleneck. An RTT that rises within a round begins a conservative
//! slow start (CSS), which grows a quarter as fast; five rounds of it end slow start, an RTT that falls again resumes it.
//!
//! Linux's own detector is the older HyStart, which also takes a long train of ACKs for a full path (`TCPHystartTrainDetect`); that is what
//! HyStart++ dropped, because pacing and GRO make such trains. The exits here count as `TCPHystartDelayDetect`.

use super::{CcNote, RateSample};
use serde::{Deserialize, Serialize};
use stackd_base::Duration;

/// RFC 9406, 4.3: the constants.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u64 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u32 = 5;
/// "L = infinity if paced, L = 8 if non-paced": packets of growth that one ACK may pay for.
const L: u32 = 8;

/// What an ACK in slow start means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Grow as if so many packets had been acknowledged.
    Grow(u32),
    /// Slow start is over: ssthresh is the window.
    Leave,
}

/// The detector. One per connection; it starts over with each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hystart {
    /// The round ends when a packet is acked that was sent after this many were delivered.
    round_ends_at: u64,
    /// `lastRoundMinRTT`; `Duration::MAX` before there is one.
    last_round_min: Duration,
    /// `currentRoundMinRTT`, likewise.
    round_min: Duration,
    samples: u32,
    css: Option<Css>,
    note: Option<CcNote>,
}

/// Conservative slow start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Css {
    /// `cssBaselineMinRtt`.
    baseline: Duration,
    /// Rounds that have ended in it, the one it began in among them.
    rounds: u32,
    /// Packets acknowledged and not yet turned into growth.
    credit: u32,
}

impl Default for Hystart {
    fn default() -> Self {
        let (last_round_min, round_min) = (Duration::MAX, Duration::MAX);
        Self { round_ends_at: 0, last_round_min, round_min, samples: 0, css: None, note: None }
    }
}

impl Hystart {
    pub(super) const fn take_note(&mut self) -> Option<CcNote> {
        self.note.take()
    }

    /// An ACK in slow start, at window `cwnd`.
    pub(super) fn on_ack(&mut self, s: &RateSample, cwnd: u32) -> Verdict {
        if s.prior_delivered >= self.round_ends_at && self.begin_round(s.delivered_total) {
            self.note = Some(CcNote::HystartDelay { cwnd });
            self.css = None;
            return Verdict::Leave;
        }
        if let Some(rtt) = s.rtt {
            self.round_min = self.round_min.min(rtt);
            self.samples = self.samples.saturating_add(1);
            self.judge();
        }
        let acked = if s.pacing_lead.is_zero() { s.acked_sacked.min(L) } else { s.acked_sacked };
        Verdict::Grow(match &mut self.css {
            None => acked,
            Some(css) => {
                // 4.2: "cwnd = cwnd + (min(N, L * SMSS) / CSS_GROWTH_DIVISOR)".
                css.credit += acked;
                let grown = css.credit / CSS_GROWTH_DIVISOR;
                css.credit %= CSS_GROWTH_DIVISOR;
                grown
            }
        })
    }

    /// True when this was the last round that CSS may last.
    fn begin_round(&mut self, delivered: u64) -> bool {
        self.round_ends_at = delivered;
        (self.last_round_min, self.round_min, self.samples) = (self.round_min, Duration::MAX, 0);
        // 4.2: "CSS lasts at most CSS_ROUNDS rounds. If the transition into CSS happens in the middle of a round, that partial round
        // counts towards the limit."
        self.css.as_mut().is_some_and(|css| {
            css.rounds += 1;
            css.rounds >= CSS_ROUNDS
        })
    }

    fn judge(&mut self) {
        let (now, last) = (self.round_min, self.last_round_min);
        if self.samples < N_RTT_SAMPLE {
            return;
        }
        match self.css {
            // 4.2: "if (currentRoundMinRTT < cssBaselineMinRtt) ... resume slow start including HyStart++".
            Some(css) if now < css.baseline => self.css = None,
            Some(_) => {}
            None if last == Duration::MAX => {}
            None => {
                // 4.2: "RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH))".
                let rise = (last / MIN_RTT_DIVISOR).min(MAX_RTT_THRESH).max(MIN_RTT_THRESH);
                if now >= last + rise {
                    self.css = Some(Css { baseline: now, rounds: 0, credit: 0 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testpath::ack;
    use super::*;
    use stackd_base::Instant;

    /// One ACK of `n` packets; `round` = packets delivered before its data was sent.
    fn sample(round: u64, rtt_ms: u64, n: u32) -> RateSample {
        let mut s = ack(Instant::from_nanos(1), n);
        (s.rtt, s.prior_delivered, s.delivered_total) = (Some(Duration::from_millis(rtt_ms)), round, round + 100);
        s.pacing_lead = Duration::from_nanos(1);
        s
    }

    /// Ten ACKs of a round at this RTT: what they let the window grow by, or `None` when slow start ended.
    fn round(h: &mut Hystart, number: u64, rtt_ms: u64) -> Option<u32> {
        (0..10).try_fold(0, |sum, _| match h.on_ack(&sample(number * 100, rtt_ms, 4), 200) {
            Verdict::Grow(n) => Some(sum + n),
            Verdict::Leave => None,
        })
    }

    #[test]
    fn rfc9406_a_rising_rtt_begins_css_after_eight_samples() {
        let mut h = Hystart::default();
        assert_eq!(round(&mut h, 0, 40), Some(40));
        // 40 ms / 8 = 5 ms is the rise that counts: seven ACKs of four, then three of a quarter of that.
        assert_eq!(round(&mut h, 1, 45), Some(7 * 4 + 3));
        assert_eq!(h.css.map(|c| c.baseline), Some(Duration::from_millis(45)));
    }

    #[test]
    fn rfc9406_the_rise_is_bounded_by_4_and_16_ms() {
        for (path, rise) in [(8, 4), (64, 8), (400, 16)] {
            for (rtt, css) in [(path + rise - 1, false), (path + rise, true)] {
                let mut h = Hystart::default();
                round(&mut h, 0, path);
                round(&mut h, 1, rtt);
                assert_eq!(h.css.is_some(), css, "{path} ms, then {rtt} ms");
            }
        }
    }

    #[test]
    fn rfc9406_css_lasts_five_rounds_the_partial_one_among_them() {
        let mut h = Hystart::default();
        round(&mut h, 0, 40);
        round(&mut h, 1, 50);
        for n in 2..=5 {
            assert_eq!(round(&mut h, n, 55), Some(10), "round {n}");
            assert_eq!(h.take_note(), None);
        }
        assert_eq!(h.on_ack(&sample(600, 55, 4), 250), Verdict::Leave);
        assert_eq!(h.take_note(), Some(CcNote::HystartDelay { cwnd: 250 }));
    }

    #[test]
    fn rfc9406_an_rtt_that_falls_again_resumes_slow_start() {
        let mut h = Hystart::default();
        round(&mut h, 0, 40);
        round(&mut h, 1, 50);
        // Below the baseline: known after eight samples. Then it may begin anew.
        assert_eq!(round(&mut h, 2, 49), Some(7 + 3 * 4));
        assert_eq!(round(&mut h, 3, 49), Some(40));
        assert_eq!(round(&mut h, 4, 60), Some(7 * 4 + 3));
    }

    #[test]
    fn rfc9406_growth_per_ack_is_limited_where_nothing_paces() {
        let mut h = Hystart::default();
        let mut s = sample(0, 40, 44);
        assert_eq!(h.on_ack(&s, 200), Verdict::Grow(44));
        s.pacing_lead = Duration::ZERO;
        assert_eq!(h.on_ack(&s, 200), Verdict::Grow(8));
    }

    #[test]
    fn too_few_samples_say_nothing() {
        let mut h = Hystart::default();
        round(&mut h, 0, 40);
        for _ in 0..7 {
            h.on_ack(&sample(100, 90, 4), 200);
        }
        assert!(h.css.is_none());
    }
}
