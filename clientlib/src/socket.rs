//! What TCP and UDP sockets have in common: a number in the session, two FIFO halves, readiness, options.

use crate::lane::{Lane, Ticket, broken};
use crate::session::{Counters, DEFAULT_SPIN, Inner, Session, Spinner, check, lock};
use stackd_shm::Breach;
use stackd_shm::abi::{Arg, FLAG_LAST_SOCKET, FLAG_MORE, FLAG_NONBLOCK, Opcode, Sqe, ready};
use stackd_shm::fifo::{RxReader, SockState, TxWriter};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const EPIPE: i32 = 32;
const EALREADY: i32 = 114;
const EINPROGRESS: i32 = 115;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;

fn family(addr: SocketAddr) -> i32 {
    if addr.is_ipv4() { 2 } else { 10 }
}

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
    write_shut: AtomicBool,
    datagram: bool,
    listening: AtomicBool,
    /// The last kick said MSG_MORE.
    more: AtomicBool,
    /// SO_RCVLOWAT.
    lowat: AtomicU32,
    /// SO_PEEK_OFF; -1: off.
    peek_off: AtomicI32,
    /// TCP_INQ.
    inq: AtomicBool,
    /// SO_LINGER: seconds that close waits; 0: it does not.
    linger: AtomicU32,
    /// SO_OOBINLINE.
    oob_inline: AtomicBool,
    /// UDP_CORK.
    corked: AtomicBool,
    /// TCP_REPAIR: see [`crate::raw::Repair`].
    repair: AtomicU8,
    /// Tasks wait for it, not threads.
    asynchronous: AtomicBool,
    /// SO_BUSY_POLL in microseconds; 0: as the session spins.
    busy_poll: AtomicU32,
    pub(crate) gathered: Mutex<Option<crate::raw::Corked>>,
    pub(crate) zerocopy: Mutex<crate::raw::ZeroCopy>,
}

impl Drop for Sock {
    fn drop(&mut self) {
        self.inner().counters.sockets.fetch_sub(1, Ordering::Relaxed);
        if let Some(time) = self.linger_time() {
            let close = Sqe { args: [1, 0, 0, 0, 0], ..self.sqe(Opcode::Close) };
            match self.inner().call(close, Arg::NONE, Instant::now().checked_add(time)) {
                // Its time is over: the rest goes on in the background.
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {}
                _ => return,
            }
        }
        // Nothing can be done about a daemon that is gone: the socket went with it.
        let _ = self.inner().post(self.sqe(Opcode::Close));
    }
}

impl Sock {
    pub(crate) fn inner(&self) -> &Inner {
        &self.session.inner
    }

    pub(crate) fn open_stream(session: &Session, addr: SocketAddr) -> io::Result<Self> {
        Self::open_raw(session, family(addr), SOCK_STREAM, 0)
    }

    pub(crate) fn open_datagram(session: &Session, addr: SocketAddr) -> io::Result<Self> {
        Self::open_raw(session, family(addr), SOCK_DGRAM, 0)
    }

    pub(crate) fn open_raw(session: &Session, family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        let args = [family as u64, kind as u64, protocol as u64, 0, 0];
        let sqe = Sqe { opcode: Opcode::Socket as u16, args, ..Sqe::default() };
        let reply = session.inner.call(sqe, Arg::NONE, None)?;
        Self::wrap(session, reply.cqe.result as u32, kind == SOCK_DGRAM)
    }

