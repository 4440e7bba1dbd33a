//! Multicast group membership: IGMP (RFC 2236, RFC 3376) and the body of MLD messages (RFC 2710, RFC 3810).

use crate::{ParseError, Sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IGMP types.
pub mod kind {
    #![allow(missing_docs)]
    pub const QUERY: u8 = 0x11;
    pub const REPORT_V1: u8 = 0x12;
    pub const REPORT_V2: u8 = 0x16;
    pub const LEAVE_V2: u8 = 0x17;
    pub const REPORT_V3: u8 = 0x22;
    /// MLD's, of ICMPv6.
    pub const MLD_QUERY: u8 = 130;
    pub const MLD_REPORT_V1: u8 = 131;
    pub const MLD_DONE: u8 = 132;
    pub const MLD_REPORT_V2: u8 = 143;
}

/// Which version a querier speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// IGMPv1.
    V1,
    /// IGMPv2, MLDv1.
    V2,
    /// IGMPv3, MLDv2.
    V3,
}

/// A membership query of either family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// What it is a query of.
    pub version: Version,
    /// The group; `None`: all of them.
    pub group: Option<IpAddr>,
    /// Milliseconds within which answers are wanted.
    pub max_response_ms: u32,
    /// Querier's robustness variable; 0: not said.
    pub robustness: u8,
    /// Querier's query interval in seconds; 0: not said.
    pub interval_s: u32,
    /// Sources that are asked about; empty: all.
    pub sources: Vec<IpAddr>,
}

/// RFC 3376, 4.1.1: values from 128 on are floating point.
fn floating_u8(code: u8) -> u32 {
    if code < 128 { code.into() } else { (u32::from(code & 0x0f) | 0x10) << ((code >> 4 & 7) + 3) }
}

/// RFC 3810, 5.1.3: values from 32768 on are floating point.
fn floating_u16(code: u16) -> u32 {
    if code < 0x8000 { code.into() } else { (u32::from(code & 0x0fff) | 0x1000) << ((code >> 12 & 7) + 3) }
}

/// The record types of version 3 reports (RFC 3376, 4.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum RecordType {
    IsInclude = 1,
    IsExclude = 2,
    ToInclude = 3,
    ToExclude = 4,
    Allow = 5,
    Block = 6,
}

/// One group of a version 3 report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What about it.
    pub kind: RecordType,
    /// The group.
    pub group: IpAddr,
    /// Sources.
    pub sources: Vec<IpAddr>,
}

fn put_addr(out: &mut Vec<u8>, a: IpAddr) {
    match a {
        IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
    }
}

/// The whole IGMPv3 report, with its checksum.
pub fn igmp_v3_report(records: &[Record]) -> Vec<u8> {
    let mut m = vec![kind::REPORT_V3, 0, 0, 0, 0, 0];
    m.extend_from_slice(&body(records));
    checksum(m)
}

/// A version 1 or 2 report, or a leave, with its checksum.
pub fn igmp_v2_message(kind: u8, group: Ipv4Addr) -> Vec<u8> {
    let mut m = vec![kind, 0, 0, 0];
    m.extend_from_slice(&group.octets());
    checksum(m)
}

fn checksum(mut m: Vec<u8>) -> Vec<u8> {
    let sum = Sum::of(&m).finish();
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

/// What follows the fixed part of a version 3 report: the number of records, and they.
fn body(records: &[Record]) -> Vec<u8> {
    let mut out = (records.len() as u16).to_be_bytes().to_vec();
    for r in records {
        out.extend_from_slice(&[r.kind as u8, 0]);
        out.extend_from_slice(&(r.sources.len() as u16).to_be_bytes());
        put_addr(&mut out, r.group);
        r.sources.iter().for_each(|s| put_addr(&mut out, *s));
    }
    out
}

/// An MLDv2 report without its checksum, which covers a pseudo-header: everything from the type on.
pub fn mld_v2_report(records: &[Record]) -> Vec<u8> {
    let mut m = vec![kind::MLD_REPORT_V2, 0, 0, 0, 0, 0];
    m.extend_from_slice(&body(records));
    m
}

/// An MLDv1 report or done, likewise.
pub fn mld_v1_message(kind: u8, group: Ipv6Addr) -> Vec<u8> {
    let mut m = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    m.extend_from_slice(&group.octets());
    m
}

/// An IGMP message that a host acts on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Igmp {
    /// A query.
    Query(Query),
    /// Another member's version 1 or 2 report.
    Report(Ipv4Addr),
    /// A version 3 report, a leave, or anything else: not for hosts.
    Other,
}

