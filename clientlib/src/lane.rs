//! A ring and those who wait on it. Usually one thread has it alone; when the daemon gives no more rings, threads share one: then whoever
//! sleeps on the eventfd leads, and hands answers to the others.

use crate::session::{Counters, Inner, lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use stackd_shm::ClientRing;
use stackd_shm::abi::{Arg, Cqe, Opcode, Sqe};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// An answer with its argument.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub cqe: Cqe,
    pub arg: Arg,
}

/// A call that was submitted and not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct Lane {
    state: Mutex<State>,
    changed: Condvar,
    eventfd: Arc<OwnedFd>,
    session: Weak<Inner>,
}

#[derive(Debug)]
struct State {
    ring: ClientRing,
    waiting: HashMap<u64, Slot>,
    next: u64,
    led: bool,
}

#[derive(Debug, Default)]
struct Slot {
    reply: Option<Reply>,
    waker: Option<Waker>,
}

impl State {
    /// Takes all answers that are there.
    fn reap(&mut self) -> io::Result<()> {
        let mut arg = Arg::new();
        while let Some(cqe) = self.ring.pop(&mut arg).map_err(broken)? {
            // No slot: nobody waits any more (a timeout), or nobody ever did.
            if let Some(slot) = self.waiting.get_mut(&cqe.user_data) {
                slot.reply = Some(Reply { cqe, arg });
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, ticket: Ticket) -> Option<Reply> {
        let reply = self.waiting.get_mut(&ticket.0)?.reply.take()?;
        self.waiting.remove(&ticket.0);
        Some(reply)
    }
}

/// The daemon's shared memory makes no sense.
pub(crate) fn broken(breach: stackd_shm::Breach) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("stackd's shared memory is damaged: {breach}"))
}

