//! Devices as shards hold them: opened once for all, one queue a shard.

use super::wait::{Token, Waiter};
use crate::config::{Args, Config, DeviceConfig, DeviceKind, EmulateConfig, Mac};
use anyhow::{Context, Result};
use rustix::event::epoll::EventFlags;
use siphasher::sip::SipHasher13;
use stackd_base::{Bandwidth, DropReason, Instant, PortId, QueueId};
use stackd_netdev::{Device, DeviceStats, Dummy, Emulator, SoftOffload, Tap, TapConfig, Wire, host};
use stackd_netstack::packet::Packet;
use stackd_qdisc::config::{Chance, Loss, NetemConfig};
use stackd_qdisc::{QdiscConfig, QdiscStats};
use std::hash::Hasher;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Room for the largest GSO frame.
pub const FRAME_BUFFER: usize = stackd_netdev::RX_BUFFER_LEN;
/// Segments that an emulated link holds unless told otherwise: enough for 100 Mbit/s x 1 s.
const EMULATOR_LIMIT: u32 = 10_000;
/// Mixed into addresses made from names, so that they are ours.
const MAC_KEY: u64 = 0x7374_6163_6b64;

/// Frames lost between the stack and the outside. The first reason that applies counts, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Received and not to be understood: [`DropReason::DeviceRxInvalid`].
    pub rx_invalid: u64,
    /// Refused by the device: [`DropReason::DeviceTxError`].
    pub tx_refused: u64,
    /// Lost by the emulated path of frames that leave: [`DropReason::EmulatedLoss`].
    pub egress_lost: u64,
    /// Lost by the emulated path of frames that arrive: [`DropReason::EmulatedLoss`].
    pub ingress_lost: u64,
}

impl Losses {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx_invalid: self.rx_invalid + other.rx_invalid,
            tx_refused: self.tx_refused + other.tx_refused,
            egress_lost: self.egress_lost + other.egress_lost,
            ingress_lost: self.ingress_lost + other.ingress_lost,
        }
    }

    /// How many of them have this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        match reason {
            DropReason::DeviceRxInvalid => self.rx_invalid,
            DropReason::DeviceTxError => self.tx_refused,
            DropReason::EmulatedLoss => self.egress_lost + self.ingress_lost,
            _ => 0,
        }
    }
}

/// One queue of an interface.
pub struct Port {
    /// Its number in the stack, the same on every shard.
    pub id: PortId,
    /// What it is, for `ip link`.
    pub kind: &'static str,
    /// The queue.
    pub device: Box<dyn Device>,
    /// What the device did not take yet.
    pub held: Option<Packet>,
    /// The device is full: nothing is offered until it has room.
    pub full: bool,
    /// Frames that the device refused.
    pub tx_refused: u64,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Port {
    /// Puts the device into the wait set. By edge: the shard blocks only after a read found nothing, and offers a full device
    /// a frame only after it said that it has room.
    pub fn register(&self, waiter: &Waiter) -> Result<()> {
        let Some(fd) = self.device.as_fd() else { return Ok(()) };
        match waiter.add(fd, Token::Device(self.id.0), EventFlags::IN | EventFlags::OUT | EventFlags::ET) {
            // A wire's descriptor changes with its peer; one that is in the set already is fine.
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(e) => Err(e).context("epoll"),
        }
    }

    /// True if the descriptor to wait on may be another one than last time: a wire listens first, then talks to whoever came.
    /// Such a device is registered again before every block.
    pub fn changes_descriptor(&self) -> bool {
        self.kind == kind_name(DeviceKind::Wire)
    }

    /// The wait set reported the device.
    pub fn ready(&mut self, flags: EventFlags) {
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            self.full = false;
        }
    }

