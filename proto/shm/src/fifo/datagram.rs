//! Datagrams in a FIFO: records of a header and the data, each starting on a 64-byte boundary.

use super::{SendBuffer, TxReader};
use crate::abi::{ADDR_BYTES, decode_addr, encode_addr};
use crate::breach::Breach;
use core::ops::Range;
use std::net::SocketAddr;

/// Records start on multiples of this; a header never straddles two chunks.
pub const RECORD_ALIGN: usize = 64;
/// `{ len u32, reserved u32, address (family u16, port u16, scope u32, addr [u8; 16]) }`.
pub const RECORD_HEADER: usize = 8 + ADDR_BYTES;
/// Largest payload of UDP over IPv4 or IPv6 without jumbograms.
const MAX_DATAGRAM: u32 = 65535;

/// Bytes that a record of `len` data bytes takes.
pub const fn record_bytes(len: usize) -> u64 {
    (RECORD_HEADER + len).next_multiple_of(RECORD_ALIGN) as u64
}

/// A datagram the client wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where to; `None`: the connected peer.
    pub to: Option<SocketAddr>,
    /// Where its bytes are in the send buffer.
    pub data: Range<u64>,
    /// Release up to here when it is gone.
    pub end: u64,
}

pub(super) fn encode(len: u32, addr: Option<SocketAddr>) -> [u8; RECORD_HEADER] {
    let mut out = [0; RECORD_HEADER];
    out[..4].copy_from_slice(&len.to_ne_bytes());
    out[8..].copy_from_slice(&encode_addr(addr));
    out
}

/// Length and address; `None`: an unknown family.
pub(super) fn decode(header: &[u8; RECORD_HEADER]) -> Option<(u32, Option<SocketAddr>)> {
    let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
    let mut addr = [0; ADDR_BYTES];
    addr.copy_from_slice(&header[8..]);
    Some((len, decode_addr(&addr)?))
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
        let (len, to) = decode(&header).ok_or_else(|| bad("unknown address family"))?;
        let total = record_bytes(len as usize);
        if len > MAX_DATAGRAM || total > left {
            return Err(bad("longer than what was published"));
        }
        let data = at + RECORD_HEADER as u64..at + RECORD_HEADER as u64 + u64::from(len);
        Ok(Some(Datagram { to, data, end: at + total }))
    }
}
