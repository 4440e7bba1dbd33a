//! Packets, as tcpdump would print them.

use super::Parser;
use crate::ast::{Body, Icmp, IpInfo, Outer, Packet, Ports, Quoted, Tcp, TcpOption, Tos, flag};
use crate::error::Result;
use crate::lex::Tok;

/// How the options of Multipath TCP begin in scripts.
const MPTCP: [&str; 13] = [
    "mp_capable",
    "mp_join",
    "dss",
    "add_address",
    "add_addr",
    "remove_addr",
    "mp_prio",
    "mp_fail",
    "mp_fastclose",
    "mp_reset",
    "mp_tcprst",
    "mp_version",
    "trunc_r64",
];
const U16: i64 = 0xffff;
const U32: i64 = 0xffff_ffff;

impl Parser<'_> {
    pub(super) fn packet(&mut self) -> Result<Packet> {
        let inbound = self.eat('<');
        if !inbound {
            self.expect('>')?;
        }
        let mut socket = None;
        if matches!((self.peek(), self.peek_at(1)), (Some(Tok::Word(w)), Some(Tok::Punct('('))) if w == "socket") {
            self.at += 2;
            socket = Some(self.int("a descriptor", 0, i64::from(i32::MAX))?);
            self.expect(')')?;
        }
        let mut outer = Vec::new();
        while let Some(header) = self.outer()? {
            outer.push(header);
        }
        let ip = self.ip_info()?;
        if ip.tos == Tos::Ect01 && inbound {
            return self.fail("[ect01] is for outbound packets only");
        }
        let body = if self.eat_word("icmp") {
            Body::Icmp(self.icmp()?)
        } else if self.eat_word("udp") {
            let ports = self.ports()?;
            self.udp(ports)?
        } else if matches!(self.peek(), Some(Tok::Word(w)) if w == "udplite") {
            return self.unsupported("UDP-Lite: the stack has no such protocol");
        } else {
            Body::Tcp(self.tcp(inbound)?)
        };
        Ok(Packet { inbound, socket, outer, ip, body })
    }

    fn outer(&mut self) -> Result<Option<Outer>> {
        let word = match self.peek() {
            Some(Tok::Word(w)) => w.clone(),
            _ => return Ok(None),
        };
        match word.as_str() {
            "ipv4" | "ipv6" => {
                self.at += 1;
                let ip = self.ip_info()?;
                let src = self.peek().cloned();
                self.at += 1;
                self.expect('>')?;
                let dst = self.peek().cloned();
                self.at += 1;
                let header = match (src, dst, word.as_str()) {
                    (Some(Tok::V4(src)), Some(Tok::V4(dst)), "ipv4") => Outer::V4 { src, dst, ip },
                    (Some(Tok::V6(src)), Some(Tok::V6(dst)), "ipv6") => Outer::V6 { src, dst, ip },
                    _ => return self.fail(&format!("want two {word} addresses: {word} SRC > DST:")),
                };
                self.expect(':')?;
                Ok(Some(header))
            }
            "gre" | "GREv0" => {
                self.at += 1;
                self.gre().map(Some)
            }
            "mpls" => {
                self.at += 1;
                self.mpls().map(Some)
            }
            _ => Ok(None),
        }
    }

    fn gre(&mut self) -> Result<Outer> {
        let (mut flags, mut sum, mut off, mut key, mut seq) = (0u16, 0, 0, 0, 0);
        while !self.eat(':') {
            self.eat(',');
            let word = self.word("a GRE field (flags, sum, off, key, seq) or :")?;
            match word.as_str() {
                "flags" | "Flags" if self.eat('[') => loop {
                    match self.word("none, checksum, key or sequence#")?.as_str() {
                        "none" => {}
                        "checksum" => flags |= 0x8000,
                        "key" => flags |= 0x2000,
                        "sequence" => flags |= 0x1000,
                        _ => return self.fail("want none, checksum, key or sequence#"),
                    }
                    self.eat_word("present");
                    if self.eat(']') {
                        break;
                    }
                    self.expect(',')?;
                },
                "flags" | "Flags" => flags = self.int("GRE flags", 0, U16)? as u16,
                "sum" => sum = self.int("GRE checksum", 0, U16)? as u32,
                "off" => off = self.int("GRE offset", 0, U16)? as u32,
                "key" => {
                    self.eat('=');
                    key = self.int("GRE key", 0, U32)? as u32;
                }
                "seq" => seq = self.int("GRE sequence number", 0, U32)? as u32,
                _ => return self.fail("want a GRE field: flags, sum, off, key, seq"),
            }
        }
        Ok(Outer::Gre { flags, sum: sum << 16 | off, key, seq })
    }

    fn mpls(&mut self) -> Result<Outer> {
        let mut stack = Vec::new();
        while self.eat('(') {
            self.expect_word("label")?;
            let label = self.int("MPLS label", 0, 0xf_ffff)? as u32;
            self.expect(',')?;
            self.expect_word("tc")?;
            let class = self.int("MPLS traffic class", 0, 7)? as u32;
            self.expect(',')?;
            let mut bottom = 0;
            if self.eat('[') {
                self.expect_word("S")?;
                self.expect(']')?;
                self.expect(',')?;
                bottom = 1;
            }
            self.expect_word("ttl")?;
            let ttl = self.int("MPLS TTL", 0, 255)? as u32;
            self.expect(')')?;
            stack.push(label << 12 | class << 9 | bottom << 8 | ttl);
        }
        self.expect(':')?;
        Ok(Outer::Mpls(stack))
    }

    /// `(tos 0x10, flowlabel 0x1)` or `[ect0]`, or nothing.
    fn ip_info(&mut self) -> Result<IpInfo> {
        let mut info = IpInfo::default();
        let close = if self.eat('(') {
            ')'
        } else if self.eat('[') {
            ']'
        } else {
            return Ok(info);
        };
        loop {
            match self.word("one of noecn, ect0, ect1, ect01, ce, tos, flowlabel, ttl")?.as_str() {
                "noecn" => info.tos = Tos::Ecn(0),
                "ect1" => info.tos = Tos::Ecn(1),
                "ect0" => info.tos = Tos::Ecn(2),
                "ce" => info.tos = Tos::Ecn(3),
                "ect01" => info.tos = Tos::Ect01,
                "tos" => info.tos = Tos::Octet(self.int("tos", 0, 255)? as u8),
                "flowlabel" => info.flow_label = Some(self.int("flowlabel", 0, 0xf_ffff)? as u32),
                "ttl" => info.ttl = Some(self.int("ttl", 0, 255)? as u8),
                _ => {
                    return self.fail("want one of noecn, ect0, ect1, ect01, ce, tos, flowlabel, ttl in front of this");
                }
            }
            if self.eat(close) {
                return Ok(info);
            }
            if !self.eat(',') {
                return self.fail(&format!("want , or {close}"));
            }
        }
    }

    fn ports(&mut self) -> Result<Option<Ports>> {
        if let (Some(Tok::Int(..)), Some(Tok::Punct('>'))) = (self.peek(), self.peek_at(1)) {
            let src = self.int("source port", 0, U16)? as u16;
            self.expect('>')?;
            let dst = self.int("destination port", 0, U16)? as u16;
            return Ok(Some((src, dst)));
        }
        Ok(None)
    }

    fn udp(&mut self, ports: Option<Ports>) -> Result<Body> {
        self.expect('(')?;
        let len = self.int("UDP payload length", 0, U16)? as u16;
        self.expect(')')?;
        Ok(Body::Udp { ports, len })
    }

    fn icmp(&mut self) -> Result<Icmp> {
        let kind = self.word("an ICMP type")?;
        let mut icmp = Icmp { kind, code: None, mtu: None, id: None, quoted: None };
        if let Some(Tok::Word(w)) = self.peek()
            && w != "mtu"
            && w != "id"
        {
            icmp.code = Some(w.clone());
            self.at += 1;
        }
        if self.eat_word("mtu") {
            icmp.mtu = Some(self.int("mtu", 0, U32)? as u32);
        }
        if self.eat_word("id") {
            icmp.id = Some(self.int("id", 0, U16)? as u16);
        }
        if self.eat('[') {
            icmp.quoted = Some(if self.eat_word("udp") {
                Quoted::Udp { len: self.length()? }
            } else if self.eat_word("raw") {
                Quoted::Raw { len: self.length()? }
            } else {
                let (seq, len) = self.seq()?;
                Quoted::Tcp { seq, len }
            });
            self.expect(']')?;
        }
        Ok(icmp)
    }

    fn length(&mut self) -> Result<u16> {
        self.expect('(')?;
        let len = self.int("length", 0, U16)? as u16;
        self.expect(')')?;
        Ok(len)
    }

    /// `1:1001(1000)`.
    fn seq(&mut self) -> Result<(u32, u16)> {
        let start = self.int("the first sequence number", 0, U32)?;
        self.expect(':')?;
        let end = self.int("the sequence number behind the last", 0, U32)?;
        self.expect('(')?;
        let len = self.int("the payload length", 0, U16)?;
        if (start + len) & U32 != end {
            return self.fail(&format!("{start}:{end} is not {len} bytes"));
        }
        self.expect(')')?;
        Ok((start as u32, len as u16))
    }

    fn tcp(&mut self, inbound: bool) -> Result<Tcp> {
        let ports = self.ports()?;
        let (flags, ace) = self.flags()?;
        let (seq, len) = self.seq()?;
        let mut tcp = Tcp { ports, flags, ace, seq, len, options: Some(Vec::new()), ..Tcp::default() };
        if self.eat_word("ack") {
            tcp.ack = self.int("ack", 0, U32)? as u32;
        }
        if self.eat_word("win") {
            tcp.win = Some(self.int("win", 0, U16)? as u16);
        } else if inbound {
            return self.fail("want win: an inbound segment has a window");
        }
        if self.eat_word("urg") {
            tcp.urg = self.int("urg", 0, U16)? as u16;
        }
        if self.peek() == Some(&Tok::Punct('<')) && self.begins_options() {
            self.at += 1;
            if self.eat_tok(&Tok::Ellipsis) {
                if inbound {
                    return self.fail("<...> is for outbound packets only");
                }
                tcp.options = None;
                self.expect('>')?;
            } else {
                let options = self.options()?;
                let bytes: usize = options.iter().map(TcpOption::wire_len).sum();
                if bytes > 40 {
                    return self.fail(&format!("the options take {bytes} bytes; a header has room for 40"));
                }
                if !bytes.is_multiple_of(4) {
                    return self.fail(&format!("the options take {bytes} bytes: pad them with nop to a multiple of 4"));
                }
                tcp.options = Some(options);
            }
        }
        if self.peek() == Some(&Tok::Punct('{')) {
            return self.unsupported("mutations of packets ({mut …}, {truncate …}, {insert …})");
        }
        Ok(tcp)
    }

    /// The next event may begin with a packet only after its time: a `<` here opens the options.
    fn begins_options(&self) -> bool {
        matches!(self.peek_at(1), Some(Tok::Word(_) | Tok::Ellipsis))
    }

    /// `S.`, `.`, `P.5`, `FPWE.`, or `-` for none.
    fn flags(&mut self) -> Result<(u16, bool)> {
        let mut flags = 0;
        if self.eat('-') {
            return Ok((0, false));
        }
        let mut any = false;
        if let Some(Tok::Word(w)) = self.peek().cloned() {
            for c in w.chars() {
                flags |= match c {
                    'F' => flag::FIN,
                    'S' => flag::SYN,
                    'R' => flag::RST,
                    'P' => flag::PSH,
                    'U' => flag::URG,
                    'E' => flag::ECE,
                    'W' | 'C' => flag::CWR,
                    'A' => flag::AE,
                    _ => return self.fail("want TCP flags (F S R P U E W A, then . for ACK), udp or icmp"),
                };
            }
            self.at += 1;
            any = true;
        }
        match self.peek().cloned() {
            Some(Tok::Punct('.')) => flags |= flag::ACK,
            Some(Tok::Float(_, text)) if text.starts_with('.') => {
                // RFC 9768, 3.2.2: the counter stands in AE, CWR and ECE, in this order.
                let Ok(n @ 0..=7) = text[1..].parse::<u16>() else {
                    return self.fail("want an ACE counter from .0 to .7");
                };
                if flags & (flag::AE | flag::CWR | flag::ECE) != 0 {
                    return self.fail("an ACE counter says what E, W and A are: write one or the other");
                }
                self.at += 1;
                return Ok((flags | flag::ACK | n << 6, true));
            }
            _ if any => return Ok((flags, false)),
            _ => return self.fail("want TCP flags (F S R P U E W A, then . for ACK), udp or icmp"),
        }
        self.at += 1;
        Ok((flags, false))
    }

    fn options(&mut self) -> Result<Vec<TcpOption>> {
        let mut options = Vec::new();
        loop {
            options.push(self.option()?);
            if self.eat('>') {
                return Ok(options);
            }
            if !self.eat(',') {
                return self.fail("want , or > behind a TCP option");
            }
        }
    }

    fn option(&mut self) -> Result<TcpOption> {
        let name = self.word("a TCP option")?;
        Ok(match name.as_str() {
            "nop" => TcpOption::Nop,
            "eol" => TcpOption::Eol,
            "sackOK" => TcpOption::SackOk,
            "mss" => TcpOption::Mss(self.int("mss", 0, U16)? as u16),
            "wscale" => TcpOption::WindowScale(self.int("wscale", 0, 255)? as u8),
            "TS" => {
                self.expect_word("val")?;
                let val = self.int("TS val", 0, U32)? as u32;
                self.expect_word("ecr")?;
                TcpOption::Timestamp { val, ecr: self.int("TS ecr", 0, U32)? as u32 }
            }
            "sack" => {
                let mut blocks = Vec::new();
                while let Some(Tok::Int(..)) = self.peek() {
                    let left = self.int("left edge", 0, U32)? as u32;
                    self.expect(':')?;
                    blocks.push((left, self.int("right edge", 0, U32)? as u32));
                }
                TcpOption::Sack(blocks)
            }
            "FO" => TcpOption::FastOpen(self.hex()?),
            "FOEXP" => TcpOption::FastOpenExp(self.hex()?),
            "md5" => TcpOption::Md5(self.hex()?),
            "ECN" => self.accecn()?,
            "opt" => {
                let kind = self.int("option kind", 0, 255)? as u8;
                TcpOption::Other { kind, data: self.hex()? }
            }
            mptcp if MPTCP.iter().any(|m| mptcp.starts_with(m)) => {
                self.at -= 1;
                return self.unsupported(&format!("Multipath TCP ({name}): the stack has none"));
            }
            _ => {
                self.at -= 1;
                return self.unsupported(&format!(
                    "TCP option \"{name}\": want one of mss, wscale, sackOK, sack, TS, nop, eol, FO, FOEXP, md5, ECN, opt"
                ));
            }
        })
    }

    fn accecn(&mut self) -> Result<TcpOption> {
        let (mut e1_first, mut counters) = (false, Vec::new());
        while let Some(Tok::Word(w)) = self.peek().cloned() {
            if counters.is_empty() {
                e1_first = w == "e1b";
            }
            let order = if e1_first { ["e1b", "ceb", "e0b"] } else { ["e0b", "ceb", "e1b"] };
            if order.get(counters.len()) != Some(&w.as_str()) {
                return self.fail("AccECN counters stand in the order e0b ceb e1b, or e1b ceb e0b");
            }
            self.at += 1;
            counters.push(self.int("an AccECN counter", 0, 0xff_ffff)? as u32);
        }
        Ok(TcpOption::AccEcn { e1_first, counters })
    }

    /// Hexadecimal digits, or nothing.
    fn hex(&mut self) -> Result<Vec<u8>> {
        let text = match self.peek() {
            Some(Tok::Word(w)) => w.clone(),
            Some(Tok::Int(_, text)) => text.clone(),
            _ => return Ok(Vec::new()),
        };
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        let Some(digits) = digits.filter(|d| d.len().is_multiple_of(2)) else {
            return self.fail("want an even number of hexadecimal digits");
        };
        self.at += 1;
        Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
    }
}
