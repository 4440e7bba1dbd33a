//! The few system calls that devices make.

use crate::{Batch, IoVec, TxFrame, TxResult, vnet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most pieces of a frame, the vnet header included.
const MAX_PIECES: usize = 64;
/// Packets that one call on a socket moves at most.
pub(crate) const BATCH: usize = 16;
/// A call ends after so many bytes: the peer begins to read meanwhile, and finds the data in a cache.
const BATCH_BYTES: usize = 32 << 10;
/// A frame up to this length is put together before it is written: the kernel takes longer to look at several vectors (90 ns) than this takes.
const GATHERED: usize = 256;
/// Pieces of a batch, vnet headers included.
const BATCH_PIECES: usize = 128;

/// The result of a call, with its errno.
pub(crate) fn check(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

/// What became of a system call that sends.
fn sent(ret: isize) -> TxResult {
    match check(ret) {
        Ok(_) => TxResult::Sent,
        Err(e) => match e.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => TxResult::Busy,
            _ => TxResult::Refused(e),
        },
    }
}

const NO_IOVEC: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// Fills `iov` with the header and the pieces: how many were filled, `None` if they do not fit.
fn vectors(iov: &mut [libc::iovec], header: &[u8; vnet::LEN], pieces: &[IoVec]) -> Option<usize> {
    let (first, rest) = iov.split_first_mut()?;
    if pieces.len() > rest.len() {
        return None;
    }
    *first = libc::iovec { iov_base: header.as_ptr() as *mut _, iov_len: vnet::LEN };
    for (to, from) in rest.iter_mut().zip(pieces) {
        *to = libc::iovec { iov_base: from.base as *mut _, iov_len: from.len };
    }
    Some(pieces.len() + 1)
}

/// Writes a vnet header and a frame to a TAP in one call.
///
/// # Safety
/// Every piece must be readable for its whole length during the call.
pub(crate) unsafe fn write_frame(fd: BorrowedFd<'_>, header: &[u8; vnet::LEN], pieces: &[IoVec]) -> TxResult {
    let len: usize = pieces.iter().map(|p| p.len).sum();
    if len <= GATHERED {
        let mut whole = [0; vnet::LEN + GATHERED];
        whole[..vnet::LEN].copy_from_slice(header);
        let mut at = vnet::LEN;
        for piece in pieces {
            // SAFETY: the piece is readable by this function's contract; all of them fit behind the header, and overlap nothing of ours.
            unsafe { std::ptr::copy_nonoverlapping(piece.base, whole[at..].as_mut_ptr(), piece.len) };
            at += piece.len;
        }
        // SAFETY: `whole` is borrowed, and longer than that.
        return sent(unsafe { libc::write(fd.as_raw_fd(), whole.as_ptr().cast(), at) });
    }
    let mut iov = [NO_IOVEC; MAX_PIECES];
    let Some(n) = vectors(&mut iov, header, pieces) else {
        return TxResult::Refused(io::Error::new(io::ErrorKind::InvalidInput, "frame of more than 63 pieces"));
    };
    // SAFETY: the vectors are readable: the header is borrowed, the pieces by this function's contract.
    sent(unsafe { libc::writev(fd.as_raw_fd(), iov.as_ptr(), n as i32) })
}

/// Sends frames, each with its vnet header, over a packet socket in one call per [`BATCH`] frames.
///
/// # Safety
/// Every piece of every frame must be readable for its whole length during the call.
pub(crate) unsafe fn send_frames(fd: BorrowedFd<'_>, frames: &[TxFrame<'_>]) -> Batch {
    let mut done = 0;
    while done < frames.len() {
        let batch = &frames[done..frames.len().min(done + BATCH)];
        let mut headers = [[0; vnet::LEN]; BATCH];
        let mut iov = [NO_IOVEC; BATCH_PIECES];
        // SAFETY: an all-zero mmsghdr is a valid empty one.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let (mut used, mut n) = (0, 0);
        let mut bytes = 0;
        for (frame, header) in batch.iter().zip(&mut headers) {
            if bytes >= BATCH_BYTES {
                break;
            }
            bytes += frame.pieces.iter().map(|p| p.len).sum::<usize>();
            *header = vnet::encode(&frame.offload);
            let Some(count) = vectors(&mut iov[used..], header, frame.pieces) else { break };
            messages[n].msg_hdr.msg_iov = iov[used..].as_mut_ptr();
            messages[n].msg_hdr.msg_iovlen = count as _;
            (used, n) = (used + count, n + 1);
        }
        if n == 0 {
            let e = io::Error::new(io::ErrorKind::InvalidInput, "frame of too many pieces");
            return Batch { sent: done, stopped: Some(TxResult::Refused(e)) };
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `n` messages hold vectors of `iov`, which are readable: the headers are `headers`, the pieces by
        // this function's contract.
        let ret = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), n as _, flags as _) };
        match sent(ret as isize) {
            TxResult::Sent => done += ret as usize,
            stopped => return Batch { sent: done, stopped: Some(stopped) },
        }
    }
    Batch { sent: done, stopped: None }
}

