//! What `ioctl(2)` says of a socket's queues, and what lets held-back bytes go.

use super::Stack;
use crate::socket::Body;
use crate::store::ByteStore;
use stackd_base::{Errno, Instant, SockId};
use stackd_tcp::State;

/// Linux's numbers of the requests (`linux/sockios.h`, `asm-generic/ioctls.h`).
#[allow(missing_docs)]
pub mod request {
    pub const SIOCINQ: u32 = 0x541B;
    pub const SIOCOUTQ: u32 = 0x5411;
    pub const SIOCOUTQNSD: u32 = 0x894B;
    pub const SIOCATMARK: u32 = 0x8905;
}

impl Stack {
    /// `ioctl(2)`. `None`: `SIOCINQ` of a datagram socket, which only the owner of its bytes can answer.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` on a listener; `ENOTTY` for a request that sockets of this kind do not have.
    pub fn ioctl(&self, sock: SockId, what: u32) -> Result<Option<i32>, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let known = match &s.body {
            Body::Udp(_) => matches!(what, request::SIOCINQ | request::SIOCOUTQ),
            Body::TcpClosed | Body::Listen(_) | Body::Tcp(_) => {
                matches!(what, request::SIOCINQ | request::SIOCOUTQ | request::SIOCOUTQNSD | request::SIOCATMARK)
            }
        };
        if !known {
            return Err(Errno::ENOTTY);
        }
        let t = match &s.body {
            // A datagram leaves the send FIFO when the stack takes it.
            Body::Udp(_) => return Ok((what == request::SIOCOUTQ).then_some(0)),
            // tcp(7): "The socket must not be in LISTEN state, otherwise an error (EINVAL) is returned."
            Body::Listen(_) if what != request::SIOCATMARK => return Err(Errno::EINVAL),
            Body::Listen(_) | Body::TcpClosed => return Ok(Some(0)),
            Body::Tcp(t) => t,
        };
        let handshake = matches!(t.conn.state(), State::SynSent | State::SynReceived);
        let number = match what {
            request::SIOCATMARK => u64::from(t.conn.at_urgent_mark()),
            // Linux's tcp_inq: up to the urgent byte, if that is not read in line.
            request::SIOCINQ => {
                let mark = t.conn.urgent_mark().filter(|&m| !s.opts.oobinline && m >= t.consumed && m < t.published.0);
                mark.unwrap_or(t.published.0).saturating_sub(t.consumed)
            }
            request::SIOCOUTQ if !handshake => t.written.saturating_sub(t.published.1) + t.conn.fin_unacked(),
            request::SIOCOUTQNSD if !handshake => t.conn.not_sent(),
            _ => 0,
        };
        Ok(Some(i32::try_from(number).unwrap_or(i32::MAX)))
    }

    /// `MSG_MORE` of the program's last write: on, a last segment that is not full waits for what follows; off, it goes out.
    pub fn set_more<S: ByteStore>(&mut self, now: Instant, sock: SockId, more: bool, store: &mut S) {
        if let Some(t) = self.tcp_mut(sock).filter(|t| more || t.conn.is_more())
            && t.attached
        {
            t.conn.set_more(more);
            if !more {
                self.mark_dirty(sock);
                self.after_event(now, sock, store);
            }
        }
    }
}
