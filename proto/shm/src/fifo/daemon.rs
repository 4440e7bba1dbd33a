//! The daemon's halves of the shared FIFOs. They believe nothing: cursors and chunk lists are private, and the two words a client
//! writes are loaded once, checked, and kept.

use super::{RawSlice, RecvBuffer, SendBuffer};
use crate::abi::{CHUNK_BYTES, CHUNK_SHIFT, TABLE_LEN};
use crate::breach::Breach;
use crate::chunk::ChunkPool;
use crate::region::{Control, Direction};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use std::collections::VecDeque;
use std::sync::Arc;

/// Marks a place in a chunk list that holds no chunk (a hole before out-of-order data).
const NONE: u32 = u32::MAX;

/// Chunks of one direction of one socket: the private truth behind the shared table.
#[derive(Debug)]
struct Chunks {
    pool: Arc<ChunkPool>,
    sock: u32,
    direction: Direction,
    list: VecDeque<u32>,
    /// Chunk index (offset >> 16) of `list[0]`.
    first: u64,
    held: u32,
}

impl Chunks {
    fn new(pool: Arc<ChunkPool>, sock: u32, direction: Direction) -> Self {
        Self { pool, sock, direction, list: VecDeque::new(), first: 0, held: 0 }
    }

    fn control(&self) -> &Control {
        // A constructor checked `sock` against this very region: see `new` of the halves.
        self.pool.region().control(self.sock).expect("socket number was checked at open")
    }

    fn table(&self) -> &[AtomicU32; TABLE_LEN] {
        self.pool.region().table(self.sock, self.direction).expect("socket number was checked at open")
    }

    /// Makes sure that chunk index `index` exists. False: no memory, or too far ahead.
    fn ensure(&mut self, index: u64) -> bool {
        let Some(at) = index.checked_sub(self.first).filter(|at| *at < TABLE_LEN as u64) else { return false };
        let at = at as usize;
        if self.list.get(at).is_some_and(|c| *c != NONE) {
            return true;
        }
        let Some(chunk) = self.pool.take() else { return false };
        while self.list.len() <= at {
            self.list.push_back(NONE);
        }
        self.list[at] = chunk;
        self.held += 1;
        // Relaxed: published by the Release of the limit or head that makes it reachable.
        self.table()[index as usize % TABLE_LEN].store(chunk + 1, Ordering::Relaxed);
        true
    }

    /// Frees what lies wholly below `offset`.
    fn free_below(&mut self, offset: u64) {
        let keep = offset >> CHUNK_SHIFT;
        while self.first < keep {
            if let Some(chunk) = self.list.pop_front()
                && chunk != NONE
            {
                self.held -= 1;
                self.pool.put(chunk);
            }
            if self.list.is_empty() {
                self.first = keep;
            } else {
                self.first += 1;
            }
        }
    }

    /// The bytes from `offset` to the end of its chunk, at most `len`.
    fn piece(&self, offset: u64, len: u64) -> Option<RawSlice<'_>> {
        let at = (offset >> CHUNK_SHIFT).checked_sub(self.first)?;
        let chunk = *self.list.get(at as usize)?;
        let base = self.pool.region().chunk(chunk)?;
        let within = offset as usize % CHUNK_BYTES;
        let len = len.min((CHUNK_BYTES - within) as u64) as usize;
        // SAFETY: `within + len` stays inside a chunk of this region, which lives as long as `self.pool`.
        Some(unsafe { RawSlice::new(base.add(within), len) })
    }

    fn write(&self, offset: u64, src: RawSlice<'_>) -> Option<()> {
        let mut done = 0;
        while done < src.len() {
            let to = self.piece(offset + done as u64, (src.len() - done) as u64)?;
            // SAFETY: `to` is writable (the region is mapped so) for `to.len()` <= remaining bytes; source and destination may be the same
            // region but not the same bytes in an honest session, and `copy` tolerates even that.
            unsafe { core::ptr::copy(src.as_ptr().add(done), to.as_ptr().cast_mut(), to.len()) };
            done += to.len();
        }
        Some(())
    }

    fn memory(&self) -> u64 {
        u64::from(self.held) << CHUNK_SHIFT
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        for chunk in self.list.drain(..).filter(|c| *c != NONE) {
            self.pool.put(chunk);
        }
    }
}

/// Daemon's half of the client-to-network FIFO: it *is* the send buffer, kept until acknowledged.
#[derive(Debug)]
pub struct TxReader {
    chunks: Chunks,
    released: u64,
    head: u64,
    limit: u64,
}

impl TxReader {
    /// `None`: no such socket number in the region.
    pub(crate) fn new(pool: Arc<ChunkPool>, sock: u32) -> Option<Self> {
        let control = pool.region().control(sock)?;
        for word in [&control.tx_head, &control.tx_limit, &control.tx_released] {
            word.store(0, Ordering::Relaxed);
        }
        Some(Self { chunks: Chunks::new(pool, sock, Direction::Tx), released: 0, head: 0, limit: 0 })
    }

