//! A process's attachment to a daemon.

use crate::lane::{Lane, Reply};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use stackd_shm::abi::{ABI_VERSION, Arg, Sqe};
use stackd_shm::attach::{self, Message};
use stackd_shm::neighbours::{Neighbours, Next};
use stackd_shm::{ClientRing, Region};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a call watches shared memory before its thread sleeps, unless [`Session::set_spin`] says otherwise: what
/// waking a thread on an idle virtual processor costs.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(50);
/// How often a thread that spins for long asks whether the daemon lives.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// A live daemon answers the handshake well within this.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// One process's attachment to one daemon. Clones are the same session; it ends with the last clone and the last socket.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    id: u64,
    path: PathBuf,
    pub(crate) attach: Arc<OwnedFd>,
    /// One `OpenRing` conversation at a time.
    opening: Mutex<()>,
    pub(crate) region: Arc<Region>,
    doorbell: Arc<OwnedFd>,
    pool: Mutex<LanePool>,
    pub(crate) async_lanes: Mutex<HashMap<::tokio::runtime::Id, Arc<Lane>>>,
    spin_ns: AtomicU64,
    dead: AtomicBool,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
struct LanePool {
    all: Vec<Arc<Lane>>,
    /// Those of threads, which sleep in turns when they share one. A runtime's reactor and a thread never share: the one
    /// that wakes first would take the other's wake-up with it.
    threads: Vec<Arc<Lane>>,
    idle: Vec<Arc<Lane>>,
    /// For runtimes: one is set aside at the start, so that threads cannot use up all.
    spare: Vec<Arc<Lane>>,
    /// The daemon gave all the rings it gives: threads share from here on.
    full: bool,
    next: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub calls: AtomicU64,
    pub kicks: AtomicU64,
    pub doorbells: AtomicU64,
    pub sleeps: AtomicU64,
    pub sockets: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a session did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls submitted.
    pub calls: u64,
    /// Times a socket with new data was pushed to the daemon.
    pub kicks: u64,
    /// Times the daemon slept and had to be woken (a system call each).
    pub doorbells: u64,
    /// Times a thread of ours slept for an answer.
    pub sleeps: u64,
    /// Sockets open now.
    pub sockets: u64,
    /// Rings opened: as many threads as called at the same time.
    pub rings: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static DEFAULT: OnceLock<Mutex<Option<Session>>> = OnceLock::new();

thread_local! {
    static LANES: RefCell<ThreadLanes> = RefCell::default();
    /// Who else wants the processor that this thread watches on.
    static NEIGHBOURS: Cell<Option<Neighbours>> = const { Cell::new(None) };
}

/// The rings a thread holds; they go back to their sessions with it.
#[derive(Default)]
struct ThreadLanes(Vec<Held>);

/// Weak: a thread that never looks again must not keep a session's memory mapped after its end.
struct Held {
    id: u64,
    session: Weak<Inner>,
    lane: Weak<Lane>,
}

impl Drop for ThreadLanes {
    fn drop(&mut self) {
        for Held { id: _, session, lane } in self.0.drain(..) {
            if let (Some(session), Some(lane)) = (session.upgrade(), lane.upgrade()) {
                lock(&session.pool).idle.push(lane);
            }
        }
    }
}

/// Watching shared memory for a while, but neither past a deadline nor past the daemon's death.
pub(crate) struct Spinner<'a> {
    session: &'a Inner,
    until: Instant,
    /// When to ask the kernel next whether the daemon lives. A short spin never does.
    next_look: Instant,
    neighbours: Neighbours,
}

impl<'a> Spinner<'a> {
    pub(crate) fn new(session: &'a Inner, deadline: Option<Instant>) -> Self {
        Self::lasting(session, session.spin(), deadline)
    }

    /// The same for a time of its own.
    pub(crate) fn lasting(session: &'a Inner, spin: Duration, deadline: Option<Instant>) -> Self {
        let now = Instant::now();
        let until = now.checked_add(spin).unwrap_or(now);
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        let mut neighbours = NEIGHBOURS.get().unwrap_or_else(|| Neighbours::new(now));
        neighbours.start();
        Self { session, until, next_look: now + LOOK_EVERY, neighbours }
    }

