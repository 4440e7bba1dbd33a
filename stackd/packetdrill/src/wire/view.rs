//! Packets that the stack sends, taken apart.

use super::{Ends, checksum, parse_options, proto, pseudo};
use crate::ast::{Tcp, flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP packet and what it carries.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct View {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    pub flow_label: u32,
    /// DF is set, or it is IPv6.
    pub dont_fragment: bool,
    pub protocol: u8,
    /// What follows the IP header.
    pub transport: Vec<u8>,
    /// The IP header's checksum is right.
    pub ip_checksum_ok: bool,
}

impl View {
    /// Takes a packet apart; `None` when it is too short for what it says it is.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let len = usize::from(bytes[0] & 15) * 4;
                let h = bytes.get(..len).filter(|h| h.len() >= 20)?;
                let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
                let ip = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
                Some(Self {
                    src: ip(12).into(),
                    dst: ip(16).into(),
                    tos: h[1],
                    ttl: h[8],
                    flow_label: 0,
                    dont_fragment: h[6] & 0x40 != 0,
                    protocol: h[9],
                    transport: bytes.get(len..total)?.to_vec(),
                    ip_checksum_ok: checksum(&[h]) == 0,
                })
            }
            6 => {
                let h = bytes.get(..40)?;
                let word = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
                let total = 40 + usize::from(u16::from_be_bytes([h[4], h[5]]));
                let ip = |at: usize| <[u8; 16]>::try_from(&h[at..at + 16]).map(Ipv6Addr::from).ok();
                Some(Self {
                    src: ip(8)?.into(),
                    dst: ip(24)?.into(),
                    tos: (word >> 20) as u8,
                    ttl: h[7],
                    flow_label: word & 0xf_ffff,
                    dont_fragment: true,
                    protocol: h[6],
                    transport: bytes.get(40..total)?.to_vec(),
                    ip_checksum_ok: true,
                })
            }
            _ => None,
        }
    }

    /// Whether it is IPv6.
    pub fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Both ends with their ports (0 for protocols without).
    pub fn ends(&self) -> Ends {
        let port = |at: usize| match self.protocol {
            proto::TCP | proto::UDP => self.transport.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]])),
            _ => 0,
        };
        Ends { src: SocketAddr::new(self.src, port(0)), dst: SocketAddr::new(self.dst, port(2)) }
    }

    /// The TCP header in live values, and the payload.
    pub fn tcp(&self) -> Option<(Tcp, &[u8])> {
        if self.protocol != proto::TCP {
            return None;
        }
        let h = self.transport.get(..20)?;
        let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let header_len = usize::from(h[12] >> 4) * 4;
        let options = self.transport.get(20..header_len)?;
        let payload = self.transport.get(header_len..)?;
        let tcp = Tcp {
            ports: Some((half(0), half(2))),
            flags: half(12) & 0x1ff,
            ace: false,
            seq: word(4),
            len: payload.len() as u16,
            ack: if half(12) & flag::ACK == 0 { 0 } else { word(8) },
            win: Some(half(14)),
            urg: half(18),
            options: Some(parse_options(options)?),
        };
        Some((tcp, payload))
    }

    /// Payload of a datagram.
    pub fn udp(&self) -> Option<&[u8]> {
        (self.protocol == proto::UDP).then(|| self.transport.get(8..)).flatten()
    }

    /// Type, code and the four octets behind the checksum of an ICMP message.
    pub fn icmp(&self) -> Option<(u8, u8, u32)> {
        let m = self.transport.get(..8)?;
        matches!(self.protocol, proto::ICMP | proto::ICMPV6)
            .then(|| (m[0], m[1], u32::from_be_bytes([m[4], m[5], m[6], m[7]])))
    }

    /// Whether the transport checksum is right (of a packet whose checksum no device completes).
    pub fn checksum_ok(&self) -> bool {
        let t = &self.transport;
        match self.protocol {
            proto::TCP | proto::UDP | proto::ICMPV6 => {
                checksum(&[&pseudo(self.src, self.dst, self.protocol, t.len()), t]) == 0
            }
            proto::ICMP => checksum(&[t]) == 0,
            _ => true,
        }
    }
}
