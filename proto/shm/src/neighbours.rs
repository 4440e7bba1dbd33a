//! Watching memory on a processor that others want too.
//!
//! Whoever watches shared memory waits for somebody else to run. If that somebody, or anybody, waits for this very processor, watching
//! holds up what it waits for: until the end of the time slice, milliseconds. [`Neighbours`] finds out who else is there, by two
//! clocks that cost nothing while nobody is:
//!
//! - A look takes well under a microsecond. When two looks are far apart, somebody had the processor for a slice in between.
//! - `sched_yield` lets others run. How long it takes says who they are: nobody; somebody who soon yields or sleeps
//!   again; or somebody with work to do.
//!
//! A wait begins with a yield, since what is waited for may need this very processor and can hardly be there yet. Alone: look, and yield once
//! in a while to find out; alone for long, even the first yield is left out, for it may be what the answer has to wait for. Among neighbours who give way: watch for about as long as two switches take, then yield again. Beside one who
//! does not give way: look, for it may have been his work that we waited for (a bulk transfer's other end); if nothing is there, do not watch, block. The scheduler prefers whoever slept to whoever ran, so that a sleeper is back sooner than a
//! spinner would be. (Yielding does not help there: it gives up the slice, and with sched_autogroup it does not even reach
//! the processes of other sessions.)

use std::time::{Duration, Instant};

/// How long a watcher among neighbours who give way keeps the processor: about what leaving it and coming back costs.
const TURN: Duration = Duration::from_nanos(2_500);
/// How often a watcher without neighbours asks whether it is still alone.
const PROBE: Duration = Duration::from_micros(10);
/// How often it asks when the answer has long been the same. A yield to nobody is 0.4 us: one at the start of each wait is 5 % of a round trip.
const RARE_PROBE: Duration = Duration::from_micros(100);
/// How many times in a row that is.
const LONELY: u32 = 64;
/// A yield that takes longer than this let somebody else run: two switches are 2.5 us on the reference machine, and a yield to nobody 0.3 us.
const SWITCHED: Duration = Duration::from_nanos(1_100);
/// How long a neighbour is believed to stay who was there once.
const STAYS: Duration = Duration::from_millis(2);
/// Whoever keeps the processor longer has work to do.
const WORKS: Duration = Duration::from_micros(150);
/// How long watching is then given up.
const SHUN: Duration = Duration::from_millis(10);

/// What a watcher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again.
    Look,
    /// Look once more and block: others need the processor.
    Block,
}

