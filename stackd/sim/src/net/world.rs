//! Hosts to the left and to the right of a chain of links and middleboxes that all of their packets pass.

use super::middlebox::{Dir, Emitted, Middlebox};
use super::node::{Node, Wrong};
use super::packet::IpPacket;
use crate::events::EventQueue;
use crate::link::{Link, LinkStats};
use stackd_base::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One hop of the chain.
#[derive(Debug)]
pub enum Stage {
    /// A wire: what goes right, and what goes left.
    Wire(Box<[Link; 2]>),
    /// A middlebox.
    Box(Box<dyn Middlebox>),
}

#[derive(Debug)]
enum Event {
    /// A packet is about to enter the chain's hop, or to leave the chain when there is none.
    Enters {
        hop: isize,
        dir: Dir,
        packet: IpPacket,
    },
    /// A packet reached a host.
    Delivered {
        node: usize,
        packet: IpPacket,
    },
    NodeTimer {
        node: usize,
    },
    HopTimer {
        hop: usize,
    },
}

/// Something that must never be, and when it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Virtual time.
    pub at: Instant,
    /// Which host, by its number; `None`: the world itself.
    pub node: Option<usize>,
    /// What.
    pub what: Wrong,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:.6} s", self.at.as_nanos() as f64 / 1e9)?;
        if let Some(n) = self.node {
            write!(f, ", host {n}")?;
        }
        write!(f, ": {}", self.what)
    }
}

struct Attached {
    node: Box<dyn Node>,
    /// On which side of the chain.
    left: bool,
    /// Away from the host, and to it.
    access: [Link; 2],
    armed: Option<Instant>,
}

/// The world.
pub struct World {
    now: Instant,
    hosts: Vec<Attached>,
    routes: BTreeMap<IpAddr, usize>,
    chain: Vec<Stage>,
    armed: Vec<Option<Instant>>,
    queue: EventQueue<Event>,
    events: u64,
    events_now: u32,
    /// Packets that left a host.
    packets: u64,
    /// Every packet at a host's wire is told.
    trace: Option<fn(Instant, usize, bool, &IpPacket)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Events at one instant beyond which time stands still.
const LIVELOCK: u32 = 200_000;

impl World {
    /// A chain, and nobody at its ends yet.
    pub fn new(now: Instant, chain: Vec<Stage>) -> Self {
        let armed = chain.iter().map(|_| None).collect();
        Self {
            now,
            hosts: Vec::new(),
            routes: BTreeMap::new(),
            chain,
            armed,
            queue: EventQueue::default(),
            events: 0,
            events_now: 0,
            packets: 0,
            trace: None,
        }
    }

    /// Tells of every packet at a host's wire: when, which host, whether it leaves it.
    pub fn set_trace(&mut self, trace: fn(Instant, usize, bool, &IpPacket)) {
        self.trace = Some(trace);
    }

    /// Attaches a host that has these addresses. It begins when the world runs. Returns its number.
    pub fn attach(&mut self, node: Box<dyn Node>, left: bool, addresses: &[IpAddr], access: [Link; 2]) -> usize {
        let number = self.hosts.len();
        self.routes.extend(addresses.iter().map(|&a| (a, number)));
        self.hosts.push(Attached { node, left, access, armed: Some(self.now) });
        self.queue.push(self.now, Event::NodeTimer { node: number });
        number
    }

    /// Runs until `until`, until no host has anything to do any more, or until more than `most` events happened.
    ///
    /// # Errors
    /// The first thing that must never be.
    pub fn run(&mut self, until: Instant, most: u64) -> Result<(), Failure> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.events_now = if at == self.now { self.events_now + 1 } else { 0 };
            self.now = at;
            self.events += 1;
            if self.events_now > LIVELOCK {
                return Err(self.failure(None, format!("{LIVELOCK} events and time stands still")));
            }
            if self.events > most {
                return Err(self.failure(None, format!("more than {most} events for what there was to do")));
            }
            self.handle(event)?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let now = self.now;
        match event {
            Event::Enters { hop, dir, packet } => self.forward(hop, dir, packet),
            Event::Delivered { node, packet } => {
                if let Some(trace) = self.trace {
                    trace(now, node, false, &packet);
                }
                self.hosts[node].node.receive(now, packet);
                self.settle(node)?;
            }
            Event::NodeTimer { node } => {
                let host = &mut self.hosts[node];
                if host.armed == Some(now) {
                    host.armed = None;
                }
                host.node.handle_timeout(now);
                self.settle(node)?;
            }
            Event::HopTimer { hop } => {
                self.armed[hop] = None;
                let mut out = Emitted::new();
                if let Stage::Box(b) = &mut self.chain[hop] {
                    b.handle_timeout(now, &mut out);
                }
                self.emit(hop, out);
            }
        }
        Ok(())
    }

