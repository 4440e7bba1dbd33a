//! What a proxy call costs, without a network: `cargo run --release -p stackd-client --example proxy_calls`.
//!
//! A daemon of one thread answers `Nop` as fast as it can and never sleeps; both threads want a core of their own. Printed are
//! nanoseconds: the best and the median of many batches, since a shared machine only ever adds.

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use stackd_client::Session;
use stackd_shm::abi::{Arg, Cqe, Opcode, Sqe};
use stackd_shm::attach::{self, Message};
use stackd_shm::fifo::{RawSlice, RecvBuffer, RxReader, SendBuffer, TxWriter};
use stackd_shm::{ClientRing, DaemonRing, DaemonSession, Geometry};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const GEOMETRY: Geometry = Geometry { rings: 4, ring_entries: 128, sockets: 4, chunks: 256 };
const BATCHES: usize = 400;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    println!("{:<44} {:>9} {:>9}", "", "best", "median");
    bare_round_trip()?;
    enqueue()?;
    ring_round_trip()?;
    session_round_trip()?;
    for bytes in [64, 1448, 65536] {
        fifo(bytes)?;
    }
    Ok(())
}

/// Runs `batch` often; `of` is how many operations it does.
fn measure(what: &str, of: u32, mut batch: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut took = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        batch()?;
        took.push(start.elapsed().as_nanos() as f64 / f64::from(of));
    }
    took.sort_by(f64::total_cmp);
    println!("{what:<44} {:>6.1} ns {:>6.1} ns", took[0], took[BATCHES / 2]);
    Ok(took[0])
}

fn client_ring(session: &DaemonSession, ring: &DaemonRing) -> Result<ClientRing, Failure> {
    let doorbell = Arc::new(session.doorbell().try_clone_to_owned()?);
    let made = ClientRing::new(Arc::clone(session.region()), ring.index(), Arc::clone(ring.eventfd()), doorbell);
    made.ok_or_else(|| "no such ring".into())
}

/// The machine's own price: a word goes to the other core, and one comes back.
fn bare_round_trip() -> Result<(), Failure> {
    #[repr(align(128))]
    struct Word(AtomicU32);
    let words = Arc::new([Word(AtomicU32::new(0)), Word(AtomicU32::new(0))]);
    let theirs = Arc::clone(&words);
    let echo = std::thread::spawn(move || {
        let mut last = 0;
        while last != u32::MAX {
            let now = theirs[0].0.load(Ordering::Acquire);
            if now != last {
                last = now;
                theirs[1].0.store(now, Ordering::Release);
            }
            std::hint::spin_loop();
        }
    });
    let mut next = 0;
    measure("one word there and back (no ring)", 1000, || {
        for _ in 0..1000 {
            next += 1;
            words[0].0.store(next, Ordering::Release);
            while words[1].0.load(Ordering::Acquire) != next {
                std::hint::spin_loop();
            }
        }
        Ok(())
    })?;
    words[0].0.store(u32::MAX, Ordering::Release);
    echo.join().map_err(|_| "the echo panicked".into())
}

/// A kick: write the entry, publish it, look whether the daemon sleeps. The daemon's half empties the ring between batches.
fn enqueue() -> Result<(), Failure> {
    let session = DaemonSession::create(GEOMETRY, 256, 4)?;
    let mut daemon = session.open_ring()?.ok_or("no ring")?;
    let mut client = client_ring(&session, &daemon)?;
    let kick = Sqe { opcode: Opcode::Kick as u16, ..Sqe::default() };
    let (none, mut arg) = (Arg::new(), Arg::new());
    let mut took = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..128 {
            black_box(client.push(black_box(kick), &none)?);
            black_box(client.ring());
        }
        took.push(start.elapsed().as_nanos() as f64 / 128.0);
        while daemon.pop(&mut arg)?.is_some() {}
    }
    took.sort_by(f64::total_cmp);
    println!("{:<44} {:>6.1} ns {:>6.1} ns", "enqueue an entry", took[0], took[BATCHES / 2]);
    Ok(())
}

