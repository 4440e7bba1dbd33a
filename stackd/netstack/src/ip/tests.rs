//! Hand-made frames in, frames out: one host with `lo` and one Ethernet port, on a link with one neighbour.

mod autoconf;
mod link;

use super::*;
use crate::addr::{Scope, solicited_node};
use crate::packet::Payload;
use crate::port::{NoQueue, PortCaps, PortConfig};
use proptest::prelude::*;
use stackd_base::SplitMix64;
use stackd_wire::{
    ArpOperation, ArpRepr, EtherType, EthernetRepr, Ipv4Repr, Ipv6Fragment, Ipv6Repr, MacAddr, NdpRepr, Offload,
    PrefixInfo, RouterAdvert, Sum, TcpRepr, UdpRepr, icmp, proto,
};
use std::net::{Ipv4Addr, Ipv6Addr};

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const LO: PortId = PortId(1);
const ETH: PortId = PortId(2);
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

struct Host {
    ip: IpLayer,
    mib: MibCounters,
    drops: DropCounters,
    rng: SplitMix64,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let mut rng = SplitMix64::new(1);
        let mut ip = IpLayer::new(IpConfig::default(), &mut rng);
        let port = |name: &str, mac, mtu, loopback| PortConfig {
            name: name.into(),
            mac,
            mtu,
            loopback,
            caps: PortCaps { tx_csum: true, tso_max: 65536, uso: true, ethernet: !loopback },
        };
        assert_eq!(ip.add_port(port("lo", MacAddr::ZERO, 65536, true), Box::new(NoQueue::new())), LO);
        assert_eq!(ip.add_port(port("eth0", OURS, 1500, false), Box::new(NoQueue::new())), ETH);
        for (port, addr, prefix_len) in [
            (LO, IpAddr::from(Ipv4Addr::LOCALHOST), 8),
            (LO, Ipv6Addr::LOCALHOST.into(), 128),
            (ETH, A4.into(), 24),
            (ETH, A6.into(), 64),
        ] {
            assert!(ip.add_address(Address {
                addr,
                prefix_len,
                scope: Scope::of(addr),
                port,
                secondary: false,
                deprecated: false
            }));
        }
        Self {
            ip,
            mib: MibCounters::default(),
            drops: DropCounters::default(),
            rng,
            now: Instant::from_nanos(1_000_000_000_000),
        }
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut IpLayer, &mut IpEnv<'_>) -> T) -> T {
        let Self { ip, mib, drops, rng, now } = self;
        f(ip, &mut IpEnv { now: *now, mib, drops, rng })
    }

    fn rx<'a>(&mut self, frame: &'a [u8]) -> Delivered<'a> {
        self.with(|ip, env| ip.handle_frame(env, ETH, frame, 0, &Offload::default()))
    }

    /// All frames that leave by a port, complete.
    fn tx(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(p) = self.with(|ip, env| ip.dequeue(env, port)) {
            let Payload::Owned(bytes) = p.payload.clone() else {
                assert!(p.payload.is_empty(), "tests send owned payload");
                let mut f = Vec::new();
                p.write_frame(&[], &mut f);
                out.push(f);
                continue;
            };
            let mut f = Vec::new();
            p.write_frame(&bytes, &mut f);
            out.push(f);
        }
        out
    }

    fn knows_neighbour(mut self) -> Self {
        for b in [IpAddr::from(B4), B6.into()] {
            self.with(|ip, env| ip.set_neighbour(env, (ETH, b), THEIRS));
        }
        self
    }

    fn send_udp(&mut self, dst: IpAddr, len: usize, dont_fragment: bool) -> Result<(), SendError> {
        let data = vec![7; len];
        let now = self.now;
        let route = self.ip.route(now, dst, None, None).expect("route");
        let mut h = [0; 8];
        UdpRepr { src_port: 5, dst_port: 6, payload_len: len as u16 }.emit(&mut h, route.src, dst, Sum::of(&data));
        let out =
            Outgoing { dont_fragment, ..Outgoing::new(route.src, dst, proto::UDP, &h, Payload::Owned(data.into())) };
        self.with(|ip, env| ip.send(env, &route, out))
    }
}

