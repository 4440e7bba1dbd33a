//! What operators do: interfaces, addresses, routes, queues, sysctls.

use super::Stack;
use crate::addr::{Address, Scope};
use crate::ip::IpLayer;
use crate::neigh::NeighKey;
use crate::packet::Packet;
use crate::port::{PortCaps, PortConfig};
use crate::route::{Route, RouteError};
use crate::socket::Body;
use crate::store::ByteStore;
use crate::sysctl::{SysctlError, Sysctls};
use stackd_base::{Instant, PortId, SockId};
use stackd_qdisc::{ConfigError, Qdisc, QdiscConfig};
use stackd_wire::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Why a queue could not be changed.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum QdiscError {
    #[error("no interface has number {0}")]
    NoPort(u32),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Stack {
    /// Adds an interface with the queue that `net.core.default_qdisc` names (`lo` has none), up.
    pub fn add_port(&mut self, config: PortConfig) -> PortId {
        let kind = if config.loopback { "noqueue" } else { self.sysctls.net.default_qdisc };
        let queue = QdiscConfig::default_of(kind).unwrap_or(QdiscConfig::NoQueue);
        let qdisc = stackd_qdisc::build::<Packet>(&queue).unwrap_or_else(|_| Box::new(crate::port::NoQueue::new()));
        self.add_port_with(config, qdisc)
    }

    /// Adds an interface with this queue, up.
    pub fn add_port_with(&mut self, config: PortConfig, qdisc: Box<dyn Qdisc<Packet>>) -> PortId {
        let name = config.name.clone();
        let id = self.ip.add_port(config, qdisc);
        self.sysctls.conf.declare(&name);
        self.apply_conf();
        id
    }

    /// Makes `net.ipv[46].conf.NAME.*` known before the interface is there: what is written then is what it begins with.
    pub fn declare_interface(&mut self, name: &str) {
        self.sysctls.conf.declare(name);
    }

    fn apply_conf(&mut self) {
        let ids: Vec<(PortId, crate::ip::IfConf)> =
            self.ip.ports().iter().map(|p| (p.id, self.sysctls.conf.of(&p.config.name))).collect();
        for (id, conf) in ids {
            if let Some(p) = self.ip.port_mut(id) {
                p.conf = conf;
            }
        }
    }

    /// Adds `lo` with 127.0.0.1/8 and ::1/128.
    pub fn add_loopback(&mut self) -> PortId {
        let port = self.add_port(PortConfig {
            name: String::from("lo"),
            mac: MacAddr::ZERO,
            mtu: 65_536,
            loopback: true,
            caps: PortCaps { tx_csum: true, tso_max: u32::MAX, uso: true, ethernet: false },
        });
        for (addr, len) in [(IpAddr::V4(Ipv4Addr::LOCALHOST), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)] {
            let scope = Scope::of(addr);
            self.ip.add_address(Address { addr, prefix_len: len, scope, port, secondary: false, deprecated: false });
        }
        port
    }

    /// Takes an interface away with all that hangs on it.
    pub fn remove_port(&mut self, now: Instant, port: PortId) -> bool {
        if let Some(p) = self.ip.port(port) {
            self.sysctls.conf.forget(&p.config.name);
        }
        let (ip, mut env) = self.ip_parts(now);
        let removed = ip.remove_port(&mut env, port);
        self.reap_dropped(now);
        removed
    }

    /// `ip link set up|down`: what hangs on the interface follows. False: no such interface.
    pub fn set_port_up(&mut self, now: Instant, port: PortId, up: bool) -> bool {
        let (ip, mut env) = self.ip_parts(now);
        let known = ip.set_up(&mut env, port, up);
        self.reap_dropped(now);
        known
    }

    /// `ip link set mtu`. False: no such interface.
    pub fn set_port_mtu(&mut self, now: Instant, port: PortId, mtu: u32) -> bool {
        let (ip, mut env) = self.ip_parts(now);
        let known = ip.set_mtu(&mut env, port, mtu);
        self.reap_dropped(now);
        known
    }

    /// Gives the queue in front of a device other parameters; what is queued and what was counted stays. False: it is of another kind and
    /// has to be replaced.
    ///
    /// # Errors
    /// An unknown interface, parameters that contradict each other.
    pub fn change_qdisc(&mut self, now: Instant, port: PortId, config: &QdiscConfig) -> Result<bool, QdiscError> {
        let p = self.ip.port_mut(port).ok_or(QdiscError::NoPort(port.0))?;
        if p.qdisc().kind() != config.kind() {
            return Ok(false);
        }
        let mut dropped = Vec::new();
        match p.qdisc_mut().change(config, now, &mut dropped) {
            // Kinds without parameters change by being replaced.
            Err(ConfigError::WrongKind { .. }) => return Ok(false),
            result => result?,
        }
        for d in dropped {
            self.drops.count(d.reason);
            self.handle_tx_complete(now, &d.packet);
        }
        Ok(true)
    }

    /// Puts another queue in front of a device; what is queued moves over as far as it fits.
    ///
    /// # Errors
    /// An unknown interface, parameters that contradict each other.
    pub fn replace_qdisc(&mut self, now: Instant, port: PortId, config: &QdiscConfig) -> Result<(), QdiscError> {
        let new = stackd_qdisc::build::<Packet>(config)?;
        let paces = new.paces();
        let mut dropped = Vec::new();
        let Self { ip, rng, .. } = self;
        ip.port_mut(port).ok_or(QdiscError::NoPort(port.0))?.replace_qdisc(new, now, rng, &mut dropped);
        for d in dropped {
            self.drops.count(d.reason);
            self.handle_tx_complete(now, &d.packet);
        }
        // Connections pace themselves exactly when nothing below them does.
        let through: Vec<SockId> = self
            .sockets
            .iter()
            .filter(|(_, s)| matches!(&s.body, Body::Tcp(t) if t.port == port))
            .map(|(id, _)| id)
            .collect();
        for sock in through {
            if let Some(t) = self.tcp_mut(sock) {
                t.conn.set_port_paces(paces);
            }
            self.mark_dirty(sock);
        }
        Ok(())
    }

    /// The IP layer: interfaces, addresses, routes, neighbours.
    pub fn ip(&self) -> &IpLayer {
        &self.ip
    }

    /// The IP layer, to be configured.
    pub fn ip_mut(&mut self) -> &mut IpLayer {
        &mut self.ip
    }

    /// Adds an address; false if it exists already or its interface does not.
    pub fn add_address(&mut self, address: Address) -> bool {
        self.ip.add_address(address)
    }

    /// Adds an address as an operator does: with a look for duplicates (IPv6, RFC 4862) unless `nodad`. False: as `add_address`.
    pub fn add_address_checked(&mut self, now: Instant, address: Address, nodad: bool) -> bool {
        let (ip, mut env) = self.ip_parts(now);
        ip.add_address_checked(&mut env, address, nodad)
    }

    /// Gives an interface its link-local address (RFC 4862, 5.3); once it is known to be unique, routers are asked for.
    pub fn add_link_local(&mut self, now: Instant, port: PortId) -> bool {
        let (ip, mut env) = self.ip_parts(now);
        ip.add_link_local(&mut env, port)
    }

    /// Adds or replaces a route.
    ///
    /// # Errors
    /// As the route table says.
    pub fn add_route(&mut self, route: Route, replace: bool) -> Result<(), RouteError> {
        self.ip.add_route(route, replace)
    }

    /// Pins a neighbour's link-layer address; what waited for it leaves.
    pub fn add_neighbour(&mut self, now: Instant, key: NeighKey, mac: MacAddr) {
        let (ip, mut env) = self.ip_parts(now);
        ip.set_neighbour(&mut env, key, mac);
        self.reap_dropped(now);
    }

    /// All sysctls as they are in force.
    pub fn sysctls(&self) -> &Sysctls {
        &self.sysctls
    }

    /// One sysctl, printed as Linux prints it.
    ///
    /// # Errors
    /// [`SysctlError::Unknown`].
    pub fn sysctl_get(&self, name: &str) -> Result<String, SysctlError> {
        self.sysctls.get(name)
    }

    /// Writes a sysctl. Live connections see it at once where Linux's do.
    ///
    /// # Errors
    /// What was wrong with name or value and what would be right; nothing is changed then.
    pub fn sysctl_set<S: ByteStore>(
        &mut self,
        now: Instant,
        name: &str,
        value: &str,
        store: &mut S,
    ) -> Result<(), SysctlError> {
        let key = self.sysctls.set(name, value)?;
        if key == "net.ipv4.tcp_fastopen_blackhole_timeout_sec" {
            self.fast_open_trust_again();
        }
        self.ip.config = self.sysctls.ip;
        self.apply_conf();
        let [_, pressure, high] = self.sysctls.net.tcp_mem;
        (self.mem.pressure, self.mem.high) = (pressure, high);
        let connections: Vec<SockId> =
            self.sockets.iter().filter(|(_, s)| matches!(s.body, Body::Tcp(_))).map(|(id, _)| id).collect();
        for sock in connections {
            self.reconfigure(sock);
            self.mark_dirty(sock);
            self.after_event(now, sock, store);
        }
        Ok(())
    }
}
