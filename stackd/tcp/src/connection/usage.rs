//! Is the congestion window used? Only a window that was filled says that the path bears it (RFC 7661; RFC 5681, 4.1).

use super::Connection;
use crate::cc::CcEvent;
use crate::seam::Env;
use stackd_base::Instant;

impl Connection {
    /// After all that may leave now has left (Linux's `tcp_cwnd_validate`): what is remembered of this flight is that the window was full,
    /// or else how much of it was used.
    pub(super) fn validate_cwnd(&mut self) {
        if !core::mem::take(&mut self.cwnd_unseen) {
            return;
        }
        let packets_out = self.board.packets_out();
        let is_full = self.board.in_flight() >= self.cwnd;
        let is_more = !self.is_cwnd_limited && packets_out > self.max_packets_out;
        if is_full || is_more || self.una >= self.cwnd_usage_end {
            self.is_cwnd_limited = is_full;
            self.max_packets_out = packets_out;
            self.cwnd_usage_end = self.nxt;
        }
    }

    /// RFC 7661, 4.3 as Linux does it: the window grows only where it was what limited us; in slow start when half of it was used.
    pub(super) fn was_cwnd_limited(&self) -> bool {
        self.is_cwnd_limited || (self.cwnd < self.ssthresh && self.cwnd < 2 * self.max_packets_out)
    }

    /// RFC 5681, 4.1: "a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent data in an interval
    /// exceeding the retransmission timeout." Whatever it waited for.
    pub(super) fn restart_after_idle(&mut self, now: Instant, env: &mut Env<'_>) {
        if !env.cfg.slow_start_after_idle
            || !self.board.is_empty()
            || self.stats.data_segs_out == 0
            || self.cc.owns_recovery_cwnd()
        {
            return;
        }
        let idle = now - self.stats.last_data_sent;
        // Nothing is outstanding: what window probes back off is not the path's timeout.
        let rto = self.rtt.rto(env.cfg.rto_max);
        if idle > rto {
            self.control = self.cc.on_event(CcEvent::IdleRestart { now, idle, rto }, env.rng);
            self.take_control(env.cfg);
        }
    }
}
