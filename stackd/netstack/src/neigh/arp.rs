//! ARP (RFC 826), and the solicitations of both families.

use super::{NeighAction, NeighKey, Observation};
use crate::ip::{IpEnv, IpLayer};
use crate::packet::{HeaderBuf, Packet, Payload};
use stackd_base::{DropReason, PortId};
use stackd_qdisc::Dropped;
use stackd_wire::{ArpOperation, ArpRepr, EtherType, EthernetRepr, MacAddr, arp, ethernet};
use std::net::{IpAddr, Ipv4Addr};

/// TC_PRIO_CONTROL: not to be stuck behind bulk data.
pub(super) const CONTROL: u8 = 7;

impl IpLayer {
    pub(crate) fn handle_arp(&mut self, env: &mut IpEnv<'_>, port: PortId, bytes: &[u8]) -> Result<(), DropReason> {
        let p = self.port(port).ok_or(DropReason::DeviceDown)?;
        if !p.config.caps.ethernet || p.config.loopback {
            return Err(DropReason::ArpInvalid);
        }
        let ours = p.config.mac;
        let a = ArpRepr::parse(bytes).map_err(|_| DropReason::ArpInvalid)?;
        let sender = IpAddr::V4(a.sender_ip);
        if a.sender_ip.is_loopback() || a.target_ip.is_loopback() || a.sender_mac == MacAddr::ZERO {
            return Err(DropReason::ArpInvalid);
        }
        // Somebody else uses our address, or our own frame came back: never learn ourselves as a neighbour.
        if self.addrs().is_local(sender) {
            return Err(DropReason::ArpInvalid);
        }
        let for_us = self.addrs().is_local(a.target_ip.into());
        if !a.sender_ip.is_unspecified() {
            // RFC 826: the sender's pair updates what is known already; it is only added when we are the target.
            let observation = Observation {
                mac: Some(a.sender_mac),
                solicited: a.operation == ArpOperation::Reply && for_us,
                replace: true,
                router: None,
                create: for_us && a.operation == ArpOperation::Request,
            };
            self.learn_neighbour(env, (port, sender), observation);
        }
        if !for_us {
            return Err(DropReason::ArpNotForUs);
        }
        if a.operation == ArpOperation::Request {
            let reply = ArpRepr {
                operation: ArpOperation::Reply,
                sender_mac: ours,
                sender_ip: a.target_ip,
                target_mac: a.sender_mac,
                target_ip: a.sender_ip,
            };
            self.send_arp(env, port, a.sender_mac, reply);
        }
        Ok(())
    }

    /// Takes in what a neighbour said, and sends what waited for it.
    pub(crate) fn learn_neighbour(&mut self, env: &mut IpEnv<'_>, key: NeighKey, observation: Observation) {
        let cfg = self.neigh_config(key.0, key.1.is_ipv6());
        if let Some((_, waiting)) = self.neigh.observe(env.now, &cfg, key, observation) {
            for packet in waiting {
                self.link_out(env, key.0, key.1, packet);
            }
        }
    }

    /// Asks who has an address: this neighbour alone, or everybody.
    pub(crate) fn solicit(&mut self, env: &mut IpEnv<'_>, key: NeighKey, unicast: Option<MacAddr>) {
        let (port, target) = key;
        match target {
            IpAddr::V4(target_ip) => {
                let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
                let sender_ip = match self.addrs().select_source(port, target, target) {
                    Some(IpAddr::V4(a)) => a,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let operation = ArpOperation::Request;
                let question = ArpRepr { operation, sender_mac: ours, sender_ip, target_mac: MacAddr::ZERO, target_ip };
                self.send_arp(env, port, unicast.unwrap_or(MacAddr::BROADCAST), question);
            }
            IpAddr::V6(target) => self.solicit_v6(env, port, target, unicast),
        }
    }

    pub(crate) fn run_neighbour_timers(&mut self, env: &mut IpEnv<'_>) {
        while let Some((port, addr)) = self.neigh.due(env.now) {
            let cfg = self.neigh_config(port, addr.is_ipv6());
            let Some(action) = self.neigh.poll_timer(env.now, &cfg) else { continue };
            match action {
                NeighAction::Solicit { key, unicast } => self.solicit(env, key, unicast),
                NeighAction::Failed { packets } => {
                    // A default router that is gone makes way for another one.
                    self.changed();
                    let reason = DropReason::NeighUnresolved;
                    self.dropped.extend(packets.into_iter().map(|packet| Dropped { packet, reason }));
                }
            }
        }
    }

    /// Announces an IPv4 address (gratuitous ARP, RFC 5227, 3), for neighbours that remember another owner.
    pub fn announce(&mut self, env: &mut IpEnv<'_>, port: PortId, addr: Ipv4Addr) {
        let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
        let announcement = ArpRepr {
            operation: ArpOperation::Request,
            sender_mac: ours,
            sender_ip: addr,
            target_mac: MacAddr::ZERO,
            target_ip: addr,
        };
        self.send_arp(env, port, MacAddr::BROADCAST, announcement);
    }

    fn send_arp(&mut self, env: &mut IpEnv<'_>, port: PortId, to: MacAddr, packet: ArpRepr) {
        let mut head = HeaderBuf::zeroed(ethernet::HEADER_LEN + arp::LEN);
        let eth = EthernetRepr { dst: to, src: packet.sender_mac, ether_type: EtherType::Arp as u16 };
        eth.emit(&mut head);
        packet.emit(&mut head[ethernet::HEADER_LEN..]);
        let frame = Packet { priority: CONTROL, ..Packet::new(head, Payload::None) };
        self.enqueue(env, port, frame);
    }
}
