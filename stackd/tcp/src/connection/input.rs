//! An arriving segment (RFC 9293, 3.10.7).

use super::Connection;
use crate::reassembly::Reassembly;
use crate::record::What;
use crate::seam::{CloseReason, Env, Event, Ingress, Place, State};
use stackd_base::{Bandwidth, DropReason, Duration, Instant, Mib, SeqNum};
use stackd_wire::{EcnCodepoint, TcpRepr};

/// RFC 7323, 5.5: TS.Recent is no longer valid after 24 days.
const TS_RECENT_LIFE: Duration = Duration::from_secs(24 * 86_400);

const DROP_NONE: Ingress = Ingress { place: None, drop: None };

const fn refuse(reason: DropReason) -> Ingress {
    Ingress { place: None, drop: Some(reason) }
}

impl Connection {
    /// A segment arrived at `now` (when the device took it in, not when it is processed). `payload_len` bytes follow the header in
    /// the frame; where they belong comes back.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        seg: &TcpRepr,
        payload_len: u32,
        ip: EcnCodepoint,
        env: &mut Env<'_>,
    ) -> Ingress {
        if self.tape.is_some() {
            return self.taped(Some(now), What::Segment { seg: *seg, len: payload_len, ecn: ip }, env).ingress();
        }
        if self.frozen {
            return refuse(DropReason::TcpRepair);
        }
        self.stats.segs_in += payload_len.div_ceil(self.ack.rcv_mss.max(1)).max(1);
        match self.state {
            State::Closed => refuse(DropReason::SocketClosed),
            State::SynSent => self.in_syn_sent(now, seg, payload_len, ip, env),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.in_synchronized(now, seg, payload_len, ip, env),
        }
    }

    /// RFC 9293, 3.10.7.3.
    fn in_syn_sent(
        &mut self,
        now: Instant,
        seg: &TcpRepr,
        payload_len: u32,
        ip: EcnCodepoint,
        env: &mut Env<'_>,
    ) -> Ingress {
        let pos = seg.ack.map_or(0, |a| self.send_position(a));
        let acks_syn = seg.ack.map(|_| pos >= 1 && pos <= self.nxt as i64);
        // "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set)".
        if acks_syn == Some(false) {
            if !seg.flags.rst() {
                self.due.rst_seq = seg.ack;
            }
            return refuse(DropReason::TcpUnsentAck);
        }
        // RFC 7323, 5.3 applied to the handshake, as Linux: a SYN-ACK that echoes what we never sent answers somebody else's SYN.
        if acks_syn == Some(true) && self.echoes_the_unsent(now, seg) {
            env.mib.inc(Mib::TcpExtPAWSActive);
            if !seg.flags.rst() {
                self.due.rst_seq = seg.ack;
            }
            return refuse(DropReason::TcpPaws);
        }
        if seg.flags.rst() {
            // "If the ACK was acceptable, then ... reset"; without ACK it may be anybody's.
            if acks_syn == Some(true) {
                env.mib.inc(Mib::TcpAttemptFails);
                self.finish(CloseReason::Refused, env);
                return DROP_NONE;
            }
            return refuse(DropReason::TcpReset);
        }
        if !seg.flags.syn() {
            return refuse(DropReason::TcpFlags);
        }
        self.irs = seg.seq;
        self.rcv_nxt = 0;
        self.absorb_syn_options(env.cfg, seg, now);
        self.snd_wnd = u64::from(seg.window);
        self.max_wnd = self.snd_wnd;
        if acks_syn == Some(true) {
            self.take_ecn_of_syn_ack(env.cfg, seg, ip);
            self.update_mss(env.cfg);
            self.handshake_acked(now, seg, pos as u64, env);
            // RFC 4898 (tcpEStatsAppHCThruOctetsAcked) as Linux counts it: the SYN of an active open is acknowledged too.
            self.stats.bytes_acked += pos as u64;
            self.established(now, env);
            self.fast_open_answered(now, seg, env);
            // As Linux (`tcp_finish_connect`): how long the peer has been silent counts from here.
            self.ack.last_data = now;
            self.ack.pending = true;
            self.ack.now = true;
            return self.take_text(now, seg, payload_len, EcnCodepoint::NotEct, env);
        }
        // RFC 9293, 3.5 figure 8: simultaneous open.
        // RFC 9768, 3.1.2: "the same feedback mode as it would have entered had it been a responding host".
        self.answer_ecn_of_syn(env.cfg, seg, ip);
        self.state = State::SynReceived;
        self.due.syn = true;
        DROP_NONE
    }

    /// The echoed timestamp is none of those that our SYNs carried, the first at `retrans_since`.
    fn echoes_the_unsent(&self, now: Instant, seg: &TcpRepr) -> bool {
        let (Some(t), Some(since)) = (seg.options.timestamps, self.retrans_since) else { return false };
        let (first, last) = (self.ts_now(since), self.ts_now(now));
        t.tsecr != 0 && t.tsecr.wrapping_sub(first) > last.wrapping_sub(first)
    }

    /// Our SYN is acknowledged, and the data that it took along as far as `pos`: the first RTT sample.
    fn handshake_acked(&mut self, now: Instant, seg: &TcpRepr, pos: u64, env: &mut Env<'_>) {
        let mut out = crate::scoreboard::AckOutcome::default();
        self.una = pos;
        self.board.ack_to(pos, &mut out, &mut self.rate);
        let min = self.rtt.min();
        let _ = self.rate.sample(now, min);
        let sample = match out.first_acked_at {
            Some(at) if self.retransmits == 0 => Some(now - at),
            _ => self.ts_rtt(now, seg),
        };
        if let Some(rtt) = sample {
            self.take_rtt(now, rtt, env.cfg);
        }
        self.timer = None;
        if self.state == State::SynReceived
            && let Some(first) = self.retrans_since
        {
            // As Linux: of a passive open the time counts from the first SYN-ACK.
            self.stats.date_rto_row(first);
        }
        self.stats.end_rto_row(now);
        self.backoff = 0;
        self.retransmits = 0;
        self.retrans_since = None;
        self.stalled_since = None;
        self.wl1 = self.rcv_nxt;
    }

    pub(super) fn established(&mut self, now: Instant, env: &mut Env<'_>) {
        self.state = State::Established;
        self.stats.last_recv = now;
        env.mib.inc(Mib::TcpCurrEstab);
        self.start_probing(now, env.cfg);
        // Now the MSS and the first RTT are known: both belong to how an algorithm begins.
        self.set_congestion(now, self.cc.name(), env.cfg);
        // A first pacing rate from the handshake's RTT, or the first flight leaves as a burst; BBR keeps its own.
        self.next_departure = now;
        if self.control.pacing_rate == Some(Bandwidth::ZERO) {
            self.control.pacing_rate = None;
        }
        self.sndbuf = self.sndbuf.max(env.cfg.sndbuf.unwrap_or_else(|| self.initial_sndbuf(env.cfg)));
        self.update_keepalive(now, env.cfg);
        self.notify(Event::Connected);
        self.notify(Event::Writable);
    }

    fn in_synchronized(
        &mut self,
        now: Instant,
        seg: &TcpRepr,
        len: u32,
        ip: EcnCodepoint,
        env: &mut Env<'_>,
    ) -> Ingress {
        if let Some(drop) = self.validate(now, seg, len, ip, env) {
            return refuse(drop);
        }
        let Some(ack) = seg.ack else { return refuse(DropReason::TcpFlags) };
        // RFC 7323, 4.3 (3): "If ... SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent".
        if self.opts.ts
            && let Some(t) = seg.options.timestamps
            && self.recv_offset(seg.seq) <= self.acked_to as i64
            // As Linux: a segment that acknowledges what was never sent is refused below, and must not poison PAWS before that.
            && self.send_position(ack) <= self.nxt as i64
            && (t.tsval.wrapping_sub(self.opts.ts_recent) as i32 >= 0
                || now - self.opts.ts_recent_at >= TS_RECENT_LIFE
                || self.opts.ts_unknown)
        {
            self.opts.ts_unknown = false;
            self.opts.ts_recent = t.tsval;
            self.opts.ts_recent_at = now;
        }
        let pos = self.send_position(ack);
        if self.state == State::SynReceived {
            // RFC 9293, 3.10.7.4: "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK>".
            // Nothing is acceptable before our own SYN has left: its number could only be guessed.
            if pos < 1 || pos > self.nxt as i64 {
                self.due.rst_seq = Some(ack);
                return refuse(DropReason::TcpUnsentAck);
            }
            self.snd_wnd = u64::from(seg.window) << self.opts.snd_scale;
            self.max_wnd = self.snd_wnd;
            self.take_ace_of_third_ack(env.cfg, seg, len);
            self.update_mss(env.cfg);
            self.handshake_acked(now, seg, 1, env);
            self.established(now, env);
        }
        // RFC 5961, 5.2: "(SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT"; others are discarded and answered with an ACK.
        if pos > self.nxt as i64 {
            self.challenge(now, env);
            return refuse(DropReason::TcpUnsentAck);
        }
        if pos < self.una as i64 - self.max_wnd.max(1) as i64 {
            self.challenge(now, env);
            return refuse(DropReason::TcpOldAck);
        }
        self.stats.last_recv = now;
        self.probes_answered(now, env);
        self.handle_ack(now, seg, pos, len, env);
        self.release_more();
        if let Some(done) = self.after_ack(now, ack, env) {
            return done;
        }
        self.take_urgent(seg, self.recv_offset(seg.seq) + i64::from(seg.flags.syn()), env);
        self.take_text(now, seg, len, ip, env)
    }

    /// Any answer proves the peer alive: keepalive starts over.
    fn probes_answered(&mut self, now: Instant, env: &Env<'_>) {
        if self.keepalive_at.is_some() {
            self.keepalive_at = Some(now + env.cfg.keepalive_time);
            self.probes_out = 0;
        }
    }

    /// What the acknowledgment of our FIN means (RFC 9293, 3.10.7.4, fifth).
    fn after_ack(&mut self, now: Instant, ack: SeqNum, env: &mut Env<'_>) -> Option<Ingress> {
        let fin_acked = self.fin_sent && self.una == self.nxt && self.una == self.written + 2;
        if !fin_acked {
            return None;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.timer = None;
                // tcp(7), TCP_LINGER2 below zero: an orphan does not wait for the peer's FIN. As Linux: it is reset.
                if self.app_closed && env.cfg.fin_timeout.is_zero() {
                    env.mib.inc(Mib::TcpExtTCPAbortOnData);
                    self.finish(CloseReason::Aborted, env);
                    self.due.rst_seq = Some(ack);
                    return Some(refuse(DropReason::TcpAbort));
                }
                if self.app_closed {
                    self.linger_at = Some(now + env.cfg.fin_timeout);
                }
                None
            }
            State::Closing => {
                self.enter_time_wait(now);
                Some(DROP_NONE)
            }
            State::LastAck => {
                self.finish(CloseReason::Finished, env);
                Some(DROP_NONE)
            }
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait2
            | State::CloseWait
            | State::TimeWait
            | State::Closed => None,
        }
    }

    /// The checks before anything is believed: PAWS, sequence, RST, SYN.
    fn validate(
        &mut self,
        now: Instant,
        seg: &TcpRepr,
        len: u32,
        ip: EcnCodepoint,
        env: &mut Env<'_>,
    ) -> Option<DropReason> {
        let start = self.recv_offset(seg.seq);
        let end = start + i64::from(len) + i64::from(seg.flags.fin()) + i64::from(seg.flags.syn());
        // RFC 7323, 5.3 R1: "If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent ... and if the RST bit is
        // not set: not acceptable"; 5.5: after 24 days TS.Recent is invalid.
        if self.opts.ts
            && !seg.flags.rst()
            && let Some(t) = seg.options.timestamps
            && (t.tsval.wrapping_sub(self.opts.ts_recent) as i32) < 0
            && now - self.opts.ts_recent_at < TS_RECENT_LIFE
            && !self.opts.ts_unknown
            && !(end == start && self.is_harmless_ack(seg, start))
        {
            env.mib.inc(Mib::TcpExtPAWSEstab);
            self.out_of_window_ack(now, start, len, Mib::TcpExtTCPACKSkippedPAWS, env);
            return Some(DropReason::TcpPaws);
        }
        // RFC 9293, 3.10.7.4: the four acceptability tests; the left edge is the last ACK sent, as Linux.
        let right = self.rcv.edge.max(self.rcv_nxt) as i64;
        if end < self.acked_to.min(self.rcv_nxt) as i64 || start > right {
            if seg.flags.rst() {
                if self.resets_below_fin(start) {
                    self.reset_by_peer(env);
                }
                return Some(DropReason::TcpReset);
            }
            if seg.flags.syn() {
                self.syn_again(now, seg, start, ip, env);
            } else {
                self.out_of_window_ack(now, start, len, Mib::TcpExtTCPACKSkippedSeq, env);
            }
            return Some(if start > right { DropReason::TcpOutOfWindow } else { DropReason::TcpOldSequence });
        }
        if seg.flags.rst() {
            // RFC 5961, 3.2: only an exact match resets; another one in the window is challenged. Linux counts as exact what a peer
            // may believe to be exact: the end of what we SACKed.
            let sacked_to = self.sack_edge().filter(|_| self.opts.sack);
            let exact = start == self.rcv_nxt as i64 || sacked_to.is_some_and(|e| start == e as i64);
            if !exact && !self.resets_below_fin(start) {
                self.challenge(now, env);
                return Some(DropReason::TcpReset);
            }
            self.reset_by_peer(env);
            return Some(DropReason::SocketClosed);
        }
        if seg.flags.syn() {
            // RFC 9293, 3.5 figure 8: in a simultaneous open the peer's SYN-ACK acknowledges our SYN.
            let ends_open = self.state == State::SynReceived
                && start == -1
                && seg.ack.is_some_and(|a| self.send_position(a) == self.nxt as i64);
            if ends_open {
                return None;
            }
            self.syn_again(now, seg, start, ip, env);
            return Some(DropReason::TcpFlags);
        }
        None
    }

    /// As Linux: after its FIN, some systems reset with the FIN's own number.
    fn resets_below_fin(&self, start: i64) -> bool {
        let after_fin = matches!(self.state, State::CloseWait | State::LastAck | State::Closing);
        after_fin && start == self.rcv_nxt as i64 - 1
    }

    fn reset_by_peer(&mut self, env: &mut Env<'_>) {
        let reason = match self.state {
            State::SynReceived if !self.is_fast_child() => {
                env.mib.inc(Mib::TcpAttemptFails);
                CloseReason::Refused
            }
            State::TimeWait | State::Closing | State::LastAck => CloseReason::Finished,
            State::CloseWait => CloseReason::ResetAfterFin,
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::Closed => CloseReason::Reset,
        };
        self.finish(reason, env);
    }

    /// A pure ACK that was overtaken by a newer one, and that would move nothing: no reason to answer it.
    fn is_harmless_ack(&self, seg: &TcpRepr, start: i64) -> bool {
        let wnd = u64::from(seg.window) << self.opts.snd_scale;
        start == self.rcv_nxt as i64
            && wnd <= self.snd_wnd
            && seg.ack.is_some_and(|a| self.send_position(a) <= self.una as i64)
    }

    /// RFC 5961, 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK"; in SYN_RECEIVED the same SYN
    /// means that our answer was lost.
    fn syn_again(&mut self, now: Instant, seg: &TcpRepr, start: i64, ip: EcnCodepoint, env: &mut Env<'_>) {
        if self.state == State::SynReceived && start == -1 {
            if self.ecn_of_repeated_syn(env.cfg, seg, ip) {
                self.due.syn = true;
            } else {
                env.mib.inc(Mib::TcpAttemptFails);
                self.finish(CloseReason::Refused, env);
                self.due.rst = true;
            }
            return;
        }
        if let Some(a) = self.accurate_mut().filter(|_| seg.ack.is_some()) {
            // RFC 9768, 3.2.2.1: the ACK of a repeated SYN-ACK is in the handshake's encoding too.
            a.syn_ect = ip as u8;
            a.reflect = true;
        }
        env.mib.inc(Mib::TcpExtTCPSYNChallenge);
        self.challenge(now, env);
    }

    pub(crate) fn challenge(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.limited(now, env) {
            env.mib.inc(Mib::TcpExtTCPACKSkippedChallenge);
            return;
        }
        if env.challenge.allow(now, env.cfg.challenge_ack_limit, env.rng) {
            env.mib.inc(Mib::TcpExtTCPChallengeACK);
            self.due.challenge = true;
        }
    }

    /// One answer to invalid segments per `tcp_invalid_ratelimit`: two confused peers must not play ping-pong.
    fn limited(&mut self, now: Instant, env: &Env<'_>) -> bool {
        if self.last_oow_ack.is_some_and(|t| now - t < env.cfg.invalid_ratelimit) {
            return true;
        }
        self.last_oow_ack = Some(now);
        false
    }

    /// A duplicate or stray segment is answered with an ACK, with a DSACK where it held data (RFC 2883).
    fn out_of_window_ack(&mut self, now: Instant, start: i64, len: u32, skipped: Mib, env: &mut Env<'_>) {
        let end = start + i64::from(len);
        // As Linux: data is no part of a loop of ACKs, and its sender waits for an answer.
        if len == 0 && self.limited(now, env) {
            env.mib.inc(skipped);
            return;
        }
        if len > 0 && end <= self.rcv_nxt as i64 {
            self.duplicate_data(start, end, env);
        }
        self.ack.pending = true;
        self.ack.now = true;
    }

    fn duplicate_data(&mut self, start: i64, end: i64, env: &mut Env<'_>) {
        env.mib.inc(Mib::TcpExtDelayedACKLost);
        self.ack.enter_quick(self.rcv.rcvbuf, 16);
        if self.opts.sack && env.cfg.dsack && start >= 0 {
            env.mib.inc(Mib::TcpExtTCPDSACKOldSent);
            self.accecn_duplicate(start as u64);
            self.dsack = Some((start as u64, end as u64));
        }
    }

    /// Payload and FIN (RFC 9293, 3.10.7.4, seventh and eighth).
    fn take_text(&mut self, now: Instant, seg: &TcpRepr, len: u32, ip: EcnCodepoint, env: &mut Env<'_>) -> Ingress {
        self.take_ecn(seg, len, ip);
        // RFC 9293, 3.4: SYN occupies a number before the first byte.
        let start = self.recv_offset(seg.seq) + i64::from(seg.flags.syn());
        let end = start + i64::from(len);
        // A FIN in the middle of what was received already would move the end of the stream backwards.
        let fin = seg.flags.fin() && (end >= self.rcv_nxt as i64 || self.peer_fin.is_some_and(|f| f as i64 == end));
        if len == 0 && !fin {
            return DROP_NONE;
        }
        if !self.state.can_receive() {
            return self.text_after_fin(now, start, end, len, env);
        }
        // RFC 1122, 4.2.2.13: "if new data is received after CLOSE is called, its TCP SHOULD send a RST to show that data was lost."
        // Having shut both directions is as good as having closed.
        let shut = self.read_shut && matches!(self.state, State::FinWait1 | State::FinWait2);
        if len > 0 && (self.app_closed || shut) {
            // RFC 9293, 3.10.7.4 / RFC 2525, 2.17: data nobody will read: RST. It answers this segment, so its number is SEG.ACK
            // (3.5.2: "If the incoming segment has an ACK field, the reset takes its sequence number from the ACK field").
            if end > self.rcv_nxt as i64 {
                env.mib.inc(Mib::TcpExtTCPAbortOnData);
                self.finish(if self.app_closed { CloseReason::Aborted } else { CloseReason::Reset }, env);
                self.due.rst_seq = seg.ack;
                return refuse(DropReason::TcpAbort);
            }
        }
        self.stats.data_segs_in += len.div_ceil(self.ack.rcv_mss.max(1));
        self.ack.pending = true;
        if end <= self.rcv_nxt as i64 && len > 0 && !(fin && end == self.rcv_nxt as i64) {
            self.duplicate_data(start, end, env);
            self.ack.now = true;
            return refuse(DropReason::TcpOldSequence);
        }
        // Trim to the window: what lies before rcv_nxt we have, what lies beyond the edge was not allowed.
        let from = start.max(self.rcv_nxt as i64);
        let to = end.min(self.rcv.edge.max(self.rcv_nxt) as i64);
        if from < start + i64::from(len) && start < self.rcv_nxt as i64 && self.opts.sack && env.cfg.dsack {
            env.mib.inc(Mib::TcpExtTCPDSACKOldSent);
            self.dsack = Some((start.max(0) as u64, self.rcv_nxt));
        }
        let only_fin = fin && end == self.rcv_nxt as i64;
        if len > 0 && to <= from && !only_fin {
            env.mib.inc(Mib::TcpExtTCPZeroWindowDrop);
            self.ack.now = true;
            return refuse(DropReason::TcpOutOfWindow);
        }
        if from > self.rcv_nxt as i64 && (env.mem.exhausted() || self.reasm.len() as u64 >= self.most_holes()) {
            env.mib.inc(Mib::TcpExtTCPOFODrop);
            self.ack.now = true;
            return refuse(DropReason::TcpOfoPrune);
        }
        self.fin_is_newest = fin && len == 0;
        // Bytes beyond a FIN that waited out of order say that there is no such end: as Linux, which forgets a FIN that data overtook.
        self.peer_fin = self.peer_fin.filter(|&f| to <= from || to as u64 <= f);
        if fin {
            self.note_fin(start, end.max(0) as u64);
            // RFC 5681, 4.2: "A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives"; a bare FIN is one too.
            self.ack.now |= start > self.rcv_nxt as i64;
        }
        let mut out = DROP_NONE;
        if to > from {
            out.place = Some(Place { stream_offset: from as u64, at: (from - start) as u32, len: (to - from) as u32 });
            self.accept_bytes(now, seg, from as u64, to as u64, env);
        }
        self.take_fin(now, env);
        let quick = env.cfg.quickack || self.sack_edge().is_some() || self.dsack.is_some();
        // tcp(7), TCP_QUICKACK cleared: as in a dialogue.
        self.ack.pingpong |= env.cfg.delayed_ack;
        self.ack.decide(now, self.rcv_nxt - self.acked_to, quick, self.rtt.srtt());
        out
    }

    /// Ranges that may wait out of order: an entry costs memory however few bytes it holds.
    fn most_holes(&self) -> u64 {
        (self.rcv.rcvbuf / 4096).max(1024)
    }

    /// `from..to` is new or out of order and within the window.
    pub(super) fn accept_bytes(&mut self, now: Instant, seg: &TcpRepr, from: u64, to: u64, env: &mut Env<'_>) {
        let rto = self.rtt.rto(env.cfg.rto_max);
        let len = (to - from) as u32;
        self.ack.on_data(now, len, seg.flags.psh(), self.rcv.rcvbuf, self.mss, rto);
        if self.opts.ts {
            if len >= self.ack.rcv_mss
                && let Some(t) = seg.options.timestamps
                && t.tsecr != 0
            {
                let ms = self.ts_now(now).wrapping_sub(t.tsecr);
                if (ms as i32) >= 0 {
                    self.rcv.sample_rtt(Duration::from_millis(u64::from(ms.max(1))));
                }
            }
        } else {
            self.rcv.sample_by_window(now, self.rcv_nxt);
        }
        if from > self.rcv_nxt {
            env.mib.inc(Mib::TcpExtTCPOFOQueue);
            self.stats.rcv_ooopack += len.div_ceil(self.ack.rcv_mss.max(1));
            if let Some(dup) = self.reasm.insert(from, to)
                && self.opts.sack
                && env.cfg.dsack
            {
                env.mib.inc(Mib::TcpExtTCPDSACKOfoSent);
                self.dsack = Some(dup);
            }
            self.rcv.adjust(env.cfg, now, self.rcv_nxt, self.reasm.bytes(), self.mss, env.mem);
            self.ack.enter_quick(self.rcv.rcvbuf, 16);
            self.ack.now = true;
            return;
        }
        let filled = !self.reasm.is_empty();
        // RFC 2883, 4: what the segment repeats of that which waited out of order is a duplicate too.
        if self.opts.sack
            && env.cfg.dsack
            && let Some((start, end)) = self.reasm.first().filter(|r| r.0 < to)
        {
            env.mib.inc(Mib::TcpExtTCPDSACKOldSent);
            self.dsack = Some((start, end.min(to)));
        }
        let before = self.rcv_nxt;
        self.rcv_nxt = self.reasm.advance(to);
        self.stats.bytes_received += self.rcv_nxt - before;
        // RFC 5681, 4.2: "a TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap".
        self.ack.now |= filled;
        self.notify(Event::Readable);
    }

    /// A segment that begins at `start` says that the stream ends at `end`. Out of order and below what is held, it is contradicted by that;
    /// in order it ends the stream, and what is held beyond is none of it (Linux: `tcp_fin` purges the out-of-order queue).
    fn note_fin(&mut self, start: i64, end: u64) {
        let contradicted = self.reasm.end().is_some_and(|e| e > end);
        if contradicted && start > self.rcv_nxt as i64 {
            return;
        }
        if *self.peer_fin.get_or_insert(end) == end && contradicted {
            self.reasm = Reassembly::default();
        }
    }

    /// The peer's FIN, once everything before it is here.
    fn take_fin(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.peer_fin != Some(self.rcv_nxt) {
            return;
        }
        self.rcv_nxt += 1;
        self.ack.pending = true;
        self.ack.now = true;
        self.notify(Event::PeerClosed);
        match self.state {
            State::Established => self.state = State::CloseWait,
            // Both FINs crossed: ours is not acknowledged yet.
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                self.enter_time_wait(now);
                self.ack.now = true;
            }
            State::SynSent
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => {}
        }
        self.update_keepalive(now, env.cfg);
    }

    /// The peer said FIN before: this is an old copy, or nonsense.
    fn text_after_fin(&mut self, now: Instant, start: i64, end: i64, len: u32, env: &mut Env<'_>) -> Ingress {
        if len > 0 && end <= self.rcv_nxt as i64 {
            self.duplicate_data(start, end, env);
        }
        self.ack.pending = true;
        self.ack.now = true;
        if self.state == State::TimeWait {
            // RFC 9293, 3.10.7.4: "Acknowledge it, and restart the 2 MSL timeout."
            self.linger_at = Some(now + Duration::from_secs(60));
        }
        refuse(DropReason::TcpOldSequence)
    }
}
