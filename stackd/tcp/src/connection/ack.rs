//! What an acknowledgment says: window, scoreboard, RTT, loss detection, congestion control.

use super::Connection;
use crate::cc::{CaState, RateSample};
use crate::config::Config;
use crate::recovery::RetransTimer;
use crate::scoreboard::AckOutcome;
use crate::seam::{Env, Event};
use stackd_base::{Duration, Instant, Mib};
use stackd_wire::TcpRepr;

/// What Linux gives a peer that seems to have discarded SACKed data, at least.
const RENEGING_GRACE: Duration = Duration::from_millis(10);

/// What one ACK changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub una_advanced: bool,
    pub window_changed: bool,
    pub has_data: bool,
    /// End of the duplicate that it reports.
    pub dsack_end: Option<u64>,
    pub ece: bool,
    pub prior_in_flight: u32,
    pub tsecr: Option<u32>,
    pub lost: u32,
    pub out: AckOutcome,
}

impl Connection {
    /// RFC 9293, 3.10.7.4, fifth. `pos` is at most `nxt`.
    pub(crate) fn handle_ack(&mut self, now: Instant, seg: &TcpRepr, pos: i64, len: u32, env: &mut Env<'_>) {
        self.stats.last_ack_recv = now;
        let mut seen = Seen {
            has_data: len > 0 || seg.flags.fin(),
            prior_in_flight: self.board.in_flight(),
            tsecr: seg.options.timestamps.filter(|_| self.opts.ts).map(|t| t.tsecr).filter(|&t| t != 0),
            ..Seen::default()
        };
        let ack = pos.max(0) as u64;
        if ack >= self.una {
            seen.window_changed = self.update_send_window(seg, ack, env);
            if seen.window_changed && self.not_sent() > 0 {
                // As Linux: what waited for the window was idle all that time.
                self.restart_after_idle(now, env);
            }
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
        if seen.una_advanced && self.board.head().is_some_and(|(_, s)| s.sacked) {
            // RFC 2018, 8: what was SACKed and is not acknowledged although its turn has come may have been discarded. Linux gives the
            // peer half a round trip to say more, then believes it.
            let grace = self.rtt.srtt().map_or(Duration::ZERO, |s| s / 2).max(RENEGING_GRACE);
            self.timer = Some((RetransTimer::Rto, now + grace));
            self.reneging = true;
        } else if seen.una_advanced {
            self.reneging = false;
        }
        let room = self.accecn_room(env.cfg);
        let marked = self.take_ace(seg, self.rate.newly_delivered(), seen.una_advanced || seen.out.sacked > 0, env);
        if self.accecn_room(env.cfg) != room {
            self.update_mss(env.cfg);
        }
        seen.ece = marked > 0 || self.opts.ecn && seg.flags.ece();
        if !had_out {
            // The report of a duplicate takes a round trip: often nothing is outstanding any more.
            self.process_probe(now, ack, &seen, env);
            if seen.dsack_end.is_some() {
                self.recovery_step(now, &mut seen, env);
            }
            self.after_empty_ack(now, env);
            return;
        }
        self.measure_rtt(now, &seen, env.cfg);
        self.update_rack(now, &seen, env);
        self.process_probe(now, ack, &seen, env);
        self.recovery_step(now, &mut seen, env);
        // Only now: an echo on the ACK of everything may still prove that nothing was lost (RFC 4015).
        if self.board.is_empty() {
            self.retrans_since = None;
        }
        seen.lost = (self.board.lost_total() - lost_before) as u32;
        self.control_congestion(now, &seen, env);
        if seen.una_advanced || seen.out.sacked > 0 {
            if self.board.is_empty() || !(self.reneging || matches!(self.timer, Some((RetransTimer::Reorder, _)))) {
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
    fn update_send_window(&mut self, seg: &TcpRepr, ack: u64, env: &mut Env<'_>) -> bool {
        let seq = self.recv_offset(seg.seq).max(0) as u64;
        let wnd = u64::from(seg.window) << self.opts.snd_scale;
        let newer = ack > self.una || seq > self.wl1 || (seq == self.wl1 && (wnd > self.snd_wnd || wnd == 0));
        if !newer {
            return false;
        }
        self.wl1 = seq;
        let changed = wnd != self.snd_wnd;
        self.snd_wnd = wnd;
        let widened = wnd > self.max_wnd;
        self.max_wnd = self.max_wnd.max(wnd);
        if widened {
            self.window_widened(env);
        }
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
        let stood_for = self.board.sacked_out();
        self.board.ack_to(ack, &mut seen.out, &mut self.rate);
        self.una = ack;
        self.stats.bytes_acked += bytes;
        self.probes_out = 0;
        self.stalled_since = None;
        self.retransmits = 0;
        if !self.opts.sack {
            // RFC 6582: duplicate ACKs stood for packets that are now acknowledged. As Linux, one of these filled the hole.
            self.rate.counted_before(stood_for.min(seen.out.acked.saturating_sub(1)));
            self.dupacks = self.dupacks.saturating_sub(seen.out.acked.saturating_sub(1));
            if self.ca_state == CaState::Open || self.ca_state == CaState::Disorder {
                self.dupacks = 0;
            }
            self.board.set_reno_sacked(self.dupacks);
        }
        self.probe_acknowledged(env);
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

    // ---- congestion control ----

    fn control_congestion(&mut self, now: Instant, seen: &Seen, env: &mut Env<'_>) {
        let delivery = self.rate.sample(now, self.rtt.min());
        env.mib.add(Mib::TcpExtTCPDelivered, u64::from(delivery.acked_sacked));
        let in_flight = self.board.in_flight();
        let limited = self.was_cwnd_limited();
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
            // Linux's tcp_may_raise_cwnd: "If reordering is high then always grow cwnd whenever data is delivered regardless of its ordering."
            forward_progress: seen.una_advanced || (o.sacked > 0 && self.reordering > env.cfg.reordering),
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
                // The first retransmission leaves even when the ACK that asks for it delivered nothing new.
                self.cwnd = in_flight + 1;
            }
        }
    }
}
