//! Blocking TCP.

use crate::keys::{AoKey, Peers};
use crate::options::*;
use crate::session::Session;
use crate::socket::Sock;
use crate::tcp_info::TcpInfo;
use stackd_shm::abi::{Arg, FLAG_NONBLOCK, Opcode, Sqe, ready};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Backlog of `bind`: what std asks for.
const BACKLOG: i32 = 128;

/// A TCP connection. As `std::net::TcpStream`, plus what only this stack has.
///
/// Reads and writes work on `&TcpStream` too; [`TcpStream::try_clone`] gives another handle to the same connection.
#[derive(Debug)]
pub struct TcpStream {
    pub(crate) sock: Arc<Sock>,
}

/// A TCP socket that listens.
#[derive(Debug)]
pub struct TcpListener {
    pub(crate) sock: Arc<Sock>,
}

/// Tries `each` address until one works.
pub(crate) fn each_addr<T>(
    addr: impl ToSocketAddrs,
    mut each: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match each(addr) {
            Ok(done) => return Ok(done),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name resolved to no address")))
}

/// A connection being configured: options that must be set before the handshake.
#[derive(Clone, Debug)]
pub struct TcpConnect {
    pub(crate) session: Session,
    pub(crate) congestion: Option<String>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) recv_buffer: Option<usize>,
    fast_open: bool,
    md5: Vec<(Peers, Vec<u8>)>,
    ao: Vec<AoKey>,
    timeout: Option<Duration>,
}

impl TcpConnect {
    /// In this session.
    pub fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            congestion: None,
            local: None,
            send_buffer: None,
            recv_buffer: None,
            fast_open: false,
            md5: Vec::new(),
            ao: Vec::new(),
            timeout: None,
        }
    }
    /// Congestion control: `reno`, `cubic`, `bbr`, ... (TCP_CONGESTION).
    pub fn congestion(mut self, name: impl Into<String>) -> Self {
        self.congestion = Some(name.into());
        self
    }
    /// Local address and port (bind).
    pub fn local(mut self, addr: SocketAddr) -> Self {
        self.local = Some(addr);
        self
    }
    /// SO_SNDBUF: fixes the send buffer, which otherwise tunes itself.
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }
    /// SO_RCVBUF: fixes the receive buffer, and the window scale that is negotiated.
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.recv_buffer = Some(bytes);
        self
    }
    /// TCP Fast Open (RFC 7413; TCP_FASTOPEN_CONNECT): where the server's cookie is known, `connect` returns at once and the first write
    /// goes with the SYN; else the handshake brings a cookie for the next time. What was written may arrive twice, in two connections.
    pub fn fast_open(mut self, on: bool) -> Self {
        self.fast_open = on;
        self
    }
    /// TCP-MD5 (RFC 2385): signs every segment with this key, and believes only what is signed with it.
    pub fn md5_key(mut self, peers: impl Into<Peers>, key: &[u8]) -> Self {
        self.md5.push((peers.into(), key.to_vec()));
        self
    }
    /// TCP-AO (RFC 5925): likewise.
    pub fn ao_key(mut self, key: AoKey) -> Self {
        self.ao.push(key);
        self
    }
    /// How long the handshake may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
    /// Connects to the first address that answers.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each_addr(addr, |addr| {
            let deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
            if self.is_plain()
                && let Some(sock) = Sock::open_connected(&self.session, addr, deadline)?
            {
                return Ok(TcpStream { sock: Arc::new(sock) });
            }
            let sock = self.open(addr)?;
            sock.connect(addr, deadline)?;
            Ok(TcpStream { sock: Arc::new(sock) })
        })
    }
    /// Connects with Fast Open and sends `data`: with the SYN as far as it fits there and may go, the rest behind it (as `sendto` with
    /// MSG_FASTOPEN, but all of it).
    pub fn connect_with(&self, addr: impl ToSocketAddrs, data: &[u8]) -> io::Result<TcpStream> {
        let mut stream = self.clone().fast_open(true).connect(addr)?;
        stream.write_all(data)?;
        Ok(stream)
    }
    /// No option is to be set between socket and connect.
    fn is_plain(&self) -> bool {
        let Self { session: _, congestion, local, send_buffer, recv_buffer, fast_open, md5, ao, timeout: _ } = self;
        let buffers = send_buffer.is_some() || recv_buffer.is_some();
        congestion.is_none() && local.is_none() && !buffers && !fast_open && md5.is_empty() && ao.is_empty()
    }

    /// The socket with its options, not connected.
    pub(crate) fn open(&self, addr: SocketAddr) -> io::Result<Sock> {
        let Self { session, congestion, local, send_buffer, recv_buffer, fast_open, md5, ao, timeout: _ } = self;
        let sock = Sock::open_stream(session, addr)?;
        if let Some(name) = congestion {
            sock.set(IPPROTO_TCP, TCP_CONGESTION, name.as_bytes())?;
        }
        if let Some(bytes) = send_buffer {
            sock.set_size(SO_SNDBUF, *bytes)?;
        }
        if let Some(bytes) = recv_buffer {
            sock.set_size(SO_RCVBUF, *bytes)?;
        }
        for (peers, key) in md5 {
            sock.set_md5_key(*peers, key)?;
        }
        for key in ao {
            sock.add_ao_key(key)?;
        }
        if *fast_open {
            sock.set_int(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
        }
        if let Some(local) = local {
            sock.bind(*local)?;
        }
        Ok(sock)
    }
}

