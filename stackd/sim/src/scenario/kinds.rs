//! Ingredients of a scenario.

use crate::loss::{GilbertElliott, Probability};
use crate::net::app::{Ending, Plan};
use crate::net::middlebox::Strip;
use stackd_base::{Duration, Instant};

/// Something wrong with the network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Impairment {
    /// What `--without` calls it.
    pub label: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What an impairment is. Those of the bottleneck act on both of its directions, with separate luck.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Random loss: rightwards, leftwards.
    Loss(Probability, Probability),
    /// Bursts of loss.
    Burst(GilbertElliott),
    /// Segments overtaken, and for how long they are held.
    Reorder(Probability, Duration),
    /// Segments doubled.
    Duplicate(Probability),
    /// Segments with a changed octet.
    Corrupt(Probability),
    /// Added to the delay.
    Jitter(Duration),
    /// A queue of so many bytes.
    Queue(u64),
    /// A queue that marks CE from this delay on.
    MarkingQueue(Duration),
    /// A middlebox, in front of the bottleneck (seen from the left) or behind it.
    Box {
        /// In front.
        before: bool,
        /// Which.
        kind: BoxKind,
    },
}

/// Middleboxes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BoxKind {
    /// Address translation.
    Nat,
    /// Options out of SYNs.
    Strip(Strip),
    /// One pure ACK in so many; blind to what it says.
    ThinAcks(u32, bool),
    /// Pure ACKs in bunches.
    CompressAcks(Duration),
    /// Segments cut.
    Split(usize),
    /// Segments joined.
    Join(usize, Duration),
    /// ECN cleared.
    Bleach,
    /// CE at random.
    Mark(Probability),
    /// A smaller MTU that nobody is told of, from a time on.
    BlackHole(usize, Instant),
    /// A smaller MTU, from a time on.
    SmallMtu(usize, Instant),
    /// Down for a while; keeps what comes meanwhile.
    Outage(Instant, Instant, bool),
}

/// One kind of connection between two hosts.
#[derive(Clone, PartialEq, Debug)]
pub struct Flow {
    /// Number: the port is 5000 more.
    pub id: u16,
    /// Which client, which server.
    pub hosts: (u8, u8),
    /// How many at once.
    pub connections: u16,
    /// When it begins.
    pub start: Instant,
    /// Both ends connect.
    pub simultaneous: bool,
    /// What the side that connects does.
    pub client: Plan,
    /// What the other side does.
    pub server: Plan,
}

/// How a flow ought to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEnd {
    /// All bytes both ways, in order, and an orderly close.
    Complete,
    /// It must end; what was read is a beginning of what was written.
    Ends,
}

impl Flow {
    /// Both programs are polite.
    pub fn is_polite(&self) -> bool {
        self.client.ending == Ending::Polite && self.server.ending == Ending::Polite
    }
}
