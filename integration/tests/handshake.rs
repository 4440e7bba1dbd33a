//! What changes the handshake, against Linux over a TAP: TCP-MD5, Fast Open, ECN. The kernel's half is a few lines of Python, for only it can set
//! the kernel's options without unsafe code.
//!
//! TCP-AO and Accurate ECN are not here: the reference kernel is built without CONFIG_TCP_AO, and refuses `tcp_ecn` beyond 2.

use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpConnect, TcpListener};
use stackd_integration::bed::Bed;
use stackd_integration::trials::{self, Case, case};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const MIB: usize = 1 << 20;
const KEY: &[u8] = b"a key that both have";

/// The kernel's peer. `listen ADDR PORT`: prints its port, sends back what it reads, one connection after the other. `connect ADDR PORT`: sends
/// its standard input, prints what came back. What it sets beforehand: `md5=HEXKEY@PEER`, `fastopen`.
const PEER: &str = r#"
import socket, struct, sys, threading
what, addr, port, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
family = socket.AF_INET6 if ':' in addr else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM)
fastopen = False
for o in options:
    if o.startswith('md5='):
        key, peer = o[4:].split('@')
        key = bytes.fromhex(key)
        if family == socket.AF_INET6:
            sa = struct.pack('=HHI16sI', family, 0, 0, socket.inet_pton(family, peer), 0)
        else:
            sa = struct.pack('=HH4s', family, 0, socket.inet_pton(family, peer))
        s.setsockopt(6, 14, struct.pack('=128sBBHI80s', sa, 0, 0, len(key), 0, key))
    if o == 'fastopen':
        fastopen = True
if what == 'listen':
    if fastopen:
        s.setsockopt(6, 23, 16)
    s.bind((addr, port))
    s.listen(16)
    print(s.getsockname()[1], flush=True)
    while True:
        c, _ = s.accept()
        while True:
            data = c.recv(65536)
            if not data:
                break
            c.sendall(data)
        c.close()
data = sys.stdin.buffer.read()
sent = 0
if fastopen:
    sent = s.sendto(data, 0x20000000, (addr, port))
else:
    s.connect((addr, port))
def rest():
    s.sendall(data[sent:])
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=rest)
t.start()
while True:
    back = s.recv(65536)
    if not back:
        break
    sys.stdout.buffer.write(back)
t.join()
"#;

/// A running peer of the kernel; it ends with this value.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(what: &str, addr: SocketAddr, options: &[String]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", PEER, what, &addr.ip().to_string(), &addr.port().to_string()]).args(options);
    command.stdout(Stdio::piped());
    command
}

/// A server of the kernel's, and where it listens.
fn kernel_listens(ip: IpAddr, options: &[String]) -> Result<(Peer, SocketAddr)> {
    let mut child = python("listen", SocketAddr::new(ip, 0), options).stdin(Stdio::null()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((Peer(child), SocketAddr::new(ip, line.trim().parse().with_context(|| format!("{line:?} is no port"))?)))
}

/// The kernel sends `data` to `to` and says what came back.
fn kernel_connects(to: SocketAddr, options: &[String], data: &[u8]) -> Result<Vec<u8>> {
    let mut child = python("connect", to, options).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(data)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the kernel's client: {}", output.status);
    Ok(output.stdout)
}

/// One of ours that sends back what it reads, for `connections` connections.
fn we_listen(listener: TcpListener, connections: usize) -> std::thread::JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept()?;
            let mut data = vec![0; 65_536];
            loop {
                let n = stream.read(&mut data)?;
                if n == 0 {
                    break;
                }
                stream.write_all(&data[..n])?;
            }
            stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// One of ours sends `data` and wants it back.
fn we_connect(how: &TcpConnect, to: SocketAddr, data: &[u8], with_syn: bool) -> Result<u8> {
    let mut stream = if with_syn { how.connect_with(to, data)? } else { how.connect(to)? };
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut back = Vec::new();
    if !with_syn {
        let mut sender = stream.try_clone()?;
        let copy = data.to_vec();
        let sent = std::thread::spawn(move || -> Result<()> {
            sender.write_all(&copy)?;
            sender.shutdown(Shutdown::Write)?;
            Ok(())
        });
        stream.read_to_end(&mut back)?;
        sent.join().map_err(|_| anyhow::anyhow!("the sender died"))??;
    } else {
        back.resize(data.len(), 0);
        stream.read_exact(&mut back)?;
    }
    let options = stream.tcp_info()?.options;
    ensure!(back == data, "{} bytes went, {} came back, or others", data.len(), back.len());
    Ok(options)
}

fn md5(peer: IpAddr, key: &[u8]) -> Vec<String> {
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    vec![format!("md5={hex}@{peer}")]
}

fn md5_both_ways(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let (kernel, ours) = (bed.kernel(v6), bed.ours(v6));
    let data = pattern(4 * MIB);
    let (_peer, to) = kernel_listens(kernel, &md5(ours, KEY))?;
    let how = TcpConnect::new(&session).timeout(Duration::from_secs(10));
    we_connect(&how.clone().md5_key(kernel, KEY), to, &data, false).context("we connect")?;
    let wrong = how.clone().timeout(Duration::from_millis(1500)).md5_key(kernel, b"another").connect(to);
    ensure!(wrong.is_err(), "the kernel took a wrong key");
    let listener = TcpListener::bind_in(&session, SocketAddr::new(ours, 0))?;
    listener.set_md5_key(kernel, KEY)?;
    let at = listener.local_addr()?;
    let served = we_listen(listener, 1);
    let back = kernel_connects(at, &md5(ours, KEY), &data).context("the kernel connects")?;
    ensure!(back == data, "{} bytes went, {} came back, or others", data.len(), back.len());
    served.join().map_err(|_| anyhow::anyhow!("our server died"))??;
    for counter in ["TcpExtTCPMD5Failure", "TcpExtTCPMD5NotFound", "TcpExtTCPMD5Unexpected"] {
        ensure!(ours_counts(&bed, counter)? == 0, "{counter}");
    }
    Ok(())
}

fn ours_counts(bed: &Bed, counter: &str) -> Result<u64> {
    let all = bed.daemon.netctl(&["nstat", "-a"])?;
    let line = all.lines().find(|l| l.split_whitespace().next() == Some(counter));
    Ok(line.and_then(|l| l.split_whitespace().nth(1)).map_or(Ok(0), str::parse)?)
}

/// A counter of the kernel's `TcpExt`.
fn kernel_counts(counter: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|l| l.starts_with("TcpExt:"));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(n, _)| *n == counter);
    Ok(found.with_context(|| format!("the kernel has no {counter}"))?.1.parse()?)
}

