//! `netctl ip`: what is added is shown, used and can be taken away again.

use crate::support::{device, flow, has, json, netctl, run};
use anyhow::{Context, Result, ensure};
use stackd_integration::bed::Bed;
use std::io::{Read, Write};

pub fn addresses() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let dev = device(&bed)?;
    for (prefix, line) in [
        ("10.80.200.9/24", "inet 10.80.200.9/24 brd 10.80.200.255 scope global"),
        ("fd80:200::9/64", "inet6 fd80:200::9/64 scope global"),
    ] {
        let before = netctl(&bed, "ip addr")?;
        netctl(&bed, &format!("ip addr add {prefix} brd + dev {dev}"))?;
        has(&netctl(&bed, &format!("ip addr show dev {dev}"))?, &[line])?;
        run(&bed, "netctl", &format!("ip addr add {prefix} dev {dev}"))?.refused(2, "the address is there already")?;
        // Its network is reachable now, by a route that the address brought.
        let network = prefix.replace("9/", "/");
        let route = if prefix.contains(':') { "ip -6 route" } else { "ip route" };
        has(&netctl(&bed, route)?, &[&network.replace("200./", "200.0/")])?;
        netctl(&bed, &format!("ip addr del {prefix} dev {dev}"))?;
        ensure!(netctl(&bed, "ip addr")? == before);
        run(&bed, "netctl", &format!("ip addr del {prefix} dev {dev}"))?.refused(2, "no such address")?;
    }
    run(&bed, "netctl", "ip addr add 10.1.2.3/24 dev nope")?.refused(2, "no such device; want one of lo, ")?;
    run(&bed, "netctl", "ip addr add 10.1.2.3/33 dev lo")?.refused(1, "any valid prefix is expected")?;
    Ok(())
}

pub fn routes() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let dev = device(&bed)?;
    for (family, v6, prefix, host) in [("", false, "10.99.0.0/16", "10.99.1.1"), ("-6 ", true, "fd99::/32", "fd99::1")]
    {
        let via = bed.kernel(v6);
        let before = netctl(&bed, &format!("ip {family}route"))?;
        run(&bed, "netctl", &format!("ip route get {host}"))?.refused(2, "no route")?;
        netctl(&bed, &format!("ip {family}route add {prefix} via {via} metric 50"))?;
        has(&netctl(&bed, &format!("ip {family}route"))?, &[&format!("{prefix} via {via} dev {dev} metric 50")])?;
        has(
            &netctl(&bed, &format!("ip route get {host}"))?,
            &[&format!("{host} via {via} dev {dev} src {}", bed.ours(v6))],
        )?;
        run(&bed, "netctl", &format!("ip {family}route add {prefix} via {via} metric 50"))?.refused(2, "exists")?;
        netctl(&bed, &format!("ip {family}route replace {prefix} via {via} metric 50 congctl reno"))?;
        has(&netctl(&bed, &format!("ip {family}route"))?, &["congctl reno"])?;
        netctl(&bed, &format!("ip {family}route del {prefix} metric 50"))?;
        ensure!(netctl(&bed, &format!("ip {family}route"))? == before);
        run(&bed, "netctl", &format!("ip {family}route del {prefix}"))?.refused(2, "no such route")?;
    }
    run(&bed, "netctl", "ip route add default via 192.0.2.1")?.refused(2, "the gateway is on no connected network")?;
    Ok(())
}

pub fn links_and_neighbours() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let dev = device(&bed)?;
    has(&netctl(&bed, "ip link")?, &["1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536", &format!("2: {dev}: <BROADCAST,")])?;
    netctl(&bed, &format!("ip link set {dev} mtu 1400"))?;
    has(&netctl(&bed, &format!("ip link show {dev}"))?, &["mtu 1400"])?;
    // The MTU holds for new connections: 1400 less 20 of IP, 20 of TCP, 12 of timestamps.
    let mut f = flow(&bed, false, None)?;
    f.ours.write_all(b"hello")?;
    f.kernel.read_exact(&mut [0; 5])?;
    let mss = crate::support::socket(&bed, f.ours.local_addr()?)?["mss"].as_u64();
    ensure!(mss == Some(1348), "mss {mss:?}");
    run(&bed, "netctl", &format!("ip link set {dev} mtu 7"))?.refused(2, "want 68 to 65535")?;
    run(&bed, "netctl", "ip link show nope")?.refused(2, "no such device")?;

    // The flow made the stack learn the kernel's address.
    let known = json(&bed, "netctl", "--json ip neigh")?;
    let peer = bed.kernel(false).to_string();
    let entry =
        known.as_array().context("array")?.iter().find(|n| n["dst"] == peer.as_str()).context("no neighbour")?;
    ensure!(entry["lladdr"].as_str().is_some_and(|mac| mac.len() == 17), "{entry}");
    for addr in ["10.80.77.50", "fd80:77::50"] {
        netctl(&bed, &format!("ip neigh add {addr} lladdr 02:00:00:00:00:50 dev {dev} nud permanent"))?;
        let line = format!("{addr} dev {dev} lladdr 02:00:00:00:00:50 PERMANENT");
        has(&netctl(&bed, &format!("ip neigh show dev {dev}"))?, &[&line])?;
        run(&bed, "netctl", &format!("ip neigh add {addr} lladdr 02:00:00:00:00:51 dev {dev}"))?.refused(2, "known")?;
        netctl(&bed, &format!("ip neigh replace {addr} lladdr 02:00:00:00:00:51 dev {dev} nud permanent"))?;
        has(&netctl(&bed, "ip neigh")?, &["02:00:00:00:00:51 PERMANENT"])?;
        netctl(&bed, &format!("ip neigh del {addr} dev {dev}"))?;
        ensure!(!netctl(&bed, "ip neigh")?.contains(addr));
        run(&bed, "netctl", &format!("ip neigh del {addr} dev {dev}"))?.refused(2, "no such neighbour")?;
    }
    Ok(())
}
