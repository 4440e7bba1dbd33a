//! The same FIFO in the daemon's own memory, for sockets without shared memory (gRPC, byte pipe). One value is one direction.

use super::{RawSlice, RecvBuffer, SendBuffer};
use crate::abi::{CHUNK_BYTES, CHUNK_SHIFT};
use crate::breach::Breach;
use core::ops::Range;
use std::collections::VecDeque;

type Chunk = Box<[u8]>;

/// One direction of a socket: the daemon writes on one end and reads at the other.
#[derive(Debug)]
pub struct HeapFifo {
    list: VecDeque<Option<Chunk>>,
    first: u64,
    head: u64,
    tail: u64,
    limit: u64,
    max_chunks: usize,
    held: usize,
    wake: u64,
}

/// A datagram taken from a [`HeapFifo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapRecord {
    /// Its bytes, cut.
    pub data: Vec<u8>,
    /// How many there were.
    pub full: usize,
    /// Control messages.
    pub control: Vec<u8>,
    /// Sender.
    pub from: Option<std::net::SocketAddr>,
}

impl HeapFifo {
    /// Holds at most `max_bytes` (rounded up to chunks) at a time.
    pub fn new(max_bytes: u64) -> Self {
        let max_chunks = (max_bytes.div_ceil(CHUNK_BYTES as u64) as usize).max(1) + 1;
        Self { list: VecDeque::new(), first: 0, head: 0, tail: 0, limit: 0, max_chunks, held: 0, wake: u64::MAX }
    }

    /// Application end: appends as many bytes as were granted. Returns how many.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let n = (self.limit - self.head).min(data.len() as u64) as usize;
        if n == 0 || !self.copy_in(self.head, RawSlice::from(&data[..n])) {
            return 0;
        }
        self.head += n as u64;
        n
    }

    /// Application end: takes up to `out.len()` bytes off the front. The bool: the wake offset was reached.
    pub fn read(&mut self, out: &mut [u8]) -> (usize, bool) {
        let n = self.peek(out);
        let before = self.tail;
        self.tail += n as u64;
        self.free_below(self.tail);
        (n, n > 0 && before < self.wake && self.tail >= self.wake)
    }

    /// Application end: copies without taking.
    pub fn peek(&self, out: &mut [u8]) -> usize {
        let end = self.head.min(self.tail + out.len() as u64);
        let mut done = 0;
        self.pieces(self.tail..end, &mut |piece| done += piece.copy_to(&mut out[done..]));
        done
    }

    /// Bytes that can be read.
    pub fn available(&self) -> u64 {
        self.head - self.tail
    }

    /// Application end of a datagram socket: appends a record. False: no room.
    pub fn write_datagram(&mut self, to: Option<std::net::SocketAddr>, data: &[u8]) -> bool {
        let total = super::record_bytes(data.len(), 0);
        if self.limit - self.head < total {
            return false;
        }
        let header = super::datagram::encode(data.len() as u32, 0, to);
        let at = self.head + super::RECORD_HEADER as u64;
        if !self.copy_in(self.head, RawSlice::from(&header[..])) || !self.copy_in(at, RawSlice::from(data)) {
            return false;
        }
        self.head += total;
        true
    }

    /// Application end of a datagram socket: takes (or peeks at) the next record, its data cut at `max`.
    pub fn read_datagram(&mut self, max: usize, peek: bool) -> Option<HeapRecord> {
        let mut header = [0; super::RECORD_HEADER];
        if self.peek(&mut header) < header.len() {
            return None;
        }
        let super::datagram::Header { len: full, control: control_len, addr: from } = super::datagram::decode(&header)?;
        let begin = self.tail + super::RECORD_HEADER as u64;
        let start = self.tail + super::datagram::data_at(control_len as usize) as u64;
        let (mut data, mut control) = (Vec::new(), Vec::new());
        self.copy_out(begin..begin + u64::from(control_len), &mut control);
        self.copy_out(start..start + u64::from(full).min(max as u64), &mut data);
        if !peek {
            self.tail += super::record_bytes(full as usize, control_len as usize);
            self.free_below(self.tail);
        }
        Some(HeapRecord { data, full: full as usize, control, from })
    }

    fn ensure(&mut self, index: u64) -> bool {
        let Some(at) = index.checked_sub(self.first).filter(|at| *at < crate::abi::TABLE_LEN as u64) else {
            return false;
        };
        let at = at as usize;
        if self.list.get(at).is_some_and(Option::is_some) {
            return true;
        }
        if self.held >= self.max_chunks {
            return false;
        }
        while self.list.len() <= at {
            self.list.push_back(None);
        }
        self.list[at] = Some(vec![0; CHUNK_BYTES].into_boxed_slice());
        self.held += 1;
        true
    }

    fn copy_in(&mut self, offset: u64, src: RawSlice<'_>) -> bool {
        let mut done = 0;
        while done < src.len() {
            let at = offset + done as u64;
            if !self.ensure(at >> CHUNK_SHIFT) {
                return false;
            }
            let Some(Some(chunk)) = self.list.get_mut(((at >> CHUNK_SHIFT) - self.first) as usize) else {
                return false;
            };
            done += src.slice(done, src.len()).copy_to(&mut chunk[at as usize % CHUNK_BYTES..]);
        }
        true
    }

    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(RawSlice<'_>)) -> u64 {
        let mut at = range.start;
        while at < range.end {
            let Some(index) = (at >> CHUNK_SHIFT).checked_sub(self.first) else { break };
            let Some(Some(chunk)) = self.list.get(index as usize) else { break };
            let within = at as usize % CHUNK_BYTES;
            let len = ((CHUNK_BYTES - within) as u64).min(range.end - at) as usize;
            each(RawSlice::from(&chunk[within..within + len]));
            at += len as u64;
        }
        at.saturating_sub(range.start)
    }

    fn free_below(&mut self, offset: u64) {
        let keep = offset >> CHUNK_SHIFT;
        while self.first < keep {
            self.held -= usize::from(self.list.pop_front().flatten().is_some());
            self.first = if self.list.is_empty() { keep } else { self.first + 1 };
        }
    }
}

