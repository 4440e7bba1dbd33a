//! Rules of TCP that need a host around the connection: closing, urgent data, path MTUs, ports, orphans, TIME_WAIT.

use super::udp::{frames, icmp_in};
use super::*;
use crate::neigh::NudState;
use crate::socket::opts::name::*;
use stackd_wire::{IcmpRepr, TcpFlags, TcpRepr, Unreachable};

fn sysctl(host: &mut Host, now: Instant, key: &str, value: &str) {
    host.stack.sysctl_set(now, key, value, &mut host.store).expect("legal");
}

fn count(host: &Host, mib: Mib) -> u64 {
    host.stack.mib().get(mib)
}

fn pair() -> (Net, SockId, SockId) {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    (net, client, server)
}

fn linger(net: &mut Net, sock: SockId, on: i32, seconds: i32) {
    let value = [on.to_ne_bytes(), seconds.to_ne_bytes()].concat();
    net.a.stack.set_option(net.now, sock, SOL_SOCKET, SO_LINGER, &value, &mut net.a.store).expect("SO_LINGER");
}

/// socket(7), SO_LINGER: off and on with a time send what there is, then FIN; on with zero resets.
#[test]
fn so_linger_in_three_forms() {
    for (on, seconds, resets) in [(0, 0, false), (1, 5, false), (1, 0, true)] {
        let (mut net, client, server) = pair();
        linger(&mut net, client, on, seconds);
        net.a.write(net.now, client, b"last words");
        net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
        net.run_ms(5);
        let error = net.b.get_int(net.now, server, SOL_SOCKET, SO_ERROR).expect("SO_ERROR");
        assert_eq!(error, if resets { Errno::ECONNRESET as i32 } else { 0 }, "{on} {seconds}");
        if !resets {
            assert_eq!(net.b.read(net.now, server), b"last words");
            assert!(net.b.stack.readiness(server).contains(Readiness::RDHUP));
        }
    }
}

/// tcp(7), TCP_LINGER2: negative: FIN_WAIT_2 is not waited in. The connection vanished in silence, and the peer kept its half.
#[test]
fn a_negative_linger2_resets_instead_of_waiting_for_the_fin() {
    let (mut net, client, server) = pair();
    net.a.option(net.now, client, SOL_TCP, TCP_LINGER2, -1).expect("TCP_LINGER2");
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.run_ms(5);
    assert_eq!(count(&net.a, Mib::TcpExtTCPAbortOnData), 1);
    assert_eq!(net.b.get_int(net.now, server, SOL_SOCKET, SO_ERROR), Ok(Errno::EPIPE as i32));
    assert_eq!(net.a.stack.socket_counts().0, 0);
}

#[test]
fn urgent_data_makes_a_socket_pri_and_marks_its_place() {
    let (mut net, client, server) = pair();
    let fifo = net.a.stack.fifo(client).expect("fifo");
    let (head, _) = net.a.store.write(fifo, b"abcX");
    net.a.stack.written_urgent(net.now, client, head, &mut net.a.store).expect("written");
    net.run_ms(5);
    assert!(net.b.stack.readiness(server).contains(Readiness::PRI));
    assert!(net.b.events.iter().any(|e| e.sock == server && e.edges.contains(Readiness::PRI)));
    assert_eq!(net.b.stack.urgent_mark(server), Some((3, true)));
    assert_eq!(net.b.stack.at_mark(server), Ok(false));
    let now = net.now;
    net.b.stack.consumed(now, server, 3, &mut net.b.store).expect("consumed");
    assert_eq!(net.b.stack.at_mark(server), Ok(true));
    net.b.stack.consumed(now, server, 4, &mut net.b.store).expect("consumed");
    assert!(!net.b.stack.readiness(server).contains(Readiness::PRI));
    assert_eq!(net.b.stack.at_mark(SockId { slot: 999, generation: 0 }), Err(Errno::EBADF));
}

/// A packet of the connection's, as an ICMP error would quote it.
fn quoted(net: &mut Net, client: SockId) -> Vec<u8> {
    net.a.write(net.now, client, &[7; 1400]);
    let now = net.now;
    frames(&mut net.a, now).remove(0)[14..].to_vec()
}

