//! From an acknowledgment to what is lost, and the states of recovery: Open, Disorder, CWR, Recovery, Loss.

use super::Connection;
use super::ack::Seen;
use crate::cc::{CaState, CcEvent};
use crate::recovery::frto::{self, Step};
use crate::recovery::{Prr, RetransTimer, Undo, tlp};
use crate::seam::Env;
use stackd_base::{Duration, Instant, Mib};

impl Connection {
    /// The echoed timestamp is older than our first retransmission: the ACK was caused by an original (RFC 3522).
    pub(super) fn acks_original(&self, tsecr: Option<u32>) -> bool {
        match (tsecr, self.retrans_since) {
            (Some(t), Some(since)) => (t.wrapping_sub(self.ts_now(since)) as i32) < 0,
            _ => false,
        }
    }

    pub(super) fn update_rack(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        if let Some(n) = seen.out.newest {
            let early =
                n.ever_retrans && seen.tsecr.is_some_and(|t| (t.wrapping_sub(self.ts_now(n.sent_at)) as i32) < 0);
            self.rack.advance(now, &n, self.rtt.min(), early);
        }
        let _ = env;
    }

    /// RFC 8985, 6.2 step 5; arms the reordering timer. True when a retransmission is lost.
    pub(crate) fn detect_loss(&mut self, now: Instant, env: &mut Env<'_>) -> bool {
        if !self.opts.sack || env.cfg.recovery & 1 == 0 {
            self.detect_by_count();
            return false;
        }
        let Some((newest, newest_sent_at)) = self.rack.newest else { return false };
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
        found.retrans_lost > 0
    }

    /// RFC 5681, 3.2 for peers without SACK: three duplicate ACKs.
    fn detect_by_count(&mut self) {
        let enough = match self.ca_state {
            CaState::Recovery => true,
            // RFC 6582, 3.2 step 2: where the ACK does not cover "more than recover", the receiver may only have had twice what was resent.
            CaState::Open | CaState::Disorder if !self.opts.sack && self.una <= self.high_seq => false,
            CaState::Open | CaState::Disorder | CaState::Cwr | CaState::Loss => self.dupacks >= self.reordering.min(3),
        };
        if enough && self.board.lost_out() == 0 {
            self.board.mark_head_lost();
        }
    }

    pub(super) fn process_probe(&mut self, now: Instant, ack: u64, seen: &Seen, env: &mut Env<'_>) {
        let plain = !seen.una_advanced && seen.out.sacked == 0 && !seen.has_data && !seen.window_changed;
        let answers_probe = seen.dsack_end.is_some() && seen.dsack_end == self.tlp.end;
        match self.tlp.on_ack(ack, answers_probe, plain) {
            tlp::Verdict::Waiting | tlp::Verdict::Spurious => {}
            tlp::Verdict::Repaired => {
                env.mib.inc(Mib::TcpExtTCPLossProbeRecovery);
                if matches!(self.ca_state, CaState::Open | CaState::Disorder) {
                    // RFC 8985, 7.4.2: "the sender MUST invoke a congestion control response equivalent to a fast recovery".
                    let in_flight = self.board.in_flight();
                    self.control = self.cc.on_event(CcEvent::EnterRecovery { now, in_flight, reduces: true }, env.rng);
                    self.take_control(env.cfg);
                    self.control = self.cc.on_event(CcEvent::ExitRecovery { now }, env.rng);
                    self.take_control(env.cfg);
                }
            }
        }
    }

    /// `seen` is what the ACK that begins recovery reports; a timer has none.
    pub(super) fn enter_recovery(&mut self, now: Instant, seen: Option<&Seen>, env: &mut Env<'_>) {
        if matches!(self.ca_state, CaState::Open | CaState::Disorder) && self.probe_lost(now, env) {
            return;
        }
        env.mib.inc(if self.opts.sack { Mib::TcpExtTCPSackRecovery } else { Mib::TcpExtTCPRenoRecovery });
        if self.ca_state == CaState::Loss {
            // Another episode: its undo does not take back what the timeout did.
            self.control = self.cc.on_event(CcEvent::ExitRecovery { now }, env.rng);
        }
        self.undo = Undo::start(self.una, self.board.retrans_out());
        // RFC 3168, 6.1.2: "TCP should not react to congestion indications more than once every window of data".
        let reduces = self.ca_state != CaState::Cwr;
        if reduces {
            self.prr = self.start_prr(seen);
        }
        self.high_seq = self.nxt;
        // What the probe says is part of this episode: answered later, it must not reduce a second time.
        self.tlp.end = None;
        let in_flight = self.board.in_flight();
        self.ca_state = CaState::Recovery;
        self.control = self.cc.on_event(CcEvent::EnterRecovery { now, in_flight, reduces }, env.rng);
        self.take_control(env.cfg);
        self.send_cwr |= self.opts.ecn;
    }

