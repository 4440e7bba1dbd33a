//! The way out: route, source, fragments, link-layer address, queue.

use super::{IpEnv, IpLayer, RouteDecision, RouteQuery};
use crate::neigh::{NudState, Resolution};
use crate::packet::{HeaderBuf, Packet, Payload, Sender};
use crate::route::{Route, RouteOptions, RouteOrigin, RouteType};
use siphasher::sip::SipHasher13;
use stackd_base::{DropReason, Errno, Instant, Mib, PortId, Rng};
use stackd_qdisc::{Dropped, QueuedPacket};
use stackd_wire::{
    EtherType, EthernetRepr, Gso, Ipv4Repr, Ipv6Fragment, Ipv6Repr, MacAddr, TcpRepr, ethernet, ipv4, ipv6, proto, tcp,
    udp,
};
use std::hash::Hasher;
use std::net::IpAddr;

/// A packet that a transport wants sent.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Source; ours.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol of `transport`.
    pub protocol: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Hop limit; `None`: the route's or the default.
    pub ttl: Option<u8>,
    /// Never fragment (TCP; UDP with `IP_PMTUDISC_DO`): a packet that does not fit is refused.
    pub dont_fragment: bool,
    /// IPv4's DF on what fits: routers must not fragment either, but say the MTU.
    pub df: bool,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// The transport header. TCP's checksum is filled in here; every other must be complete.
    pub transport: &'a [u8],
    /// What follows it.
    pub payload: Payload,
    /// TCP payload bytes per segment; 0: one segment.
    pub gso_size: u16,
    /// The socket.
    pub sender: Option<Sender>,
    /// Hash of the flow.
    pub flow_hash: u64,
    /// Earliest departure time.
    pub departure: Option<Instant>,
    /// TC_PRIO_*.
    pub priority: u8,
    /// Bytes per second the socket allows; `u64::MAX` = no limit.
    pub max_pacing_rate: u64,
}

impl<'a> Outgoing<'a> {
    /// With everything else at its default: may be fragmented, no socket, best effort.
    pub const fn new(src: IpAddr, dst: IpAddr, protocol: u8, transport: &'a [u8], payload: Payload) -> Self {
        Self {
            src,
            dst,
            protocol,
            tos: 0,
            ttl: None,
            dont_fragment: false,
            df: false,
            flow_label: 0,
            transport,
            payload,
            gso_size: 0,
            sender: None,
            flow_hash: 0,
            departure: None,
            priority: 0,
            max_pacing_rate: u64::MAX,
        }
    }
}

/// Why a packet was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// It does not fit and may not be fragmented (EMSGSIZE).
    #[error("packet is larger than the path MTU of {mtu} bytes and may not be fragmented")]
    TooBig {
        /// What would fit.
        mtu: u32,
    },
    /// The interface is gone (ENETDOWN).
    #[error("the interface of the route is gone")]
    NoPort,
    /// Source and destination are of different families, or a header is too long (EINVAL).
    #[error("addresses of one family and a transport header of at most 64 bytes are wanted")]
    Invalid,
}

impl SendError {
    /// What the socket call returns.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::TooBig { .. } => Errno::EMSGSIZE,
            Self::NoPort => Errno::ENETDOWN,
            Self::Invalid => Errno::EINVAL,
        }
    }
}

/// Most transport header bytes that fit behind Ethernet and IPv6 in a packet's head.
const MAX_TRANSPORT: usize = crate::packet::HEAD_CAPACITY - ethernet::HEADER_LEN - ipv6::HEADER_LEN;
/// Everybody on the link.
const ALL_ONES: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);

/// IP identifications: a counter per hash of source, destination and protocol, as Linux (RFC 6864, RFC 7739).
#[derive(Debug)]
pub(super) struct Idents {
    keys: (u64, u64),
    counters: Box<[u32; 1024]>,
}

impl Idents {
    pub(super) fn new(rng: &mut dyn Rng) -> Self {
        let mut counters = Box::new([0; 1024]);
        counters.fill_with(|| rng.next_u32());
        Self { keys: (rng.next_u64(), rng.next_u64()), counters }
    }

