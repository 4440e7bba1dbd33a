//! How processes begin and end: killed clients, killed and stopped daemons, and the ways into the stack that are not shared-memory TCP.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use stackd_client::{Session, TcpConnect, TcpListener, TcpStream, UdpSocket};
use stackd_integration::bed::Bed;
use stackd_integration::daemon::Daemon;
use stackd_integration::scenario::{self, Served};
use stackd_integration::trials::{self, Case, case};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Which call came back, and with what.
type Woken = (&'static str, std::io::Result<()>);

/// Nothing here takes a second on a quiet machine.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut cases: Vec<Case> = vec![
        case("a_killed_daemon_wakes_every_blocked_client", killed_daemon).tap(),
        case("a_stopped_daemon_sends_fins_through_an_emulated_wire", fins_through_wire),
        case("an_idle_daemon_with_emulated_devices_sleeps", idle_sleeps).tap(),
    ];
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = |what: &str| format!("{family}::{what}");
        cases.push(case(name("a_killed_server_leaves_nothing"), move || killed_server(v6)).tap());
        cases.push(case(name("a_killed_sender_ends_its_stream"), move || killed_sender(v6)).tap());
        cases.push(case(name("a_stopped_daemon_sends_fins"), move || fins_to_linux(v6)).tap());
        cases.push(case(name("udp_echo_both_ways"), move || udp_echo(v6)).tap());
        for flavour in ["blocking", "tokio", "grpc"] {
            cases.push(case(name(&format!("echo_by_{flavour}")), move || echo(v6, flavour)).tap());
        }
    }
    trials::main(cases)
}

/// Asks until the answer is yes.
fn eventually(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
    Ok(())
}

fn kernel_stream(addr: SocketAddr) -> Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&addr, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The end of a stream by FIN or RST. A timeout is neither.
fn expect_end(mut stream: impl Read) -> Result<u64> {
    let (mut total, mut buf) = (0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Ok(total),
            Ok(n) => total += n as u64,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(total),
            Err(e) => return Err(e).context(format!("after {total} bytes")),
        }
    }
}

/// No session, no socket but TIME_WAIT, and no waiting any more.
fn nothing_left(daemon: &Daemon) -> Result<()> {
    eventually("no socket is left", || Ok(daemon.ss(&["-Htuan", "exclude", "time-wait"])?.trim().is_empty()))?;
    no_session(daemon)
}

fn no_session(daemon: &Daemon) -> Result<()> {
    eventually("no session is left", || {
        let clients: serde_json::Value = serde_json::from_str(&daemon.netctl(&["--json", "clients"])?)?;
        Ok(clients["sessions"].as_array().context("clients without sessions")?.is_empty())
    })
}

/// A server is killed with kill -9 while it listens, holds an established connection, and has bytes nobody reads.
fn killed_server(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let round = || -> Result<()> {
        let server = Served::start(scenario::ours(&bed, "load")?.args(["serve", &any_port(bed.ours(v6))]))?;
        let mut peers = Vec::new();
        for _ in 0..8 {
            let mut peer = kernel_stream(server.addr)?;
            peer.write_all(b"Eabc")?;
            let mut answer = [0; 3];
            peer.read_exact(&mut answer)?;
            ensure!(&answer == b"abc", "{answer:?}");
            peer.write_all(&[7; 4096])?;
            peers.push(peer);
        }
        // Dropping is kill -9.
        drop(server);
        for peer in peers {
            expect_end(peer)?;
        }
        nothing_left(&bed.daemon)
    };
    round()?;
    let before = scenario::held(&bed)?;
    for _ in 0..10 {
        round()?;
    }
    // The tools that asked are gone, too, a moment after they answered; ten leaks would not be.
    eventually(&format!("no more than {before:?} is held"), || {
        let after = scenario::held(&bed)?;
        Ok(after.descriptors <= before.descriptors && after.sockets <= before.sockets)
    })?;
    let after = scenario::held(&bed)?;
    ensure!(after.resident_kib < before.resident_kib + 8192, "{before:?} became {after:?}");
    Ok(())
}