    /// RFC 9937, 6: "RecoverFS = (snd.nxt - snd.una)", less what was SACKed before this episode, plus what the ACK that begins it
    /// acknowledges: the flight that `prr_delivered` is going to count. In packets.
    fn start_prr(&self, seen: Option<&Seen>) -> Prr {
        let delivered = seen.map_or(0, |_| self.rate.newly_delivered());
        let left = self.board.packets_out().saturating_sub(self.board.sacked_out());
        Prr::start(left + delivered)
    }

    pub(super) fn enter_cwr(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        self.prr = self.start_prr(Some(seen));
        self.undo = Undo::default();
        self.high_seq = self.nxt;
        self.tlp.end = None;
        let in_flight = self.board.in_flight();
        self.ca_state = CaState::Cwr;
        self.control = self.cc.on_event(CcEvent::EcnReduce { now, in_flight }, env.rng);
        self.take_control(env.cfg);
        self.send_cwr |= self.opts.ecn;
    }

    pub(super) fn leave(&mut self, now: Instant, env: &mut Env<'_>) {
        // RFC 8985, 6.2 step 4: counted "on exiting Fast or RTO recovery"; an ECN reduction is neither.
        if matches!(self.ca_state, CaState::Recovery | CaState::Loss) {
            self.rack.on_recovery_end();
        }
        self.stats.end_rto_row(now);
        self.ca_state = CaState::Open;
        self.control = self.cc.on_event(CcEvent::ExitRecovery { now }, env.rng);
        self.take_control(env.cfg);
        self.frto = false;
        self.frto_new_data = false;
        self.dupacks = 0;
        if self.board.retrans_out() == 0 {
            self.retrans_since = None;
        }
    }

    pub(super) fn undo_reduction(&mut self, now: Instant, how: Mib, env: &mut Env<'_>) {
        env.mib.inc(how);
        self.stats.end_rto_row(now);
        self.board.unmark_lost();
        self.ca_state = CaState::Open;
        self.control = self.cc.on_event(CcEvent::Undo { now }, env.rng);
        self.take_control(env.cfg);
        self.undo = Undo::default();
        // Nothing of this window was lost: what repeats may say so.
        self.high_seq = self.high_seq.min(self.una.saturating_sub(1));
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
    pub(super) fn recovery_step(&mut self, now: Instant, seen: &mut Seen, env: &mut Env<'_>) {
        let plain_dup = !seen.una_advanced && seen.out.sacked == 0 && !seen.has_data && !seen.window_changed;
        if !self.opts.sack && plain_dup && !self.board.is_empty() {
            self.dupacks += 1;
            let stood_for = self.board.sacked_out();
            self.board.set_reno_sacked(self.dupacks);
            if self.board.sacked_out() > stood_for {
                self.rate.on_duplicate_ack();
            }
        }
        if seen.ece && seen.una_advanced && matches!(self.ca_state, CaState::Open | CaState::Disorder) {
            self.enter_cwr(now, seen, env);
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
        let retrans_lost = self.detect_loss(now, env);
        match self.ca_state {
            // RFC 5681, 4.3: "Loss in two successive windows of data, or the loss of a retransmission, should be taken as two indications
            // of congestion": also where what was lost after the last reduction began is resent already.
            CaState::Open | CaState::Disorder | CaState::Cwr if self.board.lost_out() > 0 => {
                self.enter_recovery(now, Some(seen), env);
            }
            CaState::Open | CaState::Disorder => {
                self.ca_state = if self.board.sacked_out() > 0 { CaState::Disorder } else { CaState::Open };
            }
            CaState::Loss if retrans_lost => self.enter_recovery(now, Some(seen), env),
            CaState::Cwr | CaState::Recovery | CaState::Loss => {}
        }
    }

    pub(super) fn frto_step(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
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
}
