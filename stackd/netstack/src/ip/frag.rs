//! Reassembly of IPv4 and IPv6 fragments, with limits.

use stackd_base::{DropReason, Instant};
use stackd_wire::EcnCodepoint;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Fragments of one packet; more are an attack.
const MAX_PIECES: usize = 64;
/// What keeping a fragment costs besides its bytes: a flood of tiny ones must meet the limit too.
const OVERHEAD: usize = 192;

/// RFC 791, 3.2 and RFC 8200, 4.5: what fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ident: u32,
    /// IPv4 only; zero in IPv6.
    pub protocol: u8,
}

#[derive(Debug)]
struct Partial {
    /// Sorted by offset, disjoint.
    pieces: Vec<(usize, Box<[u8]>)>,
    /// Payload bytes of the whole packet, known once the last fragment is here.
    total: Option<usize>,
    /// Header of the first fragment, to be used for the whole.
    header: Option<Box<[u8]>>,
    /// ECN codepoints seen: bit `n` is codepoint `n`.
    ecn: u8,
    expires: Instant,
    bytes: usize,
}

/// One fragment.
#[derive(Debug)]
pub(super) struct Fragment<'a> {
    pub offset: usize,
    pub more: bool,
    /// Header to be put in front of the whole packet (of the first fragment: unfragmentable part).
    pub header: &'a [u8],
    pub data: &'a [u8],
    pub ecn: EcnCodepoint,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Kept; more are missing.
    Kept,
    /// Complete: header of the first fragment, the whole payload, the ECN codepoint of the whole.
    Complete { header: Box<[u8]>, payload: Vec<u8>, ecn: EcnCodepoint },
    /// Given up: this fragment and `others` kept ones.
    Dropped { reason: DropReason, others: usize },
}

/// A packet whose time is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expired {
    pub key: Key,
    pub pieces: usize,
    /// Header and data of the first fragment, if it came: what an ICMP error quotes.
    pub first: Option<Vec<u8>>,
}

/// Which field of a fragment is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Malformed {
    /// Its length, which is no multiple of eight though more follow.
    Length,
    /// Its offset: the whole would be longer than a packet can be.
    Offset,
}

/// RFC 3168, 5.3: CE if any fragment has it; but "If any fragment ... has the Not-ECT codepoint set ... and CE" or ECT elsewhere, the packet
/// is dropped (so Linux's table).
fn merged_ecn(seen: u8) -> Option<EcnCodepoint> {
    let has = |c: EcnCodepoint| seen & 1 << c as u8 != 0;
    if has(EcnCodepoint::NotEct) {
        return (seen == 1 << EcnCodepoint::NotEct as u8).then_some(EcnCodepoint::NotEct);
    }
    Some(if has(EcnCodepoint::Ce) {
        EcnCodepoint::Ce
    } else if has(EcnCodepoint::Ect0) {
        EcnCodepoint::Ect0
    } else {
        EcnCodepoint::Ect1
    })
}

#[derive(Debug, Default)]
pub(super) struct Reassembler {
    packets: BTreeMap<Key, Partial>,
    deadlines: BTreeSet<(Instant, Key)>,
    /// Memory held, overhead included.
    bytes: usize,
}

