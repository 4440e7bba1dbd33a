//! Where the bytes of sockets live: the shell's business. The stack passes offsets.

use core::ops::Range;
use stackd_base::{Errno, FifoId, SockId};
use stackd_wire::Sum;
use std::net::SocketAddr;

/// Whom a socket is accounted to: the shell gives it meaning (a session). Children inherit their listener's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OwnerId(pub u64);

/// What a FIFO pair carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FifoKind {
    /// Two byte streams (TCP).
    Stream,
    /// Datagram records (UDP).
    Datagram,
}

/// The bytes of sockets, owned by the shell (shared memory, heap, or a simulation's pattern).
pub trait ByteStore {
    /// Received payload that the stack cannot look at.
    type Payload<'a>: Copy;

    /// Makes the pair of FIFOs of a new socket. UDP: at `Stack::socket`. TCP: when the connection is established or, for an active
    /// one, at `connect`; an embryonic or listening socket has none. `owner` is what the shell passed to `Stack::socket`.
    fn open(&mut self, sock: SockId, owner: OwnerId, kind: FifoKind) -> Result<FifoId, Errno>;
    /// The socket is gone: nothing refers to the FIFOs any more.
    fn close(&mut self, fifo: FifoId);

    /// Copies `len` payload bytes from `at` to rx offset `offset`. False: no memory (the segment is then dropped as `NoMemory`).
    fn rx_place(&mut self, fifo: FifoId, offset: u64, payload: Self::Payload<'_>, at: usize, len: usize) -> bool;
    /// The same for loopback: from `range` of the send side of `from`.
    fn rx_place_from(&mut self, fifo: FifoId, offset: u64, from: FifoId, range: Range<u64>) -> bool;
    /// Like `rx_place` for bytes the stack does hold (a stolen, duplicated or corrupted loopback segment).
    fn rx_place_bytes(&mut self, fifo: FifoId, offset: u64, data: &[u8]) -> bool;
    /// In-order data now ends at `head`.
    fn rx_publish(&mut self, fifo: FifoId, head: u64);
    /// The byte at `mark` of the received stream is urgent, and may not be here yet. Called before it is published.
    fn rx_urgent(&mut self, fifo: FifoId, mark: u64) {
        let _ = (fifo, mark);
    }
    /// Bytes below `released` are acknowledged; the application may write up to `limit`.
    fn tx_publish(&mut self, fifo: FifoId, released: u64, limit: u64);
    /// A datagram socket's receive buffer holds this many bytes from now on (`net.core.rmem_default`, `SO_RCVBUF`). Called after `open`
    /// and whenever the option changes.
    fn rx_datagram_limit(&mut self, fifo: FifoId, bytes: u64) {
        let _ = (fifo, bytes);
    }
    /// Appends one datagram record to the rx side; `control` = its control messages as `recvmsg` gives them. False: buffer full.
    fn rx_datagram(&mut self, fifo: FifoId, from: SocketAddr, control: &[u8], data: &[u8]) -> bool;

    /// Gives out `len` payload bytes from `at`, piece by piece, for a digest (TCP-MD5, TCP-AO). A store that cannot makes such segments
    /// unacceptable.
    fn payload_visit(&self, payload: Self::Payload<'_>, at: usize, len: usize, visit: &mut dyn FnMut(&[u8])) {
        let _ = (payload, at, len, visit);
    }
    /// Copies `range` of the send side: a segment that is signed must not change afterwards. False: it cannot, and the segment is not sent.
    fn tx_copy(&mut self, fifo: FifoId, range: Range<u64>, out: &mut Vec<u8>) -> bool {
        let _ = (fifo, range, out);
        false
    }
    /// The sum of `len` payload bytes from `at`, the first one counted as at an even offset (`stackd_wire::Sum::of`).
    fn payload_checksum(&self, payload: Self::Payload<'_>, at: usize, len: usize) -> Sum;
}
