//! A pcapng tee: copies the frames of a device into a bounded queue, and a writer elsewhere takes them out. The data path never waits.
//!
//! The format itself is in [`mod@format`], which the control plane's captures of many interfaces use too.

pub mod format;

use crate::{Caps, Device, DeviceStats, RxMeta, TxFrame, TxResult};
use bytes::BytesMut;
use format::{Frame, Interface};
use stackd_base::{Instant, QueueId};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

const LINKTYPE_ETHERNET: u16 = 1;

/// A captured frame.
#[derive(Debug)]
pub struct Captured {
    /// When.
    pub at: Instant,
    /// Sent by this stack.
    pub outbound: bool,
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// All its bytes.
    pub len: usize,
    /// Frames that were not captured before this one, because the queue was full.
    pub missed: u64,
}

/// A device whose frames are captured.
#[derive(Debug)]
pub struct Tee<D> {
    device: D,
    queue: SyncSender<Captured>,
    snaplen: usize,
    missed: u64,
}

impl<D: Device> Tee<D> {
    /// Captures up to `snaplen` bytes of each frame of `device`; at most `depth` frames wait for the writer.
    pub fn new(device: D, snaplen: usize, depth: usize) -> (Self, Receiver<Captured>) {
        let (queue, receiver) = sync_channel(depth);
        (Self { device, queue, snaplen, missed: 0 }, receiver)
    }

    fn capture(&mut self, at: Instant, outbound: bool, bytes: Vec<u8>, len: usize) {
        match self.queue.try_send(Captured { at, outbound, bytes, len, missed: self.missed }) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(_)) => self.missed += 1,
            // The writer is gone: nobody wants them.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl<D: Device> Device for Tee<D> {
    fn queue(&self) -> QueueId {
        self.device.queue()
    }
    fn caps(&self) -> Caps {
        self.device.caps()
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        let meta = self.device.receive(now, buf)?;
        if let Some(m) = &meta {
            let kept = m.len.min(self.snaplen).min(buf.len());
            self.capture(m.at, false, buf[..kept].to_vec(), m.len);
        }
        Ok(meta)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        // SAFETY: by this function's contract.
        let result = unsafe { self.device.transmit(now, frame) };
        if matches!(result, TxResult::Sent) {
            let mut bytes: Vec<u8> = Vec::with_capacity(self.snaplen.min(crate::RX_BUFFER_LEN));
            for piece in frame.pieces {
                let (at, room) = (bytes.len(), bytes.capacity() - bytes.len());
                let take = piece.len.min(room).min(self.snaplen - at);
                // SAFETY: the piece is readable by this function's contract; `take` fits the spare capacity and is written
                // before the length says so. Copied by pointer: a client may write to the source meanwhile.
                unsafe {
                    std::ptr::copy_nonoverlapping(piece.base, bytes.as_mut_ptr().add(at), take);
                    bytes.set_len(at + take);
                }
            }
            self.capture(now, true, bytes, frame.pieces.iter().map(|p| p.len).sum());
        }
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

/// Writes the frames of one interface as pcapng.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: BytesMut,
    /// Nanoseconds of Unix time at `Instant::ZERO`.
    epoch: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a capture of the interface `name`; `epoch` is the Unix time of `Instant::ZERO` in nanoseconds.
    pub fn new(out: W, name: &str, snaplen: u32, epoch: u64) -> io::Result<Self> {
        let mut w = Self { out, buffer: BytesMut::new(), epoch };
        format::header(&mut w.buffer, [Interface { name, link_type: LINKTYPE_ETHERNET }], snaplen);
        w.put()?;
        Ok(w)
    }

    /// Writes one frame.
    pub fn frame(&mut self, frame: &Captured) -> io::Result<()> {
        let Captured { at, outbound, bytes, len, missed } = frame;
        let frame = Frame {
            interface: 0,
            unix_ns: self.epoch.saturating_add(at.as_nanos()),
            original_len: u32::try_from(*len).unwrap_or(u32::MAX),
            data: bytes,
            outbound: *outbound,
            missed: *missed,
        };
        format::packet(&mut self.buffer, &frame);
        self.put()
    }

    /// Hands what was written to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn put(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer);
        self.buffer.clear();
        result
    }
}
