//! The receive window and its autotuning (dynamic right-sizing).

use crate::{Config, MemAccount};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// Receive side of flow control. Positions are offsets of the receive stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecvWindow {
    /// Buffer size in force.
    pub rcvbuf: u64,
    /// Right edge offered last: never moves left (RFC 9293, 3.8.6: "SHOULD NOT shrink the window").
    pub edge: u64,
    /// Shift of our window field.
    pub scale: u8,
    /// What the application consumed.
    pub consumed: u64,
    /// Last offered window was zero.
    pub zero: bool,
    /// Receiver's estimate of the RTT.
    pub rtt: Option<Duration>,
    /// Bytes consumed in the best round so far.
    pub space: u64,
    round_start: Instant,
    round_consumed: u64,
    /// Most bytes that waited behind a hole in this round.
    round_waiting: u64,
    window_round: Option<(u64, Instant)>,
}

impl RecvWindow {
    pub fn new(cfg: &Config, now: Instant, mss: u32) -> Self {
        // A route may ask for a first window beyond the default buffer; its maximum still bounds it.
        let first = cfg.initial_rwnd.map_or(0, |n| u64::from(n) * u64::from(mss)).min(cfg.rmem[2]);
        let rcvbuf = cfg.rcvbuf.unwrap_or(cfg.rmem[1].max(first)).max(u64::from(mss));
        Self {
            rcvbuf,
            edge: 0,
            scale: 0,
            consumed: 0,
            zero: false,
            rtt: None,
            // Ten segments are what a sender starts with; but with large segments the first window is less, and a goal beyond it
            // would never be reached: the buffer would stay at its default for life.
            space: (10 * u64::from(mss)).min(rcvbuf / 2).min(65_535),
            round_start: now,
            round_consumed: 0,
            round_waiting: 0,
            window_round: None,
        }
    }

    /// Shift that can express the largest buffer this socket may get (RFC 7323, 2.3: at most 14).
    pub fn scale_for(cfg: &Config) -> u8 {
        let most = cfg.rcvbuf.unwrap_or(if cfg.moderate_rcvbuf { cfg.rmem[2] } else { cfg.rmem[1] });
        (0..14).find(|s| most >> s <= 65_535).unwrap_or(14)
    }

    /// The window that may be offered when the in-order stream ends at `head`; moves the edge.
    pub fn offer(&mut self, cfg: &Config, head: u64, mss: u32, mem: &MemAccount) -> u64 {
        let mut target = self.candidate(cfg, head, mss);
        if mem.exhausted() {
            target = 0;
        }
        let current = self.edge.saturating_sub(head);
        let unit = 1u64 << self.scale;
        // RFC 7323, 2.4: rounding to the scale may seem to retract the edge by less than one unit; what was promised is still
        // accepted. Rounding up instead would creep to the right with every ACK, past the buffer.
        let window = (target.max(current) / unit * unit).min(65_535 << self.scale);
        self.edge = self.edge.max(head + window);
        self.zero = window == 0;
        window
    }

    /// Window by free space alone. RFC 9293, 3.8.6.2.2 (SWS avoidance): the edge advances only by at least
    /// min(rcvbuf/2, MSS).
    pub fn candidate(&self, cfg: &Config, head: u64, mss: u32) -> u64 {
        let mut limit = cfg.window_clamp.map_or(self.rcvbuf, |c| self.rcvbuf.min(u64::from(c)));
        if head == 0
            && let Some(first) = cfg.initial_rwnd
        {
            limit = limit.min(u64::from(first) * u64::from(mss));
        }
        // What the window field can express is also a limit (RFC 7323, 2.2).
        let free = (self.consumed + limit).saturating_sub(head).min(65_535 << self.scale);
        let current = self.edge.saturating_sub(head);
        let step = (limit / 2).min(u64::from(mss)).max(1);
        if free >= current + step { free } else { current }
    }

    /// True when an ACK only to announce space is due: the window would at least double, as Linux's `tcp_cleanup_rbuf`.
    pub fn wants_update(&self, cfg: &Config, head: u64, mss: u32) -> bool {
        let now = self.edge.saturating_sub(head);
        let limit = cfg.window_clamp.map_or(self.rcvbuf, |c| self.rcvbuf.min(u64::from(c)));
        if 2 * now > limit {
            return false;
        }
        let new = self.candidate(cfg, head, mss);
        new > 0 && new >= 2 * now && new > now
    }

    /// A receiver-side RTT sample from an echoed timestamp.
    pub fn sample_rtt(&mut self, rtt: Duration) {
        // The smaller counts at once; a larger one only slowly: the sender may have paused.
        self.rtt = Some(match self.rtt {
            None => rtt,
            Some(old) if rtt < old => rtt,
            Some(old) => old + (rtt - old) / 8,
        });
    }

    /// Without timestamps: the time a whole window takes to arrive bounds the RTT.
    pub fn sample_by_window(&mut self, now: Instant, head: u64) {
        match self.window_round {
            Some((edge, started)) if head >= edge => {
                self.sample_rtt(now - started);
                self.window_round = Some((self.edge, now));
            }
            Some(_) => {}
            None => self.window_round = Some((self.edge, now)),
        }
    }

    /// The application consumed up to `tail`.
    pub fn on_consumed(&mut self, tail: u64) {
        self.consumed = self.consumed.max(tail);
    }

    /// Once per RTT the buffer is sized to twice what passed in one, with room for a sender in slow start. `head`: end of the in-order
    /// stream; `waiting`: bytes beyond it. True when the buffer grew.
    ///
    /// What counts is what the application took. Where it keeps up with `head`, bytes behind a hole count too: it would have
    /// taken them, and a hole that takes a round trip to fill must not look like a slow reader. They also need room of their own, on
    /// top of what the sender may have on its way: with steady loss something always waits, for a round trip or two, and
    /// a buffer of twice the rate alone would hold the rate where it is.
    pub fn adjust(&mut self, cfg: &Config, now: Instant, head: u64, waiting: u64, mss: u32, mem: &MemAccount) -> bool {
        let Some(rtt) = self.rtt else {
            return false;
        };
        self.round_waiting = self.round_waiting.max(waiting);
        if now - self.round_start < rtt {
            return false;
        }
        let passed = if self.consumed >= head { head + waiting } else { self.consumed };
        let copied = passed.saturating_sub(self.round_consumed);
        self.round_start = now;
        self.round_consumed = passed.max(self.round_consumed);
        let waited = core::mem::take(&mut self.round_waiting);
        if copied <= self.space && waited == 0 {
            return false;
        }
        let grew = if cfg.moderate_rcvbuf && cfg.rcvbuf.is_none() && !mem.under_pressure() {
            let base = 2 * copied + 16 * u64::from(mss);
            let room = match copied.checked_sub(self.space) {
                // The rate grows: room for what it will be two round trips from now.
                Some(more) if more > 0 => {
                    let ahead = u128::from(base) * u128::from(more) / u128::from(self.space.max(1));
                    (ahead as u64).saturating_mul(2)
                }
                _ => waited,
            };
            let want = base.saturating_add(room).min(cfg.rmem[2]);
            let grew = want > self.rcvbuf;
            self.rcvbuf = self.rcvbuf.max(want);
            grew
        } else {
            false
        };
        self.space = self.space.max(copied);
        grew
    }
}
