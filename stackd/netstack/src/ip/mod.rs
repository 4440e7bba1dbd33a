//! The IP layer of one shard: what comes in is checked and handed to its transport; what goes out finds its way.
//!
//! Calling order: `handle_frame` for each received frame (act on what it returns), `send` for each packet, `handle_timers` when
//! `next_deadline` is due; after each of them `take_dropped` (sockets are told), and per port `dequeue` until `None`.

mod conf;
mod exceptions;
mod frag;
pub(crate) mod input;
mod link;
mod mcast;
mod output;
pub(crate) mod pmtu;
mod redirect;
mod rules;
#[cfg(test)]
mod tests;
mod timers;

use crate::addr::{AddrState, AddrTable, Address, Class, Prefix, solicited_node};
use crate::icmp::IcmpLimiter;
use crate::neigh::{NeighConfig, NeighKey, NeighTable};
use crate::packet::Packet;
use crate::port::Port;
use crate::route::{Route, RouteError, RouteOptions, RouteOrigin, RouteTable, RouteType};
use stackd_base::{DropCounters, DropReason, Duration, Errno, Instant, Mib, MibCounters, PortId, Rng, SeqNum};
use stackd_qdisc::Dropped;
use stackd_wire::{EcnCodepoint, IcmpRepr, MacAddr, Unreachable};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

pub use conf::IfConf;
pub use exceptions::Exception;
pub use mcast::{Filter, Holder};
pub use output::{Outgoing, SendError};
pub use rules::{DEFAULT as TABLE_DEFAULT, LOCAL as TABLE_LOCAL, MAIN as TABLE_MAIN, Rule};

/// The sysctls of the IP layer, as plain values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpConfig {
    /// `net.ipv4.ip_default_ttl`.
    pub default_ttl: u8,
    /// `net.ipv4.icmp_echo_ignore_all`.
    pub echo_ignore_all: bool,
    /// `net.ipv4.icmp_ratelimit`: least time between errors to one destination.
    pub icmp_ratelimit: Duration,
    /// `net.ipv4.icmp_msgs_per_sec`.
    pub icmp_msgs_per_sec: u32,
    /// `net.ipv4.icmp_msgs_burst`.
    pub icmp_msgs_burst: u32,
    /// `net.ipv4.ipfrag_high_thresh`: bytes of all incomplete packets.
    pub frag_high_thresh: usize,
    /// `net.ipv4.ipfrag_time`.
    pub frag_time: Duration,
    /// `net.ipv6.ip6frag_high_thresh`.
    pub frag_high_thresh6: usize,
    /// `net.ipv6.ip6frag_time`.
    pub frag_time6: Duration,
    /// `net.ipv4.icmp_ratemask`: bit `n` limits type `n`.
    pub icmp_ratemask: u32,
    /// `net.ipv6.icmp.ratelimit`.
    pub icmp6_ratelimit: Duration,
    /// `net.ipv6.icmp.echo_ignore_all`.
    pub echo_ignore_all6: bool,
    /// `net.ipv4.icmp_echo_ignore_broadcasts`.
    pub echo_ignore_broadcasts: bool,
    /// `net.ipv6.icmp.echo_ignore_multicast`.
    pub echo_ignore_multicast6: bool,
    /// `net.ipv4.route.min_pmtu`.
    pub min_pmtu: u32,
    /// `net.ipv4.route.mtu_expires`.
    pub mtu_expires: Duration,
    /// `net.ipv4.igmp_qrv`: how often a changed membership is reported.
    pub igmp_qrv: u8,
    /// `net.ipv4.igmp_max_memberships`: groups of one socket.
    pub igmp_max_memberships: usize,
    /// `net.ipv4.igmp_max_msf`: sources of one group of a socket.
    pub igmp_max_msf: usize,
    /// `net.ipv6.mld_qrv`.
    pub mld_qrv: u8,
    /// `net.ipv6.mld_max_msf`.
    pub mld_max_msf: usize,
    /// `net.ipv4.neigh.default.*`.
    pub neigh: NeighConfig,
}

