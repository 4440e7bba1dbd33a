//! Rings of 64-byte entries: one producer, one consumer, who may be enemies.
//!
//! Each side owns one index, keeps its own copy of it in private memory and only ever *writes* the shared one; it loads the
//! peer's index once per batch, with Acquire, and checks it against its private cursor before believing it. So a peer that
//! rewrites either index, at any time, is noticed, or harmless.
//!
//! **Ordering.** The producer writes an entry's words (Relaxed), then `tail` (Release). The consumer loads `tail` (Acquire): it
//! sees the words of every entry below. It copies them (Relaxed; an entry that changes under its hands gives a mixture
//! of two entries, which is then validated like any other), and then stores `head` (Release). The producer loads `head` (Acquire)
//! before it uses a slot again, so the consumer's loads of the old entry come before the stores of the new one.
//! An honest consumer copies the argument slot before it moves `head`, hence the slot's reuse is ordered the same way.
//!
//! Indices run freely over u32 and wrap; the slot is the index modulo the (power-of-two) size.

use crate::abi::{ARG_BYTES, ARG_WORDS, Arg, ENTRY_WORDS, Entry};
use crate::breach::Breach;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A slot of a ring.
pub type Slot = [AtomicU64; ENTRY_WORDS];
/// The argument slot beside it.
pub type ArgSlot = [AtomicU64; ARG_WORDS];

/// Where a ring lives.
pub trait RingMem {
    /// Next index the consumer takes. Written by the consumer.
    fn head(&self) -> &AtomicU32;
    /// Next index the producer fills. Written by the producer.
    fn tail(&self) -> &AtomicU32;
    /// The entries: a power of two of them.
    fn slots(&self) -> &[Slot];
    /// As many argument slots.
    fn args(&self) -> &[ArgSlot];
}

/// The side that fills a ring.
#[derive(Debug)]
pub struct Producer<M> {
    mem: M,
    tail: u32,
    head: u32,
    mask: u32,
}

/// The side that empties a ring.
#[derive(Debug)]
pub struct Consumer<M> {
    mem: M,
    head: u32,
    tail: u32,
    mask: u32,
}

impl<M: RingMem> Producer<M> {
    /// At the start of a ring nobody used.
    pub fn new(mem: M) -> Self {
        let mask = mask_of(&mem);
        Self { mem, tail: 0, head: 0, mask }
    }

    /// Where the ring lives.
    pub fn mem(&self) -> &M {
        &self.mem
    }

    /// Free slots, as of now.
    pub fn free(&mut self) -> Result<u32, Breach> {
        let capacity = self.mask + 1;
        if self.tail.wrapping_sub(self.head) == capacity {
            let head = self.mem.head().load(Ordering::Acquire);
            if self.tail.wrapping_sub(head) > capacity {
                return Err(Breach::RingIndex { index: head, cursor: self.tail, capacity });
            }
            self.head = head;
        }
        Ok(capacity - self.tail.wrapping_sub(self.head))
    }

    /// Publishes one entry with its argument. `false`: the ring is full.
    pub fn push<E: Entry>(&mut self, mut entry: E, arg: &Arg) -> Result<bool, Breach> {
        if self.free()? == 0 {
            return Ok(false);
        }
        let at = (self.tail & self.mask) as usize;
        entry.set_arg_len(arg.as_bytes().len() as u32);
        for (cell, word) in self.mem.args()[at].iter().zip(arg.words()) {
            cell.store(word, Ordering::Relaxed);
        }
        for (cell, word) in self.mem.slots()[at].iter().zip(entry.to_words()) {
            cell.store(word, Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(1);
        self.mem.tail().store(self.tail, Ordering::Release);
        Ok(true)
    }
}

impl<M: RingMem> Consumer<M> {
    /// At the start of a ring nobody used.
    pub fn new(mem: M) -> Self {
        let mask = mask_of(&mem);
        Self { mem, head: 0, tail: 0, mask }
    }

    /// Where the ring lives.
    pub fn mem(&self) -> &M {
        &self.mem
    }

    /// Whether nothing waits. Loads the producer's index when the last batch is used up.
    pub fn is_empty(&mut self) -> Result<bool, Breach> {
        if self.head == self.tail {
            let tail = self.mem.tail().load(Ordering::Acquire);
            let capacity = self.mask + 1;
            if tail.wrapping_sub(self.head) > capacity {
                return Err(Breach::RingIndex { index: tail, cursor: self.head, capacity });
            }
            self.tail = tail;
        }
        Ok(self.head == self.tail)
    }

    /// Takes one entry; its argument is copied into `arg`.
    pub fn pop<E: Entry>(&mut self, arg: &mut Arg) -> Result<Option<E>, Breach> {
        if self.is_empty()? {
            return Ok(None);
        }
        let at = (self.head & self.mask) as usize;
        let mut words = [0; ENTRY_WORDS];
        for (word, cell) in words.iter_mut().zip(&self.mem.slots()[at]) {
            *word = cell.load(Ordering::Relaxed);
        }
        let entry = E::from_words(words);
        let len = entry.arg_len();
        if len as usize > ARG_BYTES {
            return Err(Breach::ArgLength(len));
        }
        let cells = &self.mem.args()[at];
        arg.fill(len as usize, |i| cells.get(i).map_or(0, |cell| cell.load(Ordering::Relaxed)));
        self.head = self.head.wrapping_add(1);
        self.mem.head().store(self.head, Ordering::Release);
        Ok(Some(entry))
    }
}

fn mask_of<M: RingMem>(mem: &M) -> u32 {
    debug_assert!(mem.slots().len().is_power_of_two() && mem.slots().len() == mem.args().len());
    mem.slots().len() as u32 - 1
}
