//! UDP: the socket's side: connect, bind, tables. What is sent, received and reported stands in the files below.

mod errors;
mod gro;
mod receive;
mod send;

pub use gro::Held;

use super::Stack;
use super::calls::waiting_of;
use crate::socket::{Binding, Body};
use crate::types::Readiness;
use stackd_base::{Errno, Instant, SockId};
use std::net::SocketAddr;

impl Stack {
    /// The application emptied a datagram socket's receive side.
    pub fn rx_drained(&mut self, sock: SockId) {
        if let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body) {
            u.readable = false;
            self.note(sock, Readiness::EMPTY);
        }
    }

    pub(super) fn udp_connect(&mut self, now: Instant, sock: SockId, to: SocketAddr) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let bound = Some(s.local.ip()).filter(|ip| !ip.is_unspecified());
        self.may_leave_from(s, bound)?;
        let route = self.ip.route_by(now, &s.query(to.ip(), bound))?;
        if route.broadcast && !s.opts.broadcast {
            return Err(Errno::EACCES);
        }
        self.udp_autobind(sock)?;
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        s.peer = Some(to);
        s.local.set_ip(route.src);
        self.udp_refile(sock);
        Ok(())
    }

    fn udp_autobind(&mut self, sock: SockId) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        if s.binding != Binding::None {
            return Ok(());
        }
        let any = s.local;
        let port = self.claim_port(sock, any).map_err(|_| Errno::EAGAIN)?;
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        s.local.set_port(port);
        s.binding = Binding::Claim;
        self.udp_refile(sock);
        Ok(())
    }

    /// Files a bound UDP socket by its present address, peer and options.
    pub(super) fn udp_refile(&mut self, sock: SockId) {
        if let Some(s) = self.sockets.get(sock)
            && s.binding == Binding::Claim
        {
            self.udp_demux.insert_waiting(s.local.port(), waiting_of(sock, s));
        }
    }
}
