//! Delivery-rate estimation (draft-cheng-iccrg-delivery-rate-estimation-02).
//!
//! Every transmission is stamped with what had been delivered when it left. When it is (s)acked, the packets delivered in
//! between, over the longer of the time it took to send them and the time it took to acknowledge them, is one sample of the
//! path's delivery rate: the longer of the two, so that neither a send burst nor ACK compression makes it too high.
//!
//! Order of calls: [`RateEstimator::on_send`] for each transmission; on each ACK [`RateEstimator::on_delivered`] for every
//! transmission it newly acknowledges or sacks, in any order, and then [`RateEstimator::sample`] once.

use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Instant};

/// What one transmission remembers of the moment it left; a retransmission is stamped anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TxRateState {
    /// Packets delivered before it left.
    pub delivered: u64,
    /// Of those, packets that a receiver reported as CE-marked.
    pub delivered_ce: u64,
    /// When `delivered` last grew.
    pub delivered_at: Instant,
    /// Start of the send interval: when the packet most recently (s)acked had been sent.
    pub first_sent_at: Instant,
    /// It left while the application, not the network, was the limit.
    pub is_app_limited: bool,
}

/// One connection's estimator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateEstimator {
    delivered: u64,
    delivered_ce: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// The pipe holds application-limited packets until `delivered` passes this. 0 = not limited.
    app_limited_until: u64,
    pending: Pending,
    best: Option<Measured>,
}

/// What the current ACK has acknowledged so far.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
struct Pending {
    acked_sacked: u32,
    newest: Option<Newest>,
}

/// The most recently sent transmission that the current ACK acknowledges.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Newest {
    tx: TxRateState,
    sent_at: Instant,
    end_offset: u64,
    is_retrans: bool,
}

/// The sample `tcp_info` shows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Measured {
    delivered: u64,
    interval: Duration,
    is_app_limited: bool,
}

/// What one ACK says about the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliverySample {
    /// `delivered` when the newest packet acked by this ACK was sent; `delivered` now if it acked none.
    pub prior_delivered: u64,
    /// Packets delivered over `interval`; `None` when this ACK acknowledged nothing.
    pub delivered: Option<u64>,
    /// The longer of the send and the ACK phase. `None` = invalid: nothing was acked, or shorter than the minimum RTT. May be
    /// zero when the clock is coarse: see [`at_least_one_tick`].
    pub interval: Option<Duration>,
    /// Packets this ACK newly acked or sacked.
    pub acked_sacked: u32,
    /// The newest packet acked was sent while application-limited.
    pub is_app_limited: bool,
    /// The newest packet acked was a retransmission.
    pub is_retrans: bool,
    /// Packets reported CE-marked over the sample.
    pub delivered_ce: u64,
}

/// What a span counts as on a clock with this tick: a span of zero is one tick (Linux clamps a zero RTT or interval in the
/// same way), or, where `tick` is `None`, no measurement at all.
pub fn at_least_one_tick(span: Duration, tick: Option<Duration>) -> Option<Duration> {
    if !span.is_zero() {
        return Some(span);
    }
    // A nanosecond clock that reads the same twice still measured at most a nanosecond.
    tick.map(|t| if t.is_zero() { Duration::from_nanos(1) } else { t })
}

