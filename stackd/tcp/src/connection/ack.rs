//! What an acknowledgment says: window, scoreboard, RTT, loss detection, congestion control.

use super::Connection;
use crate::cc::{CaState, CcEvent, RateSample};
use crate::config::Config;
use crate::recovery::frto::{self, Step};
use crate::recovery::{Prr, RetransTimer, Undo, tlp};
use crate::scoreboard::AckOutcome;
use crate::seam::{Env, Event};
use stackd_base::{Duration, Instant, Mib};
use stackd_wire::TcpRepr;

/// What one ACK changed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    una_advanced: bool,
    window_changed: bool,
    has_data: bool,
    dsack: bool,
    ece: bool,
    prior_in_flight: u32,
    prior_una: u64,
    tsecr: Option<u32>,
    lost: u32,
    out: AckOutcome,
}

impl Connection {
    /// RFC 9293, 3.10.7.4, fifth. `pos` is at most `nxt`.
    pub(crate) fn handle_ack(&mut self, now: Instant, seg: &TcpRepr, pos: i64, len: u32, env: &mut Env<'_>) {
        self.stats.last_ack_recv = now;
        let mut seen = Seen {
            has_data: len > 0 || seg.flags.fin(),
            prior_in_flight: self.board.in_flight(),
            prior_una: self.una,
            ece: self.opts.ecn && seg.flags.ece(),
            tsecr: seg.options.timestamps.filter(|_| self.opts.ts).map(|t| t.tsecr).filter(|&t| t != 0),
            ..Seen::default()
        };
        let ack = pos.max(0) as u64;
        if ack >= self.una {
            seen.window_changed = self.update_send_window(seg, ack);
        }
        let had_out = !self.board.is_empty();
        let lost_before = self.board.lost_total();
        let prior_high = self.board.highest_sacked();
        self.take_sacks(seg, ack, &mut seen, env);
        if ack > self.una {
            seen.una_advanced = true;
            self.advance_una(ack, &mut seen, env);
        }
        // RFC 8985, 6.2 step 3: an original below what was sacked before was delivered late, by SACK or by filling the hole: reordering.
        if let Some(low) = seen.out.lowest_orig
            && low < prior_high
        {
            self.note_reordering(low, prior_high, env);
        }
        if !had_out {
            self.after_empty_ack(now, env);
            return;
        }
        self.measure_rtt(now, &seen, env.cfg);
        self.update_rack(now, &seen, env);
        self.process_probe(now, ack, &seen, env);
        self.recovery_step(now, &mut seen, env);
        seen.lost = (self.board.lost_total() - lost_before) as u32;
        self.control_congestion(now, &seen, env);
        if seen.una_advanced || seen.out.sacked > 0 {
            if !matches!(self.timer, Some((RetransTimer::Reorder, _))) || self.board.is_empty() {
                self.rearm_after_ack(now, env.cfg);
            }
            self.expand_sndbuf(env);
            self.notify(Event::Writable);
        }
        // RFC 6298, 5.1: whenever data is outstanding a timer runs.
        if self.timer.is_none() && !self.board.is_empty() {
            self.arm_rto(now, env.cfg);
        }
        self.update_chrono(now);
    }

    /// RFC 9293, 3.10.7.4: "SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)". True when the window changed. Of two ACKs
    /// that say the same but for the window, the larger window is the later one: a receiver does not take back what it offered, unless
    /// it has to refuse everything.
    fn update_send_window(&mut self, seg: &TcpRepr, ack: u64) -> bool {
        let seq = self.recv_offset(seg.seq).max(0) as u64;
        let wnd = u64::from(seg.window) << self.opts.snd_scale;
        let newer = ack > self.una || seq > self.wl1 || (seq == self.wl1 && (wnd > self.snd_wnd || wnd == 0));
        if !newer {
            return false;
        }
        self.wl1 = seq;
        let changed = wnd != self.snd_wnd;
        self.snd_wnd = wnd;
        self.max_wnd = self.max_wnd.max(wnd);
        if changed && wnd > 0 && matches!(self.timer, Some((RetransTimer::Persist, _))) {
            self.timer = None;
        }
        changed
    }

