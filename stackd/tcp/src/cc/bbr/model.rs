//! BBR's model of the path, and how each ACK updates it: rounds, bandwidth, minimum RTT, whether the pipe is full.

use super::aggregation::Aggregation;
use super::filter::MaxFilter;
use super::policer::{PolicerDetector, Verdict, View};
use super::{CcConfig, RateSample};
use crate::rate::at_least_one_tick;
use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Gain, Instant};

/// How long a minimum RTT is believed.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// STARTUP goes on while the bandwidth grows by a quarter ...
const FULL_BW_GROWTH: Gain = Gain::from_ratio(5, 4);
/// ... and ends when it did not for so many rounds.
const FULL_BW_ROUNDS: u8 = 3;
/// The window while no RTT is known.
const UNKNOWN_BDP: u64 = 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Model {
    bw: MaxFilter,
    pub(super) aggregation: Aggregation,
    policer: PolicerDetector,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    /// Packet-timed rounds so far.
    rounds: u32,
    /// The round ends when a packet is acked that was sent after this many were delivered.
    round_ends_at: u64,
    delivered_total: u64,
    lost_total: u64,
    /// STARTUP's last bandwidth that was a quarter above the one before.
    full_bw: Bandwidth,
    full_bw_rounds: u8,
    pipe_is_full: bool,
    clock_tick: Option<Duration>,
}

/// What one ACK changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// It began a new round.
    pub(super) started: bool,
    /// The minimum RTT had not been seen for [`MIN_RTT_WINDOW`] when it came.
    pub(super) min_rtt_expired: bool,
    /// The policed rate has been used long enough.
    pub(super) probe_again: bool,
}

impl Model {
    pub(super) fn new(config: &CcConfig) -> Self {
        Self {
            bw: MaxFilter::new(),
            aggregation: Aggregation::new(config.now),
            policer: PolicerDetector::new(),
            min_rtt: config.srtt.and_then(|r| at_least_one_tick(r, config.clock_tick)),
            min_rtt_at: config.now,
            rounds: 0,
            round_ends_at: 0,
            delivered_total: 0,
            lost_total: 0,
            full_bw: Bandwidth::ZERO,
            full_bw_rounds: 0,
            pipe_is_full: false,
            clock_tick: config.clock_tick,
        }
    }

    /// The bandwidth to use: a policer's rate, or the maximum.
    pub(super) fn bw(&self) -> Bandwidth {
        self.policer.rate().unwrap_or_else(|| self.bw.get())
    }
    pub(super) fn max_bw(&self) -> Bandwidth {
        self.bw.get()
    }
    pub(super) const fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }
    pub(super) const fn is_pipe_full(&self) -> bool {
        self.pipe_is_full
    }
    pub(super) const fn is_policed(&self) -> bool {
        self.policer.rate().is_some()
    }

    /// Packets of the bandwidth-delay product times `gain`, rounded up; a small window while no RTT was measured.
    pub(super) fn bdp(&self, bw: Bandwidth, gain: Gain, mss: u32) -> u64 {
        match self.min_rtt {
            None => UNKNOWN_BDP,
            Some(rtt) => gain.apply(bw.bytes_in(rtt)).div_ceil(u64::from(mss.max(1))),
        }
    }

    /// The minimum RTT was just measured with an empty pipe.
    pub(super) const fn refresh_min_rtt(&mut self, now: Instant) {
        self.min_rtt_at = now;
    }

    /// From now on, `delivered_total` packets having been delivered, a new round is counted.
    pub(super) const fn start_round(&mut self, delivered_total: u64) {
        self.round_ends_at = delivered_total;
    }

    pub(super) fn update(&mut self, s: &RateSample, in_probe_bw: bool, cwnd: u32) -> Round {
        self.delivered_total = s.delivered_total;
        self.lost_total = s.lost_total;
        let interval = s.interval.and_then(|i| at_least_one_tick(i, self.clock_tick));
        let mut round = Round { started: false, min_rtt_expired: false, probe_again: false };
        if let (Some(delivered), Some(interval)) = (s.delivered, interval) {
            round.started = s.prior_delivered >= self.round_ends_at;
            if round.started {
                self.start_round(s.delivered_total);
                self.rounds = self.rounds.wrapping_add(1);
            }
            let view = self.policer_view(s.now, s.mss, in_probe_bw, round.started);
            let view = View { losing: s.losses > 0, is_app_limited: s.is_app_limited, ..view };
            round.probe_again = self.policer.update(&view) == Verdict::ProbeAgain;
            self.update_bw(s, Bandwidth::from_delivery(delivered * u64::from(s.mss), interval));
            if s.acked_sacked > 0 {
                let bw = self.bw();
                self.aggregation.update(s.now, s.acked_sacked, bw, s.mss, cwnd, round.started);
            }
        }
        if round.started && !s.is_app_limited {
            self.check_pipe_full();
        }
        round.min_rtt_expired = self.update_min_rtt(s);
        round
    }

    fn update_bw(&mut self, s: &RateSample, sample: Bandwidth) {
        // What the application limited can prove the path faster, never slower.
        if !s.is_app_limited || sample >= self.bw.get() {
            self.bw.update(self.rounds, sample);
        }
    }

    /// The bandwidth has stopped growing although STARTUP sends faster than it: the pipe is full.
    fn check_pipe_full(&mut self) {
        if self.pipe_is_full {
            return;
        }
        if self.bw.get() >= self.full_bw.scaled(FULL_BW_GROWTH) {
            self.full_bw = self.bw.get();
            self.full_bw_rounds = 0;
            return;
        }
        self.full_bw_rounds += 1;
        self.pipe_is_full = self.full_bw_rounds >= FULL_BW_ROUNDS;
    }

    fn update_min_rtt(&mut self, s: &RateSample) -> bool {
        let expired = s.now > self.min_rtt_at + MIN_RTT_WINDOW;
        if let Some(rtt) = s.rtt.and_then(|r| at_least_one_tick(r, self.clock_tick)) {
            // An ACK that the receiver held back does not replace an old minimum.
            let lower = self.min_rtt.is_none_or(|m| rtt < m);
            if lower || (expired && !s.is_ack_delayed) {
                self.min_rtt = Some(rtt);
                self.min_rtt_at = s.now;
            }
        }
        expired
    }

    const fn policer_view(&self, now: Instant, mss: u32, in_probe_bw: bool, round_start: bool) -> View {
        View {
            now,
            delivered: self.delivered_total,
            lost: self.lost_total,
            losing: false,
            is_app_limited: false,
            round_start,
            in_probe_bw,
            mss,
        }
    }

    /// An RTO: STARTUP's idea of a full pipe is void, and it counts as a loss at the start of a round.
    pub(super) fn enter_loss(&mut self, now: Instant, mss: u32, in_probe_bw: bool) {
        self.full_bw = Bandwidth::ZERO;
        let view = View { losing: true, ..self.policer_view(now, mss, in_probe_bw, true) };
        if self.policer.update(&view) == Verdict::ProbeAgain {
            self.policer.reset();
        }
    }

    /// Looks for the path's rate from the beginning.
    pub(super) fn reopen_pipe(&mut self) {
        self.pipe_is_full = false;
        self.forget_full_pipe_evidence();
    }

    pub(super) fn forget_full_pipe_evidence(&mut self) {
        self.full_bw = Bandwidth::ZERO;
        self.full_bw_rounds = 0;
        self.policer.reset();
    }
}
