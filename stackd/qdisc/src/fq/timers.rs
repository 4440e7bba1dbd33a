//! Throttled flows by departure time: a wheel of two levels in front of a sorted run.
//!
//! The flows of the current tick of 8 us are sorted, so that their order is exact to the nanosecond; flows throttled for less than a tick are in a heap. All others wait unsorted: in the tick's bucket when it lies in the current window of 33 ms, in the window's bucket when it lies in the next
//! 17 s, in a second heap beyond. A million throttled flows cost a few sequential writes each instead of a walk through a heap of 16 MB
//! (docs/decisions/0003-fq-timers.md has the numbers).
//!
//! A throttled flow leaves only when its time has come, so that no position has to be tracked.

use crate::pool::NIL;

/// log2 of nanoseconds of a tick, and of a window.
const TICK: u32 = 13;
const WINDOW: u32 = TICK + 12;
const TICKS: usize = 1 << (WINDOW - TICK);
const WINDOWS: usize = 512;
/// Entries that share a link: 256 bytes together.
const CHUNK: usize = 15;

/// (nanoseconds, flow).
pub(super) type Entry = (u64, u32);

/// Order: every entry of `run` and `near` is earlier than `near_end`, every other one is not. Entries of `ticks` lie in `window`, those of `windows` in the `WINDOWS - 1`
/// after it, those of `far` beyond.
#[derive(Debug)]
pub(super) struct Timers {
    /// The loaded tick, latest first.
    run: Vec<Entry>,
    /// What was throttled for less than a tick.
    near: Heap,
    near_end: u64,
    ticks: Buckets<TICKS, { TICKS / 64 }>,
    window: u64,
    windows: Buckets<WINDOWS, { WINDOWS / 64 }>,
    far: Heap,
    chunks: Chunks,
    /// The earliest time outside `near`; `u64::MAX`: there is none.
    later: u64,
    len: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            run: Vec::new(),
            near: Heap::default(),
            near_end: 0,
            ticks: Buckets::new(),
            window: 0,
            windows: Buckets::new(),
            far: Heap::default(),
            chunks: Chunks::default(),
            later: u64::MAX,
            len: 0,
        }
    }
}

impl Timers {
    pub(super) fn first(&self) -> Option<u64> {
        let run = self.run.last().map_or(u64::MAX, |e| e.0);
        let soon = run.min(self.near.first().unwrap_or(u64::MAX));
        (self.len > 0).then_some(soon.min(self.later))
    }
    pub(super) const fn len(&self) -> usize {
        self.len
    }
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Throttles `flow` until `time`.
    pub(super) fn push(&mut self, time: u64, flow: u32, now: u64) {
        if self.len == 0 {
            // Nothing is anywhere: the wheel may be turned to the present.
            self.window = self.window.max(now >> WINDOW);
            self.near_end = self.near_end.max(self.window << WINDOW);
        }
        self.len += 1;
        if time < self.near_end {
            return self.near.push((time, flow));
        }
        self.later = self.later.min(time);
        self.put((time, flow));
    }

    /// Puts an entry that is not for `near` where it belongs.
    fn put(&mut self, entry: Entry) {
        let window = entry.0 >> WINDOW;
        if window == self.window {
            self.ticks.push(&mut self.chunks, (entry.0 >> TICK) as usize % TICKS, entry);
        } else if window - self.window < WINDOWS as u64 {
            self.windows.push(&mut self.chunks, window as usize % WINDOWS, entry);
        } else {
            self.far.push(entry);
        }
    }

    /// The earliest flow, if its time is not later than `now`. `warm` is shown flows that will soon be returned.
    pub(super) fn pop_due(&mut self, now: u64, warm: impl FnOnce(&[Entry])) -> Option<Entry> {
        // Whatever is in `run` and `near` is earlier than what is not.
        if self.run.is_empty() && self.near.first().is_none() {
            if self.len == 0 || self.later > now {
                return None;
            }
            self.advance();
            warm(&self.run);
        }
        let run = self.run.last().map_or(u64::MAX, |e| e.0);
        let near = self.near.first().unwrap_or(u64::MAX);
        if run.min(near) > now {
            return None;
        }
        self.len -= 1;
        if run <= near { self.run.pop() } else { self.near.pop() }
    }

