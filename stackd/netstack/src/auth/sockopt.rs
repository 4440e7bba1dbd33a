//! Linux's byte layouts of the options (`linux/tcp.h`): `struct tcp_md5sig`, `tcp_ao_add`, `tcp_ao_del`, `tcp_ao_info_opt`,
//! `tcp_ao_getsockopt`.

use super::digest::Algorithm;
use super::{Ao, Md5Key, Mkt, Peers};
use crate::types::Domain;
use stackd_base::{Errno, PortId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const MAX_KEY: usize = 80;
const MD5SIG_FLAG_PREFIX: u8 = 1;
const MD5SIG_FLAG_IFINDEX: u8 = 2;
const AO_KEYF_IFINDEX: u8 = 1;
const AO_KEYF_EXCLUDE_OPT: u8 = 2;
/// RFC 5926: both algorithms' MACs are cut to 96 bits.
const AO_DEFAULT_MAC: u8 = 12;

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([b[at], b[at + 1]])
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// A `sockaddr_storage` as the address of a socket of this family.
fn address(b: &[u8], domain: Domain) -> Result<IpAddr, Errno> {
    let v6 = || Ipv6Addr::from(<[u8; 16]>::try_from(&b[8..24]).unwrap_or_default());
    match (domain, u16_at(b, 0)) {
        (Domain::V4, AF_INET) => Ok(IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7]))),
        (Domain::V6, AF_INET6) => Ok(crate::demux::unmapped(v6())),
        _ => Err(Errno::EINVAL),
    }
}

/// How many bits of `addr` count; a v4-mapped one counts from 96.
fn prefix(addr: IpAddr, domain: Domain, bits: u8) -> Result<u8, Errno> {
    let (bits, most) = match (addr, domain) {
        (IpAddr::V4(_), Domain::V6) => (bits.checked_sub(96).ok_or(Errno::EINVAL)?, 32),
        (IpAddr::V4(_), Domain::V4) => (bits, 32),
        (IpAddr::V6(_), _) => (bits, 128),
    };
    if bits > most { Err(Errno::EINVAL) } else { Ok(bits) }
}

const fn all_bits(domain: Domain) -> u8 {
    match domain {
        Domain::V4 => 32,
        Domain::V6 => 128,
    }
}

fn device(index: u32, on: bool) -> Result<Option<PortId>, Errno> {
    match (on, i32::try_from(index)) {
        (false, _) => Ok(None),
        (true, Ok(n)) if n >= 0 => Ok((n > 0).then_some(PortId(n as u32))),
        (true, _) => Err(Errno::EINVAL),
    }
}

/// `TCP_MD5SIG`, and `TCP_MD5SIG_EXT` where flags count. An empty key takes one away.
///
/// # Errors
/// `EINVAL`.
pub fn parse_md5(value: &[u8], domain: Domain, ext: bool) -> Result<Md5Key, Errno> {
    let b: &[u8; 216] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let addr = address(b, domain)?;
    let (flags, len) = (if ext { b[128] } else { 0 }, usize::from(u16_at(b, 130)));
    if len > MAX_KEY {
        return Err(Errno::EINVAL);
    }
    let bits = if flags & MD5SIG_FLAG_PREFIX != 0 { b[129] } else { all_bits(domain) };
    let peers = Peers {
        addr,
        prefix: prefix(addr, domain, bits)?,
        device: device(u32_at(b, 132), flags & MD5SIG_FLAG_IFINDEX != 0)?,
    };
    Ok(Md5Key { peers, key: b[136..136 + len].to_vec() })
}

/// What beside a key `TCP_AO_ADD_KEY` and `TCP_AO_DEL_KEY` say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AoKeyArgs {
    /// Make a key the current one.
    pub current: Option<u8>,
    /// Ask for a key next.
    pub rnext: Option<u8>,
}

/// `struct tcp_ao_add`.
///
/// # Errors
/// `EINVAL`; `ENOENT` for an algorithm that there is not.
pub fn parse_ao_add(value: &[u8], domain: Domain) -> Result<(Mkt, AoKeyArgs), Errno> {
    let b: &[u8; 288] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let addr = address(b, domain)?;
    let end = b[128..192].iter().position(|&c| c == 0).unwrap_or(64);
    let name = core::str::from_utf8(&b[128..128 + end]).map_err(|_| Errno::EINVAL)?;
    let algorithm = Algorithm::by_name(name).ok_or(Errno::ENOENT)?;
    let (flags, key_flags, len) = (u32_at(b, 196), b[206], usize::from(b[207]));
    let mac_len = if b[205] == 0 { AO_DEFAULT_MAC } else { b[205] };
    let reserved = flags & !3 != 0 || u16_at(b, 200) != 0 || key_flags & !(AO_KEYF_IFINDEX | AO_KEYF_EXCLUDE_OPT) != 0;
    // 16 bytes are what the option has room for beside a SYN's others.
    if reserved || len == 0 || len > MAX_KEY || !(4..=16).contains(&mac_len) || u16_at(b, 2) != 0 {
        return Err(Errno::EINVAL);
    }
    let peers = Peers {
        addr,
        prefix: prefix(addr, domain, b[202])?,
        device: device(u32_at(b, 192), key_flags & AO_KEYF_IFINDEX != 0)?,
    };
    let ids = (b[203], b[204]);
    let key =
        Mkt::new(peers, ids, algorithm, mac_len, key_flags & AO_KEYF_EXCLUDE_OPT == 0, b[208..208 + len].to_vec());
    let args = AoKeyArgs { current: (flags & 1 != 0).then_some(ids.0), rnext: (flags & 2 != 0).then_some(ids.1) };
    Ok((key, args))
}

