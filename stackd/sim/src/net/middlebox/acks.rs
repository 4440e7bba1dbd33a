//! What cable modems, Wi-Fi and "accelerators" do to acknowledgments.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Lets only one of so many pure ACKs of a flow through. Those that report something (SACK blocks) and duplicates pass, as a thinner
/// that understands TCP lets them; a blind one drops them too.
#[derive(Debug)]
pub struct AckThinner {
    keep_one_in: u32,
    blind: bool,
    seen: BTreeMap<(SocketAddr, SocketAddr), (u32, u32)>,
}

impl AckThinner {
    /// Keeps one in `n`.
    pub const fn new(n: u32, blind: bool) -> Self {
        Self { keep_one_in: n, blind, seen: BTreeMap::new() }
    }
}

impl Middlebox for AckThinner {
    fn handle(&mut self, _: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(s) = packet.segment().filter(|s| s.is_pure_ack()) else {
            out.push((dir, packet));
            return;
        };
        let ack = s.tcp.ack.map_or(0, |a| a.0);
        let (count, last) = self.seen.entry((s.src, s.dst)).or_insert((0, ack.wrapping_sub(1)));
        let says_more = !self.blind && (!s.tcp.options.sack.is_empty() || *last == ack);
        *last = ack;
        *count += 1;
        if says_more || (*count).is_multiple_of(self.keep_one_in.max(1)) {
            out.push((dir, packet));
        }
    }
}

/// Holds pure ACKs back and lets them go together every so often.
#[derive(Debug)]
pub struct AckCompressor {
    every: Duration,
    release_at: Option<Instant>,
    held: Vec<(Dir, IpPacket)>,
}

impl AckCompressor {
    /// Releases every `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, release_at: None, held: Vec::new() }
    }
}

impl Middlebox for AckCompressor {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        if packet.segment().is_some_and(|s| s.is_pure_ack()) {
            self.held.push((dir, packet));
            self.release_at.get_or_insert(now + self.every);
        } else {
            out.push((dir, packet));
        }
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.release_at
    }
    fn handle_timeout(&mut self, now: Instant, out: &mut Emitted) {
        if self.release_at.is_some_and(|at| at <= now) {
            self.release_at = None;
            out.append(&mut self.held);
        }
    }
}
