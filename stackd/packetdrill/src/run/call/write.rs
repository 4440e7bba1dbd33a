//! Calls that write.

use super::super::Runner;
use super::super::fds::SocketFd;
use super::args::{Addr, faulty, field};
use super::{Call, Outcome, Progress};
use crate::ast::Expr;
use crate::error::Result;
use stackd_base::Errno;

const MSG_OOB: i64 = 0x1;
const MSG_DONTWAIT: i64 = 0x40;
const MSG_NOSIGNAL: i64 = 0x4000;
const MSG_MORE: i64 = 0x8000;
const MSG_FASTOPEN: i64 = 0x2000_0000;

/// What our stream holds at an offset where the script does not care.
fn tx_byte(offset: usize) -> u8 {
    (offset.wrapping_mul(11) % 241) as u8
}

impl Runner<'_> {
    pub(super) fn sys_write(&mut self, c: &Call<'_>, progress: &mut Progress) -> Result<Outcome> {
        let (buffers, flags) = self.write_args(c)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let known = MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_FASTOPEN | if fd.stream { MSG_MORE } else { 0 };
        let unknown = flags & !known;
        if unknown != 0 {
            return Err(self.unsupported(c.line, format!("{} with flags {unknown:#x}", c.call.name)));
        }
        if faulty(&buffers) {
            return Ok(Outcome::Error(Errno::EFAULT));
        }
        if fd.stream
            && flags & MSG_FASTOPEN != 0
            && let Some(outcome) = self.connect_to_write(c, &fd, progress)?
        {
            return Ok(outcome);
        }
        let at = self.streams.entry(fd.sock).or_default().tx.len() - progress.bytes;
        let data = self.bytes_of(c, &buffers, if fd.stream { at } else { 0 })?;
        if fd.stream {
            return self.write_stream(&fd, flags, &data, progress);
        }
        let to = match c.call.name.as_str() {
            "sendto" => match self.address(c, 4)? {
                Addr::Is(a) => Some(a),
                Addr::Any | Addr::Unspecified => None,
            },
            _ => None,
        };
        let sent = self.host.stack.send_to(self.host.now, fd.sock, to, &data, &mut self.host.store);
        if let (Ok(_), Some(i)) = (&sent, fd.flow) {
            if let Some(to) = to {
                self.flows[i].remote = to;
            }
            if let Ok(local) = self.host.stack.local_addr(fd.sock) {
                self.flows[i].local.set_port(local.port());
            }
        }
        Ok(sent.map(|n| n as i64).into())
    }

    fn write_args<'a>(&self, c: &Call<'a>) -> Result<(Vec<(&'a Expr, usize)>, i64)> {
        let call = c.call;
        let buffer = |i: usize| call.args.get(i).unwrap_or(&Expr::Ellipsis);
        let n = |i| self.number(c, i);
        Ok(match call.name.as_str() {
            "write" => {
                self.arity(c, 3, 3)?;
                (vec![(buffer(1), n(2)?.max(0) as usize)], 0)
            }
            "send" => {
                self.arity(c, 4, 4)?;
                (vec![(buffer(1), n(2)?.max(0) as usize)], n(3)?)
            }
            "sendto" => {
                self.arity(c, 6, 6)?;
                (vec![(buffer(1), n(2)?.max(0) as usize)], n(3)?)
            }
            "writev" => {
                self.arity(c, 3, 3)?;
                (self.iovec(c, buffer(1))?, 0)
            }
            _ => {
                self.arity(c, 3, 3)?;
                let Expr::Struct(fields) = buffer(1) else {
                    return Err(self
                        .unsupported(c.line, format!("message header {}: want {{msg_name(...)=..., …}}", buffer(1))));
                };
                if field(fields, "msg_control").is_some_and(|f| f.value != Expr::Array(Vec::new())) {
                    return Err(self.unsupported(c.line, "control messages of sendmsg"));
                }
                let buffers = match field(fields, "msg_iov") {
                    Some(f) => self.iovec(c, &f.value)?,
                    None => Vec::new(),
                };
                (buffers, n(2)?)
            }
        })
    }

    /// The bytes of the buffers: the script's own, or a pattern that tells where they stand.
    fn bytes_of(&self, c: &Call<'_>, buffers: &[(&Expr, usize)], at: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (buffer, len) in buffers {
            match buffer {
                Expr::Ellipsis => {
                    let from = at + out.len();
                    out.extend((from..from + len).map(tx_byte));
                }
                Expr::Word(_) if *len == 0 => {}
                Expr::Str(s) | Expr::StrEllipsis(s) => {
                    let mut s = s.clone();
                    s.resize(*len, 0);
                    out.extend(s);
                }
                e => return Err(self.unsupported(c.line, format!("buffer {e}: want ... or a string"))),
            }
        }
        Ok(out)
    }

    fn write_stream(&mut self, fd: &SocketFd, flags: i64, data: &[u8], progress: &mut Progress) -> Result<Outcome> {
        let sock = fd.sock;
        if let Some(e) = self.host.stack.take_error(sock) {
            return Ok(if progress.bytes > 0 { Outcome::Value(progress.bytes as i64) } else { Outcome::Error(e) });
        }
        let Some(fifo) = self.host.stack.fifo(sock) else { return Ok(Outcome::Error(Errno::EPIPE)) };
        self.host.stack.set_more(self.host.now, sock, flags & MSG_MORE != 0, &mut self.host.store);
        loop {
            let rest = &data[progress.bytes.min(data.len())..];
            let (head, n) = self.host.store.write(fifo, rest);
            let (now, store) = (self.host.now, &mut self.host.store);
            // The last byte of what is written is the urgent one.
            let written = if flags & MSG_OOB != 0 && n > 0 && n == rest.len() {
                self.host.stack.written_urgent(now, sock, head, store)
            } else {
                self.host.stack.written(now, sock, head, store)
            };
            if let Err(e) = written {
                return Ok(if progress.bytes > 0 { Outcome::Value(progress.bytes as i64) } else { Outcome::Error(e) });
            }
            self.streams.entry(sock).or_default().tx.extend_from_slice(&rest[..n]);
            progress.bytes += n;
            if progress.bytes == data.len() {
                return Ok(Outcome::Value(progress.bytes as i64));
            }
            // What left at once may have made room.
            self.host.settle();
            if n == 0 {
                break;
            }
        }
        if self.may_wait(fd, flags, progress) {
            return Ok(Outcome::Wait);
        }
        Ok(if progress.bytes > 0 { Outcome::Value(progress.bytes as i64) } else { Outcome::Error(Errno::EAGAIN) })
    }
}
