//! `netctl ip link add|del|set` on a live daemon, against the kernel at the other end and against what the kernel does with links of its own.

use crate::support::{has, json, netctl, run};
use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpStream, UdpSocket};
use stackd_integration::bed::Bed;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

/// One cell of `ip -j`'s answer, from our tool or from Linux's.
pub fn names(rows: &serde_json::Value, keys: &[&str]) -> Vec<String> {
    let cell = |row: &serde_json::Value, key: &str| match &row[key] {
        serde_json::Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<String> =
        rows.iter().map(|row| keys.iter().map(|k| cell(row, k)).collect::<Vec<_>>().join(" ")).collect();
    all.sort();
    all
}

pub fn kernel(line: &str) -> Result<String> {
    let out = Command::new("ip").args(line.split_whitespace()).output()?;
    let err = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "ip {line}: {err}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A TAP that was not in the configuration carries a connection to the kernel, on every worker; when it goes, so does all that hung on it, but for
/// the socket: that finds its way again when the interface is back.
pub fn a_tap_comes_carries_and_goes(v6: bool) -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let (theirs, ours) = if v6 { ("fd81:1::1", "fd81:1::2") } else { ("10.81.1.1", "10.81.1.2") };
    let add = "ip link add xtap type tap up host_addresses 10.81.1.1/24,fd81:1::1/64 addresses 10.81.1.2/24,fd81:1::2/64 qdisc fq mtu 1400";
    netctl(&bed, add)?;
    has(&netctl(&bed, "ip link show xtap")?, &["<BROADCAST,MULTICAST,UP,LOWER_UP>", "mtu 1400", "qdisc fq"])?;
    run(&bed, "netctl", add)?.refused(2, "a device of this name exists")?;

    let listener = TcpListener::bind((theirs, 0))?;
    let session = Session::connect(bed.daemon.attach())?;
    let mut client = TcpStream::connect_in(&session, listener.local_addr()?)?;
    let (mut peer, from) = listener.accept()?;
    ensure!(from.ip().to_string() == ours, "the connection came from {from}");
    client.write_all(b"before")?;
    peer.read_exact(&mut [0; 6])?;

    netctl(&bed, "ip link del xtap")?;
    ensure!(kernel("link show xtap").is_err(), "the kernel's side goes with the last queue");
    run(&bed, "netctl", "ip link show xtap")?.refused(2, "no such device")?;
    run(&bed, "netctl", "ip link del xtap")?.refused(2, "no such device")?;
    for what in ["ip addr", "ip route show table all", "ip neigh", "tc qdisc"] {
        let all = netctl(&bed, what)?;
        ensure!(!all.contains("xtap") && !all.contains("10.81.1."), "{what} still shows it:\n{all}");
    }
    // As Linux: a new connection has no route, the old one waits.
    let refused = TcpStream::connect_in(&session, listener.local_addr()?);
    ensure!(
        matches!(&refused, Err(e) if e.raw_os_error() == Some(101)),
        "a TCP connection: want ENETUNREACH, got {refused:?}"
    );
    let udp = UdpSocket::bind_in(&session, if v6 { "[::]:0" } else { "0.0.0.0:0" })?;
    let refused = udp.connect(listener.local_addr()?);
    ensure!(
        matches!(&refused, Err(e) if e.raw_os_error() == Some(101)),
        "a UDP socket: want ENETUNREACH, got {refused:?}"
    );
    client.write_all(b"during")?;
    let states = json(&bed, "ss-rs", &format!("-tj dst {theirs}"))?;
    ensure!(names(&states, &["state"]) == ["ESTAB"], "{states}");

    netctl(&bed, add)?;
    let mut rest = [0; 6];
    peer.read_exact(&mut rest)?;
    ensure!(&rest == b"during");
    let index = json(&bed, "netctl", "--json ip link show xtap")?[0]["ifindex"].as_u64();
    ensure!(index == Some(4), "a number is never used again: {index:?}");
    Ok(())
}

/// The same commands, once for our tool and a dummy, once for Linux's and one end of a veth pair: what is shown afterwards is the same.
pub fn up_and_down_as_linux() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    kernel("link add kdev type veth peer name kpeer")?;
    kernel("link set kpeer up")?;
    std::fs::write("/proc/sys/net/ipv6/conf/kdev/accept_dad", "0")?;
    netctl(&bed, "ip link add kdev type dummy")?;
    let both = |line: &str| -> Result<()> {
        let (ours, linux) = (run(&bed, "netctl", line)?, kernel(line.strip_prefix("ip ").unwrap_or(line)));
        ensure!((ours.code == 0) == linux.is_ok(), "{line}: ours {ours:?}, Linux {linux:?}");
        Ok(())
    };
    let same = |when: &str| -> Result<()> {
        for (line, keys) in [
            ("-4 route show dev kdev", &["dst", "gateway", "prefsrc", "metric", "protocol"][..]),
            ("-6 route show dev kdev", &["dst", "gateway", "metric", "protocol"]),
            ("-4 route show table 100", &["dst", "gateway", "dev"]),
            ("neigh show dev kdev", &["dst", "lladdr"]),
        ] {
            let ours = names(&json(&bed, "netctl", &format!("--json ip {line}"))?, keys);
            let linux = kernel(&format!("-j {line}")).unwrap_or_default();
            let linux = names(&serde_json::from_str(if linux.trim().is_empty() { "[]" } else { &linux })?, keys);
            // Multicast routes and link-local ones of the other MAC are not what is asked for.
            let plain = |all: Vec<String>| {
                all.into_iter()
                    .filter(|r| !r.starts_with("ff00::/8") && !r.starts_with("fe80::") || r.starts_with("fe80::/64"))
                    .collect::<Vec<_>>()
            };
            let (ours, linux) = (plain(ours), plain(linux));
            ensure!(ours == linux, "{when}: {line}:\nours  {ours:#?}\nlinux {linux:#?}");
        }
        let addrs = |rows: serde_json::Value| -> Vec<String> {
            let info =
                rows.as_array().and_then(|r| r.iter().find(|r| r["ifname"] == "kdev")).map(|r| r["addr_info"].clone());
            names(&info.unwrap_or_default(), &["local", "prefixlen", "scope"])
                .into_iter()
                .filter(|a| !a.starts_with("fe80"))
                .collect()
        };
        let ours = addrs(json(&bed, "netctl", "--json ip addr show dev kdev")?);
        let linux = addrs(serde_json::from_str(&kernel("-j addr show dev kdev")?)?);
        ensure!(ours == linux, "{when}: addresses:\nours  {ours:#?}\nlinux {linux:#?}");
        Ok(())
    };
    same("added, down")?;
    // Routes through a device that is down are refused by both; addresses wait.
    for line in [
        "ip addr add 10.82.1.2/24 dev kdev",
        "ip addr add fd82:1::2/64 dev kdev nodad",
        "ip route add 10.83.0.0/16 dev kdev",
        "ip -6 route add fd83::/32 dev kdev",
    ] {
        both(line)?;
    }
    same("with addresses, down")?;
    both("ip link set kdev up")?;
    same("up")?;
    for line in [
        "ip route add 10.83.0.0/16 via 10.82.1.1",
        "ip route add 10.84.0.0/16 via 10.82.1.1 table 100",
        "ip -6 route add fd83::/32 via fd82:1::1 dev kdev",
        "ip neigh add 10.82.1.9 lladdr 02:00:00:00:00:09 dev kdev nud permanent",
    ] {
        both(line)?;
    }
    same("with routes and a neighbour")?;
    both("ip link set kdev down")?;
    same("down")?;
    both("ip link set kdev up")?;
    same("up again")?;
    both("ip addr add fd82:1::2/64 dev kdev nodad")?;
    both("ip link set kdev mtu 1000")?;
    same("too small for IPv6")?;
    both("ip link set kdev mtu 1500")?;
    same("large enough again")?;
    both("ip link set nodev up")?;
    both("ip link del kdev")?;
    both("ip link del kdev")?;
    both("ip link del lo")?;
    Ok(())
}

