//! A stack from the configuration: interfaces, addresses, routes, neighbours, sysctls.

use super::command::net::{address, metric_or_default, reachable_through};
use super::device::{self, Port};
use crate::config::{Args, Config, ConfigError, Destination, DeviceConfig, RouteConfig, RouteKind};
use crate::store::Store;
use anyhow::Result;
use stackd_base::{Instant, PortId, Rng, ShardId, SplitMix64};
use stackd_netstack::addr::Prefix;
use stackd_netstack::ip::IpLayer;
use stackd_netstack::port::{PortCaps, PortConfig};
use stackd_netstack::route::{CcName, Route, RouteOptions, RouteOrigin, RouteType};
use stackd_netstack::{Stack, StackConfig};
use stackd_qdisc::QdiscConfig;
use stackd_wire::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a device that is not open yet is taken for.
const TYPICAL: PortCaps = PortCaps { tx_csum: true, tso_max: 65_535, uso: true, ethernet: true };

/// Builds the stack that the configuration describes, opens nothing, and reports the first mistake.
pub fn rehearse(config: &Config, args: &Args) -> Result<(), ConfigError> {
    build(0, config, args, &[], Instant::ZERO, 0).map(drop)
}

/// The stack of one shard around its open devices.
pub fn stack(shard: usize, config: &Config, args: &Args, ports: &[Port], now: Instant, seed: u64) -> Result<Stack> {
    // Each shard has its own random sequence; connection secrets need not agree, for flows never move.
    let mut stack = build(shard, config, args, ports, now, seed.wrapping_add(shard as u64))?;
    // Fast Open cookies are for a host, not a flow: the listeners of a SO_REUSEPORT group may be on several shards.
    const KEY: &str = "net.ipv4.tcp_fastopen_key";
    if !config.sysctls.iter().any(|(name, _)| name.replace('/', ".") == KEY) {
        let mut random = SplitMix64::new(seed ^ 0x5f0_f457);
        let (a, b) = (random.next_u64(), random.next_u64());
        let key = format!("{:x}-{:x}-{:x}-{:x}", a >> 32, a as u32, b >> 32, b as u32);
        stack.sysctl_set(now, KEY, &key, &mut Store::default())?;
    }
    Ok(stack)
}

fn build(
    shard: usize,
    config: &Config,
    args: &Args,
    ports: &[Port],
    now: Instant,
    seed: u64,
) -> Result<Stack, ConfigError> {
    let mut stack =
        Stack::new(StackConfig { shard: ShardId(shard as u8), shards: config.workers, ..StackConfig::default() }, seed);
    let mut store = Store::default();
    // What is written for `default` is what interfaces begin with, what is written for `all` or for one of them comes after that.
    let stage = |name: &str| match name.replace('/', ".").splitn(5, '.').collect::<Vec<_>>()[..] {
        ["net", "ipv4" | "ipv6", "conf", "all", _] => 1,
        ["net", "ipv4" | "ipv6", "conf", subject, _] if subject != "default" => 2,
        _ => 0,
    };
    let mut sysctls: Vec<_> = config.sysctls.iter().collect();
    sysctls.sort_by_key(|(name, _)| stage(name));
    let mut declared = false;
    for (name, value) in sysctls {
        if stage(name) > 0 && !declared {
            declare(&mut stack, config);
            declared = true;
        }
        stack.sysctl_set(now, name, value, &mut store).map_err(|e| config.sysctl_error(args, name, e))?;
    }
    stack.add_loopback();
    for (index, device) in config.devices.iter().enumerate() {
        let open = ports.iter().find(|p| p.id == device::port_id(index));
        add_device(&mut stack, now, config, args, index, device, open)?;
    }
    for (index, route) in config.routes.iter().enumerate() {
        add_route(stack.ip_mut(), config, args, index, route)?;
    }
    for neighbour in &config.neighbours {
        let found = stack.ip().ports().iter().find(|p| p.config.name == neighbour.dev).map(|p| p.id);
        if let Some(port) = found {
            stack.add_neighbour(now, (port, neighbour.addr), MacAddr(neighbour.mac.0));
        }
    }
    Ok(stack)
}

fn declare(stack: &mut Stack, config: &Config) {
    stack.declare_interface("lo");
    for device in &config.devices {
        stack.declare_interface(&device.name);
    }
}

