//! How much the application may write ahead: the send buffer and its growth, `TCP_NOTSENT_LOWAT`.

use super::Connection;
use crate::cc::CcEvent;
use crate::config::Config;
use crate::seam::Env;

impl Connection {
    /// Offset up to which the application may write.
    pub fn tx_limit(&self) -> u64 {
        if self.fin_wanted { self.written } else { self.tx_released() + self.sndbuf }
    }

    /// Offset up to which `TCP_NOTSENT_LOWAT` lets the application write: that much besides what may leave at once. As Linux, in whole
    /// segments of the size that a write is cut into: fewer bytes than one would only make it smaller.
    pub fn notsent_limit(&self, cfg: &Config) -> u64 {
        if cfg.notsent_lowat == u64::MAX {
            return u64::MAX;
        }
        let mss = u64::from(self.mss);
        let goal = u64::from(self.largest_gso()).max(mss);
        let held = self.stats.paced_until.is_some() || self.queue_is_full(cfg, 1);
        let window = u64::from(self.cwnd.saturating_sub(self.board.in_flight())) * mss;
        let peers = (self.una + self.snd_wnd).saturating_sub(self.nxt);
        let leaves = if held { 0 } else { window.min(peers / mss * mss) };
        let sent = self.nxt.max(1) - 1;
        sent.saturating_add(leaves).saturating_add(cfg.notsent_lowat.div_ceil(goal).saturating_mul(goal))
    }

    /// poll says writable only below half of `TCP_NOTSENT_LOWAT` (Linux's `tcp_stream_memory_free`): a wake-up is worth more than an ACK's.
    pub fn below_notsent_lowat(&self, cfg: &Config) -> bool {
        self.not_sent().saturating_mul(2) < cfg.notsent_lowat
    }

    pub(crate) fn initial_sndbuf(&self, cfg: &Config) -> u64 {
        cfg.wmem[1].max(2 * u64::from(cfg.initial_cwnd) * u64::from(self.mss)).min(cfg.wmem[2].max(cfg.wmem[1]))
    }

    /// Twice the window (RFC 6675's pipe plus what recovery needs), as `tcp_sndbuf_expand`; up to `tcp_wmem` max.
    pub(super) fn expand_sndbuf(&mut self, env: &mut Env<'_>) {
        if let Some(fixed) = env.cfg.sndbuf {
            self.sndbuf = fixed;
            return;
        }
        if env.mem.under_pressure() {
            return;
        }
        let packets = u64::from(self.cwnd.max(self.reordering + 1).max(env.cfg.initial_cwnd));
        let factor = if self.cc.owns_recovery_cwnd() { 3 } else { 2 };
        let want = packets * u64::from(self.mss) * factor;
        let grown = self.sndbuf.max(want.min(env.cfg.wmem[2]));
        // Growth by the window comes in steps of an ACK. Twice as much at once is an operator's doing.
        let was_the_limit = self.written >= self.tx_limit() || self.stats.was_sndbuf_limited();
        if grown >= 2 * self.sndbuf && was_the_limit {
            self.control = self.cc.on_event(CcEvent::BufferGrew, env.rng);
            self.take_control(env.cfg);
        }
        self.sndbuf = grown;
    }
}