impl TcpStream {
    /// Connects in the process's default session.
    pub fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::connect_in(&Session::open_default()?, addr)
    }
    /// Connects in `session`.
    pub fn connect_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        TcpConnect::new(session).connect(addr)
    }
    /// Connects, or fails with TimedOut.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        TcpConnect::new(&Session::open_default()?).timeout(timeout).connect(addr)
    }
    /// Another handle; the connection closes with the last one.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { sock: Arc::clone(&self.sock) })
    }
    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetSockName)
    }
    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetPeerName)
    }
    /// Ends reading, writing (FIN after what was written) or both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.sock.shutdown(how)
    }
    /// Copies what was received without taking it.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.sock.blocking(ready::IN | ready::RDHUP, || self.sock.try_read(|rx| Ok((rx.peek_copy(buf)?, false))))
    }

    /// Reads in place: `f` sees the bytes in the receive FIFO (up to the end of a chunk; empty at the end of the stream) and says how
    /// many it took. No copy is made. `f` runs with the connection's read side locked.
    pub fn read_with<R>(&self, f: impl FnOnce(&[u8]) -> (usize, R)) -> io::Result<R> {
        let mut f = Some(f);
        let mut result = None;
        self.sock.blocking(ready::IN | ready::RDHUP, || {
            self.sock.try_read(|rx| {
                let bytes = rx.peek(usize::MAX)?;
                let Some(f) = f.take_if(|_| !bytes.is_empty()) else { return Ok((0, false)) };
                let seen = bytes.len();
                let (taken, value) = f(bytes);
                result = Some(value);
                // Taking nothing is a fine answer; what counts for the caller is that there was something.
                Ok((seen, taken > 0 && rx.consume(taken.min(seen))))
            })
        })?;
        match (result, f) {
            (Some(value), _) => Ok(value),
            (None, Some(f)) => Ok(f(&[]).1),
            (None, None) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes in place: `f` fills a part of the send FIFO (at most `max` bytes, up to the end of a chunk) and says how many bytes it
    /// wrote; these are sent. No copy is made. `f` runs with the connection's write side locked.
    pub fn write_with<R>(&self, max: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> io::Result<R> {
        let mut f = Some(f);
        let mut result = None;
        self.sock.blocking(ready::OUT, || {
            self.sock.try_write(|tx| {
                let room = tx.reserve(max)?;
                let Some(f) = f.take_if(|_| !room.is_empty()) else { return Ok((0, false)) };
                let had = room.len();
                let (filled, value) = f(room);
                result = Some(value);
                let filled = filled.min(had);
                Ok((had, filled > 0 && tx.commit(filled)))
            })
        })?;
        result.ok_or_else(|| io::ErrorKind::WriteZero.into())
    }

    /// TCP_NODELAY: send small segments at once.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.sock.set_int(IPPROTO_TCP, TCP_NODELAY, on.into())
    }
    /// TCP_NODELAY.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.sock.get_int(IPPROTO_TCP, TCP_NODELAY)? != 0)
    }
    /// TCP_CORK: hold partial segments back.
    pub fn set_cork(&self, on: bool) -> io::Result<()> {
        self.sock.set_int(IPPROTO_TCP, TCP_CORK, on.into())
    }
    /// TCP_QUICKACK: acknowledge at once.
    pub fn set_quickack(&self, on: bool) -> io::Result<()> {
        self.sock.set_int(IPPROTO_TCP, TCP_QUICKACK, on.into())
    }
    /// TCP_CONGESTION: `reno`, `cubic`, `bbr`, ...; also on a live connection.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        self.sock.set(IPPROTO_TCP, TCP_CONGESTION, name.as_bytes())
    }
    /// TCP_CONGESTION.
    pub fn congestion(&self) -> io::Result<String> {
        let bytes = self.sock.get(IPPROTO_TCP, TCP_CONGESTION, 16)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
    /// SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; `None` turns it off.
    pub fn set_keepalive(&self, probes: Option<(Duration, Duration, u32)>) -> io::Result<()> {
        if let Some((idle, interval, count)) = probes {
            self.sock.set_seconds(TCP_KEEPIDLE, idle)?;
            self.sock.set_seconds(TCP_KEEPINTVL, interval)?;
            self.sock.set_int(IPPROTO_TCP, TCP_KEEPCNT, i32::try_from(count).unwrap_or(i32::MAX))?;
        }
        self.sock.set_int(SOL_SOCKET, SO_KEEPALIVE, probes.is_some().into())
    }
    /// SO_KEEPALIVE.
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.sock.get_int(SOL_SOCKET, SO_KEEPALIVE)? != 0)
    }
    /// SO_LINGER.
    pub fn set_linger(&self, linger: Linger) -> io::Result<()> {
        self.sock.set_linger(linger)
    }
    /// SO_LINGER.
    pub fn linger(&self) -> io::Result<Linger> {
        self.sock.linger()
    }
    /// TCP_USER_TIMEOUT: how long unacknowledged data may wait before the connection fails; zero: as the system says.
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.sock.set_int(IPPROTO_TCP, TCP_USER_TIMEOUT, i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
    }
    /// SO_SNDBUF. As on Linux the value read back is twice what was set.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.sock.set_size(SO_SNDBUF, bytes)
    }
    /// SO_SNDBUF.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        self.sock.get_size(SO_SNDBUF)
    }
    /// SO_RCVBUF.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.sock.set_size(SO_RCVBUF, bytes)
    }
    /// SO_RCVBUF.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        self.sock.get_size(SO_RCVBUF)
    }
    /// SO_MAX_PACING_RATE: bytes per second; `u64::MAX`: no limit.
    pub fn set_max_pacing_rate(&self, bytes_per_second: u64) -> io::Result<()> {
        self.sock.set(SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_second.to_ne_bytes())
    }
    /// TCP_NOTSENT_LOWAT: writable only while fewer bytes than this wait to be sent.
    pub fn set_notsent_lowat(&self, bytes: u32) -> io::Result<()> {
        self.sock.set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes.to_ne_bytes())
    }
    /// TCP_INFO.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        Ok(TcpInfo::from_bytes(&self.sock.get(IPPROTO_TCP, TCP_INFO, 512)?))
    }
    /// Any option, in Linux's layout.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        self.sock.set(level, name, value)
    }
    /// Any option, in Linux's layout, at most 512 bytes.
    pub fn option(&self, level: i32, name: i32) -> io::Result<Vec<u8>> {
        self.sock.get(level, name, 512)
    }
    /// Bytes the peer acknowledged: one load.
    pub fn acknowledged(&self) -> u64 {
        crate::session::lock(&self.sock.tx).released()
    }
}

