//! `ip link`: interfaces shown, changed, added and taken away while the daemon runs.

use super::{Shard, net};
use crate::config::DeviceConfig;
use crate::shard::device::{Losses, Port as DevicePort};
use crate::shard::setup;
use stackd_base::{DropReason, Instant, PortId};
use stackd_netstack::Stack;
use stackd_netstack::port::Port;
use stackd_proto::v1::Errno;
use stackd_proto::{StatusError, v1};
use stackd_wire::MacAddr;
use std::sync::Arc;

const IFF_UP: u32 = 0x1;
const IFF_BROADCAST: u32 = 0x2;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_NOARP: u32 = 0x80;
const IFF_MULTICAST: u32 = 0x1000;
const IFF_LOWER_UP: u32 = 0x1_0000;
const TX_QUEUE_LEN: u32 = 1000;

/// An interface that is to be: its description, and a shard's queue of the open device.
#[derive(Debug)]
pub struct NewLink {
    /// What the operator asked for.
    pub config: Arc<DeviceConfig>,
    /// Ethernet address of stackd's side.
    pub mac: [u8; 6],
    /// The queue. Its number is the interface's on every shard.
    pub port: DevicePort,
    /// Up from the beginning.
    pub up: bool,
}

/// One interface. `kind`: what the shell knows of the device; `queues`: how many.
fn link(p: &Port, kind: &str, queues: u32, losses: Losses) -> v1::Link {
    let c = &p.config;
    let stackd_netstack::port::PortStats {
        rx_packets,
        rx_bytes,
        rx_dropped,
        rx_multicast,
        tx_packets,
        tx_bytes,
        tx_dropped,
    } = p.stats;
    let mut flags = if p.up { IFF_UP | IFF_LOWER_UP } else { 0 };
    flags |= match kind {
        _ if c.loopback => IFF_LOOPBACK,
        // As Linux's dummy: nobody there to be asked for an address.
        "dummy" => IFF_BROADCAST | IFF_NOARP,
        _ => IFF_BROADCAST | IFF_MULTICAST,
    };
    let mut offloads = Vec::new();
    if c.caps.tx_csum {
        offloads.push("tx-checksumming".to_owned());
    }
    if c.caps.tso_max > 0 {
        offloads.push("tcp-segmentation-offload".to_owned());
    }
    v1::Link {
        index: p.id.0,
        name: c.name.clone(),
        kind: kind.to_owned(),
        flags,
        mtu: c.mtu,
        qdisc: p.qdisc().kind().to_owned(),
        operstate: match (p.up, kind) {
            // RFC 2863: nothing tells how it is.
            (true, "dummy") => "UNKNOWN",
            (true, _) if c.loopback => "UNKNOWN",
            (true, _) => "UP",
            (false, _) => "DOWN",
        }
        .to_owned(),
        tx_queue_len: TX_QUEUE_LEN,
        hardware_address: c.mac.0.to_vec(),
        broadcast_address: if c.loopback { vec![0; 6] } else { vec![0xff; 6] },
        stats: Some(v1::LinkStats {
            rx_bytes,
            rx_packets,
            rx_errors: losses.rx_invalid,
            rx_dropped: rx_dropped + losses.ingress_lost,
            rx_missed: 0,
            rx_multicast,
            tx_bytes,
            tx_packets,
            tx_errors: losses.tx_refused,
            tx_dropped: tx_dropped + losses.egress_lost,
            tx_carrier: 0,
            tx_collisions: 0,
        }),
        offloads,
        queues,
        gso_max_size: c.caps.tso_max,
        min_mtu: 68,
        max_mtu: 65_535,
    }
}

/// `ip link set`: what a stack can change of an interface by itself.
fn set_link(stack: &mut Stack, now: Instant, request: &v1::SetLinkRequest) -> Result<v1::SetLinkResponse, StatusError> {
    let v1::SetLinkRequest { name, up, mtu, hardware_address, tx_queue_len, promiscuous } = request;
    let id = net::port(stack.ip(), name)?.id;
    if let Some(mtu) = mtu
        && !(68..=65_535).contains(mtu)
    {
        return Err(StatusError::invalid("mtu", mtu, "out of range").remedy("68 to 65535"));
    }
    let mac = match hardware_address {
        None => None,
        Some(bytes) => match <[u8; 6]>::try_from(&**bytes) {
            Ok(mac) if mac[0] & 1 == 0 => Some(MacAddr(mac)),
            _ => {
                return Err(StatusError::invalid("address", format!("{bytes:02x?}"), "not the address of one station"));
            }
        },
    };
    if let Some(len) = tx_queue_len {
        return Err(StatusError::new(Errno::Eopnotsupp, "queues belong to qdiscs here")
            .argument("txqueuelen", len)
            .remedy("a qdisc with that limit: tc qdisc replace dev DEV root pfifo_fast limit N"));
    }
    if promiscuous == &Some(true) {
        return Err(StatusError::new(Errno::Eopnotsupp, "frames for others are never taken in")
            .argument("promisc", "on")
            .remedy("netctl capture, which shows every frame that reaches the device"));
    }
    if let Some(mac) = mac
        && let Some(p) = stack.ip_mut().port_mut(id)
    {
        p.config.mac = mac;
    }
    if let Some(mtu) = mtu {
        stack.set_port_mtu(now, id, *mtu);
    }
    if let Some(up) = up {
        stack.set_port_up(now, id, *up);
    }
    Ok(v1::SetLinkResponse {})
}

