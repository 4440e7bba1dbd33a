//! Packets of the stack, and whether they are what the script says.

use super::flow::Stage;
use super::host::Sent;
use super::{PATIENCE, Runner};
use crate::ast::{Body, Icmp, IpInfo, Packet, Tcp, TcpOption, Tos, flag};
use crate::error::Result;
use crate::wire::{View, code_of, proto, show_packet, type_of};
use stackd_base::Instant;
use std::collections::VecDeque;

/// What of the stack's packets an event looks at.
#[derive(Clone, Copy)]
enum Wanted {
    Tcp(usize),
    Udp(usize),
    Icmp,
}

impl Runner<'_> {
    /// The next packet of the stack is `packet`, and leaves within `window` (`None`: at any time).
    pub(super) fn expect(&mut self, line: u32, packet: &Packet, window: Option<(Instant, Instant)>) -> Result<()> {
        if !packet.outer.is_empty() {
            return Err(
                self.unsupported(line, "encapsulated outbound packets: the stack has no tunnels, it never sends any")
            );
        }
        let wanted = match &packet.body {
            Body::Tcp(t) => Wanted::Tcp(self.flow_for(line, true, t.ports, false)?),
            Body::Udp { ports, .. } => Wanted::Udp(self.flow_for(line, false, *ports, false)?),
            Body::Icmp(_) => Wanted::Icmp,
        };
        let len = match &packet.body {
            Body::Tcp(t) => usize::from(t.len),
            Body::Udp { len, .. } => usize::from(*len),
            Body::Icmp(_) => 0,
        };
        let sent = self.collect(line, packet, wanted, len, window)?;
        let at = sent[0].at;
        let checked = match (&packet.body, wanted) {
            (Body::Tcp(t), Wanted::Tcp(i)) => self.check_tcp(i, t, &packet.ip, &sent),
            (Body::Udp { len, .. }, Wanted::Udp(i)) => self.check_udp(i, *len, &packet.ip, &sent[0]),
            (Body::Icmp(icmp), _) => self.check_icmp(icmp, &packet.ip, &sent[0]),
            _ => Ok(()),
        };
        let checked = checked.and_then(|()| self.check_time(at, window));
        if let Err(text) = checked {
            let text = format!(
                "{text}\n  expected: {}\n    actual: {}",
                self.shown(packet, window),
                self.actual(wanted, &sent)
            );
            let failure = self.mismatch(line, format!("outbound packet: {text}"));
            if self.cfg.non_fatal_packet {
                self.report.output.push(format!("warning: {failure}"));
                return Ok(());
            }
            return Err(failure);
        }
        if self.cfg.verbose {
            let text = self.actual(wanted, &sent);
            self.report.output.push(format!("{}:{line}: {text}", self.file));
        }
        Ok(())
    }

    /// Takes packets off what the stack sent until they carry `len` bytes: what the script writes as one packet may be several segments, and
    /// what the stack sends as one large packet may be several of the script's, for on the wire that is the same.
    fn collect(
        &mut self,
        line: u32,
        packet: &Packet,
        wanted: Wanted,
        len: usize,
        window: Option<(Instant, Instant)>,
    ) -> Result<Vec<Sent>> {
        let Some(mut first) = self.next_sent(wanted, window)? else {
            let text = format!("no such packet was sent, and none will be\n  expected: {}", self.shown(packet, window));
            return Err(self.mismatch(line, text));
        };
        if self.cfg.strict_segments || len == 0 {
            return Ok(vec![first]);
        }
        if first.payload_len() > len
            && let Some(segments) = first.split_at(len)
        {
            self.host.sent.push_front(first);
            return Ok(segments);
        }
        let mut have = first.payload_len();
        let mut sent = vec![first];
        while have < len && have > 0 {
            let last = &sent[sent.len() - 1];
            // What follows belongs to it if it goes on where it ends, at the same time.
            let Some(i) = self.find_sent(wanted) else { break };
            if self.host.sent[i].at != last.at || !follows(last, &self.host.sent[i]) {
                break;
            }
            let Some(mut next) = self.host.sent.remove(i) else { break };
            if have + next.payload_len() > len
                && let Some(segments) = next.split_at(len - have)
            {
                self.host.sent.push_front(next);
                sent.extend(segments);
                break;
            }
            have += next.payload_len();
            sent.push(next);
        }
        Ok(sent)
    }

    fn find_sent(&self, wanted: Wanted) -> Option<usize> {
        find(&self.host.sent, |view| match wanted {
            Wanted::Icmp => matches!(view.protocol, proto::ICMP) || is_icmpv6_of_interest(view),
            Wanted::Tcp(i) | Wanted::Udp(i) => {
                let flow = &self.flows[i];
                let ends = view.ends();
                let protocol = if flow.tcp { proto::TCP } else { proto::UDP };
                let from_us = flow.local.port() == 0 || ends.src.port() == flow.local.port();
                view.protocol == protocol && from_us && (ends.dst == flow.remote || flow.remote.port() == 0)
            }
        })
    }

    /// The next packet of that kind, waited for.
    fn next_sent(&mut self, wanted: Wanted, window: Option<(Instant, Instant)>) -> Result<Option<Sent>> {
        let limit = window.map_or(self.host.now, |(_, end)| end) + PATIENCE;
        self.host.settle();
        loop {
            if let Some(i) = self.find_sent(wanted) {
                return Ok(self.host.sent.remove(i));
            }
            self.poll_pending()?;
            self.host.settle();
            if self.find_sent(wanted).is_some() {
                continue;
            }
            let wake = self.pending.as_ref().and_then(|p| p.progress.wake).filter(|&w| w <= limit);
            let moved = self.host.step(wake.unwrap_or(limit));
            self.take_events();
            if !moved {
                match wake {
                    Some(w) if w > self.host.now => self.host.advance(w),
                    _ => return Ok(None),
                }
            }
        }
    }

    fn check_time(&self, at: Instant, window: Option<(Instant, Instant)>) -> Result<(), String> {
        let Some((from, to)) = window else { return Ok(()) };
        let tolerance = self.tolerance(from - self.last);
        if at + tolerance < from || at > to + tolerance {
            return Err(format!("it left at {}, expected {}", self.clock(at), self.when(window)));
        }
        Ok(())
    }

    fn when(&self, window: Option<(Instant, Instant)>) -> String {
        match window {
            None => String::from("*"),
            Some((a, b)) if a == b => self.clock(a),
            Some((a, b)) => format!("{}~{}", self.clock(a), self.clock(b)),
        }
    }

    /// The script's packet, with its time.
    fn shown(&self, packet: &Packet, window: Option<(Instant, Instant)>) -> String {
        let ip = match packet.ip.tos {
            Tos::Any => String::new(),
            Tos::Ecn(n) => format!("[{}] ", ["noecn", "ect1", "ect0", "ce"][usize::from(n & 3)]),
            Tos::Ect01 => String::from("[ect01] "),
            Tos::Octet(n) => format!("(tos {n:#x}) "),
        };
        let body = match &packet.body {
            Body::Tcp(t) => t.to_string(),
            Body::Udp { len, .. } => format!("udp ({len})"),
            Body::Icmp(i) => format!("icmp {} {}", i.kind, i.code.as_deref().unwrap_or_default()),
        };
        format!("{} > {ip}{body}", self.when(window))
    }

    /// The stack's packet in the script's terms.
    fn actual(&self, wanted: Wanted, sent: &[Sent]) -> String {
        let at = self.clock(sent[0].at);
        let views: Vec<View> = sent.iter().filter_map(|s| View::parse(&s.bytes())).collect();
        let Some(first) = views.first() else { return format!("{at} > (no IP packet)") };
        let tcp = match wanted {
            Wanted::Tcp(i) => views.last().and_then(View::tcp).map(|(last, _)| {
                let mut t = self.flows[i].script(&last);
                if let Some((f, _)) = first.tcp() {
                    t.seq = self.flows[i].script(&f).seq;
                }
                t.len = sent.iter().map(|s| s.payload_len() as u16).fold(0, u16::wrapping_add);
                t
            }),
            Wanted::Udp(_) | Wanted::Icmp => None,
        };
        format!("{at} > {}", show_packet(first, tcp.as_ref()))
    }

    fn check_tcp(&mut self, i: usize, script: &Tcp, ip: &IpInfo, sent: &[Sent]) -> Result<(), String> {
        let views: Option<Vec<View>> = sent.iter().map(|s| View::parse(&s.bytes())).collect();
        let views = views.ok_or("it is no IP packet")?;
        for (view, s) in views.iter().zip(sent) {
            if !view.ip_checksum_ok {
                return Err(String::from("its IP checksum is wrong"));
            }
            if !s.is_gso() && !view.checksum_ok() {
                return Err(String::from("its TCP checksum is wrong"));
            }
            self.check_ip(i, ip, view)?;
        }
        let parsed: Option<Vec<(Tcp, &[u8])>> = views.iter().map(View::tcp).collect();
        let parsed = parsed.ok_or("it is no TCP segment, or its options have impossible lengths")?;
        let (first, last) = (&parsed[0].0, &parsed[parsed.len() - 1].0);
        self.flows[i].learn(first, script);
        if self.flows[i].local.port() == 0 || self.flows[i].stage == Stage::SynSent {
            self.flows[i].local = views[0].ends().src;
        }
        // CWR stands on the first segment, FIN and PSH on the last.
        let mut whole = self.flows[i].script(last);
        whole.seq = self.flows[i].script(first).seq;
        whole.flags |= first.flags & flag::CWR;
        compare(script, &whole, parsed.iter().map(|(_, p)| p.len()).sum())?;
        if let Some(ports) = script.ports
            && first.ports != Some(ports)
        {
            return Err(format!("its ports are {:?}", first.ports.unwrap_or_default()));
        }
        for (live, _) in &parsed {
            self.check_options(i, script, live)?;
        }
        self.check_payload(i, &parsed)
    }

    fn check_options(&mut self, i: usize, script: &Tcp, live: &Tcp) -> Result<(), String> {
        let Some(wanted) = &script.options else { return Ok(()) };
        let got = self.flows[i].script(live).options.unwrap_or_default();
        let mut got = got.into_iter();
        for want in wanted {
            let Some(mut have) = got.next() else { return Err(format!("the option {want} is missing")) };
            if let (TcpOption::Timestamp { val, .. }, TcpOption::Timestamp { val: wanted, ecr }) = (&have, want) {
                let (live_val, live_ecr) = (*val, if let TcpOption::Timestamp { ecr, .. } = &have { *ecr } else { 0 });
                let in_script = self.flows[i].learn_timestamp(*wanted, live_val);
                let off = u64::from(in_script.abs_diff(*wanted)) * self.cfg.ts_tick_usecs;
                if off > self.cfg.tolerance.as_micros() {
                    return Err(format!("TS val is {in_script}, expected {wanted}"));
                }
                // The peer's timestamps are the script's own.
                if live_ecr != *ecr {
                    return Err(format!("TS ecr is {live_ecr}, expected {ecr}"));
                }
                have = want.clone();
            }
            if have != *want {
                return Err(format!("option {have}, expected {want}"));
            }
        }
        match got.next() {
            Some(more) => Err(format!("the option {more} is not expected")),
            None => Ok(()),
        }
    }

    fn check_payload(&self, i: usize, parsed: &[(Tcp, &[u8])]) -> Result<(), String> {
        let flow = &self.flows[i];
        let Some(streams) = flow.sock.and_then(|s| self.streams.get(&s)) else { return Ok(()) };
        for (t, payload) in parsed {
            let from = flow.tx_offset(t.seq, t.flags & flag::SYN != 0);
            // A keepalive or window probe may carry a byte that has no place in the stream.
            if payload.is_empty() || from >= streams.tx.len() {
                continue;
            }
            let written = &streams.tx[from..streams.tx.len().min(from + payload.len())];
            if let Some(n) = payload.iter().zip(written).position(|(a, b)| a != b) {
                return Err(format!("byte {} of the stream is not what was written", from + n));
            }
        }
        Ok(())
    }

    fn check_ip(&mut self, i: usize, ip: &IpInfo, view: &View) -> Result<(), String> {
        let IpInfo { tos, ttl, flow_label } = *ip;
        check_tos(tos, view.tos)?;
        if let Some(ttl) = ttl.filter(|&t| t != 0)
            && ttl != view.ttl
        {
            return Err(format!("ttl is {}, expected {ttl}", view.ttl));
        }
        // Labels are the stack's choice: equal ones in the script are equal, others differ.
        if let Some(label) = flow_label.filter(|&l| l != 0) {
            if view.flow_label == 0 {
                return Err(String::from("it has no flow label"));
            }
            match self.flows[i].flow_label {
                Some((script, live)) if script == label && live != view.flow_label => {
                    return Err(format!("its flow label changed from {live:#x} to {:#x}", view.flow_label));
                }
                Some((script, live)) if script != label && live == view.flow_label => {
                    return Err(String::from("its flow label did not change"));
                }
                _ => self.flows[i].flow_label = Some((label, view.flow_label)),
            }
        }
        Ok(())
    }

    fn check_udp(&mut self, i: usize, len: u16, ip: &IpInfo, sent: &Sent) -> Result<(), String> {
        let view = View::parse(&sent.bytes()).ok_or("it is no IP packet")?;
        if !view.checksum_ok() {
            return Err(String::from("its UDP checksum is wrong"));
        }
        self.check_ip(i, ip, &view)?;
        let payload = view.udp().ok_or("it is no datagram")?;
        if payload.len() != usize::from(len) {
            return Err(format!("its payload has {} bytes, expected {len}", payload.len()));
        }
        if self.flows[i].local.port() == 0 {
            self.flows[i].local = view.ends().src;
        }
        Ok(())
    }

    fn check_icmp(&self, icmp: &Icmp, ip: &IpInfo, sent: &Sent) -> Result<(), String> {
        let view = View::parse(&sent.bytes()).ok_or("it is no IP packet")?;
        let v6 = view.is_v6();
        let kind = type_of(v6, &icmp.kind).ok_or_else(|| format!("there is no ICMP type \"{}\"", icmp.kind))?;
        let code = code_of(v6, kind, icmp.code.as_deref()).ok_or("there is no such ICMP code")?;
        check_tos(ip.tos, view.tos)?;
        if !view.checksum_ok() {
            return Err(String::from("its ICMP checksum is wrong"));
        }
        let (live_kind, live_code, rest) = view.icmp().ok_or("it is no ICMP message")?;
        if (live_kind, live_code) != (kind, code) {
            return Err(format!("type {live_kind} code {live_code}, expected type {kind} code {code}"));
        }
        if let Some(mtu) = icmp.mtu
            && rest != mtu
        {
            return Err(format!("mtu is {rest}, expected {mtu}"));
        }
        if let Some(id) = icmp.id
            && (rest >> 16) as u16 != id
        {
            return Err(format!("id is {}, expected {id}", rest >> 16));
        }
        Ok(())
    }

    /// A packet that nothing expected is an error (`--reject_trailing`).
    pub(super) fn reject_trailing(&mut self, line: u32) -> Result<()> {
        self.host.settle();
        let left = find(&self.host.sent, |v| matches!(v.protocol, proto::TCP | proto::UDP | proto::ICMP));
        let Some(sent) = left.and_then(|i| self.host.sent.remove(i)) else { return Ok(()) };
        let view = View::parse(&sent.bytes());
        let flow = view.as_ref().and_then(|v| {
            self.flows.iter().position(|f| f.tcp && f.remote == v.ends().dst && f.local.port() == v.ends().src.port())
        });
        let wanted = flow.map_or(Wanted::Icmp, Wanted::Tcp);
        let text = self.actual(wanted, &[sent]);
        Err(self.mismatch(line, format!("a packet that the script does not expect\n    actual: {text}")))
    }
}

