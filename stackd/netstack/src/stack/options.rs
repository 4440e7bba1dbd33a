//! `setsockopt(2)` and `getsockopt(2)`: stored options meet live objects.

use super::Stack;
use super::authentic::is_auth_option;
use super::calls::{claim_of, waiting_of};
use super::config::{mss_for, resolve};
use super::handshake_options::is_handshake_option;
use super::repair::is_repair_option;
use crate::layout;
use crate::socket::opts::{Context, Effect, OptionValue, name};
use crate::socket::{Binding, Body};
use crate::store::ByteStore;
use crate::types::{Domain, SocketKind};
use stackd_base::{Errno, Instant, SockId};
use stackd_tcp::State;
use std::sync::Arc;

impl Stack {
    /// `setsockopt(2)` with Linux's numbers and byte layouts.
    ///
    /// # Errors
    /// Linux's: `ENOPROTOOPT`, `EINVAL`, `ENODEV`, `ENOENT` (no such algorithm), `EPERM`, `EADDRINUSE`.
    #[allow(clippy::too_many_arguments)]
    pub fn set_option<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        level: i32,
        option: i32,
        value: &[u8],
        store: &mut S,
    ) -> Result<(), Errno> {
        if is_handshake_option(level, option) {
            return self.set_handshake_option(sock, option, value);
        }
        if is_repair_option(level, option) && self.is_tcp(sock) {
            return self.set_repair_option(now, sock, option, value, store);
        }
        if is_auth_option(level, option) {
            return self.set_auth_option(now, sock, option, value);
        }
        if super::multicast::is_ours(level, option) {
            return self.set_membership(now, sock, level, option, value);
        }
        let cx = self.option_context(sock)?;
        let Self { sockets, ip, sysctls, .. } = self;
        let s = sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let ports = &*ip;
        let congestion = |text: &str| {
            let known = stackd_tcp::cc::AVAILABLE.iter().find(|&&n| n == text).ok_or(Errno::ENOENT)?;
            if sysctls.net.allowed_congestion.contains(known) { Ok(*known) } else { Err(Errno::EPERM) }
        };
        let effect = Arc::make_mut(&mut s.opts).set(cx, level, option, value, ports, congestion)?;
        self.realtime.wanted |= s.opts.ip.wanted.stamp.is_some();
        match effect {
            Effect::None => {}
            Effect::Claim => self.claim_changed(sock)?,
            Effect::Connection | Effect::Push | Effect::Flush | Effect::Congestion(_) => {
                self.reconfigure(sock);
                let keepalive = matches!(
                    (level, option),
                    (name::SOL_SOCKET, name::SO_KEEPALIVE) | (name::SOL_TCP, name::TCP_KEEPIDLE)
                );
                if let Some((conn, env)) = self.tcp_parts(sock).filter(|_| keepalive) {
                    conn.rearm_keepalive(now, env.cfg);
                }
                self.resize_rcvbuf(sock, level, option);
                if let Some((conn, _)) = self.tcp_parts(sock).filter(|_| effect == Effect::Flush) {
                    conn.flush();
                }
                if let (Effect::Congestion(algorithm), Some((conn, env))) = (effect, self.tcp_parts(sock)) {
                    conn.set_congestion(now, algorithm, env.cfg);
                }
                self.mark_dirty(sock);
                self.after_event(now, sock, store);
                self.limit_datagrams(sock, store);
            }
        }
        Ok(())
    }

    /// `getsockopt(2)`: copies as much as fits into `out` and says how much that is.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `ENOTCONN` (path MTU of an unconnected socket), `EBADF`.
    pub fn get_option(
        &mut self,
        now: Instant,
        sock: SockId,
        level: i32,
        option: i32,
        out: &mut [u8],
    ) -> Result<usize, Errno> {
        let cx = self.option_context(sock)?;
        if cx.tcp && is_handshake_option(level, option) {
            return Ok(self.get_handshake_option(sock, option)?.write(out));
        }
        if cx.tcp && is_repair_option(level, option) {
            return Ok(self.get_repair_option(now, sock, option, out.len())?.write(out));
        }
        if cx.tcp && is_auth_option(level, option) {
            return Ok(self.get_auth_option(sock, option, out.len())?.write(out));
        }
        if cx.tcp && (level, option) == (name::SOL_TCP, name::TCP_SAVED_SYN) {
            return self.take_saved_syn(sock, out);
        }
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let stored = s.opts.get(cx, level, option);
        let value = match level {
            _ if stored.is_some() => stored.unwrap_or(OptionValue::Int(0)),
            name::SOL_SOCKET => self.get_socket_option(now, sock, option, out.len())?,
            name::SOL_TCP if cx.tcp => self.get_tcp_option(now, sock, option)?,
            name::SOL_IP if option == name::IP_TTL => {
                OptionValue::Int(i32::from(s.opts.ip.ttl.unwrap_or(self.sysctls.ip.default_ttl)))
            }
            name::SOL_IPV6 if option == name::IPV6_UNICAST_HOPS && cx.domain == Domain::V6 => {
                OptionValue::Int(i32::from(s.opts.ip.hops.unwrap_or_else(|| {
                    self.route_of(now, sock)
                        .map_or(crate::ip::IfConf::default().hop_limit, |r| self.ip.hop_limit(r.port))
                })))
            }
            name::SOL_IPV6 if option == name::IPV6_AUTOFLOWLABEL && cx.domain == Domain::V6 => {
                OptionValue::Int(self.sysctls.net.auto_flowlabels.of_socket(s.opts.ip.auto_flow_label).into())
            }
            name::SOL_IP if option == name::IP_MTU => OptionValue::Int(self.route_of(now, sock)?.mtu as i32),
            name::SOL_IPV6 if option == name::IPV6_MTU && cx.domain == Domain::V6 => {
                OptionValue::Int(self.route_of(now, sock)?.mtu as i32)
            }
            // A level that a socket of IPv4 does not have.
            name::SOL_IP => return Err(Errno::ENOPROTOOPT),
            name::SOL_TCP if cx.tcp => return Err(Errno::ENOPROTOOPT),
            name::SOL_UDP if !cx.tcp => return Err(Errno::ENOPROTOOPT),
            _ if cx.domain == Domain::V4 => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        // ip(7): a small number may be asked for as a single byte.
        if let (name::SOL_IP, OptionValue::Int(n @ 0..=255), 1..=3) = (level, &value, out.len()) {
            out[0] = *n as u8;
            return Ok(1);
        }
        Ok(value.write(out))
    }

    fn is_tcp(&self, sock: SockId) -> bool {
        self.sockets.get(sock).is_some_and(|s| s.kind() == SocketKind::Stream)
    }

    fn option_context(&self, sock: SockId) -> Result<Context, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        Ok(Context {
            domain: s.domain,
            tcp: s.kind() == SocketKind::Stream,
            // A connection that failed has given its port back.
            bound: match (s.binding, &s.body) {
                (Binding::None, _) => false,
                (Binding::Hold(_), Body::Tcp(t)) => t.attached,
                (Binding::Claim | Binding::Hold(_), _) => true,
            },
            wmem_max: self.sysctls.net.wmem_max,
            rmem_max: self.sysctls.net.rmem_max,
            closed: matches!(&s.body, Body::TcpClosed | Body::Udp(_)) || matches!(&s.body, Body::Tcp(t) if !t.attached),
            privileged: s.uid == 0,
            lowat_max: s.opts.rcvbuf.map_or(self.sysctls.tcp.rmem[2] / 2, |n| u64::from(n / 2)).min(i32::MAX as u64)
                as u32,
        })
    }

    fn get_socket_option(
        &mut self,
        now: Instant,
        sock: SockId,
        option: i32,
        room: usize,
    ) -> Result<OptionValue, Errno> {
        if option == name::SO_ERROR {
            return Ok(OptionValue::Int(self.take_error(sock).map_or(0, |e| e as i32)));
        }
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let tcp = s.kind() == SocketKind::Stream;
        let conn = match &s.body {
            Body::Tcp(t) => Some(&t.conn),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        };
        let net = &self.sysctls.net;
        Ok(match option {
            name::SO_TYPE => OptionValue::Int(if tcp { 1 } else { 2 }),
            name::SO_PROTOCOL => OptionValue::Int(if tcp { 6 } else { 17 }),
            name::SO_DOMAIN => OptionValue::Int(if s.domain == Domain::V4 { 2 } else { 10 }),
            name::SO_ACCEPTCONN => OptionValue::Int(i32::from(matches!(s.body, Body::Listen(_)))),
            name::SO_COOKIE if room < 8 => return Err(Errno::EINVAL),
            name::SO_COOKIE => OptionValue::Bytes(s.cookie.to_ne_bytes().to_vec()),
            name::SO_PASSCRED | name::SO_PASSSEC => return Err(Errno::EOPNOTSUPP),
            name::SO_PEERNAME => {
                // Linux names the peer even of a connection that is over.
                let peer = s.peer.filter(|p| p.port() != 0).ok_or(Errno::ENOTCONN)?;
                let addr = layout::sockaddr(s.presented(peer));
                if room > addr.len() {
                    return Err(Errno::EINVAL);
                }
                OptionValue::Bytes(addr)
            }
            name::SO_SNDBUF => OptionValue::Int(match (conn, s.opts.sndbuf) {
                (_, Some(n)) => n as i32,
                (Some(c), None) => saturated(c.sndbuf()),
                (None, None) if tcp => saturated(self.sysctls.tcp.wmem[1]),
                (None, None) => net.wmem_default as i32,
            }),
            name::SO_RCVBUF => OptionValue::Int(match (conn, s.opts.rcvbuf) {
                (_, Some(n)) => n as i32,
                (Some(c), None) => saturated(c.rcvbuf()),
                (None, None) if tcp => saturated(self.sysctls.tcp.rmem[1]),
                (None, None) => net.rmem_default as i32,
            }),
            name::SO_BINDTODEVICE => OptionValue::Bytes(match s.opts.device.and_then(|id| self.ip.port(id)) {
                Some(port) => port.config.name.bytes().chain([0]).collect(),
                None => Vec::new(),
            }),
            name::SO_MEMINFO => {
                let mem = self.socket_info(now, sock).ok_or(Errno::EBADF)?.mem;
                OptionValue::Bytes(mem.to_bytes())
            }
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    fn get_tcp_option(&self, now: Instant, sock: SockId, option: i32) -> Result<OptionValue, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let o = &s.opts;
        let tcp = &self.sysctls.tcp;
        let conn = match &s.body {
            Body::Tcp(t) => Some(&t.conn),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        };
        let cfg = match &s.body {
            Body::Tcp(t) => t.config.as_deref().unwrap_or(tcp),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => tcp,
        };
        let seconds = |own: Option<u32>, d: stackd_base::Duration| {
            OptionValue::Int(own.map_or((d.as_millis() / 1000) as i32, |n| n as i32))
        };
        Ok(match option {
            // tcp(7): before the connection exists, the value set, else 536.
            name::TCP_MAXSEG => OptionValue::Int(match conn {
                // Linux: under repair, what the peer said, to be handed on.
                Some(c) if s.is_repairing() => c.peer_mss() as i32,
                Some(c) if c.state() != State::Closed => c.info(now, cfg).snd_mss as i32,
                _ if o.maxseg != 0 => i32::from(o.maxseg),
                Some(c) => c.info(now, cfg).snd_mss as i32,
                None => mss_for(576, false) as i32,
            }),
            name::TCP_KEEPIDLE => seconds(o.keepidle, tcp.keepalive_time),
            name::TCP_KEEPINTVL => seconds(o.keepintvl, tcp.keepalive_intvl),
            name::TCP_KEEPCNT => OptionValue::Int(o.keepcnt.map_or(i32::from(tcp.keepalive_probes), |n| n as i32)),
            name::TCP_SYNCNT => OptionValue::Int(i32::from(o.syncnt.unwrap_or(tcp.syn_retries))),
            name::TCP_LINGER2 => OptionValue::Int(o.linger2.unwrap_or((tcp.fin_timeout.as_millis() / 1000) as i32)),
            name::TCP_NOTSENT_LOWAT => {
                // The socket's own only, as Linux: 0 means that the sysctl holds.
                OptionValue::Int(o.notsent_lowat.unwrap_or(0) as i32)
            }
            name::TCP_RTO_MAX_MS => OptionValue::Int(o.rto_max_ms.unwrap_or(tcp.rto_max.as_millis() as u32) as i32),
            name::TCP_CONGESTION => {
                let algorithm = o.congestion.unwrap_or(tcp.congestion);
                let algorithm = conn.map_or(algorithm, |c| c.congestion());
                // Linux fills TCP_CA_NAME_MAX bytes.
                let mut bytes = vec![0; 16];
                bytes[..algorithm.len()].copy_from_slice(algorithm.as_bytes());
                OptionValue::Bytes(bytes)
            }
            name::TCP_INFO => OptionValue::Bytes(match (&s.body, conn) {
                (_, Some(c)) => layout::tcp_info(&c.info(now, cfg)),
                (Body::Listen(l), None) => layout::listener_info(10, l.accept.len() as u32, l.backlog),
                (_, None) => layout::listener_info(7, 0, 0),
            }),
            name::TCP_CC_INFO => OptionValue::Bytes(conn.map_or(Vec::new(), |c| layout::cc_info(c.cc_info()))),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    /// What a live connection's receive buffer must follow.
    fn resize_rcvbuf(&mut self, sock: SockId, level: i32, option: i32) {
        if level != name::SOL_SOCKET {
            return;
        }
        let Some(t) = self.tcp_mut(sock) else { return };
        let wanted = t.config.as_deref().and_then(|c| c.rcvbuf);
        match (option, wanted) {
            (name::SO_RCVBUF | name::SO_RCVBUFFORCE, Some(bytes)) => t.conn.set_rcvbuf(bytes),
            // Linux's tcp_set_rcvlowat: it grows with it.
            (name::SO_RCVLOWAT, Some(bytes)) if bytes > t.conn.rcvbuf() => t.conn.set_rcvbuf(bytes),
            _ => {}
        }
    }

    /// `SO_RCVBUF` of a datagram socket is the store's to keep.
    fn limit_datagrams<S: ByteStore>(&self, sock: SockId, store: &mut S) {
        if let Some(s) = self.sockets.get(sock)
            && let (Body::Udp(_), Some(fifo), Some(bytes)) = (&s.body, s.fifo, s.opts.rcvbuf)
        {
            store.rx_datagram_limit(fifo, u64::from(bytes));
        }
    }

    /// Puts a socket's options over the sysctls again.
    pub(super) fn reconfigure(&mut self, sock: SockId) {
        let Self { sockets, sysctls, .. } = self;
        if let Some(s) = sockets.get_mut(sock)
            && let Body::Tcp(t) = &mut s.body
        {
            t.config = resolve(sysctls, &s.opts, t.tuning.as_deref());
        }
    }

    /// Reuse flags or device changed: the claim on the port says so, and so does the table of those who wait.
    fn claim_changed(&mut self, sock: SockId) -> Result<(), Errno> {
        let Some(s) = self.sockets.get(sock) else { return Err(Errno::EBADF) };
        if s.binding != Binding::Claim {
            return Ok(());
        }
        let (port, claim, waiting) = (s.local.port(), claim_of(sock, s, s.local.ip()), waiting_of(sock, s));
        match (&s.body, s.kind()) {
            (_, SocketKind::Dgram) => {
                self.udp_ports.change_claim(port, claim);
                self.udp_demux.insert_waiting(port, waiting);
            }
            (Body::Listen(_), SocketKind::Stream) => {
                self.tcp_ports.change_claim(port, claim);
                self.tcp_demux.insert_waiting(port, waiting);
            }
            (_, SocketKind::Stream) => self.tcp_ports.change_claim(port, claim),
        }
        Ok(())
    }
}

fn saturated(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
