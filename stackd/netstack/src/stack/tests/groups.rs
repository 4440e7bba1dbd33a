//! Multicast: membership on the wire (IGMP, MLD) and at the socket, rule by rule.

use super::{Host, Net};
use crate::RxMeta;
use crate::socket::opts::name::*;
use crate::types::{Domain, SocketKind};
use stackd_base::{DropReason, Duration, Errno, Instant, Mib, SockId};
use stackd_wire::igmp::{self, Record, RecordType, kind};
use stackd_wire::{EtherType, EthernetRepr, Ipv4Repr, Ipv6Repr, MacAddr, Offload, Sum, icmp, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const G4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const G6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x77);
const S1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const S2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn udp(host: &mut Host, now: Instant, local: &str) -> SockId {
    let local: SocketAddr = local.parse().expect("address");
    let sock = host.socket(now, if local.is_ipv4() { Domain::V4 } else { Domain::V6 }, SocketKind::Dgram);
    host.option(now, sock, SOL_SOCKET, SO_REUSEADDR, 1).expect("option");
    host.stack.bind(sock, local).expect("bind");
    sock
}

fn set(host: &mut Host, now: Instant, sock: SockId, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
    host.stack.set_option(now, sock, level, option, value, &mut host.store)
}

fn mreq(group: Ipv4Addr) -> Vec<u8> {
    [group.octets(), [10, 0, 0, 1]].concat()
}
fn mreq_source(group: Ipv4Addr, source: Ipv4Addr) -> Vec<u8> {
    [group.octets(), [10, 0, 0, 1], source.octets()].concat()
}
fn mreq6(host: &Host, group: Ipv6Addr) -> Vec<u8> {
    [&group.octets()[..], &host.port.0.to_ne_bytes()].concat()
}

/// Everything sent within `span`, with its time.
fn pass(host: &mut Host, now: &mut Instant, span: Duration) -> Vec<(Instant, Vec<u8>)> {
    let end = *now + span;
    let mut out = Vec::new();
    for round in 0.. {
        assert!(round < 10_000, "it does not come to rest");
        while host.stack.poll_event().is_some() {}
        host.stack.handle_timers(*now, &mut host.store);
        while let Some(p) = host.stack.poll_loopback(*now, &mut host.store) {
            host.stack.handle_loopback(*now, p, &mut host.store);
        }
        while let Some(p) = host.stack.poll_transmit(*now, host.port, &mut host.store) {
            let payload = host.store.payload(&p.payload).expect("payload");
            let mut f = Vec::new();
            p.write_frame(&payload, &mut f);
            host.stack.handle_tx_complete(*now, &p);
            out.push((*now, f));
        }
        match host.stack.next_deadline().filter(|t| *t <= end) {
            Some(t) => *now = (*now).max(t),
            None => break,
        }
    }
    *now = end;
    out
}

/// The IGMP message of a frame, its IP header checked: one hop, Router Alert, right checksums.
fn igmp_of(f: &[u8]) -> (Ipv4Addr, Vec<u8>) {
    let (ip, len) = Ipv4Repr::parse(&f[14..], f.len() - 14).expect("IPv4");
    assert_eq!((ip.protocol, ip.ttl, ip.tos, len), (proto::IGMP, 1, 0xc0, 24));
    assert_eq!(f[34..38], [0x94, 4, 0, 0], "Router Alert");
    assert_eq!(f[..6], MacAddr::of_multicast_v4(ip.dst).0);
    let m = f[38..].to_vec();
    assert!(Sum::of(&m).is_valid());
    (ip.dst, m)
}

fn mld_of(f: &[u8]) -> (Ipv6Addr, Ipv6Addr, Vec<u8>) {
    let (ip, _) = Ipv6Repr::parse(&f[14..], f.len() - 14).expect("IPv6");
    assert_eq!((ip.next_header, ip.hop_limit), (proto::HOP_BY_HOP, 1));
    assert_eq!(f[54..62], [proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0], "Router Alert");
    assert!(icmp::verify_v6(&f[62..], ip.src, ip.dst));
    (ip.src, ip.dst, f[62..].to_vec())
}

fn v3(kind: RecordType, sources: &[Ipv4Addr]) -> Vec<u8> {
    let sources = sources.iter().map(|s| IpAddr::V4(*s)).collect();
    igmp::igmp_v3_report(&[Record { kind, group: G4.into(), sources }])
}