impl SendBuffer for HeapFifo {
    fn poll_head(&mut self) -> Result<u64, Breach> {
        Ok(self.head)
    }
    fn head(&self) -> u64 {
        self.head
    }
    fn released(&self) -> u64 {
        self.tail
    }
    fn limit(&self) -> u64 {
        self.limit
    }
    fn grant(&mut self, limit: u64) -> u64 {
        while self.limit < limit && self.ensure(self.limit >> CHUNK_SHIFT) {
            self.limit = limit.min(((self.limit >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT);
        }
        self.limit
    }
    fn release(&mut self, offset: u64) {
        let offset = offset.min(self.head);
        if offset > self.tail {
            self.tail = offset;
            self.free_below(offset);
        }
    }
    fn for_each(&self, range: Range<u64>, each: &mut dyn FnMut(RawSlice<'_>)) -> u64 {
        if range.start < self.tail { 0 } else { self.pieces(range.start..range.end.min(self.head), each) }
    }
    fn memory(&self) -> u64 {
        (self.held << CHUNK_SHIFT) as u64
    }
}

impl RecvBuffer for HeapFifo {
    fn poll_tail(&mut self) -> Result<u64, Breach> {
        Ok(self.tail)
    }
    fn tail(&self) -> u64 {
        self.tail
    }
    fn head(&self) -> u64 {
        self.head
    }
    fn place(&mut self, offset: u64, src: RawSlice<'_>) -> bool {
        offset >= self.head && self.copy_in(offset, src)
    }
    fn publish(&mut self, head: u64) {
        self.head = self.head.max(head);
    }
    fn set_wake(&mut self, offset: Option<u64>) -> bool {
        self.wake = offset.unwrap_or(u64::MAX);
        self.tail >= self.wake
    }
    fn memory(&self) -> u64 {
        (self.held << CHUNK_SHIFT) as u64
    }
}