fn eth(dst: MacAddr, ether_type: EtherType, body: &[u8]) -> Vec<u8> {
    let mut f = vec![0; 14];
    EthernetRepr { dst, src: THEIRS, ether_type: ether_type as u16 }.emit(&mut f);
    f.extend(body);
    f
}

fn ip4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Ipv4Repr {
    Ipv4Repr {
        src,
        dst,
        protocol,
        ttl: 64,
        tos: 0,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        payload_len: body.len() as u16,
    }
}

fn frame4(r: Ipv4Repr, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 20];
    r.emit(&mut p);
    p.extend(body);
    eth(OURS, EtherType::Ipv4, &p)
}

fn frame6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 40];
    Ipv6Repr { src, dst, next_header, hop_limit, traffic_class: 0, flow_label: 0, payload_len: body.len() as u16 }
        .emit(&mut p);
    p.extend(body);
    let mac = if dst.is_multicast() { MacAddr::of_multicast_v6(dst) } else { OURS };
    eth(mac, EtherType::Ipv6, &p)
}

fn udp(src: IpAddr, dst: IpAddr, data: &[u8]) -> Vec<u8> {
    let mut h = vec![0; 8];
    UdpRepr { src_port: 9, dst_port: 53, payload_len: data.len() as u16 }.emit(&mut h, src, dst, Sum::of(data));
    h.extend(data);
    h
}

#[test]
fn arp_requests_for_us_are_answered_and_teach_the_sender() {
    let mut h = Host::new();
    let mut a = [0; 28];
    let q = ArpRepr {
        operation: ArpOperation::Request,
        sender_mac: THEIRS,
        sender_ip: B4,
        target_mac: MacAddr::ZERO,
        target_ip: A4,
    };
    q.emit(&mut a);
    assert_eq!(h.rx(&eth(MacAddr::BROADCAST, EtherType::Arp, &a)), Delivered::Handled);
    let out = h.tx(ETH);
    let reply = ArpRepr::parse(&out[0][14..]).expect("arp");
    assert_eq!(
        (reply.operation, reply.sender_mac, reply.sender_ip, reply.target_ip),
        (ArpOperation::Reply, OURS, A4, B4)
    );
    assert_eq!(h.ip.neighbours().get((ETH, B4.into())).and_then(|n| n.mac), Some(THEIRS));
    ArpRepr { target_ip: Ipv4Addr::new(10, 0, 0, 77), ..q }.emit(&mut a);
    assert_eq!(h.rx(&eth(MacAddr::BROADCAST, EtherType::Arp, &a)), Delivered::Dropped(DropReason::ArpNotForUs));
    assert!(h.tx(ETH).is_empty());
}

#[test]
fn a_packet_waits_for_arp_and_then_leaves() {
    let mut h = Host::new();
    h.send_udp(B4.into(), 10, false).expect("queued");
    let asked = h.tx(ETH);
    assert_eq!(asked.len(), 1);
    assert_eq!(ArpRepr::parse(&asked[0][14..]).expect("arp").target_ip, B4);
    let mut a = [0; 28];
    ArpRepr { operation: ArpOperation::Reply, sender_mac: THEIRS, sender_ip: B4, target_mac: OURS, target_ip: A4 }
        .emit(&mut a);
    h.rx(&eth(OURS, EtherType::Arp, &a));
    let out = h.tx(ETH);
    assert_eq!((out.len(), &out[0][..6]), (1, &THEIRS.0[..]));
    checks_out(&out[0]);
}

/// Header and transport checksum are right.
fn checks_out(frame: &[u8]) {
    let (ip, len) = Ipv4Repr::parse(&frame[14..], frame.len() - 14).expect("ip");
    let t = &frame[14 + len..];
    let sum = Sum::pseudo_v4(ip.src, ip.dst, ip.protocol, t.len() as u32).and(Sum::of(t));
    assert!(sum.is_valid());
}

