//! Sending and receiving datagrams, one or many at a time, with their control messages.

use super::{EAGAIN, EOPNOTSUPP, Received, Socket, errno, msg};
use crate::lane::broken;
use crate::session::lock;
use crate::socket::Sock;
use stackd_shm::abi::{Arg, Opcode, ready};
use stackd_shm::fifo::MAX_CONTROL;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

const EMSGSIZE: i32 = 90;
const ENOBUFS: i32 = 105;
/// The length field of UDP, less its header: no datagram over any IP is longer.
const MAX_PAYLOAD: usize = 65_535 - 8;

/// A datagram for [`Socket::send_many`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Its bytes.
    pub data: &'a [u8],
    /// Control messages, as `sendmsg` takes them (cmsg(3)); at most 1024 bytes.
    pub control: &'a [u8],
    /// Where to; `None`: the connected peer.
    pub to: Option<SocketAddr>,
}

/// Room for a datagram in [`Socket::recv_many`], and what came.
#[derive(Debug)]
pub struct MessageBuf<'a> {
    /// Where its bytes go.
    pub data: &'a mut [u8],
    /// Its control messages, as `recvmsg` gives them.
    pub control: Vec<u8>,
    /// What was received into it.
    pub got: Received,
}

impl<'a> MessageBuf<'a> {
    /// Room for a datagram.
    pub fn new(data: &'a mut [u8]) -> Self {
        Self { data, control: Vec::new(), got: Received::default() }
    }
}

/// What MSG_MORE or UDP_CORK gathers for one datagram.
#[derive(Debug, Default)]
pub(crate) struct Corked {
    data: Vec<u8>,
    control: Vec<u8>,
    to: Option<SocketAddr>,
}

impl Socket {
    pub(super) fn send_datagram(
        &self,
        data: &[u8],
        control: &[u8],
        flags: i32,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let more = flags & msg::MORE != 0 || self.sock.is_corked();
        if more || lock(&self.sock.gathered).is_some() {
            return self.gather(data, control, flags, to, more);
        }
        self.send_many(&[Message { data, control, to }], flags).map(|_| data.len())
    }

    /// udp(7), UDP_CORK: "all data output on this socket is accumulated into a single datagram". The first one says where to.
    fn gather(&self, data: &[u8], control: &[u8], flags: i32, to: Option<SocketAddr>, more: bool) -> io::Result<usize> {
        let mut gathered = lock(&self.sock.gathered);
        let pending = gathered.get_or_insert_with(|| Corked { data: Vec::new(), control: control.to_vec(), to });
        if pending.data.len() + data.len() > MAX_PAYLOAD {
            return Err(errno(EMSGSIZE));
        }
        pending.data.extend_from_slice(data);
        if more {
            return Ok(data.len());
        }
        drop(gathered);
        self.uncork(flags)?;
        Ok(data.len())
    }

    /// Sends what was gathered.
    pub(super) fn uncork(&self, flags: i32) -> io::Result<()> {
        let Some(Corked { data, control, to }) = lock(&self.sock.gathered).take() else { return Ok(()) };
        self.send_many(&[Message { data: &data, control: &control, to }], flags & !msg::MORE).map(drop)
    }