    /// Nothing was outstanding: a probe was answered, or a window update came.
    fn after_empty_ack(&mut self, now: Instant, env: &mut Env<'_>) {
        self.probes_out = 0;
        if self.snd_wnd > 0 && self.una + self.snd_wnd > self.nxt {
            self.backoff = 0;
            self.persist_since = None;
            if matches!(self.timer, Some((RetransTimer::Persist, _))) {
                self.timer = None;
            }
        } else if self.not_sent() > 0 {
            // Answered, still closed: the peer lives. What TCP_USER_TIMEOUT bounds runs on all the same.
            self.arm_persist(now, env.cfg);
        }
    }

    fn advance_una(&mut self, ack: u64, seen: &mut Seen, env: &mut Env<'_>) {
        let bytes = ack - self.una;
        self.board.ack_to(ack, &mut seen.out, &mut self.rate);
        self.una = ack;
        self.stats.bytes_acked += bytes;
        self.probes_out = 0;
        self.stalled_since = None;
        self.retransmits = 0;
        if !self.opts.sack {
            // RFC 6582: duplicate ACKs stood for packets that are now acknowledged.
            self.dupacks = self.dupacks.saturating_sub(seen.out.acked.saturating_sub(1));
            if self.ca_state == CaState::Open || self.ca_state == CaState::Disorder {
                self.dupacks = 0;
            }
            self.board.set_reno_sacked(self.dupacks);
        }
        env.mib.add(Mib::TcpExtTCPDelivered, u64::from(seen.out.acked));
        if self.board.is_empty() {
            self.retrans_since = None;
        }
    }

    fn take_sacks(&mut self, seg: &TcpRepr, ack: u64, seen: &mut Seen, env: &mut Env<'_>) {
        if !self.opts.sack || seg.options.sack.is_empty() {
            return;
        }
        let blocks = seg.options.sack;
        for (i, b) in blocks.iter().enumerate() {
            let (l, r) = (self.send_position(b.left), self.send_position(b.right));
            if l >= r || r > self.nxt as i64 || l < 0 {
                env.mib.inc(Mib::TcpExtTCPSACKDiscard);
                continue;
            }
            let (l, r) = (l as u64, r as u64);
            // RFC 2883, 5: the first block is a D-SACK when it lies below the cumulative ACK or inside the second block.
            let nested = i == 0
                && blocks
                    .as_slice()
                    .get(1)
                    .is_some_and(|s| self.send_position(s.left) <= l as i64 && r as i64 <= self.send_position(s.right));
            if i == 0 && (r <= ack || nested) {
                self.take_dsack(l, r, r <= ack, seen, env);
                continue;
            }
            if r <= ack.max(self.una) {
                continue;
            }
            self.board.sack(l.max(self.una), r, &mut seen.out, &mut self.rate);
        }
    }

    fn note_reordering(&mut self, low: u64, high: u64, env: &mut Env<'_>) {
        let metric = ((high - low) / u64::from(self.mss.max(1))).min(u64::from(u32::MAX)) as u32;
        self.rack.reordering_seen = true;
        self.stats.reord_seen += 1;
        if metric > self.reordering {
            self.reordering = metric.min(env.cfg.max_reordering);
        }
        env.mib.inc(if self.opts.ts { Mib::TcpExtTCPTSReorder } else { Mib::TcpExtTCPSACKReorder });
    }