fn frame4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src,
        dst,
        protocol,
        ttl,
        tos: 0,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        payload_len: body.len() as u16,
    };
    let mut f = vec![0; 34];
    let mac = MacAddr::of_multicast_v4(dst);
    EthernetRepr { dst: mac, src: MacAddr([2, 0, 0, 0, 0, 2]), ether_type: EtherType::Ipv4 as u16 }.emit(&mut f);
    ip.emit(&mut f[14..]);
    f.extend(body);
    f
}

fn hears(host: &mut Host, now: Instant, f: &[u8]) {
    let meta = RxMeta { at: now, offload: Offload::default() };
    host.stack.handle_frame(now, host.port, f, &[][..], 0, meta, &mut host.store);
}

fn query(kind: u8, code: u8, group: Ipv4Addr, rest: &[u8]) -> Vec<u8> {
    let mut m = vec![kind, code, 0, 0];
    m.extend(group.octets());
    m.extend(rest);
    let sum = Sum::of(&m).finish();
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

fn messages(sent: Vec<(Instant, Vec<u8>)>) -> Vec<(Ipv4Addr, Vec<u8>)> {
    sent.iter().map(|(_, f)| igmp_of(f)).collect()
}

/// RFC 3376, 5.1: a change of state is reported at once and [Robustness Variable] - 1 times more, within the unsolicited report interval.
#[test]
fn joining_and_leaving_is_reported_twice() {
    let mut net = Net::new();
    let (h, mut now) = (&mut net.a, net.now);
    let s = udp(h, now, "0.0.0.0:5000");
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    let began = now;
    let sent = pass(h, &mut now, Duration::from_secs(20));
    assert!(sent.iter().all(|(t, _)| *t - began <= Duration::from_secs(1)));
    let all = (Ipv4Addr::new(224, 0, 0, 22), v3(RecordType::ToExclude, &[]));
    assert_eq!(messages(sent), [all.clone(), all]);
    set(h, now, s, SOL_IP, IP_DROP_MEMBERSHIP, &mreq(G4)).expect("left");
    let gone = (Ipv4Addr::new(224, 0, 0, 22), v3(RecordType::ToInclude, &[]));
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(20))), [gone.clone(), gone.clone()]);
    // A socket that closes leaves too; one that joins and leaves at once is told of as gone.
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    pass(h, &mut now, Duration::from_secs(20));
    h.stack.close(now, s, &mut h.store).expect("close");
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(20))), [gone.clone(), gone]);
    assert_eq!(h.stack.ip().memberships().count(), 0);
}

