//! RACK: loss by time instead of by counting (RFC 8985, 6).

use crate::Config;
use crate::scoreboard::{Newest, XmitOrder};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// RACK's variables.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rack {
    /// `RACK.segment`: the most recently sent packet that was delivered.
    pub newest: Option<(XmitOrder, Instant)>,
    /// `RACK.rtt`.
    pub rtt: Duration,
    /// Reordering was seen on this path.
    pub reordering_seen: bool,
    steps: u32,
    persist: u8,
    dsack_round: Option<u64>,
}

impl Default for Rack {
    fn default() -> Self {
        Self { newest: None, rtt: Duration::ZERO, reordering_seen: false, steps: 1, persist: 0, dsack_round: None }
    }
}

impl Rack {
    /// RFC 8985, 6.2 step 2. `tsecr_proves_retrans`: the echoed timestamp is not older than the retransmission, if known.
    pub fn advance(&mut self, now: Instant, n: &Newest, min_rtt: Option<Duration>, ts_before_retrans: bool) {
        let rtt = now - n.sent_at;
        if n.ever_retrans {
            // "If the RTT is less than the minimum ... the ACK is for the original": ambiguous, so not used.
            if ts_before_retrans || min_rtt.is_some_and(|m| rtt < m) {
                return;
            }
        }
        self.rtt = rtt;
        if self.newest.is_none_or(|(order, _)| n.order > order) {
            self.newest = Some((n.order, n.sent_at));
        }
    }

    /// RFC 8985, 6.2 step 4: a DSACK widens the window by a quarter of min_rtt, at most once a round.
    pub fn on_dsack(&mut self, una: u64, nxt: u64) {
        if self.dsack_round.is_some_and(|r| una < r) {
            return;
        }
        self.dsack_round = Some(nxt);
        self.steps = (self.steps + 1).min(255);
        self.persist = 16;
    }

    /// `RACK.reo_wnd_mult`.
    #[cfg(test)]
    pub fn dsack_steps(&self) -> u32 {
        self.steps
    }

    /// After 16 recoveries without a DSACK the window is back at its smallest.
    pub fn on_recovery_end(&mut self) {
        if self.persist > 0 {
            self.persist -= 1;
            if self.persist == 0 {
                self.steps = 1;
            }
        }
    }

    /// What left after this moment has not had `RACK.rtt` and the reordering window to be acknowledged; `None` before RACK knows an RTT.
    pub fn still_expected(
        &self,
        now: Instant,
        min_rtt: Option<Duration>,
        srtt: Option<Duration>,
        cfg: &Config,
    ) -> Option<Instant> {
        self.newest?;
        let wnd = self.window(cfg, true, 0, u32::MAX, min_rtt, srtt);
        Some(now - (self.rtt + wnd))
    }

    /// RFC 8985, 6.2 step 4: "If reordering has not been observed ... and in recovery or DupThresh reached: 0", else
    /// min(steps * min_rtt / 4, srtt).
    pub fn window(
        &self,
        cfg: &Config,
        in_recovery: bool,
        sacked_out: u32,
        reordering: u32,
        min_rtt: Option<Duration>,
        srtt: Option<Duration>,
    ) -> Duration {
        if !self.reordering_seen && (in_recovery || (sacked_out >= reordering && cfg.recovery & 4 == 0)) {
            return Duration::ZERO;
        }
        let Some(min) = min_rtt else { return Duration::from_millis(1) };
        let steps = if cfg.recovery & 2 != 0 { 1 } else { self.steps };
        let wnd = min / 4 * u64::from(steps);
        srtt.map_or(wnd, |s| wnd.min(s))
    }
}
