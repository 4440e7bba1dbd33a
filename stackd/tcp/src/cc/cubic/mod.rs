//! CUBIC (RFC 9438): the window is a cubic function of the time since the last reduction, so that its growth does not depend on
//! the RTT; never slower than Reno would be.

mod curve;
#[cfg(test)]
mod tests;

use super::hystart::{Hystart, Verdict};
use super::reno::{LossWindow, may_grow};
use super::{CcConfig, CcEvent, CcInfo, CcNote, CongestionControl, Control, RateSample, Saved};
use curve::Epoch;
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant, Rng};

/// beta_cubic = 0.7 (RFC 9438, 4.6) in 1/1024, as Linux: 717.
const BETA: u32 = 717;
const BETA_ONE: u32 = 1024;

/// The CUBIC algorithm with HyStart++.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cubic {
    window: LossWindow,
    hystart: Hystart,
    /// The window at the last reduction (W_max), in packets; lower after fast convergence. 0 = none since slow start began.
    w_max: f64,
    /// The current stage of congestion avoidance; `None` until its first ACK.
    epoch: Option<Box<Epoch>>,
    last_ack: Instant,
    /// The window when ssthresh was set last (cwnd_prior), in packets.
    cwnd_prior: f64,
    /// What the current reduction replaced, for an undo.
    before: Option<Box<Before>>,
    mss: u32,
}

/// RFC 9438, 4.9: what a spurious congestion event must not have changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Before {
    w_max: f64,
    cwnd_prior: f64,
    epoch: Option<Box<Epoch>>,
}

impl Cubic {
    /// At the initial window, in slow start.
    pub fn new(config: &CcConfig) -> Self {
        Self {
            window: LossWindow::new(config),
            hystart: Hystart::default(),
            w_max: 0.0,
            epoch: None,
            last_ack: config.now,
            cwnd_prior: 0.0,
            before: None,
            mss: config.mss.max(1),
        }
    }

    /// RFC 9438, 4.6 and 4.7: remembers where the loss was and answers with ssthresh.
    fn reduced(&mut self) -> u32 {
        let cwnd = self.window.cwnd;
        let (w_max, cwnd_prior, epoch) = (self.w_max, self.cwnd_prior, self.epoch.take());
        self.before = Some(Box::new(Before { w_max, cwnd_prior, epoch }));
        self.cwnd_prior = f64::from(cwnd);
        // 4.7: "if cwnd < W_max and fast convergence is enabled, further reduce W_max": an older flow gives way to a newer.
        self.w_max = if f64::from(cwnd) < self.w_max {
            f64::from(cwnd) * f64::from(BETA_ONE + BETA) / f64::from(2 * BETA_ONE)
        } else {
            f64::from(cwnd)
        };
        // 4.6: ssthresh = max(flight_size * beta, 2); Linux takes the window, which an application-limited flight cannot shrink.
        (u64::from(cwnd) * u64::from(BETA) / u64::from(BETA_ONE)).max(2) as u32
    }

    fn avoid_congestion(&mut self, s: &RateSample, acked: u32) {
        let cwnd = f64::from(self.window.cwnd);
        let (w_max, prior) = (self.w_max, self.cwnd_prior);
        let epoch = self.epoch.get_or_insert_with(|| Box::new(Epoch::new(s.now, cwnd, w_max, prior)));
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
        let mut acked = s.acked_sacked;
        // RFC 9406, 4.3: "An implementation SHOULD use HyStart++ only for the initial slow start (when the ssthresh is at its initial
        // value of arbitrarily high per [RFC5681])".
        if self.window.ssthresh == u32::MAX {
            match self.hystart.on_ack(s, self.window.cwnd) {
                Verdict::Grow(n) => acked = n,
                Verdict::Leave => self.window.ssthresh = self.window.cwnd,
            }
        }
        if may_grow(s) {
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
            CcEvent::EnterRecovery { reduces: false, .. } => {
                self.window.keep();
                self.before = None;
            }
            CcEvent::EnterRecovery { reduces: true, .. } | CcEvent::EcnReduce { .. } => {
                let ssthresh = self.reduced();
                self.window.reduce(ssthresh);
            }
            CcEvent::Rto { in_flight, reduces: false, .. } => self.window.begin_anew(in_flight),
            CcEvent::Rto { in_flight, reduces: true, .. } => {
                let ssthresh = self.reduced();
                self.window.lose_everything(ssthresh, in_flight);
                // 4.8: in the first stage after a timeout "K is set to 0, and W_max is set to the congestion window size at the
                // beginning of the current congestion avoidance stage".
                self.w_max = 0.0;
            }
            CcEvent::ExitRecovery { .. } => self.window.settle(),
            CcEvent::Undo { .. } => {
                // 4.9.1: a sender "should restore the original values of the following variables": cwnd, ssthresh, W_max, K, t_epoch,
                // W_est and cwnd_prior.
                self.window.undo();
                if let Some(before) = self.before.take() {
                    let Before { w_max, cwnd_prior, epoch } = *before;
                    (self.w_max, self.cwnd_prior, self.epoch) = (w_max, cwnd_prior, epoch);
                }
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