/// What one thread knows of those who share its processor. Keep it from wait to wait.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    /// The last look of this wait.
    last: Option<Instant>,
    /// The end of the last yield.
    yielded: Instant,
    give_way_until: Option<Instant>,
    /// Yields in a row that let nobody else run.
    alone: u32,
    /// The last yield of this wait let somebody work for long: what is waited for may be his work, and there now.
    doubt: bool,
    block_until: Option<Instant>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Neighbours {
    /// Nobody known yet.
    pub fn new(now: Instant) -> Self {
        Self { last: None, yielded: now, give_way_until: None, alone: 0, doubt: false, block_until: None }
    }

    /// A wait begins, or goes on after work was done: the time since the last look says nothing.
    pub fn start(&mut self) {
        self.last = None;
        self.doubt = false;
    }

    /// [`Neighbours::next`], for who does not need the time for anything else.
    pub fn look_again(&mut self) -> Next {
        self.next(Instant::now())
    }

    /// A look at `now` found nothing. Pauses, or lets others run.
    pub fn next(&mut self, now: Instant) -> Next {
        self.next_with(now, || {
            std::thread::yield_now();
            Instant::now()
        })
    }

    /// The same; `give_way` yields and says what time it is then.
    fn next_with(&mut self, now: Instant, give_way: impl FnOnce() -> Instant) -> Next {
        if self.block_until.is_some_and(|until| now < until) {
            return Next::Block;
        }
        if self.doubt || self.last.is_some_and(|last| now.saturating_duration_since(last) > WORKS) {
            return self.crowded(now);
        }
        // What was asked for takes longer than a yield to nobody: the first one of a wait is free.
        let turn = match self.give_way_until {
            _ if self.alone >= LONELY => RARE_PROBE,
            _ if self.last.is_none() => Duration::ZERO,
            Some(until) if now < until => TURN,
            _ => PROBE,
        };
        if now.saturating_duration_since(self.yielded) < turn {
            self.last = Some(now);
            std::hint::spin_loop();
            return Next::Look;
        }
        let after = give_way();
        self.yielded = after;
        self.last = Some(after);
        let away = after.saturating_duration_since(now);
        if away <= SWITCHED {
            self.alone = self.alone.saturating_add(1);
            return Next::Look;
        }
        self.alone = 0;
        if away > WORKS {
            self.doubt = true;
        } else {
            self.give_way_until = Some(after + STAYS);
        }
        Next::Look
    }

    fn crowded(&mut self, now: Instant) -> Next {
        self.start();
        self.block_until = Some(now + SHUN);
        Next::Block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 200 ns for `time`; a yield takes `away`. How many looks and yields there were, and whether it ended in blocking.
    fn watch(n: &mut Neighbours, now: &mut Instant, time: Duration, away: Duration) -> (u32, u32, bool) {
        let end = *now + time;
        let (mut looks, mut yields) = (0, 0);
        n.start();
        while *now < end {
            *now += Duration::from_nanos(200);
            looks += 1;
            let at = *now;
            let mut after = None;
            let next = n.next_with(at, || *after.insert(at + away));
            if let Some(after) = after {
                yields += 1;
                *now = after;
            }
            if next == Next::Block {
                return (looks, yields, true);
            }
        }
        (looks, yields, false)
    }

    const MILLI: Duration = Duration::from_millis(1);
    const NOBODY: Duration = Duration::from_nanos(300);
    const POLITE: Duration = Duration::from_micros(3);

    #[test]
    fn alone_nearly_every_look_is_only_a_look() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        let (looks, yields, blocks) = watch(&mut n, &mut now, MILLI, NOBODY);
        assert!(!blocks && yields <= looks / 40, "{yields} yields in {looks} looks");
    }

    #[test]
    fn among_those_who_give_way_a_few_looks_are_a_turn_and_it_ends_with_them() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        let (looks, yields, blocks) = watch(&mut n, &mut now, MILLI, POLITE);
        assert!(!blocks && yields >= looks / 15, "{yields} yields in {looks} looks");
        let first = watch(&mut n, &mut now, Duration::from_nanos(100), POLITE);
        assert_eq!(first, (1, 1, false), "a new wait begins by giving way");
        watch(&mut n, &mut now, 3 * MILLI, NOBODY);
        let (looks, yields, blocks) = watch(&mut n, &mut now, MILLI, NOBODY);
        assert!(!blocks && yields <= looks / 40, "alone again: {yields} yields in {looks} looks");
    }

    #[test]
    fn beside_one_who_works_nobody_watches_for_a_while() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        let (_, yields, blocks) = watch(&mut n, &mut now, 10 * MILLI, 3 * MILLI);
        assert!(blocks && yields == 1, "{yields} yields");
        assert_eq!(n.next_with(now, || now + NOBODY), Next::Block, "and at once the next time");
        now += SHUN;
        assert!(!watch(&mut n, &mut now, MILLI, NOBODY).2, "later it is tried again");
    }

    #[test]
    fn whoever_is_alone_for_long_does_not_even_begin_by_giving_way() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        watch(&mut n, &mut now, 2 * MILLI, NOBODY);
        let waits = (0..100).map(|_| watch(&mut n, &mut now, Duration::from_micros(4), NOBODY).1);
        let yields: u32 = waits.sum();
        assert!((1..=5).contains(&yields), "{yields} yields in 400 us");
        // Somebody came: he is found within one probe, and each wait begins by giving way again.
        watch(&mut n, &mut now, RARE_PROBE, POLITE);
        assert_eq!(watch(&mut n, &mut now, Duration::from_nanos(100), POLITE), (1, 1, false));
    }

    /// The worker of a bulk transfer takes longer than any turn, for those who wait for it. Shunned for it, both ends slept and were woken for every
    /// 64 KiB, and a third of the throughput was left.
    #[test]
    fn one_whose_work_was_waited_for_is_not_shunned() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        for _ in 0..10 {
            n.start();
            let at = now + MILLI;
            assert_eq!(n.next_with(now, || at), Next::Look, "it may be there now");
            now = at;
        }
        n.start();
        assert_eq!(n.next_with(now, || now + MILLI), Next::Look);
        now += MILLI;
        assert_eq!(n.next_with(now, || now + NOBODY), Next::Block, "it was not: somebody else's work");
    }

    #[test]
    fn a_slice_lost_between_two_looks_counts_as_one_who_works_but_work_of_our_own_does_not() {
        let mut now = Instant::now();
        let mut n = Neighbours::new(now);
        assert_eq!(n.next_with(now, || now + NOBODY), Next::Look);
        n.start();
        now += 3 * MILLI;
        assert_eq!(n.next_with(now, || now + NOBODY), Next::Look, "we worked");
        now += 3 * MILLI;
        assert_eq!(n.next_with(now, || now + NOBODY), Next::Block, "somebody else did");
    }
}
