//! The client's halves of the shared FIFOs. A client trusts its daemon about data, but never reads outside the mapping: chunk numbers are checked.

use super::datagram::{Header, data_at, decode, encode};
use super::{RECORD_HEADER, record_bytes};
use crate::abi::{CHUNK_BYTES, CHUNK_SHIFT, TABLE_LEN, ready};
use crate::breach::Breach;
use crate::region::{Control, Direction, Region};
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug)]
struct Half {
    region: Arc<Region>,
    sock: u32,
    direction: Direction,
}

impl Half {
    fn new(region: Arc<Region>, sock: u32, direction: Direction) -> Result<Self, Breach> {
        let limit = region.geometry().sockets;
        if sock >= limit {
            return Err(Breach::SockRange { sock, limit });
        }
        Ok(Self { region, sock, direction })
    }
    fn control(&self) -> &Control {
        self.region.control(self.sock).expect("socket number was checked at open")
    }
    fn table(&self) -> &[AtomicU32; TABLE_LEN] {
        self.region.table(self.sock, self.direction).expect("socket number was checked at open")
    }
    /// The bytes from `offset` to the end of its chunk, at most `len`.
    fn piece(&self, offset: u64, len: u64) -> Result<(NonNull<u8>, usize), Breach> {
        let entry = self.table()[(offset >> CHUNK_SHIFT) as usize % TABLE_LEN].load(Ordering::Relaxed);
        let chunk = entry.wrapping_sub(1);
        let base = self.region.chunk(chunk).ok_or(Breach::Chunk(chunk))?;
        let within = offset as usize % CHUNK_BYTES;
        // SAFETY: `within` is inside the chunk.
        Ok((unsafe { base.add(within) }, len.min((CHUNK_BYTES - within) as u64) as usize))
    }
}

/// Takes up a kick: true if the caller must push a `Kick` entry.
///
/// Always a read-modify-write, never a load first: whoever finds 1 here relies on the daemon's `swap(0)` reading *this* 1 (or a later
/// one) and so seeing what we published before it (AcqRel). A plain load could read a 1 from before the daemon looked.
fn mark(control: &Control) -> bool {
    control.kicked.swap(1, Ordering::AcqRel) == 0
}

/// Client's half of the client-to-network FIFO. One writer at a time.
#[derive(Debug)]
pub struct TxWriter {
    half: Half,
    head: u64,
}

impl TxWriter {
    /// For a socket the daemon just opened under this number.
    pub fn new(region: Arc<Region>, sock: u32) -> Result<Self, Breach> {
        Ok(Self { half: Half::new(region, sock, Direction::Tx)?, head: 0 })
    }

    /// The socket gets a new stream (it connects again): offsets start over. Before the `Connect` that makes it.
    pub fn restart(&mut self) {
        self.head = 0;
    }

    /// Bytes that can be written now.
    pub fn space(&self) -> u64 {
        self.half.control().tx_limit.load(Ordering::Acquire).saturating_sub(self.head)
    }

    /// Bytes written so far, of which `released` were acknowledged.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Bytes the peer acknowledged.
    pub fn released(&self) -> u64 {
        self.half.control().tx_released.load(Ordering::Acquire)
    }

    /// Copies out what was written and not acknowledged yet, from `skip` bytes on. How many bytes there were to copy, at most `out.len()`.
    /// Only while nothing can be acknowledged meanwhile (TCP_REPAIR): what is released may be another socket's.
    pub fn unacked(&self, skip: u64, out: &mut [u8]) -> Result<usize, Breach> {
        let start = self.released().saturating_add(skip);
        let len = self.head.saturating_sub(start).min(out.len() as u64);
        let mut at = 0;
        while at < len as usize {
            let (ptr, n) = self.half.piece(start + at as u64, len - at as u64)?;
            // SAFETY: ours: the daemon takes back only what is released, and writes none of it. `n` bytes of both are in bounds.
            unsafe { core::ptr::copy_nonoverlapping(ptr.as_ptr(), out[at..].as_mut_ptr(), n) };
            at += n;
        }
        Ok(len as usize)
    }

