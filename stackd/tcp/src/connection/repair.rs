//! `TCP_REPAIR`: a connection's state taken out, and put into another one that goes on where the first stopped (live migration; Linux's CRIU
//! interface). The bytes of both queues are the caller's to carry.

use super::Connection;
use crate::config::FlowParams;
use crate::seam::{Env, State};
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, SeqNum};

/// What Linux gives and takes by `TCP_QUEUE_SEQ`, `TCP_REPAIR_OPTIONS`, `TCP_TIMESTAMP` and `TCP_REPAIR_WINDOW`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Repair {
    /// Sequence number of the first byte in the send queue: the oldest that is not acknowledged.
    pub snd_una: SeqNum,
    /// Bytes of it that were sent.
    pub sent: u32,
    /// Bytes in it, sent or not.
    pub queued: u32,
    /// The next sequence number expected.
    pub rcv_nxt: SeqNum,
    /// Bytes in order that the application has not read.
    pub unread: u32,
    /// The peer's MSS option.
    pub peer_mss: u16,
    /// Window shifts, the peer's and ours; `None` without the option.
    pub scales: Option<(u8, u8)>,
    /// SACK was agreed on.
    pub sack: bool,
    /// Timestamps: our clock now, and the peer's last one.
    pub timestamps: Option<(u32, u32)>,
    /// Sequence number of the segment that brought the window.
    pub snd_wl1: SeqNum,
    /// The peer's window, bytes.
    pub snd_wnd: u32,
    /// Largest one it offered.
    pub max_window: u32,
    /// Window offered to the peer, from `rcv_nxt` on.
    pub rcv_wnd: u32,
}

impl Connection {
    /// The state to go on from elsewhere; `None` unless the connection is established and nobody has closed it. What arrived out of order
    /// is left out: the peer sends it again.
    pub fn repair_state(&self, now: Instant) -> Option<Repair> {
        if self.state != State::Established || self.fin_wanted {
            return None;
        }
        let capped = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Repair {
            snd_una: self.wire_seq(self.una),
            sent: capped(self.nxt - self.una),
            queued: capped(self.written + 1 - self.una),
            rcv_nxt: self.wire_ack(self.rcv_nxt),
            unread: capped(self.rcv_nxt - self.rcv.consumed),
            peer_mss: self.opts.peer_mss.min(65_535) as u16,
            scales: self.opts.wscale.then_some((self.opts.snd_scale, self.rcv.scale)),
            sack: self.opts.sack,
            timestamps: self.opts.ts.then(|| (self.ts_now(now), self.opts.ts_recent)),
            snd_wl1: self.wire_ack(self.wl1),
            snd_wnd: capped(self.snd_wnd),
            max_window: capped(self.max_wnd),
            rcv_wnd: capped(self.rcv.edge.saturating_sub(self.rcv_nxt)),
        })
    }

    /// A connection that goes on from `r`, established at once and without a segment. Its streams begin with the first byte of each queue:
    /// the send FIFO holds `r.queued` bytes, the receive FIFO `r.unread`. What was sent is sent again (as Linux: nobody knows what
    /// of it arrived).
    pub fn repaired(flow: FlowParams, r: &Repair, now: Instant, env: &mut Env<'_>) -> Self {
        let clock = r.timestamps.map_or(flow.ts_offset, |(ours, _)| ours.wrapping_sub(now.as_millis() as u32));
        let flow = FlowParams { ts_offset: clock, ..flow };
        let mut c = Self::new(State::SynReceived, env.cfg, flow, r.snd_una - 1, now);
        c.irs = r.rcv_nxt - r.unread - 1;
        c.opts.peer_mss = u32::from(r.peer_mss);
        c.opts.sack = r.sack;
        c.opts.wscale = r.scales.is_some();
        (c.opts.snd_scale, c.rcv.scale) = r.scales.unwrap_or_default();
        if let Some((_, recent)) = r.timestamps {
            (c.opts.ts, c.opts.ts_recent, c.opts.ts_recent_at) = (true, recent, now);
        }
        c.update_mss(env.cfg);
        let unread = u64::from(r.unread);
        (c.rcv_nxt, c.acked_to) = (unread, unread);
        c.rcv.edge = unread + u64::from(r.rcv_wnd);
        c.wl1 = c.recv_offset(r.snd_wl1).max(0) as u64;
        (c.snd_wnd, c.max_wnd) = (u64::from(r.snd_wnd), u64::from(r.max_window.max(r.snd_wnd)));
        (c.una, c.nxt, c.written) = (1, 1, u64::from(r.queued));
        c.established(now, env);
        let sent = u64::from(r.sent.min(r.queued));
        if sent > 0 {
            let rate = c.rate.on_send(now, 0);
            c.board.push(1, 1 + sent, c.mss, now, rate);
            c.nxt = 1 + sent;
            c.resend_all(now, env);
        }
        c
    }
}