#[test]
fn an_unanswered_neighbour_drops_what_waited_once() {
    let mut h = Host::new();
    h.send_udp(B4.into(), 10, false).expect("queued");
    let mut asked = h.tx(ETH).len();
    while let Some(t) = h.ip.next_deadline() {
        h.now = t;
        h.with(|ip, env| ip.handle_timers(env));
        asked += h.tx(ETH).len();
    }
    assert_eq!((asked, h.drops.get(DropReason::NeighUnresolved), h.drops.total()), (3, 1, 1));
    assert_eq!(h.ip.take_dropped().len(), 1);
}

#[test]
fn ndp_solicitations_are_answered_and_resolve() {
    let mut h = Host::new();
    h.send_udp(B6.into(), 10, false).expect("queued");
    let asked = h.tx(ETH);
    assert_eq!(&asked[0][..6], &MacAddr::of_multicast_v6(solicited_node(B6)).0);
    assert!(
        matches!(NdpRepr::parse(&asked[0][54..]), Ok(Some(NdpRepr::NeighborSolicit { target, .. })) if target == B6)
    );
    let mut m = [0; 64];
    let answer = NdpRepr::NeighborAdvert {
        target: B6,
        router: false,
        solicited: true,
        override_: true,
        target_mac: Some(THEIRS),
    };
    let len = answer.emit(&mut m, B6, A6);
    assert_eq!(h.rx(&frame6(B6, A6, proto::ICMPV6, 64, &m[..len])), Delivered::Dropped(DropReason::NdpInvalid));
    assert_eq!(h.rx(&frame6(B6, A6, proto::ICMPV6, 255, &m[..len])), Delivered::Handled);
    assert_eq!(h.tx(ETH).len(), 1);
    let group = solicited_node(A6);
    let len = NdpRepr::NeighborSolicit { target: A6, source_mac: Some(THEIRS), nonce: None }.emit(&mut m, B6, group);
    assert_eq!(h.rx(&frame6(B6, group, proto::ICMPV6, 255, &m[..len])), Delivered::Handled);
    let out = h.tx(ETH);
    assert!(
        matches!(NdpRepr::parse(&out[0][54..]), Ok(Some(NdpRepr::NeighborAdvert { target, solicited: true, .. })) if target == A6)
    );
}

#[test]
fn router_advertisements_give_a_default_route_and_an_address() {
    let mut h = Host::new();
    let router: Ipv6Addr = "fe80::99".parse().expect("address");
    let prefix = PrefixInfo {
        prefix: "2001:db8::".parse().expect("prefix"),
        prefix_len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 1000,
        preferred_lifetime: 1000,
    };
    let mut ra = RouterAdvert {
        router_lifetime: 1800,
        mtu: Some(1400),
        prefixes: [Some(prefix), None, None, None],
        ..RouterAdvert::default()
    };
    let mut m = [0; 128];
    let far: IpAddr = "2001:db8:ffff::1".parse().expect("address");
    assert_eq!(h.ip.route(h.now, far, None, None), Err(Errno::ENETUNREACH));
    let len = NdpRepr::RouterAdvert(ra).emit(&mut m, router, crate::addr::ALL_NODES);
    assert_eq!(h.rx(&frame6(router, crate::addr::ALL_NODES, proto::ICMPV6, 255, &m[..len])), Delivered::Handled);
    // Duplicate address detection comes first (RFC 4862).
    while let Some(t) = h.ip.next_deadline().filter(|t| *t < h.now + Duration::from_secs(3)) {
        h.now = h.now.max(t);
        h.with(|ip, env| ip.handle_timers(env));
    }
    let r = h.ip.route(h.now, far, None, None).expect("default route");
    assert_eq!((r.next_hop, r.mtu, r.src), (router.into(), 1400, "2001:db8::ff:fe00:1".parse().expect("slaac")));
    ra.router_lifetime = 0;
    let len = NdpRepr::RouterAdvert(ra).emit(&mut m, router, crate::addr::ALL_NODES);
    h.rx(&frame6(router, crate::addr::ALL_NODES, proto::ICMPV6, 255, &m[..len]));
    assert_eq!(h.ip.route(h.now, far, None, None), Err(Errno::ENETUNREACH));
}

