//! How a shard waits: watching for a while, then one blocking wait on everything.

use anyhow::Result;
use rustix::event::{Timespec, epoll};
use stackd_base::{Duration, Instant};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// What waking a sleeping thread costs until it is known better (an idle virtual processor of the reference machine: 23-30 us).
const WAKE_COST: Duration = Duration::from_micros(40);
/// It is never believed to be less, or more, whatever was seen: a thread that was kept from its processor is not one that woke slowly.
const WAKE_COSTS: std::ops::RangeInclusive<Duration> = Duration::from_micros(10)..=Duration::from_micros(200);

/// Descriptors reported at once; more wait for the next look.
const EVENTS: usize = 64;

/// What a descriptor in the wait set belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Other threads' messages.
    Mailbox,
    /// Queue of port `n` has frames, or room.
    Device(u32),
    /// A session's doorbell.
    Doorbell(u32),
    /// A session's attach connection: a request, or the end.
    Lease(u32),
}

impl Token {
    fn pack(self) -> u64 {
        match self {
            Self::Mailbox => 0,
            Self::Device(n) => 1 << 32 | u64::from(n),
            Self::Doorbell(n) => 2 << 32 | u64::from(n),
            Self::Lease(n) => 3 << 32 | u64::from(n),
        }
    }
    fn unpack(raw: u64) -> Option<Self> {
        let n = raw as u32;
        match raw >> 32 {
            0 => Some(Self::Mailbox),
            1 => Some(Self::Device(n)),
            2 => Some(Self::Doorbell(n)),
            3 => Some(Self::Lease(n)),
            _ => None,
        }
    }
}

/// The shard's end of its mailbox: told whether a ring is needed.
#[derive(Debug)]
pub struct Bell {
    eventfd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// A bell nobody has rung.
    pub fn new() -> Result<Arc<Self>> {
        use rustix::event::{EventfdFlags, eventfd};
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { eventfd, asleep: AtomicBool::new(false) }))
    }

    /// Wakes the shard if it sleeps. Call it after the message is in the queue.
    pub fn ring(&self) {
        // Dekker: the message's store is ordered before this load, as `Waiter::wait` orders its store before its last look.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            // The only failure is EAGAIN of a counter that is full: then the shard is being woken already.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

/// The wait set of one shard.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    spin: Duration,
    /// How much later than asked for a wait ends. A deadline nearer than that is met by watching the clock.
    wake_cost: Duration,
    /// When the current wait is to end.
    planned: Option<Instant>,
    /// Figures for `netctl` and the load test.
    pub sleeps: u64,
}

impl Waiter {
    /// A set that holds the mailbox's bell. `spin` is how long to watch before blocking.
    pub fn new(bell: Arc<Bell>, spin: Duration) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let this = Self { epoll, bell, spin, wake_cost: WAKE_COST, planned: None, sleeps: 0 };
        // Edge-triggered: each write to an eventfd is an event by itself, so that nobody has to read the counter back.
        this.add(&this.bell.eventfd, Token::Mailbox, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(this)
    }

    /// How long an idle shard watches.
    pub fn spin(&self) -> Duration {
        self.spin
    }

