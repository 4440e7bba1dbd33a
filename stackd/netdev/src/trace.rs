//! A look at every frame that passes a point between stack and device: counted, and shown to a callback.

use crate::{Caps, Device, DeviceStats, Offload, RxMeta, TxFrame, TxResult};
use stackd_base::{Instant, QueueId};
use std::io;
use std::os::fd::BorrowedFd;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Handed up to the stack.
    Received,
    /// Taken by the device.
    Sent,
    /// Given back: the device is full.
    Busy,
    /// Lost: the device refused it.
    Refused,
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// When it was handed over.
    pub at: Instant,
    /// What became of it.
    pub outcome: Outcome,
    /// Bytes, headers included.
    pub len: usize,
    /// Checksum and segmentation state.
    pub offload: Offload,
}

/// Frames by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TraceCounts {
    /// Frames and bytes handed up.
    pub received: (u64, u64),
    /// Frames and bytes taken by the device.
    pub sent: (u64, u64),
    /// Times that the device was full.
    pub busy: u64,
    /// Frames that the device refused.
    pub refused: u64,
}

/// A device whose frames are shown to `F` as they pass.
pub struct Trace<D, F> {
    device: D,
    show: F,
    counts: TraceCounts,
}

impl<D: core::fmt::Debug, F> core::fmt::Debug for Trace<D, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trace").field("device", &self.device).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<D: Device, F: FnMut(&TraceEvent) + Send> Trace<D, F> {
    /// Calls `show` for every frame; it must not block.
    pub const fn new(device: D, show: F) -> Self {
        Self { device, show, counts: TraceCounts { received: (0, 0), sent: (0, 0), busy: 0, refused: 0 } }
    }

    /// What passed so far.
    pub const fn counts(&self) -> TraceCounts {
        self.counts
    }
}

impl<D: Device, F: FnMut(&TraceEvent) + Send> Device for Trace<D, F> {
    fn queue(&self) -> QueueId {
        self.device.queue()
    }
    fn caps(&self) -> Caps {
        self.device.caps()
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        let meta = self.device.receive(now, buf)?;
        if let Some(RxMeta { at, offload, len, .. }) = meta {
            self.counts.received.0 += 1;
            self.counts.received.1 += len as u64;
            (self.show)(&TraceEvent { at, outcome: Outcome::Received, len, offload });
        }
        Ok(meta)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        // SAFETY: by this function's contract.
        let result = unsafe { self.device.transmit(now, frame) };
        let len: usize = frame.pieces.iter().map(|p| p.len).sum();
        let outcome = match &result {
            TxResult::Sent => {
                self.counts.sent.0 += 1;
                self.counts.sent.1 += len as u64;
                Outcome::Sent
            }
            TxResult::Busy => {
                self.counts.busy += 1;
                Outcome::Busy
            }
            TxResult::Refused(_) => {
                self.counts.refused += 1;
                Outcome::Refused
            }
        };
        (self.show)(&TraceEvent { at: now, outcome, len, offload: frame.offload });
        result
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_fd()
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.device.next_deadline()
    }
    fn stats(&self) -> DeviceStats {
        self.device.stats()
    }
}
