//! Routers that clear ECN, and routers that set CE.

use super::{Dir, Emitted, Middlebox};
use crate::loss::Probability;
use crate::net::packet::IpPacket;
use stackd_base::{Instant, SplitMix64};
use stackd_wire::EcnCodepoint;

/// Clears the ECN field of every packet, as routers that treat the whole octet as TOS do (RFC 9768, 3.2.2.3 calls it a transition to be detected).
#[derive(Debug)]
pub struct Bleacher;

impl Middlebox for Bleacher {
    fn handle(&mut self, _: Instant, dir: Dir, mut packet: IpPacket, out: &mut Emitted) {
        packet.set_ecn(EcnCodepoint::NotEct);
        out.push((dir, packet));
    }
}

/// Marks packets that are capable of it, at random.
#[derive(Debug)]
pub struct Marker {
    chance: Probability,
    rng: SplitMix64,
}

impl Marker {
    /// Marks so many.
    pub const fn new(chance: Probability, seed: u64) -> Self {
        Self { chance, rng: SplitMix64::new(seed) }
    }
}

impl Middlebox for Marker {
    fn handle(&mut self, _: Instant, dir: Dir, mut packet: IpPacket, out: &mut Emitted) {
        if packet.ecn().is_capable() && self.chance.toss(&mut self.rng) {
            packet.set_ecn(EcnCodepoint::Ce);
        }
        out.push((dir, packet));
    }
}
