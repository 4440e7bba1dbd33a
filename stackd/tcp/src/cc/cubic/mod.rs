//! CUBIC (RFC 9438): the window is a cubic function of the time since the last reduction, so that its growth does not depend on
//! the RTT; never slower than Reno would be.

mod curve;
#[cfg(test)]
mod tests;

use super::hystart::Hystart;
use super::reno::{LossWindow, may_grow};
use super::{CcConfig, CcEvent, CcInfo, CcNote, CongestionControl, Control, RateSample, Saved};
use curve::Epoch;
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant, Rng};

/// beta_cubic = 0.7 (RFC 9438, 4.6) in 1/1024, as Linux: 717.
const BETA: u32 = 717;
const BETA_ONE: u32 = 1024;

/// The CUBIC algorithm with HyStart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cubic {
    window: LossWindow,
    hystart: Hystart,
    /// The window at the last reduction (W_max), in packets; lower after fast convergence. 0 = none since slow start began.
    w_max: f64,
    /// The current stage of congestion avoidance; `None` until its first ACK.
    epoch: Option<Epoch>,
    last_ack: Instant,
    /// W_max before the current reduction, for an undo.
    w_max_before: f64,
    mss: u32,
}

impl Cubic {
    /// At the initial window, in slow start.
    pub fn new(config: &CcConfig) -> Self {
        Self {
            window: LossWindow::new(config),
            hystart: Hystart::new(config.now),
            w_max: 0.0,
            epoch: None,
            last_ack: config.now,
            w_max_before: 0.0,
            mss: config.mss.max(1),
        }
    }

    /// RFC 9438, 4.6 and 4.7: remembers where the loss was and answers with ssthresh.
    fn reduced(&mut self) -> u32 {
        let cwnd = self.window.cwnd;
        self.w_max_before = self.w_max;
        // 4.7: "if cwnd < W_max and fast convergence is enabled, further reduce W_max": an older flow gives way to a newer.
        self.w_max = if f64::from(cwnd) < self.w_max {
            f64::from(cwnd) * f64::from(BETA_ONE + BETA) / f64::from(2 * BETA_ONE)
        } else {
            f64::from(cwnd)
        };
        self.epoch = None;
        // 4.6: ssthresh = max(flight_size * beta, 2); Linux takes the window, which an application-limited flight cannot shrink.
        (u64::from(cwnd) * u64::from(BETA) / u64::from(BETA_ONE)).max(2) as u32
    }

    fn avoid_congestion(&mut self, s: &RateSample, acked: u32) {
        let cwnd = f64::from(self.window.cwnd);
        let w_max = self.w_max;
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(s.now, cwnd, w_max));
        let rtt = s.min_rtt.or(s.srtt).unwrap_or(Duration::ZERO);
        let per = epoch.packets_per_increment(s.now, cwnd, rtt, acked);
        self.window.additive_increase(per, acked);
    }
}

impl CongestionControl for Cubic {
    fn name(&self) -> &'static str {
        "cubic"
    }

    fn on_ack(&mut self, s: &RateSample, _rng: &mut dyn Rng) -> Control {
        self.last_ack = s.now;
        if self.window.in_slow_start() && self.hystart.on_ack(s, self.window.cwnd) {
            self.window.ssthresh = self.window.cwnd;
        }
        if may_grow(s) {
            let mut acked = s.acked_sacked;
            if self.window.in_slow_start() {
                acked = self.window.slow_start(acked);
            }
            if acked > 0 {
                self.avoid_congestion(s, acked);
            }
        }
        self.window.control()
    }

    fn on_event(&mut self, event: CcEvent, _rng: &mut dyn Rng) -> Control {
        match event {
            CcEvent::EnterRecovery { .. } | CcEvent::EcnReduce { .. } => {
                let ssthresh = self.reduced();
                self.window.reduce(ssthresh);
            }
            CcEvent::Rto { now, in_flight } => {
                let ssthresh = self.reduced();
                self.window.lose_everything(ssthresh, in_flight);
                // 4.8: in the first stage after a timeout "K is set to 0, and W_max is set to the congestion window size at the
                // beginning of the current congestion avoidance stage".
                self.w_max = 0.0;
                self.hystart.restart(now);
            }
            CcEvent::ExitRecovery { .. } => self.window.settle(),
            CcEvent::Undo { .. } => {
                // 4.9: "restore the values ... as they were before": the curve starts anew from the restored window.
                self.window.undo();
                self.w_max = self.w_max_before;
                self.epoch = None;
            }
            CcEvent::TxStart { now, .. } => {
                // 4.2: "t ... the time elapsed ... (not including the periods during which cwnd has not been updated
                // because of application-limited behavior)".
                if let Some(epoch) = &mut self.epoch {
                    epoch.skip(now - self.last_ack);
                }
            }
            CcEvent::BufferGrew => {}
            CcEvent::IdleRestart { idle, rto, .. } => {
                self.window.restart_after_idle(idle, rto);
                self.epoch = None;
            }
            CcEvent::MssChanged { mss } => {
                self.window.rescale(self.mss, mss);
                self.w_max = self.w_max * f64::from(self.mss) / f64::from(mss.max(1));
                self.epoch = None;
                self.mss = mss.max(1);
            }
        }
        self.window.control()
    }

    fn control(&self) -> Control {
        self.window.control()
    }
    fn owns_recovery_cwnd(&self) -> bool {
        false
    }
    fn needs_pacing(&self) -> bool {
        false
    }
    fn saved(&self) -> Saved {
        Saved::Cubic(self.clone())
    }

    fn info(&self) -> CcInfo {
        CcInfo::None
    }
    fn poll_note(&mut self) -> Option<CcNote> {
        self.hystart.take_note()
    }
}