/// `struct tcp_ao_del`: whose key, its ids, and which keys to use instead.
///
/// # Errors
/// `EINVAL`.
pub fn parse_ao_del(value: &[u8], domain: Domain) -> Result<(Peers, (u8, u8), AoKeyArgs), Errno> {
    let b: &[u8; 144] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let addr = address(b, domain)?;
    let (flags, key_flags) = (u32_at(b, 132), b[143]);
    if flags & !7 != 0 || u16_at(b, 136) != 0 || key_flags & !AO_KEYF_IFINDEX != 0 {
        return Err(Errno::EINVAL);
    }
    let peers = Peers {
        addr,
        prefix: prefix(addr, domain, b[138])?,
        device: device(u32_at(b, 128), key_flags & AO_KEYF_IFINDEX != 0)?,
    };
    let args = AoKeyArgs { current: (flags & 1 != 0).then_some(b[141]), rnext: (flags & 2 != 0).then_some(b[142]) };
    Ok((peers, (b[139], b[140]), args))
}

/// `struct tcp_ao_info_opt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AoInfoOpt {
    /// Which keys to use.
    pub keys: AoKeyArgs,
    /// Refuse what has no TCP-AO.
    pub required: bool,
    /// Let ICMP errors through.
    pub accept_icmps: bool,
    /// Counters to set.
    pub count: Option<super::AoCounters>,
}

impl AoInfoOpt {
    /// Reads it.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn parse(value: &[u8]) -> Result<Self, Errno> {
        let b: &[u8; 48] = value.first_chunk().ok_or(Errno::EINVAL)?;
        let flags = u32_at(b, 0);
        if flags & !31 != 0 || u16_at(b, 4) != 0 {
            return Err(Errno::EINVAL);
        }
        let u64_at = |at: usize| u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32;
        let count = super::AoCounters {
            good: u64_at(8),
            bad: u64_at(16),
            key_not_found: u64_at(24),
            required: u64_at(32),
            dropped_icmps: u64_at(40),
        };
        Ok(Self {
            keys: AoKeyArgs { current: (flags & 1 != 0).then_some(b[6]), rnext: (flags & 2 != 0).then_some(b[7]) },
            required: flags & 4 != 0,
            accept_icmps: flags & 16 != 0,
            count: (flags & 8 != 0).then_some(count),
        })
    }

    /// What `getsockopt` says of a socket.
    pub fn of(ao: &Ao) -> Vec<u8> {
        let flags = u32::from(ao.current.is_some())
            | u32::from(ao.rnext.is_some()) << 1
            | u32::from(ao.required) << 2
            | u32::from(ao.accept_icmps) << 4;
        let mut out = Vec::with_capacity(48);
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&[0, 0, ao.current.unwrap_or(0), ao.rnext.unwrap_or(0)]);
        let c = &ao.count;
        for n in [c.good, c.bad, c.key_not_found, c.required, c.dropped_icmps] {
            out.extend_from_slice(&n.to_ne_bytes());
        }
        out
    }
}

/// `struct tcp_ao_getsockopt` of one key out of `of`.
pub fn ao_key_entry(key: &Mkt, ao: &Ao, of: usize, domain: Domain) -> [u8; 304] {
    let mut b = [0; 304];
    let mapped = domain == Domain::V6;
    match key.peers.addr {
        IpAddr::V4(v4) if !mapped => {
            b[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            b[4..8].copy_from_slice(&v4.octets());
        }
        addr => {
            b[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            b[8..24].copy_from_slice(&crate::demux::mapped(addr).octets());
        }
    }
    let name = key.algorithm.name().as_bytes();
    b[128..128 + name.len()].copy_from_slice(name);
    b[192..192 + key.key.len()].copy_from_slice(&key.key);
    b[272..276].copy_from_slice(&(of as u32).to_ne_bytes());
    let flags = u16::from(ao.current == Some(key.send_id)) | u16::from(ao.rnext == Some(key.recv_id)) << 1;
    b[276..278].copy_from_slice(&flags.to_ne_bytes());
    let prefix = if key.peers.addr.is_ipv4() && mapped { key.peers.prefix + 96 } else { key.peers.prefix };
    let key_flags = if key.options { 0 } else { AO_KEYF_EXCLUDE_OPT }
        | if key.peers.device.is_some() { AO_KEYF_IFINDEX } else { 0 };
    b[278..284].copy_from_slice(&[key.send_id, key.recv_id, prefix, key.mac_len, key_flags, key.key.len() as u8]);
    b[284..288].copy_from_slice(&key.peers.device.map_or(0, |p| p.0).to_ne_bytes());
    b[288..296].copy_from_slice(&key.good.to_ne_bytes());
    b[296..304].copy_from_slice(&key.bad.to_ne_bytes());
    b
}