/// RFC 3376, 3.2 and 5.1: the interface's filter is merged from the sockets'; what changes in it is told as ALLOW, BLOCK or a change of mode.
#[test]
fn source_filters_are_merged_and_reported() {
    let mut net = Net::new();
    let (h, mut now) = (&mut net.a, net.now);
    let (a, b) = (udp(h, now, "0.0.0.0:5000"), udp(h, now, "0.0.0.0:5000"));
    h.stack.sysctl_set(now, "net.ipv4.igmp_qrv", "1", &mut h.store).expect("sysctl");
    let said = |h: &mut Host, now: &mut Instant| {
        messages(pass(h, now, Duration::from_secs(20))).into_iter().map(|m| m.1).collect::<Vec<_>>()
    };
    set(h, now, a, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreq_source(G4, S1)).expect("joined");
    assert_eq!(said(h, &mut now), [v3(RecordType::Allow, &[S1])]);
    set(h, now, b, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreq_source(G4, S2)).expect("joined");
    assert_eq!(said(h, &mut now), [v3(RecordType::Allow, &[S2])]);
    set(h, now, b, SOL_IP, IP_DROP_SOURCE_MEMBERSHIP, &mreq_source(G4, S2)).expect("left");
    assert_eq!(said(h, &mut now), [v3(RecordType::Block, &[S2])]);
    set(h, now, b, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    assert_eq!(said(h, &mut now), [v3(RecordType::ToExclude, &[])]);
    set(h, now, b, SOL_IP, IP_BLOCK_SOURCE, &mreq_source(G4, S2)).expect("blocked");
    assert_eq!(said(h, &mut now), [v3(RecordType::Block, &[S2])]);
    set(h, now, b, SOL_IP, IP_BLOCK_SOURCE, &mreq_source(G4, S1)).expect("blocked");
    assert_eq!(said(h, &mut now), Vec::<Vec<u8>>::new(), "the other socket still wants it");
    h.stack.close(now, b, &mut h.store).expect("close");
    assert_eq!(said(h, &mut now), [v3(RecordType::ToInclude, &[S1])]);
}

/// RFC 3376, 5.2: general, group and group-and-source queries are answered within the maximum response time.
#[test]
fn queries_are_answered_within_their_time() {
    let mut net = Net::new();
    let (h, mut now) = (&mut net.a, net.now);
    let a = udp(h, now, "0.0.0.0:5000");
    set(h, now, a, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreq_source(G4, S1)).expect("joined");
    pass(h, &mut now, Duration::from_secs(20));
    let v3_rest = [2, 125, 0, 0];
    let one = [&[2u8, 125, 0, 2][..], &S1.octets(), &S2.octets()].concat();
    let other = [&[2u8, 125, 0, 1][..], &S2.octets()].concat();
    let all_systems = Ipv4Addr::new(224, 0, 0, 1);
    for (to, group, rest, want) in [
        (all_systems, Ipv4Addr::UNSPECIFIED, &v3_rest[..], vec![v3(RecordType::IsInclude, &[S1])]),
        (G4, G4, &v3_rest[..], vec![v3(RecordType::IsInclude, &[S1])]),
        (G4, G4, &one[..], vec![v3(RecordType::IsInclude, &[S1])]),
        (G4, G4, &other[..], vec![]),
    ] {
        let q = query(kind::QUERY, 20, group, rest);
        hears(h, now, &frame4(S2, to, proto::IGMP, 1, &q));
        let began = now;
        let sent = pass(h, &mut now, Duration::from_secs(20));
        assert!(sent.iter().all(|(t, _)| *t - began <= Duration::from_secs(2)));
        assert_eq!(messages(sent).into_iter().map(|m| m.1).collect::<Vec<_>>(), want);
    }
    let forged = query(kind::QUERY, 20, Ipv4Addr::UNSPECIFIED, &v3_rest);
    hears(h, now, &frame4(S2, all_systems, proto::IGMP, 64, &forged));
    assert_eq!(h.stack.drops().get(DropReason::IgmpInvalid), 1, "from beyond the link");
    assert!(pass(h, &mut now, Duration::from_secs(20)).is_empty());
}

/// RFC 3376, 7.2.1 and RFC 2236: while a version 2 querier is heard: one report a group to the group itself, none if another member was
/// faster, and a leave to all routers from who reported last.
#[test]
fn version_2_is_spoken_while_such_a_querier_is_there() {
    let mut net = Net::new();
    let (h, mut now) = (&mut net.a, net.now);
    let s = udp(h, now, "0.0.0.0:5000");
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    pass(h, &mut now, Duration::from_secs(20));
    let report = (G4, igmp::igmp_v2_message(kind::REPORT_V2, G4));
    let leave = (Ipv4Addr::new(224, 0, 0, 2), igmp::igmp_v2_message(kind::LEAVE_V2, G4));
    let general =
        frame4(S2, Ipv4Addr::new(224, 0, 0, 1), proto::IGMP, 1, &query(kind::QUERY, 100, Ipv4Addr::UNSPECIFIED, &[]));
    hears(h, now, &general);
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(11))), std::slice::from_ref(&report));
    hears(h, now, &general);
    hears(h, now, &frame4(S2, G4, proto::IGMP, 1, &report.1));
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(11))), []);
    set(h, now, s, SOL_IP, IP_DROP_MEMBERSHIP, &mreq(G4)).expect("left");
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(11))), [], "another reported last");
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(30))), [report.clone(), report]);
    set(h, now, s, SOL_IP, IP_DROP_MEMBERSHIP, &mreq(G4)).expect("left");
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(11))), [leave]);
    // Robustness times the query interval and ten seconds later it is forgotten.
    pass(h, &mut now, Duration::from_secs(260));
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    assert_eq!(messages(pass(h, &mut now, Duration::from_secs(30)))[0].1, v3(RecordType::ToExclude, &[]));
}

