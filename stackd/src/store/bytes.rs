//! The bytes: `ByteStore` for the stack, and both ends of a FIFO for the dispatcher.

use super::{SessionKey, Store, Transport};
use smallvec::SmallVec;
use stackd_base::{Errno, FifoId, SockId};
use stackd_netdev::IoVec;
use stackd_netstack::{ByteStore, FifoKind, OwnerId, SocketKind};
use stackd_shm::Breach;
use stackd_shm::fifo::{Datagram, HeapFifo, HeapRecord, RawSlice, RecvBuffer, RxWriter, SendBuffer, TxReader};
use std::net::SocketAddr;
use std::ops::Range;

/// Pieces of a frame: headers, and up to a GSO frame's worth of 64 KiB chunks.
pub type Pieces = SmallVec<[IoVec; 8]>;

/// Linux's net.core.[rw]mem_default: what a datagram socket may hold in each direction.
const DATAGRAM_BUFFER: u64 = 212_992;
/// A FIFO's chunk table addresses no more (256 MiB), whoever owns the bytes.
const MAX_HEAP_FIFO: u64 = 256 << 20;
/// A reader tells us what it consumed at least every so many bytes ...
const REPORT_MAX: u64 = 32 * 1024;
/// ... and not more often than this: less than the smallest receive window, so that no window stays shut for want of a report.
const REPORT_MIN: u64 = 1024;

#[derive(Debug)]
pub(super) enum Bytes {
    Heap(Box<(HeapFifo, HeapFifo)>),
    Shared(Box<(TxReader, RxWriter)>),
}

impl Bytes {
    fn tx(&mut self) -> &mut dyn SendBuffer {
        match self {
            Self::Heap(b) => &mut b.0,
            Self::Shared(b) => &mut b.0,
        }
    }
    fn rx(&mut self) -> &mut dyn RecvBuffer {
        match self {
            Self::Heap(b) => &mut b.1,
            Self::Shared(b) => &mut b.1,
        }
    }
    fn heap_bytes(&self) -> u64 {
        match self {
            Self::Heap(b) => SendBuffer::memory(&b.0) + RecvBuffer::memory(&b.1),
            Self::Shared(_) => 0,
        }
    }
}

/// Both directions of one socket.
#[derive(Debug)]
pub(super) struct Fifo {
    session: SessionKey,
    number: u32,
    kind: FifoKind,
    bytes: Bytes,
    /// What the stack was told: end of the written stream, and what was read of the received one.
    told_head: u64,
    told_tail: u64,
    /// Datagram records that may wait to be read, in bytes.
    datagram_limit: u64,
}

/// What a client did to its FIFO since the stack last heard of it.
#[derive(Debug, Default)]
pub struct Moved {
    /// The sent stream ends here now.
    pub head: Option<u64>,
    /// The received stream was read up to here.
    pub tail: Option<u64>,
    /// Bytes written and read since.
    pub bytes: (u64, u64),
    /// Datagrams wait to be sent.
    pub datagrams: bool,
    /// Nothing that was received is left unread.
    pub drained: bool,
}

impl Store {
    fn fifo(&mut self, fifo: FifoId) -> Option<&mut Fifo> {
        self.fifos.get_mut(fifo.0 as usize)
    }

    /// Runs `f` on a FIFO and settles what it did to the session's memory account.
    fn settle<T>(&mut self, fifo: FifoId, f: impl FnOnce(&mut Fifo) -> T) -> Option<T> {
        let entry = self.fifos.get_mut(fifo.0 as usize)?;
        let before = entry.bytes.heap_bytes();
        let result = f(entry);
        let (after, session) = (entry.bytes.heap_bytes(), entry.session);
        if before != after
            && let Some(s) = self.sessions.get_mut(session)
        {
            s.usage.heap_bytes = s.usage.heap_bytes.saturating_sub(before) + after;
        }
        Some(result)
    }

    /// Whether a session on the heap may hold `more` bytes. Shared memory has its own account, in chunks.
    fn has_room(&mut self, fifo: FifoId, more: u64) -> bool {
        let Some(entry) = self.fifos.get(fifo.0 as usize) else { return false };
        if matches!(entry.bytes, Bytes::Shared(_)) {
            return true;
        }
        let Some(s) = self.sessions.get_mut(entry.session) else { return false };
        let fits = s.usage.heap_bytes.saturating_add(more) <= s.quota.memory;
        s.usage.refusals += u64::from(!fits);
        fits
    }