    fn take_dsack(&mut self, l: u64, r: u64, old: bool, seen: &mut Seen, env: &mut Env<'_>) {
        env.mib.inc(if old { Mib::TcpExtTCPDSACKRecv } else { Mib::TcpExtTCPDSACKOfoRecv });
        let packets = (r - l).div_ceil(u64::from(self.mss.max(1))) as u32;
        env.mib.add(Mib::TcpExtTCPDSACKRecvSegs, u64::from(packets));
        // RFC 8985, 6.2: a DSACK that only answers a tail loss probe says nothing of reordering.
        let by_probe = self.tlp.is_retrans && self.tlp.end.is_some_and(|e| r == e);
        seen.dsack = true;
        self.stats.dsack_dups += packets;
        self.undo.on_dsack(r, packets);
        if !by_probe && self.stats.total_retrans > 0 {
            self.rack.on_dsack(self.una, self.nxt);
        }
    }

    // ---- RTT ----

    /// RFC 7323, 4.1: RTT by the echoed timestamp, in its milliseconds.
    pub(crate) fn ts_rtt(&self, now: Instant, seg: &TcpRepr) -> Option<Duration> {
        let t = seg.options.timestamps.filter(|t| self.opts.ts && t.tsecr != 0)?;
        let ms = self.ts_now(now).wrapping_sub(t.tsecr);
        (ms < 600_000).then(|| Duration::from_millis(u64::from(ms.max(1))))
    }

    pub(crate) fn take_rtt(&mut self, now: Instant, rtt: Duration, cfg: &Config) {
        let rtt = self.ticked(rtt, cfg);
        let Some(rtt) = rtt else { return };
        // RFC 6298, 5: only a new measurement takes the backoff back (Karn).
        self.backoff = 0;
        self.rtt.sample_min(now, rtt);
        self.rtt.sample(rtt, self.una, self.nxt, cfg.rto_min);
    }

    /// A span as the configured clock sees it.
    fn ticked(&self, span: Duration, cfg: &Config) -> Option<Duration> {
        crate::rate::at_least_one_tick(span, cfg.clock_clamp.then_some(cfg.clock_tick))
    }

    /// RFC 6298, 3 (Karn): never from a retransmitted segment, unless timestamps tell which copy is acknowledged.
    fn measure_rtt(&mut self, now: Instant, seen: &Seen, cfg: &Config) {
        let o = &seen.out;
        let sample = match (o.first_acked_at, o.first_sacked_at) {
            (Some(at), _) if !o.retrans_acked => Some(now - at),
            (None, Some(at)) => Some(now - at),
            _ if seen.una_advanced => seen.tsecr.and_then(|t| {
                let ms = self.ts_now(now).wrapping_sub(t);
                (ms < 600_000).then(|| Duration::from_millis(u64::from(ms.max(1))))
            }),
            _ => None,
        };
        if let Some(rtt) = sample {
            self.take_rtt(now, rtt, cfg);
        }
    }

    // ---- loss ----

    /// The echoed timestamp is older than our first retransmission: the ACK was caused by an original (RFC 3522).
    fn acks_original(&self, tsecr: Option<u32>) -> bool {
        match (tsecr, self.retrans_since) {
            (Some(t), Some(since)) => (t.wrapping_sub(self.ts_now(since)) as i32) < 0,
            _ => false,
        }
    }

    fn update_rack(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        if let Some(n) = seen.out.newest {
            let early =
                n.ever_retrans && seen.tsecr.is_some_and(|t| (t.wrapping_sub(self.ts_now(n.sent_at)) as i32) < 0);
            self.rack.advance(now, &n, self.rtt.min(), early);
        }
        let _ = env;
    }

    /// RFC 8985, 6.2 step 5; arms the reordering timer.
    pub(crate) fn detect_loss(&mut self, now: Instant, env: &mut Env<'_>) -> u32 {
        if !self.opts.sack || env.cfg.recovery & 1 == 0 {
            return self.detect_by_count();
        }
        let Some((newest, newest_sent_at)) = self.rack.newest else { return 0 };
        let in_recovery = matches!(self.ca_state, CaState::Recovery | CaState::Loss);
        let wnd = self.rack.window(
            env.cfg,
            in_recovery,
            self.board.sacked_out(),
            self.reordering,
            self.rtt.min(),
            self.rtt.srtt(),
        );
        let allowance = self.rack.rtt + wnd;
        let found = self.board.rack_detect(newest, |sent| sent + allowance <= now);
        env.mib.add(Mib::TcpExtTCPLostRetransmit, u64::from(found.retrans_lost));
        if let Some(sent_at) = found.waiting {
            // 6.2: all that left before the newest delivered packet can be judged then; one whose departure pacing put later, not before
            // its own time (else the timer would spin until then).
            let at = (newest_sent_at.max(sent_at) + allowance).max(now + Duration::from_micros(1));
            self.timer = Some((RetransTimer::Reorder, at));
        } else if matches!(self.timer, Some((RetransTimer::Reorder, _))) {
            self.timer = None;
        }
        found.lost
    }

