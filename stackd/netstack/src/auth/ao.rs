//! TCP-AO (RFC 5925): master key tuples, which of them is in use, and what arrives.

use super::digest::{Algorithm, Segment, TrafficKey, same};
use super::{Peers, Place, Refusal};
use core::fmt;
use stackd_base::{DropReason, Errno, Mib, PortId, SeqNum};
use stackd_wire::{AoOption, TcpRepr};
use std::net::IpAddr;

pub(super) const KIND: u8 = 29;

/// A master key tuple (RFC 5925, 3.1).
#[derive(Clone)]
pub struct Mkt {
    /// Whom it is for.
    pub peers: Peers,
    /// KeyID of what we send with it.
    pub send_id: u8,
    /// KeyID of what we receive with it.
    pub recv_id: u8,
    /// How.
    pub algorithm: Algorithm,
    /// Bytes of the MAC on the wire.
    pub mac_len: u8,
    /// Options other than TCP-AO are covered too.
    pub options: bool,
    /// The master key.
    pub key: Vec<u8>,
    /// Segments that were right.
    pub good: u64,
    /// And wrong.
    pub bad: u64,
    /// Traffic keys of the connection, as they were derived last: for these ISNs, sending and receiving.
    traffic: Option<((SeqNum, SeqNum), TrafficKey, TrafficKey)>,
}

impl Mkt {
    /// Without traffic keys.
    pub fn new(peers: Peers, ids: (u8, u8), algorithm: Algorithm, mac_len: u8, options: bool, key: Vec<u8>) -> Self {
        let (send_id, recv_id) = ids;
        Self { peers, send_id, recv_id, algorithm, mac_len, options, key, good: 0, bad: 0, traffic: None }
    }

    /// RFC 5925, 5.2: both ends' ISNs are part of a traffic key.
    fn pair(&mut self, place: &Place, remote_isn: SeqNum) -> (TrafficKey, TrafficKey) {
        let isns = (place.local.1, remote_isn);
        if let Some((of, send, recv)) = self.traffic
            && of == isns
        {
            return (send, recv);
        }
        let (local, remote) = ((place.local.0, isns.0), (place.remote.0, isns.1));
        let send = self.algorithm.derive(&self.key, local, remote);
        let recv = self.algorithm.derive(&self.key, remote, local);
        self.traffic = Some((isns, send, recv));
        (send, recv)
    }

    /// Key of a segment of ours.
    pub(super) fn sending(&mut self, place: &Place, syn_only: bool) -> TrafficKey {
        match place.remote.1 {
            Some(isn) if !syn_only => self.pair(place, isn).0,
            // RFC 5925, 5.2: "Send_SYN_traffic_key ... the destination ISN ... is zero".
            _ => self.algorithm.derive(&self.key, place.local, (place.remote.0, SeqNum(0))),
        }
    }

    /// Key of a segment of the peer's.
    fn receiving(&mut self, place: &Place, seg: &TcpRepr) -> TrafficKey {
        let syn = seg.flags.syn();
        if syn && seg.ack.is_none() {
            return self.algorithm.derive(&self.key, (place.remote.0, seg.seq), (place.local.0, SeqNum(0)));
        }
        let isn = if syn { seg.seq } else { place.remote.1.unwrap_or(SeqNum(0)) };
        self.pair(place, isn).1
    }
}

impl fmt::Debug for Mkt {
    /// Not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mkt({:?} {}/{} {})", self.peers, self.send_id, self.recv_id, self.algorithm.name())
    }
}

/// What `TCP_AO_INFO` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct AoCounters {
    pub good: u64,
    pub bad: u64,
    pub key_not_found: u64,
    pub required: u64,
    pub dropped_icmps: u64,
}

/// TCP-AO of a socket.
#[derive(Clone, Debug, Default)]
pub struct Ao {
    /// Master key tuples, oldest first.
    pub keys: Vec<Mkt>,
    /// `send_id` of the key that we send with (RFC 5925, 3.3: current_key).
    pub current: Option<u8>,
    /// `recv_id` of the key that we ask for (rnext_key).
    pub rnext: Option<u8>,
    /// Segments without TCP-AO are refused even from peers for whom there is no key.
    pub required: bool,
    /// ICMP errors may end a connection all the same.
    pub accept_icmps: bool,
    /// Counters.
    pub count: AoCounters,
}

impl Ao {
    /// The keys of a listener that concern a child of `peer`, whose SYN asked for what `asked` says.
    pub(super) fn for_child(&self, peer: IpAddr, port: PortId, asked: Option<AoOption>) -> Self {
        let keys: Vec<Mkt> =
            self.keys.iter().filter(|k| k.peers.matches(peer, Some(port)).is_some()).cloned().collect();
        Self {
            // RFC 5925, 7.5: the SYN's KeyID is the key that the client sends with, its RNextKeyID the one that it wants to receive.
            current: asked.map(|a| a.rnext_key_id).filter(|id| keys.iter().any(|k| k.send_id == *id)),
            rnext: asked.map(|a| a.key_id),
            keys,
            required: self.required,
            accept_icmps: self.accept_icmps,
            count: AoCounters::default(),
        }
    }

