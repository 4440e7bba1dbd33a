//! The emulated path: any qdisc (netem, tbf) between the stack and a device, for frames that leave, that arrive, or both.
//!
//! Loss, duplication, reordering and corruption strike single segments inside GSO frames. Segments that come out of the path together and are neighbours still
//! leave as one GSO frame again, as a receiver's GRO would have made them.

mod frame;
#[cfg(test)]
mod tests;

use crate::{
    Batch, Caps, Device, DeviceStats, IoVec, Offload, RX_BUFFER_LEN, RxMeta, TxFrame, TxResult, gather, piece,
};
use frame::{Frame, Outgoing, Pool};
use stackd_base::{Instant, QueueId, Rng, SplitMix64};
use stackd_qdisc::{ConfigError, Dropped, Qdisc, QdiscConfig, QdiscStats};
use std::io;
use std::os::fd::BorrowedFd;

/// Frames given to the device in one call.
const BATCH: usize = 16;
/// Frames taken from the device before those that are due are handed up.
const PULL: usize = 1024;
/// Tells the random sequences of the two directions apart.
const INGRESS_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// One direction.
#[derive(Debug)]
struct Path {
    qdisc: Box<dyn Qdisc<Frame>>,
    /// Came out of the qdisc and did not join the frame before it, or found the device busy.
    held: Option<Frame>,
    rng: SplitMix64,
    dropped: Vec<Dropped<Frame>>,
    pool: Pool,
}

impl Path {
    fn new(config: &QdiscConfig, seed: u64) -> Result<Self, ConfigError> {
        let qdisc = stackd_qdisc::build(config)?;
        Ok(Self { qdisc, held: None, rng: SplitMix64::new(seed), dropped: Vec::new(), pool: Pool::default() })
    }

    fn take_in(&mut self, len: usize, offload: Offload, now: Instant, fill: impl FnOnce(&mut Vec<u8>)) {
        let buffer = self.pool.filled(len, offload, fill);
        self.qdisc.enqueue(Frame::new(buffer), now, &mut self.rng, &mut self.dropped);
        self.recycle_dropped();
    }

    /// The next frame that is due, with all its neighbours that are due too.
    fn next_due(&mut self, now: Instant) -> Option<Frame> {
        let rng: &mut dyn Rng = &mut self.rng;
        let mut frame = self.held.take().or_else(|| self.qdisc.dequeue(now, rng, &mut self.dropped))?;
        while let Some(next) = self.qdisc.dequeue(now, rng, &mut self.dropped) {
            self.held = frame.join(next);
            if self.held.is_some() {
                break;
            }
        }
        self.recycle_dropped();
        Some(frame)
    }

    fn recycle_dropped(&mut self) {
        for lost in self.dropped.drain(..) {
            self.pool.recycle(lost.packet);
        }
    }

    fn change(&mut self, config: &QdiscConfig, now: Instant) -> Result<(), ConfigError> {
        if self.qdisc.change(config, now, &mut self.dropped).is_err() {
            let mut new = stackd_qdisc::build(config)?;
            stackd_qdisc::replace(&mut *self.qdisc, &mut *new, now, &mut self.rng, &mut self.dropped);
            self.qdisc = new;
        }
        self.recycle_dropped();
        Ok(())
    }

    fn stats(&self) -> QdiscStats {
        self.qdisc.stats()
    }
}

/// A device with emulated paths in front of it. Call [`Device::receive`] at [`Device::next_deadline`]: it sends what is due, too.
#[derive(Debug)]
pub struct Emulator<D> {
    device: D,
    egress: Option<Path>,
    ingress: Option<Path>,
    /// Frames on their way to the device, prepared but not taken: in order, behind them `egress.held`.
    ready: Vec<(Frame, Outgoing)>,
    spare: Vec<Outgoing>,
    busy: bool,
    /// The device may have more than was pulled.
    more: bool,
    scratch: Box<[u8]>,
    refused: u64,
    invalid: u64,
}

impl<D: Device> Emulator<D> {
    /// Puts `config` (usually netem) in front of `device` for frames that leave; `seed` decides every loss.
    pub fn new(device: D, config: &QdiscConfig, seed: u64) -> Result<Self, ConfigError> {
        Self::both(device, Some(config), None, seed)
    }

    /// Puts `egress` between the stack and `device` for frames that leave, `ingress` for those that arrive; `None` leaves a direction as it is.
    /// The directions draw from random sequences of their own.
    pub fn both(
        device: D,
        egress: Option<&QdiscConfig>,
        ingress: Option<&QdiscConfig>,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let scratch = vec![0; if ingress.is_some() { RX_BUFFER_LEN } else { 0 }].into();
        Ok(Self {
            device,
            egress: egress.map(|c| Path::new(c, seed)).transpose()?,
            ingress: ingress.map(|c| Path::new(c, seed ^ INGRESS_SEED)).transpose()?,
            ready: Vec::with_capacity(BATCH),
            spare: Vec::with_capacity(BATCH),
            busy: false,
            more: false,
            scratch,
            refused: 0,
            invalid: 0,
        })
    }

    /// Counters of the path of frames that leave.
    pub fn egress_stats(&self) -> Option<QdiscStats> {
        self.egress.as_ref().map(Path::stats)
    }

    /// Counters of the path of frames that arrive.
    pub fn ingress_stats(&self) -> Option<QdiscStats> {
        self.ingress.as_ref().map(Path::stats)
    }

