//! Frames that wait in an emulated path: runs of segments of a shared buffer, so that cutting a GSO frame copies nothing.

use crate::{Offload, segment};
use stackd_base::Instant;
use stackd_qdisc::QueuedPacket;
use std::sync::Arc;

/// Frames up to this long wait in buffers of this size; longer ones in buffers that grew to theirs.
const SMALL: usize = 2048;
/// Buffers that a pool keeps of each size.
const KEPT: usize = 4096;

/// The bytes of a frame as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer {
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

/// A frame, or some neighbouring segments of a GSO frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    buffer: Arc<Buffer>,
    first: u32,
    segments: u32,
    /// Which bit is flipped, before it is reduced to the frame's length.
    corrupt: Option<u64>,
}

/// What to hand to a device for a [`Frame`]: bytes in `head`, then a range of the frame's buffer.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub head: Vec<u8>,
    pub payload: std::ops::Range<usize>,
    pub offload: Offload,
}

impl Frame {
    pub(super) fn new(buffer: Arc<Buffer>) -> Self {
        let segments = segment::count(buffer.bytes.len(), &buffer.offload) as u32;
        Self { buffer, first: 0, segments, corrupt: None }
    }

    fn is_gso(&self) -> bool {
        segment::count(self.buffer.bytes.len(), &self.buffer.offload) > 1
    }

    fn payload_len(&self) -> usize {
        let (len, hdr) = (self.buffer.bytes.len(), usize::from(self.buffer.offload.hdr_len));
        let size = usize::from(self.buffer.offload.gso_size);
        let from = hdr + self.first as usize * size;
        (from + self.segments as usize * size).min(len).saturating_sub(from)
    }

    /// Appends `next` if it follows in the same GSO frame and both are intact; gives it back otherwise.
    pub(super) fn join(&mut self, next: Self) -> Option<Self> {
        let follows = Arc::ptr_eq(&self.buffer, &next.buffer) && next.first == self.first + self.segments;
        if !follows || self.corrupt.is_some() || next.corrupt.is_some() {
            return Some(next);
        }
        self.segments += next.segments;
        None
    }

    /// Fills in what a device is to send. `None`: the headers make no sense.
    pub(super) fn prepare(&self, out: &mut Outgoing) -> Option<()> {
        let Buffer { bytes, offload } = &*self.buffer;
        out.head.clear();
        if self.is_gso() {
            (out.payload, out.offload) =
                segment::run(bytes, offload, self.first as usize, self.segments as usize, &mut out.head)?;
        } else {
            (out.payload, out.offload) = (0..bytes.len(), *offload);
        }
        if let Some(random) = self.corrupt {
            out.head.extend_from_slice(bytes.get(out.payload.clone())?);
            out.payload = 0..0;
            // The checksum is completed first: corruption on the way does not change what the sender computed.
            segment::complete_checksum(&mut out.head, &mut out.offload);
            out.offload = Offload::default();
            let bits = out.head.len().saturating_sub(14) as u64 * 8;
            if bits > 0 {
                let bit = 14 * 8 + random % bits;
                out.head[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        Some(())
    }

    /// The buffer that `Outgoing::payload` is a range of.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes
    }

    pub(super) fn into_buffer(self) -> Arc<Buffer> {
        self.buffer
    }
}

impl QueuedPacket for Frame {
    fn wire_len(&self) -> u32 {
        if !self.is_gso() {
            return self.buffer.bytes.len() as u32;
        }
        self.payload_len() as u32 + self.segments * u32::from(self.buffer.offload.hdr_len)
    }
    fn segments(&self) -> u32 {
        self.segments
    }
    fn flow_hash(&self) -> u64 {
        0
    }
    fn departure(&self) -> Option<Instant> {
        None
    }
    fn has_socket(&self) -> bool {
        false
    }
    fn priority(&self) -> u8 {
        0
    }
    fn max_pacing_rate(&self) -> u64 {
        u64::MAX
    }
    fn ecn_capable(&self) -> bool {
        false
    }
    fn mark_ce(&mut self) {}
    fn split_first(&mut self) -> Option<Self> {
        if self.segments < 2 {
            return None;
        }
        let first =
            Self { buffer: Arc::clone(&self.buffer), first: self.first, segments: 1, corrupt: self.corrupt.take() };
        self.first += 1;
        self.segments -= 1;
        Some(first)
    }
    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
    fn corrupt(&mut self, random: u64) {
        self.corrupt = Some(random);
    }
}

/// Buffers that were used before, so that a path in steady state allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Pool {
    small: Vec<Arc<Buffer>>,
    large: Vec<Arc<Buffer>>,
}

impl Pool {
    /// A buffer with room for `len` bytes, filled by `fill`.
    pub(super) fn filled(&mut self, len: usize, offload: Offload, fill: impl FnOnce(&mut Vec<u8>)) -> Arc<Buffer> {
        let (shelf, room) = if len <= SMALL { (&mut self.small, SMALL) } else { (&mut self.large, len) };
        let mut buffer = shelf.pop().unwrap_or_default();
        if Arc::get_mut(&mut buffer).is_none() {
            // Only buffers without another owner are put back; were one shared, a new one is as good.
            buffer = Arc::default();
        }
        if let Some(b) = Arc::get_mut(&mut buffer) {
            b.bytes.clear();
            b.bytes.reserve(room);
            fill(&mut b.bytes);
            b.offload = offload;
        }
        buffer
    }

    /// Keeps the frame's buffer, unless other segments of it are still under way.
    pub(super) fn recycle(&mut self, frame: Frame) {
        let mut buffer = frame.into_buffer();
        if let Some(b) = Arc::get_mut(&mut buffer) {
            let shelf = if b.bytes.capacity() <= SMALL { &mut self.small } else { &mut self.large };
            if shelf.len() < KEPT {
                shelf.push(buffer);
            }
        }
    }

    /// Buffers at hand.
    #[cfg(test)]
    pub(super) const fn idle(&self) -> usize {
        self.small.len() + self.large.len()
    }
}
