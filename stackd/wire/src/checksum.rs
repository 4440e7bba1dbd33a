//! The Internet checksum (RFC 1071): sums that can be computed in pieces, combined, and corrected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A one's complement sum of 16-bit big-endian words, folded, **not** inverted. Zero is the empty sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Sum(u16);

impl Sum {
    /// The sum that is written in a header field (0 + pseudo-header, for offload).
    pub const fn from_partial(value: u16) -> Self {
        Self(value)
    }

    /// The sum over `bytes`, whose first byte is the high half of a word; an odd last byte is padded with zero.
    pub fn of(bytes: &[u8]) -> Self {
        // RFC 1071, 2(B): the sum is independent of byte order, so native words are added and swapped once at the end.
        let mut acc: u64 = 0;
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            // Eight 32-bit lanes: 2^32 blocks would be needed to overflow, and the compiler vectorises this.
            for lane in block.as_chunks::<4>().0 {
                acc += u64::from(u32::from_ne_bytes(*lane));
            }
        }
        let (words, tail) = rest.as_chunks::<2>();
        for word in words {
            acc += u64::from(u16::from_ne_bytes(*word));
        }
        if let [last] = tail {
            acc += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(u16::from_be(fold(acc)))
    }

    /// This sum and `other`'s, which covers bytes that start at an even offset from this one's first.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        self.and_word(other.0)
    }

    /// This sum and that of bytes that start `offset` bytes after this one's first (RFC 1071, 2(B): swapped at odd offsets).
    #[must_use]
    pub const fn and_at(self, other: Self, offset: usize) -> Self {
        if offset & 1 == 0 { self.and(other) } else { self.and_word(other.0.swap_bytes()) }
    }

    /// This sum and one more word.
    #[must_use]
    pub const fn and_word(self, word: u16) -> Self {
        let s = self.0 as u32 + word as u32;
        Self((s & 0xffff) as u16 + (s >> 16) as u16)
    }

    /// This sum without a word that was in it (RFC 1624, 3: add the complement).
    #[must_use]
    pub const fn without_word(self, word: u16) -> Self {
        self.and_word(!word)
    }

    /// What goes into a checksum field.
    pub const fn finish(self) -> u16 {
        !self.0
    }

    /// What goes into UDP's field (RFC 768: "If the computed checksum is zero, it is transmitted as all ones").
    pub const fn finish_udp(self) -> u16 {
        if self.0 == 0xffff { 0xffff } else { !self.0 }
    }

    /// The folded sum itself: what a device expects in the field when it is to complete the checksum.
    pub const fn partial(self) -> u16 {
        self.0
    }

    /// Whether a sum over a packet *including* its checksum field (and pseudo-header) is that of intact data.
    pub const fn is_valid(self) -> bool {
        self.0 == 0xffff
    }

    /// IPv4 pseudo-header (RFC 9293, 3.1): addresses, protocol, length of the transport packet.
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u32) -> Self {
        let (s, d) = (u64::from(src.to_bits()), u64::from(dst.to_bits()));
        Self(fold(s + d + u64::from(protocol) + u64::from(len)))
    }

    /// IPv6 pseudo-header (RFC 8200, 8.1).
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, len: u32) -> Self {
        let mut acc = u64::from(next_header) + u64::from(len);
        for half in [src.to_bits(), dst.to_bits()] {
            for shift in [0, 32, 64, 96] {
                acc += u64::from((half >> shift) as u32);
            }
        }
        Self(fold(acc))
    }

    /// The pseudo-header of either family; a v4 address paired with a v6 one counts as v4-mapped.
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> Self {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Self::pseudo_v4(s, d, protocol, len),
            (s, d) => Self::pseudo_v6(to_v6(s), to_v6(d), protocol, len),
        }
    }
}

fn to_v6(a: IpAddr) -> Ipv6Addr {
    match a {
        IpAddr::V4(v) => v.to_ipv6_mapped(),
        IpAddr::V6(v) => v,
    }
}

const fn fold(mut acc: u64) -> u16 {
    acc = (acc & 0xffff_ffff) + (acc >> 32);
    acc = (acc & 0xffff) + ((acc >> 16) & 0xffff) + (acc >> 32);
    acc = (acc & 0xffff) + (acc >> 16);
    acc = (acc & 0xffff) + (acc >> 16);
    acc as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, 4.1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut s: u32 = 0;
        for w in bytes.chunks(2) {
            s += u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
            s = (s & 0xffff) + (s >> 16);
        }
        s as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).partial(), 0xddf2);
    }

    #[test]
    fn udp_never_sends_zero() {
        assert_eq!(Sum::of(&[0xff, 0xff]).finish_udp(), 0xffff);
        assert_eq!(Sum::of(&[0xff, 0xff]).finish(), 0);
    }

    proptest! {
        #[test]
        fn equals_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Sum::of(&bytes).partial(), reference(&bytes));
        }

        #[test]
        fn pieces_combine_at_any_cut(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let cut = cut.min(bytes.len());
            let (a, b) = bytes.split_at(cut);
            prop_assert_eq!(Sum::of(a).and_at(Sum::of(b), cut), Sum::of(&bytes));
        }

        #[test]
        fn a_word_can_be_replaced(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), new in any::<u16>()) {
            let before = Sum::of(&bytes);
            let old = u16::from_be_bytes([bytes[10], bytes[11]]);
            bytes[10..12].copy_from_slice(&new.to_be_bytes());
            let after = before.without_word(old).and_word(new);
            // One's complement has two zeros: equal modulo that.
            let norm = |s: Sum| s.partial() % 0xffff;
            prop_assert_eq!(norm(after), norm(Sum::of(&bytes)));
        }

        #[test]
        fn pseudo_headers_are_sums_of_their_bytes(s in any::<[u8; 16]>(), d in any::<[u8; 16]>(), p in any::<u8>(), len in any::<u32>()) {
            let mut b = [s, d].concat();
            b.extend(len.to_be_bytes());
            b.extend([0, 0, 0, p]);
            prop_assert_eq!(Sum::pseudo_v6(s.into(), d.into(), p, len).partial(), reference(&b));
            let (s4, d4): ([u8; 4], [u8; 4]) = (*s.first_chunk().unwrap(), *d.first_chunk().unwrap());
            let mut b = [s4, d4].concat();
            b.extend([0, p]);
            b.extend((len as u16).to_be_bytes());
            prop_assert_eq!(Sum::pseudo_v4(s4.into(), d4.into(), p, len & 0xffff).partial(), reference(&b));
        }
    }
}
