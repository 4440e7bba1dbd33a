//! `MSG_ERRQUEUE`: errors and notices about what was sent. The stack's come from the daemon, those of `MSG_ZEROCOPY` from here.

use super::{EAGAIN, Received, Socket, errno, msg};
use crate::lane::broken;
use crate::session::lock;
use crate::socket::Sock;
use stackd_shm::abi::{ADDR_BYTES, Opcode, decode_addr};
use std::io;

const SOL_IP: i32 = 0;
const IP_RECVERR: i32 = 11;
const SOL_IPV6: i32 = 41;
const IPV6_RECVERR: i32 = 25;
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
/// `ee_code`: the bytes were copied after all.
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Sends with `MSG_ZEROCOPY`: counted, and told of in ranges.
#[derive(Debug, Default)]
pub(crate) struct ZeroCopy {
    /// `SO_ZEROCOPY`.
    pub(crate) on: bool,
    next: u32,
    /// The first one not told of yet.
    told: u32,
}

impl Sock {
    /// Sends with `MSG_ZEROCOPY` were taken. Their bytes lie in the send FIFO now: the buffer is the program's again, and the notice that
    /// says so says that they were copied, as Linux does over loopback. (Without a copy: `TcpStream::write_with`.)
    pub(super) fn copied(&self, flags: i32, sends: usize) {
        let mut zero = lock(&self.zerocopy);
        if flags & msg::ZEROCOPY != 0 && zero.on {
            zero.next = zero.next.wrapping_add(sends as u32);
        }
    }

    /// Whether a notice waits: `POLLERR`.
    pub(crate) fn has_notice(&self) -> bool {
        let zero = lock(&self.zerocopy);
        zero.next != zero.told
    }
}

impl Socket {
    pub(super) fn recv_error(&self, buf: &mut [u8], control: &mut Vec<u8>, flags: i32) -> io::Result<Received> {
        let peek = flags & msg::PEEK != 0;
        control.clear();
        if let Some((first, last)) = self.take_notice(peek) {
            let v6 = self.local_addr().is_ok_and(|a| a.is_ipv6());
            control.extend_from_slice(&notice(v6, first, last));
            return Ok(Received { flags: msg::ERRQUEUE, ..Received::default() });
        }
        let reply = match self.sock.call(Opcode::ErrQueue, [u64::from(peek), 0, 0, 0, 0], stackd_shm::abi::Arg::NONE) {
            // A kind of socket whose queue is always empty.
            Err(e) if e.raw_os_error() == Some(super::EOPNOTSUPP) => return Err(errno(EAGAIN)),
            reply => reply?,
        };
        let bytes = reply.arg().as_bytes();
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an answer of the error queue that is too short");
        let (addr, rest) = bytes.split_first_chunk::<ADDR_BYTES>().ok_or_else(damaged)?;
        let (messages, data) = rest.split_at_checked(reply.cqe.args[0] as usize).ok_or_else(damaged)?;
        let from = decode_addr(addr).ok_or_else(|| broken(stackd_shm::Breach::Address(ADDR_BYTES)))?;
        control.extend_from_slice(messages);
        let len = data.len().min(buf.len());
        buf[..len].copy_from_slice(&data[..len]);
        let cut = if data.len() > len { msg::TRUNC } else { 0 };
        Ok(Received { len, full: data.len(), from, flags: msg::ERRQUEUE | cut })
    }

    /// All sends that were not told of yet, as one range.
    fn take_notice(&self, peek: bool) -> Option<(u32, u32)> {
        let mut zero = lock(&self.sock.zerocopy);
        let range = (zero.next != zero.told).then(|| (zero.told, zero.next.wrapping_sub(1)))?;
        if !peek {
            zero.told = zero.next;
        }
        Some(range)
    }
}

/// A control message with `struct sock_extended_err`: sends `first` to `last` are done.
fn notice(v6: bool, first: u32, last: u32) -> Vec<u8> {
    let (level, kind, offender) = if v6 { (SOL_IPV6, IPV6_RECVERR, 28) } else { (SOL_IP, IP_RECVERR, 16) };
    let len = 16 + 16 + offender;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(&level.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&[SO_EE_ORIGIN_ZEROCOPY, 0, SO_EE_CODE_ZEROCOPY_COPIED, 0]);
    out.extend_from_slice(&first.to_ne_bytes());
    out.extend_from_slice(&last.to_ne_bytes());
    out.resize(len.next_multiple_of(8), 0);
    out
}
