//! Sockets' bytes on the heap: for tests, simulations, and sockets whose program shares no memory.

use crate::packet::Payload;
use crate::store::{ByteStore, FifoKind, OwnerId};
use core::ops::Range;
use slab::Slab;
use stackd_base::{Errno, FifoId, SockId};
use stackd_wire::Sum;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// One socket's bytes.
#[derive(Debug)]
pub struct HeapFifo {
    /// Whose.
    pub sock: SockId,
    /// Whose.
    pub owner: OwnerId,
    kind: FifoKind,
    /// Received bytes from `rx_tail` on; those beyond `rx_head` may have holes.
    rx: VecDeque<u8>,
    rx_tail: u64,
    rx_head: u64,
    /// Written bytes from `tx_released` on.
    tx: VecDeque<u8>,
    tx_released: u64,
    tx_limit: u64,
    datagrams: VecDeque<HeapDatagram>,
    /// Bytes that may wait, each datagram counted with what it costs to keep.
    datagram_limit: u64,
    datagram_bytes: u64,
}

/// A datagram that waits to be read.
#[derive(Debug)]
struct HeapDatagram {
    from: SocketAddr,
    control: Box<[u8]>,
    data: Box<[u8]>,
}

/// A [`ByteStore`] on the heap.
#[derive(Debug, Default)]
pub struct HeapStore {
    fifos: Slab<HeapFifo>,
}

impl HeapStore {
    /// What a datagram costs besides its bytes.
    const DATAGRAM_OVERHEAD: u64 = 64;

    /// FIFO pairs open.
    pub fn len(&self) -> usize {
        self.fifos.len()
    }
    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.fifos.is_empty()
    }

    /// Copies into the send side as much as the limit allows; returns the new end of the stream, for `Stack::written`.
    pub fn write(&mut self, fifo: FifoId, data: &[u8]) -> (u64, usize) {
        let Some(f) = self.fifos.get_mut(fifo.0 as usize) else { return (0, 0) };
        let head = f.tx_released + f.tx.len() as u64;
        let n = data.len().min(f.tx_limit.saturating_sub(head) as usize);
        f.tx.extend(&data[..n]);
        (head + n as u64, n)
    }

    /// Takes in-order bytes out; returns the new tail too, for `Stack::consumed`.
    pub fn read(&mut self, fifo: FifoId, most: usize) -> (u64, Vec<u8>) {
        let Some(f) = self.fifos.get_mut(fifo.0 as usize) else { return (0, Vec::new()) };
        let n = most.min((f.rx_head - f.rx_tail) as usize);
        let out = f.rx.drain(..n).collect();
        f.rx_tail += n as u64;
        (f.rx_tail, out)
    }

    /// In-order bytes that wait to be read.
    pub fn readable(&self, fifo: FifoId) -> usize {
        self.fifos.get(fifo.0 as usize).map_or(0, |f| (f.rx_head - f.rx_tail) as usize)
    }

    /// What `read` would return, left where it is (`MSG_PEEK`).
    pub fn peek(&self, fifo: FifoId, most: usize) -> Vec<u8> {
        let n = most.min(self.readable(fifo));
        self.fifos.get(fifo.0 as usize).map_or_else(Vec::new, |f| f.rx.range(..n).copied().collect())
    }

    /// What `receive` would return, left where it is.
    pub fn peek_datagram(&self, fifo: FifoId) -> Option<(SocketAddr, &[u8])> {
        self.fifos.get(fifo.0 as usize)?.datagrams.front().map(|d| (d.from, &*d.data))
    }

    /// The oldest datagram, and whether it was the last (for `Stack::rx_drained`).
    pub fn receive(&mut self, fifo: FifoId) -> Option<(SocketAddr, Box<[u8]>, bool)> {
        let f = self.fifos.get_mut(fifo.0 as usize)?;
        let HeapDatagram { from, data, control: _ } = f.datagrams.pop_front()?;
        f.datagram_bytes -= data.len() as u64 + Self::DATAGRAM_OVERHEAD;
        Some((from, data, f.datagrams.is_empty()))
    }

    /// The control messages of the oldest datagram, which stays.
    pub fn peek_control(&self, fifo: FifoId) -> Option<&[u8]> {
        self.fifos.get(fifo.0 as usize)?.datagrams.front().map(|d| &*d.control)
    }

    /// The bytes that a packet's payload stands for; `None` when they are gone.
    pub fn payload(&self, payload: &Payload) -> Option<Vec<u8>> {
        match payload {
            Payload::None => Some(Vec::new()),
            Payload::Owned(bytes) => Some(bytes.to_vec()),
            Payload::Stream { fifo, range } => self.tx_bytes(*fifo, range),
        }
    }

    fn tx_bytes(&self, fifo: FifoId, range: &Range<u64>) -> Option<Vec<u8>> {
        let f = self.fifos.get(fifo.0 as usize)?;
        let from = range.start.checked_sub(f.tx_released)? as usize;
        let to = range.end.checked_sub(f.tx_released)? as usize;
        if from > to || to > f.tx.len() {
            return None;
        }
        Some(f.tx.range(from..to).copied().collect())
    }
}

