//! A ring and those who wait on it. Usually one thread has it alone; when the daemon gives no more rings, threads share one: then whoever
//! sleeps on the eventfd leads, and hands answers to the others.

use crate::session::{Counters, Inner, Spinner, lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use stackd_shm::ClientRing;
use stackd_shm::abi::{Arg, Cqe, Opcode, Sqe};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// An answer with its argument.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub cqe: Cqe,
    /// Most answers have none, and half a kilobyte is dear to move.
    arg: Option<Box<Arg>>,
}

impl Reply {
    pub(crate) fn arg(&self) -> &Arg {
        self.arg.as_deref().unwrap_or(Arg::NONE)
    }
}

/// Looks at the ring between two looks at the clock.
const LOOKS: usize = 16;

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
    waiting: Waiting,
    /// Where arguments are copied to before it is known whose they are.
    arg: Arg,
    led: bool,
    /// Threads that wait for whoever leads. (Telling nobody is a system call, too.)
    followers: u32,
    /// Wakers to call and wakers to drop once the lock is released: either may run anything, such as the drop of a future that takes
    /// its call back on this very ring.
    wake: Vec<Waker>,
    discard: Vec<Waker>,
}

/// Calls without an answer. A ticket is the index of its slot below a count that makes it unique (and never 0).
#[derive(Debug, Default)]
struct Waiting {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: u32,
}

#[derive(Debug, Default)]
struct Slot {
    /// 0: free.
    ticket: u64,
    reply: Option<Reply>,
    waker: Option<Waker>,
}

impl Waiting {
    fn insert(&mut self) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.count = self.count.wrapping_add(1).max(1);
        let ticket = u64::from(self.count) << 32 | u64::from(index);
        self.slots[index as usize].ticket = ticket;
        Ticket(ticket)
    }

    fn get(&mut self, ticket: u64) -> Option<&mut Slot> {
        self.slots.get_mut(ticket as u32 as usize).filter(|slot| slot.ticket == ticket && ticket != 0)
    }

    /// Frees the slot; what was in it.
    fn remove(&mut self, ticket: u64) -> Option<Slot> {
        let slot = std::mem::take(self.get(ticket)?);
        self.free.push(ticket as u32);
        Some(slot)
    }
}

impl State {
    /// Takes all answers that are there.
    fn reap(&mut self) -> io::Result<()> {
        while let Some(cqe) = self.ring.pop(&mut self.arg).map_err(broken)? {
            // No slot: nobody waits any more (a timeout), or nobody ever did.
            if let Some(slot) = self.waiting.get(cqe.user_data) {
                let arg = (!self.arg.as_bytes().is_empty()).then(|| Box::new(self.arg));
                slot.reply = Some(Reply { cqe, arg });
                self.wake.extend(slot.waker.take());
            }
        }
        Ok(())
    }

    fn take(&mut self, ticket: Ticket) -> Option<Reply> {
        let reply = self.waiting.get(ticket.0)?.reply.take()?;
        self.forget(ticket);
        Some(reply)
    }

    /// Nobody waits for `ticket` any more. False: nobody did.
    fn forget(&mut self, ticket: Ticket) -> bool {
        let slot = self.waiting.remove(ticket.0);
        let found = slot.is_some();
        self.discard.extend(slot.and_then(|slot| slot.waker));
        found
    }
}

/// The lock on a lane. Wakers that gathered under it are called when it is open again.
struct Locked<'a>(Option<MutexGuard<'a, State>>);

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        self.0.as_ref().expect("held until drop")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("held until drop")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        if state.wake.is_empty() && state.discard.is_empty() {
            return;
        }
        let (wake, discard) = (std::mem::take(&mut state.wake), std::mem::take(&mut state.discard));
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        drop(discard);
    }
}

/// The daemon's shared memory makes no sense.
pub(crate) fn broken(breach: stackd_shm::Breach) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("stackd's shared memory is damaged: {breach}"))
}