impl Default for IpConfig {
    fn default() -> Self {
        Self {
            default_ttl: 64,
            echo_ignore_all: false,
            icmp_ratelimit: Duration::from_millis(1000),
            icmp_msgs_per_sec: 1000,
            icmp_msgs_burst: 50,
            frag_high_thresh: 4 << 20,
            frag_time: Duration::from_secs(30),
            frag_high_thresh6: 4 << 20,
            // RFC 8200, 4.5: 60 seconds.
            frag_time6: Duration::from_secs(60),
            // Destination unreachable, source quench, time exceeded, parameter problem.
            icmp_ratemask: 6168,
            icmp6_ratelimit: Duration::from_millis(1000),
            echo_ignore_all6: false,
            echo_ignore_broadcasts: true,
            echo_ignore_multicast6: false,
            min_pmtu: 552,
            mtu_expires: Duration::from_secs(600),
            igmp_qrv: 2,
            igmp_max_memberships: 20,
            igmp_max_msf: 10,
            mld_qrv: 2,
            mld_max_msf: 64,
            neigh: NeighConfig::default(),
        }
    }
}

/// What every operation of the IP layer needs from outside.
pub struct IpEnv<'a> {
    /// The time.
    pub now: Instant,
    /// Linux's counters.
    pub mib: &'a mut MibCounters,
    /// One reason a dropped packet. The IP layer counts those it drops or whose drop it learns of (qdisc, neighbour).
    pub drops: &'a mut DropCounters,
    /// Randomness.
    pub rng: &'a mut dyn Rng,
}

impl core::fmt::Debug for IpEnv<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IpEnv").field("now", &self.now).finish_non_exhaustive()
    }
}

/// A received packet for TCP or UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it came in.
    pub port: PortId,
    /// Its source: the peer.
    pub src: IpAddr,
    /// Its destination: ours, or a group or broadcast address.
    pub dst: IpAddr,
    /// `proto::TCP` or `proto::UDP`.
    pub protocol: u8,
    /// Hop limit left.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// `dst` is a broadcast or multicast address: TCP must not answer, and no ICMP error may.
    pub group: bool,
    /// What of the IP packet is visible, from its header on: all of it unless payload lies outside the frame's head.
    /// Owned when it was reassembled: then payload is here and not in the frame.
    pub packet: Cow<'a, [u8]>,
    /// Offset of the IP packet in the frame (0 when reassembled).
    pub frame_at: usize,
    /// Offset of the transport header in `packet`.
    pub transport_at: usize,
    /// Bytes of transport header and payload; more than are visible when payload lies outside the head.
    pub transport_len: usize,
    /// The device vouches for the transport checksum: do not verify.
    pub checksum_trusted: bool,
    /// Payload bytes per segment that the device merged; 0: one segment.
    pub gso_size: u16,
}

impl Datagram<'_> {
    /// The visible bytes from the transport header on.
    pub fn transport(&self) -> &[u8] {
        self.packet.get(self.transport_at..).unwrap_or_default()
    }
    /// The ECN bits.
    pub const fn ecn(&self) -> EcnCodepoint {
        EcnCodepoint::from_tos(self.tos)
    }
    /// Segments on the wire, for a transport header of `header_len` bytes.
    pub fn segments(&self, header_len: usize) -> u32 {
        let payload = self.transport_len.saturating_sub(header_len) as u32;
        if self.gso_size == 0 { 1 } else { payload.div_ceil(u32::from(self.gso_size)).max(1) }
    }
}

/// An ICMP error about a packet of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportError {
    /// Where it came in.
    pub port: PortId,
    /// ICMP's type.
    pub kind: u8,
    /// ICMP's code.
    pub code: u8,
    /// What of our packet is quoted behind its UDP header.
    pub payload: Vec<u8>,
    /// `proto::TCP` or `proto::UDP`.
    pub protocol: u8,
    /// Source of our packet.
    pub local: SocketAddr,
    /// Its destination.
    pub remote: SocketAddr,
    /// Sequence number in the quoted TCP header: must lie in the send window to be believed (RFC 5927, 4.1).
    pub seq: Option<SeqNum>,
    /// Who says so.
    pub reporter: IpAddr,
    /// What. For `PacketTooBig` the MTU is the one that was taken into the path MTU cache.
    pub error: IcmpRepr,
}

