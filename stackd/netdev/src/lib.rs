//! Devices: those that touch the OS (TAP) and those that do not (loopback, virtual wire), and what composes around them.

pub mod emulator;
pub mod host;
pub mod pcapng;
pub mod segment;
mod sys;
pub mod tap;
pub mod vnet;
pub mod wire;

#[cfg(test)]
mod tests;

pub use emulator::Emulator;
pub use stackd_wire::{Gso, Offload};
pub use tap::{Tap, TapConfig};
pub use wire::Wire;

use stackd_base::{Instant, QueueId};

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
    /// Length of the frame in the buffer that was passed in.
    pub len: usize,
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
    /// The descriptor to wait on for frames, if the device has one.
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
    /// When the device has something to do by itself (an emulator's queue), if ever.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
}
