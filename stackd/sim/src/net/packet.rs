//! An IP packet as it crosses a virtual wire: real bytes with real checksums, for a middlebox to rewrite and a receiver to refuse.

use stackd_wire::{EcnCodepoint, Ipv4Repr, Ipv6Repr, Sum, TcpRepr, ipv4, ipv6, proto};
use std::net::{IpAddr, SocketAddr};

/// Bytes that a packet takes on Ethernet besides its own: header, checksum, preamble, gap.
const LINK_OVERHEAD: u64 = 14 + 4 + 8 + 12;

/// An IP packet without a link-layer header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpPacket {
    bytes: Vec<u8>,
}

/// A TCP segment taken apart: for middleboxes that rewrite it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port.
    pub dst: SocketAddr,
    /// Header.
    pub tcp: TcpRepr,
    /// What follows it.
    pub payload: Vec<u8>,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4's "don't fragment" and identification, TTL or hop limit.
    ip: IpRest,
}

#[derive(Clone, Copy, Debug)]
struct IpRest {
    dont_fragment: bool,
    ident: u16,
    ttl: u8,
    flow_label: u32,
}

impl Segment {
    /// Sequence number after it.
    pub fn end(&self) -> stackd_base::SeqNum {
        self.tcp.seq + self.tcp.sequence_len(self.payload.len() as u32)
    }

    /// Carries nothing but an acknowledgment.
    pub fn is_pure_ack(&self) -> bool {
        let f = self.tcp.flags;
        self.payload.is_empty() && self.tcp.ack.is_some() && !f.syn() && !f.fin() && !f.rst()
    }

    /// Back on the wire, with checksums made anew.
    pub fn emit(&self) -> IpPacket {
        let tcp_len = self.tcp.header_len();
        let len = tcp_len + self.payload.len();
        let (src, dst) = (self.src.ip(), self.dst.ip());
        let mut bytes = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let repr = Ipv4Repr {
                    src,
                    dst,
                    protocol: proto::TCP,
                    ttl: self.ip.ttl,
                    tos: self.tos,
                    ident: self.ip.ident,
                    dont_fragment: self.ip.dont_fragment,
                    more_fragments: false,
                    fragment_offset: 0,
                    payload_len: len as u16,
                };
                let mut b = vec![0; ipv4::MIN_HEADER_LEN + tcp_len];
                repr.emit(&mut b);
                b
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let repr = Ipv6Repr {
                    src,
                    dst,
                    next_header: proto::TCP,
                    hop_limit: self.ip.ttl,
                    traffic_class: self.tos,
                    flow_label: self.ip.flow_label,
                    payload_len: len as u16,
                };
                let mut b = vec![0; ipv6::HEADER_LEN + tcp_len];
                repr.emit(&mut b);
                b
            }
            _ => return IpPacket { bytes: Vec::new() },
        };
        let at = bytes.len() - tcp_len;
        let tcp = TcpRepr { src_port: self.src.port(), dst_port: self.dst.port(), ..self.tcp };
        tcp.emit(&mut bytes[at..]);
        TcpRepr::fill_checksum(&mut bytes[at..], src, dst, Sum::of(&self.payload), self.payload.len());
        bytes.extend_from_slice(&self.payload);
        IpPacket { bytes }
    }
}

impl IpPacket {
    /// These bytes.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
    /// Length of the packet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Bytes of a wire's time.
    pub fn wire_bytes(&self) -> u64 {
        self.bytes.len() as u64 + LINK_OVERHEAD
    }
    /// It is IPv6.
    pub fn is_v6(&self) -> bool {
        self.bytes.first().is_some_and(|b| b >> 4 == 6)
    }

