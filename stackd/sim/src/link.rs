//! One direction of a virtual link: a queue in front of a wire of some rate and delay, and everything that goes wrong on it. Each
//! fault strikes single segments, inside a GSO frame too.

use crate::frame::Frame;
use crate::loss::{Loss, LossProcess, Probability};
use crate::net::IpPacket;
use core::ops::Range;
use stackd_base::{Bandwidth, Duration, Instant, Rng, SplitMix64};
use stackd_wire::EcnCodepoint;
use std::collections::VecDeque;

/// What a link carries: one segment, or a run of segments that travel together.
pub trait Cargo: Clone {
    /// Segments it stands for.
    fn segments(&self) -> u32;
    /// Bytes of the wire's time that segments `which` take.
    fn wire_bytes(&self, which: Range<u32>) -> u64;
    /// What stands for segments `which` of it.
    #[must_use]
    fn part(&self, which: Range<u32>) -> Self;
    /// CE, where that is possible. False where it is not.
    fn mark_ce(&mut self) -> bool;
    /// Damages it; false: the receiver would drop it, so it need not arrive.
    fn damage(&mut self, random: u64) -> bool;
}

impl Cargo for Frame {
    fn segments(&self) -> u32 {
        Self::segments(self)
    }
    fn wire_bytes(&self, which: Range<u32>) -> u64 {
        Self::wire_bytes(self, which)
    }
    fn part(&self, which: Range<u32>) -> Self {
        Self::part(self, which)
    }
    fn mark_ce(&mut self) -> bool {
        let can = self.ecn != EcnCodepoint::NotEct;
        if can {
            self.ecn = EcnCodepoint::Ce;
        }
        can
    }
    fn damage(&mut self, _: u64) -> bool {
        false
    }
}

impl Cargo for IpPacket {
    fn segments(&self) -> u32 {
        1
    }
    fn wire_bytes(&self, _: Range<u32>) -> u64 {
        Self::wire_bytes(self)
    }
    fn part(&self, _: Range<u32>) -> Self {
        self.clone()
    }
    fn mark_ce(&mut self) -> bool {
        let can = self.ecn() != EcnCodepoint::NotEct;
        if can {
            self.set_ecn(EcnCodepoint::Ce);
        }
        can
    }
    fn damage(&mut self, random: u64) -> bool {
        self.flip(random);
        true
    }
}

/// What a link is like. The default is a perfect one: no delay, no limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkConfig {
    /// Rate of the wire; `None` = infinite.
    pub rate: Option<Bandwidth>,
    /// Propagation delay.
    pub delay: Duration,
    /// Added to the delay of each frame, uniform in `0..=jitter`; frames stay in order.
    pub jitter: Duration,
    /// Random loss.
    pub loss: Loss,
    /// Segments that are damaged on the way; the receiver's checksum must find it. Lost, but counted apart.
    pub corrupt: Probability,
    /// Segments that are overtaken: they arrive `reorder_by` late.
    pub reorder: Probability,
    /// How late.
    pub reorder_by: Duration,
    /// Segments that arrive twice.
    pub duplicate: Probability,
    /// Queue limit in bytes of wire time; `None` = unlimited. What does not fit is dropped at the tail.
    pub limit_bytes: Option<u64>,
    /// Queue limit in segments; `None` = unlimited.
    pub limit_packets: Option<u32>,
    /// A segment that finds this much queueing delay or more leaves CE-marked if it can be.
    pub ce_threshold: Option<Duration>,
}

/// Segments, by fate.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize)]
pub struct LinkStats {
    /// Offered.
    pub offered: u64,
    /// Arrived (duplicates not counted).
    pub delivered: u64,
    /// Dropped at the tail of the queue.
    pub overflowed: u64,
    /// Lost on the wire.
    pub lost: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Arrived late on purpose.
    pub reordered: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// CE-marked.
    pub marked: u64,
    /// Longest queueing delay seen, in nanoseconds.
    pub max_queue_ns: u64,
}

/// A link and its state.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    loss: LossProcess,
    rng: SplitMix64,
    /// When the wire has sent all that is queued.
    free_at: Instant,
    /// Runs queued: when they leave, their segments.
    queued: VecDeque<(Instant, u32)>,
    queued_segments: u32,
    last_arrival: Instant,
    stats: LinkStats,
}

/// What becomes of one segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Late,
    Twice,
    Damaged,
    Vanishes,
}