/// RFC 3810, 5.2 and 6.1; RFC 3590: version 2 reports to ff02::16, from the link-local address or, before there is one, from "::"; and
/// version 1's to a version 1 querier. Solicited-node groups are reported too, ff02::1 never.
#[test]
fn mld_reports_groups_of_sockets_and_of_addresses() {
    let mut net = Net::new();
    let (h, mut now) = (&mut net.a, net.now);
    assert!(h.stack.add_link_local(now, h.port));
    let sent = pass(h, &mut now, Duration::from_secs(20));
    let mld: Vec<_> = sent.iter().filter(|(_, f)| f[20] == proto::HOP_BY_HOP).map(|(_, f)| mld_of(f)).collect();
    let solicited = "ff02::1:ff00:1".parse().expect("address");
    let to_exclude = |group: Ipv6Addr| {
        let mut m =
            igmp::mld_v2_report(&[Record { kind: RecordType::ToExclude, group: group.into(), sources: vec![] }]);
        m[2..4].fill(0);
        m
    };
    let bare = |mut m: Vec<u8>| {
        m[2..4].fill(0);
        m
    };
    assert_eq!(mld.len(), 2);
    assert_eq!(
        (mld[0].0, mld[0].1, bare(mld[0].2.clone())),
        (Ipv6Addr::UNSPECIFIED, "ff02::16".parse().expect("address"), to_exclude(solicited))
    );
    let s = udp(h, now, "[::]:5000");
    let join = mreq6(h, G6);
    set(h, now, s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &join).expect("joined");
    let nodes = mreq6(h, "ff02::1".parse().expect("address"));
    set(h, now, s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &nodes).expect("joined");
    let sent = pass(h, &mut now, Duration::from_secs(20));
    let got: Vec<_> = sent.iter().filter(|(_, f)| f[20] == proto::HOP_BY_HOP).map(|(_, f)| mld_of(f)).collect();
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(src, _, m)| src.is_unicast_link_local() && bare(m.clone()) == to_exclude(G6)));
    assert_eq!(h.stack.mib().get(Mib::Icmp6OutMLDv2Reports), 4);
    // A version 1 querier.
    let router = "fe80::9".parse::<Ipv6Addr>().expect("address");
    let mut m = vec![kind::MLD_QUERY, 0, 0, 0, 0x03, 0xe8, 0, 0];
    m.extend([0; 16]);
    let dst = crate::addr::ALL_NODES;
    let sum = Sum::pseudo_v6(router, dst, proto::ICMPV6, m.len() as u32).and(Sum::of(&m)).finish();
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![0; 54];
    let mac = MacAddr::of_multicast_v6(dst);
    EthernetRepr { dst: mac, src: MacAddr([2, 0, 0, 0, 0, 9]), ether_type: EtherType::Ipv6 as u16 }.emit(&mut f);
    let ip = Ipv6Repr {
        src: router,
        dst,
        next_header: proto::ICMPV6,
        hop_limit: 1,
        traffic_class: 0,
        flow_label: 0,
        payload_len: m.len() as u16,
    };
    ip.emit(&mut f[14..]);
    f.extend(m);
    hears(h, now, &f);
    let sent = pass(h, &mut now, Duration::from_secs(2));
    let mut to: Vec<_> = sent.iter().filter(|(_, f)| f[20] == proto::HOP_BY_HOP).map(|(_, f)| mld_of(f)).collect();
    to.sort();
    assert_eq!(to.iter().map(|(_, dst, m)| (*dst, m[0])).collect::<Vec<_>>(), {
        let mut want = vec![(solicited, kind::MLD_REPORT_V1), (G6, kind::MLD_REPORT_V1)];
        want.sort();
        want
    });
    set(h, now, s, SOL_IPV6, IPV6_DROP_MEMBERSHIP, &join).expect("left");
    let sent = pass(h, &mut now, Duration::from_secs(2));
    let (_, dst, m) = mld_of(&sent[0].1);
    assert_eq!((dst, m[0]), (crate::addr::ALL_ROUTERS, kind::MLD_DONE));
}

