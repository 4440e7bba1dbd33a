//! Keys of TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925), in Linux's layouts.

use crate::options::{IPPROTO_TCP, TCP_AO_ADD_KEY, TCP_MD5SIG_EXT};
use crate::socket::Sock;
use std::io;
use std::net::IpAddr;

/// Longest key of either.
const MAX_KEY: usize = 80;

/// Whom a key is for: an address, and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    addr: IpAddr,
    prefix: u8,
}

impl From<IpAddr> for Peers {
    fn from(addr: IpAddr) -> Self {
        Self { addr, prefix: if addr.is_ipv4() { 32 } else { 128 } }
    }
}

impl Peers {
    /// All whose address begins with the first `prefix` bits of `addr`.
    pub fn network(addr: IpAddr, prefix: u8) -> Self {
        Self { addr, prefix }
    }

    /// `struct sockaddr_storage`.
    fn storage(self) -> [u8; 128] {
        let mut b = [0; 128];
        match self.addr {
            IpAddr::V4(v4) => {
                b[..2].copy_from_slice(&2u16.to_ne_bytes());
                b[4..8].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                b[..2].copy_from_slice(&10u16.to_ne_bytes());
                b[8..24].copy_from_slice(&v6.octets());
            }
        }
        b
    }
}

/// Algorithms of TCP-AO (RFC 5926).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    AesCmac,
}

/// A master key tuple of TCP-AO.
#[derive(Clone, PartialEq, Eq)]
pub struct AoKey {
    /// Whom it is for.
    pub peers: Peers,
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what we receive.
    pub recv_id: u8,
    /// How.
    pub algorithm: AoAlgorithm,
    /// Options other than TCP-AO are covered too (RFC 5925's default).
    pub cover_options: bool,
    /// The master key, at most 80 bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for AoKey {
    /// Not the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { peers, send_id, recv_id, algorithm, cover_options: _, key: _ } = self;
        write!(f, "AoKey({peers:?} {send_id}/{recv_id} {algorithm:?})")
    }
}

fn too_long(len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a key of {len} bytes; want at most {MAX_KEY}"))
}

impl Sock {
    /// TCP_MD5SIG_EXT; an empty key takes it away.
    pub(crate) fn set_md5_key(&self, peers: Peers, key: &[u8]) -> io::Result<()> {
        if key.len() > MAX_KEY {
            return Err(too_long(key.len()));
        }
        let mut b = peers.storage().to_vec();
        b.extend([1, peers.prefix]);
        b.extend((key.len() as u16).to_ne_bytes());
        b.extend([0; 4]);
        b.extend(key);
        b.resize(216, 0);
        self.set(IPPROTO_TCP, TCP_MD5SIG_EXT, &b)
    }

    /// TCP_AO_ADD_KEY.
    pub(crate) fn add_ao_key(&self, key: &AoKey) -> io::Result<()> {
        let AoKey { peers, send_id, recv_id, algorithm, cover_options, key } = key;
        if key.len() > MAX_KEY {
            return Err(too_long(key.len()));
        }
        let mut b = peers.storage().to_vec();
        b.extend(match algorithm {
            AoAlgorithm::HmacSha1 => "hmac(sha1)".bytes(),
            AoAlgorithm::AesCmac => "cmac(aes128)".bytes(),
        });
        b.resize(202, 0);
        // The MAC's length of 0 is RFC 5926's 12 bytes; flag 2 leaves options out.
        b.extend([peers.prefix, *send_id, *recv_id, 0, if *cover_options { 0 } else { 2 }, key.len() as u8]);
        b.extend(key);
        b.resize(288, 0);
        self.set(IPPROTO_TCP, TCP_AO_ADD_KEY, &b)
    }
}
