//! `TCP_REPAIR` against Linux over a TAP: a live connection is taken out of a socket, closed without a word, and goes on in another one: of the same
//! daemon, and of another process on the same link. Linux notices nothing, and both streams are whole.

use anyhow::{Context, Result, ensure};
use stackd_client::Session;
use stackd_client::raw::{Socket, ioctl, msg};
use stackd_integration::bed::Bed;
use stackd_integration::daemon::Daemon;
use stackd_integration::trials::{self, Case, case};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SOL_SOCKET: i32 = 1;
const IPPROTO_IP: i32 = 0;
const IPPROTO_IPV6: i32 = 41;
const IPPROTO_TCP: i32 = 6;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;
const TCP_MAXSEG: i32 = 2;
const TCP_INFO: i32 = 11;
const TCP_REPAIR: i32 = 19;
const TCP_REPAIR_QUEUE: i32 = 20;
const TCP_QUEUE_SEQ: i32 = 21;
const TCP_REPAIR_OPTIONS: i32 = 22;
const TCP_TIMESTAMP: i32 = 24;
const TCP_REPAIR_WINDOW: i32 = 29;
const RECV_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
const LIMIT: Duration = Duration::from_secs(30);

/// What each side sends over the whole life of the connection.
const OURS: usize = 6 << 20;
/// Far more than a receive buffer holds: it must not have ended when the connection moves.
const THEIRS: usize = 24 << 20;

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        for (place, other_daemon) in [("a_new_socket", false), ("a_new_daemon", true)] {
            for (way, accepted) in [("connected", false), ("accepted", true)] {
                let name = format!("{family}::a_live_{way}_connection_moves_to_{place}");
                cases.push(case(name, move || moves(v6, other_daemon, accepted)).tap());
            }
        }
    }
    trials::main(cases)
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn set_int(sock: &Socket, name: i32, value: i32) -> Result<()> {
    sock.set_option(IPPROTO_TCP, name, &value.to_ne_bytes()).with_context(|| format!("setsockopt of {name} to {value}"))
}

fn get_int(sock: &Socket, name: i32) -> Result<i32> {
    let value = sock.option(IPPROTO_TCP, name, 4).with_context(|| format!("getsockopt of {name}"))?;
    Ok(i32::from_ne_bytes(value.as_slice().try_into()?))
}

/// What is written down of a connection, as CRIU does it.
struct Image {
    local: SocketAddr,
    peer: SocketAddr,
    /// First byte of each queue.
    seqs: (u32, u32),
    send_queue: Vec<u8>,
    /// The last so many bytes of it were not sent.
    unsent: usize,
    recv_queue: Vec<u8>,
    mss: u32,
    options: u8,
    scales: (u8, u8),
    clock: i32,
    window: Vec<u8>,
}

fn dump(sock: &Socket) -> Result<Image> {
    set_int(sock, TCP_REPAIR, 1)?;
    let read = sock.recv(&mut [0], 0).expect_err("under repair nothing is read");
    ensure!(read.raw_os_error() == Some(1), "{read}");
    let info = sock.option(IPPROTO_TCP, TCP_INFO, 256)?;
    ensure!(info[0] == 1, "in state {}", info[0]);
    let unread = sock.ioctl(ioctl::SIOCINQ)? as usize;
    let (unacked, unsent) = (sock.ioctl(ioctl::SIOCOUTQ)? as usize, sock.ioctl(ioctl::SIOCOUTQNSD)? as usize);
    let queue = |which: i32, len: usize| -> Result<(u32, Vec<u8>)> {
        set_int(sock, TCP_REPAIR_QUEUE, which)?;
        let end = get_int(sock, TCP_QUEUE_SEQ)? as u32;
        let mut bytes = vec![0; len];
        let got =
            sock.recv(&mut bytes, msg::PEEK | msg::DONTWAIT).or_else(|e| if len == 0 { Ok(0) } else { Err(e) })?;
        ensure!(got == len, "queue {which}: {got} of {len} bytes");
        Ok((end.wrapping_sub(len as u32), bytes))
    };
    let (send_seq, send_queue) = queue(SEND_QUEUE, unacked)?;
    let (recv_seq, recv_queue) = queue(RECV_QUEUE, unread)?;
    Ok(Image {
        local: sock.local_addr()?,
        peer: sock.peer_addr()?,
        seqs: (send_seq, recv_seq),
        send_queue,
        unsent,
        recv_queue,
        mss: get_int(sock, TCP_MAXSEG)? as u32,
        options: info[5],
        scales: (info[6] & 15, info[6] >> 4),
        clock: get_int(sock, TCP_TIMESTAMP)?,
        window: sock.option(IPPROTO_TCP, TCP_REPAIR_WINDOW, 20)?,
    })
}

/// All of `data`, or an error: a queue under repair takes what fits, at once.
fn put(sock: &Socket, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let n = sock.send(data, msg::DONTWAIT, None)?;
        data = &data[n..];
    }
    Ok(())
}

