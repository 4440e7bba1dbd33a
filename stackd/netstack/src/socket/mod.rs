//! Sockets: what programs hold, and what is left when they let go.

pub mod ancillary;
pub mod errqueue;
pub mod ip_opts;
pub mod opts;
pub mod ports;
pub mod repair;
pub mod requests;
mod socket_opts;
pub mod table;
pub mod timewait;

use crate::auth::Auth;
use crate::ip::{RouteDecision, RouteQuery};
use crate::route::RouteOptions;
use crate::store::OwnerId;
use crate::types::{Domain, Readiness, SocketKind};
use opts::SockOpts;
use ports::Hold;
use stackd_base::{Duration, Errno, FifoId, Instant, PortId, SockId};
use stackd_tcp::{Config, Connection};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What a program holds (or held: a detached one only finishes its connection).
#[derive(Debug)]
pub struct Socket {
    /// Whom it is accounted to.
    pub owner: OwnerId,
    /// Its owner's user: who may share a port (`SO_REUSEPORT`), and do what takes privileges (0).
    pub uid: u32,
    /// Family it was made for.
    pub domain: Domain,
    /// Its bytes.
    pub fifo: Option<FifoId>,
    /// Local address as bound; unspecified and 0 until then. Canonical (never v4-mapped).
    pub local: SocketAddr,
    /// Peer, once connected. Canonical.
    pub peer: Option<SocketAddr>,
    /// How it holds its local port.
    pub binding: Binding,
    /// What of its local address the program chose.
    pub locks: Locks,
    /// A connect was begun whose outcome no call has told yet (Linux's `SS_CONNECTING`).
    pub connecting: bool,
    /// `shutdown` of a socket that is neither connected nor listening: it fails, and yet it shows (as Linux).
    pub shut: Shut,
    /// Options; a child shares its listener's until one of them changes.
    pub opts: Arc<SockOpts>,
    /// `SO_ERROR`.
    pub error: Option<Errno>,
    /// As published last.
    pub readiness: Readiness,
    /// Bits to report as fresh with the next event.
    pub edges: Readiness,
    /// An event is queued.
    pub queued: bool,
    /// Stands in the list of sockets that may have something to send.
    pub dirty: bool,
    /// A `close` waits for the end of the connection (`SO_LINGER`): whatever happens to it is told.
    pub lingering: bool,
    /// The application closed it: nobody is told anything any more.
    pub detached: bool,
    /// `MSG_ERRQUEUE`: made when there is something in it.
    pub errors: Option<Box<errqueue::ErrorQueue>>,
    /// Keys of TCP-MD5 and TCP-AO.
    pub auth: Option<Box<Auth>>,
    /// `TCP_REPAIR`, once it was used.
    pub repair: Option<Box<repair::Repair>>,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// What it is.
    pub body: Body,
}

/// How a socket holds its local port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// Not at all.
    None,
    /// By a claim in the port table.
    Claim,
    /// Without one.
    Hold(Hold),
}

/// What of a local address `bind` chose (Linux's `SOCK_BINDADDR_LOCK`, `SOCK_BINDPORT_LOCK`): it survives a disconnect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Locks {
    /// The address.
    pub addr: bool,
    /// The port.
    pub port: bool,
}

/// Directions that are shut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shut {
    /// `SHUT_RD`.
    pub read: bool,
    /// `SHUT_WR`.
    pub write: bool,
}

/// What a socket is.
#[derive(Debug)]
pub enum Body {
    /// TCP, neither listening nor connected.
    TcpClosed,
    /// TCP, listening.
    Listen(Box<Listener>),
    /// TCP, from SYN_SENT or SYN_RECEIVED to its end.
    Tcp(Box<TcpSock>),
    /// UDP.
    Udp(UdpSock),
}

