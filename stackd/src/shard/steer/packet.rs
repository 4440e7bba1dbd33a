//! What steering must see of a frame: addresses, ports, whether it opens a connection, fragment identity. Whatever is malformed
//! goes to shard 0, whose stack counts it.

use super::Flow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;
const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;
/// More extension headers than any sane packet has.
const MAX_EXTENSIONS: usize = 8;

/// What tells the fragments of one packet from those of others (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentKey {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub key: FragmentKey,
    /// The first fragment tells the ports.
    pub flow: Option<Flow>,
    /// It starts the packet, ports or not.
    pub first: bool,
}

/// What a packet is to steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Flow {
        flow: Flow,
        opens: bool,
    },
    Fragment(Fragment),
    /// To be handled once, by whomever.
    Once,
    ForAll,
}

/// The IP packet in an Ethernet frame.
pub(super) fn network(frame: &[u8]) -> Option<&[u8]> {
    let ethertype = frame.get(12..14)?;
    let packet = frame.get(14..)?;
    matches!(u16::from_be_bytes([ethertype[0], ethertype[1]]), ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then_some(packet)
}

pub(super) fn look(packet: &[u8]) -> Seen {
    let seen = match packet.first().map(|b| b >> 4) {
        Some(4) => look_v4(packet),
        Some(6) => look_v6(packet),
        _ => None,
    };
    seen.unwrap_or(Seen::Once)
}

fn look_v4(packet: &[u8]) -> Option<Seen> {
    let addr = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|o| Ipv4Addr::from(*o));
    let (src, dst) = (addr(12)?, addr(16)?);
    let protocol = *packet.get(9)?;
    let transport = packet.get(usize::from(packet[0] & 0xf) * 4..)?;
    let fragment = word(packet, 6)?;
    if fragment & 0x3fff != 0 {
        let key = FragmentKey { src: src.into(), dst: dst.into(), id: word(packet, 4)?.into(), protocol };
        return Some(fragment_of(key, fragment & 0x1fff == 0, transport));
    }
    Some(transport_of(protocol, src.into(), dst.into(), dst.is_multicast() || dst.is_broadcast(), transport))
}

fn look_v6(packet: &[u8]) -> Option<Seen> {
    let addr = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|o| Ipv6Addr::from(*o));
    let (src, dst) = (addr(8)?, addr(24)?);
    let mut protocol = *packet.get(6)?;
    let mut rest = packet.get(40..)?;
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION => {
                protocol = *rest.first()?;
                rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
            }
            IPV6_FRAGMENT => {
                let id = u32::from_be_bytes(*rest.get(4..)?.first_chunk::<4>()?);
                let key = FragmentKey { src: src.into(), dst: dst.into(), id, protocol: *rest.first()? };
                return Some(fragment_of(key, word(rest, 2)? & 0xfff8 == 0, rest.get(8..)?));
            }
            _ => return Some(transport_of(protocol, src.into(), dst.into(), dst.is_multicast(), rest)),
        }
    }
    None
}

fn fragment_of(key: FragmentKey, first: bool, transport: &[u8]) -> Seen {
    let flow = if first { flow(key.protocol, key.src, key.dst, transport) } else { None };
    Seen::Fragment(Fragment { key, flow, first })
}

fn transport_of(protocol: u8, src: IpAddr, dst: IpAddr, group: bool, transport: &[u8]) -> Seen {
    match protocol {
        ICMP | ICMPV6 if matches!((protocol, transport.first()), (ICMP, Some(&ECHO)) | (ICMPV6, Some(&ECHO_V6))) => {
            Seen::Once
        }
        // Errors and neighbour discovery may concern any shard.
        ICMP | ICMPV6 => Seen::ForAll,
        _ if group => Seen::ForAll,
        _ => match flow(protocol, src, dst, transport) {
            // RFC 9293, 3.5: a SYN without ACK asks for a connection.
            Some(flow) => Seen::Flow { flow, opens: flow.tcp && transport.get(13).is_some_and(|f| f & 0x12 == 0x02) },
            None => Seen::Once,
        },
    }
}

fn flow(protocol: u8, src: IpAddr, dst: IpAddr, transport: &[u8]) -> Option<Flow> {
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let (local, remote) = (SocketAddr::new(dst, word(transport, 2)?), SocketAddr::new(src, word(transport, 0)?));
    Some(Flow { tcp: protocol == TCP, local, remote })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}
