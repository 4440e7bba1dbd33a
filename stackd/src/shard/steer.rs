//! Which shard a frame belongs to, when there are several.
//!
//! A flow lives on one shard for life. A session's sockets live on the session's shard, so a listener's connections must reach that
//! shard whatever their hash says: a bound local port is *claimed* in a table all shards read. Flows of unclaimed ports are
//! those that connected from an ephemeral port, which the stack chose so that the symmetric flow hash names its own shard.

use stackd_netstack::demux::flow_shard;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

const PORTS: usize = 1 << 16;
/// A table's word: shard + 1 in the low byte, how many sockets claim the port above it.
const SHARD_MASK: u32 = 0xff;
const ONE: u32 = 0x100;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const IPV6_FRAGMENT: u8 = 44;
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;

/// Who gets a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One shard.
    Shard(u8),
    /// Every shard: neighbour discovery, ICMP errors.
    All,
}

/// The claims of all shards.
#[derive(Debug)]
pub struct Steering {
    shards: u8,
    tcp: Box<[AtomicU32]>,
    udp: Box<[AtomicU32]>,
}

impl Steering {
    /// Nothing claimed yet.
    pub fn new(shards: u8) -> Self {
        let table = || if shards > 1 { (0..PORTS).map(|_| AtomicU32::new(0)).collect() } else { Box::default() };
        Self { shards, tcp: table(), udp: table() }
    }

    /// Whether there is anything to steer.
    pub fn is_needed(&self) -> bool {
        self.shards > 1
    }

    fn word(&self, tcp: bool, port: u16) -> Option<&AtomicU32> {
        if tcp { &self.tcp } else { &self.udp }.get(usize::from(port))
    }

    /// One more socket of `shard` has this local port. False: another shard has it, and keeps it.
    pub fn claim(&self, tcp: bool, port: u16, shard: u8) -> bool {
        let Some(word) = self.word(tcp, port) else { return true };
        let mine = u32::from(shard) + 1;
        let update = |w: u32| (w == 0 || w & SHARD_MASK == mine).then(|| ((w & !SHARD_MASK) + ONE) | mine);
        word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    /// Takes one claim back.
    pub fn release(&self, tcp: bool, port: u16) {
        let Some(word) = self.word(tcp, port) else { return };
        let update = |w: u32| (w >= ONE).then(|| if w < 2 * ONE { 0 } else { w - ONE });
        // Nothing to take back: then nothing is wrong either.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The owner of an Ethernet frame.
    pub fn owner(&self, frame: &[u8]) -> Owner {
        let Some((ethertype, packet)) = frame.get(12..14).zip(frame.get(14..)) else { return Owner::All };
        match u16::from_be_bytes([ethertype[0], ethertype[1]]) {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => self.owner_of_packet(packet),
            _ => Owner::All,
        }
    }

    /// The owner of an IP packet. Its destination is this host.
    pub fn owner_of_packet(&self, packet: &[u8]) -> Owner {
        let Some((protocol, local, remote)) = flow(packet) else { return without_ports(packet) };
        let claimed = self.word(protocol == TCP, local.port()).map_or(0, |w| w.load(Ordering::Relaxed));
        match (claimed & SHARD_MASK) as u8 {
            0 => Owner::Shard(flow_shard(local, remote, self.shards)),
            shard => Owner::Shard(shard - 1),
        }
    }
}

/// Who gets a packet without ports. Pings are answered once and fragments are put together in one place: by shard 0. Neighbour
/// discovery and ICMP errors may concern any shard.
fn without_ports(packet: &[u8]) -> Owner {
    let (protocol, header, fragment) = match packet.first().map(|b| b >> 4) {
        Some(4) => {
            let fragment = packet.get(6..8).is_some_and(|f| (f[0] & 0x3f) | f[1] != 0);
            (packet.get(9).copied(), usize::from(packet[0] & 0xf) * 4, fragment)
        }
        Some(6) => (packet.get(6).copied(), 40, packet.get(6) == Some(&IPV6_FRAGMENT)),
        _ => return Owner::All,
    };
    let kind = packet.get(header).copied();
    if fragment || matches!((protocol, kind), (Some(ICMP), Some(ECHO)) | (Some(ICMPV6), Some(ECHO_V6))) {
        Owner::Shard(0)
    } else {
        Owner::All
    }
}

/// Protocol, local and remote end of a TCP or UDP packet. Fragments other than the first have no ports: `None`, as for everything else.
fn flow(packet: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (protocol, src, dst, transport): (u8, IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
            if fragment & 0x3fff != 0 {
                // RFC 791: more fragments follow, or this is not the first. Reassembly happens on one shard: by addresses alone.
                return None;
            }
            let addr = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|o| Ipv4Addr::from(*o));
            (*packet.get(9)?, addr(12)?.into(), addr(16)?.into(), packet.get(header..)?)
        }
        6 => {
            let addr = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|o| Ipv6Addr::from(*o));
            (*packet.get(6)?, addr(8)?.into(), addr(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes([*transport.get(at)?, *transport.get(at + 1)?]));
    Some((protocol, SocketAddr::new(dst, port(2)?), SocketAddr::new(src, port(0)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
        let mut f = vec![0; 12];
        f.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
        f.extend(src);
        f.extend(dst);
        f.extend(sport.to_be_bytes());
        f.extend(dport.to_be_bytes());
        f.extend([0; 16]);
        f
    }

    #[test]
    fn a_flow_has_the_same_owner_in_both_directions() {
        let s = Steering::new(2);
        let mut seen = [false; 2];
        for port in 1000..1100 {
            let there = s.owner(&tcp_frame([10, 0, 0, 1], [10, 0, 0, 2], port, 80));
            let back = s.owner(&tcp_frame([10, 0, 0, 2], [10, 0, 0, 1], 80, port));
            assert_eq!(there, back);
            if let Owner::Shard(n) = there {
                seen[usize::from(n)] = true;
            }
        }
        assert_eq!(seen, [true; 2], "both shards get flows");
    }

    #[test]
    fn a_claimed_port_overrides_the_hash_until_its_last_claim_goes() {
        let s = Steering::new(2);
        let frames: Vec<_> = (1000..1050).map(|p| tcp_frame([10, 0, 0, 1], [10, 0, 0, 2], p, 80)).collect();
        assert!(s.claim(true, 80, 1) && s.claim(true, 80, 1));
        assert!(!s.claim(true, 80, 0), "another shard's port");
        assert!(frames.iter().all(|f| s.owner(f) == Owner::Shard(1)));
        s.release(true, 80);
        assert!(frames.iter().all(|f| s.owner(f) == Owner::Shard(1)));
        s.release(true, 80);
        assert!(frames.iter().any(|f| s.owner(f) == Owner::Shard(0)));
        assert!(s.claim(true, 80, 0));
    }

    #[test]
    fn what_has_no_ports_belongs_to_all() {
        let s = Steering::new(2);
        assert_eq!(s.owner(&[0; 10]), Owner::All);
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(s.owner(&arp), Owner::All);
        let mut fragment = tcp_frame([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
        fragment[20] = 0x20;
        assert_eq!(s.owner(&fragment), Owner::Shard(0), "put together in one place");
        let mut ping = tcp_frame([10, 0, 0, 1], [10, 0, 0, 2], 0x0800, 0);
        ping[23] = ICMP;
        assert_eq!(s.owner(&ping), Owner::Shard(0), "answered once");
    }
}
