//! `connect(2)`.

use super::Stack;
use super::calls::{PORT_COUNTERS, datagram_peer, family_checked, same_family};
use crate::demux::{FlowEntry, FlowKey, flow_shard};
use crate::socket::ports::{Hold, PortRange};
use crate::socket::{Binding, Body, TcpSock};
use crate::store::{ByteStore, FifoKind};
use crate::types::SocketKind;
use stackd_base::{Errno, Instant, Mib, Rng, SockId};
use stackd_tcp::record::Start;
use stackd_tcp::{Connection, Env};
use std::net::{IpAddr, SocketAddr};

impl Stack {
    /// `connect(2)`. TCP: the SYN is on its way; `OUT`, or `ERR`, tells the outcome. UDP: sets or changes the peer.
    ///
    /// # Errors
    /// `EINPROGRESS` is TCP's success; `EALREADY`, `EISCONN`, `ENETUNREACH`, `EADDRNOTAVAIL`, `EAFNOSUPPORT`, `EACCES` (broadcast).
    pub fn connect<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        addr: SocketAddr,
        store: &mut S,
    ) -> Result<(), Errno> {
        let fast = self.sockets.get(sock).ok_or(Errno::EBADF)?.opts.fastopen_connect;
        self.connect_how(now, sock, addr, fast, store)
    }

    /// The first half of a `sendto(2)` with `MSG_FASTOPEN`: connects so that what is written next goes with the SYN if it may. `Ok`: the
    /// SYN waits for that; `EINPROGRESS`: it left (asking for a cookie, perhaps), and data follows the handshake.
    ///
    /// # Errors
    /// `EOPNOTSUPP` (`net.ipv4.tcp_fastopen` lacks the client's bit), else as `connect`.
    pub fn connect_with_data<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        addr: SocketAddr,
        store: &mut S,
    ) -> Result<(), Errno> {
        if self.sysctls.net.tcp_fastopen & super::fastopen::bits::CLIENT == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.connect_how(now, sock, addr, true, store)
    }

    fn connect_how<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        addr: SocketAddr,
        fast: bool,
        store: &mut S,
    ) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let mut to = match s.kind() {
            SocketKind::Stream => family_checked(s, addr, Errno::EINVAL)?,
            SocketKind::Dgram => datagram_peer(s, addr)?,
        };
        match &s.body {
            Body::Listen(_) => return Err(Errno::EISCONN),
            Body::Tcp(_) if s.connecting => {
                return match self.connect_outcome(now, sock, store) {
                    Err(Errno::EINPROGRESS) => Err(Errno::EALREADY),
                    outcome => outcome,
                };
            }
            // Also when it has ended: only a disconnect makes it ready for another one.
            Body::Tcp(_) => return Err(Errno::EISCONN),
            Body::TcpClosed | Body::Udp(_) => {}
        }
        to = same_family(s, to)?;
        if to.ip().is_unspecified() {
            // As Linux: connecting to "any" is connecting to this host.
            to.set_ip(if to.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        if s.kind() == SocketKind::Dgram {
            return self.udp_connect(now, sock, to);
        }
        if to.ip().is_multicast() || self.ip.addrs().is_broadcast(to.ip()) {
            return Err(Errno::ENETUNREACH);
        }
        self.tcp_connect(now, sock, to, fast, store)
    }

    fn tcp_connect<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        to: SocketAddr,
        fast: bool,
        store: &mut S,
    ) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let bound = Some(s.local.ip()).filter(|ip| !ip.is_unspecified());
        if !s.is_repairing() {
            self.may_leave_from(s, bound)?;
        }
        let path = self.ip.route_by(now, &s.query(to.ip(), bound))?;
        let (local_ip, own) = (bound.unwrap_or(path.src), s.opts.ip.local_port_range);
        let (flow, hold) = if s.binding == Binding::Claim {
            let flow = FlowKey::new(SocketAddr::new(local_ip, s.local.port()), to);
            if !self.flow_is_free(now, &flow) {
                return Err(Errno::EADDRNOTAVAIL);
            }
            (flow, Binding::Claim)
        } else {
            (self.pick_flow(now, local_ip, to, own)?, Binding::Hold(Hold::Ephemeral))
        };
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let owner = s.owner;
        let fifo = match s.fifo {
            Some(fifo) => fifo,
            None => store.open(sock, owner, FifoKind::Stream)?,
        };
        let least_iss = self.evict_time_wait(&flow);
        if let Binding::Hold(h) = hold {
            self.tcp_ports.hold(flow.local(), h);
        }
        let traits = self.port_traits(path.port);
        let iss = crate::isn::initial_sequence(&self.secret, &flow, now);
        let iss = least_iss.map_or(iss, |least| iss.max(least));
        let fast = match self.sockets.get(sock) {
            Some(s) if fast => self.fast_open_for(now, &flow, &s.opts),
            Some(_) | None => None,
        };
        let Self { sockets, sysctls, secret, mib, rng, mem, challenge, .. } = self;
        let s = sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        (s.fifo, s.binding, s.local, s.peer, s.error) = (Some(fifo), hold, flow.local(), Some(to), None);
        let config = super::config::resolve(sysctls, &s.opts, Some(&path.options));
        let params = super::config::flow_params(sysctls, &s.opts, &flow, &path, traits, secret);
        let mut params = super::config::signed(params, super::authentic::overhead(s.auth.as_deref(), to.ip()));
        let cfg = config.as_deref().unwrap_or(&sysctls.tcp);
        let repair = s.repair.as_deref().filter(|r| r.on);
        s.connecting = repair.is_none();
        let conn = match (repair, fast) {
            // No handshake: it goes on from where another one stopped.
            (Some(r), _) => {
                params.ts_offset = r.clock_offset().unwrap_or(params.ts_offset);
                Connection::repaired(params, r.snd_seq, r.rcv_seq, now, &mut Env { mib, rng, cfg, mem, challenge })
            }
            (None, None) => Connection::connect(cfg, params, iss, now),
            (None, Some(how)) => Connection::connect_fast(cfg, params, iss, now, how),
        };
        let (repaired, deferred) = (repair.is_some(), conn.defers_syn());
        self.lives = self.lives.checked_add(1).unwrap_or(1);
        s.body = Body::Tcp(Box::new(TcpSock { life: self.lives, ..TcpSock::new(conn, config, &path) }));
        self.tcp_demux.insert_flow(flow, FlowEntry::Sock(sock));
        if repaired {
            self.born(now, sock, &Start::Live);
        } else {
            self.mib.inc(Mib::TcpActiveOpens);
            self.born(now, sock, &Start::Connect { flow: params, iss });
        }
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        // tcp(7), TCP_FASTOPEN_CONNECT: "connect() ... returns immediately"; the SYN goes with the first write.
        if deferred || repaired { Ok(()) } else { Err(Errno::EINPROGRESS) }
    }

    /// Whether a new connection may have this four-tuple.
    fn flow_is_free(&self, now: Instant, flow: &FlowKey) -> bool {
        match self.tcp_demux.flow(flow) {
            None => true,
            Some(FlowEntry::Sock(_) | FlowEntry::Request(_)) => false,
            Some(FlowEntry::TimeWait(i)) => {
                let allowed = match self.sysctls.net.tcp_tw_reuse {
                    0 => false,
                    1 => true,
                    _ => flow.local().ip().is_loopback() && flow.remote().ip().is_loopback(),
                };
                // RFC 6191 wants a later timestamp: after this delay ours is.
                let ts = self.tw.get(i).and_then(|tw| tw.ts);
                allowed && ts.is_some_and(|ts| now - ts.recent_at >= self.sysctls.net.tcp_tw_reuse_delay)
            }
        }
    }

    /// An ephemeral port whose four-tuple is free and whose flow belongs to this shard.
    fn pick_flow(&mut self, now: Instant, local_ip: IpAddr, to: SocketAddr, own: (u16, u16)) -> Result<FlowKey, Errno> {
        let range = PortRange::of(&self.sysctls.net, own);
        let flow = FlowKey::new(SocketAddr::new(local_ip, 0), to);
        // RFC 6056, 3.3.4 (Algorithm 4, "Double-Hash Port Selection"): offset F of the destination, plus the counter that another hash of
        // it picks; 3.3.5: the counter moves by a random amount, so that who sees one port cannot count our connections (as Linux).
        let hash = self.secret.hash_bytes(&flow.bytes());
        let counter = (hash >> 32) as usize % PORT_COUNTERS;
        let offset = (hash as u32).wrapping_add(self.port_counters[counter]) & !1;
        let (shard, shards) = (self.cfg.shard.0, self.cfg.shards);
        let accept = |port: u16| {
            let candidate = flow.with_local_port(port);
            flow_shard(candidate.local(), to, shards) == shard && self.flow_is_free(now, &candidate)
        };
        let port = self.tcp_ports.pick_for_connect(range, offset, accept).ok_or(Errno::EADDRNOTAVAIL)?;
        let step = 2 * (1 + self.rng.below(8));
        self.port_counters[counter] = self.port_counters[counter].wrapping_add(step);
        Ok(flow.with_local_port(port))
    }
}
