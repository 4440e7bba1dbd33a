//! The error queue of a socket (`IP_RECVERR`, `MSG_ERRQUEUE`): what Linux calls `struct sock_extended_err`.

use crate::socket::ancillary::{Writer, sockaddr};
use crate::socket::opts::name;
use stackd_base::Errno;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Errors kept; beyond that they are lost, as Linux's are when `SO_RCVBUF` is full.
const CAPACITY: usize = 128;

/// Where an error comes from (`ee_origin`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Origin {
    /// This stack.
    Local = 1,
    /// ICMP.
    Icmp = 2,
    /// ICMPv6.
    Icmp6 = 3,
    /// A timestamp of a sent packet.
    Timestamping = 4,
    /// The end of a zero-copy send.
    ZeroCopy = 5,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuedError {
    /// `ee_errno`; 0 where nothing failed.
    pub errno: i32,
    /// `ee_origin`.
    pub origin: Origin,
    /// `ee_type`: ICMP's.
    pub kind: u8,
    /// `ee_code`: ICMP's.
    pub code: u8,
    /// `ee_info`: the MTU of `EMSGSIZE`.
    pub info: u32,
    /// `ee_data`.
    pub data: u32,
    /// Who sent the ICMP message.
    pub offender: Option<SocketAddr>,
    /// Where the packet went: `msg_name`.
    pub to: Option<SocketAddr>,
    /// What of the packet's payload is known.
    pub payload: Vec<u8>,
    /// The socket is an IPv6 one: the control message is `IPV6_RECVERR`.
    pub v6: bool,
}

impl QueuedError {
    /// An error of this stack about a datagram that was not sent: `EMSGSIZE` and the MTU that would fit.
    pub fn local(errno: Errno, info: u32, to: SocketAddr, v6: bool) -> Self {
        Self {
            errno: errno as i32,
            origin: Origin::Local,
            kind: 0,
            code: 0,
            info,
            data: 0,
            offender: None,
            to: Some(to),
            payload: Vec::new(),
            v6,
        }
    }

    /// `struct sock_extended_err`, and the offender behind it, as one control message.
    pub fn control(&self) -> Vec<u8> {
        let mut e = Vec::with_capacity(44);
        e.extend_from_slice(&self.errno.to_ne_bytes());
        e.extend_from_slice(&[self.origin as u8, self.kind, self.code, 0]);
        e.extend_from_slice(&self.info.to_ne_bytes());
        e.extend_from_slice(&self.data.to_ne_bytes());
        match self.offender {
            Some(addr) => e.extend_from_slice(&sockaddr(addr)),
            // ip(7): "If ... the address is not known, ... sa_family is set to AF_UNSPEC".
            None => e.resize(e.len() + if self.v6 { 28 } else { 16 }, 0),
        }
        let (level, kind) =
            if self.v6 { (name::SOL_IPV6, name::IPV6_RECVERR) } else { (name::SOL_IP, name::IP_RECVERR) };
        let mut w = Writer::default();
        w.put(level, kind, &e);
        w.finish()
    }
}

/// The entries of one socket, oldest first.
#[derive(Debug, Default)]
pub struct ErrorQueue(VecDeque<QueuedError>);

impl ErrorQueue {
    /// Keeps one more. False: the queue is full.
    pub fn push(&mut self, error: QueuedError) -> bool {
        let fits = self.0.len() < CAPACITY;
        if fits {
            self.0.push_back(error);
        }
        fits
    }
    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<QueuedError> {
        self.0.pop_front()
    }
    /// The oldest.
    pub fn first(&self) -> Option<&QueuedError> {
        self.0.front()
    }
    /// The newest, to be merged with (adjacent zero-copy notifications).
    pub fn last_mut(&mut self) -> Option<&mut QueuedError> {
        self.0.back_mut()
    }
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_linux_does() {
        let to = SocketAddr::from(([10, 0, 0, 2], 53));
        let e = QueuedError {
            origin: Origin::Icmp,
            kind: 3,
            code: 3,
            offender: Some(SocketAddr::from(([10, 0, 0, 9], 0))),
            ..QueuedError::local(Errno::ECONNREFUSED, 0, to, false)
        };
        let bytes = e.control();
        // struct cmsghdr: length 16 + 16 + 16, SOL_IP, IP_RECVERR.
        assert_eq!(&bytes[..16], &[48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0]);
        assert_eq!(&bytes[16..24], &[111, 0, 0, 0, 2, 3, 3, 0]);
        assert_eq!(&bytes[32..40], &[2, 0, 0, 0, 10, 0, 0, 9]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut q = ErrorQueue::default();
        let e = QueuedError::local(Errno::EMSGSIZE, 1400, SocketAddr::from(([10, 0, 0, 2], 53)), false);
        assert_eq!((0..2 * CAPACITY).filter(|_| q.push(e.clone())).count(), CAPACITY);
    }
}