impl TransportError {
    /// Linux's `icmp_err_convert`: the error, and whether it is fatal to a connection being opened.
    pub fn errno(&self) -> (Errno, bool) {
        match self.error {
            IcmpRepr::DestUnreachable(u) => match u {
                Unreachable::Network => (Errno::ENETUNREACH, false),
                Unreachable::Host | Unreachable::Scope | Unreachable::Other(_) => (Errno::EHOSTUNREACH, false),
                Unreachable::Protocol => (Errno::ENOPROTOOPT, true),
                Unreachable::Port => (Errno::ECONNREFUSED, true),
                Unreachable::Prohibited if self.remote.is_ipv6() => (Errno::EACCES, true),
                Unreachable::Prohibited => (Errno::EHOSTUNREACH, true),
            },
            IcmpRepr::PacketTooBig { .. } => (Errno::EMSGSIZE, false),
            IcmpRepr::ParameterProblem { .. } => (Errno::EPROTO, true),
            _ => (Errno::EHOSTUNREACH, false),
        }
    }

    /// True when it ends a handshake that a SYN of the peer's began. As Linux: over IPv4 what says that packets do not get there (`tcp_v4_err`),
    /// over IPv6 what is fatal (`tcp_v6_err`).
    pub fn ends_request(&self) -> bool {
        match self.error {
            _ if self.remote.is_ipv6() => self.errno().1,
            IcmpRepr::DestUnreachable(u) => matches!(u, Unreachable::Network | Unreachable::Host),
            IcmpRepr::TimeExceeded { .. } | IcmpRepr::ParameterProblem { .. } => true,
            _ => false,
        }
    }
}

/// What became of a received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered<'a> {
    /// For TCP or UDP. Whoever takes it counts what it drops.
    Transport(Datagram<'a>),
    /// An ICMP error for a socket.
    Error(TransportError),
    /// Dealt with here (ARP, ICMP, NDP, a fragment that was kept).
    Handled,
    /// Dropped, and counted.
    Dropped(DropReason),
}

/// Where packets to a destination go. Sockets keep it as long as its `generation` is [`IpLayer::generation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteDecision {
    /// The interface; `lo` for our own addresses.
    pub port: PortId,
    /// Who gets the frame.
    pub next_hop: IpAddr,
    /// The source to use.
    pub src: IpAddr,
    /// Largest IP packet on the path, as known.
    pub mtu: u32,
    /// Largest IP packet of the interface, whatever was learnt of the path.
    pub link_mtu: u32,
    /// The destination is a broadcast address.
    pub broadcast: bool,
    /// The destination is ours.
    pub local: bool,
    /// The route's parameters.
    pub options: RouteOptions,
    /// The state of the tables this was made from.
    pub generation: u64,
}

/// What of interfaces and addresses has a deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum IfTimer {
    /// The next solicitation of duplicate address detection, or its end.
    Dad(PortId, std::net::Ipv6Addr),
    /// The next router solicitation.
    RouterSolicit(PortId),
    /// A preferred lifetime ends.
    Preferred(IpAddr),
    /// A valid lifetime ends.
    Valid(IpAddr),
    /// A report about a group.
    Group(PortId, IpAddr),
    /// An answer to a general query: of IPv6's groups, else of IPv4's.
    GeneralQuery(PortId, bool),
    /// A route that a router advertised ends: its interface, destination and gateway.
    RaRoute(PortId, Prefix, Option<IpAddr>),
}

/// What a route is looked up by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteQuery {
    /// Where to.
    pub dst: IpAddr,
    /// The source that is already chosen.
    pub src: Option<IpAddr>,
    /// The interface it must leave by (`SO_BINDTODEVICE`, `IP_PKTINFO`, the scope of an address).
    pub port: Option<PortId>,
    /// `SO_MARK`.
    pub mark: u32,
}