    /// Looks at the indices of a shared-memory client's FIFO. A client that lies there has broken the rules.
    pub fn poll_shared(&mut self, fifo: FifoId) -> Result<Moved, Breach> {
        let Some(Fifo { kind, bytes: Bytes::Shared(b), told_head, told_tail, .. }) = self.fifo(fifo) else {
            return Ok(Moved::default());
        };
        let (tx, rx) = &mut **b;
        tx.take_kick();
        let (head, tail) = (tx.poll_head()?, rx.poll_tail()?);
        let mut moved = Moved { bytes: (head - *told_head, tail - *told_tail), ..Moved::default() };
        if *kind == FifoKind::Datagram {
            moved.datagrams = head > tx.released();
        } else if head > *told_head {
            moved.head = Some(head);
        }
        if tail > *told_tail {
            moved.tail = Some(tail);
        }
        moved.drained = tail == RecvBuffer::head(rx);
        *told_head = head;
        *told_tail = tail;
        Ok(moved)
    }

    /// Answers a kick of a socket that has no FIFO in the stack.
    pub fn take_idle_kick(&mut self, key: SessionKey, number: u32) {
        if let Some(socket) = self.socket_mut(key, number)
            && let Some(spare) = &socket.spare
        {
            spare.0.take_kick();
        }
    }

    /// Says when the client's next report of reading is wanted. True: it has read that far already.
    pub fn want_report(&mut self, fifo: FifoId) -> bool {
        let Some(Fifo { bytes: Bytes::Shared(b), kind, .. }) = self.fifo(fifo) else { return false };
        let rx = &mut b.1;
        let (head, tail) = (RecvBuffer::head(rx), rx.tail());
        let wake = match kind {
            FifoKind::Stream => (tail + REPORT_MIN).max(head.min(tail + REPORT_MAX)),
            // Datagrams: the socket stops being readable when the last one is gone.
            FifoKind::Datagram if head > tail => head,
            FifoKind::Datagram => return rx.set_wake(None),
        };
        rx.set_wake(Some(wake))
    }

    /// Bytes (of datagrams: with their records' headers) that the socket's client has not read, as of now.
    pub fn unread(&self, sock: SockId) -> Option<u64> {
        let (key, number) = self.locate(sock)?;
        let fifo = self.socket(key, number)?.fifo?;
        match &self.fifos.get(fifo.0 as usize)?.bytes {
            Bytes::Heap(b) => Some(b.1.available()),
            Bytes::Shared(b) => Some(b.1.unread()),
        }
    }

