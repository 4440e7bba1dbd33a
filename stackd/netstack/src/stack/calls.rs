//! The calls programs make: `socket` to `close`.

use super::Stack;
use crate::demux::{Waiting, canonical};
use crate::socket::ip_opts::IpOpts;
use crate::socket::opts::SockOpts;
use crate::socket::ports::{Claim, PortRange};
use crate::socket::{Binding, Body, Listener, Locks, Socket, UdpSock};
use crate::store::{ByteStore, FifoKind, OwnerId};
use crate::types::{Domain, Readiness, Shutdown, SocketKind};
use stackd_base::{Errno, FifoId, Instant, Mib, Rng, SockId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Counters of ephemeral ports (RFC 6056, 3.3.4: "TABLE_LENGTH"): destinations that share one tell little about each other.
pub(super) const PORT_COUNTERS: usize = 1024;

impl Stack {
    /// `socket(2)`. A datagram socket gets its FIFOs at once, a stream socket when it connects.
    ///
    /// # Errors
    /// `EMFILE` when the shard is full; what the store says.
    pub fn socket<S: ByteStore>(
        &mut self,
        _now: Instant,
        domain: Domain,
        kind: SocketKind,
        owner: OwnerId,
        store: &mut S,
    ) -> Result<SockId, Errno> {
        if self.sockets.len() >= self.cfg.max_sockets {
            return Err(Errno::EMFILE);
        }
        let body = match kind {
            SocketKind::Stream => Body::TcpClosed,
            SocketKind::Dgram => Body::Udp(UdpSock::default()),
        };
        let opts =
            SockOpts { ip: IpOpts { v6only: self.sysctls.net.bindv6only, ..IpOpts::default() }, ..SockOpts::default() };
        let mut socket = Socket::new(owner, domain, Arc::new(opts), self.rng.next_u64(), body);
        if kind == SocketKind::Dgram {
            let fifo = store.open(self.sockets.next_id(), owner, FifoKind::Datagram)?;
            store.rx_datagram_limit(fifo, u64::from(self.sysctls.net.rmem_default));
            socket.fifo = Some(fifo);
        }
        let sock = self.sockets.insert(socket);
        self.note(sock, Readiness::EMPTY);
        Ok(sock)
    }

    /// `bind(2)`. Port 0 picks one.
    ///
    /// # Errors
    /// `EINVAL` (bound already), `EAFNOSUPPORT`, `EADDRNOTAVAIL`, `EADDRINUSE`.
    pub fn bind(&mut self, sock: SockId, addr: SocketAddr) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        if s.binding != Binding::None || !matches!(s.body, Body::TcpClosed | Body::Udp(_)) {
            return Err(Errno::EINVAL);
        }
        let addr = match family_checked(s, addr, Errno::EINVAL) {
            Err(Errno::ENETUNREACH) => return Err(Errno::EINVAL),
            checked => checked?,
        };
        let free = match addr.ip() {
            IpAddr::V4(_) => s.opts.ip.freebind || s.opts.ip.transparent || self.sysctls.net.nonlocal_bind,
            IpAddr::V6(_) => s.opts.ip.freebind || s.opts.ip.transparent || self.sysctls.net.nonlocal_bind_v6,
        };
        let ip = addr.ip();
        // Linux: TCP over IPv6 has no use for a group, foreign addresses allowed or not.
        if s.kind() == SocketKind::Stream && ip.is_ipv6() && ip.is_multicast() {
            return Err(Errno::EINVAL);
        }
        // RFC 4007: ::1 and link-local addresses are those of one interface only.
        let narrow = |six: Ipv6Addr| six.is_loopback() || six.is_unicast_link_local();
        if let (IpAddr::V6(six), Some(device), false) = (ip, s.opts.device, free)
            && narrow(six)
            && self.ip.addrs().owner(ip).is_some_and(|owner| owner != device)
        {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if !free && !ip.is_unspecified() && !self.is_bindable(s.kind(), ip) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if addr.port() == 0 && s.opts.ip.bind_address_no_port && s.kind() == SocketKind::Stream {
            let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
            s.local = addr;
            s.locks = Locks { addr: !ip.is_unspecified(), port: false };
            return Ok(());
        }
        let port = self.claim_port(sock, addr)?;
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        s.local = SocketAddr::new(ip, port);
        s.binding = Binding::Claim;
        s.locks = Locks { addr: !ip.is_unspecified(), port: addr.port() != 0 };
        if let IpAddr::V6(six) = ip
            && !six.is_unspecified()
        {
            // Linux: who names an address of IPv6 has chosen IPv6.
            Arc::make_mut(&mut s.opts).ip.v6only = true;
        }
        if s.kind() == SocketKind::Dgram {
            self.udp_refile(sock);
        }
        Ok(())
    }

    /// Claims `addr`'s port, or one out of the local range.
    pub(super) fn claim_port(&mut self, sock: SockId, addr: SocketAddr) -> Result<u16, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let claim = claim_of(sock, s, addr.ip());
        let tcp = s.kind() == SocketKind::Stream;
        let random = self.rng.next_u32();
        let net = &self.sysctls.net;
        let own = s.opts.ip.local_port_range;
        let range = PortRange::of(net, own);
        // Shards share out the ports that they may pick, for they do not know each other's sockets. Pairs, so that each has odd and even ones.
        let (shard, shards) = (u16::from(self.cfg.shard.0), u16::from(self.cfg.shards.max(1)));
        let table = if tcp { &mut self.tcp_ports } else { &mut self.udp_ports };
        let port = match addr.port() {
            0 => table
                .pick_for_bind(range, random, &claim, |port| own != (0, 0) || port / 2 % shards == shard)
                .ok_or(Errno::EADDRINUSE)?,
            port => port,
        };
        if s.is_repairing() {
            table.replace(port, claim);
        } else {
            table.claim(port, claim)?;
        }
        Ok(port)
    }

    /// `listen(2)`; on a listening socket it changes the backlog.
    ///
    /// # Errors
    /// `EOPNOTSUPP` (UDP), `EINVAL` (connected), `EADDRINUSE`.
    pub fn listen(&mut self, sock: SockId, backlog: i32) -> Result<(), Errno> {
        // listen(2): "If the backlog argument is greater than the value in net.core.somaxconn, then it is silently capped to that value".
        let backlog = (backlog as u32).min(self.sysctls.net.somaxconn);
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        match &mut s.body {
            Body::Listen(l) => {
                l.backlog = backlog;
                return Ok(());
            }
            Body::Udp(_) => return Err(Errno::EOPNOTSUPP),
            Body::Tcp(_) => return Err(Errno::EINVAL),
            Body::TcpClosed => {}
        }
        if s.binding == Binding::None {
            let any = s.local;
            let port = self.claim_port(sock, any)?;
            let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
            s.local.set_port(port);
            s.binding = Binding::Claim;
        }
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let claim = Claim { listening: true, ..claim_of(sock, s, s.local.ip()) };
        self.tcp_ports.update(s.local.port(), claim)?;
        let net = &self.sysctls.net;
        // ip-sysctl, tcp_fastopen, 0x400: "Enable all listeners to support Fast Open by default without explicit TCP_FASTOPEN socket option."
        const WITHOUT_OPTION: u32 = super::fastopen::bits::SERVER | super::fastopen::bits::ALL_LISTENERS;
        let by_default = net.tcp_fastopen & WITHOUT_OPTION == WITHOUT_OPTION;
        let fast_open_most = if s.opts.fastopen_qlen == 0 && by_default { backlog } else { s.opts.fastopen_qlen };
        s.body = Body::Listen(Box::new(Listener { backlog, fast_open_most, ..Listener::default() }));
        let waiting = waiting_of(sock, s);
        self.tcp_demux.insert_waiting(s.local.port(), waiting);
        if fast_open_most > 0 {
            self.ensure_fast_open_key();
        }
        Ok(())
    }

    /// `accept(2)`: the socket of the oldest finished handshake, and who is there.
    ///
    /// # Errors
    /// `EAGAIN`, `EINVAL` (not listening), `EOPNOTSUPP` (UDP).
    pub fn accept<S: ByteStore>(
        &mut self,
        _now: Instant,
        sock: SockId,
        _store: &mut S,
    ) -> Result<(SockId, SocketAddr), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let listener = match &mut s.body {
            Body::Listen(l) => l,
            Body::Udp(_) => return Err(Errno::EOPNOTSUPP),
            Body::TcpClosed | Body::Tcp(_) => return Err(Errno::EINVAL),
        };
        let Some(child) = listener.accept.pop_front() else { return Err(Errno::EAGAIN) };
        self.note(sock, Readiness::EMPTY);
        let s = self.sockets.get_mut(child).ok_or(Errno::ECONNABORTED)?;
        if let Body::Tcp(t) = &mut s.body {
            t.parent = None;
        }
        let peer = s.peer.map(|p| s.presented(p)).ok_or(Errno::ECONNABORTED)?;
        s.readiness = Readiness::EMPTY;
        self.note(child, Readiness::EMPTY);
        Ok((child, peer))
    }

    /// The FIFOs of a socket, once it has some.
    pub fn fifo(&self, sock: SockId) -> Option<FifoId> {
        self.sockets.get(sock)?.fifo
    }

    /// The application wrote: its stream now ends at offset `head`.
    ///
    /// # Errors
    /// `EINVAL` when `head` goes back or beyond the limit published last; `EPIPE` after shutdown or reset; `ENOTCONN`.
    pub fn written<S: ByteStore>(&mut self, now: Instant, sock: SockId, head: u64, store: &mut S) -> Result<(), Errno> {
        self.write(now, sock, head, false, store)
    }

    pub(super) fn write<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        head: u64,
        urgent: bool,
        store: &mut S,
    ) -> Result<(), Errno> {
        let t = self.tcp_mut(sock).ok_or(Errno::ENOTCONN)?;
        if !t.attached || t.write_shut {
            return Err(Errno::EPIPE);
        }
        if head < t.written || head > t.published.2 {
            return Err(Errno::EINVAL);
        }
        t.written = head;
        let (conn, mut env) = self.tcp_parts(sock).ok_or(Errno::ENOTCONN)?;
        if urgent {
            conn.handle_written_urgent(now, head, &mut env);
        } else {
            conn.handle_written(now, head, &mut env);
        }
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        Ok(())
    }

    /// The application consumed its received stream up to offset `tail`.
    ///
    /// # Errors
    /// `EINVAL` when `tail` goes back or beyond what was published; `ENOTCONN`.
    pub fn consumed<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        tail: u64,
        store: &mut S,
    ) -> Result<(), Errno> {
        let t = self.tcp_mut(sock).ok_or(Errno::ENOTCONN)?;
        if tail < t.consumed || tail > t.published.0 {
            return Err(Errno::EINVAL);
        }
        t.consumed = tail;
        if t.attached {
            let (conn, mut env) = self.tcp_parts(sock).ok_or(Errno::ENOTCONN)?;
            conn.handle_consumed(now, tail, &mut env);
            self.mark_dirty(sock);
        }
        self.after_event(now, sock, store);
        Ok(())
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        how: Shutdown,
        store: &mut S,
    ) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        match &mut s.body {
            Body::TcpClosed => {
                s.shut.read |= read;
                s.shut.write |= write;
                self.note(sock, Readiness::EMPTY);
                return Err(Errno::ENOTCONN);
            }
            Body::Listen(_) => {
                // Linux: shutting a listener's read side stops it listening; the socket may listen again.
                if read {
                    self.stop_listening(now, sock, store);
                }
                return Ok(());
            }
            Body::Udp(u) => {
                u.read_shut |= read;
                u.write_shut |= write;
                if s.peer.is_none() {
                    // It fails, and is done nevertheless (as Linux).
                    self.note(sock, Readiness::EMPTY);
                    return Err(Errno::ENOTCONN);
                }
            }
            Body::Tcp(t) => {
                if !t.attached {
                    return Err(Errno::ENOTCONN);
                }
                t.read_shut |= read;
                t.write_shut |= write;
                if read {
                    t.conn.set_read_shut(true);
                }
                if write && let Some((conn, mut env)) = self.tcp_parts(sock) {
                    conn.handle_shutdown_write(now, &mut env);
                    self.mark_dirty(sock);
                }
            }
        }
        self.note(sock, if read { Readiness::IN } else { Readiness::EMPTY });
        self.after_event(now, sock, store);
        Ok(())
    }

    /// `close(2)`: the id is dead when this returns; a connection finishes by itself as an orphan.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).filter(|s| !s.detached).ok_or(Errno::EBADF)?;
        s.detached = true;
        let linger = s.opts.linger;
        match &mut s.body {
            Body::TcpClosed | Body::Udp(_) => {
                self.free(sock, store);
                return Ok(());
            }
            Body::Listen(_) => {
                self.stop_listening(now, sock, store);
                self.free(sock, store);
                return Ok(());
            }
            Body::Tcp(t) if !t.attached => {
                self.free(sock, store);
                return Ok(());
            }
            Body::Tcp(t) => {
                // Also after SHUT_RD, as Linux: what came is there to be read all the same.
                let unread = t.published.0 > t.consumed;
                t.write_shut = true;
                let silent = t.conn.is_frozen();
                let Some((conn, mut env)) = self.tcp_parts(sock) else { return Ok(()) };
                if silent {
                    conn.handle_abort(&mut env);
                } else if linger.on && linger.seconds == 0 && !unread {
                    conn.handle_abort(&mut env);
                    self.mib.inc(Mib::TcpExtTCPAbortOnData);
                } else {
                    conn.handle_close(now, unread, &mut env);
                }
            }
        }
        self.orphans += 1;
        // ip-sysctl: "If this number is exceeded orphaned connections are reset immediately".
        self.reset_surplus_orphan(sock, 0);
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        Ok(())
    }

    /// Resets a connection (`ss -K`, a dying session). Other sockets are closed. With `detach` the id dies too.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn abort<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        match &mut s.body {
            Body::Tcp(t) if t.attached => {
                if let Some((conn, mut env)) = self.tcp_parts(sock) {
                    conn.handle_abort(&mut env);
                }
                if let Some(s) = self.sockets.get_mut(sock) {
                    s.error = Some(Errno::ECONNABORTED);
                }
                self.mark_dirty(sock);
            }
            Body::Listen(_) => self.stop_listening(now, sock, store),
            Body::Udp(_) => {
                s.error = Some(Errno::ECONNABORTED);
                s.peer = None;
                self.udp_refile(sock);
            }
            Body::Tcp(_) | Body::TcpClosed => {}
        }
        self.note(sock, Readiness::ERR);
        self.after_event(now, sock, store);
        Ok(())
    }

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local_addr(&self, sock: SockId) -> Result<SocketAddr, Errno> {
        self.sockets.get(sock).map(|s| s.presented(s.local)).ok_or(Errno::EBADF)
    }

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// `EBADF`, `ENOTCONN`.
    pub fn peer_addr(&self, sock: SockId) -> Result<SocketAddr, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let connected = match &s.body {
            Body::Tcp(t) => t.attached && t.established,
            Body::Udp(_) => true,
            Body::TcpClosed | Body::Listen(_) => false,
        };
        s.peer.filter(|p| connected && p.port() != 0).map(|p| s.presented(p)).ok_or(Errno::ENOTCONN)
    }
}

