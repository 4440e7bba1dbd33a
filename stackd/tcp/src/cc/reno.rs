//! Reno: slow start and congestion avoidance by the book (RFC 5681), counting bytes as packets (RFC 3465, L unbounded, as Linux).

use super::{CaState, CcConfig, CcEvent, CcInfo, CongestionControl, Control, RateSample, Saved};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Rng};

/// Largest window a growth step may reach: keeps every product in range.
pub(super) const MAX_CWND: u32 = 1 << 28;

/// The window arithmetic that loss-based algorithms share: growth in slow start, what to remember for an undo, idle restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LossWindow {
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// ACKed packets not yet turned into growth.
    credit: u32,
    initial_cwnd: u32,
    /// cwnd and ssthresh before the last reduction.
    before: Option<(u32, u32)>,
    /// The episode that it began goes on.
    is_reduced: bool,
}

impl LossWindow {
    pub(super) fn new(config: &CcConfig) -> Self {
        let initial_cwnd = config.initial_cwnd.max(1);
        Self { cwnd: initial_cwnd, ssthresh: u32::MAX, credit: 0, initial_cwnd, before: None, is_reduced: false }
    }

    pub(super) const fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Grows by one packet per ACKed packet up to ssthresh; returns the ACKed packets left over for congestion avoidance.
    pub(super) fn slow_start(&mut self, acked: u32) -> u32 {
        let grown = self.cwnd.saturating_add(acked).min(self.ssthresh).min(MAX_CWND).max(self.cwnd);
        let used = grown - self.cwnd;
        self.cwnd = grown;
        acked - used
    }

    /// Grows by one packet per `per` ACKed packets.
    pub(super) fn additive_increase(&mut self, per: u32, acked: u32) {
        let per = per.max(1);
        // Credit gathered under a slower growth must not turn into a burst under a faster one: at most one packet of it.
        if self.credit >= per {
            self.credit = 0;
            self.cwnd += 1;
        }
        self.credit = self.credit.saturating_add(acked);
        self.cwnd = self.cwnd.saturating_add(self.credit / per).min(MAX_CWND);
        self.credit %= per;
    }

    /// Remembers the window, and sets ssthresh and the window to hold after recovery.
    pub(super) fn reduce(&mut self, ssthresh: u32) {
        self.before = Some(match self.before {
            // A reduction on top of one that may yet be undone: undo goes back to the first.
            Some(first) if self.is_reduced && first.0 > self.cwnd => first,
            Some(_) | None => (self.cwnd, self.ssthresh),
        });
        self.is_reduced = true;
        self.ssthresh = ssthresh.max(2);
        self.cwnd = self.cwnd.min(self.ssthresh);
        self.credit = 0;
    }

    /// RFC 5681, 3.1: "the cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment".
    pub(super) fn lose_everything(&mut self, ssthresh: u32, in_flight: u32) {
        self.reduce(ssthresh);
        self.begin_anew(in_flight);
    }

    /// The same where ssthresh says already what was lost.
    pub(super) fn begin_anew(&mut self, in_flight: u32) {
        self.cwnd = in_flight.saturating_add(1).min(self.ssthresh).max(1);
    }

    /// The episode is over. The proof that it was for nothing may still come (a DSACK takes a round trip).
    pub(super) const fn settle(&mut self) {
        self.is_reduced = false;
    }

    /// The last reduction stands: ECN asked for it, and what proves a loss spurious proves nothing about that.
    pub(super) const fn keep(&mut self) {
        self.before = None;
    }

    pub(super) fn undo(&mut self) {
        self.is_reduced = false;
        if let Some((cwnd, ssthresh)) = self.before.take() {
            self.cwnd = self.cwnd.max(cwnd);
            self.ssthresh = self.ssthresh.max(ssthresh);
        }
    }

