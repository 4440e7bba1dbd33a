//! The few system calls that devices make.

use crate::{IoVec, TxResult, vnet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most pieces of a frame, the vnet header included.
const MAX_PIECES: usize = 64;

/// The result of a call, with its errno.
pub(crate) fn check(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

/// Writes a vnet header and a frame in one call.
///
/// # Safety
/// Every piece must be readable for its whole length during the call.
pub(crate) unsafe fn send_frame(
    fd: BorrowedFd<'_>,
    header: &[u8; vnet::LEN],
    pieces: &[IoVec],
    socket: bool,
) -> TxResult {
    let mut iov = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
    if pieces.len() >= MAX_PIECES {
        return TxResult::Refused(io::Error::new(io::ErrorKind::InvalidInput, "frame of more than 63 pieces"));
    }
    iov[0] = libc::iovec { iov_base: header.as_ptr() as *mut _, iov_len: vnet::LEN };
    for (to, from) in iov[1..].iter_mut().zip(pieces) {
        *to = libc::iovec { iov_base: from.base as *mut _, iov_len: from.len };
    }
    let n = pieces.len() + 1;
    let ret = if socket {
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_iov = iov.as_mut_ptr();
        msg.msg_iovlen = n as _;
        // SAFETY: the vectors are readable: the header is borrowed, the pieces by this function's contract.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    } else {
        // SAFETY: as above.
        unsafe { libc::writev(fd.as_raw_fd(), iov.as_ptr(), n as i32) }
    };
    match check(ret) {
        Ok(_) => TxResult::Sent,
        Err(e) => match e.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => TxResult::Busy,
            _ => TxResult::Refused(e),
        },
    }
}

/// Reads a vnet header and a frame: bytes of the frame, `None` when none is waiting. End of file is `UnexpectedEof`.
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
    match check(unsafe { libc::readv(fd.as_raw_fd(), iov.as_ptr(), 2) }) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => Ok(Some(n.saturating_sub(vnet::LEN))),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}
