//! A handshake that a SYN began, kept small until it ends (RFC 4987, 3.3; Linux's `request_sock`).
//!
//! A connection costs kilobytes, and whoever sends SYNs makes half-open ones for nothing. So all that is kept is what the SYN said
//! and what was answered; whenever something happens, the connection that it stands for is made from that ([`Request::revive`]), asked,
//! and forgotten again, unless the handshake is over. The rules stand in one place that way.

use super::Connection;
use crate::config::FlowParams;
use crate::recovery::RetransTimer;
use crate::seam::{Env, SegmentOut, State};
use stackd_base::{Instant, MibCounters, SeqNum};
use stackd_wire::{EcnCodepoint, FastOpenCookie, TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// What is kept of a half-open passive connection.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    iss: SeqNum,
    irs: SeqNum,
    /// The SYN's options, as far as a connection remembers them.
    tsval: Option<u32>,
    mss: Option<u16>,
    window: u16,
    flags: TcpFlags,
    window_scale: Option<u8>,
    sack: bool,
    ecn: EcnCodepoint,
    /// `tcpi_accecn_fail_mode` so far.
    accecn_fail: u8,
    /// SYN-ACKs repeated because of the timer.
    retransmits: u8,
    backoff: u8,
    /// When the first SYN-ACK left, and when the next is due.
    sent_at: Instant,
    due_at: Instant,
    last_oow_ack: Option<Instant>,
}

impl Request {
    /// Answers `syn`, whose IP header said `ecn`. `cookie`: of Fast Open, granted with the SYN-ACK.
    pub fn open(
        flow: FlowParams,
        iss: SeqNum,
        (syn, ecn): (&TcpRepr, EcnCodepoint),
        cookie: Option<FastOpenCookie>,
        now: Instant,
        env: &mut Env<'_>,
    ) -> (Self, Option<SegmentOut>) {
        let mut c = Connection::accept(env.cfg, flow, iss, syn, now);
        c.note_syn_ecn(ecn);
        if let Some(cookie) = cookie {
            c.grant_cookie(cookie);
        }
        let answer = c.poll_transmit(now, env);
        let mut request = Self {
            iss,
            irs: syn.seq,
            tsval: syn.options.timestamps.map(|t| t.tsval),
            mss: syn.options.mss,
            window: syn.window,
            flags: syn.flags,
            window_scale: syn.options.window_scale,
            sack: syn.options.sack_permitted,
            ecn,
            accecn_fail: 0,
            retransmits: 0,
            backoff: 0,
            sent_at: now,
            due_at: now,
            last_oow_ack: None,
        };
        request.keep(&c);
        (request, answer)
    }

    /// Initial sequence numbers: ours and the peer's.
    pub fn isns(&self) -> (SeqNum, SeqNum) {
        (self.iss, self.irs)
    }

    /// SYN-ACKs repeated so far.
    pub fn retransmits(&self) -> u8 {
        self.retransmits
    }

    /// When the SYN-ACK is to be repeated: [`revive`](Self::revive) it, and call `handle_timeout`.
    pub fn deadline(&self) -> Instant {
        self.due_at
    }

    /// The connection, as it would be had it been kept. If it is still half open after what happened, [`keep`](Self::keep) what is new.
    pub fn revive(&self, flow: FlowParams, env: &mut Env<'_>) -> Connection {
        let options = TcpOptions {
            mss: self.mss,
            window_scale: self.window_scale,
            sack_permitted: self.sack,
            timestamps: self.tsval.map(|tsval| Timestamps { tsval, tsecr: 0 }),
            ..TcpOptions::NONE
        };
        let syn = TcpRepr {
            src_port: flow.dst_port,
            dst_port: flow.src_port,
            seq: self.irs,
            ack: None,
            flags: self.flags,
            window: self.window,
            urgent: 0,
            options,
        };
        let mut c = Connection::accept(env.cfg, flow, self.iss, &syn, self.sent_at);
        c.note_syn_ecn(self.ecn);
        // The SYN-ACK left, and was counted, long ago.
        let mut uncounted = MibCounters::default();
        let Env { rng, cfg, mem, challenge, .. } = env;
        let mut apart = Env { mib: &mut uncounted, rng: &mut **rng, cfg, mem, challenge };
        let _ = c.poll_transmit(self.sent_at, &mut apart);
        c.retransmits = self.retransmits;
        c.backoff = self.backoff;
        c.stats.total_retrans = self.retransmits.into();
        if self.retransmits > 0 {
            c.stats.total_rto = self.retransmits.into();
            c.stats.total_rto_recoveries = 1;
            c.stats.begin_rto_row(self.sent_at);
        }
        c.timer = Some((RetransTimer::Rto, self.due_at));
        c.last_oow_ack = self.last_oow_ack;
        if let Some(a) = c.accurate_mut() {
            a.fail = self.accecn_fail;
        }
        c
    }

    /// What changed of a connection that is still half open.
    pub fn keep(&mut self, c: &Connection) {
        debug_assert_eq!(c.state, State::SynReceived);
        self.retransmits = c.retransmits;
        self.backoff = c.backoff;
        if let Some((_, at)) = c.timer {
            self.due_at = at;
        }
        self.last_oow_ack = c.last_oow_ack;
        if let Some(a) = c.accurate() {
            self.accecn_fail = a.fail;
            self.ecn = match a.syn_ect {
                0 => EcnCodepoint::NotEct,
                1 => EcnCodepoint::Ect1,
                2 => EcnCodepoint::Ect0,
                _ => EcnCodepoint::Ce,
            };
        }
    }
}
