//! Keys of TCP-MD5 (RFC 2385).

use super::Peers;
use core::fmt;
use std::net::IpAddr;

pub(super) const KIND: u8 = 19;

/// A key and whom it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key {
    /// Whom.
    pub peers: Peers,
    /// At most 80 bytes.
    pub key: Vec<u8>,
}

impl Md5Key {
    /// The key of one connection.
    pub(super) fn for_one(&self, peer: IpAddr) -> Self {
        let prefix = if peer.is_ipv4() { 32 } else { 128 };
        Self { peers: Peers { addr: peer, prefix, device: self.peers.device }, key: self.key.clone() }
    }
}

impl fmt::Debug for Md5Key {
    /// Not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Md5Key({:?})", self.peers)
    }
}
