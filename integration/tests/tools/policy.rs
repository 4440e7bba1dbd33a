//! `netctl ip route get`, `ip rule`, `ip maddr` and the flags of routes: the same lines for our tool and a dummy, and for Linux's and a veth end.

use crate::links::{kernel, names};
use crate::support::{has, json, netctl, run};
use anyhow::{Context, Result, ensure};
use stackd_client::{Session, UdpSocket};
use stackd_integration::bed::Bed;

/// What the kernel was given goes when the test is over: the namespace is shared.
struct Sides(Bed);

impl Drop for Sides {
    fn drop(&mut self) {
        for line in [
            "link del pdev",
            "rule del priority 1000",
            "rule del priority 1001",
            "rule del priority 1002",
            "-6 rule del priority 1000",
            "route flush type unreachable",
            "route flush type prohibit",
            "route flush type blackhole",
        ] {
            // What a test did not add is not there.
            let _ = kernel(line);
        }
    }
}

impl std::ops::Deref for Sides {
    type Target = Bed;
    fn deref(&self) -> &Bed {
        &self.0
    }
}

/// A device of the same name and addresses on both sides.
fn sides() -> Result<Sides> {
    let bed = Bed::new("workers = 2", "")?;
    kernel("link add pdev type veth peer name ppeer")?;
    std::fs::write("/proc/sys/net/ipv6/conf/pdev/accept_dad", "0")?;
    netctl(&bed, "ip link add pdev type dummy")?;
    for dev in ["pdev", "ppeer"] {
        kernel(&format!("link set {dev} up"))?;
    }
    netctl(&bed, "ip link set pdev up")?;
    for line in ["ip addr add 10.86.0.2/24 dev pdev", "ip addr add fd86::2/64 dev pdev nodad"] {
        both(&bed, line)?;
    }
    Ok(Sides(bed))
}

fn both(bed: &Bed, line: &str) -> Result<()> {
    let (ours, linux) = (run(bed, "netctl", line)?, kernel(line.trim_start_matches("ip ")));
    ensure!((ours.code == 0) == linux.is_ok(), "{line}: ours {ours:?}, Linux {linux:?}");
    Ok(())
}

/// It looked into the main table alone, whatever rules, marks and sources said.
pub fn route_get_obeys_rules_as_linux() -> Result<()> {
    let bed = sides()?;
    for line in [
        "ip route add default via 10.86.0.1",
        "ip route add 10.90.0.0/16 via 10.86.0.3 table 100",
        "ip route add 10.91.0.0/16 via 10.86.0.4 table 101",
        "ip route add unreachable 10.92.0.0/16",
        "ip route add prohibit 10.93.0.0/16",
        "ip route add blackhole 10.94.0.0/16",
        "ip -6 route add fd90::/32 via fd86::3 dev pdev table 100",
        "ip rule add fwmark 0x64 table 100 priority 1000",
        "ip rule add to 10.91.0.0/24 table 101 priority 1001",
        "ip rule add from 10.86.0.2 to 10.91.7.0/24 table 101 priority 1002",
        "ip -6 rule add fwmark 0x64 table 100 priority 1000",
    ] {
        both(&bed, line)?;
    }
    let keys = ["type", "dst", "from", "gateway", "dev", "prefsrc", "table", "mark"];
    for asked in [
        "10.90.1.1",
        "10.90.1.1 mark 100",
        "10.90.1.1 mark 0x64",
        "10.90.1.1 mark 101",
        "10.91.0.9",
        "10.91.7.9",
        "10.91.7.9 from 10.86.0.2",
        "10.86.0.77",
        "10.86.0.77 oif pdev",
        "10.86.0.2",
        "10.92.0.1",
        "10.93.0.1",
        "10.94.0.1",
        "10.90.1.1 from 10.86.0.99",
        "10.90.1.1 oif nodev",
        "fd90::1 mark 100",
        "fd86::77 oif pdev",
        "fd90::1 oif lo",
        "10.86.0.2 from 10.86.0.77 iif pdev",
        "10.90.1.1 from 10.86.0.77 iif pdev",
    ] {
        let line = format!("ip route get {asked}");
        let (ours, linux) = (run(&bed, "netctl", &format!("--json {line}"))?, kernel(&format!("-j route get {asked}")));
        ensure!((ours.code == 0) == linux.is_ok(), "{line}: ours {ours:?}, Linux {linux:?}");
        let Ok(linux) = linux else { continue };
        // For IPv6 iproute2 shows the source that was not given as `::`, and never the mark.
        let keys: Vec<&str> =
            keys.iter().filter(|k| !asked.starts_with("fd") || !["from", "mark"].contains(k)).copied().collect();
        let cells = |text: &str| -> Result<Vec<String>> { Ok(names(&serde_json::from_str(text)?, &keys)) };
        let (mine, theirs) = (cells(&ours.out)?, cells(&linux)?);
        ensure!(mine == theirs, "{line}:\nours  {mine:#?}\nlinux {theirs:#?}");
    }
    has(
        &netctl(&bed, "ip route get 10.90.1.1 mark 100")?,
        &["10.90.1.1 via 10.86.0.3 dev pdev table 100 src 10.86.0.2 mark 0x64"],
    )?;
    run(&bed, "netctl", "ip route get 10.93.0.1")?.refused(2, "a prohibit route covers it")?;
    run(&bed, "netctl", "ip route get 10.90.1.1 from fd86::2")?.refused(2, "of another family")?;
    run(&bed, "netctl", "ip route get 10.90.1.1 mark many")?.refused(1, "as 7 or 0x7")?;
    Ok(())
}