/// Answers everything until told to stop.
fn answer(rings: &mut [DaemonRing], stop: &AtomicBool) -> Result<(), Failure> {
    let mut arg = Arg::new();
    let none = Arg::new();
    while !stop.load(Ordering::Relaxed) {
        for ring in &mut *rings {
            while let Some(call) = ring.pop(&mut arg)? {
                ring.complete(Cqe { user_data: call.sqe.user_data, ..Cqe::default() }, &none)?;
            }
            ring.flush()?;
        }
        std::hint::spin_loop();
    }
    Ok(())
}

fn ring_round_trip() -> Result<(), Failure> {
    let session = DaemonSession::create(GEOMETRY, 256, 4)?;
    let ring = session.open_ring()?.ok_or("no ring")?;
    let mut client = client_ring(&session, &ring)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let daemon = std::thread::spawn(move || answer(&mut [ring], &stopped));
    let (none, mut arg) = (Arg::new(), Arg::new());
    measure("round trip of the rings, spinning", 1000, || {
        for i in 1..=1000 {
            client.push(Sqe { user_data: i, ..Sqe::default() }, &none)?;
            client.ring();
            while client.pop(&mut arg)?.is_none() {
                std::hint::spin_loop();
            }
        }
        Ok(())
    })?;
    stop.store(true, Ordering::Relaxed);
    daemon.join().map_err(|_| "the daemon's thread panicked")?
}

/// The same through `Session`: locks, tickets, counters, the watch on the clock.
fn session_round_trip() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("stackd-proxy-calls-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let path = dir.join("attach.sock");
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&listener, 1)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let daemon = std::thread::spawn(move || serve(&listener, &stopped));
    let session = Session::connect(&path)?;
    session.set_spin(Duration::from_secs(1));
    let done = measure("round trip of a call (Session::ping), spinning", 1000, || {
        for _ in 0..1000 {
            session.ping()?;
        }
        Ok(())
    });
    stop.store(true, Ordering::Relaxed);
    daemon.join().map_err(|_| "the daemon's thread panicked")??;
    std::fs::remove_dir_all(&dir)?;
    done.map(drop)
}

fn serve(listener: &OwnedFd, stop: &AtomicBool) -> Result<(), Failure> {
    let lease = rustix::net::accept(listener)?;
    let Some((Message::Hello { rings: wanted, .. }, _)) = attach::recv(&lease)? else { return Err("no hello".into()) };
    let session = DaemonSession::create(GEOMETRY, 256, 4)?;
    let mut rings = Vec::new();
    for _ in 0..wanted.min(GEOMETRY.rings) {
        rings.extend(session.open_ring()?);
    }
    let mut fds = vec![session.region().memfd(), session.doorbell()];
    fds.extend(rings.iter().map(|ring| ring.eventfd().as_fd()));
    attach::send(
        &lease,
        &Message::Welcome { version: stackd_shm::abi::ABI_VERSION, geometry: GEOMETRY, rings: rings.len() as u32 },
        &fds,
    )?;
    answer(&mut rings, stop)
}

/// One copy into the send FIFO, one from there into a receive FIFO, one out of it: a client-to-client byte's way, in one thread.
fn fifo(bytes: usize) -> Result<(), Failure> {
    let session = DaemonSession::create(GEOMETRY, 256, 4)?;
    let mut a = session.open_socket().ok_or("no socket")?;
    let mut b = session.open_socket().ok_or("no socket")?;
    let mut tx = TxWriter::new(Arc::clone(session.region()), a.sock)?;
    let mut rx = RxReader::new(Arc::clone(session.region()), b.sock)?;
    let (data, mut out) = (vec![7; bytes], vec![0; bytes]);
    let rounds = u32::try_from((4 << 20) / bytes)?.min(4096);
    let best = measure(&format!("{bytes} bytes: in, across, out (3 copies)"), rounds, || {
        for _ in 0..rounds {
            let at = tx.head();
            a.tx.grant(at + bytes as u64);
            tx.write(&data)?;
            let end = a.tx.poll_head()?;
            let mut to = at;
            a.tx.for_each(at..end, &mut |piece: RawSlice<'_>| {
                b.rx.place(to, piece);
                to += piece.len() as u64;
            });
            b.rx.publish(to);
            a.tx.release(end);
            black_box(rx.read(&mut out)?);
            b.rx.poll_tail()?;
        }
        Ok(())
    })?;
    println!("{:<44} {:>6.1} GB/s at best", "", bytes as f64 / best);
    Ok(())
}
