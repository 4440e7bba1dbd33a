//! Asynchronous sockets on tokio.
//!
//! Each runtime that uses a session has one ring of it and one reactor task, which sleeps on the ring's completion eventfd and on the
//! attach socket. Short calls (options, names, accept when ready) are answered in under a microsecond by a daemon that is awake, and are
//! made in place; whatever waits for the network is awaited.

use crate::lane::Lane;
use crate::session::{Inner, Session};
use crate::socket::{Pending, Sock};
use crate::tcp::TcpConnect;
use ::tokio::io::unix::AsyncFd;
use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use stackd_shm::abi::{Arg, Opcode, ready};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// The ring of the current runtime, with its reactor running.
fn lane(session: &Session) -> io::Result<Arc<Lane>> {
    let handle = ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let mut lanes = crate::session::lock(&session.inner.async_lanes);
    if let Some(lane) = lanes.get(&handle.id()) {
        return Ok(Arc::clone(lane));
    }
    let (lane, shared) = match session.inner.take_reactor_lane()? {
        Some(lane) => (lane, false),
        // Reactors may share: each looks at everything once it wakes, and wakes whomever it finds an answer for.
        None => (lanes.values().next().cloned().ok_or_else(no_ring)?, true),
    };
    let events = register(lane.eventfd())?;
    let attach = register(&session.inner.attach)?;
    let reactor = Reactor { session: Arc::downgrade(&session.inner), lane: Arc::clone(&lane), id: handle.id(), shared };
    handle.spawn(reactor.run(events, attach));
    lanes.insert(handle.id(), Arc::clone(&lane));
    Ok(lane)
}

fn no_ring() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "the daemon gives this session no ring for a runtime: it needs two rings at least",
    )
}

#[expect(
    deprecated,
    reason = "safe for a type that owns its descriptor, as this one; the replacement needs an unsafe block to say so"
)]
fn register(fd: &Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(Arc::clone(fd), Interest::READABLE)
}

struct Reactor {
    session: Weak<Inner>,
    lane: Arc<Lane>,
    id: ::tokio::runtime::Id,
    shared: bool,
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // The runtime ends, or the session does.
        if let Some(session) = self.session.upgrade() {
            crate::session::lock(&session.async_lanes).remove(&self.id);
            if !self.shared {
                session.return_reactor_lane(Arc::clone(&self.lane));
            }
        }
    }
}

