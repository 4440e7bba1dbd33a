//! The attach server: who knocks, may they come in, and which shard serves them.
//!
//! One thread, no blocking: a client that connects and says nothing costs a descriptor for `PATIENCE`, and no one else's time.

use crate::clock::Monotonic;
use crate::config::Config;
use crate::shard::{Mailer, Message};
use crate::store::Quota;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};
use stackd_base::{Clock, Duration, Errno, Instant};
use stackd_proto::v1;
use stackd_shm::abi::CHUNK_BYTES;
use stackd_shm::attach::{self, Message as Attach};
use stackd_shm::{DaemonRing, DaemonSession, Geometry, doorbell_fd, ring_fd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// How long a client may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that have not said hello yet; more wait in the listener's backlog.
const MAX_STRANGERS: usize = 256;
/// How long to let nobody in when descriptors or memory ran out.
const RELIEF: Duration = Duration::from_millis(100);
/// Entries of each ring.
const RING_ENTRIES: u32 = 256;

/// A client that attached, on its way to its shard.
#[derive(Debug)]
pub struct NewSession {
    /// Unique while the daemon lives.
    pub id: u64,
    /// Who it is.
    pub process: v1::Process,
    /// Its shared memory.
    pub memory: DaemonSession,
    /// Its first rings.
    pub rings: Vec<DaemonRing>,
    /// The connection it lives by.
    pub lease: OwnedFd,
    /// What it may take.
    pub quota: Quota,
    /// Counts it among the daemon's sessions while it lives.
    pub place: SessionPlace,
}

/// Numbers sessions and bounds how many there are, over all shards and transports.
#[derive(Debug)]
pub struct Sessions {
    next_id: AtomicU64,
    open: AtomicU32,
    limit: u32,
}

/// One of the daemon's sessions, while it lives.
#[derive(Debug)]
pub struct SessionPlace {
    sessions: Arc<Sessions>,
    /// Unique while the daemon lives.
    pub id: u64,
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        self.sessions.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    /// At most `limit` at a time.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { next_id: AtomicU64::new(1), open: AtomicU32::new(0), limit })
    }

    /// Room for one more, or `None`.
    pub fn enter(self: &Arc<Self>) -> Option<SessionPlace> {
        let limit = self.limit;
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1));
        taken.ok()?;
        Some(SessionPlace { sessions: Arc::clone(self), id: self.next_id.fetch_add(1, Ordering::Relaxed) })
    }
}

/// What every session gets.
#[derive(Clone, Debug)]
struct Terms {
    geometry: Geometry,
    quota: Quota,
    chunks: u32,
}

impl Terms {
    fn new(config: &Config) -> Self {
        let chunks = (config.quota.memory.0.div_ceil(CHUNK_BYTES as u64)).clamp(16, 1 << 20) as u32;
        let sockets = config.quota.sockets.clamp(1, 1 << 20);
        let rings = u32::from(config.quota.rings).clamp(1, 1024);
        Self {
            geometry: Geometry { rings, ring_entries: RING_ENTRIES, sockets, chunks },
            quota: Quota { sockets, memory: config.quota.memory.0 },
            chunks,
        }
    }
}

/// A connection that has not said hello.
#[derive(Debug)]
struct Stranger {
    fd: OwnedFd,
    since: Instant,
}

/// The running server. Stops when dropped.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
}

