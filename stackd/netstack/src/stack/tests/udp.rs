//! UDP: options, control messages, segmentation, errors; in virtual time, frames looked at one by one.

use super::{Host, Net};
use crate::RxMeta;
use crate::socket::ancillary::{RecvControl, SendControl, Wanted, Writer};
use crate::socket::errqueue::Origin;
use crate::socket::opts::name::*;
use crate::types::{Domain, Readiness, SocketKind};
use stackd_base::{DropReason, Duration, Errno, Instant, Mib, SockId};
use stackd_wire::{Gso, IcmpRepr, Ipv4Repr, Offload, Sum, UdpRepr, Unreachable, icmp, proto, udp};
use std::net::{IpAddr, SocketAddr};

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("test address")
}

fn bound(host: &mut Host, now: Instant, local: &str) -> SockId {
    let local = addr(local);
    let domain = if local.is_ipv4() { Domain::V4 } else { Domain::V6 };
    let sock = host.socket(now, domain, SocketKind::Dgram);
    host.stack.bind(sock, local).expect("bind");
    sock
}

/// The next datagram: sender, control messages, bytes.
fn receive(host: &mut Host, sock: SockId) -> Option<(SocketAddr, Vec<u8>, Vec<u8>)> {
    let fifo = host.stack.fifo(sock).expect("fifo");
    let control = host.store.peek_control(fifo)?.to_vec();
    let (from, data, last) = host.store.receive(fifo)?;
    if last {
        host.stack.rx_drained(sock);
    }
    Some((from, control, data.to_vec()))
}

/// What a host puts on the wire now.
pub(super) fn frames(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(p) = host.stack.poll_transmit(now, host.port, &mut host.store) {
        let payload = host.store.payload(&p.payload).expect("payload");
        let mut frame = Vec::new();
        p.write_frame(&payload, &mut frame);
        host.stack.handle_tx_complete(now, &p);
        out.push(frame);
    }
    out
}

/// Both know each other, so that frames hold nothing but datagrams.
fn acquainted() -> Net {
    let mut net = Net::new();
    let now = net.now;
    for (host, n) in [(&mut net.a, 2u8), (&mut net.b, 1)] {
        for ip in [format!("10.0.0.{n}"), format!("fd00::{n}")] {
            let key = (host.port, ip.parse().expect("address"));
            host.stack.add_neighbour(now, key, stackd_wire::MacAddr([2, 0, 0, 0, 0, n]));
        }
    }
    net
}

pub(super) fn deliver(host: &mut Host, now: Instant, frame: &[u8], offload: Offload) {
    host.stack.handle_frame(now, host.port, frame, &[][..], 0, RxMeta { at: now, offload }, &mut host.store);
    host.stack.handle_timers(now, &mut host.store);
}

fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.put(level, kind, data);
    w.finish()
}

