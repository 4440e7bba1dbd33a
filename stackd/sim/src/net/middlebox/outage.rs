//! A link that is down for a while: a suspended laptop, a tunnel, a handover.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::Instant;

/// Nothing passes between two times. What comes meanwhile is lost, or comes all at once afterwards.
#[derive(Debug)]
pub struct Outage {
    from: Instant,
    to: Instant,
    holds: bool,
    held: Vec<(Dir, IpPacket)>,
}

/// Most packets that a suspended link keeps.
const MOST_HELD: usize = 1000;

impl Outage {
    /// Down from `from` until `to`; `holds`: what comes meanwhile waits.
    pub const fn new(from: Instant, to: Instant, holds: bool) -> Self {
        Self { from, to, holds, held: Vec::new() }
    }
}

impl Middlebox for Outage {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        if now < self.from || now >= self.to {
            out.push((dir, packet));
        } else if self.holds && self.held.len() < MOST_HELD {
            self.held.push((dir, packet));
        }
    }
    fn next_deadline(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.to)
    }
    fn handle_timeout(&mut self, now: Instant, out: &mut Emitted) {
        if now >= self.to {
            out.append(&mut self.held);
        }
    }
}
