//! Network address and port translation: clients share one address.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::Instant;
use stackd_wire::{Ipv4Repr, Ipv6Repr, Sum, proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Rewrites sources on the way right, destinations on the way left, and what ICMP errors quote.
#[derive(Debug)]
pub struct Nat {
    public: [IpAddr; 2],
    next_port: u16,
    out: BTreeMap<SocketAddr, SocketAddr>,
    back: BTreeMap<SocketAddr, SocketAddr>,
}

impl Nat {
    /// Translates to `v4` and `v6`.
    pub const fn new(v4: IpAddr, v6: IpAddr) -> Self {
        Self { public: [v4, v6], next_port: 10_000, out: BTreeMap::new(), back: BTreeMap::new() }
    }

    fn translate(&mut self, inside: SocketAddr) -> SocketAddr {
        if let Some(&known) = self.out.get(&inside) {
            return known;
        }
        let outside = SocketAddr::new(self.public[usize::from(inside.is_ipv6())], self.next_port);
        self.next_port = self.next_port.wrapping_add(1).max(10_000);
        self.out.insert(inside, outside);
        self.back.insert(outside, inside);
        outside
    }

    /// An ICMP error on its way to a client quotes the packet as it was outside.
    fn translate_error(&self, packet: &IpPacket) -> Option<IpPacket> {
        let (protocol, at) = packet.transport()?;
        let (_, outer_dst) = packet.addresses()?;
        let v6 = outer_dst.is_ipv6();
        if protocol != if v6 { proto::ICMPV6 } else { proto::ICMP } {
            return None;
        }
        let quoted = IpPacket::new(packet.bytes().get(at + 8..)?.to_vec());
        let (inner_protocol, inner_at) = quoted.transport()?;
        if inner_protocol != proto::TCP {
            return None;
        }
        let port = quoted.bytes().get(inner_at..inner_at + 2)?;
        let outside = SocketAddr::new(quoted.addresses()?.0, u16::from_be_bytes([port[0], port[1]]));
        let inside = *self.back.get(&outside)?;
        let mut inner = quoted.into_bytes();
        inner[inner_at..inner_at + 2].copy_from_slice(&inside.port().to_be_bytes());
        set_address(&mut inner, true, inside.ip());
        let mut message = packet.bytes()[at..at + 8].to_vec();
        message[2..4].fill(0);
        message.extend_from_slice(&inner);
        let mut bytes = packet.bytes()[..at].to_vec();
        set_address(&mut bytes, false, inside.ip());
        let sum = match (packet.addresses()?.0, inside.ip()) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => Sum::pseudo_v6(src, dst, proto::ICMPV6, message.len() as u32),
            _ => Sum::default(),
        };
        let sum = sum.and(Sum::of(&message)).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(&message);
        Some(IpPacket::new(bytes))
    }
}

/// Rewrites one address of the IP header at the start of `bytes`, and IPv4's checksum.
fn set_address(bytes: &mut [u8], source: bool, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            if let Ok((repr, _)) = Ipv4Repr::parse_quoted(bytes) {
                let repr = if source { Ipv4Repr { src: ip, ..repr } } else { Ipv4Repr { dst: ip, ..repr } };
                repr.emit(bytes);
            }
        }
        IpAddr::V6(ip) => {
            if let Ok(repr) = Ipv6Repr::parse_quoted(bytes) {
                let repr = if source { Ipv6Repr { src: ip, ..repr } } else { Ipv6Repr { dst: ip, ..repr } };
                repr.emit(bytes);
            }
        }
    }
}

impl Middlebox for Nat {
    fn handle(&mut self, _: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(mut s) = packet.segment() else {
            // A damaged segment cannot be translated and is dropped; an error is translated by what it quotes.
            let error = if dir == Dir::Left { self.translate_error(&packet) } else { None };
            out.extend(error.map(|p| (dir, p)));
            return;
        };
        match dir {
            Dir::Right => s.src = self.translate(s.src),
            Dir::Left => match self.back.get(&s.dst) {
                Some(&inside) => s.dst = inside,
                None => return,
            },
        }
        out.push((dir, s.emit()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::middlebox::PoliteRouter;
    use crate::net::packet::tests::segment;

    #[test]
    fn both_directions_and_errors_are_translated() {
        for v6 in [false, true] {
            let public = ["10.9.9.9", "fd00::99"].map(|s| s.parse::<IpAddr>().unwrap_or_else(|e| panic!("{e}")));
            let mut nat = Nat::new(public[0], public[1]);
            let mut out = Vec::new();
            let sent = segment(v6, 1, 1000);
            nat.handle(Instant::ZERO, Dir::Right, sent.emit(), &mut out);
            let (_, translated) = out.remove(0);
            let t = translated.segment().unwrap_or_else(|| panic!("valid"));
            assert_eq!((t.src.ip(), t.dst), (public[usize::from(v6)], sent.dst));

            let mut reply = segment(v6, 9, 10);
            (reply.src, reply.dst) = (sent.dst, t.src);
            nat.handle(Instant::ZERO, Dir::Left, reply.emit(), &mut out);
            assert_eq!(out.remove(0).1.segment().map(|s| s.dst), Some(sent.src));

            let mut router = PoliteRouter::new(600, Instant::ZERO);
            router.handle(Instant::ZERO, Dir::Right, translated, &mut out);
            let (dir, error) = out.remove(0);
            assert_eq!(dir, Dir::Left);
            nat.handle(Instant::ZERO, Dir::Left, error, &mut out);
            let (_, at_home) = out.remove(0);
            assert_eq!(at_home.addresses().map(|a| a.1), Some(sent.src.ip()));
            let (_, at) = at_home.transport().unwrap_or_default();
            let quoted = IpPacket::new(at_home.bytes()[at + 8..].to_vec());
            assert_eq!(quoted.addresses().map(|a| a.0), Some(sent.src.ip()));
        }
    }
}