    /// Answers a `Kick`: takes the mark down, so that whatever is written after this load kicks again. Call before `poll_head` and `poll_tail`.
    pub fn take_kick(&self) {
        // Acquire: a client whose `swap(1)` found 1 pushed nothing, and relies on this RMW to read that 1 and see its head.
        self.chunks.control().kicked.swap(0, Ordering::AcqRel);
    }
}

impl SendBuffer for TxReader {
    fn poll_head(&mut self) -> Result<u64, Breach> {
        let found = self.chunks.control().tx_head.load(Ordering::Acquire);
        if found < self.head || found > self.limit {
            return Err(Breach::TxHead { found, low: self.head, high: self.limit });
        }
        self.head = found;
        Ok(found)
    }
    fn head(&self) -> u64 {
        self.head
    }
    fn released(&self) -> u64 {
        self.released
    }
    fn limit(&self) -> u64 {
        self.limit
    }
    fn grant(&mut self, limit: u64) -> u64 {
        let mut granted = self.limit;
        while granted < limit {
            if !self.chunks.ensure(granted >> CHUNK_SHIFT) {
                break;
            }
            granted = limit.min(((granted >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT);
        }
        if granted > self.limit {
            self.limit = granted;
            self.chunks.control().tx_limit.store(granted, Ordering::Release);
        }
        granted
    }
    fn release(&mut self, offset: u64) {
        let offset = offset.min(self.head);
        if offset > self.released {
            self.released = offset;
            self.chunks.free_below(offset);
            self.chunks.control().tx_released.store(offset, Ordering::Release);
        }
    }
    fn for_each(&self, range: Range<u64>, each: &mut dyn FnMut(RawSlice<'_>)) -> u64 {
        if range.start < self.released {
            return 0;
        }
        let end = range.end.min(self.head);
        let mut at = range.start;
        while at < end {
            let Some(piece) = self.chunks.piece(at, end - at) else { break };
            at += piece.len() as u64;
            each(piece);
        }
        at.saturating_sub(range.start)
    }
    fn memory(&self) -> u64 {
        self.chunks.memory()
    }
}

/// Daemon's half of the network-to-client FIFO: segments land at their final place, out of order or not.
#[derive(Debug)]
pub struct RxWriter {
    chunks: Chunks,
    tail: u64,
    head: u64,
}

impl RxWriter {
    /// `None`: no such socket number in the region.
    pub(crate) fn new(pool: Arc<ChunkPool>, sock: u32) -> Option<Self> {
        let control = pool.region().control(sock)?;
        control.rx_head.store(0, Ordering::Relaxed);
        control.rx_tail.store(0, Ordering::Relaxed);
        control.rx_wake.store(u64::MAX, Ordering::Relaxed);
        control.rx_urgent.store(0, Ordering::Relaxed);
        Some(Self { chunks: Chunks::new(pool, sock, Direction::Rx), tail: 0, head: 0 })
    }

    /// The byte at `mark` is urgent. Before the `publish` that covers it.
    pub fn set_urgent(&self, mark: u64) {
        self.chunks.control().rx_urgent.store(mark + 1, Ordering::Relaxed);
    }

    /// Bytes that the client has not read, as its own index says right now: it reports less often than it reads. For display: nothing
    /// is freed, and an index that makes no sense is bent into what does (the next `poll_tail` finds it).
    pub fn unread(&self) -> u64 {
        let tail = self.chunks.control().rx_tail.load(Ordering::Acquire);
        self.head - tail.clamp(self.tail, self.head)
    }
}

impl RecvBuffer for RxWriter {
    fn poll_tail(&mut self) -> Result<u64, Breach> {
        let found = self.chunks.control().rx_tail.load(Ordering::Acquire);
        if found < self.tail || found > self.head {
            return Err(Breach::RxTail { found, low: self.tail, high: self.head });
        }
        if found > self.tail {
            self.tail = found;
            self.chunks.free_below(found);
        }
        Ok(found)
    }
    fn tail(&self) -> u64 {
        self.tail
    }
    fn head(&self) -> u64 {
        self.head
    }
    fn place(&mut self, offset: u64, src: RawSlice<'_>) -> bool {
        let Some(end) = offset.checked_add(src.len() as u64) else { return false };
        // Bytes below the head are the client's to read; a segment that overlaps them was trimmed by TCP.
        if offset < self.head {
            return false;
        }
        if src.is_empty() {
            return true;
        }
        ((offset >> CHUNK_SHIFT)..=((end - 1) >> CHUNK_SHIFT)).all(|index| self.chunks.ensure(index))
            && self.chunks.write(offset, src).is_some()
    }
    fn publish(&mut self, head: u64) {
        if head > self.head {
            self.head = head;
            self.chunks.control().rx_head.store(head, Ordering::Release);
        }
    }
    fn set_wake(&mut self, offset: Option<u64>) -> bool {
        let control = self.chunks.control();
        let wake = offset.unwrap_or(u64::MAX);
        control.rx_wake.store(wake, Ordering::Relaxed);
        // Dekker with the client's `rx_tail` then `rx_wake` (RxReader::consume): one of the two sees the other.
        fence(Ordering::SeqCst);
        control.rx_tail.load(Ordering::Relaxed) >= wake
    }
    fn memory(&self) -> u64 {
        self.chunks.memory()
    }
}
