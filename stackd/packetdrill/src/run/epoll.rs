//! epoll(7) over the stack's readiness: level-triggered, edge-triggered, one-shot.

use stackd_base::SockId;
use stackd_netstack::SockEvent;

/// `EPOLLET`.
pub const EDGE: u32 = 1 << 31;
/// `EPOLLONESHOT`.
pub const ONE_SHOT: u32 = 1 << 30;
/// Reported without being asked for.
const ALWAYS: u32 = 0x8 | 0x10;

/// A socket that is watched.
#[derive(Clone, Debug)]
pub struct Item {
    /// The script's number.
    pub fd: i64,
    /// The socket.
    pub sock: SockId,
    /// What is asked for, flags included.
    pub events: u32,
    /// What is given back.
    pub data: u64,
    /// Something happened since it was last reported.
    fresh: u32,
    /// One-shot, and reported.
    spent: bool,
}

/// An instance.
#[derive(Clone, Debug, Default)]
pub struct Epoll {
    /// What it watches.
    pub items: Vec<Item>,
}

impl Epoll {
    /// `EPOLL_CTL_ADD`, or `MOD`, which reports afresh what holds.
    pub fn set(&mut self, fd: i64, sock: SockId, events: u32, data: u64, ready: u32) {
        let item = Item { fd, sock, events, data, fresh: ready, spent: false };
        match self.items.iter_mut().find(|i| i.fd == fd) {
            Some(i) => *i = item,
            None => self.items.push(item),
        }
    }

    /// The stack says that something changed.
    pub fn note(&mut self, event: &SockEvent) {
        for i in self.items.iter_mut().filter(|i| i.sock == event.sock) {
            i.fresh |= event.edges.0;
        }
    }

    /// What `epoll_wait` returns: events and data.
    pub fn take(&mut self, most: usize, ready: impl Fn(SockId) -> u32) -> Vec<(u32, u64)> {
        let mut out = Vec::new();
        for i in &mut self.items {
            if out.len() == most {
                break;
            }
            let asked = i.events & !(EDGE | ONE_SHOT) | ALWAYS;
            let now = ready(i.sock) & asked;
            // Edge-triggered: something asked for has to have happened since.
            let due = if i.events & EDGE == 0 { now != 0 } else { now != 0 && i.fresh & asked != 0 };
            if !due || i.spent {
                continue;
            }
            i.fresh = 0;
            i.spent = i.events & ONE_SHOT != 0;
            out.push((now, i.data));
        }
        out
    }
}
