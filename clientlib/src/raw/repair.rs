//! `TCP_REPAIR`: what sending and receiving mean while a connection is under repair (Linux's `tcp_sendmsg` and `tcp_recvmsg`).

use super::{EINVAL, Received, Socket, errno, msg};
use crate::lane::broken;
use crate::session::lock;
use stackd_shm::abi::{ARG_BYTES, Arg, Opcode};
use std::io;

pub(crate) const TCP_REPAIR: i32 = 19;
pub(crate) const TCP_REPAIR_QUEUE: i32 = 20;
const EPERM: i32 = 1;

/// Under repair, by the queue that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Repair {
    NoQueue = 1,
    Receive = 2,
    Send = 3,
}

impl Repair {
    pub(crate) fn from_raw(n: u8) -> Option<Self> {
        [Self::NoQueue, Self::Receive, Self::Send].into_iter().find(|r| *r as u8 == n)
    }

    /// After one of the two options was set.
    pub(crate) fn after(before: Option<Self>, name: i32, value: i32) -> Option<Self> {
        match (name, value) {
            (TCP_REPAIR, 1) => Some(Self::NoQueue),
            (TCP_REPAIR, _) => None,
            (_, 0) => before.map(|_| Self::NoQueue),
            (_, 1) => before.map(|_| Self::Receive),
            (_, 2) => before.map(|_| Self::Send),
            _ => before,
        }
    }
}

impl Socket {
    /// To the end of the receive queue, as if it had arrived.
    pub(super) fn fill(&self, data: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        for piece in data.chunks(ARG_BYTES) {
            let arg = Arg::from_bytes(piece).unwrap_or_default();
            match self.sock.call(Opcode::RepairFill, [0; 5], &arg) {
                Ok(reply) => done += usize::try_from(reply.cqe.result).unwrap_or(0),
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
            if done % ARG_BYTES != 0 {
                break;
            }
        }
        Ok(done)
    }

    /// `None`: the receive queue is looked at as ever.
    pub(super) fn recv_repairing(&self, repair: Repair, buf: &mut [u8], flags: i32) -> io::Result<Option<Received>> {
        if flags & msg::PEEK == 0 {
            return Err(errno(EPERM));
        }
        match repair {
            Repair::NoQueue => Err(errno(EINVAL)),
            Repair::Receive => Ok(None),
            Repair::Send => {
                let len = lock(&self.sock.tx).unacked(0, buf).map_err(broken)?;
                Ok(Some(Received { len, full: len, from: None, flags: 0 }))
            }
        }
    }
}
