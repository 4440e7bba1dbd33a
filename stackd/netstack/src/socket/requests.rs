//! Half-open passive connections of a shard: Linux's request sockets.

use crate::demux::FlowKey;
use crate::timer_wheel::TimerWheel;
use slab::Slab;
use stackd_base::{Instant, SockId};
use stackd_tcp::Request;

/// Room that is kept when there are none.
const KEPT: usize = 256;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// Its four-tuple.
    pub flow: FlowKey,
    /// Whose it is.
    pub listener: SockId,
    /// What was said and answered.
    pub request: Request,
    /// KeyID and RNextKeyID of the SYN's TCP-AO option.
    pub keys: Option<(u8, u8)>,
    /// Bare ACKs forgotten for `TCP_DEFER_ACCEPT`.
    pub deferred: u8,
}

/// All of them.
#[derive(Debug, Default)]
pub struct RequestTable {
    entries: Slab<HalfOpen>,
    timers: TimerWheel,
}

impl RequestTable {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// The one with this index.
    pub fn get(&self, index: u32) -> Option<&HalfOpen> {
        self.entries.get(index as usize)
    }
    /// All, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &HalfOpen)> {
        self.entries.iter().map(|(i, e)| (i as u32, e))
    }
    /// A SYN was answered.
    pub fn insert(&mut self, entry: HalfOpen) -> u32 {
        let index = self.entries.insert(entry) as u32;
        self.timers.set(index, Some(entry.request.deadline()));
        index
    }
    /// Something changed about it.
    pub fn update(&mut self, index: u32, entry: HalfOpen) {
        if let Some(e) = self.entries.get_mut(index as usize) {
            *e = entry;
            self.timers.set(index, Some(entry.request.deadline()));
        }
    }
    /// It is over.
    pub fn remove(&mut self, index: u32) -> Option<HalfOpen> {
        self.timers.set(index, None);
        let entry = self.entries.try_remove(index as usize);
        // What a flood took is given back when it is over.
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            *self = Self::default();
        }
        entry
    }
    /// One whose SYN-ACK is to be repeated. Its timer is off until [`update`](Self::update).
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.timers.pop_expired(now)
    }
    /// When to look again.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of SYNs fills the queue with these: a connection would cost ten times as much.
    #[test]
    fn a_half_open_connection_costs_what_linuxs_request_sock_costs() {
        assert!(size_of::<HalfOpen>() <= 160, "{} bytes", size_of::<HalfOpen>());
    }
}