#[test]
fn echo_requests_are_answered_in_both_families() {
    let mut h = Host::new().knows_neighbour();
    let mut m = *b"........hello";
    IcmpRepr::EchoRequest { ident: 3, seq: 4 }.emit_v4(&mut m);
    assert_eq!(h.rx(&frame4(ip4(B4, A4, proto::ICMP, &m), &m)), Delivered::Handled);
    let out = h.tx(ETH);
    assert!(icmp::verify_v4(&out[0][34..]));
    assert_eq!(IcmpRepr::parse_v4(&out[0][34..]), Ok(IcmpRepr::EchoReply { ident: 3, seq: 4 }));
    assert_eq!(&out[0][42..], b"hello");
    IcmpRepr::EchoRequest { ident: 3, seq: 4 }.emit_v6(&mut m, B6, A6);
    assert_eq!(h.rx(&frame6(B6, A6, proto::ICMPV6, 64, &m)), Delivered::Handled);
    let out = h.tx(ETH);
    assert!(icmp::verify_v6(&out[0][54..], A6, B6));
    m[9] ^= 1;
    assert_eq!(h.rx(&frame6(B6, A6, proto::ICMPV6, 64, &m)), Delivered::Dropped(DropReason::IcmpInvalid));
    assert_eq!((h.mib.get(Mib::IcmpOutEchoReps), h.mib.get(Mib::Icmp6InCsumErrors), h.drops.total()), (1, 1, 1));
}

#[test]
fn udp_is_delivered_without_padding() {
    let mut h = Host::new();
    let d = udp(B4.into(), A4.into(), b"x");
    let mut f = frame4(ip4(B4, A4, proto::UDP, &d), &d);
    f.resize(60, 0xee);
    let Delivered::Transport(t) = h.rx(&f) else { panic!("delivered") };
    assert_eq!((t.transport(), t.transport_len, t.src, t.dst, t.group), (&d[..], 9, B4.into(), A4.into(), false));
}

#[test]
fn tcp_payload_may_lie_outside_the_head() {
    let mut h = Host::new();
    let mut t = [0; 20];
    TcpRepr::default().emit(&mut t);
    let ip = Ipv4Repr { payload_len: 20 + 5000, tos: 3, ..ip4(B4, A4, proto::TCP, &t) };
    let offload = Offload { csum_valid: true, gso_size: 1448, ..Offload::default() };
    let f = frame4(ip, &t);
    let d = h.with(|ip, env| ip.handle_frame(env, ETH, &f, 5000, &offload));
    let Delivered::Transport(d) = d else { panic!("delivered") };
    assert_eq!((d.transport_len, d.transport().len(), d.segments(20), d.ecn()), (5020, 20, 4, EcnCodepoint::Ce));
    assert!(d.checksum_trusted);
    let short = h.with(|ip, env| ip.handle_frame(env, ETH, &f, 4999, &offload));
    assert_eq!(short, Delivered::Dropped(DropReason::IpHeaderInvalid));
}

