//! ICMP errors about datagrams, and the error queue.

use crate::ip::TransportError;
use crate::socket::errqueue::{Origin, QueuedError};
use crate::socket::ip_opts::MtuDiscover;
use crate::stack::Stack;
use crate::types::{Domain, Readiness};
use stackd_base::{DropReason, Errno, Instant, Mib, SockId};
use stackd_wire::IcmpRepr;
use std::net::SocketAddr;

impl Stack {
    /// An ICMP error for a datagram of ours. A connected socket hears of hard ones (udp(7)); one with `IP_RECVERR` of all, connected or not.
    pub(in crate::stack) fn udp_error(&mut self, now: Instant, error: &TransportError) {
        let TransportError { local, remote, port, .. } = *error;
        let found =
            self.udp_demux.find_connected(local, remote).or_else(|| self.udp_demux.find_waiting(local, remote, port));
        let v4 = remote.is_ipv4();
        let Some((sock, s)) = found.and_then(|sock| self.sockets.get(sock).map(|s| (sock, s))) else {
            self.mib.inc(if v4 { Mib::IcmpInErrors } else { Mib::Icmp6InErrors });
            self.drops.count(DropReason::IcmpUnsolicited);
            return;
        };
        let (mut errno, mut hard) = error.errno();
        let discover = s.opts.ip.discover(v4);
        let mut info = 0;
        if let IcmpRepr::PacketTooBig { mtu } = error.error {
            // ip(7), IP_MTU_DISCOVER: INTERFACE and OMIT take no word of it, so that nobody can shrink the path by forgery.
            if !discover.accepts_pmtu() {
                return;
            }
            info = mtu;
            (errno, hard) = (Errno::EMSGSIZE, discover != MtuDiscover::Dont);
        }
        let recverr = if v4 { s.opts.ip.recverr } else { s.opts.ip.recverr6 };
        let connected = s.peer == Some(remote);
        if recverr {
            let v6 = s.domain == Domain::V6 && !v4;
            let entry = QueuedError {
                origin: if v4 { Origin::Icmp } else { Origin::Icmp6 },
                kind: error.kind,
                code: error.code,
                offender: Some(s.presented(SocketAddr::new(error.reporter, 0))),
                payload: error.payload.clone(),
                ..QueuedError::local(errno, info, s.presented(remote), v6)
            };
            self.queue_error(sock, entry);
        }
        if let IcmpRepr::PacketTooBig { mtu } = error.error {
            self.ip.learn_mtu(now, remote.ip(), mtu);
        }
        let told = recverr || hard && connected;
        if told && let Some(s) = self.sockets.get_mut(sock) {
            s.error = Some(errno);
            self.note(sock, Readiness::ERR);
        }
    }

    /// Puts an entry into a socket's error queue and wakes who polls it.
    pub fn queue_error(&mut self, sock: SockId, entry: QueuedError) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        if s.errors.get_or_insert_default().push(entry) {
            self.note(sock, Readiness::ERR);
        }
    }

    /// `recvmsg(2)` with `MSG_ERRQUEUE`: the oldest entry; `peek` leaves it.
    ///
    /// # Errors
    /// `EBADF`, `EAGAIN` (the queue is empty).
    pub fn receive_error(&mut self, sock: SockId, peek: bool) -> Result<QueuedError, Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let queue = s.errors.as_deref_mut().ok_or(Errno::EAGAIN)?;
        if peek {
            return queue.first().cloned().ok_or(Errno::EAGAIN);
        }
        let entry = queue.pop().ok_or(Errno::EAGAIN)?;
        // Linux: what the next entry says becomes the socket's error; an empty queue leaves none.
        let next = queue.first().map(|e| e.errno);
        if next.is_none() {
            s.errors = None;
        }
        s.error = match next.and_then(Errno::from_raw) {
            Some(errno) => Some(errno),
            None => s.error.filter(|_| entry.errno == 0),
        };
        self.note(sock, Readiness::EMPTY);
        Ok(entry)
    }
}