impl Lane {
    pub(crate) fn new(ring: ClientRing, session: Weak<Inner>) -> Self {
        let eventfd = Arc::clone(ring.eventfd());
        let state = State {
            ring,
            waiting: Waiting::default(),
            arg: Arg::new(),
            led: false,
            followers: 0,
            wake: Vec::new(),
            discard: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), eventfd, session }
    }

    fn lock(&self) -> Locked<'_> {
        Locked(Some(lock(&self.state)))
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
        let mut state = self.lock();
        let ticket = state.waiting.insert();
        sqe.user_data = ticket.0;
        match self.push(session, state, sqe, arg) {
            Ok(()) => Ok(ticket),
            Err(e) => {
                self.lock().forget(ticket);
                Err(e)
            }
        }
    }

    /// Puts two calls on the ring that nothing may come between: the second is about the socket that the first makes
    /// (`FLAG_LAST_SOCKET`). `None`: the ring has no room for two.
    pub(crate) fn submit_linked(
        &self,
        session: &Inner,
        first: Sqe,
        second: Sqe,
        arg: &Arg,
    ) -> io::Result<Option<[Ticket; 2]>> {
        session.alive()?;
        let mut state = self.lock();
        if state.ring.free().map_err(broken)? < 2 {
            return Ok(None);
        }
        let mut tickets = [Ticket(0); 2];
        for ((ticket, sqe), arg) in tickets.iter_mut().zip([first, second]).zip([Arg::NONE, arg]) {
            Counters::add(&session.counters.calls);
            *ticket = state.waiting.insert();
            // There is room: only this side fills the ring, under this lock.
            state.ring.push(Sqe { user_data: ticket.0, ..sqe }, arg).map_err(broken)?;
        }
        Self::ring(session, &state);
        Ok(Some(tickets))
    }

    /// Puts an entry on the ring whose answer nobody wants.
    pub(crate) fn post(&self, session: &Inner, sqe: Sqe) -> io::Result<()> {
        self.push(session, self.lock(), sqe, Arg::NONE)
    }

    fn push<'a>(&'a self, session: &Inner, mut state: Locked<'a>, sqe: Sqe, arg: &Arg) -> io::Result<()> {
        session.alive()?;
        while !state.ring.push(sqe, arg).map_err(broken)? {
            // Full: the daemon is behind, or dead. Make sure it is awake, take what it answered, and let it run.
            Self::ring(session, &state);
            state.reap()?;
            drop(state);
            session.check_hangup()?;
            std::thread::yield_now();
            state = self.lock();
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
        if let Some(reply) = self.spin(session, ticket, deadline)? {
            return Ok(reply);
        }
        self.sleep(session, ticket, deadline)
    }

    /// The answer to `ticket`, for whoever has watched for long enough already. TimedOut takes the call back.
    pub(crate) fn sleep(&self, session: &Inner, ticket: Ticket, deadline: Option<Instant>) -> io::Result<Reply> {
        let mut state = self.lock();
        loop {
            state.reap()?;
            if let Some(reply) = state.take(ticket) {
                return Ok(reply);
            }
            if let Err(e) = session.alive() {
                state.forget(ticket);
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

    fn spin(&self, session: &Inner, ticket: Ticket, deadline: Option<Instant>) -> io::Result<Option<Reply>> {
        let mut spinner = Spinner::new(session, deadline);
        loop {
            {
                let mut state = self.lock();
                for _ in 0..LOOKS {
                    if !state.ring.is_empty().map_err(broken)? {
                        break;
                    }
                    std::hint::spin_loop();
                }
                state.reap()?;
                if let Some(reply) = state.take(ticket) {
                    return Ok(Some(reply));
                }
            }
            // A daemon found dead is the business of the slow path.
            if !spinner.go_on().unwrap_or(false) {
                return Ok(None);
            }
        }
    }

    fn follow<'a>(&'a self, mut state: Locked<'a>, left: Option<Duration>) -> Locked<'a> {
        let idle = state.wake.is_empty() && state.discard.is_empty();
        let Some(mut guard) = state.0.take_if(|_| idle) else {
            // Others are to be woken first, and then everything may be different: the caller looks again.
            drop(state);
            return self.lock();
        };
        guard.followers += 1;
        let mut guard = match left {
            None => self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
        };
        guard.followers -= 1;
        Locked(Some(guard))
    }

    fn tell_followers(&self, state: &State) {
        if state.followers > 0 {
            self.changed.notify_all();
        }
    }

    /// Sleeps on the eventfd and on the daemon's life, for everybody on this ring.
    fn lead<'a>(
        &'a self,
        session: &Inner,
        mut state: Locked<'a>,
        ticket: Ticket,
        left: Option<Duration>,
    ) -> io::Result<Locked<'a>> {
        state.ring.prepare_sleep();
        state.reap()?;
        // Answers for followers count too: they sleep until told.
        self.tell_followers(&state);
        if state.waiting.get(ticket.0).is_none_or(|slot| slot.reply.is_some()) {
            state.ring.awake(false);
            return Ok(state);
        }
        state.led = true;
        drop(state);
        Counters::add(&session.counters.sleeps);
        let mut fds = [PollFd::new(&self.eventfd, PollFlags::IN), PollFd::new(&session.attach, PollFlags::empty())];
        let timeout = left.map(timespec);
        let slept = poll(&mut fds, timeout.as_ref());
        let (rang, hung_up) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        let mut state = self.lock();
        state.ring.awake(slept.is_ok() && rang);
        state.led = false;
        let reaped = state.reap();
        self.tell_followers(&state);
        if slept.is_ok() && hung_up {
            drop(state);
            session.hung_up();
            state = self.lock();
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
        let mut state = self.lock();
        // A damaged ring is reported by the next call on it.
        let _ = state.reap();
        let reply = state.take(ticket);
        if reply.is_none() && state.forget(ticket) {
            let sqe = Sqe { opcode: Opcode::Cancel as u16, args: [ticket.0, 0, 0, 0, 0], ..Sqe::default() };
            // If the daemon is gone there is nothing left to take back.
            let _ = self.push(session, state, sqe, Arg::NONE);
        }
        reply
    }

    /// Asynchronous wait: the answer, or a promise to wake.
    pub(crate) fn poll(&self, session: &Inner, ticket: Ticket, cx: &mut Context<'_>) -> Poll<io::Result<Reply>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Err(e) = state.reap() {
            return Poll::Ready(Err(e));
        }
        if let Some(reply) = state.take(ticket) {
            return Poll::Ready(Ok(reply));
        }
        if let Err(e) = session.alive() {
            state.forget(ticket);
            return Poll::Ready(Err(e));
        }
        let old = state.waiting.get(ticket.0).and_then(|slot| slot.waker.replace(waker));
        state.discard.extend(old);
        Poll::Pending
    }

    /// Reactor: announces that nobody looks, after a last look.
    pub(crate) fn prepare_sleep(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.ring.prepare_sleep();
        state.reap()
    }

    /// Reactor: the eventfd was readable.
    pub(crate) fn woken(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.ring.awake(true);
        state.reap()
    }

    /// The session is dead: everybody look.
    pub(crate) fn wake_all(&self) {
        let mut state = self.lock();
        let State { waiting, wake, .. } = &mut *state;
        wake.extend(waiting.slots.iter_mut().filter_map(|slot| slot.waker.take()));
        self.changed.notify_all();
    }
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}