/// What ICMP said of a path was kept by the one connection that it had been said to: every new one ran into the same wall, and a route
/// change made even that one forget.
#[test]
fn rfc1191_a_path_mtu_serves_all_connections_and_expires() {
    let (mut net, client, _) = pair();
    sysctl(&mut net.a, net.now, "net.ipv4.route.mtu_expires", "60");
    let mtu = |net: &mut Net, sock: SockId| net.a.get_int(net.now, sock, SOL_IP, IP_MTU).expect("IP_MTU");
    let mss = |net: &mut Net, sock: SockId| net.a.get_int(net.now, sock, SOL_TCP, TCP_MAXSEG).expect("TCP_MAXSEG");
    let quote = quoted(&mut net, client);
    // About what was never sent: nobody learns.
    let mut forged = quote.clone();
    forged[24] ^= 0x40;
    let now = net.now;
    icmp_in(&mut net.a, now, IcmpRepr::PacketTooBig { mtu: 600 }, &forged);
    assert_eq!((mtu(&mut net, client), count(&net.a, Mib::TcpExtOutOfWindowIcmps)), (1500, 1));
    icmp_in(&mut net.a, now, IcmpRepr::PacketTooBig { mtu: 1000 }, &quote);
    assert_eq!((mtu(&mut net, client), mss(&mut net, client)), (1000, 948));
    net.run_ms(300);
    let listener = net.b.listener(net.now, "0.0.0.0:81", 10);
    let (second, _) = net.connected(listener, "10.0.0.2:81");
    assert_eq!(mss(&mut net, second), 948);
    net.run(Duration::from_secs(61));
    net.a.write(net.now, client, &[7; 100]);
    net.run_ms(50);
    assert_eq!((mtu(&mut net, client), mss(&mut net, client)), (1500, 1448));
}

/// ip-sysctl, min_pmtu: "depending on"; an attacker's 68 is not believed.
#[test]
fn min_pmtu_and_min_snd_mss_bound_what_icmp_may_say() {
    let (mut net, client, _) = pair();
    sysctl(&mut net.a, net.now, "net.ipv4.route.min_pmtu", "552");
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_min_snd_mss", "700");
    let quote = quoted(&mut net, client);
    let now = net.now;
    icmp_in(&mut net.a, now, IcmpRepr::PacketTooBig { mtu: 100 }, &quote);
    assert_eq!(net.a.get_int(now, client, SOL_IP, IP_MTU), Ok(552));
    assert_eq!(net.a.get_int(now, client, SOL_TCP, TCP_MAXSEG), Ok(700 - 12));
}

/// RFC 9293, 3.9.2.2 (MUST-56): a soft error does not end a connection. ip(7), IP_RECVERR: it is told at once only to who asks.
#[test]
fn icmp_errors_are_kept_or_told_by_ip_recverr() {
    for recverr in [0, 1] {
        let (mut net, client, _) = pair();
        net.a.option(net.now, client, SOL_IP, IP_RECVERR, recverr).expect("IP_RECVERR");
        let quote = quoted(&mut net, client);
        let now = net.now;
        icmp_in(&mut net.a, now, IcmpRepr::DestUnreachable(Unreachable::Host), &quote);
        let told = net.a.get_int(now, client, SOL_SOCKET, SO_ERROR);
        assert_eq!(told, Ok(recverr * Errno::EHOSTUNREACH as i32));
        net.run_ms(500);
        assert!(net.a.stack.peer_addr(client).is_ok(), "still connected");
    }
}

/// A hard error ends a handshake (RFC 9293, 3.9.2.2, SHLD-26), and nothing that is established (RFC 5461).
#[test]
fn a_hard_icmp_error_ends_only_a_handshake() {
    let mut net = Net::new();
    let warm = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (established, _) = net.connected(warm, "10.0.0.2:80");
    let quote = quoted(&mut net, established);
    let now = net.now;
    icmp_in(&mut net.a, now, IcmpRepr::DestUnreachable(Unreachable::Port), &quote);
    net.run_ms(300);
    assert!(net.a.stack.peer_addr(established).is_ok());
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = "10.0.0.2:9".parse().expect("address");
    let _ = net.a.stack.connect(net.now, client, to, &mut net.a.store);
    let now = net.now;
    let syn = frames(&mut net.a, now).remove(0)[14..].to_vec();
    icmp_in(&mut net.a, now, IcmpRepr::DestUnreachable(Unreachable::Port), &syn);
    assert_eq!(net.a.get_int(now, client, SOL_SOCKET, SO_ERROR), Ok(Errno::ECONNREFUSED as i32));
}

