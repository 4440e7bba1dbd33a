//! The filter language of `ss`: states, then an expression over addresses, ports and devices.
//!
//! ```text
//! FILTER  := [ state STATE | exclude STATE ]... [ EXPR ]
//! EXPR    := AND { (or | "|" | "||") AND }
//! AND     := UNARY { [and | "&" | "&&"] UNARY }
//! UNARY   := (not | "!") UNARY | "(" EXPR ")" | PRED
//! PRED    := (dst | src) [= | !=] HOST | (dport | sport) OP PORT | dev [= | !=] NAME
//!          | fwmark [= | !=] MARK[/MASK] | autobound
//! ```

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use stackd_proto::v1::{Endpoint, SocketDiag};

use crate::{services::Services, state};

mod parse;
#[cfg(test)]
mod tests;

/// A parsed filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// States named, or `None` when the filter names none.
    pub states: Option<state::StateSet>,
    /// The expression; `None` lets everything pass.
    pub expr: Option<Expr>,
}

/// An expression.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Expr {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    /// An address, a port, or both, of one side.
    Host {
        side: Side,
        host: Host,
    },
    Port {
        side: Side,
        op: Op,
        port: u16,
    },
    Device(String),
    /// SO_MARK under a mask.
    Mark {
        value: u32,
        mask: u32,
    },
    /// The local port was chosen by the stack.
    AutoBound,
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Side {
    Source,
    Destination,
}

/// A comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Eq,
    Ne,
    Ge,
    Le,
    Gt,
    Lt,
}

/// `10.0.0.0/8:443`; each part may be absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Host {
    pub prefix: Option<(IpAddr, u8)>,
    pub port: Option<u16>,
}

/// Why a filter does not parse: which word, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// The word; empty at the end of the filter.
    pub word: String,
    /// One sentence.
    pub reason: String,
    /// The grammar was followed, but a port, an address or a mark makes no sense.
    pub operand: bool,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word.as_str() {
            "" => write!(f, "filter ends too early: {}", self.reason),
            word => write!(f, "\"{word}\" in filter: {}", self.reason),
        }
    }
}

impl core::error::Error for FilterError {}

impl Filter {
    /// Parses a filter from words (as the shell split them; a word may hold several tokens). Port names come from `services`.
    pub fn parse<S: AsRef<str>>(words: &[S], services: &Services) -> Result<Self, FilterError> {
        parse::filter(words, services)
    }

    /// Does the socket pass? States are the caller's business when the filter names none. `ephemeral` is the range that the
    /// stack picks ports from (`net.ipv4.ip_local_port_range`).
    pub fn matches(&self, socket: &SocketDiag, ephemeral: (u16, u16)) -> bool {
        self.states.is_none_or(|set| state::contains(set, socket.state))
            && self.expr.as_ref().is_none_or(|expr| expr.matches(socket, ephemeral))
    }
}

impl Expr {
    /// Does the socket pass?
    pub fn matches(&self, socket: &SocketDiag, ephemeral: (u16, u16)) -> bool {
        match self {
            Self::And(a, b) => a.matches(socket, ephemeral) && b.matches(socket, ephemeral),
            Self::Or(a, b) => a.matches(socket, ephemeral) || b.matches(socket, ephemeral),
            Self::Not(a) => !a.matches(socket, ephemeral),
            Self::Host { side, host } => side.of(socket).is_some_and(|end| host.contains(end)),
            Self::Port { side, op, port } => {
                let actual = side.of(socket).map_or(0, |end| end.port);
                op.holds(actual, u32::from(*port))
            }
            Self::Device(name) => &socket.device == name,
            Self::Mark { value, mask } => socket.mark & mask == *value,
            Self::AutoBound => {
                let port = socket.local.as_ref().map_or(0, |end| end.port);
                (u32::from(ephemeral.0)..=u32::from(ephemeral.1)).contains(&port)
            }
        }
    }
}

impl Side {
    fn of(self, socket: &SocketDiag) -> Option<&Endpoint> {
        match self {
            Self::Source => socket.local.as_ref(),
            Self::Destination => socket.remote.as_ref(),
        }
    }
}

impl Op {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::Ge => a >= b,
            Self::Le => a <= b,
            Self::Gt => a > b,
            Self::Lt => a < b,
        }
    }
}

impl Host {
    fn contains(&self, end: &Endpoint) -> bool {
        self.port.is_none_or(|port| u32::from(port) == end.port)
            && self.prefix.is_none_or(|(prefix, len)| ip(&end.address).is_some_and(|addr| within(addr, prefix, len)))
    }
}

/// An address of the protocol; `None` when it has neither length.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// Prefix match; an IPv4 prefix also matches the IPv4-mapped addresses of dual-stack sockets, as in the kernel.
fn within(addr: IpAddr, prefix: IpAddr, len: u8) -> bool {
    match (addr, prefix) {
        (IpAddr::V6(a), IpAddr::V4(_)) => a.to_ipv4_mapped().is_some_and(|a| within(a.into(), prefix, len)),
        (IpAddr::V4(a), IpAddr::V4(p)) => (a.to_bits() ^ p.to_bits()).leading_zeros() >= u32::from(len.min(32)),
        (IpAddr::V6(a), IpAddr::V6(p)) => (a.to_bits() ^ p.to_bits()).leading_zeros() >= u32::from(len.min(128)),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}
