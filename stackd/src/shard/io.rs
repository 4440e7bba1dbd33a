//! Frames in and out: devices, loopback, and frames that another shard owns.

use super::mailbox::{HandedFrame, Message};
use super::steer::Owner;
use super::{RX_BUDGET, Shard, TX_BUDGET};
use crate::store::Pieces;
use stackd_base::{DropReason, Instant, PortId};
use stackd_netdev::{IoVec, RxMeta, TxFrame, TxResult};
use stackd_netstack::packet::{Packet, Payload};

fn stack_meta(meta: &RxMeta) -> stackd_netstack::RxMeta {
    stackd_netstack::RxMeta { at: meta.at, offload: meta.offload }
}

fn piece(bytes: &[u8]) -> IoVec {
    IoVec { base: bytes.as_ptr(), len: bytes.len() }
}

impl Shard {
    /// Takes frames from every device.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        let mut any = false;
        for at in 0..self.ports.len() {
            for _ in 0..RX_BUDGET {
                let port = &mut self.ports[at];
                let meta = match port.device.receive(now, &mut self.rx_buffer) {
                    Ok(Some(meta)) => meta,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, ?port, "receive");
                        break;
                    }
                };
                any = true;
                self.figures.rx_frames += 1;
                let id = port.id;
                let Some(frame) = self.rx_buffer.get(..meta.len) else { continue };
                self.captures.show(id, false, &[piece(frame)]);
                if self.steering.is_needed() && !steer(self.index, &self.steering, &self.peers, id, frame, &meta) {
                    continue;
                }
                self.core.stack.handle_frame(now, id, frame, &[][..], 0, stack_meta(&meta), &mut self.core.store);
            }
        }
        any
    }

    /// A frame that another shard's queue received.
    pub(super) fn handed_frame(&mut self, now: Instant, port: PortId, frame: &HandedFrame) {
        let HandedFrame { bytes, meta } = frame;
        self.core.stack.handle_frame(now, port, bytes, &[][..], 0, stack_meta(meta), &mut self.core.store);
    }

    /// Gives every device what may leave now, and loopback what it sent to itself.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        let mut any = self.loop_back(now);
        for at in 0..self.ports.len() {
            if self.ports[at].full {
                continue;
            }
            for _ in 0..TX_BUDGET {
                let id = self.ports[at].id;
                let next = self.ports[at].held.take();
                let Some(packet) = next.or_else(|| self.core.stack.poll_transmit(now, id, &mut self.core.store)) else {
                    break;
                };
                any = true;
                if let Some(packet) = self.send(now, at, packet) {
                    self.ports[at].held = Some(packet);
                    self.ports[at].full = true;
                    break;
                }
            }
        }
        any
    }

    /// Gives one packet to a device; gives it back if the device is full.
    fn send(&mut self, now: Instant, at: usize, packet: Packet) -> Option<Packet> {
        let port = &mut self.ports[at];
        let mut pieces = Pieces::new();
        let mut corrupted = Vec::new();
        pieces.push(piece(&packet.head));
        let whole = match &packet.payload {
            Payload::None => true,
            Payload::Owned(bytes) => {
                pieces.push(piece(bytes));
                true
            }
            Payload::Stream { fifo, range } => self.core.store.tx_pieces(*fifo, range.clone(), &mut pieces),
        };
        if !whole {
            // Acknowledged while the device was full: what it would repeat, nobody needs.
            self.core.stack.count_drop(DropReason::TcpStaleTransmit);
            self.core.stack.handle_tx_complete(now, &packet);
            return None;
        }
        let mut offload = packet.offload;
        if packet.corrupt_bit.is_some() {
            // netem's corruption happens to bytes of our own, never to the send buffer.
            let mut payload = Vec::new();
            match &packet.payload {
                Payload::None => {}
                Payload::Owned(bytes) => payload.extend_from_slice(bytes),
                Payload::Stream { fifo, range } => {
                    self.core.store.copy_out(*fifo, range.clone(), &mut payload);
                }
            }
            packet.write_frame(&payload, &mut corrupted);
            offload.csum = None;
            pieces.clear();
            pieces.push(piece(&corrupted));
        }
        // SAFETY: the pieces are `packet.head`, an owned payload of `packet`, `corrupted`, or chunks of a FIFO that the store
        // holds; all outlive the call, and nothing here frees a chunk meanwhile. A client may write to its chunks: the device
        // copies whatever is there.
        let result = unsafe { port.device.transmit(now, &TxFrame { pieces: &pieces, offload }) };
        match result {
            TxResult::Sent => {
                self.figures.tx_frames += 1;
                self.captures.show(port.id, true, &pieces);
            }
            TxResult::Busy => return Some(packet),
            TxResult::Refused(error) => {
                tracing::debug!(%error, ?port, "the device refused a frame");
                port.tx_refused += 1;
            }
        }
        self.core.stack.handle_tx_complete(now, &packet);
        None
    }

    /// `lo`: what this stack sent to itself comes in again, or goes to the shard that owns the flow.
    fn loop_back(&mut self, now: Instant) -> bool {
        let mut any = false;
        for _ in 0..TX_BUDGET {
            let Some(packet) = self.core.stack.poll_loopback(now, &mut self.core.store) else { break };
            any = true;
            if !self.captures.is_empty() {
                self.show_loopback(&packet);
            }
            if self.steering.is_needed()
                && let Some(owner) = self.other_owner(&packet)
            {
                self.hand_over_loopback(now, owner, &packet);
                self.core.stack.handle_tx_complete(now, &packet);
                continue;
            }
            self.core.stack.handle_loopback(now, packet, &mut self.core.store);
        }
        any
    }

    fn show_loopback(&mut self, packet: &Packet) {
        let mut pieces = Pieces::new();
        pieces.push(piece(&packet.head));
        match &packet.payload {
            Payload::None => {}
            Payload::Owned(bytes) => pieces.push(piece(bytes)),
            Payload::Stream { fifo, range } => {
                self.core.store.tx_pieces(*fifo, range.clone(), &mut pieces);
            }
        }
        if let Some(lo) = self.core.stack.ip().loopback() {
            self.captures.show(lo, true, &pieces);
        }
    }

    fn other_owner(&self, packet: &Packet) -> Option<u8> {
        let ip = packet.head.get(usize::from(packet.network_at)..)?;
        match self.steering.owner_of_packet(ip) {
            Owner::Shard(owner) if owner != self.index => Some(owner),
            Owner::Shard(_) | Owner::All => None,
        }
    }

    fn hand_over_loopback(&mut self, now: Instant, owner: u8, packet: &Packet) {
        let (Some(lo), Some(peer)) = (self.core.stack.ip().loopback(), self.peers.get(usize::from(owner))) else {
            return;
        };
        let mut bytes = packet.head.to_vec();
        match &packet.payload {
            Payload::None => {}
            Payload::Owned(payload) => bytes.extend_from_slice(payload),
            Payload::Stream { fifo, range } => {
                self.core.store.copy_out(*fifo, range.clone(), &mut bytes);
            }
        }
        let meta = RxMeta { at: now, offload: packet.offload, len: bytes.len() };
        peer.send(Message::Frame { port: lo, frame: Box::new(HandedFrame { bytes, meta }) });
    }
}

/// Hands a frame to the shard that owns it. True: this shard handles it too.
fn steer(
    index: u8,
    steering: &super::Steering,
    peers: &[super::Mailer],
    port: PortId,
    frame: &[u8],
    meta: &RxMeta,
) -> bool {
    let hand = |peer: &super::Mailer| {
        let frame = Box::new(HandedFrame { bytes: frame.to_vec(), meta: *meta });
        peer.send(Message::Frame { port, frame });
    };
    match steering.owner(frame) {
        Owner::Shard(owner) if owner == index => true,
        Owner::Shard(owner) => {
            if let Some(peer) = peers.get(usize::from(owner)) {
                hand(peer);
            }
            false
        }
        // Neighbour discovery teaches every shard; an answer that is sent twice hurts nobody.
        Owner::All => {
            for (i, peer) in peers.iter().enumerate() {
                if i != usize::from(index) {
                    hand(peer);
                }
            }
            true
        }
    }
}
