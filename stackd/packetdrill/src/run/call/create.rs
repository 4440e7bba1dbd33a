//! Sockets' birth, handshake and end.

use super::super::Runner;
use super::super::fds::{Fd, SocketFd};
use super::super::flow::{Flow, Stage};
use super::args::Addr;
use super::{Call, Outcome, Progress};
use crate::ast::Expr;
use crate::config::IpVersion;
use crate::error::Result;
use stackd_base::{Errno, SockId};
use stackd_netstack::{Domain, OwnerId, Shutdown, SocketKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_NONBLOCK: i64 = 0o4000;
const SOCK_CLOEXEC: i64 = 0o200_0000;

impl Runner<'_> {
    pub(super) fn sys_socket(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 3, 3)?;
        let domain = match c.arg(0) {
            Some(Expr::Ellipsis) => {
                if self.cfg.socket_v6() {
                    10
                } else {
                    2
                }
            }
            _ => self.number(c, 0)?,
        };
        let kind = self.number(c, 1)?;
        let protocol = match c.arg(2) {
            Some(Expr::Ellipsis) => 0,
            _ => self.number(c, 2)?,
        };
        let nonblock = kind & SOCK_NONBLOCK != 0;
        let (kind, tcp) = match (kind & !(SOCK_NONBLOCK | SOCK_CLOEXEC), protocol) {
            (1, 0 | 6) => (SocketKind::Stream, true),
            (2, 0 | 17) => (SocketKind::Dgram, false),
            (1 | 2, 6 | 17) => return Ok(Outcome::Error(Errno::EPROTONOSUPPORT)),
            (kind, protocol) => {
                return Err(
                    self.unsupported(c.line, format!("a socket of type {kind}, protocol {protocol}: want TCP or UDP"))
                );
            }
        };
        let domain = match domain {
            2 => Domain::V4,
            10 => Domain::V6,
            _ => return Ok(Outcome::Error(Errno::EAFNOSUPPORT)),
        };
        let made = self.host.stack.socket(self.host.now, domain, kind, OwnerId(1), &mut self.host.store);
        let sock = match made {
            Ok(sock) => sock,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let any: IpAddr = if self.cfg.wire_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let mut flow = Flow::new(Stage::New, SocketAddr::new(any, 0), SocketAddr::new(any, 0), tcp);
        flow.sock = Some(sock);
        self.flows.push(flow);
        let i = self.flows.len() - 1;
        self.current = Some(i);
        self.streams.entry(sock).or_default();
        self.open_fd(c, SocketFd { sock, stream: tcp, nonblock, flow: Some(i) })
    }

    /// Files a socket under the number the script wants.
    fn open_fd(&mut self, c: &Call<'_>, fd: SocketFd) -> Result<Outcome> {
        let Some(n) = self.new_fd(c) else {
            return Err(self.mismatch(c.line, format!("{} succeeded, expected {}", c.call, c.call.result)));
        };
        self.fds.open(n, Fd::Socket(fd));
        Ok(Outcome::Value(n))
    }

    /// An address of the script as this run's sockets take it.
    fn presented(&self, addr: SocketAddr) -> SocketAddr {
        match (self.cfg.ip_version, addr.ip()) {
            (IpVersion::V4Mapped, IpAddr::V4(a)) => SocketAddr::new(a.to_ipv6_mapped().into(), addr.port()),
            _ => addr,
        }
    }

    pub(super) fn sys_bind(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 3, 3)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let addr = match self.address(c, 1)? {
            Addr::Any => self.presented(SocketAddr::new(self.cfg.local(), self.cfg.bind_port)),
            Addr::Is(a) => a,
            Addr::Unspecified => return Ok(Outcome::Error(Errno::EAFNOSUPPORT)),
        };
        let bound = self.host.stack.bind(fd.sock, addr);
        if bound.is_ok()
            && let Some(i) = fd.flow
            && let Ok(local) = self.host.stack.local_addr(fd.sock)
        {
            self.flows[i].local = SocketAddr::new(self.wire_ip(local.ip()), local.port());
            if !self.flows[i].tcp {
                // A datagram of the peer needs no connection.
                self.flows[i].remote = SocketAddr::new(self.cfg.remote(), self.cfg.connect_port);
            }
        }
        Ok(bound.into())
    }

    /// An address as it stands on the wire: what is bound to "any" answers from the interface's.
    fn wire_ip(&self, ip: IpAddr) -> IpAddr {
        match ip.to_canonical() {
            ip if ip.is_unspecified() => self.cfg.local(),
            ip => ip,
        }
    }

    pub(super) fn sys_listen(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 2, 2)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let backlog = self.number(c, 1)?;
        let result = self.host.stack.listen(fd.sock, backlog as i32);
        if result.is_ok()
            && let Some(i) = fd.flow
        {
            self.flows[i].stage = Stage::Listening;
            if let Ok(local) = self.host.stack.local_addr(fd.sock) {
                self.flows[i].local = SocketAddr::new(self.wire_ip(local.ip()), local.port());
            }
        }
        Ok(result.into())
    }

    pub(super) fn sys_accept(&mut self, c: &Call<'_>, progress: &Progress) -> Result<Outcome> {
        self.arity(c, 1, 4)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let flags = if c.call.name == "accept4" && c.call.args.len() == 4 { self.number(c, 3)? } else { 0 };
        let (sock, peer) = match self.host.stack.accept(self.host.now, fd.sock, &mut self.host.store) {
            Ok(child) => child,
            Err(Errno::EAGAIN) if self.may_wait(&fd, 0, progress) => return Ok(Outcome::Wait),
            Err(e) => return Ok(Outcome::Error(e)),
        };
        if c.call.args.len() > 1 {
            self.check_address(c, 1, peer)?;
        }
        let remote = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let flow = self.flows.iter().rposition(|f| f.tcp && f.remote == remote && f.sock.is_none());
        if let Some(i) = flow {
            self.flows[i].sock = Some(sock);
        }
        self.streams.entry(sock).or_default();
        self.open_fd(c, SocketFd { sock, stream: true, nonblock: flags & SOCK_NONBLOCK != 0, flow })
    }

    /// Whether a call that finds nothing waits.
    pub(super) fn may_wait(&self, fd: &SocketFd, flags: i64, progress: &Progress) -> bool {
        const MSG_DONTWAIT: i64 = 0x40;
        // A blocking descriptor in a call without an end time is the script's mistake, which is reported when it waits.
        !fd.nonblock && flags & MSG_DONTWAIT == 0 || progress.blocking
    }

    pub(super) fn sys_connect(&mut self, c: &Call<'_>, progress: &mut Progress) -> Result<Outcome> {
        self.arity(c, 3, 3)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        if progress.begun {
            return Ok(self.connect_outcome(fd.sock));
        }
        let addr = match self.address(c, 1)? {
            Addr::Any => self.presented(SocketAddr::new(self.cfg.remote(), self.cfg.connect_port)),
            Addr::Is(a) => a,
            Addr::Unspecified => {
                let result = self.host.stack.disconnect(self.host.now, fd.sock, &mut self.host.store);
                return Ok(result.into());
            }
        };
        let result = self.host.stack.connect(self.host.now, fd.sock, addr, &mut self.host.store);
        if matches!(result, Ok(()) | Err(Errno::EINPROGRESS)) {
            self.connecting(&fd, addr);
        }
        if result == Err(Errno::EINPROGRESS) && !fd.nonblock {
            progress.begun = true;
            return Ok(Outcome::Wait);
        }
        Ok(result.into())
    }

    /// The script's connection is on its way to `addr`.
    fn connecting(&mut self, fd: &SocketFd, addr: SocketAddr) {
        let Some(i) = fd.flow else { return };
        let f = &mut self.flows[i];
        f.remote = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        f.stage = Stage::Connecting;
        if let Ok(local) = self.host.stack.local_addr(fd.sock) {
            self.flows[i].local = SocketAddr::new(self.wire_ip(local.ip()), local.port());
        }
        self.current = Some(i);
    }

    /// The connecting half of a write with `MSG_FASTOPEN`; `None`: go on and write.
    pub(super) fn connect_to_write(
        &mut self,
        c: &Call<'_>,
        fd: &SocketFd,
        progress: &mut Progress,
    ) -> Result<Option<Outcome>> {
        if progress.begun {
            return Ok(match self.connect_outcome(fd.sock) {
                Outcome::Value(_) => None,
                other => Some(other),
            });
        }
        let addr = match if c.call.name == "sendto" { self.address(c, 4)? } else { Addr::Any } {
            Addr::Any => self.presented(SocketAddr::new(self.cfg.remote(), self.cfg.connect_port)),
            Addr::Is(a) => a,
            Addr::Unspecified => return Ok(Some(Outcome::Error(Errno::EOPNOTSUPP))),
        };
        let result = self.host.stack.connect_with_data(self.host.now, fd.sock, addr, &mut self.host.store);
        if matches!(result, Ok(()) | Err(Errno::EINPROGRESS)) {
            self.connecting(fd, addr);
        }
        match result {
            Ok(()) => Ok(None),
            Err(Errno::EINPROGRESS) if !fd.nonblock => {
                progress.begun = true;
                Ok(Some(Outcome::Wait))
            }
            Err(e) => Ok(Some(Outcome::Error(e))),
        }
    }

    fn connect_outcome(&mut self, sock: SockId) -> Outcome {
        match self.host.stack.connect_outcome(self.host.now, sock, &mut self.host.store) {
            Ok(()) => Outcome::Value(0),
            Err(Errno::EINPROGRESS) => Outcome::Wait,
            Err(e) => Outcome::Error(e),
        }
    }

    pub(super) fn sys_name(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 3, 3)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let found = if c.call.name == "getsockname" {
            self.host.stack.local_addr(fd.sock)
        } else {
            self.host.stack.peer_addr(fd.sock)
        };
        match found {
            Ok(addr) => {
                self.check_address(c, 1, addr)?;
                Ok(Outcome::Value(0))
            }
            Err(e) => Ok(Outcome::Error(e)),
        }
    }

    pub(super) fn sys_shutdown(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 2, 2)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let how = match self.number(c, 1)? {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Ok(Outcome::Error(Errno::EINVAL)),
        };
        Ok(self.host.stack.shutdown(self.host.now, fd.sock, how, &mut self.host.store).into())
    }

    pub(super) fn sys_close(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 1, 1)?;
        let n = self.number(c, 0)?;
        let Some(fd) = self.fds.close(n) else { return Ok(Outcome::Error(Errno::EBADF)) };
        for other in self.fds.0.values_mut() {
            if let Fd::Epoll(e) = other {
                e.items.retain(|i| i.fd != n);
            }
        }
        match fd {
            Fd::Socket(s) => Ok(self.host.stack.close(self.host.now, s.sock, &mut self.host.store).into()),
            Fd::Epoll(_) => Ok(Outcome::Value(0)),
        }
    }

    pub(super) fn sys_fcntl(&mut self, c: &Call<'_>) -> Result<Outcome> {
        const O_RDWR: i64 = 2;
        const O_NONBLOCK: i64 = 0o4000;
        self.arity(c, 2, 3)?;
        let n = self.number(c, 0)?;
        let command = self.number(c, 1)?;
        let Some(fd) = self.fds.0.get_mut(&n) else { return Ok(Outcome::Error(Errno::EBADF)) };
        let Fd::Socket(fd) = fd else { return Ok(Outcome::Value(0)) };
        match command {
            // F_GETFD, F_SETFD: nothing here execs.
            1 | 2 => Ok(Outcome::Value(0)),
            3 => Ok(Outcome::Value(O_RDWR | if fd.nonblock { O_NONBLOCK } else { 0 })),
            4 => {
                let flags = self.number(c, 2)?;
                if let Some(fd) = self.fds.socket_mut(n) {
                    fd.nonblock = flags & O_NONBLOCK != 0;
                }
                Ok(Outcome::Value(0))
            }
            other => {
                Err(self
                    .unsupported(c.line, format!("fcntl command {other}: want F_GETFL, F_SETFL, F_GETFD or F_SETFD")))
            }
        }
    }
}
