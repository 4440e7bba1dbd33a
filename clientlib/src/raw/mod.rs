//! A socket with the shape of the system calls: every call, flag and error of Linux's, for programs that need more than `std::net` has.

mod datagram;
mod errqueue;
mod repair;
mod stream;

pub(crate) use datagram::Corked;
pub use datagram::{Message, MessageBuf};
pub(crate) use errqueue::ZeroCopy;
pub(crate) use repair::{Repair, TCP_REPAIR, TCP_REPAIR_QUEUE};

use crate::lane::broken;
use crate::session::Session;
use crate::socket::Sock;
use stackd_shm::abi::{Arg, FLAG_NONBLOCK, Opcode, Sqe, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Linux's `MSG_*` flags that mean something here. Others are ignored, as Linux does.
#[allow(missing_docs)]
pub mod msg {
    pub const OOB: i32 = 0x1;
    pub const PEEK: i32 = 0x2;
    pub const TRUNC: i32 = 0x20;
    pub const DONTWAIT: i32 = 0x40;
    pub const EOR: i32 = 0x80;
    pub const WAITALL: i32 = 0x100;
    pub const ERRQUEUE: i32 = 0x2000;
    pub const NOSIGNAL: i32 = 0x4000;
    pub const MORE: i32 = 0x8000;
    pub const WAITFORONE: i32 = 0x10000;
    pub const ZEROCOPY: i32 = 0x400_0000;
    pub const FASTOPEN: i32 = 0x2000_0000;
}

/// Linux's numbers of `ioctl` requests on sockets.
#[allow(missing_docs)]
pub mod ioctl {
    pub const SIOCINQ: u32 = 0x541B;
    pub const FIONREAD: u32 = SIOCINQ;
    pub const SIOCOUTQ: u32 = 0x5411;
    pub const SIOCOUTQNSD: u32 = 0x894B;
    pub const SIOCATMARK: u32 = 0x8905;
}

/// May be or'ed into a socket's type and into `accept4`'s flags.
pub const SOCK_NONBLOCK: i32 = 0o4000;
/// Likewise; descriptors of this library are close-on-exec anyway.
pub const SOCK_CLOEXEC: i32 = 0o2_000_000;

pub(crate) const SOL_UDP: i32 = 17;
pub(crate) const UDP_CORK: i32 = 1;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EPIPE: i32 = 32;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const ENOTCONN: i32 = 107;

pub(crate) fn errno(n: i32) -> io::Error {
    io::Error::from_raw_os_error(n)
}

/// A socket by the system calls' names. Errors are Linux's, in Linux's order. No call raises SIGPIPE: `MSG_NOSIGNAL` is always in force.
#[derive(Debug)]
pub struct Socket {
    pub(crate) sock: Arc<Sock>,
}

impl Socket {
    /// `socket(2)`: `AF_INET` or `AF_INET6`, `SOCK_STREAM` or `SOCK_DGRAM` with [`SOCK_NONBLOCK`] or'ed in, a protocol or 0.
    pub fn new(session: &Session, family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        let sock = Sock::open_raw(session, family, kind & !(SOCK_NONBLOCK | SOCK_CLOEXEC), protocol)?;
        sock.set_nonblocking(kind & SOCK_NONBLOCK != 0);
        Ok(Self { sock: Arc::new(sock) })
    }

    /// Another handle to the same socket (`dup(2)`).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { sock: Arc::clone(&self.sock) })
    }

    /// `bind(2)`.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.sock.bind(addr)
    }

    /// `listen(2)`.
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        self.sock.listen(backlog)
    }

    /// `connect(2)`. A blocking one waits as long as `SO_SNDTIMEO` says.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        let flags = if self.sock.nonblocking() { FLAG_NONBLOCK } else { 0 };
        let deadline = self.sock.timeout(true).and_then(|t| Instant::now().checked_add(t));
        match self.sock.connect_with(Some(addr), flags, deadline) {
            // connect(2): a timeout leaves the attempt going.
            Err(e) if e.kind() == io::ErrorKind::TimedOut && e.raw_os_error().is_none() => Err(errno(115)),
            done => done,
        }
    }

    /// `connect(2)` to `AF_UNSPEC`: resets a connection, makes a UDP socket forget its peer.
    pub fn disconnect(&self) -> io::Result<()> {
        self.sock.connect_with(None, FLAG_NONBLOCK, None)
    }

    /// `accept4(2)` with [`SOCK_NONBLOCK`] or 0; other flags are EINVAL.
    pub fn accept4(&self, flags: i32) -> io::Result<(Self, SocketAddr)> {
        if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
            return Err(errno(EINVAL));
        }
        let (sock, peer) = self.sock.blocking(ready::IN, || {
            let sqe = Sqe { flags: FLAG_NONBLOCK, ..self.sock.sqe(Opcode::Accept) };
            let reply = self.sock.inner().call(sqe, Arg::NONE, None)?;
            let sock = self.sock.adopt_child(reply.cqe.result as u32)?;
            Ok((sock, reply.arg().addr().map_err(broken)?))
        })?;
        sock.set_nonblocking(flags & SOCK_NONBLOCK != 0);
        Ok((Self { sock: Arc::new(sock) }, peer))
    }

    /// `shutdown(2)`: `SHUT_RD` = 0, `SHUT_WR` = 1, `SHUT_RDWR` = 2.
    pub fn shutdown(&self, how: i32) -> io::Result<()> {
        self.sock.shutdown_raw(how)
    }

    /// `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetSockName)
    }

    /// `getpeername(2)`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetPeerName)
    }

    /// `setsockopt(2)` in Linux's layout.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        self.sock.set_local(level, name, value)?;
        if (level, name) == (SOL_UDP, UDP_CORK) && !self.sock.is_corked() {
            self.uncork(0)?;
        }
        Ok(())
    }

    /// `getsockopt(2)` in Linux's layout: at most `max` bytes, and 512 at the most.
    pub fn option(&self, level: i32, name: i32, max: usize) -> io::Result<Vec<u8>> {
        if (level, name) == (SOL_UDP, UDP_CORK) && self.sock.is_datagram() {
            let value = i32::from(self.sock.is_corked()).to_ne_bytes();
            return Ok(value[..max.min(4)].to_vec());
        }
        let value = self.sock.get(level, name, max)?;
        // Peeks move it on, and they happen here.
        if (level, name) == (crate::options::SOL_SOCKET, crate::options::SO_PEEK_OFF) {
            let at = self.sock.peek_off().to_ne_bytes();
            return Ok(at[..value.len().min(4)].to_vec());
        }
        Ok(value)
    }

    /// `ioctl(2)`: see [`ioctl`].
    pub fn ioctl(&self, request: u32) -> io::Result<i32> {
        if request == ioctl::SIOCINQ && self.sock.is_datagram() {
            return Ok(self.sock.next_datagram_len()? as i32);
        }
        let reply = self.sock.call(Opcode::Ioctl, [u64::from(request), 0, 0, 0, 0], Arg::NONE)?;
        Ok(reply.cqe.args[0] as i32)
    }

    /// `O_NONBLOCK`.
    pub fn set_nonblocking(&self, on: bool) {
        self.sock.set_nonblocking(on);
    }

    /// `poll(2)` on this socket: the bits of `events` (and ERR, HUP) that hold, 0 after the timeout. `None` waits for ever.
    pub fn poll(&self, events: u32, timeout: Option<Duration>) -> io::Result<u32> {
        self.sock.poll_bits(events, timeout)
    }

    /// `send(2)`, or `sendto(2)` with an address. See [`msg`].
    pub fn send(&self, data: &[u8], flags: i32, to: Option<SocketAddr>) -> io::Result<usize> {
        self.send_msg(data, &[], flags, to)
    }

    /// `sendmsg(2)`: with control messages (cmsg(3), at most 1024 bytes). A stream has no use for any of them.
    pub fn send_msg(&self, data: &[u8], control: &[u8], flags: i32, to: Option<SocketAddr>) -> io::Result<usize> {
        match self.sock.is_datagram() {
            true => self.send_datagram(data, control, flags, to),
            false => self.send_stream(data, flags, to),
        }
    }

    /// `recv(2)`. The length is the datagram's own with [`msg::TRUNC`].
    pub fn recv(&self, buf: &mut [u8], flags: i32) -> io::Result<usize> {
        self.recv_from(buf, flags).map(|got| if flags & msg::TRUNC != 0 { got.full } else { got.len })
    }

    /// `recvfrom(2)`, and what `recvmsg(2)` would say beside the data.
    pub fn recv_from(&self, buf: &mut [u8], flags: i32) -> io::Result<Received> {
        self.recv_msg(buf, &mut Vec::new(), flags)
    }

    /// `recvmsg(2)`: `control` becomes the control messages that came with the data.
    pub fn recv_msg(&self, buf: &mut [u8], control: &mut Vec<u8>, flags: i32) -> io::Result<Received> {
        control.clear();
        match self.sock.is_datagram() {
            _ if flags & msg::ERRQUEUE != 0 => self.recv_error(buf, control, flags),
            true => self.recv_datagram(buf, control, flags),
            false => {
                let got = self.recv_stream(buf, flags)?;
                if let Some(left) = self.sock.inq() {
                    // tcp(7), TCP_INQ: "the number of bytes ... still in the queue" comes as a control message of level TCP.
                    control.extend_from_slice(&inq_message(left));
                }
                Ok(got)
            }
        }
    }
}

/// `TCP_CM_INQ`.
fn inq_message(left: i32) -> [u8; 24] {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&20u64.to_ne_bytes());
    out[8..12].copy_from_slice(&6i32.to_ne_bytes());
    out[12..16].copy_from_slice(&36i32.to_ne_bytes());
    out[16..20].copy_from_slice(&left.to_ne_bytes());
    out
}

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes copied (a stream read with [`msg::TRUNC`]: bytes dropped).
    pub len: usize,
    /// Bytes the datagram had; of a stream as `len`.
    pub full: usize,
    /// Who sent the datagram.
    pub from: Option<SocketAddr>,
    /// `msg_flags`: [`msg::TRUNC`] when the datagram was longer than the buffer.
    pub flags: i32,
}