    /// Source and destination address; `None` for a packet too short to have any.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let b = &self.bytes;
        if self.is_v6() {
            let a = |at: usize| b.get(at..)?.first_chunk::<16>().map(|o| IpAddr::from(*o));
            Some((a(8)?, a(24)?))
        } else {
            let a = |at: usize| b.get(at..)?.first_chunk::<4>().map(|o| IpAddr::from(*o));
            Some((a(12)?, a(16)?))
        }
    }

    /// Transport protocol and where its header begins. The hosts of a simulation send no extension headers and no IP options.
    pub fn transport(&self) -> Option<(u8, usize)> {
        if self.is_v6() {
            Some((*self.bytes.get(6)?, ipv6::HEADER_LEN))
        } else {
            Some((*self.bytes.get(9)?, usize::from(self.bytes.first()? & 15) * 4))
        }
    }

    /// The TCP segment in it, if there is one and its checksums are right.
    pub fn segment(&self) -> Option<Segment> {
        let (protocol, at) = self.transport()?;
        if protocol != proto::TCP {
            return None;
        }
        let (src, dst) = self.addresses()?;
        let (tcp, header) = TcpRepr::parse(self.bytes.get(at..)?).ok()?;
        let payload = self.bytes.get(at + header..)?;
        if !stackd_wire::tcp::verify(&self.bytes[at..at + header], src, dst, Sum::of(payload), payload.len()) {
            return None;
        }
        let (tos, ip) = if self.is_v6() {
            let (ip, _) = Ipv6Repr::parse(&self.bytes, self.bytes.len()).ok()?;
            let rest = IpRest { dont_fragment: true, ident: 0, ttl: ip.hop_limit, flow_label: ip.flow_label };
            (ip.traffic_class, rest)
        } else {
            let (ip, _) = Ipv4Repr::parse(&self.bytes, self.bytes.len()).ok()?;
            let rest = IpRest { dont_fragment: ip.dont_fragment, ident: ip.ident, ttl: ip.ttl, flow_label: 0 };
            (ip.tos, rest)
        };
        Some(Segment {
            src: SocketAddr::new(src, tcp.src_port),
            dst: SocketAddr::new(dst, tcp.dst_port),
            tcp,
            payload: payload.to_vec(),
            tos,
            ip,
        })
    }

    /// ECN codepoint.
    pub fn ecn(&self) -> EcnCodepoint {
        let tos = if self.is_v6() {
            self.bytes.get(1).map_or(0, |b| b >> 4)
        } else {
            self.bytes.get(1).copied().unwrap_or(0)
        };
        EcnCodepoint::from_tos(tos)
    }

    /// Writes the ECN codepoint. The transport's checksum does not cover it.
    pub fn set_ecn(&mut self, ecn: EcnCodepoint) {
        if self.bytes.len() < ipv4::MIN_HEADER_LEN {
            return;
        }
        if self.is_v6() {
            // The traffic class straddles the first two octets.
            self.bytes[1] = self.bytes[1] & 0xcf | (ecn as u8) << 4;
            return;
        }
        self.bytes[1] = ecn.apply_to(self.bytes[1]);
        self.bytes[10..12].fill(0);
        let sum = Sum::of(&self.bytes[..ipv4::MIN_HEADER_LEN]).finish();
        self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// One octet behind the IP header is changed: the transport's checksum must find it.
    pub fn flip(&mut self, random: u64) {
        let Some((_, at)) = self.transport() else { return };
        let Some(len) = self.bytes.len().checked_sub(at).filter(|n| *n > 0) else { return };
        let change = (random >> 32) as u8;
        self.bytes[at + (random as u32 as usize) % len] ^= change.max(1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use stackd_base::SeqNum;

    /// A segment of a test.
    pub(crate) fn segment(v6: bool, seq: u32, payload: usize) -> Segment {
        let (a, b) = if v6 { ("[fd00::1]:1000", "[fd00::2]:80") } else { ("10.0.0.1:1000", "10.0.0.2:80") };
        let addr = |s: &str| s.parse::<SocketAddr>().unwrap_or_else(|e| panic!("{e}"));
        Segment {
            src: addr(a),
            dst: addr(b),
            tcp: TcpRepr { seq: SeqNum(seq), ack: Some(SeqNum(7)), window: 1000, ..TcpRepr::default() },
            payload: (0..payload).map(|i| i as u8).collect(),
            tos: EcnCodepoint::Ect0 as u8,
            ip: IpRest { dont_fragment: true, ident: 5, ttl: 64, flow_label: 0 },
        }
    }

    #[test]
    fn a_segment_survives_the_wire_and_a_flipped_octet_is_found() {
        for v6 in [false, true] {
            let s = segment(v6, 100, 50);
            let p = s.emit();
            let back = p.segment().unwrap_or_else(|| panic!("valid"));
            assert_eq!((back.src, back.dst, back.tcp.seq, &back.payload), (s.src, s.dst, s.tcp.seq, &s.payload));
            for r in 0..10_000u64 {
                let mut bad = p.clone();
                bad.flip(r.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                assert_ne!(bad, p);
                assert!(bad.segment().is_none(), "{r}");
            }
        }
    }

    #[test]
    fn ecn_is_rewritten_in_both_families() {
        for v6 in [false, true] {
            let mut p = segment(v6, 1, 3).emit();
            assert_eq!(p.ecn(), EcnCodepoint::Ect0);
            p.set_ecn(EcnCodepoint::Ce);
            assert_eq!(p.ecn(), EcnCodepoint::Ce);
            assert!(p.segment().is_some());
        }
    }
}