    /// RFC 2861, 3.2: the window is halved for each RTO the connection was idle, not below the restart window, and what was
    /// learnt is kept in ssthresh (3/4 of the window).
    pub(super) fn restart_after_idle(&mut self, idle: Duration, rto: Duration) {
        let floor = self.initial_cwnd.min(self.cwnd);
        self.ssthresh = self.ssthresh.max(self.cwnd - self.cwnd / 4);
        let rto = rto.as_nanos().max(1);
        let mut left = idle.as_nanos();
        while left > rto && self.cwnd > floor {
            left -= rto;
            self.cwnd /= 2;
        }
        self.cwnd = self.cwnd.max(floor);
        self.credit = 0;
    }

    /// A window is a number of bytes: with another MSS it is another number of packets.
    pub(super) fn rescale(&mut self, old_mss: u32, new_mss: u32) {
        let scale = |packets: u32| {
            let scaled = u64::from(packets) * u64::from(old_mss) / u64::from(new_mss.max(1));
            u32::try_from(scaled).unwrap_or(MAX_CWND).min(MAX_CWND)
        };
        self.cwnd = scale(self.cwnd).max(1);
        let threshold = |s: u32| if s == u32::MAX { s } else { scale(s).max(2) };
        self.ssthresh = threshold(self.ssthresh);
        self.before = self.before.map(|(cwnd, ssthresh)| (scale(cwnd).max(1), threshold(ssthresh)));
        self.credit = 0;
    }

    pub(super) const fn control(&self) -> Control {
        Control {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            pacing_rate: None,
            send_quantum: None,
            mark_app_limited: false,
        }
    }
}

/// The window may grow on this ACK: recovery does not hold it, and it was the window that limited the sender.
pub(super) const fn may_grow(s: &RateSample) -> bool {
    let held = matches!(s.ca_state, CaState::Cwr | CaState::Recovery);
    !held && s.is_cwnd_limited && s.acked_sacked > 0 && s.forward_progress
}

/// The Reno algorithm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reno {
    window: LossWindow,
    mss: u32,
}

impl Reno {
    /// At the initial window, in slow start.
    pub fn new(config: &CcConfig) -> Self {
        Self { window: LossWindow::new(config), mss: config.mss.max(1) }
    }

    /// RFC 5681, 3.1: ssthresh = max(FlightSize / 2, 2*SMSS); Linux halves the window instead, which cannot shrink twice.
    fn half(&self) -> u32 {
        (self.window.cwnd / 2).max(2)
    }
}

