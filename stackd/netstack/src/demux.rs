//! Who gets a segment: the connection of its four-tuple, else the best listener or bound socket of its port.

use core::hash::{BuildHasher, Hasher};
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use stackd_base::{PortId, SockId};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A flow as this host sees it. IPv4 addresses are held v4-mapped, so that one table serves both families and a dual-stack
/// socket is found by the address it really talks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
}

impl FlowKey {
    /// The key of a flow between two addresses.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local: mapped(local.ip()).octets(),
            remote: mapped(remote.ip()).octets(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// Same flow, other local port.
    #[must_use]
    pub const fn with_local_port(self, local_port: u16) -> Self {
        Self { local_port, ..self }
    }

    /// Our side.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(unmapped(Ipv6Addr::from(self.local)), self.local_port)
    }

    /// The peer's side.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(unmapped(Ipv6Addr::from(self.remote)), self.remote_port)
    }

    /// All 36 bytes, for keyed hashes.
    pub fn bytes(&self) -> [u8; 36] {
        let mut out = [0; 36];
        out[..16].copy_from_slice(&self.local);
        out[16..32].copy_from_slice(&self.remote);
        out[32..34].copy_from_slice(&self.local_port.to_be_bytes());
        out[34..].copy_from_slice(&self.remote_port.to_be_bytes());
        out
    }
}

/// An address as IPv6: IPv4 becomes `::ffff:a.b.c.d`.
pub fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The address as it is on the wire: a v4-mapped one becomes IPv4.
pub fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

/// `addr` as it is on the wire.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The shard of a flow: the same from both ends, on any queue, in every shard.
///
/// Symmetric on purpose (source and destination may be swapped), and unkeyed because a device or another process must be able to compute it.
pub fn flow_shard(a: SocketAddr, b: SocketAddr, shards: u8) -> u8 {
    if shards <= 1 {
        return 0;
    }
    let fold = |s: SocketAddr| {
        let ip = u128::from(mapped(s.ip()));
        let folded = (ip >> 64) as u64 ^ ip as u64;
        (folded ^ u64::from(s.port()).rotate_left(48)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    // Addition commutes; the multiply-shift afterwards spreads sums over the shards.
    let sum = fold(a).wrapping_add(fold(b));
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (((mixed >> 32) * u64::from(shards)) >> 32) as u8
}

/// Keyed hash: peers choose what goes into these tables, so an unkeyed hash would let them choose the collisions too.
#[derive(Clone, Copy, Debug)]
pub struct Keyed {
    k0: u64,
    k1: u64,
}

impl Keyed {
    /// A hasher with this secret.
    pub const fn new(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// SipHash-1-3 of some bytes.
    pub fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let mut h = self.build_hasher();
        h.write(bytes);
        h.finish()
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.k0, self.k1)
    }
}

/// What a four-tuple belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEntry {
    /// A connection (or a connected UDP socket), by socket.
    Sock(SockId),
    /// A TIME_WAIT entry.
    TimeWait(u32),
    /// A half-open passive connection.
    Request(u32),
}

/// A socket that waits for whoever comes: a listener, or an unconnected UDP socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Which socket.
    pub sock: SockId,
    /// Local address; unspecified = any.
    pub ip: IpAddr,
    /// IPv6 socket that takes IPv4 too.
    pub dual: bool,
    /// `SO_BINDTODEVICE`.
    pub device: Option<PortId>,
    /// Belongs to an `SO_REUSEPORT` group.
    pub reuseport: bool,
    /// UDP: the peer it is connected to.
    pub peer: Option<SocketAddr>,
}

impl Waiting {
    /// How well this socket fits a packet; `None` = not at all. More specific beats less, as Linux's `compute_score`.
    fn score(&self, local: IpAddr, remote: SocketAddr, port: PortId) -> Option<u32> {
        let mut score = match (self.ip, local) {
            (IpAddr::V4(mine), IpAddr::V4(to)) if mine == to => 5,
            (IpAddr::V6(mine), IpAddr::V6(to)) if mine == to => 5,
            (IpAddr::V4(mine), IpAddr::V4(_)) if mine.is_unspecified() => 2,
            (IpAddr::V6(mine), IpAddr::V6(_)) if mine.is_unspecified() => 1,
            (IpAddr::V6(mine), IpAddr::V4(_)) if mine.is_unspecified() && self.dual => 1,
            _ => return None,
        };
        if let Some(peer) = self.peer {
            if peer != remote {
                return None;
            }
            score += 16;
        }
        match self.device {
            Some(device) if device == port => score += 8,
            Some(_) => return None,
            None => {}
        }
        Some(score)
    }
}