fn nothing(_: u64, frame: &[u8]) -> bool {
    // ARP passes.
    frame[12..14] == [8, 0]
}

/// RFC 9293, 3.8.3 (MUST-20): "pass negative advice to the IP layer, to trigger dead-gateway diagnosis".
#[test]
fn rfc9293_r1_asks_whether_the_neighbour_still_lives() {
    let (mut net, client, _) = pair();
    let key = (net.a.port, "10.0.0.2".parse().expect("address"));
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_retries1", "2");
    net.filter = Some(nothing);
    net.a.write(net.now, client, b"anyone?");
    let state = |net: &Net| net.a.stack.ip().neighbours().get(key).map(|n| (n.state, n.confirmed));
    let before = state(&net).expect("known");
    net.run_ms(4_000);
    let after = state(&net).expect("known");
    assert_eq!(after.0, NudState::Reachable, "it answered");
    assert!(after.1 > before.1, "it was asked");
}

/// RFC 6056, 3.3.4 and 3.3.5: neither sequential nor predictable from another destination, never a reserved one, of Linux's parity.
#[test]
fn rfc6056_ephemeral_ports_tell_nothing_about_each_other() {
    let mut net = Net::new();
    sysctl(&mut net.a, net.now, "net.ipv4.ip_local_reserved_ports", "32768-40000");
    let mut ports = |to: &str| -> Vec<u16> {
        let to: SocketAddr = to.parse().expect("address");
        (0..20)
            .map(|_| {
                let c = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
                let _ = net.a.stack.connect(net.now, c, to, &mut net.a.store);
                net.a.stack.local_addr(c).expect("bound").port()
            })
            .collect()
    };
    let (one, two) = (ports("10.0.0.2:80"), ports("10.0.0.3:80"));
    for list in [&one, &two] {
        assert!(list.iter().all(|p| *p > 40_000 && p % 2 == 0), "{list:?}");
        let steps: std::collections::BTreeSet<i32> =
            list.windows(2).map(|w| i32::from(w[1]) - i32::from(w[0])).collect();
        assert!(steps.len() > 3, "steps tell how many connections there were: {list:?}");
    }
    let gap: std::collections::BTreeSet<i32> =
        one.iter().zip(&two).map(|(a, b)| i32::from(*a) - i32::from(*b)).collect();
    assert!(gap.len() > 3, "one destination foretells the other: {one:?} {two:?}");
}

#[test]
fn tcp_max_orphans_resets_what_is_one_too_many() {
    let (mut net, client, server) = pair();
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_max_orphans", "0");
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.run_ms(5);
    assert_eq!(count(&net.a, Mib::TcpExtTCPAbortOnMemory), 1);
    assert_eq!(net.b.get_int(net.now, server, SOL_SOCKET, SO_ERROR), Ok(Errno::ECONNRESET as i32));
}

/// ip-sysctl, tcp_orphan_retries: 0 counts as 8: about 100 s; not `tcp_retries2`'s quarter of an hour.
#[test]
fn an_orphan_gives_up_sooner() {
    let (mut net, client, _) = pair();
    net.filter = Some(nothing);
    net.a.write(net.now, client, b"anyone?");
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.run(Duration::from_secs(90));
    assert_eq!(net.a.stack.socket_counts().0, 1);
    net.run(Duration::from_secs(120));
    assert_eq!((net.a.stack.socket_counts().0, count(&net.a, Mib::TcpExtTCPAbortOnTimeout)), (0, 1));
}

#[test]
fn tcp_max_tw_buckets_lets_the_rest_go_at_once() {
    let (mut net, client, server) = pair();
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_max_tw_buckets", "0");
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.run_ms(5);
    net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
    net.run_ms(5);
    assert_eq!(count(&net.a, Mib::TcpExtTCPTimeWaitOverflow), 1);
    assert_eq!(net.a.stack.socket_counts(), (0, 0, 0));
}

