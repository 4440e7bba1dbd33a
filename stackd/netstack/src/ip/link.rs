//! Interfaces that come, go, rise and fall, and what becomes of the addresses, routes and neighbours on them.
//!
//! As on Linux: an interface that goes down takes every route through it along, its neighbours, its IPv6 addresses, and what is queued. Its IPv4
//! addresses stay with it, asleep; when it rises they bring the routes to their networks back, and nothing brings those of operators back.

use super::{IfTimer, IpEnv, IpLayer};
use crate::addr::{AddrState, Address, Scope};
use crate::packet::Packet;
use crate::port::{Port, PortConfig};
use stackd_base::{DropReason, Instant, PortId};
use stackd_qdisc::{Dropped, Qdisc};
use std::net::{IpAddr, Ipv6Addr};

/// RFC 8200, 5: "IPv6 requires that every link in the Internet have an MTU of 1280 octets or greater."
const IPV6_MIN_MTU: u32 = 1280;

impl IpLayer {
    /// Adds an interface, up. Its number is never used again.
    pub fn add_port(&mut self, config: PortConfig, qdisc: Box<dyn Qdisc<Packet>>) -> PortId {
        let id = PortId(self.next_port);
        self.next_port += 1;
        self.ports.push(Port::new(id, config, qdisc));
        self.changed();
        id
    }

    /// The number that the next interface must have at least.
    pub const fn next_port(&self) -> PortId {
        PortId(self.next_port)
    }

    /// Lets the next interface have this number, so that all shards number it alike. False: the number is taken, or was.
    pub fn number_next_port(&mut self, id: PortId) -> bool {
        let free = id.0 >= self.next_port;
        if free {
            self.next_port = id.0;
        }
        free
    }

    /// Takes an interface away with its addresses, routes, neighbours and queued packets (dropped as `DeviceDown`). False: no such port.
    pub fn remove_port(&mut self, env: &mut IpEnv<'_>, id: PortId) -> bool {
        if self.port(id).is_none() {
            return false;
        }
        self.fall(env.now, id);
        let gone: Vec<IpAddr> = self.addrs.on(id).map(|a| a.addr).collect();
        for a in gone {
            self.forget_address_timers(id, a);
            self.addrs.remove(id, a);
        }
        self.rules.retain(|r| r.oif != Some(id));
        self.mcast.forget(id);
        self.timers.retain(|t| !matches!(t, IfTimer::Group(p, _) | IfTimer::GeneralQuery(p, _) if *p == id));
        self.ports.retain(|p| p.id != id);
        self.changed();
        self.count_drops(env);
        true
    }

    /// `ip link set up|down`. False: no such port.
    pub fn set_up(&mut self, env: &mut IpEnv<'_>, id: PortId, up: bool) -> bool {
        let Some(p) = self.port_mut(id) else { return false };
        match (p.up, up) {
            (false, true) => {
                p.up = true;
                self.rise(env, id);
            }
            (true, false) => {
                self.fall(env.now, id);
                self.drop_ipv6(id);
                if let Some(p) = self.port_mut(id) {
                    p.up = false;
                }
            }
            (true, true) | (false, false) => {}
        }
        self.changed();
        self.count_drops(env);
        true
    }

    /// `ip link set mtu`. Below IPv6's least an interface has no IPv6; it gets it again when the MTU allows. False: no such port.
    pub fn set_mtu(&mut self, env: &mut IpEnv<'_>, id: PortId, mtu: u32) -> bool {
        let Some(p) = self.port_mut(id) else { return false };
        let before = core::mem::replace(&mut p.config.mtu, mtu);
        let up = p.up;
        match (before >= IPV6_MIN_MTU, mtu >= IPV6_MIN_MTU) {
            (true, false) => {
                self.retain_routes(|r| r.port != Some(id) || r.dst.addr().is_ipv4());
                self.drop_ipv6(id);
            }
            (false, true) if up => self.begin_ipv6(env, id),
            _ => {}
        }
        self.changed();
        self.count_drops(env);
        true
    }

    /// What an interface that comes up begins with.
    fn rise(&mut self, env: &mut IpEnv<'_>, id: PortId) {
        let asleep: Vec<Address> = self.addrs.on(id).filter(|a| self.addrs.state(a.addr).down).copied().collect();
        for a in asleep {
            let state = AddrState { down: false, ..self.addrs.state(a.addr) };
            self.addrs.set_state(a.addr, state);
            self.add_network_route(&a);
            self.look_for_duplicates(env, &a, false);
        }
        self.begin_ipv6(env, id);
    }

    fn begin_ipv6(&mut self, env: &mut IpEnv<'_>, id: PortId) {
        let Some(p) = self.port(id).filter(|p| p.config.mtu >= IPV6_MIN_MTU) else { return };
        if p.config.loopback {
            let scope = Scope::Host;
            let (addr, prefix_len) = (IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
            self.add_address(Address { addr, prefix_len, scope, port: id, secondary: false, deprecated: false });
        } else {
            // RFC 4291, 2.1: "All interfaces are required to have at least one Link-Local unicast address".
            self.add_link_local(env, id);
        }
    }

    /// What an interface loses that goes down: routes, neighbours, what is queued, what routers said.
    fn fall(&mut self, now: Instant, id: PortId) {
        // What was learnt about single destinations belongs to the routes that led there.
        let through: Vec<IpAddr> = self
            .exceptions
            .iter(now)
            .map(|(dst, _)| dst)
            .filter(|dst| self.route(now, *dst, None, None).map_or(true, |r| r.port == id))
            .collect();
        for dst in through {
            self.exceptions.forget(dst);
        }
        let queued = self.ports.iter_mut().find(|p| p.id == id).map(Port::drain).unwrap_or_default();
        let waiting = queued.into_iter().chain(self.neigh.remove_port(id));
        self.dropped.extend(waiting.map(|packet| Dropped { packet, reason: DropReason::DeviceDown }));
        self.retain_routes(|r| r.port != Some(id));
        self.slaac.forget(id);
        self.timers.retain(|t| !matches!(t, IfTimer::RouterSolicit(p) | IfTimer::RaRoute(p, ..) if *p == id));
        let v4: Vec<IpAddr> = self.addrs.on(id).filter(|a| a.addr.is_ipv4()).map(|a| a.addr).collect();
        for a in v4 {
            self.addrs.set_state(a, AddrState { down: true, ..self.addrs.state(a) });
        }
    }

    fn drop_ipv6(&mut self, id: PortId) {
        let v6: Vec<IpAddr> = self.addrs.on(id).filter(|a| a.addr.is_ipv6()).map(|a| a.addr).collect();
        for a in v6 {
            self.remove_address(id, a);
        }
    }

    fn retain_routes(&mut self, keep: impl Fn(&crate::route::Route) -> bool) {
        self.routes.retain(&keep);
        for table in self.tables.values_mut() {
            table.retain(&keep);
        }
        self.tables.retain(|_, t| !t.is_empty());
    }
}