/// Four-tuples and waiting sockets of one protocol.
#[derive(Debug)]
pub struct Demux {
    flows: HashMap<FlowKey, FlowEntry, Keyed>,
    waiting: HashMap<u16, SmallVec<[Waiting; 2]>, Keyed>,
    key: Keyed,
}

impl Demux {
    /// Empty tables that hash with `key`.
    pub fn new(key: Keyed) -> Self {
        Self { flows: HashMap::with_hasher(key), waiting: HashMap::with_hasher(key), key }
    }

    /// Flows known.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// What a four-tuple belongs to.
    pub fn flow(&self, flow: &FlowKey) -> Option<FlowEntry> {
        self.flows.get(flow).copied()
    }

    /// Claims a four-tuple, or takes it over (a reused TIME_WAIT).
    pub fn insert_flow(&mut self, flow: FlowKey, entry: FlowEntry) {
        self.flows.insert(flow, entry);
    }

    /// Gives a four-tuple up, if it still belongs to `entry`.
    pub fn remove_flow(&mut self, flow: &FlowKey, entry: FlowEntry) {
        if self.flows.get(flow) == Some(&entry) {
            self.flows.remove(flow);
        }
    }

    /// A socket starts to wait on a port.
    pub fn insert_waiting(&mut self, port: u16, waiting: Waiting) {
        let list = self.waiting.entry(port).or_default();
        list.retain(|w| w.sock != waiting.sock);
        list.push(waiting);
    }

    /// A socket stops waiting.
    pub fn remove_waiting(&mut self, port: u16, sock: SockId) {
        if let Some(list) = self.waiting.get_mut(&port) {
            list.retain(|w| w.sock != sock);
            if list.is_empty() {
                self.waiting.remove(&port);
            }
        }
    }

    /// The waiting socket for a packet: the best match; among equals of an `SO_REUSEPORT` group, the one the flow's hash picks.
    pub fn find_waiting(&self, local: SocketAddr, remote: SocketAddr, port: PortId) -> Option<SockId> {
        let list = self.waiting.get(&local.port())?;
        let (mut best, mut best_score, mut equals): (Option<&Waiting>, u32, u64) = (None, 0, 0);
        let mut hash = None;
        for w in list {
            let Some(score) = w.score(local.ip(), remote, port) else { continue };
            let group = w.reuseport && best.is_some_and(|b| b.reuseport);
            // Among equals without a group (UDP with SO_REUSEADDR) the one that was bound last wins, as in Linux.
            if score > best_score || score == best_score && !group {
                (best, best_score, equals) = (Some(w), score, 1);
            } else if score == best_score {
                equals += 1;
                // Reservoir by the flow's hash: every member gets an equal share, a flow always the same member.
                let h = *hash.get_or_insert_with(|| self.key.hash_bytes(&FlowKey::new(local, remote).bytes()));
                if (h.rotate_left((equals as u32 * 7) % 64) >> 16) % equals == 0 {
                    best = Some(w);
                }
            }
        }
        best.map(|w| w.sock)
    }

    /// The socket connected from `local` to `remote`: whom an ICMP error about a datagram concerns.
    pub fn find_connected(&self, local: SocketAddr, remote: SocketAddr) -> Option<SockId> {
        let list = self.waiting.get(&local.port())?;
        list.iter().find(|w| w.peer == Some(remote) && (w.ip == local.ip() || w.ip.is_unspecified())).map(|w| w.sock)
    }

