//! The IP layer against Linux's, over a TAP: duplicate addresses, autoconfiguration, groups, fragments, segmented datagrams. What only a
//! raw socket can send or see, a line of Python does.

use anyhow::{Context, Result, ensure};
use stackd_client::{Session, UdpSocket};
use stackd_integration::bed::Bed;
use stackd_integration::trials::{self, case};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let python = |name: &str, work: fn() -> Result<()>| case(name, work).tap().program("python3");
    let mut cases = vec![
        python("an_address_that_linux_has_is_a_duplicate", duplicate),
        python("slaac_from_router_advertisements", slaac),
        python("igmp_and_mld_reports_reach_linux", reports),
        python("groups_deliver_what_linux_sends", groups),
        python("ping_of_fragmented_sizes", ping),
    ];
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        for offload in [true, false] {
            let with = if offload { "with" } else { "without" };
            let name = format!("{family}::segmented_datagrams_both_ways_{with}_offloads");
            cases.push(case(name, move || segments(v6, offload)).tap().program("python3"));
        }
    }
    trials::main(cases)
}

fn python(script: &str, args: &[&str]) -> Result<String> {
    let out = Command::new("python3").arg("-c").arg(script).args(args).output().context("python3")?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

fn device(bed: &Bed) -> Result<String> {
    let links = bed.daemon.netctl(&["ip", "link"])?;
    let line = links.lines().find(|l| l.starts_with("2: ")).context("no second link")?;
    Ok(line.split(": ").nth(1).context("no name")?.to_owned())
}

/// Waits until what netctl prints is as wanted.
fn until(bed: &Bed, words: &[&str], wanted: impl Fn(&str) -> bool) -> Result<String> {
    let began = Instant::now();
    loop {
        let text = bed.daemon.netctl(words)?;
        if wanted(&text) {
            return Ok(text);
        }
        ensure!(began.elapsed() < LIMIT, "netctl {} still says:\n{text}", words.join(" "));
        std::thread::yield_now();
    }
}

fn dad() -> Result<Bed> {
    Bed::new("[sysctl]\n\"net.ipv6.conf.default.accept_dad\" = 1\n", "")
}

/// RFC 4862, 5.4: Linux defends its address, and the daemon does not take it; one that nobody has it takes after a second or two.
fn duplicate() -> Result<()> {
    let bed = dad()?;
    let dev = device(&bed)?;
    let addr = |text: &str, a: &str| text.lines().find(|l| l.contains(a)).unwrap_or_default().to_owned();
    let IpAddr::V6(theirs) = bed.kernel(true) else { anyhow::bail!("v6") };
    let free = Ipv6Addr::from_bits(theirs.to_bits() + 0x77);
    // Linux is done with its own detection once its address answers.
    until(&bed, &["ip", "-6", "addr"], |t| !t.contains("tentative"))?;
    for a in [theirs, free] {
        bed.daemon.netctl(&["ip", "addr", "add", &format!("{a}/64"), "dev", &dev])?;
        ensure!(addr(&bed.daemon.netctl(&["ip", "-6", "addr"])?, &format!("{a}/64")).contains("tentative"));
    }
    let text = until(&bed, &["ip", "-6", "addr"], |t| !addr(t, &format!("{free}/64")).contains("tentative"))?;
    until(&bed, &["ip", "-6", "addr"], |t| addr(t, &format!("{theirs}/64")).contains("tentative dadfailed"))
        .context(text)?;
    let drops = bed.daemon.netctl(&["nstat", "--drops"])?;
    ensure!(drops.contains("DadFailed"), "{drops}");
    Ok(())
}

/// A router advertisement from Linux's side: prefix, MTU, preference, lifetimes.
const ADVERTISE: &str = r#"
import socket, struct, sys
dev = sys.argv[1]
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
index = socket.if_nametoindex(dev)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:77::")
ra = struct.pack("!BBHBBHII", 134, 0, 0, 61, 0x08, 1800, 0, 0)
ra += struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 86400, 14400, 0) + prefix
ra += struct.pack("!BBHI", 5, 1, 0, 1400)
s.sendto(ra, ("ff02::1", 0, 0, index))
"#;

