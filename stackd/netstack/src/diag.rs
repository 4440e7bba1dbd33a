//! What `ss` and `netctl` see of sockets.

use crate::socket::opts::SockOpts;
use crate::socket::{Body, Socket, UdpSock};
use crate::stack::Stack;
use crate::store::OwnerId;
use crate::types::{Domain, SocketKind};
use stackd_base::{Duration, Errno, Instant, PortId, SockId};
use stackd_tcp::{State, TcpInfo};
use std::net::SocketAddr;

/// `SK_MEMINFO_*`: what `ss -m` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SkMem {
    /// Bytes waiting to be read.
    pub rmem_alloc: u32,
    pub rcvbuf: u32,
    /// Bytes sent and not acknowledged.
    pub wmem_alloc: u32,
    pub sndbuf: u32,
    pub fwd_alloc: u32,
    /// Bytes in the send buffer.
    pub wmem_queued: u32,
    pub optmem: u32,
    pub backlog: u32,
    /// Datagrams dropped.
    pub drops: u32,
}

impl SkMem {
    /// As `SO_MEMINFO` returns it: nine words.
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops } = self;
        [rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect()
    }
}

/// State of a socket as `ss` prints it; values are Linux's `TCP_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum DiagState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl From<State> for DiagState {
    fn from(s: State) -> Self {
        match s {
            State::Established => Self::Established,
            State::SynSent => Self::SynSent,
            State::SynReceived => Self::SynRecv,
            State::FinWait1 => Self::FinWait1,
            State::FinWait2 => Self::FinWait2,
            State::TimeWait => Self::TimeWait,
            State::Closed => Self::Close,
            State::CloseWait => Self::CloseWait,
            State::LastAck => Self::LastAck,
            State::Closing => Self::Closing,
        }
    }
}

/// Everything about one socket.
#[derive(Clone, Debug)]
pub struct SocketInfo {
    /// Which; `None` for a TIME_WAIT entry.
    pub sock: Option<SockId>,
    /// Whose; zero for a TIME_WAIT entry.
    pub owner: OwnerId,
    /// Family it was made for.
    pub domain: Domain,
    /// TCP or UDP.
    pub kind: SocketKind,
    /// State.
    pub state: DiagState,
    /// Local address.
    pub local: SocketAddr,
    /// Peer; unspecified when there is none.
    pub peer: Option<SocketAddr>,
    /// `SO_BINDTODEVICE`.
    pub device: Option<PortId>,
    /// Bytes to be read; for a listener, connections to be accepted.
    pub recv_q: u64,
    /// Bytes not acknowledged; for a listener, its backlog.
    pub send_q: u64,
    /// The timer that runs: `on` 1, `keepalive` 2, `timewait` 3, `persist` 4; and what remains of it; and how often it fired.
    pub timer: Option<(u8, Duration, u8)>,
    /// Memory.
    pub mem: SkMem,
    /// The connection.
    pub tcp: Option<Box<TcpInfo>>,
    /// Congestion control of a connection.
    pub congestion: Option<&'static str>,
    /// What the algorithm shows of itself.
    pub cc: stackd_tcp::cc::CcInfo,
    /// An error waits to be read.
    pub error: Option<Errno>,
    /// Closed by its application.
    pub orphan: bool,
    /// Not accepted yet.
    pub unaccepted: bool,
    /// An IPv6 socket that leaves IPv4 alone.
    pub v6only: bool,
    /// `SO_MARK`.
    pub mark: u32,
    /// DSCP.
    pub tos: u8,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Directions that are shut: 1 receiving, 2 sending (Linux's `sk_shutdown`).
    pub shutdown: u8,
    /// Options that are flags.
    pub options: OptionFlags,
}

/// Socket options that are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct OptionFlags {
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub keepalive: bool,
    pub no_delay: bool,
    pub cork: bool,
    pub defer_accept: bool,
    pub linger: bool,
    pub broadcast: bool,
    pub transparent: bool,
    pub bind_address_no_port: bool,
    pub receive_error: bool,
    pub freebind: bool,
}

impl From<&SockOpts> for OptionFlags {
    fn from(o: &SockOpts) -> Self {
        Self {
            reuse_address: o.reuseaddr,
            reuse_port: o.reuseport,
            keepalive: o.keepalive,
            no_delay: o.nodelay,
            cork: o.cork,
            defer_accept: o.defer_accept > 0,
            linger: o.linger.on,
            broadcast: o.broadcast,
            transparent: o.ip.transparent,
            bind_address_no_port: o.ip.bind_address_no_port,
            receive_error: o.ip.recverr || o.ip.recverr6,
            freebind: o.ip.freebind,
        }
    }
}

/// What one owner's sockets use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnerUsage {
    /// Sockets.
    pub sockets: u64,
    /// Of them connections.
    pub connections: u64,
    /// Bytes that wait in both directions.
    pub bytes: u64,
}

impl Stack {
    /// Everything about one socket.
    pub fn socket_info(&self, now: Instant, sock: SockId) -> Option<SocketInfo> {
        self.sockets.get(sock).map(|s| self.describe(now, sock, s))
    }