/// A listening socket's queues.
#[derive(Debug, Default)]
pub struct Listener {
    /// Backlog, capped by `net.core.somaxconn`.
    pub backlog: u32,
    /// Handshakes that have begun (Linux's request queue); they are in the shard's table.
    pub embryonic: u32,
    /// Children that wait for `accept`.
    pub accept: VecDeque<SockId>,
    /// SYN cookies were sent lately: until then ACKs may bring some back.
    pub cookies_until: Option<Instant>,
    /// `TCP_FASTOPEN`: Fast Open children that may not have finished their handshakes.
    pub fast_open_most: u32,
    /// How many there are.
    pub fast_open_pending: u32,
    /// Those that were reset go on counting until then.
    pub fast_open_resets: VecDeque<Instant>,
}

impl Listener {
    /// Linux's `sk_acceptq_is_full`: one more than the backlog fits.
    pub fn accept_full(&self) -> bool {
        self.accept.len() as u32 > self.backlog
    }
    /// Linux's `inet_csk_reqsk_queue_is_full`.
    pub fn syn_full(&self) -> bool {
        self.embryonic >= self.backlog.max(1)
    }
}

/// A connection and what the socket layer keeps beside it.
#[derive(Debug)]
pub struct TcpSock {
    /// The state machine.
    pub conn: Connection,
    /// Sysctls with this socket's options over them; `None` when it set none: then the shard's are read.
    pub config: Option<Box<Config>>,
    /// The listener, until `accept`.
    pub parent: Option<SockId>,
    /// In the table of four-tuples; false once it ended.
    pub attached: bool,
    /// `shutdown(SHUT_RD)`.
    pub read_shut: bool,
    /// `shutdown(SHUT_WR)`, or closed.
    pub write_shut: bool,
    /// Reached ESTABLISHED.
    pub established: bool,
    /// What was published to the byte store: in-order head, released, limit.
    pub published: (u64, u64, u64),
    /// Bytes accounted in the shard's TCP memory (`net.ipv4.tcp_mem`).
    pub charged: u64,
    /// What the application consumed.
    pub consumed: u64,
    /// What the application wrote.
    pub written: u64,
    /// The peer's FIN was taken in.
    pub peer_closed: bool,
    /// An ICMP error that does not end the connection; becomes the reason if it times out.
    pub soft_error: Option<Errno>,
    /// Interface it leaves through.
    pub port: PortId,
    /// The path, as long as the tables it was made from stand.
    pub path: Option<CachedPath>,
    /// Options of its route, where it has any.
    pub tuning: Option<Box<RouteOptions>>,
    /// Which of the connections of its socket it is: another number for each that the shard opened.
    pub life: u16,
    /// How it came to be, for the few of which that is kept.
    pub birth: Option<Box<Birth>>,
}

/// What is kept of a passive connection's beginning.
#[derive(Debug, Default)]
pub struct Birth {
    /// A Fast Open child's listener, until the handshake ends.
    pub fast_parent: Option<SockId>,
    /// Network and transport header of its SYN (`TCP_SAVED_SYN`).
    pub saved_syn: Option<Box<[u8]>>,
}

impl TcpSock {
    /// A Fast Open child's listener, which is told once that the handshake ended.
    pub fn take_fast_parent(&mut self) -> Option<SockId> {
        self.birth.as_mut()?.fast_parent.take()
    }

    /// A connection that begins on this path.
    pub fn new(conn: Connection, config: Option<Box<Config>>, path: &RouteDecision) -> Self {
        Self {
            conn,
            config,
            tuning: kept(&path.options),
            port: path.port,
            parent: None,
            attached: true,
            read_shut: false,
            established: false,
            published: (0, 0, 0),
            charged: 0,
            consumed: 0,
            written: 0,
            peer_closed: false,
            write_shut: false,
            soft_error: None,
            path: None,
            birth: None,
            life: 0,
        }
    }
}

/// What a connection keeps of a [`RouteDecision`]: the rest it knows itself. There are many connections.
#[derive(Clone, Copy, Debug)]
pub struct CachedPath {
    next_hop: IpAddr,
    local: bool,
    mtu: u32,
    generation: u64,
    until: Instant,
}

