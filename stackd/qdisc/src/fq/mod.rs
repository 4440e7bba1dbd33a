//! fq: fair queueing with earliest-departure-time pacing, with Linux's parameters and counters.
//!
//! Every flow is a FIFO. Deficit round robin serves the new flows first, then the old ones, `quantum` bytes each. A flow whose first packet
//! may not leave yet is taken off the lists and put into a heap by time; so no packet is looked at before it may leave.

mod flows;
#[cfg(test)]
mod tests;
mod timers;

use crate::config::{ConfigError, FqConfig, QdiscConfig};
use crate::pool::{NIL, Pool};
use crate::{Dropped, FqStats, KindStats, Qdisc, QdiscStats, QueuedPacket};
use flows::{Flows, List, Place};
use stackd_base::{Bandwidth, DropReason, Instant, Rng};
use timers::Timers;

/// `TC_PRIO_CONTROL`.
const PRIO_CONTROL: u8 = 7;
/// Flows idle for longer than this are forgotten (Linux's `FQ_GC_AGE`).
const GC_AGE: u64 = 3_000_000_000;
/// No packet holds its flow back for longer.
const MAX_GAP: u64 = 1_000_000_000;

/// The qdisc.
#[derive(Debug)]
pub struct Fq<P> {
    config: FqConfig,
    pool: Pool<P>,
    flows: Flows,
    new: List,
    old: List,
    timers: Timers,
    /// The control queue, first and last packet.
    internal: (u32, u32),
    detached: u32,
    stats: QdiscStats,
    fq: FqStats,
}

impl<P: QueuedPacket> Fq<P> {
    /// An empty queue.
    pub fn new(config: FqConfig) -> Self {
        Self {
            flows: Flows::new(config.buckets),
            config,
            pool: Pool::new(),
            new: List::EMPTY,
            old: List::EMPTY,
            timers: Timers::default(),
            internal: (NIL, NIL),
            detached: 0,
            stats: QdiscStats::default(),
            fq: FqStats::default(),
        }
    }

    fn drop_packet(&mut self, packet: P, reason: DropReason, dropped: &mut Vec<Dropped<P>>) {
        self.stats.drops += 1;
        dropped.push(Dropped { packet, reason });
    }

    /// The packet's flow, made if need be.
    fn classify(&mut self, packet: &P, now: u64) -> u32 {
        let hash = if packet.has_socket() {
            packet.flow_hash()
        } else {
            // Orphans share `orphan_mask + 1` flows, apart from those of sockets.
            !(packet.flow_hash() & u64::from(self.config.orphan_mask))
        };
        if let Some(flow) = self.flows.find(hash) {
            return flow;
        }
        let gone = self.flows.sweep(now.saturating_sub(GC_AGE));
        self.fq.gc_flows += gone;
        self.detached -= gone as u32;
        self.detached += 1;
        self.flows.insert(hash, i64::from(self.config.initial_quantum))
    }

    /// Puts a packet into its flow, in order of time; equal times stay in order of arrival.
    fn queue(&mut self, flow: u32, at: u32, time: u64) {
        let f = self.flows.get_mut(flow);
        f.qlen += 1;
        if f.head == NIL {
            (f.head, f.tail) = (at, at);
            return;
        }
        if self.pool.slot(f.tail).time <= time {
            self.pool.slot_mut(f.tail).next = at;
            f.tail = at;
            return;
        }
        let (mut before, mut next) = (NIL, f.head);
        while next != NIL && self.pool.slot(next).time <= time {
            (before, next) = (next, self.pool.slot(next).next);
        }
        self.pool.slot_mut(at).next = next;
        if before == NIL {
            f.head = at;
        } else {
            self.pool.slot_mut(before).next = at;
        }
    }

    fn release_throttled(&mut self, now: u64) {
        let (flows, pool) = (&mut self.flows, &self.pool);
        while let Some((time, flow)) = self.timers.pop_due(now, |soon| warm(flows, pool, soon)) {
            let late = now - time;
            let ewma = &mut self.fq.unthrottle_latency_ns;
            *ewma = *ewma - (*ewma >> 3) + (late >> 3);
            flows.push(&mut self.old, flow);
        }
    }

    fn dequeue_internal(&mut self) -> Option<P> {
        let (packet, len, _, next) = self.pool.remove(self.internal.0)?;
        self.internal.0 = next;
        self.stats.sent(len, packet.segments());
        Some(packet)
    }