impl Link {
    /// An idle link whose faults follow `seed`.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            loss: LossProcess::new(config.loss),
            rng: SplitMix64::new(seed),
            free_at: Instant::ZERO,
            queued: VecDeque::new(),
            queued_segments: 0,
            last_arrival: Instant::ZERO,
            stats: LinkStats::default(),
        }
    }

    /// What has happened so far.
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// From now on the link is like this. What is under way arrives as it would have.
    pub fn reconfigure(&mut self, config: LinkConfig) {
        if config.loss != self.config.loss {
            self.loss = LossProcess::new(config.loss);
        }
        self.config = config;
    }

    /// The sender puts `frame` on the link at `now`. `arrive(at, part)` is called for every run of its segments that will reach the
    /// other end together, in no particular order.
    pub fn offer<C: Cargo>(&mut self, now: Instant, frame: &C, mut arrive: impl FnMut(Instant, C)) {
        while self.queued.front().is_some_and(|q| q.0 <= now) {
            self.queued_segments -= self.queued.pop_front().map_or(0, |q| q.1);
        }
        let segments = frame.segments();
        self.stats.offered += u64::from(segments);
        let fits = self.segments_that_fit(now, frame, segments);
        self.stats.overflowed += u64::from(segments - fits);
        if fits == 0 {
            return;
        }
        let delay = self.frame_delay();
        let queueing = self.free_at.saturating_since(now);
        self.stats.max_queue_ns = self.stats.max_queue_ns.max(queueing.as_nanos());
        let mark = self.config.ce_threshold.is_some_and(|t| queueing >= t);

        let start = self.free_at.max(now);
        // Segments of one fate that follow each other travel as one frame, as GRO would join them.
        let mut run = 0;
        for i in 0..fits {
            let fate = self.fate();
            if fate == Fate::Arrives {
                continue;
            }
            self.arrive_run(start, delay, frame, run..i, mark, &mut arrive);
            if fate != Fate::Vanishes {
                self.arrive_one(start, delay, frame, i, fate, mark, &mut arrive);
            }
            run = i + 1;
        }
        self.arrive_run(start, delay, frame, run..fits, mark, &mut arrive);
        self.free_at = start + self.time_for(frame.wire_bytes(0..fits));
        if self.config.limit_packets.is_some() {
            self.queued.push_back((self.free_at, fits));
            self.queued_segments += fits;
        }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        match self.config.rate {
            None => Duration::ZERO,
            // A link of rate zero is down: what is put on it never arrives.
            Some(rate) => rate.transmission_time(bytes).unwrap_or(Duration::MAX),
        }
    }

    fn frame_delay(&mut self) -> Duration {
        let jitter = self.config.jitter.as_nanos();
        let extra = if jitter == 0 { 0 } else { self.rng.next_u64() % (jitter + 1) };
        self.config.delay + Duration::from_nanos(extra)
    }

    fn segments_that_fit<C: Cargo>(&self, now: Instant, frame: &C, segments: u32) -> u32 {
        let mut fits = segments;
        if let Some(limit) = self.config.limit_packets {
            fits = fits.min(limit.saturating_sub(self.queued_segments));
        }
        if let (Some(limit), Some(rate)) = (self.config.limit_bytes, self.config.rate) {
            let room = limit.saturating_sub(rate.bytes_in(self.free_at.saturating_since(now)));
            let each = frame.wire_bytes(0..1).max(1);
            if frame.wire_bytes(0..fits) > room {
                fits = fits.min(u32::try_from(room / each).unwrap_or(u32::MAX));
            }
        }
        fits
    }

    fn fate(&mut self) -> Fate {
        if self.loss.strikes(&mut self.rng) {
            self.stats.lost += 1;
            return Fate::Vanishes;
        }
        if self.config.corrupt.toss(&mut self.rng) {
            self.stats.corrupted += 1;
            return Fate::Damaged;
        }
        if self.config.reorder.toss(&mut self.rng) {
            self.stats.reordered += 1;
            return Fate::Late;
        }
        if self.config.duplicate.toss(&mut self.rng) {
            self.stats.duplicated += 1;
            return Fate::Twice;
        }
        Fate::Arrives
    }

    fn arrive_run<C: Cargo>(
        &mut self,
        start: Instant,
        delay: Duration,
        frame: &C,
        which: Range<u32>,
        mark: bool,
        arrive: &mut impl FnMut(Instant, C),
    ) {
        if which.is_empty() {
            return;
        }
        let n = which.end - which.start;
        self.stats.delivered += u64::from(n);
        let sent = start + self.time_for(frame.wire_bytes(0..which.end));
        let at = (sent + delay).max(self.last_arrival);
        self.last_arrival = at;
        let part = self.marked(frame.part(which), mark, n);
        arrive(at, part);
    }

    #[allow(clippy::too_many_arguments)]
    fn arrive_one<C: Cargo>(
        &mut self,
        start: Instant,
        delay: Duration,
        frame: &C,
        i: u32,
        fate: Fate,
        mark: bool,
        arrive: &mut impl FnMut(Instant, C),
    ) {
        let at = start + self.time_for(frame.wire_bytes(0..i + 1)) + delay;
        if fate == Fate::Damaged {
            let mut part = frame.part(i..i + 1);
            if part.damage(self.rng.next_u64()) {
                arrive(at, part);
            }
            return;
        }
        self.stats.delivered += 1;
        let part = self.marked(frame.part(i..i + 1), mark, 1);
        match fate {
            Fate::Late => arrive(at + self.config.reorder_by, part),
            Fate::Twice => {
                let at = at.max(self.last_arrival);
                self.last_arrival = at;
                arrive(at, part.clone());
                arrive(at, part);
            }
            Fate::Arrives | Fate::Damaged | Fate::Vanishes => arrive(at, part),
        }
    }

    fn marked<C: Cargo>(&mut self, mut part: C, mark: bool, segments: u32) -> C {
        if mark && part.mark_ce() {
            self.stats.marked += u64::from(segments);
        }
        part
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