    /// Whether to look once more.
    pub(crate) fn go_on(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        if now >= self.until {
            return Ok(false);
        }
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.session.check_hangup()?;
        }
        self.session.alive()?;
        Ok(self.neighbours.next(now) == Next::Look)
    }
}

impl Drop for Spinner<'_> {
    fn drop(&mut self) {
        NEIGHBOURS.set(Some(self.neighbours));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The process's default session: attached on first use to `$STACKD_ATTACH`, else `$XDG_RUNTIME_DIR/stackd/attach.sock` if it exists,
    /// else `/run/stackd/attach.sock`. A session whose daemon died is replaced.
    pub fn open_default() -> io::Result<Self> {
        let mut default = lock(DEFAULT.get_or_init(Mutex::default));
        if let Some(session) = default.as_ref().filter(|s| !s.is_dead()) {
            return Ok(session.clone());
        }
        let session = Self::connect(default_path())?;
        *default = Some(session.clone());
        Ok(session)
    }

    /// Attaches to the daemon behind this attach socket.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Self::handshake(path).map_err(|e| explain(path, &e))
    }

    fn handshake(path: &Path) -> io::Result<Self> {
        let attach = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let address = SocketAddrUnix::new(path)?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&attach, &address))?;
        let name = std::env::current_exe().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        let hello = Message::Hello {
            min_version: ABI_VERSION,
            max_version: ABI_VERSION,
            rings: 2,
            name: name.unwrap_or_default(),
        };
        attach::send(&attach, &hello, &[])?;
        let (message, fds) = answer(&attach)?;
        let Message::Welcome { version, geometry, rings } = message else { return Err(unexpected(&message)) };
        if version != ABI_VERSION || fds.len() != 2 + rings as usize {
            return Err(unexpected(&message));
        }
        let mut fds = fds.into_iter();
        let (Some(memfd), Some(doorbell)) = (fds.next(), fds.next()) else { return Err(unexpected(&message)) };
        let region = Region::open(memfd, geometry)?;
        let inner = Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path: path.to_path_buf(),
            attach: Arc::new(attach),
            opening: Mutex::default(),
            region,
            doorbell: Arc::new(doorbell),
            pool: Mutex::default(),
            async_lanes: Mutex::default(),
            spin_ns: AtomicU64::new(DEFAULT_SPIN.as_nanos() as u64),
            dead: AtomicBool::new(false),
            counters: Counters::default(),
        });
        for (index, eventfd) in (0..rings).zip(fds) {
            let lane = inner.make_lane(index, eventfd)?;
            let mut pool = lock(&inner.pool);
            if index == 1 {
                pool.spare.push(lane);
            } else {
                pool.threads.push(Arc::clone(&lane));
                pool.idle.push(lane);
            }
        }
        Ok(Self { inner })
    }

    /// How long a blocked call watches shared memory before its thread sleeps. Zero: never. Spinning buys microseconds with CPU.
    pub fn set_spin(&self, spin: Duration) {
        self.inner.spin_ns.store(u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As [`Session::set_spin`] set it.
    pub fn spin(&self) -> Duration {
        Duration::from_nanos(self.inner.spin_ns.load(Ordering::Relaxed))
    }

    /// The attach socket's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether the daemon is known to have gone.
    pub fn is_dead(&self) -> bool {
        self.inner.dead.load(Ordering::Acquire)
    }

    /// Counts of what the session did.
    pub fn stats(&self) -> Stats {
        let Counters { calls, kicks, doorbells, sleeps, sockets } = &self.inner.counters;
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let rings = lock(&self.inner.pool).all.len() as u64;
        Stats {
            calls: get(calls),
            kicks: get(kicks),
            doorbells: get(doorbells),
            sleeps: get(sleeps),
            sockets: get(sockets),
            rings,
        }
    }

    /// One round trip to the daemon that does nothing.
    pub fn ping(&self) -> io::Result<()> {
        let sqe = Sqe { opcode: stackd_shm::abi::Opcode::Nop as u16, ..Sqe::default() };
        self.inner.call(sqe, Arg::NONE, None).map(drop)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A reactor task may still hold the descriptor: say goodbye aloud, which ends the lease and the task.
        let _ = rustix::net::shutdown(&self.attach, rustix::net::Shutdown::Both);
    }
}

impl Inner {
    /// Submits a call on this thread's ring and waits for the answer. A negative result becomes an error.
    pub(crate) fn call(&self, sqe: Sqe, arg: &Arg, deadline: Option<Instant>) -> io::Result<Reply> {
        let lane = self.thread_lane()?;
        let ticket = lane.submit(self, sqe, arg)?;
        check(lane.wait(self, ticket, deadline)?)
    }

    /// Submits an entry whose answer nobody needs.
    pub(crate) fn post(&self, sqe: Sqe) -> io::Result<()> {
        self.thread_lane()?.post(self, sqe)
    }

    pub(crate) fn spin(&self) -> Duration {
        Duration::from_nanos(self.spin_ns.load(Ordering::Relaxed))
    }

    /// ECONNRESET if the daemon is gone.
    pub(crate) fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Acquire) { Err(io::Error::from_raw_os_error(104)) } else { Ok(()) }
    }

    /// Looks whether the daemon hung up, without waiting; wakes everybody when it has.
    pub(crate) fn check_hangup(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.attach, PollFlags::empty())];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&zero))? > 0 {
            self.hung_up();
        }
        self.alive()
    }

    pub(crate) fn hung_up(&self) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            let lanes = lock(&self.pool).all.clone();
            lanes.iter().for_each(|lane| lane.wake_all());
        }
    }

    /// This thread's ring: its own, or a shared one when the daemon gives no more.
    pub(crate) fn thread_lane(&self) -> io::Result<Arc<Lane>> {
        let found = LANES.try_with(|lanes| lanes.borrow().0.iter().find(|held| held.id == self.id)?.lane.upgrade());
        match found {
            Ok(Some(lane)) => Ok(lane),
            Ok(None) => self.claim_lane(),
            // The thread is ending, and closes its last sockets: any ring will do.
            Err(_) => lock(&self.pool).all.first().cloned().ok_or_else(|| io::ErrorKind::NotConnected.into()),
        }
    }

    fn claim_lane(&self) -> io::Result<Arc<Lane>> {
        let (lane, shared) = self.take_lane()?;
        if shared {
            return Ok(lane);
        }
        let held = Held { id: self.id, session: lane.session().clone(), lane: Arc::downgrade(&lane) };
        let _ = LANES.try_with(|lanes| {
            let mut lanes = lanes.borrow_mut();
            lanes.0.retain(|held| held.session.strong_count() > 0);
            lanes.0.push(held);
        });
        Ok(lane)
    }

    /// A ring for a thread: an idle one, a new one, or (true) one to share.
    fn take_lane(&self) -> io::Result<(Arc<Lane>, bool)> {
        if let Some(lane) = lock(&self.pool).idle.pop() {
            return Ok((lane, false));
        }
        if let Some(lane) = self.another_ring()? {
            lock(&self.pool).threads.push(Arc::clone(&lane));
            return Ok((lane, false));
        }
        let mut pool = lock(&self.pool);
        pool.next = pool.next.wrapping_add(1);
        let at = pool.next % pool.threads.len().max(1);
        let lane = pool.threads.get(at).cloned().ok_or(io::ErrorKind::NotConnected)?;
        Ok((lane, true))
    }

    /// A ring for a runtime's reactor. `None`: it has to share with another runtime.
    pub(crate) fn take_reactor_lane(&self) -> io::Result<Option<Arc<Lane>>> {
        if let Some(lane) = lock(&self.pool).spare.pop() {
            return Ok(Some(lane));
        }
        self.another_ring()
    }

    /// A runtime ended.
    pub(crate) fn return_reactor_lane(&self, lane: Arc<Lane>) {
        lock(&self.pool).spare.push(lane);
    }

    /// A new ring, or `None` when the daemon gives no more.
    fn another_ring(&self) -> io::Result<Option<Arc<Lane>>> {
        let pool = lock(&self.pool);
        if pool.full {
            return Ok(None);
        }
        let weak = pool.all.first().map(|lane| lane.session().clone()).unwrap_or_default();
        drop(pool);
        let opened = self.open_ring(weak)?;
        if opened.is_none() {
            lock(&self.pool).full = true;
        }
        Ok(opened)
    }

    fn open_ring(&self, weak: Weak<Inner>) -> io::Result<Option<Arc<Lane>>> {
        self.alive()?;
        let _one = lock(&self.opening);
        attach::send(&self.attach, &Message::OpenRing, &[]).map_err(|e| self.lost(e))?;
        match answer(&self.attach) {
            Ok((Message::RingOpened { index }, mut fds)) => {
                let eventfd = fds.pop().ok_or_else(|| unexpected(&Message::RingOpened { index }))?;
                self.lane_with(weak, index, eventfd).map(Some)
            }
            Ok((other, _)) => Err(unexpected(&other)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.lost(e)),
            // The daemon's limit on rings: not an error, threads share.
            Err(_) => Ok(None),
        }
    }

    fn lost(&self, _cause: io::Error) -> io::Error {
        self.hung_up();
        io::Error::from_raw_os_error(104)
    }

    fn make_lane(self: &Arc<Self>, index: u32, eventfd: OwnedFd) -> io::Result<Arc<Lane>> {
        self.lane_with(Arc::downgrade(self), index, eventfd)
    }

    fn lane_with(&self, weak: Weak<Inner>, index: u32, eventfd: OwnedFd) -> io::Result<Arc<Lane>> {
        let ring = ClientRing::new(Arc::clone(&self.region), index, Arc::new(eventfd), Arc::clone(&self.doorbell))
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("stackd opened ring {index}, which is not in the region"),
                )
            })?;
        let lane = Arc::new(Lane::new(ring, weak));
        lock(&self.pool).all.push(Arc::clone(&lane));
        Ok(lane)
    }
}

