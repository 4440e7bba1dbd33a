//! The end of a connect, and the end of an association: what `connect(2)` answers the second time, and to `AF_UNSPEC`.

use super::Stack;
use crate::socket::{Binding, Body, Shut, Socket};
use crate::store::ByteStore;
use crate::types::{Domain, Readiness};
use stackd_base::{Errno, Instant, SockId};
use stackd_tcp::State;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Stack {
    /// How an active open went. It is told once: then the socket is connected, or may try again.
    ///
    /// # Errors
    /// `EINPROGRESS`; the pending error, else `ECONNABORTED` (somebody else took it by `SO_ERROR`).
    pub fn connect_outcome<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let Body::Tcp(t) = &s.body else { return Ok(()) };
        if !s.connecting {
            return Ok(());
        }
        if t.attached {
            if matches!(t.conn.state(), State::SynSent | State::SynReceived) {
                return Err(Errno::EINPROGRESS);
            }
            s.connecting = false;
            return Ok(());
        }
        let error = s.error.take().unwrap_or(Errno::ECONNABORTED);
        self.disconnect_tcp(now, sock, store);
        if let Some(s) = self.sockets.get_mut(sock) {
            s.error = None;
        }
        self.note(sock, Readiness::EMPTY);
        Err(error)
    }

    /// `connect(2)` to `AF_UNSPEC`: a connection is reset, a listener stops listening, a UDP socket has no peer any more. What `bind` chose
    /// stays.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn disconnect<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        match &mut s.body {
            Body::Udp(_) => self.disconnect_udp(sock),
            Body::TcpClosed | Body::Listen(_) | Body::Tcp(_) => {
                self.disconnect_tcp(now, sock, store);
                self.note(sock, Readiness::EMPTY);
            }
        }
        Ok(())
    }

    fn disconnect_tcp<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        let error = match self.sockets.get(sock).map(|s| &s.body) {
            Some(Body::Listen(_)) => {
                self.stop_listening(now, sock, store);
                None
            }
            Some(Body::Tcp(t)) if t.attached => {
                let (state, silent) = (t.conn.state(), t.conn.is_frozen());
                if let Some((conn, mut env)) = self.tcp_parts(sock) {
                    conn.handle_abort(&mut env);
                }
                self.mark_dirty(sock);
                self.after_event(now, sock, store);
                // Linux's tcp_disconnect: whoever still reads the socket hears that this end reset it.
                match state {
                    _ if silent => Some(Errno::ECONNABORTED),
                    State::TimeWait => None,
                    _ => Some(Errno::ECONNRESET),
                }
            }
            _ => None,
        };
        self.discard_dead(sock, store);
        let Some(s) = self.sockets.get_mut(sock) else { return };
        if error.is_some() {
            s.error = error;
        }
        s.connecting = false;
        s.shut = Shut::default();
        if let Some(port) = dissociate(s) {
            self.tcp_ports.release(port, sock);
        }
    }

    fn disconnect_udp(&mut self, sock: SockId) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        if let Some(port) = dissociate(s) {
            self.udp_demux.remove_waiting(port, sock);
            self.udp_ports.release(port, sock);
        }
        self.udp_refile(sock);
    }

    /// Whose a socket is: a user's privileges (0 has them), and which sockets may share a port with it.
    pub fn set_uid(&mut self, sock: SockId, uid: u32) {
        if let Some(s) = self.sockets.get_mut(sock) {
            s.uid = uid;
        }
    }

    /// An error that no call is there to return: the next one does.
    pub fn set_error(&mut self, sock: SockId, error: Errno) {
        if let Some(s) = self.sockets.get_mut(sock) {
            s.error = Some(error);
            self.note(sock, Readiness::ERR);
        }
    }
}

/// No peer any more, and of the local name only what `bind` chose. The port that is to be released, if one is.
fn dissociate(s: &mut Socket) -> Option<u16> {
    s.peer = None;
    if !s.locks.addr {
        s.local.set_ip(unspecified(s.domain));
    }
    if s.binding != Binding::Claim || s.locks.port {
        return None;
    }
    let port = s.local.port();
    s.binding = Binding::None;
    s.local.set_port(0);
    Some(port)
}

fn unspecified(domain: Domain) -> IpAddr {
    match domain {
        Domain::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Domain::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