    fn next(&mut self, src: IpAddr, dst: IpAddr, protocol: u8, count: u32) -> u32 {
        let mut h = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        for a in [src, dst] {
            match a {
                IpAddr::V4(a) => h.write(&a.octets()),
                IpAddr::V6(a) => h.write(&a.octets()),
            }
        }
        h.write_u8(protocol);
        let slot = &mut self.counters[h.finish() as usize % 1024];
        let id = *slot;
        *slot = slot.wrapping_add(count);
        id
    }
}

impl IpLayer {
    /// Where packets to `dst` go. `src`: the source that is already chosen; `port`: the interface it must leave by (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    /// `ENETUNREACH` without a route, `EHOSTUNREACH`/`EACCES`/`EINVAL` for unreachable, prohibit and blackhole routes,
    /// `EADDRNOTAVAIL` without a usable source.
    pub fn route(
        &self,
        now: Instant,
        dst: IpAddr,
        src: Option<IpAddr>,
        port: Option<PortId>,
    ) -> Result<RouteDecision, Errno> {
        self.route_by(now, &RouteQuery { src, port, ..RouteQuery::to(dst) })
    }

    /// As [`IpLayer::route`], with everything that has a say.
    ///
    /// # Errors
    /// As [`IpLayer::route`].
    pub fn route_by(&self, now: Instant, query: &RouteQuery) -> Result<RouteDecision, Errno> {
        let RouteQuery { dst, src, port, .. } = *query;
        let generation = self.generation;
        if dst.is_unspecified() {
            // Linux: the unspecified address means this host.
            let here =
                if dst.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            return self.route_by(now, &RouteQuery { dst: here, ..*query });
        }
        // Linux asks for the interface before it looks at the destination, for IPv4 alone; IPv6 then finds no route through it.
        if dst.is_ipv4() && port.is_some_and(|p| self.port(p).is_none()) {
            return Err(Errno::ENODEV);
        }
        if self.addrs.is_local(dst) {
            let lo = self.loopback().or(self.addrs.owner(dst)).ok_or(Errno::ENETUNREACH)?;
            let mtu = expressible(dst, self.port(lo).map_or(65_536, |p| p.config.mtu));
            let options = RouteOptions::default();
            let src = src.unwrap_or(dst);
            return Ok(RouteDecision {
                port: lo,
                next_hop: dst,
                src,
                mtu,
                link_mtu: mtu,
                broadcast: false,
                local: true,
                options,
                generation,
            });
        }
        let up = |p: PortId| self.port(p).is_some_and(|p| p.up);
        let link_scoped =
            dst == ALL_ONES || dst.is_multicast() || matches!(dst, IpAddr::V6(a) if a.is_unicast_link_local());
        let (out, gateway, preferred, options, route_mtu) = match (link_scoped, port) {
            // Such a destination says nothing about the interface: with one given, no route is needed.
            (true, Some(p)) if up(p) => (p, None, None, RouteOptions::default(), None),
            _ => {
                let usable = |r: &Route| match r.port {
                    Some(p) => up(p) && port.is_none_or(|want| want == p),
                    None => true,
                };
                // RFC 4861, 6.3.6: "Routers that are reachable or probably reachable ... SHOULD be preferred over routers whose
                // reachability is unknown or suspect".
                let alive = |r: &Route| usable(r) && !(r.origin == RouteOrigin::Ra && self.is_gone(r));
                let found = self.lookup_by_rules(query, &alive).or_else(|| self.lookup_by_rules(query, &usable));
                match found {
                    Some(r) => match r.kind {
                        RouteType::Unicast | RouteType::Local => {
                            (r.port.ok_or(Errno::ENETUNREACH)?, r.gateway, r.src, r.options, r.options.mtu)
                        }
                        RouteType::Blackhole => return Err(Errno::EINVAL),
                        RouteType::Unreachable => return Err(Errno::EHOSTUNREACH),
                        RouteType::Prohibit => return Err(Errno::EACCES),
                    },
                    // Without a route link-scoped destinations leave by the first interface that has a link.
                    // (Linux asks for a route to everybody.)
                    None if link_scoped && dst != ALL_ONES => {
                        let p = self.ports.iter().find(|p| p.up && !p.config.loopback).ok_or(Errno::ENETUNREACH)?;
                        (p.id, None, None, RouteOptions::default(), None)
                    }
                    None => return Err(Errno::ENETUNREACH),
                }
            }
        };
        let learnt = self.exceptions.get(now, dst);
        let redirected = learnt.gateway.map(|(via, _)| via);
        let next_hop = redirected.or(gateway).unwrap_or(dst);
        let src =
            src.or(preferred).or_else(|| self.addrs.select_source(out, dst, next_hop)).ok_or(Errno::EADDRNOTAVAIL)?;
        let link_mtu = self.port(out).ok_or(Errno::ENETDOWN)?.config.mtu;
        // RFC 4861, 4.6.4: a router may name a smaller MTU for the link.
        let advertised = if dst.is_ipv6() { self.slaac.params(out).mtu } else { None };
        let link_mtu = expressible(dst, advertised.unwrap_or(link_mtu).min(link_mtu));
        let mut mtu = route_mtu.unwrap_or(link_mtu).min(link_mtu);
        if !options.mtu_lock {
            mtu = mtu.min(learnt.mtu.map_or(u32::MAX, |(mtu, _)| mtu));
        }
        let broadcast = self.addrs.is_broadcast(dst);
        Ok(RouteDecision { port: out, next_hop, src, mtu, link_mtu, broadcast, local: false, options, generation })
    }