/// RFC 3542, 4, and ip(7): a socket is told what it asked for: interface, destination, hop limit, traffic class.
#[test]
fn recvmsg_tells_interface_destination_ttl_and_tos() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "[::]:53");
    for option in [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_RECVORIGDSTADDR] {
        net.b.option(now, b, SOL_IPV6, option, 1).expect("option");
    }
    for option in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        net.b.option(now, b, SOL_IP, option, 1).expect("option");
    }
    let port = net.b.port;
    for (to, dst) in [("10.0.0.2:53", "10.0.0.2"), ("[fd00::2]:53", "fd00::2")] {
        let to = addr(to);
        let a = net.a.socket(now, if to.is_ipv4() { Domain::V4 } else { Domain::V6 }, SocketKind::Dgram);
        let control = SendControl { ttl: Some(9), tos: Some(0x28), ..SendControl::default() };
        net.a.stack.send_datagram(now, a, Some(to), &control, b"x", &mut net.a.store).expect("sent");
        for f in frames(&mut net.a, now) {
            deliver(&mut net.b, now, &f, Offload::default());
        }
        let (_, got, _) = receive(&mut net.b, b).expect("a datagram");
        let dst: IpAddr = dst.parse().expect("address");
        let r = RecvControl {
            port,
            dst: SocketAddr::new(dst, 53),
            local: dst,
            ttl: 9,
            tos: 0x28,
            gso_size: None,
            unix_ns: 0,
        };
        let wanted = Wanted {
            pktinfo: true,
            ttl: true,
            tos: true,
            pktinfo6: true,
            hoplimit: true,
            tclass: true,
            origdstaddr6: true,
            ..Wanted::default()
        };
        assert_eq!(got, r.write(&wanted));
        assert!(got.len() > 100, "several messages: {}", got.len());
    }
    // Nobody asked: nothing is told.
    let plain = bound(&mut net.b, now, "10.0.0.2:54");
    let a = net.a.socket(now, Domain::V4, SocketKind::Dgram);
    net.a.stack.send_to(now, a, Some(addr("10.0.0.2:54")), b"x", &mut net.a.store).expect("sent");
    for f in frames(&mut net.a, now) {
        deliver(&mut net.b, now, &f, Offload::default());
    }
    assert_eq!(receive(&mut net.b, plain).expect("a datagram").1, Vec::<u8>::new());
}

/// socket(7), `SO_TIMESTAMP`: "Enable or disable the receiving of the SO_TIMESTAMP control message". The last of the four that was set holds.
#[test]
fn receive_times_are_the_time_of_day() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "10.0.0.2:53");
    let a = net.a.socket(now, Domain::V4, SocketKind::Dgram);
    let get = |host: &mut Host, option| {
        let mut out = [0; 4];
        host.stack.get_option(now, b, SOL_SOCKET, option, &mut out).map(|_| i32::from_ne_bytes(out))
    };
    assert!(!net.b.stack.wants_realtime());
    net.b.option(now, b, SOL_SOCKET, SO_TIMESTAMP, 1).expect("option");
    net.b.option(now, b, SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1).expect("option");
    assert_eq!([SO_TIMESTAMP, SO_TIMESTAMPNS_NEW].map(|o| get(&mut net.b, o)), [Ok(0), Ok(1)]);
    assert!(net.b.stack.wants_realtime());
    net.b.stack.set_realtime(now, 1_700_000_000_000_000_000);
    let later = now + Duration::from_nanos(1_000_000_007);
    net.a.stack.send_to(now, a, Some(addr("10.0.0.2:53")), b"x", &mut net.a.store).expect("sent");
    for f in frames(&mut net.a, now) {
        deliver(&mut net.b, later, &f, Offload::default());
    }
    let times = [1_700_000_001u64.to_ne_bytes(), 7u64.to_ne_bytes()].concat();
    assert_eq!(receive(&mut net.b, b).expect("a datagram").1, message(SOL_SOCKET, SO_TIMESTAMPNS_NEW, &times));
    net.b.option(now, b, SOL_SOCKET, SO_TIMESTAMP, 0).expect("off, whichever of them was on");
    assert_eq!(get(&mut net.b, SO_TIMESTAMPNS_NEW), Ok(0));
    let stream = net.b.socket(now, Domain::V4, SocketKind::Stream);
    assert_eq!(net.b.option(now, stream, SOL_SOCKET, SO_TIMESTAMP, 1), Err(Errno::ENOPROTOOPT));
}