/// RFC 4861, 6.3.4 and RFC 4862, 5.5: address, default route and MTU from an advertisement that Linux sent; then Linux reaches the address.
fn slaac() -> Result<()> {
    let bed = dad()?;
    let dev = device(&bed)?;
    until(&bed, &["ip", "-6", "addr"], |t| !t.contains("tentative"))?;
    let made = |t: &str| t.lines().find(|l| l.contains("2001:db8:77:")).map(str::to_owned);
    // Again until it is heard, as routers do: while Linux still looks for duplicates of its own link-local address, what it sends comes from
    // another one, and such advertisements are not believed.
    until(&bed, &["ip", "-6", "addr"], |t| made(t).is_some() || python(ADVERTISE, &[&dev]).is_err())?;
    let text = until(&bed, &["ip", "-6", "addr"], |t| made(t).is_some_and(|l| !l.contains("tentative")))?;
    let line = made(&text).context("no address")?;
    ensure!(line.contains("scope global dynamic mngtmpaddr"), "{line}");
    let address = line.split_whitespace().nth(1).and_then(|a| a.split('/').next()).context("no address")?.to_owned();
    let routes = bed.daemon.netctl(&["ip", "-6", "route"])?;
    let default = routes.lines().find(|l| l.starts_with("default via fe80:")).context(routes.clone())?;
    ensure!(default.contains("proto ra metric 1024 expires 17") && default.contains("pref high"), "{default}");
    ensure!(routes.contains("2001:db8:77::/64 dev"), "{routes}");
    let get = bed.daemon.netctl(&["ip", "route", "get", "2001:db8:ffff::1"])?;
    ensure!(get.contains(&format!("src {address}")), "{get}");
    let added = Command::new("ip").args(["-6", "addr", "add", "2001:db8:77::1/64", "dev", &dev, "nodad"]).status()?;
    ensure!(added.success());
    pinged(&address, 100)
}

/// Echo requests by a raw socket, each with so many bytes; the answers are compared.
const PING: &str = r#"
import socket, struct, sys
to, size = sys.argv[1], int(sys.argv[2])
v6 = ":" in to
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
s.settimeout(10)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
data = bytes((i * 7) & 255 for i in range(size))
head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 77, 1)
def checksum(b):
    b += b"\0" * (len(b) & 1)
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
if not v6:
    head = struct.pack("!BBHHH", 8, 0, checksum(head + data), 77, 1)
s.sendto(head + data, (to, 0))
while True:
    got = s.recv(70000)
    body = got if v6 else got[20:]
    if body[0] == (129 if v6 else 0) and body[4:6] == struct.pack("!H", 77):
        assert body[8:] == data, "the answer differs"
        break
"#;

fn pinged(to: &str, size: usize) -> Result<()> {
    python(PING, &[to, &size.to_string()]).map(drop).with_context(|| format!("ping of {to} with {size} bytes"))
}

/// RFC 791, RFC 8200: what Linux cuts is put together here, and the answer, cut here, there.
fn ping() -> Result<()> {
    let bed = Bed::new("", "")?;
    for v6 in [false, true] {
        for size in [0, 56, 1452, 1453, 1472, 1473, 4000, 9000, 65_000] {
            pinged(&bed.ours(v6).to_string(), size)?;
        }
    }
    let counters = bed.daemon.netctl(&["nstat", "-az"])?;
    for name in ["IpReasmOKs", "Ip6ReasmOKs", "IpFragOKs", "Ip6FragOKs"] {
        let value = counters.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_whitespace().nth(1));
        ensure!(value.is_some_and(|v| v.parse::<f64>().unwrap_or(0.0) > 0.0), "{name} is {value:?}");
    }
    Ok(())
}

/// Waits for a report about a group, as a frame on Linux's side of the TAP, and checks option, hop limit and checksum.
const LISTEN: &str = r#"
import socket, struct, sys
dev, group = sys.argv[1], sys.argv[2]
v6 = ":" in group
want = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, group)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((dev, 0))
s.settimeout(10)
print("ready", flush=True)
def checksum(b):
    b += b"\0" * (len(b) & 1)
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return n
while True:
    f = s.recv(2000)
    if v6 and f[12:14] == b"\x86\xdd" and f[20] == 0 and f[62] == 143 and want in f[62:]:
        assert f[54:62] == bytes([58, 0, 5, 2, 0, 0, 1, 0]), "Router Alert"
        assert f[21] == 1, "hop limit"
        m = f[62:14 + 40 + struct.unpack("!H", f[18:20])[0]]
        pseudo = f[22:54] + struct.pack("!II", len(m), 58)
        assert checksum(pseudo + m) == 0xffff, "checksum"
        break
    if not v6 and f[12:14] == b"\x08\x00" and f[23] == 2 and f[38] == 0x22 and want in f[38:]:
        assert f[34:38] == b"\x94\x04\0\0" and f[22] == 1, "Router Alert, TTL"
        assert checksum(f[14:38]) == 0xffff and checksum(f[38:14 + struct.unpack("!H", f[16:18])[0]]) == 0xffff, "checksum"
        break