impl Igmp {
    /// Parses an IGMP message.
    ///
    /// # Errors
    /// `Truncated`, `Checksum`.
    pub fn parse(m: &[u8]) -> Result<Self, ParseError> {
        let &[kind, code, _, _, a, b, c, d] = m.first_chunk().ok_or(ParseError::Truncated)?;
        if !Sum::of(m).is_valid() {
            return Err(ParseError::Checksum);
        }
        let group = Ipv4Addr::new(a, b, c, d);
        Ok(match kind {
            kind::QUERY => {
                // RFC 3376, 7.1: by length and the Max Resp Code.
                let version = match (m.len(), code) {
                    (8, 0) => Version::V1,
                    (8, _) => Version::V2,
                    (12.., _) => Version::V3,
                    _ => return Err(ParseError::Length),
                };
                let (robustness, interval_s, sources) =
                    extra(m, 8, version, |b| b.first_chunk::<4>().map(|o| IpAddr::from(Ipv4Addr::from(*o))))?;
                // RFC 2236, 4: a version 1 querier waits for ten seconds.
                let tenths = if version == Version::V1 { 100 } else { floating_u8(code) };
                let group = (!group.is_unspecified()).then_some(group.into());
                Self::Query(Query { version, group, max_response_ms: tenths * 100, robustness, interval_s, sources })
            }
            kind::REPORT_V1 | kind::REPORT_V2 if group.is_multicast() => Self::Report(group),
            _ => Self::Other,
        })
    }
}

/// An MLD message that a host acts on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mld {
    /// A query.
    Query(Query),
    /// Another member's version 1 report.
    Report(Ipv6Addr),
}

impl Mld {
    /// Parses an ICMPv6 message whose checksum is right; `None`: it is none of MLD's.
    ///
    /// # Errors
    /// `Truncated`, `Length`.
    pub fn parse(m: &[u8]) -> Result<Option<Self>, ParseError> {
        let kind = *m.first().ok_or(ParseError::Truncated)?;
        if !matches!(kind, kind::MLD_QUERY | kind::MLD_REPORT_V1) {
            return Ok(None);
        }
        let group = m.get(8..).and_then(|b| b.first_chunk::<16>()).ok_or(ParseError::Truncated)?;
        let group = Ipv6Addr::from(*group);
        if kind == kind::MLD_REPORT_V1 {
            return Ok(group.is_multicast().then_some(Self::Report(group)));
        }
        // RFC 3810, 8.1: 24 bytes are version 1's, 28 and more version 2's.
        let version = match m.len() {
            24 => Version::V2,
            28.. => Version::V3,
            _ => return Err(ParseError::Length),
        };
        let code = u16::from_be_bytes([m[4], m[5]]);
        let max_response_ms = if version == Version::V2 { code.into() } else { floating_u16(code) };
        let (robustness, interval_s, sources) =
            extra(m, 24, version, |b| b.first_chunk::<16>().map(|o| IpAddr::from(Ipv6Addr::from(*o))))?;
        let group = (!group.is_unspecified()).then_some(group.into());
        Ok(Some(Self::Query(Query { version, group, max_response_ms, robustness, interval_s, sources })))
    }
}