    fn index_to_send(&self, peer: IpAddr) -> Option<usize> {
        let fits = |k: &Mkt| k.peers.matches(peer, None).is_some();
        let chosen = self.current.and_then(|id| self.keys.iter().position(|k| k.send_id == id && fits(k)));
        chosen.or_else(|| self.keys.iter().position(fits))
    }

    /// The key that segments to `peer` are signed with.
    pub(super) fn key_to_send(&self, peer: IpAddr) -> Option<&Mkt> {
        self.keys.get(self.index_to_send(peer)?)
    }

    pub(super) fn key_to_send_mut(&mut self, peer: IpAddr) -> Option<&mut Mkt> {
        let i = self.index_to_send(peer)?;
        self.keys.get_mut(i)
    }

    /// RNextKeyID beside a key.
    pub(super) fn rnext_id(&self, current: &Mkt) -> u8 {
        self.rnext.unwrap_or(current.recv_id)
    }

    /// RFC 5925, 7.5: what arrives.
    pub(super) fn check(&mut self, seg: &TcpRepr, place: &Place, segment: &Segment<'_>) -> Result<(), Refusal> {
        let peer = place.remote.0.ip();
        let Some(option) = seg.options.ao else {
            let expected = self.required || self.keys.iter().any(|k| k.peers.matches(peer, place.port).is_some());
            if !expected {
                return Ok(());
            }
            self.count.required += 1;
            return Err((DropReason::TcpAoRequired, Mib::TcpExtTCPAORequired));
        };
        let found =
            self.keys.iter_mut().find(|k| k.recv_id == option.key_id && k.peers.matches(peer, place.port).is_some());
        let Some(key) = found else {
            self.count.key_not_found += 1;
            return Err((DropReason::TcpAoKeyNotFound, Mib::TcpExtTCPAOKeyNotFound));
        };
        let want = usize::from(key.mac_len);
        let traffic = key.receiving(place, seg);
        let right =
            option.mac().len() == want && same(&traffic.mac(segment, place.sne, key.options)[..want], option.mac());
        if !right {
            key.bad += 1;
            self.count.bad += 1;
            return Err((DropReason::TcpAoFailure, Mib::TcpExtTCPAOBad));
        }
        key.good += 1;
        self.count.good += 1;
        // RFC 5925, 7.5 (2.d): "If the segment's RNextKeyID ... is not ... the current_key ... and it is available ... the current_key is set to it".
        if place.live && !seg.flags.syn() {
            let next = option.rnext_key_id;
            if self.keys.iter().any(|k| k.send_id == next && k.peers.matches(peer, place.port).is_some()) {
                self.current = Some(next);
            }
        }
        Ok(())
    }

    /// `TCP_AO_ADD_KEY`.
    ///
    /// # Errors
    /// `EEXIST`: RFC 5925, 3.1: "MKTs ... MUST NOT overlap" in their ids for one peer.
    pub fn add(&mut self, key: Mkt) -> Result<(), Errno> {
        let overlaps = |k: &Mkt| k.peers == key.peers && (k.send_id == key.send_id || k.recv_id == key.recv_id);
        if self.keys.iter().any(overlaps) {
            return Err(Errno::EEXIST);
        }
        self.keys.push(key);
        Ok(())
    }

    /// `TCP_AO_DEL_KEY`.
    ///
    /// # Errors
    /// `ENOENT`; `EBUSY`: it is in use.
    pub fn remove(&mut self, peers: &Peers, ids: (u8, u8), live: bool) -> Result<(), Errno> {
        let (send_id, recv_id) = ids;
        let is_it = |k: &Mkt| k.peers == *peers && k.send_id == send_id && k.recv_id == recv_id;
        let at = self.keys.iter().position(is_it).ok_or(Errno::ENOENT)?;
        let in_use = self.index_to_send(peers.addr) == Some(at) || self.rnext == Some(recv_id);
        if live && in_use {
            return Err(Errno::EBUSY);
        }
        self.keys.remove(at);
        Ok(())
    }

    /// Sets current_key.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn set_current(&mut self, send_id: u8) -> Result<(), Errno> {
        self.keys.iter().any(|k| k.send_id == send_id).then(|| self.current = Some(send_id)).ok_or(Errno::ENOENT)
    }

    /// Sets rnext_key.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn set_rnext(&mut self, recv_id: u8) -> Result<(), Errno> {
        self.keys.iter().any(|k| k.recv_id == recv_id).then(|| self.rnext = Some(recv_id)).ok_or(Errno::ENOENT)
    }
}
