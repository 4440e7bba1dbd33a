//! The way in: checks, classification, reassembly, and who gets it.

use super::frag::{Fragment, Key, Malformed, Outcome, Reassembler};
use super::{Datagram, Delivered, IpEnv, IpLayer};
use crate::addr::Class;
use crate::packet::{Packet, Payload};
use stackd_base::{DropReason, Mib, PortId};
use stackd_wire::{
    EcnCodepoint, EtherType, EthernetRepr, Extensions, IcmpRepr, Ipv4Repr, Ipv6Repr, MacAddr, Offload, ParseError,
    Unreachable, ipv6, proto,
};
use std::borrow::Cow;
use std::net::IpAddr;

/// A packet whose network header was accepted.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub port: PortId,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub class: Class,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    /// Visible bytes from the IP header on, link-layer padding removed.
    pub packet: Cow<'a, [u8]>,
    pub frame_at: usize,
    pub transport_at: usize,
    pub transport_len: usize,
    pub trusted: bool,
    pub gso_size: u16,
    /// Sender of the frame.
    pub mac: MacAddr,
}

impl Accepted<'_> {
    pub(crate) fn transport(&self) -> &[u8] {
        self.packet.get(self.transport_at..).unwrap_or_default()
    }
}

impl IpLayer {
    /// A frame arrived: `head` is what the stack may look at, `payload_len` bytes follow it that it may not. `head` holds at
    /// least the headers of an unfragmented TCP segment, and all of any other frame.
    pub fn handle_frame<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        head: &'a [u8],
        payload_len: usize,
        offload: &Offload,
    ) -> Delivered<'a> {
        let out = self.frame_in(env, port, Cow::Borrowed(head), payload_len, offload);
        self.finish_input(env, port, head.len() + payload_len, out)
    }

    /// A packet that left by `port`'s queue comes in again there (`lo`). Its checksum need not be complete. Payload that is a range of
    /// a send buffer stays where it is: the answer's `transport_len` says how much of it there is.
    pub fn handle_packet<'a>(&mut self, env: &mut IpEnv<'_>, port: PortId, packet: &'a Packet) -> Delivered<'a> {
        let len = packet.frame_len();
        let (frame, rest, offload) = match &packet.payload {
            Payload::Owned(bytes) => {
                let mut frame = Vec::with_capacity(len);
                packet.write_frame(bytes, &mut frame);
                let checked = Offload { csum: None, csum_valid: packet.corrupt_bit.is_none(), ..packet.offload };
                (Cow::Owned(frame), 0, checked)
            }
            Payload::Stream { range, .. } => {
                (Cow::Borrowed(&packet.head[..]), (range.end - range.start) as usize, packet.offload)
            }
            Payload::None => (Cow::Borrowed(&packet.head[..]), 0, packet.offload),
        };
        let out = self.frame_in(env, port, frame, rest, &offload);
        self.finish_input(env, port, len, out)
    }

    fn finish_input<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        len: usize,
        out: Result<Delivered<'a>, DropReason>,
    ) -> Delivered<'a> {
        if let Some(p) = self.ports.iter_mut().find(|p| p.id == port) {
            p.stats.rx_packets += 1;
            p.stats.rx_bytes += len as u64;
            p.stats.rx_dropped += u64::from(out.is_err());
        }
        self.count_drops(env);
        out.unwrap_or_else(|reason| {
            env.drops.count(reason);
            Delivered::Dropped(reason)
        })
    }

    fn frame_in<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        frame: Cow<'a, [u8]>,
        payload_len: usize,
        offload: &Offload,
    ) -> Result<Delivered<'a>, DropReason> {
        let p = self.ports.iter_mut().find(|p| p.id == port).ok_or(DropReason::DeviceDown)?;
        if !p.up {
            return Err(DropReason::DeviceDown);
        }
        let (eth, at) = if p.config.caps.ethernet || p.config.loopback {
            let (eth, at) = EthernetRepr::parse(&frame).map_err(|_| DropReason::EthTooShort)?;
            (eth, at)
        } else {
            let ether_type = if frame.first().is_some_and(|b| b >> 4 == 6) { EtherType::Ipv6 } else { EtherType::Ipv4 };
            (EthernetRepr { dst: p.config.mac, src: MacAddr::ZERO, ether_type: ether_type as u16 }, 0)
        };
        if eth.dst.is_group() {
            p.stats.rx_multicast += 1;
        } else if eth.dst != p.config.mac && !p.config.loopback {
            return Err(DropReason::EthNotForUs);
        }
        let packet_len = frame.len() + payload_len - at;
        let body = match frame {
            Cow::Borrowed(f) => Cow::Borrowed(&f[at..]),
            Cow::Owned(mut f) => Cow::Owned(f.split_off(at)),
        };
        let ctx = FrameInfo { port, mac: eth.src, group: eth.dst.is_group(), at, packet_len, offload };
        match EtherType::from_raw(eth.ether_type).ok_or(DropReason::EthUnknownType)? {
            EtherType::Arp => self.handle_arp(env, port, &body).map(|()| Delivered::Handled),
            EtherType::Ipv4 => self.ipv4_in(env, &ctx, body),
            EtherType::Ipv6 => self.ipv6_in(env, &ctx, body),
        }
    }

    fn ipv4_in<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        f: &FrameInfo<'_>,
        mut packet: Cow<'a, [u8]>,
    ) -> Result<Delivered<'a>, DropReason> {
        env.mib.inc(Mib::IpInReceives);
        let (ip, header_len) = Ipv4Repr::parse(&packet, f.packet_len).map_err(|e| {
            env.mib.inc(Mib::IpInHdrErrors);
            if e == ParseError::Checksum { DropReason::IpChecksum } else { DropReason::IpHeaderInvalid }
        })?;
        let total = header_len + usize::from(ip.payload_len);
        truncate(&mut packet, total);
        env.mib.add(Mib::IpExtInOctets, total as u64);
        env.mib.inc(match EcnCodepoint::from_tos(ip.tos) {
            EcnCodepoint::NotEct => Mib::IpExtInNoECTPkts,
            EcnCodepoint::Ect0 => Mib::IpExtInECT0Pkts,
            EcnCodepoint::Ect1 => Mib::IpExtInECT1Pkts,
            EcnCodepoint::Ce => Mib::IpExtInCEPkts,
        });
        let (src, dst) = (IpAddr::V4(ip.src), IpAddr::V4(ip.dst));
        let class = self.classify_in(env, f, src, dst)?;
        env.mib.add(Mib::IpExtInMcastPkts, (class == Class::Multicast).into());
        env.mib.add(Mib::IpExtInBcastPkts, (class == Class::Broadcast).into());
        let mut a = Accepted {
            port: f.port,
            src,
            dst,
            class,
            protocol: ip.protocol,
            ttl: ip.ttl,
            tos: ip.tos,
            packet,
            frame_at: f.at,
            transport_at: header_len,
            transport_len: usize::from(ip.payload_len),
            trusted: f.offload.checksum_trusted(),
            gso_size: f.offload.gso_size,
            mac: f.mac,
        };
        if ip.is_fragment() {
            let key = Key { src, dst, ident: ip.ident.into(), protocol: ip.protocol };
            let Some(whole) = self.reassemble(env, a, key, usize::from(ip.fragment_offset), ip.more_fragments)? else {
                return Ok(Delivered::Handled);
            };
            a = whole;
        }
        self.deliver(env, a)
    }

    fn ipv6_in<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        f: &FrameInfo<'_>,
        mut packet: Cow<'a, [u8]>,
    ) -> Result<Delivered<'a>, DropReason> {
        env.mib.inc(Mib::Ip6InReceives);
        let (ip, header_len) = Ipv6Repr::parse(&packet, f.packet_len).map_err(|e| {
            env.mib.inc(if e == ParseError::Length { Mib::Ip6InTruncatedPkts } else { Mib::Ip6InHdrErrors });
            DropReason::IpHeaderInvalid
        })?;
        truncate(&mut packet, header_len + usize::from(ip.payload_len));
        env.mib.add(Mib::Ip6InOctets, (header_len + usize::from(ip.payload_len)) as u64);
        env.mib.add(Mib::Ip6InMcastPkts, ip.dst.is_multicast().into());
        let (src, dst) = (IpAddr::V6(ip.src), IpAddr::V6(ip.dst));
        let class = self.classify_in(env, f, src, dst)?;
        let ext = match Extensions::parse(ip.next_header, &packet[header_len..]) {
            Ok(e) => e,
            Err(e) => {
                env.mib.inc(Mib::Ip6InHdrErrors);
                if let Some(code) = e.answer
                    && (class == Class::Local || e.even_multicast)
                {
                    let pointer = (ipv6::HEADER_LEN + e.at) as u32;
                    self.answer_error(env, f.port, &packet, IcmpRepr::ParameterProblem { code: code as u8, pointer });
                }
                return Err(DropReason::IpExtensionInvalid);
            }
        };
        let mut a = Accepted {
            port: f.port,
            src,
            dst,
            class,
            protocol: ext.upper,
            ttl: ip.hop_limit,
            tos: ip.traffic_class,
            packet,
            frame_at: f.at,
            transport_at: header_len + ext.len,
            transport_len: usize::from(ip.payload_len) - ext.len,
            trusted: f.offload.checksum_trusted(),
            gso_size: f.offload.gso_size,
            mac: f.mac,
        };
        // RFC 6946: a fragment header with offset zero and no more fragments is a whole packet.
        if let Some(frag) = ext.fragment
            && (frag.more || frag.offset != 0)
        {
            let key = Key { src, dst, ident: frag.ident, protocol: 0 };
            let Some(mut whole) = self.reassemble(env, a, key, usize::from(frag.offset), frag.more)? else {
                return Ok(Delivered::Handled);
            };
            // Extension headers may follow the fragment header: only now can they be walked.
            let rest = Extensions::parse(frag.next_header, whole.transport()).map_err(|_| {
                env.mib.inc(Mib::Ip6InHdrErrors);
                DropReason::IpExtensionInvalid
            })?;
            if rest.fragment.is_some() {
                return Err(DropReason::IpExtensionInvalid);
            }
            whole.protocol = rest.upper;
            whole.transport_at += rest.len;
            whole.transport_len -= rest.len;
            a = whole;
        }
        self.deliver(env, a)
    }

    /// Whether the addresses are acceptable and the packet is for us.
    fn classify_in(
        &self,
        env: &mut IpEnv<'_>,
        f: &FrameInfo<'_>,
        src: IpAddr,
        dst: IpAddr,
    ) -> Result<Class, DropReason> {
        let v4 = src.is_ipv4();
        let bad = if v4 { Mib::IpInAddrErrors } else { Mib::Ip6InAddrErrors };
        let on_lo = self.port(f.port).is_some_and(|p| p.config.loopback);
        // RFC 1122, 3.2.1.3: group addresses are never sources; loopback addresses never appear outside a host. An own address as source
        // coming from outside is forged or looped.
        let forged = !on_lo && (src.is_loopback() || dst.is_loopback() || self.addrs.is_local(src));
        let limited = matches!(src, IpAddr::V4(a) if a.is_broadcast() || a.octets()[0] == 0 && !a.is_unspecified());
        // A subnet's broadcast address is nobody's either: an answer to it would go to everybody.
        if src.is_multicast() || limited || forged || self.addrs.is_broadcast(src) {
            env.mib.inc(bad);
            return Err(DropReason::IpMartian);
        }
        match self.addrs.classify(f.port, dst) {
            // RFC 1122, 3.3.6: a link-layer broadcast to a unicast address "SHOULD silently discard".
            Class::Local if f.group && v4 => Err(DropReason::IpNotForUs),
            Class::Foreign => {
                env.mib.inc(bad);
                Err(DropReason::IpNotForUs)
            }
            c => Ok(c),
        }
    }

    fn reassemble<'a>(
        &mut self,
        env: &mut IpEnv<'_>,
        a: Accepted<'a>,
        key: Key,
        offset: usize,
        more: bool,
    ) -> Result<Option<Accepted<'a>>, DropReason> {
        let v4 = a.src.is_ipv4();
        let pick = |x, y| if v4 { x } else { y };
        env.mib.inc(pick(Mib::IpReasmReqds, Mib::Ip6ReasmReqds));
        let header_len = if v4 { a.transport_at } else { ipv6::HEADER_LEN };
        let Some(data) = a.packet.get(a.transport_at..).filter(|d| d.len() == a.transport_len) else {
            // The shell hid payload of a fragment: it cannot be put together.
            env.mib.inc(pick(Mib::IpReasmFails, Mib::Ip6ReasmFails));
            return Err(DropReason::IpFragmentInvalid);
        };
        let mut header = a.packet[..header_len].to_vec();
        if !v4 {
            // What is put together has no fragment header: its first header is the one behind it. An error that quotes it was not sent before
            // (a closed port, a reassembly that timed out), for the quoted chain made no sense.
            header[6] = a.protocol;
        }
        let fragment = Fragment { offset, more, header: &header, data, ecn: EcnCodepoint::from_tos(a.tos) };
        let c = &self.config;
        let (time, limit) = if v4 { (c.frag_time, c.frag_high_thresh) } else { (c.frag_time6, c.frag_high_thresh6) };
        if !v4 && let Some(pointer) = self.fragment_problem(&a, &fragment) {
            env.mib.inc(Mib::Ip6ReasmFails);
            self.answer_error(env, a.port, &a.packet, pointer);
            return Err(DropReason::IpFragmentInvalid);
        }
        match self.frags[usize::from(!v4)].add(key, &fragment, limit, env.now + time) {
            Outcome::Kept => Ok(None),
            Outcome::Dropped { reason, others } => {
                env.mib.inc(pick(Mib::IpReasmFails, Mib::Ip6ReasmFails));
                for _ in 0..others {
                    env.drops.count(reason);
                }
                Err(reason)
            }
            Outcome::Complete { header, payload, ecn } => {
                env.mib.inc(pick(Mib::IpReasmOKs, Mib::Ip6ReasmOKs));
                let (transport_at, transport_len) = (header.len(), payload.len());
                let mut packet = [&header[..], &payload].concat();
                if !v4 {
                    packet[4..6].copy_from_slice(&(transport_len as u16).to_be_bytes());
                }
                let packet = Cow::Owned(packet);
                let tos = ecn.apply_to(a.tos);
                // What a device said about one fragment's checksum says nothing about the whole.
                Ok(Some(Accepted {
                    packet,
                    transport_at,
                    transport_len,
                    tos,
                    frame_at: 0,
                    trusted: false,
                    gso_size: 0,
                    ..a
                }))
            }
        }
    }

    /// RFC 8200, 4.5: what is answered about a malformed IPv6 fragment; RFC 7112, 5: a first fragment without its whole header chain.
    fn fragment_problem(&self, a: &Accepted<'_>, f: &Fragment<'_>) -> Option<IcmpRepr> {
        let problem = |code, pointer| Some(IcmpRepr::ParameterProblem { code, pointer });
        match Reassembler::malformed(f) {
            // "pointing to the Payload Length field of the fragment packet".
            Some(Malformed::Length) => return problem(0, 4),
            // "pointing to the Fragment Offset field".
            Some(Malformed::Offset) => return problem(0, (a.transport_at - ipv6::FRAGMENT_HEADER_LEN + 2) as u32),
            None => {}
        }
        if f.offset != 0 {
            return None;
        }
        let chain = Extensions::parse(a.protocol, f.data).ok()?;
        let least = match chain.upper {
            proto::TCP => 20,
            proto::UDP | proto::ICMPV6 => 8,
            _ => 0,
        };
        if f.data.len() < chain.len + least { problem(3, 0) } else { None }
    }

    fn deliver<'a>(&mut self, env: &mut IpEnv<'_>, a: Accepted<'a>) -> Result<Delivered<'a>, DropReason> {
        let v4 = a.src.is_ipv4();
        let delivers = if v4 { Mib::IpInDelivers } else { Mib::Ip6InDelivers };
        match a.protocol {
            proto::TCP | proto::UDP => {
                env.mib.inc(delivers);
                Ok(Delivered::Transport(Datagram {
                    port: a.port,
                    src: a.src,
                    dst: a.dst,
                    protocol: a.protocol,
                    ttl: a.ttl,
                    tos: a.tos,
                    group: a.class != Class::Local,
                    packet: a.packet,
                    frame_at: a.frame_at,
                    transport_at: a.transport_at,
                    transport_len: a.transport_len,
                    checksum_trusted: a.trusted,
                    gso_size: a.gso_size,
                }))
            }
            proto::ICMP if v4 => {
                env.mib.inc(delivers);
                self.handle_icmp(env, &a).map(|e| e.map_or(Delivered::Handled, Delivered::Error))
            }
            proto::IGMP if v4 => {
                env.mib.inc(delivers);
                let message = a.transport().get(..a.transport_len).unwrap_or_default();
                self.igmp_in(env, a.port, a.ttl, message).map(|()| Delivered::Handled)
            }
            proto::ICMPV6 if !v4 => {
                env.mib.inc(delivers);
                self.handle_icmpv6(env, &a).map(|e| e.map_or(Delivered::Handled, Delivered::Error))
            }
            proto::NO_NEXT if !v4 => Ok(Delivered::Handled),
            _ => {
                env.mib.inc(if v4 { Mib::IpInUnknownProtos } else { Mib::Ip6InUnknownProtos });
                let problem = IcmpRepr::DestUnreachable(Unreachable::Protocol);
                self.answer_error(env, a.port, &a.packet, problem);
                Err(DropReason::IpUnknownProtocol)
            }
        }
    }

    pub(super) fn expire_fragments(&mut self, env: &mut IpEnv<'_>) {
        let [v4, v6] = &mut self.frags;
        let mut over = Vec::new();
        while let Some(e) = v4.expire(env.now).or_else(|| v6.expire(env.now)) {
            over.push(e);
        }
        for e in over {
            let v4 = e.key.src.is_ipv4();
            env.mib.inc(if v4 { Mib::IpReasmTimeout } else { Mib::Ip6ReasmTimeout });
            env.mib.inc(if v4 { Mib::IpReasmFails } else { Mib::Ip6ReasmFails });
            for _ in 0..e.pieces {
                env.drops.count(DropReason::IpFragmentTimeout);
            }
            // RFC 792 and RFC 4443, 3.3: sent only when the first fragment is here.
            if let Some(first) = e.first
                && let Some(port) = self.addrs.owner(e.key.dst)
            {
                self.answer_error(env, port, &first, IcmpRepr::TimeExceeded { reassembly: true });
            }
        }
    }
}

struct FrameInfo<'a> {
    port: PortId,
    mac: MacAddr,
    group: bool,
    at: usize,
    packet_len: usize,
    offload: &'a Offload,
}

fn truncate(packet: &mut Cow<'_, [u8]>, len: usize) {
    match packet {
        Cow::Borrowed(p) => *p = &p[..len.min(p.len())],
        Cow::Owned(p) => p.truncate(len),
    }
}
