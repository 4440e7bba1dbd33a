//! Interfaces: what `ip link` and `tc` show, and the queue in front of the device.

use crate::ip::IfConf;
use crate::packet::Packet;
use core::fmt;
use stackd_base::{DropReason, Instant, PortId, Rng};
use stackd_qdisc::{Dropped, Qdisc, QueuedPacket};
use stackd_wire::{Gso, MacAddr};
use std::collections::VecDeque;

/// What the device behind a port can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortCaps {
    /// Completes transport checksums on transmit. Packets of a port that cannot carry an open checksum all the same:
    /// whoever writes them out completes it ([`Packet::write_frame`]).
    pub tx_csum: bool,
    /// Segments TCP frames up to this many bytes (0 = not at all).
    pub tso_max: u32,
    /// Segments UDP too.
    pub uso: bool,
    /// Has link-layer addresses and needs neighbour resolution.
    pub ethernet: bool,
}

/// What a port is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Interface name, as in `ip link`.
    pub name: String,
    /// Link-layer address.
    pub mac: MacAddr,
    /// Largest IP packet, 68 at least.
    pub mtu: u32,
    /// This is `lo`: what is sent here is received here.
    pub loopback: bool,
    /// The device.
    pub caps: PortCaps,
}

/// Packets and bytes, as `ip -s link`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct PortStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub rx_multicast: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
}

/// One interface of the stack.
pub struct Port {
    /// Its number (ifindex).
    pub id: PortId,
    /// Name, address, MTU, device.
    pub config: PortConfig,
    /// Administratively up.
    pub up: bool,
    /// `net.ipv4.conf.IF.*` and `net.ipv6.conf.IF.*`.
    pub conf: IfConf,
    /// Counters.
    pub stats: PortStats,
    qdisc: Box<dyn Qdisc<Packet>>,
    /// The rest of a packet that is being cut because the device cannot segment.
    splitting: Option<Packet>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.id)
            .field("config", &self.config)
            .field("up", &self.up)
            .finish_non_exhaustive()
    }
}

impl Port {
    /// An interface that is up.
    pub fn new(id: PortId, config: PortConfig, qdisc: Box<dyn Qdisc<Packet>>) -> Self {
        Self { id, config, up: true, conf: IfConf::default(), stats: PortStats::default(), qdisc, splitting: None }
    }

    /// The queue.
    pub fn qdisc(&self) -> &dyn Qdisc<Packet> {
        &*self.qdisc
    }

    /// The queue, to be changed in place.
    pub fn qdisc_mut(&mut self) -> &mut dyn Qdisc<Packet> {
        &mut *self.qdisc
    }

    /// Puts `new` in the place of the present queue and moves the queued packets over. What the new one cannot hold comes back in `dropped`.
    pub fn replace_qdisc(
        &mut self,
        new: Box<dyn Qdisc<Packet>>,
        now: Instant,
        rng: &mut dyn Rng,
        dropped: &mut Vec<Dropped<Packet>>,
    ) {
        let waiting = self.qdisc.drain();
        self.qdisc = new;
        let mut refused = Vec::new();
        for packet in waiting {
            self.qdisc.enqueue(packet, now, rng, &mut refused);
        }
        dropped.extend(refused.into_iter().map(|d| Dropped { reason: DropReason::QdiscReplaced, ..d }));
    }

    /// Takes out everything that is queued.
    pub(crate) fn drain(&mut self) -> Vec<Packet> {
        let rest = self.splitting.take();
        rest.into_iter().chain(self.qdisc.drain()).collect()
    }

    /// Queues a packet whose headers are complete.
    pub fn enqueue(&mut self, packet: Packet, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<Packet>>) {
        if !self.up {
            self.stats.tx_dropped += 1;
            dropped.push(Dropped { packet, reason: DropReason::DeviceDown });
            return;
        }
        let before = dropped.len();
        self.qdisc.enqueue(packet, now, rng, dropped);
        self.stats.tx_dropped += (dropped.len() - before) as u64;
    }

    /// The next packet that may leave, cut to what the device can segment.
    pub fn dequeue(&mut self, now: Instant, rng: &mut dyn Rng, dropped: &mut Vec<Dropped<Packet>>) -> Option<Packet> {
        let before = dropped.len();
        let packet = match self.splitting.take() {
            Some(rest) => Some(rest),
            None => self.qdisc.dequeue(now, rng, dropped),
        };
        self.stats.tx_dropped += (dropped.len() - before) as u64;
        let mut packet = packet?;
        let PortCaps { tso_max, uso, .. } = self.config.caps;
        let cuts_itself = packet.offload.gso != Gso::UdpL4 || uso;
        if packet.segments() > 1
            && (packet.frame_len() > tso_max as usize || !cuts_itself)
            && let Some(first) = packet.split_first()
        {
            self.splitting = Some(packet);
            packet = first;
        }
        self.stats.tx_packets += u64::from(packet.segments());
        self.stats.tx_bytes += u64::from(packet.wire_len());
        Some(packet)
    }

    /// When `dequeue` would next return something; a time in the past means now.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.splitting.is_some() { Some(Instant::ZERO) } else { self.qdisc.next_deadline() }
    }
}

/// `noqueue`: passes packets on in order. What `lo` has, and what tests use.
#[derive(Debug, Default)]
pub struct NoQueue<P> {
    packets: VecDeque<P>,
}

impl<P> NoQueue<P> {
    /// An empty one.
    pub const fn new() -> Self {
        Self { packets: VecDeque::new() }
    }
}

impl<P: QueuedPacket + fmt::Debug + Send> Qdisc<P> for NoQueue<P> {
    fn kind(&self) -> &'static str {
        "noqueue"
    }
    fn enqueue(&mut self, packet: P, _: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) {
        self.packets.push_back(packet);
    }
    fn dequeue(&mut self, _: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) -> Option<P> {
        self.packets.pop_front()
    }
    fn next_deadline(&self) -> Option<Instant> {
        (!self.packets.is_empty()).then_some(Instant::ZERO)
    }
    fn len(&self) -> usize {
        self.packets.len()
    }
    fn drain(&mut self) -> Vec<P> {
        self.packets.drain(..).collect()
    }
    fn paces(&self) -> bool {
        false
    }
}
