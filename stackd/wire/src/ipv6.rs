//! IPv6 headers and extension headers (RFC 8200).

use crate::{ParseError, proto};
use std::net::Ipv6Addr;

/// RFC 8200, 3: the flow label has 20 bits.
pub const FLOW_LABEL_MASK: u32 = 0xf_ffff;
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Bytes of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// Extension headers one packet may have; more are an attack.
const MAX_EXTENSIONS: usize = 8;

/// An IPv6 fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Repr {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// Type of the header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Differentiated services and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes after the fixed header, extension headers included.
    pub payload_len: u16,
}

impl Ipv6Repr {
    /// Parses the header at the start of `bytes`, of a packet `packet_len` bytes long (link-layer padding included).
    ///
    /// # Errors
    /// `Truncated`, `Version`, `Length` (payload beyond the packet).
    pub fn parse(bytes: &[u8], packet_len: usize) -> Result<(Self, usize), ParseError> {
        let repr = Self::parse_quoted(bytes)?;
        if HEADER_LEN + usize::from(repr.payload_len) > packet_len {
            return Err(ParseError::Length);
        }
        Ok((repr, HEADER_LEN))
    }

    /// Parses a header quoted in an ICMPv6 error, where the packet may be cut.
    ///
    /// # Errors
    /// `Truncated`, `Version`.
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, ParseError> {
        let h: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let first = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
        if first >> 28 != 6 {
            return Err(ParseError::Version);
        }
        Ok(Self {
            src: addr_at(h, 8),
            dst: addr_at(h, 24),
            next_header: h[6],
            hop_limit: h[7],
            traffic_class: (first >> 20) as u8,
            flow_label: first & FLOW_LABEL_MASK,
            payload_len: u16::from_be_bytes([h[4], h[5]]),
        })
    }

    /// Writes the header.
    ///
    /// # Panics
    /// If `buf` is shorter than 40 bytes.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Self { src, dst, next_header, hop_limit, traffic_class, flow_label, payload_len } = self;
        let first = 6 << 28 | u32::from(*traffic_class) << 20 | flow_label & FLOW_LABEL_MASK;
        buf[0..4].copy_from_slice(&first.to_be_bytes());
        buf[4..6].copy_from_slice(&payload_len.to_be_bytes());
        buf[6] = *next_header;
        buf[7] = *hop_limit;
        buf[8..24].copy_from_slice(&src.octets());
        buf[24..40].copy_from_slice(&dst.octets());
        HEADER_LEN
    }
}

fn addr_at(h: &[u8], at: usize) -> Ipv6Addr {
    let mut o = [0; 16];
    o.copy_from_slice(&h[at..at + 16]);
    o.into()
}

/// A fragment header (RFC 8200, 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Fragment {
    /// Type of the first header of the fragmentable part.
    pub next_header: u8,
    /// Offset of this fragment in bytes; a multiple of eight.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification.
    pub ident: u32,
}

impl Ipv6Fragment {
    /// Parses the header at the start of `bytes`.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let h: &[u8; FRAGMENT_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let off = u16::from_be_bytes([h[2], h[3]]);
        Ok(Self {
            next_header: h[0],
            offset: off & !7,
            more: off & 1 != 0,
            ident: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        })
    }

    /// Writes the header.
    ///
    /// # Panics
    /// If `buf` is shorter than 8 bytes.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        buf[0] = self.next_header;
        buf[1] = 0;
        buf[2..4].copy_from_slice(&(self.offset & !7 | u16::from(self.more)).to_be_bytes());
        buf[4..8].copy_from_slice(&self.ident.to_be_bytes());
        FRAGMENT_HEADER_LEN
    }
}

/// What lies between the fixed header and the transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extensions {
    /// Protocol of what follows the extension headers.
    pub upper: u8,
    /// Bytes of all extension headers.
    pub len: usize,
    /// The fragment header, if there is one. After that of a non-first fragment the walk ends.
    pub fragment: Option<Ipv6Fragment>,
    /// Where in the extension headers the octet stands that names `upper` (relative to their start; `None`: in the fixed header).
    pub upper_named_at: Option<usize>,
}