impl Shard {
    pub(super) fn list_links(&self, request: &v1::ListLinksRequest) -> Result<v1::ListLinksResponse, StatusError> {
        let layer = self.core.stack.ip();
        if !request.name.is_empty() {
            net::port(layer, &request.name)?;
        }
        let shown = layer.ports().iter().filter(|p| request.name.is_empty() || p.config.name == request.name);
        let links = shown
            .map(|p| {
                let device = self.ports.iter().find(|d| d.id == p.id);
                let kind = device.map_or("loopback", |d| d.kind);
                let losses = device.map(DevicePort::losses).unwrap_or_default();
                link(p, kind, if p.config.loopback { 1 } else { self.peers.len() as u32 }, losses)
            })
            .collect();
        Ok(v1::ListLinksResponse { links })
    }

    pub(super) fn set_link(
        &mut self,
        now: Instant,
        request: &v1::SetLinkRequest,
    ) -> Result<v1::SetLinkResponse, StatusError> {
        set_link(&mut self.core.stack, now, request)
    }

    /// `ip link add`. A refusal closes the queue that came with the request.
    pub(super) fn add_link(&mut self, now: Instant, new: NewLink) -> Result<v1::AddLinkResponse, StatusError> {
        let NewLink { config, mac, port, up } = new;
        let name = &config.name;
        let stack = &mut self.core.stack;
        let id = port.id;
        let exists = stack.ip().ports().iter().any(|p| p.config.name == *name);
        if exists || !stack.ip_mut().number_next_port(id) {
            return Err(link_exists(name));
        }
        if let Err((key, why)) = setup::add_interface(stack, now, &config, mac, setup::caps_of(&port), up) {
            stack.remove_port(now, id);
            return Err(StatusError::new(Errno::Einval, why).argument(key, ""));
        }
        if let Err(error) = port.register(&self.waiter) {
            stack.remove_port(now, id);
            return Err(StatusError::new(Errno::Enomem, format!("the device cannot be waited for: {error:#}"))
                .argument("dev", name));
        }
        self.ports.push(port);
        tracing::info!(name, kind = ?config.kind, shard = self.index, "interface added");
        Ok(v1::AddLinkResponse { index: id.0 })
    }

    /// `ip link del`: what hangs on it goes, and what is on its way is counted as lost. Sockets stay; their next look for a route fails.
    pub(super) fn delete_link(
        &mut self,
        now: Instant,
        request: &v1::DeleteLinkRequest,
    ) -> Result<v1::DeleteLinkResponse, StatusError> {
        let port = net::port(self.core.stack.ip(), &request.name)?;
        if port.config.loopback {
            return Err(StatusError::new(Errno::Eopnotsupp, "the loopback interface stays").argument("dev", "lo"));
        }
        let id: PortId = port.id;
        if let Some(at) = self.ports.iter().position(|p| p.id == id) {
            let mut port = self.ports.remove(at);
            if let Some(fd) = port.device.as_fd() {
                self.waiter.remove(fd);
            }
            if let Some(packet) = port.held.take() {
                self.core.stack.count_drop(DropReason::DeviceDown);
                self.core.stack.handle_tx_complete(now, &packet);
            }
            self.lost_with_links = self.lost_with_links.plus(port.losses_when_closed());
        }
        self.handles.remove(&id);
        self.core.stack.remove_port(now, id);
        tracing::info!(name = request.name, shard = self.index, "interface deleted");
        Ok(v1::DeleteLinkResponse {})
    }
}

/// EEXIST, as rtnetlink says it.
pub fn link_exists(name: &str) -> StatusError {
    StatusError::new(Errno::Eexist, "a device of this name exists").argument("dev", name).remedy("another name")
}
