//! `close(2)` that waits: `SO_LINGER` with a time.

use super::Stack;
use crate::socket::Body;
use crate::store::ByteStore;
use stackd_base::{Instant, SockId};

impl Stack {
    /// The first half of a `close` whose socket lingers: does to the connection what `close` does, while the socket stays its program's. True:
    /// wait until [`is_closing`](Self::is_closing) is not true any more (or as long as `SO_LINGER` says), and close then. False: close at once.
    pub fn begin_close<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) -> bool {
        let Some(s) = self.sockets.get_mut(sock).filter(|s| !s.detached) else { return false };
        let linger = s.opts.linger;
        let Body::Tcp(t) = &mut s.body else { return false };
        // Linux's __tcp_close: a repaired connection, one with a time of 0 and one that has unread data end without a wait.
        if !linger.on || linger.seconds == 0 || !t.attached || t.conn.is_frozen() {
            return false;
        }
        let unread = t.published.0 > t.consumed;
        t.write_shut = true;
        s.lingering = true;
        if let Some((conn, mut env)) = self.tcp_parts(sock) {
            conn.handle_close(now, unread, &mut env);
        }
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        self.is_closing(sock)
    }

    /// Linux's `sk_stream_closing`: a FIN of ours, and the data before it, are not acknowledged yet.
    pub fn is_closing(&self, sock: SockId) -> bool {
        match self.sockets.get(sock).map(|s| &s.body) {
            Some(Body::Tcp(t)) => t.attached && t.conn.fin_unacked() > 0,
            Some(Body::TcpClosed | Body::Listen(_) | Body::Udp(_)) | None => false,
        }
    }
}
