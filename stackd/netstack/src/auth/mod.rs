//! Segments that prove who sent them: TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925).
//!
//! Keys belong to sockets; a listener's go to its children as far as they concern their peer. The connection knows only how many bytes of
//! every segment the option takes: digests are computed where segments meet the byte store. Flows with keys are not left to a segmenting
//! device, which could not sign, and what they send is copied out of the application's reach before it is hashed.

mod ao;
pub mod digest;
mod md5;
mod sockopt;

#[cfg(test)]
mod rfc9235;

pub use ao::{Ao, AoCounters, Mkt};
pub use md5::Md5Key;
pub use sockopt::{AoInfoOpt, AoKeyArgs, ao_key_entry, parse_ao_add, parse_ao_del, parse_md5};

use digest::Segment;
use stackd_base::{DropReason, Mib, PortId, SeqNum};
use stackd_wire::{AoOption, TcpOptions, TcpRepr};
use std::net::{IpAddr, SocketAddr};

/// Whom a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peers {
    /// An address (canonical).
    pub addr: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
    /// Only through this interface.
    pub device: Option<PortId>,
}

impl Peers {
    /// Whether `peer`, heard through `port`, is one of them; more bits beat less, an interface beats none.
    fn matches(&self, peer: IpAddr, port: Option<PortId>) -> Option<u32> {
        let same = match (self.addr, peer) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u64::from(u32::from(a) ^ u32::from(b)) >> shift == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(128 - u32::from(self.prefix.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        };
        let device = self.device.is_none() || port.is_none() || self.device == port;
        (same && device).then(|| u32::from(self.prefix) * 2 + u32::from(self.device.is_some()))
    }
}

/// Where a segment belongs: both ends, and what the handshake made of their sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Ours, and our initial sequence number.
    pub local: (SocketAddr, SeqNum),
    /// The peer's; `None` before its SYN.
    pub remote: (SocketAddr, Option<SeqNum>),
    /// High half of the 64-bit position of the segment (RFC 5925, 6.2).
    pub sne: u32,
    /// The interface it came through.
    pub port: Option<PortId>,
    /// Of a connection, whose current key may change by it.
    pub live: bool,
}

/// A socket's keys.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    md5: Vec<Md5Key>,
    /// TCP-AO's.
    pub ao: Ao,
}

/// Why a segment is refused, and Linux's counter of that.
pub type Refusal = (DropReason, Mib);

impl Auth {
    /// Without keys it is as if it were not there.
    pub fn is_empty(&self) -> bool {
        self.md5.is_empty() && self.ao.keys.is_empty()
    }

    /// The keys of a listener that concern a child of `peer`.
    pub fn for_child(&self, peer: IpAddr, port: PortId, asked: Option<AoOption>) -> Option<Box<Self>> {
        let md5 = self.md5_key(peer, Some(port)).map(|key| key.for_one(peer)).into_iter().collect();
        let child = Self { md5, ao: self.ao.for_child(peer, port, asked) };
        (!child.is_empty()).then(|| Box::new(child))
    }

    /// Bytes that every segment to `peer` spends.
    pub fn overhead(&self, peer: IpAddr) -> u8 {
        match (self.md5_key(peer, None), self.ao.key_to_send(peer)) {
            (Some(_), _) => 20,
            (None, Some(key)) => AoOption::padded_len(key.mac_len.into()) as u8,
            (None, None) => 0,
        }
    }

    /// Options with room for the digest, and whether there is one to be made.
    pub fn reserve(&self, mut options: TcpOptions, peer: IpAddr) -> (TcpOptions, bool) {
        if self.md5_key(peer, None).is_some() {
            options.md5 = Some([0; 16]);
        } else if let Some(key) = self.ao.key_to_send(peer) {
            options.ao = AoOption::new(key.send_id, self.ao.rnext_id(key), &[0; 16][..key.mac_len.into()]);
        }
        (options, options.md5.is_some() || options.ao.is_some())
    }