print("seen")
"#;

const G4: Ipv4Addr = Ipv4Addr::new(239, 77, 1, 2);
const G6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x77, 1);

fn joined(bed: &Bed, session: &Session, v6: bool) -> Result<UdpSocket> {
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let sock = UdpSocket::bind_in(session, (any, 0))?;
    sock.set_read_timeout(Some(LIMIT))?;
    match bed.ours(false) {
        _ if v6 => sock.join_multicast_v6(&G6, 2)?,
        IpAddr::V4(ours) => sock.join_multicast_v4(&G4, &ours)?,
        IpAddr::V6(_) => anyhow::bail!("v4"),
    }
    Ok(sock)
}

/// RFC 3376 and RFC 3810: joining is reported, in a form that Linux's own rules call right.
fn reports() -> Result<()> {
    use std::io::{BufRead, BufReader, Read};
    let bed = Bed::new("", "")?;
    let dev = device(&bed)?;
    let session = Session::connect(bed.daemon.attach())?;
    for (v6, group) in [(false, G4.to_string()), (true, G6.to_string())] {
        let mut listener =
            Command::new("python3").args(["-c", LISTEN, &dev, &group]).stdout(std::process::Stdio::piped()).spawn()?;
        let mut said = BufReader::new(listener.stdout.take().context("no output")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "{line}");
        let _member = joined(&bed, &session, v6)?;
        line.clear();
        said.read_to_string(&mut line)?;
        ensure!(listener.wait()?.success() && line.trim() == "seen", "{group}: {line}");
    }
    Ok(())
}

const TO_GROUP: &str = r#"
import socket, sys
dev, group, port, addr = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
v6 = ":" in group
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
if v6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(dev))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(addr))
s.sendto(b"to the group", (group, port))
"#;

fn groups() -> Result<()> {
    let bed = Bed::new("", "")?;
    let dev = device(&bed)?;
    let session = Session::connect(bed.daemon.attach())?;
    for v6 in [false, true] {
        let sock = joined(&bed, &session, v6)?;
        let port = sock.local_addr()?.port().to_string();
        let group = if v6 { G6.to_string() } else { G4.to_string() };
        python(TO_GROUP, &[&dev, &group, &port, &bed.kernel(false).to_string()])?;
        let mut buf = [0; 100];
        let (n, _) = sock.recv_from(&mut buf).with_context(|| format!("from {group}"))?;
        ensure!(&buf[..n] == b"to the group");
    }
    Ok(())
}

const SEGMENTED: &str = r#"
import socket, sys
to, port, size, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, size)
s.sendto(bytes((i * 31) & 255 for i in range(total)), (to, port))
"#;

/// udp(7), `UDP_SEGMENT`: what Linux sends in one call arrives here as datagrams of that size, and the other way round.
fn segments(v6: bool, offload: bool) -> Result<()> {
    let bed = Bed::new("", if offload { "" } else { "offload = false" })?;
    let session = Session::connect(bed.daemon.attach())?;
    let ours = UdpSocket::bind_in(&session, (bed.ours(v6), 0))?;
    ours.set_read_timeout(Some(LIMIT))?;
    let data: Vec<u8> = (0..10_500).map(|i: u32| (i * 31) as u8).collect();
    let port = ours.local_addr()?.port().to_string();
    python(SEGMENTED, &[&bed.ours(v6).to_string(), &port, "1000", "10500"])?;
    let mut buf = vec![0; 1 << 16];
    for (i, want) in data.chunks(1000).enumerate() {
        let (n, _) = ours.recv_from(&mut buf).with_context(|| format!("segment {i} from Linux"))?;
        ensure!(buf[..n] == *want, "segment {i} has {n} bytes");
    }
    let theirs = std::net::UdpSocket::bind((bed.kernel(v6), 0))?;
    theirs.set_read_timeout(Some(LIMIT))?;
    ours.set_segment_size(1000)?;
    ours.send_to(&data, theirs.local_addr()?)?;
    for (i, want) in data.chunks(1000).enumerate() {
        let (n, _) = theirs.recv_from(&mut buf).with_context(|| format!("segment {i} to Linux"))?;
        ensure!(buf[..n] == *want, "segment {i} has {n} bytes");
    }
    Ok(())
}