/// `SO_TXTIME` and `SCM_TXTIME`: fq lets a datagram go at the time that was said with it, in the order of those times.
#[test]
fn datagrams_leave_when_their_sender_said() {
    let mut net = acquainted();
    let now = net.now;
    let fq = stackd_qdisc::QdiscConfig::default_of("fq").expect("fq exists");
    net.a.stack.replace_qdisc(now, net.a.port, &fq).expect("replaced");
    let a = net.a.socket(now, Domain::V4, SocketKind::Dgram);
    let to = Some(addr("10.0.0.2:53"));
    let at = |ms: u64| now + Duration::from_millis(ms);
    let say = |t: Instant| message(SOL_SOCKET, SO_TXTIME, &t.as_nanos().to_ne_bytes());
    let mut send = |control: &[u8], data: &[u8]| net.a.stack.send_message(now, a, to, control, data, &mut net.a.store);
    assert_eq!(send(&say(at(10)), b"x"), Err(Errno::EINVAL), "not without SO_TXTIME");
    let monotonic = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    net.a.stack.set_option(now, a, SOL_SOCKET, SO_TXTIME, &monotonic, &mut net.a.store).expect("SO_TXTIME");
    let mut send = |control: &[u8], data: &[u8]| net.a.stack.send_message(now, a, to, control, data, &mut net.a.store);
    assert_eq!(send(&message(SOL_SOCKET, SO_TXTIME, &[1; 4]), b"x"), Err(Errno::EINVAL), "eight bytes");
    assert_eq!(send(&say(at(20)), b"second"), Ok(6));
    assert_eq!(send(&say(at(10)), b"first"), Ok(5));
    assert_eq!(send(&[], b"at once"), Ok(7));
    // Beyond the horizon of ten seconds it is dropped.
    assert_eq!(send(&say(at(11_000)), b"never"), Ok(5));
    for (ms, want) in
        [(0, Some(&b"at once"[..])), (9, None), (10, Some(b"first")), (19, None), (20, Some(b"second")), (12_000, None)]
    {
        net.a.stack.handle_timers(at(ms), &mut net.a.store);
        let left: Vec<Vec<u8>> = frames(&mut net.a, at(ms)).into_iter().map(|f| f[42..].to_vec()).collect();
        assert_eq!(left.iter().map(Vec::as_slice).collect::<Vec<_>>(), Vec::from_iter(want), "after {ms} ms");
    }
}

/// ip(7), `IP_PKTINFO` of sendmsg: `ipi_spec_dst` is the source, `ipi_ifindex` the interface; a source that is not ours is EINVAL.
#[test]
fn sendmsg_chooses_source_and_interface() {
    let mut net = acquainted();
    let now = net.now;
    let second = crate::addr::Address {
        addr: [10, 0, 0, 77].into(),
        prefix_len: 24,
        scope: crate::addr::Scope::Global,
        port: net.a.port,
        secondary: false,
        deprecated: false,
    };
    assert!(net.a.stack.add_address(second));
    let a = bound(&mut net.a, now, "0.0.0.0:5000");
    let to = addr("10.0.0.2:53");
    let info =
        |index: u32, src: [u8; 4]| message(SOL_IP, IP_PKTINFO, &[&index.to_ne_bytes()[..], &src, &[0; 4]].concat());
    let mut send = |control: &[u8]| net.a.stack.send_message(now, a, Some(to), control, b"x", &mut net.a.store);
    let index = net.a.port.0;
    assert_eq!(send(&info(index, [10, 0, 0, 77])), Ok(1));
    assert_eq!(send(&info(0, [10, 9, 9, 9])), Err(Errno::ENETUNREACH));
    assert_eq!(send(&info(99, [0; 4])), Err(Errno::ENODEV));
    assert_eq!(send(&[1, 2, 3]), Ok(1), "shorter than a header: passed over, as CMSG_FIRSTHDR does");
    let sources: Vec<_> =
        frames(&mut net.a, now).iter().map(|f| Ipv4Repr::parse(&f[14..], f.len() - 14).expect("ip").0.src).collect();
    assert_eq!(sources, [[10, 0, 0, 77].into(), <std::net::Ipv4Addr>::from([10, 0, 0, 1])]);
}

