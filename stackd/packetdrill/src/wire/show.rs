//! Packets in the language's own notation.

use super::{View, icmp};
use crate::ast::{Tcp, TcpOption, flag};
use std::fmt;

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            Self::Eol => f.write_str("eol"),
            Self::Nop => f.write_str("nop"),
            Self::Mss(n) => write!(f, "mss {n}"),
            Self::WindowScale(n) => write!(f, "wscale {n}"),
            Self::SackOk => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(l, r)| write!(f, " {l}:{r}"))
            }
            Self::Timestamp { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            Self::FastOpen(c) => write!(f, "{}", format!("FO {}", hex(c)).trim_end()),
            Self::FastOpenExp(c) => write!(f, "{}", format!("FOEXP {}", hex(c)).trim_end()),
            Self::Md5(d) => write!(f, "md5 {}", hex(d)),
            Self::AccEcn { e1_first, counters } => {
                f.write_str("ECN")?;
                let order = if *e1_first { ["e1b", "ceb", "e0b"] } else { ["e0b", "ceb", "e1b"] };
                order.iter().zip(counters).try_for_each(|(n, c)| write!(f, " {n} {c}"))
            }
            Self::Other { kind, data } => write!(f, "{}", format!("opt {kind} {}", hex(data)).trim_end()),
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((src, dst)) = self.ports {
            write!(f, "{src}>{dst} ")?;
        }
        let mut letters = String::new();
        for (bit, c) in [
            (flag::FIN, 'F'),
            (flag::SYN, 'S'),
            (flag::RST, 'R'),
            (flag::PSH, 'P'),
            (flag::URG, 'U'),
            (flag::ECE, 'E'),
            (flag::CWR, 'W'),
            (flag::AE, 'A'),
        ] {
            if self.flags & bit != 0 && !(self.ace && bit >= flag::ECE) {
                letters.push(c);
            }
        }
        if self.flags & flag::ACK != 0 {
            letters.push('.');
        }
        if self.ace {
            letters.push_str(&(self.flags >> 6 & 7).to_string());
        }
        if letters.is_empty() {
            letters.push('-');
        }
        let end = self.seq.wrapping_add(u32::from(self.len));
        write!(f, "{letters} {}:{end}({})", self.seq, self.len)?;
        if self.flags & flag::ACK != 0 {
            write!(f, " ack {}", self.ack)?;
        }
        if let Some(win) = self.win {
            write!(f, " win {win}")?;
        }
        if self.urg != 0 {
            write!(f, " urg {}", self.urg)?;
        }
        match &self.options {
            None => f.write_str(" <...>"),
            Some(o) if o.is_empty() => Ok(()),
            Some(o) => {
                write!(f, " <{}>", o.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// A live packet; `tcp` is its header in script values where they are known.
pub fn show_packet(view: &View, tcp: Option<&Tcp>) -> String {
    let mut ip = String::new();
    let ecn = ["", "[ect1] ", "[ect0] ", "[ce] "][usize::from(view.tos & 3)];
    if view.tos >> 2 != 0 {
        ip.push_str(&format!("(tos {:#x}) ", view.tos));
    } else {
        ip.push_str(ecn);
    }
    if let Some(tcp) = tcp {
        return format!("{ip}{tcp}");
    }
    if let Some((tcp, _)) = view.tcp() {
        return format!("{ip}{tcp} (live numbers)");
    }
    if let Some(payload) = view.udp() {
        let ends = view.ends();
        return format!("{ip}udp {}>{} ({})", ends.src.port(), ends.dst.port(), payload.len());
    }
    if let Some((kind, code, _)) = view.icmp() {
        return format!("{ip}icmp {}", icmp::name_of(view.is_v6(), kind, code));
    }
    format!("{ip}IP protocol {} ({} bytes)", view.protocol, view.transport.len())
}
