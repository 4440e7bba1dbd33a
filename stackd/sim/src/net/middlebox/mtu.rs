//! Hops with a smaller MTU: one that says so, and one that does not.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::{Duration, Instant};
use stackd_wire::{IcmpRepr, Ipv4Repr, Ipv6Repr, ipv4, ipv6, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Drops what is too large, and says nothing (RFC 2923, 2.1).
#[derive(Debug)]
pub struct BlackHole {
    mtu: usize,
    from: Instant,
}

impl BlackHole {
    /// Nothing larger than `mtu` passes from `from` on.
    pub const fn new(mtu: usize, from: Instant) -> Self {
        Self { mtu, from }
    }
}

impl Middlebox for BlackHole {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        if packet.len() <= self.mtu || now < self.from {
            out.push((dir, packet));
        }
    }
}

/// Drops what is too large, and tells the sender (RFC 1191, 4; RFC 8201), no more than so often.
#[derive(Debug)]
pub struct PoliteRouter {
    mtu: usize,
    from: Instant,
    gap: Duration,
    said_at: Option<Instant>,
}

/// Least time between two errors, usually: routers limit them.
const ERROR_GAP: Duration = Duration::from_millis(1);
/// What an error quotes of the packet.
const QUOTE: usize = 128;

impl PoliteRouter {
    /// Nothing larger than `mtu` passes from `from` on.
    pub const fn new(mtu: usize, from: Instant) -> Self {
        Self { mtu, from, gap: ERROR_GAP, said_at: None }
    }

    /// One that says it less often.
    #[must_use]
    pub const fn every(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    fn too_big(&self, packet: &IpPacket) -> Option<IpPacket> {
        let (to, _) = packet.addresses()?;
        let quote = &packet.bytes()[..packet.len().min(QUOTE)];
        let icmp = IcmpRepr::PacketTooBig { mtu: self.mtu as u32 };
        let mut message = vec![0; 8];
        message.extend_from_slice(quote);
        let mut bytes;
        match to {
            IpAddr::V4(dst) => {
                icmp.emit_v4(&mut message);
                let repr = Ipv4Repr {
                    src: Ipv4Addr::new(10, 0, 9, 9),
                    dst,
                    protocol: proto::ICMP,
                    ttl: 64,
                    tos: 0,
                    ident: 0,
                    dont_fragment: false,
                    more_fragments: false,
                    fragment_offset: 0,
                    payload_len: message.len() as u16,
                };
                bytes = vec![0; ipv4::MIN_HEADER_LEN];
                repr.emit(&mut bytes);
            }
            IpAddr::V6(dst) => {
                let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, 9);
                icmp.emit_v6(&mut message, src, dst);
                let repr = Ipv6Repr {
                    src,
                    dst,
                    next_header: proto::ICMPV6,
                    hop_limit: 64,
                    traffic_class: 0,
                    flow_label: 0,
                    payload_len: message.len() as u16,
                };
                bytes = vec![0; ipv6::HEADER_LEN];
                repr.emit(&mut bytes);
            }
        }
        bytes.extend_from_slice(&message);
        Some(IpPacket::new(bytes))
    }
}

impl Middlebox for PoliteRouter {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        if packet.len() <= self.mtu || now < self.from {
            out.push((dir, packet));
            return;
        }
        if self.said_at.is_some_and(|t| now - t < self.gap) {
            return;
        }
        self.said_at = Some(now);
        out.extend(self.too_big(&packet).map(|p| (dir.back(), p)));
    }
}