/// A decision is made anew after so long: a path MTU that ICMP had lowered may have expired (`net.ipv4.route.mtu_expires`).
const PATH_LIFE: Duration = Duration::from_secs(10);

impl TcpSock {
    /// The path from `src` as decided earlier, if the tables it was made from (now in this generation) still stand.
    pub fn route(&self, now: Instant, src: IpAddr, generation: u64) -> Option<RouteDecision> {
        let stands = |p: &CachedPath| p.generation == generation && now < p.until;
        let CachedPath { next_hop, local, mtu, generation, until: _ } = self.path.filter(stands)?;
        let options = self.tuning.as_deref().copied().unwrap_or_default();
        Some(RouteDecision {
            port: self.port,
            next_hop,
            src,
            mtu,
            link_mtu: mtu,
            broadcast: false,
            local,
            options,
            generation,
        })
    }

    /// Takes a decision over. True when the options of the route are others than before.
    pub fn keep_route(&mut self, now: Instant, route: &RouteDecision) -> bool {
        let RouteDecision { port, next_hop, src: _, mtu, link_mtu: _, broadcast: _, local, options, generation } =
            *route;
        self.port = port;
        self.path = Some(CachedPath { next_hop, local, mtu, generation, until: now + PATH_LIFE });
        let tuning = kept(&options);
        let changed = self.tuning != tuning;
        self.tuning = tuning;
        changed
    }
}

/// Options worth keeping: most routes have none.
fn kept(options: &RouteOptions) -> Option<Box<RouteOptions>> {
    (*options != RouteOptions::default()).then(|| Box::new(*options))
}

/// UDP.
#[derive(Clone, Debug, Default)]
pub struct UdpSock {
    /// Datagrams wait.
    pub readable: bool,
    /// `shutdown`.
    pub read_shut: bool,
    /// `shutdown`.
    pub write_shut: bool,
    /// Datagrams dropped because the buffer was full (`ss -m`'s `d`).
    pub drops: u64,
    /// Multicast groups.
    pub groups: Vec<crate::stack::Membership>,
    /// `UDP_GRO`: what is being merged.
    pub held: Option<Box<crate::stack::Held>>,
}

impl Socket {
    /// A fresh one.
    pub fn new(owner: OwnerId, domain: Domain, opts: Arc<SockOpts>, cookie: u64, body: Body) -> Self {
        let any = match domain {
            Domain::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Domain::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            owner,
            uid: 0,
            domain,
            fifo: None,
            local: SocketAddr::new(any, 0),
            peer: None,
            binding: Binding::None,
            locks: Locks::default(),
            connecting: false,
            shut: Shut::default(),
            opts,
            error: None,
            readiness: Readiness::EMPTY,
            edges: Readiness::EMPTY,
            queued: false,
            dirty: false,
            lingering: false,
            detached: false,
            errors: None,
            auth: None,
            repair: None,
            cookie,
            body,
        }
    }

    /// TCP or UDP.
    pub fn kind(&self) -> SocketKind {
        match self.body {
            Body::TcpClosed | Body::Listen(_) | Body::Tcp(_) => SocketKind::Stream,
            Body::Udp(_) => SocketKind::Dgram,
        }
    }

    /// How its packets to `dst` find their way.
    pub fn query(&self, dst: IpAddr, src: Option<IpAddr>) -> RouteQuery {
        let port = self.opts.device.or(self.opts.ip.unicast_if.filter(|_| !dst.is_multicast()));
        RouteQuery { src, port, mark: self.opts.mark, ..RouteQuery::to(dst) }
    }

    /// An address as a program of this socket's family sees it: IPv4 shows v4-mapped on an IPv6 socket.
    pub fn presented(&self, addr: SocketAddr) -> SocketAddr {
        match (self.domain, addr.ip()) {
            (Domain::V6, IpAddr::V4(v4)) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), addr.port()),
            _ => addr,
        }
    }

    /// Whether it takes IPv4 too.
    pub fn is_dual(&self) -> bool {
        self.domain == Domain::V6 && !self.opts.ip.v6only
    }
}