/// Every flag that a route may have, in iproute2's words and order.
pub fn route_flags_as_linux() -> Result<()> {
    let bed = sides()?;
    for (family, prefix, via) in [("", "10.95", "10.86.0.1"), ("-6 ", "fd95", "fd86::1")] {
        let nets =
            (1..).map(|n| if family.is_empty() { format!("{prefix}.{n}.0/24") } else { format!("{prefix}:{n}::/32") });
        let flags = [
            "quickack 1",
            "quickack 0",
            "mtu 1400",
            "mtu lock 1300",
            "advmss 1000",
            "initcwnd 20",
            "initrwnd 30",
            "hoplimit 9",
            "rto_min 5ms",
            "congctl reno",
            "mtu lock 1300 advmss 1000 hoplimit 9 initcwnd 20 rto_min 5ms initrwnd 30 quickack 1 congctl reno",
        ];
        for (net, flags) in nets.zip(flags) {
            both(&bed, &format!("ip {family}route add {net} via {via} dev pdev {flags}"))?;
            let shown = |all: String| -> Result<String> {
                let line = all
                    .lines()
                    .find(|l| l.starts_with(&net))
                    .map(str::to_owned)
                    .with_context(|| format!("{net} is not in:\n{all}"))?;
                Ok(line
                    .split_whitespace()
                    .filter(|w| !["pref", "medium", "linkdown"].contains(w))
                    .collect::<Vec<_>>()
                    .join(" "))
            };
            let ours = shown(netctl(&bed, &format!("ip {family}route show dev pdev"))?)?;
            let linux = shown(kernel(&format!("{family}route show dev pdev"))?)?;
            // We were not asked for what is shown without its device when a device is asked for.
            let ours = ours.replace(" dev pdev", "");
            ensure!(ours == linux.replace(" dev pdev", ""), "{flags}:\nours  {ours}\nlinux {linux}");
            both(&bed, &format!("ip {family}route del {net}"))?;
        }
        for bad in ["quickack 2", "initcwnd many", "rto_min soon", "congctl vegas2", "mtu", "advmss -1"] {
            both(
                &bed,
                &format!(
                    "ip {family}route add {prefix}{}/32 via {via} dev pdev {bad}",
                    if family.is_empty() { ".99.0" } else { "::" }
                ),
            )?;
        }
    }
    Ok(())
}

/// The groups of a device: those that every host is in, those of its addresses, those that sockets joined.
pub fn groups_as_linux() -> Result<()> {
    let bed = sides()?;
    let rows = |all: serde_json::Value| -> Vec<String> {
        let of = |name: &str| all.as_array()?.iter().find(|r| r["ifname"] == name).map(|r| r["maddr"].clone());
        let rows = names(&of("pdev").unwrap_or_default(), &["family", "address", "users"]);
        // The link's own addresses differ, and so do link-local ones made from them.
        rows.into_iter()
            .filter(|r| !r.starts_with("null") && !r.contains("ff02::1:ff") || r.contains("ff02::1:ff00:2"))
            .collect()
    };
    let session = Session::connect(bed.daemon.attach())?;
    let ours = UdpSocket::bind_in(&session, "0.0.0.0:0")?;
    let theirs = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let (group, here) = ([239, 1, 2, 3].into(), [10, 86, 0, 2].into());
    theirs.join_multicast_v4(&group, &here)?;
    ours.join_multicast_v4(&group, &here)?;
    let linux = rows(serde_json::from_str(&kernel("-j maddr show dev pdev")?)?);
    let mine = rows(json(&bed, "netctl", "--json ip maddr show dev pdev")?);
    ensure!(mine == linux && mine.iter().any(|r| r.contains("239.1.2.3")), "ours  {mine:#?}\nlinux {linux:#?}");
    has(
        &netctl(&bed, "ip maddr show dev pdev")?,
        &["\tlink  01:00:5e:01:02:03\n", "\tinet  239.1.2.3\n", "\tinet6 ff02::1\n"],
    )?;
    has(&netctl(&bed, "ip maddr")?, &["1:\tlo\n\tinet  224.0.0.1\n"])?;
    ours.leave_multicast_v4(&group, &here)?;
    ensure!(!netctl(&bed, "ip maddr")?.contains("239.1.2.3"));
    run(&bed, "netctl", "ip maddr add 33:33:00:00:00:09 dev pdev")?.refused(1, "joined by sockets")?;
    run(&bed, "netctl", "ip maddr show dev nope")?.refused(2, "no such device")?;
    Ok(())
}