/// tcp_tw_reuse: 0 never, 2 (the default) on loopback only, 1 always; after tcp_tw_reuse_delay, with timestamps (RFC 6191).
#[test]
fn tcp_tw_reuse_and_its_delay() {
    for (reuse, delay, timestamps, free) in [
        ("0", "1000", "1", false),
        ("2", "1000", "1", false),
        ("1", "1000", "1", true),
        ("1", "5000", "1", false),
        ("1", "1000", "0", false),
    ] {
        let mut net = Net::new();
        sysctl(&mut net.a, net.now, "net.ipv4.ip_local_port_range", "40000 40000");
        sysctl(&mut net.a, net.now, "net.ipv4.tcp_tw_reuse", reuse);
        sysctl(&mut net.a, net.now, "net.ipv4.tcp_tw_reuse_delay", delay);
        sysctl(&mut net.a, net.now, "net.ipv4.tcp_timestamps", timestamps);
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        let (client, server) = net.connected(listener, "10.0.0.2:80");
        net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
        net.run_ms(5);
        net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
        net.run_ms(2_000);
        let again = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
        let to = "10.0.0.2:80".parse().expect("address");
        let got = net.a.stack.connect(net.now, again, to, &mut net.a.store);
        let want = if free { Errno::EINPROGRESS } else { Errno::EADDRNOTAVAIL };
        assert_eq!(got, Err(want), "tw_reuse {reuse}, delay {delay}, timestamps {timestamps}");
    }
}

#[test]
fn tcp_abort_on_overflow_resets_what_does_not_fit() {
    let mut net = Net::new();
    sysctl(&mut net.b, net.now, "net.ipv4.tcp_abort_on_overflow", "1");
    net.b.listener(net.now, "0.0.0.0:80", 0);
    let to: SocketAddr = "10.0.0.2:80".parse().expect("address");
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let c = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
            let _ = net.a.stack.connect(net.now, c, to, &mut net.a.store);
            c
        })
        .collect();
    // Both handshakes run side by side: the second finds the queue full when it ends.
    net.run_ms(5);
    let errors: Vec<_> =
        clients.iter().map(|c| net.a.get_int(net.now, *c, SOL_SOCKET, SO_ERROR).expect("SO_ERROR")).collect();
    assert!(
        errors.contains(&(Errno::ECONNRESET as i32)) || count(&net.b, Mib::TcpExtListenOverflows) > 0,
        "{errors:?}"
    );
}

/// tcp(7), TCP_DEFER_ACCEPT: awake with data, or when the time is up.
#[test]
fn tcp_defer_accept_wakes_the_listener_with_data() {
    for data in [true, false] {
        let mut net = Net::new();
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        net.b.option(net.now, listener, SOL_TCP, TCP_DEFER_ACCEPT, 3).expect("TCP_DEFER_ACCEPT");
        let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
        let to = "10.0.0.2:80".parse().expect("address");
        let _ = net.a.stack.connect(net.now, client, to, &mut net.a.store);
        net.run_ms(50);
        assert!(net.b.stack.accept(net.now, listener, &mut net.b.store).is_err());
        assert!(net.a.stack.peer_addr(client).is_ok(), "the client knows nothing of it");
        if data {
            net.a.write(net.now, client, b"hello");
            net.run_ms(50);
        } else {
            net.run(Duration::from_secs(5));
        }
        let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
        if data {
            assert_eq!(net.b.read(net.now, server), b"hello");
        }
        assert!(count(&net.b, Mib::TcpExtTCPDeferAcceptDrop) > 0);
    }
}

/// RFC 9293, 3.9.1.1 (MUST-46): "MUST return an error for an OPEN to an invalid remote address (e.g., a broadcast or multicast address)".
#[test]
fn rfc9293_open_to_a_group_is_refused() {
    let mut net = Net::new();
    for (to, domain) in [
        ("224.0.0.1:80", Domain::V4),
        ("10.0.0.255:80", Domain::V4),
        ("255.255.255.255:80", Domain::V4),
        ("[ff02::1]:80", Domain::V6),
    ] {
        let c = net.a.socket(net.now, domain, SocketKind::Stream);
        let got = net.a.stack.connect(net.now, c, to.parse().expect("address"), &mut net.a.store);
        assert_eq!(got, Err(Errno::ENETUNREACH), "{to}");
    }
}

