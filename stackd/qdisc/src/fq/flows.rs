//! Flows: a slab, and a table from flow hash to slot. One cache line a flow, eight bytes a table entry.

use crate::pool::NIL;

/// Where a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The slot is free.
    Free,
    /// On no list: it has no packets.
    Detached,
    /// On the list of new or old flows.
    Listed,
    /// In the timers.
    Throttled,
}

/// One flow.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Flow {
    pub hash: u64,
    /// Earliest time of its next packet, nanoseconds.
    pub time_next: u64,
    /// When it was detached.
    pub age: u64,
    /// First and last packet.
    pub head: u32,
    pub tail: u32,
    pub qlen: u32,
    /// Bytes it may still send in this round.
    pub credit: i64,
    /// Next in its list.
    pub next: u32,
    pub place: Place,
}

/// A list of flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub first: u32,
    pub last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NIL, last: NIL };
}

/// All flows.
#[derive(Debug)]
pub(super) struct Flows {
    flows: Vec<Flow>,
    free: u32,
    used: usize,
    /// (tag, flow) by linear probing; a power of two long, at most half full.
    table: Vec<(u32, u32)>,
    /// Where the sweep for idle flows goes on.
    hand: usize,
}

/// Spreads hashes that differ in few bits (Fibonacci hashing): (tag, home position).
const fn mix(hash: u64) -> (u32, usize) {
    let h = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (h as u32, (h >> 20) as usize)
}

impl Flows {
    pub(super) fn new(buckets: u32) -> Self {
        let size = (buckets as usize).clamp(8, 1 << 24).next_power_of_two() * 2;
        Self { flows: Vec::new(), free: NIL, used: 0, table: vec![(0, NIL); size], hand: 0 }
    }
    pub(super) const fn len(&self) -> usize {
        self.used
    }
    pub(super) fn get(&self, at: u32) -> &Flow {
        &self.flows[at as usize]
    }
    pub(super) fn get_mut(&mut self, at: u32) -> &mut Flow {
        &mut self.flows[at as usize]
    }

    /// The flow of `hash`, if it is known.
    pub(super) fn find(&self, hash: u64) -> Option<u32> {
        let (tag, home) = mix(hash);
        let mask = self.table.len() - 1;
        let mut at = home & mask;
        loop {
            let (t, flow) = self.table[at];
            if flow == NIL {
                return None;
            }
            if t == tag && self.flows[flow as usize].hash == hash {
                return Some(flow);
            }
            at = (at + 1) & mask;
        }
    }

    /// A new, detached flow. `hash` must not be known yet.
    pub(super) fn insert(&mut self, hash: u64, credit: i64) -> u32 {
        if (self.used + 1) * 2 > self.table.len() {
            self.grow();
        }
        let flow = Flow {
            hash,
            time_next: 0,
            age: 0,
            head: NIL,
            tail: NIL,
            qlen: 0,
            credit,
            next: NIL,
            place: Place::Detached,
        };
        let at = if self.free == NIL {
            self.flows.push(flow);
            (self.flows.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.flows[at as usize].next;
            self.flows[at as usize] = flow;
            at
        };
        self.used += 1;
        self.place_in_table(hash, at);
        at
    }

    fn place_in_table(&mut self, hash: u64, flow: u32) {
        let (tag, home) = mix(hash);
        let mask = self.table.len() - 1;
        let mut at = home & mask;
        while self.table[at].1 != NIL {
            at = (at + 1) & mask;
        }
        self.table[at] = (tag, flow);
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        self.table = vec![(0, NIL); size];
        for at in 0..self.flows.len() {
            if self.flows[at].place != Place::Free {
                self.place_in_table(self.flows[at].hash, at as u32);
            }
        }
    }

    /// Forgets a detached flow.
    fn remove(&mut self, flow: u32) {
        let mask = self.table.len() - 1;
        let mut hole = mix(self.flows[flow as usize].hash).1 & mask;
        while self.table[hole].1 != flow {
            hole = (hole + 1) & mask;
        }
        // Backward shift: whatever the hole cut off from its home position moves into it.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.table[at];
            if entry.1 == NIL {
                break;
            }
            let home = mix(self.flows[entry.1 as usize].hash).1 & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.table[hole] = entry;
                hole = at;
            }
        }
        self.table[hole] = (0, NIL);
        let f = &mut self.flows[flow as usize];
        f.place = Place::Free;
        f.next = self.free;
        self.free = flow;
        self.used -= 1;
    }

    /// Looks at a few flows and forgets those detached since before `before`. Returns how many.
    pub(super) fn sweep(&mut self, before: u64) -> u64 {
        let mut gone = 0;
        for _ in 0..4.min(self.flows.len()) {
            self.hand = if self.hand + 1 >= self.flows.len() { 0 } else { self.hand + 1 };
            let f = &self.flows[self.hand];
            if f.place == Place::Detached && f.age < before {
                self.remove(self.hand as u32);
                gone += 1;
            }
        }
        gone
    }

    /// Appends to a list.
    pub(super) fn push(&mut self, list: &mut List, flow: u32) {
        let f = &mut self.flows[flow as usize];
        f.next = NIL;
        f.place = Place::Listed;
        if list.first == NIL {
            list.first = flow;
        } else {
            self.flows[list.last as usize].next = flow;
        }
        list.last = flow;
    }

    /// Takes the first of a list off.
    pub(super) fn pop(&self, list: &mut List) {
        if list.first != NIL {
            list.first = self.flows[list.first as usize].next;
        }
    }
}