impl Server {
    /// Starts it.
    pub fn start(listener: OwnedFd, shards: Vec<Mailer>, sessions: Arc<Sessions>, config: &Config) -> Result<Self> {
        let stop = Arc::new(doorbell_fd()?);
        let worker = Worker {
            listener,
            stop: stop.clone(),
            shards,
            sessions,
            terms: Terms::new(config),
            strangers: Vec::new(),
            next_shard: 0,
            deaf_until: Instant::ZERO,
        };
        let thread = std::thread::Builder::new()
            .name("attach".into())
            .spawn(move || worker.run())
            .context("the attach thread cannot start")?;
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        ring_fd(self.stop.as_fd());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that was welcomed: its place, who it is, its memory, its rings.
type Welcomed = (SessionPlace, v1::Process, DaemonSession, Vec<DaemonRing>);

struct Worker {
    listener: OwnedFd,
    stop: Arc<OwnedFd>,
    shards: Vec<Mailer>,
    sessions: Arc<Sessions>,
    terms: Terms,
    strangers: Vec<Stranger>,
    next_shard: usize,
    /// No more clients are let in before: descriptors or memory ran out.
    deaf_until: Instant,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "the attach server cannot go on; clients that are attached are not disturbed");
                    return;
                }
            }
        }
    }

    /// Waits for something and handles it. False: stop.
    fn turn(&mut self) -> Result<bool> {
        let now = Monotonic.now();
        let deaf = self.deaf_until > now;
        let full = deaf || self.strangers.len() >= MAX_STRANGERS;
        let expiries = self.strangers.iter().map(|s| s.since + PATIENCE).chain(deaf.then_some(self.deaf_until));
        let timeout = expiries.map(|at| at.saturating_since(now)).min().map(|d| Timespec {
            tv_sec: (d.as_nanos() / 1_000_000_000) as i64,
            tv_nsec: (d.as_nanos() % 1_000_000_000) as i64,
        });
        let mut fds = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        fds.push(PollFd::new(&self.listener, if full { PollFlags::empty() } else { PollFlags::IN }));
        fds.extend(self.strangers.iter().map(|s| PollFd::new(&s.fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        if !fds[0].revents().is_empty() {
            return Ok(false);
        }
        let knock = fds[1].revents().contains(PollFlags::IN);
        let spoke: Vec<bool> = fds[2..].iter().map(|f| !f.revents().is_empty()).collect();
        drop(fds);
        let now = Monotonic.now();
        let mut spoke = spoke.into_iter();
        for stranger in std::mem::take(&mut self.strangers) {
            if spoke.next() == Some(true) {
                self.greet(stranger.fd);
            } else if stranger.since + PATIENCE > now {
                self.strangers.push(stranger);
            } else {
                refuse(stranger.fd.as_fd(), Errno::ETIMEDOUT, "no hello within 5 s of connecting");
            }
        }
        if knock {
            self.accept(now);
        }
        Ok(true)
    }

    fn accept(&mut self, now: Instant) {
        match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => self.strangers.push(Stranger { fd, since: now }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            // Out of descriptors or memory: those who wait in the backlog are served when somebody leaves.
            Err(error) => {
                tracing::warn!(%error, "a client cannot be let in");
                self.deaf_until = now + RELIEF;
            }
        }
    }

    /// A client said something.
    fn greet(&mut self, fd: OwnedFd) {
        let (name, min, max, rings) = match attach::recv(&fd) {
            Ok(Some((Attach::Hello { min_version, max_version, rings, name }, _))) => {
                (name, min_version, max_version, rings)
            }
            Ok(Some(_)) => return refuse(fd.as_fd(), Errno::EPROTO, "the first message must be a hello"),
            Ok(None) => return,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return self.strangers.push(Stranger { fd, since: Monotonic.now() });
            }
            Err(error) => {
                tracing::warn!(%error, "garbage on the attach socket");
                return refuse(fd.as_fd(), Errno::EPROTO, &error.to_string());
            }
        };
        let Some(version) = attach::negotiate(min, max) else {
            let text = format!(
                "this stackd speaks ABI version {}, the client {min} to {max}; use a client library of the daemon's release",
                stackd_shm::abi::ABI_VERSION
            );
            return refuse(fd.as_fd(), Errno::EPROTONOSUPPORT, &text);
        };
        match self.welcome(&fd, version, rings, &name) {
            Ok(welcome) => self.hand_over(welcome, fd),
            Err((errno, text)) => refuse(fd.as_fd(), errno, &text),
        }
    }

    fn welcome(&self, fd: &OwnedFd, version: u16, wanted: u32, name: &str) -> Result<Welcomed, (Errno, String)> {
        let process =
            identify(fd.as_fd(), name).map_err(|e| (Errno::EACCES, format!("who are you? SO_PEERCRED: {e}")))?;
        let place = self.sessions.enter().ok_or_else(|| {
            (Errno::EMFILE, format!("{} sessions are open; raise quota.sessions", self.sessions.limit))
        })?;
        let oom = |e: std::io::Error| (Errno::ENOMEM, format!("no shared memory for a session: {e}"));
        let Terms { geometry, quota, chunks } = &self.terms;
        let memory = DaemonSession::create(*geometry, *chunks, quota.sockets).map_err(oom)?;
        let mut rings = Vec::new();
        for _ in 0..wanted.min(attach::MAX_INITIAL_RINGS) {
            rings.extend(memory.open_ring().map_err(oom)?);
        }
        let mut fds: Vec<BorrowedFd<'_>> = vec![memory.region().memfd(), memory.doorbell()];
        fds.extend(rings.iter().map(|r| r.eventfd().as_fd()));
        let message = Attach::Welcome { version, geometry: *geometry, rings: rings.len() as u32 };
        attach::send(fd, &message, &fds).map_err(|e| (Errno::EPIPE, format!("the welcome cannot be sent: {e}")))?;
        Ok((place, process, memory, rings))
    }

    fn hand_over(&mut self, (place, process, memory, rings): Welcomed, lease: OwnedFd) {
        let shard = self.next_shard % self.shards.len();
        self.next_shard = shard + 1;
        tracing::debug!(session = place.id, pid = process.pid, uid = process.uid, comm = %process.comm, shard, "attached");
        let session = NewSession { id: place.id, process, memory, rings, lease, quota: self.terms.quota, place };
        // A shard that is gone took the daemon with it: the client hears of it by the hang-up.
        self.shards[shard].send(Message::Attached(Box::new(session)));
    }
}

fn refuse(fd: BorrowedFd<'_>, errno: Errno, text: &str) {
    let message = Attach::Refused { errno: errno as i32, text: text.to_owned() };
    // Who does not listen is not told.
    let _ = attach::send(fd, &message, &[]);
}

/// Who is at the other end, by the kernel's word; `name` is what it calls itself.
fn identify(fd: BorrowedFd<'_>, name: &str) -> rustix::io::Result<v1::Process> {
    let cred = rustix::net::sockopt::socket_peercred(fd)?;
    let pid = cred.pid.as_raw_nonzero().get().cast_unsigned();
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|c| c.trim_end().to_owned());
    Ok(v1::Process {
        pid,
        uid: cred.uid.as_raw(),
        gid: cred.gid.as_raw(),
        comm: comm.unwrap_or_else(|_| name.to_owned()),
    })
}