/// A segment made by hand, from and to whatever, that acknowledges nothing.
fn segment(src: [u8; 4], dst: [u8; 4], mac: [u8; 6], seq: u32, flags: TcpFlags) -> Vec<u8> {
    let seg =
        TcpRepr { src_port: 9, dst_port: 80, seq: stackd_base::SeqNum(seq), flags, window: 1000, ..TcpRepr::default() };
    let mut tcp = [0; 60];
    let len = seg.emit(&mut tcp);
    TcpRepr::fill_checksum(&mut tcp[..len], src.into(), dst.into(), stackd_wire::Sum::of(&[]), 0);
    let ip = stackd_wire::Ipv4Repr {
        src: src.into(),
        dst: dst.into(),
        protocol: 6,
        ttl: 64,
        tos: 0,
        ident: 1,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        payload_len: len as u16,
    };
    let mut f = [&mac[..], &[2, 0, 0, 0, 0, 9, 8, 0]].concat();
    f.resize(34, 0);
    ip.emit(&mut f[14..]);
    f.extend(&tcp[..len]);
    f
}

/// RFC 9293, 3.9.2.3: MUST-57: a SYN to a group is discarded in silence; MUST-63: so is one from an address that cannot be a host's.
#[test]
fn rfc9293_syns_to_or_from_groups_are_discarded_in_silence() {
    let ours = [2, 0, 0, 0, 0, 1];
    let cases = [
        ([10, 0, 0, 9], [224, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1], false),
        ([10, 0, 0, 9], [10, 0, 0, 255], [0xff; 6], false),
        ([224, 0, 0, 5], [10, 0, 0, 1], ours, false),
        ([255, 255, 255, 255], [10, 0, 0, 1], ours, false),
        ([10, 0, 0, 255], [10, 0, 0, 1], ours, false),
        ([0, 0, 0, 0], [10, 0, 0, 1], ours, false),
        ([10, 0, 0, 9], [10, 0, 0, 1], ours, true),
    ];
    for (src, dst, mac, answered) in cases {
        let mut net = Net::new();
        net.a.listener(net.now, "0.0.0.0:80", 10);
        let frame = segment(src, dst, mac, 0, TcpFlags::SYN);
        let now = net.now;
        super::udp::deliver(&mut net.a, now, &frame, Offload::default());
        let out = frames(&mut net.a, now);
        assert_eq!(!out.is_empty(), answered, "{src:?} to {dst:?}: {out:?}");
    }
}

/// MUST-11: SYN-RECEIVED that came of LISTEN goes back there: the child vanishes, the listener hears nothing.
#[test]
fn rfc9293_a_reset_in_syn_received_leaves_the_listener() {
    let mut net = Net::new();
    let listener = net.a.listener(net.now, "0.0.0.0:80", 10);
    let now = net.now;
    let (peer, ours, mac) = ([10, 0, 0, 9], [10, 0, 0, 1], [2, 0, 0, 0, 0, 1]);
    super::udp::deliver(&mut net.a, now, &segment(peer, ours, mac, 0, TcpFlags::SYN), Offload::default());
    assert_eq!(frames(&mut net.a, now).len(), 1, "a SYN-ACK");
    super::udp::deliver(&mut net.a, now, &segment(peer, ours, mac, 1, TcpFlags::RST), Offload::default());
    assert_eq!(net.a.stack.socket_counts().0, 1);
    assert_eq!(count(&net.a, Mib::TcpAttemptFails), 1);
    // Nobody is there any more to repeat the SYN-ACK.
    net.run(Duration::from_secs(5));
    assert_eq!(count(&net.a, Mib::TcpExtTCPSynRetrans), 0);
    assert!(net.a.stack.readiness(listener).is_empty(), "{:?}", net.a.stack.readiness(listener));
}

