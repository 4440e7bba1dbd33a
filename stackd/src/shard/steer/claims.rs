//! Local ports by shard: one table that all shards read, and each shard's count of what it claimed in it.

use super::Shards;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PORTS: usize = 1 << 16;

/// One protocol's ports. Words are sets of shards.
#[derive(Debug, Default)]
struct Table {
    /// A socket there is bound to the port.
    bound: Box<[AtomicU64]>,
    /// Of those: all its bound sockets have SO_REUSEPORT.
    shares: Box<[AtomicU64]>,
    /// Accepted connections there have the port.
    accepted: Box<[AtomicU64]>,
}

impl Table {
    fn new() -> Self {
        let words = || (0..PORTS).map(|_| AtomicU64::new(0)).collect();
        Self { bound: words(), shares: words(), accepted: words() }
    }
}

/// The claims of all shards. A claim is made before the first frame that depends on it can arrive (the call that binds answers
/// afterwards), so relaxed loads are enough: a frame that races with the call could as well have come before it.
#[derive(Debug)]
pub struct Steering {
    shards: u8,
    tcp: Table,
    udp: Table,
}

impl Steering {
    /// Nothing claimed yet.
    pub fn new(shards: u8) -> Self {
        let table = || if shards > 1 { Table::new() } else { Table::default() };
        Self { shards, tcp: table(), udp: table() }
    }

    /// Whether there is anything to steer.
    pub fn is_needed(&self) -> bool {
        self.shards > 1
    }

    pub(super) fn shards(&self) -> u8 {
        self.shards
    }

    /// Shards with sockets bound to a port, and those with accepted connections on it.
    pub(super) fn claimants(&self, tcp: bool, port: u16) -> (Shards, Shards) {
        let (table, at) = (self.table(tcp), usize::from(port));
        let load = |words: &[AtomicU64]| words.get(at).map_or(0, |w| w.load(Ordering::Relaxed));
        (load(&table.bound), load(&table.accepted))
    }

    fn table(&self, tcp: bool) -> &Table {
        if tcp { &self.tcp } else { &self.udp }
    }
}

/// What a socket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// TCP; else UDP.
    pub tcp: bool,
    /// The local port.
    pub port: u16,
    /// How.
    pub kind: ClaimKind,
}

/// How a socket holds its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// It is bound.
    Bound {
        /// With SO_REUSEPORT.
        shares: bool,
    },
    /// A listener had the port and it was accepted from it.
    Accepted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    bound: u32,
    shares: u32,
    accepted: u32,
}

/// One shard's side of the table.
#[derive(Debug)]
pub struct Claims {
    steering: Arc<Steering>,
    shard: u8,
    counts: HashMap<(bool, u16), Count>,
}

impl Claims {
    /// Nothing claimed. `shard` is below 64: a word has so many bits.
    pub fn new(steering: Arc<Steering>, shard: u8) -> Self {
        Self { steering, shard, counts: HashMap::new() }
    }

    /// Holds a port for one more socket. False: a socket of another shard is bound there, and one of the two does not share.
    ///
    /// Between shards a port conflicts whatever the addresses: which of a port's sockets has which address is known to their
    /// shards alone.
    pub fn claim(&mut self, claim: Claim) -> bool {
        let Claim { tcp, port, kind } = claim;
        let me: Shards = 1 << self.shard;
        let table = self.steering.table(tcp);
        let at = usize::from(port);
        let (Some(bound), Some(shares), Some(accepted)) =
            (table.bound.get(at), table.shares.get(at), table.accepted.get(at))
        else {
            return true;
        };
        let count = self.counts.entry((tcp, port)).or_default();
        match kind {
            ClaimKind::Accepted => {
                count.accepted += 1;
                accepted.fetch_or(me, Ordering::Relaxed);
            }
            ClaimKind::Bound { shares: sharing } => {
                let share_all = sharing && count.bound == count.shares;
                // Said before the claim is visible, so that another sharer that sees the claim sees this too.
                set(shares, me, share_all);
                let free = bound.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |w| {
                    let others = w & !me;
                    let fine = others == 0 || sharing && others & !shares.load(Ordering::SeqCst) == 0;
                    fine.then_some(w | me)
                });
                if free.is_err() {
                    set(shares, me, count.bound > 0 && count.bound == count.shares);
                    self.forget_empty(tcp, port);
                    return false;
                }
                count.bound += 1;
                count.shares += u32::from(sharing);
            }
        }
        true
    }

    /// Gives one claim back.
    pub fn release(&mut self, claim: Claim) {
        let Claim { tcp, port, kind } = claim;
        let me: Shards = 1 << self.shard;
        let table = self.steering.table(tcp);
        let at = usize::from(port);
        let (Some(bound), Some(shares), Some(accepted)) =
            (table.bound.get(at), table.shares.get(at), table.accepted.get(at))
        else {
            return;
        };
        let Some(count) = self.counts.get_mut(&(tcp, port)) else { return };
        match kind {
            ClaimKind::Accepted => {
                count.accepted = count.accepted.saturating_sub(1);
                set(accepted, me, count.accepted > 0);
            }
            ClaimKind::Bound { shares: sharing } => {
                count.bound = count.bound.saturating_sub(1);
                count.shares = count.shares.saturating_sub(u32::from(sharing));
                // The claim goes first: a port that looks bound must not look shared because of a socket that is gone.
                set(bound, me, count.bound > 0);
                set(shares, me, count.bound > 0 && count.bound == count.shares);
            }
        }
        self.forget_empty(tcp, port);
    }

    fn forget_empty(&mut self, tcp: bool, port: u16) {
        if self.counts.get(&(tcp, port)).is_some_and(|c| c.bound == 0 && c.accepted == 0) {
            self.counts.remove(&(tcp, port));
        }
    }
}

fn set(word: &AtomicU64, bit: Shards, on: bool) {
    if on {
        word.fetch_or(bit, Ordering::SeqCst);
    } else {
        word.fetch_and(!bit, Ordering::SeqCst);
    }
}
