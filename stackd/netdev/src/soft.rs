//! Checksums and segmentation in software, around a device that does neither.

use crate::{Batch, Caps, Device, DeviceStats, Gso, Offload, RxMeta, TxFrame, TxResult, gather, piece, segment};
use stackd_base::{Instant, QueueId};
use std::io;
use std::os::fd::BorrowedFd;

/// Segments given to the device in one call.
const BATCH: usize = 45;
/// Largest frame that is cut: the stack then works in the same units as with a device that segments.
const TSO_MAX: u32 = 65_535;

/// A device without offloads, made to look like one that has them: frames that need a checksum or cutting are copied and finished here, all others
/// pass untouched. A device that has both already is left alone.
#[derive(Debug)]
pub struct SoftOffload<D> {
    device: D,
    /// The GSO frame under way.
    frame: Vec<u8>,
    offload: Offload,
    /// Segments of it that are gone, and all.
    sent: usize,
    total: usize,
    segments: Vec<Vec<u8>>,
    refused: u64,
}

impl<D: Device> SoftOffload<D> {
    /// Completes what `device` cannot do.
    pub const fn new(device: D) -> Self {
        Self {
            device,
            frame: Vec::new(),
            offload: Offload { csum: None, csum_valid: false, gso_size: 0, gso: Gso::None, hdr_len: 0 },
            sent: 0,
            total: 0,
            segments: Vec::new(),
            refused: 0,
        }
    }

    /// The device inside.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// The device inside.
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    fn can(&self, offload: &Offload) -> bool {
        let caps = self.device.caps();
        let cuts = match offload.gso {
            Gso::None => true,
            Gso::TcpV4 | Gso::TcpV6 => caps.tso_max > 0,
            Gso::UdpL4 => caps.uso,
        };
        cuts && (caps.tx_csum || offload.csum.is_none())
    }

    /// Sends what is left of the frame under way. False: the device is full.
    fn flush(&mut self, now: Instant) -> bool {
        while self.sent < self.total {
            let n = (self.total - self.sent).min(BATCH);
            self.segments.resize_with(self.segments.len().max(n), Vec::new);
            for (i, out) in self.segments[..n].iter_mut().enumerate() {
                if segment::segment_into(&self.frame, &self.offload, self.sent + i, out).is_none() {
                    // Headers that lie about the frame: none of its segments can be made.
                    self.refused += (self.total - self.sent) as u64;
                    self.sent = self.total;
                    return true;
                }
            }
            let pieces: [_; BATCH] = std::array::from_fn(|i| [piece(self.segments.get(i).map_or(&[], |s| s))]);
            let plain = Offload { csum_valid: true, ..Offload::default() };
            let frames: [_; BATCH] = std::array::from_fn(|i| TxFrame { pieces: &pieces[i], offload: plain });
            // SAFETY: the pieces are `self.segments`, which nothing touches during the call.
            let Batch { sent, stopped } = unsafe { self.device.transmit_batch(now, &frames[..n]) };
            self.sent += sent;
            match stopped {
                None | Some(TxResult::Sent) => {}
                Some(TxResult::Busy) => return false,
                Some(TxResult::Refused(_)) => {
                    self.refused += 1;
                    self.sent += 1;
                }
            }
        }
        true
    }
}

impl<D: Device> Device for SoftOffload<D> {
    fn queue(&self) -> QueueId {
        self.device.queue()
    }
    fn caps(&self) -> Caps {
        let inner = self.device.caps();
        Caps { tx_csum: true, tso_max: inner.tso_max.max(TSO_MAX), uso: true, ..inner }
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        self.flush(now);
        self.device.receive(now, buf)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        // Order: nothing overtakes the segments of the frame before.
        if !self.flush(now) {
            return TxResult::Busy;
        }
        if self.can(&frame.offload) {
            // SAFETY: by this function's contract.
            return unsafe { self.device.transmit(now, frame) };
        }
        self.frame.clear();
        // SAFETY: the pieces are readable by this function's contract.
        unsafe { gather(frame.pieces, &mut self.frame) };
        self.offload = frame.offload;
        if frame.offload.gso != Gso::None && frame.offload.gso_size > 0 {
            (self.sent, self.total) = (0, segment::count(self.frame.len(), &self.offload));
            self.flush(now);
            return TxResult::Sent;
        }
        segment::complete_checksum(&mut self.frame, &mut self.offload);
        let pieces = [piece(&self.frame)];
        // SAFETY: the piece is `self.frame`, which nothing touches during the call.
        unsafe { self.device.transmit(now, &TxFrame { pieces: &pieces, offload: self.offload }) }
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_fd()
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.device.next_deadline()
    }
    fn stats(&self) -> DeviceStats {
        let below = self.device.stats();
        DeviceStats { tx_refused: below.tx_refused + self.refused, ..below }
    }
}
