//! ARP for IPv4 over Ethernet (RFC 826).

use crate::{MacAddr, ParseError};
use std::net::Ipv4Addr;

/// Bytes of an ARP packet.
pub const LEN: usize = 28;

/// What an ARP packet asks or says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ArpOperation {
    /// Who has the target address?
    Request = 1,
    /// The sender has.
    Reply = 2,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpRepr {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; zero in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpRepr {
    /// Parses an ARP packet (without the Ethernet header).
    ///
    /// # Errors
    /// `Truncated`; `Version` when it is not Ethernet and IPv4; `Field` for an unknown operation or a group sender.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let b: &[u8; LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        // Hardware type 1, protocol 0x0800, address lengths 6 and 4.
        if b[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(ParseError::Version);
        }
        let operation = match u16::from_be_bytes([b[6], b[7]]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            _ => return Err(ParseError::Field),
        };
        let mac = |at: usize| MacAddr([b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5]]);
        let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
        let repr = Self { operation, sender_mac: mac(8), sender_ip: ip(14), target_mac: mac(18), target_ip: ip(24) };
        if repr.sender_mac.is_group() || repr.sender_ip.is_multicast() || repr.sender_ip.is_broadcast() {
            return Err(ParseError::Field);
        }
        Ok(repr)
    }

    /// Writes the packet.
    ///
    /// # Panics
    /// If `buf` is shorter than 28 bytes.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Self { operation, sender_mac, sender_ip, target_mac, target_ip } = self;
        buf[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        buf[6..8].copy_from_slice(&(*operation as u16).to_be_bytes());
        buf[8..14].copy_from_slice(&sender_mac.0);
        buf[14..18].copy_from_slice(&sender_ip.octets());
        buf[18..24].copy_from_slice(&target_mac.0);
        buf[24..28].copy_from_slice(&target_ip.octets());
        LEN
    }
}
