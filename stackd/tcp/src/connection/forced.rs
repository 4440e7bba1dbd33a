//! A connection that sends what a recording says was sent, whatever it would have done itself.
//!
//! What the peer would have answered to anything else nobody knows. So a changed connection is shown the same sends and the same answers, and what is looked at is
//! what it makes of them: its window, its pacing, when it would have sent.

use super::Connection;
use crate::record::Sent;
use crate::seam::{Env, State};
use stackd_base::Instant;

impl Connection {
    /// Sends as `sent` tells.
    pub(crate) fn transmit_as(&mut self, now: Instant, sent: &Sent, env: &mut Env<'_>) {
        if sent.flags.rst() {
            self.due.rst = false;
            self.due.rst_seq = None;
            return;
        }
        match self.state {
            State::Closed => return,
            State::SynSent | State::SynReceived => {
                self.due.syn |= sent.flags.syn();
                self.ack.now |= !sent.flags.syn();
                let _ = self.syn(now, env);
                return;
            }
            State::Established
            | State::CloseWait
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
        let start = self.send_position(sent.seq).max(0) as u64;
        let end = start + u64::from(sent.len) + u64::from(sent.flags.fin());
        if end == start {
            self.due.probe = false;
            let _ = self.pure_ack(now, env);
            return;
        }
        let probe = core::mem::take(&mut self.due.tlp);
        // Its own pacing counts from what really left.
        self.next_departure = sent.departs_in.map_or(self.next_departure.min(now), |d| now + d);
        if start >= self.nxt {
            let _ = self.send_new(now, env, u64::from(sent.len));
        } else {
            self.resend_range(now, start, end.min(self.nxt), env);
        }
        if probe {
            self.tlp.is_retrans = sent.is_retransmit;
            self.tlp.end = Some(self.nxt);
            self.arm_rto(now, env.cfg);
        }
    }

    fn resend_range(&mut self, now: Instant, start: u64, end: u64, env: &mut Env<'_>) {
        let mut at = start.max(self.una);
        while at < end {
            let Some((next, sacked)) = self.board.isolate_within(at, end) else { return };
            if !sacked && self.resend(now, env, at, next - at).is_none() {
                return;
            }
            at = next;
        }
    }

    /// Nothing left here, so nothing leaves: what a poll that finds nothing to send notes all the same.
    pub(crate) fn transmit_nothing(&mut self, now: Instant, env: &mut Env<'_>) {
        if !self.state.is_synchronized() || self.fin_sent {
            return;
        }
        let pending = (self.written + 1).saturating_sub(self.nxt);
        if pending == 0 && !self.fin_wanted {
            self.note_app_limited();
        } else if self.board.in_flight() >= self.cwnd {
            self.is_cwnd_limited = true;
            self.max_packets_out = self.max_packets_out.max(self.board.packets_out());
        } else if self.nxt >= self.una + self.snd_wnd {
            self.arm_persist(now, env.cfg);
        }
    }

    /// Bytes that window, pacing and peer would let it send now.
    pub(crate) fn could_send(&self, now: Instant) -> u64 {
        if !self.state.is_synchronized() || self.next_departure > now {
            return 0;
        }
        let quota = u64::from(self.cwnd.saturating_sub(self.board.in_flight())) * u64::from(self.mss);
        let window = (self.una + self.snd_wnd).saturating_sub(self.nxt);
        (self.written + 1).saturating_sub(self.nxt).min(window).min(quota)
    }
}
