//! UDP: bind, connect, send, receive.

use super::Stack;
use super::calls::{family_checked, waiting_of};
use crate::ip::{Datagram, Outgoing, TransportError};
use crate::packet::Payload;
use crate::socket::opts::MtuDiscover;
use crate::socket::{Binding, Body};
use crate::store::ByteStore;
use crate::types::Readiness;
use stackd_base::{DropReason, Errno, Instant, Mib, SockId};
use stackd_wire::udp::{self, UdpRepr};
use stackd_wire::{IcmpRepr, Sum, Unreachable, proto};
use std::net::SocketAddr;

/// Most payload of one datagram over IPv4 (65,535 - 20 - 8).
const MAX_DATAGRAM: usize = 65_507;

impl Stack {
    /// Sends one datagram; `to` = `None` sends to the connected peer.
    ///
    /// # Errors
    /// `EDESTADDRREQ`, `EMSGSIZE`, `EACCES` (broadcast not allowed), `EPIPE` (shut down), `EISCONN` never (as Linux: `to` wins), what
    /// routing says, and a pending ICMP error.
    pub fn send_to<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        to: Option<SocketAddr>,
        data: &[u8],
        _store: &mut S,
    ) -> Result<usize, Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let Body::Udp(u) = &s.body else { return Err(Errno::EOPNOTSUPP) };
        if u.write_shut {
            return Err(Errno::EPIPE);
        }
        // ip(7), SO_ERROR: a pending error is reported by the next call.
        if let Some(error) = s.error.take() {
            self.note(sock, Readiness::EMPTY);
            return Err(error);
        }
        if data.len() > MAX_DATAGRAM {
            return Err(Errno::EMSGSIZE);
        }
        let peer = match to {
            Some(to) => family_checked(s, to, Errno::EAFNOSUPPORT)?,
            None => s.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        if peer.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let bound = Some(s.local.ip()).filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == peer.is_ipv4());
        let route = self.ip.route(now, peer.ip(), bound, s.opts.device)?;
        if route.broadcast && !s.opts.broadcast {
            return Err(Errno::EACCES);
        }
        self.udp_autobind(sock)?;
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let (src, dst) = (route.src, peer.ip());
        let repr = UdpRepr { src_port: s.local.port(), dst_port: peer.port(), payload_len: data.len() as u16 };
        let mut header = [0; udp::HEADER_LEN];
        repr.emit(&mut header, src, dst, Sum::of(data));
        let v4 = dst.is_ipv4();
        let outgoing = Outgoing {
            tos: if v4 { s.opts.tos } else { s.opts.tclass },
            ttl: if v4 { s.opts.ttl } else { s.opts.hops },
            dont_fragment: matches!(s.opts.mtu_discover, Some(MtuDiscover::Do | MtuDiscover::Probe)),
            sock: Some(sock),
            flow_hash: s.cookie,
            priority: s.opts.priority,
            max_pacing_rate: s.opts.max_pacing_rate,
            ..Outgoing::new(src, dst, proto::UDP, &header, Payload::Owned(data.into()))
        };
        let (ip, mut env) = self.ip_parts(now);
        let sent = ip.send(&mut env, &route, outgoing);
        self.reap_dropped(now);
        sent.map_err(|e| e.errno())?;
        self.mib.inc(if v4 { Mib::UdpOutDatagrams } else { Mib::Udp6OutDatagrams });
        Ok(data.len())
    }

    /// The application emptied a datagram socket's receive side.
    pub fn rx_drained(&mut self, sock: SockId) {
        if let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body) {
            u.readable = false;
            self.note(sock, Readiness::EMPTY);
        }
    }

    /// Takes a UDP socket's peer away (`connect` to `AF_UNSPEC`).
    ///
    /// # Errors
    /// `EBADF`, `EOPNOTSUPP` (TCP).
    pub fn disconnect(&mut self, sock: SockId) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        if !matches!(s.body, Body::Udp(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        s.peer = None;
        self.udp_refile(sock);
        Ok(())
    }

    pub(super) fn udp_connect(&mut self, now: Instant, sock: SockId, to: SocketAddr) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let bound = Some(s.local.ip()).filter(|ip| !ip.is_unspecified());
        let route = self.ip.route(now, to.ip(), bound, s.opts.device)?;
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

    /// A datagram arrived.
    pub(super) fn udp_input<S: ByteStore>(
        &mut self,
        now: Instant,
        d: &Datagram<'_>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let v4 = d.src.is_ipv4();
        let in_errors = if v4 { Mib::UdpInErrors } else { Mib::Udp6InErrors };
        let transport = d.transport();
        let (Ok((repr, _)), Some(header)) =
            (UdpRepr::parse(transport, d.transport_len), transport.first_chunk::<{ udp::HEADER_LEN }>())
        else {
            self.mib.inc(in_errors);
            return Err(DropReason::UdpInvalid);
        };
        let len = usize::from(repr.payload_len);
        let Some(data) = transport.get(udp::HEADER_LEN..udp::HEADER_LEN + len) else {
            self.mib.inc(in_errors);
            return Err(DropReason::UdpInvalid);
        };
        if !d.checksum_trusted && !udp::verify(header, d.src, d.dst, Sum::of(data), repr.payload_len) {
            self.mib.inc(in_errors);
            self.mib.inc(if v4 { Mib::UdpInCsumErrors } else { Mib::Udp6InCsumErrors });
            return Err(DropReason::UdpChecksum);
        }
        let (local, remote) = (SocketAddr::new(d.dst, repr.dst_port), SocketAddr::new(d.src, repr.src_port));
        if d.group {
            let receivers = self.udp_demux.all_waiting(local, remote, d.port);
            let mut result = Err(DropReason::UdpNoSocket);
            for sock in receivers {
                result = self.udp_deliver(sock, remote, data, store);
            }
            return result;
        }
        let Some(sock) = self.udp_demux.find_waiting(local, remote, d.port) else {
            self.mib.inc(if v4 { Mib::UdpNoPorts } else { Mib::Udp6NoPorts });
            // RFC 1122, 4.1.3.1: "If a datagram arrives addressed to a UDP port for which there is no pending LISTEN call, UDP
            // SHOULD send an ICMP Port Unreachable message."
            let (ip, mut env) = self.ip_parts(now);
            ip.answer_error(&mut env, d.port, &d.packet, IcmpRepr::DestUnreachable(Unreachable::Port));
            return Err(DropReason::UdpNoSocket);
        };
        self.udp_deliver(sock, remote, data, store)
    }

    fn udp_deliver<S: ByteStore>(
        &mut self,
        sock: SockId,
        from: SocketAddr,
        data: &[u8],
        store: &mut S,
    ) -> Result<(), DropReason> {
        let v4 = from.is_ipv4();
        let Some(s) = self.sockets.get_mut(sock) else { return Err(DropReason::SocketClosed) };
        let presented = s.presented(from);
        let (Some(fifo), Body::Udp(u)) = (s.fifo, &mut s.body) else { return Err(DropReason::SocketClosed) };
        if !store.rx_datagram(fifo, presented, data) {
            u.drops += 1;
            self.mib.inc(if v4 { Mib::UdpRcvbufErrors } else { Mib::Udp6RcvbufErrors });
            self.mib.inc(if v4 { Mib::UdpInErrors } else { Mib::Udp6InErrors });
            return Err(DropReason::UdpRcvBuf);
        }
        u.readable = true;
        self.mib.inc(if v4 { Mib::UdpInDatagrams } else { Mib::Udp6InDatagrams });
        self.note(sock, Readiness::IN | Readiness::RDNORM);
        Ok(())
    }

    /// An ICMP error for a datagram of ours: only a connected socket hears of it (udp(7)).
    pub(super) fn udp_error(&mut self, error: &TransportError) {
        let found = self.udp_demux.find_connected(error.local, error.remote);
        let Some(s) = found.and_then(|sock| self.sockets.get_mut(sock)) else {
            self.drops.count(DropReason::IcmpUnsolicited);
            return;
        };
        let (errno, hard) = error.errno();
        let wants = match s.opts.mtu_discover {
            Some(MtuDiscover::Do | MtuDiscover::Probe) => hard || errno == Errno::EMSGSIZE,
            _ => hard,
        };
        if wants {
            s.error = Some(errno);
            if let Some(sock) = found {
                self.note(sock, Readiness::ERR);
            }
        }
    }
}