    /// A router that does not answer any more.
    fn is_gone(&self, r: &Route) -> bool {
        let (Some(port), Some(gateway)) = (r.port, r.gateway) else { return false };
        self.neigh.get((port, gateway)).is_some_and(|n| n.state == NudState::Failed)
    }

    /// Sends a packet by a route. What is dropped on the way (neighbour, qdisc) appears in `take_dropped`.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent and nothing counted as dropped but `TooBig` (one `IpTooBig`).
    pub fn send(&mut self, env: &mut IpEnv<'_>, route: &RouteDecision, out: Outgoing<'_>) -> Result<(), SendError> {
        if out.transport.len() > MAX_TRANSPORT || out.src.is_ipv4() != out.dst.is_ipv4() {
            return Err(SendError::Invalid);
        }
        let v4 = out.src.is_ipv4();
        if self.port(route.port).is_none() {
            return Err(SendError::NoPort);
        }
        env.mib.inc(if v4 { Mib::IpOutRequests } else { Mib::Ip6OutRequests });
        let ip_header = if v4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
        let payload = out.payload.len();
        // A GSO packet's segments must fit, not the packet.
        let longest = if out.gso_size == 0 { payload } else { payload.min(usize::from(out.gso_size)) };
        let mtu = route.mtu as usize;
        // RFC 791, 3.1: the total length counts the header; RFC 8200, 3: the payload length does not (so `lo`'s 65536 fit).
        let counted = out.transport.len() + payload + if v4 { ip_header } else { 0 };
        let too_long = counted > usize::from(u16::MAX);
        if ip_header + out.transport.len() + longest > mtu || too_long {
            if out.dont_fragment || out.gso_size != 0 || too_long {
                env.mib.inc(if v4 { Mib::IpFragFails } else { Mib::Ip6FragFails });
                env.drops.count(DropReason::IpTooBig);
                return Err(SendError::TooBig { mtu: route.mtu });
            }
            self.send_fragments(env, route, &out);
        } else {
            let packet = self.assemble(route, out);
            self.link_out(env, route.port, route.next_hop, packet);
        }
        self.count_drops(env);
        Ok(())
    }