impl CongestionControl for Reno {
    fn name(&self) -> &'static str {
        "reno"
    }

    fn on_ack(&mut self, s: &RateSample, _rng: &mut dyn Rng) -> Control {
        if may_grow(s) {
            let mut acked = s.acked_sacked;
            if self.window.in_slow_start() {
                acked = self.window.slow_start(acked);
            }
            if acked > 0 {
                // RFC 5681, 3.1: "incremented by 1 full-sized segment per RTT".
                self.window.additive_increase(self.window.cwnd, acked);
            }
        }
        self.window.control()
    }

    fn on_event(&mut self, event: CcEvent, _rng: &mut dyn Rng) -> Control {
        match event {
            CcEvent::EnterRecovery { reduces: false, .. } => self.window.keep(),
            CcEvent::EnterRecovery { reduces: true, .. } | CcEvent::EcnReduce { .. } => self.window.reduce(self.half()),
            CcEvent::Rto { in_flight, reduces: true, .. } => self.window.lose_everything(self.half(), in_flight),
            CcEvent::Rto { in_flight, reduces: false, .. } => self.window.begin_anew(in_flight),
            CcEvent::ExitRecovery { .. } => self.window.settle(),
            CcEvent::Undo { .. } => self.window.undo(),
            CcEvent::IdleRestart { idle, rto, .. } => self.window.restart_after_idle(idle, rto),
            CcEvent::TxStart { .. } | CcEvent::BufferGrew => {}
            CcEvent::MssChanged { mss } => {
                self.window.rescale(self.mss, mss);
                self.mss = mss.max(1);
            }
        }
        self.window.control()
    }

    fn control(&self) -> Control {
        self.window.control()
    }
    fn owns_recovery_cwnd(&self) -> bool {
        false
    }
    fn needs_pacing(&self) -> bool {
        false
    }
    fn saved(&self) -> Saved {
        Saved::Reno(self.clone())
    }

    fn info(&self) -> CcInfo {
        CcInfo::None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testpath::{ack, config, rng};
    use super::*;
    use stackd_base::Instant;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_per_window() {
        let mut r = Reno::new(&config());
        r.on_ack(&ack(at(10), 10), &mut rng());
        assert_eq!(r.control().cwnd, 20);
        r.on_event(CcEvent::EnterRecovery { now: at(11), in_flight: 20, reduces: true }, &mut rng());
        assert_eq!((r.control().cwnd, r.control().ssthresh), (10, 10));
        for _ in 0..10 {
            r.on_ack(&ack(at(20), 1), &mut rng());
        }
        assert_eq!(r.control().cwnd, 11);
    }

    #[test]
    fn slow_start_stops_at_ssthresh_and_hands_the_rest_on() {
        let mut w = LossWindow::new(&config());
        w.ssthresh = 15;
        assert_eq!(w.slow_start(12), 7);
        assert_eq!(w.cwnd, 15);
    }

    #[test]
    fn an_rto_leaves_one_packet_and_an_undo_puts_everything_back() {
        let mut r = Reno::new(&config());
        r.on_ack(&ack(at(10), 30), &mut rng());
        r.on_event(CcEvent::Rto { now: at(300), in_flight: 0, reduces: true }, &mut rng());
        assert_eq!((r.control().cwnd, r.control().ssthresh), (1, 20));
        r.on_event(CcEvent::Undo { now: at(310) }, &mut rng());
        assert_eq!((r.control().cwnd, r.control().ssthresh), (40, u32::MAX));
    }

    #[test]
    fn an_rto_inside_recovery_is_undone_to_the_window_before_recovery() {
        let mut r = Reno::new(&config());
        r.on_ack(&ack(at(10), 30), &mut rng());
        r.on_event(CcEvent::EnterRecovery { now: at(20), in_flight: 30, reduces: true }, &mut rng());
        r.on_event(CcEvent::Rto { now: at(300), in_flight: 0, reduces: true }, &mut rng());
        r.on_event(CcEvent::Undo { now: at(310) }, &mut rng());
        assert_eq!(r.control().cwnd, 40);
    }

    #[test]
    fn nothing_grows_while_the_application_is_the_limit() {
        let mut r = Reno::new(&config());
        let mut s = ack(at(10), 10);
        s.is_cwnd_limited = false;
        assert_eq!(r.on_ack(&s, &mut rng()).cwnd, 10);
    }

    #[test]
    fn idle_decays_the_window_to_the_restart_window_and_keeps_ssthresh() {
        let mut r = Reno::new(&config());
        r.on_ack(&ack(at(10), 90), &mut rng());
        r.on_event(CcEvent::EnterRecovery { now: at(20), in_flight: 30, reduces: true }, &mut rng());
        r.on_event(CcEvent::ExitRecovery { now: at(30) }, &mut rng());
        let c = r.on_event(
            CcEvent::IdleRestart { now: at(900), idle: Duration::from_secs(10), rto: Duration::from_millis(200) },
            &mut rng(),
        );
        assert_eq!((c.cwnd, c.ssthresh), (10, 50));
    }

    #[test]
    fn an_mss_change_keeps_the_window_in_bytes() {
        let mut r = Reno::new(&config());
        let mss = config().mss;
        let c = r.on_event(CcEvent::MssChanged { mss: mss / 2 }, &mut rng());
        assert_eq!(c.cwnd, 20);
    }
}