    /// RFC 5681, 3.2 for peers without SACK: three duplicate ACKs.
    fn detect_by_count(&mut self) -> u32 {
        let threshold = self.reordering.min(3);
        let enough = self.dupacks >= threshold || self.ca_state == CaState::Recovery;
        if enough && self.board.lost_out() == 0 { self.board.mark_head_lost() } else { 0 }
    }

    fn process_probe(&mut self, now: Instant, ack: u64, seen: &Seen, env: &mut Env<'_>) {
        let plain = !seen.una_advanced && seen.out.sacked == 0 && !seen.has_data && !seen.window_changed;
        match self.tlp.on_ack(ack, seen.dsack, plain) {
            tlp::Verdict::Waiting | tlp::Verdict::Spurious => {}
            tlp::Verdict::Repaired => {
                env.mib.inc(Mib::TcpExtTCPLossProbeRecovery);
                if matches!(self.ca_state, CaState::Open | CaState::Disorder) {
                    // RFC 8985, 7.4.2: "the sender MUST invoke a congestion control response equivalent to a fast recovery".
                    let in_flight = self.board.in_flight();
                    self.control = self.cc.on_event(CcEvent::EnterRecovery { now, in_flight }, env.rng);
                    self.take_control(env.cfg);
                    self.control = self.cc.on_event(CcEvent::ExitRecovery { now }, env.rng);
                    self.take_control(env.cfg);
                }
            }
        }
    }

    pub(crate) fn enter_recovery(&mut self, now: Instant, env: &mut Env<'_>) {
        env.mib.inc(if self.opts.sack { Mib::TcpExtTCPSackRecovery } else { Mib::TcpExtTCPRenoRecovery });
        self.undo = Undo::start(self.una, self.board.retrans_out());
        self.prr = Prr::start(self.cwnd);
        self.high_seq = self.nxt;
        let in_flight = self.board.in_flight();
        self.ca_state = CaState::Recovery;
        self.control = self.cc.on_event(CcEvent::EnterRecovery { now, in_flight }, env.rng);
        self.take_control(env.cfg);
        self.send_cwr |= self.opts.ecn;
    }

    fn enter_cwr(&mut self, now: Instant, env: &mut Env<'_>) {
        self.prr = Prr::start(self.cwnd);
        self.undo = Undo::default();
        self.high_seq = self.nxt;
        let in_flight = self.board.in_flight();
        self.ca_state = CaState::Cwr;
        self.control = self.cc.on_event(CcEvent::EcnReduce { now, in_flight }, env.rng);
        self.take_control(env.cfg);
        self.send_cwr = true;
    }

    fn leave(&mut self, now: Instant, env: &mut Env<'_>) {
        self.ca_state = CaState::Open;
        self.rack.on_recovery_end();
        self.control = self.cc.on_event(CcEvent::ExitRecovery { now }, env.rng);
        self.take_control(env.cfg);
        self.frto = false;
        self.frto_new_data = false;
        self.dupacks = 0;
        if self.board.retrans_out() == 0 {
            self.retrans_since = None;
        }
    }