impl RouteQuery {
    /// Nothing but a destination.
    pub const fn to(dst: IpAddr) -> Self {
        Self { dst, src: None, port: None, mark: 0 }
    }
}

/// The IP layer of one shard.
#[derive(Debug)]
pub struct IpLayer {
    /// The sysctls. Changes act on the next packet.
    pub config: IpConfig,
    ports: Vec<Port>,
    pub(crate) addrs: AddrTable,
    routes: RouteTable,
    /// Tables besides the main one, by number.
    tables: std::collections::BTreeMap<u32, RouteTable>,
    /// `ip rule`, by priority.
    rules: Vec<Rule>,
    pub(crate) neigh: NeighTable,
    /// IPv4's and IPv6's, with limits of their own.
    frags: [frag::Reassembler; 2],
    pub(crate) exceptions: exceptions::Exceptions,
    pub(crate) dad: crate::neigh::dad::Dad,
    pub(crate) slaac: crate::neigh::slaac::Slaac,
    pub(crate) mcast: mcast::Mcast,
    pub(crate) timers: timers::TimerSet<IfTimer>,
    /// This shard asks and reports on behalf of all of them; the others listen.
    pub(crate) speaks: bool,
    pub(crate) limiter: IcmpLimiter,
    idents: output::Idents,
    pub(crate) generation: u64,
    next_port: u32,
    pub(crate) dropped: Vec<Dropped<Packet>>,
    /// How many of `dropped` are counted already.
    dropped_counted: usize,
}

impl IpLayer {
    /// Without ports, addresses and routes.
    pub fn new(config: IpConfig, rng: &mut dyn Rng) -> Self {
        Self {
            config,
            ports: Vec::new(),
            addrs: AddrTable::default(),
            routes: RouteTable::default(),
            tables: std::collections::BTreeMap::new(),
            rules: Vec::new(),
            neigh: NeighTable::default(),
            frags: Default::default(),
            exceptions: exceptions::Exceptions::default(),
            dad: crate::neigh::dad::Dad::default(),
            slaac: crate::neigh::slaac::Slaac::default(),
            mcast: mcast::Mcast::default(),
            timers: timers::TimerSet::default(),
            speaks: true,
            limiter: IcmpLimiter::default(),
            idents: output::Idents::new(rng),
            generation: 1,
            next_port: 1,
            dropped: Vec::new(),
            dropped_counted: 0,
        }
    }