fn restore(session: &Session, image: &Image) -> Result<Socket> {
    let v6 = image.local.is_ipv6();
    let sock = Socket::new(session, if v6 { 10 } else { 2 }, 1, 0)?;
    set_int(&sock, TCP_REPAIR, 1)?;
    // IP_FREEBIND, IPV6_FREEBIND: the address may come later.
    let (level, name) = if v6 { (IPPROTO_IPV6, 78) } else { (IPPROTO_IP, 15) };
    sock.set_option(level, name, &1i32.to_ne_bytes())?;
    sock.set_option(SOL_SOCKET, SO_SNDBUFFORCE, &(4i32 << 20).to_ne_bytes())?;
    sock.set_option(SOL_SOCKET, SO_RCVBUFFORCE, &(8i32 << 20).to_ne_bytes())?;
    set_int(&sock, TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    set_int(&sock, TCP_QUEUE_SEQ, image.seqs.0 as i32)?;
    set_int(&sock, TCP_REPAIR_QUEUE, RECV_QUEUE)?;
    set_int(&sock, TCP_QUEUE_SEQ, image.seqs.1 as i32)?;
    sock.bind(image.local).context("bind")?;
    sock.connect(image.peer).context("connect")?;
    let mut options = vec![2, image.mss];
    if image.options & 4 != 0 {
        options.extend([3, u32::from(image.scales.0) | u32::from(image.scales.1) << 16]);
    }
    if image.options & 2 != 0 {
        options.extend([4, 0]);
    }
    if image.options & 1 != 0 {
        options.extend([8, 0]);
    }
    let bytes: Vec<u8> = options.iter().flat_map(|n| n.to_ne_bytes()).collect();
    sock.set_option(IPPROTO_TCP, TCP_REPAIR_OPTIONS, &bytes).context("options")?;
    set_int(&sock, TCP_TIMESTAMP, image.clock)?;
    put(&sock, &image.recv_queue).context("receive queue")?;
    set_int(&sock, TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    let (sent, unsent) = image.send_queue.split_at(image.send_queue.len() - image.unsent);
    put(&sock, sent).context("send queue")?;
    let again = sock.ioctl(ioctl::SIOCOUTQ)? as usize;
    ensure!(again == sent.len() && sock.ioctl(ioctl::SIOCOUTQNSD)? == 0, "{again} of {} count as sent", sent.len());
    sock.set_option(IPPROTO_TCP, TCP_REPAIR_WINDOW, &image.window).context("window")?;
    set_int(&sock, TCP_REPAIR, 0)?;
    put(&sock, unsent).context("what was not sent")?;
    Ok(sock)
}

/// Linux's end: sends `THEIRS`, then waits to be told, and reads `OURS`.
struct Peer {
    read_on: mpsc::Sender<()>,
    reader: std::thread::JoinHandle<Result<Vec<u8>>>,
    writer: std::thread::JoinHandle<Result<()>>,
}

impl Peer {
    fn start(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut out = stream.try_clone()?;
        let (read_on, told) = mpsc::channel();
        let writer = std::thread::spawn(move || -> Result<()> {
            out.write_all(&pattern(1, THEIRS))?;
            out.shutdown(std::net::Shutdown::Write)?;
            Ok(())
        });
        let reader = std::thread::spawn(move || -> Result<Vec<u8>> {
            let mut stream = stream;
            let mut all = vec![0; 100_000];
            stream.read_exact(&mut all)?;
            told.recv()?;
            stream.read_to_end(&mut all)?;
            Ok(all)
        });
        Ok(Self { read_on, reader, writer })
    }
}

fn moves(v6: bool, other_daemon: bool, accepted: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let (sock, stream) = open(&bed, &session, v6, accepted)?;
    let peer = Peer::start(stream)?;
    let (ours, mut received) = (pattern(2, OURS), Vec::new());
    // Both directions have lived; then Linux reads no more, and its window holds part of what is written.
    let mut sent = send_some(&sock, &ours, 100_000)?;
    read_some(&sock, &mut received, 700_000)?;
    until("something waits to be read", || Ok(sock.ioctl(ioctl::SIOCINQ)? > 0))?;
    // From here on nothing of ours reaches Linux: what is sent stays unacknowledged, and no RST tells it that its peer is away.
    let dev = bed.interface();
    bed.daemon.netctl(&["tc", "qdisc", "replace", "dev", &dev, "root", "netem", "loss", "100%"])?;
    sock.set_nonblocking(true);
    sent += sock.send(&ours[sent..sent + 300_000], 0, None)?;
    until("something was sent in vain", || Ok(sock.ioctl(ioctl::SIOCOUTQ)? > sock.ioctl(ioctl::SIOCOUTQNSD)?))?;

    let image = dump(&sock)?;
    ensure!(!image.recv_queue.is_empty() && image.send_queue.len() > image.unsent, "queues are empty");
    ensure!(image.options & 7 == 7, "options {:#x}", image.options);
    let resets = bed.daemon.netctl(&["nstat", "-az", "TcpOutRsts"])?;
    drop(sock);
    let session2;
    let (_daemon2, dir);
    let (session, daemon) = if other_daemon {
        drop(session);
        let (interface, kernel) = (bed.interface(), bed.kernel(v6));
        let local = image.local.ip();
        bed.daemon.stop()?;
        dir = tempfile::tempdir()?;
        _daemon2 = Daemon::start(dir.path(), "second", &elsewhere(&interface, kernel))?;
        session2 = Session::connect(_daemon2.attach())?;
        let sock = restore(&session2, &image)?;
        // The address moves last.
        let prefix = if v6 { 64 } else { 24 };
        _daemon2.netctl(&["ip", "addr", "add", &format!("{local}/{prefix}"), "dev", &interface])?;
        return finish(&sock, peer, &ours, sent, received).context(_daemon2.log());
    } else {
        (session, &bed.daemon)
    };
    let sock = restore(&session, &image)?;
    ensure!(daemon.netctl(&["nstat", "-az", "TcpOutRsts"])? == resets, "the old socket said something");
    daemon.netctl(&["tc", "qdisc", "replace", "dev", &dev, "root", "fq"])?;
    finish(&sock, peer, &ours, sent, received)
}

/// A daemon for the same link, with another address.
fn elsewhere(interface: &str, kernel: IpAddr) -> String {
    let (prefix, other) = match kernel {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            (24, IpAddr::from([a, b, c, 3]))
        }
        IpAddr::V6(v6) => {
            let mut s = v6.segments();
            s[7] = 3;
            (64, IpAddr::from(s))
        }
    };
    format!(
        "[sysctl]\n\"net.ipv6.conf.default.accept_dad\" = 0\n[[device]]\nname = \"{interface}\"\nkind = \"tap\"\n\
         host_addresses = [\"{kernel}/{prefix}\"]\naddresses = [\"{other}/{prefix}\"]\nqdisc = \"fq\"\n"
    )
}

fn open(bed: &Bed, session: &Session, v6: bool, accepted: bool) -> Result<(Socket, TcpStream)> {
    let sock = Socket::new(session, if v6 { 10 } else { 2 }, 1, 0)?;
    if accepted {
        sock.bind(SocketAddr::new(bed.ours(v6), 0))?;
        sock.listen(1)?;
        let stream = TcpStream::connect_timeout(&sock.local_addr()?, LIMIT)?;
        return Ok((sock.accept4(0)?.0, stream));
    }
    let listener = TcpListener::bind(SocketAddr::new(bed.kernel(v6), 0))?;
    sock.connect(listener.local_addr()?)?;
    Ok((sock, listener.accept()?.0))
}

fn send_some(sock: &Socket, data: &[u8], len: usize) -> Result<usize> {
    let mut done = 0;
    while done < len {
        done += sock.send(&data[done..len], 0, None)?;
    }
    Ok(done)
}

fn read_some(sock: &Socket, into: &mut Vec<u8>, len: usize) -> Result<()> {
    let mut buf = vec![0; 64 << 10];
    let end = into.len() + len;
    while into.len() < end {
        let want = buf.len().min(end - into.len());
        let n = sock.recv(&mut buf[..want], 0)?;
        ensure!(n > 0, "the stream ended after {} bytes", into.len());
        into.extend_from_slice(&buf[..n]);
    }
    Ok(())
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
    Ok(())
}

/// The rest of both streams, and their ends.
fn finish(sock: &Socket, peer: Peer, ours: &[u8], sent: usize, mut received: Vec<u8>) -> Result<()> {
    peer.read_on.send(())?;
    sock.set_nonblocking(false);
    sock.set_option(SOL_SOCKET, 20, &[LIMIT.as_secs().to_ne_bytes(), [0; 8]].concat())?;
    sock.set_option(SOL_SOCKET, 21, &[LIMIT.as_secs().to_ne_bytes(), [0; 8]].concat())?;
    let reader = sock.try_clone()?;
    let reading = std::thread::spawn(move || -> Result<Vec<u8>> {
        let mut buf = vec![0; 64 << 10];
        loop {
            match reader.recv(&mut buf, 0)? {
                0 => return Ok(received),
                n => received.extend_from_slice(&buf[..n]),
            }
        }
    });
    let mut at = sent;
    while at < ours.len() {
        at += sock.send(&ours[at..], 0, None)?;
    }
    sock.shutdown(1)?;
    let received = reading.join().expect("no panic").context("our reader")?;
    peer.writer.join().expect("no panic").context("Linux's writer")?;
    let got = peer.reader.join().expect("no panic").context("Linux's reader")?;
    ensure!(received == pattern(1, THEIRS), "what arrived here is not what was sent: {} bytes", received.len());
    ensure!(got == ours, "what arrived there is not what was sent: {} bytes", got.len());
    Ok(())
}
