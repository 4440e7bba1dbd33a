//! What stands between two hosts and does not leave packets as they are.

mod acks;
mod ecn;
mod mtu;
mod nat;
mod options;
mod outage;
mod segments;

pub use acks::{AckCompressor, AckThinner};
pub use ecn::{Bleacher, Marker};
pub use mtu::{BlackHole, PoliteRouter};
pub use nat::Nat;
pub use options::{OptionStripper, Strip};
pub use outage::Outage;
pub use segments::{Coalescer, Splitter};

use super::packet::IpPacket;
use stackd_base::Instant;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    /// From a client to a server.
    Right = 0,
    /// Back.
    Left = 1,
}

impl Dir {
    /// The other way.
    pub const fn back(self) -> Self {
        match self {
            Self::Right => Self::Left,
            Self::Left => Self::Right,
        }
    }
}

/// Packets that leave a middlebox, and which way.
pub type Emitted = Vec<(Dir, IpPacket)>;

/// A middlebox on the path. Both directions pass the same one.
pub trait Middlebox: std::fmt::Debug + Send {
    /// A packet came, on its way in `dir`.
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted);
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    /// What was held back may leave.
    fn handle_timeout(&mut self, now: Instant, out: &mut Emitted) {
        let _ = (now, out);
    }
}