fn add_device(
    stack: &mut Stack,
    now: Instant,
    config: &Config,
    args: &Args,
    index: usize,
    device: &DeviceConfig,
    open: Option<&Port>,
) -> Result<(), ConfigError> {
    let caps = open.map_or(TYPICAL, caps_of);
    let mac = device::mac(device, &config.control);
    let added = add_interface(stack, now, device, mac, caps, true);
    added.map(drop).map_err(|(key, why)| config.device_error(args, index, key, why))
}

/// What the stack has to know of an open device.
pub(super) fn caps_of(port: &Port) -> PortCaps {
    let stackd_netdev::Caps { tx_csum, tso_max, uso, ethernet, .. } = port.device.caps();
    PortCaps { tx_csum, tso_max, uso, ethernet }
}

/// An interface as its configuration describes it. A failure names the key.
pub(super) fn add_interface(
    stack: &mut Stack,
    now: Instant,
    device: &DeviceConfig,
    mac: [u8; 6],
    caps: PortCaps,
    up: bool,
) -> Result<PortId, (&'static str, String)> {
    let text = match &device.qdisc {
        Some(text) => text.clone(),
        None => stack.sysctl_get("net.core.default_qdisc").unwrap_or_else(|_| "pfifo_fast".into()),
    };
    let qdisc = match text.parse::<QdiscConfig>().and_then(|q| stackd_qdisc::build(&q)) {
        Ok(qdisc) => qdisc,
        Err(why) => return Err(("qdisc", why.to_string())),
    };
    let port = PortConfig { name: device.name.clone(), mac: MacAddr(mac), mtu: device.mtu, loopback: false, caps };
    let id = stack.add_port_with(port, qdisc);
    if !up {
        stack.set_port_up(now, id, false);
    } else if device.mtu >= 1280 {
        // RFC 4291, 2.1: "All interfaces are required to have at least one Link-Local unicast address".
        stack.add_link_local(now, id);
    }
    for a in &device.addresses {
        if !stack.add_address_checked(now, address(a.addr, a.len, id), false) {
            return Err(("addresses", format!("{a} cannot be an address of {}, or is given twice", device.name)));
        }
    }
    Ok(id)
}

fn add_route(
    layer: &mut IpLayer,
    config: &Config,
    args: &Args,
    index: usize,
    route: &RouteConfig,
) -> Result<(), ConfigError> {
    let fail = |key: &str, why: String| Err(config.route_error(args, index, key, why));
    let RouteConfig { to, via, dev, src, metric, kind, congctl, mtu, initcwnd, initrwnd, advmss, rto_min } = route;
    let dst = match to {
        Destination::Network(p) => Prefix::new(p.addr, p.len),
        Destination::Default => Prefix::new(unspecified(via.or(*src).is_none_or(|a| a.is_ipv4())), 0),
    };
    let Some(dst) = dst else { return fail("to", "not a network".into()) };
    let named = dev.as_ref().and_then(|name| layer.ports().iter().find(|p| p.config.name == *name)).map(|p| p.id);
    let kind = match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::Blackhole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    };
    let port: Option<PortId> = match (named, via, kind) {
        (Some(p), _, _) => Some(p),
        (None, Some(via), RouteType::Unicast) => match reachable_through(layer, *via) {
            Some(p) => Some(p),
            None => {
                return fail(
                    "via",
                    format!("{via} is on no device's network; want an address of it there, or dev = ..."),
                );
            }
        },
        (None, None, RouteType::Unicast) => {
            return fail("to", "neither a gateway nor a device; want via = \"...\" or dev = \"...\"".into());
        }
        _ => None,
    };
    let congctl = match congctl {
        None => None,
        Some(name) => match CcName::new(name).filter(|_| stackd_tcp::cc::AVAILABLE.contains(&name.as_str())) {
            Some(name) => Some(name),
            None => return fail("congctl", format!("{name:?} is not a congestion control; want reno, cubic or bbr")),
        },
    };
    let options = RouteOptions {
        congctl,
        rto_min: rto_min.map(|s| s.0),
        initcwnd: *initcwnd,
        initrwnd: *initrwnd,
        advmss: advmss.map(|n| n.min(65_535) as u16),
        mtu: *mtu,
        ..RouteOptions::default()
    };
    let metric = metric_or_default(dst, *metric);
    let route = Route { dst, kind, gateway: *via, port, src: *src, metric, origin: RouteOrigin::Boot, options };
    match layer.add_route(route, false) {
        Ok(()) => Ok(()),
        Err(e) => fail("to", e.to_string()),
    }
}

fn unspecified(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