/// What a version 3 query has behind the group: S flag and robustness, the interval's code, the sources.
fn extra(
    m: &[u8],
    at: usize,
    version: Version,
    read: impl Fn(&[u8]) -> Option<IpAddr>,
) -> Result<(u8, u32, Vec<IpAddr>), ParseError> {
    if version != Version::V3 {
        return Ok((0, 0, Vec::new()));
    }
    let &[flags, code, hi, lo] = m.get(at..).and_then(|b| b.first_chunk()).ok_or(ParseError::Truncated)?;
    let size = if at == 8 { 4 } else { 16 };
    let list = m.get(at + 4..).unwrap_or_default();
    let count = usize::from(u16::from_be_bytes([hi, lo]));
    let sources: Vec<IpAddr> = list.chunks_exact(size).take(count).filter_map(read).collect();
    if sources.len() < count {
        return Err(ParseError::Truncated);
    }
    Ok((flags & 7, floating_u8(code), sources))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(code: u8, group: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut m = vec![kind::QUERY, code, 0, 0];
        m.extend_from_slice(&group);
        m.extend_from_slice(rest);
        checksum(m)
    }

    /// RFC 3376, 7.1: length and Max Resp Code tell the versions of a query apart.
    #[test]
    fn a_querys_version_is_told_by_its_length() {
        let parse = |m: &[u8]| match Igmp::parse(m) {
            Ok(Igmp::Query(q)) => q,
            other => panic!("{other:?}"),
        };
        let v1 = parse(&query(0, [0; 4], &[]));
        assert_eq!((v1.version, v1.max_response_ms, v1.group), (Version::V1, 10_000, None));
        let v2 = parse(&query(50, [224, 1, 2, 3], &[]));
        assert_eq!((v2.version, v2.max_response_ms, v2.group), (Version::V2, 5000, Some([224, 1, 2, 3].into())));
        let v3 = parse(&query(0x8f, [0; 4], &[0x0a, 125, 0, 1, 10, 0, 0, 9]));
        // RFC 3376, 4.1.1: (mant | 0x10) << (exp + 3), in tenths of a second.
        assert_eq!((v3.version, v3.max_response_ms, v3.robustness, v3.interval_s), (Version::V3, 24_800, 2, 125));
        assert_eq!(v3.sources, [IpAddr::from([10, 0, 0, 9])]);
        assert_eq!(Igmp::parse(&query(1, [0; 4], &[0; 2])), Err(ParseError::Length));
        assert_eq!(Igmp::parse(&query(1, [0; 4], &[0, 0, 0, 2, 1, 2, 3, 4])), Err(ParseError::Truncated));
        let mut bad = query(0, [0; 4], &[]);
        bad[4] ^= 1;
        assert_eq!(Igmp::parse(&bad), Err(ParseError::Checksum));
    }

    #[test]
    fn mld_queries_of_both_versions() {
        let mut m = vec![kind::MLD_QUERY, 0, 0, 0, 0x03, 0xe8, 0, 0];
        m.extend([0; 16]);
        let Ok(Some(Mld::Query(q))) = Mld::parse(&m) else { panic!("a query") };
        assert_eq!((q.version, q.max_response_ms, q.group), (Version::V2, 1000, None));
        m[4..6].copy_from_slice(&0x8001u16.to_be_bytes());
        m.extend([2, 125, 0, 0]);
        let Ok(Some(Mld::Query(q))) = Mld::parse(&m) else { panic!("a query") };
        assert_eq!((q.version, q.max_response_ms), (Version::V3, 0x1001 << 3));
        assert_eq!(Mld::parse(&[135; 30]), Ok(None));
    }

    #[test]
    fn a_report_is_laid_out_as_rfc_3376_4_2_says() {
        let group = IpAddr::from([239, 1, 1, 1]);
        let r = Record { kind: RecordType::ToExclude, group, sources: vec![[10, 0, 0, 9].into()] };
        let m = igmp_v3_report(&[r]);
        assert_eq!((m[0], &m[4..8]), (0x22, &[0, 0, 0, 1][..]));
        assert_eq!(m[8..], [4, 0, 0, 1, 239, 1, 1, 1, 10, 0, 0, 9]);
        assert!(Sum::of(&m).is_valid());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Igmp::parse(&bytes), Mld::parse(&bytes));
            let fixed = if bytes.len() >= 4 { let mut b = bytes; b[2..4].fill(0); checksum(b) } else { bytes };
            let _ = Igmp::parse(&fixed);
        }
    }
}
