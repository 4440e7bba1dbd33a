//! Which shard a frame belongs to, when there are several.
//!
//! A flow lives on one shard for life, a session's sockets live on the session's shard, and a frame arrives on whatever queue
//! the device chose. Who may own a frame follows from its ports alone:
//!
//! - shards where a socket is *bound* to the local port ([`Claims`]): listeners, UDP sockets, clients that chose their port;
//! - shards that hold *accepted* connections on it, which may outlive their listener;
//! - the shard that the symmetric flow hash names: connections from an ephemeral port, which the stack chose so.
//!
//! Mostly that is one shard. Where it is more (SO_REUSEPORT over several sessions; a listener's port and the hash), the frame goes
//! round: each candidate that does not know the flow passes it on, the last one answers. A SYN goes to one of the bound shards, by
//! hash, as SO_REUSEPORT promises.

mod claims;
mod fragments;
mod packet;
#[cfg(test)]
mod tests;

pub use claims::{Claim, ClaimKind, Claims, Steering};
pub use fragments::{Fragments, Verdict};

use packet::Seen;
use stackd_netstack::demux::flow_shard;
use std::net::SocketAddr;

/// A set of shards: bit `n` is shard `n`.
pub type Shards = u64;

/// A TCP or UDP flow as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// TCP; else UDP.
    pub tcp: bool,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

/// Who gets a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One shard.
    Shard(u8),
    /// The first of these that knows the flow; `last` if none does.
    Search {
        /// What to look for.
        flow: Flow,
        /// Where.
        candidates: Shards,
        /// Who answers if nobody knows it. One of the candidates.
        last: u8,
    },
    /// Every shard: neighbour discovery, ICMP errors, groups.
    All,
    /// A fragment: [`Fragments`] knows.
    Fragment,
}

impl Steering {
    /// The owner of an Ethernet frame.
    pub fn owner(&self, frame: &[u8]) -> Owner {
        match packet::network(frame) {
            Some(packet) => self.owner_of_packet(packet),
            None => Owner::All,
        }
    }

    /// The owner of an IP packet. Its destination is this host.
    pub fn owner_of_packet(&self, packet: &[u8]) -> Owner {
        match packet::look(packet) {
            Seen::Flow { flow, opens } => self.owner_of_flow(&flow, opens),
            Seen::Fragment(_) => Owner::Fragment,
            // Pings are answered once.
            Seen::Once => Owner::Shard(0),
            Seen::ForAll => Owner::All,
        }
    }

    /// The owner of a segment or datagram of a flow; `opens`: it is a SYN.
    fn owner_of_flow(&self, flow: &Flow, opens: bool) -> Owner {
        let Flow { tcp, local, remote } = *flow;
        let (bound, accepted) = self.claimants(tcp, local.port());
        let hash = flow_shard(local, remote, self.shards());
        let answers = nth_member(bound, local, remote).unwrap_or(hash);
        if tcp && opens {
            return Owner::Shard(answers);
        }
        let mut candidates = bound | accepted | 1 << answers;
        if tcp {
            candidates |= 1 << hash;
        }
        if candidates.is_power_of_two() {
            return Owner::Shard(answers);
        }
        Owner::Search { flow: *flow, candidates, last: answers }
    }
}

/// The member of a set that a flow's hash names.
fn nth_member(set: Shards, local: SocketAddr, remote: SocketAddr) -> Option<u8> {
    if set == 0 {
        return None;
    }
    let mut rest = set;
    for _ in 0..flow_shard(local, remote, set.count_ones() as u8) {
        rest &= rest - 1;
    }
    Some(rest.trailing_zeros() as u8)
}

/// Where a searched frame goes from `here`, which does not know the flow: the next shard and the candidates left for it, or `None`
/// when `here` is the last. A frame that starts at the last one comes back to it.
pub fn next_candidate(here: u8, candidates: Shards, last: u8) -> Option<(u8, Shards)> {
    let others = candidates & !(1 << here) & !(1 << last);
    if others != 0 {
        return Some((others.trailing_zeros() as u8, others | 1 << last));
    }
    (here != last).then_some((last, 1 << last))
}