    /// The next datagram a shared-memory client wants sent: where to, its control messages and bytes, and what to release afterwards.
    pub fn next_datagram(
        &mut self,
        fifo: FifoId,
        control: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Datagram>, Breach> {
        let Some(Fifo { bytes: Bytes::Shared(b), .. }) = self.fifo(fifo) else { return Ok(None) };
        let Some(datagram) = b.0.datagram_at(b.0.released())? else { return Ok(None) };
        control.clear();
        b.0.copy_out(datagram.control.clone(), control);
        out.clear();
        b.0.copy_out(datagram.data.clone(), out);
        Ok(Some(datagram))
    }

    /// A datagram is gone: its room is the client's again.
    pub fn datagram_sent(&mut self, fifo: FifoId, end: u64) {
        if let Some(Fifo { bytes: Bytes::Shared(b), .. }) = self.fifo(fifo) {
            b.0.release(end);
            b.0.grant(end + DATAGRAM_BUFFER);
        }
    }

    /// For clients without shared memory: takes as much of `data` as the send buffer may hold. (bytes taken, where the stream ends now).
    pub fn heap_write(&mut self, fifo: FifoId, data: &[u8]) -> Result<Option<(usize, u64)>, Errno> {
        self.settle(fifo, |f| match &mut f.bytes {
            Bytes::Heap(b) => Ok(match b.0.write(data) {
                0 => None,
                n => Some((n, SendBuffer::head(&b.0))),
            }),
            // A shared-memory client moves its bytes itself.
            Bytes::Shared(_) => Err(Errno::EOPNOTSUPP),
        })
        .unwrap_or(Err(Errno::EBADF))
    }

    /// For clients without shared memory: at most `max` bytes of what is in order, and where reading stands now.
    pub fn heap_read(&mut self, fifo: FifoId, max: usize, peek: bool) -> Result<(Vec<u8>, u64), Errno> {
        self.settle(fifo, |f| match &mut f.bytes {
            Bytes::Heap(b) => {
                let mut out = vec![0; (b.1.available() as usize).min(max)];
                let n = if peek { b.1.peek(&mut out) } else { b.1.read(&mut out).0 };
                out.truncate(n);
                Ok((out, b.1.tail()))
            }
            Bytes::Shared(_) => Err(Errno::EOPNOTSUPP),
        })
        .unwrap_or(Err(Errno::EBADF))
    }

    /// For clients without shared memory: at most `max` bytes of what was written and not released.
    pub fn heap_unacked(&mut self, fifo: FifoId, max: usize) -> Result<Vec<u8>, Errno> {
        match &mut self.fifo(fifo).ok_or(Errno::EBADF)?.bytes {
            Bytes::Heap(b) => {
                let (start, head) = (b.0.released(), SendBuffer::head(&b.0));
                let mut out = Vec::new();
                let whole = b.0.copy_out(start..head.min(start.saturating_add(max as u64)), &mut out);
                if whole { Ok(out) } else { Err(Errno::EFAULT) }
            }
            Bytes::Shared(_) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// For clients without shared memory: the next datagram (sender, data cut at `max`, full length), and whether none is left.
    pub fn heap_datagram(&mut self, fifo: FifoId, max: usize, peek: bool) -> Result<Option<HeapDatagram>, Errno> {
        self.settle(fifo, |f| match &mut f.bytes {
            Bytes::Heap(b) => Ok(b.1.read_datagram(max, peek).map(|HeapRecord { data, full, control, from }| {
                HeapDatagram { data, full, control, from, last: b.1.available() == 0 }
            })),
            Bytes::Shared(_) => Err(Errno::EOPNOTSUPP),
        })
        .unwrap_or(Err(Errno::EBADF))
    }

    /// Length of the datagram that a client without shared memory reads next.
    pub fn next_datagram_len(&mut self, fifo: FifoId) -> Option<usize> {
        match &mut self.fifo(fifo)?.bytes {
            Bytes::Heap(b) => b.1.read_datagram(0, true).map(|r| r.full),
            // One with shared memory looks for itself.
            Bytes::Shared(_) => None,
        }
    }

    /// The pieces of a range of a send buffer, for a device. False: part of it was released meanwhile.
    pub fn tx_pieces(&mut self, fifo: FifoId, range: Range<u64>, out: &mut Pieces) -> bool {
        let Some(f) = self.fifo(fifo) else { return false };
        let want = range.end - range.start;
        f.bytes.tx().for_each(range, &mut |piece| out.push(IoVec { base: piece.as_ptr(), len: piece.len() })) == want
    }

    /// Copies a range of a send buffer out.
    pub fn copy_out(&mut self, fifo: FifoId, range: Range<u64>, out: &mut Vec<u8>) -> bool {
        self.fifo(fifo).is_some_and(|f| f.bytes.tx().copy_out(range, out))
    }

    fn after_publish(&mut self, fifo: FifoId) {
        // A client that has read past the wish already sends no report for it; its next one comes with the next wish, or with its
        // next poll.
        let _ = self.want_report(fifo);
    }
}

/// A datagram taken from the heap.
#[derive(Debug)]
pub struct HeapDatagram {
    /// Its bytes, cut.
    pub data: Vec<u8>,
    /// How many there were.
    pub full: usize,
    /// Control messages.
    pub control: Vec<u8>,
    /// Who sent it.
    pub from: Option<SocketAddr>,
    /// None is left.
    pub last: bool,
}

impl ByteStore for Store {
    type Payload<'a> = &'a [u8];

    fn open(&mut self, sock: SockId, owner: OwnerId, kind: FifoKind) -> Result<FifoId, Errno> {
        // An owner whose client is gone has nobody to read what would arrive.
        let key = self.session_of(owner.0).ok_or(Errno::ENOBUFS)?;
        let (session, number) = match self.locate(sock) {
            Some(place) => place,
            None => {
                let kind = if kind == FifoKind::Stream { SocketKind::Stream } else { SocketKind::Dgram };
                (key, self.place(key, sock, kind)?)
            }
        };
        let id = self.fifos.vacant_key();
        let entry = self.sessions.get_mut(session).ok_or(Errno::EBADF)?;
        let max = entry.quota.memory.min(MAX_HEAP_FIFO);
        let socket = entry.sockets.get_mut(number).ok_or(Errno::EBADF)?;
        let mut bytes = match &entry.transport {
            Transport::Shared(_) => Bytes::Shared(socket.spare.take().ok_or(Errno::EBUSY)?),
            Transport::Grpc(_) => Bytes::Heap(Box::new((HeapFifo::new(max), HeapFifo::new(max)))),
        };
        if kind == FifoKind::Datagram {
            bytes.tx().grant(DATAGRAM_BUFFER);
        }
        socket.fifo = Some(FifoId(id as u32));
        entry.fifos += 1;
        self.fifos.insert(Fifo {
            session,
            number,
            kind,
            bytes,
            told_head: 0,
            told_tail: 0,
            datagram_limit: DATAGRAM_BUFFER,
        });
        Ok(FifoId(id as u32))
    }

    fn close(&mut self, fifo: FifoId) {
        let Some(entry) = self.fifos.try_remove(fifo.0 as usize) else { return };
        let Fifo { session, number, bytes, .. } = entry;
        let held = bytes.heap_bytes();
        drop(bytes);
        if let Some(s) = self.sessions.get_mut(session) {
            s.fifos -= 1;
            s.usage.heap_bytes = s.usage.heap_bytes.saturating_sub(held);
            if let Some(socket) = s.sockets.get_mut(number) {
                socket.fifo = None;
                // The client holds the socket still: it may connect again, and reads nothing of the old stream.
                if socket.known
                    && let Transport::Shared(shared) = &s.transport
                {
                    socket.spare = shared.memory.renew_socket(number).map(Box::new);
                }
            }
        }
        self.reap(session, number);
        self.reap_session(session);
    }

    fn rx_place(&mut self, fifo: FifoId, offset: u64, payload: &[u8], at: usize, len: usize) -> bool {
        let Some(data) = payload.get(at..at + len) else { return false };
        self.rx_place_bytes(fifo, offset, data)
    }

    fn rx_place_from(&mut self, fifo: FifoId, offset: u64, from: FifoId, range: Range<u64>) -> bool {
        if !self.has_room(fifo, range.end - range.start) {
            return false;
        }
        if fifo == from {
            // A socket connected to itself (RFC 9293, 3.5: simultaneous open).
            let mut data = Vec::new();
            return self.copy_out(from, range, &mut data) && self.rx_place_bytes(fifo, offset, &data);
        }
        let Ok([to, from]) = self.fifos.get_disjoint_mut([fifo.0 as usize, from.0 as usize]) else { return false };
        let before = to.bytes.heap_bytes();
        let (mut at, mut placed) = (offset, true);
        let want = range.end - range.start;
        let rx = to.bytes.rx();
        let got = from.bytes.tx().for_each(range, &mut |piece| {
            placed = placed && rx.place(at, piece);
            at += piece.len() as u64;
        });
        let (after, session) = (to.bytes.heap_bytes(), to.session);
        if let Some(s) = self.sessions.get_mut(session) {
            s.usage.heap_bytes = s.usage.heap_bytes.saturating_sub(before) + after;
        }
        placed && got == want
    }

    fn rx_place_bytes(&mut self, fifo: FifoId, offset: u64, data: &[u8]) -> bool {
        self.has_room(fifo, data.len() as u64)
            && self.settle(fifo, |f| f.bytes.rx().place(offset, RawSlice::from(data))).unwrap_or(false)
    }

    fn rx_urgent(&mut self, fifo: FifoId, mark: u64) {
        // Readers of the heap ask the stack.
        if let Some(Fifo { bytes: Bytes::Shared(b), .. }) = self.fifo(fifo) {
            b.1.set_urgent(mark);
        }
    }

    fn rx_publish(&mut self, fifo: FifoId, head: u64) {
        if let Some(f) = self.fifo(fifo) {
            f.bytes.rx().publish(head);
            self.after_publish(fifo);
        }
    }

    fn tx_publish(&mut self, fifo: FifoId, released: u64, limit: u64) {
        let more = self.fifo(fifo).map_or(0, |f| limit.saturating_sub(f.bytes.tx().limit()));
        let room = self.has_room(fifo, more);
        self.settle(fifo, |f| {
            let tx = f.bytes.tx();
            tx.release(released);
            if room {
                tx.grant(limit);
            }
        });
    }

    fn rx_datagram_limit(&mut self, fifo: FifoId, bytes: u64) {
        if let Some(f) = self.fifo(fifo) {
            f.datagram_limit = bytes.min(MAX_HEAP_FIFO);
        }
    }

    fn rx_datagram(&mut self, fifo: FifoId, from: SocketAddr, control: &[u8], data: &[u8]) -> bool {
        if !self.has_room(fifo, data.len() as u64) {
            return false;
        }
        let pushed = self
            .settle(fifo, |f| f.bytes.rx().push_datagram(from, control, RawSlice::from(data), f.datagram_limit))
            .unwrap_or(false);
        if pushed {
            self.after_publish(fifo);
        }
        pushed
    }

    fn payload_visit(&self, payload: &[u8], at: usize, len: usize, visit: &mut dyn FnMut(&[u8])) {
        visit(payload.get(at..at + len).unwrap_or_default());
    }

    fn tx_copy(&mut self, fifo: FifoId, range: Range<u64>, out: &mut Vec<u8>) -> bool {
        self.copy_out(fifo, range, out)
    }

    fn payload_checksum(&self, payload: &[u8], at: usize, len: usize) -> stackd_wire::Sum {
        stackd_wire::Sum::of(payload.get(at..at + len).unwrap_or_default())
    }
}