/// udp(7), `UDP_SEGMENT`: one call, several datagrams of one size, the last one shorter; each whole by itself.
#[test]
fn udp_segment_cuts_a_send_into_datagrams() {
    for (to, any) in [("10.0.0.2:53", "0.0.0.0:53"), ("[fd00::2]:53", "[::]:53")] {
        let mut net = acquainted();
        let now = net.now;
        let b = bound(&mut net.b, now, any);
        let a = net.a.socket(now, if to.starts_with('[') { Domain::V6 } else { Domain::V4 }, SocketKind::Dgram);
        net.a.option(now, a, SOL_UDP, UDP_SEGMENT, 1000).expect("option");
        let data: Vec<u8> = (0..2500).map(|i| (i * 7) as u8).collect();
        assert_eq!(net.a.stack.send_to(now, a, Some(addr(to)), &data, &mut net.a.store), Ok(2500));
        let out = frames(&mut net.a, now);
        assert_eq!(out.len(), 3);
        for f in &out {
            // Checked as any other datagram: no trust in offloads.
            deliver(&mut net.b, now, f, Offload::default());
        }
        let mut got = Vec::new();
        let mut lengths = Vec::new();
        while let Some((_, _, d)) = receive(&mut net.b, b) {
            lengths.push(d.len());
            got.extend(d);
        }
        assert_eq!((lengths, got), (vec![1000, 1000, 500], data.clone()));
        assert_eq!(net.b.stack.drops().total(), 0);
        // A segment that does not fit the path, and more segments than there may be.
        let with = |net: &mut Net, size: u16, len: usize| {
            let control = SendControl { gso_size: Some(size), ..SendControl::default() };
            net.a.stack.send_datagram(now, a, Some(addr(to)), &control, &vec![0; len], &mut net.a.store)
        };
        assert_eq!(with(&mut net, 1473, 3000), Err(Errno::EINVAL));
        assert_eq!(with(&mut net, 10, 1281), Err(Errno::EINVAL));
        assert_eq!(with(&mut net, 10, 1280), Ok(1280));
        assert_eq!(frames(&mut net.a, now).len(), 128);
    }
}

/// A USO frame of a Linux sender with UDP_SEGMENT came up as one datagram of all segments' bytes: the device's `gso_size` was not looked at.
#[test]
fn what_a_device_merged_is_datagrams_again() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "0.0.0.0:53");
    let gro = bound(&mut net.b, now, "0.0.0.0:54");
    net.b.option(now, gro, SOL_UDP, UDP_GRO, 1).expect("option");
    let a = net.a.socket(now, Domain::V4, SocketKind::Dgram);
    for (to, sock) in [("10.0.0.2:53", b), ("10.0.0.2:54", gro)] {
        let data: Vec<u8> = (0..2500).map(|i| (i * 3) as u8).collect();
        // A host whose MTU lets the whole through: the frame as a device would hand it up.
        let p = net.a.port;
        net.a.stack.ip_mut().port_mut(p).expect("port").config.mtu = 9000;
        net.a.stack.send_to(now, a, Some(addr(to)), &data, &mut net.a.store).expect("sent");
        let offload =
            Offload { csum: Some((34, 6)), gso_size: 1000, gso: Gso::UdpL4, hdr_len: 42, ..Offload::default() };
        let f = frames(&mut net.a, now).remove(0);
        deliver(&mut net.b, now, &f, offload);
        let mut got: Vec<(usize, bool)> = Vec::new();
        while let Some((_, control, d)) = receive(&mut net.b, sock) {
            got.push((d.len(), control == message(SOL_UDP, UDP_GRO, &1000i32.to_ne_bytes())));
        }
        let want = if sock == gro { vec![(2500, true)] } else { vec![(1000, false), (1000, false), (500, false)] };
        assert_eq!(got, want);
    }
}