    /// Loads the tick of the earliest entry into `run`, which is empty.
    fn advance(&mut self) {
        let window = self.later >> WINDOW;
        if window != self.window {
            // The earliest entry lies in a later window: this one is empty.
            self.window = window;
            let mut chunk = self.windows.take(window as usize % WINDOWS);
            while let Some((entries, n)) = self.chunks.free(&mut chunk) {
                for entry in &entries[..n] {
                    self.ticks.push(&mut self.chunks, (entry.0 >> TICK) as usize % TICKS, *entry);
                }
            }
            while self.far.first().is_some_and(|t| (t >> WINDOW) - window < WINDOWS as u64) {
                if let Some(entry) = self.far.pop() {
                    self.put(entry);
                }
            }
        }
        let tick = self.later >> TICK;
        self.near_end = (tick + 1) << TICK;
        let mut chunk = self.ticks.take(tick as usize % TICKS);
        // The latest chunk comes first, so that a tick filled in order of time is in order here too.
        while let Some((entries, n)) = self.chunks.free(&mut chunk) {
            self.run.extend(entries[..n].iter().rev());
        }
        self.run.sort_unstable_by_key(|e| core::cmp::Reverse(e.0));
        self.later = self.earliest_later();
    }

    fn earliest_later(&self) -> u64 {
        // All ticks of one bucket lie in one window, so that the lowest occupied one is the earliest.
        if let Some(at) = self.ticks.first_from(0) {
            return self.chunks.least(self.ticks.first[at]);
        }
        let from = (self.window + 1) as usize % WINDOWS;
        if let Some(at) = self.windows.first_from(from).or_else(|| self.windows.first_from(0)) {
            return self.chunks.least(self.windows.first[at]);
        }
        self.far.first().unwrap_or(u64::MAX)
    }
}

/// Lists of chunks, and which of them have any.
#[derive(Debug)]
struct Buckets<const N: usize, const W: usize> {
    first: Box<[u32; N]>,
    occupied: [u64; W],
}

impl<const N: usize, const W: usize> Buckets<N, W> {
    fn new() -> Self {
        Self { first: Box::new([NIL; N]), occupied: [0; W] }
    }
    fn push(&mut self, chunks: &mut Chunks, at: usize, entry: Entry) {
        self.occupied[at / 64] |= 1 << (at % 64);
        chunks.push(&mut self.first[at], entry);
    }
    fn take(&mut self, at: usize) -> u32 {
        self.occupied[at / 64] &= !(1 << (at % 64));
        core::mem::replace(&mut self.first[at], NIL)
    }
    /// The first occupied bucket at or after `from`.
    fn first_from(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.occupied[word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.occupied.get(word)?;
        }
    }
}

/// Some entries of one bucket.
#[derive(Clone, Debug)]
struct Chunk {
    entries: [Entry; CHUNK],
    /// Next of its bucket, or next free one.
    next: u32,
    len: u32,
}

/// All chunks: as many as the most flows ever throttled needed.
#[derive(Debug)]
struct Chunks {
    all: Vec<Chunk>,
    free: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { all: Vec::new(), free: NIL }
    }
}

impl Chunks {
    fn push(&mut self, first: &mut u32, entry: Entry) {
        if let Some(chunk) = self.all.get_mut(*first as usize)
            && (chunk.len as usize) < CHUNK
        {
            chunk.entries[chunk.len as usize] = entry;
            chunk.len += 1;
            return;
        }
        let mut entries = [(0, NIL); CHUNK];
        entries[0] = entry;
        let new = Chunk { entries, next: *first, len: 1 };
        if self.free == NIL {
            *first = self.all.len() as u32;
            self.all.push(new);
        } else {
            *first = self.free;
            self.free = self.all[self.free as usize].next;
            self.all[*first as usize] = new;
        }
    }

