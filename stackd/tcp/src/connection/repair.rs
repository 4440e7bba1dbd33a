//! `TCP_REPAIR`: a connection is taken apart in one place and put together in another, and the peer notices nothing (Linux's interface for
//! CRIU: tcp(7) and `Documentation/networking`; the bytes of both queues are the program's to carry).
//!
//! While a connection is under repair it stands still: nothing leaves, no timer runs, and what arrives is dropped as if the network had lost it
//! ([`DropReason::TcpRepair`](stackd_base::DropReason)). Linux leaves that to a packet filter that its users must set; a stack without one keeps the
//! state from changing between the calls that read it.

use super::Connection;
use crate::config::FlowParams;
use crate::record::What;
use crate::seam::{Env, Event, State};
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, Mib, SeqNum};

/// What is done to a connection under repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RepairCall {
    /// `TCP_REPAIR` on.
    Freeze,
    /// Off; with a window probe, which tells the peer that somebody is there, and us what it has.
    Thaw {
        /// Send the probe.
        probe: bool,
    },
    /// The peer's MSS option.
    Mss(u16),
    /// Window shifts, the peer's and ours.
    Scales {
        /// For windows that we read.
        send: u8,
        /// For windows that we write.
        receive: u8,
    },
    /// SACK was agreed on.
    Sack,
    /// Timestamps were agreed on.
    Timestamps,
    /// What our timestamp clock shows now.
    Clock(u32),
    /// Both windows.
    Window(RepairWindow),
    /// So many bytes were put at the end of the receive queue.
    Received {
        /// How many.
        bytes: u64,
    },
}

/// Linux's `struct tcp_repair_window`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RepairWindow {
    /// Sequence number of the segment that brought the peer's window.
    pub snd_wl1: SeqNum,
    /// The peer's window, bytes.
    pub snd_wnd: u32,
    /// Largest one it offered.
    pub max_window: u32,
    /// The window that was offered to the peer ...
    pub rcv_wnd: u32,
    /// ... from here on.
    pub rcv_wup: SeqNum,
}

impl Connection {
    /// `connect(2)` under repair: established at once and without a segment. The next byte written is `snd_seq`, the next expected `rcv_seq`.
    pub fn repaired(flow: FlowParams, snd_seq: SeqNum, rcv_seq: SeqNum, now: Instant, env: &mut Env<'_>) -> Self {
        let mut c = Self::new(State::SynReceived, env.cfg, flow, snd_seq - 1, now);
        c.irs = rcv_seq - 1;
        (c.una, c.nxt) = (1, 1);
        c.frozen = true;
        c.established(now, env);
        c.rcv.edge = c.rcv.candidate(env.cfg, 0, u32::from(c.advmss)).min(65_535);
        c
    }

    /// Does something of a repair.
    pub fn handle_repair(&mut self, now: Instant, call: RepairCall, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Repair(call), env);
            return;
        }
        match call {
            RepairCall::Freeze => self.frozen = true,
            RepairCall::Thaw { probe } => self.thaw(now, probe, env),
            RepairCall::Mss(mss) => {
                self.opts.peer_mss = u32::from(mss);
                self.update_mss(env.cfg);
            }
            RepairCall::Scales { send, receive } => {
                self.opts.wscale = true;
                (self.opts.snd_scale, self.rcv.scale) = (send, receive);
            }
            RepairCall::Sack => self.opts.sack = true,
            RepairCall::Timestamps => {
                (self.opts.ts, self.opts.ts_unknown) = (true, true);
                self.update_mss(env.cfg);
            }
            RepairCall::Clock(shows) => self.flow.ts_offset = shows.wrapping_sub(now.as_millis() as u32),
            RepairCall::Window(w) => {
                self.wl1 = self.recv_offset(w.snd_wl1).max(0) as u64;
                (self.snd_wnd, self.max_wnd) = (u64::from(w.snd_wnd), u64::from(w.max_window));
                let edge = self.recv_offset(w.rcv_wup) + i64::from(w.rcv_wnd);
                self.rcv.edge = u64::try_from(edge).unwrap_or(0).max(self.rcv_nxt);
            }
            RepairCall::Received { bytes } => {
                self.rcv_nxt += bytes;
                self.acked_to = self.rcv_nxt;
                self.rcv.edge = self.rcv.edge.max(self.rcv_nxt);
                self.notify(Event::Readable);
            }
        }
    }

    fn thaw(&mut self, now: Instant, probe: bool, env: &mut Env<'_>) {
        self.frozen = false;
        if !self.board.is_empty() && self.state.is_synchronized() {
            // What of it the peer has, its answer to the probe tells; the rest is sent again after a timeout.
            self.arm_rto(now, env.cfg);
        }
        if probe && self.state == State::Established {
            // Linux's tcp_send_window_probe: whatever comes next brings a window.
            self.wl1 = self.rcv_nxt.saturating_sub(1);
            self.due.probe = true;
            env.mib.inc(Mib::TcpExtTCPWinProbe);
        }
    }

    /// Under repair, what is written counts as sent: it is what another connection had sent.
    pub(super) fn take_as_sent(&mut self, now: Instant) {
        let end = self.written + 1;
        if end > self.nxt {
            let rate = self.rate.on_send(now, self.board.packets_out());
            self.board.push_old(self.nxt, end, self.mss, now, rate);
            self.nxt = end;
            // What waited for the window waits for an acknowledgment now; the end of the repair starts that timer.
            self.timer = None;
            self.persist_since = None;
        }
    }

    /// Under repair.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// `TCP_QUEUE_SEQ`: the number after the last byte of the send queue, and after the last one of the receive queue.
    pub fn queue_seqs(&self) -> (SeqNum, SeqNum) {
        (self.wire_seq(self.written + 1 + u64::from(self.fin_sent)), self.wire_ack(self.rcv_nxt))
    }

    /// `TCP_REPAIR_WINDOW`.
    pub fn repair_window(&self) -> RepairWindow {
        let capped = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        RepairWindow {
            snd_wl1: self.wire_ack(self.wl1),
            snd_wnd: capped(self.snd_wnd),
            max_window: capped(self.max_wnd),
            rcv_wnd: capped(self.rcv.edge.saturating_sub(self.acked_to)),
            rcv_wup: self.wire_ack(self.acked_to),
        }
    }

    /// What our timestamp clock shows.
    pub fn timestamp_clock(&self, now: Instant) -> u32 {
        self.ts_now(now)
    }

    /// The peer's MSS option.
    pub fn peer_mss(&self) -> u32 {
        self.opts.peer_mss
    }

    /// Nothing was sent yet, so that its options may still be said (`TCP_REPAIR_OPTIONS`).
    pub fn is_unspoken(&self) -> bool {
        self.state == State::Established && self.stats.bytes_sent == 0
    }

    /// More can be put at the end of the receive queue: nothing that arrived stands behind it.
    pub fn takes_received(&self) -> bool {
        self.reasm.is_empty() && self.peer_fin.is_none() && self.state == State::Established
    }
}