    /// `sendmmsg(2)`: as many of `messages` as go out, in one operation on the ring; the first one that fails ends it, and is an error
    /// only if it is the first at all.
    pub fn send_many(&self, messages: &[Message<'_>], flags: i32) -> io::Result<usize> {
        if flags & msg::OOB != 0 || !self.sock.is_datagram() {
            return Err(errno(EOPNOTSUPP));
        }
        let sock = &*self.sock;
        let dontwait = sock.nonblocking() || flags & msg::DONTWAIT != 0;
        let deadline = sock.timeout(true).and_then(|t| Instant::now().checked_add(t));
        let mut done = 0;
        while done < messages.len() {
            match sock.send_batch(&messages[done..]) {
                Ok(Some(batch)) => {
                    done += batch.sent;
                    sock.copied(flags, batch.sent);
                    if batch.stopped {
                        break;
                    }
                }
                Ok(None) if dontwait => return if done > 0 { Ok(done) } else { Err(errno(EAGAIN)) },
                Ok(None) => sock.wait_for(ready::OUT, 0, deadline)?,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    pub(super) fn recv_datagram(&self, buf: &mut [u8], control: &mut Vec<u8>, flags: i32) -> io::Result<Received> {
        let sock = &*self.sock;
        let dontwait = sock.nonblocking() || flags & msg::DONTWAIT != 0;
        let deadline = sock.timeout(false).and_then(|t| Instant::now().checked_add(t));
        loop {
            if let Some(got) = sock.recv_step(buf, control, flags)? {
                return Ok(got);
            }
            // Linux's order: one who does not wait is told so even by a socket that was shut.
            if dontwait {
                return Err(errno(EAGAIN));
            }
            if sock.state() & ready::RDHUP != 0 {
                return Ok(Received::default());
            }
            sock.wait_for(ready::IN | ready::RDHUP, 0, deadline)?;
        }
    }

    /// `recvmmsg(2)`: datagrams that wait, at most one for each buffer. Waits for the first one only (as with `MSG_WAITFORONE`).
    pub fn recv_many(&self, buffers: &mut [MessageBuf<'_>], flags: i32) -> io::Result<usize> {
        if !self.sock.is_datagram() {
            return Err(errno(EOPNOTSUPP));
        }
        let mut done = 0;
        for buffer in buffers {
            let flags = if done > 0 { flags | msg::DONTWAIT } else { flags };
            match self.recv_datagram(buffer.data, &mut buffer.control, flags) {
                Ok(got) => buffer.got = got,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
            done += 1;
        }
        Ok(done)
    }
}

struct Batch {
    sent: usize,
    /// One failed, and so nobody tries the rest.
    stopped: bool,
}

impl Sock {
    /// Puts as many records into the FIFO as fit, and asks the stack what became of them. `None`: no room for the first.
    fn send_batch(&self, messages: &[Message<'_>]) -> io::Result<Option<Batch>> {
        self.inner().alive()?;
        let wrong = |m: &Message<'_>| match m {
            m if m.data.len() > MAX_PAYLOAD => Some(EMSGSIZE),
            m if m.control.len() > MAX_CONTROL => Some(ENOBUFS),
            _ => None,
        };
        if let Some(n) = messages.first().and_then(wrong) {
            return Err(errno(n));
        }
        // Held over the question: the answer counts what was published, which must be ours.
        let mut tx = lock(&self.tx);
        let start = tx.head();
        let mut put = 0;
        for message in messages.iter().take_while(|m| wrong(m).is_none()) {
            if tx.send_message(message.to, message.control, message.data).map_err(broken)?.is_none() {
                break;
            }
            put += 1;
        }
        if put == 0 {
            return Ok(None);
        }
        let reply = self.call(Opcode::Flush, [start, 0, 0, 0, 0], Arg::NONE)?;
        let sent = usize::try_from(reply.cqe.result).unwrap_or(0).min(put);
        let bad_next = messages.get(put).is_some_and(|m| wrong(m).is_some());
        Ok(Some(Batch { sent, stopped: sent < put || bad_next }))
    }

    fn recv_step(&self, buf: &mut [u8], control: &mut Vec<u8>, flags: i32) -> io::Result<Option<Received>> {
        let state = self.state();
        // Linux's __skb_try_recv_datagram: a pending error comes before the datagrams.
        if state & ready::ERR != 0
            && let Some(error) = self.take_error()?
        {
            return Err(error);
        }
        let peek = flags & msg::PEEK != 0;
        let skip = self.peek_offset().filter(|_| peek).map_or(0, |at| usize::try_from(at).unwrap_or(usize::MAX));
        let got = if skip > 0 {
            // The datagram's first bytes are seen already.
            let mut whole = vec![0; skip.saturating_add(buf.len()).min(MAX_PAYLOAD)];
            let got = lock(&self.rx).recv_message(&mut whole, control, true).map_err(broken)?;
            got.map(|(mut got, kick)| {
                let rest = whole[..got.len].get(skip..).unwrap_or(&[]);
                got.len = rest.len().min(buf.len());
                buf[..got.len].copy_from_slice(&rest[..got.len]);
                got.full = got.full.saturating_sub(skip);
                (got, kick)
            })
        } else {
            lock(&self.rx).recv_message(buf, control, peek).map_err(broken)?
        };
        if let Some((got, kick)) = got {
            if kick {
                self.kick()?;
            }
            self.peeked(true, if peek { got.len } else { got.full }, peek);
            let flags = if got.full > got.len { msg::TRUNC } else { 0 };
            return Ok(Some(Received { len: got.len, full: got.full, from: Some(got.from), flags }));
        }
        self.inner().alive()?;
        Ok(None)
    }

    /// Length of the next datagram, 0 if there is none.
    pub(super) fn next_datagram_len(&self) -> io::Result<usize> {
        let next = lock(&self.rx).recv_datagram(&mut [], true).map_err(broken)?;
        Ok(next.map_or(0, |(got, _)| got.full))
    }
}
