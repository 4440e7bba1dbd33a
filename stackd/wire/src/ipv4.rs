//! IPv4 headers (RFC 791). Options are tolerated and skipped.

use crate::{ParseError, Sum};
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;

/// An IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services and ECN.
    pub tos: u8,
    /// Identification.
    pub ident: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Offset of this fragment in bytes; a multiple of eight.
    pub fragment_offset: u16,
    /// Payload bytes.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// Parses the header at the start of `bytes`. The whole packet as received is `packet_len` bytes long (link-layer padding included).
    ///
    /// # Errors
    /// `Truncated`, `Version`, `Length` (header below 20 bytes, total length below it or beyond the packet), `Checksum`.
    pub fn parse(bytes: &[u8], packet_len: usize) -> Result<(Self, usize), ParseError> {
        let h: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        if h[0] >> 4 != 4 {
            return Err(ParseError::Version);
        }
        let header_len = usize::from(h[0] & 0x0f) * 4;
        let total = u16::from_be_bytes([h[2], h[3]]);
        if header_len < MIN_HEADER_LEN || usize::from(total) < header_len || usize::from(total) > packet_len {
            return Err(ParseError::Length);
        }
        let whole = bytes.get(..header_len).ok_or(ParseError::Truncated)?;
        if !Sum::of(whole).is_valid() {
            return Err(ParseError::Checksum);
        }
        let frag = u16::from_be_bytes([h[6], h[7]]);
        let repr = Self {
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
            protocol: h[9],
            ttl: h[8],
            tos: h[1],
            ident: u16::from_be_bytes([h[4], h[5]]),
            dont_fragment: frag & 0x4000 != 0,
            more_fragments: frag & 0x2000 != 0,
            fragment_offset: (frag & 0x1fff) << 3,
            payload_len: total - header_len as u16,
        };
        Ok((repr, header_len))
    }

    /// Parses a header quoted in an ICMP error: the checksum and total length are those of the packet as it was sent and are not checked.
    ///
    /// # Errors
    /// `Truncated`, `Version`, `Length`.
    pub fn parse_quoted(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        let h: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let mut copy = *h;
        let header_len = usize::from(h[0] & 0x0f) * 4;
        if header_len < MIN_HEADER_LEN {
            return Err(ParseError::Length);
        }
        if bytes.len() < header_len {
            return Err(ParseError::Truncated);
        }
        // Same fields without options: re-summed, so that the strict parser can read it.
        copy[0] = 0x40 | (h[0] & 0xf0).wrapping_sub(0x40) | 5;
        let total = u16::from_be_bytes([h[2], h[3]]).saturating_sub((header_len - MIN_HEADER_LEN) as u16);
        copy[2..4].copy_from_slice(&total.max(MIN_HEADER_LEN as u16).to_be_bytes());
        copy[10..12].fill(0);
        let sum = Sum::of(&copy).finish();
        copy[10..12].copy_from_slice(&sum.to_be_bytes());
        let (repr, _) = Self::parse(&copy, usize::from(u16::MAX))?;
        Ok((repr, header_len))
    }

    /// True for a piece of a larger packet.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes a 20-byte header with its checksum.
    ///
    /// # Panics
    /// If `buf` is shorter than 20 bytes.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Self { src, dst, protocol, ttl, tos, ident, dont_fragment, more_fragments, fragment_offset, payload_len } =
            self;
        let h = &mut buf[..MIN_HEADER_LEN];
        let total = payload_len.saturating_add(MIN_HEADER_LEN as u16);
        let frag = fragment_offset >> 3 | u16::from(*dont_fragment) << 14 | u16::from(*more_fragments) << 13;
        h[0] = 0x45;
        h[1] = *tos;
        h[2..4].copy_from_slice(&total.to_be_bytes());
        h[4..6].copy_from_slice(&ident.to_be_bytes());
        h[6..8].copy_from_slice(&frag.to_be_bytes());
        h[8] = *ttl;
        h[9] = *protocol;
        h[10..12].fill(0);
        h[12..16].copy_from_slice(&src.octets());
        h[16..20].copy_from_slice(&dst.octets());
        let sum = Sum::of(h).finish();
        h[10..12].copy_from_slice(&sum.to_be_bytes());
        MIN_HEADER_LEN
    }
}