    /// When the device has something to do by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.device.next_deadline()
    }

    /// Frames that are to leave are still under way inside.
    pub fn is_busy(&self) -> bool {
        self.held.is_some() || self.device.stats().egress.is_some_and(|path| path.qlen > 0)
    }

    /// What will have been lost when it is closed now: with it goes what is under way on its emulated paths.
    pub fn losses_when_closed(&self) -> Losses {
        let DeviceStats { egress, ingress, .. } = self.device.stats();
        let under_way = |path: Option<QdiscStats>| path.map_or(0, |p| p.qlen);
        let (egress_lost, ingress_lost) = (under_way(egress), under_way(ingress));
        self.losses().plus(Losses { egress_lost, ingress_lost, ..Losses::default() })
    }

    /// What was lost between the stack and the outside.
    pub fn losses(&self) -> Losses {
        let DeviceStats { rx_invalid, tx_refused, egress, ingress } = self.device.stats();
        let lost = |path: Option<QdiscStats>| path.map_or(0, |p| p.drops);
        Losses {
            rx_invalid,
            tx_refused: tx_refused + self.tx_refused,
            egress_lost: lost(egress),
            ingress_lost: lost(ingress),
        }
    }
}

/// Opens every configured device: element `i` of the result is what shard `i` gets.
pub fn open_all(config: &Config, args: &Args) -> Result<Vec<Vec<Port>>> {
    let workers = config.workers;
    let mut shards: Vec<Vec<Port>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, device) in config.devices.iter().enumerate() {
        let queues = open_ports(device, port_id(index), workers).map_err(|e| {
            anyhow::Error::from(config.device_error(
                args,
                index,
                "name",
                format!("{} cannot be opened: {e:#}", device.name),
            ))
        })?;
        for (shard, port) in shards.iter_mut().zip(queues) {
            shard.push(port);
        }
    }
    Ok(shards)
}

/// Opens one device: element `i` is what shard `i` gets.
pub fn open_ports(device: &DeviceConfig, id: PortId, workers: u8) -> Result<Vec<Port>> {
    let queues = open(device, workers)?;
    let port = |device_queue| Port {
        id,
        kind: kind_name(device.kind),
        device: device_queue,
        held: None,
        full: false,
        tx_refused: 0,
    };
    Ok(queues.into_iter().map(port).collect())
}

/// `lo` is 1; devices follow in the order of the configuration, so that every shard numbers them alike.
pub const fn port_id(index: usize) -> PortId {
    PortId(index as u32 + 2)
}

fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Tap => "tap",
        DeviceKind::Wire => "wire",
        DeviceKind::Dummy => "dummy",
    }
}

fn open(device: &DeviceConfig, workers: u8) -> Result<Vec<Box<dyn Device>>> {
    match device.kind {
        DeviceKind::Tap => open_tap(device, workers),
        DeviceKind::Dummy => {
            (0..workers).map(|n| dressed(Dummy::new(QueueId(n.into()), device.mtu), device, n.into())).collect()
        }
        DeviceKind::Wire => {
            let wire = match (&device.listen, &device.connect) {
                (Some(path), _) => Wire::listen(path, device.mtu)?,
                (None, Some(path)) => Wire::connect(path, device.mtu),
                (None, None) => anyhow::bail!("it has neither listen nor connect"),
            };
            Ok(vec![dressed(wire, device, 0)?])
        }
    }
}

fn open_tap(device: &DeviceConfig, workers: u8) -> Result<Vec<Box<dyn Device>>> {
    let netns = device.netns.as_ref().map(|ns| match ns.parse::<u32>() {
        Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        Err(_) => PathBuf::from(ns),
    });
    let host_name = device.host_name.clone().unwrap_or_else(|| device.name.clone());
    let tap = TapConfig { name: host_name, queues: workers.into(), mtu: device.mtu, netns: netns.clone() };
    let queues = if device.offload { Tap::open(&tap)? } else { Tap::open_plain(&tap)? };
    let name = queues.first().map(|q| q.name().to_owned()).context("the kernel gave no queue")?;
    in_netns(netns, {
        let (device, name) = (device.clone(), name.clone());
        move || set_up_host_side(&device, &name)
    })?;
    queues.into_iter().zip(0u64..).map(|(queue, n)| dressed(queue, device, n)).collect()
}

