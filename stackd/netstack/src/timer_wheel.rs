//! Timers of a million sockets: a hierarchical wheel for the far, a heap for the near.
//!
//! A key (a socket's slot) has at most one deadline. Arming, moving and cancelling cost O(1) in the wheel. Entries due within
//! the current tick move to a small heap that orders them to the nanosecond, so that a pacing deadline 3 us away is exact while a
//! keepalive two hours away costs a list node. Pushing a deadline *back*, what every ACK does to the RTO, touches no list:
//! the node stays where it is filed and is filed again when its bucket comes up.

use core::cmp::Reverse;
use stackd_base::Instant;
use std::collections::BinaryHeap;

/// log2 of the tick of the lowest level, in nanoseconds: 2^17 ns = 131 us.
const TICK_SHIFT: u32 = 17;
/// log2 of buckets a level.
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
/// Six levels of 64 buckets reach 2^(17 + 36) ns = 104 days; what lies beyond waits in the last bucket and is filed again.
const LEVELS: usize = 6;
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filed {
    No,
    Near,
    Bucket(u16),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: Instant,
    /// When the entry will be looked at; never later than `deadline`.
    filed_at: Instant,
    filed: Filed,
    prev: u32,
    next: u32,
}

const IDLE: Node =
    Node { deadline: Instant::FAR_FUTURE, filed_at: Instant::FAR_FUTURE, filed: Filed::No, prev: NIL, next: NIL };

/// One deadline per key; keys are small integers (slots of a table).
///
/// Order of calls: `set` at any time; `pop_expired(now)` until `None`; then sleep until `next_deadline`.
#[derive(Debug)]
pub struct TimerWheel {
    nodes: Vec<Node>,
    heads: Box<[u32; SLOTS * LEVELS]>,
    occupied: [u64; LEVELS],
    near: BinaryHeap<Reverse<(Instant, u32)>>,
    /// The tick whose entries are in the heap; buckets hold later ones only.
    tick: u64,
    armed: usize,
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new(Instant::ZERO)
    }
}