impl Lane {
    pub(crate) fn new(ring: ClientRing, session: Weak<Inner>) -> Self {
        let eventfd = Arc::clone(ring.eventfd());
        let state = State { ring, waiting: HashMap::new(), next: 1, led: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), eventfd, session }
    }

    pub(crate) fn session(&self) -> &Weak<Inner> {
        &self.session
    }

    pub(crate) fn eventfd(&self) -> &Arc<OwnedFd> {
        &self.eventfd
    }

    /// Puts a call on the ring; somebody will ask for its answer.
    pub(crate) fn submit(&self, session: &Inner, mut sqe: Sqe, arg: &Arg) -> io::Result<Ticket> {
        Counters::add(&session.counters.calls);
        let mut state = lock(&self.state);
        let ticket = Ticket(state.next);
        state.next += 1;
        sqe.user_data = ticket.0;
        state.waiting.insert(ticket.0, Slot::default());
        match self.push(session, state, sqe, arg) {
            Ok(()) => Ok(ticket),
            Err(e) => {
                lock(&self.state).waiting.remove(&ticket.0);
                Err(e)
            }
        }
    }

    /// Puts an entry on the ring whose answer nobody wants.
    pub(crate) fn post(&self, session: &Inner, sqe: Sqe) -> io::Result<()> {
        self.push(session, lock(&self.state), sqe, &Arg::new())
    }

    fn push<'a>(&'a self, session: &Inner, mut state: MutexGuard<'a, State>, sqe: Sqe, arg: &Arg) -> io::Result<()> {
        session.alive()?;
        while !state.ring.push(sqe, arg).map_err(broken)? {
            // Full: the daemon is behind, or dead. Make sure it is awake, take what it answered, and let it run.
            Self::ring(session, &state);
            state.reap()?;
            drop(state);
            session.check_hangup()?;
            std::thread::yield_now();
            state = lock(&self.state);
        }
        Self::ring(session, &state);
        Ok(())
    }

    fn ring(session: &Inner, state: &State) {
        if state.ring.ring() {
            Counters::add(&session.counters.doorbells);
        }
    }

    /// The answer to `ticket`: after spinning, by sleeping. TimedOut takes the call back.
    pub(crate) fn wait(&self, session: &Inner, ticket: Ticket, deadline: Option<Instant>) -> io::Result<Reply> {
        if let Some(reply) = self.spin(session, ticket)? {
            return Ok(reply);
        }
        let mut state = lock(&self.state);
        loop {
            state.reap()?;
            if let Some(reply) = state.take(ticket) {
                return Ok(reply);
            }
            if let Err(e) = session.alive() {
                state.waiting.remove(&ticket.0);
                return Err(e);
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                drop(state);
                return self.give_up(session, ticket);
            }
            state = if state.led { self.follow(state, left) } else { self.lead(session, state, ticket, left)? };
        }
    }

    fn spin(&self, session: &Inner, ticket: Ticket) -> io::Result<Option<Reply>> {
        let spin = session.spin();
        if spin.is_zero() {
            return Ok(None);
        }
        let until = Instant::now() + spin;
        loop {
            {
                let mut state = lock(&self.state);
                state.reap()?;
                if let Some(reply) = state.take(ticket) {
                    return Ok(Some(reply));
                }
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }

    fn follow<'a>(&self, state: MutexGuard<'a, State>, left: Option<Duration>) -> MutexGuard<'a, State> {
        match left {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Sleeps on the eventfd and on the daemon's life, for everybody on this ring.
    fn lead<'a>(
        &'a self,
        session: &Inner,
        mut state: MutexGuard<'a, State>,
        ticket: Ticket,
        left: Option<Duration>,
    ) -> io::Result<MutexGuard<'a, State>> {
        state.ring.prepare_sleep();
        state.reap()?;
        // Answers for followers count too: they sleep until told.
        let answered = state.waiting.values().any(|slot| slot.reply.is_some() && slot.waker.is_none());
        if answered && state.waiting.get(&ticket.0).is_none_or(|slot| slot.reply.is_some()) {
            state.ring.awake(false);
            self.changed.notify_all();
            return Ok(state);
        }
        if answered {
            self.changed.notify_all();
        }
        state.led = true;
        drop(state);
        Counters::add(&session.counters.sleeps);
        let mut fds = [PollFd::new(&self.eventfd, PollFlags::IN), PollFd::new(&session.attach, PollFlags::empty())];
        let timeout = left.map(timespec);
        let slept = poll(&mut fds, timeout.as_ref());
        let (rang, hung_up) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        let mut state = lock(&self.state);
        state.ring.awake(slept.is_ok() && rang);
        state.led = false;
        let reaped = state.reap();
        self.changed.notify_all();
        if slept.is_ok() && hung_up {
            drop(state);
            session.hung_up();
            state = lock(&self.state);
        }
        reaped?;
        match slept {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(state),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes a call back that nobody waits for any more.
    fn give_up(&self, session: &Inner, ticket: Ticket) -> io::Result<Reply> {
        if let Some(reply) = self.abandon(session, ticket) {
            return Ok(reply);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Forgets a call and tells the daemon; the answer, if it came just now.
    pub(crate) fn abandon(&self, session: &Inner, ticket: Ticket) -> Option<Reply> {
        let mut state = lock(&self.state);
        // A damaged ring is reported by the next call on it.
        let _ = state.reap();
        let reply = state.take(ticket);
        if reply.is_none() && state.waiting.remove(&ticket.0).is_some() {
            let sqe = Sqe { opcode: Opcode::Cancel as u16, args: [ticket.0, 0, 0, 0, 0], ..Sqe::default() };
            // If the daemon is gone there is nothing left to take back.
            let _ = self.push(session, state, sqe, &Arg::new());
        }
        reply
    }

    /// Asynchronous wait: the answer, or a promise to wake.
    pub(crate) fn poll(&self, session: &Inner, ticket: Ticket, cx: &mut Context<'_>) -> Poll<io::Result<Reply>> {
        let mut state = lock(&self.state);
        if let Err(e) = state.reap() {
            return Poll::Ready(Err(e));
        }
        if let Some(reply) = state.take(ticket) {
            return Poll::Ready(Ok(reply));
        }
        if let Err(e) = session.alive() {
            state.waiting.remove(&ticket.0);
            return Poll::Ready(Err(e));
        }
        if let Some(slot) = state.waiting.get_mut(&ticket.0) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Reactor: announces that nobody looks, after a last look.
    pub(crate) fn prepare_sleep(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.ring.prepare_sleep();
        state.reap()
    }

    /// Reactor: the eventfd was readable.
    pub(crate) fn woken(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.ring.awake(true);
        state.reap()
    }

    /// The session is dead: everybody look.
    pub(crate) fn wake_all(&self) {
        let mut state = lock(&self.state);
        for slot in state.waiting.values_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        self.changed.notify_all();
    }
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}