/// MUST-41, MUST-42: listeners on two addresses share a port; each gets its own, and a third opening disturbs nobody.
#[test]
fn rfc9293_two_listeners_share_a_port_on_two_addresses() {
    let mut net = Net::new();
    let four = net.b.listener(net.now, "10.0.0.2:80", 10);
    let six = net.b.listener(net.now, "[fd00::2]:80", 10);
    let other = net.b.listener(net.now, "127.0.0.1:80", 10);
    let (c4, s4) = net.connected(four, "10.0.0.2:80");
    let (_, s6) = net.connected(six, "[fd00::2]:80");
    net.a.write(net.now, c4, b"still here");
    net.run_ms(5);
    assert_eq!(net.b.read(net.now, s4), b"still here");
    assert!(net.b.stack.local_addr(s6).expect("local").is_ipv6());
    assert_eq!(net.b.stack.accept(net.now, other, &mut net.b.store).err(), Some(Errno::EAGAIN));
}

/// MUST-43, MUST-44, MUST-45: the address given, or the one IP chooses, is the connection's, and every segment's.
#[test]
fn rfc9293_the_local_address_is_given_or_found() {
    for bound in [None, Some("10.0.0.1:7000")] {
        let mut net = Net::new();
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
        if let Some(addr) = bound {
            net.a.stack.bind(client, addr.parse().expect("address")).expect("bind");
        }
        let to = "10.0.0.2:80".parse().expect("address");
        let _ = net.a.stack.connect(net.now, client, to, &mut net.a.store);
        net.run_ms(5);
        let (_, from) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
        assert_eq!(from, net.a.stack.local_addr(client).expect("local"));
        assert_eq!(from.ip().to_string(), "10.0.0.1");
        assert!(bound.is_none_or(|b| b == from.to_string()));
    }
}

/// MUST-48, SHLD-21, SHLD-22: the Diffserv field is the program's, at any time, and leaves unchanged; MUST-49: so is the TTL.
#[test]
fn rfc9293_ttl_and_diffserv_are_the_programs_to_choose() {
    let (mut net, client, _) = pair();
    for (tos, ttl) in [(0x20, 64), (0xb8, 9)] {
        net.a.option(net.now, client, SOL_IP, IP_TOS, tos).expect("IP_TOS");
        net.a.option(net.now, client, SOL_IP, IP_TTL, ttl).expect("IP_TTL");
        net.a.write(net.now, client, b"x");
        let now = net.now;
        let sent = frames(&mut net.a, now).remove(0);
        assert_eq!((i32::from(sent[15]), i32::from(sent[22])), (tos, ttl));
        net.run_ms(500);
    }
}

/// MUST-3: a segment whose checksum is wrong is nobody's.
#[test]
fn rfc9293_a_wrong_checksum_is_dropped_and_counted() {
    let mut net = Net::new();
    net.a.listener(net.now, "0.0.0.0:80", 10);
    let now = net.now;
    for (bit, answered) in [(1u8, false), (0, true)] {
        let mut frame = segment([10, 0, 0, 9], [10, 0, 0, 1], [2, 0, 0, 0, 0, 1], 0, TcpFlags::SYN);
        frame[34 + 14] ^= bit;
        super::udp::deliver(&mut net.a, now, &frame, Offload::default());
        assert_eq!(!frames(&mut net.a, now).is_empty(), answered);
    }
    assert_eq!(count(&net.a, Mib::TcpInCsumErrors), 1);
}

/// MUST-56: time exceeded and network unreachable end nothing; MUST-55: source quench (type 4) is not even looked at.
#[test]
fn rfc9293_soft_icmp_errors_abort_nothing() {
    let (mut net, client, _) = pair();
    net.a.option(net.now, client, SOL_IP, IP_RECVERR, 1).expect("IP_RECVERR");
    let quote = quoted(&mut net, client);
    let now = net.now;
    icmp_in(&mut net.a, now, IcmpRepr::Other { kind: 4, code: 0, rest: [0; 4] }, &quote);
    assert_eq!(net.a.get_int(now, client, SOL_SOCKET, SO_ERROR), Ok(0));
    icmp_in(&mut net.a, now, IcmpRepr::TimeExceeded { reassembly: false }, &quote);
    icmp_in(&mut net.a, now, IcmpRepr::DestUnreachable(Unreachable::Network), &quote);
    assert_ne!(net.a.get_int(now, client, SOL_SOCKET, SO_ERROR), Ok(0));
    net.run_ms(500);
    assert!(net.a.stack.peer_addr(client).is_ok());
}