    /// A host does what it can, is checked, and says when it wants to be called.
    fn settle(&mut self, node: usize) -> Result<(), Failure> {
        let now = self.now;
        let mut out = Vec::new();
        let polled = self.hosts[node].node.poll(now, &mut out);
        polled.map_err(|what| self.failure(Some(node), what))?;
        let checked = self.hosts[node].node.check(now);
        checked.map_err(|what| self.failure(Some(node), what))?;
        for packet in out {
            self.packets += 1;
            if let Some(trace) = self.trace {
                trace(now, node, true, &packet);
            }
            let host = &mut self.hosts[node];
            let (hop, dir) = if host.left { (0, Dir::Right) } else { (self.chain.len() as isize - 1, Dir::Left) };
            let queue = &mut self.queue;
            host.access[0].offer(now, &packet, |at, packet| queue.push(at, Event::Enters { hop, dir, packet }));
        }
        let host = &mut self.hosts[node];
        if let Some(at) = host.node.next_deadline(now) {
            let at = at.max(now);
            if host.armed.is_none_or(|a| at < a) {
                host.armed = Some(at);
                self.queue.push(at, Event::NodeTimer { node });
            }
        }
        Ok(())
    }

    /// A packet enters hop `hop`, or leaves the chain.
    fn forward(&mut self, hop: isize, dir: Dir, packet: IpPacket) {
        let now = self.now;
        let Some(stage) = usize::try_from(hop).ok().and_then(|h| self.chain.get_mut(h)) else {
            self.leave(dir, &packet);
            return;
        };
        match stage {
            Stage::Wire(links) => {
                let queue = &mut self.queue;
                let next = hop + step(dir);
                links[dir as usize].offer(now, &packet, |at, packet| {
                    queue.push(at, Event::Enters { hop: next, dir, packet });
                });
            }
            Stage::Box(b) => {
                let mut out = Emitted::new();
                b.handle(now, dir, packet, &mut out);
                self.emit(hop as usize, out);
            }
        }
    }

    /// What a middlebox let go moves on; it says when it wants to be called.
    fn emit(&mut self, hop: usize, out: Emitted) {
        if let Stage::Box(b) = &self.chain[hop]
            && let Some(at) = b.next_deadline()
        {
            let at = at.max(self.now);
            if self.armed[hop].is_none_or(|a| at < a) {
                self.armed[hop] = Some(at);
                self.queue.push(at, Event::HopTimer { hop });
            }
        }
        for (dir, packet) in out {
            self.forward(hop as isize + step(dir), dir, packet);
        }
    }

    /// The end of the chain: to whom it is addressed, if that is somebody on this side.
    fn leave(&mut self, dir: Dir, packet: &IpPacket) {
        let to = packet.addresses().and_then(|(_, dst)| self.routes.get(&dst).copied());
        let Some(node) = to.filter(|&n| self.hosts[n].left == (dir == Dir::Left)) else { return };
        let (queue, now) = (&mut self.queue, self.now);
        self.hosts[node].access[1].offer(now, packet, |at, packet| queue.push(at, Event::Delivered { node, packet }));
    }

    fn failure(&self, node: Option<usize>, what: String) -> Failure {
        Failure { at: self.now, node, what }
    }

    /// Every host is checked to hold nothing any more.
    ///
    /// # Errors
    /// The first one that does.
    pub fn check_empty(&mut self) -> Result<(), Failure> {
        for node in 0..self.hosts.len() {
            let now = self.now;
            let empty = self.hosts[node].node.check_empty(now);
            empty.map_err(|what| self.failure(Some(node), what))?;
        }
        Ok(())
    }

    /// A host.
    pub fn node(&self, number: usize) -> &dyn Node {
        &*self.hosts[number].node
    }
    /// Hosts.
    pub const fn nodes(&self) -> usize {
        self.hosts.len()
    }
    /// No host has a program any more.
    pub fn is_finished(&self) -> bool {
        self.hosts.iter().all(|h| h.node.is_finished())
    }
    /// Virtual time.
    pub const fn now(&self) -> Instant {
        self.now
    }
    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }
    /// Packets that hosts sent so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }
    /// What happened on the chain's wires, both directions of each.
    pub fn link_stats(&self) -> Vec<LinkStats> {
        let wires = self.chain.iter().filter_map(|s| match s {
            Stage::Wire(links) => Some(links.iter().map(Link::stats)),
            Stage::Box(_) => None,
        });
        wires.flatten().collect()
    }
}

const fn step(dir: Dir) -> isize {
    match dir {
        Dir::Right => 1,
        Dir::Left => -1,
    }
}
