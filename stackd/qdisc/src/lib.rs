//! Queueing disciplines behind one trait.
//!
//! A qdisc is generic over the packet it queues: the daemon queues descriptors (headers plus a range of a send buffer),
//! the simulator whatever it likes. It never looks at payload.
#![forbid(unsafe_code)]

mod build;
pub mod config;
pub mod fifo;
pub mod fq;
pub mod netem;
mod pool;
#[cfg(test)]
mod queue_tests;
mod stats;
pub mod tbf;
#[cfg(test)]
mod toy;

pub use build::{build, replace};
pub use config::{ConfigError, QdiscConfig};
pub use stats::{FqStats, KindStats, QdiscStats};

use stackd_base::{DropReason, Instant, Rng};

/// What a qdisc has to know about a packet.
pub trait QueuedPacket: Sized {
    /// Bytes on the wire, link-layer header included, over all segments of a GSO frame (headers repeated per segment, as `qdisc_pkt_len`).
    fn wire_len(&self) -> u32;
    /// Segments the device will make of it (1 when it is not GSO).
    fn segments(&self) -> u32;
    /// Hash of the flow: same socket, same value (Linux's `skb->sk` hash).
    fn flow_hash(&self) -> u64;
    /// Earliest departure time; `None` = at once.
    fn departure(&self) -> Option<Instant>;
    /// Whether a local socket sent it. Packets without one share flows under fq's `orphan_mask`.
    fn has_socket(&self) -> bool {
        true
    }
    /// Priority (`skb->priority`, TC_PRIO_*; 7 = control bypasses fq's flow queues).
    fn priority(&self) -> u8;
    /// Rate this socket asked for with `SO_MAX_PACING_RATE` in bytes/s; `u64::MAX` = none.
    fn max_pacing_rate(&self) -> u64;
    /// Whether ECN may mark it (ECT set).
    fn ecn_capable(&self) -> bool;
    /// Sets CE. Only called when `ecn_capable`.
    fn mark_ce(&mut self);
    /// Cuts the first segment off a GSO packet: returns it, and leaves the rest in `self`. `None` when it is one segment.
    fn split_first(&mut self) -> Option<Self>;
    /// An identical packet (netem's duplicate), or `None` when that cannot be made.
    fn duplicate(&self) -> Option<Self>;
    /// Flips one payload or header bit chosen by `random` (netem's corruption).
    fn corrupt(&mut self, random: u64);
}

/// A packet that the qdisc gave up, with its one reason.
#[derive(Debug)]
pub struct Dropped<P> {
    /// The packet: its owner must be told (small-queue accounting).
    pub packet: P,
    /// Why.
    pub reason: DropReason,
}

/// A queueing discipline.
///
/// Order of calls: `enqueue` any number of times, then `dequeue` until it returns `None`, then sleep until `next_deadline`.
pub trait Qdisc<P: QueuedPacket>: core::fmt::Debug + Send {
    /// Kind as in `tc` ("fq", "pfifo_fast", "netem", "tbf").
    fn kind(&self) -> &'static str;
    /// Takes a packet in. Packets given up (this one or older ones) are pushed to `dropped`.
    fn enqueue(&mut self, packet: P, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>);
    /// The next packet that may leave now.
    fn dequeue(&mut self, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) -> Option<P>;
    /// When `dequeue` would next return something, if nothing else happens: `None` = queue empty; a time in the past = now.
    fn next_deadline(&self) -> Option<Instant>;
    /// Packets queued.
    fn len(&self) -> usize;
    /// True when nothing is queued.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Takes every queued packet out, in departure order, for a replacing qdisc.
    fn drain(&mut self) -> Vec<P>;
    /// Whether it honours departure times (fq): sockets then leave pacing to it.
    fn paces(&self) -> bool;
    /// Its parameters; `None` for a kind that is not configurable.
    fn config(&self) -> Option<QdiscConfig> {
        None
    }
    /// Counters since it was made.
    fn stats(&self) -> QdiscStats {
        QdiscStats { qlen: self.len() as u64, ..QdiscStats::default() }
    }
    /// Takes new parameters of the same kind and keeps the queue. Packets over a lowered limit go to `dropped`.
    fn change(&mut self, config: &QdiscConfig, now: Instant, dropped: &mut Vec<Dropped<P>>) -> Result<(), ConfigError> {
        let _ = (now, dropped);
        Err(ConfigError::WrongKind { have: self.kind(), got: config.kind() })
    }
}
