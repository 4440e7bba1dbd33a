//! Words to tokens to a tree, by recursive descent with a bound on depth.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Expr, Filter, FilterError, Host, Op, Side};
use crate::{services::Services, state};

/// Deeper nesting than any human writes; keeps hostile input off the stack's end.
const MAX_DEPTH: u32 = 64;

pub(super) fn filter<S: AsRef<str>>(words: &[S], services: &Services) -> Result<Filter, FilterError> {
    let mut tokens = Vec::new();
    for word in words {
        tokenize(word.as_ref(), &mut tokens);
    }
    let mut parser = Parser { tokens, at: 0, services };
    let states = parser.states()?;
    let expr = if parser.peek().is_some() { Some(parser.or(0)?) } else { None };
    match parser.peek() {
        None => Ok(Filter { states, expr }),
        Some(word) => Err(error(word, "did not expect this here")),
    }
}

fn error(word: &str, reason: impl Into<String>) -> FilterError {
    FilterError { word: word.to_owned(), reason: reason.into(), operand: false }
}

fn operand(word: &str, reason: impl Into<String>) -> FilterError {
    FilterError { operand: true, ..error(word, reason) }
}

/// Parentheses and operators need no blanks around them; `!` is an operator at the start of a word only.
fn tokenize(text: &str, out: &mut Vec<String>) {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return;
        }
        let operator = ["(", ")", "==", "!=", ">=", "<=", "&&", "||", "=", ">", "<", "&", "|", "!"]
            .into_iter()
            .find(|op| rest.starts_with(op));
        let len = match operator {
            Some(op) => op.len(),
            None => rest
                .char_indices()
                .find(|(_, c)| c.is_whitespace() || "()=<>&|!".contains(*c))
                .map_or(rest.len(), |(at, _)| at),
        };
        let (token, tail) = rest.split_at(len);
        out.push(token.to_owned());
        rest = tail;
    }
}

struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    services: &'a Services,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn next(&mut self, want: &str) -> Result<String, FilterError> {
        let token = self.tokens.get(self.at).cloned().ok_or_else(|| error("", format!("want {want}")))?;
        self.at += 1;
        Ok(token)
    }

    fn eat(&mut self, any_of: &[&str]) -> bool {
        let hit = self.peek().is_some_and(|token| any_of.contains(&token));
        self.at += usize::from(hit);
        hit
    }

    /// `state X state Y` is a union; `exclude X` takes away (from everything, when nothing was named before).
    fn states(&mut self) -> Result<Option<state::StateSet>, FilterError> {
        let mut set = None;
        loop {
            let exclude = match self.peek() {
                Some("state") => false,
                Some("exclude" | "excl") => true,
                _ => return Ok(set),
            };
            self.at += 1;
            let word = self.next("the name of a state")?;
            let named = state::by_name(&word).ok_or_else(|| {
                error(
                    &word,
                    "wrong state name; want all, connected, synchronized, bucket, big, established, syn-sent, syn-recv, fin-wait-1, \
                     fin-wait-2, time-wait, closed, close-wait, last-ack, listening or closing",
                )
            })?;
            set = Some(if exclude { set.unwrap_or(state::ALL) & !named } else { set.unwrap_or(0) | named });
        }
    }

    fn or(&mut self, depth: u32) -> Result<Expr, FilterError> {
        let mut left = self.and(depth)?;
        while self.eat(&["or", "|", "||"]) {
            left = Expr::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: u32) -> Result<Expr, FilterError> {
        let mut left = self.unary(depth)?;
        loop {
            // Two predicates side by side mean "and".
            if !self.eat(&["and", "&", "&&"]) && matches!(self.peek(), None | Some(")" | "or" | "|" | "||")) {
                return Ok(left);
            }
            left = Expr::And(Box::new(left), Box::new(self.unary(depth)?));
        }
    }

    fn unary(&mut self, depth: u32) -> Result<Expr, FilterError> {
        if depth >= MAX_DEPTH {
            return Err(error(self.peek().unwrap_or(""), format!("nested deeper than {MAX_DEPTH}")));
        }
        let word = self.next("a predicate")?;
        match word.as_str() {
            "not" | "!" => Ok(Expr::Not(Box::new(self.unary(depth + 1)?))),
            "(" => {
                let inner = self.or(depth + 1)?;
                let close = self.next("\")\"")?;
                if close == ")" { Ok(inner) } else { Err(error(&close, "want \")\"")) }
            }
            "dst" => self.host(Side::Destination),
            "src" => self.host(Side::Source),
            "dport" => self.port(Side::Destination),
            "sport" => self.port(Side::Source),
            "dev" => {
                let not = self.equality();
                Ok(negate_if(not, Expr::Device(self.next("the name of an interface")?)))
            }
            "fwmark" => {
                let not = self.equality();
                let text = self.next("a mark")?;
                Ok(negate_if(not, mark(&text)?))
            }
            "autobound" => Ok(Expr::AutoBound),
            "state" | "exclude" => Err(error(&word, "states come before the expression")),
            other => Err(error(other, "want dst, src, dport, sport, dev, fwmark, autobound, not, or \"(\"")),
        }
    }

    /// An optional `=` or `!=`; true when negated.
    fn equality(&mut self) -> bool {
        if self.eat(&["!=", "ne", "neq"]) {
            return true;
        }
        self.eat(&["=", "==", "eq"]);
        false
    }

    fn host(&mut self, side: Side) -> Result<Expr, FilterError> {
        let not = self.equality();
        let text = self.next("an address, as 10.0.0.0/8:443, [::1]:80 or :80")?;
        let host = parse_host(&text, self.services)?;
        Ok(negate_if(not, Expr::Host { side, host }))
    }

    fn port(&mut self, side: Side) -> Result<Expr, FilterError> {
        let word = self.next("=, !=, >, <, >= or <=")?;
        let op = match word.as_str() {
            "=" | "==" | "eq" => Op::Eq,
            "!=" | "ne" | "neq" => Op::Ne,
            ">=" | "ge" | "geq" => Op::Ge,
            "<=" | "le" | "leq" => Op::Le,
            ">" | "gt" => Op::Gt,
            "<" | "lt" => Op::Lt,
            other => return Err(error(other, "want =, !=, >, <, >= or <=")),
        };
        let text = self.next("a port, as :80 or :http")?;
        let name = text.rsplit_once(':').map_or(text.as_str(), |(_, port)| port);
        let port = self.services.port(name).ok_or_else(|| operand(&text, "does not look like a port"))?;
        Ok(Expr::Port { side, op, port })
    }
}