    fn assemble(&mut self, route: &RouteDecision, out: Outgoing<'_>) -> Packet {
        let link = ethernet::HEADER_LEN;
        let v4 = out.src.is_ipv4();
        let t = link + if v4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
        let mut head = HeaderBuf::zeroed(t + out.transport.len());
        head[t..].copy_from_slice(out.transport);
        let payload_len = out.payload.len();
        let segments =
            if out.gso_size == 0 { 1 } else { payload_len.div_ceil(usize::from(out.gso_size)).max(1) as u32 };
        let len = (out.transport.len() + payload_len) as u16;
        self.emit_ip(&mut head[link..], route, &out, len, segments, None);
        let mut packet = Packet::new(head, Payload::None);
        if out.protocol == proto::TCP {
            TcpRepr::fill_partial_checksum(&mut packet.head[t..], out.src, out.dst, payload_len);
            packet.offload.csum = Some((t as u16, tcp::CHECKSUM_AT));
        }
        if out.protocol == proto::UDP && segments > 1 {
            udp::fill_partial_checksum(&mut packet.head[t..], out.src, out.dst, payload_len);
            packet.offload.csum = Some((t as u16, udp::CHECKSUM_AT));
        }
        if segments > 1 {
            packet.offload.gso = match out.protocol {
                proto::UDP => Gso::UdpL4,
                _ if v4 => Gso::TcpV4,
                _ => Gso::TcpV6,
            };
            packet.offload.gso_size = out.gso_size;
            packet.offload.hdr_len = packet.head.len() as u16;
        }
        packet.payload = out.payload;
        packet.transport_at = t as u8;
        packet.protocol = out.protocol;
        packet.sender = out.sender;
        packet.flow_hash = out.flow_hash;
        packet.departure = out.departure;
        packet.priority = out.priority;
        packet.max_pacing_rate = out.max_pacing_rate;
        packet
    }

