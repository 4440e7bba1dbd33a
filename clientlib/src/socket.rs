//! What TCP and UDP sockets have in common: a number in the session, two FIFO halves, readiness, options.

use crate::lane::{Lane, Ticket, broken};
use crate::session::{Counters, Inner, Session, Spinner, check, lock};
use stackd_shm::Breach;
use stackd_shm::abi::{Arg, FLAG_LAST_SOCKET, Opcode, Sqe, ready};
use stackd_shm::fifo::{RxReader, SockState, TxWriter};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const EPIPE: i32 = 32;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;

/// An open socket. Closed with its last clone.
#[derive(Debug)]
pub(crate) struct Sock {
    pub(crate) session: Session,
    pub(crate) id: u32,
    state: SockState,
    pub(crate) tx: Mutex<TxWriter>,
    pub(crate) rx: Mutex<RxReader>,
    nonblocking: AtomicBool,
    /// Nanoseconds; 0: none.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
    read_shut: AtomicBool,
    write_shut: AtomicBool,
}

impl Drop for Sock {
    fn drop(&mut self) {
        self.inner().counters.sockets.fetch_sub(1, Ordering::Relaxed);
        // Nothing can be done about a daemon that is gone: the socket went with it.
        let _ = self.inner().post(self.sqe(Opcode::Close));
    }
}

impl Sock {
    pub(crate) fn inner(&self) -> &Inner {
        &self.session.inner
    }

    pub(crate) fn open_stream(session: &Session, addr: SocketAddr) -> io::Result<Self> {
        Self::open(session, addr, SOCK_STREAM)
    }

    pub(crate) fn open_datagram(session: &Session, addr: SocketAddr) -> io::Result<Self> {
        Self::open(session, addr, SOCK_DGRAM)
    }

    fn open(session: &Session, addr: SocketAddr, kind: u64) -> io::Result<Self> {
        let family = if addr.is_ipv4() { 2 } else { 10 };
        let sqe = Sqe { opcode: Opcode::Socket as u16, args: [family, kind, 0, 0, 0], ..Sqe::default() };
        let reply = session.inner.call(sqe, Arg::NONE, None)?;
        Self::adopt(session, reply.cqe.result as u32)
    }

    /// A connected stream in one round trip: socket and connect are submitted together. `None`: not now, for want of room.
    pub(crate) fn open_connected(
        session: &Session,
        addr: SocketAddr,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Self>> {
        let inner = &session.inner;
        let family = if addr.is_ipv4() { 2 } else { 10 };
        let socket = Sqe { opcode: Opcode::Socket as u16, args: [family, SOCK_STREAM, 0, 0, 0], ..Sqe::default() };
        let connect = Sqe { opcode: Opcode::Connect as u16, flags: FLAG_LAST_SOCKET, ..Sqe::default() };
        let lane = inner.thread_lane()?;
        let Some([opened, connected]) = lane.submit_linked(inner, socket, connect, &Arg::from_addr(addr))? else {
            return Ok(None);
        };
        let sock = match lane.wait(inner, opened, None).and_then(check) {
            Ok(reply) => Self::adopt(session, reply.cqe.result as u32),
            Err(e) => Err(e),
        };
        // The second answer is taken in any case, so that nobody else's ticket gets it.
        let done = match &sock {
            Ok(_) => lane.wait(inner, connected, deadline).and_then(check).map(drop),
            Err(_) => lane.wait(inner, connected, None).map(drop),
        };
        let sock = sock?;
        done?;
        Ok(Some(sock))
    }

    /// Wraps the number the daemon gave.
    pub(crate) fn adopt(session: &Session, id: u32) -> io::Result<Self> {
        let region = &session.inner.region;
        let sock = Self {
            session: session.clone(),
            id,
            state: SockState::new(Arc::clone(region), id).map_err(broken)?,
            tx: Mutex::new(TxWriter::new(Arc::clone(region), id).map_err(broken)?),
            rx: Mutex::new(RxReader::new(Arc::clone(region), id).map_err(broken)?),
            nonblocking: AtomicBool::new(false),
            read_timeout: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
        };
        Counters::add(&session.inner.counters.sockets);
        Ok(sock)
    }

    pub(crate) fn sqe(&self, opcode: Opcode) -> Sqe {
        Sqe { opcode: opcode as u16, sock: self.id, ..Sqe::default() }
    }

    pub(crate) fn call(&self, opcode: Opcode, args: [u64; 5], arg: &Arg) -> io::Result<crate::lane::Reply> {
        self.inner().call(Sqe { args, ..self.sqe(opcode) }, arg, None)
    }

    pub(crate) fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.call(Opcode::Bind, [0; 5], &Arg::from_addr(addr)).map(drop)
    }

    pub(crate) fn connect(&self, addr: SocketAddr, deadline: Option<Instant>) -> io::Result<()> {
        self.inner().call(self.sqe(Opcode::Connect), &Arg::from_addr(addr), deadline).map(drop)
    }

    pub(crate) fn name(&self, opcode: Opcode) -> io::Result<SocketAddr> {
        self.call(opcode, [0; 5], Arg::NONE)?.arg().addr().map_err(broken)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (number, read, write) = match how {
            Shutdown::Read => (0, true, false),
            Shutdown::Write => (1, false, true),
            Shutdown::Both => (2, true, true),
        };
        self.call(Opcode::Shutdown, [number, 0, 0, 0, 0], Arg::NONE)?;
        self.read_shut.fetch_or(read, Ordering::AcqRel);
        self.write_shut.fetch_or(write, Ordering::AcqRel);
        Ok(())
    }