/// udp(7), `UDP_GRO`: datagrams of a flow that arrive together are one read, with their size; a shorter one ends the run, and other flows
/// and sizes are not mixed in.
#[test]
fn udp_gro_merges_what_arrives_together() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "0.0.0.0:53");
    net.b.option(now, b, SOL_UDP, UDP_GRO, 1).expect("option");
    let a = bound(&mut net.a, now, "0.0.0.0:1000");
    let other = bound(&mut net.a, now, "0.0.0.0:1001");
    let to = Some(addr("10.0.0.2:53"));
    for (sock, len) in [(a, 100), (a, 100), (a, 40), (a, 100), (other, 100), (a, 0), (a, 0)] {
        net.a.stack.send_to(now, sock, to, &vec![len as u8; len], &mut net.a.store).expect("sent");
    }
    // fq sent the flows one after the other; on the way they were mixed.
    let mut out = frames(&mut net.a, now);
    let last = out.pop().expect("the other flow's");
    out.insert(4, last);
    for f in out {
        let meta = RxMeta { at: now, offload: Offload::default() };
        net.b.stack.handle_frame(now, net.b.port, &f, &[][..], 0, meta, &mut net.b.store);
    }
    assert!(net.b.stack.next_deadline().is_some_and(|t| t <= now), "what is held is delivered in this turn");
    net.b.stack.handle_timers(now, &mut net.b.store);
    let mut got = Vec::new();
    while let Some((from, control, d)) = receive(&mut net.b, b) {
        got.push((from.port(), d.len(), control));
    }
    let merged = message(SOL_UDP, UDP_GRO, &100i32.to_ne_bytes());
    let want = [(1000, 240, merged), (1000, 100, vec![]), (1001, 100, vec![]), (1000, 0, vec![]), (1000, 0, vec![])];
    assert_eq!(got, want);
    assert_eq!((net.b.stack.drops().total(), net.b.stack.mib().get(Mib::UdpInErrors)), (0, 0));
}

fn df_and_fragments(frames: &[Vec<u8>]) -> (Vec<bool>, usize) {
    let parsed: Vec<_> = frames.iter().map(|f| Ipv4Repr::parse(&f[14..], f.len() - 14).expect("ip").0).collect();
    (parsed.iter().map(|r| r.dont_fragment).collect(), parsed.iter().filter(|r| r.is_fragment()).count())
}

/// ip(7), `IP_MTU_DISCOVER`: each mode's DF, what happens to what does not fit, and whether ICMP's word counts.
#[test]
fn mtu_discovery_modes() {
    const WANT: i32 = 1;
    const NAMES: [(i32, bool, bool, u32); 6] =
        // mode, DF on what fits, fragments what does not, what it believes after ICMP said 1000.
        [
            (0, false, true, 1000),
            (WANT, true, true, 1000),
            (2, true, false, 1000),
            (3, true, false, 1500),
            (4, false, false, 1500),
            (5, false, true, 1500),
        ];
    for (mode, df, fragments, believes) in NAMES {
        let mut net = acquainted();
        let now = net.now;
        let a = bound(&mut net.a, now, "10.0.0.1:1000");
        net.a.option(now, a, SOL_IP, IP_MTU_DISCOVER, mode).expect("option");
        let to = Some(addr("10.0.0.2:53"));
        let send = |net: &mut Net, len: usize| {
            let sent = net.a.stack.send_to(now, a, to, &vec![1; len], &mut net.a.store);
            (sent, frames(&mut net.a, now))
        };
        let (sent, out) = send(&mut net, 1472);
        assert_eq!((sent, df_and_fragments(&out)), (Ok(1472), (vec![df], 0)), "mode {mode}");
        let quoted = out[0][14..14 + 28 + 8].to_vec();
        let (sent, out) = send(&mut net, 1473);
        if fragments {
            assert_eq!((sent, df_and_fragments(&out)), (Ok(1473), (vec![false, false], 2)), "mode {mode}");
        } else {
            assert_eq!((sent, out.len()), (Err(Errno::EMSGSIZE), 0), "mode {mode}");
        }
        icmp_in(&mut net.a, now, IcmpRepr::PacketTooBig { mtu: 1000 }, &quoted);
        let all = send(&mut net, believes as usize - 28);
        assert_eq!((all.0, df_and_fragments(&all.1).1), (Ok(believes as usize - 28), 0), "mode {mode}");
        let more = send(&mut net, believes as usize - 27);
        assert_eq!(more.0.is_ok(), fragments, "mode {mode}");
        assert!(more.1.iter().all(|f| f.len() <= 14 + believes as usize), "mode {mode}");
    }
}