/// The claim of a socket on a port with its present options.
pub(super) fn claim_of(sock: SockId, s: &Socket, ip: IpAddr) -> Claim {
    Claim {
        sock,
        ip,
        v6only: s.opts.ip.v6only,
        device: s.opts.device,
        reuseaddr: s.opts.reuseaddr || s.is_repairing(),
        reuseport: s.opts.reuseport,
        uid: s.uid,
        listening: matches!(s.body, Body::Listen(_)),
    }
}

/// A socket's entry among those that wait for whoever comes.
pub(super) fn waiting_of(sock: SockId, s: &Socket) -> Waiting {
    Waiting {
        sock,
        ip: s.local.ip(),
        dual: s.is_dual(),
        device: s.opts.device,
        reuseport: s.opts.reuseport,
        peer: s.peer.filter(|_| s.kind() == SocketKind::Dgram),
    }
}

/// `addr` on the wire's terms for a datagram socket: one of IPv6 takes IPv4 addresses as they are, too (as Linux).
pub(in crate::stack) fn datagram_peer(s: &Socket, addr: SocketAddr) -> Result<SocketAddr, Errno> {
    match (s.domain, addr) {
        (Domain::V6, SocketAddr::V4(_)) if s.is_dual() => Ok(addr),
        _ => family_checked(s, addr, Errno::EAFNOSUPPORT),
    }
}