/// A negative result is minus an errno.
pub(crate) fn check(reply: Reply) -> io::Result<Reply> {
    if reply.cqe.result < 0 { Err(io::Error::from_raw_os_error(reply.cqe.result.wrapping_neg())) } else { Ok(reply) }
}

fn answer(attach: &OwnedFd) -> io::Result<(Message, Vec<OwnedFd>)> {
    let timeout = rustix::event::Timespec { tv_sec: HANDSHAKE.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(attach, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the daemon does not answer the attach handshake"));
            }
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match attach::recv(attach.as_fd())? {
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon hung up")),
        Some((Message::Refused { errno, text }, _)) => {
            Err(io::Error::new(io::Error::from_raw_os_error(errno).kind(), format!("refused: {text}")))
        }
        Some(other) => Ok(other),
    }
}

fn unexpected(message: &Message) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the daemon answered {message:?}, which does not fit"))
}

fn explain(path: &Path, e: &io::Error) -> io::Error {
    let hint = match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; no daemon listens there: start one with `stackd`, or name its attach socket with STACKD_ATTACH"
        }
        io::ErrorKind::PermissionDenied => "; the socket belongs to another user: run as the daemon's user or group",
        _ => "",
    };
    io::Error::new(e.kind(), format!("cannot attach to stackd at {}: {e}{hint}", path.display()))
}

fn default_path() -> PathBuf {
    if let Some(path) = std::env::var_os("STACKD_ATTACH").filter(|p| !p.is_empty()) {
        return path.into();
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("stackd/attach.sock"));
    match own.filter(|path| path.exists()) {
        Some(path) => path,
        None => PathBuf::from("/run/stackd/attach.sock"),
    }
}