/// An ICMPv4 error from the neighbour about a packet of ours.
pub(super) fn icmp_in(host: &mut Host, now: Instant, error: IcmpRepr, quoted: &[u8]) {
    let mut m = vec![0; icmp::HEADER_LEN];
    m.extend_from_slice(quoted);
    error.emit_v4(&mut m);
    let ip = Ipv4Repr {
        src: [10, 0, 0, 2].into(),
        dst: [10, 0, 0, 1].into(),
        protocol: proto::ICMP,
        ttl: 64,
        tos: 0,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        payload_len: m.len() as u16,
    };
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    f.resize(34, 0);
    ip.emit(&mut f[14..]);
    f.extend(m);
    deliver(host, now, &f, Offload::default());
}

/// ip(7), `IP_RECVERR`: the queue holds what was said, by whom, about which destination; an unconnected socket hears too, and soft errors.
#[test]
fn recverr_queues_errors_even_for_unconnected_sockets() {
    let mut net = acquainted();
    let now = net.now;
    let a = bound(&mut net.a, now, "10.0.0.1:1000");
    let to = Some(addr("10.0.0.2:53"));
    let host_unreachable = IcmpRepr::DestUnreachable(Unreachable::Host);
    let refused = IcmpRepr::DestUnreachable(Unreachable::Port);
    let quote = |net: &mut Net| {
        net.a.stack.send_to(now, a, to, b"payload", &mut net.a.store).expect("sent");
        frames(&mut net.a, now).remove(0)[14..].to_vec()
    };
    let q = quote(&mut net);
    icmp_in(&mut net.a, now, refused, &q);
    assert_eq!(net.a.stack.take_error(a), None, "udp(7): without IP_RECVERR only a connected socket is told");
    assert_eq!(net.a.stack.receive_error(a, false), Err(Errno::EAGAIN));
    net.a.option(now, a, SOL_IP, IP_RECVERR, 1).expect("option");
    icmp_in(&mut net.a, now, refused, &q);
    icmp_in(&mut net.a, now, host_unreachable, &q);
    assert!(net.a.stack.readiness(a).contains(Readiness::ERR));
    assert_eq!(net.a.stack.send_to(now, a, to, b"x", &mut net.a.store), Err(Errno::EHOSTUNREACH));
    let first = net.a.stack.receive_error(a, true).expect("an entry");
    assert_eq!(net.a.stack.receive_error(a, false).expect("the same"), first);
    assert_eq!((first.errno, first.origin, first.kind, first.code), (111, Origin::Icmp, 3, 3));
    assert_eq!((first.to, first.offender, &first.payload[..]), (to, Some(addr("10.0.0.2:0")), &b"payload"[..]));
    // The next entry's error is the socket's now.
    assert_eq!(net.a.stack.take_error(a), Some(Errno::EHOSTUNREACH));
    assert!(net.a.stack.readiness(a).contains(Readiness::ERR), "one is left");
    assert_eq!(net.a.stack.receive_error(a, false).expect("the second").errno, 113);
    assert!(!net.a.stack.readiness(a).contains(Readiness::ERR));
}

/// ip(7), `IP_RECVERR`: EMSGSIZE leaves a local entry with the MTU that would fit.
#[test]
fn recverr_says_which_mtu_would_fit() {
    let mut net = acquainted();
    let now = net.now;
    let a = net.a.socket(now, Domain::V6, SocketKind::Dgram);
    net.a.option(now, a, SOL_IPV6, IPV6_RECVERR, 1).expect("option");
    net.a.option(now, a, SOL_IPV6, IPV6_DONTFRAG, 1).expect("option");
    let to = Some(addr("[fd00::2]:53"));
    assert_eq!(net.a.stack.send_to(now, a, to, &[1; 1453], &mut net.a.store), Err(Errno::EMSGSIZE));
    let entry = net.a.stack.receive_error(a, false).expect("an entry");
    assert_eq!((entry.errno, entry.origin, entry.info, entry.to), (90, Origin::Local, 1500, to));
    // struct cmsghdr of SOL_IPV6, IPV6_RECVERR.
    assert_eq!(entry.control()[8..16], [41, 0, 0, 0, 25, 0, 0, 0]);
    assert_eq!(net.a.stack.send_to(now, a, to, &[1; 1452], &mut net.a.store), Ok(1452));
}

