//! Devices: those that touch the OS (TAP) and those that do not (loopback, virtual wire), and what composes around them.

pub mod dummy;
pub mod emulator;
pub mod host;
pub mod pcapng;
pub mod segment;
pub mod soft;
mod sys;
pub mod tap;
pub mod trace;
pub mod vnet;
pub mod wire;

#[cfg(test)]
mod testdev;
#[cfg(test)]
mod tests;

pub use dummy::Dummy;
pub use emulator::Emulator;
pub use soft::SoftOffload;
pub use stackd_wire::{Gso, Offload};
pub use tap::{Tap, TapConfig};
pub use trace::Trace;
pub use wire::Wire;

use stackd_base::{Instant, QueueId};
use stackd_qdisc::QdiscStats;

/// Room that `Device::receive` needs in its buffer: the largest GSO frame and its headers.
pub const RX_BUFFER_LEN: usize = 65_536 + 512;

/// A slice of memory that may belong to a hostile client: never turned into a Rust reference.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IoVec {
    /// First byte.
    pub base: *const u8,
    /// Length in bytes.
    pub len: usize,
}

impl IoVec {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self { base: std::ptr::NonNull::<u8>::dangling().as_ptr().cast_const(), len: 0 };
}

/// A frame on its way out: gathered from headers and ranges of send buffers.
#[derive(Debug)]
pub struct TxFrame<'a> {
    /// Pieces in order, link-layer header first.
    pub pieces: &'a [IoVec],
    /// What the device still has to do to it.
    pub offload: Offload,
}

/// What came with a received frame.
#[derive(Clone, Copy, Debug)]
pub struct RxMeta {
    /// When the device handed it over.
    pub at: Instant,
    /// Checksum and segmentation state.
    pub offload: Offload,
    /// Where the frame begins in the buffer that was passed in.
    pub start: usize,
    /// Length of the frame.
    pub len: usize,
}

impl RxMeta {
    /// The frame in `buf`, the buffer that was passed in; `None` if it was cut off there.
    pub fn frame<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        buf.get(self.start..)?.get(..self.len)
    }
}

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Largest IP packet.
    pub mtu: u32,
    /// Computes transport checksums on transmit.
    pub tx_csum: bool,
    /// Segments TCP up to this many bytes per frame (0 = no TSO).
    pub tso_max: u32,
    /// Segments UDP.
    pub uso: bool,
    /// May hand up frames larger than the MTU.
    pub gro: bool,
    /// Has no link-layer header (loopback has none on Linux either, yet shows one).
    pub ethernet: bool,
}

/// Result of a transmit attempt.
#[derive(Debug)]
pub enum TxResult {
    /// Gone.
    Sent,
    /// The device's queue is full: try again when it is writable.
    Busy,
    /// The device refused this frame; it is lost.
    Refused(std::io::Error),
}

/// What became of several frames.
#[derive(Debug)]
pub struct Batch {
    /// Frames from the front that are gone.
    pub sent: usize,
    /// What happened to the next one, unless all are gone: `Busy` or `Refused`. Those behind it were not tried.
    pub stopped: Option<TxResult>,
}

/// What a device and the middleware around it lost or refused, and the state of emulated paths. Frames that `transmit` reported as refused are not
/// in here: the caller knows of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceStats {
    /// Received frames whose offload header contradicts them, or that were cut off.
    pub rx_invalid: u64,
    /// Frames that middleware had accepted and the device behind it refused.
    pub tx_refused: u64,
    /// The emulated path of frames that leave: `drops` are those that it lost.
    pub egress: Option<QdiscStats>,
    /// The emulated path of frames that arrive.
    pub ingress: Option<QdiscStats>,
}

/// One queue of a device.
pub trait Device: Send {
    /// Which queue of its interface this is.
    fn queue(&self) -> QueueId;
    /// What it can do.
    fn caps(&self) -> Caps;
    /// Receives one frame into `buf`; `Ok(None)` when none is waiting. `buf` must hold 64 KiB plus headers.
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> std::io::Result<Option<RxMeta>>;
    /// Sends one frame.
    ///
    /// # Safety
    /// Every piece must be readable for its whole length during the call. Its bytes may change meanwhile.
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult;
    /// Sends several frames in order, in fewer system calls where the device knows how.
    ///
    /// # Safety
    /// As for [`Device::transmit`], for every frame.
    unsafe fn transmit_batch(&mut self, now: Instant, frames: &[TxFrame<'_>]) -> Batch {
        for (sent, frame) in frames.iter().enumerate() {
            // SAFETY: by this function's contract.
            match unsafe { self.transmit(now, frame) } {
                TxResult::Sent => {}
                stopped => return Batch { sent, stopped: Some(stopped) },
            }
        }
        Batch { sent: frames.len(), stopped: None }
    }
    /// The descriptor to wait on for frames, if the device has one.
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
    /// When the device has something to do by itself (an emulator's queue), if ever.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    /// What was lost below `transmit` and before `receive`.
    fn stats(&self) -> DeviceStats {
        DeviceStats::default()
    }
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn queue(&self) -> QueueId {
        (**self).queue()
    }
    fn caps(&self) -> Caps {
        (**self).caps()
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> std::io::Result<Option<RxMeta>> {
        (**self).receive(now, buf)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        // SAFETY: by this function's contract.
        unsafe { (**self).transmit(now, frame) }
    }
    unsafe fn transmit_batch(&mut self, now: Instant, frames: &[TxFrame<'_>]) -> Batch {
        // SAFETY: by this function's contract.
        unsafe { (**self).transmit_batch(now, frames) }
    }
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        (**self).as_fd()
    }
    fn next_deadline(&self) -> Option<Instant> {
        (**self).next_deadline()
    }
    fn stats(&self) -> DeviceStats {
        (**self).stats()
    }
}

/// Appends the bytes of `pieces` to `out`.
///
/// # Safety
/// Every piece must be readable for its whole length during the call. Its bytes may change meanwhile.
pub(crate) unsafe fn gather(pieces: &[IoVec], out: &mut Vec<u8>) {
    out.reserve(pieces.iter().map(|p| p.len).sum());
    for piece in pieces {
        let at = out.len();
        // SAFETY: the piece is readable by this function's contract; the room behind `at` was reserved above and is
        // written before the length says so. Copied by pointer: a client may write to the source meanwhile.
        unsafe {
            std::ptr::copy_nonoverlapping(piece.base, out.as_mut_ptr().add(at), piece.len);
            out.set_len(at + piece.len);
        }
    }
}

pub(crate) fn piece(bytes: &[u8]) -> IoVec {
    IoVec { base: bytes.as_ptr(), len: bytes.len() }
}