    /// Puts the digest of a segment of ours into its header, which has room for it.
    pub fn sign(&mut self, header: &mut [u8], place: &Place, payload: &[u8]) {
        let (src, dst) = (place.local.0.ip(), place.remote.0.ip());
        let visit = |f: &mut dyn FnMut(&[u8])| f(payload);
        if let Some(key) = self.md5_key(dst, None) {
            let made = Segment { src, dst, header, len: payload.len(), payload: &visit }.md5(&key.key);
            put(header, md5::KIND, 0, &made);
        } else if let Some(key) = self.ao.key_to_send_mut(dst) {
            let syn_only = header[13] & 0x12 == 0x02;
            let traffic = key.sending(place, syn_only);
            let segment = Segment { src, dst, header, len: payload.len(), payload: &visit };
            let made = traffic.mac(&segment, place.sne, key.options);
            put(header, ao::KIND, 2, &made[..key.mac_len.into()]);
        }
    }

    /// Whether a segment is what its sender made (RFC 2385, 2.0; RFC 5925, 7.5).
    ///
    /// # Errors
    /// Why it is to be dropped without an answer.
    pub fn check(&mut self, seg: &TcpRepr, place: &Place, segment: &Segment<'_>) -> Result<(), Refusal> {
        let peer = place.remote.0.ip();
        if seg.options.md5.is_some() && seg.options.ao.is_some() {
            // RFC 5925, 2.2: "MUST NOT ... both" in one segment.
            return Err((DropReason::TcpMd5Unexpected, Mib::TcpExtTCPMD5Unexpected));
        }
        match (self.md5_key(peer, place.port), seg.options.md5) {
            (Some(_), None) => return Err((DropReason::TcpMd5NotFound, Mib::TcpExtTCPMD5NotFound)),
            (None, Some(_)) => return Err((DropReason::TcpMd5Unexpected, Mib::TcpExtTCPMD5Unexpected)),
            (Some(key), Some(got)) => {
                return if digest::same(&segment.md5(&key.key), &got) {
                    Ok(())
                } else {
                    Err((DropReason::TcpMd5Failure, Mib::TcpExtTCPMD5Failure))
                };
            }
            (None, None) => {}
        }
        self.ao.check(seg, place, segment)
    }

    fn md5_key(&self, peer: IpAddr, port: Option<PortId>) -> Option<&Md5Key> {
        let fit = |k: &&Md5Key| k.peers.matches(peer, port);
        self.md5.iter().filter(|k| fit(k).is_some()).max_by_key(fit)
    }

    /// Whether there is an MD5 key for `peer`.
    pub fn has_md5(&self, peer: IpAddr) -> bool {
        self.md5_key(peer, None).is_some()
    }

    /// `TCP_MD5SIG` with a key: adds or replaces it.
    pub fn set_md5(&mut self, key: Md5Key) {
        self.md5.retain(|k| k.peers != key.peers);
        self.md5.push(key);
    }

    /// `TCP_MD5SIG` with an empty key. False when there was none.
    pub fn remove_md5(&mut self, peers: &Peers) -> bool {
        let before = self.md5.len();
        self.md5.retain(|k| k.peers != *peers);
        self.md5.len() < before
    }
}

/// A segment without keys on our side.
///
/// # Errors
/// As [`Auth::check`].
pub fn check_without_keys(seg: &TcpRepr) -> Result<(), Refusal> {
    if seg.options.md5.is_some() {
        return Err((DropReason::TcpMd5Unexpected, Mib::TcpExtTCPMD5Unexpected));
    }
    if seg.options.ao.is_some() {
        return Err((DropReason::TcpAoKeyNotFound, Mib::TcpExtTCPAOKeyNotFound));
    }
    Ok(())
}

/// Writes a digest where the option of this kind has its place for it.
fn put(header: &mut [u8], kind: u8, skip: usize, made: &[u8]) {
    if let Some(body) = stackd_wire::find_option(&header[20..], kind) {
        let at = 20 + body.start + skip;
        if let Some(room) = header.get_mut(at..at + made.len()) {
            room.copy_from_slice(made);
        }
    }
}
