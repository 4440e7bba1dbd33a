//! BBR's state machine.
//!
//! ```text
//! STARTUP --pipe full--> DRAIN --queue gone--> PROBE_BW
//!    any --min RTT not seen for 10 s--> PROBE_RTT --200 ms and a round at 4 packets--> PROBE_BW, or STARTUP if the pipe never was full
//! ```

use super::cycle::{Cycle, PhaseView};
use super::model::Round;
use super::{Bbr, MIN_CWND, RateSample, gains};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Gain, Instant, Rng};

/// How long the pipe is kept nearly empty to see its true delay.
const PROBE_RTT_SPAN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Mode {
    Startup,
    Drain,
    ProbeBw(Cycle),
    ProbeRtt(ProbeRtt),
}

/// Where PROBE_RTT stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum ProbeRtt {
    /// Waiting for the packets in flight to become few.
    Draining,
    /// Few they are, at least until then, and until a round has passed.
    Measuring { until: Instant, round_done: bool },
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "STARTUP",
            Self::Drain => "DRAIN",
            Self::ProbeBw(_) => "PROBE_BW",
            Self::ProbeRtt(_) => "PROBE_RTT",
        }
    }
}

impl Bbr {
    pub(super) fn update_mode(&mut self, s: &RateSample, round: &Round, rng: &mut dyn Rng) {
        self.advance_cycle(s);
        if matches!(self.mode, Mode::Startup) && self.model.is_pipe_full() {
            self.mode = Mode::Drain;
            // What `ss` shows as ssthresh: the pipe without a queue.
            self.ssthresh = self.inflight(self.model.max_bw(), Gain::ONE).min(u64::from(u32::MAX)) as u32;
        }
        if matches!(self.mode, Mode::Drain)
            && self.packets_in_network(s.in_flight, s) <= self.inflight(self.model.max_bw(), Gain::ONE)
        {
            self.enter_probe_bw(s.now, rng);
        }
        self.check_probe_rtt(s, round, rng);
    }

    fn advance_cycle(&mut self, s: &RateSample) {
        let Mode::ProbeBw(mut cycle) = self.mode else { return };
        let view = PhaseView {
            now: s.now,
            min_rtt: self.model.min_rtt(),
            losses: s.losses,
            in_network: self.packets_in_network(s.prior_in_flight, s),
            inflight_at_gain: self.inflight(self.model.max_bw(), self.pacing_gain),
            inflight_at_one: self.inflight(self.model.max_bw(), Gain::ONE),
        };
        cycle.advance_if_due(self.pacing_gain, &view);
        self.mode = Mode::ProbeBw(cycle);
    }

    pub(super) fn enter_probe_bw(&mut self, now: Instant, rng: &mut dyn Rng) {
        self.mode = Mode::ProbeBw(Cycle::start_at_random(now, rng));
    }

    fn check_probe_rtt(&mut self, s: &RateSample, round: &Round, rng: &mut dyn Rng) {
        if round.min_rtt_expired && !self.idle_restart && !matches!(self.mode, Mode::ProbeRtt(_)) {
            self.window.save(false);
            self.mode = Mode::ProbeRtt(ProbeRtt::Draining);
        }
        if let Mode::ProbeRtt(state) = self.mode {
            self.mark_app_limited = true;
            match state {
                ProbeRtt::Draining => {
                    if s.in_flight <= MIN_CWND {
                        self.model.start_round(s.delivered_total);
                        self.mode =
                            Mode::ProbeRtt(ProbeRtt::Measuring { until: s.now + PROBE_RTT_SPAN, round_done: false });
                    }
                }
                ProbeRtt::Measuring { until, round_done } => {
                    let round_done = round_done || round.started;
                    self.mode = Mode::ProbeRtt(ProbeRtt::Measuring { until, round_done });
                    if round_done {
                        self.leave_probe_rtt_if_over(s.now, rng);
                    }
                }
            }
        }
        // Restarting after idle ends with the first delivery.
        if s.delivered.is_some_and(|d| d > 0) {
            self.idle_restart = false;
        }
    }

    fn leave_probe_rtt_if_over(&mut self, now: Instant, rng: &mut dyn Rng) {
        let Mode::ProbeRtt(ProbeRtt::Measuring { until, .. }) = self.mode else { return };
        if now <= until {
            return;
        }
        self.model.refresh_min_rtt(now);
        self.window.restore();
        self.mark_app_limited = false;
        if self.model.is_pipe_full() {
            self.enter_probe_bw(now, rng);
        } else {
            self.mode = Mode::Startup;
        }
        self.update_gains();
    }

    /// Sending resumes with an empty pipe because the application had paused: no queue is left to drain and none to probe against,
    /// so start at the estimated rate; and a pause was as good as PROBE_RTT.
    pub(super) fn restart_from_idle(&mut self, now: Instant, rng: &mut dyn Rng) {
        self.idle_restart = true;
        self.model.aggregation.restart_epoch(now);
        match self.mode {
            Mode::ProbeBw(_) => self.set_pacing_rate(Gain::ONE, None),
            Mode::ProbeRtt(_) => self.leave_probe_rtt_if_over(now, rng),
            Mode::Startup | Mode::Drain => {}
        }
    }

    pub(super) fn update_gains(&mut self) {
        (self.pacing_gain, self.cwnd_gain) = match self.mode {
            Mode::Startup => (gains::STARTUP, gains::STARTUP),
            Mode::Drain => (gains::DRAIN, gains::STARTUP),
            // A policer's rate leaves nothing to probe for.
            Mode::ProbeBw(_) if self.model.is_policed() => (Gain::ONE, gains::CWND),
            Mode::ProbeBw(cycle) => (cycle.gain(), gains::CWND),
            Mode::ProbeRtt(_) => (Gain::ONE, Gain::ONE),
        };
    }
}
