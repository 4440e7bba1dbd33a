//! Neighbour discovery messages (RFC 4861): what follows type, code and checksum of an ICMPv6 message.

use crate::icmp::IcmpRepr;
use crate::{MacAddr, ParseError};
use std::net::Ipv6Addr;

/// ICMPv6 types of neighbour discovery.
pub mod kind {
    #![allow(missing_docs)]
    pub const ROUTER_SOLICIT: u8 = 133;
    pub const ROUTER_ADVERT: u8 = 134;
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    pub const NEIGHBOR_ADVERT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

/// Prefixes kept from one router advertisement.
pub const MAX_PREFIXES: usize = 4;

/// A prefix information option (RFC 4861, 4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixInfo {
    /// The prefix; bits beyond `prefix_len` are as received.
    pub prefix: Ipv6Addr,
    /// Its length in bits, 0 to 128.
    pub prefix_len: u8,
    /// On-link flag.
    pub on_link: bool,
    /// Autonomous address-configuration flag.
    pub autonomous: bool,
    /// Seconds; `u32::MAX` = infinity.
    pub valid_lifetime: u32,
    /// Seconds; `u32::MAX` = infinity.
    pub preferred_lifetime: u32,
}

/// A router advertisement (RFC 4861, 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouterAdvert {
    /// Hop limit to use; 0 = unspecified.
    pub hop_limit: u8,
    /// Seconds this router is a default router; 0 = it is not.
    pub router_lifetime: u16,
    /// How it compares to other default routers (RFC 4191, 2.2): -1 low, 0 medium, 1 high.
    pub preference: i8,
    /// Milliseconds a neighbour counts as reachable; 0 = unspecified.
    pub reachable_time: u32,
    /// Milliseconds between solicitations; 0 = unspecified.
    pub retrans_timer: u32,
    /// The router's link-layer address.
    pub source_mac: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// The first prefixes.
    pub prefixes: [Option<PrefixInfo>; MAX_PREFIXES],
}

/// A neighbour discovery message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NdpRepr {
    /// Router solicitation.
    RouterSolicit {
        /// The sender's link-layer address.
        source_mac: Option<MacAddr>,
    },
    /// Router advertisement.
    RouterAdvert(RouterAdvert),
    /// Neighbour solicitation.
    NeighborSolicit {
        /// Whose link-layer address is wanted.
        target: Ipv6Addr,
        /// The sender's link-layer address.
        source_mac: Option<MacAddr>,
        /// Tells a node its own solicitations from others' (RFC 3971, 5.3.2; RFC 7527).
        nonce: Option<[u8; 6]>,
    },
    /// Redirect.
    Redirect {
        /// The better first hop; equal to `destination` if that is on the link.
        target: Ipv6Addr,
        /// For this destination.
        destination: Ipv6Addr,
        /// The target's link-layer address.
        target_mac: Option<MacAddr>,
    },
    /// Neighbour advertisement.
    NeighborAdvert {
        /// Whose link-layer address this is.
        target: Ipv6Addr,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces a cached address.
        override_: bool,
        /// The link-layer address.
        target_mac: Option<MacAddr>,
    },
}