    /// The first flow that has credit and a packet whose time has come; flows met on the way are moved to where they belong.
    fn next_flow(&mut self, now: u64) -> Option<u32> {
        loop {
            let from_new = self.new.first != NIL;
            let list = if from_new { &mut self.new } else { &mut self.old };
            let flow = list.first;
            if flow == NIL {
                return None;
            }
            let f = self.flows.get_mut(flow);
            if f.credit <= 0 {
                f.credit += i64::from(self.config.quantum);
                self.flows.pop(list);
                self.flows.push(&mut self.old, flow);
                continue;
            }
            if f.head == NIL {
                self.flows.pop(list);
                // A new flow that ran dry passes once through the old list, so that it cannot starve the old ones by pausing.
                if from_new && self.old.first != NIL {
                    self.flows.push(&mut self.old, flow);
                } else {
                    let f = self.flows.get_mut(flow);
                    f.place = Place::Detached;
                    f.age = now;
                    self.detached += 1;
                }
                continue;
            }
            let due = f.time_next.max(self.pool.slot(f.head).time);
            if now < due {
                f.time_next = due;
                self.flows.pop(list);
                self.flows.get_mut(flow).place = Place::Throttled;
                self.timers.push(due, flow, now);
                self.fq.throttled += 1;
                continue;
            }
            return Some(flow);
        }
    }

    /// Charges the flow for what it just sent: when it may send again.
    fn charge(&mut self, flow: u32, packet: &P, len: u32, now: u64) {
        let f = self.flows.get_mut(flow);
        f.credit -= i64::from(len);
        if !self.config.pacing {
            return;
        }
        let mut len = len;
        let mut rate = self.config.maxrate;
        // A packet with a departure time was paced by its socket; then only the qdisc's own `maxrate` counts.
        if packet.departure().is_none() {
            rate = rate.min(Bandwidth::from_bytes_per_sec(packet.max_pacing_rate()));
            if rate <= self.config.low_rate_threshold {
                f.credit = 0;
            } else {
                len = len.max(self.config.quantum);
                if f.credit > 0 {
                    return;
                }
            }
        }
        if rate == Bandwidth::MAX {
            return;
        }
        let mut gap = rate.transmission_time(u64::from(len)).map_or(u64::MAX, |d| d.as_nanos());
        if gap > MAX_GAP {
            gap = MAX_GAP;
            self.fq.pkts_too_long += 1;
        }
        // What the timer was late is given back, up to half the gap.
        if f.time_next != 0 {
            gap -= (gap / 2).min(now.saturating_sub(f.time_next));
        }
        f.time_next = now + gap;
    }
}

/// Reads what will be needed of flows that are about to be released. The reads do not depend on each other, so that their cache misses overlap; on the
/// way through the lists they would come one after the other.
fn warm<P>(flows: &Flows, pool: &Pool<P>, soon: &[timers::Entry]) {
    let mut sum = 0;
    for (_, flow) in soon {
        sum ^= flows.get(*flow).head;
    }
    core::hint::black_box(sum);
    let mut sum = 0;
    for (_, flow) in soon {
        let head = flows.get(*flow).head;
        if head != NIL {
            sum ^= pool.slot(head).time;
        }
    }
    core::hint::black_box(sum);
}