impl Reactor {
    async fn run(self, events: AsyncFd<Arc<OwnedFd>>, attach: AsyncFd<Arc<OwnedFd>>) {
        loop {
            match self.session.upgrade() {
                Some(session) if session.alive().is_ok() => {
                    if self.lane.prepare_sleep().is_err() {
                        return session.hung_up();
                    }
                }
                _ => return,
            }
            // Holds no session while it sleeps: the last socket's drop ends the session, and hangs up, which wakes us.
            ::tokio::select! {
                ready = events.readable() => {
                    let Ok(mut ready) = ready else { return };
                    ready.clear_ready();
                    if self.lane.woken().is_err() && let Some(session) = self.session.upgrade() {
                        return session.hung_up();
                    }
                }
                ready = attach.readable() => {
                    let Ok(mut ready) = ready else { return };
                    ready.clear_ready();
                    let Some(session) = self.session.upgrade() else { return };
                    if session.check_hangup().is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits until `mask` may hold; keeps its place in `pending` between polls.
fn poll_wait(sock: &Arc<Sock>, pending: &mut Option<Pending>, mask: u32, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if pending.is_none() {
        match lane(&sock.session).and_then(|lane| sock.poll_start(&lane, mask)) {
            Ok(started) => *pending = Some(started),
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
    let Some(waiting) = pending.as_mut() else { return Poll::Pending };
    let done = waiting.poll(cx);
    if done.is_ready() {
        *pending = None;
    }
    done.map_ok(drop)
}

/// Runs `attempt` until it does something else than WouldBlock.
fn poll_attempt<T>(
    sock: &Arc<Sock>,
    pending: &mut Option<Pending>,
    mask: u32,
    cx: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        if pending.is_none() {
            match attempt() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
        match poll_wait(sock, pending, mask, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// A TCP connection. [`TcpStream::get_ref`] has the options.
#[derive(Debug)]
pub struct TcpStream {
    inner: crate::TcpStream,
    reading: Option<Pending>,
    writing: Option<Pending>,
}

impl From<crate::TcpStream> for TcpStream {
    fn from(inner: crate::TcpStream) -> Self {
        Self { inner, reading: None, writing: None }
    }
}

impl TcpStream {
    /// Connects in the process's default session.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::connect_in(&Session::open_default()?, addr).await
    }
    /// Connects in `session`.
    pub async fn connect_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        TcpConnect::new(session).connect_async(addr).await
    }
    /// The blocking handle: options, names, TCP_INFO. Its `read` and `write` would block the runtime.
    pub fn get_ref(&self) -> &crate::TcpStream {
        &self.inner
    }
    /// Turns back into the blocking flavour.
    pub fn into_std(self) -> crate::TcpStream {
        self.inner
    }
    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }
    /// TCP_NODELAY.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.inner.set_nodelay(on)
    }
}

impl TcpConnect {
    /// As [`TcpConnect::connect`], awaiting the handshake. (A timeout is `tokio::time::timeout` around it.)
    pub async fn connect_async(&self, addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let mut last = None;
        for addr in addr.to_socket_addrs()?.collect::<Vec<_>>() {
            match self.connect_one(addr).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name resolved to no address")))
    }

    async fn connect_one(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let sock = self.open(addr)?;
        let lane = lane(&self.session)?;
        let ticket = lane.submit(&self.session.inner, sock.sqe(Opcode::Connect), &Arg::from_addr(addr))?;
        let mut pending = Pending::new(self.session.clone(), lane, ticket);
        poll_fn(|cx| pending.poll(cx)).await?;
        Ok(crate::TcpStream { sock: Arc::new(sock) }.into())
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, reading, writing: _ } = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let sock = &inner.sock;
        let done = poll_attempt(sock, reading, ready::IN | ready::RDHUP, cx, || {
            sock.try_read(|rx| rx.read(buf.initialize_unfilled()))
        });
        done.map_ok(|n| buf.advance(n))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, writing, reading: _ } = self.get_mut();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sock = &inner.sock;
        poll_attempt(sock, writing, ready::OUT, cx, || sock.try_write(|tx| tx.write(data)))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.shutdown(Shutdown::Write) {
            // The connection is gone already: nothing is left to finish.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

/// A TCP socket that listens.
#[derive(Debug)]
pub struct TcpListener {
    inner: crate::TcpListener,
}

impl From<crate::TcpListener> for TcpListener {
    fn from(inner: crate::TcpListener) -> Self {
        Self { inner }
    }
}

impl TcpListener {
    /// Listens in the process's default session.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_in(&Session::open_default()?, addr).await
    }
    /// Listens in `session`.
    pub async fn bind_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(crate::TcpListener::bind_in(session, addr)?.into())
    }
    /// The next connection. Cancel-safe: a connection is taken off the queue only when it is returned.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut pending = None;
        let sock = &self.inner.sock;
        let (stream, peer) =
            poll_fn(|cx| poll_attempt(sock, &mut pending, ready::IN, cx, || self.inner.try_accept())).await?;
        Ok((stream.into(), peer))
    }
    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
    /// The blocking handle: options.
    pub fn get_ref(&self) -> &crate::TcpListener {
        &self.inner
    }
}

/// A UDP socket. [`UdpSocket::get_ref`] has the options.
#[derive(Debug)]
pub struct UdpSocket {
    inner: crate::UdpSocket,
}

impl UdpSocket {
    /// Binds in `session`.
    pub async fn bind_in(session: &Session, addr: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { inner: crate::UdpSocket::bind_in(session, addr)? })
    }
    /// Sends one datagram.
    pub async fn send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        let mut pending = None;
        let sock = &self.inner.sock;
        poll_fn(|cx| poll_attempt(sock, &mut pending, ready::OUT, cx, || self.inner.try_send(Some(to), data))).await
    }
    /// Receives one datagram and its sender.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut pending = None;
        let sock = &self.inner.sock;
        let got =
            poll_fn(|cx| poll_attempt(sock, &mut pending, ready::IN, cx, || self.inner.try_recv(buf, false))).await?;
        Ok((got.len, got.from))
    }
    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
    /// The blocking handle.
    pub fn get_ref(&self) -> &crate::UdpSocket {
        &self.inner
    }
}
