//! Rules that span more than one key.

use super::error::{ConfigError, Source, Step};
use super::file::{DeviceConfig, DeviceKind, File};
use rustix::thread::CpuSet;
use stackd_base::Duration;

/// IFNAMSIZ without the terminating zero: the kernel refuses longer names for its side.
const MAX_NAME: usize = 15;
/// RFC 791, 3.2: "Every internet module must be able to forward a datagram of 68 octets"; and the IPv4 length field ends at 65535.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
const MAX_WORKERS: u8 = 64;

pub(super) fn check(file: &File, source: &Source<'_>) -> Result<(), ConfigError> {
    if let Some(n) = file.workers
        && !(1..=MAX_WORKERS).contains(&n)
    {
        return Err(source.error(&[Step::Key("workers")], format!("{n} workers; want 1 to {MAX_WORKERS}")));
    }
    if let Some(cpus) = &file.worker_cpus {
        check_worker_cpus(cpus, file, source)?;
    }
    if let Some(spin) = file.spin_us
        && spin > 1_000_000
    {
        return Err(
            source.error(&[Step::Key("spin_us")], format!("{spin} us is more than a second; want 0 to 1000000"))
        );
    }
    if let Some(t) = file.stop_timeout
        && t.0 > Duration::from_secs(3600)
    {
        return Err(source.error(&[Step::Key("stop_timeout")], "more than an hour; want at most \"3600s\""));
    }
    if file.quota.sockets == 0 {
        return Err(source.error(&[Step::Key("quota"), Step::Key("sockets")], "0 sockets; want at least 1"));
    }
    for (index, device) in file.device.iter().enumerate() {
        check_device(index, device, file, source)?;
    }
    for (index, route) in file.route.iter().enumerate() {
        let at = |key| [Step::Key("route"), Step::Index(index), Step::Key(key)];
        if let Some(dev) = &route.dev
            && !knows(file, dev)
        {
            return Err(source.error(&at("dev"), unknown_device(file, dev)));
        }
        if let (super::Destination::Network(to), Some(via)) = (&route.to, route.via)
            && to.addr.is_ipv4() != via.is_ipv4()
        {
            return Err(
                source.error(&at("via"), format!("{via} is of another family than {to}; want a gateway of the same"))
            );
        }
    }
    for (index, neighbour) in file.neighbour.iter().enumerate() {
        if !knows(file, &neighbour.dev) {
            let at = [Step::Key("neighbour"), Step::Index(index), Step::Key("dev")];
            return Err(source.error(&at, unknown_device(file, &neighbour.dev)));
        }
    }
    Ok(())
}

fn check_worker_cpus(cpus: &[u16], file: &File, source: &Source<'_>) -> Result<(), ConfigError> {
    let fail = |message: String| Err(source.error(&[Step::Key("worker_cpus")], message));
    let workers = usize::from(file.workers.unwrap_or(1));
    if cpus.len() != workers {
        return fail(format!("{} CPUs for {workers} workers; want one for each, or leave it out", cpus.len()));
    }
    if let Some(cpu) = cpus.iter().find(|cpu| usize::from(**cpu) >= CpuSet::MAX_CPU) {
        return fail(format!("no system has a CPU {cpu}; want numbers below {}", CpuSet::MAX_CPU));
    }
    Ok(())
}

fn knows(file: &File, name: &str) -> bool {
    name == "lo" || file.device.iter().any(|d| d.name == name)
}

fn unknown_device(file: &File, name: &str) -> String {
    let names: Vec<&str> = file.device.iter().map(|d| d.name.as_str()).chain(["lo"]).collect();
    format!("no device {name:?} in this file; want one of {}", names.join(", "))
}

fn check_device(index: usize, device: &DeviceConfig, file: &File, source: &Source<'_>) -> Result<(), ConfigError> {
    let fail = |key: &str, message: String| {
        Err(source.error(&[Step::Key("device"), Step::Index(index), Step::Key(key)], message))
    };
    let DeviceConfig { name, kind, queues, mtu, listen, connect, host_name, host_addresses, netns, .. } = device;
    let legal = |n: &str| {
        !n.is_empty()
            && n.len() <= MAX_NAME
            && !n.contains(|c: char| c == '/' || c.is_whitespace())
            && n != "."
            && n != ".."
    };
    if !legal(name) {
        return fail(
            "name",
            format!("{name:?} cannot name an interface; want 1 to {MAX_NAME} bytes without '/' and spaces"),
        );
    }
    if name == "lo" {
        return fail("name", "\"lo\" is always there; want another name".into());
    }
    if file.device[..index].iter().any(|d| d.name == *name) {
        return fail("name", format!("a second device named {name:?}; want each name once"));
    }
    if !MTU_RANGE.contains(mtu) {
        return fail("mtu", format!("{mtu}; want {} to {}", MTU_RANGE.start(), MTU_RANGE.end()));
    }
    if device.addresses.iter().any(|a| a.addr.is_ipv6()) && *mtu < 1280 {
        // RFC 8200, 5: "IPv6 requires that every link in the Internet have an MTU of 1280 octets or greater."
        return fail("mtu", format!("{mtu} with an IPv6 address; want at least 1280"));
    }
    let workers = u16::from(file.workers.unwrap_or(1));
    if let Some(n) = queues
        && *n != workers
    {
        return fail("queues", format!("{n} queues for {workers} workers; want as many as workers, or leave it out"));
    }
    if let Some(text) = &device.qdisc
        && let Err(why) = text.parse::<stackd_qdisc::QdiscConfig>()
    {
        return fail("qdisc", why.to_string());
    }
    match kind {
        DeviceKind::Tap => {
            if listen.is_some() || connect.is_some() {
                let key = if listen.is_some() { "listen" } else { "connect" };
                return fail(key, "a TAP has no other end to find; want kind = \"wire\", or leave this out".into());
            }
            if let Some(host) = host_name
                && !legal(host)
            {
                return fail("host_name", format!("{host:?} cannot name an interface; want 1 to {MAX_NAME} bytes"));
            }
        }
        DeviceKind::Dummy => {
            if listen.is_some() || connect.is_some() {
                let key = if listen.is_some() { "listen" } else { "connect" };
                return fail(key, "a dummy has no other end; want kind = \"wire\", or leave this out".into());
            }
            if host_name.is_some() || !host_addresses.is_empty() || netns.is_some() {
                return fail(
                    "kind",
                    "a dummy has no side in the kernel: leave host_name, host_addresses and netns out".into(),
                );
            }
        }
        DeviceKind::Wire => {
            if listen.is_some() == connect.is_some() {
                return fail("kind", "a wire needs one of: listen = \"/path\", connect = \"/path\"".into());
            }
            if host_name.is_some() || !host_addresses.is_empty() || netns.is_some() {
                return fail(
                    "kind",
                    "a wire has no side in the kernel: leave host_name, host_addresses and netns out".into(),
                );
            }
            if !device.offload {
                return fail("offload", "a wire carries every frame whole; want a TAP, or leave this out".into());
            }
            if workers > 1 {
                return fail(
                    "kind",
                    format!("a wire has one queue, and there are {workers} workers; want workers = 1, or a TAP"),
                );
            }
        }
    }
    Ok(())
}