fn negate_if(not: bool, expr: Expr) -> Expr {
    if not { Expr::Not(Box::new(expr)) } else { expr }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mark(text: &str) -> Result<Expr, FilterError> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    match (number(value), number(mask)) {
        (Some(value), Some(mask)) => Ok(Expr::Mark { value: value & mask, mask }),
        _ => Err(operand(text, "want a mark as 0x10 or 0x10/0xf0")),
    }
}

/// `[inet:|inet6:]ADDR[/LEN][:PORT]`; an IPv6 address with a port stands in brackets; `*` or nothing is any.
fn parse_host(text: &str, services: &Services) -> Result<Host, FilterError> {
    let body = text.strip_prefix("inet:").or_else(|| text.strip_prefix("inet6:")).unwrap_or(text);
    let bad = |reason: &str| operand(text, reason);
    let (addr, port) = if let Some(rest) = body.strip_prefix('[') {
        let (addr, tail) = rest.split_once(']').ok_or_else(|| bad("want \"]\" after the address"))?;
        // `[::1]/64:80` and `[::1]:80`.
        let (len, port) = tail.split_once(':').map_or((tail, None), |(len, port)| (len, Some(port)));
        (format!("{addr}{len}"), port)
    } else if body.matches(':').count() > 1 {
        (body.to_owned(), None)
    } else {
        body.split_once(':').map_or((body.to_owned(), None), |(addr, port)| (addr.to_owned(), Some(port)))
    };
    let port = match port {
        None | Some("" | "*") => None,
        Some(word) => {
            Some(services.port(word).ok_or_else(|| operand(text, format!("\"{word}\" does not look like a port")))?)
        }
    };
    let prefix = match addr.as_str() {
        "" | "*" => None,
        addr => Some(prefix(addr).ok_or_else(|| bad("an inet prefix is expected"))?),
    };
    Ok(Host { prefix, port })
}

fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let (addr, max): (IpAddr, u8) = if let Ok(v4) = addr.parse::<Ipv4Addr>() {
        (v4.into(), 32)
    } else {
        (addr.parse::<Ipv6Addr>().ok()?.into(), 128)
    };
    let len = match len {
        None => max,
        Some(len) => len.parse::<u8>().ok().filter(|len| *len <= max)?,
    };
    Some((addr, len))
}
