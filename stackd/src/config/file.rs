//! What may be written in a configuration file.

use super::units::{Destination, Group, Mac, Percent, Prefix, Rate, Size, Span};
use serde::Deserialize;
use stackd_base::Duration;
use std::net::IpAddr;
use std::path::PathBuf;

/// Long enough to catch the next packet of a busy exchange, short enough to be nothing in an idle second.
pub(super) const DEFAULT_SPIN_US: u64 = 50;
/// Time for FINs to be acknowledged over a path with a second of delay and a loss or two.
pub(super) const DEFAULT_STOP_TIMEOUT: Span = Span(Duration::from_secs(5));

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub control: Option<PathBuf>,
    pub attach: Option<PathBuf>,
    pub group: Option<Group>,
    pub workers: Option<u8>,
    pub worker_cpus: Option<Vec<u16>>,
    pub spin_us: Option<u64>,
    pub stop_timeout: Option<Span>,
    pub log: LogConfig,
    pub quota: QuotaConfig,
    pub sysctl: toml::Table,
    pub device: Vec<DeviceConfig>,
    pub route: Vec<RouteConfig>,
    pub neighbour: Vec<NeighbourConfig>,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A `tracing` filter: "info", "debug", "stackd=debug,tonic=warn".
    pub level: String,
    /// Lines for people or JSON for machines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What clients may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaConfig {
    /// Sessions at one time, of all users.
    pub sessions: u32,
    /// Sockets of one session.
    pub sockets: u32,
    /// Buffer memory of one session.
    pub memory: Size,
    /// Ring pairs (client threads) of one session.
    pub rings: u16,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { sessions: 1024, sockets: 16_384, memory: Size(2 << 30), rings: 64 }
    }
}

/// One interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name in stackd (`netctl ip link`).
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Name of the kernel's side of a TAP; the device's own name if absent.
    #[serde(default)]
    pub host_name: Option<String>,
    /// Addresses to give the kernel's side of a TAP.
    #[serde(default)]
    pub host_addresses: Vec<Prefix>,
    /// Network namespace where the kernel's side lives: a path, or a process id.
    #[serde(default)]
    pub netns: Option<String>,
    /// Queues; one a worker if absent.
    #[serde(default)]
    pub queues: Option<u16>,
    /// Largest IP packet.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Ethernet address of stackd's side; made from the name if absent.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Path where a wire waits for its other end.
    #[serde(default)]
    pub listen: Option<PathBuf>,
    /// Path where a wire finds its other end.
    #[serde(default)]
    pub connect: Option<PathBuf>,
    /// Addresses of stackd on this interface.
    #[serde(default)]
    pub addresses: Vec<Prefix>,
    /// Queueing discipline in `tc`'s words: "fq", "fq limit 20000 flow_limit 200", "netem delay 10ms".
    #[serde(default)]
    pub qdisc: Option<String>,
    /// Bottleneck for frames that leave through this device.
    #[serde(default)]
    pub emulate: Option<EmulateConfig>,
    /// The same for frames that arrive.
    #[serde(default)]
    pub emulate_ingress: Option<EmulateConfig>,
    /// False: a TAP without checksum and segmentation offload, as a plain network card; stackd then does both itself.
    #[serde(default = "yes")]
    pub offload: bool,
}

fn yes() -> bool {
    true
}

fn default_mtu() -> u32 {
    1500
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A TAP interface of the kernel.
    Tap,
    /// A virtual wire to another daemon.
    Wire,
    /// Nothing: what is sent through it is gone. A place for addresses and routes.
    Dummy,
}

/// An emulated link. Loss, duplication, reordering and corruption act per segment inside a GSO frame.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmulateConfig {
    /// Bottleneck rate.
    pub rate: Option<Rate>,
    /// One-way delay.
    pub delay: Option<Span>,
    /// Variation of the delay, plus or minus.
    pub jitter: Option<Span>,
    /// Segments lost at random.
    pub loss: Option<Percent>,
    /// Segments that overtake those before them.
    pub reorder: Option<Percent>,
    /// Segments sent twice.
    pub duplicate: Option<Percent>,
    /// Segments with a flipped bit.
    pub corrupt: Option<Percent>,
    /// Packets queued at most.
    pub limit: Option<u32>,
    /// Number that determines which segments suffer.
    pub seed: Option<u64>,
}

/// One route.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// "default" or a network.
    pub to: Destination,
    /// The gateway; absent = directly connected.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The interface; found by the gateway if absent.
    #[serde(default)]
    pub dev: Option<String>,
    /// Preferred source address.
    #[serde(default)]
    pub src: Option<IpAddr>,
    /// Lower is preferred among equal prefixes.
    #[serde(default)]
    pub metric: u32,
    /// What becomes of packets.
    #[serde(default)]
    pub kind: RouteKind,
    /// Congestion control of connections over this route.
    #[serde(default)]
    pub congctl: Option<String>,
    /// Largest packet over this route.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Initial congestion window in segments.
    #[serde(default)]
    pub initcwnd: Option<u32>,
    /// Initial receive window in segments.
    #[serde(default)]
    pub initrwnd: Option<u32>,
    /// MSS to announce.
    #[serde(default)]
    pub advmss: Option<u32>,
    /// Least retransmission timeout.
    #[serde(default)]
    pub rto_min: Option<Span>,
}

/// What becomes of packets over a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// They are sent.
    #[default]
    Unicast,
    /// They vanish (EINVAL to the sender).
    Blackhole,
    /// The sender hears EHOSTUNREACH.
    Unreachable,
    /// The sender hears EACCES.
    Prohibit,
}

/// One permanent neighbour.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourConfig {
    /// Its address.
    pub addr: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The interface where it is.
    pub dev: String,
}

/// A sysctl's value as `sysctl -w` would be given it.
pub(super) fn sysctl_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(n) => Some(n.to_string()),
        toml::Value::Boolean(b) => Some(u8::from(*b).to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(sysctl_text).collect();
            items.map(|i| i.join(" "))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
