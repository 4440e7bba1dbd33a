//! What cable modems, Wi-Fi and "accelerators" do to acknowledgments.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::{Duration, Instant};
use std::net::SocketAddr;

/// Holds a pure ACK for a moment; a later one of the same flow replaces it, so many times at most. ACKs that report something (SACK
/// blocks) and duplicates pass, as a thinner that understands TCP lets them; a blind one drops them too.
#[derive(Debug)]
pub struct AckThinner {
    one_in: u32,
    blind: bool,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    dir: Dir,
    ends: (SocketAddr, SocketAddr),
    ack: u32,
    packet: IpPacket,
    replaced: u32,
    until: Instant,
}

/// How long an ACK waits to be replaced.
const HOLD: Duration = Duration::from_millis(2);

impl AckThinner {
    /// Keeps one in `n` of those that come close together.
    pub const fn new(n: u32, blind: bool) -> Self {
        Self { one_in: n, blind, held: Vec::new() }
    }
}

impl Middlebox for AckThinner {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(s) = packet.segment() else {
            out.push((dir, packet));
            return;
        };
        let ends = (s.src, s.dst);
        let ack = s.tcp.ack.map_or(0, |a| a.0);
        let before = self.held.iter().position(|h| h.ends == ends).map(|at| self.held.remove(at));
        let same = before.as_ref().is_some_and(|h| h.ack == ack);
        let thin = s.is_pure_ack() && (self.blind || (s.tcp.options.sack.is_empty() && !same));
        let replaced = before.as_ref().map_or(0, |h| h.replaced + 1);
        if let Some(h) = before
            && (!thin || replaced >= self.one_in)
        {
            out.push((h.dir, h.packet));
        }
        if !thin {
            out.push((dir, packet));
            return;
        }
        let replaced = if replaced >= self.one_in { 0 } else { replaced };
        self.held.push(Held { dir, ends, ack, packet, replaced, until: now + HOLD });
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.held.iter().map(|h| h.until).min()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Emitted) {
        let due: Vec<_> = self.held.extract_if(.., |h| h.until <= now).collect();
        out.extend(due.into_iter().map(|h| (h.dir, h.packet)));
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
