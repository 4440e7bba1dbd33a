//! Neighbour discovery and stateless autoconfiguration (RFC 4861, RFC 4862).

use super::Observation;
use super::arp::CONTROL;
use crate::addr::{ALL_NODES, ALL_ROUTERS, Address, Prefix, Scope, solicited_node};
use crate::ip::input::Accepted;
use crate::ip::{IpEnv, IpLayer};
use crate::packet::{HeaderBuf, Packet, Payload};
use crate::route::{Route, RouteOptions, RouteOrigin, RouteType};
use stackd_base::{DropReason, Mib, PortId};
use stackd_wire::{
    EtherType, EthernetRepr, Ipv6Repr, MacAddr, NdpRepr, PrefixInfo, RouterAdvert, ethernet, ipv6, proto,
};
use std::net::{IpAddr, Ipv6Addr};

/// RFC 4861, 3.1: "hosts ... 255": a packet with a lower hop limit passed a router and is forged.
const HOP_LIMIT: u8 = 255;
/// Linux's metric of a default route from an advertisement.
const RA_METRIC: u32 = 1024;

impl IpLayer {
    pub(crate) fn handle_ndp(
        &mut self,
        env: &mut IpEnv<'_>,
        a: &Accepted<'_>,
        message: &[u8],
    ) -> Result<(), DropReason> {
        let ndp = NdpRepr::parse(message).map_err(|_| {
            env.mib.inc(Mib::Icmp6InErrors);
            DropReason::NdpInvalid
        })?;
        let Some(ndp) = ndp else { return Err(DropReason::IcmpIgnored) };
        let IpAddr::V6(src) = a.src else { return Err(DropReason::NdpInvalid) };
        // RFC 4861, 6.1 and 7.1: "The IP Hop Limit field has a value of 255".
        if a.ttl != HOP_LIMIT {
            return Err(DropReason::NdpInvalid);
        }
        match ndp {
            NdpRepr::RouterSolicit { .. } => Err(DropReason::IcmpIgnored),
            NdpRepr::NeighborSolicit { target, source_mac } => {
                env.mib.inc(Mib::Icmp6InNeighborSolicits);
                self.neighbor_solicit_in(env, a, src, target, source_mac)
            }
            NdpRepr::NeighborAdvert { target, router, solicited, override_, target_mac } => {
                env.mib.inc(Mib::Icmp6InNeighborAdvertisements);
                // RFC 4861, 7.1.2: "If the IP Destination Address is a multicast address the Solicited flag is zero."
                if (solicited && a.dst.is_multicast()) || self.addrs().is_local(target.into()) {
                    return Err(DropReason::NdpInvalid);
                }
                let o =
                    Observation { mac: target_mac, solicited, replace: override_, router: Some(router), create: false };
                self.learn_neighbour(env, (a.port, target.into()), o);
                Ok(())
            }
            NdpRepr::RouterAdvert(ra) => {
                env.mib.inc(Mib::Icmp6InRouterAdvertisements);
                self.router_advert_in(env, a.port, src, &ra)
            }
        }
    }

    fn neighbor_solicit_in(
        &mut self,
        env: &mut IpEnv<'_>,
        a: &Accepted<'_>,
        src: Ipv6Addr,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
    ) -> Result<(), DropReason> {
        if !self.addrs().on(a.port).any(|x| x.addr == target) {
            return Err(DropReason::IpNotForUs);
        }
        let Some(ours) = self.port(a.port).map(|p| p.config.mac) else { return Err(DropReason::DeviceDown) };
        if src.is_unspecified() {
            // RFC 4861, 7.1.1: from the unspecified address (DAD) without link-layer option, to a solicited-node group.
            if source_mac.is_some() || a.dst != IpAddr::V6(solicited_node(target)) {
                return Err(DropReason::NdpInvalid);
            }
        } else if let Some(mac) = source_mac {
            let o = Observation { mac: Some(mac), solicited: false, replace: true, router: None, create: true };
            self.learn_neighbour(env, (a.port, src.into()), o);
        }
        // RFC 4861, 7.2.4: to an unspecified source the answer goes to all nodes, unsolicited.
        let solicited = !src.is_unspecified();
        let to = if solicited { src } else { ALL_NODES };
        let to_mac = if solicited { source_mac.unwrap_or(a.mac) } else { MacAddr::of_multicast_v6(ALL_NODES) };
        let answer =
            NdpRepr::NeighborAdvert { target, router: false, solicited, override_: true, target_mac: Some(ours) };
        env.mib.inc(Mib::Icmp6OutNeighborAdvertisements);
        self.send_ndp(env, a.port, target, to, to_mac, answer);
        Ok(())
    }

    pub(super) fn solicit_v6(&mut self, env: &mut IpEnv<'_>, port: PortId, target: Ipv6Addr, unicast: Option<MacAddr>) {
        let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
        let Some(IpAddr::V6(src)) = self.addrs().select_source(port, target.into(), target.into()) else { return };
        let group = solicited_node(target);
        let (dst, mac) = match unicast {
            Some(mac) => (target, mac),
            None => (group, MacAddr::of_multicast_v6(group)),
        };
        env.mib.inc(Mib::Icmp6OutNeighborSolicits);
        self.send_ndp(env, port, src, dst, mac, NdpRepr::NeighborSolicit { target, source_mac: Some(ours) });
    }

    /// Asks for router advertisements (RFC 4861, 6.3.7): when an interface comes up.
    pub fn solicit_routers(&mut self, env: &mut IpEnv<'_>, port: PortId) {
        let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
        let Some(IpAddr::V6(src)) = self.addrs().select_source(port, ALL_ROUTERS.into(), ALL_ROUTERS.into()) else {
            return;
        };
        env.mib.inc(Mib::Icmp6OutRouterSolicits);
        let question = NdpRepr::RouterSolicit { source_mac: Some(ours) };
        self.send_ndp(env, port, src, ALL_ROUTERS, MacAddr::of_multicast_v6(ALL_ROUTERS), question);
    }

