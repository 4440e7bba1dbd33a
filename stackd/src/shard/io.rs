//! Frames in and out: devices and loopback.

use super::{RX_BUDGET, Shard, TX_BUDGET};
use crate::store::Pieces;
use stackd_base::{DropReason, Instant};
use stackd_netdev::{IoVec, RxMeta, TxFrame, TxResult};
use stackd_netstack::packet::{Packet, Payload};

pub(super) fn stack_meta(meta: &RxMeta) -> stackd_netstack::RxMeta {
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
                let first = !std::mem::replace(&mut any, true);
                self.figures.rx_frames += 1;
                let id = port.id;
                let Some(frame) = meta.frame(&self.rx_buffer) else { continue };
                self.captures.show(id, false, &[piece(frame)]);
                if self.steering.is_needed() {
                    let buffer = std::mem::take(&mut self.rx_buffer);
                    self.steer(now, id, meta.frame(&buffer).unwrap_or_default(), &meta);
                    self.rx_buffer = buffer;
                    continue;
                }
                self.core.stack.handle_frame(now, id, frame, &[][..], 0, stack_meta(&meta), &mut self.core.store);
                if first {
                    // Whoever waits for this one frame does not wait for the read that finds no second one.
                    self.tell_clients(now);
                }
            }
        }
        any
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
                if let Some(packet) = next.as_ref().filter(|p| self.core.stack.is_stale(p)) {
                    self.core.stack.count_drop(DropReason::TcpStaleTransmit);
                    self.core.stack.handle_tx_complete(now, packet);
                    continue;
                }
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
            if self.steering.is_needed() && self.hand_over_loopback(now, &packet) {
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
}