    fn undo_reduction(&mut self, now: Instant, how: Mib, env: &mut Env<'_>) {
        env.mib.inc(how);
        self.board.unmark_lost();
        self.ca_state = CaState::Open;
        self.control = self.cc.on_event(CcEvent::Undo { now }, env.rng);
        self.take_control(env.cfg);
        self.undo = Undo::default();
        self.frto = false;
        self.frto_new_data = false;
        self.retransmits = 0;
        self.stalled_since = None;
        self.retrans_since = None;
        if !self.opts.sack {
            self.dupacks = 0;
            self.board.set_reno_sacked(0);
        }
    }

    /// The transitions between Open, Disorder, CWR, Recovery and Loss.
    fn recovery_step(&mut self, now: Instant, seen: &mut Seen, env: &mut Env<'_>) {
        let plain_dup = !seen.una_advanced && seen.out.sacked == 0 && !seen.has_data && !seen.window_changed;
        if !self.opts.sack && plain_dup && !self.board.is_empty() {
            self.dupacks += 1;
            self.board.set_reno_sacked(self.dupacks);
        }
        if seen.ece && seen.una_advanced && matches!(self.ca_state, CaState::Open | CaState::Disorder) {
            self.enter_cwr(now, env);
        }
        let original = self.acks_original(seen.tsecr);
        let spurious = self.undo.all_duplicates() || (self.undo.marker.is_some() && seen.una_advanced && original);
        let finished = self.una >= self.high_seq;
        match self.ca_state {
            // The report of a duplicate takes a round trip: recovery is often over when it comes.
            CaState::Open | CaState::Disorder if self.undo.all_duplicates() => {
                self.undo_reduction(now, Mib::TcpExtTCPDSACKUndo, env);
            }
            CaState::Open | CaState::Disorder => {}
            // RFC 3168, 6.1.2: held until more than that round is acknowledged: by then the receiver has seen CWR, and ceases to echo.
            CaState::Cwr if self.una > self.high_seq => self.leave(now, env),
            CaState::Cwr => {}
            CaState::Recovery | CaState::Loss if spurious && (finished || original || self.undo.all_duplicates()) => {
                let how = match (self.ca_state, finished) {
                    (CaState::Loss, _) => Mib::TcpExtTCPLossUndo,
                    _ if self.undo.all_duplicates() && !finished => Mib::TcpExtTCPDSACKUndo,
                    (_, true) => Mib::TcpExtTCPFullUndo,
                    (_, false) => Mib::TcpExtTCPPartialUndo,
                };
                if self.ca_state == CaState::Loss {
                    env.mib.inc(Mib::TcpExtTCPSpuriousRTOs);
                }
                self.undo_reduction(now, how, env);
            }
            CaState::Recovery if finished && seen.una_advanced => self.leave(now, env),
            CaState::Loss if finished && seen.una_advanced => self.leave(now, env),
            CaState::Recovery => {
                // RFC 6582, 3.2 step 3: a partial ACK without SACK: the next one is lost too.
                if !self.opts.sack && seen.una_advanced {
                    self.board.mark_head_lost();
                }
            }
            CaState::Loss => self.frto_step(now, seen, env),
        }
        self.detect_loss(now, env);
        match self.ca_state {
            CaState::Open | CaState::Disorder | CaState::Cwr => {
                if self.board.lost_out() > 0 && self.board.next_to_resend().is_some() {
                    self.enter_recovery(now, env);
                } else if self.ca_state != CaState::Cwr {
                    self.ca_state = if self.board.sacked_out() > 0 { CaState::Disorder } else { CaState::Open };
                }
            }
            CaState::Recovery | CaState::Loss => {}
        }
    }

