//! The other host: it keeps what it needs of each flow to say something that the stack believes, and builds frames.

use crate::reader::Reader;
use stackd_base::SeqNum;
use stackd_wire::{
    EtherType, EthernetRepr, IcmpRepr, Ipv4Repr, Ipv6Fragment, Ipv6Repr, MacAddr, SackBlock, Sum, TcpFlags, TcpOptions,
    TcpRepr, Timestamps, UdpRepr, Unreachable, proto,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

pub fn ours(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into() } else { Ipv4Addr::new(10, 0, 0, 1).into() }
}
pub fn theirs(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into() } else { Ipv4Addr::new(10, 0, 0, 2).into() }
}

/// A TCP flow as the peer sees it.
#[derive(Clone, Copy)]
pub struct Flow {
    pub v6: bool,
    pub local: u16,
    pub remote: u16,
    /// What the peer sends next.
    pub next: u32,
    /// What it expects.
    pub expects: u32,
    pub ts: u32,
}

#[derive(Default)]
pub struct Peer {
    pub flows: Vec<Flow>,
    /// The last frame the stack sent.
    pub last: Vec<u8>,
}

/// Ethernet, an IP header and `transport`.
pub fn frame(v6: bool, protocol: u8, r: &mut Reader<'_>, transport: &[u8]) -> Vec<u8> {
    let shape = r.u8();
    let (tos, ttl) = (if shape & 1 == 0 { 0 } else { r.u8() }, if shape & 2 == 0 { 64 } else { r.u8() });
    let mut dst = ours(v6);
    if shape & 0xfc == 4 {
        dst = [
            IpAddr::from(Ipv4Addr::BROADCAST),
            Ipv4Addr::new(224, 0, 0, 1).into(),
            Ipv4Addr::new(10, 0, 0, 255).into(),
            Ipv4Addr::LOCALHOST.into(),
        ][usize::from(r.u8()) % 4];
        if v6 {
            dst = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, u16::from(r.u8() % 3)).into();
        }
    }
    let mut src = theirs(v6);
    if shape & 0xfc == 8 {
        src = if v6 {
            Ipv6Addr::from(u128::from(r.u32()) << 96 | u128::from(r.u8())).into()
        } else {
            Ipv4Addr::from(r.u32()).into()
        };
    }
    let mut out = vec![0; 14];
    let ether_type = if v6 { EtherType::Ipv6 } else { EtherType::Ipv4 } as u16;
    EthernetRepr { dst: OURS, src: THEIRS, ether_type }.emit(&mut out);
    let fragment = (shape & 0xfc == 12).then(|| (r.u16(), r.flip(), r.u8()));
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = [0; 20];
            let (offset, more, ident) = fragment.unwrap_or_default();
            let repr = Ipv4Repr {
                src,
                dst,
                protocol,
                ttl,
                tos,
                ident: u16::from(ident),
                dont_fragment: false,
                more_fragments: more,
                fragment_offset: offset & 0xfff8,
                payload_len: transport.len() as u16,
            };
            repr.emit(&mut header);
            out.extend(header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let extra = if fragment.is_some() { 8 } else { 0 };
            let mut header = [0; 40];
            Ipv6Repr {
                src,
                dst,
                next_header: if fragment.is_some() { proto::FRAGMENT } else { protocol },
                hop_limit: ttl,
                traffic_class: tos,
                flow_label: 0,
                payload_len: transport.len() as u16 + extra,
            }
            .emit(&mut header);
            out.extend(header);
            if let Some((offset, more, ident)) = fragment {
                let mut header = [0; 8];
                Ipv6Fragment { next_header: protocol, offset: offset & 0xfff8, more, ident: u32::from(ident) }
                    .emit(&mut header);
                out.extend(header);
            }
        }
        _ => {}
    }
    out.extend_from_slice(transport);
    out
}

fn options(flags: TcpFlags, flow: &Flow, r: &mut Reader<'_>) -> TcpOptions {
    let o = r.u8();
    let mut options = TcpOptions::NONE;
    if o & 1 == 0 {
        options.timestamps = Some(Timestamps { tsval: if o & 2 == 0 { 1000 } else { r.u32() }, tsecr: flow.ts });
    }
    if flags.syn() {
        options.mss = Some(if o & 4 == 0 { 1460 } else { r.u16() });
        options.window_scale = (o & 8 == 0).then(|| r.u8() % 16);
        options.sack_permitted = o & 16 == 0;
    } else {
        for _ in 0..(o >> 2) % 4 {
            let left = SeqNum(flow.expects) + r.distance();
            options.sack.push(SackBlock { left, right: left + r.distance() });
        }
    }
    options
}

impl Peer {
    /// Any of the flows, or a new one to one of the stack's ports.
    pub fn flow(&mut self, r: &mut Reader<'_>) -> usize {
        let n = usize::from(r.u8());
        if n >= 128 && self.flows.len() < 12 || self.flows.is_empty() {
            let (v6, next) = (n & 1 == 1, if n & 2 == 0 { 5000 } else { u32::MAX - 3 });
            let local = if n & 12 == 12 { 81 } else { 80 };
            self.flows.push(Flow { v6, local, remote: 1000 + self.flows.len() as u16, next, expects: 0, ts: 0 });
            return self.flows.len() - 1;
        }
        n % self.flows.len()
    }

