//! Two systems behind one set of calls: the kernel, and a stackd daemon.

use std::net::SocketAddr;

/// Linux's errno of a call that failed.
pub type Outcome<T> = Result<T, i32>;

/// A system that makes sockets.
pub trait Os {
    fn socket(&self, family: i32, kind: i32, protocol: i32) -> Outcome<Box<dyn Sock>>;
}

/// What a receive told.
#[derive(Clone, Debug, Default)]
pub struct Got {
    pub len: usize,
    pub from: Option<SocketAddr>,
    pub flags: i32,
    /// Control messages as they came.
    pub control: Vec<u8>,
}

/// A socket, closed when dropped.
pub trait Sock {
    fn bind(&self, addr: SocketAddr) -> Outcome<()>;
    /// `None`: AF_UNSPEC.
    fn connect(&self, addr: Option<SocketAddr>) -> Outcome<()>;
    fn listen(&self, backlog: i32) -> Outcome<()>;
    fn accept(&self, flags: i32) -> Outcome<(Box<dyn Sock>, SocketAddr)>;
    fn shutdown(&self, how: i32) -> Outcome<()>;
    /// `control`: control messages, for sendmsg(2).
    fn send(&self, data: &[u8], control: &[u8], flags: i32, to: Option<SocketAddr>) -> Outcome<usize>;
    fn recv(&self, buf: &mut [u8], flags: i32) -> Outcome<Got>;
    fn local(&self) -> Outcome<SocketAddr>;
    fn peer(&self) -> Outcome<SocketAddr>;
    fn set(&self, level: i32, name: i32, value: &[u8]) -> Outcome<()>;
    fn get(&self, level: i32, name: i32, max: usize) -> Outcome<Vec<u8>>;
    fn ioctl(&self, request: u32) -> Outcome<i32>;
    /// What poll(2) says at once of every bit.
    fn poll(&self) -> u32;
}