    /// Writes the IP header for `len` bytes behind it. `fragment`: offset, more, identification.
    fn emit_ip(
        &mut self,
        buf: &mut [u8],
        route: &RouteDecision,
        out: &Outgoing<'_>,
        len: u16,
        segments: u32,
        fragment: Option<(u16, bool, u32)>,
    ) {
        let multicast = out.dst.is_multicast();
        let default = if out.src.is_ipv4() { self.config.default_ttl } else { self.hop_limit(route.port) };
        // RFC 1112, 6.1: multicast goes one hop unless asked otherwise.
        let ttl = out.ttl.or(route.options.hoplimit).unwrap_or(if multicast { 1 } else { default });
        match (out.src, out.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (offset, more, ident) = match fragment {
                    Some((o, m, i)) => (o, m, i as u16),
                    None => (0, false, self.idents.next(out.src, out.dst, out.protocol, segments) as u16),
                };
                let dont_fragment = out.df && fragment.is_none() && !route.options.mtu_lock;
                let repr = Ipv4Repr {
                    src,
                    dst,
                    protocol: out.protocol,
                    ttl,
                    tos: out.tos,
                    ident,
                    dont_fragment,
                    more_fragments: more,
                    fragment_offset: offset,
                    payload_len: len,
                };
                repr.emit(buf);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let next_header = if fragment.is_some() { proto::FRAGMENT } else { out.protocol };
                let repr = Ipv6Repr {
                    src,
                    dst,
                    next_header,
                    hop_limit: ttl,
                    traffic_class: out.tos,
                    flow_label: out.flow_label,
                    payload_len: len,
                };
                repr.emit(buf);
            }
            // `send` refuses mixed families.
            _ => {}
        }
    }

    /// RFC 4861, 6.3.2: CurHopLimit is what a router said, else as configured.
    pub(crate) fn hop_limit(&self, port: PortId) -> u8 {
        self.slaac.params(port).hop_limit.unwrap_or(self.conf(port).hop_limit)
    }

    fn send_fragments(&mut self, env: &mut IpEnv<'_>, route: &RouteDecision, out: &Outgoing<'_>) {
        let Payload::Owned(bytes) = &out.payload else {
            // Only TCP has stream payload, and TCP never fragments.
            env.drops.count(DropReason::IpTooBig);
            return;
        };
        let v4 = out.src.is_ipv4();
        let whole = [out.transport, bytes].concat();
        let header = if v4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN + ipv6::FRAGMENT_HEADER_LEN };
        let step = ((route.mtu as usize).saturating_sub(header) & !7).max(8);
        let ident = self.idents.next(out.src, out.dst, out.protocol, 1);
        let link = ethernet::HEADER_LEN;
        for (i, piece) in whole.chunks(step).enumerate() {
            let offset = i * step;
            let more = offset + piece.len() < whole.len();
            let mut head = HeaderBuf::zeroed(link + header);
            let extension = if v4 { 0 } else { ipv6::FRAGMENT_HEADER_LEN };
            let len = (piece.len() + extension) as u16;
            self.emit_ip(&mut head[link..], route, out, len, 1, Some((offset as u16, more, ident)));
            if !v4 {
                let f = Ipv6Fragment { next_header: out.protocol, offset: offset as u16, more, ident };
                f.emit(&mut head[link + ipv6::HEADER_LEN..]);
            }
            let mut packet = Packet::new(head, Payload::Owned(piece.into()));
            packet.protocol = out.protocol;
            packet.sender = out.sender;
            packet.flow_hash = out.flow_hash;
            packet.priority = out.priority;
            packet.max_pacing_rate = out.max_pacing_rate;
            env.mib.inc(if v4 { Mib::IpFragCreates } else { Mib::Ip6FragCreates });
            self.link_out(env, route.port, route.next_hop, packet);
        }
        env.mib.inc(if v4 { Mib::IpFragOKs } else { Mib::Ip6FragOKs });
    }

    /// Finds the link-layer address, and queues the frame at the port or at the neighbour.
    pub(crate) fn link_out(&mut self, env: &mut IpEnv<'_>, port: PortId, next_hop: IpAddr, mut packet: Packet) {
        let Some(p) = self.port(port) else {
            self.dropped.push(Dropped { packet, reason: DropReason::DeviceDown });
            return;
        };
        let ours = p.config.mac;
        let needs_address = p.config.caps.ethernet && !p.config.loopback;
        let group = self.addrs.is_broadcast(next_hop);
        let mac = match next_hop {
            _ if !needs_address => MacAddr::ZERO,
            _ if group => MacAddr::BROADCAST,
            IpAddr::V4(a) if a.is_multicast() => MacAddr::of_multicast_v4(a),
            IpAddr::V6(a) if a.is_multicast() => MacAddr::of_multicast_v6(a),
            _ => {
                let key = (port, next_hop);
                let cfg = self.neigh_config(port, next_hop.is_ipv6());
                match self.neigh.resolve(env.now, &cfg, key) {
                    Resolution::Ready(mac) => mac,
                    Resolution::Wait { solicit } => {
                        self.neigh.queue(&self.config.neigh, key, packet, &mut self.dropped);
                        if solicit {
                            self.solicit(env, key, None);
                        }
                        return;
                    }
                    Resolution::Full => {
                        self.dropped.push(Dropped { packet, reason: DropReason::NeighQueueFull });
                        return;
                    }
                }
            }
        };
        self.count_out(env, &packet, group);
        let ether_type = if packet.ip_version() == 6 { EtherType::Ipv6 } else { EtherType::Ipv4 };
        EthernetRepr { dst: mac, src: ours, ether_type: ether_type as u16 }.emit(&mut packet.head);
        self.enqueue(env, port, packet);
    }

    /// Queues a frame whose headers are complete.
    pub(crate) fn enqueue(&mut self, env: &mut IpEnv<'_>, port: PortId, packet: Packet) {
        match self.ports.iter_mut().find(|p| p.id == port) {
            Some(p) => p.enqueue(packet, env.now, env.rng, &mut self.dropped),
            None => self.dropped.push(Dropped { packet, reason: DropReason::DeviceDown }),
        }
        self.count_drops(env);
    }

    fn count_out(&self, env: &mut IpEnv<'_>, packet: &Packet, broadcast: bool) {
        let bytes = u64::from(packet.wire_len()) - u64::from(packet.segments()) * u64::from(packet.network_at);
        let multicast = packet.addresses().is_some_and(|(_, d)| d.is_multicast());
        if packet.ip_version() != 4 {
            env.mib.add(Mib::Ip6OutOctets, bytes);
            env.mib.add(Mib::Ip6OutMcastPkts, multicast.into());
            return;
        }
        env.mib.add(Mib::IpExtOutOctets, bytes);
        env.mib.add(Mib::IpExtOutMcastPkts, multicast.into());
        env.mib.add(Mib::IpExtOutBcastPkts, broadcast.into());
    }
}

/// An MTU that packets to `dst` can fill: IPv4's length field counts the header (RFC 791, 3.1) and ends at 65,535, IPv6's does not.
const fn expressible(dst: IpAddr, mtu: u32) -> u32 {
    if dst.is_ipv4() && mtu > 65_535 { 65_535 } else { mtu }
}