/// ip(7), RFC 3678: which socket gets what of a group.
#[test]
fn each_socket_gets_what_its_filter_lets_through() {
    let mut net = Net::new();
    let now = net.now;
    let h = &mut net.a;
    let any = udp(h, now, "0.0.0.0:5000");
    let one = udp(h, now, "0.0.0.0:5000");
    let but = udp(h, now, "0.0.0.0:5000");
    let all = udp(h, now, "0.0.0.0:5000");
    let none = udp(h, now, "0.0.0.0:5000");
    h.option(now, none, SOL_IP, IP_MULTICAST_ALL, 0).expect("option");
    let datagram = |src: Ipv4Addr, dst: Ipv4Addr| {
        let mut u = vec![0; 8];
        stackd_wire::UdpRepr { src_port: 9, dst_port: 5000, payload_len: 1 }.emit(
            &mut u,
            src.into(),
            dst.into(),
            Sum::of(b"x"),
        );
        u.push(b'x');
        frame4(src, dst, proto::UDP, 1, &u)
    };
    hears(h, now, &datagram(S1, G4));
    assert_eq!(h.stack.drops().get(DropReason::IpNotForUs), 1, "nobody joined");
    set(h, now, any, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    set(h, now, one, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreq_source(G4, S2)).expect("joined");
    set(h, now, but, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    set(h, now, but, SOL_IP, IP_BLOCK_SOURCE, &mreq_source(G4, S2)).expect("blocked");
    for src in [S1, S2, S2] {
        hears(h, now, &datagram(src, G4));
    }
    let counts = [any, one, but, all, none].map(|s| {
        let fifo = h.stack.fifo(s).expect("fifo");
        core::iter::from_fn(|| h.store.receive(fifo)).count()
    });
    assert_eq!(counts, [3, 2, 1, 3, 0]);
}

/// Linux's errors for what cannot be.
#[test]
fn what_cannot_be_joined_or_left() {
    let mut net = Net::new();
    let now = net.now;
    let h = &mut net.a;
    let s = udp(h, now, "0.0.0.0:5000");
    let add = |h: &mut Host, v: &[u8]| set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, v);
    assert_eq!(add(h, &mreq(Ipv4Addr::new(10, 0, 0, 9))), Err(Errno::EINVAL));
    assert_eq!(add(h, &[239, 1]), Err(Errno::EINVAL));
    assert_eq!(add(h, &[239, 1, 2, 3, 10, 9, 9, 9]), Err(Errno::ENODEV));
    assert_eq!(set(h, now, s, SOL_IP, IP_DROP_MEMBERSHIP, &mreq(G4)), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(set(h, now, s, SOL_IP, IP_BLOCK_SOURCE, &mreq_source(G4, S1)), Err(Errno::EINVAL));
    assert_eq!(add(h, &mreq(G4)), Ok(()));
    assert_eq!(add(h, &mreq(G4)), Err(Errno::EADDRINUSE));
    assert_eq!(set(h, now, s, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreq_source(G4, S1)), Err(Errno::EINVAL));
    assert_eq!(set(h, now, s, SOL_IP, IP_UNBLOCK_SOURCE, &mreq_source(G4, S1)), Err(Errno::EADDRNOTAVAIL));
    for i in 0..19 {
        assert_eq!(add(h, &mreq(Ipv4Addr::new(239, 9, 9, i))), Ok(()));
    }
    assert_eq!(add(h, &mreq(Ipv4Addr::new(239, 9, 9, 99))), Err(Errno::ENOBUFS));
    // struct group_req, without an interface: the route's.
    let mut req = vec![0; 136];
    req[8..10].copy_from_slice(&10u16.to_ne_bytes());
    req[16..32].copy_from_slice(&G6.octets());
    assert_eq!(set(h, now, s, SOL_IPV6, MCAST_JOIN_GROUP, &req), Err(Errno::ENOPROTOOPT));
    let s6 = udp(h, now, "[::]:5001");
    assert_eq!(set(h, now, s6, SOL_IPV6, MCAST_JOIN_GROUP, &req), Ok(()));
    assert!(h.stack.ip().memberships().any(|(p, g, _)| (p, g) == (h.port, G6.into())));
    let tcp = h.socket(now, Domain::V4, SocketKind::Stream);
    assert_eq!(set(h, now, tcp, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)), Err(Errno::EPROTO));
}

/// ip(7), `IP_MULTICAST_LOOP`, `_TTL`, `_IF`: a copy for this host, so many hops, by that interface.
#[test]
fn sending_to_a_group() {
    let mut net = Net::new();
    let mut now = net.now;
    let h = &mut net.a;
    let s = udp(h, now, "0.0.0.0:5000");
    set(h, now, s, SOL_IP, IP_ADD_MEMBERSHIP, &mreq(G4)).expect("joined");
    pass(h, &mut now, Duration::from_secs(5));
    let to: SocketAddr = SocketAddr::new(G4.into(), 5000);
    let lo = h.stack.ip().loopback().expect("lo").0;
    let fifo = h.stack.fifo(s).expect("fifo");
    for (hops, looped, by_lo) in [(1, 1, false), (7, 0, false), (0, 1, false), (1, 1, true)] {
        h.option(now, s, SOL_IP, IP_MULTICAST_TTL, hops).expect("option");
        h.option(now, s, SOL_IP, IP_MULTICAST_LOOP, looped).expect("option");
        if by_lo {
            let index = [&[0; 8][..], &lo.to_ne_bytes()].concat();
            set(h, now, s, SOL_IP, IP_MULTICAST_IF, &index).expect("option");
        }
        h.stack.send_to(now, s, Some(to), b"group", &mut h.store).expect("sent");
        let sent = pass(h, &mut now, Duration::from_millis(10));
        let got = core::iter::from_fn(|| h.store.receive(fifo)).count();
        let ttls: Vec<u8> = sent.iter().map(|(_, f)| f[22]).collect();
        let leaves = hops > 0 && !by_lo;
        assert_eq!(ttls, if leaves { vec![hops as u8] } else { vec![] });
        assert_eq!(got, if by_lo { 0 } else { looped as usize }, "hops {hops} loop {looped} lo {by_lo}");
    }
}