#[test]
fn martians_and_strangers_are_dropped_for_their_reason() {
    let d = udp(B4.into(), A4.into(), b"x");
    let lo = Ipv4Addr::LOCALHOST;
    for (src, dst, reason) in [
        (lo, A4, DropReason::IpMartian),
        (B4, lo, DropReason::IpMartian),
        (A4, A4, DropReason::IpMartian),
        (Ipv4Addr::new(224, 0, 0, 1), A4, DropReason::IpMartian),
        (Ipv4Addr::BROADCAST, A4, DropReason::IpMartian),
        (B4, Ipv4Addr::new(10, 0, 0, 9), DropReason::IpNotForUs),
        (B4, Ipv4Addr::new(239, 1, 1, 1), DropReason::IpNotForUs),
    ] {
        let mut h = Host::new();
        assert_eq!(h.rx(&frame4(ip4(src, dst, proto::UDP, &d), &d)), Delivered::Dropped(reason), "{src} -> {dst}");
        assert_eq!((h.drops.get(reason), h.drops.total()), (1, 1));
    }
    let mut h = Host::new();
    let f = frame4(ip4(B4, A4, proto::UDP, &d), &d);
    let mut bad = f.clone();
    bad[24] ^= 1;
    assert_eq!(h.rx(&bad), Delivered::Dropped(DropReason::IpChecksum));
    let mut other = f;
    other[5] ^= 1;
    assert_eq!(h.rx(&other), Delivered::Dropped(DropReason::EthNotForUs));
    assert_eq!(h.rx(&[0; 13]), Delivered::Dropped(DropReason::EthTooShort));
    assert_eq!(h.drops.total(), 3);
}

#[test]
fn what_we_fragment_we_reassemble_in_both_families() {
    for (dst, at) in [(IpAddr::from(B4), 34), (B6.into(), 62)] {
        let mut h = Host::new().knows_neighbour();
        h.send_udp(dst, 4000, false).expect("sent");
        let mut frames = h.tx(ETH);
        assert!(frames.len() == 3 && frames.iter().all(|f| f.len() <= 1514 && f.len() > at));
        frames.reverse();
        // The receiver is a host with the other's addresses.
        let mut r = Host::new();
        assert!(r.ip.remove_address(ETH, A4.into()) && r.ip.remove_address(ETH, A6.into()));
        let prefix_len = if dst.is_ipv4() { 24 } else { 64 };
        r.ip.add_address(Address {
            addr: dst,
            prefix_len,
            scope: Scope::Global,
            port: ETH,
            secondary: false,
            deprecated: false,
        });
        let mut last = Delivered::Handled;
        for f in &mut frames {
            assert_eq!(last, Delivered::Handled);
            f[..6].copy_from_slice(&OURS.0);
            last = r.rx(f).into_owned();
        }
        let Delivered::Transport(d) = last else { panic!("reassembled, not {last:?}") };
        let t = d.transport();
        assert_eq!((t.len(), d.transport_len, d.protocol), (4008, 4008, proto::UDP));
        assert!(Sum::pseudo(d.src, d.dst, proto::UDP, 4008).and(Sum::of(t)).is_valid());
    }
}

impl Delivered<'_> {
    fn into_owned(self) -> Delivered<'static> {
        match self {
            Self::Transport(d) => Delivered::Transport(Datagram { packet: Cow::Owned(d.packet.into_owned()), ..d }),
            Self::Error(e) => Delivered::Error(e),
            Self::Handled => Delivered::Handled,
            Self::Dropped(r) => Delivered::Dropped(r),
        }
    }
}

#[test]
fn too_big_without_fragmentation_is_refused() {
    let mut h = Host::new().knows_neighbour();
    assert_eq!(h.send_udp(B4.into(), 1473, true), Err(SendError::TooBig { mtu: 1500 }));
    assert_eq!(h.send_udp(B4.into(), 1472, true), Ok(()));
    assert_eq!((h.drops.get(DropReason::IpTooBig), h.tx(ETH).len()), (1, 1));
}