/// Two daemons joined by a wire that neither had in its configuration.
pub fn a_wire_at_runtime() -> Result<()> {
    let (a, b) = (Bed::new("", "")?, Bed::new("", "")?);
    let path = a.dir().join("wire");
    let path = path.display();
    netctl(&a, &format!("ip link add w0 up type wire listen {path} addresses 10.85.0.1/24"))?;
    netctl(&b, &format!("ip link add w0 up type wire connect {path} addresses 10.85.0.2/24"))?;
    let (at_a, at_b) = (Session::connect(a.daemon.attach())?, Session::connect(b.daemon.attach())?);
    let listener = stackd_client::TcpListener::bind_in(&at_a, "10.85.0.1:0")?;
    let mut client = TcpStream::connect_in(&at_b, listener.local_addr()?)?;
    let (mut served, _) = listener.accept()?;
    client.write_all(b"over the wire")?;
    let mut got = [0; 13];
    served.read_exact(&mut got)?;
    ensure!(&got == b"over the wire");
    netctl(&a, "ip link del w0")?;
    ensure!(!a.dir().join("wire").exists(), "its socket goes with it");
    Ok(())
}

/// What cannot be is refused with what would be right, and leaves nothing behind.
pub fn nonsense_is_refused() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let before = netctl(&bed, "ip link")?;
    for (line, says) in [
        ("ip link add x0 type veth", "want"),
        ("ip link add x0 type wire listen /tmp/x", "workers = 1"),
        ("ip link add x0 type tap queues 3", "as many as workers"),
        ("ip link add x0 type tap colour red", "unknown field `colour`"),
        ("ip link add x0 type tap mtu 9", "68 to 65535"),
        ("ip link add x0 type dummy addresses 10.0.0.1/33", "10.0.0.1/33"),
        ("ip link add x0 type dummy addresses 127.0.0.1/8", "is given twice"),
        ("ip link add x0 type dummy qdisc fqq", "fqq"),
        ("ip link add lo type dummy", "another name"),
        ("ip link add this-name-is-too-long type dummy", "not a valid ifname"),
        ("ip link del lo", "the loopback interface stays"),
    ] {
        run(&bed, "netctl", line)?.refused(2, says).with_context(|| line.to_owned())?;
        ensure!(netctl(&bed, "ip link")? == before, "{line} left something behind");
    }
    run(&bed, "netctl", "ip link add x0")?.refused(1, "\"type\" argument is required")?;
    // The kernel's side of another device is not to be had twice.
    let taken = format!("ip link add x0 type tap host_name {}", bed.interface());
    run(&bed, "netctl", &taken)?.refused(2, "the kernel's side of")?;
    Ok(())
}