fn fast_open_both_ways(v6: bool) -> Result<()> {
    const SYN_DATA: u8 = 32;
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3")?;
    let bed = Bed::new("[sysctl]\n\"net.ipv4.tcp_fastopen\" = 3", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let how = TcpConnect::new(&session).timeout(Duration::from_secs(10));
    let data = pattern(300);
    let (_peer, to) = kernel_listens(bed.kernel(v6), &["fastopen".to_owned()])?;
    let passive = kernel_counts("TCPFastOpenPassive")?;
    // The first one brings the cookie, the second uses it.
    let first = we_connect(&how, to, &data, true).context("the first connection")?;
    let second = we_connect(&how, to, &data, true).context("the second")?;
    ensure!((first & SYN_DATA, second & SYN_DATA) == (0, SYN_DATA), "TCPI_OPT_SYN_DATA: {first:#x}, {second:#x}");
    ensure!(kernel_counts("TCPFastOpenPassive")? == passive + 1, "the kernel took no data with our SYN");
    ensure!(ours_counts(&bed, "TcpExtTCPFastOpenActive")? == 1);
    let listener = TcpListener::bind_in(&session, SocketAddr::new(bed.ours(v6), 0))?;
    listener.set_fast_open(16)?;
    let at = listener.local_addr()?;
    let served = we_listen(listener, 2);
    let active = kernel_counts("TCPFastOpenActive")?;
    for n in 1..=2 {
        let back =
            kernel_connects(at, &["fastopen".to_owned()], &data).with_context(|| format!("its connection {n}"))?;
        ensure!(back == data, "{} bytes went, {} came back, or others", data.len(), back.len());
    }
    served.join().map_err(|_| anyhow::anyhow!("our server died"))??;
    ensure!(kernel_counts("TCPFastOpenActive")? == active + 1, "we took no data with the kernel's SYN");
    ensure!(ours_counts(&bed, "TcpExtTCPFastOpenPassive")? == 1);
    Ok(())
}

/// What asks for Accurate ECN gets along with who knows RFC 3168, and with who knows none.
fn ecn_falls_back(v6: bool) -> Result<()> {
    const ECN: u8 = 8;
    let bed = Bed::new("[sysctl]\n\"net.ipv4.tcp_ecn\" = 3", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let how = TcpConnect::new(&session).timeout(Duration::from_secs(10));
    let data = pattern(MIB);
    for (kernel_mode, wanted) in [("1", ECN), ("0", 0)] {
        std::fs::write("/proc/sys/net/ipv4/tcp_ecn", kernel_mode)?;
        let (_peer, to) = kernel_listens(bed.kernel(v6), &[])?;
        let options = we_connect(&how, to, &data, false).with_context(|| format!("tcp_ecn={kernel_mode}"))?;
        ensure!(options & ECN == wanted, "TCPI_OPT_ECN with tcp_ecn={kernel_mode}: {options:#x}");
        let listener = TcpListener::bind_in(&session, SocketAddr::new(bed.ours(v6), 0))?;
        let at = listener.local_addr()?;
        let served = we_listen(listener, 1);
        let back = kernel_connects(at, &[], &data)?;
        ensure!(back == data, "{} bytes went, {} came back, or others", data.len(), back.len());
        served.join().map_err(|_| anyhow::anyhow!("our server died"))??;
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = |what: &str| format!("{family}::{what}");
        let mut add = |what: &str, work: fn(bool) -> Result<()>| {
            cases.push(case(name(what), move || work(v6)).tap().program("python3"));
        };
        add("tcp_md5_both_ways", md5_both_ways);
        add("fast_open_both_ways", fast_open_both_ways);
        add("accurate_ecn_falls_back", ecn_falls_back);
    }
    trials::main(cases)
}