/// Linux's `tcp_out_of_resources`: orphans are counted again at each timeout, those that are in doubt double.
#[test]
fn an_orphan_in_doubt_counts_double_at_its_timeouts() {
    let (mut net, client, _) = pair();
    net.filter = Some(nothing);
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_max_orphans", "1");
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_rto_max_ms", "1000");
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_orphan_retries", "30");
    net.a.write(net.now, client, b"anyone?");
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.run(Duration::from_millis(1500));
    assert_eq!((net.a.stack.socket_counts().1, count(&net.a, Mib::TcpExtTCPAbortOnMemory)), (1, 0), "one is allowed");
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_max_orphans", "0");
    net.run(Duration::from_millis(3000));
    assert_eq!((net.a.stack.socket_counts().1, count(&net.a, Mib::TcpExtTCPAbortOnMemory)), (0, 1));
}

/// RFC 9293, 3.8.3 (SHLD-9): between R1 and R2 the program is told, where it wants to hear of soft errors; the connection goes on.
#[test]
fn rfc9293_r1_is_told_to_whoever_asked_for_soft_errors() {
    for asked in [true, false] {
        let (mut net, client, server) = pair();
        if asked {
            net.a.option(net.now, client, SOL_IP, IP_RECVERR, 1).expect("IP_RECVERR");
        }
        net.filter = Some(nothing);
        net.a.write(net.now, client, b"anyone?");
        // R1 is 3 retransmissions: 3 s.
        net.run(Duration::from_millis(1500));
        assert_eq!(net.a.get_int(net.now, client, SOL_SOCKET, SO_ERROR), Ok(0), "before R1");
        net.run(Duration::from_secs(10));
        let told = if asked { Errno::ETIMEDOUT as i32 } else { 0 };
        assert_eq!(net.a.get_int(net.now, client, SOL_SOCKET, SO_ERROR), Ok(told));
        net.filter = None;
        net.run(Duration::from_secs(60));
        assert_eq!(net.b.read(net.now, server), b"anyone?");
    }
}