    /// Everything about every socket, TIME_WAIT entries included.
    pub fn sockets(&self, now: Instant) -> impl Iterator<Item = SocketInfo> + '_ {
        let alive = self.sockets.iter().map(move |(id, s)| self.describe(now, id, s));
        let waiting = self.tw.iter(now).map(|(tw, left)| {
            let local = tw.flow.local();
            let state = if tw.fin_wait_2 { DiagState::FinWait2 } else { DiagState::TimeWait };
            SocketInfo {
                sock: None,
                owner: OwnerId(0),
                domain: if local.is_ipv4() { Domain::V4 } else { Domain::V6 },
                kind: SocketKind::Stream,
                state,
                local,
                peer: Some(tw.flow.remote()),
                device: None,
                recv_q: 0,
                send_q: 0,
                timer: Some((3, left, 0)),
                mem: SkMem::default(),
                tcp: None,
                congestion: None,
                cc: stackd_tcp::cc::CcInfo::None,
                error: None,
                orphan: true,
                unaccepted: false,
                v6only: false,
                mark: 0,
                tos: tw.tos,
                cookie: 0,
                shutdown: 3,
                options: OptionFlags::default(),
            }
        });
        let half_open = self.requests.iter().filter_map(move |(_, half)| {
            let (listener, local) = (self.sockets.get(half.listener)?, half.flow.local());
            let timer = Some((1, half.request.deadline() - now, half.request.retransmits()));
            Some(SocketInfo {
                sock: None,
                state: DiagState::SynRecv,
                local: listener.presented(local),
                peer: Some(listener.presented(half.flow.remote())),
                recv_q: 0,
                send_q: 0,
                timer,
                unaccepted: true,
                cookie: 0,
                ..self.describe(now, half.listener, listener)
            })
        });
        alive.chain(half_open).chain(waiting)
    }

    /// What one owner's sockets use.
    pub fn owner_usage(&self, owner: OwnerId) -> OwnerUsage {
        let mut usage = OwnerUsage::default();
        for (_, s) in self.sockets.iter().filter(|(_, s)| s.owner == owner) {
            usage.sockets += 1;
            if let Body::Tcp(t) = &s.body {
                usage.connections += 1;
                usage.bytes += t.published.0 - t.consumed + t.written.saturating_sub(t.published.1);
            }
        }
        usage
    }

    /// Sockets alive: with a program, orphaned, in TIME_WAIT.
    pub fn socket_counts(&self) -> (usize, u32, usize) {
        (self.sockets.len(), self.orphans, self.tw.len())
    }

    /// Handshakes that SYNs began and that have not ended.
    pub fn half_open(&self) -> usize {
        self.requests.len()
    }

    /// Bytes accounted against `net.ipv4.tcp_mem`: those that wait in buffers of connections.
    pub fn tcp_memory(&self) -> u64 {
        self.mem.used
    }

    fn describe(&self, now: Instant, sock: SockId, s: &Socket) -> SocketInfo {
        let net = &self.sysctls.net;
        let mut info = SocketInfo {
            sock: Some(sock),
            owner: s.owner,
            domain: s.domain,
            kind: s.kind(),
            state: DiagState::Close,
            local: s.presented(s.local),
            peer: s.peer.map(|p| s.presented(p)),
            device: s.opts.device,
            recv_q: 0,
            send_q: 0,
            timer: None,
            mem: SkMem {
                rcvbuf: s.opts.rcvbuf.unwrap_or(net.rmem_default),
                sndbuf: s.opts.sndbuf.unwrap_or(net.wmem_default),
                ..SkMem::default()
            },
            tcp: None,
            congestion: None,
            cc: stackd_tcp::cc::CcInfo::None,
            error: s.error,
            orphan: s.detached,
            unaccepted: false,
            v6only: s.domain == Domain::V6 && s.opts.ip.v6only,
            mark: s.opts.mark,
            tos: s.opts.ip.tos,
            cookie: s.cookie,
            shutdown: shut(s.shut.read, s.shut.write),
            options: OptionFlags::from(&*s.opts),
        };
        match &s.body {
            Body::TcpClosed => {}
            Body::Listen(l) => {
                info.state = DiagState::Listen;
                (info.recv_q, info.send_q) = (l.accept.len() as u64, u64::from(l.backlog));
            }
            Body::Udp(UdpSock { drops, read_shut, write_shut, .. }) => {
                info.shutdown = shut(*read_shut, *write_shut);
                info.state = if s.peer.is_some() { DiagState::Established } else { DiagState::Close };
                info.mem.drops = *drops as u32;
            }
            Body::Tcp(t) => {
                // The peer's FIN shuts our receiving side, as the program's own word does.
                info.shutdown = shut(t.read_shut || t.peer_closed || !t.attached, t.write_shut || !t.attached);
                let cfg = t.config.as_deref().unwrap_or(&self.sysctls.tcp);
                info.state = if t.attached { t.conn.state().into() } else { DiagState::Close };
                info.recv_q = t.published.0 - t.consumed;
                info.send_q = t.written.saturating_sub(t.published.1);
                info.congestion = Some(t.conn.congestion());
                info.cc = t.conn.cc_info();
                info.unaccepted = t.parent.is_some();
                info.timer = t.conn.timer_info().map(|i| (i.kind, i.at - now, i.retransmits));
                info.tcp = Some(Box::new(t.conn.info(now, cfg)));
                let unsent = t.conn.not_sent();
                info.mem = SkMem {
                    rmem_alloc: clamp(info.recv_q + t.conn.rx_out_of_order()),
                    rcvbuf: clamp(t.conn.rcvbuf()),
                    wmem_alloc: clamp(info.send_q.saturating_sub(unsent)),
                    sndbuf: clamp(t.conn.sndbuf()),
                    wmem_queued: clamp(info.send_q),
                    ..SkMem::default()
                };
            }
        }
        info
    }
}

fn shut(read: bool, write: bool) -> u8 {
    u8::from(read) | u8::from(write) << 1
}

fn clamp(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
