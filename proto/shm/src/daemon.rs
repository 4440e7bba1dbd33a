//! The daemon's view of one session: everything a shard needs to serve a client's shared memory.
//!
//! ```text
//! let session = DaemonSession::create(Geometry::default(), quota_chunks)?;      // attach server
//! let ring = session.open_ring()?;                                             // one per client thread; moves to the shard
//! loop { ring.pop(&mut arg)? -> Sqe ... ring.complete(cqe, &arg)?; ring.flush()? }
//! let (tx, rx, status) = session.open_socket()?;                               // FIFO halves, dropped at close
//! before blocking: session.prepare_sleep(); every ring: is_empty()? ; block on session.doorbell(); session.awake();
//! ```

use crate::abi::{Arg, Cqe, FLAG_LAST_SOCKET, NO_SOCKET, Opcode, Sqe};
use crate::breach::Breach;
use crate::chunk::ChunkPool;
use crate::doorbell::Asleep;
use crate::fifo::{RxWriter, TxReader};
use crate::region::{Geometry, MappedRing, Region, RingPair};
use crate::ring::{Consumer, Producer};
use core::sync::atomic::{AtomicI64, Ordering};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::ReadWriteFlags;
use rustix::pipe::PipeFlags;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared memory of one client process. Cheap to clone; all clones are the same session.
#[derive(Clone, Debug)]
pub struct DaemonSession {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Arc<ChunkPool>,
    doorbell: OwnedFd,
    slots: Mutex<Slots>,
    /// Answers the client has not been given yet, over all rings.
    owed: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Slots {
    free: Vec<u32>,
    fresh: u32,
    open: u32,
    limit: u32,
    rings_opened: u32,
    /// One bit a number: set while a socket has it.
    used: Vec<u64>,
}

impl Slots {
    /// Marks `sock`; returns whether it was in use before.
    fn mark(&mut self, sock: u32, on: bool) -> bool {
        let (word, bit) = (sock as usize / 64, 1 << (sock % 64));
        if self.used.len() <= word {
            self.used.resize(word + 1, 0);
        }
        let was = self.used[word] & bit != 0;
        self.used[word] = if on { self.used[word] | bit } else { self.used[word] & !bit };
        was
    }
}

/// Makes an eventfd as doorbells are: non-blocking, close-on-exec.
pub fn doorbell_fd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Rings an eventfd. A full counter means that it rings already.
pub fn ring_fd(fd: BorrowedFd<'_>) {
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Empties an eventfd that only this process holds, or a pipe's end that only this process reads.
pub fn drain_fd(fd: BorrowedFd<'_>) {
    let _ = rustix::io::read(fd, &mut [0u8; 64]);
}

/// Empties an eventfd that a hostile process holds too. O_NONBLOCK belongs to the open file description, so the other side can take
/// it away (`fcntl(F_SETFL)`), and empty the counter first: a plain read would then sleep for ever. RWF_NOWAIT is ours alone.
fn drain_shared_fd(fd: BorrowedFd<'_>) {
    let mut count = [0; 8];
    let _ = rustix::io::preadv2(fd, &mut [IoSliceMut::new(&mut count)], u64::MAX, ReadWriteFlags::NOWAIT);
}

impl DaemonSession {
    /// Makes the region. `quota_chunks` and `max_sockets` bound what the client may hold of it.
    pub fn create(geometry: Geometry, quota_chunks: u32, max_sockets: u32) -> io::Result<Self> {
        let region = Region::create(geometry)?;
        let limit = max_sockets.min(geometry.sockets);
        let slots = Mutex::new(Slots { free: Vec::new(), fresh: 0, open: 0, limit, rings_opened: 0, used: Vec::new() });
        let pool = ChunkPool::new(region, quota_chunks);
        Ok(Self { inner: Arc::new(Inner { pool, doorbell: doorbell_fd()?, slots, owed: Arc::default() }) })
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        self.inner.pool.region()
    }

    /// Memory account: in use, quota, trimming.
    pub fn pool(&self) -> &Arc<ChunkPool> {
        &self.inner.pool
    }

    /// The eventfd clients ring. Level-triggered: [`DaemonSession::awake`] empties it.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.inner.doorbell.as_fd()
    }

    /// Before the last look at the rings, before blocking.
    pub fn prepare_sleep(&self) {
        Asleep(self.region().daemon_asleep()).prepare();
    }

    /// After waking, or when the last look found something. `rang`: the doorbell is readable and is emptied.
    pub fn awake(&self, rang: bool) {
        Asleep(self.region().daemon_asleep()).awake();
        if rang {
            drain_shared_fd(self.doorbell());
        }
    }

    /// The next ring pair; `None` when all were handed out.
    pub fn open_ring(&self) -> io::Result<Option<DaemonRing>> {
        let mut slots = self.lock();
        let Some(pair) = self.region().ring_pair(slots.rings_opened) else { return Ok(None) };
        // A pipe: its two ends are two open file descriptions. Whoever holds the other end of an eventfd can clear O_NONBLOCK on ours
        // and fill the counter, and then our next write never returns.
        let (eventfd, bell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        slots.rings_opened += 1;
        // What an honest client can have waiting: a few waits on each socket, and what its threads are asking right now.
        let owed_max = 4 * i64::from(slots.limit) + 4 * i64::from(self.region().geometry().ring_entries);
        drop(slots);
        pair.reset();
        Ok(Some(DaemonRing {
            sq: Consumer::new(pair.submission()),
            cq: Producer::new(pair.completion()),
            sockets: self.region().geometry().sockets,
            pair,
            eventfd: Arc::new(eventfd),
            bell,
            overflow: VecDeque::new(),
            owed: Arc::clone(&self.inner.owed),
            owed_here: 0,
            owed_max,
            dirty: false,
            made: NO_SOCKET,
        }))
    }

    /// Numbers a new socket and makes its FIFO halves. `None`: the client has as many as it may.
    pub fn open_socket(&self) -> Option<DaemonSocket> {
        let sock = {
            let mut slots = self.lock();
            if slots.open >= slots.limit {
                return None;
            }
            let sock = match slots.free.pop() {
                Some(sock) => sock,
                None => {
                    let fresh = slots.fresh;
                    if fresh >= self.region().geometry().sockets {
                        return None;
                    }
                    slots.fresh += 1;
                    fresh
                }
            };
            slots.open += 1;
            slots.mark(sock, true);
            sock
        };
        let control = self.region().control(sock)?;
        control.readiness.store(0, Ordering::Relaxed);
        control.error.store(0, Ordering::Relaxed);
        control.kicked.store(0, Ordering::Relaxed);
        let generation = control.generation.load(Ordering::Relaxed).wrapping_add(1);
        control.generation.store(generation, Ordering::Release);
        let tx = TxReader::new(Arc::clone(&self.inner.pool), sock)?;
        let rx = RxWriter::new(Arc::clone(&self.inner.pool), sock)?;
        let status = SockStatus { region: Arc::clone(self.region()), sock, readiness: 0 };
        Some(DaemonSocket { sock, generation, tx, rx, status })
    }

    /// Fresh FIFO halves for a socket whose old ones were dropped: offsets start over, and the client knows. `None`: nobody has the number.
    pub fn renew_socket(&self, sock: u32) -> Option<(TxReader, RxWriter)> {
        let used = {
            let slots = self.lock();
            slots.used.get(sock as usize / 64).is_some_and(|word| word & (1 << (sock % 64)) != 0)
        };
        if !used {
            return None;
        }
        self.region().control(sock)?.kicked.store(0, Ordering::Relaxed);
        let tx = TxReader::new(Arc::clone(&self.inner.pool), sock)?;
        let rx = RxWriter::new(Arc::clone(&self.inner.pool), sock)?;
        Some((tx, rx))
    }

    /// Gives a socket's number back. Its halves must have been dropped. A number that is not in use is left alone.
    pub fn close_socket(&self, sock: u32) {
        let mut slots = self.lock();
        if sock < slots.fresh && slots.mark(sock, false) {
            slots.open = slots.open.saturating_sub(1);
            slots.free.push(sock);
        }
    }

    /// Gives all pages of the region back to the system: for a session whose client hung up. Without it, a process that kept the memfd
    /// would keep every page it ever used, too, on the daemon's account. Never call it while the client may still read what
    /// was received: it would read zeroes.
    pub fn scrub(&self) -> io::Result<()> {
        self.region().punch_all()
    }

    /// Sockets open.
    pub fn sockets(&self) -> u32 {
        self.lock().open
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`DaemonSession::open_socket`] makes.
#[derive(Debug)]
pub struct DaemonSocket {
    /// Its number in the session.
    pub sock: u32,
    /// Goes into the completion's `args[0]`.
    pub generation: u32,
    /// Client-to-network bytes.
    pub tx: TxReader,
    /// Network-to-client bytes.
    pub rx: RxWriter,
    /// Readiness and error.
    pub status: SockStatus,
}

/// The words by which the daemon tells a client about its socket.
#[derive(Debug)]
pub struct SockStatus {
    region: Arc<Region>,
    sock: u32,
    readiness: u32,
}

impl SockStatus {
    /// Publishes readiness bits; publish data (`rx_head`) before RDHUP. Costs a store only when they change.
    pub fn set_readiness(&mut self, bits: u32) {
        if bits != self.readiness
            && let Some(control) = self.region.control(self.sock)
        {
            self.readiness = bits;
            control.readiness.store(bits, Ordering::Release);
        }
    }
    /// What was published last.
    pub fn readiness(&self) -> u32 {
        self.readiness
    }
    /// Publishes the pending error (a Linux errno; 0: none).
    pub fn set_error(&self, errno: i32) {
        if let Some(control) = self.region.control(self.sock) {
            control.error.store(errno, Ordering::Release);
        }
    }
}

/// A validated submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked for.
    pub opcode: Opcode,
    /// The entry, copied once. `sock` is below the region's count (for `Socket`, `Nop`, `PollRemove`, `Cancel` it means nothing), or
    /// [`NO_SOCKET`] for an entry about a socket that was not made.
    pub sqe: Sqe,
}

/// The daemon's end of one client thread's rings.
#[derive(Debug)]
pub struct DaemonRing {
    sq: Consumer<MappedRing>,
    cq: Producer<MappedRing>,
    sockets: u32,
    pair: RingPair,
    /// The client's end of `bell`.
    eventfd: Arc<OwnedFd>,
    bell: OwnedFd,
    overflow: VecDeque<(Cqe, Option<Box<Arg>>)>,
    /// The session's count, and what happened on this ring since it was brought up to date.
    owed: Arc<AtomicI64>,
    owed_here: i64,
    owed_max: i64,
    dirty: bool,
    /// What entries with [`FLAG_LAST_SOCKET`] are for.
    made: u32,
}

impl DaemonRing {
    /// Its number.
    pub fn index(&self) -> u32 {
        self.pair.index()
    }

    /// What its client thread sleeps on: the read end of a pipe that goes to the client. Readable after [`DaemonRing::flush`] rang.
    pub fn eventfd(&self) -> &Arc<OwnedFd> {
        &self.eventfd
    }

    /// Whether no submission waits. One Acquire load at most.
    pub fn is_empty(&mut self) -> Result<bool, Breach> {
        self.sq.is_empty()
    }

    /// Takes one call, validated; its argument is copied into `arg`.
    pub fn pop(&mut self, arg: &mut Arg) -> Result<Option<Call>, Breach> {
        let Some(mut sqe) = self.sq.pop::<Sqe>(arg)? else { return Ok(None) };
        let opcode = Opcode::from_raw(sqe.opcode).ok_or(Breach::Opcode(sqe.opcode))?;
        if sqe.sock >= self.sockets {
            return Err(Breach::SockRange { sock: sqe.sock, limit: self.sockets });
        }
        if sqe.flags & FLAG_LAST_SOCKET != 0 {
            sqe.sock = self.made;
        }
        if opcode != Opcode::Kick && sqe.user_data != 0 {
            self.owed_here += 1;
        }
        Ok(Some(Call { opcode, sqe }))
    }

    /// A `Socket` entry was executed: what it made, if anything.
    pub fn made(&mut self, sock: Option<u32>) {
        self.made = sock.unwrap_or(NO_SOCKET);
    }

    /// Answers. Never waits: what the ring cannot hold is kept here. Ten thousand sockets may become ready in one turn, and a client
    /// that waited for all of them on one ring is owed them all; more than it can honestly have asked for is a breach.
    pub fn complete(&mut self, cqe: Cqe, arg: &Arg) -> Result<(), Breach> {
        self.dirty = true;
        if self.overflow.is_empty() && self.cq.push(cqe, arg)? {
            self.delivered(cqe);
            return Ok(());
        }
        if self.overflow.len() as i64 >= self.owed_max {
            return Err(Breach::Completions(self.overflow.len()));
        }
        let arg = (!arg.as_bytes().is_empty()).then(|| Box::new(*arg));
        self.overflow.push_back((cqe, arg));
        Ok(())
    }

    fn delivered(&mut self, cqe: Cqe) {
        if cqe.user_data != 0 {
            self.owed_here -= 1;
        }
    }

    /// Whether completions wait for room: call [`DaemonRing::flush`] again soon.
    pub fn backlogged(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Ends a batch of answers: moves what waited, and wakes the client thread if it sleeps. Cheap when nothing happened.
    pub fn flush(&mut self) -> Result<(), Breach> {
        while let Some((cqe, arg)) = self.overflow.front() {
            let cqe = *cqe;
            let pushed = match arg {
                Some(arg) => self.cq.push(cqe, arg)?,
                None => self.cq.push(cqe, Arg::NONE)?,
            };
            if !pushed {
                break;
            }
            self.overflow.pop_front();
            self.delivered(cqe);
            self.dirty = true;
        }
        if self.owed_here != 0 {
            let here = core::mem::take(&mut self.owed_here);
            // Relaxed: a count. Calls that wait for ever cost the daemon memory, so they are bounded.
            let owed = self.owed.fetch_add(here, Ordering::Relaxed) + here;
            if owed > self.owed_max {
                return Err(Breach::Completions(owed as usize));
            }
        }
        if core::mem::take(&mut self.dirty) && Asleep(self.pair.client_asleep()).must_ring() {
            let _ = rustix::io::write(&self.bell, &[1]);
        }
        Ok(())
    }
}