/// A fuzzer found it: a packet that waited in a queue while its socket was disconnected and connected anew still counted as the socket's, and its
/// bytes were looked up in the new connection's stream. What was written for one peer could have left for another.
#[test]
fn what_a_connection_left_in_a_queue_is_not_its_successors() {
    let (mut net, client, _) = pair();
    let now = net.now;
    assert_eq!(net.a.write(now, client, b"for the first peer"), 18);
    assert!(net.a.stack.poll_loopback(now, &mut net.a.store).is_none(), "the segment goes to its queue");
    net.a.stack.disconnect(now, client, &mut net.a.store).expect("disconnected");
    let to = "10.0.0.2:81".parse().expect("an address");
    assert_eq!(net.a.stack.connect(now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.a.write(now, client, b"for the second one");
    let mut queued = 0;
    while let Some(p) = net.a.stack.poll_transmit(now, net.a.port, &mut net.a.store) {
        assert!(p.payload.is_empty(), "{p:?}");
        net.a.stack.handle_tx_complete(now, &p);
        queued += 1;
    }
    assert_eq!(queued, 2, "a reset and a SYN");
    assert_eq!(net.a.stack.drops().get(stackd_base::DropReason::TcpStaleTransmit), 1);
    net.a.stack.check_invariants(now).expect("nothing is counted that left with the first connection");
}

/// RFC 2525, 2.17: a close with unread data resets. A fuzzer found that after `SHUT_RD` it did not: a socket connected to itself held its own
/// window shut, and answered its own probes for ever.
#[test]
fn unread_data_resets_also_after_shut_rd() {
    let (mut net, client, server) = pair();
    net.a.stack.shutdown(net.now, client, Shutdown::Read, &mut net.a.store).expect("SHUT_RD");
    net.b.write(net.now, server, b"nobody reads it");
    net.run_ms(5);
    net.a.stack.close(net.now, client, &mut net.a.store).expect("closed");
    net.run_ms(5);
    assert_eq!(net.b.get_int(net.now, server, SOL_SOCKET, SO_ERROR), Ok(Errno::ECONNRESET as i32));
    assert_eq!(net.a.stack.socket_counts().0, 0);
}

/// tcp(7), `TCP_SAVE_SYN`: the accepted socket gives out the SYN's headers, network and transport, once; a buffer that is too short is EINVAL.
#[test]
fn the_headers_of_the_syn_are_kept_for_who_asked() {
    for to in ["10.0.0.2:80", "[fd00::2]:80"] {
        let v4 = to.starts_with('1');
        let mut net = Net::new();
        let listener = net.b.listener(net.now, if v4 { "0.0.0.0:80" } else { "[::]:80" }, 10);
        net.b.option(net.now, listener, SOL_TCP, TCP_SAVE_SYN, 1).expect("TCP_SAVE_SYN");
        let (client, server) = net.connected(listener, to);
        let now = net.now;
        assert_eq!(net.b.get_int(now, server, SOL_TCP, TCP_SAVE_SYN), Ok(1), "inherited");
        let mut get = |room: usize| {
            let mut out = vec![0; room];
            net.b.stack.get_option(now, server, SOL_TCP, TCP_SAVED_SYN, &mut out).map(|n| out[..n].to_vec())
        };
        let network = if v4 { 20 } else { 40 };
        assert_eq!(get(network + 20), Err(Errno::EINVAL), "with its options it is longer");
        let headers = get(200).expect("headers");
        let (syn, len) = TcpRepr::parse(&headers[network..]).expect("a TCP header");
        assert_eq!((headers[0] >> 4, len + network), (if v4 { 4 } else { 6 }, headers.len()));
        assert!(syn.flags.syn() && syn.ack.is_none() && syn.options.mss.is_some(), "{syn:?}");
        assert_eq!(syn.src_port, net.a.stack.local_addr(client).expect("its name").port());
        assert_eq!(get(200), Ok(Vec::new()), "once");
        net.b.stack.check_invariants(now).expect("nothing else is kept");
    }
}

/// What was kept for a handshake that comes to nothing goes with it.
#[test]
fn saved_syns_go_with_their_handshakes() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.b.option(net.now, listener, SOL_TCP, TCP_SAVE_SYN, 1).expect("TCP_SAVE_SYN");
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    // Only the SYN arrives.
    net.filter = Some(|n, _| n > 3);
    let to = "10.0.0.2:80".parse().expect("an address");
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(5);
    assert_eq!(net.b.stack.saved_syns.len(), 1);
    net.b.stack.close(net.now, listener, &mut net.b.store).expect("closed");
    assert!(net.b.stack.saved_syns.is_empty());
}

/// RFC 6437, 2: packets of one flow have one label, those of another have another; a path that is suspected is left for another one.
#[test]
fn ipv6_flows_have_labels() {
    let labels = |net: &mut Net| -> Vec<u32> {
        let out = frames(&mut net.a, net.now);
        out.iter()
            .filter(|f| f[12..14] == [0x86, 0xdd] && f[20] == 6)
            .map(|f| u32::from_be_bytes([0, f[15] & 15, f[16], f[17]]))
            .collect()
    };
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "[::]:80", 10);
    let (one, _) = net.connected(listener, "[fd00::2]:80");
    let (other, _) = net.connected(listener, "[fd00::2]:80");
    let label = |net: &mut Net, sock| {
        net.a.option(net.now, sock, SOL_TCP, TCP_NODELAY, 1).expect("TCP_NODELAY");
        net.a.write(net.now, sock, b"x");
        let got = labels(net);
        net.a.write(net.now, sock, b"y");
        assert_eq!(labels(net), got, "one flow, one label");
        assert!(got.len() == 1 && got[0] != 0, "{got:?}");
        got[0]
    };
    let first = label(&mut net, one);
    assert_ne!(label(&mut net, other), first);
    // Nothing arrived: after a tail loss probe comes the timeout, and the path is suspected.
    let mut after = Vec::new();
    for _ in 0..2 {
        net.now += Duration::from_secs(2);
        net.a.stack.handle_timers(net.now, &mut net.a.store);
        after = labels(&mut net);
    }
    assert!(!after.is_empty() && !after.contains(&first), "{after:?}");
    sysctl(&mut net.a, net.now, "net.ipv6.auto_flowlabels", "0");
    net.a.write(net.now, one, b"z");
    assert!(labels(&mut net).iter().all(|l| *l == 0));
}