/// What a read of a packet brought: its bytes, `None` when none is waiting. End of file is `UnexpectedEof`.
fn received(ret: isize) -> io::Result<Option<usize>> {
    match check(ret) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads a vnet header and the frame behind it into one buffer: bytes of both. A fifth faster than [`receive_frame`] where nothing waits.
pub(crate) fn receive_packet(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is exclusively borrowed and as long as stated.
    received(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

/// Reads a vnet header and a frame: bytes of the frame.
pub(crate) fn receive_frame(
    fd: BorrowedFd<'_>,
    header: &mut [u8; vnet::LEN],
    buf: &mut [u8],
) -> io::Result<Option<usize>> {
    let iov = [
        libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: vnet::LEN },
        libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() },
    ];
    // SAFETY: both vectors are exclusively borrowed and as long as stated.
    let read = received(unsafe { libc::readv(fd.as_raw_fd(), iov.as_ptr(), 2) })?;
    Ok(read.map(|n| n.saturating_sub(vnet::LEN)))
}

/// Reads up to `lens.len()` packets (vnet header and frame), the `i`-th to `slots[i * slot..]`: how many came, their lengths in `lens`. A packet
/// longer than `slot` bytes is cut off and has the length 0. End of file is `UnexpectedEof`.
pub(crate) fn receive_packets(
    fd: BorrowedFd<'_>,
    slots: &mut [u8],
    slot: usize,
    lens: &mut [usize; BATCH],
) -> io::Result<usize> {
    let mut iov = [NO_IOVEC; BATCH];
    // SAFETY: an all-zero mmsghdr is a valid empty one.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut n = 0;
    for ((room, iov), message) in slots.chunks_exact_mut(slot).zip(&mut iov).zip(&mut messages) {
        *iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        message.msg_hdr.msg_iov = iov;
        message.msg_hdr.msg_iovlen = 1;
        n += 1;
    }
    let none = std::ptr::null_mut();
    // SAFETY: the first `n` messages each hold one vector, a chunk of `slots`, which is exclusively borrowed.
    let ret = unsafe { libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), n, libc::MSG_DONTWAIT as _, none) };
    match check(ret as isize) {
        Ok(got) => {
            for (len, m) in lens.iter_mut().zip(&messages[..got]) {
                let cut = m.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
                *len = if cut { 0 } else { m.msg_len as usize };
            }
            // The end of a SOCK_SEQPACKET stream reads as an empty packet; a peer of ours sends none.
            let end = messages[..got].iter().position(|m| m.msg_len == 0);
            if got == 0 || end == Some(0) { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(end.unwrap_or(got)) }
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(0),
        Err(e) => Err(e),
    }
}
