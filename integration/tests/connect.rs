//! `connect(2)` while the handshake takes its time: a blocking one waits for it, one with a limit gives up at the limit, one that does not
//! block is told EINPROGRESS, then EALREADY, and waits when it blocks again.
//!
//! A blocking connect of the client library begins with a call that does not wait; when its second call was answered EALREADY, every
//! connect over a path slower than two turns of the daemon failed (over loopback none did, so no test saw it).

use anyhow::{Context, Result, ensure};
use stackd_client::raw::Socket;
use stackd_client::{Session, TcpConnect};
use stackd_integration::bed::Bed;
use stackd_integration::trials::{self, Case, case};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(100);
const SLOW: &str = "[device.emulate]\ndelay = \"100ms\"\n";
/// A peer from which nothing comes.
const SILENT: &str = "[device.emulate]\nloss = \"100%\"\n";

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let mut add = |what: &str, work: fn(bool) -> Result<()>| {
            cases.push(case(format!("{family}::{what}"), move || work(v6)).tap());
        };
        add("a_blocking_connect_waits_for_the_handshake", blocking);
        add("a_connect_with_a_limit_waits_or_gives_up", limited);
        add("a_connect_that_does_not_block_says_so_and_may_block_later", in_two_steps);
        add("a_refusal_arrives_in_a_blocking_connect", refused);
        add("from_many_threads_at_once", crowd);
    }
    trials::main(cases)
}

struct World {
    bed: Bed,
    session: Session,
    listener: TcpListener,
    at: SocketAddr,
}

fn world(v6: bool, device: &str) -> Result<World> {
    let bed = Bed::new("", device)?;
    let listener = TcpListener::bind((bed.kernel(v6), 0)).context("the kernel's listener")?;
    let at = listener.local_addr()?;
    let session = Session::connect(bed.daemon.attach())?;
    Ok(World { bed, session, listener, at })
}

fn stream(w: &World) -> io::Result<Socket> {
    let family = if w.at.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    Socket::new(&w.session, family, libc::SOCK_STREAM, 0)
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

fn blocking(v6: bool) -> Result<()> {
    let w = world(v6, SLOW)?;
    let began = Instant::now();
    let sock = stream(&w)?;
    sock.connect(w.at).context("of a socket")?;
    ensure!(began.elapsed() >= DELAY, "connected before the handshake can have ended");
    TcpConnect::new(&w.session).connect(w.at).context("of a stream")?;
    ensure!(sock.peer_addr()? == w.at);
    w.listener.accept()?;
    w.listener.accept()?;
    Ok(())
}

fn limited(v6: bool) -> Result<()> {
    let w = world(v6, SLOW)?;
    TcpConnect::new(&w.session).timeout(Duration::from_secs(30)).connect(w.at).context("there is time enough")?;
    let began = Instant::now();
    let late = TcpConnect::new(&w.session).timeout(Duration::from_millis(20)).connect(w.at);
    let error = late.err().context("connected before the handshake can have ended")?;
    ensure!(error.kind() == io::ErrorKind::TimedOut, "{error:?}");
    ensure!(began.elapsed() >= Duration::from_millis(20));
    drop(w);

    let w = world(v6, SILENT)?;
    let never = TcpConnect::new(&w.session).timeout(Duration::from_millis(50)).connect(w.at);
    let error = never.err().context("nobody can have answered")?;
    ensure!(error.kind() == io::ErrorKind::TimedOut, "{error:?}");
    Ok(())
}

fn in_two_steps(v6: bool) -> Result<()> {
    let w = world(v6, SLOW)?;
    let sock = stream(&w)?;
    sock.set_nonblocking(true);
    ensure!(errno(sock.connect(w.at)) == Some(libc::EINPROGRESS));
    ensure!(errno(sock.connect(w.at)) == Some(libc::EALREADY));
    sock.set_nonblocking(false);
    sock.connect(w.at).context("waits for what has begun")?;
    ensure!(errno(sock.connect(w.at)) == Some(libc::EISCONN));
    let (mut peer, _) = w.listener.accept()?;
    io::Write::write_all(&mut peer, b"hello")?;
    let mut buf = [0; 8];
    let n = sock.recv(&mut buf, 0)?;
    ensure!(&buf[..n] == b"hello");
    Ok(())
}

fn refused(v6: bool) -> Result<()> {
    let w = world(v6, SLOW)?;
    let nobody = SocketAddr::new(w.bed.kernel(v6), 9);
    let sock = stream(&w)?;
    ensure!(errno(sock.connect(nobody)) == Some(libc::ECONNREFUSED));
    // A socket that was refused may try again.
    sock.connect(w.at).context("the second try")?;
    Ok(())
}

fn crowd(v6: bool) -> Result<()> {
    let w = world(v6, SLOW)?;
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (session, at) = (w.session.clone(), w.at);
            std::thread::spawn(move || {
                for _ in 0..4 {
                    TcpConnect::new(&session).timeout(Duration::from_secs(30)).connect(at)?;
                }
                Ok::<_, io::Error>(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().ok().context("a thread fell")??;
    }
    Ok(())
}