#[test]
fn icmp_errors_name_the_flow_and_shrink_the_path() {
    let mut h = Host::new().knows_neighbour();
    h.send_udp(B4.into(), 100, true).expect("sent");
    let sent = h.tx(ETH).remove(0);
    let mut m = vec![0; 8];
    m.extend(&sent[14..14 + 28]);
    IcmpRepr::PacketTooBig { mtu: 1400 }.emit_v4(&mut m);
    let Delivered::Error(e) = h.rx(&frame4(ip4(B4, A4, proto::ICMP, &m), &m)) else { panic!("error") };
    assert_eq!(
        (e.local, e.remote, e.protocol),
        (SocketAddr::new(A4.into(), 5), SocketAddr::new(B4.into(), 6), proto::UDP)
    );
    assert_eq!((e.kind, e.code, e.error), (3, 4, IcmpRepr::PacketTooBig { mtu: 1400 }));
    // The transport decides whether to believe it.
    assert_eq!(h.ip.route(h.now, B4.into(), None, None).expect("route").mtu, 1500);
    assert!(h.ip.learn_mtu(h.now, B4.into(), 1400));
    assert_eq!(h.ip.route(h.now, B4.into(), None, None).expect("route").mtu, 1400);
    let later = h.now + h.ip.config.mtu_expires;
    assert_eq!(h.ip.route(later, B4.into(), None, None).expect("route").mtu, 1500);
    IcmpRepr::DestUnreachable(Unreachable::Port).emit_v4(&mut m);
    let Delivered::Error(e) = h.rx(&frame4(ip4(B4, A4, proto::ICMP, &m), &m)) else { panic!("error") };
    assert_eq!(e.errno(), (Errno::ECONNREFUSED, true));
    // Quoting a packet that we cannot have sent.
    m[8 + 15] ^= 1;
    IcmpRepr::DestUnreachable(Unreachable::Port).emit_v4(&mut m);
    assert_eq!(h.rx(&frame4(ip4(B4, A4, proto::ICMP, &m), &m)), Delivered::Dropped(DropReason::IcmpUnsolicited));
}

/// RFC 8200, 4.5 and RFC 7112, 5: what is answered about an IPv6 fragment that is wrong by itself; a right one is kept.
#[test]
fn malformed_ipv6_fragments_are_answered() {
    let mut h = Host::new().knows_neighbour();
    let mut send = |offset: u16, more: bool, next_header: u8, data: &[u8]| {
        let mut body = vec![0; 8];
        Ipv6Fragment { next_header, offset, more, ident: 9 }.emit(&mut body);
        body.extend(data);
        h.rx(&frame6(B6, A6, proto::FRAGMENT, 64, &body)).into_owned();
        h.tx(ETH).first().map(|f| IcmpRepr::parse_v6(&f[54..]).expect("ICMPv6"))
    };
    let problem = |code, pointer| Some(IcmpRepr::ParameterProblem { code, pointer });
    assert_eq!(send(8, true, proto::UDP, &[0; 9]), problem(0, 4), "the Payload Length");
    assert_eq!(send(65528, false, proto::UDP, &[0; 16]), problem(0, 42), "the Fragment Offset");
    assert_eq!(
        send(0, true, proto::DEST_OPTS, &[proto::UDP, 0, 1, 4, 0, 0, 0, 0]),
        problem(3, 0),
        "no upper-layer header"
    );
    assert_eq!(send(0, true, proto::UDP, &[0; 16]), None);
    assert_eq!((h.mib.get(Mib::Icmp6OutParmProblems), h.mib.get(Mib::Ip6ReasmFails)), (3, 3));
    // RFC 8200, 4.5: 60 seconds after the first one; RFC 4443, 3.3: time exceeded, code 1.
    h.now += Duration::from_secs(59);
    h.with(|ip, env| ip.handle_timers(env));
    assert_eq!(h.mib.get(Mib::Ip6ReasmTimeout), 0);
    h.now += Duration::from_secs(1);
    h.with(|ip, env| ip.handle_timers(env));
    let out = h.tx(ETH);
    assert_eq!(IcmpRepr::parse_v6(&out[0][54..]), Ok(IcmpRepr::TimeExceeded { reassembly: true }));
    assert_eq!((h.mib.get(Mib::Ip6ReasmTimeout), h.mib.get(Mib::Icmp6OutTimeExcds)), (1, 1));
}

