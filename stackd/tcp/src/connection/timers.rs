//! Deadlines of the connection, merged into one.

use super::Connection;
use crate::cc::{CaState, CcEvent};
use crate::config::Config;
use crate::record::What;
use crate::recovery::{RetransTimer, Undo, backed_off, probe_timeout, retry_span};
use crate::rtt::INITIAL_RTO;
use crate::seam::{CloseReason, Env, Event, State, TimerInfo};
use stackd_base::{Duration, Errno, Instant, Mib};

/// First timeout of the row that `tcp_retries1` and `tcp_retries2` count (Linux's `TCP_RTO_MIN`, whatever `rto_min` says).
const RETRY_BASE: Duration = Duration::from_millis(200);
/// Linux's `TCP_THIN_LINEAR_RETRIES`.
const THIN_LINEAR_RETRIES: u8 = 6;

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) (and then a poll) is due; `None` = only an event can change anything.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        [self.timer.map(|t| t.1), self.ack.deadline, self.keepalive_at, self.linger_at, self.stats.paced_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// The timer `ss -o` shows.
    pub fn timer_info(&self) -> Option<TimerInfo> {
        if let Some((kind, at)) = self.timer {
            let persist = kind == RetransTimer::Persist;
            return Some(TimerInfo {
                kind: if persist { 4 } else { 1 },
                at,
                retransmits: if persist { self.probes_out } else { self.retransmits },
            });
        }
        self.keepalive_at.map(|at| TimerInfo { kind: 2, at, retransmits: self.probes_out })
    }

    pub(crate) fn rto(&self, cfg: &Config) -> Duration {
        backed_off(self.rtt.rto(cfg.rto_max), self.backoff, cfg)
    }

    /// RFC 6298, 5.1 and 5.3: runs from now.
    pub(crate) fn arm_rto(&mut self, now: Instant, cfg: &Config) {
        // A paced segment has not left before its departure time.
        let from = self.next_departure.max(now);
        let from = if self.flow.port_paces { from.min(now + cfg.rto_min) } else { now };
        self.timer = Some((RetransTimer::Rto, from + self.rto(cfg)));
    }

    /// After new data left: a tail loss probe if one may be scheduled, else the RTO if none runs.
    pub(crate) fn schedule_after_send(&mut self, now: Instant, cfg: &Config) {
        if self.schedule_probe(now, cfg) {
            return;
        }
        if !matches!(self.timer, Some((RetransTimer::Rto | RetransTimer::Reorder, _))) {
            self.arm_rto(now, cfg);
        }
    }

    /// RFC 8985, 7.2: "a sender ... schedules a PTO after transmitting new data or receiving a cumulative ACK, not in recovery". An
    /// RTO that would come earlier is the limit. Only one probe is outstanding at a time.
    pub(crate) fn schedule_probe(&mut self, now: Instant, cfg: &Config) -> bool {
        if cfg.early_retrans < 3
            || !self.opts.sack
            || self.board.is_empty()
            || !matches!(self.ca_state, CaState::Open | CaState::Cwr)
            || self.board.sacked_out() > 0
            || self.tlp.end.is_some()
            || !self.state.is_synchronized()
        {
            return false;
        }
        let from = self.next_departure.max(now).min(now + cfg.rto_min);
        let pto = probe_timeout(self.rtt.srtt(), self.board.packets_out(), cfg);
        let limit = self.head_rto(now, cfg);
        self.timer = Some((RetransTimer::Tlp, (from + pto).min(limit)));
        true
    }

    /// When the RTO of the oldest transmission expires.
    fn head_rto(&self, now: Instant, cfg: &Config) -> Instant {
        let sent = self.board.head().map_or(now, |(_, s)| s.sent_at);
        (sent + self.rto(cfg)).max(now + Duration::from_micros(1))
    }

    /// RFC 6298, 5.2 and 5.3: after an ACK of new data.
    pub(crate) fn rearm_after_ack(&mut self, now: Instant, cfg: &Config) {
        if self.board.is_empty() {
            self.timer = None;
            return;
        }
        if self.schedule_probe(now, cfg) {
            return;
        }
        let special = matches!(self.timer, Some((RetransTimer::Tlp | RetransTimer::Reorder, _)));
        if special {
            self.timer = Some((RetransTimer::Rto, self.head_rto(now, cfg)));
        } else {
            self.arm_rto(now, cfg);
        }
    }

    /// RFC 9293, 3.8.6.1: "The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the
    /// retransmission timeout period". Also what lets a corked or held-back tail go in the end.
    pub(crate) fn arm_persist(&mut self, now: Instant, cfg: &Config) {
        if self.timer.is_some() || !self.board.is_empty() {
            return;
        }
        let wait = self.rto(cfg).max(super::output::PROBE_MIN).min(cfg.rto_max);
        self.timer = Some((RetransTimer::Persist, now + wait));
        self.persist_since.get_or_insert(now);
    }

    /// Whatever deadline has passed is dealt with.
    pub fn handle_timeout(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Timeout, env);
            return;
        }
        if self.frozen {
            return;
        }
        self.stats.paced_until = None;
        if self.ack.deadline.is_some_and(|d| d <= now) {
            self.ack.on_timeout(self.rtt.rto(env.cfg.rto_max));
            if self.ack.now {
                env.mib.inc(Mib::TcpExtDelayedACKs);
            }
        }
        if let Some((kind, at)) = self.timer
            && at <= now
        {
            self.timer = None;
            match kind {
                RetransTimer::Rto => self.on_rto(now, env),
                RetransTimer::Tlp => self.on_probe_timeout(now, env),
                RetransTimer::Reorder => self.on_reorder_timeout(now, env),
                RetransTimer::Persist => self.on_persist(now, env),
            }
        }
        if self.keepalive_at.is_some_and(|d| d <= now) {
            self.on_keepalive(now, env);
        }
        if self.linger_at.is_some_and(|d| d <= now) {
            self.linger_at = None;
            if self.state == State::TimeWait {
                self.state = State::Closed;
                self.clear_timers();
            } else {
                self.finish(CloseReason::Finished, env);
            }
        }
        self.update_keepalive(now, env.cfg);
    }

    /// True when retransmissions have gone on for as long as this socket allows.
    fn gives_up(&self, now: Instant, cfg: &Config) -> bool {
        if let Some(limit) = cfg.user_timeout
            && self.state.is_synchronized()
        {
            return self.stalled_since.is_some_and(|s| now - s >= limit);
        }
        // A window closed over data in flight: the timeouts are its probes, and as long as they are answered the peer lives. As Linux, an orphan
        // does not wait for it.
        if self.snd_wnd == 0
            && !self.app_closed
            && self.state.is_synchronized()
            && now - self.stats.last_ack_recv <= cfg.rto_max
        {
            return false;
        }
        match self.state {
            State::SynSent => {
                u32::from(self.retransmits) > u32::from(cfg.syn_retries) + u32::from(cfg.syn_linear_timeouts)
            }
            State::SynReceived => self.retransmits > cfg.synack_retries,
            _ => {
                let retries = if self.app_closed { self.orphan_retries(cfg) } else { cfg.retries2 };
                // RFC 9293, 3.8.3 (R2).
                self.stalled_for(now, retries, cfg)
            }
        }
    }

    /// As Linux: while the backed-off timeout can still grow, an unset `tcp_orphan_retries` stands for 8; afterwards for none, as any value does
    /// where an ICMP error told that something is wrong.
    fn orphan_retries(&self, cfg: &Config) -> u8 {
        let alive = self.rto(cfg) < cfg.rto_max;
        match cfg.orphan_retries {
            _ if self.soft_error.is_some() && !alive => 0,
            0 if alive => 8,
            n => n,
        }
    }

    /// Retransmissions have gone on for as long as so many of them take: as Linux, a number of timeouts stands for the time that they would
    /// last if the first took 200 ms.
    fn stalled_for(&self, now: Instant, retries: u8, cfg: &Config) -> bool {
        self.stalled_since.is_some_and(|s| now - s >= retry_span(retries, RETRY_BASE, cfg))
    }

    fn on_rto(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.board.is_empty() {
            return;
        }
        env.mib.inc(Mib::TcpExtTCPTimeouts);
        self.count_failure(env);
        self.retransmits = self.retransmits.saturating_add(1);
        let gives_up = self.gives_up(now, env.cfg);
        if self.state == State::SynSent {
            self.fast_open_timed_out(gives_up);
        }
        if gives_up {
            env.mib.inc(if self.state.is_synchronized() { Mib::TcpExtTCPAbortOnTimeout } else { Mib::TcpAttemptFails });
            let tell = self.state == State::SynReceived;
            self.finish(CloseReason::TimedOut, env);
            self.due.rst = tell && self.app_closed;
            return;
        }
        self.stats.count_rto(now, self.retransmits == 1);
        self.stalled_since.get_or_insert(now);
        self.stats.rehash += 1;
        if !self.state.is_synchronized() {
            self.due.syn = true;
            if self.state == State::SynReceived || self.retransmits > env.cfg.syn_linear_timeouts {
                self.backoff = self.backoff.saturating_add(1);
            }
            self.timer = Some((RetransTimer::Rto, now + backed_off(INITIAL_RTO, self.backoff, env.cfg)));
            return;
        }
        // RFC 9293, 3.8.3 (MUST-20): at R1 "pass negative advice to the IP layer, to trigger dead-gateway diagnosis".
        if self.stalled_for(now, env.cfg.retries1, env.cfg) {
            self.notify(Event::Doubt);
            // SHLD-9: "at R1 ... the application is informed": as a soft error, which whoever set IP_RECVERR hears of at once.
            if self.soft_error.is_none() && !self.app_closed {
                self.notify(Event::ErrorQueue(Errno::ETIMEDOUT));
            }
            self.suspect_black_hole(now, env);
        }
        self.enter_loss(now, env);
        // After the loss was entered, as Linux: the first timeout ends the initial slow start that a thin stream must have left.
        if self.is_thin(env.cfg) {
            self.backoff = 0;
        } else {
            self.backoff = self.backoff.saturating_add(1);
        }
        let mut at = now + self.rto(env.cfg);
        // RFC 5482: a user timeout is not rounded up to the next backed-off RTO.
        if let (Some(limit), Some(since)) = (env.cfg.user_timeout, self.stalled_since) {
            at = at.min((since + limit).max(now + Duration::from_millis(1)));
        }
        self.timer = Some((RetransTimer::Rto, at));
    }

    /// tcp-thin: with fewer than four packets in flight there is nothing that duplicate ACKs could tell of; the first six timeouts do not
    /// double then.
    fn is_thin(&self, cfg: &Config) -> bool {
        cfg.thin_linear_timeouts
            && self.state == State::Established
            && self.board.packets_out() < 4
            && self.ssthresh != u32::MAX
            && self.retransmits <= THIN_LINEAR_RETRIES
    }

    /// A timeout is the failure of whatever should have made it unnecessary: Linux counts which.
    fn count_failure(&self, env: &mut Env<'_>) {
        if self.retransmits > 0 || !self.state.is_synchronized() {
            return;
        }
        let sack = self.opts.sack;
        env.mib.inc(match self.ca_state {
            CaState::Recovery if sack => Mib::TcpExtTCPSackRecoveryFail,
            CaState::Recovery => Mib::TcpExtTCPRenoRecoveryFail,
            CaState::Loss => Mib::TcpExtTCPLossFailures,
            CaState::Open | CaState::Disorder | CaState::Cwr if self.board.sacked_out() == 0 => return,
            CaState::Open | CaState::Disorder | CaState::Cwr if sack => Mib::TcpExtTCPSackFailures,
            CaState::Open | CaState::Disorder | CaState::Cwr => Mib::TcpExtTCPRenoFailures,
        });
    }

    /// RFC 5681, 3.1 and RFC 6298, 5.4: everything not sacked is lost, the window starts over.
    fn enter_loss(&mut self, now: Instant, env: &mut Env<'_>) {
        let new_episode = self.ca_state != CaState::Loss;
        // RFC 2018, 8: a head that was sacked and yet not acknowledged was reneged.
        let reneged = self.board.head().is_some_and(|(_, s)| s.sacked);
        if reneged {
            env.mib.inc(Mib::TcpExtTCPSACKReneging);
        }
        // As Linux: one reduction a window. A timeout within Recovery or CWR adds none, unless all that it stood for is acknowledged; one
        // within Loss does, when something was acknowledged since the last.
        let fresh = matches!(self.ca_state, CaState::Open | CaState::Disorder)
            || self.una >= self.high_seq
            || self.ca_state == CaState::Loss && self.retransmits <= 1;
        // RFC 5682, 2.1 step 1: not when the timeout interrupts fast recovery; "when the retransmission timer expires" again, afresh.
        let frto = matches!(self.ca_state, CaState::Open | CaState::Disorder | CaState::Cwr) || self.retransmits > 1;
        // RFC 6675, 5 / Linux: a timeout after so many SACKs: reordering was overestimated.
        if matches!(self.ca_state, CaState::Open | CaState::Disorder) && self.board.sacked_out() >= env.cfg.reordering {
            self.reordering = self.reordering.min(env.cfg.reordering);
        }
        if fresh {
            self.undo = Undo::start(self.una, self.board.retrans_out());
        }
        let rack = self.opts.sack && env.cfg.recovery & 1 != 0 && !reneged && new_episode;
        if rack && let Some(young) = self.rack.still_expected(now, self.rtt.min(), self.rtt.srtt(), env.cfg) {
            // RFC 8985, 6.3: of what is left, only segments are lost that have had RACK.rtt and the reordering window to be acknowledged.
            self.board.mark_expired_lost(|sent| sent > young);
        } else {
            self.board.mark_all_lost(reneged || !self.opts.sack);
        }
        self.reneging = false;
        self.dupacks = 0;
        self.ca_state = CaState::Loss;
        let in_flight = self.board.in_flight();
        self.control = self.cc.on_event(CcEvent::Rto { now, in_flight, reduces: fresh }, env.rng);
        self.take_control(env.cfg);
        self.cwnd = self.cwnd.max(in_flight + 1);
        self.high_seq = self.nxt;
        self.tlp.end = None;
        self.frto = env.cfg.frto > 0 && frto && !reneged && !self.probes_mtu();
        self.frto_new_data = false;
        self.send_cwr |= self.opts.ecn;
        // RFC 6298, 5.4 resends the earliest segment now: pacing of what went before does not matter any more.
        self.next_departure = now;
    }

    fn on_probe_timeout(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.board.is_empty() {
            return;
        }
        env.mib.inc(Mib::TcpExtTCPLossProbes);
        self.due.tlp = true;
        self.next_departure = self.next_departure.min(now);
        self.arm_rto(now, env.cfg);
    }

    fn on_reorder_timeout(&mut self, now: Instant, env: &mut Env<'_>) {
        let before = self.board.in_flight();
        self.detect_loss(now, env);
        if self.board.in_flight() != before && self.ca_state != CaState::Recovery && self.ca_state != CaState::Loss {
            self.enter_recovery(now, None, env);
            if self.ca_state == CaState::Recovery && !self.cc.owns_recovery_cwnd() {
                self.cwnd = self.prr.cwnd(self.ssthresh, self.board.in_flight(), 1, false).max(1);
            }
        }
        if self.timer.is_none() {
            self.rearm_after_ack(now, env.cfg);
        }
    }

    fn on_persist(&mut self, now: Instant, env: &mut Env<'_>) {
        if !self.board.is_empty() || (self.not_sent() == 0 && (self.fin_sent || !self.fin_wanted)) {
            self.persist_since = None;
            return;
        }
        let window = (self.una + self.snd_wnd).saturating_sub(self.nxt);
        if window > 0 {
            // Held back by cork, Nagle or SWS avoidance: long enough.
            self.due.push = true;
            self.persist_since = None;
            return;
        }
        let dead = match env.cfg.user_timeout {
            Some(t) => self.persist_since.is_some_and(|s| now - s >= t),
            None if self.app_closed => {
                let retries = self.orphan_retries(env.cfg);
                // As Linux: nobody is there to lose patience with a peer that answers and never opens its window. When the interval has grown as
                // far as it does, it was long enough.
                let grown = self.rto(env.cfg) >= env.cfg.rto_max || self.backoff >= env.cfg.retries2;
                self.probes_out >= retries || (grown && self.backoff >= env.cfg.orphan_retries.min(env.cfg.retries2))
            }
            // RFC 1122, 4.2.2.17: "MUST allow the connection to stay open" while the probes are answered.
            None => self.probes_out >= env.cfg.retries2,
        };
        if dead {
            env.mib.inc(Mib::TcpExtTCPAbortOnTimeout);
            self.finish(CloseReason::TimedOut, env);
            return;
        }
        env.mib.inc(Mib::TcpExtTCPWinProbe);
        self.probes_out = self.probes_out.saturating_add(1);
        self.backoff = self.backoff.saturating_add(1).min(env.cfg.retries2);
        self.due.probe = true;
        self.arm_persist(now, env.cfg);
    }

    // ---- keepalive ----

    /// Starts, keeps or stops the keepalive timer as the options say.
    pub(crate) fn update_keepalive(&mut self, _now: Instant, cfg: &Config) {
        let wanted = cfg.keepalive && self.state.is_synchronized() && self.state != State::TimeWait;
        if !wanted {
            self.keepalive_at = None;
        } else if self.keepalive_at.is_none() {
            self.keepalive_at = Some(self.stats.last_recv + cfg.keepalive_time);
        }
    }

    /// `SO_KEEPALIVE` or `TCP_KEEPIDLE` was written: the idle time counts from the last word of the peer, whatever ran before (as Linux).
    pub fn rearm_keepalive(&mut self, now: Instant, cfg: &Config) {
        if self.tape.is_some() {
            self.taped_bare(Some(now), What::RearmKeepalive, Some(cfg));
            return;
        }
        if self.probes_out == 0 || !cfg.keepalive {
            self.keepalive_at = None;
        }
        self.update_keepalive(now, cfg);
    }

    fn on_keepalive(&mut self, now: Instant, env: &mut Env<'_>) {
        let idle = now - self.stats.last_recv;
        // Retransmissions already tell whether the peer lives.
        if !self.board.is_empty() || self.not_sent() > 0 || idle < env.cfg.keepalive_time {
            self.keepalive_at =
                Some((self.stats.last_recv + env.cfg.keepalive_time).max(now + env.cfg.keepalive_intvl));
            if idle < env.cfg.keepalive_time {
                self.keepalive_at = Some(self.stats.last_recv + env.cfg.keepalive_time);
            }
            return;
        }
        // RFC 1122, 4.2.3.6: "it MUST NOT interpret failure to respond to any specific probe as a dead connection".
        let dead = match env.cfg.user_timeout {
            Some(t) => idle >= t && self.probes_out > 0,
            None => self.probes_out >= env.cfg.keepalive_probes,
        };
        if dead {
            env.mib.inc(Mib::TcpExtTCPAbortOnTimeout);
            self.finish(CloseReason::TimedOut, env);
            self.due.rst = true;
            return;
        }
        env.mib.inc(Mib::TcpExtTCPKeepAlive);
        self.probes_out = self.probes_out.saturating_add(1);
        self.due.probe = true;
        self.keepalive_at = Some(now + env.cfg.keepalive_intvl);
    }
}
