//! poll(2) and epoll(7).

use super::super::Runner;
use super::super::epoll::Epoll;
use super::super::fds::Fd;
use super::args::field;
use super::{Call, Outcome, Progress};
use crate::ast::{Expr, Field};
use crate::error::Result;
use crate::symbols;
use stackd_base::{Duration, Errno};

const POLLNVAL: u32 = 0x20;
/// Reported without being asked for.
const ALWAYS: u32 = 0x8 | 0x10;

impl Runner<'_> {
    /// Whether a wait of so many milliseconds is over.
    fn timed_out(&self, millis: i64, progress: &mut Progress) -> bool {
        if millis < 0 {
            return false;
        }
        let wake = *progress.wake.get_or_insert(self.host.now + Duration::from_millis(millis as u64));
        self.host.now >= wake
    }

    pub(super) fn sys_poll(&mut self, c: &Call<'_>, progress: &mut Progress) -> Result<Outcome> {
        self.arity(c, 3, 3)?;
        let Some(Expr::Array(items)) = c.arg(0) else {
            return Err(self.unsupported(c.line, "poll wants [{fd=…, events=…, revents=…}]"));
        };
        let timeout = self.number(c, 2)?;
        let mut found = Vec::new();
        for item in items {
            let Expr::Struct(fields) = item else {
                return Err(self.unsupported(c.line, format!("{item}: want {{fd=…, events=…, revents=…}}")));
            };
            let (fd, events) = (self.member(c, fields, "fd")?, self.member(c, fields, "events")? as u32);
            let wanted = match field(fields, "revents") {
                Some(f) if f.value == Expr::Ellipsis => None,
                Some(f) => Some(self.evaluated(c, &f.value)? as u32),
                None => Some(0),
            };
            let revents = match self.fds.0.get(&fd) {
                Some(Fd::Socket(s)) => self.ready(s.sock) & (events | ALWAYS),
                Some(Fd::Epoll(_)) => 0,
                None if fd < 0 => 0,
                None => POLLNVAL,
            };
            found.push((fd, revents, wanted));
        }
        let ready = found.iter().filter(|f| f.1 != 0).count();
        if ready == 0 && !self.timed_out(timeout, progress) {
            return Ok(Outcome::Wait);
        }
        for (fd, revents, wanted) in found {
            if let Some(wanted) = wanted {
                let (want, got) = (symbols::poll_bits(wanted), symbols::poll_bits(revents));
                self.check_out(c, &format!("revents of {fd}"), want, got, wanted == revents)?;
            }
        }
        Ok(Outcome::Value(ready as i64))
    }

    fn member(&self, c: &Call<'_>, fields: &[Field], name: &str) -> Result<i64> {
        match field(fields, name) {
            Some(f) => self.evaluated(c, &f.value),
            None => Err(self.unsupported(c.line, format!("{}: a struct without {name}", c.call.name))),
        }
    }

    pub(super) fn sys_epoll_create(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 1, 1)?;
        let n = self.number(c, 0)?;
        // epoll_create(2): "size must be greater than zero".
        if c.call.name == "epoll_create" && n <= 0 {
            return Ok(Outcome::Error(Errno::EINVAL));
        }
        let Some(fd) = self.new_fd(c) else {
            return Err(self.mismatch(c.line, format!("{} succeeded, expected {}", c.call, c.call.result)));
        };
        self.fds.0.insert(fd, Fd::Epoll(Epoll::default()));
        Ok(Outcome::Value(fd))
    }

    pub(super) fn sys_epoll_ctl(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 4, 4)?;
        let (epoll, op, fd) = (self.number(c, 0)?, self.number(c, 1)?, self.number(c, 2)?);
        let Some(sock) = self.fds.socket(fd).map(|s| s.sock) else { return Ok(Outcome::Error(Errno::EBADF)) };
        let (events, data) = match c.arg(3) {
            Some(Expr::Struct(fields)) => (self.member(c, fields, "events")? as u32, self.epoll_data(c, fields)?),
            _ if op == 2 => (0, 0),
            _ => return Err(self.unsupported(c.line, "epoll_ctl wants {events=…, fd=…}")),
        };
        let ready = self.ready(sock);
        let Some(e) = self.fds.epoll_mut(epoll) else { return Ok(Outcome::Error(Errno::EBADF)) };
        let known = e.items.iter().any(|i| i.fd == fd);
        Ok(match (op, known) {
            (1, true) => Outcome::Error(Errno::EEXIST),
            (2 | 3, false) => Outcome::Error(Errno::ENOENT),
            (1 | 3, _) => {
                e.set(fd, sock, events, data, ready);
                Outcome::Value(0)
            }
            (2, true) => {
                e.items.retain(|i| i.fd != fd);
                Outcome::Value(0)
            }
            _ => Outcome::Error(Errno::EINVAL),
        })
    }

    /// `fd=`, `u32=`, `u64=` or `ptr=`.
    fn epoll_data(&self, c: &Call<'_>, fields: &[Field]) -> Result<u64> {
        for name in ["fd", "u32", "u64", "ptr"] {
            if let Some(f) = field(fields, name) {
                return Ok(self.evaluated(c, &f.value)? as u64);
            }
        }
        Err(self.unsupported(c.line, "an epoll_event without fd, u32, u64 or ptr"))
    }

    pub(super) fn sys_epoll_wait(&mut self, c: &Call<'_>, progress: &mut Progress) -> Result<Outcome> {
        self.arity(c, 4, 5)?;
        let (epoll, most, timeout) = (self.number(c, 0)?, self.number(c, 2)?, self.number(c, 3)?);
        if most <= 0 {
            return Ok(Outcome::Error(Errno::EINVAL));
        }
        let Some(mut e) = self.fds.epoll_mut(epoll).cloned() else { return Ok(Outcome::Error(Errno::EBADF)) };
        let got = e.take(most as usize, |sock| self.ready(sock));
        if got.is_empty() && !self.timed_out(timeout, progress) {
            return Ok(Outcome::Wait);
        }
        if let Some(slot) = self.fds.epoll_mut(epoll) {
            *slot = e;
        }
        let wanted: &[Expr] = match c.arg(1) {
            Some(Expr::Array(items)) => items,
            Some(Expr::Ellipsis) | None => return Ok(Outcome::Value(got.len() as i64)),
            Some(one) => std::slice::from_ref(one),
        };
        for (n, item) in wanted.iter().enumerate().take(got.len().max(1)) {
            let Expr::Struct(fields) = item else {
                return Err(self.unsupported(c.line, format!("{item}: want {{events=…, fd=…}}")));
            };
            let (events, data) = (self.member(c, fields, "events")? as u32, self.epoll_data(c, fields)?);
            let Some(&(have, have_data)) = got.get(n) else { continue };
            let (want, shown) = (symbols::poll_bits(events), symbols::poll_bits(have));
            self.check_out(c, &format!("events[{n}]"), want, shown, events == have)?;
            self.check_out(c, &format!("data of events[{n}]"), data, have_data, data == have_data)?;
        }
        Ok(Outcome::Value(got.len() as i64))
    }
}