    /// Room for up to `max` bytes in place, to the end of a chunk; empty when there is none. Fill it, then [`TxWriter::commit`].
    pub fn reserve(&mut self, max: usize) -> Result<&mut [u8], Breach> {
        let space = self.space().min(max as u64);
        if space == 0 {
            return Ok(&mut []);
        }
        let (ptr, len) = self.half.piece(self.head, space)?;
        // SAFETY: granted by the daemon to this writer (it holds `&mut self`) and unpublished: an honest daemon neither reads nor writes it
        // until `commit`. A client has to trust its daemon with the bytes it sends anyway.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr.as_ptr(), len) })
    }

    /// Publishes the first `n` bytes of what was reserved. True: push a `Kick`.
    pub fn commit(&mut self, n: usize) -> bool {
        let n = (n as u64).min(self.space());
        self.advance(n)
    }

    /// Copies in as many bytes as there is room for. Returns how many, and whether to push a `Kick`.
    pub fn write(&mut self, mut data: &[u8]) -> Result<(usize, bool), Breach> {
        let take = self.space().min(data.len() as u64) as usize;
        data = &data[..take];
        let mut at = self.head;
        while !data.is_empty() {
            let (ptr, len) = self.half.piece(at, data.len() as u64)?;
            // SAFETY: as in `reserve`; `len` bytes are writable and at most `data.len()`.
            unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), ptr.as_ptr(), len) };
            at += len as u64;
            data = &data[len..];
        }
        Ok((take, take > 0 && self.advance(take as u64)))
    }

    /// Appends a datagram record; `None`: no room now. The bool: push a `Kick`.
    pub fn send_datagram(&mut self, to: Option<SocketAddr>, data: &[u8]) -> Result<Option<bool>, Breach> {
        self.send_message(to, &[], data)
    }

    /// As [`TxWriter::send_datagram`], with control messages as `sendmsg` takes them (at most [`super::MAX_CONTROL`] bytes).
    pub fn send_message(
        &mut self,
        to: Option<SocketAddr>,
        control: &[u8],
        data: &[u8],
    ) -> Result<Option<bool>, Breach> {
        let total = record_bytes(data.len(), control.len());
        if self.space() < total {
            return Ok(None);
        }
        let header = encode(data.len() as u32, control.len() as u32, to);
        let padding = &[0; 8][..control.len().next_multiple_of(8) - control.len()];
        let mut at = self.head;
        for mut part in [&header[..], control, padding, data] {
            while !part.is_empty() {
                let (ptr, len) = self.half.piece(at, part.len() as u64)?;
                // SAFETY: as in `reserve`.
                unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), ptr.as_ptr(), len) };
                at += len as u64;
                part = &part[len..];
            }
        }
        Ok(Some(self.advance(total)))
    }

    fn advance(&mut self, n: u64) -> bool {
        self.head += n;
        let control = self.half.control();
        control.tx_head.store(self.head, Ordering::Release);
        mark(control)
    }
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes copied out.
    pub len: usize,
    /// Bytes it had (MSG_TRUNC).
    pub full: usize,
    /// Sender.
    pub from: SocketAddr,
}

/// Client's half of the network-to-client FIFO. One reader at a time.
///
/// The stream is read in pieces that end at an urgent byte; the byte itself is passed over unless it is read in line
/// ([`RxReader::set_oob_inline`]), as Linux's `tcp_recvmsg` does.
#[derive(Debug)]
pub struct RxReader {
    half: Half,
    tail: u64,
    oob_inline: bool,
    /// Where the last look began: what is consumed next. The mark may move on between the two.
    start: Cell<u64>,
}

impl RxReader {
    /// For a socket the daemon just opened under this number.
    pub fn new(region: Arc<Region>, sock: u32) -> Result<Self, Breach> {
        Ok(Self { half: Half::new(region, sock, Direction::Rx)?, tail: 0, oob_inline: false, start: Cell::new(0) })
    }