    /// Takes the first chunk of a list: its entries, and how many there are.
    fn free(&mut self, first: &mut u32) -> Option<([Entry; CHUNK], usize)> {
        let at = *first;
        let chunk = self.all.get_mut(at as usize)?;
        let taken = (chunk.entries, chunk.len as usize);
        *first = core::mem::replace(&mut chunk.next, self.free);
        self.free = at;
        Some(taken)
    }

    /// The earliest time in a list.
    fn least(&self, mut at: u32) -> u64 {
        let mut least = u64::MAX;
        while let Some(chunk) = self.all.get(at as usize) {
            least = chunk.entries[..chunk.len as usize].iter().fold(least, |l, e| l.min(e.0));
            at = chunk.next;
        }
        least
    }
}

/// A 4-ary heap: four children to a node halve the depth of a binary one, and the four keys share a cache line.
#[derive(Debug, Default)]
struct Heap(Vec<Entry>);

impl Heap {
    fn first(&self) -> Option<u64> {
        self.0.first().map(|e| e.0)
    }

    fn push(&mut self, entry: Entry) {
        let heap = &mut self.0;
        let mut at = heap.len();
        heap.push(entry);
        while at > 0 {
            let parent = (at - 1) / 4;
            if heap[parent].0 <= entry.0 {
                break;
            }
            heap[at] = heap[parent];
            at = parent;
        }
        heap[at] = entry;
    }

    fn pop(&mut self) -> Option<Entry> {
        let heap = &mut self.0;
        let last = heap.pop()?;
        let Some(&first) = heap.first() else { return Some(last) };
        let mut at = 0;
        loop {
            let child = at * 4 + 1;
            let end = (child + 4).min(heap.len());
            let Some(least) = (child..end).min_by_key(|&i| heap[i].0) else { break };
            if heap[least].0 >= last.0 {
                break;
            }
            heap[at] = heap[least];
            at = least;
        }
        heap[at] = last;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::{Rng, SplitMix64};
    use std::collections::BTreeSet;

    /// Against a sorted set: times from the same tick to beyond the last window, flows that come while time stands still, jumps, and empty phases.
    #[test]
    fn the_wheel_gives_what_a_sorted_set_gives() {
        for seed in 0..20 {
            let (mut rng, mut timers, mut set) = (SplitMix64::new(seed), Timers::default(), BTreeSet::new());
            let (mut now, mut flow) = (rng.next_u64() >> 24, 0u32);
            for _ in 0..20_000 {
                for _ in 0..rng.below(6) {
                    let reach = [10, 14, 24, 26, 31, 34, 36][rng.below(7) as usize];
                    let time = now + 1 + rng.next_u64() % (1 << reach);
                    timers.push(time, flow, now);
                    set.insert((time, flow));
                    flow += 1;
                }
                let step = [0, 100, 1 << 13, 1 << 20, 1 << 25, 1 << 33][rng.below(6) as usize];
                now += step;
                if rng.below(1000) == 0 {
                    now += 1 << 37;
                }
                let mut due = Vec::new();
                while let Some(entry) = timers.pop_due(now, |_| ()) {
                    assert!(due.last().is_none_or(|l: &Entry| l.0 <= entry.0), "seed {seed}: out of order");
                    due.push(entry);
                }
                due.sort_unstable();
                let rest = set.split_off(&(now + 1, 0));
                assert_eq!(due, std::mem::replace(&mut set, rest).into_iter().collect::<Vec<_>>(), "seed {seed}");
                assert_eq!((timers.len(), timers.first()), (set.len(), set.first().map(|e| e.0)), "seed {seed}");
            }
        }
    }
}
