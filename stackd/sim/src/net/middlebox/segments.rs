//! Boxes that cut segments smaller, and boxes that join them (receive offload, some proxies).

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::{IpPacket, Segment};
use stackd_base::{Duration, Instant};
use stackd_wire::TcpFlags;

/// Cuts segments that carry more than so many bytes.
#[derive(Debug)]
pub struct Splitter {
    most: usize,
}

impl Splitter {
    /// No more than `most` bytes of payload.
    pub const fn new(most: usize) -> Self {
        Self { most }
    }
}

impl Middlebox for Splitter {
    fn handle(&mut self, _: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(s) = packet.segment().filter(|s| s.payload.len() > self.most && !s.tcp.flags.syn()) else {
            out.push((dir, packet));
            return;
        };
        let pieces = s.payload.len().div_ceil(self.most);
        for (i, piece) in s.payload.chunks(self.most).enumerate() {
            let mut part = s.clone();
            part.payload = piece.to_vec();
            part.tcp.seq += (i * self.most) as u32;
            if i + 1 < pieces {
                part.tcp.flags = part.tcp.flags.without(TcpFlags::FIN | TcpFlags::PSH);
            }
            if i > 0 {
                part.tcp.flags = part.tcp.flags.without(TcpFlags::CWR);
            }
            out.push((dir, part.emit()));
        }
    }
}

/// Joins segments that follow each other, as GRO does: held for a short time, no larger than a limit.
#[derive(Debug)]
pub struct Coalescer {
    towards: Dir,
    most: usize,
    hold: Duration,
    held: Vec<(Dir, Segment, Instant)>,
}

impl Coalescer {
    /// Packets of up to `most` bytes that go in `towards`, none held for longer than `hold`. The hosts behind it take any size; links do not.
    pub const fn new(towards: Dir, most: usize, hold: Duration) -> Self {
        Self { towards, most, hold, held: Vec::new() }
    }

    /// Same flow, next in sequence, same options but for the clock, same ECN, nothing that ends a run.
    fn joins(&self, a: &Segment, b: &Segment) -> bool {
        let plain = |s: &Segment| {
            let f = s.tcp.flags.without(TcpFlags::PSH);
            f == TcpFlags::NONE
                && s.tcp.options.sack.is_empty()
                && s.tcp.options.accecn.is_none()
                && s.tcp.ack.is_some()
        };
        let ts = |s: &Segment| s.tcp.options.timestamps;
        plain(a)
            && (plain(b) || (b.tcp.flags.without(TcpFlags::PSH) == TcpFlags::FIN && b.tcp.options.sack.is_empty()))
            && a.tcp.options.md5.is_none()
            && a.end() == b.tcp.seq
            && a.tcp.ack == b.tcp.ack
            && a.tcp.window == b.tcp.window
            && a.tos == b.tos
            && ts(a) == ts(b)
            && !b.payload.is_empty()
            && a.payload.len() + b.payload.len() + 100 <= self.most
    }

    fn flush_flow(&mut self, of: &Segment, out: &mut Emitted) {
        let mut i = 0;
        while i < self.held.len() {
            if self.held[i].1.src == of.src && self.held[i].1.dst == of.dst {
                let (dir, s, _) = self.held.remove(i);
                out.push((dir, s.emit()));
            } else {
                i += 1;
            }
        }
    }
}

impl Middlebox for Coalescer {
    fn handle(&mut self, now: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(s) = packet.segment().filter(|_| dir == self.towards) else {
            out.push((dir, packet));
            return;
        };
        let at = self.held.iter().position(|(_, h, _)| h.src == s.src && h.dst == s.dst);
        if let Some(at) = at {
            if self.joins(&self.held[at].1, &s) {
                let h = &mut self.held[at].1;
                h.payload.extend_from_slice(&s.payload);
                h.tcp.flags |= s.tcp.flags;
                if s.tcp.flags.fin() {
                    self.flush_flow(&s, out);
                }
                return;
            }
            self.flush_flow(&s, out);
        }
        let waits = !s.payload.is_empty() && s.tcp.flags.without(TcpFlags::PSH) == TcpFlags::NONE;
        if waits {
            self.held.push((dir, s, now + self.hold));
        } else {
            out.push((dir, packet));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.held.iter().map(|h| h.2).min()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Emitted) {
        let due: Vec<_> = self.held.extract_if(.., |h| h.2 <= now).collect();
        out.extend(due.into_iter().map(|(dir, s, _)| (dir, s.emit())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::tests::segment;

    #[test]
    fn what_is_cut_and_joined_again_is_the_same() {
        for v6 in [false, true] {
            let mut s = segment(v6, u32::MAX - 100, 1000);
            s.tcp.flags = TcpFlags::PSH;
            let (mut cut, mut joined) = (Vec::new(), Vec::new());
            Splitter::new(333).handle(Instant::ZERO, Dir::Right, s.emit(), &mut cut);
            assert_eq!(cut.len(), 4);
            let mut join = Coalescer::new(Dir::Right, 1500, Duration::from_micros(50));
            for (dir, p) in cut {
                join.handle(Instant::ZERO, dir, p, &mut joined);
            }
            assert!(joined.is_empty());
            join.handle_timeout(Instant::ZERO + Duration::from_micros(50), &mut joined);
            assert_eq!(joined.len(), 1);
            assert_eq!(joined[0].1, s.emit());
        }
    }

    #[test]
    fn a_gap_is_not_joined_over() {
        let mut join = Coalescer::new(Dir::Right, 1500, Duration::from_micros(50));
        let mut out = Vec::new();
        join.handle(Instant::ZERO, Dir::Right, segment(false, 0, 100).emit(), &mut out);
        join.handle(Instant::ZERO, Dir::Right, segment(false, 200, 100).emit(), &mut out);
        assert_eq!(out.len(), 1);
    }
}
