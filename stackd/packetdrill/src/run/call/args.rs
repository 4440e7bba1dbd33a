//! Structs among arguments.

use super::super::Runner;
use super::Call;
use crate::ast::{Expr, Field};
use crate::error::Result;
use std::net::{IpAddr, SocketAddr};

/// An address argument.
pub(super) enum Addr {
    /// `...`: whatever fits.
    Any,
    /// One that is written out.
    Is(SocketAddr),
    /// `AF_UNSPEC`.
    Unspecified,
}

/// Whether bytes are to come from, or to go to, an address that is none: `EFAULT`.
pub(super) fn faulty(buffers: &[(&Expr, usize)]) -> bool {
    buffers.iter().any(|(b, len)| *len > 0 && matches!(b, Expr::Word(w) if w == "NULL"))
}

/// The field of a struct.
pub(super) fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a Field> {
    fields.iter().find(|f| f.name == name)
}

impl Runner<'_> {
    /// `{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("…")}`, or `...`.
    pub(super) fn address(&self, c: &Call<'_>, n: usize) -> Result<Addr> {
        let fields = match c.arg(n) {
            None | Some(Expr::Ellipsis | Expr::Word(_) | Expr::Int(0, _)) => return Ok(Addr::Any),
            Some(Expr::Struct(fields)) => fields,
            Some(e) => return Err(self.unsupported(c.line, format!("address {e}"))),
        };
        let family = match field(fields, "sa_family").or(field(fields, "sin_family")).or(field(fields, "sin6_family")) {
            Some(f) => self.evaluated(c, &f.value)?,
            None => return Err(self.unsupported(c.line, "an address without sa_family")),
        };
        if family == 0 {
            return Ok(Addr::Unspecified);
        }
        let port = match field(fields, "sin_port").or(field(fields, "sin6_port")).map(|f| &f.value) {
            Some(Expr::Call(name, args)) if name == "htons" && args.len() == 1 => self.evaluated(c, &args[0])? as u16,
            _ => return Err(self.unsupported(c.line, "an address without sin_port=htons(…)")),
        };
        let ip = field(fields, "sin_addr").or(field(fields, "sin6_addr")).and_then(|f| match &f.value {
            Expr::Call(name, args) if matches!(name.as_str(), "inet_addr" | "inet6_addr" | "inet_pton") => {
                match args.last() {
                    Some(Expr::Str(s)) => std::str::from_utf8(s).ok()?.parse::<IpAddr>().ok(),
                    _ => None,
                }
            }
            _ => None,
        });
        match ip.filter(|ip| ip.is_ipv6() == (family == 10)) {
            Some(ip) => Ok(Addr::Is(SocketAddr::new(ip, port))),
            None => Err(self.unsupported(c.line, "an address whose sin_addr is no inet_addr(\"…\") of its family")),
        }
    }

    /// An address that a call gave is what the script says, where it says something.
    pub(super) fn check_address(&self, c: &Call<'_>, n: usize, got: SocketAddr) -> Result<()> {
        match self.address(c, n)? {
            Addr::Any => Ok(()),
            Addr::Is(want) => self.check_out(c, "the address", want, got, want == got),
            Addr::Unspecified => self.check_out(c, "the address", "AF_UNSPEC", got, false),
        }
    }

    /// Lengths of `[{..., 10}, {"abc", 3}]`, and the buffers.
    pub(super) fn iovec<'a>(&self, c: &Call<'_>, e: &'a Expr) -> Result<Vec<(&'a Expr, usize)>> {
        let Expr::Array(items) = e else {
            return Err(self.unsupported(c.line, format!("iovec {e}: want [{{..., LENGTH}}]")));
        };
        items
            .iter()
            .map(|item| match item {
                Expr::Braces(parts) if parts.len() == 2 => {
                    Ok((&parts[0], self.evaluated(c, &parts[1])?.max(0) as usize))
                }
                _ => Err(self.unsupported(c.line, format!("iovec element {item}: want {{..., LENGTH}}"))),
            })
            .collect()
    }
}
