//! System calls: their arguments, what they do, and whether the result is the script's.

mod args;
mod create;
mod options;
mod poll;
mod read;
mod write;

use super::Runner;
use super::fds::{Fd, SocketFd};
use crate::ast::{Expr, Syscall};
use crate::error::{Failure, Result};
use crate::symbols;
use stackd_base::{Duration, Errno, Instant};

/// Calls that are understood, for messages.
pub const SUPPORTED: &[&str] = &[
    "socket",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "getsockname",
    "getpeername",
    "shutdown",
    "close",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "send",
    "sendto",
    "sendmsg",
    "setsockopt",
    "getsockopt",
    "fcntl",
    "ioctl",
    "poll",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
];

/// What a call that blocks remembers between attempts.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The script says that it blocks.
    pub blocking: bool,
    /// It did what comes before waiting.
    pub begun: bool,
    /// Bytes so far.
    pub bytes: usize,
    /// It gives up then.
    pub wake: Option<Instant>,
}

/// How an attempt ended.
enum Outcome {
    /// With a value.
    Value(i64),
    /// With an error.
    Error(Errno),
    /// Not yet.
    Wait,
}

impl From<Result<i64, Errno>> for Outcome {
    fn from(r: Result<i64, Errno>) -> Self {
        match r {
            Ok(n) => Self::Value(n),
            Err(e) => Self::Error(e),
        }
    }
}
impl From<Result<(), Errno>> for Outcome {
    fn from(r: Result<(), Errno>) -> Self {
        r.map(|()| 0).into()
    }
}

/// A call with its place in the script.
struct Call<'a> {
    line: u32,
    call: &'a Syscall,
}

impl Call<'_> {
    fn arg(&self, n: usize) -> Option<&Expr> {
        self.call.args.get(n)
    }
}

