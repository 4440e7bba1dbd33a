//! Packets that scripts inject.

use super::{checksum, encode, proto, pseudo};
use crate::ast::{IpInfo, Outer, Quoted, Tcp, Tos};
use std::net::{IpAddr, SocketAddr};

/// Hop limit of injected packets that say none.
const TTL: u8 = 255;

/// Source and destination of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
}

/// An IP packet around `payload`.
fn ip(src: IpAddr, dst: IpAddr, info: &IpInfo, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let tos = match info.tos {
        Tos::Any | Tos::Ect01 => 0,
        Tos::Ecn(n) | Tos::Octet(n) => n,
    };
    let ttl = info.ttl.unwrap_or(TTL);
    let mut out = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend_from_slice(&[0x45, tos]);
            out.extend_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
            // No identification, DF set.
            out.extend_from_slice(&[0, 0, 0x40, 0, ttl, protocol, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let word = 6 << 28 | u32::from(tos) << 20 | info.flow_label.unwrap_or(0);
            out.extend_from_slice(&word.to_be_bytes());
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            out.extend_from_slice(&[protocol, ttl]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
        }
        _ => unreachable!("both ends are of the script's family"),
    }
    out.extend_from_slice(payload);
    out
}

/// A TCP segment; `tcp` in live values.
pub fn build_tcp(ends: Ends, info: &IpInfo, tcp: &Tcp, payload: &[u8]) -> Vec<u8> {
    let options = encode(tcp.options.as_deref().unwrap_or_default());
    let mut h = Vec::new();
    h.extend_from_slice(&ends.src.port().to_be_bytes());
    h.extend_from_slice(&ends.dst.port().to_be_bytes());
    h.extend_from_slice(&tcp.seq.to_be_bytes());
    h.extend_from_slice(&tcp.ack.to_be_bytes());
    let words = (20 + options.len()) as u16 / 4;
    h.extend_from_slice(&(words << 12 | tcp.flags).to_be_bytes());
    h.extend_from_slice(&tcp.win.unwrap_or(0).to_be_bytes());
    h.extend_from_slice(&[0, 0]);
    h.extend_from_slice(&tcp.urg.to_be_bytes());
    h.extend_from_slice(&options);
    h.extend_from_slice(payload);
    let (src, dst) = (ends.src.ip(), ends.dst.ip());
    let sum = checksum(&[&pseudo(src, dst, proto::TCP, h.len()), &h]);
    h[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, info, proto::TCP, &h)
}

/// A datagram.
pub fn build_udp(ends: Ends, info: &IpInfo, payload: &[u8]) -> Vec<u8> {
    let mut h = Vec::new();
    h.extend_from_slice(&ends.src.port().to_be_bytes());
    h.extend_from_slice(&ends.dst.port().to_be_bytes());
    h.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    h.extend_from_slice(&[0, 0]);
    h.extend_from_slice(payload);
    let (src, dst) = (ends.src.ip(), ends.dst.ip());
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
    let sum = match checksum(&[&pseudo(src, dst, proto::UDP, h.len()), &h]) {
        0 => 0xffff,
        sum => sum,
    };
    h[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, info, proto::UDP, &h)
}

/// An ICMP message from the peer, quoting a packet of ours from `quoted_ends.src` to `quoted_ends.dst`. `rest` are octets 4 to 8.
#[allow(clippy::too_many_arguments)]
pub fn build_icmp(
    src: IpAddr,
    dst: IpAddr,
    info: &IpInfo,
    (kind, code): (u8, u8),
    rest: u32,
    quoted: Option<Quoted>,
    quoted_ends: Ends,
) -> Vec<u8> {
    let mut m = vec![kind, code, 0, 0];
    m.extend_from_slice(&rest.to_be_bytes());
    match quoted {
        Some(Quoted::Raw { len }) => m.resize(usize::from(len).max(8), 0),
        Some(Quoted::Tcp { seq, len }) => m.extend(quote(quoted_ends, proto::TCP, seq, 20 + usize::from(len))),
        Some(Quoted::Udp { len }) => m.extend(quote(quoted_ends, proto::UDP, 0, 8 + usize::from(len))),
        // Nothing said: as a segment with sequence number 0, as the original does.
        None if matches!((src.is_ipv6(), kind), (false, 3..=5 | 11..=12) | (true, 1..=4)) => {
            m.extend(quote(quoted_ends, proto::TCP, 0, 20));
        }
        None => {}
    }
    let protocol = if src.is_ipv6() { proto::ICMPV6 } else { proto::ICMP };
    let sum = match src {
        IpAddr::V4(_) => checksum(&[&m]),
        IpAddr::V6(_) => checksum(&[&pseudo(src, dst, protocol, m.len()), &m]),
    };
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, info, protocol, &m)
}

/// The IP header and the first eight bytes behind it of a packet of ours, whose transport part was `len` bytes long.
fn quote(ends: Ends, protocol: u8, seq: u32, len: usize) -> Vec<u8> {
    let mut t = vec![0; len];
    t[..2].copy_from_slice(&ends.src.port().to_be_bytes());
    t[2..4].copy_from_slice(&ends.dst.port().to_be_bytes());
    match protocol {
        proto::TCP => t[4..8].copy_from_slice(&seq.to_be_bytes()),
        _ => t[4..6].copy_from_slice(&(len as u16).to_be_bytes()),
    }
    let mut packet = ip(ends.src.ip(), ends.dst.ip(), &IpInfo::default(), protocol, &t);
    packet.truncate(packet.len() - len + 8);
    packet
}

/// `packet` inside other headers, the last of `outer` next to it.
pub fn wrap(packet: Vec<u8>, outer: &[Outer]) -> Vec<u8> {
    let mut inner = packet;
    let mut kind = if inner[0] >> 4 == 6 { proto::IPV6 } else { proto::IPIP };
    for header in outer.iter().rev() {
        match header {
            Outer::V4 { src, dst, ip: info } => {
                inner = ip((*src).into(), (*dst).into(), info, kind, &inner);
                kind = proto::IPIP;
            }
            Outer::V6 { src, dst, ip: info } => {
                inner = ip((*src).into(), (*dst).into(), info, kind, &inner);
                kind = proto::IPV6;
            }
            Outer::Gre { flags, sum, key, seq } => {
                let ether_type: u16 = match kind {
                    proto::IPV6 => 0x86dd,
                    proto::MPLS => 0x8847,
                    _ => 0x0800,
                };
                let mut h = flags.to_be_bytes().to_vec();
                h.extend_from_slice(&ether_type.to_be_bytes());
                for (bit, value) in [(0x8000, sum), (0x2000, key), (0x1000, seq)] {
                    if flags & bit != 0 {
                        h.extend_from_slice(&value.to_be_bytes());
                    }
                }
                h.extend_from_slice(&inner);
                (inner, kind) = (h, proto::GRE);
            }
            Outer::Mpls(stack) => {
                let mut h: Vec<u8> = stack.iter().flat_map(|e| e.to_be_bytes()).collect();
                h.extend_from_slice(&inner);
                (inner, kind) = (h, proto::MPLS);
            }
        }
    }
    inner
}