/// Why extension headers are not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionError {
    /// Offset of the culprit from the start of the extension headers.
    pub at: usize,
    /// What to answer: an ICMPv6 parameter problem with this code, or nothing.
    pub answer: Option<ParameterProblem>,
    /// RFC 8200, 4.2, action 10: answer even when the packet was multicast.
    pub even_multicast: bool,
}

/// ICMPv6 parameter problem codes (RFC 4443, 3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ParameterProblem {
    /// Erroneous header field.
    Field = 0,
    /// Unrecognized next header.
    NextHeader = 1,
    /// Unrecognized option.
    Option = 2,
}

impl Extensions {
    /// Walks the extension headers at the start of `bytes`; `first` is the fixed header's next header.
    ///
    /// # Errors
    /// A header that is cut, malformed, in the wrong place, or that RFC 8200 says to discard, with what to answer.
    pub fn parse(first: u8, bytes: &[u8]) -> Result<Self, ExtensionError> {
        let silent = |at| ExtensionError { at, answer: None, even_multicast: false };
        let (mut next, mut at, mut fragment, mut named_at) = (first, 0, None, None);
        for count in 0.. {
            let done = Self { upper: next, len: at, fragment, upper_named_at: named_at };
            match next {
                proto::HOP_BY_HOP | proto::DEST_OPTS | proto::ROUTING => {
                    // RFC 8200, 4.1: the hop-by-hop header "is restricted to appear immediately after an IPv6 header only".
                    if next == proto::HOP_BY_HOP && count > 0 {
                        let at = named_at.unwrap_or(0);
                        return Err(ExtensionError { answer: Some(ParameterProblem::NextHeader), ..silent(at) });
                    }
                    let &[following, units, ..] = bytes.get(at..at + 2).ok_or(silent(at))? else {
                        return Err(silent(at));
                    };
                    let len = 8 * (usize::from(units) + 1);
                    let body = bytes.get(at..at + len).ok_or(silent(at))?;
                    if next == proto::ROUTING {
                        // RFC 8200, 4.4: unrecognized type with segments left: "discard the packet and send an ICMP
                        // Parameter Problem, Code 0 ... pointing to the unrecognized Routing Type".
                        if body[3] != 0 {
                            return Err(ExtensionError { answer: Some(ParameterProblem::Field), ..silent(at + 2) });
                        }
                    } else {
                        check_options(&body[2..]).map_err(|e| ExtensionError { at: at + 2 + e.at, ..e })?;
                    }
                    named_at = Some(at);
                    (next, at) = (following, at + len);
                }
                proto::FRAGMENT => {
                    if fragment.is_some() {
                        return Err(silent(at));
                    }
                    let f = Ipv6Fragment::parse(bytes.get(at..).unwrap_or_default()).map_err(|_| silent(at))?;
                    fragment = Some(f);
                    named_at = Some(at);
                    (next, at) = (f.next_header, at + FRAGMENT_HEADER_LEN);
                    if f.offset != 0 || f.more {
                        return Ok(Self { upper: next, len: at, fragment, upper_named_at: named_at });
                    }
                }
                _ => return Ok(done),
            }
            if count >= MAX_EXTENSIONS {
                break;
            }
        }
        Err(silent(at))
    }
}

/// RFC 8200, 4.2: the two high bits of an unknown option's type say what to do.
fn check_options(mut opts: &[u8]) -> Result<(), ExtensionError> {
    let total = opts.len();
    while let [kind, rest @ ..] = opts {
        let at = total - opts.len();
        if *kind == 0 {
            opts = rest;
            continue;
        }
        let silent = ExtensionError { at, answer: None, even_multicast: false };
        let Some((&len, body)) = rest.split_first() else { return Err(silent) };
        let Some(after) = body.get(usize::from(len)..) else { return Err(silent) };
        const PAD_N: u8 = 1;
        const ROUTER_ALERT: u8 = 5;
        if !matches!(*kind, PAD_N | ROUTER_ALERT) {
            match kind >> 6 {
                0 => {}
                1 => return Err(silent),
                action => {
                    let answer = Some(ParameterProblem::Option);
                    return Err(ExtensionError { at, answer, even_multicast: action == 2 });
                }
            }
        }
        opts = after;
    }
    Ok(())
}