fn find(sent: &VecDeque<Sent>, f: impl Fn(&View) -> bool) -> Option<usize> {
    sent.iter().position(|s| View::parse(&s.bytes()).is_some_and(|v| f(&v)))
}

/// Errors and echoes; neighbour and group messages are no business of scripts.
fn is_icmpv6_of_interest(view: &View) -> bool {
    view.protocol == proto::ICMPV6 && view.icmp().is_some_and(|(kind, ..)| kind <= 129)
}

/// Whether a segment goes on where another ends, and both could be one.
fn follows(a: &Sent, b: &Sent) -> bool {
    let (Some(va), Some(vb)) = (View::parse(&a.bytes()), View::parse(&b.bytes())) else { return false };
    match (va.tcp(), vb.tcp()) {
        (Some((ta, pa)), Some((tb, pb))) => {
            !pb.is_empty()
                && tb.seq == ta.seq.wrapping_add(pa.len() as u32)
                && ta.ack == tb.ack
                && (ta.flags ^ tb.flags) & !(flag::FIN | flag::PSH | flag::CWR) == 0
                && ta.flags & flag::FIN == 0
        }
        _ => false,
    }
}

fn check_tos(wanted: Tos, tos: u8) -> Result<(), String> {
    let ok = match wanted {
        Tos::Any => true,
        Tos::Ecn(n) => tos & 3 == n,
        Tos::Ect01 => matches!(tos & 3, 1 | 2),
        Tos::Octet(n) => tos == n,
    };
    if ok { Ok(()) } else { Err(format!("its TOS octet is {tos:#04x} (ECN bits {:#04b})", tos & 3)) }
}

/// The header's fields, the options apart. `len` bytes came.
fn compare(script: &Tcp, live: &Tcp, len: usize) -> Result<(), String> {
    let field = |name: &str, want: u32, got: u32| {
        if want == got { Ok(()) } else { Err(format!("{name} is {got}, expected {want}")) }
    };
    if script.flags != live.flags {
        let ace = flag::AE | flag::CWR | flag::ECE;
        if script.ace && (script.flags ^ live.flags) & !ace == 0 {
            return field("ACE", u32::from(script.flags >> 6 & 7), u32::from(live.flags >> 6 & 7));
        }
        return Err(String::from("its flags differ"));
    }
    field("seq", script.seq, live.seq)?;
    field("payload length", u32::from(script.len), len as u32)?;
    field("ack", script.ack, live.ack)?;
    if let Some(win) = script.win {
        field("win", u32::from(win), u32::from(live.win.unwrap_or(0)))?;
    }
    field("urg", u32::from(script.urg), u32::from(live.urg))
}