impl Reassembler {
    pub(super) fn add(&mut self, key: Key, f: &Fragment<'_>, limit: usize, expires: Instant) -> Outcome {
        let drop_one = |reason| Outcome::Dropped { reason, others: 0 };
        // RFC 8200, 4.5: "the length of a fragment ... is not a multiple of 8 octets and the M flag ... is 1 ... must be discarded".
        let end = f.offset + f.data.len();
        if Self::malformed(f).is_some() || f.data.is_empty() {
            return drop_one(DropReason::IpFragmentInvalid);
        }
        if self.bytes + f.data.len() + OVERHEAD > limit {
            return drop_one(DropReason::IpFragmentMemory);
        }
        let p = self.packets.entry(key).or_insert_with(|| Partial {
            pieces: Vec::new(),
            total: None,
            header: None,
            ecn: 0,
            expires,
            bytes: 0,
        });
        self.deadlines.insert((p.expires, key));
        let at = p.pieces.partition_point(|(o, _)| *o < f.offset);
        if p.pieces.get(at).is_some_and(|(o, d)| *o == f.offset && **d == *f.data) {
            // An exact duplicate is the network's doing, not an attack (RFC 5722 allows ignoring it).
            return drop_one(DropReason::IpFragmentInvalid);
        }
        let overlaps = at.checked_sub(1).is_some_and(|i| p.pieces[i].0 + p.pieces[i].1.len() > f.offset)
            || p.pieces.get(at).is_some_and(|(o, _)| *o < end);
        let contradicts = match p.total {
            Some(total) => end > total || (!f.more && end != total),
            None => !f.more && p.pieces.last().is_some_and(|(o, d)| o + d.len() > end),
        };
        // RFC 5722, 3: "When reassembling ..., if one or more of its constituent fragments is determined to be an overlapping
        // fragment, the entire datagram ... MUST be silently discarded." Linux does the same for IPv4.
        if overlaps || contradicts || p.pieces.len() >= MAX_PIECES {
            let others = p.pieces.len();
            self.forget(&key);
            return Outcome::Dropped { reason: DropReason::IpFragmentInvalid, others };
        }
        if !f.more {
            p.total = Some(end);
        }
        if f.offset == 0 {
            p.header = Some(f.header.into());
        }
        p.ecn |= 1 << f.ecn as u8;
        p.pieces.insert(at, (f.offset, f.data.into()));
        p.bytes += f.data.len();
        self.bytes += f.data.len() + OVERHEAD;
        if p.total != Some(p.bytes) {
            return Outcome::Kept;
        }
        // Disjoint pieces below `total` that add up to it leave no hole: the first one is there too.
        let Some(p) = self.forget(&key) else { return Outcome::Kept };
        let Some(ecn) = merged_ecn(p.ecn) else {
            return Outcome::Dropped { reason: DropReason::IpFragmentEcn, others: p.pieces.len() - 1 };
        };
        let mut payload = Vec::with_capacity(p.bytes);
        for (_, d) in &p.pieces {
            payload.extend_from_slice(d);
        }
        Outcome::Complete { header: p.header.unwrap_or_default(), payload, ecn }
    }

    /// What RFC 8200, 4.5 says of a fragment by itself: the field that is wrong.
    pub(super) fn malformed(f: &Fragment<'_>) -> Option<Malformed> {
        if f.more && !f.data.len().is_multiple_of(8) {
            Some(Malformed::Length)
        } else if f.offset + f.data.len() > usize::from(u16::MAX) {
            Some(Malformed::Offset)
        } else {
            None
        }
    }

