//! What the shell sees of sockets: readiness, events, configuration.

use crate::store::OwnerId;
use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign, Not};
use stackd_base::{ShardId, SockId};

/// Linux's `EPOLL*` bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Readiness(pub u32);

impl Readiness {
    /// Nothing.
    pub const EMPTY: Self = Self(0);
    /// Data, a connection to accept, or end of file (`EPOLLIN`).
    pub const IN: Self = Self(0x001);
    /// Urgent data (`EPOLLPRI`).
    pub const PRI: Self = Self(0x002);
    /// Space to write (`EPOLLOUT`).
    pub const OUT: Self = Self(0x004);
    /// An error is pending (`EPOLLERR`).
    pub const ERR: Self = Self(0x008);
    /// Both directions are shut (`EPOLLHUP`).
    pub const HUP: Self = Self(0x010);
    /// The peer's FIN was taken in, whatever became of the connection since (Linux's `SOCK_DONE`). No bit of `poll(2)`: for those who read.
    pub const FIN: Self = Self(0x4000_0000);
    /// `EPOLLRDNORM`.
    pub const RDNORM: Self = Self(0x040);
    /// `EPOLLWRNORM`.
    pub const WRNORM: Self = Self(0x100);
    /// The peer will send no more (`EPOLLRDHUP`).
    pub const RDHUP: Self = Self(0x2000);

    /// True when all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// True when any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    /// True when nothing is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Readiness {
    type Output = Self;
    fn bitor(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
}
impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, o: Self) {
        self.0 |= o.0;
    }
}
impl BitAnd for Readiness {
    type Output = Self;
    fn bitand(self, o: Self) -> Self {
        Self(self.0 & o.0)
    }
}
impl Not for Readiness {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u32, &str); 8] = [
            (0x001, "IN"),
            (0x002, "PRI"),
            (0x004, "OUT"),
            (0x008, "ERR"),
            (0x010, "HUP"),
            (0x040, "RDNORM"),
            (0x100, "WRNORM"),
            (0x2000, "RDHUP"),
        ];
        let mut set = f.debug_set();
        for (bit, name) in NAMES {
            if self.0 & bit != 0 {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

/// A socket's readiness is now this. A socket has at most one event queued: the latest state wins and edges add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SockEvent {
    /// Which socket.
    pub sock: SockId,
    /// Whose.
    pub owner: OwnerId,
    /// All bits that hold now: what `poll` would say.
    pub readiness: Readiness,
    /// Bits that were set afresh since the last event, set before or not: what wakes an edge-triggered waiter (new data on a
    /// socket that already was readable).
    pub edges: Readiness,
}

/// `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Domain {
    /// `AF_INET` (2).
    V4,
    /// `AF_INET6` (10).
    V6,
}

/// `SOCK_STREAM` or `SOCK_DGRAM`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SocketKind {
    /// TCP.
    Stream,
    /// UDP.
    Dgram,
}

/// `how` of `shutdown(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

/// What a stack is told at birth.
#[derive(Clone, Copy, Debug)]
pub struct StackConfig {
    /// This shard.
    pub shard: ShardId,
    /// How many shards there are: an active open picks a local port whose flow belongs to `shard`
    /// (`flow_shard(local, remote, shards)`).
    pub shards: u8,
    /// Most sockets of this shard.
    pub max_sockets: usize,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self { shard: ShardId(0), shards: 1, max_sockets: 4 << 20 }
    }
}
