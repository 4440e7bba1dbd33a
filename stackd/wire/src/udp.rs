//! UDP headers (RFC 768).

use crate::{ParseError, Sum, proto};
use std::net::IpAddr;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Offset of the checksum field from the start of the header.
pub const CHECKSUM_AT: u16 = 6;

/// A UDP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpRepr {
    /// Sender's port; zero when none.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Payload bytes.
    pub payload_len: u16,
}

impl UdpRepr {
    /// Parses the header of a datagram of `available` bytes (header included). Also returns the checksum field: zero = none.
    ///
    /// # Errors
    /// `Truncated`; `Length` when the length field is below 8 or beyond the packet.
    pub fn parse(bytes: &[u8], available: usize) -> Result<(Self, u16), ParseError> {
        let &[a, b, c, d, e, f, g, h] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let len = u16::from_be_bytes([e, f]);
        if usize::from(len) < HEADER_LEN || usize::from(len) > available {
            return Err(ParseError::Length);
        }
        let repr = Self {
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
            payload_len: len - HEADER_LEN as u16,
        };
        Ok((repr, u16::from_be_bytes([g, h])))
    }

    /// Writes the header with the checksum over it and a payload summing to `payload`.
    ///
    /// # Panics
    /// If `buf` is shorter than 8 bytes.
    pub fn emit(&self, buf: &mut [u8], src: IpAddr, dst: IpAddr, payload: Sum) -> usize {
        let len = self.payload_len.saturating_add(HEADER_LEN as u16);
        buf[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        buf[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        buf[4..6].copy_from_slice(&len.to_be_bytes());
        buf[6..8].fill(0);
        let sum = Sum::pseudo(src, dst, proto::UDP, u32::from(len)).and(Sum::of(&buf[..HEADER_LEN])).and(payload);
        buf[6..8].copy_from_slice(&sum.finish_udp().to_be_bytes());
        HEADER_LEN
    }
}

/// Leaves the checksum to a device: the field gets the pseudo-header's sum.
///
/// # Panics
/// If `header` is shorter than 8 bytes.
pub fn fill_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload_len: usize) {
    let sum = Sum::pseudo(src, dst, proto::UDP, (HEADER_LEN + payload_len) as u32);
    header[6..8].copy_from_slice(&sum.partial().to_be_bytes());
}

/// Whether the checksum of `header` and a payload summing to `payload` is right. `payload_len` as in the header.
/// A zero checksum is "none" in IPv4 and wrong in IPv6 (RFC 8200, 8.1).
pub fn verify(header: &[u8; HEADER_LEN], src: IpAddr, dst: IpAddr, payload: Sum, payload_len: u16) -> bool {
    if header[6..8] == [0, 0] {
        return src.is_ipv4();
    }
    Sum::pseudo(src, dst, proto::UDP, u32::from(payload_len) + HEADER_LEN as u32)
        .and(Sum::of(header))
        .and(payload)
        .is_valid()
}