    /// The interfaces, in order of their numbers.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }
    /// One interface.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.iter().find(|p| p.id == id)
    }
    /// One interface, to be changed (link state, MTU, qdisc). Cached routes become stale.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.generation += 1;
        self.ports.iter_mut().find(|p| p.id == id)
    }
    /// `lo`, if there is one.
    pub fn loopback(&self) -> Option<PortId> {
        self.ports.iter().find(|p| p.config.loopback).map(|p| p.id)
    }

    /// The addresses.
    pub fn addrs(&self) -> &AddrTable {
        &self.addrs
    }

    /// Adds an address and, as Linux, the route to its network. On an interface that is down it waits for `up`. False: it exists or is not possible.
    pub fn add_address(&mut self, address: Address) -> bool {
        let Some(up) = self.port(address.port).map(|p| p.up) else { return false };
        if !self.addrs.add(address) {
            return false;
        }
        if up {
            self.add_network_route(&address);
        } else {
            self.addrs.set_state(address.addr, AddrState { down: true, ..AddrState::default() });
        }
        self.changed();
        true
    }

    /// The route that an address brings.
    fn add_network_route(&mut self, address: &Address) {
        let net = address.network();
        if net == Prefix::host(address.addr) || address.addr.is_loopback() {
            return;
        }
        let route = Route {
            dst: net,
            kind: RouteType::Unicast,
            gateway: None,
            port: Some(address.port),
            src: address.addr.is_ipv4().then_some(address.addr),
            metric: if address.addr.is_ipv4() { 0 } else { 256 },
            origin: RouteOrigin::Kernel,
            options: RouteOptions::default(),
        };
        // A second address on the same network finds the route already there.
        let _ = self.routes.add(route, false);
    }

    /// Takes an address away; the route to its network goes with the last address on it.
    pub fn remove_address(&mut self, port: PortId, addr: IpAddr) -> bool {
        let Some(gone) = self.addrs.remove(port, addr) else { return false };
        self.forget_address_timers(port, addr);
        if let IpAddr::V6(v6) = addr {
            let group = solicited_node(v6);
            // Another address may have the same low bits.
            let shared = self.addrs.on(port).any(|a| matches!(a.addr, IpAddr::V6(o) if solicited_node(o) == group));
            if !shared {
                self.set_membership(port, group.into(), Holder::Stack, None);
            }
        }
        let net = gone.network();
        let heir = self.addrs.on(port).find(|a| a.network() == net).map(|a| a.addr);
        if let Ok(old) = self.routes.remove(net, |r| r.origin == RouteOrigin::Kernel && r.port == Some(port))
            && let Some(heir) = heir
        {
            let src = old.src.map(|s| if s == addr { heir } else { s });
            let _ = self.routes.add(Route { src, ..old }, false);
        }
        self.routes.retain(|r| r.src != Some(addr));
        self.changed();
        true
    }

    /// What was learnt about single destinations (`ip route show cache`).
    pub fn exceptions(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Exception)> {
        self.exceptions.iter(now)
    }
    /// What is known about one destination.
    pub fn exception(&self, now: Instant, dst: IpAddr) -> Exception {
        self.exceptions.get(now, dst)
    }
    /// `ip route flush cache`.
    pub fn flush_exceptions(&mut self) {
        self.exceptions.clear();
        self.changed();
    }

    fn forget_address_timers(&mut self, port: PortId, addr: IpAddr) {
        self.dad_forget(port, addr);
        self.timers.set(IfTimer::Preferred(addr), None);
        self.timers.set(IfTimer::Valid(addr), None);
    }

    /// The settings of an interface.
    pub fn conf(&self, port: PortId) -> IfConf {
        self.port(port).map_or_else(IfConf::default, |p| p.conf)
    }

    /// `net.ipv4.neigh.default.*`, with what routers said about the link.
    pub(crate) fn neigh_config(&self, port: PortId, v6: bool) -> NeighConfig {
        let base = self.config.neigh;
        if !v6 {
            return base;
        }
        let said = self.slaac.params(port);
        NeighConfig {
            base_reachable_time: said.reachable.unwrap_or(base.base_reachable_time),
            retrans: said.retrans.unwrap_or(base.retrans),
            ..base
        }
    }

    /// The routes.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }
    /// Adds or replaces a route.
    ///
    /// # Errors
    /// As [`RouteTable::add`]; `Invalid` also for an unknown port.
    pub fn add_route(&mut self, route: Route, replace: bool) -> Result<(), RouteError> {
        if route.port.is_some_and(|p| self.port(p).is_none()) {
            return Err(RouteError::Invalid);
        }
        self.routes.add(route, replace)?;
        self.changed();
        Ok(())
    }
    /// Removes a route.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_route(&mut self, dst: Prefix, matches: impl Fn(&Route) -> bool) -> Result<Route, RouteError> {
        let r = self.routes.remove(dst, matches)?;
        self.changed();
        Ok(r)
    }

    /// The neighbours.
    pub fn neighbours(&self) -> &NeighTable {
        &self.neigh
    }
    /// `ip neigh replace ... nud permanent`: what waited for the address is sent.
    pub fn set_neighbour(&mut self, env: &mut IpEnv<'_>, key: NeighKey, mac: MacAddr) {
        for packet in self.neigh.set_permanent(env.now, key, mac) {
            self.link_out(env, key.0, key.1, packet);
        }
    }
    /// `ip neigh del`. What waited is dropped. False: there was no such entry.
    pub fn remove_neighbour(&mut self, env: &mut IpEnv<'_>, key: NeighKey) -> bool {
        let Some(waiting) = self.neigh.remove(key) else { return false };
        let reason = DropReason::NeighUnresolved;
        self.dropped.extend(waiting.into_iter().map(|packet| Dropped { packet, reason }));
        self.count_drops(env);
        true
    }
    /// A transport's packets go unanswered: is the next hop still there?
    pub(crate) fn suspect_neighbour(&mut self, now: Instant, port: PortId, next_hop: IpAddr) {
        self.neigh.suspect(now, (port, next_hop));
    }

    /// A transport made progress through this next hop: it is reachable (RFC 4861, 7.3.1).
    pub fn confirm_neighbour(&mut self, now: Instant, port: PortId, next_hop: IpAddr) {
        let cfg = self.neigh_config(port, next_hop.is_ipv6());
        self.neigh.confirm(now, &cfg, (port, next_hop));
    }

    /// Whether a packet to this group or broadcast address that leaves by `port` is for this host too.
    pub fn hears(&self, port: PortId, dst: IpAddr) -> bool {
        matches!(self.addrs.classify(port, dst), Class::Multicast | Class::Broadcast)
    }

    /// Changes whenever a cached [`RouteDecision`] may be wrong.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The next packet for a port's device.
    pub fn dequeue(&mut self, env: &mut IpEnv<'_>, port: PortId) -> Option<Packet> {
        let p = self.ports.iter_mut().find(|p| p.id == port)?;
        let packet = p.dequeue(env.now, env.rng, &mut self.dropped);
        self.count_drops(env);
        packet
    }

    /// Whether `take_dropped` has anything to say.
    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Outgoing packets that were dropped since the last call, each counted already: their sockets are to be told.
    pub fn take_dropped(&mut self) -> Vec<Dropped<Packet>> {
        self.dropped_counted = 0;
        core::mem::take(&mut self.dropped)
    }

    /// When `handle_timers` has something to do. Ports' queues have deadlines of their own ([`Port::next_deadline`]).
    pub fn next_deadline(&self) -> Option<Instant> {
        let [v4, v6] = &self.frags;
        let of = [self.neigh.next_deadline(), v4.next_deadline(), v6.next_deadline(), self.timers.next_deadline()];
        of.into_iter().flatten().min()
    }

    /// Neighbour probes and reassembly timeouts that are due.
    pub fn handle_timers(&mut self, env: &mut IpEnv<'_>) {
        self.expire_fragments(env);
        self.run_neighbour_timers(env);
        while let Some(due) = self.timers.pop(env.now) {
            match due {
                IfTimer::Dad(port, addr) => self.dad_due(env, port, addr),
                IfTimer::RouterSolicit(port) => self.router_solicit_due(env, port),
                IfTimer::Group(port, group) => self.group_due(env, port, group),
                IfTimer::GeneralQuery(port, v6) => self.general_answer_due(env, port, v6),
                IfTimer::Preferred(addr) => self.preferred_over(addr),
                IfTimer::Valid(addr) => self.valid_over(addr),
                IfTimer::RaRoute(port, dst, gateway) => self.ra_route_over(port, dst, gateway),
            }
        }
        self.count_drops(env);
    }

    pub(crate) fn changed(&mut self) {
        self.generation += 1;
    }

    fn count_drops(&mut self, env: &mut IpEnv<'_>) {
        for d in self.dropped.iter().skip(self.dropped_counted) {
            env.drops.count(d.reason);
            if d.packet.protocol != 0 {
                let v4 = d.packet.ip_version() == 4;
                env.mib.inc(if v4 { Mib::IpOutDiscards } else { Mib::Ip6OutDiscards });
            }
        }
        self.dropped_counted = self.dropped.len();
    }
}

impl crate::socket::ip_opts::Interfaces for IpLayer {
    fn exists(&self, port: PortId) -> bool {
        self.port(port).is_some()
    }
    fn named(&self, name: &str) -> Option<PortId> {
        self.ports.iter().find(|p| p.config.name == name).map(|p| p.id)
    }
    fn owner(&self, addr: IpAddr) -> Option<PortId> {
        self.addrs.owner(addr)
    }
}
