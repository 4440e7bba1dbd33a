//! `UDP_GRO`: datagrams of one flow and one size that arrive together are handed to the program as one.
//!
//! Merging happens in front of the receive buffer and only within one turn of the loop: what is held is delivered by the next `flush`,
//! so nothing waits for a successor that may never come.

use crate::socket::Body;
use crate::socket::ancillary::{MAX_SEGMENTS, RecvControl};
use crate::stack::Stack;
use crate::store::ByteStore;
use stackd_base::{DropReason, Instant, SockId};
use std::net::SocketAddr;

/// Most bytes handed up at once: a datagram of the largest size.
const MOST: usize = 65_507;

/// Datagrams being merged.
#[derive(Clone, Debug)]
pub struct Held {
    from: SocketAddr,
    control: RecvControl,
    /// Bytes of each but the last.
    size: usize,
    segments: usize,
    data: Vec<u8>,
}

/// One datagram, or several that a device merged.
pub(super) struct Segment<'a> {
    pub from: SocketAddr,
    pub control: RecvControl,
    pub data: &'a [u8],
}

impl Held {
    fn begin(s: &Segment<'_>) -> Self {
        let size = s.control.gso_size.map_or(s.data.len(), usize::from);
        let segments = if size == 0 { 1 } else { s.data.len().div_ceil(size) };
        Self { from: s.from, control: s.control, size, segments, data: s.data.to_vec() }
    }

    /// udp(7): all segments but the last have one size; so a shorter one ends the run. False: it does not belong to it.
    fn append(&mut self, s: &Segment<'_>) -> bool {
        let RecvControl { port, dst, local, ttl, tos, gso_size, unix_ns: _ } = s.control;
        let own = &self.control;
        let same =
            self.from == s.from && (own.port, own.dst, own.local, own.ttl, own.tos) == (port, dst, local, ttl, tos);
        let whole = self.size > 0 && self.data.len().is_multiple_of(self.size);
        let size = gso_size.map_or(s.data.len(), usize::from);
        let fits_in = if gso_size.is_some() { size == self.size } else { (1..=self.size).contains(&size) };
        let more = if size == 0 { 1 } else { s.data.len().div_ceil(size) };
        if !same || !whole || !fits_in || self.segments + more > MAX_SEGMENTS || self.data.len() + s.data.len() > MOST {
            return false;
        }
        self.data.extend_from_slice(s.data);
        self.segments += more;
        true
    }
}

impl Stack {
    pub(super) fn gro_take<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        segment: &Segment<'_>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body) else {
            return Err(DropReason::SocketClosed);
        };
        if u.held.as_mut().is_some_and(|held| held.append(segment)) {
            return Ok(());
        }
        let before = u.held.replace(Box::new(Held::begin(segment)));
        self.mark_dirty(sock);
        if let Some(held) = before {
            self.gro_deliver(now, sock, &held, store);
        }
        Ok(())
    }

    /// Delivers what is held for a socket.
    pub(in crate::stack) fn gro_flush<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        if let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body)
            && let Some(held) = u.held.take()
        {
            self.gro_deliver(now, sock, &held, store);
        }
    }

    fn gro_deliver<S: ByteStore>(&mut self, _now: Instant, sock: SockId, held: &Held, store: &mut S) {
        let gso_size = (held.segments > 1).then_some(held.size as u16);
        let control = RecvControl { gso_size, ..held.control };
        if let Err(reason) = self.udp_deliver(sock, held.from, &control, &held.data, store) {
            // One reason a datagram that came.
            for _ in 0..held.segments {
                self.drops.count(reason);
            }
        }
    }
}
