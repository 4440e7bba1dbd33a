//! Byte FIFOs: a stream of bytes at 64-bit offsets, laid over 64 KiB chunks.
//!
//! Three owners, one abstraction ([`SendBuffer`], [`RecvBuffer`]): shared memory ([`TxReader`], [`RxWriter`] are the daemon's halves,
//! [`TxWriter`], [`RxReader`] the client's), or the daemon's own heap ([`HeapFifo`]) for sockets whose client shares no memory.
//!
//! **Ordering.** Sender of bytes: copy, then store the head (Release). Receiver: load the head (Acquire), then read. The same for table
//! entries (written before the limit or head that makes them reachable) and for reuse (the consumer's last read comes before its
//! Release of `rx_tail`; a released chunk is handed out again only after the Acquire load that saw it).

mod client;
mod daemon;
mod datagram;
mod heap;

pub use client::{Received, RxReader, SockState, TxWriter};
pub use daemon::{RxWriter, TxReader};
pub use datagram::{Datagram, MAX_CONTROL, RECORD_ALIGN, RECORD_HEADER, record_bytes};
pub use heap::{HeapFifo, HeapRecord};

use crate::breach::Breach;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use std::net::SocketAddr;

/// Bytes that another process may be changing: pointer and length, valid for `'a`, and never a Rust reference.
#[derive(Clone, Copy, Debug)]
pub struct RawSlice<'a> {
    ptr: NonNull<u8>,
    len: usize,
    _life: PhantomData<&'a [u8]>,
}

impl<'a> RawSlice<'a> {
    /// # Safety
    /// `ptr..ptr + len` must stay mapped and readable for `'a`.
    pub(crate) unsafe fn new(ptr: NonNull<u8>, len: usize) -> Self {
        Self { ptr, len, _life: PhantomData }
    }
    /// First byte, for an iovec.
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }
    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }
    /// No bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The part from `at`, of at most `len` bytes; cut at the end.
    pub fn slice(&self, at: usize, len: usize) -> Self {
        let at = at.min(self.len);
        // SAFETY: `at` is at most `len`, so the pointer stays inside or one past the same bytes.
        Self { ptr: unsafe { self.ptr.add(at) }, len: len.min(self.len - at), _life: PhantomData }
    }
    /// Copies the bytes out, once. As many as both hold; returns how many.
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let n = self.len.min(out.len());
        // SAFETY: readable for `n` bytes by construction; `out` is ours and does not overlap, since no `&mut` to shared bytes exists here.
        // The peer may write meanwhile: then these bytes are whatever they are, as if it had written earlier or later.
        unsafe { core::ptr::copy_nonoverlapping(self.ptr.as_ptr(), out.as_mut_ptr(), n) };
        n
    }
}

impl<'a> From<&'a [u8]> for RawSlice<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { ptr: NonNull::from(bytes).cast(), len: bytes.len(), _life: PhantomData }
    }
}

/// What the application sends, as the daemon sees it.
pub trait SendBuffer: core::fmt::Debug + Send {
    /// Where the written stream ends now. Validated; private thereafter.
    fn poll_head(&mut self) -> Result<u64, Breach>;
    /// The last value `poll_head` accepted.
    fn head(&self) -> u64;
    /// Everything below is released.
    fn released(&self) -> u64;
    /// The application may write up to here.
    fn limit(&self) -> u64;
    /// Lets the application write up to `limit` if memory allows; returns up to where it may. Never less than before.
    fn grant(&mut self, limit: u64) -> u64;
    /// The peer acknowledged everything below `offset`: these bytes will not be asked for again.
    fn release(&mut self, offset: u64);
    /// Hands over the bytes of `range` in order, piece by piece (at most one more piece than chunks spanned). Returns how many there were:
    /// less than asked when part of the range was released or not written yet.
    fn for_each(&self, range: Range<u64>, each: &mut dyn FnMut(RawSlice<'_>)) -> u64;
    /// Copies the bytes of `range` out. False: part of it is not there.
    fn copy_out(&self, range: Range<u64>, out: &mut Vec<u8>) -> bool {
        let want = range.end.saturating_sub(range.start);
        let start = out.len();
        out.resize(start + want as usize, 0);
        let mut at = start;
        let got = self.for_each(range, &mut |piece| at += piece.copy_to(&mut out[at..]));
        out.truncate(start + got as usize);
        got == want
    }
    /// Bytes of memory held.
    fn memory(&self) -> u64;
}

/// What the application receives, as the daemon sees it.
pub trait RecvBuffer: core::fmt::Debug + Send {
    /// Up to where the application consumed. Validated; frees what lies wholly below.
    fn poll_tail(&mut self) -> Result<u64, Breach>;
    /// The last value `poll_tail` accepted.
    fn tail(&self) -> u64;
    /// In-order data ends here.
    fn head(&self) -> u64;
    /// Copies `src` to stream offset `offset`, in order or not. False: no memory, or outside what may be outstanding.
    fn place(&mut self, offset: u64, src: RawSlice<'_>) -> bool;
    /// In-order data now ends at `head`; all below was placed. Never moves back.
    fn publish(&mut self, head: u64);
    /// Asks for a kick when the application consumed up to `offset`. Returns true when it has already: poll the tail.
    fn set_wake(&mut self, offset: Option<u64>) -> bool;
    /// Bytes of memory held.
    fn memory(&self) -> u64;
    /// Appends one datagram record; `control` = its control messages. False: more than `rcvbuf` bytes would be outstanding, or no memory.
    fn push_datagram(&mut self, from: SocketAddr, control: &[u8], data: RawSlice<'_>, rcvbuf: u64) -> bool {
        let start = self.head();
        let control = control.get(..MAX_CONTROL).unwrap_or(control);
        let total = record_bytes(data.len(), control.len());
        if start - self.tail() + total > rcvbuf {
            return false;
        }
        let header = datagram::encode(data.len() as u32, control.len() as u32, Some(from));
        let (after, at) = (start + RECORD_HEADER as u64, start + datagram::data_at(control.len()) as u64);
        if !self.place(start, RawSlice::from(&header[..]))
            || (!control.is_empty() && !self.place(after, RawSlice::from(control)))
            || !self.place(at, data)
        {
            return false;
        }
        self.publish(start + total);
        true
    }
}

#[cfg(test)]
mod tests;