/// `to` for a socket whose own address is chosen: one of IPv6 with an IPv4 address speaks IPv4 only, and "any" is then IPv4's.
pub(in crate::stack) fn same_family(s: &Socket, to: SocketAddr) -> Result<SocketAddr, Errno> {
    match (s.domain, s.local.ip(), to.ip()) {
        (Domain::V6, IpAddr::V4(_), IpAddr::V6(any)) if any.is_unspecified() => {
            Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port()))
        }
        (Domain::V6, IpAddr::V4(_), IpAddr::V6(_)) => Err(Errno::EAFNOSUPPORT),
        _ => Ok(to),
    }
}

/// `addr` on the wire's terms, if a socket of this family can use it. `wrong`: what IPv6 calls an address of the other family, which is
/// shorter than its own.
pub(super) fn family_checked(s: &Socket, addr: SocketAddr, wrong: Errno) -> Result<SocketAddr, Errno> {
    let wire = canonical(addr);
    match (s.domain, addr.ip(), wire.ip()) {
        (Domain::V4, IpAddr::V4(_), _) | (Domain::V6, IpAddr::V6(_), IpAddr::V6(_)) => Ok(wire),
        (Domain::V6, IpAddr::V6(_), IpAddr::V4(_)) if !s.opts.ip.v6only => Ok(wire),
        (Domain::V6, IpAddr::V6(_), IpAddr::V4(_)) => Err(Errno::ENETUNREACH),
        (Domain::V4, IpAddr::V6(_), _) => Err(Errno::EAFNOSUPPORT),
        (Domain::V6, IpAddr::V4(_), _) => Err(wrong),
    }
}