/// RFC 8200, 8.1: "IPv6 receivers must discard UDP packets containing a zero checksum"; RFC 6936 lets a socket accept them
/// (`UDP_NO_CHECK6_RX`). RFC 768: in IPv4 zero means none was made.
#[test]
fn zero_checksums() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "[::]:53");
    let a = net.a.socket(now, Domain::V6, SocketKind::Dgram);
    net.a.option(now, a, SOL_UDP, UDP_NO_CHECK6_TX, 1).expect("option");
    net.a.stack.send_to(now, a, Some(addr("[fd00::2]:53")), b"six", &mut net.a.store).expect("sent");
    let f = frames(&mut net.a, now).remove(0);
    assert_eq!(f[14 + 40 + 6..14 + 40 + 8], [0, 0]);
    deliver(&mut net.b, now, &f, Offload::default());
    assert_eq!(receive(&mut net.b, b), None);
    assert_eq!(net.b.stack.drops().get(DropReason::UdpChecksum), 1);
    assert_eq!(net.b.stack.mib().get(Mib::Udp6InCsumErrors), 1);
    net.b.option(now, b, SOL_UDP, UDP_NO_CHECK6_RX, 1).expect("option");
    deliver(&mut net.b, now, &f, Offload::default());
    assert_eq!(receive(&mut net.b, b).expect("accepted").2, b"six");
    net.a.stack.send_to(now, a, Some(addr("[::ffff:10.0.0.2]:53")), b"four", &mut net.a.store).expect("sent");
    let mut f = frames(&mut net.a, now).remove(0);
    assert_ne!(f[14 + 20 + 6..14 + 20 + 8], [0, 0], "the option is IPv6's");
    f[14 + 20 + 6..14 + 20 + 8].fill(0);
    deliver(&mut net.b, now, &f, Offload::default());
    assert_eq!(receive(&mut net.b, b).expect("accepted").2, b"four");
}

/// ip(7), `SO_REUSEADDR`: of several sockets bound alike the one bound last gets unicast, all get a broadcast; a broadcast comes back to
/// the sender's own host.
#[test]
fn several_sockets_share_a_port() {
    let mut net = acquainted();
    let now = net.now;
    let mut socks = Vec::new();
    for _ in 0..2 {
        let s = net.a.socket(now, Domain::V4, SocketKind::Dgram);
        net.a.option(now, s, SOL_SOCKET, SO_REUSEADDR, 1).expect("option");
        net.a.stack.bind(s, addr("0.0.0.0:53")).expect("bind");
        socks.push(s);
    }
    let sender = bound(&mut net.a, now, "10.0.0.1:1000");
    let broadcast = Some(addr("10.0.0.255:53"));
    assert_eq!(net.a.stack.send_to(now, sender, broadcast, b"all", &mut net.a.store), Err(Errno::EACCES));
    net.a.option(now, sender, SOL_SOCKET, SO_BROADCAST, 1).expect("option");
    net.a.stack.send_to(now, sender, broadcast, b"all", &mut net.a.store).expect("sent");
    assert_eq!(frames(&mut net.a, now).len(), 1);
    for &s in &socks {
        assert_eq!(receive(&mut net.a, s).expect("a copy").2, b"all");
    }
    let b = net.b.socket(now, Domain::V4, SocketKind::Dgram);
    net.b.stack.send_to(now, b, Some(addr("10.0.0.1:53")), b"one", &mut net.b.store).expect("sent");
    for f in frames(&mut net.b, now) {
        deliver(&mut net.a, now, &f, Offload::default());
    }
    assert_eq!(receive(&mut net.a, socks[0]), None);
    assert_eq!(receive(&mut net.a, socks[1]).expect("the last one bound").2, b"one");
}