/// RFC 6946, 4: an atomic fragment is a whole packet, whatever fragments of the same identification wait.
#[test]
fn an_atomic_fragment_is_a_packet_by_itself() {
    let mut h = Host::new();
    let d = udp(B6.into(), A6.into(), b"12345678");
    let mut part = |offset: u16, more: bool, data: &[u8]| {
        let mut body = vec![0; 8];
        Ipv6Fragment { next_header: proto::UDP, offset, more, ident: 7 }.emit(&mut body);
        body.extend(data);
        matches!(h.rx(&frame6(B6, A6, proto::FRAGMENT, 64, &body)).into_owned(), Delivered::Transport(_))
    };
    assert!(!part(0, true, &d[..8]));
    assert!(part(0, false, &d));
    assert!(part(8, false, &d[8..]), "the other packet is whole too");
}

#[test]
fn errors_are_rate_limited_and_never_about_errors() {
    let mut h = Host::new().knows_neighbour();
    let d = udp(B4.into(), A4.into(), b"x");
    let f = frame4(ip4(B4, A4, proto::UDP, &d), &d);
    let port_unreachable = IcmpRepr::DestUnreachable(Unreachable::Port);
    // As Linux: a burst of six to one destination, then one a second (icmp_ratelimit).
    for _ in 0..9 {
        h.with(|ip, env| ip.answer_error(env, ETH, &f[14..], port_unreachable));
    }
    let out = h.tx(ETH);
    assert_eq!((out.len(), h.mib.get(Mib::IcmpOutRateLimitHost)), (6, 3));
    assert_eq!(IcmpRepr::parse_v4(&out[0][34..]), Ok(port_unreachable));
    assert_eq!(&out[0][42..], &f[14..]);
    h.now += Duration::from_secs(1);
    h.with(|ip, env| ip.answer_error(env, ETH, &out[0][14..], port_unreachable));
    let multicast = frame4(ip4(B4, Ipv4Addr::new(224, 0, 0, 1), proto::UDP, &d), &d);
    h.with(|ip, env| ip.answer_error(env, ETH, &multicast[14..], port_unreachable));
    assert!(h.tx(ETH).is_empty());
    h.with(|ip, env| ip.answer_error(env, ETH, &f[14..], port_unreachable));
    assert_eq!(h.tx(ETH).len(), 1);
}

#[test]
fn our_own_addresses_are_reached_by_lo() {
    let mut h = Host::new();
    for dst in [IpAddr::from(A4), A6.into(), Ipv4Addr::new(127, 3, 2, 1).into()] {
        h.send_udp(dst, 20, false).expect("sent");
        let p = h.with(|ip, env| ip.dequeue(env, LO)).expect("on lo");
        let d = h.with(|ip, env| ip.handle_packet(env, LO, &p).into_owned());
        let Delivered::Transport(d) = d else { panic!("delivered") };
        assert_eq!((d.dst, d.src, d.transport_len), (dst, dst, 28));
    }
}

