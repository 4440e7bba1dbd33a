//! Urgent data as programs see it: `MSG_OOB`, `SO_OOBINLINE`, `SIOCATMARK`.

use super::Stack;
use crate::socket::Body;
use crate::store::ByteStore;
use stackd_base::{Errno, Instant, SockId};

impl Stack {
    /// As [`Stack::written`], the last byte being urgent (`MSG_OOB`).
    ///
    /// # Errors
    /// As [`Stack::written`].
    pub fn written_urgent<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        head: u64,
        store: &mut S,
    ) -> Result<(), Errno> {
        self.write(now, sock, head, true, store)
    }

    /// Stream offset of the byte that the peer marked urgent, until it is read, and whether it is here. Without `SO_OOBINLINE` it is for
    /// whoever reads to leave it out of the stream.
    pub fn urgent_mark(&self, sock: SockId) -> Option<(u64, bool)> {
        match &self.sockets.get(sock)?.body {
            Body::Tcp(t) => t.conn.urgent_mark().map(|m| (m, t.conn.has_urgent())),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        }
    }

    /// `SIOCATMARK`.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` unless it is a TCP connection.
    pub fn at_mark(&self, sock: SockId) -> Result<bool, Errno> {
        match &self.sockets.get(sock).ok_or(Errno::EBADF)?.body {
            Body::Tcp(t) => Ok(t.conn.at_urgent_mark()),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => Err(Errno::EINVAL),
        }
    }

    /// Bytes of the stream up to `end` are about to be written, and the last of them is urgent. Said before they are, so that none of them leaves
    /// without its pointer.
    ///
    /// # Errors
    /// `EINVAL` (behind what was written, or beyond what may be), `EPIPE`, `ENOTCONN`.
    pub fn mark_urgent(&mut self, sock: SockId, end: u64) -> Result<(), Errno> {
        let t = self.tcp_mut(sock).ok_or(Errno::ENOTCONN)?;
        if !t.attached || t.write_shut {
            return Err(Errno::EPIPE);
        }
        if end <= t.written || end > t.published.2 {
            return Err(Errno::EINVAL);
        }
        t.conn.handle_mark_urgent(end);
        Ok(())
    }

    /// `recv(2)` with `MSG_OOB`: the stream offset of the urgent byte, which counts as read then (unless `peek`); `None` at the end of the
    /// stream. Its place stays marked.
    ///
    /// # Errors
    /// `EINVAL` (none is announced, it was read, or it is read in line), `EAGAIN` (not here yet), `ENOTCONN`.
    pub fn receive_urgent(&mut self, sock: SockId, peek: bool) -> Result<Option<u64>, Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let t = match &mut s.body {
            Body::Tcp(t) => t,
            Body::TcpClosed => return Err(Errno::EINVAL),
            Body::Listen(_) => return Err(Errno::ENOTCONN),
            Body::Udp(_) => return Err(Errno::EOPNOTSUPP),
        };
        let Some(mark) = t.conn.urgent_mark().filter(|_| !s.opts.oobinline && !t.conn.is_urgent_taken()) else {
            return Err(Errno::EINVAL);
        };
        if t.conn.has_urgent() {
            if !peek {
                t.conn.handle_urgent_taken();
                self.note(sock, crate::types::Readiness::EMPTY);
            }
            return Ok(Some(mark));
        }
        match (t.attached, t.peer_closed || t.read_shut) {
            (false, false) => Err(Errno::ENOTCONN),
            (_, true) => Ok(None),
            (true, false) => Err(Errno::EAGAIN),
        }
    }

    /// What a reader that does not take urgent data in line must know: where the next urgent byte lies (unless it is in line).
    pub fn out_of_line(&self, sock: SockId) -> Option<u64> {
        let s = self.sockets.get(sock)?;
        self.urgent_mark(sock).map(|(mark, _)| mark).filter(|_| !s.opts.oobinline)
    }
}
