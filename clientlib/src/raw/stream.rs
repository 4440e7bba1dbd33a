//! Sending and receiving on stream sockets, in the order of checks of Linux's `tcp_sendmsg` and `tcp_recvmsg`.

use super::{EAGAIN, ENOTCONN, EPIPE, Received, Repair, Socket, errno, msg};
use crate::lane::broken;
use crate::session::lock;
use crate::socket::Sock;
use stackd_shm::abi::{Arg, FLAG_FAST_OPEN, FLAG_NONBLOCK, FLAG_URGENT, Opcode, Sqe, ready};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// How much of a stream MSG_TRUNC throws away between two reports.
const DISCARD: usize = 1 << 20;

impl Socket {
    pub(super) fn send_stream(&self, data: &[u8], flags: i32, to: Option<SocketAddr>) -> io::Result<usize> {
        match self.sock.repair() {
            Some(Repair::NoQueue) => return Err(errno(super::EINVAL)),
            Some(Repair::Receive) => return self.fill(data),
            Some(Repair::Send) | None => {}
        }
        let sock = &*self.sock;
        let urgent = flags & msg::OOB != 0;
        let more = flags & msg::MORE != 0 && !urgent;
        let dontwait = sock.nonblocking() || flags & msg::DONTWAIT != 0;
        let deadline = deadline(sock, true);
        if flags & msg::FASTOPEN != 0 && sock.repair().is_none() {
            // RFC 7413, 4.2.1, as Linux's tcp_sendmsg_fastopen: it connects; with a cookie the data go with the SYN, without one behind the handshake.
            let wait = if dontwait { FLAG_NONBLOCK } else { 0 };
            sock.connect_with(Some(to.ok_or_else(|| errno(super::EINVAL))?), wait | FLAG_FAST_OPEN, deadline)?;
        }
        let mut done = 0;
        loop {
            let step = sock.write_step(&data[done..], more, urgent);
            match step {
                Ok(n) => done += n,
                // send(2): what was taken before an error is success; the error waits for the next call.
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
            if done == data.len() {
                sock.copied(flags, 1);
                return Ok(done);
            }
            if dontwait && done > 0 {
                sock.copied(flags, 1);
            }
            if dontwait {
                return if done > 0 { Ok(done) } else { Err(errno(EAGAIN)) };
            }
            match sock.wait_for(ready::OUT, 0, deadline) {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }

    pub(super) fn recv_stream(&self, buf: &mut [u8], flags: i32) -> io::Result<Received> {
        if flags & msg::OOB != 0 {
            return self.recv_urgent(buf, flags);
        }
        if flags & msg::ERRQUEUE != 0 {
            return Err(errno(EAGAIN));
        }
        let sock = &*self.sock;
        if sock.is_listening() {
            return Err(errno(ENOTCONN));
        }
        if let Some(repair) = sock.repair()
            && let Some(got) = self.recv_repairing(repair, buf, flags)?
        {
            return Ok(got);
        }
        let dontwait = sock.nonblocking() || flags & msg::DONTWAIT != 0;
        let peek = flags & msg::PEEK != 0;
        // socket(7), SO_PEEK_OFF: "Incoming peeks will copy data from the byte offset".
        let offset = if peek { sock.peek_offset() } else { None };
        // Linux's sock_rcvlowat: at least one byte, unless none is asked for.
        let least = if flags & msg::WAITALL != 0 { buf.len() } else { buf.len().min(sock.lowat()).max(1) };
        let deadline = deadline(sock, false);
        let mut done = 0;
        // An urgent byte that a peek passed over.
        let mut passed = 0;
        let finish = |done: usize| {
            sock.peeked(offset.is_some(), done, peek);
            Ok(Received { len: done, full: done, from: None, flags: 0 })
        };
        loop {
            // Before the data: RDHUP means that no more will come than what the next look sees.
            let state = sock.state();
            let skip = passed + skip_of(peek, offset, done);
            let passes = peek && lock(&sock.rx).passes_mark(skip);
            done += take(sock, &mut buf[done..], skip, peek, flags & msg::TRUNC != 0)?;
            passed += u64::from(passes && done > 0);
            if done > 0 && ends_at_mark(sock, passed + skip_of(peek, offset, done)) {
                return finish(done);
            }
            let any = !buf.is_empty() || lock(&sock.rx).available_at(skip) > 0;
            if any && (done >= least || done == buf.len()) {
                return finish(done);
            }
            if state & (ready::ERR | ready::HUP | ready::RDHUP) != 0 {
                if done > 0 {
                    return finish(done);
                }
                // Linux's SOCK_DONE: after a FIN the stream has ended well; what happened later concerns writers.
                if state & (ready::ERR | ready::FIN) == ready::ERR
                    && let Some(error) = sock.take_error()?
                {
                    return Err(error);
                }
                if state & ready::RDHUP != 0 {
                    return finish(0);
                }
                if state & ready::HUP != 0 {
                    return Err(errno(ENOTCONN));
                }
            }
            if dontwait {
                return if done > 0 { finish(done) } else { Err(errno(EAGAIN)) };
            }
            let more = if peek { done } else { 0 };
            match sock.wait_for(ready::IN | ready::RDHUP, offset.unwrap_or(0) as usize + more + 1, deadline) {
                Ok(()) => {}
                Err(_) if done > 0 => return finish(done),
                Err(e) => return Err(e),
            }
        }
    }
}

/// How far a peek is ahead of the stream.
fn skip_of(peek: bool, offset: Option<u64>, done: usize) -> u64 {
    if peek { offset.unwrap_or(0) + done as u64 } else { 0 }
}

/// Linux's tcp_recvmsg: "Are we at urgent data? Stop if we have read anything".
fn ends_at_mark(sock: &Sock, skip: u64) -> bool {
    lock(&sock.rx).at_mark(skip)
}

impl Socket {
    /// Linux's tcp_recv_urg.
    fn recv_urgent(&self, buf: &mut [u8], flags: i32) -> io::Result<Received> {
        let peek = u64::from(flags & msg::PEEK != 0);
        let reply = self.sock.call(Opcode::RecvUrgent, [peek, 0, 0, 0, 0], Arg::NONE)?;
        if reply.cqe.result == 0 {
            return Ok(Received::default());
        }
        let byte = lock(&self.sock.rx).byte_at(reply.cqe.args[0]).map_err(broken)?;
        let byte = byte.ok_or_else(|| errno(super::EINVAL))?;
        match buf.first_mut() {
            Some(first) => {
                if flags & msg::TRUNC == 0 {
                    *first = byte;
                }
                Ok(Received { len: 1, full: 1, from: None, flags: msg::OOB })
            }
            None => Ok(Received { flags: msg::OOB | msg::TRUNC, ..Received::default() }),
        }
    }
}

/// Copies out what is there (or throws it away).
fn take(sock: &Sock, buf: &mut [u8], skip: u64, peek: bool, discard: bool) -> io::Result<usize> {
    let mut rx = lock(&sock.rx);
    let (n, kick) = if peek {
        // MSG_TRUNC | MSG_PEEK copies nothing either, tcp(7): "received bytes are discarded".
        let n = if discard {
            usize::try_from(rx.available_at(skip)).unwrap_or(usize::MAX).min(buf.len())
        } else {
            rx.copy_at(skip, buf).map_err(broken)?
        };
        (n, false)
    } else if discard {
        let n = usize::try_from(rx.available()).unwrap_or(usize::MAX).min(buf.len()).min(DISCARD);
        (n, n > 0 && rx.consume(n))
    } else {
        rx.read(buf).map_err(broken)?
    };
    drop(rx);
    if kick {
        sock.kick()?;
    }
    Ok(n)
}

fn deadline(sock: &Sock, write: bool) -> Option<Instant> {
    sock.timeout(write).and_then(|t| Instant::now().checked_add(t))
}

impl Sock {
    /// Checks, then copies in what there is room for.
    fn write_step(&self, data: &[u8], more: bool, urgent: bool) -> io::Result<usize> {
        self.inner().alive()?;
        let state = self.state();
        if state & ready::ERR != 0
            && let Some(error) = self.take_error()?
        {
            return Err(error);
        }
        if self.is_write_shut() || self.is_listening() || state & ready::HUP != 0 {
            return Err(errno(EPIPE));
        }
        let mut tx = lock(&self.tx);
        let n = tx.space().min(data.len() as u64);
        if urgent && n > 0 {
            // Known to the stack before the bytes are, so that none of them leaves without its pointer.
            let args = [tx.head() + n, 0, 0, 0, 0];
            self.inner().call(Sqe { flags: FLAG_URGENT, args, ..self.sqe(Opcode::Consumed) }, Arg::NONE, None)?;
        }
        let (n, kick) = tx.write(&data[..n as usize]).map_err(broken)?;
        drop(tx);
        self.kick_after(kick, more)?;
        Ok(n)
    }
}
