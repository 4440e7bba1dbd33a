//! How large a segment the path takes: what ICMP says (RFC 1191, RFC 8201), and probing where ICMP is silent (PLPMTUD: RFC 4821, RFC 8899),
//! by Linux's rules and sysctls.
//!
//! Sizes here are those of [`FlowParams::mss`](crate::FlowParams): MTU minus IP header and 20 bytes of TCP header.

use super::Connection;
use crate::cc::{CaState, CcEvent};
use crate::config::Config;
use crate::record::What;
use crate::seam::{Env, SegmentOut};
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, Mib, Mss};

/// Packets that must fit the window for a probe to be sent: its loss is to be found by what follows it (RFC 4821, 7.4).
const LEAST_CWND: u32 = 11;

/// The search. A connection that does not probe has none.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Mtup {
    /// `search_low`: the path is known, or has to be hoped, to take this much.
    low: u32,
    /// `search_high`: it may take this much.
    high: u32,
    probe: Option<Probe>,
    /// When the range was set.
    searched_at: Instant,
}

/// A segment larger than the MSS, in flight.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Probe {
    start: u64,
    end: u64,
    size: u32,
}

/// Whether a probe leaves now.
pub(super) enum Attempt {
    /// No: ordinary segments go.
    No,
    /// Soon: it waits for the window, and nothing goes before it.
    Wait,
    /// This is it.
    Sent(SegmentOut),
}

impl Mtup {
    /// As after a probe of this size was lost.
    #[cfg(test)]
    pub(crate) fn fail_at(&mut self, size: u32) {
        self.high = size - 1;
    }
}

/// Least payload that a small window leaves a segment (Linux: 68 bytes less a TCP header with timestamps).
const LEAST_SEGMENT: u32 = 36;

/// Least payload beside a header full of options: `net.ipv4.tcp_min_snd_mss` is 48 at least, and options are 40 bytes at most.
const LEAST_DATA: u32 = 8;

impl Connection {
    /// What options take of every segment.
    fn option_bytes(&self, cfg: &Config) -> u32 {
        (if self.opts.ts { 12 } else { 0 }) + u32::from(self.flow.signature) + self.accecn_room(cfg)
    }

    /// RFC 6691, 2: the MSS excludes options; what every segment carries is subtracted here.
    pub(crate) fn update_mss(&mut self, cfg: &Config) {
        let limit = self.path_limit(cfg);
        if let Some(m) = &mut self.mtup {
            m.high = m.high.min(limit);
            m.low = m.low.min(limit);
        }
        let limit = self.mtup.as_ref().map_or(limit, |m| m.low);
        let mss = limit.max(cfg.min_snd_mss).saturating_sub(self.option_bytes(cfg)).max(LEAST_DATA);
        self.mss = self.half_window(mss).max(mss.min(LEAST_SEGMENT));
    }

    /// Linux's `tcp_bound_to_half_wnd`: to a peer whose windows are small, no more at once than half the largest it ever offered, or each segment
    /// would wait for the acknowledgment of the one before.
    pub(super) fn half_window(&self, bytes: u32) -> u32 {
        let cutoff = if self.max_wnd > u64::from(Mss::DEFAULT_V4.get()) { self.max_wnd / 2 } else { self.max_wnd };
        if cutoff > 0 && u64::from(bytes) > cutoff { (cutoff as u32).max(LEAST_SEGMENT) } else { bytes }
    }

    /// The peer offers a larger window than ever.
    pub(super) fn window_widened(&mut self, env: &mut Env<'_>) {
        if self.cc.owns_recovery_cwnd() {
            self.resize(env);
        } else {
            // As Linux: so many packets, now larger ones.
            self.update_mss(env.cfg);
        }
    }

    /// What path, peer and application allow.
    fn path_limit(&self, cfg: &Config) -> u32 {
        self.flow.mss.get().min(self.opts.peer_mss).min(cfg.maxseg.map_or(u32::MAX, u32::from))
    }

    /// The MSS is to be made anew; the window stays what it was in bytes.
    fn resize(&mut self, env: &mut Env<'_>) -> bool {
        let old = self.mss;
        self.update_mss(env.cfg);
        if self.mss == old {
            return false;
        }
        self.control = self.cc.on_event(CcEvent::MssChanged { mss: self.mss }, env.rng);
        self.take_control(env.cfg);
        true
    }

    /// RFC 1191, 6.3 and RFC 8201: smaller segments from now on; what did not fit is resent at once.
    pub(super) fn set_path_mss(&mut self, now: Instant, mss: u32, env: &mut Env<'_>) {
        let mss = mss.max(env.cfg.min_snd_mss);
        if mss >= self.flow.mss.get() {
            return;
        }
        self.flow.mss = Mss::new_clamped(mss);
        if self.resize(env) && !self.board.is_empty() {
            // Too big is no sign of congestion: the segments are resent smaller.
            self.resend_all(now, env);
        }
    }

