//! Two workers and a TAP with two queues, against Linux: whichever queue the kernel chooses, and whichever shard a session lives on,
//! every flow works.

use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpConnect, TcpListener, UdpSocket};
use stackd_integration::bed::Bed;
use stackd_integration::scenario;
use stackd_integration::trials::{self, Case, case};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = |what: &str| format!("{family}::{what}");
        cases.push(case(name("sessions_of_every_shard_serve_and_connect"), move || both_ways(v6)).tap());
        cases.push(
            case(name("filecopy_both_ways"), move || scenario::filecopy_both_ways(&bed()?, v6, 64 * MIB, "cubic"))
                .tap(),
        );
        cases.push(case(name("a_crowd_at_once"), move || scenario::hold_many(&bed()?, v6, 500)).tap());
        cases.push(case(name("short_connections_both_ways"), move || short(v6)).tap());
        cases.push(case(name("udp_of_every_size_from_every_shard"), move || udp(v6)).tap());
        cases.push(case(name("reuseport_over_two_shards_shares_connections"), move || reuseport(v6)).tap());
        cases.push(case(name("shards_talk_to_each_other_over_loopback"), move || loopback(v6)).tap());
    }
    cases.push(case("a_port_is_taken_whichever_shard_has_it", taken).tap());
    trials::main(cases)
}

fn bed() -> Result<Bed> {
    Bed::new("workers = 2\n", "queues = 2\n")
}

/// One session on each shard: they are given out in turn.
fn sessions(bed: &Bed) -> Result<[Session; 2]> {
    Ok([Session::connect(bed.daemon.attach())?, Session::connect(bed.daemon.attach())?])
}

fn exchange(mut a: impl Read + Write, mut b: impl Read + Write, len: usize) -> Result<()> {
    let data: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
    let mut got = vec![0; len];
    a.write_all(&data)?;
    b.read_exact(&mut got).context("there")?;
    ensure!(got == data, "other bytes arrived");
    got.fill(0);
    b.write_all(&data)?;
    a.read_exact(&mut got).context("back")?;
    ensure!(got == data, "other bytes came back");
    Ok(())
}