impl<P: QueuedPacket + core::fmt::Debug + Send> Qdisc<P> for Fq<P> {
    fn kind(&self) -> &'static str {
        "fq"
    }

    fn enqueue(&mut self, packet: P, now: Instant, _: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        if self.stats.qlen >= u64::from(self.config.limit) {
            return self.drop_packet(packet, DropReason::QdiscLimit, dropped);
        }
        let horizon = now + self.config.horizon;
        let mut time = packet.departure().unwrap_or(now);
        if time > horizon {
            if self.config.horizon_drop {
                self.fq.horizon_drops += 1;
                return self.drop_packet(packet, DropReason::QdiscHorizon, dropped);
            }
            self.fq.horizon_caps += 1;
            time = horizon;
        }
        let (len, time, now) = (packet.wire_len(), time.as_nanos(), now.as_nanos());
        if packet.priority() & 0xf == PRIO_CONTROL {
            let at = self.pool.insert(packet, len, time);
            if self.internal.0 == NIL {
                self.internal.0 = at;
            } else {
                self.pool.slot_mut(self.internal.1).next = at;
            }
            self.internal.1 = at;
            self.fq.highprio_packets += 1;
            return self.stats.queued(len);
        }
        let flow = self.classify(&packet, now);
        if self.flows.get(flow).qlen >= self.config.flow_limit {
            self.fq.flows_plimit += 1;
            return self.drop_packet(packet, DropReason::QdiscFlowLimit, dropped);
        }
        let at = self.pool.insert(packet, len, time);
        self.queue(flow, at, time);
        self.stats.queued(len);
        let f = self.flows.get_mut(flow);
        if f.place == Place::Detached {
            if now > f.age.saturating_add(self.config.refill_delay.as_nanos()) {
                f.credit = f.credit.max(i64::from(self.config.quantum));
            }
            self.flows.push(&mut self.new, flow);
            self.detached -= 1;
        }
    }

    fn dequeue(&mut self, now: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) -> Option<P> {
        if self.stats.qlen == 0 {
            return None;
        }
        if self.internal.0 != NIL {
            return self.dequeue_internal();
        }
        let now = now.as_nanos();
        self.release_throttled(now);
        let Some(flow) = self.next_flow(now) else {
            self.stats.overlimits += 1;
            return None;
        };
        let f = self.flows.get_mut(flow);
        let (mut packet, len, time, next) = self.pool.remove(f.head)?;
        f.head = next;
        f.qlen -= 1;
        let waited = now - time.max(f.time_next);
        if waited > self.config.ce_threshold.as_nanos() && packet.ecn_capable() {
            packet.mark_ce();
            self.fq.ce_mark += 1;
        }
        self.charge(flow, &packet, len, now);
        self.stats.sent(len, packet.segments());
        Some(packet)
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.stats.qlen == 0 {
            return None;
        }
        if self.internal.0 != NIL || self.new.first != NIL || self.old.first != NIL {
            return Some(Instant::ZERO);
        }
        self.timers.first().map(|t| Instant::from_nanos(t) + self.config.timer_slack)
    }

    fn len(&self) -> usize {
        self.stats.qlen as usize
    }

    fn drain(&mut self) -> Vec<P> {
        let mut control = Vec::new();
        while let Some((packet, .., next)) = self.pool.remove(self.internal.0) {
            control.push(packet);
            self.internal.0 = next;
        }
        // Flows are visited in the order of their lists; the sort is stable, so a flow's packets stay in order.
        let mut order = Vec::new();
        for list in [self.new, self.old] {
            let mut flow = list.first;
            while flow != NIL {
                order.push(flow);
                flow = self.flows.get(flow).next;
            }
        }
        while let Some((_, flow)) = self.timers.pop_due(u64::MAX, |_| ()) {
            order.push(flow);
        }
        let mut packets = Vec::new();
        for flow in order {
            let (mut at, floor) = (self.flows.get(flow).head, self.flows.get(flow).time_next);
            while let Some((packet, _, time, next)) = self.pool.remove(at) {
                packets.push((time.max(floor), packet));
                at = next;
            }
        }
        packets.sort_by_key(|(time, _)| *time);
        self.flows = Flows::new(self.config.buckets);
        (self.new, self.old, self.detached) = (List::EMPTY, List::EMPTY, 0);
        self.timers.clear();
        self.stats.qlen = 0;
        self.stats.backlog = 0;
        control.into_iter().chain(packets.into_iter().map(|(_, p)| p)).collect()
    }

    fn paces(&self) -> bool {
        self.config.pacing
    }

    fn config(&self) -> Option<QdiscConfig> {
        Some(QdiscConfig::Fq(self.config.clone()))
    }

    fn stats(&self) -> QdiscStats {
        let fq = FqStats {
            time_next_delayed_flow: self.timers.first().unwrap_or(0),
            flows: self.flows.len() as u32,
            inactive_flows: self.detached,
            throttled_flows: self.timers.len() as u32,
            ..self.fq
        };
        QdiscStats { kind: KindStats::Fq(fq), ..self.stats.clone() }
    }

    fn change(&mut self, config: &QdiscConfig, now: Instant, dropped: &mut Vec<Dropped<P>>) -> Result<(), ConfigError> {
        let QdiscConfig::Fq(new) = config else {
            return Err(ConfigError::WrongKind { have: "fq", got: config.kind() });
        };
        new.check()?;
        self.config = new.clone();
        let _ = now;
        while self.stats.qlen > u64::from(self.config.limit) {
            // Whatever is first in its flow goes, as Linux's `fq_change` does.
            let Some(flow) =
                [self.new.first, self.old.first].into_iter().find(|&f| f != NIL && self.flows.get(f).head != NIL)
            else {
                let mut rest = self.drain();
                let keep = rest.len().min(self.config.limit as usize);
                for packet in rest.drain(keep..) {
                    self.drop_packet(packet, DropReason::QdiscLimit, dropped);
                }
                for packet in rest {
                    self.enqueue(packet, now, &mut stackd_base::SplitMix64::new(0), dropped);
                }
                return Ok(());
            };
            let head = self.flows.get(flow).head;
            if let Some((packet, len, _, next)) = self.pool.remove(head) {
                let f = self.flows.get_mut(flow);
                f.head = next;
                f.qlen -= 1;
                self.stats.removed(len);
                self.drop_packet(packet, DropReason::QdiscLimit, dropped);
            }
        }
        Ok(())
    }
}
