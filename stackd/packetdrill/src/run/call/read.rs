//! Calls that read.

use super::super::Runner;
use super::super::fds::SocketFd;
use super::super::inject::rx_byte;
use super::args::{faulty, field};
use super::{Call, Outcome, Progress};
use crate::ast::{Expr, Field};
use crate::error::Result;
use stackd_base::{Errno, SockId};
use stackd_netstack::Readiness;

const MSG_OOB: i64 = 0x1;
const MSG_PEEK: i64 = 0x2;
const MSG_TRUNC: i64 = 0x20;
const SO_OOBINLINE: i32 = 10;
const MSG_WAITALL: i64 = 0x100;
const MSG_DONTWAIT: i64 = 0x40;
const MSG_NOSIGNAL: i64 = 0x4000;

/// What a call asks for.
struct Want<'a> {
    len: usize,
    flags: i64,
    /// What the bytes should be.
    buffers: Vec<(&'a Expr, usize)>,
    /// Of `recvmsg`.
    header: Option<&'a [Field]>,
}

impl Runner<'_> {
    pub(super) fn sys_read(&mut self, c: &Call<'_>, progress: &mut Progress) -> Result<Outcome> {
        let want = self.read_args(c)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let unknown = want.flags & !(MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL);
        if unknown != 0 {
            return Err(self.unsupported(c.line, format!("{} with flags {unknown:#x}", c.call.name)));
        }
        if fd.stream && want.flags & MSG_OOB != 0 {
            return Ok(self.read_urgent(fd.sock));
        }
        if fd.stream { self.read_stream(c, &fd, &want, progress) } else { self.read_datagram(c, &fd, &want, progress) }
    }

    fn read_args<'a>(&self, c: &Call<'a>) -> Result<Want<'a>> {
        let call = c.call;
        let n = |i| self.number(c, i);
        let buffer = |i: usize| call.args.get(i).unwrap_or(&Expr::Ellipsis);
        Ok(match call.name.as_str() {
            "read" => {
                self.arity(c, 3, 3)?;
                let len = n(2)?.max(0) as usize;
                Want { len, flags: 0, buffers: vec![(buffer(1), len)], header: None }
            }
            "recv" => {
                self.arity(c, 4, 4)?;
                let len = n(2)?.max(0) as usize;
                Want { len, flags: n(3)?, buffers: vec![(buffer(1), len)], header: None }
            }
            "recvfrom" => {
                self.arity(c, 6, 6)?;
                let len = n(2)?.max(0) as usize;
                Want { len, flags: n(3)?, buffers: vec![(buffer(1), len)], header: None }
            }
            "readv" => {
                self.arity(c, 3, 3)?;
                let buffers = self.iovec(c, buffer(1))?;
                Want { len: buffers.iter().map(|b| b.1).sum(), flags: 0, buffers, header: None }
            }
            _ => {
                self.arity(c, 3, 3)?;
                let Expr::Struct(fields) = buffer(1) else {
                    return Err(self
                        .unsupported(c.line, format!("message header {}: want {{msg_name(...)=..., …}}", buffer(1))));
                };
                let buffers = match field(fields, "msg_iov") {
                    Some(f) => self.iovec(c, &f.value)?,
                    None => Vec::new(),
                };
                Want { len: buffers.iter().map(|b| b.1).sum(), flags: n(2)?, buffers, header: Some(fields) }
            }
        })
    }

    /// `MSG_OOB`: the urgent byte, once.
    fn read_urgent(&mut self, sock: SockId) -> Outcome {
        let inline = self.int_option(sock, 1, SO_OOBINLINE) == Ok(1);
        let seen = self.streams.entry(sock).or_default().urgent_read;
        match self.host.stack.urgent_mark(sock) {
            // recv(2) of Linux: "Yes this is right !": EINVAL also when it was read already.
            Some((at, _)) if inline || seen == Some(at) => Outcome::Error(Errno::EINVAL),
            Some((_, false)) => Outcome::Error(Errno::EAGAIN),
            Some((at, true)) => {
                self.streams.entry(sock).or_default().urgent_read = Some(at);
                Outcome::Value(1)
            }
            None => Outcome::Error(Errno::EINVAL),
        }
    }

    /// How far a read may go: reads stop in front of the urgent byte. Without `SO_OOBINLINE` that byte is no part of the stream.
    fn up_to_mark(&mut self, c: &Call<'_>, sock: SockId) -> Result<usize> {
        let Some((mark, here)) = self.host.stack.urgent_mark(sock) else { return Ok(usize::MAX) };
        let at = self.streams.entry(sock).or_default().read as u64;
        if mark > at {
            return Ok((mark - at) as usize);
        }
        let Some(fifo) = self.host.stack.fifo(sock).filter(|_| here && mark == at) else { return Ok(usize::MAX) };
        if self.int_option(sock, 1, SO_OOBINLINE) != Ok(1) {
            let (tail, skipped) = self.host.store.read(fifo, 1);
            if let Err(e) = self.host.stack.consumed(self.host.now, sock, tail, &mut self.host.store) {
                return Err(self
                    .mismatch(c.line, format!("{}: the stack refuses that the urgent byte is left out: {e}", c.call)));
            }
            self.streams.entry(sock).or_default().read += skipped.len();
        }
        Ok(usize::MAX)
    }

    fn read_stream(
        &mut self,
        c: &Call<'_>,
        fd: &SocketFd,
        want: &Want<'_>,
        progress: &mut Progress,
    ) -> Result<Outcome> {
        let sock = fd.sock;
        let waits = self.may_wait(fd, want.flags, progress);
        let ready = self.host.stack.readiness(sock);
        let ended = ready.intersects(Readiness::RDHUP | Readiness::HUP | Readiness::ERR);
        let fifo = self.host.stack.fifo(sock);
        let most = self.up_to_mark(c, sock)?;
        let there = fifo.map_or(0, |f| self.host.store.readable(f)).min(most);
        // SO_RCVLOWAT, or all of it with MSG_WAITALL.
        let target = if want.flags & MSG_WAITALL != 0 { want.len } else { self.low_water(sock).min(want.len) };
        if there + progress.bytes < target.max(1) && !ended && want.len > 0 && (waits || there == 0) {
            if self.host.stack.peer_addr(sock).is_err() && !ready.contains(Readiness::OUT) && fifo.is_none() {
                return Ok(Outcome::Error(Errno::ENOTCONN));
            }
            if waits {
                return Ok(Outcome::Wait);
            }
            return Ok(Outcome::Error(Errno::EAGAIN));
        }
        if there == 0 && want.len > 0 {
            if let Some(e) = self.host.stack.take_error(sock) {
                return Ok(Outcome::Error(e));
            }
            let unconnected = fifo.is_none() || self.never_connected(sock);
            return Ok(if unconnected { Outcome::Error(Errno::ENOTCONN) } else { Outcome::Value(0) });
        }
        let Some(fifo) = fifo else { return Ok(Outcome::Value(0)) };
        if faulty(&want.buffers) {
            return Ok(Outcome::Error(Errno::EFAULT));
        }
        let from = self.streams.entry(sock).or_default().read;
        let bytes = if want.flags & MSG_PEEK != 0 {
            self.host.store.peek(fifo, want.len.min(most))
        } else {
            let (tail, bytes) = self.host.store.read(fifo, want.len.min(most));
            if !bytes.is_empty()
                && let Err(e) = self.host.stack.consumed(self.host.now, sock, tail, &mut self.host.store)
            {
                return Err(
                    self.mismatch(c.line, format!("{}: the stack refuses that bytes are consumed: {e}", c.call))
                );
            }
            self.streams.entry(sock).or_default().read += bytes.len();
            bytes
        };
        self.check_bytes(c, want, from, &bytes)?;
        self.check_header(c, fd, want, bytes.len())?;
        Ok(Outcome::Value(bytes.len() as i64))
    }

    fn low_water(&mut self, sock: SockId) -> usize {
        const SO_RCVLOWAT: i32 = 18;
        self.int_option(sock, 1, SO_RCVLOWAT).map_or(1, |n| n.max(1) as usize)
    }

    /// An `int` option of a socket.
    pub(super) fn int_option(&mut self, sock: SockId, level: i32, option: i32) -> Result<i32, Errno> {
        let mut out = [0; 4];
        self.host.stack.get_option(self.host.now, sock, level, option, &mut out).map(|_| i32::from_ne_bytes(out))
    }

    fn never_connected(&self, sock: SockId) -> bool {
        let flow = self.flows.iter().find(|f| f.sock == Some(sock));
        flow.is_some_and(|f| matches!(f.stage, super::super::flow::Stage::New | super::super::flow::Stage::Listening))
    }

    /// Received bytes are those that the peer sent, and those that the script names.
    fn check_bytes(&self, c: &Call<'_>, want: &Want<'_>, from: usize, bytes: &[u8]) -> Result<()> {
        if let Some(n) = bytes.iter().enumerate().position(|(n, &b)| b != rx_byte(from + n)) {
            let text = format!("{}: byte {} of the stream is not what the peer sent", c.call, from + n);
            return Err(self.mismatch(c.line, text));
        }
        let mut rest = bytes;
        for (buffer, len) in &want.buffers {
            let (part, more) = rest.split_at(rest.len().min(*len));
            rest = more;
            if let Expr::Str(s) = buffer {
                self.check_out(c, "the data", s.escape_ascii(), part.escape_ascii(), s == part)?;
            }
        }
        Ok(())
    }

    /// What `recvmsg` put into its header.
    fn check_header(&mut self, c: &Call<'_>, fd: &SocketFd, want: &Want<'_>, _len: usize) -> Result<()> {
        const TCP_INQ: i32 = 36;
        let Some(fields) = want.header else { return Ok(()) };
        if let Some(f) = field(fields, "msg_flags")
            && f.value != Expr::Ellipsis
        {
            let wanted = self.evaluated(c, &f.value)?;
            self.check_out(c, "msg_flags", format!("{wanted:#x}"), "0", wanted == 0)?;
        }
        let Some(control) = field(fields, "msg_control") else { return Ok(()) };
        let mut there: Vec<(i64, i64, i64)> = Vec::new();
        if fd.stream && self.int_option(fd.sock, 6, TCP_INQ) == Ok(1) {
            let left = self.host.stack.fifo(fd.sock).map_or(0, |f| self.host.store.readable(f));
            // As Linux (`tcp_inq_hint`): the peer's FIN counts, for 0 would say that no read is worth while.
            let ended = self.host.stack.readiness(fd.sock).contains(Readiness::RDHUP);
            there.push((6, TCP_INQ.into(), (left + usize::from(ended)) as i64));
        }
        let Expr::Array(items) = &control.value else {
            return Err(self.unsupported(c.line, format!("msg_control {}", control.value)));
        };
        let mut got = there.into_iter();
        for item in items {
            let Expr::Struct(m) = item else { return Err(self.unsupported(c.line, format!("control message {item}"))) };
            let value = |name: &str| match field(m, name) {
                Some(f) => self.evaluated(c, &f.value),
                None => Err(self.unsupported(c.line, format!("a control message without {name}"))),
            };
            let wanted = (value("cmsg_level")?, value("cmsg_type")?, value("cmsg_data")?);
            let have = got.next();
            let shown = have.map_or_else(|| String::from("missing"), |h| format!("{h:?}"));
            self.check_out(c, "the control message", format!("{wanted:?}"), shown, have == Some(wanted))?;
        }
        let more = got.next();
        self.check_out(c, "the number of control messages", "that of the script", "greater", more.is_none())
    }

    fn read_datagram(&mut self, c: &Call<'_>, fd: &SocketFd, want: &Want<'_>, progress: &Progress) -> Result<Outcome> {
        if let Some(e) = self.host.stack.take_error(fd.sock) {
            return Ok(Outcome::Error(e));
        }
        let Some(fifo) = self.host.stack.fifo(fd.sock) else { return Ok(Outcome::Error(Errno::EBADF)) };
        let got = if want.flags & MSG_PEEK != 0 {
            self.host.store.peek_datagram(fifo).map(|(from, data)| (from, Box::<[u8]>::from(data), false))
        } else {
            self.host.store.receive(fifo)
        };
        let Some((from, data, last)) = got else {
            if self.host.stack.readiness(fd.sock).contains(Readiness::RDHUP) {
                return Ok(Outcome::Value(0));
            }
            if self.may_wait(fd, want.flags, progress) {
                return Ok(Outcome::Wait);
            }
            return Ok(Outcome::Error(Errno::EAGAIN));
        };
        if last {
            self.host.stack.rx_drained(fd.sock);
        }
        if c.call.name == "recvfrom" {
            self.check_address(c, 4, from)?;
        }
        let part = &data[..data.len().min(want.len)];
        self.check_bytes(c, want, 0, part)?;
        let whole = want.flags & MSG_TRUNC != 0;
        Ok(Outcome::Value(if whole { data.len() } else { part.len() } as i64))
    }
}