fn native_connect(addr: SocketAddr) -> Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&addr, LIMIT).with_context(|| format!("to {addr}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn both_ways(v6: bool) -> Result<()> {
    let bed = bed()?;
    let kernel = std::net::TcpListener::bind((bed.kernel(v6), 0))?;
    for session in sessions(&bed)? {
        let listener = TcpListener::bind_in(&session, (bed.ours(v6), 0))?;
        for _ in 0..16 {
            let theirs = native_connect(listener.local_addr()?)?;
            let (ours, _) = listener.accept()?;
            ours.set_read_timeout(Some(LIMIT))?;
            exchange(theirs, ours, 20_000)?;
            let ours = TcpConnect::new(&session).timeout(LIMIT).connect(kernel.local_addr()?)?;
            ours.set_read_timeout(Some(LIMIT))?;
            let (theirs, _) = kernel.accept()?;
            exchange(ours, theirs, 20_000)?;
        }
    }
    Ok(())
}

fn short(v6: bool) -> Result<()> {
    let bed = bed()?;
    let (before, after) = scenario::short_connections(&bed, v6, 2000)?;
    ensure!(after.descriptors <= before.descriptors, "{before:?} became {after:?}");
    ensure!(after.sockets == before.sockets, "{before:?} became {after:?}");
    for session in sessions(&bed)? {
        let listener = TcpListener::bind_in(&session, (bed.ours(v6), 0))?;
        let addr = listener.local_addr()?;
        let server = std::thread::spawn(move || -> Result<()> {
            for _ in 0..300 {
                let (mut stream, _) = listener.accept()?;
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
            Ok(())
        });
        for i in 0..300u32 {
            let mut stream = native_connect(addr)?;
            stream.write_all(&[i as u8])?;
            let mut back = [0];
            stream.read_exact(&mut back).with_context(|| format!("connection {i}"))?;
            ensure!(back == [i as u8], "{back:?}");
        }
        server.join().map_err(|_| anyhow::anyhow!("the server crashed"))??;
    }
    Ok(())
}

fn udp(v6: bool) -> Result<()> {
    let bed = bed()?;
    let unspecified: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    for session in sessions(&bed)? {
        for bound in [bed.ours(v6), unspecified] {
            let ours = UdpSocket::bind_in(&session, (bound, 0))?;
            ours.set_read_timeout(Some(LIMIT))?;
            // Another socket each time: another flow, perhaps another queue.
            for len in [0usize, 1, 1472, 1473, 9000, 60_000] {
                let theirs = std::net::UdpSocket::bind((bed.kernel(v6), 0))?;
                theirs.set_read_timeout(Some(LIMIT))?;
                let data: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
                let mut buf = vec![0; 1 << 16];
                theirs.send_to(&data, (bed.ours(v6), ours.local_addr()?.port()))?;
                let (n, from) = ours.recv_from(&mut buf).with_context(|| format!("{len} bytes from Linux"))?;
                ensure!(buf[..n] == data && from == theirs.local_addr()?, "{len} bytes arrived as {n} from {from}");
                ours.send_to(&data, from)?;
                let (n, _) = theirs.recv_from(&mut buf).with_context(|| format!("{len} bytes to Linux"))?;
                ensure!(buf[..n] == data, "{len} bytes arrived as {n}");
            }
        }
    }
    Ok(())
}

/// Listeners of two sessions share a port; connections live on when the set of listeners changes under them.
fn reuseport(v6: bool) -> Result<()> {
    let bed = bed()?;
    let [a, b] = sessions(&bed)?;
    let one = TcpListener::bind_with(&a, (bed.ours(v6), 7000), 1024, true)?;
    let addr = one.local_addr()?;
    let connect = |n: usize| (0..n).map(|_| native_connect(addr)).collect::<Result<Vec<_>>>();
    let early = connect(20)?;
    // Handshakes end in any order: they come by two queues.
    let mut first = (0..20).map(|_| one.accept()).collect::<std::io::Result<Vec<_>>>()?;
    let mut pairs = Vec::new();
    for theirs in early {
        let here = theirs.local_addr()?;
        let at = first.iter().position(|(_, peer)| *peer == here).context("no such connection")?;
        pairs.push((theirs, first.swap_remove(at).0));
    }
    let early = pairs;
    let two = TcpListener::bind_with(&b, (bed.ours(v6), 7000), 1024, true)?;
    for (theirs, ours) in &early {
        exchange(theirs, ours, 3000).context("a connection from before the second listener")?;
    }
    let late = connect(60)?;
    one.set_nonblocking(true)?;
    two.set_nonblocking(true)?;
    let mut got = [0; 2];
    let mut accepted = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while accepted.len() < late.len() {
        ensure!(std::time::Instant::now() < deadline, "{got:?} of {} were accepted", late.len());
        for (listener, n) in [&one, &two].into_iter().zip(&mut got) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    *n += 1;
                    stream.set_nonblocking(false)?;
                    accepted.push((stream, peer));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(e) => return Err(e.into()),
            }
        }
    }
    ensure!(got.iter().all(|n| *n >= 10), "{got:?}: each listener gets its share");
    drop((one, two));
    for (theirs, ours) in &early {
        exchange(theirs, ours, 3000).context("an early connection, after the listeners")?;
    }
    for theirs in &late {
        let here = theirs.local_addr()?;
        let (ours, _) = accepted.iter().find(|(_, peer)| *peer == here).context("no such connection")?;
        exchange(theirs, ours, 3000).context("a late connection, after the listeners")?;
    }
    Ok(())
}

fn loopback(v6: bool) -> Result<()> {
    let bed = bed()?;
    let sessions = sessions(&bed)?;
    let here: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    for server in &sessions {
        let listener = TcpListener::bind_in(server, (here, 0))?;
        for client in &sessions {
            for _ in 0..8 {
                let theirs = TcpConnect::new(client).timeout(LIMIT).connect(listener.local_addr()?)?;
                let (ours, _) = listener.accept()?;
                ours.set_read_timeout(Some(LIMIT))?;
                theirs.set_read_timeout(Some(LIMIT))?;
                exchange(theirs, ours, 100_000)?;
            }
        }
    }
    Ok(())
}

fn taken() -> Result<()> {
    let bed = bed()?;
    let [a, b] = sessions(&bed)?;
    let first = TcpListener::bind_in(&a, (bed.ours(false), 7001))?;
    for session in [&a, &b] {
        let kind = TcpListener::bind_in(session, (bed.ours(false), 7001)).err().map(|e| e.kind());
        ensure!(kind == Some(ErrorKind::AddrInUse), "{kind:?}");
    }
    drop(first);
    let mut again = TcpListener::bind_in(&b, (bed.ours(false), 7001));
    let deadline = std::time::Instant::now() + LIMIT;
    // Closing is a message: the port is free once the first shard has read it.
    while again.is_err() && std::time::Instant::now() < deadline {
        again = TcpListener::bind_in(&b, (bed.ours(false), 7001));
    }
    again.map(drop).context("the port did not become free")
}