#[test]
fn tcp_leaves_with_an_open_checksum_and_segmentation_for_the_device() {
    let mut h = Host::new().knows_neighbour();
    let route = h.ip.route(h.now, B4.into(), None, None).expect("route");
    let mut t = [0; 20];
    TcpRepr { src_port: 1, dst_port: 2, ..TcpRepr::default() }.emit(&mut t);
    let fifo = stackd_base::FifoId(1);
    let payload = Payload::Stream { fifo, range: 0..14480 };
    let out = Outgoing {
        gso_size: 1448,
        dont_fragment: true,
        ..Outgoing::new(A4.into(), B4.into(), proto::TCP, &t, payload)
    };
    h.with(|ip, env| ip.send(env, &route, out)).expect("sent");
    let p = h.with(|ip, env| ip.dequeue(env, ETH)).expect("packet");
    assert_eq!(
        (p.offload.csum, p.offload.gso_size, p.offload.hdr_len, p.frame_len()),
        (Some((34, 16)), 1448, 54, 14534)
    );
    // The same on a device without segmentation comes in pieces.
    h.ip.port_mut(ETH).expect("port").config.caps.tso_max = 0;
    let payload = Payload::Stream { fifo, range: 0..14480 };
    let out = Outgoing {
        gso_size: 1448,
        dont_fragment: true,
        ..Outgoing::new(A4.into(), B4.into(), proto::TCP, &t, payload)
    };
    h.with(|ip, env| ip.send(env, &route, out)).expect("sent");
    let mut n = 0;
    while let Some(p) = h.with(|ip, env| ip.dequeue(env, ETH)) {
        assert_eq!(p.frame_len(), 1502);
        n += 1;
    }
    assert_eq!(n, 10);
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut h = Host::new();
    let d = udp(B6.into(), A6.into(), b"atomic");
    let mut body = vec![0; 8];
    Ipv6Fragment { next_header: proto::UDP, offset: 0, more: false, ident: 1 }.emit(&mut body);
    body.extend(&d);
    let f = frame6(B6, A6, proto::FRAGMENT, 64, &body);
    let Delivered::Transport(t) = h.rx(&f) else { panic!("delivered") };
    assert_eq!(t.transport(), &d[..]);
}

proptest! {
    /// Whatever arrives: no panic, and a drop has exactly one reason.
    #[test]
    fn any_frame_is_survived_and_counted_once(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6, v6proto in any::<u8>()) {
        let mut h = Host::new();
        let f = match kind {
            0 => bytes,
            1 => eth(OURS, EtherType::Arp, &bytes),
            2 => eth(OURS, EtherType::Ipv4, &bytes),
            3 => frame4(ip4(B4, A4, proto::ICMP, &bytes), &bytes),
            4 => frame6(B6, A6, v6proto % 64, 255, &bytes),
            _ => {
                if bytes.len() >= 8 {
                    bytes[0] = 133 + v6proto % 4;
                    bytes[1] = 0;
                    let m = IcmpRepr::Other { kind: bytes[0], code: 0, rest: [bytes[4], bytes[5], bytes[6], bytes[7]] };
                    m.emit_v6(&mut bytes, B6, A6);
                }
                frame6(B6, A6, proto::ICMPV6, 255, &bytes)
            }
        };
        let dropped = matches!(h.rx(&f), Delivered::Dropped(_));
        prop_assert_eq!(h.drops.total(), u64::from(dropped));
    }
}

/// Each ICMP error has a counter of its own, and each is handed to the transport that it is about.
#[test]
fn parameter_problems_are_counted_as_such() {
    let mut h = Host::new().knows_neighbour();
    let mut about = [0; 8];
    UdpRepr { src_port: 5, dst_port: 6, payload_len: 0 }.emit(&mut about, A6.into(), B6.into(), Sum::of(&[]));
    let inner = frame6(A6, B6, proto::UDP, 64, &about);
    // RFC 4443, 3.4: type 4, code 1: "unrecognized Next Header type encountered"; the pointer; the packet that is meant.
    let mut message = vec![4, 1, 0, 0, 0, 0, 0, 40];
    message.extend_from_slice(&inner[14..]);
    let sum = Sum::pseudo_v6(B6, A6, proto::ICMPV6, message.len() as u32).and(Sum::of(&message)).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let f = frame6(B6, A6, proto::ICMPV6, 64, &message);
    let got = h.rx(&f);
    assert!(matches!(&got, Delivered::Error(e) if e.protocol == proto::UDP), "{got:?}");
    let count = |m: Mib| h.mib.get(m);
    assert_eq!((count(Mib::Icmp6InParmProblems), count(Mib::Icmp6InDestUnreachs), count(Mib::Icmp6InMsgs)), (1, 0, 1));
    assert_eq!(count(Mib::Icmp6InErrors), 0);
}
