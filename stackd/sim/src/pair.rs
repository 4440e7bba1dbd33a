//! Two hosts and the two directions of a link between them, in virtual time.

use crate::events::EventQueue;
use crate::frame::Frame;
use crate::host::{Host, Violation};
use crate::link::{Link, LinkStats};
use stackd_base::Instant;

/// Events at one instant beyond which a history is a loop.
const LIVELOCK: u32 = 1_000_000;

#[derive(Debug)]
enum Event {
    Arrives { at: Side, frame: Frame },
    Timer { at: Side },
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one that connects.
    Client = 0,
    /// The one that accepts.
    Server = 1,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The pair.
#[derive(Debug)]
pub struct Pair {
    hosts: [Host; 2],
    /// `links[side]` carries what `side` sends.
    links: [Link; 2],
    queue: EventQueue<Event>,
    now: Instant,
    /// Earliest timer event scheduled for each host.
    armed: [Option<Instant>; 2],
    events: u64,
    events_now: u32,
}

impl Pair {
    /// The client's SYN leaves at `start`.
    pub fn new(client: Host, server: Host, up: Link, down: Link, start: Instant) -> Self {
        let mut pair = Self {
            hosts: [client, server],
            links: [up, down],
            queue: EventQueue::default(),
            now: start,
            armed: [None; 2],
            events: 0,
            events_now: 0,
        };
        pair.hosts[0].connect(start);
        pair.settle(Side::Client);
        pair
    }

    /// Runs until `until`, or until nothing more can happen.
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn run_until(&mut self, until: Instant) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.events_now = if at == self.now { self.events_now + 1 } else { 0 };
            if self.events_now > LIVELOCK {
                return Err(Violation(format!("{LIVELOCK} events at {at:?}: time stands still")));
            }
            self.now = at;
            self.events += 1;
            let side = match event {
                Event::Arrives { at: side, frame } => {
                    self.hosts[side as usize].handle_frame(at, &frame);
                    side
                }
                Event::Timer { at: side } => {
                    if self.armed[side as usize] == Some(at) {
                        self.armed[side as usize] = None;
                    }
                    self.hosts[side as usize].handle_timeout(at);
                    side
                }
            };
            self.settle(side);
            if let Some(v) = self.hosts[side as usize].violation() {
                return Err(Violation(format!("{side:?} at {at:?}: {}", v.0)));
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Lets a host send, and schedules its timer.
    fn settle(&mut self, side: Side) {
        let Self { hosts, links, queue, now, armed, .. } = self;
        let (host, link) = (&mut hosts[side as usize], &mut links[side as usize]);
        let to = side.other();
        host.poll(*now, |frame| {
            link.offer(*now, &frame, |at, frame| queue.push(at, Event::Arrives { at: to, frame }));
        });
        if let Some(at) = host.next_deadline() {
            let at = at.max(*now);
            if armed[side as usize].is_none_or(|a| at < a) {
                armed[side as usize] = Some(at);
                queue.push(at, Event::Timer { at: side });
            }
        }
    }

    /// Virtual time.
    pub const fn now(&self) -> Instant {
        self.now
    }
    /// One of the hosts.
    pub const fn host(&self, side: Side) -> &Host {
        &self.hosts[side as usize]
    }
    /// What happened to what `side` sent.
    pub const fn link_stats(&self, side: Side) -> LinkStats {
        self.links[side as usize].stats()
    }
    /// The link that carries what `side` sends, to change it.
    pub const fn link_mut(&mut self, side: Side) -> &mut Link {
        &mut self.links[side as usize]
    }
    /// Events handled.
    pub const fn events(&self) -> u64 {
        self.events
    }
    /// Nothing more will happen.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty()
    }
}