    /// Changes it (`stackd.spin_us`).
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// Adds a descriptor.
    pub fn add(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.pack()), flags)
    }

    /// Changes what a descriptor is waited for.
    pub fn modify(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token.pack()), flags)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, fd: impl AsFd) {
        // A descriptor that is not in the set is what the caller wants.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// True if a deadline is so near that blocking would miss it.
    pub fn too_near(&self, now: Instant, deadline: Option<Instant>) -> bool {
        deadline.is_some_and(|d| d <= now + self.wake_cost)
    }

    /// A wait ended at `now`, and nothing was ready if `timed_out`: what that says about the cost of waking. It follows a rise at once and a
    /// fall slowly: being late costs more than watching for longer.
    pub fn woke(&mut self, now: Instant, timed_out: bool) {
        let Some(planned) = self.planned.take().filter(|_| timed_out) else { return };
        let (late, known) = (now.saturating_since(planned), self.wake_cost);
        let learnt = if late > known { known + (late - known) / 2 } else { known - (known - late) / 32 };
        self.wake_cost = learnt.clamp(*WAKE_COSTS.start(), *WAKE_COSTS.end());
    }

    /// Collects what is ready without blocking.
    pub fn poll(&mut self, ready: &mut Vec<(Token, epoll::EventFlags)>) -> rustix::io::Result<()> {
        self.collect(Some(Timespec { tv_sec: 0, tv_nsec: 0 }), ready)
    }

    /// Announces that this thread is about to block. The caller then looks once more at everything other threads publish, and
    /// calls [`Self::block`] or [`Self::awake`].
    pub fn falling_asleep(&self) {
        self.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub fn awake(&self) {
        self.bell.asleep.store(false, Ordering::Relaxed);
    }

    /// Blocks until something is ready or the deadline, minus what waking up costs.
    pub fn block(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
        ready: &mut Vec<(Token, epoll::EventFlags)>,
    ) -> rustix::io::Result<()> {
        self.sleeps += 1;
        self.planned = None;
        let timeout = deadline.map(|d| {
            let nanos = d.as_nanos().saturating_sub(now.as_nanos()).saturating_sub(self.wake_cost.as_nanos());
            // At most an hour: a deadline of "never" must not overflow the kernel's arithmetic.
            let nanos = nanos.min(3_600_000_000_000);
            self.planned = Some(now + Duration::from_nanos(nanos));
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 }
        });
        let result = self.collect(timeout, ready);
        self.awake();
        result
    }

    fn collect(
        &mut self,
        timeout: Option<Timespec>,
        ready: &mut Vec<(Token, epoll::EventFlags)>,
    ) -> rustix::io::Result<()> {
        let mut space = [std::mem::MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut space[..], timeout.as_ref()) {
            Ok((events, _)) => {
                ready.extend(events.iter().filter_map(|e| Some((Token::unpack(e.data.u64())?, e.flags))));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [Token::Mailbox, Token::Device(7), Token::Doorbell(u32::MAX), Token::Lease(0)] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(9 << 32), None);
    }

    #[test]
    fn the_cost_of_waking_is_learnt_from_waits_that_ran_out() -> Result<()> {
        let mut waiter = Waiter::new(Bell::new()?, Duration::ZERO)?;
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut wait = |waiter: &mut Waiter, late: u64, timed_out: bool| -> Result<Duration> {
            // A deadline that has passed: the kernel is asked for no time at all.
            waiter.block(now, Some(now), &mut Vec::new())?;
            now += Duration::from_micros(late);
            waiter.woke(now, timed_out);
            Ok(waiter.wake_cost)
        };
        for _ in 0..16 {
            wait(&mut waiter, 100, true)?;
        }
        assert!(waiter.wake_cost >= Duration::from_micros(99), "{:?}", waiter.wake_cost);
        assert_eq!(
            wait(&mut waiter, 1000, false)?,
            wait(&mut waiter, 5, false)?,
            "something was ready: that says nothing"
        );
        assert_eq!(wait(&mut waiter, 100_000, true)?, Duration::from_micros(200), "somebody else had the processor");
        let mut last = waiter.wake_cost;
        for _ in 0..300 {
            let next = wait(&mut waiter, 0, true)?;
            assert!(next <= last && last - next <= Duration::from_micros(7), "a fall is slow");
            last = next;
        }
        assert_eq!(last, Duration::from_micros(10));
        Ok(())
    }

    #[test]
    fn a_bell_rung_before_the_wait_wakes_it_and_only_a_sleeper_is_rung() -> Result<()> {
        let bell = Bell::new()?;
        let mut waiter = Waiter::new(bell.clone(), Duration::from_micros(0))?;
        let mut ready = Vec::new();
        bell.ring();
        waiter.poll(&mut ready)?;
        assert!(ready.is_empty(), "an awake shard needs no ring");
        waiter.falling_asleep();
        bell.ring();
        waiter.block(Instant::ZERO, None, &mut ready)?;
        assert_eq!(ready.len(), 1);
        assert_eq!(ready[0].0, Token::Mailbox);
        ready.clear();
        waiter.poll(&mut ready)?;
        assert!(ready.is_empty(), "an edge is reported once");
        Ok(())
    }
}
