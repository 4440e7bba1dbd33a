//! What the algorithms' unit tests share: plain samples, and a packet-level model of one path.

use super::{CaState, CcConfig, CongestionControl, Control, RateSample};
use crate::rate::{RateEstimator, TxRateState};
use stackd_base::{Bandwidth, Duration, Instant, SplitMix64};
use std::collections::VecDeque;

/// MSS of every test.
pub(super) const MSS: u32 = 1448;

pub(super) fn config() -> CcConfig {
    CcConfig { now: Instant::ZERO, mss: MSS, initial_cwnd: 10, srtt: None, clock_tick: Some(Duration::ZERO) }
}

pub(super) fn rng() -> SplitMix64 {
    SplitMix64::new(1)
}

/// An ACK of `n` packets that says nothing about rate or RTT.
pub(super) fn ack(now: Instant, n: u32) -> RateSample {
    RateSample {
        now,
        mss: MSS,
        prior_delivered: 0,
        delivered_total: u64::from(n),
        delivered: None,
        interval: None,
        rtt: None,
        acked_sacked: n,
        losses: 0,
        lost_total: 0,
        prior_in_flight: n,
        in_flight: 0,
        is_app_limited: false,
        is_retrans: false,
        is_ack_delayed: false,
        delivered_ce: 0,
        forward_progress: true,
        is_cwnd_limited: true,
        ca_state: CaState::Open,
        srtt: None,
        min_rtt: None,
        pacing_lead: Duration::ZERO,
    }
}

/// One sender, one bottleneck with an unlimited queue, one receiver that acks every packet. Lossless unless told otherwise;
/// lost packets are detected one RTT after they left and count as repaired at once (what retransmissions do is not modelled).
#[derive(Debug)]
pub(super) struct Path {
    pub(super) now: Instant,
    pub(super) rate: Bandwidth,
    pub(super) rtt: Duration,
    /// Of 2^32.
    pub(super) loss: u32,
    /// What the sender's clock rounds down to; zero = exact.
    pub(super) tick: Duration,
    /// Packets the application still has; `u64::MAX` = bulk.
    pub(super) backlog: u64,
    pub(super) estimator: RateEstimator,
    pub(super) ca_state: CaState,
    pub(super) acked: u64,
    pub(super) rng: SplitMix64,
    flying: VecDeque<Flying>,
    link_free_at: Instant,
    next_send: Instant,
    min_rtt: Option<Duration>,
    srtt: Option<Duration>,
    lost_total: u64,
    sent: u64,
}

#[derive(Debug)]
struct Flying {
    acked_at: Instant,
    sent_at: Instant,
    end: u64,
    tx: TxRateState,
    lost: bool,
}

impl Path {
    pub(super) fn new(mbit: u64, rtt_us: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            rate: Bandwidth::from_bits_per_sec(mbit * 1_000_000),
            rtt: Duration::from_micros(rtt_us),
            loss: 0,
            tick: Duration::ZERO,
            backlog: u64::MAX,
            estimator: RateEstimator::new(Instant::ZERO),
            ca_state: CaState::Open,
            acked: 0,
            rng: SplitMix64::new(42),
            flying: VecDeque::new(),
            link_free_at: Instant::ZERO,
            next_send: Instant::ZERO,
            min_rtt: None,
            srtt: None,
            lost_total: 0,
            sent: 0,
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.flying.len() as u32
    }

    /// Packets the path holds without a queue.
    pub(super) fn bdp(&self) -> u64 {
        self.rate.bytes_in(self.rtt) / u64::from(MSS)
    }

    fn read_clock(&self) -> Instant {
        self.now.coarsen(self.tick)
    }

    fn send_one(&mut self, pacing: Option<Bandwidth>) {
        use stackd_base::Rng;
        let wire = u64::from(MSS) + 66;
        let tx = self.estimator.on_send(self.read_clock(), self.in_flight());
        let start = self.link_free_at.max(self.now);
        self.link_free_at = start + self.rate.transmission_time(wire).unwrap_or(Duration::MAX);
        self.sent += 1;
        let lost = self.rng.chance(self.loss);
        let acked_at = self.link_free_at + self.rtt;
        self.flying.push_back(Flying { acked_at, sent_at: self.read_clock(), end: self.sent, tx, lost });
        if let Some(gap) = pacing.and_then(|p| p.transmission_time(u64::from(MSS))) {
            self.next_send = self.next_send.max(self.now) + gap;
        }
        self.backlog -= u64::from(self.backlog != u64::MAX);
    }

    fn ack_one(&mut self, cc: &mut dyn CongestionControl) -> Option<Control> {
        let prior_in_flight = self.in_flight();
        let f = self.flying.pop_front()?;
        let now = self.read_clock();
        let mut losses = 0;
        let mut rtt = None;
        if f.lost {
            losses = 1;
            self.lost_total += 1;
        } else {
            self.acked += 1;
            self.estimator.on_delivered(&f.tx, f.sent_at, f.end, 1, false);
            let r = now - f.sent_at;
            rtt = Some(r);
            self.min_rtt = Some(self.min_rtt.map_or(r, |m| m.min(r)));
            self.srtt = Some(self.srtt.map_or(r, |s| s.mul_ratio(7, 8) + r / 8));
        }
        let d = self.estimator.sample(now, self.min_rtt);
        let s = RateSample {
            prior_delivered: d.prior_delivered,
            delivered_total: self.estimator.delivered(),
            delivered: d.delivered,
            interval: d.interval,
            rtt,
            acked_sacked: d.acked_sacked,
            losses,
            lost_total: self.lost_total,
            prior_in_flight,
            in_flight: self.in_flight(),
            is_app_limited: d.is_app_limited,
            ca_state: self.ca_state,
            srtt: self.srtt,
            min_rtt: self.min_rtt,
            ..ack(now, d.acked_sacked)
        };
        let c = cc.on_ack(&s, &mut self.rng);
        if c.mark_app_limited {
            self.estimator.mark_app_limited(self.in_flight());
        }
        Some(c)
    }

    /// Runs for `span`; `each` sees the algorithm and the decision after every ACK.
    pub(super) fn run(&mut self, cc: &mut dyn CongestionControl, span: Duration, mut each: impl FnMut(&Self, Control)) {
        let end = self.now + span;
        while self.now < end {
            let c = cc.control();
            let may_send = self.in_flight() < c.cwnd && self.backlog > 0;
            if may_send && self.next_send <= self.now {
                self.send_one(c.pacing_rate);
                continue;
            }
            if self.backlog == 0 {
                self.estimator.mark_app_limited(self.in_flight());
            }
            let ack_at = self.flying.front().map_or(Instant::FAR_FUTURE, |f| f.acked_at);
            let send_at = if may_send { self.next_send } else { Instant::FAR_FUTURE };
            let next = ack_at.min(send_at);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if ack_at <= send_at
                && let Some(c) = self.ack_one(cc)
            {
                each(self, c);
            }
        }
    }
}
