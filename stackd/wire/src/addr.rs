//! Link-layer addresses and ECN codepoints.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A 48-bit IEEE 802 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No address (loopback).
    pub const ZERO: Self = Self([0; 6]);

    /// True for broadcast and multicast (the group bit of the first octet).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
    /// True for an address one station can own.
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }
    /// RFC 1112, 6.4: 01-00-5E and the low 23 bits of the group.
    pub const fn of_multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }
    /// RFC 2464, 7: 33-33 and the low 32 bits of the group.
    pub const fn of_multicast_v6(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }
    /// RFC 4291, appendix A: the modified EUI-64 interface identifier.
    pub const fn interface_id(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
    }
    /// The address at the start of `bytes`.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|b| Self(*b))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six colon-separated hexadecimal octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("want six hexadecimal octets separated by colons, like 02:00:00:00:00:01")]
pub struct MacAddrError;

impl FromStr for MacAddr {
    type Err = MacAddrError;
    fn from_str(s: &str) -> Result<Self, MacAddrError> {
        let mut parts = s.split(':');
        let mut out = [0; 6];
        for o in &mut out {
            let p = parts.next().filter(|p| matches!(p.len(), 1 | 2)).ok_or(MacAddrError)?;
            *o = u8::from_str_radix(p, 16).map_err(|_| MacAddrError)?;
        }
        if parts.next().is_some() { Err(MacAddrError) } else { Ok(Self(out)) }
    }
}

/// The two ECN bits of the IP header (RFC 3168, 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum EcnCodepoint {
    /// Not ECN-capable.
    #[default]
    NotEct = 0,
    /// ECT(1): L4S (RFC 9331).
    Ect1 = 1,
    /// ECT(0).
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl EcnCodepoint {
    /// The codepoint in the low two bits of a TOS or traffic class octet.
    pub const fn from_tos(tos: u8) -> Self {
        match tos & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }
    /// `tos` with its low two bits replaced.
    pub const fn apply_to(self, tos: u8) -> u8 {
        tos & !3 | self as u8
    }
    /// Whether a router may mark instead of dropping.
    pub const fn is_capable(self) -> bool {
        !matches!(self, Self::NotEct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips() {
        let m = MacAddr([2, 0, 0xab, 3, 4, 0xff]);
        assert_eq!(m.to_string(), "02:00:ab:03:04:ff");
        assert_eq!("2:0:ab:3:4:FF".parse(), Ok(m));
        for bad in ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:g", "001:2:3:4:5:6"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn group_addresses_map_to_the_rfcs_ethernet_addresses() {
        assert_eq!(MacAddr::of_multicast_v4(Ipv4Addr::new(224, 129, 2, 3)), MacAddr([1, 0, 0x5e, 1, 2, 3]));
        let solicited: Ipv6Addr = "ff02::1:ff12:3456".parse().expect("address");
        assert_eq!(MacAddr::of_multicast_v6(solicited), MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
        assert!(MacAddr::of_multicast_v6(solicited).is_group());
    }

    #[test]
    fn ecn_bits_replace_only_themselves() {
        assert_eq!(EcnCodepoint::Ce.apply_to(0b1011_1010), 0b1011_1011);
        for tos in 0..=255u8 {
            assert_eq!(EcnCodepoint::from_tos(tos).apply_to(tos), tos);
        }
    }
}
