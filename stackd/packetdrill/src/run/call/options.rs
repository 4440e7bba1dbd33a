//! Socket options and ioctls, in Linux's byte layouts.

use super::super::Runner;
use super::args::field;
use super::{Call, Outcome};
use crate::ast::Expr;
use crate::error::Result;
use stackd_base::Errno;

/// Longest value of an option that is read.
const MOST: usize = 512;

impl Runner<'_> {
    pub(super) fn sys_setsockopt(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 5, 5)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let (level, option) = (self.number(c, 1)? as i32, self.number(c, 2)? as i32);
        let len = match c.arg(4) {
            Some(Expr::Ellipsis) => None,
            _ => Some(self.number(c, 4)?.max(0) as usize),
        };
        let mut value = self.option_bytes(c, c.arg(3).unwrap_or(&Expr::Ellipsis), len)?;
        if let Some(len) = len {
            value.resize(len, 0);
        }
        let done = self.host.stack.set_option(self.host.now, fd.sock, level, option, &value, &mut self.host.store);
        Ok(done.into())
    }

    /// The bytes of `[1]`, `"cubic"`, `{onoff=1, linger=0}`; `len` says how wide one number is.
    fn option_bytes(&self, c: &Call<'_>, e: &Expr, len: Option<usize>) -> Result<Vec<u8>> {
        Ok(match e {
            Expr::Array(items) => {
                let width = if items.len() == 1 { len.unwrap_or(4) } else { 4 };
                let mut out = Vec::new();
                for item in items {
                    out.extend(self.option_bytes(c, item, Some(width))?);
                }
                out
            }
            Expr::Str(s) => s.clone(),
            Expr::Struct(fields) if field(fields, "onoff").is_some() => {
                let mut out = Vec::new();
                for name in ["onoff", "linger"] {
                    let n = match field(fields, name) {
                        Some(f) => self.evaluated(c, &f.value)?,
                        None => 0,
                    };
                    out.extend((n as i32).to_ne_bytes());
                }
                out
            }
            Expr::Struct(fields) if field(fields, "tv_sec").is_some() || field(fields, "tv_usec").is_some() => {
                let mut out = Vec::new();
                for name in ["tv_sec", "tv_usec"] {
                    let n = match field(fields, name) {
                        Some(f) => self.evaluated(c, &f.value)?,
                        None => 0,
                    };
                    out.extend(n.to_ne_bytes());
                }
                out
            }
            Expr::Struct(_) | Expr::Braces(_) | Expr::Ellipsis | Expr::StrEllipsis(_) => {
                return Err(self.unsupported(
                    c.line,
                    format!(
                        "option value {e}: want [NUMBER], \"TEXT\", {{onoff=…, linger=…}} or {{tv_sec=…, tv_usec=…}}"
                    ),
                ));
            }
            e => {
                let n = self.evaluated(c, e)?;
                match len {
                    Some(8) => n.to_ne_bytes().to_vec(),
                    Some(w @ 1..=3) => n.to_ne_bytes()[..w].to_vec(),
                    _ => (n as i32).to_ne_bytes().to_vec(),
                }
            }
        })
    }

    pub(super) fn sys_getsockopt(&mut self, c: &Call<'_>) -> Result<Outcome> {
        self.arity(c, 5, 5)?;
        let (_, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let (level, option) = (self.number(c, 1)? as i32, self.number(c, 2)? as i32);
        let room = match c.arg(4) {
            Some(Expr::Array(items)) if items.len() == 1 && items[0] != Expr::Ellipsis => {
                Some(self.evaluated(c, &items[0])?.clamp(0, MOST as i64) as usize)
            }
            _ => None,
        };
        let mut out = [0; MOST];
        let got = self.host.stack.get_option(self.host.now, fd.sock, level, option, &mut out[..room.unwrap_or(MOST)]);
        let n = match got {
            Ok(n) => n,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        self.check_option(c, &out[..n])?;
        Ok(Outcome::Value(0))
    }

    fn check_option(&self, c: &Call<'_>, got: &[u8]) -> Result<()> {
        let wanted = c.arg(3).unwrap_or(&Expr::Ellipsis);
        match wanted {
            Expr::Ellipsis => Ok(()),
            Expr::Array(items) if items.len() == 1 && matches!(items[0], Expr::Str(_) | Expr::Struct(_)) => {
                self.check_value(c, &items[0], got)
            }
            Expr::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    let width = if items.len() == 1 { got.len() } else { 4 };
                    self.check_value(c, item, got.get(n * width..(n + 1) * width).unwrap_or_default())?;
                }
                Ok(())
            }
            e => self.check_value(c, e, got),
        }
    }

    fn check_value(&self, c: &Call<'_>, wanted: &Expr, got: &[u8]) -> Result<()> {
        match wanted {
            Expr::Ellipsis => Ok(()),
            Expr::Str(s) => {
                // Names come in a buffer of fixed length.
                let end = got.iter().position(|&b| b == 0).unwrap_or(got.len());
                self.check_out(c, "the value", s.escape_ascii(), got[..end].escape_ascii(), s == &got[..end])
            }
            Expr::Struct(_) => {
                let bytes = self.option_bytes(c, wanted, None)?;
                let shown = |b: &[u8]| format!("{b:?}");
                self.check_out(c, "the value", shown(&bytes), shown(got), bytes == got)
            }
            e => {
                let want = self.evaluated(c, e)?;
                let value = match got.len() {
                    8 => i64::from_ne_bytes(got.try_into().unwrap_or_default()),
                    1 => i64::from(got[0]),
                    _ => match got.first_chunk() {
                        Some(b) => i64::from(i32::from_ne_bytes(*b)),
                        None => return self.check_out(c, "the value", want, format!("{} bytes", got.len()), false),
                    },
                };
                // `0xffffffff` and -1 are the same four bytes.
                let same =
                    value == want || got.len() == 4 && value as u32 == want as u32 && (want >> 32 == 0 || want < 0);
                self.check_out(c, "the value", want, value, same)
            }
        }
    }

    pub(super) fn sys_ioctl(&mut self, c: &Call<'_>) -> Result<Outcome> {
        const FIONREAD: i64 = 0x541b;
        const SIOCOUTQ: i64 = 0x5411;
        const SIOCOUTQNSD: i64 = 0x894b;
        const FIONBIO: i64 = 0x5421;
        const SIOCATMARK: i64 = 0x8905;
        self.arity(c, 2, 3)?;
        let (n, fd) = match self.socket_arg(c)? {
            Ok(s) => s,
            Err(e) => return Ok(Outcome::Error(e)),
        };
        let request = self.number(c, 1)?;
        let info = self.host.stack.socket_info(self.host.now, fd.sock);
        let tcp = info.as_ref().and_then(|i| i.tcp.as_ref());
        let value = match request {
            FIONREAD => match self.host.stack.fifo(fd.sock) {
                Some(f) if fd.stream => self.host.store.readable(f) as i64,
                Some(f) => self.host.store.peek_datagram(f).map_or(0, |(_, d)| d.len() as i64),
                None if self
                    .flows
                    .iter()
                    .any(|f| f.sock == Some(fd.sock) && f.stage == super::super::flow::Stage::Listening) =>
                {
                    return Ok(Outcome::Error(Errno::EINVAL));
                }
                None => 0,
            },
            SIOCATMARK => match self.host.stack.at_mark(fd.sock) {
                Ok(at) => i64::from(at),
                Err(e) => return Ok(Outcome::Error(e)),
            },
            SIOCOUTQ => tcp.map_or(0, |t| t.wmem_queued as i64),
            SIOCOUTQNSD => tcp.map_or(0, |t| i64::from(t.notsent_bytes)),
            FIONBIO => {
                let on = match c.arg(2) {
                    Some(Expr::Array(items)) if items.len() == 1 => self.evaluated(c, &items[0])? != 0,
                    _ => return Err(self.unsupported(c.line, "FIONBIO wants [0] or [1]")),
                };
                if let Some(fd) = self.fds.socket_mut(n) {
                    fd.nonblock = on;
                }
                return Ok(Outcome::Value(0));
            }
            other => {
                return Err(self.unsupported(
                    c.line,
                    format!("ioctl {other:#x}: want SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK or FIONBIO"),
                ));
            }
        };
        if let Some(Expr::Array(items)) = c.arg(2)
            && let [want] = items.as_slice()
            && *want != Expr::Ellipsis
        {
            let want = self.evaluated(c, want)?;
            self.check_out(c, "the value", want, value, want == value)?;
        }
        Ok(Outcome::Value(0))
    }
}
