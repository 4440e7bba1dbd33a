//! Ends and interruptions of streams, against Linux over a TAP: `SO_LINGER` in its three forms, and urgent data both ways.

use anyhow::{Context, Result, ensure};
use stackd_client::raw::{Socket, ioctl, msg};
use stackd_client::{Session, TcpListener as OurListener, TcpStream as OurStream};
use stackd_integration::bed::Bed;
use stackd_integration::trials::{self, Case, case};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const POLLPRI: u32 = 2;

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = |what: &str| format!("{family}::{what}");
        cases.push(case(name("close_waits_until_linux_has_everything"), move || lingers(v6)).tap());
        cases.push(case(name("close_waits_no_longer_than_it_may"), move || lingers_in_vain(v6)).tap());
        cases.push(case(name("close_without_a_time_resets"), move || resets(v6)).tap());
        cases.push(case(name("urgent_data_to_linux"), move || urgent_out(v6)).tap().program("python3"));
        cases.push(case(name("urgent_data_from_linux"), move || urgent_in(v6)).tap().program("python3"));
    }
    trials::main(cases)
}

fn connected(bed: &Bed, v6: bool) -> Result<(Session, OurStream, TcpStream)> {
    let session = Session::connect(bed.daemon.attach())?;
    let listener = TcpListener::bind(SocketAddr::new(bed.kernel(v6), 0))?;
    let ours = OurStream::connect_in(&session, listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    theirs.set_read_timeout(Some(LIMIT))?;
    Ok((session, ours, theirs))
}

fn states(bed: &Bed) -> Result<String> {
    bed.daemon.ss(&["-Htan"])
}

/// The last bytes are on a slow path when close is called: it returns when they are acknowledged, and so is the FIN.
fn lingers(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    bed.daemon.netctl(&["tc", "qdisc", "replace", "dev", &bed.interface(), "root", "netem", "delay", "150ms"])?;
    let (_session, mut ours, mut theirs) = connected(&bed, v6)?;
    ours.set_linger(Some(Duration::from_secs(10)))?;
    ours.write_all(&[7; 5000])?;
    let start = Instant::now();
    drop(ours);
    let took = start.elapsed();
    // One way with the data and the FIN, and the ACK back at once.
    ensure!(took >= Duration::from_millis(140) && took < Duration::from_secs(5), "close took {took:?}");
    let sockets = states(&bed)?;
    ensure!(!sockets.contains("FIN-WAIT-1") && !sockets.contains("ESTAB"), "not acknowledged yet:\n{sockets}");
    let mut all = Vec::new();
    theirs.read_to_end(&mut all)?;
    ensure!(all == [7; 5000], "{} bytes", all.len());
    Ok(())
}

/// Linux does not read: close returns when its time is over, and the rest arrives later.
fn lingers_in_vain(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let (_session, mut ours, mut theirs) = connected(&bed, v6)?;
    ours.set_linger(Some(Duration::from_secs(1)))?;
    ours.set_nonblocking(true)?;
    let mut written = 0;
    let deadline = Instant::now() + LIMIT;
    // Until neither their window nor our buffer takes more.
    let mut idle = Instant::now();
    while idle.elapsed() < Duration::from_millis(300) {
        ensure!(Instant::now() < deadline, "{written} bytes and no end");
        match ours.write(&[9; 65_536]) {
            Ok(n) => (written, idle) = (written + n, Instant::now()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(e) => return Err(e.into()),
        }
    }
    let start = Instant::now();
    drop(ours);
    let took = start.elapsed();
    ensure!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "close took {took:?}");
    ensure!(!states(&bed)?.trim().is_empty(), "it does not go on in the background");
    let mut all = Vec::new();
    theirs.read_to_end(&mut all)?;
    ensure!(all.len() == written, "{} of {written} bytes", all.len());
    Ok(())
}

fn resets(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let (_session, ours, mut theirs) = connected(&bed, v6)?;
    ours.set_linger(Some(Duration::ZERO))?;
    let start = Instant::now();
    drop(ours);
    ensure!(start.elapsed() < Duration::from_secs(1), "close took {:?}", start.elapsed());
    let end = theirs.read(&mut [0; 8]).expect_err("a reset");
    ensure!(end.kind() == ErrorKind::ConnectionReset, "{end}");
    Ok(())
}

/// What Linux does with urgent data. `recv`: prints what each piece was. `send`: "abc", urgent "d", "ef".
const PYTHON: &str = r#"
import socket, sys, select, fcntl, struct
what, addr, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ':' in addr else socket.AF_INET, socket.SOCK_STREAM)
s.settimeout(20)
s.connect((addr, port))
def atmark():
    return struct.unpack('i', fcntl.ioctl(s, 0x8905, b'\0\0\0\0'))[0]
if what == 'send':
    s.sendall(b'abc')
    s.send(b'd', socket.MSG_OOB)
    s.sendall(b'ef')
    s.recv(1)
