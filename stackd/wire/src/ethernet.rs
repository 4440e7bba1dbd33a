//! Ethernet II framing.

use crate::{MacAddr, ParseError};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;

/// EtherTypes this stack speaks (IEEE 802 numbers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum EtherType {
    /// IPv4.
    Ipv4 = 0x0800,
    /// ARP.
    Arp = 0x0806,
    /// IPv6.
    Ipv6 = 0x86dd,
}

impl EtherType {
    /// The type with this number, if it is one of ours.
    pub const fn from_raw(n: u16) -> Option<Self> {
        match n {
            0x0800 => Some(Self::Ipv4),
            0x0806 => Some(Self::Arp),
            0x86dd => Some(Self::Ipv6),
            _ => None,
        }
    }
}

/// An Ethernet II header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EthernetRepr {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// EtherType as on the wire; [`EtherType::from_raw`] gives it a meaning.
    pub ether_type: u16,
}

impl EthernetRepr {
    /// Parses the header at the start of `bytes`.
    ///
    /// # Errors
    /// `Truncated` below 14 bytes.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        let h: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *h;
        let repr = Self {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            ether_type: u16::from_be_bytes([t0, t1]),
        };
        Ok((repr, HEADER_LEN))
    }

    /// Writes the header.
    ///
    /// # Panics
    /// If `buf` is shorter than 14 bytes.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        buf[0..6].copy_from_slice(&self.dst.0);
        buf[6..12].copy_from_slice(&self.src.0);
        buf[12..14].copy_from_slice(&self.ether_type.to_be_bytes());
        HEADER_LEN
    }
}