    /// A connected stream in one round trip: socket and connect are submitted together. `None`: not now, for want of room.
    pub(crate) fn open_connected(
        session: &Session,
        addr: SocketAddr,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Self>> {
        let inner = &session.inner;
        let args = [family(addr) as u64, SOCK_STREAM as u64, 0, 0, 0];
        let socket = Sqe { opcode: Opcode::Socket as u16, args, ..Sqe::default() };
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

    /// Wraps the number that the daemon gave a connection.
    fn adopt(session: &Session, id: u32) -> io::Result<Self> {
        Self::wrap(session, id, false)
    }

    /// Wraps the number of a connection that this listener accepted: it has the listener's options, those included that act on this side.
    pub(crate) fn adopt_child(&self, id: u32) -> io::Result<Self> {
        let child = Self::adopt(&self.session, id)?;
        let copy = |from: &AtomicU32, to: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.lowat, &child.lowat);
        copy(&self.busy_poll, &child.busy_poll);
        copy(&self.linger, &child.linger);
        for write in [false, true] {
            child.timeout_cell(write).store(self.timeout_cell(write).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        child.peek_off.store(self.peek_off.load(Ordering::Relaxed), Ordering::Relaxed);
        child.inq.store(self.inq.load(Ordering::Relaxed), Ordering::Relaxed);
        child.set_oob_inline(self.oob_inline.load(Ordering::Relaxed));
        lock(&child.zerocopy).on = lock(&self.zerocopy).on;
        Ok(child)
    }

    fn wrap(session: &Session, id: u32, datagram: bool) -> io::Result<Self> {
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
            write_shut: AtomicBool::new(false),
            datagram,
            listening: AtomicBool::new(false),
            more: AtomicBool::new(false),
            lowat: AtomicU32::new(1),
            peek_off: AtomicI32::new(-1),
            inq: AtomicBool::new(false),
            linger: AtomicU32::new(0),
            oob_inline: AtomicBool::new(false),
            corked: AtomicBool::new(false),
            repair: AtomicU8::new(0),
            asynchronous: AtomicBool::new(false),
            busy_poll: AtomicU32::new(0),
            gathered: Mutex::default(),
            zerocopy: Mutex::default(),
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
        self.connect_with(Some(addr), 0, deadline)
    }

    /// `None`: AF_UNSPEC.
    pub(crate) fn connect_with(&self, to: Option<SocketAddr>, flags: u16, deadline: Option<Instant>) -> io::Result<()> {
        let arg = to.map_or(*Arg::NONE, Arg::from_addr);
        let sqe = Sqe { flags, ..self.sqe(Opcode::Connect) };
        if self.datagram {
            return self.inner().call(sqe, &arg, deadline).map(drop);
        }
        // Nobody reads or writes while the streams change.
        let (mut tx, mut rx) = (lock(&self.tx), lock(&self.rx));
        let result = self.inner().call(Sqe { flags: flags | FLAG_NONBLOCK, ..sqe }, &arg, None).map(drop);
        let code = result.as_ref().err().and_then(io::Error::raw_os_error);
        let begun = code == Some(EINPROGRESS) || result.is_ok() && self.repair().is_some();
        if to.is_none() || begun {
            tx.restart();
            rx.restart();
            self.more.store(false, Ordering::Relaxed);
            self.write_shut.store(false, Ordering::Release);
            if result.is_ok() {
                self.listening.store(false, Ordering::Relaxed);
            }
        }
        drop((tx, rx));
        let wait = flags & FLAG_NONBLOCK == 0 && to.is_some() && matches!(code, Some(EINPROGRESS | EALREADY));
        if !wait {
            return result;
        }
        // The outcome is told by the same call, which waits.
        self.inner().call(sqe, &arg, deadline).map(drop)
    }

    pub(crate) fn name(&self, opcode: Opcode) -> io::Result<SocketAddr> {
        self.call(opcode, [0; 5], Arg::NONE)?.arg().addr().map_err(broken)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown_raw(match how {
            Shutdown::Read => 0,
            Shutdown::Write => 1,
            Shutdown::Both => 2,
        })
    }

    pub(crate) fn shutdown_raw(&self, how: i32) -> io::Result<()> {
        self.call(Opcode::Shutdown, [i64::from(how) as u64, 0, 0, 0, 0], Arg::NONE)?;
        if self.listening.load(Ordering::Relaxed) {
            self.listening.fetch_and(how == 1, Ordering::Relaxed);
            return Ok(());
        }
        self.write_shut.fetch_or(how != 0, Ordering::AcqRel);
        Ok(())
    }

    pub(crate) fn is_datagram(&self) -> bool {
        self.datagram
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn listen(&self, backlog: i32) -> io::Result<()> {
        self.call(Opcode::Listen, [i64::from(backlog) as u64, 0, 0, 0, 0], Arg::NONE)?;
        self.listening.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn is_write_shut(&self) -> bool {
        self.write_shut.load(Ordering::Acquire)
    }

    /// SO_RCVLOWAT.
    pub(crate) fn lowat(&self) -> usize {
        self.lowat.load(Ordering::Relaxed) as usize
    }

    /// SO_PEEK_OFF as it stands.
    pub(crate) fn peek_off(&self) -> i32 {
        self.peek_off.load(Ordering::Relaxed)
    }

    /// SO_PEEK_OFF, if it is on.
    pub(crate) fn peek_offset(&self) -> Option<u64> {
        u64::try_from(self.peek_off.load(Ordering::Relaxed)).ok()
    }

    /// socket(7), SO_PEEK_OFF: peeks move the offset on, and removing data moves it back by as much.
    pub(crate) fn peeked(&self, on: bool, n: usize, peek: bool) {
        let n = i32::try_from(n).unwrap_or(i32::MAX);
        let _ = self.peek_off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |off| match off {
            ..0 => None,
            _ if peek && on => Some(off.saturating_add(n)),
            _ if peek => None,
            _ => Some(off.saturating_sub(n).max(0)),
        });
    }

    /// UDP_CORK.
    pub(crate) fn is_corked(&self) -> bool {
        self.corked.load(Ordering::Relaxed)
    }

    /// Bytes still unread, if TCP_INQ asks for them to be told. As Linux (`tcp_inq_hint`), the FIN counts: 0 would say
    /// that no read is worth while, and a program would not find the end.
    pub(crate) fn inq(&self) -> Option<i32> {
        let ended = self.state() & ready::RDHUP != 0;
        let left = |n: u64| i32::try_from(n).unwrap_or(i32::MAX).saturating_add(i32::from(ended));
        self.inq.load(Ordering::Relaxed).then(|| left(lock(&self.rx).available()))
    }

    /// TCP_REPAIR.
    pub(crate) fn repair(&self) -> Option<crate::raw::Repair> {
        crate::raw::Repair::from_raw(self.repair.load(Ordering::Acquire))
    }

    /// Sets an option, and keeps what of it this side acts upon.
    pub(crate) fn set_local(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        let int = value.first_chunk().map(|b| i32::from_ne_bytes(*b));
        if (level, name) == (crate::raw::SOL_UDP, crate::raw::UDP_CORK) && self.datagram {
            let on = int.ok_or_else(|| io::Error::from_raw_os_error(crate::raw::EINVAL))? != 0;
            self.corked.store(on, Ordering::Relaxed);
            return Ok(());
        }
        self.set(level, name, value)?;
        if (level, name) == (crate::options::IPPROTO_TCP, crate::options::TCP_INQ) {
            self.inq.store(int == Some(1), Ordering::Relaxed);
        }
        if level == crate::options::IPPROTO_TCP && matches!(name, crate::raw::TCP_REPAIR | crate::raw::TCP_REPAIR_QUEUE)
        {
            // The daemon agreed: both sides know from here on.
            let repair = crate::raw::Repair::after(self.repair(), name, int.unwrap_or(0));
            self.repair.store(repair.map_or(0, |r| r as u8), Ordering::Release);
        }
        if level != crate::options::SOL_SOCKET {
            return Ok(());
        }
        match (name, int) {
            (crate::options::SO_RCVLOWAT, Some(_)) => {
                let kept = self.get_int(level, name)?;
                self.lowat.store(u32::try_from(kept).unwrap_or(1), Ordering::Relaxed);
            }
            (crate::options::SO_LINGER, Some(_)) => self.keep_linger(value),
            (crate::options::SO_OOBINLINE, Some(n)) => self.set_oob_inline(n != 0),
            (crate::options::SO_ZEROCOPY, Some(n)) => lock(&self.zerocopy).on = n == 1,
            (crate::options::SO_BUSY_POLL, Some(n)) => {
                self.busy_poll.store(u32::try_from(n).unwrap_or(0), Ordering::Relaxed);
            }
            (crate::options::SO_PEEK_OFF, Some(n)) => self.peek_off.store(n, Ordering::Relaxed),
            (crate::options::SO_RCVTIMEO | crate::options::SO_SNDTIMEO, _) => {
                let write = name == crate::options::SO_SNDTIMEO;
                if let Some(time) = crate::options::timeval(value) {
                    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    self.timeout_cell(write).store(ns, Ordering::Relaxed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// SO_LINGER, as it was set.
    pub(crate) fn keep_linger(&self, value: &[u8]) {
        let word = |at: usize| value.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let seconds = if word(0) != 0 { u32::try_from(word(4)).unwrap_or(0) } else { 0 };
        self.linger.store(seconds, Ordering::Relaxed);
    }

    /// How long close waits. A socket of a runtime's tasks never does: it would hold up its thread.
    fn linger_time(&self) -> Option<Duration> {
        let seconds = self.linger.load(Ordering::Relaxed);
        (seconds > 0 && !self.datagram && !self.asynchronous.load(Ordering::Relaxed))
            .then(|| Duration::from_secs(seconds.into()))
    }

    fn set_oob_inline(&self, on: bool) {
        self.oob_inline.store(on, Ordering::Relaxed);
        lock(&self.rx).set_oob_inline(on);
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

    /// After a write: kicks if need be. A write without MSG_MORE lets go what one with it held back, whoever's kick is still on its way.
    pub(crate) fn kick_after(&self, kick: bool, more: bool) -> io::Result<()> {
        let held = self.more.swap(more, Ordering::AcqRel);
        if kick || held && !more {
            Counters::add(&self.inner().counters.kicks);
            let flags = if more { FLAG_MORE } else { 0 };
            return self.inner().post(Sqe { flags, ..self.sqe(Opcode::Kick) });
        }
        Ok(())
    }

    /// State bits, by one load.
    pub(crate) fn state(&self) -> u32 {
        self.state.readiness()
    }

    /// poll(2): asks the daemon, after telling it what was read and written.
    pub(crate) fn poll_bits(&self, mask: u32, timeout: Option<Duration>) -> io::Result<u32> {
        let now = Sqe { flags: FLAG_NONBLOCK, ..self.poll_entry(mask, 0) };
        let mut bits = self.inner().call(now, Arg::NONE, None)?.cqe.result as u32;
        if self.has_notice() {
            bits |= ready::ERR;
        }
        if bits != 0 || timeout == Some(Duration::ZERO) {
            return Ok(bits);
        }
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        match self.inner().call(self.poll_entry(mask, 0), Arg::NONE, deadline) {
            Ok(reply) => Ok(reply.cqe.result as u32),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Ok(0),
            Err(e) => Err(e),
        }
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
        if before & (ready::ERR | ready::FIN) == ready::ERR
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
        self.wait_for(mask, 0, deadline)
    }

    /// The same, where a stream is readable only with `least` bytes (0: any, or as the daemon's SO_RCVLOWAT says).
    pub(crate) fn wait_for(&self, mask: u32, least: usize, deadline: Option<Instant>) -> io::Result<()> {
        // socket(7), SO_BUSY_POLL: how long to spin before sleeping, for this socket.
        let spin = match self.busy_poll.load(Ordering::Relaxed) {
            // Whoever waits for connections would take the processor from those who serve them.
            0 if self.is_listening() => self.inner().spin().min(DEFAULT_SPIN),
            0 => self.inner().spin(),
            us => Duration::from_micros(us.into()),
        };
        let mut spinner = Spinner::lasting(self.inner(), spin, deadline);
        while spinner.go_on()? {
            if self.ready_now(mask, least) {
                return Ok(());
            }
        }
        let lane = self.inner().thread_lane()?;
        let ticket = lane.submit(self.inner(), self.poll_entry(mask, least), Arg::NONE)?;
        match lane.sleep(self.inner(), ticket, deadline).and_then(check) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(io::Error::from_raw_os_error(11)),
            Err(e) => Err(e),
        }
    }

    fn poll_entry(&self, mask: u32, least: usize) -> Sqe {
        Sqe { args: [u64::from(mask), least as u64, 0, 0, 0], ..self.sqe(Opcode::PollAdd) }
    }

    /// A look at shared memory. IN and OUT of the state word may lag behind our own cursors, so the FIFOs decide; a listener has no
    /// bytes, and there the word does: the daemon brings it up to date before it answers an accept.
    pub(crate) fn ready_now(&self, mask: u32, least: usize) -> bool {
        let state = self.state.readiness();
        state & (ready::ERR | ready::HUP | ready::RDHUP & mask) != 0
            || self.is_listening() && state & mask & ready::IN != 0
            || mask & ready::IN != 0 && lock(&self.rx).available() >= least.max(1) as u64
            || mask & ready::OUT != 0 && lock(&self.tx).space() > 0
    }

    /// Starts an asynchronous wait on this runtime's reactor ring.
    pub(crate) fn poll_start(self: &Arc<Self>, lane: &Arc<Lane>, mask: u32) -> io::Result<Pending> {
        self.asynchronous.store(true, Ordering::Relaxed);
        let ticket = lane.submit(self.inner(), self.poll_entry(mask, 0), Arg::NONE)?;
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