macro_rules! common {
    ($name:ident) => {
        impl $name {
            /// Makes calls return WouldBlock instead of waiting.
            pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
                self.sock.set_nonblocking(on);
                Ok(())
            }
            /// SO_RCVTIMEO: a read that takes longer fails with WouldBlock. Zero is refused, as in std.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.sock.set_timeout(false, timeout)
            }
            /// SO_RCVTIMEO.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.sock.timeout(false))
            }
            /// SO_SNDTIMEO: a write that takes longer fails with WouldBlock.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.sock.set_timeout(true, timeout)
            }
            /// SO_SNDTIMEO.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.sock.timeout(true))
            }
            /// IP_TTL, or the hop limit of IPv6.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                self.sock.set_ttl(ttl)
            }
            /// IP_TTL, or the hop limit of IPv6.
            pub fn ttl(&self) -> io::Result<u32> {
                self.sock.ttl()
            }
            /// SO_ERROR: the pending error, cleared.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.sock.take_error()
            }
        }
    };
}
pub(crate) use common;
common!(TcpStream);
common!(TcpListener);

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.sock.blocking(ready::IN | ready::RDHUP, || self.sock.try_read(|rx| rx.read(buf)))
    }
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|b| b.is_empty()) {
            return Ok(0);
        }
        self.sock.blocking(ready::IN | ready::RDHUP, || {
            self.sock.try_read(|rx| {
                let (mut total, mut kick) = (0, false);
                for buf in bufs.iter_mut() {
                    let (n, k) = rx.read(buf)?;
                    total += n;
                    kick |= k;
                    if n < buf.len() {
                        break;
                    }
                }
                Ok((total, kick))
            })
        })
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.sock.blocking(ready::OUT, || self.sock.try_write(|tx| tx.write(buf)))
    }
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|b| b.is_empty()) {
            return Ok(0);
        }
        self.sock.blocking(ready::OUT, || {
            self.sock.try_write(|tx| {
                let (mut total, mut kick) = (0, false);
                for buf in bufs {
                    let (n, k) = tx.write(buf)?;
                    total += n;
                    kick |= k;
                    if n < buf.len() {
                        break;
                    }
                }
                Ok((total, kick))
            })
        })
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TcpListener {
    /// Listens in the process's default session.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_in(&Session::open_default()?, addr)
    }
    /// Listens in `session`. SO_REUSEADDR is set, as std does.
    pub fn bind_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_with(session, addr, BACKLOG, false)
    }
    /// Listens with a backlog of choice; `reuse_port`: several listeners share the port (SO_REUSEPORT).
    pub fn bind_with(session: &Session, addr: impl ToSocketAddrs, backlog: i32, reuse_port: bool) -> io::Result<Self> {
        each_addr(addr, |addr| {
            let sock = Sock::open_stream(session, addr)?;
            sock.set_int(SOL_SOCKET, SO_REUSEADDR, 1)?;
            if reuse_port {
                sock.set_int(SOL_SOCKET, SO_REUSEPORT, 1)?;
            }
            sock.bind(addr)?;
            sock.listen(backlog)?;
            Ok(Self { sock: Arc::new(sock) })
        })
    }
    /// The next connection.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.sock.blocking(ready::IN, || self.try_accept())
    }
    /// A connection if one waits, else WouldBlock.
    pub(crate) fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let sqe = Sqe { flags: FLAG_NONBLOCK, ..self.sock.sqe(Opcode::Accept) };
        let reply = self.sock.inner().call(sqe, Arg::NONE, None)?;
        let sock = self.sock.adopt_child(reply.cqe.result as u32)?;
        let peer = reply.arg().addr().map_err(crate::lane::broken)?;
        Ok((TcpStream { sock: Arc::new(sock) }, peer))
    }
    /// Connections one after the other, for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
    /// Another handle to the same listener.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { sock: Arc::clone(&self.sock) })
    }
    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sock.name(Opcode::GetSockName)
    }
    /// Any option, in Linux's layout: accepted connections inherit it.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        self.sock.set(level, name, value)
    }
    /// TCP_FASTOPEN: takes data with SYNs, of at most this many clients that did not finish their handshakes; 0: none.
    pub fn set_fast_open(&self, queue: u32) -> io::Result<()> {
        self.sock.set_int(IPPROTO_TCP, TCP_FASTOPEN, i32::try_from(queue).unwrap_or(i32::MAX))
    }
    /// TCP-MD5 (RFC 2385): connections of these peers must be signed with this key; empty: they need not any more.
    pub fn set_md5_key(&self, peers: impl Into<Peers>, key: &[u8]) -> io::Result<()> {
        self.sock.set_md5_key(peers.into(), key)
    }
    /// TCP-AO (RFC 5925): likewise.
    pub fn add_ao_key(&self, key: &AoKey) -> io::Result<()> {
        self.sock.add_ao_key(key)
    }
    /// TCP_CONGESTION of connections that will be accepted.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        self.sock.set(IPPROTO_TCP, TCP_CONGESTION, name.as_bytes())
    }
}

/// See [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}