    fn forget(&mut self, key: &Key) -> Option<Partial> {
        let p = self.packets.remove(key)?;
        self.bytes -= p.bytes + OVERHEAD * p.pieces.len();
        self.deadlines.remove(&(p.expires, *key));
        Some(p)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(t, _)| *t)
    }

    /// Takes out one packet whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Expired> {
        let &(_, key) = self.deadlines.first().filter(|(t, _)| *t <= now)?;
        let p = self.forget(&key)?;
        let first = p.header.as_ref().map(|h| {
            let data = p.pieces.first().map(|(_, d)| &**d).unwrap_or_default();
            [h, data].concat()
        });
        Some(Expired { key, pieces: p.pieces.len(), first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stackd_base::Duration;
    use std::net::Ipv4Addr;

    const KEY: Key =
        Key { src: IpAddr::V4(Ipv4Addr::LOCALHOST), dst: IpAddr::V4(Ipv4Addr::LOCALHOST), ident: 1, protocol: 17 };
    const END: Instant = Instant::from_nanos(100);
    const LIMIT: usize = 20_000;

    fn add(r: &mut Reassembler, offset: usize, data: &[u8], more: bool) -> Outcome {
        r.add(KEY, &Fragment { offset, more, header: b"header", data, ecn: EcnCodepoint::NotEct }, LIMIT, END)
    }

    #[test]
    fn overlap_discards_the_whole_packet() {
        let mut r = Reassembler::default();
        assert_eq!(add(&mut r, 0, &[1; 16], true), Outcome::Kept);
        let d = Outcome::Dropped { reason: DropReason::IpFragmentInvalid, others: 1 };
        assert_eq!(add(&mut r, 8, &[2; 16], true), d);
        assert_eq!((r.packets.len(), r.bytes), (0, 0));
    }

    #[test]
    fn a_fragment_beyond_the_end_contradicts() {
        let mut r = Reassembler::default();
        assert_eq!(add(&mut r, 8, &[1; 8], false), Outcome::Kept);
        assert!(matches!(add(&mut r, 16, &[1; 8], false), Outcome::Dropped { others: 1, .. }));
    }

    #[test]
    fn misaligned_oversized_and_too_many_bytes_are_dropped() {
        let mut r = Reassembler::default();
        let d = |reason| Outcome::Dropped { reason, others: 0 };
        assert_eq!(add(&mut r, 0, &[1; 9], true), d(DropReason::IpFragmentInvalid));
        assert_eq!(add(&mut r, 65528, &[1; 16], false), d(DropReason::IpFragmentInvalid));
        assert_eq!(add(&mut r, 0, &[1; LIMIT - OVERHEAD + 8], true), d(DropReason::IpFragmentMemory));
    }

    #[test]
    fn a_flood_of_tiny_fragments_meets_the_limit() {
        let mut r = Reassembler::default();
        let kept = (0..1000)
            .filter(|&ident| {
                let f = Fragment { offset: 8, more: true, header: b"header", data: &[1; 8], ecn: EcnCodepoint::NotEct };
                r.add(Key { ident, ..KEY }, &f, LIMIT, END) == Outcome::Kept
            })
            .count();
        assert_eq!(kept, LIMIT / (OVERHEAD + 8));
        while r.expire(END).is_some() {}
        assert_eq!((r.bytes, r.next_deadline()), (0, None));
    }

    #[test]
    fn time_runs_out_once() {
        let mut r = Reassembler::default();
        add(&mut r, 0, &[1; 8], true);
        assert_eq!((r.next_deadline(), r.expire(END - Duration::from_nanos(1))), (Some(END), None));
        let e = r.expire(END).expect("expired");
        assert_eq!((e.pieces, e.first), (1, Some([&b"header"[..], &[1; 8]].concat())));
        assert_eq!((r.expire(END), r.bytes), (None, 0));
    }

    /// RFC 3168, 5.3: CE of one fragment is the whole's; Not-ECT beside anything else is no packet.
    #[test]
    fn ecn_of_fragments_is_merged_or_contradicts() {
        use EcnCodepoint::{Ce, Ect0, Ect1, NotEct};
        for (a, b, want) in [
            (NotEct, NotEct, Some(NotEct)),
            (Ect0, Ce, Some(Ce)),
            (Ect1, Ect1, Some(Ect1)),
            (Ect0, Ect1, Some(Ect0)),
            (NotEct, Ce, None),
            (Ect0, NotEct, None),
        ] {
            let mut r = Reassembler::default();
            let mut put = |offset, more, ecn| {
                r.add(KEY, &Fragment { offset, more, header: b"header", data: &[1; 8], ecn }, LIMIT, END)
            };
            put(0, true, a);
            let got = match put(8, false, b) {
                Outcome::Complete { ecn, .. } => Some(ecn),
                Outcome::Dropped { reason: DropReason::IpFragmentEcn, others: 1 } => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(got, want, "{a:?} {b:?}");
        }
    }

    proptest! {
        #[test]
        fn any_order_reassembles(len in 1usize..900, step in 1usize..10, seed in any::<u64>()) {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let step = (step * 8).max(len.div_ceil(MAX_PIECES).next_multiple_of(8));
            let mut order: Vec<usize> = (0..len).step_by(step).collect();
            order.sort_by_key(|o| seed.rotate_left(*o as u32 % 64).wrapping_mul(*o as u64 | 1));
            let mut r = Reassembler::default();
            let mut out = Outcome::Kept;
            for o in order {
                prop_assert_eq!(out, Outcome::Kept);
                let end = (o + step).min(len);
                out = add(&mut r, o, &data[o..end], end < len);
            }
            prop_assert_eq!(out, Outcome::Complete { header: (*b"header").into(), payload: data, ecn: EcnCodepoint::NotEct });
            prop_assert_eq!(r.bytes, 0);
        }
    }
}