/// RFC 4007, 6: a link-local address is of a link; the sender's scope comes with it, and choosing another device's is EINVAL.
#[test]
fn link_local_peers_have_a_scope() {
    let mut net = acquainted();
    let now = net.now;
    for host in [&mut net.a, &mut net.b] {
        assert!(host.stack.add_link_local(now, host.port));
    }
    // Until nobody objected, there is no address to be used.
    net.run(Duration::from_secs(3));
    let now = net.now;
    let b = bound(&mut net.b, now, "[::]:53");
    let a = net.a.socket(now, Domain::V6, SocketKind::Dgram);
    let scope = net.a.port.0;
    let peer =
        net.b.stack.ip().addrs().on(net.b.port).find(|x| crate::addr::Scope::of(x.addr) == crate::addr::Scope::Link);
    let IpAddr::V6(peer) = peer.expect("link-local").addr else { panic!("v6") };
    let to = |scope| SocketAddr::V6(std::net::SocketAddrV6::new(peer, 53, 0, scope));
    net.a.stack.send_to(now, a, Some(to(scope)), b"near", &mut net.a.store).expect("sent");
    assert_eq!(net.a.stack.send_to(now, a, Some(to(77)), b"near", &mut net.a.store), Err(Errno::ENODEV));
    net.run_ms(5);
    let (from, _, data) = receive(&mut net.b, b).expect("a datagram");
    let SocketAddr::V6(from) = from else { panic!("v6") };
    assert_eq!((data, from.scope_id()), (b"near".to_vec(), net.b.port.0));
    net.a.option(now, a, SOL_SOCKET, SO_BINDTOIFINDEX, 1).expect("lo");
    assert_eq!(net.a.stack.send_to(now, a, Some(to(scope)), b"near", &mut net.a.store), Err(Errno::EINVAL));
    assert_eq!(net.a.option(now, a, SOL_SOCKET, SO_BINDTOIFINDEX, 99), Err(Errno::ENODEV));
}

/// `IPV6_MINHOPCOUNT` (RFC 5082): what came from further away is not for this socket.
#[test]
fn packets_with_too_few_hops_left_are_dropped() {
    let mut net = acquainted();
    let now = net.now;
    let b = bound(&mut net.b, now, "0.0.0.0:53");
    net.b.option(now, b, SOL_IP, IP_MINTTL, 255).expect("option");
    let a = net.a.socket(now, Domain::V4, SocketKind::Dgram);
    for ttl in [254, 255] {
        net.a.option(now, a, SOL_IP, IP_TTL, ttl).expect("option");
        net.a.stack.send_to(now, a, Some(addr("10.0.0.2:53")), &[ttl as u8], &mut net.a.store).expect("sent");
    }
    for f in frames(&mut net.a, now) {
        deliver(&mut net.b, now, &f, Offload::default());
    }
    assert_eq!(receive(&mut net.b, b).expect("a datagram").2, [255]);
    assert_eq!((receive(&mut net.b, b), net.b.stack.drops().get(DropReason::IpMinTtl)), (None, 1));
}

#[test]
fn a_datagram_header_made_here_is_valid() {
    // The pseudo-header sum of an offloaded datagram completes to what a checksum in software would have been.
    let (src, dst): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut h = [0; 8];
    UdpRepr { src_port: 1, dst_port: 2, payload_len: 5 }.emit(&mut h, src, dst, Sum::of(b"12345"));
    let whole = h;
    udp::fill_partial_checksum(&mut h, src, dst, 5);
    let done = Sum::of(&h).and_at(Sum::of(b"12345"), 8).finish_udp();
    assert_eq!(done.to_be_bytes(), whole[6..8]);
}
