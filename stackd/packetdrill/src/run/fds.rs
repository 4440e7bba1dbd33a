//! Descriptors by the numbers that the script gives them.

use super::epoll::Epoll;
use stackd_base::SockId;
use std::collections::BTreeMap;

/// A socket's descriptor.
#[derive(Clone, Debug)]
pub struct SocketFd {
    /// Which socket of the stack.
    pub sock: SockId,
    /// `SOCK_STREAM`.
    pub stream: bool,
    /// `O_NONBLOCK`.
    pub nonblock: bool,
    /// The connection of the script that it is.
    pub flow: Option<usize>,
}

/// What a descriptor refers to.
#[derive(Clone, Debug)]
pub enum Fd {
    /// A socket.
    Socket(SocketFd),
    /// An epoll instance.
    Epoll(Epoll),
}

/// Open descriptors.
#[derive(Clone, Debug, Default)]
pub struct Fds(pub BTreeMap<i64, Fd>, Hidden);

/// Sockets that are open still, whose numbers stand for later ones.
type Hidden = Vec<(i64, Fd)>;

impl Fds {
    /// Gives `n` to what was opened. Numbers are the script's own, so it may accept a second connection under a number that is not closed:
    /// the number means the second one until that is closed.
    pub fn open(&mut self, n: i64, fd: Fd) {
        if let Some(before) = self.0.insert(n, fd) {
            self.1.push((n, before));
        }
    }
    /// Takes away what `n` stands for.
    pub fn close(&mut self, n: i64) -> Option<Fd> {
        let gone = self.0.remove(&n)?;
        if let Some(i) = self.1.iter().rposition(|(number, _)| *number == n) {
            self.0.insert(n, self.1.remove(i).1);
        }
        Some(gone)
    }
    /// The socket behind a number.
    pub fn socket(&self, n: i64) -> Option<&SocketFd> {
        match self.0.get(&n) {
            Some(Fd::Socket(s)) => Some(s),
            _ => None,
        }
    }
    /// The socket behind a number, to be changed.
    pub fn socket_mut(&mut self, n: i64) -> Option<&mut SocketFd> {
        match self.0.get_mut(&n) {
            Some(Fd::Socket(s)) => Some(s),
            _ => None,
        }
    }
    /// The epoll instance behind a number.
    pub fn epoll_mut(&mut self, n: i64) -> Option<&mut Epoll> {
        match self.0.get_mut(&n) {
            Some(Fd::Epoll(e)) => Some(e),
            _ => None,
        }
    }
}
