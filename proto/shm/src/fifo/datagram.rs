//! Datagrams in a FIFO: records of a header, control messages and the data, each starting on a 64-byte boundary.
//!
//! Control messages are Linux's, byte for byte (`struct cmsghdr`, cmsg(3)): what `sendmsg` and `recvmsg` carry in `msg_control`. They are
//! padded to eight bytes. The stack sends a client only those that a socket option asked for (`IP_PKTINFO`, `UDP_GRO`, ...).

use super::{SendBuffer, TxReader};
use crate::abi::{ADDR_BYTES, decode_addr, encode_addr};
use crate::breach::Breach;
use core::ops::Range;
use std::net::SocketAddr;

/// Records start on multiples of this; a header never straddles two chunks.
pub const RECORD_ALIGN: usize = 64;
/// `{ len u32, control bytes u32, address (family u16, port u16, scope u32, addr [u8; 16]) }`.
pub const RECORD_HEADER: usize = 8 + ADDR_BYTES;
/// Most bytes of control messages with one datagram.
pub const MAX_CONTROL: usize = 1024;
/// Largest payload of UDP over IPv4 or IPv6 without jumbograms.
const MAX_DATAGRAM: u32 = 65535;

/// Bytes that a record of `len` data bytes and `control` bytes of control messages takes.
pub const fn record_bytes(len: usize, control: usize) -> u64 {
    (data_at(control) + len).next_multiple_of(RECORD_ALIGN) as u64
}

/// Where in a record the data begin.
pub(super) const fn data_at(control: usize) -> usize {
    RECORD_HEADER + control.next_multiple_of(8)
}

/// A datagram the client wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where to; `None`: the connected peer.
    pub to: Option<SocketAddr>,
    /// Where its control messages are in the send buffer.
    pub control: Range<u64>,
    /// Where its bytes are in the send buffer.
    pub data: Range<u64>,
    /// Release up to here when it is gone.
    pub end: u64,
}

pub(super) fn encode(len: u32, control: u32, addr: Option<SocketAddr>) -> [u8; RECORD_HEADER] {
    let mut out = [0; RECORD_HEADER];
    out[..4].copy_from_slice(&len.to_ne_bytes());
    out[4..8].copy_from_slice(&control.to_ne_bytes());
    out[8..].copy_from_slice(&encode_addr(addr));
    out
}

/// What a record's header says.
pub(super) struct Header {
    pub len: u32,
    pub control: u32,
    pub addr: Option<SocketAddr>,
}

/// `None`: an unknown family.
pub(super) fn decode(header: &[u8; RECORD_HEADER]) -> Option<Header> {
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut addr = [0; ADDR_BYTES];
    addr.copy_from_slice(&header[8..]);
    Some(Header { len: word(0), control: word(4), addr: decode_addr(&addr)? })
}

impl TxReader {
    /// The datagram whose record starts at `at`, if it was published (call `poll_head` first).
    pub fn datagram_at(&self, at: u64) -> Result<Option<Datagram>, Breach> {
        if at >= self.head() {
            return Ok(None);
        }
        let bad = |why| Breach::Datagram { offset: at, why };
        let left = self.head() - at;
        if !at.is_multiple_of(RECORD_ALIGN as u64) || left < RECORD_HEADER as u64 {
            return Err(bad("shorter than its header, or not aligned"));
        }
        let mut header = [0; RECORD_HEADER];
        let mut filled = 0;
        self.for_each(at..at + RECORD_HEADER as u64, &mut |piece| filled += piece.copy_to(&mut header[filled..]));
        if filled < RECORD_HEADER {
            return Err(bad("already released"));
        }
        let Header { len, control, addr: to } = decode(&header).ok_or_else(|| bad("unknown address family"))?;
        if control as usize > MAX_CONTROL {
            return Err(bad("more control messages than are allowed"));
        }
        let total = record_bytes(len as usize, control as usize);
        if len > MAX_DATAGRAM || total > left {
            return Err(bad("longer than what was published"));
        }
        let begin = at + RECORD_HEADER as u64;
        let start = at + data_at(control as usize) as u64;
        let (control, data) = (begin..begin + u64::from(control), start..start + u64::from(len));
        Ok(Some(Datagram { to, control, data, end: at + total }))
    }
}