else:
    if what == 'inline':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    s.sendall(b'!')
    p = select.poll()
    p.register(s, select.POLLPRI)
    p.poll(20000)
    if what == 'recv':
        print(s.recv(1, socket.MSG_OOB).decode(), end=' ')
    while True:
        mark = atmark()
        piece = s.recv(100)
        if not piece:
            break
        print(('^' if mark else '') + piece.decode(), end=' ')
    print(flush=True)
"#;

fn python(what: &str, at: SocketAddr) -> Result<std::process::Child> {
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON, what, &at.ip().to_string(), &at.port().to_string()]);
    command.stdout(Stdio::piped()).spawn().context("python3")
}

fn listener(bed: &Bed, v6: bool) -> Result<(Session, Socket)> {
    let session = Session::connect(bed.daemon.attach())?;
    let sock = Socket::new(&session, if v6 { 10 } else { 2 }, 1, 0)?;
    sock.bind(SocketAddr::new(bed.ours(v6), 0))?;
    sock.listen(4)?;
    Ok((session, sock))
}

fn urgent_out(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let (_session, listener) = listener(&bed, v6)?;
    // Pieces end at the urgent byte, wherever segments ended; what follows it was read with it where it is in line.
    for (what, said) in [("recv", "d abc ^ef"), ("inline", "abc ^def")] {
        let child = python(what, listener.local_addr()?)?;
        let (sock, _) = listener.accept4(0)?;
        ensure!(sock.recv(&mut [0], 0)? == 1, "the peer is ready");
        sock.send(b"abc", 0, None)?;
        sock.send(b"d", msg::OOB, None)?;
        sock.send(b"ef", 0, None)?;
        sock.shutdown(1)?;
        let out = child.wait_with_output()?;
        let text = String::from_utf8(out.stdout)?;
        let joined: Vec<&str> = text.split_whitespace().collect();
        let (head, tail) = split_at_mark(&joined);
        let (want_head, want_tail) = split_at_mark(&said.split_whitespace().collect::<Vec<_>>());
        ensure!((&head, &tail) == (&want_head, &want_tail), "{what}: Linux read {text:?}, not {said:?}");
    }
    Ok(())
}

/// What was read before the mark, and from it on: how many reads it took is the network's affair.
fn split_at_mark(pieces: &[&str]) -> (String, String) {
    let whole = pieces.concat();
    let (head, tail) = whole.split_once('^').unwrap_or((&whole, ""));
    (head.to_owned(), tail.to_owned())
}

fn urgent_in(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let (session, listener) = listener(&bed, v6)?;
    for inline in [false, true] {
        let mut child = python("send", listener.local_addr()?)?;
        let (sock, _) = listener.accept4(0)?;
        sock.set_option(1, 10, &i32::from(inline).to_ne_bytes())?;
        let bits = sock.poll(POLLPRI, Some(LIMIT))?;
        ensure!(bits & POLLPRI != 0, "poll says {bits:#x}");
        if inline {
            let refused = sock.recv(&mut [0], msg::OOB).expect_err("it is in line");
            ensure!(refused.raw_os_error() == Some(22), "{refused}");
        } else {
            let mut byte = [0];
            ensure!(sock.recv(&mut byte, msg::OOB)? == 1 && &byte == b"d", "{byte:?}");
            ensure!(sock.poll(POLLPRI, Some(Duration::ZERO))? & POLLPRI == 0, "it was read");
        }
        let mut buf = [0; 16];
        // However many segments, a read ends at the mark.
        let mut text = Vec::new();
        while text.len() < if inline { 6 } else { 5 } {
            if sock.ioctl(ioctl::SIOCATMARK)? == 1 {
                text.push(b'^');
            }
            let n = sock.recv(&mut buf, 0)?;
            text.extend_from_slice(&buf[..n]);
            if text.contains(&b'^') && text.len() >= if inline { 7 } else { 6 } {
                break;
            }
        }
        let want: &[u8] = if inline { b"abc^def" } else { b"abc^ef" };
        ensure!(text == want, "read {:?}", String::from_utf8_lossy(&text));
        sock.send(b"!", 0, None)?;
        ensure!(child.wait()?.success(), "python3 failed");
    }
    // The types that are shaped as std's read the stream without it.
    let listener = OurListener::bind_in(&session, SocketAddr::new(bed.ours(v6), 0))?;
    let mut child = python("send", listener.local_addr()?)?;
    let (mut stream, _) = listener.accept()?;
    let mut text = [0; 5];
    stream.read_exact(&mut text)?;
    ensure!(&text == b"abcef", "read {:?}", String::from_utf8_lossy(&text));
    stream.write_all(b"!")?;
    ensure!(child.wait()?.success(), "python3 failed");
    let mut said = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut said)?;
    ensure!(said.is_empty(), "{said}");
    Ok(())
}