    /// Every waiting socket that wants a copy of a multicast or broadcast datagram.
    pub fn all_waiting(&self, local: SocketAddr, remote: SocketAddr, port: PortId) -> SmallVec<[SockId; 4]> {
        let list = self.waiting.get(&local.port()).map_or(&[][..], |l| &l[..]);
        list.iter().filter(|w| w.score(local.ip(), remote, port).is_some()).map(|w| w.sock).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sock(slot: u32) -> SockId {
        SockId { slot, generation: 1 }
    }
    fn addr(s: &str) -> SocketAddr {
        s.parse().expect("test address")
    }
    fn waiting(slot: u32, ip: &str) -> Waiting {
        let ip = ip.parse().expect("test address");
        Waiting { sock: sock(slot), ip, dual: false, device: None, reuseport: false, peer: None }
    }
    const ETH0: PortId = PortId(2);

    #[test]
    fn a_specific_address_beats_the_wildcard_and_a_device_beats_both() {
        let mut d = Demux::new(Keyed::new(1, 2));
        d.insert_waiting(80, Waiting { dual: true, ..waiting(1, "::") });
        let (to, from) = (addr("10.0.0.1:80"), addr("10.0.0.9:4000"));
        assert_eq!(d.find_waiting(to, from, ETH0), Some(sock(1)));
        d.insert_waiting(80, waiting(2, "0.0.0.0"));
        assert_eq!(d.find_waiting(to, from, ETH0), Some(sock(2)));
        d.insert_waiting(80, waiting(3, "10.0.0.1"));
        assert_eq!(d.find_waiting(to, from, ETH0), Some(sock(3)));
        d.insert_waiting(80, Waiting { device: Some(ETH0), ..waiting(4, "0.0.0.0") });
        assert_eq!(d.find_waiting(to, from, ETH0), Some(sock(4)));
        assert_eq!(d.find_waiting(to, from, PortId(3)), Some(sock(3)));
        assert_eq!(d.find_waiting(addr("10.0.0.1:81"), from, ETH0), None);
        d.remove_waiting(80, sock(3));
        assert_eq!(d.find_waiting(to, from, PortId(3)), Some(sock(2)));
    }

    #[test]
    fn v6only_takes_no_ipv4() {
        let mut d = Demux::new(Keyed::new(1, 2));
        d.insert_waiting(80, waiting(1, "::"));
        assert_eq!(d.find_waiting(addr("10.0.0.1:80"), addr("10.0.0.9:4000"), ETH0), None);
        assert_eq!(d.find_waiting(addr("[fd00::1]:80"), addr("[fd00::9]:4000"), ETH0), Some(sock(1)));
    }

    #[test]
    fn a_reuseport_group_shares_flows_evenly_and_keeps_each_flow() {
        let mut d = Demux::new(Keyed::new(3, 4));
        for i in 0..4 {
            d.insert_waiting(80, Waiting { reuseport: true, ..waiting(i, "0.0.0.0") });
        }
        let mut shares = [0u32; 4];
        for port in 1000..5000u16 {
            let from = SocketAddr::new("10.0.0.9".parse().expect("ip"), port);
            let got = d.find_waiting(addr("10.0.0.1:80"), from, ETH0).expect("a member");
            assert_eq!(d.find_waiting(addr("10.0.0.1:80"), from, ETH0), Some(got));
            shares[got.slot as usize] += 1;
        }
        assert!(shares.iter().all(|&n| (800..1200).contains(&n)), "{shares:?}");
    }

    #[test]
    fn both_directions_of_a_flow_belong_to_one_shard() {
        let mut shares = [0u32; 4];
        for port in 1000..5000u16 {
            let (a, b) = (SocketAddr::new("10.0.0.9".parse().expect("ip"), port), addr("10.0.0.1:80"));
            assert_eq!(flow_shard(a, b, 4), flow_shard(b, a, 4));
            shares[usize::from(flow_shard(a, b, 4))] += 1;
        }
        assert!(shares.iter().all(|&n| (800..1200).contains(&n)), "{shares:?}");
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_flow() {
        let (v4, v6) = (addr("10.0.0.1:80"), addr("[::ffff:10.0.0.1]:80"));
        assert_eq!(FlowKey::new(v4, v4), FlowKey::new(v6, v6));
        assert_eq!(FlowKey::new(v6, v4).local(), v4);
    }
}