    /// As [`TxWriter::restart`].
    pub fn restart(&mut self) {
        self.tail = 0;
        self.start.set(0);
    }

    /// SO_OOBINLINE.
    pub fn set_oob_inline(&mut self, on: bool) {
        self.oob_inline = on;
    }

    /// Where the next byte to be read lies in the stream.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// The last urgent byte that the peer marked, read or not. Ask after loading `rx_head`, whose Release covers it.
    fn mark(&self) -> Option<u64> {
        self.half.control().rx_urgent.load(Ordering::Relaxed).checked_sub(1)
    }

    /// `skip` bytes from here the next one is the urgent one: what is read at once ends here.
    pub fn at_mark(&self, skip: u64) -> bool {
        let _covers = self.half.control().rx_head.load(Ordering::Acquire);
        self.mark() == Some(self.tail + skip)
    }

    /// The offsets that can be read at once, `skip` bytes further on.
    fn piece(&self, skip: u64) -> (u64, u64) {
        let head = self.half.control().rx_head.load(Ordering::Acquire);
        let at = self.tail.saturating_add(skip);
        let (start, end) = match self.mark() {
            Some(mark) if mark > at => (at, head.min(mark)),
            Some(mark) if mark == at && !self.oob_inline && head > at => (at + 1, head),
            _ => (at, head),
        };
        if skip == 0 {
            self.start.set(start);
        }
        (start, end)
    }

    /// Bytes that can be read now.
    pub fn available(&self) -> u64 {
        self.available_at(0)
    }

    /// Bytes that can be looked at at once, `skip` bytes further on.
    pub fn available_at(&self, skip: u64) -> u64 {
        let (start, end) = self.piece(skip);
        end.saturating_sub(start)
    }

    /// What is read `skip` bytes further on begins behind an urgent byte, which is passed over.
    pub fn passes_mark(&self, skip: u64) -> bool {
        self.piece(skip).0 > self.tail.saturating_add(skip)
    }

    /// Whether the stream ends after what is available: ask before [`RxReader::available`], for RDHUP makes `rx_head` final.
    pub fn ended(&self) -> bool {
        self.half.control().readiness.load(Ordering::Acquire) & (ready::RDHUP | ready::HUP) != 0
    }

    /// Up to `max` bytes in place, to the end of a chunk; empty when there are none.
    pub fn peek(&self, max: usize) -> Result<&[u8], Breach> {
        self.peek_at(0, max)
    }

    /// As [`RxReader::peek`], `skip` bytes further on.
    pub fn peek_at(&self, skip: u64, max: usize) -> Result<&[u8], Breach> {
        let (start, end) = self.piece(skip);
        self.slice(start, end.saturating_sub(start).min(max as u64))
    }

    fn slice(&self, start: u64, len: u64) -> Result<&[u8], Breach> {
        if len == 0 {
            return Ok(&[]);
        }
        let (ptr, len) = self.half.piece(start, len)?;
        // SAFETY: published and unconsumed: an honest daemon writes it no more. A client has to trust its daemon with what it receives.
        Ok(unsafe { core::slice::from_raw_parts(ptr.as_ptr(), len) })
    }

    /// The byte at this offset of the stream, if it is here and was not passed.
    pub fn byte_at(&self, offset: u64) -> Result<Option<u8>, Breach> {
        let head = self.half.control().rx_head.load(Ordering::Acquire);
        if offset < self.tail || offset >= head {
            return Ok(None);
        }
        Ok(self.slice(offset, 1)?.first().copied())
    }