impl RateEstimator {
    /// A connection that has delivered nothing yet.
    pub const fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_ce: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            pending: Pending { acked_sacked: 0, newest: None },
            best: None,
        }
    }

    /// A segment (or a GSO run of them) leaves at `sent_at`. `packets_out` = packets outstanding before it, not counting it.
    pub fn on_send(&mut self, sent_at: Instant, packets_out: u32) -> TxRateState {
        // 3.2: "If there are no packets in flight yet ... start the send and ACK phases here": idle time is no part of either.
        if packets_out == 0 {
            self.first_sent_at = sent_at;
            self.delivered_at = sent_at;
        }
        TxRateState {
            delivered: self.delivered,
            delivered_ce: self.delivered_ce,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            is_app_limited: self.app_limited_until != 0,
        }
    }

    /// The current ACK newly acks or sacks `packets` of a transmission that left at `sent_at` and ends at stream offset
    /// `end_offset` (which breaks ties between transmissions of one instant). Not to be called again for a packet that had
    /// been sacked before.
    pub fn on_delivered(
        &mut self,
        tx: &TxRateState,
        sent_at: Instant,
        end_offset: u64,
        packets: u32,
        is_retrans: bool,
    ) {
        self.delivered += u64::from(packets);
        self.pending.acked_sacked = self.pending.acked_sacked.saturating_add(packets);
        let newer = match &self.pending.newest {
            None => true,
            Some(n) => (sent_at, end_offset) > (n.sent_at, n.end_offset),
        };
        if newer {
            self.pending.newest = Some(Newest { tx: *tx, sent_at, end_offset, is_retrans });
        }
    }

    /// Packets that the ACK in hand newly delivered so far.
    pub fn newly_delivered(&self) -> u32 {
        self.pending.acked_sacked
    }

    /// One packet was counted as two.
    pub fn uncount_one(&mut self) {
        if self.delivered > 1 {
            self.delivered -= 1;
        }
    }

    /// Without SACK, the ACK in hand is a duplicate: it stands for a packet that arrived, though not for which (RFC 5681, 3.2).
    pub fn on_duplicate_ack(&mut self) {
        self.delivered += 1;
        self.pending.acked_sacked = self.pending.acked_sacked.saturating_add(1);
    }

    /// Of the packets that the ACK in hand acknowledges, duplicate ACKs stood for `packets` before.
    pub fn counted_before(&mut self, packets: u32) {
        let packets = packets.min(self.pending.acked_sacked);
        self.delivered -= u64::from(packets);
        self.pending.acked_sacked -= packets;
    }

    /// The peer reported `packets` more packets as CE-marked.
    pub fn on_ce(&mut self, packets: u32) {
        self.delivered_ce += u64::from(packets);
    }

    /// Ends the ACK that arrived at `now` and measures. `min_rtt` is the connection's windowed minimum, this ACK included.
    pub fn sample(&mut self, now: Instant, min_rtt: Option<Duration>) -> DeliverySample {
        let Pending { acked_sacked, newest } = core::mem::take(&mut self.pending);
        // 3.3: "Clear app-limited field if bubble is ACKed and gone."
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        if acked_sacked > 0 {
            self.delivered_at = now;
        }
        let Some(newest) = newest else {
            return DeliverySample {
                prior_delivered: self.delivered,
                delivered: None,
                interval: None,
                acked_sacked,
                is_app_limited: self.app_limited_until != 0,
                is_retrans: false,
                delivered_ce: 0,
            };
        };
        // The next send phase starts where this sample's ended.
        self.first_sent_at = newest.sent_at;
        let send_phase = newest.sent_at - newest.tx.first_sent_at;
        let ack_phase = now - newest.tx.delivered_at;
        let interval = send_phase.max(ack_phase);
        let delivered = self.delivered - newest.tx.delivered;
        // 3.3: "Normally we expect interval >= MinRTT. ... a packet that was spuriously retransmitted can be acked by its first
        // copy: the interval then says nothing."
        let valid = min_rtt.is_none_or(|m| interval >= m);
        // Such a packet's send phase may be a round trip long all the same. Acknowledged within less than a round trip, it was the first
        // copy, and the stamps of the second would begin a round, with a delivery of next to nothing, at every such ACK.
        if newest.is_retrans && min_rtt.is_some_and(|m| now - newest.sent_at < m) {
            return DeliverySample {
                prior_delivered: newest.tx.delivered,
                delivered: None,
                interval: None,
                acked_sacked,
                is_app_limited: newest.tx.is_app_limited,
                is_retrans: true,
                delivered_ce: 0,
            };
        }
        let sample = DeliverySample {
            prior_delivered: newest.tx.delivered,
            delivered: Some(delivered),
            interval: valid.then_some(interval),
            acked_sacked,
            is_app_limited: newest.tx.is_app_limited,
            is_retrans: newest.is_retrans,
            delivered_ce: self.delivered_ce - newest.tx.delivered_ce,
        };
        if valid && !interval.is_zero() {
            self.remember(Measured { delivered, interval, is_app_limited: newest.tx.is_app_limited });
        }
        sample
    }

    /// An application-limited sample replaces the one shown only when it is faster: it can prove the path faster, never slower.
    fn remember(&mut self, m: Measured) {
        let faster = |old: &Measured| {
            u128::from(m.delivered) * u128::from(old.interval.as_nanos())
                >= u128::from(old.delivered) * u128::from(m.interval.as_nanos())
        };
        if !m.is_app_limited || self.best.as_ref().is_none_or(faster) {
            self.best = Some(m);
        }
    }

    /// The sender could send more than the application gives it: samples of what is sent from now on, until all `in_flight`
    /// packets of now are delivered, are marked. Call when the send buffer is drained while the window is open, nothing waits
    /// in the qdisc, and every lost packet has been retransmitted (3.4).
    pub const fn mark_app_limited(&mut self, in_flight: u32) {
        let until = self.delivered + in_flight as u64;
        self.app_limited_until = if until == 0 { 1 } else { until };
    }

    /// True while samples are application-limited.
    pub const fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// Packets delivered over the connection's life.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Of those, reported CE-marked.
    pub const fn delivered_ce(&self) -> u64 {
        self.delivered_ce
    }

    /// `tcpi_delivery_rate` with packets of `mss` bytes, and whether it was application-limited. `None` before the first sample.
    pub fn delivery_rate(&self, mss: u32) -> Option<(Bandwidth, bool)> {
        let m = self.best?;
        Some((Bandwidth::from_delivery(m.delivered * u64::from(mss), m.interval), m.is_app_limited))
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