    /// A TCP segment: right in everything, or wrong in a way of the fuzzer's choosing.
    pub fn tcp(&mut self, r: &mut Reader<'_>) -> Vec<u8> {
        let i = self.flow(r);
        let flow = self.flows[i];
        let (flags, with_ack) = r.pick(&[
            (TcpFlags::NONE, true),
            (TcpFlags::PSH, true),
            (TcpFlags::SYN, false),
            (TcpFlags::SYN, true),
            (TcpFlags::FIN, true),
            (TcpFlags::RST, true),
            (TcpFlags::RST, false),
            (TcpFlags::NONE, false),
        ]);
        let (seq_off, ack_off) = (r.distance(), r.distance());
        let len =
            if flags.syn() || flags.rst() { 0 } else { usize::from(r.u8()) * if r.flip() { 40 } else { 1 } }.min(8000);
        let window = r.u16();
        let repr = TcpRepr {
            src_port: flow.remote,
            dst_port: flow.local,
            seq: SeqNum(flow.next) + seq_off,
            ack: with_ack.then(|| SeqNum(flow.expects) - ack_off),
            flags,
            window,
            urgent: 0,
            options: options(flags, &flow, r),
        };
        if seq_off == 0 && !flags.rst() {
            self.flows[i].next = (repr.seq + repr.sequence_len(len as u32)).0;
        }
        let mut segment = vec![0; repr.header_len()];
        repr.emit(&mut segment);
        let payload = vec![b'x'; len];
        let (src, dst) = (theirs(flow.v6), ours(flow.v6));
        TcpRepr::fill_checksum(&mut segment, src, dst, Sum::of(&payload), len);
        segment.extend(payload);
        frame(flow.v6, proto::TCP, r, &segment)
    }

    pub fn udp(&mut self, r: &mut Reader<'_>) -> Vec<u8> {
        let v6 = r.flip();
        let data = vec![b'u'; usize::from(r.u8()) * usize::from(r.u8() % 8)];
        let repr = UdpRepr { src_port: 53, dst_port: r.pick(&[53, 54, 9]), payload_len: data.len() as u16 };
        let mut out = vec![0; 8];
        repr.emit(&mut out, theirs(v6), ours(v6), Sum::of(&data));
        out.extend(data);
        frame(v6, proto::UDP, r, &out)
    }

    /// An echo request, or an error about the last packet the stack sent.
    pub fn icmp(&mut self, r: &mut Reader<'_>) -> Vec<u8> {
        let quoted = self.last.get(14..).unwrap_or_default();
        let v6 = quoted.first().is_some_and(|b| b >> 4 == 6);
        let repr = match r.u8() % 7 {
            0 => IcmpRepr::EchoRequest { ident: 1, seq: 2 },
            1 => IcmpRepr::DestUnreachable(Unreachable::Port),
            2 => IcmpRepr::DestUnreachable(Unreachable::Host),
            3 => IcmpRepr::TimeExceeded { reassembly: false },
            4 => IcmpRepr::ParameterProblem { code: 0, pointer: r.u32() },
            5 => IcmpRepr::Other { kind: r.u8(), code: r.u8() % 4, rest: [0; 4] },
            _ => IcmpRepr::PacketTooBig { mtu: u32::from(r.u16()) },
        };
        let mut out = vec![0; 8];
        if matches!(repr, IcmpRepr::Other { .. } | IcmpRepr::EchoRequest { .. }) {
            out.extend(r.bytes(64));
        } else {
            out.extend(quoted.iter().take(200));
        }
        match (v6, theirs(true), ours(true)) {
            (true, IpAddr::V6(src), IpAddr::V6(dst)) => repr.emit_v6(&mut out, src, dst),
            _ => repr.emit_v4(&mut out),
        }
        frame(v6, if v6 { proto::ICMPV6 } else { proto::ICMP }, r, &out)
    }

    /// What the stack sent: the peer learns from it.
    pub fn saw(&mut self, frame: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(&frame[..frame.len().min(1600)]);
        let v6 = frame.get(14).is_some_and(|b| b >> 4 == 6);
        let at = if v6 { 54 } else { 34 };
        let protocol = frame.get(if v6 { 20 } else { 23 }).copied();
        let Some(Ok((seg, header))) = frame.get(at..).map(TcpRepr::parse) else { return };
        if protocol != Some(proto::TCP) {
            return;
        }
        let known = self.flows.iter().position(|f| (f.v6, f.local, f.remote) == (v6, seg.src_port, seg.dst_port));
        if known.is_none() && seg.flags.syn() && self.flows.len() < 24 {
            let (local, remote) = (seg.src_port, seg.dst_port);
            self.flows.push(Flow { v6, local, remote, next: 77, expects: 0, ts: 0 });
        }
        let known = known.or_else(|| self.flows.len().checked_sub(1).filter(|_| seg.flags.syn()));
        let Some(flow) = known.and_then(|i| self.flows.get_mut(i)) else { return };
        let end = seg.seq + seg.sequence_len((frame.len() - at - header) as u32);
        if seg.flags.syn() || end.distance_from(SeqNum(flow.expects)) > 0 {
            flow.expects = end.0;
        }
        if let Some(t) = seg.options.timestamps {
            flow.ts = t.tsval;
        }
    }
}
