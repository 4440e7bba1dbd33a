//! netem: a path with delay, jitter, loss, duplication, corruption, reordering and a rate.
//!
//! Decisions are made per segment: a GSO packet is cut first, or 1 % loss of 64 KiB bursts would be called 1 % loss of packets. Only a
//! plain delay keeps it whole, for then all its segments fare alike.

mod random;
#[cfg(test)]
mod tests;

use crate::config::{ConfigError, Loss, NetemConfig, QdiscConfig};
use crate::{Dropped, Qdisc, QdiscStats, QueuedPacket};
use core::cmp::Ordering;
use random::{Correlated, LossChain, delay, threshold};
use stackd_base::{DropReason, Instant, Rng, SplitMix64};
use std::collections::BinaryHeap;

/// A segment under way; the heap's largest is the one that arrives first.
#[derive(Debug)]
struct InFlight<P> {
    at: Instant,
    seq: u64,
    packet: P,
}

impl<P> PartialEq for InFlight<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<P> Eq for InFlight<P> {}
impl<P> PartialOrd for InFlight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for InFlight<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// The qdisc.
#[derive(Debug)]
pub struct Netem<P> {
    config: NetemConfig,
    heap: BinaryHeap<InFlight<P>>,
    seq: u64,
    /// When the emulated link has sent what was put on it.
    link_free: Instant,
    /// Segments since one was let past.
    counter: u32,
    seeded: Option<SplitMix64>,
    chain: LossChain,
    delays: Correlated,
    losses: Correlated,
    duplicates: Correlated,
    corruptions: Correlated,
    reorders: Correlated,
    stats: QdiscStats,
}

impl<P: QueuedPacket> Netem<P> {
    /// An empty path.
    pub fn new(config: NetemConfig) -> Self {
        Self {
            seeded: config.seed.map(SplitMix64::new),
            delays: Correlated::new(config.delay_correlation),
            losses: match config.loss {
                Loss::Random(c) => Correlated::new(c.correlation),
                Loss::State(_) | Loss::Gemodel(_) => Correlated::new(0.0),
            },
            duplicates: Correlated::new(config.duplicate.correlation),
            corruptions: Correlated::new(config.corrupt.correlation),
            reorders: Correlated::new(config.reorder.correlation),
            config,
            heap: BinaryHeap::new(),
            seq: 0,
            link_free: Instant::ZERO,
            counter: 0,
            chain: LossChain::default(),
            stats: QdiscStats::default(),
        }
    }

    fn keeps_whole(&self) -> bool {
        let c = &self.config;
        let lossless = matches!(c.loss, Loss::Random(l) if l.percent == 0.0);
        lossless
            && c.jitter.is_zero()
            && c.rate.is_zero()
            && c.gap == 0
            && c.duplicate.percent + c.corrupt.percent == 0.0
    }

    fn loses(&mut self, rng: &mut dyn Rng) -> bool {
        match self.config.loss {
            Loss::Random(c) => c.percent > 0.0 && self.losses.next(rng) <= threshold(c.percent),
            Loss::State(p) => self.chain.four_state(p, rng),
            Loss::Gemodel(p) => self.chain.gilbert_elliott(p, rng),
        }
    }

    fn take_segment(&mut self, mut packet: P, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        let c = &self.config;
        let (dup, corrupt) = (c.duplicate.percent, c.corrupt.percent);
        let twice = dup > 0.0 && self.duplicates.next(rng) <= threshold(dup);
        let mut lost = self.loses(rng);
        if lost && self.config.ecn && packet.ecn_capable() {
            packet.mark_ce();
            lost = false;
        }
        let copy = if twice && !lost { packet.duplicate() } else { None };
        // One copy of a doubled segment is what a loss takes: the other arrives.
        if lost && !twice {
            self.stats.drops += 1;
            dropped.push(Dropped { packet, reason: DropReason::EmulatedLoss });
            return;
        }
        if corrupt > 0.0 && self.corruptions.next(rng) <= threshold(corrupt) {
            packet.corrupt(rng.next_u64());
        }
        self.send(packet, now, rng, dropped);
        if let Some(copy) = copy {
            self.send(copy, now, rng, dropped);
        }
    }

    fn send(&mut self, packet: P, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        if self.heap.len() >= self.config.limit as usize {
            self.stats.drops += 1;
            dropped.push(Dropped { packet, reason: DropReason::QdiscLimit });
            return;
        }
        let len = packet.wire_len();
        let c = &self.config;
        let (gap, reorder) = (c.gap, threshold(c.reorder.percent));
        let overtakes =
            gap != 0 && self.counter >= gap - 1 && c.reorder.percent > 0.0 && self.reorders.next(rng) <= reorder;
        let at = if overtakes {
            self.counter = 0;
            self.stats.requeues += 1;
            now
        } else {
            self.counter = self.counter.saturating_add(1);
            let mut left = now;
            let bytes = (i64::from(len) + i64::from(c.packet_overhead)).max(0) as u64;
            if let Some(time) = c.rate.transmission_time(bytes) {
                left = now.max(self.link_free) + time;
                self.link_free = left;
            }
            left + delay(&self.config, &mut self.delays, rng)
        };
        self.stats.queued(len);
        self.heap.push(InFlight { at, seq: self.seq, packet });
        self.seq += 1;
    }
}

impl<P: QueuedPacket + core::fmt::Debug + Send> Qdisc<P> for Netem<P> {
    fn kind(&self) -> &'static str {
        "netem"
    }
    fn enqueue(&mut self, mut packet: P, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        let mut own = self.seeded.take();
        let rng: &mut dyn Rng = match &mut own {
            Some(own) => own,
            None => rng,
        };
        if !self.keeps_whole() {
            while packet.segments() > 1 {
                match packet.split_first() {
                    Some(first) => self.take_segment(first, now, rng, dropped),
                    None => break,
                }
            }
        }
        self.take_segment(packet, now, rng, dropped);
        self.seeded = own;
    }
    fn dequeue(&mut self, now: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) -> Option<P> {
        if self.heap.peek()?.at > now {
            self.stats.overlimits += 1;
            return None;
        }
        let packet = self.heap.pop()?.packet;
        self.stats.sent(packet.wire_len(), packet.segments());
        Some(packet)
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|p| p.at)
    }
    fn len(&self) -> usize {
        self.heap.len()
    }
    fn drain(&mut self) -> Vec<P> {
        (self.stats.qlen, self.stats.backlog) = (0, 0);
        let mut all = Vec::with_capacity(self.heap.len());
        while let Some(p) = self.heap.pop() {
            all.push(p.packet);
        }
        all
    }
    fn paces(&self) -> bool {
        false
    }
    fn config(&self) -> Option<QdiscConfig> {
        Some(QdiscConfig::Netem(self.config.clone()))
    }
    fn stats(&self) -> QdiscStats {
        self.stats.clone()
    }
    fn change(&mut self, config: &QdiscConfig, _: Instant, _: &mut Vec<Dropped<P>>) -> Result<(), ConfigError> {
        let QdiscConfig::Netem(new) = config else {
            return Err(ConfigError::WrongKind { have: "netem", got: config.kind() });
        };
        // What is under way arrives as it was decided; the new parameters hold for what comes.
        let old = core::mem::replace(self, Self::new(new.clone()));
        (self.heap, self.seq, self.link_free, self.stats) = (old.heap, old.seq, old.link_free, old.stats);
        Ok(())
    }
}