    fn frto_step(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        if !self.frto {
            return;
        }
        // Without SACK, an ACK that jumps over the retransmission may acknowledge what was buffered before the timeout: no proof.
        let original = (self.opts.sack || !seen.out.retrans_acked)
            && seen.out.orig_delivered_below.is_some_and(|e| e <= self.high_seq)
            && (self.nxt == self.high_seq || seen.out.lowest_orig.is_some_and(|l| l < self.high_seq));
        let can_send = self.not_sent() > 0 && self.nxt < self.una + self.snd_wnd;
        let dup = seen.out.sacked > 0 || !seen.una_advanced;
        match frto::on_ack(original, seen.una_advanced, dup, self.nxt > self.high_seq, can_send) {
            Step::Wait => {}
            Step::SendNew => {
                self.frto_new_data = true;
                self.cwnd = self.cwnd.max(self.board.in_flight() + 2);
            }
            Step::Spurious => {
                env.mib.inc(Mib::TcpExtTCPSpuriousRTOs);
                self.undo_reduction(now, Mib::TcpExtTCPLossUndo, env);
            }
            Step::Genuine => {
                self.frto = false;
                self.frto_new_data = false;
            }
        }
    }

    // ---- congestion control ----

    fn control_congestion(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        let delivery = self.rate.sample(now, self.rtt.min());
        let in_flight = self.board.in_flight();
        let limited = self.was_cwnd_limited(seen.prior_una);
        let o = &seen.out;
        let latest = o.last_acked_at.filter(|_| !o.retrans_acked).or(o.last_sacked_at);
        // Never zero where segments are paced at all: HyStart asks, for a paced train is twice as long.
        let pacing_lead = (self.next_departure - now).max(Duration::from_nanos(u64::from(self.paces(env.cfg))));
        let sample = RateSample {
            now,
            mss: self.mss,
            prior_delivered: delivery.prior_delivered,
            delivered_total: self.rate.delivered(),
            delivered: delivery.delivered,
            interval: delivery.interval,
            rtt: latest.map(|at| now - at),
            acked_sacked: delivery.acked_sacked,
            losses: seen.lost,
            lost_total: self.board.lost_total(),
            prior_in_flight: seen.prior_in_flight,
            in_flight,
            is_app_limited: delivery.is_app_limited,
            is_retrans: delivery.is_retrans,
            is_ack_delayed: seen.una_advanced && o.acked == 1 && seen.prior_in_flight <= 1 && o.sacked == 0,
            delivered_ce: delivery.delivered_ce,
            snd_una_advanced: seen.una_advanced,
            is_cwnd_limited: limited,
            ca_state: self.ca_state,
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.min(),
            pacing_lead,
        };
        self.control = self.cc.on_ack(&sample, env.rng);
        while let Some(note) = self.cc.poll_note() {
            note.count(env.mib);
        }
        if self.control.mark_app_limited {
            self.rate.mark_app_limited(in_flight);
        }
        self.take_control(env.cfg);
        if matches!(self.ca_state, CaState::Recovery | CaState::Cwr) && !self.cc.owns_recovery_cwnd() {
            if sample.acked_sacked > 0 || seen.una_advanced {
                let safe = seen.una_advanced && seen.lost == 0;
                self.cwnd = self.prr.cwnd(self.ssthresh, in_flight, sample.acked_sacked, safe).max(1);
            } else if self.prr.out == 0 {
                self.cwnd = in_flight + 1;
            }
        }
        if self.una >= self.cwnd_usage_end {
            self.cwnd_usage_end = self.nxt;
            self.max_packets_out = self.board.packets_out();
            self.is_cwnd_limited = false;
        }
    }

    /// RFC 7661 as Linux does it: the window grows only where it was what limited us; in slow start when half of it was used.
    fn was_cwnd_limited(&self, _prior_una: u64) -> bool {
        self.is_cwnd_limited || (self.cwnd < self.ssthresh && self.cwnd < 2 * self.max_packets_out)
    }

    // ---- send buffer ----

    pub(crate) fn initial_sndbuf(&self, cfg: &Config) -> u64 {
        cfg.wmem[1].max(2 * u64::from(cfg.initial_cwnd) * u64::from(self.mss)).min(cfg.wmem[2].max(cfg.wmem[1]))
    }

    /// Twice the window (RFC 6675's pipe plus what recovery needs), as `tcp_sndbuf_expand`; up to `tcp_wmem` max.
    fn expand_sndbuf(&mut self, env: &mut Env<'_>) {
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
