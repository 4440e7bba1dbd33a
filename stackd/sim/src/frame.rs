//! What crosses a virtual link: a TCP segment, or the run of them that one GSO frame stands for. Payload is a range of the sender's
//! stream: where a byte comes from is all that there is to know of it.

use core::ops::Range;
use stackd_base::Instant;
use stackd_qdisc::QueuedPacket;
use stackd_wire::{EcnCodepoint, TcpRepr};

/// Bytes around a TCP segment on Ethernet: IPv4 header, Ethernet header, checksum, preamble and gap.
pub const OVERHEAD: u32 = 20 + 14 + 4 + 8 + 12;

/// A segment or a GSO frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Header, of the first segment.
    pub repr: TcpRepr,
    /// Stream range of the payload.
    pub payload: Range<u64>,
    /// Payload bytes of each segment but the last; 0 = one segment.
    pub gso_size: u32,
    /// ECN codepoint of the IP header.
    pub ecn: EcnCodepoint,
    /// Not to leave the sender before.
    pub departure: Option<Instant>,
    /// A bit of it was flipped on the way: the receiver's checksum will find it.
    pub corrupted: bool,
}

impl QueuedPacket for Frame {
    fn wire_len(&self) -> u32 {
        // What a qdisc counts: no checksum, preamble or gap.
        let headers = self.segments() * (34 + self.repr.header_len() as u32);
        headers + self.payload_len()
    }
    fn segments(&self) -> u32 {
        Self::segments(self)
    }
    fn flow_hash(&self) -> u64 {
        u64::from(self.repr.src_port) << 16 | u64::from(self.repr.dst_port)
    }
    fn departure(&self) -> Option<Instant> {
        self.departure
    }
    fn priority(&self) -> u8 {
        0
    }
    fn max_pacing_rate(&self) -> u64 {
        u64::MAX
    }
    fn ecn_capable(&self) -> bool {
        self.ecn != EcnCodepoint::NotEct
    }
    fn mark_ce(&mut self) {
        self.ecn = EcnCodepoint::Ce;
    }
    fn split_first(&mut self) -> Option<Self> {
        let segments = Self::segments(self);
        if segments < 2 {
            return None;
        }
        let first = self.part(0..1);
        *self = self.part(1..segments);
        Some(first)
    }
    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
    fn corrupt(&mut self, _random: u64) {
        self.corrupted = true;
    }
}

impl Frame {
    /// Payload bytes.
    pub const fn payload_len(&self) -> u32 {
        (self.payload.end - self.payload.start) as u32
    }

    /// Segments it stands for; a frame without payload is one.
    pub const fn segments(&self) -> u32 {
        if self.gso_size == 0 {
            1
        } else {
            let n = self.payload_len().div_ceil(self.gso_size);
            if n == 0 { 1 } else { n }
        }
    }

    /// Bytes of the link's time that segments `which` take.
    pub fn wire_bytes(&self, which: Range<u32>) -> u64 {
        let headers = (which.end - which.start) * (OVERHEAD + self.repr.header_len() as u32);
        let r = self.payload_of(which);
        u64::from(headers) + (r.end - r.start)
    }

    fn payload_of(&self, which: Range<u32>) -> Range<u64> {
        if self.gso_size == 0 {
            return self.payload.clone();
        }
        let at = |i: u32| (self.payload.start + u64::from(i) * u64::from(self.gso_size)).min(self.payload.end);
        at(which.start)..at(which.end)
    }

    /// The frame that stands for segments `which` of this one: as a device would have cut them, and GRO joined them again.
    ///
    /// FIN and PSH belong to the last segment, CWR to the first (Linux's TSO does the same).
    #[must_use]
    pub fn part(&self, which: Range<u32>) -> Self {
        use stackd_wire::TcpFlags;
        let (first, last) = (which.start == 0, which.end >= self.segments());
        let payload = self.payload_of(which.clone());
        let mut repr = self.repr;
        repr.seq += (payload.start - self.payload.start) as u32;
        if !last {
            repr.flags = repr.flags.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        if !first {
            repr.flags = repr.flags.without(TcpFlags::CWR);
        }
        let gso_size = if which.end - which.start > 1 { self.gso_size } else { 0 };
        Self { repr, payload, gso_size, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::SeqNum;
    use stackd_wire::TcpFlags;

    #[test]
    fn parts_are_what_a_device_would_cut() {
        let repr = TcpRepr {
            seq: SeqNum(1000),
            ack: Some(SeqNum(1)),
            flags: TcpFlags::PSH | TcpFlags::CWR,
            ..TcpRepr::default()
        };
        let f = Frame {
            repr,
            payload: 500..3000,
            gso_size: 1000,
            ecn: EcnCodepoint::default(),
            departure: None,
            corrupted: false,
        };
        assert_eq!(f.segments(), 3);
        let (a, b) = (f.part(0..1), f.part(1..3));
        assert_eq!((a.repr.seq, a.payload.clone(), a.gso_size), (SeqNum(1000), 500..1500, 0));
        assert_eq!((b.repr.seq, b.payload.clone(), b.gso_size), (SeqNum(2000), 1500..3000, 1000));
        assert!(a.repr.flags.cwr() && !a.repr.flags.psh() && b.repr.flags.psh() && !b.repr.flags.cwr());
        assert_eq!(f.wire_bytes(0..3), a.wire_bytes(0..1) + b.wire_bytes(0..2));
    }

    #[test]
    fn a_full_segment_with_timestamps_takes_1538_bytes_of_ethernet() {
        let mut repr = TcpRepr::default();
        repr.options.timestamps = Some(stackd_wire::Timestamps::default());
        let f = Frame {
            repr,
            payload: 0..1448,
            gso_size: 0,
            ecn: EcnCodepoint::default(),
            departure: None,
            corrupted: false,
        };
        assert_eq!(f.wire_bytes(0..1), 1538);
    }
}
