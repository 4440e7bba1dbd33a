//! The emulated path: any qdisc (netem, tbf) between the stack and a device, on transmit. Frames wait as copies.

use crate::{Caps, Device, IoVec, Offload, RxMeta, TxFrame, TxResult, segment};
use stackd_base::{Instant, QueueId, Rng, SplitMix64};
use stackd_qdisc::{ConfigError, Dropped, Qdisc, QdiscConfig, QdiscStats, QueuedPacket};
use std::io;
use std::os::fd::BorrowedFd;

/// A frame that waits.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    offload: Offload,
    /// Segments already cut off the front.
    cut: usize,
}

impl QueuedPacket for Frame {
    fn wire_len(&self) -> u32 {
        let headers = (self.segments() - 1) * u32::from(self.offload.hdr_len);
        let cut = self.cut * usize::from(self.offload.gso_size);
        (self.bytes.len() - cut.min(self.bytes.len())) as u32 + headers
    }
    fn segments(&self) -> u32 {
        (segment::count(self.bytes.len(), &self.offload) - self.cut) as u32
    }
    fn flow_hash(&self) -> u64 {
        0
    }
    fn departure(&self) -> Option<Instant> {
        None
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
        if self.segments() < 2 {
            return None;
        }
        let bytes = segment::segment(&self.bytes, &self.offload, self.cut)?;
        self.cut += 1;
        if self.segments() == 1
            && let Some(last) = segment::segment(&self.bytes, &self.offload, self.cut)
        {
            *self = Self { bytes: last, offload: Offload::default(), cut: 0 };
        }
        Some(Self { bytes, offload: Offload::default(), cut: 0 })
    }
    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
    fn corrupt(&mut self, random: u64) {
        // The checksum is completed first: corruption on the way does not change what the sender computed.
        segment::complete_checksum(&mut self.bytes, &mut self.offload);
        self.offload.csum_valid = false;
        let bits = self.bytes.len().saturating_sub(14) as u64 * 8;
        if bits > 0 {
            let bit = 14 * 8 + random % bits;
            self.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }
}

/// A device with an emulated path in front of it. Call [`Device::receive`] at [`Device::next_deadline`]: it sends what is due.
#[derive(Debug)]
pub struct Emulator<D> {
    device: D,
    qdisc: Box<dyn Qdisc<Frame>>,
    /// Due, but the device was busy.
    held: Option<Frame>,
    rng: SplitMix64,
    dropped: Vec<Dropped<Frame>>,
}

impl<D: Device> Emulator<D> {
    /// Puts `config` (usually netem) in front of `device`; `seed` decides every loss.
    pub fn new(device: D, config: &QdiscConfig, seed: u64) -> Result<Self, ConfigError> {
        let qdisc = stackd_qdisc::build(config)?;
        Ok(Self { device, qdisc, held: None, rng: SplitMix64::new(seed), dropped: Vec::new() })
    }

    /// Counters of the path.
    pub fn stats(&self) -> QdiscStats {
        self.qdisc.stats()
    }

    /// New parameters for the path; what is under way stays.
    pub fn change(&mut self, config: &QdiscConfig, now: Instant) -> Result<(), ConfigError> {
        if self.qdisc.change(config, now, &mut self.dropped).is_err() {
            let mut new = stackd_qdisc::build(config)?;
            stackd_qdisc::replace(&mut *self.qdisc, &mut *new, now, &mut self.rng, &mut self.dropped);
            self.qdisc = new;
        }
        self.dropped.clear();
        Ok(())
    }

    /// The device behind the path.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Whether a frame is due but the device was busy.
    pub const fn held(&self) -> bool {
        self.held.is_some()
    }

    /// Sends what is due.
    fn flush(&mut self, now: Instant) {
        let rng: &mut dyn Rng = &mut self.rng;
        while let Some(frame) = self.held.take().or_else(|| self.qdisc.dequeue(now, rng, &mut self.dropped)) {
            let pieces = [IoVec { base: frame.bytes.as_ptr(), len: frame.bytes.len() }];
            // SAFETY: the one piece is `frame.bytes`, which lives beyond the call.
            let result = unsafe { self.device.transmit(now, &TxFrame { pieces: &pieces, offload: frame.offload }) };
            if matches!(result, TxResult::Busy) {
                self.held = Some(frame);
                break;
            }
        }
        self.dropped.clear();
    }
}

impl<D: Device> Device for Emulator<D> {
    fn queue(&self) -> QueueId {
        self.device.queue()
    }
    fn caps(&self) -> Caps {
        self.device.caps()
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        self.flush(now);
        self.device.receive(now, buf)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        let mut bytes: Vec<u8> = Vec::with_capacity(frame.pieces.iter().map(|p| p.len).sum());
        for piece in frame.pieces {
            let at = bytes.len();
            // SAFETY: the piece is readable by this function's contract; the room behind `at` was reserved above and is
            // written before the length says so. Copied by pointer: a client may write to the source meanwhile.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.base, bytes.as_mut_ptr().add(at), piece.len);
                bytes.set_len(at + piece.len);
            }
        }
        let frame = Frame { bytes, offload: frame.offload, cut: 0 };
        self.qdisc.enqueue(frame, now, &mut self.rng, &mut self.dropped);
        self.flush(now);
        TxResult::Sent
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_fd()
    }
    fn next_deadline(&self) -> Option<Instant> {
        let own = if self.held.is_some() { None } else { self.qdisc.next_deadline() };
        [own, self.device.next_deadline()].into_iter().flatten().min()
    }
}