    pub(crate) fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    pub(crate) fn nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn set_timeout(&self, write: bool, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero; None means no timeout"));
        }
        let ns = timeout.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        self.timeout_cell(write).store(ns, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn timeout(&self, write: bool) -> Option<Duration> {
        Some(self.timeout_cell(write).load(Ordering::Relaxed)).filter(|ns| *ns > 0).map(Duration::from_nanos)
    }

    fn timeout_cell(&self, write: bool) -> &AtomicU64 {
        if write { &self.write_timeout } else { &self.read_timeout }
    }

    /// Tells the daemon that a FIFO index moved.
    pub(crate) fn kick(&self) -> io::Result<()> {
        Counters::add(&self.inner().counters.kicks);
        self.inner().post(self.sqe(Opcode::Kick))
    }

    /// SO_ERROR: the pending error, cleared.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let errno = self.get_int(crate::options::SOL_SOCKET, crate::options::SO_ERROR)?;
        Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
    }

    /// Reads what is there through `take`, which returns how much and whether to kick. WouldBlock: nothing yet. 0: the end.
    pub(crate) fn try_read(
        &self,
        take: impl FnOnce(&mut RxReader) -> Result<(usize, bool), Breach>,
    ) -> io::Result<usize> {
        if self.read_shut.load(Ordering::Acquire) {
            return Ok(0);
        }
        // Before the data: RDHUP means that no more will come than what the next load sees.
        let before = self.state.readiness();
        let (n, kick) = take(&mut lock(&self.rx)).map_err(broken)?;
        if kick {
            self.kick()?;
        }
        if n > 0 {
            return Ok(n);
        }
        // What had arrived is read first; then the error; then the end.
        if before & ready::ERR != 0
            && let Some(error) = self.take_error()?
        {
            return Err(error);
        }
        if before & (ready::RDHUP | ready::HUP) != 0 {
            return Ok(0);
        }
        self.inner().alive()?;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Writes what fits through `put`. WouldBlock: no room yet.
    pub(crate) fn try_write(
        &self,
        put: impl FnOnce(&mut TxWriter) -> Result<(usize, bool), Breach>,
    ) -> io::Result<usize> {
        if self.write_shut.load(Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(EPIPE));
        }
        self.inner().alive()?;
        let state = self.state.readiness();
        if state & ready::ERR != 0
            && let Some(error) = self.take_error()?
        {
            return Err(error);
        }
        if state & ready::HUP != 0 {
            return Err(io::Error::from_raw_os_error(EPIPE));
        }
        let (n, kick) = put(&mut lock(&self.tx)).map_err(broken)?;
        if kick {
            self.kick()?;
        }
        if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    /// Runs `attempt` until it does something else than WouldBlock, waiting for `mask` between.
    pub(crate) fn blocking<T>(&self, mask: u32, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut deadline = None;
        loop {
            match attempt() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.nonblocking() => {
                    if deadline.is_none() {
                        deadline = self.timeout(mask & ready::OUT != 0).and_then(|t| Instant::now().checked_add(t));
                    }
                    match self.wait(mask, deadline) {
                        // What arrived before the daemon died is read before its death is told.
                        Err(_) if self.inner().alive().is_err() => return attempt(),
                        waited => waited?,
                    }
                }
                done => return done,
            }
        }
    }

    /// Waits until one of `mask` may hold: spins on shared memory, then asks the daemon and sleeps.
    /// A timeout is WouldBlock, as the kernel's SO_RCVTIMEO is.
    fn wait(&self, mask: u32, deadline: Option<Instant>) -> io::Result<()> {
        let mut spinner = Spinner::new(self.inner(), deadline);
        while spinner.go_on()? {
            if self.ready_now(mask) {
                return Ok(());
            }
        }
        let lane = self.inner().thread_lane()?;
        let ticket = lane.submit(self.inner(), self.poll_entry(mask), Arg::NONE)?;
        match lane.wait(self.inner(), ticket, deadline).and_then(check) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(io::Error::from_raw_os_error(11)),
            Err(e) => Err(e),
        }
    }

    fn poll_entry(&self, mask: u32) -> Sqe {
        Sqe { args: [u64::from(mask), 0, 0, 0, 0], ..self.sqe(Opcode::PollAdd) }
    }

    /// A look at shared memory. IN and OUT of the state word may lag behind our own cursors, so the FIFOs decide; a listener has no
    /// bytes, and finds out by being told.
    fn ready_now(&self, mask: u32) -> bool {
        self.state.readiness() & (ready::ERR | ready::HUP | ready::RDHUP & mask) != 0
            || mask & ready::IN != 0 && lock(&self.rx).available() > 0
            || mask & ready::OUT != 0 && lock(&self.tx).space() > 0
    }

    /// Starts an asynchronous wait on this runtime's reactor ring.
    pub(crate) fn poll_start(self: &Arc<Self>, lane: &Arc<Lane>, mask: u32) -> io::Result<Pending> {
        let ticket = lane.submit(self.inner(), self.poll_entry(mask), Arg::NONE)?;
        Ok(Pending::new(self.session.clone(), Arc::clone(lane), ticket))
    }
}

/// A call on its way, for asynchronous callers. Dropping it takes the call back.
#[derive(Debug)]
pub(crate) struct Pending {
    session: Session,
    lane: Arc<Lane>,
    ticket: Option<Ticket>,
}

impl Pending {
    pub(crate) fn new(session: Session, lane: Arc<Lane>, ticket: Ticket) -> Self {
        Self { session, lane, ticket: Some(ticket) }
    }
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<crate::lane::Reply>> {
        let Some(ticket) = self.ticket else { return Poll::Ready(Err(io::ErrorKind::Other.into())) };
        let done = self.lane.poll(&self.session.inner, ticket, cx);
        if done.is_ready() {
            self.ticket = None;
        }
        done.map(|reply| reply.and_then(check))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.lane.abandon(&self.session.inner, ticket);
        }
    }
}