impl NdpRepr {
    /// Parses a whole ICMPv6 message whose checksum is right. `Ok(None)`: it is no NDP message that we handle.
    /// Hop limit, source and destination rules are the caller's.
    ///
    /// # Errors
    /// RFC 4861, 6.1 and 7.1: `Field` for a code other than 0 or a multicast target; `Truncated`; `Length` for an option of length zero.
    pub fn parse(message: &[u8]) -> Result<Option<Self>, ParseError> {
        let &[kind, code, _, _, b4, b5, b6, b7] = message.first_chunk().ok_or(ParseError::Truncated)?;
        if !(kind::ROUTER_SOLICIT..=kind::REDIRECT).contains(&kind) {
            return Ok(None);
        }
        if code != 0 {
            return Err(ParseError::Field);
        }
        let fixed = match kind {
            kind::ROUTER_SOLICIT => 8,
            kind::ROUTER_ADVERT => 16,
            kind::REDIRECT => 40,
            _ => 24,
        };
        let options = read_options(message.get(fixed..).ok_or(ParseError::Truncated)?)?;
        let target = || {
            let t = ipv6_at(message, 8).ok_or(ParseError::Truncated)?;
            if t.is_multicast() { Err(ParseError::Field) } else { Ok(t) }
        };
        let repr = match kind {
            kind::ROUTER_SOLICIT => Self::RouterSolicit { source_mac: options.source_mac },
            kind::ROUTER_ADVERT => {
                let word =
                    |at: usize| message.get(at..at + 4).map_or(0, |w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
                Self::RouterAdvert(RouterAdvert {
                    hop_limit: b4,
                    router_lifetime: u16::from_be_bytes([b6, b7]),
                    // RFC 4191, 2.2: "If the Reserved (10) value is received, the receiver MUST treat the value as if it were (00)."
                    preference: match b5 >> 3 & 3 {
                        1 => 1,
                        3 => -1,
                        _ => 0,
                    },
                    reachable_time: word(8),
                    retrans_timer: word(12),
                    source_mac: options.source_mac,
                    mtu: options.mtu,
                    prefixes: options.prefixes,
                })
            }
            kind::NEIGHBOR_SOLICIT => {
                Self::NeighborSolicit { target: target()?, source_mac: options.source_mac, nonce: options.nonce }
            }
            kind::REDIRECT => {
                let destination = ipv6_at(message, 24).ok_or(ParseError::Truncated)?;
                // RFC 4861, 8.1: "The ICMP Destination Address field in the redirect message does not contain a multicast address."
                if destination.is_multicast() {
                    return Err(ParseError::Field);
                }
                Self::Redirect { target: target()?, destination, target_mac: options.target_mac }
            }
            _ => Self::NeighborAdvert {
                target: target()?,
                router: b4 & 0x80 != 0,
                solicited: b4 & 0x40 != 0,
                override_: b4 & 0x20 != 0,
                target_mac: options.target_mac,
            },
        };
        Ok(Some(repr))
    }

    /// Bytes of the whole ICMPv6 message.
    pub fn len(&self) -> usize {
        match self {
            Self::RouterSolicit { source_mac } => 8 + 8 * usize::from(source_mac.is_some()),
            Self::RouterAdvert(ra) => {
                let options = usize::from(ra.source_mac.is_some()) + usize::from(ra.mtu.is_some());
                16 + 8 * options + 32 * ra.prefixes.iter().flatten().count()
            }
            Self::NeighborSolicit { source_mac, nonce, .. } => {
                24 + 8 * (usize::from(source_mac.is_some()) + usize::from(nonce.is_some()))
            }
            Self::NeighborAdvert { target_mac, .. } => 24 + 8 * usize::from(target_mac.is_some()),
            Self::Redirect { target_mac, .. } => 40 + 8 * usize::from(target_mac.is_some()),
        }
    }

    /// Never: a message has at least eight bytes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the whole ICMPv6 message with its checksum and returns its length.
    ///
    /// # Panics
    /// If `buf` is shorter than `len()`.
    pub fn emit(&self, buf: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        let m = &mut buf[..self.len()];
        m.fill(0);
        let (kind, rest) = match self {
            Self::RouterSolicit { source_mac } => {
                put_mac(m, 8, 1, *source_mac);
                (kind::ROUTER_SOLICIT, [0; 4])
            }
            Self::RouterAdvert(ra) => {
                emit_router_advert(m, ra);
                let [hi, lo] = ra.router_lifetime.to_be_bytes();
                let preference = match ra.preference {
                    1.. => 1,
                    0 => 0,
                    _ => 3,
                };
                (kind::ROUTER_ADVERT, [ra.hop_limit, preference << 3, hi, lo])
            }
            Self::Redirect { target, destination, target_mac } => {
                m[8..24].copy_from_slice(&target.octets());
                m[24..40].copy_from_slice(&destination.octets());
                put_mac(m, 40, 2, *target_mac);
                (kind::REDIRECT, [0; 4])
            }
            Self::NeighborSolicit { target, source_mac, nonce } => {
                m[8..24].copy_from_slice(&target.octets());
                let at = put_mac(m, 24, 1, *source_mac);
                if let Some(nonce) = nonce {
                    m[at..at + 2].copy_from_slice(&[14, 1]);
                    m[at + 2..at + 8].copy_from_slice(nonce);
                }
                (kind::NEIGHBOR_SOLICIT, [0; 4])
            }
            Self::NeighborAdvert { target, router, solicited, override_, target_mac } => {
                m[8..24].copy_from_slice(&target.octets());
                put_mac(m, 24, 2, *target_mac);
                let flags = u8::from(*router) << 7 | u8::from(*solicited) << 6 | u8::from(*override_) << 5;
                (kind::NEIGHBOR_ADVERT, [flags, 0, 0, 0])
            }
        };
        IcmpRepr::Other { kind, code: 0, rest }.emit_v6(m, src, dst);
        m.len()
    }
}

fn emit_router_advert(m: &mut [u8], ra: &RouterAdvert) {
    m[8..12].copy_from_slice(&ra.reachable_time.to_be_bytes());
    m[12..16].copy_from_slice(&ra.retrans_timer.to_be_bytes());
    let mut at = put_mac(m, 16, 1, ra.source_mac);
    if let Some(mtu) = ra.mtu {
        m[at..at + 2].copy_from_slice(&[5, 1]);
        m[at + 4..at + 8].copy_from_slice(&mtu.to_be_bytes());
        at += 8;
    }
    for p in ra.prefixes.iter().flatten() {
        let flags = u8::from(p.on_link) << 7 | u8::from(p.autonomous) << 6;
        m[at..at + 4].copy_from_slice(&[3, 4, p.prefix_len, flags]);
        m[at + 4..at + 8].copy_from_slice(&p.valid_lifetime.to_be_bytes());
        m[at + 8..at + 12].copy_from_slice(&p.preferred_lifetime.to_be_bytes());
        m[at + 16..at + 32].copy_from_slice(&p.prefix.octets());
        at += 32;
    }
}

fn put_mac(m: &mut [u8], at: usize, kind: u8, mac: Option<MacAddr>) -> usize {
    let Some(mac) = mac else { return at };
    m[at..at + 2].copy_from_slice(&[kind, 1]);
    m[at + 2..at + 8].copy_from_slice(&mac.0);
    at + 8
}

fn ipv6_at(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    b.get(at..)?.first_chunk::<16>().map(|o| (*o).into())
}

#[derive(Default)]
struct Options {
    source_mac: Option<MacAddr>,
    target_mac: Option<MacAddr>,
    mtu: Option<u32>,
    nonce: Option<[u8; 6]>,
    prefixes: [Option<PrefixInfo>; MAX_PREFIXES],
}

fn read_options(mut bytes: &[u8]) -> Result<Options, ParseError> {
    let mut out = Options::default();
    let mut prefixes = 0;
    while let [kind, units, ..] = *bytes {
        // RFC 4861, 4.6: "Nodes MUST silently discard an ND packet that contains an option with length zero."
        if units == 0 {
            return Err(ParseError::Length);
        }
        let (body, rest) = bytes.split_at_checked(usize::from(units) * 8).ok_or(ParseError::Length)?;
        match (kind, body.len()) {
            (1, 8) => out.source_mac = MacAddr::read(&body[2..]),
            (2, 8) => out.target_mac = MacAddr::read(&body[2..]),
            (3, 32) if body[2] <= 128 && prefixes < MAX_PREFIXES => {
                out.prefixes[prefixes] = ipv6_at(body, 16).map(|prefix| PrefixInfo {
                    prefix,
                    prefix_len: body[2],
                    on_link: body[3] & 0x80 != 0,
                    autonomous: body[3] & 0x40 != 0,
                    valid_lifetime: u32::from_be_bytes([body[4], body[5], body[6], body[7]]),
                    preferred_lifetime: u32::from_be_bytes([body[8], body[9], body[10], body[11]]),
                });
                prefixes += 1;
            }
            (5, 8) => out.mtu = Some(u32::from_be_bytes([body[4], body[5], body[6], body[7]])),
            (14, 8) => out.nonce = body[2..].first_chunk().copied(),
            // RFC 4861, 9: "nodes ... MUST silently ignore any options they do not recognize".
            _ => {}
        }
        bytes = rest;
    }
    if bytes.is_empty() { Ok(out) } else { Err(ParseError::Length) }
}
