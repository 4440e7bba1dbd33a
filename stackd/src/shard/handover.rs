//! Frames that another shard owns, and those that another shard's queue received.

use super::Shard;
use super::io::stack_meta;
use super::mailbox::{HandedFrame, Search};
use super::steer::{Owner, Verdict, next_candidate};
use stackd_base::{DropReason, Instant, PortId};
use stackd_netdev::RxMeta;
use stackd_netstack::packet::{Packet, Payload};

impl Shard {
    /// A frame of one of this shard's queues: handled here, or handed to whom it belongs.
    pub(super) fn steer(&mut self, now: Instant, port: PortId, frame: &[u8], meta: &RxMeta) {
        let copy = |search| HandedFrame { bytes: frame.to_vec(), meta: *meta, search };
        match self.steering.owner(frame) {
            Owner::Shard(owner) if owner == self.index => self.handle(now, port, frame, meta),
            Owner::Shard(owner) => self.hand_over(owner, port, copy(None)),
            Owner::Search { flow, candidates, last } => {
                if self.core.stack.has_flow(flow.tcp, flow.local, flow.remote) {
                    return self.handle(now, port, frame, meta);
                }
                match next_candidate(self.index, candidates, last) {
                    Some((next, candidates)) => {
                        self.hand_over(next, port, copy(Some(Search { flow, candidates, last })))
                    }
                    None => self.handle(now, port, frame, meta),
                }
            }
            // Neighbour discovery teaches every shard; an answer that is sent twice hurts nobody.
            Owner::All => {
                let here = self.index;
                for other in (0..self.peers.len() as u8).filter(|i| *i != here) {
                    self.hand_over(other, port, copy(None));
                }
                self.handle(now, port, frame, meta);
            }
            Owner::Fragment => match self.fragments.judge(&self.steering, frame, || copy(None)) {
                Verdict::Kept(false) => {}
                Verdict::Kept(true) => self.core.stack.count_drop(DropReason::IpFragmentMemory),
                Verdict::Owned(owner, waited) => {
                    let here = owner == self.index;
                    if here {
                        self.handle(now, port, frame, meta);
                    } else {
                        self.hand_over(owner, port, copy(None));
                    }
                    for early in waited {
                        if here {
                            self.handle(now, port, &early.bytes, &early.meta);
                        } else {
                            self.hand_over(owner, port, early);
                        }
                    }
                }
            },
        }
    }

    /// A frame that another shard's queue received.
    pub(super) fn handed_frame(&mut self, now: Instant, port: PortId, frame: HandedFrame) {
        if let Some(Search { flow, candidates, last }) = frame.search
            && !self.core.stack.has_flow(flow.tcp, flow.local, flow.remote)
            && let Some((next, candidates)) = next_candidate(self.index, candidates, last)
        {
            let search = Some(Search { flow, candidates, last });
            return self.hand_over(next, port, HandedFrame { search, ..frame });
        }
        self.handle(now, port, &frame.bytes, &frame.meta);
    }

    fn handle(&mut self, now: Instant, port: PortId, frame: &[u8], meta: &RxMeta) {
        self.core.stack.handle_frame(now, port, frame, &[][..], 0, stack_meta(meta), &mut self.core.store);
    }

    fn hand_over(&mut self, to: u8, port: PortId, frame: HandedFrame) {
        let sent = self.peers.get(usize::from(to)).is_some_and(|peer| peer.send_frame(port, frame));
        if !sent {
            self.core.stack.count_drop(DropReason::ShardHandoverFull);
        }
    }

    /// `lo`: hands a packet to the shard it belongs to. False: that is this one.
    pub(super) fn hand_over_loopback(&mut self, now: Instant, packet: &Packet) -> bool {
        let Some(ip) = packet.head.get(usize::from(packet.network_at)..) else { return false };
        let (next, search) = match self.steering.owner_of_packet(ip) {
            Owner::Shard(owner) if owner != self.index => (owner, None),
            Owner::Search { flow, candidates, last }
                if !self.core.stack.has_flow(flow.tcp, flow.local, flow.remote) =>
            {
                match next_candidate(self.index, candidates, last) {
                    Some((next, candidates)) => (next, Some(Search { flow, candidates, last })),
                    None => return false,
                }
            }
            // `lo`'s MTU leaves nothing to fragment but datagrams that were asked for so; they stay.
            Owner::Shard(_) | Owner::Search { .. } | Owner::All | Owner::Fragment => return false,
        };
        let Some(lo) = self.core.stack.ip().loopback() else { return false };
        let mut bytes = packet.head.to_vec();
        match &packet.payload {
            Payload::None => {}
            Payload::Owned(payload) => bytes.extend_from_slice(payload),
            Payload::Stream { fifo, range } => {
                self.core.store.copy_out(*fifo, range.clone(), &mut bytes);
            }
        }
        let meta = RxMeta { at: now, offload: packet.offload, start: 0, len: bytes.len() };
        self.hand_over(next, lo, HandedFrame { bytes, meta, search });
        true
    }
}