    /// Gives a port its link-local address from its MAC (RFC 4862, 5.3). False: it has it.
    pub fn add_link_local(&mut self, port: PortId) -> bool {
        let Some(mac) = self.port(port).map(|p| p.config.mac) else { return false };
        let Some(prefix) = Prefix::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 64) else { return false };
        self.add_autoconf(port, prefix, mac, false)
    }

    fn router_advert_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: Ipv6Addr,
        ra: &RouterAdvert,
    ) -> Result<(), DropReason> {
        // RFC 4861, 6.1.2: "IP Source Address is a link-local address."
        if !src.is_unicast_link_local() {
            return Err(DropReason::NdpInvalid);
        }
        if !self.config.accept_ra {
            return Err(DropReason::IcmpIgnored);
        }
        if let Some(mac) = ra.source_mac {
            let o = Observation { mac: Some(mac), solicited: false, replace: true, router: Some(true), create: true };
            self.learn_neighbour(env, (port, src.into()), o);
        }
        let Some(any) = Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0) else { return Err(DropReason::NdpInvalid) };
        let gateway = Some(IpAddr::V6(src));
        let mine = move |r: &Route| r.origin == RouteOrigin::Ra && r.gateway == gateway && r.port == Some(port);
        // RFC 4861, 6.3.4: lifetime zero: "immediately time-out the entry".
        let old = self.remove_route(any, mine).ok();
        if ra.router_lifetime > 0 {
            // RFC 4861, 4.6.4 and RFC 8200, 5: an MTU below 1280 is ignored, one above the link's too.
            let link = self.port(port).map_or(0, |p| p.config.mtu);
            let mtu = ra.mtu.filter(|m| (1280..=link).contains(m));
            let hoplimit = Some(ra.hop_limit).filter(|h| *h > 0);
            let options = RouteOptions { mtu, hoplimit, ..old.map_or(RouteOptions::default(), |r| r.options) };
            let route = ra_route(any, gateway, port, options);
            // A route of an operator with the same metric on the same port stays.
            let _ = self.add_route(route, false);
        }
        for p in ra.prefixes.iter().flatten() {
            self.prefix_in(port, p);
        }
        Ok(())
    }

    fn prefix_in(&mut self, port: PortId, p: &PrefixInfo) {
        let Some(net) = Prefix::new(p.prefix.into(), p.prefix_len) else { return };
        // RFC 4862, 5.5.3: the link-local prefix is ignored; "If the preferred lifetime is greater than the valid lifetime": ignored.
        if p.prefix.is_unicast_link_local() || p.prefix.is_multicast() || p.preferred_lifetime > p.valid_lifetime {
            return;
        }
        if p.on_link {
            let mine = move |r: &Route| r.origin == RouteOrigin::Ra && r.gateway.is_none() && r.port == Some(port);
            let _ = self.remove_route(net, mine);
            if p.valid_lifetime > 0 {
                let _ = self.add_route(ra_route(net, None, port, RouteOptions::default()), false);
            }
        }
        // RFC 4862, 5.5.3 (d): the prefix and the 64-bit interface identifier must add up to 128.
        if !p.autonomous || !self.config.autoconf || p.prefix_len != 64 || p.valid_lifetime == 0 {
            return;
        }
        let Some(mac) = self.port(port).map(|p| p.config.mac) else { return };
        self.add_autoconf(port, net, mac, p.preferred_lifetime == 0);
    }

    fn add_autoconf(&mut self, port: PortId, net: Prefix, mac: MacAddr, deprecated: bool) -> bool {
        let IpAddr::V6(base) = net.addr() else { return false };
        let id = u64::from_be_bytes(mac.interface_id());
        let addr = IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | u128::from(id)));
        if self.addrs().on(port).any(|a| a.addr == addr) {
            self.addrs.set_deprecated(addr, deprecated);
            return false;
        }
        let scope = Scope::of(addr);
        self.add_address(Address { addr, prefix_len: 64, scope, port, secondary: false, deprecated })
    }

    fn send_ndp(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        mac: MacAddr,
        message: NdpRepr,
    ) {
        let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
        let at = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
        let len = message.len();
        let mut head = HeaderBuf::zeroed(at + len);
        EthernetRepr { dst: mac, src: ours, ether_type: EtherType::Ipv6 as u16 }.emit(&mut head);
        let ip = Ipv6Repr {
            src,
            dst,
            next_header: proto::ICMPV6,
            hop_limit: HOP_LIMIT,
            traffic_class: 0,
            flow_label: 0,
            payload_len: len as u16,
        };
        ip.emit(&mut head[ethernet::HEADER_LEN..]);
        message.emit(&mut head[at..], src, dst);
        env.mib.inc(Mib::Icmp6OutMsgs);
        env.mib.inc(Mib::Ip6OutRequests);
        let mut frame = Packet { priority: CONTROL, ..Packet::new(head, Payload::None) };
        (frame.protocol, frame.transport_at) = (proto::ICMPV6, at as u8);
        self.enqueue(env, port, frame);
    }
}

const fn ra_route(dst: Prefix, gateway: Option<IpAddr>, port: PortId, options: RouteOptions) -> Route {
    Route {
        dst,
        kind: RouteType::Unicast,
        gateway,
        port: Some(port),
        src: None,
        metric: RA_METRIC,
        origin: RouteOrigin::Ra,
        options,
    }
}
