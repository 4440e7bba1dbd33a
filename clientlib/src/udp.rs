//! Blocking UDP.

use crate::options::*;
use crate::session::Session;
use crate::socket::Sock;
use crate::tcp::{common, each_addr};
use stackd_shm::abi::{Opcode, ready};
use stackd_shm::fifo::Received;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Largest payload of a datagram.
const MAX_PAYLOAD: usize = 65507;

/// A UDP socket. As `std::net::UdpSocket`.
#[derive(Debug)]
pub struct UdpSocket {
    pub(crate) sock: Arc<Sock>,
}

common!(UdpSocket);

impl UdpSocket {
    /// Binds in the process's default session.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_in(&Session::open_default()?, addr)
    }
    /// Binds in `session`.
    pub fn bind_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        each_addr(addr, |addr| {
            let sock = Sock::open_datagram(session, addr)?;
            sock.bind(addr)?;
            Ok(Self { sock: Arc::new(sock) })
        })
    }
    /// Fixes the peer: `send` goes there, and only its datagrams come.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        each_addr(addr, |addr| self.sock.connect(addr, None))
    }
    /// Sends one datagram to `addr`.
    pub fn send_to(&self, data: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let to = addr.to_socket_addrs()?.next().ok_or(io::ErrorKind::InvalidInput)?;
        self.send_record(Some(to), data)
    }
    /// Sends one datagram to the connected peer.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_record(None, data)
    }
    fn send_record(&self, to: Option<SocketAddr>, data: &[u8]) -> io::Result<usize> {
        self.sock.blocking(ready::OUT, || self.try_send(to, data))
    }
    pub(crate) fn try_send(&self, to: Option<SocketAddr>, data: &[u8]) -> io::Result<usize> {
        if data.len() > MAX_PAYLOAD {
            return Err(io::Error::from_raw_os_error(90)); // EMSGSIZE
        }
        // One more than the length, so that an empty datagram is not "no room".
        self.sock.try_write(|tx| Ok(tx.send_datagram(to, data)?.map_or((0, false), |kick| (data.len() + 1, kick))))?;
        Ok(data.len())
    }
    /// Receives one datagram and its sender. What does not fit `buf` is lost.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_record(buf, false).map(|got| (got.len, got.from))
    }
    /// Receives one datagram.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_record(buf, false).map(|got| got.len)
    }
    /// As [`UdpSocket::recv_from`], leaving the datagram.
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_record(buf, true).map(|got| (got.len, got.from))
    }
    fn recv_record(&self, buf: &mut [u8], peek: bool) -> io::Result<Received> {
        self.sock.blocking(ready::IN, || self.try_recv(buf, peek))
    }
    pub(crate) fn try_recv(&self, buf: &mut [u8], peek: bool) -> io::Result<Received> {
        let mut got = None;
        self.sock.try_read(|rx| {
            let Some((received, kick)) = rx.recv_datagram(buf, peek)? else { return Ok((0, false)) };
            got = Some(received);
            Ok((1, kick))
        })?;
        // None: the socket was shut down for reading.
        got.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
    /// Another handle to the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { sock: Arc::clone(&self.sock) })
    }
    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetSockName)
    }
    /// The connected peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetPeerName)
    }
    /// SO_BROADCAST.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.sock.set_int(SOL_SOCKET, SO_BROADCAST, on.into())
    }
    /// SO_BROADCAST.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(self.sock.get_int(SOL_SOCKET, SO_BROADCAST)? != 0)
    }
    /// IP_ADD_MEMBERSHIP, on the interface that has this address of stackd's; unspecified: where the route to the group leads.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.sock.set(IPPROTO_IP, IP_ADD_MEMBERSHIP, &[group.octets(), interface.octets()].concat())
    }
    /// IP_DROP_MEMBERSHIP.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.sock.set(IPPROTO_IP, IP_DROP_MEMBERSHIP, &[group.octets(), interface.octets()].concat())
    }
    /// IPV6_ADD_MEMBERSHIP, on the interface with this number of stackd's; 0: where the route to the group leads.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let mreq = [&group.octets()[..], &interface.to_ne_bytes()].concat();
        self.sock.set(IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &mreq)
    }
    /// IPV6_DROP_MEMBERSHIP.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let mreq = [&group.octets()[..], &interface.to_ne_bytes()].concat();
        self.sock.set(IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &mreq)
    }
    /// UDP_SEGMENT: what is sent is cut into datagrams of this many bytes; 0: into none.
    pub fn set_segment_size(&self, bytes: u16) -> io::Result<()> {
        self.sock.set_int(IPPROTO_UDP, UDP_SEGMENT, bytes.into())
    }
    /// UDP_GRO: datagrams of one flow and one size that arrive together are received as one.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        self.sock.set_int(IPPROTO_UDP, UDP_GRO, on.into())
    }
}

const IPPROTO_UDP: i32 = 17;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_DROP_MEMBERSHIP: i32 = 36;
const IPV6_ADD_MEMBERSHIP: i32 = 20;
const IPV6_DROP_MEMBERSHIP: i32 = 21;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;