impl ByteStore for HeapStore {
    type Payload<'a> = &'a [u8];

    fn open(&mut self, sock: SockId, owner: OwnerId, kind: FifoKind) -> Result<FifoId, Errno> {
        let fifo = HeapFifo {
            sock,
            owner,
            kind,
            rx: VecDeque::new(),
            rx_tail: 0,
            rx_head: 0,
            tx: VecDeque::new(),
            tx_released: 0,
            tx_limit: 0,
            datagrams: VecDeque::new(),
            datagram_limit: u64::MAX,
            datagram_bytes: 0,
        };
        Ok(FifoId(self.fifos.insert(fifo) as u32))
    }

    fn close(&mut self, fifo: FifoId) {
        self.fifos.try_remove(fifo.0 as usize);
    }

    fn rx_place(&mut self, fifo: FifoId, offset: u64, payload: &[u8], at: usize, len: usize) -> bool {
        payload.get(at..at + len).is_some_and(|data| self.rx_place_bytes(fifo, offset, data))
    }

    fn rx_place_from(&mut self, fifo: FifoId, offset: u64, from: FifoId, range: Range<u64>) -> bool {
        self.tx_bytes(from, &range).is_some_and(|data| self.rx_place_bytes(fifo, offset, &data))
    }

    fn rx_place_bytes(&mut self, fifo: FifoId, offset: u64, data: &[u8]) -> bool {
        let Some(f) = self.fifos.get_mut(fifo.0 as usize) else { return false };
        // What lies before the tail was read already.
        let skip = (f.rx_tail.saturating_sub(offset) as usize).min(data.len());
        let data = &data[skip..];
        let from = (offset + skip as u64).saturating_sub(f.rx_tail) as usize;
        if f.rx.len() < from + data.len() {
            f.rx.resize(from + data.len(), 0);
        }
        f.rx.range_mut(from..from + data.len()).zip(data).for_each(|(to, &b)| *to = b);
        true
    }

    fn rx_publish(&mut self, fifo: FifoId, head: u64) {
        if let Some(f) = self.fifos.get_mut(fifo.0 as usize) {
            f.rx_head = head;
        }
    }

    fn tx_publish(&mut self, fifo: FifoId, released: u64, limit: u64) {
        if let Some(f) = self.fifos.get_mut(fifo.0 as usize) {
            let n = (released.saturating_sub(f.tx_released) as usize).min(f.tx.len());
            f.tx.drain(..n);
            (f.tx_released, f.tx_limit) = (released, limit);
        }
    }

    fn rx_datagram(&mut self, fifo: FifoId, from: SocketAddr, control: &[u8], data: &[u8]) -> bool {
        let Some(f) = self.fifos.get_mut(fifo.0 as usize) else { return false };
        let cost = data.len() as u64 + Self::DATAGRAM_OVERHEAD;
        let fits = f.kind == FifoKind::Datagram && f.datagram_bytes + cost <= f.datagram_limit;
        if fits {
            f.datagram_bytes += cost;
            f.datagrams.push_back(HeapDatagram { from, control: control.into(), data: data.into() });
        }
        fits
    }

    fn rx_datagram_limit(&mut self, fifo: FifoId, bytes: u64) {
        if let Some(f) = self.fifos.get_mut(fifo.0 as usize) {
            f.datagram_limit = bytes;
        }
    }

    fn payload_visit(&self, payload: &[u8], at: usize, len: usize, visit: &mut dyn FnMut(&[u8])) {
        visit(payload.get(at..at + len).unwrap_or_default());
    }

    fn tx_copy(&mut self, fifo: FifoId, range: Range<u64>, out: &mut Vec<u8>) -> bool {
        self.tx_bytes(fifo, &range).is_some_and(|bytes| {
            out.extend_from_slice(&bytes);
            true
        })
    }

    fn payload_checksum(&self, payload: &[u8], at: usize, len: usize) -> Sum {
        payload.get(at..at + len).map_or(Sum::default(), Sum::of)
    }
}