impl TimerWheel {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            nodes: Vec::new(),
            heads: Box::new([NIL; SLOTS * LEVELS]),
            occupied: [0; LEVELS],
            near: BinaryHeap::new(),
            tick: tick_of(now),
            armed: 0,
        }
    }

    /// Keys that have a deadline.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// True when no key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The deadline of `key`, if it has one.
    pub fn get(&self, key: u32) -> Option<Instant> {
        self.nodes.get(key as usize).filter(|n| n.filed != Filed::No).map(|n| n.deadline)
    }

    /// Gives `key` a deadline, or moves the one it has; `None` takes it away.
    pub fn set(&mut self, key: u32, deadline: Option<Instant>) {
        let at = key as usize;
        let Some(deadline) = deadline.filter(|&d| d != Instant::FAR_FUTURE) else {
            if at < self.nodes.len() {
                self.remove(key);
                self.drop_stale();
            }
            return;
        };
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, IDLE);
        }
        let node = &mut self.nodes[at];
        if node.filed != Filed::No && deadline >= node.filed_at {
            node.deadline = deadline;
            return;
        }
        self.remove(key);
        self.nodes[at].deadline = deadline;
        self.file(key);
        self.drop_stale();
    }

    /// Takes out one key whose deadline is not later than `now`. Earlier deadlines come first.
    pub fn pop_expired(&mut self, now: Instant) -> Option<u32> {
        self.advance(now);
        loop {
            let &Reverse((at, key)) = self.near.peek()?;
            if at > now {
                return None;
            }
            self.near.pop();
            let node = self.nodes[key as usize];
            if node.filed != Filed::Near || node.filed_at != at {
                continue;
            }
            self.nodes[key as usize].filed = Filed::No;
            self.armed -= 1;
            if node.deadline <= now {
                self.nodes[key as usize] = IDLE;
                self.drop_stale();
                return Some(key);
            }
            self.file(key);
        }
    }

    /// When to call `pop_expired` next: never later than the earliest deadline, and exact when that lies in the current tick.
    /// (A far bucket may ask for a look before its entries are due, at most once a level.)
    pub fn next_deadline(&self) -> Option<Instant> {
        let near = self.near.peek().map(|&Reverse((at, _))| at);
        let far = self.next_bucket().map(|tick| Instant::from_nanos(tick << TICK_SHIFT));
        match (near, far) {
            (Some(a), Some(b)) => Some(if a < b { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// Empties every bucket whose time came, in order.
    fn advance(&mut self, now: Instant) {
        let target = tick_of(now);
        while let Some(tick) = self.next_bucket().filter(|&t| t <= target) {
            self.tick = tick;
            // Several levels may have a bucket that begins at this tick, and a bucket at the current position would count as
            // one a full turn away: empty all of them. Nothing is ever filed at the current position.
            for level in 0..LEVELS {
                let shift = LEVEL_BITS * level as u32;
                let slot = (tick >> shift) as usize & (SLOTS - 1);
                if tick & ((1 << shift) - 1) == 0 && self.occupied[level] & 1 << slot != 0 {
                    self.refile(level, slot);
                }
            }
        }
        self.tick = self.tick.max(target);
    }

    /// The tick at which the first occupied bucket begins.
    fn next_bucket(&self) -> Option<u64> {
        let begins = self.occupied.iter().enumerate().filter(|&(_, &mask)| mask != 0).map(|(level, mask)| {
            let shift = LEVEL_BITS * level as u32;
            let here = self.tick >> shift;
            // Buckets are a circle that starts behind the current position.
            let start = ((here + 1) & (SLOTS as u64 - 1)) as u32;
            let ahead = u64::from(mask.rotate_right(start).trailing_zeros()) + 1;
            (here + ahead) << shift
        });
        begins.min()
    }

    fn refile(&mut self, level: usize, slot: usize) {
        let mut key = core::mem::replace(&mut self.heads[level * SLOTS + slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while key != NIL {
            let node = &mut self.nodes[key as usize];
            let next = node.next;
            (node.prev, node.next, node.filed) = (NIL, NIL, Filed::No);
            self.armed -= 1;
            self.file(key);
            key = next;
        }
    }

    /// Files a key that is filed nowhere, by its `deadline`.
    fn file(&mut self, key: u32) {
        self.armed += 1;
        let deadline = self.nodes[key as usize].deadline;
        let tick = tick_of(deadline);
        let ahead = tick.saturating_sub(self.tick);
        if ahead == 0 {
            let node = &mut self.nodes[key as usize];
            (node.filed, node.filed_at) = (Filed::Near, deadline);
            self.near.push(Reverse((deadline, key)));
            return;
        }
        let level = (((63 - ahead.leading_zeros()) / LEVEL_BITS) as usize).min(LEVELS - 1);
        let shift = LEVEL_BITS * level as u32;
        // Rounded down, and never the current position (that is a full turn away) nor beyond one turn.
        let here = self.tick >> shift;
        let position = (tick >> shift).clamp(here + 1, here + SLOTS as u64 - 1);
        let slot = (position & (SLOTS as u64 - 1)) as usize;
        let bucket = level * SLOTS + slot;
        let head = core::mem::replace(&mut self.heads[bucket], key);
        if head != NIL {
            self.nodes[head as usize].prev = key;
        }
        self.occupied[level] |= 1 << slot;
        let node = &mut self.nodes[key as usize];
        (node.prev, node.next) = (NIL, head);
        node.filed = Filed::Bucket(bucket as u16);
        node.filed_at = Instant::from_nanos((position << shift) << TICK_SHIFT).min(deadline);
    }

    fn remove(&mut self, key: u32) {
        let node = self.nodes[key as usize];
        match node.filed {
            Filed::No => return,
            // Its heap entry is stale from now on and is dropped when it comes to the top.
            Filed::Near => {}
            Filed::Bucket(bucket) => {
                if node.next != NIL {
                    self.nodes[node.next as usize].prev = node.prev;
                }
                if node.prev != NIL {
                    self.nodes[node.prev as usize].next = node.next;
                } else {
                    self.heads[usize::from(bucket)] = node.next;
                    if node.next == NIL {
                        self.occupied[usize::from(bucket) / SLOTS] &= !(1 << (usize::from(bucket) % SLOTS));
                    }
                }
            }
        }
        self.nodes[key as usize] = IDLE;
        self.armed -= 1;
    }

    /// Keeps the top of the heap true, so that `next_deadline` needs no search.
    fn drop_stale(&mut self) {
        while let Some(&Reverse((at, key))) = self.near.peek() {
            let node = &self.nodes[key as usize];
            if node.filed == Filed::Near && node.filed_at == at {
                break;
            }
            self.near.pop();
        }
    }
}

const fn tick_of(at: Instant) -> u64 {
    at.as_nanos() >> TICK_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::{Duration, Rng, SplitMix64};
    use std::collections::BTreeMap;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    #[test]
    fn near_deadlines_are_exact_to_the_nanosecond() {
        let mut w = TimerWheel::new(at(1_000_000));
        w.set(1, Some(at(1_003_000)));
        w.set(2, Some(at(1_003_001)));
        assert_eq!(w.next_deadline(), Some(at(1_003_000)));
        assert_eq!(w.pop_expired(at(1_002_999)), None);
        assert_eq!(w.pop_expired(at(1_003_000)), Some(1));
        assert_eq!(w.pop_expired(at(1_003_000)), None);
        assert_eq!(w.next_deadline(), Some(at(1_003_001)));
        w.set(2, None);
        assert_eq!((w.next_deadline(), w.len()), (None, 0));
    }

    #[test]
    fn pushing_a_deadline_back_does_not_fire_early() {
        let mut w = TimerWheel::default();
        w.set(7, Some(at(200_000_000)));
        w.set(7, Some(at(400_000_000)));
        assert_eq!(w.pop_expired(at(399_999_999)), None);
        assert_eq!(w.pop_expired(at(400_000_000)), Some(7));
    }

    /// Against a sorted map: what expires and when, over deadlines from nanoseconds to years, with moves and cancellations,
    /// and driven by `next_deadline` alone, which therefore must never be late.
    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..40 {
            let mut rng = SplitMix64::new(seed);
            let (mut wheel, mut model) = (TimerWheel::default(), BTreeMap::<u32, Instant>::new());
            let mut now = Instant::ZERO;
            for _ in 0..600 {
                for _ in 0..rng.below(4) {
                    let key = rng.below(50);
                    if rng.below(8) == 0 {
                        wheel.set(key, None);
                        model.remove(&key);
                    } else {
                        let span = rng.next_u64() >> (8 + rng.below(54));
                        wheel.set(key, Some(now + Duration::from_nanos(span)));
                        model.insert(key, now + Duration::from_nanos(span));
                    }
                }
                assert_eq!(wheel.len(), model.len());
                let earliest = model.values().min().copied();
                match (wheel.next_deadline(), earliest) {
                    (Some(wake), Some(due)) => {
                        assert!(wake <= due, "seed {seed}: {wake:?} is later than {due:?}");
                        now = if wake > now { wake } else { now };
                    }
                    (None, None) => continue,
                    other => panic!("seed {seed}: {other:?}"),
                }
                let mut expired = Vec::new();
                while let Some(key) = wheel.pop_expired(now) {
                    expired.push(key);
                }
                let mut due: Vec<_> = model.iter().filter(|&(_, &d)| d <= now).map(|(&k, _)| k).collect();
                model.retain(|_, d| *d > now);
                expired.sort_unstable();
                due.sort_unstable();
                assert_eq!(expired, due, "seed {seed} at {now:?}");
            }
        }
    }
}