/// The kernel's side: MTU, up, addresses.
fn set_up_host_side(device: &DeviceConfig, name: &str) -> Result<()> {
    let done = host::link_mtu(name, device.mtu).and_then(|()| host::link_up(name));
    if let Err(error) = done {
        // A TAP that root made for this user may be open to us and its link not ours to change.
        anyhow::ensure!(device.host_addresses.is_empty(), "{name} cannot be set up: {error}");
        tracing::warn!(device = name, %error, "the kernel's side cannot be set up; set its MTU and bring it up by hand");
    }
    for a in &device.host_addresses {
        match host::addr_add(name, a.addr, a.len) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => anyhow::bail!("{a} cannot be given to {name}: {e}"),
        }
    }
    Ok(())
}

/// Runs `f` inside a network namespace, on a thread of its own so that this one stays where it is.
fn in_netns(path: Option<PathBuf>, f: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let Some(path) = path else { return f() };
    let ns = std::fs::File::open(&path).with_context(|| format!("{}", path.display()))?;
    let thread = std::thread::Builder::new().name("netns".into()).spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).context("setns")?;
        f()
    })?;
    thread.join().map_err(|_| anyhow::anyhow!("the thread that set {} up crashed", path.display()))?
}

/// What the configuration puts around a device, outermost first: emulated paths, which cut GSO frames themselves where they must;
/// software offloads; the device.
fn dressed<D: Device + 'static>(device: D, config: &DeviceConfig, queue: u64) -> Result<Box<dyn Device>> {
    let plain: Box<dyn Device> = if config.offload { Box::new(device) } else { Box::new(SoftOffload::new(device)) };
    let path = |e: &Option<EmulateConfig>| e.as_ref().map(|e| QdiscConfig::Netem(netem(e)));
    let (egress, ingress) = (path(&config.emulate), path(&config.emulate_ingress));
    if egress.is_none() && ingress.is_none() {
        return Ok(plain);
    }
    let seed = [&config.emulate, &config.emulate_ingress].into_iter().flatten().find_map(|e| e.seed);
    let seed = seed.unwrap_or_else(crate::clock::os_random_u64).wrapping_add(queue);
    Ok(Box::new(Emulator::both(plain, egress.as_ref(), ingress.as_ref(), seed)?))
}

/// An emulated link as netem's parameters.
fn netem(e: &EmulateConfig) -> NetemConfig {
    let EmulateConfig { rate, delay, jitter, loss, reorder, duplicate, corrupt, limit, seed } = e;
    let chance = |p: &Option<crate::config::Percent>| Chance { percent: p.map_or(0.0, |p| p.0), correlation: 0.0 };
    let base = NetemConfig::default();
    NetemConfig {
        limit: limit.unwrap_or(EMULATOR_LIMIT),
        delay: delay.map_or(base.delay, |d| d.0),
        jitter: jitter.map_or(base.jitter, |d| d.0),
        loss: Loss::Random(chance(loss)),
        reorder: chance(reorder),
        // tc-netem(8): without a gap every segment may overtake.
        gap: u32::from(reorder.is_some()),
        duplicate: chance(duplicate),
        corrupt: chance(corrupt),
        rate: rate.map_or(Bandwidth::ZERO, |r| r.0),
        seed: *seed,
        ..base
    }
}

/// The Ethernet address of stackd's side: as configured, or made from the names, so that it survives a restart and differs between daemons.
pub fn mac(device: &DeviceConfig, control: &Path) -> [u8; 6] {
    if let Some(Mac(mac)) = device.mac {
        return mac;
    }
    let mut hasher = SipHasher13::new_with_keys(MAC_KEY, 0);
    hasher.write(control.as_os_str().as_encoded_bytes());
    hasher.write(device.name.as_bytes());
    let h = hasher.finish().to_be_bytes();
    // IEEE 802: locally administered, one station.
    [h[0] & 0xfc | 0x02, h[1], h[2], h[3], h[4], h[5]]
}
