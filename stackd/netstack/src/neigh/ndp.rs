//! Neighbour discovery (RFC 4861): solicitations and advertisements of neighbours. Routers' are in `slaac.rs`, duplicates in `dad.rs`.

use super::Observation;
use super::arp::CONTROL;
use crate::addr::{ALL_NODES, solicited_node};
use crate::ip::input::Accepted;
use crate::ip::{IpEnv, IpLayer};
use crate::packet::{HeaderBuf, Packet, Payload};
use stackd_base::{DropReason, Mib, PortId};
use stackd_wire::{EtherType, EthernetRepr, Ipv6Repr, MacAddr, NdpRepr, ethernet, ipv6, proto};
use std::net::{IpAddr, Ipv6Addr};

/// RFC 4861, 3.1: "hosts ... 255": a packet with a lower hop limit passed a router and is forged.
const HOP_LIMIT: u8 = 255;

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
            NdpRepr::NeighborSolicit { target, source_mac, nonce } => {
                env.mib.inc(Mib::Icmp6InNeighborSolicits);
                // RFC 4862, 5.4.3: only one from the unspecified address says that another node wants the address too; any other
                // node that asks just wants to talk to whoever has it.
                let contends = src.is_unspecified() && source_mac.is_none();
                let tentative =
                    self.addrs().on(a.port).any(|x| x.addr == target) && self.addrs().state(target.into()).tentative;
                if tentative {
                    if contends {
                        self.dad_heard(env, a.port, target, nonce, true);
                    }
                    return Ok(());
                }
                self.neighbor_solicit_in(env, a, src, target, source_mac)
            }
            NdpRepr::NeighborAdvert { target, router, solicited, override_, target_mac } => {
                env.mib.inc(Mib::Icmp6InNeighborAdvertisements);
                if self.dad_heard(env, a.port, target, None, false) {
                    return Ok(());
                }
                // RFC 4861, 7.1.2: "If the IP Destination Address is a multicast address the Solicited flag is zero."
                if (solicited && a.dst.is_multicast()) || self.addrs().is_local(target.into()) {
                    return Err(DropReason::NdpInvalid);
                }
                let o =
                    Observation { mac: target_mac, solicited, replace: override_, router: Some(router), create: false };
                self.learn_neighbour(env, (a.port, target.into()), o);
                Ok(())
            }
            NdpRepr::Redirect { target, destination, target_mac } => {
                env.mib.inc(Mib::Icmp6InRedirects);
                self.redirect_v6_in(env, a.port, src, target, destination, target_mac)
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
        self.send_ndp(
            env,
            port,
            src,
            dst,
            mac,
            NdpRepr::NeighborSolicit { target, source_mac: Some(ours), nonce: None },
        );
    }

    pub(crate) fn send_ndp(
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