    /// Takes `n` of the bytes off the front that were looked at last. True: push a `Kick` (the daemon waits for room, or for news of the urgent byte).
    pub fn consume(&mut self, n: usize) -> bool {
        let start = self.start.get().max(self.tail);
        let head = self.half.control().rx_head.load(Ordering::Acquire);
        let n = (n as u64).min(head.saturating_sub(start));
        if n == 0 {
            return false;
        }
        let passed = self.mark().is_some_and(|mark| (self.tail..start + n).contains(&mark));
        self.tail = start + n;
        self.start.set(self.tail);
        let control = self.half.control();
        control.rx_tail.store(self.tail, Ordering::Release);
        // Dekker with RxWriter::set_wake: orders our `rx_tail` before the load of `rx_wake`.
        fence(Ordering::SeqCst);
        (passed || self.tail >= control.rx_wake.load(Ordering::Relaxed)) && mark(control)
    }

    /// Copies out up to `out.len()` bytes. Returns how many, and whether to push a `Kick`.
    pub fn read(&mut self, out: &mut [u8]) -> Result<(usize, bool), Breach> {
        let done = self.copy_at(0, out)?;
        Ok((done, done > 0 && self.consume(done)))
    }

    /// Copies out without consuming.
    pub fn peek_copy(&self, out: &mut [u8]) -> Result<usize, Breach> {
        self.copy_at(0, out)
    }

    /// Takes the next datagram (or leaves it, with `peek`); `None`: there is none. The bool: push a `Kick`.
    pub fn recv_datagram(&mut self, out: &mut [u8], peek: bool) -> Result<Option<(Received, bool)>, Breach> {
        self.recv_message(out, &mut Vec::new(), peek)
    }

    /// As [`RxReader::recv_datagram`]; `control` becomes the control messages that came with it, as `recvmsg` gives them.
    pub fn recv_message(
        &mut self,
        out: &mut [u8],
        control: &mut Vec<u8>,
        peek: bool,
    ) -> Result<Option<(Received, bool)>, Breach> {
        let mut header = [0; RECORD_HEADER];
        if self.copy_at(0, &mut header)? < RECORD_HEADER {
            return Ok(None);
        }
        let bad = |why| Breach::Datagram { offset: self.tail, why };
        let Header { len, control: control_len, addr } =
            decode(&header).ok_or_else(|| bad("unknown address family"))?;
        let from = addr.ok_or_else(|| bad("no sender"))?;
        let (full, control_len) = (len as usize, control_len as usize);
        let total = record_bytes(full, control_len);
        if total > self.available() {
            return Err(bad("longer than what was published"));
        }
        control.clear();
        control.resize(control_len, 0);
        self.copy_at(RECORD_HEADER as u64, control)?;
        let len = full.min(out.len());
        self.copy_at(data_at(control_len) as u64, &mut out[..len])?;
        let kick = !peek && self.consume(total as usize);
        Ok(Some((Received { len, full, from }, kick)))
    }

    /// As [`RxReader::peek_copy`], `skip` bytes further on.
    pub fn copy_at(&self, skip: u64, out: &mut [u8]) -> Result<usize, Breach> {
        let (start, end) = self.piece(skip);
        let want = end.saturating_sub(start).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < want {
            let piece = self.slice(start + done as u64, (want - done) as u64)?;
            out[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
        Ok(done)
    }
}

/// A socket's shared words, as its client reads them.
#[derive(Clone, Debug)]
pub struct SockState {
    region: Arc<Region>,
    sock: u32,
}

impl SockState {
    /// `sock` must be a number the daemon gave.
    pub fn new(region: Arc<Region>, sock: u32) -> Result<Self, Breach> {
        let limit = region.geometry().sockets;
        if sock < limit { Ok(Self { region, sock }) } else { Err(Breach::SockRange { sock, limit }) }
    }
    fn control(&self) -> &Control {
        self.region.control(self.sock).expect("socket number was checked at open")
    }
    /// State bits ([`ready`]): one load. IN and OUT of data sockets follow from the FIFOs.
    pub fn readiness(&self) -> u32 {
        self.control().readiness.load(Ordering::Acquire)
    }
    /// The pending error, without clearing it.
    pub fn error(&self) -> i32 {
        self.control().error.load(Ordering::Acquire)
    }
    /// Which user of this number the socket is.
    pub fn generation(&self) -> u32 {
        self.control().generation.load(Ordering::Acquire)
    }
}