/// A client is killed in the middle of a write that its peer stopped reading: the peer gets what was written, then the end.
fn killed_sender(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let listener = std::net::TcpListener::bind((bed.kernel(v6), 0))?;
    let mut client = scenario::ours(&bed, "load")?
        .args(["bulk", &listener.local_addr()?.to_string(), "--seconds", "1000"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let (mut peer, _) = listener.accept()?;
    peer.set_read_timeout(Some(LIMIT))?;
    let mut start = vec![0; 1 << 20];
    peer.read_exact(&mut start)?;
    // Nobody reads from here on, until the daemon has bytes that the window does not let out.
    eventually("bytes wait in the send buffer", || {
        let line = bed.daemon.ss(&["-Htn", "state", "established"])?;
        Ok(line.split_whitespace().nth(1).and_then(|q| q.parse::<u64>().ok()).is_some_and(|q| q > 0))
    })?;
    client.kill()?;
    client.wait()?;
    no_session(&bed.daemon)?;
    expect_end(&peer)?;
    drop(peer);
    nothing_left(&bed.daemon)
}

/// A thread says that it is about to block, and later how its call ended.
fn blocked(
    session: &Session,
    name: &'static str,
    call: impl FnOnce(&Session) -> std::io::Result<()> + Send + 'static,
) -> Result<(rustix::thread::Pid, mpsc::Receiver<Woken>)> {
    let (say, hear) = mpsc::channel();
    let (born, birth) = mpsc::channel();
    let session = session.clone();
    std::thread::spawn(move || {
        let _ = born.send(rustix::thread::gettid());
        let _ = say.send((name, call(&session)));
    });
    Ok((birth.recv()?, hear))
}

fn sleeps(tid: rustix::thread::Pid) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", tid.as_raw_nonzero()))?;
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    Ok(state == Some("S"))
}

/// kill -9 of the daemon: read, accept, connect, write and recv_from return at once, and say why.
fn killed_daemon() -> Result<()> {
    let bed = Bed::new("", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let kernel = std::net::TcpListener::bind((bed.kernel(false), 0))?;
    let there = kernel.local_addr()?;
    let (ours, nobody) = (bed.ours(false), SocketAddr::new(bed.kernel(false), 9));
    // An address of the TAP's network that nobody has: connecting waits for a neighbour to answer.
    let nobody = match nobody {
        SocketAddr::V4(a) => {
            let [x, y, z, _] = a.ip().octets();
            SocketAddr::from(([x, y, z, 77], 9))
        }
        SocketAddr::V6(_) => bail!("the TAP's first network is IPv4"),
    };
    let reader = TcpStream::connect_in(&session, there)?;
    let writer = TcpStream::connect_in(&session, there)?;
    let listener = TcpListener::bind_in(&session, (ours, 0))?;
    let socket = UdpSocket::bind_in(&session, (ours, 0))?;
    let threads = [
        blocked(&session, "read", move |_| (&reader).read(&mut [0; 16]).map(drop))?,
        blocked(&session, "write", move |_| {
            loop {
                (&writer).write_all(&[1; 1 << 16])?;
            }
        })?,
        blocked(&session, "accept", move |_| listener.accept().map(drop))?,
        blocked(&session, "connect", move |s| TcpConnect::new(s).connect(nobody).map(drop))?,
        blocked(&session, "recv_from", move |_| socket.recv_from(&mut [0; 16]).map(drop))?,
    ];
    for (tid, _) in &threads {
        eventually("the thread blocks", || sleeps(*tid))?;
    }
    bed.daemon.signal(Signal::KILL)?;
    let killed = Instant::now();
    for (_, hear) in threads {
        let (name, result) = hear.recv_timeout(LIMIT).context("a client hangs")?;
        let error = result.err().with_context(|| format!("{name} succeeded without a daemon"))?;
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
        ensure!(kinds.contains(&error.kind()), "{name}: {error:?}");
    }
    ensure!(killed.elapsed() < Duration::from_secs(2), "woken after {:?}", killed.elapsed());
    ensure!(session.is_dead(), "the session believes that its daemon lives");
    Ok(())
}

/// SIGTERM: what was written arrives, then the peer sees the end of the stream.
fn fins_to_linux(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let listener = TcpListener::bind_in(&session, (bed.ours(v6), 0))?;
    let mut peer = kernel_stream(listener.local_addr()?)?;
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"last words")?;
    bed.daemon.signal(Signal::TERM)?;
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).context("the peer saw no orderly end")?;
    ensure!(heard == b"last words", "{heard:?}");
    let error = stream.read(&mut [0; 8]).err().map(|e| e.kind());
    ensure!(error.is_some() || stream.read(&mut [0; 8])? == 0, "the client does not know");
    Ok(())
}

fn wire(end: &str, path: &std::path::Path, host: u8, more: &str) -> String {
    format!(
        "[[device]]\nname = \"wire0\"\nkind = \"wire\"\n{end} = {path:?}\naddresses = [\"10.81.0.{host}/24\"]\nqdisc = \"fq\"\n{more}"
    )
}

/// The same over an emulated path: the last frames are still under way inside the daemon when it is told to stop.
fn fins_through_wire() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("wire");
    let slow = "[device.emulate]\ndelay = \"100ms\"\n[device.emulate_ingress]\ndelay = \"20ms\"\n";
    let left = Daemon::start(dir.path(), "left", &wire("listen", &path, 1, ""))?;
    let right = Daemon::start(dir.path(), "right", &wire("connect", &path, 2, slow))?;
    let (here, there) = (Session::connect(left.attach())?, Session::connect(right.attach())?);
    let listener = TcpListener::bind_in(&here, "10.81.0.1:0")?;
    let began = Instant::now();
    let mut talker = TcpStream::connect_in(&there, listener.local_addr()?)?;
    ensure!(began.elapsed() >= Duration::from_millis(120), "the path was not emulated: {:?}", began.elapsed());
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    talker.write_all(b"last words")?;
    right.stop().context("right")?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).context("no orderly end")?;
    ensure!(heard == b"last words", "{heard:?}");
    drop((stream, listener, here));
    left.stop().map(drop).context("left")
}

fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).context("no CPU times");
    // proc_pid_stat(5): utime and stime are fields 14 and 15; the state, field 3, is the first after the name.
    Ok(field(11)? + field(12)?)
}

/// Under 1 % of a core over ten seconds, with an emulated TAP and an emulated wire that carried traffic before.
fn idle_sleeps() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("wire");
    let emulated = "[device.emulate]\nrate = \"100mbit\"\ndelay = \"5ms\"\n[device.emulate_ingress]\ndelay = \"5ms\"\n";
    let other = Daemon::start(dir.path(), "other", &wire("listen", &path, 1, ""))?;
    let bed = Bed::new("", &format!("{emulated}\n{}", wire("connect", &path, 2, emulated)))?;
    let (session, far) = (Session::connect(bed.daemon.attach())?, Session::connect(other.attach())?);
    let kernel = std::net::TcpListener::bind((bed.kernel(false), 0))?;
    let listener = TcpListener::bind_in(&far, "10.81.0.1:0")?;
    let mut streams = Vec::new();
    for addr in [kernel.local_addr()?, listener.local_addr()?] {
        let mut stream = TcpStream::connect_in(&session, addr)?;
        stream.write_all(&[3; 10_000])?;
        streams.push(stream);
    }
    eventually("everything is acknowledged", || Ok(streams.iter().all(|s| s.acknowledged() == 10_000)))?;
    let pids = [bed.daemon.pid(), other.pid()];
    let before = pids.map(cpu_ticks);
    // The measurement is of time that passes; poll on nothing is how to let it.
    let ten = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut [], Some(&ten))?;
    let hz = rustix::param::clock_ticks_per_second();
    for (pid, before) in pids.into_iter().zip(before) {
        let used = cpu_ticks(pid)? - before?;
        ensure!(used * 100 < hz * 10, "process {pid} used {used} ticks of {hz} a second in 10 s");
    }
    Ok(())
}

/// Datagrams of every size class to and from Linux, fragmented ones included.
fn udp_echo(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let ours = UdpSocket::bind_in(&session, (bed.ours(v6), 0))?;
    let theirs = std::net::UdpSocket::bind((bed.kernel(v6), 0))?;
    theirs.set_read_timeout(Some(LIMIT))?;
    ours.set_read_timeout(Some(LIMIT))?;
    let (our_addr, their_addr) = (ours.local_addr()?, theirs.local_addr()?);
    let mut buf = vec![0; 1 << 16];
    for len in [0usize, 1, 1000, 1472, 1473, 9000, 60_000] {
        let data: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
        ours.send_to(&data, their_addr)?;
        let (n, from) = theirs.recv_from(&mut buf).with_context(|| format!("{len} bytes to Linux"))?;
        ensure!(buf[..n] == data && from == our_addr, "{len} bytes left, {n} arrived from {from}");
        theirs.send_to(&buf[..n], from)?;
        let (n, from) = ours.recv_from(&mut buf).with_context(|| format!("{len} bytes from Linux"))?;
        ensure!(buf[..n] == data && from == their_addr, "{len} bytes came back as {n} from {from}");
    }
    Ok(())
}

/// The echo example by each way into the stack, as server for a Linux client and as client of a Linux server.
fn echo(v6: bool, flavour: &str) -> Result<()> {
    let bed = Bed::new("", "")?;
    let by_flavour = || -> Result<Command> {
        let mut command = scenario::ours(&bed, "echo")?;
        command.arg("--control").arg(bed.daemon.control()).args(["--flavour", flavour]);
        Ok(command)
    };
    let server = Served::start(by_flavour()?.args(["serve", &any_port(bed.ours(v6))]))?;
    let mut stream = kernel_stream(server.addr)?;
    let data: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let mut writer = stream.try_clone()?;
    let sent = data.clone();
    let feeder = std::thread::spawn(move || writer.write_all(&sent).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    feeder.join().map_err(|_| anyhow::anyhow!("the feeding thread crashed"))??;
    ensure!(back == data, "{} bytes went, {} came back, or others", data.len(), back.len());
    drop(server);

    let theirs = Served::start(scenario::native("echo")?.args(["serve", &any_port(bed.kernel(v6))]))?;
    let output = by_flavour()?.args(["send", &theirs.addr.to_string(), "to Linux and back"]).output()?;
    ensure!(
        output.status.success() && output.stdout == b"to Linux and back\n",
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    nothing_left(&bed.daemon)
}

fn any_port(ip: std::net::IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}
