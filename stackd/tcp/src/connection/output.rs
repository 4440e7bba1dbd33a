//! What leaves: the order of precedence, segmentation, Nagle, pacing, the small-queue limit.

use super::mtup::Attempt;
use super::{Connection, More};
use crate::cc::{CaState, CcEvent};
use crate::config::Config;
use crate::record::What;
use crate::scoreboard::Resent;
use crate::seam::{Env, SegmentOut, State};
use core::ops::Range;
use stackd_base::{Bandwidth, Duration, Instant, Mib, MibCounters};
use stackd_wire::{EcnCodepoint, TcpFlags, TcpRepr};

impl Connection {
    /// The next segment to put on the wire, until `None`.
    pub fn poll_transmit(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        if self.tape.is_some() {
            return self.taped(Some(now), What::Transmit, env).segment();
        }
        if self.frozen {
            return None;
        }
        let out = self.next_segment(now, env)?;
        // RFC 1213, tcpOutSegs, and tcp_info's segs_out: a GSO frame counts as the segments that the device cuts it into.
        let bytes = out.payload.as_ref().map_or(0, |range| range.end - range.start);
        let segments = if out.gso_size == 0 { 1 } else { bytes.div_ceil(u64::from(out.gso_size)).max(1) };
        env.mib.add(Mib::TcpOutSegs, segments);
        self.stats.segs_out = self.stats.segs_out.wrapping_add(segments as u32);
        Some(out)
    }