    /// The path as the routing table has it now: another route, or what ICMP said has expired (RFC 1191, 6.3: an estimate is to be "aged";
    /// RFC 8201, 4). Larger is believed here, for it comes from this host's own tables.
    pub fn handle_path(&mut self, now: Instant, mss: u32, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Path { mss }, env);
            return;
        }
        if mss <= self.flow.mss.get() {
            self.set_path_mss(now, mss, env);
            return;
        }
        self.flow.mss = Mss::new_clamped(mss);
        if let Some(m) = &mut self.mtup {
            m.high = mss;
        }
        self.resize(env);
    }

    /// `tcp_mtu_probing` = 2: probing begins with the connection, at `tcp_base_mss`.
    pub(super) fn start_probing(&mut self, now: Instant, cfg: &Config) {
        if cfg.mtu_probing > 1 {
            self.enable_probing(now, cfg);
            self.update_mss(cfg);
        }
    }

    fn enable_probing(&mut self, now: Instant, cfg: &Config) {
        let high = self.path_limit(cfg);
        let low = (cfg.base_mss + self.option_bytes(cfg)).min(high);
        self.mtup = Some(Box::new(Mtup { low, high, probe: None, searched_at: now }));
    }

    /// RFC 4821, 7.7 and RFC 8899, 4.3: segments go unacknowledged for as long as R1 lasts: the path may swallow large ones in silence.
    /// First `tcp_base_mss` is tried, then half of that, down to `tcp_mtu_probe_floor`.
    pub(super) fn suspect_black_hole(&mut self, now: Instant, env: &mut Env<'_>) {
        let cfg = env.cfg;
        if cfg.mtu_probing == 0 {
            return;
        }
        let options = self.option_bytes(cfg);
        match &mut self.mtup {
            None => self.enable_probing(now, cfg),
            Some(m) => {
                let half = m.low.saturating_sub(options) / 2;
                let low = half.min(cfg.base_mss).max(cfg.mtu_probe_floor).max(cfg.min_snd_mss) + options;
                m.low = low.min(m.high);
            }
        }
        self.resize(env);
    }

    /// RFC 4821, 7.2: binary search, with segments of data that would have been sent anyway. `pending` bytes wait.
    pub(super) fn probe_mtu(&mut self, now: Instant, pending: u64, env: &mut Env<'_>) -> Attempt {
        let Some(m) = self.mtup.as_deref().copied() else { return Attempt::No };
        let unquiet = !self.reasm.is_empty() || self.dsack.is_some() || self.urgent_pending();
        if m.probe.is_some() || self.ca_state != CaState::Open || self.cwnd < LEAST_CWND || unquiet {
            return Attempt::No;
        }
        let size = u32::midpoint(m.low, m.high);
        if m.high.saturating_sub(m.low) < env.cfg.probe_threshold.max(1) {
            self.widen_search(now, env);
            return Attempt::No;
        }
        let len = size - self.option_bytes(env.cfg);
        // What follows it has to show that it was lost.
        let needed = u64::from(len) + u64::from(self.reordering + 1) * u64::from(self.mss);
        let window = (self.una + self.snd_wnd).saturating_sub(self.nxt);
        if pending < needed || self.snd_wnd < needed {
            return Attempt::No;
        }
        let in_flight = self.board.in_flight();
        if window < needed || in_flight + 2 > self.cwnd {
            return if in_flight == 0 { Attempt::No } else { Attempt::Wait };
        }
        let start = self.nxt;
        if let Some(m) = &mut self.mtup {
            m.probe = Some(Probe { start, end: start + u64::from(len), size });
        }
        // One packet, however the MSS cuts others.
        let mss = core::mem::replace(&mut self.mss, len);
        let out = self.send_new(now, env, u64::from(len));
        self.mss = mss;
        Attempt::Sent(out)
    }

    /// RFC 4821, 7.3: "the search is complete"; paths change: after `tcp_probe_interval` it begins anew from what is in use.
    fn widen_search(&mut self, now: Instant, env: &mut Env<'_>) {
        let high = self.path_limit(env.cfg);
        let low = self.mss + self.option_bytes(env.cfg);
        if let Some(m) = &mut self.mtup
            && now - m.searched_at >= env.cfg.probe_interval
        {
            **m = Mtup { low: low.min(high), high, probe: None, searched_at: now };
        }
    }

    /// Everything below `una` is acknowledged: the probe too?
    pub(super) fn probe_acknowledged(&mut self, env: &mut Env<'_>) {
        let una = self.una;
        let Some(m) = &mut self.mtup else { return };
        let Some(probe) = m.probe.filter(|p| p.end <= una) else { return };
        m.probe = None;
        m.low = probe.size;
        env.mib.inc(Mib::TcpExtTCPMTUPSuccess);
        self.resize(env);
    }

    /// RFC 4821, 7.6.2: "a lost probe is not an indication of congestion". True when what was lost is the probe: it is resent in
    /// segments that fit, and the window stays.
    pub(super) fn probe_lost(&mut self, now: Instant, env: &mut Env<'_>) -> bool {
        let una = self.una;
        let Some(m) = &mut self.mtup else { return false };
        let Some(probe) = m.probe.filter(|p| p.start == una) else { return false };
        m.probe = None;
        m.high = (probe.size - 1).max(m.low);
        env.mib.inc(Mib::TcpExtTCPMTUPFail);
        self.hold_window(now, env);
        true
    }

    /// A probe is in flight.
    pub(super) fn probes_mtu(&self) -> bool {
        self.mtup.as_ref().is_some_and(|m| m.probe.is_some())
    }

    /// Something is retransmitted: what becomes of a probe in flight says nothing any more.
    pub(super) fn forget_probe(&mut self) {
        if let Some(m) = &mut self.mtup {
            m.probe = None;
        }
    }

    /// Largest segment that may be in flight: the MSS, or a probe.
    #[cfg(test)]
    pub(crate) fn largest_segment(&self, cfg: &Config) -> u32 {
        let probe = self.mtup.as_ref().and_then(|m| m.probe).map_or(0, |p| p.size - self.option_bytes(cfg));
        self.mss.max(probe)
    }

    /// Where the search stands: low, high.
    #[cfg(test)]
    pub(crate) fn search_range(&self) -> Option<(u32, u32)> {
        self.mtup.as_ref().map(|m| (m.low, m.high))
    }
}