impl Runner<'_> {
    /// Makes a call, or goes on with it; false: it has to wait.
    pub(super) fn attempt(&mut self, line: u32, call: &Syscall, progress: &mut Progress) -> Result<bool> {
        let c = Call { line, call };
        let outcome = match call.name.as_str() {
            "socket" => self.sys_socket(&c)?,
            "bind" => self.sys_bind(&c)?,
            "listen" => self.sys_listen(&c)?,
            "accept" | "accept4" => self.sys_accept(&c, progress)?,
            "connect" => self.sys_connect(&c, progress)?,
            "getsockname" | "getpeername" => self.sys_name(&c)?,
            "shutdown" => self.sys_shutdown(&c)?,
            "close" => self.sys_close(&c)?,
            "read" | "recv" | "recvfrom" | "readv" | "recvmsg" => self.sys_read(&c, progress)?,
            "write" | "send" | "sendto" | "writev" | "sendmsg" => self.sys_write(&c, progress)?,
            "setsockopt" => self.sys_setsockopt(&c)?,
            "getsockopt" => self.sys_getsockopt(&c)?,
            "fcntl" => self.sys_fcntl(&c)?,
            "ioctl" => self.sys_ioctl(&c)?,
            "poll" => self.sys_poll(&c, progress)?,
            "epoll_create" | "epoll_create1" => self.sys_epoll_create(&c)?,
            "epoll_ctl" => self.sys_epoll_ctl(&c)?,
            "epoll_wait" => self.sys_epoll_wait(&c, progress)?,
            name => {
                let known = SUPPORTED.join(", ");
                return Err(self.unsupported(line, format!("system call {name}(): want one of {known}")));
            }
        };
        self.host.settle();
        self.take_events();
        let outcome = match outcome {
            Outcome::Wait => match self.given_up(&c, progress) {
                Some(ended) => ended,
                None => return Ok(false),
            },
            ended => ended,
        };
        self.check_result(&c, &outcome)?;
        Ok(true)
    }

    /// socket(7), SO_RCVTIMEO and SO_SNDTIMEO: how a call ends that has waited for as long as its socket lets it.
    fn given_up(&mut self, c: &Call<'_>, progress: &mut Progress) -> Option<Outcome> {
        const SO_RCVTIMEO: i32 = 20;
        const SO_SNDTIMEO: i32 = 21;
        let option = match c.call.name.as_str() {
            "accept" | "accept4" | "read" | "readv" | "recv" | "recvfrom" | "recvmsg" => SO_RCVTIMEO,
            "connect" | "write" | "writev" | "send" | "sendto" | "sendmsg" => SO_SNDTIMEO,
            _ => return None,
        };
        let (_, fd) = self.socket_arg(c).ok()?.ok()?;
        let mut value = [0; 16];
        self.host.stack.get_option(self.host.now, fd.sock, 1, option, &mut value).ok().filter(|&n| n == 16)?;
        let word = |at: usize| value[at..at + 8].try_into().map(u64::from_ne_bytes).unwrap_or_default();
        let micros = word(0) * 1_000_000 + word(8);
        if micros == 0 {
            return None;
        }
        let wake = *progress.wake.get_or_insert(self.host.now + Duration::from_micros(micros));
        if self.host.now < wake {
            return None;
        }
        Some(match c.call.name.as_str() {
            _ if progress.bytes > 0 => Outcome::Value(progress.bytes as i64),
            "connect" => Outcome::Error(Errno::EINPROGRESS),
            _ => Outcome::Error(Errno::EAGAIN),
        })
    }

    fn check_result(&mut self, c: &Call<'_>, outcome: &Outcome) -> Result<()> {
        let (value, errno) = match outcome {
            Outcome::Value(n) => (*n, None),
            Outcome::Error(e) => (-1, Some(*e)),
            Outcome::Wait => return Ok(()),
        };
        let ok = match &c.call.result {
            Expr::Ellipsis => errno.is_none(),
            e => match symbols::evaluate(e) {
                Some(n) => n == value,
                None => return Err(self.unsupported(c.line, format!("result {e}: want a number or a known symbol"))),
            },
        };
        let errno_ok = match &c.call.errno {
            // The original compares the error only where the script names one.
            None => errno.is_none() || c.call.result == Expr::Int(-1, false),
            Some(name) => errno.is_some_and(|e| e.name() == name || (name == "EWOULDBLOCK" && e == Errno::EAGAIN)),
        };
        if ok && errno_ok {
            return Ok(());
        }
        let got = match errno {
            None => value.to_string(),
            Some(e) => format!("-1 {} ({})", e.name(), e.text()),
        };
        let wanted = match &c.call.errno {
            None => c.call.result.to_string(),
            Some(e) => format!("{} {e}", c.call.result),
        };
        let failure = self.mismatch(c.line, format!("{} = {got}, expected {wanted}", c.call));
        if self.cfg.non_fatal_syscall {
            self.report.output.push(format!("warning: {failure}"));
            return Ok(());
        }
        Err(failure)
    }

    /// A value that came out of a call is what the script says.
    fn check_out(
        &self,
        c: &Call<'_>,
        what: &str,
        wanted: impl std::fmt::Display,
        got: impl std::fmt::Display,
        ok: bool,
    ) -> Result<()> {
        if ok {
            return Ok(());
        }
        Err(self.mismatch(c.line, format!("{}: {what} is {got}, expected {wanted}", c.call)))
    }

    /// Argument `n` as a number.
    fn number(&self, c: &Call<'_>, n: usize) -> Result<i64> {
        match c.arg(n) {
            Some(e) => self.evaluated(c, e),
            None => Err(Failure::syntax(self.file, c.line, format!("{} wants an argument {}", c.call.name, n + 1))),
        }
    }

    fn evaluated(&self, c: &Call<'_>, e: &Expr) -> Result<i64> {
        symbols::evaluate(e)
            .ok_or_else(|| self.unsupported(c.line, format!("{}: {e} has no value known here", c.call.name)))
    }

    /// Between so many arguments.
    fn arity(&self, c: &Call<'_>, least: usize, most: usize) -> Result<()> {
        let n = c.call.args.len();
        if (least..=most).contains(&n) {
            return Ok(());
        }
        let want = if least == most { least.to_string() } else { format!("{least} to {most}") };
        Err(Failure::syntax(self.file, c.line, format!("{} has {n} arguments, want {want}", c.call.name)))
    }

    /// The socket behind argument 0, and its number.
    fn socket_arg(&self, c: &Call<'_>) -> Result<Result<(i64, SocketFd), Errno>> {
        let n = self.number(c, 0)?;
        Ok(match self.fds.0.get(&n) {
            Some(Fd::Socket(s)) => Ok((n, s.clone())),
            Some(Fd::Epoll(_)) => Err(Errno::ENOTSOCK),
            None => Err(Errno::EBADF),
        })
    }

    /// The number under which the script wants what a call opened.
    fn new_fd(&self, c: &Call<'_>) -> Option<i64> {
        let again = matches!(c.call.name.as_str(), "accept" | "accept4");
        symbols::evaluate(&c.call.result).filter(|n| *n >= 0 && (again || !self.fds.0.contains_key(n)))
    }

    /// Readiness of a socket as the stack has it.
    fn ready(&self, sock: stackd_base::SockId) -> u32 {
        self.host.stack.readiness(sock).0
    }

    /// Hands changes of readiness to those who watch.
    pub(super) fn take_events(&mut self) {
        for event in std::mem::take(&mut self.host.events) {
            for fd in self.fds.0.values_mut() {
                if let Fd::Epoll(e) = fd {
                    e.note(&event);
                }
            }
        }
    }
}