    /// New parameters for the path of frames that leave; what is under way stays.
    pub fn change(&mut self, config: &QdiscConfig, now: Instant) -> Result<(), ConfigError> {
        match &mut self.egress {
            Some(path) => path.change(config, now),
            None => {
                self.egress = Some(Path::new(config, 0)?);
                Ok(())
            }
        }
    }

    /// The device behind the paths.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Whether a frame is due but the device was busy.
    pub const fn held(&self) -> bool {
        self.busy
    }

    /// Sends what is due.
    fn flush(&mut self, now: Instant) {
        let Some(path) = &mut self.egress else { return };
        loop {
            while self.ready.len() < BATCH
                && let Some(frame) = path.next_due(now)
            {
                let mut out = self.spare.pop().unwrap_or_default();
                if frame.prepare(&mut out).is_some() {
                    self.ready.push((frame, out));
                } else {
                    self.refused += 1;
                    self.spare.push(out);
                    path.pool.recycle(frame);
                }
            }
            self.busy = false;
            if self.ready.is_empty() {
                return;
            }
            let mut pieces = [[IoVec::EMPTY; 2]; BATCH];
            for ((frame, out), to) in self.ready.iter().zip(&mut pieces) {
                *to = [piece(&out.head), piece(frame.bytes().get(out.payload.clone()).unwrap_or_default())];
            }
            let frames: [TxFrame<'_>; BATCH] = std::array::from_fn(|i| TxFrame {
                pieces: &pieces[i],
                offload: self.ready.get(i).map_or_else(Offload::default, |(_, out)| out.offload),
            });
            // SAFETY: the pieces are headers and buffers that `ready` owns, which nothing touches during the call.
            let Batch { mut sent, stopped } = unsafe { self.device.transmit_batch(now, &frames[..self.ready.len()]) };
            self.busy = matches!(stopped, Some(TxResult::Busy));
            if matches!(stopped, Some(TxResult::Refused(_))) {
                self.refused += 1;
                sent += 1;
            }
            for (frame, out) in self.ready.drain(..sent.min(self.ready.len())) {
                path.pool.recycle(frame);
                self.spare.push(out);
            }
            if self.busy {
                return;
            }
        }
    }

    /// Takes what the device has into the path.
    fn pull(&mut self, now: Instant) -> io::Result<()> {
        let Some(path) = &mut self.ingress else { return Ok(()) };
        self.more = true;
        for _ in 0..PULL {
            let Some(meta) = self.device.receive(now, &mut self.scratch)? else {
                self.more = false;
                break;
            };
            let Some(bytes) = meta.frame(&self.scratch) else {
                self.invalid += 1;
                continue;
            };
            path.take_in(meta.len, meta.offload, meta.at, |b| b.extend_from_slice(bytes));
        }
        Ok(())
    }

    /// The next arrived frame that is due.
    fn deliver(&mut self, now: Instant, buf: &mut [u8]) -> Option<RxMeta> {
        let path = self.ingress.as_mut()?;
        let mut out = self.spare.pop().unwrap_or_default();
        let mut delivered = None;
        while let Some(frame) = path.next_due(now) {
            let payload = frame.prepare(&mut out).and_then(|()| frame.bytes().get(out.payload.clone()));
            let len = out.head.len() + payload.map_or(0, <[u8]>::len);
            if let (Some(payload), Some(to)) = (payload, buf.get_mut(..len)) {
                let (head, rest) = to.split_at_mut(out.head.len());
                head.copy_from_slice(&out.head);
                rest.copy_from_slice(payload);
                delivered = Some(RxMeta { at: now, offload: out.offload, start: 0, len });
            } else {
                self.invalid += 1;
            }
            path.pool.recycle(frame);
            if delivered.is_some() {
                break;
            }
        }
        self.spare.push(out);
        delivered
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
        if self.ingress.is_none() {
            return self.device.receive(now, buf);
        }
        if let Some(meta) = self.deliver(now, buf) {
            return Ok(Some(meta));
        }
        // `None` from here means that the device had nothing left (or that `next_deadline` is past): callers wait by edge.
        let pulled = self.pull(now);
        let due = self.deliver(now, buf);
        if due.is_some() { Ok(due) } else { pulled.map(|()| None) }
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        let Some(path) = &mut self.egress else {
            // SAFETY: by this function's contract.
            return unsafe { self.device.transmit(now, frame) };
        };
        let len = frame.pieces.iter().map(|p| p.len).sum();
        // SAFETY: the pieces are readable by this function's contract.
        path.take_in(len, frame.offload, now, |bytes| unsafe { gather(frame.pieces, bytes) });
        self.flush(now);
        TxResult::Sent
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_fd()
    }
    fn next_deadline(&self) -> Option<Instant> {
        if self.more {
            return Some(Instant::ZERO);
        }
        let path = |p: &Option<Path>| {
            let p = p.as_ref()?;
            if p.held.is_some() { Some(Instant::ZERO) } else { p.qdisc.next_deadline() }
        };
        // A busy device says itself when it has room.
        let egress = if self.busy { None } else { path(&self.egress) };
        [egress, path(&self.ingress), self.device.next_deadline()].into_iter().flatten().min()
    }
    fn stats(&self) -> DeviceStats {
        let below = self.device.stats();
        DeviceStats {
            rx_invalid: below.rx_invalid + self.invalid,
            tx_refused: below.tx_refused + self.refused,
            egress: self.egress_stats().or(below.egress),
            ingress: self.ingress_stats().or(below.ingress),
        }
    }
}