    fn next_segment(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        if core::mem::take(&mut self.due.rst) {
            env.mib.inc(Mib::TcpOutRsts);
            return Some(self.reset(env.cfg, now));
        }
        if let Some(seq) = self.due.rst_seq.take() {
            env.mib.inc(Mib::TcpOutRsts);
            // As for a segment that finds no connection: bare, without a window.
            let (src_port, dst_port) = (self.flow.src_port, self.flow.dst_port);
            return Some(plain(TcpRepr { src_port, dst_port, seq, flags: TcpFlags::RST, ..TcpRepr::default() }));
        }
        match self.state {
            State::Closed => return None,
            State::SynSent => return self.syn(now, env),
            State::SynReceived => {
                let out = self.syn(now, env);
                // RFC 7413, 4.2.2: a Fast Open server may send before the handshake ends. Lost data waits for its end.
                return if out.is_none() && self.is_fast_child() && self.nxt > 0 {
                    self.new_data(now, env)
                } else {
                    out
                };
            }
            State::Established
            | State::CloseWait
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
        // An out-of-order report does not fit into full-sized data: it goes alone and first.
        let report = self.sack_edge().is_some() || self.dsack.is_some() || self.accecn_wants_ack(env.cfg);
        if self.due.challenge || (self.ack.now && report) {
            return Some(self.pure_ack(now, env));
        }
        if core::mem::take(&mut self.due.probe) {
            // RFC 1122, 4.2.3.6: SEG.SEQ = SND.NXT-1 draws an ACK.
            let pos = self.una.saturating_sub(1);
            let repr = self.header(pos, TcpFlags::NONE, now, env.cfg, env, 40);
            self.ack.on_sent(false, now);
            return Some(SegmentOut { ecn: self.packet_ecn(false), ..plain(repr) });
        }
        if let Some(out) = self.retransmission(now, env) {
            return Some(out);
        }
        if let Some(out) = self.new_data(now, env) {
            return Some(out);
        }
        self.validate_cwnd();
        // tcp(7), TCP_QUICKACK set: what was delayed goes too.
        if self.ack.now || self.ack.pending && env.cfg.quickack {
            return Some(self.pure_ack(now, env));
        }
        None
    }

    /// Common part of every segment after the SYNs; takes the window.
    fn header(
        &mut self,
        pos: u64,
        mut flags: TcpFlags,
        now: Instant,
        cfg: &Config,
        env: &mut Env<'_>,
        option_room: u32,
    ) -> TcpRepr {
        flags |= self.ecn_flags(option_room == PURE_ACK_ROOM && flags == TcpFlags::NONE && pos == self.nxt);
        let (urg, urgent) = self.urg.as_ref().map_or((TcpFlags::NONE, 0), |u| u.pointer(pos, self.una, self.nxt));
        flags |= urg;
        let was_zero = self.rcv.zero;
        let wnd = self.rcv.offer(cfg, self.rcv_nxt, u32::from(self.advmss), env.mem);
        if self.rcv.zero && !was_zero {
            self.stats.to_zero_window += 1;
            env.mib.inc(Mib::TcpExtTCPToZeroWindowAdv);
        } else if was_zero && !self.rcv.zero {
            env.mib.inc(Mib::TcpExtTCPFromZeroWindowAdv);
        }
        self.acked_to = self.rcv_nxt;
        TcpRepr {
            src_port: self.flow.src_port,
            dst_port: self.flow.dst_port,
            seq: self.wire_seq(pos),
            ack: Some(self.wire_ack(self.rcv_nxt)),
            flags,
            window: (wnd >> self.rcv.scale).min(65_535) as u16,
            urgent,
            options: self.segment_options(now, option_room, cfg),
        }
    }

    pub(super) fn pure_ack(&mut self, now: Instant, env: &mut Env<'_>) -> SegmentOut {
        self.due.challenge = false;
        // Its sequence number lies behind data that the qdisc may still hold: it must not leave ahead of them, or the peer sees a hole where
        // there is none. Linux, too, gives it its place in the flow's schedule.
        let at = if self.flow.port_paces { self.last_departure.max(now) } else { now };
        let repr = self.header(self.nxt, TcpFlags::NONE, at, env.cfg, env, PURE_ACK_ROOM);
        self.ack.on_sent(false, now);
        SegmentOut { departure: (at > now).then_some(at), ecn: self.packet_ecn(false), ..plain(repr) }
    }

    fn reset(&mut self, cfg: &Config, now: Instant) -> SegmentOut {
        // RFC 9293, 3.10.5: <SEQ=SND.NXT><CTL=RST>; with ACK as Linux sends it.
        let mut options = stackd_wire::TcpOptions::NONE;
        if self.opts.ts && cfg.timestamps {
            options.timestamps = Some(stackd_wire::Timestamps { tsval: self.ts_now(now), tsecr: self.opts.ts_recent });
        }
        // With Accurate ECN every segment has the counter.
        let ace = if self.accurate().is_some() { self.ecn_flags(false) } else { TcpFlags::NONE };
        let repr = TcpRepr {
            src_port: self.flow.src_port,
            dst_port: self.flow.dst_port,
            seq: self.wire_seq(self.nxt),
            ack: Some(self.wire_ack(self.rcv_nxt)),
            flags: TcpFlags::RST | ace,
            window: 0,
            urgent: 0,
            options,
        };
        SegmentOut {
            ecn: if ace == TcpFlags::NONE { EcnCodepoint::NotEct } else { self.packet_ecn(false) },
            ..plain(repr)
        }
    }

    /// SYN or SYN-ACK, first or again.
    pub(super) fn syn(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        if !core::mem::take(&mut self.due.syn) {
            if self.ack.now && self.state == State::SynReceived {
                return Some(self.pure_ack(now, env));
            }
            return None;
        }
        let answer = self.state == State::SynReceived;
        let is_retransmit = self.nxt > 0;
        let mut len = 0;
        let mut options = self.syn_options(env.cfg, now, answer);
        self.add_fast_open_option(&mut options, is_retransmit);
        let mut flags = TcpFlags::SYN;
        if answer {
            let (ecn, option) = self.syn_ack_ecn(env.cfg, is_retransmit);
            flags |= ecn;
            self.add_accecn_option(&mut options, option);
        } else {
            flags |= self.syn_ecn_flags(env.cfg);
        }
        // RFC 7323, 2.2: "The window field in a segment where the SYN bit is set ... MUST NOT be scaled".
        let window = self.rcv.candidate(env.cfg, self.rcv_nxt, u32::from(self.advmss)).min(65_535);
        self.rcv.edge = self.rcv.edge.max(self.rcv_nxt + window);
        self.acked_to = self.rcv_nxt;
        if is_retransmit {
            env.mib.inc(Mib::TcpRetransSegs);
            env.mib.inc(Mib::TcpExtTCPSynRetrans);
            self.stats.total_retrans += 1;
            let rate = self.rate.on_send(now, self.board.packets_out());
            self.board.resend(0, 1, self.mss, now, rate);
        } else {
            let rate = self.rate.on_send(now, 0);
            self.board.push(0, 1, self.mss, now, rate);
            self.nxt = 1;
            self.retrans_since = Some(now);
            len = self.syn_data(now, env);
        }
        if self.timer.is_none() {
            self.arm_rto(now, env.cfg);
        }
        self.ack.on_sent(false, now);
        let mut out = plain(TcpRepr {
            src_port: self.flow.src_port,
            dst_port: self.flow.dst_port,
            seq: self.iss,
            ack: answer.then(|| self.wire_ack(self.rcv_nxt)),
            flags,
            window: window as u16,
            urgent: 0,
            options,
        });
        out.is_retransmit = is_retransmit;
        out.payload = (len > 0).then_some(0..u64::from(len));
        Some(out)
    }

    // ---- pacing and queue limits ----

    pub(crate) fn paces(&self, cfg: &Config) -> bool {
        self.flow.port_paces || self.cc.needs_pacing() || cfg.max_pacing_rate < Bandwidth::MAX
    }

    /// The port does not pace, so we do: the next data segment is not due yet. The deadline then covers it.
    fn is_paced_out(&mut self, now: Instant, cfg: &Config) -> bool {
        // On a coarse clock what is due within this tick is due now (a span shorter than a tick counts as one): without that, one
        // segment would leave per tick, whatever the rate.
        let tick = if cfg.clock_clamp { cfg.clock_tick } else { Duration::ZERO };
        let slack = tick.saturating_sub(Duration::from_nanos(1));
        let hold = !self.flow.port_paces && self.paces(cfg) && self.next_departure > now + slack;
        // The deadline must name the first tick that lets it go: one tick later, every second tick would send nothing.
        self.stats.paced_until = hold.then_some(self.next_departure - slack);
        hold
    }

    /// Linux's small-queue rule (`tcp_small_queue_check`): no more below us than a millisecond at the pacing rate, and two segments at least;
    /// where nobody paces, no more than `tcp_limit_output_bytes`. Retransmissions may take twice as much. With at most one segment
    /// outstanding nothing waits: whoever took it may be slow to say so.
    pub(super) fn queue_is_full(&self, cfg: &Config, factor: u64) -> bool {
        if self.board.at_most_one_segment() {
            return false;
        }
        let floor = 2 * u64::from(self.tso_bytes(cfg));
        let by_rate = self.pacing_rate(cfg).map_or(0, |r| r.as_bytes_per_sec() >> 10);
        let limit = floor.max(by_rate).saturating_mul(factor);
        let limit = if self.paces(cfg) { limit } else { limit.min(cfg.limit_output_bytes) };
        self.queued_below > limit || self.frames_below >= MOST_FRAMES_BELOW
    }

    /// Size of a GSO segment: what a millisecond holds at the pacing rate, more on short paths (`tcp_tso_autosize`).
    pub(crate) fn tso_bytes(&self, cfg: &Config) -> u32 {
        let mss = self.mss;
        if self.urgent_pending() {
            // The pointer is relative to each segment: a device that cuts them would repeat it.
            return mss;
        }
        let most = self.largest_gso();
        let gso_max = if self.ace_forbids_gso() { mss } else { self.flow.gso_max.clamp(mss, 65_535) };
        let (by_rate, least) = match self.control.send_quantum {
            Some(quantum) => (u64::from(quantum), 1),
            None => {
                let by_rate = self.pacing_rate(cfg).map_or(u64::from(gso_max), |r| r.as_bytes_per_sec() >> 10);
                (by_rate, cfg.min_tso_segs)
            }
        };
        let shift = self.rtt.min().map_or(63, |m| m.as_micros() >> cfg.tso_rtt_log).min(31);
        let bytes = by_rate + (u64::from(gso_max) >> shift);
        let segs = (bytes / u64::from(mss)).max(u64::from(least)).clamp(1, u64::from((most / mss).max(1)));
        (segs as u32 * mss).min(most)
    }

    /// Most payload of one GSO segment, in whole segments.
    pub(super) fn largest_gso(&self) -> u32 {
        let mss = self.mss;
        let gso_max = if self.ace_forbids_gso() { mss } else { self.flow.gso_max.clamp(mss, 65_535) };
        // No more than half of what the peer ever offered, as for a segment.
        self.half_window(gso_max).max(mss) / mss * mss
    }

    /// Departure time of a data segment of `bytes`; moves the pacer on. EDT: the qdisc keeps it until then.
    fn depart(&mut self, now: Instant, bytes: u64, cfg: &Config) -> Instant {
        if !self.paces(cfg) {
            return now;
        }
        let at = self.next_departure.max(now);
        let Some(rate) = self.pacing_rate(cfg) else { return at };
        // The initial window of a fresh flow leaves unpaced, as in Linux: the rate is a guess until then.
        if self.stats.data_segs_out < 10 && cfg.max_pacing_rate == Bandwidth::MAX && !self.cc.needs_pacing() {
            return at;
        }
        let Some(mut gap) = rate.transmission_time(bytes) else { return at };
        // Time lost waiting is credited, half a segment at most.
        let credit = at - self.next_departure;
        gap = gap - credit.min(gap / 2);
        self.next_departure = at + gap;
        // A segment that we let go ahead of its time leaves now: its RTT counts from here.
        if self.flow.port_paces { at } else { now }
    }

    // ---- data ----

    /// Counts a data segment and completes it.
    fn data_segment(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
        Range { start, end }: Range<u64>,
        at: Instant,
        psh: bool,
        is_retransmit: bool,
    ) -> SegmentOut {
        let fin_pos = self.written + 1;
        let has_fin = self.fin_sent && end > fin_pos;
        let data_end = end.min(fin_pos);
        let len = (data_end - start) as u32;
        let mut flags = if has_fin { TcpFlags::FIN } else { TcpFlags::NONE };
        if psh {
            flags |= TcpFlags::PSH;
        }
        if !is_retransmit && len > 0 && core::mem::take(&mut self.send_cwr) {
            flags |= TcpFlags::CWR;
        }
        let room = self.mss.saturating_sub(len) + self.accecn_room(env.cfg);
        // TSval is the departure time: an echo of it is compared with `retrans_since`, which is one too. Stamped with the time of
        // cutting, every paced retransmission looks older than itself and undoes its own recovery.
        let repr = self.header(start, flags, at, env.cfg, env, room);
        self.ack.on_sent(len > 0, now);
        let packets = len.div_ceil(self.mss).max(1);
        self.last_departure = self.last_departure.max(at);
        if len > 0 {
            self.queued_below += u64::from(len);
            self.frames_below += 1;
        }
        if len > 0 {
            self.stats.data_segs_out += packets;
            self.stats.bytes_sent += u64::from(len);
            self.stats.last_data_sent = now;
        }
        SegmentOut {
            repr,
            payload: (len > 0).then_some(start - 1..data_end - 1),
            gso_size: if len > self.mss { self.mss as u16 } else { 0 },
            departure: (self.flow.port_paces && at > now).then_some(at),
            // RFC 3168, 6.1.5: "ECN-capable TCP implementations MUST NOT set either ECT codepoint in the IP header for
            // retransmitted data packets".
            ecn: self.packet_ecn(!is_retransmit && len > 0),
            is_retransmit,
        }
    }

    fn retransmission(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        if self.due.tlp {
            return self.probe_tail(now, env);
        }
        if self.frto_new_data {
            return None;
        }
        let (start, seg) = self.board.next_to_resend()?;
        let head = start == self.una;
        let seg_len = seg.end - start;
        let quota = self.cwnd.saturating_sub(self.board.in_flight());
        if quota == 0 || self.is_paced_out(now, env.cfg) || (!head && self.queue_is_full(env.cfg, 2)) {
            return None;
        }
        let most = u64::from(self.tso_bytes(env.cfg)).min(u64::from(quota) * u64::from(self.mss));
        let len = seg_len.min(most);
        // The peer's window may have shrunk: never beyond it, except the head (it probes the window).
        if !head && start + len > self.una + self.snd_wnd {
            return None;
        }
        self.resend(now, env, start, len)
    }

    pub(super) fn resend(&mut self, now: Instant, env: &mut Env<'_>, start: u64, len: u64) -> Option<SegmentOut> {
        let at = self.depart(now, len + 40, env.cfg);
        let rate = self.rate.on_send(at, self.board.packets_out());
        let Resent { end, packets, psh } = self.board.resend(start, len, self.mss, at, rate)?;
        env.mib.add(Mib::TcpRetransSegs, u64::from(packets));
        env.mib.add(
            match self.ca_state {
                CaState::Loss => Mib::TcpExtTCPSlowStartRetrans,
                CaState::Open | CaState::Disorder | CaState::Cwr | CaState::Recovery => Mib::TcpExtTCPFastRetrans,
            },
            u64::from(packets),
        );
        self.stats.total_retrans += packets;
        self.stats.bytes_retrans += end - start;
        self.undo.on_retransmit(packets);
        self.forget_probe();
        self.prr.out += packets;
        self.retrans_since.get_or_insert(at);
        if self.timer.is_none() {
            self.arm_rto(now, env.cfg);
        }
        Some(self.data_segment(now, env, start..end, at, psh, true))
    }

    /// RFC 8985, 7.3: new data if there is any and the window lets it, else the last segment again.
    fn probe_tail(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        self.due.tlp = false;
        if self.board.is_empty() {
            return None;
        }
        let limit = self.una + self.snd_wnd;
        let avail = (self.written + 1).min(limit).saturating_sub(self.nxt);
        self.tlp.end = None;
        if avail > 0 && !self.fin_sent {
            let len = avail.min(u64::from(self.mss));
            let out = self.send_new(now, env, len);
            self.tlp.is_retrans = false;
            self.tlp.end = Some(self.nxt);
            // RFC 8985, 7.2: no second probe before this one is answered. Sending it scheduled one.
            self.arm_rto(now, env.cfg);
            return Some(out);
        }
        if self.board.tail().is_some_and(|(_, s)| s.sacked) {
            return None;
        }
        let at = self.board.tail_probe()?;
        self.board.isolate(at);
        let len = self.nxt - at;
        let already_lost = self.board.next_to_resend().is_some_and(|(s, _)| s == at);
        if already_lost && self.ca_state == CaState::Loss {
            return None;
        }
        let out = self.resend(now, env, at, len)?;
        self.tlp.is_retrans = true;
        self.tlp.end = Some(self.nxt);
        Some(out)
    }

    fn new_data(&mut self, now: Instant, env: &mut Env<'_>) -> Option<SegmentOut> {
        if self.fin_sent || matches!(self.state, State::TimeWait | State::FinWait2) {
            return None;
        }
        let end = self.written + 1;
        let pending = end - self.nxt.min(end);
        if pending == 0 && (!self.fin_wanted || !self.state.is_synchronized()) {
            self.note_app_limited();
            return None;
        }
        if self.is_paced_out(now, env.cfg) {
            return None;
        }
        let in_flight = self.board.in_flight();
        let quota = self.cwnd.saturating_sub(in_flight);
        if quota == 0 {
            self.cwnd_unseen = true;
            return None;
        }
        let window = (self.una + self.snd_wnd).saturating_sub(self.nxt);
        if pending == 0 {
            // FIN alone. It takes a position, and a closed window holds it back like data.
            if window == 0 {
                self.arm_persist(now, env.cfg);
                return None;
            }
            return Some(self.send_new(now, env, 0));
        }
        if window == 0 {
            self.update_chrono(now);
            self.arm_persist(now, env.cfg);
            return None;
        }
        if self.queue_is_full(env.cfg, 1) {
            return None;
        }
        match self.probe_mtu(now, pending, env) {
            Attempt::No => {}
            Attempt::Wait => return None,
            Attempt::Sent(out) => return Some(out),
        }
        let mss = u64::from(self.mss);
        // As Linux (`tcp_cwnd_test`): no frame is more than half of the window, for with one alone in flight the ACK clock stops. But what F-RTO
        // sends is sent at once.
        let quota = if self.frto_new_data { quota } else { quota.min((self.cwnd / 2).max(1)) };
        let most = u64::from(self.tso_bytes(env.cfg)).min(u64::from(quota) * mss);
        let mut len = pending.min(window).min(most);
        if len > mss && len % mss != 0 && (len < pending || self.nagle_holds(env.cfg, env.mib)) {
            len -= len % mss;
        }
        if len < mss && !self.due.push {
            // RFC 9293, 3.8.6.2.1 (sender's SWS avoidance): a part of the window only when it is at least half the largest seen.
            // With nothing in flight the persist timer is the "override timeout".
            let hold =
                if len < pending { window < self.max_wnd.div_ceil(2) } else { self.nagle_holds(env.cfg, env.mib) };
            if hold {
                self.arm_persist(now, env.cfg);
                return None;
            }
        }
        Some(self.send_new(now, env, len))
    }

    /// Whether new data that leaves says PSH. RFC 9293, 3.9.1.2 (MUST-61): the last buffered segment does, which is where the application paused.
    /// As Linux, also the end of a GSO frame: the peer's GRO holds nothing back then; and not where `MSG_MORE` said that more comes, unless
    /// the persist timer `forced` it out.
    fn ends_with_psh(&self, start: u64, len: u64, forced: bool) -> bool {
        let paused = start + len == self.written + 1 && self.more == More::No;
        len > 0 && (paused || forced || len > u64::from(self.mss))
    }

    /// RFC 1122, 4.2.3.4 (Nagle) as refined by Minshall: a small segment waits while another small one is unacknowledged.
    fn nagle_holds(&mut self, cfg: &Config, mib: &mut MibCounters) -> bool {
        // RFC 9293, 3.8.5: urgent data is not to wait; nor is what precedes it, nor the FIN.
        if self.fin_wanted || self.urgent_pending() {
            return false;
        }
        if self.due.flush {
            return false;
        }
        if cfg.cork || self.more == More::Holds {
            return true;
        }
        // As Linux (`tcp_should_autocork`), with or without TCP_NODELAY: more may be written until the queue below has room, and then one
        // segment carries it all.
        if cfg.autocorking && self.queued_below > 0 && !self.board.is_empty() {
            if !core::mem::replace(&mut self.autocorked, true) {
                mib.inc(Mib::TcpExtTCPAutoCorking);
            }
            return true;
        }
        if cfg.nodelay {
            return false;
        }
        self.small_end > self.una && self.small_end <= self.nxt && !self.board.is_empty()
    }

    pub(super) fn send_new(&mut self, now: Instant, env: &mut Env<'_>, len: u64) -> SegmentOut {
        let start = self.nxt;
        // A Fast Open child's FIN waits for the end of the handshake.
        // The FIN takes a place in the window like a byte: where the data fills it, it follows later.
        let room = len == 0 || start + len < self.una + self.snd_wnd;
        let fin = self.fin_wanted && self.state.is_synchronized() && start + len == self.written + 1 && room;
        let end = start + len + u64::from(fin);
        if self.board.is_empty() && len > 0 {
            self.control = self.cc.on_event(CcEvent::TxStart { now, app_limited: self.rate.is_app_limited() }, env.rng);
            self.take_control(env.cfg);
        }
        let at = self.depart(now, len + 40, env.cfg);
        let rate = self.rate.on_send(at, self.board.packets_out());
        let forced = len < u64::from(self.mss) && core::mem::take(&mut self.due.push);
        let psh = self.ends_with_psh(start, len, forced);
        self.board.push(start, end, self.mss, at, rate).psh = psh;
        self.nxt = end;
        if len > 0 && !len.is_multiple_of(u64::from(self.mss)) {
            self.small_end = end;
        }
        let packets = len.div_ceil(u64::from(self.mss)).max(1);
        env.mib.add(Mib::TcpExtTCPOrigDataSent, packets);
        self.prr.out += packets as u32;
        self.frto_new_data = false;
        if fin {
            self.fin_sent = true;
            self.on_fin_sent(env);
        }
        self.cwnd_unseen = true;
        let out = self.data_segment(now, env, start..end, at, psh, false);
        self.schedule_after_send(now, env.cfg);
        self.update_chrono(now);
        out
    }

    fn on_fin_sent(&mut self, env: &mut Env<'_>) {
        match self.state {
            State::Established => {
                env.mib.dec(Mib::TcpCurrEstab);
                self.state = State::FinWait1;
            }
            State::CloseWait => {
                env.mib.dec(Mib::TcpCurrEstab);
                self.state = State::LastAck;
            }
            State::SynSent
            | State::SynReceived
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => {}
        }
    }

    /// The application has nothing more, and nothing else limits us (draft-cheng-iccrg-delivery-rate-estimation, 3.4). One that filled the send
    /// buffer has more: taken for a pause, it would keep BBR in STARTUP, at nearly three times the path's rate, for as long as the
    /// buffer is the limit.
    pub(super) fn note_app_limited(&mut self) {
        if self.nxt > 1
            && self.written < self.tx_limit()
            && self.queued_below < u64::from(self.mss)
            && self.board.in_flight() < self.cwnd
            && self.board.lost_out() <= self.board.retrans_out()
        {
            self.rate.mark_app_limited(self.board.in_flight());
        }
    }
}

fn plain(repr: TcpRepr) -> SegmentOut {
    SegmentOut { repr, payload: None, gso_size: 0, departure: None, ecn: EcnCodepoint::NotEct, is_retransmit: false }
}

/// Bytes that options may take where no data follows.
const PURE_ACK_ROOM: u32 = 40;
/// Least time between two window probes.
pub(crate) const PROBE_MIN: Duration = Duration::from_millis(200);
/// Frames that one connection keeps below it: fewer than fq's default `flow_limit` of 100, however small they are. A millisecond of retransmissions
/// of one MSS each is 800 frames at 10 Gbit/s: fq dropped what exceeded its limit, which made room for more to be dropped.
const MOST_FRAMES_BELOW: u32 = 64;
