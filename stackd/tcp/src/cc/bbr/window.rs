//! BBR's congestion window: it grows to the target by what is acked, obeys packet conservation in the first round of a recovery, and
//! is put back when recovery ends.

use super::super::reno::MAX_CWND;
use super::{CaState, MIN_CWND, RateSample};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Window {
    cwnd: u32,
    initial: u32,
    /// The last window of good times: before recovery or PROBE_RTT.
    saved: u32,
    packet_conservation: bool,
    ca_state: CaState,
}

impl Window {
    pub(super) fn new(initial_cwnd: u32) -> Self {
        let initial = initial_cwnd.max(1);
        Self { cwnd: initial, initial, saved: 0, packet_conservation: false, ca_state: CaState::Open }
    }

    pub(super) const fn cwnd(&self) -> u32 {
        self.cwnd
    }

    const fn in_recovery(&self) -> bool {
        matches!(self.ca_state, CaState::Recovery | CaState::Loss)
    }

    /// Remembers the window before it is cut for recovery or PROBE_RTT. A second cut must not save the window of the first.
    pub(super) fn save(&mut self, in_probe_rtt: bool) {
        self.saved = if self.in_recovery() || in_probe_rtt { self.saved.max(self.cwnd) } else { self.cwnd };
    }

    pub(super) fn restore(&mut self) {
        self.cwnd = self.cwnd.max(self.saved);
    }

    pub(super) const fn end_packet_conservation(&mut self) {
        self.packet_conservation = false;
    }

    /// An RTO: only what is still in flight and one probe.
    pub(super) fn enter_loss(&mut self, in_flight: u32) {
        self.ca_state = CaState::Loss;
        self.packet_conservation = false;
        self.cwnd = in_flight.saturating_add(1).min(self.cwnd).max(1);
    }

    pub(super) fn limit(&mut self, most: u32) {
        self.cwnd = self.cwnd.min(most);
    }

    pub(super) fn rescale(&mut self, old_mss: u32, new_mss: u32) {
        let scale =
            |w: u32| (u64::from(w) * u64::from(old_mss) / u64::from(new_mss.max(1))).min(u64::from(MAX_CWND)) as u32;
        self.cwnd = scale(self.cwnd).max(1);
        self.saved = scale(self.saved);
    }

    /// After the model: moves the window for this ACK. True when fast recovery begins with it: a new round must begin too, for
    /// packet conservation lasts one.
    pub(super) fn update(&mut self, s: &RateSample, target: u64, pipe_is_full: bool) -> bool {
        if s.acked_sacked == 0 {
            return false;
        }
        let entered = self.follow_recovery(s);
        if self.packet_conservation {
            self.cwnd = self.cwnd.max(s.in_flight.saturating_add(s.acked_sacked));
        } else {
            let target = target.min(u64::from(MAX_CWND)) as u32;
            let grown = self.cwnd.saturating_add(s.acked_sacked).min(MAX_CWND);
            if pipe_is_full {
                self.cwnd = grown.min(target);
            } else if self.cwnd < target || s.delivered_total < u64::from(self.initial) {
                // The pipe is not known to be full: a low target may be a mistake, so do not shrink to it.
                self.cwnd = grown;
            }
        }
        self.cwnd = self.cwnd.max(MIN_CWND);
        entered
    }

    /// Every loss costs its packet of window; the first round of a recovery sends one packet for each that was delivered.
    fn follow_recovery(&mut self, s: &RateSample) -> bool {
        self.cwnd = self.cwnd.saturating_sub(s.losses).max(1);
        let is = matches!(s.ca_state, CaState::Recovery | CaState::Loss);
        let entered = s.ca_state == CaState::Recovery && self.ca_state != CaState::Recovery;
        if entered {
            self.packet_conservation = true;
            self.cwnd = s.in_flight.saturating_add(s.acked_sacked);
        } else if self.in_recovery() && !is {
            self.restore();
            self.packet_conservation = false;
        }
        self.ca_state = s.ca_state;
        entered
    }
}
