//! TCP Fast Open between two stacks (RFC 7413).

use super::*;
use crate::socket::opts::name::*;
use stackd_tcp::TcpInfo;

const TO: &str = "10.0.0.2:80";

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("test address")
}

fn sysctl(host: &mut Host, now: Instant, key: &str, value: &str) {
    host.stack.sysctl_set(now, key, value, &mut host.store).expect("sysctl");
}

/// A listener of `b` that takes Fast Open, and both ends allowed to.
fn net(listen: &str) -> (Net, SockId) {
    let mut net = Net::new();
    for host in [&mut net.a, &mut net.b] {
        sysctl(host, net.now, "net.ipv4.tcp_fastopen", "3");
    }
    let listener = net.b.listener(net.now, listen, 10);
    net.b.option(net.now, listener, SOL_TCP, TCP_FASTOPEN, 5).expect("TCP_FASTOPEN");
    (net, listener)
}

/// Connects with `TCP_FASTOPEN_CONNECT`; whether the SYN waits for data.
fn connect(net: &mut Net, to: &str) -> (SockId, bool) {
    let to = addr(to);
    let client = net.a.socket(net.now, if to.is_ipv4() { Domain::V4 } else { Domain::V6 }, SocketKind::Stream);
    net.a.option(net.now, client, SOL_TCP, TCP_FASTOPEN_CONNECT, 1).expect("TCP_FASTOPEN_CONNECT");
    match net.a.stack.connect(net.now, client, to, &mut net.a.store) {
        Ok(()) => (client, true),
        Err(Errno::EINPROGRESS) => (client, false),
        Err(e) => panic!("{e:?}"),
    }
}

/// A first connection, which brings a cookie.
fn learn(net: &mut Net, listener: SockId, to: &str) {
    let (_, deferred) = connect(net, to);
    assert!(!deferred, "no cookie yet");
    net.run_ms(5);
    net.b.stack.accept(net.now, listener, &mut net.b.store).expect("a connection");
}

fn info(host: &Host, now: Instant, sock: SockId) -> TcpInfo {
    *host.stack.socket_info(now, sock).and_then(|s| s.tcp).expect("a connection")
}

fn count(host: &Host, mib: Mib) -> u64 {
    host.stack.mib().get(mib)
}

#[test]
fn rfc7413_3_a_cookie_is_granted_once_and_then_data_arrives_with_the_syn() {
    for (listen, to) in [("0.0.0.0:80", TO), ("[::]:80", "[fd00::2]:80")] {
        let (mut net, listener) = net(listen);
        learn(&mut net, listener, to);
        assert_eq!(count(&net.b, Mib::TcpExtTCPFastOpenCookieReqd), 1);
        let (client, deferred) = connect(&mut net, to);
        assert!(deferred && net.a.stack.readiness(client).contains(Readiness::OUT), "writable: the SYN waits for that");
        net.run_ms(50);
        assert_eq!(net.b.stack.accept(net.now, listener, &mut net.b.store), Err(Errno::EAGAIN), "no SYN yet");
        assert_eq!(net.a.write(net.now, client, b"GET /"), 5);
        // Half a round trip: the SYN is there, its SYN-ACK is not back.
        net.run(Duration::from_micros(60));
        let (server, peer) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("with the SYN");
        assert_eq!(net.b.read(net.now, server), b"GET /");
        assert_eq!(info(&net.b, net.now, server).state, 3, "SYN_RECV");
        assert_eq!(net.b.stack.peer_addr(server), Ok(peer));
        net.b.write(net.now, server, b"200 OK");
        net.run(Duration::from_micros(60));
        assert_eq!(net.a.read(net.now, client), b"200 OK", "after one round trip");
        net.run_ms(5);
        let (a, b) = (info(&net.a, net.now, client), info(&net.b, net.now, server));
        assert_eq!((a.state, b.state, a.options & 32, b.options & 32), (1, 1, 32, 32));
        assert_eq!((count(&net.a, Mib::TcpExtTCPFastOpenActive), count(&net.b, Mib::TcpExtTCPFastOpenPassive)), (1, 1));
        assert_eq!((a.total_retrans, b.total_retrans), (0, 0));
    }
}

#[test]
fn without_the_servers_bit_or_option_the_data_follows_an_ordinary_handshake() {
    for (bits, qlen) in [("1", 5), ("3", 0)] {
        let (mut net, listener) = net("0.0.0.0:80");
        learn(&mut net, listener, TO);
        sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen", bits);
        net.b.option(net.now, listener, SOL_TCP, TCP_FASTOPEN, qlen).expect("TCP_FASTOPEN");
        let (client, deferred) = connect(&mut net, TO);
        assert!(deferred);
        net.a.write(net.now, client, b"hello");
        net.run_ms(5);
        let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
        assert_eq!(net.b.read(net.now, server), b"hello");
        assert_eq!(count(&net.a, Mib::TcpExtTCPFastOpenActiveFail), 1);
        let i = info(&net.a, net.now, client);
        assert_eq!((i.fastopen_client_fail, i.options & 32, i.total_retrans), (2, 0, 1));
    }
}

#[test]
fn both_ends_can_do_without_cookies_by_sysctl_or_by_option() {
    for by_sysctl in [true, false] {
        let (mut net, listener) = net("0.0.0.0:80");
        if by_sysctl {
            sysctl(&mut net.a, net.now, "net.ipv4.tcp_fastopen", "0x5");
            sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen", "0x202");
        } else {
            net.b.option(net.now, listener, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1).expect("option");
        }
        let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
        if !by_sysctl {
            net.a.option(net.now, client, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1).expect("option");
        }
        assert_eq!(net.a.stack.connect_with_data(net.now, client, addr(TO), &mut net.a.store), Ok(()));
        net.a.write(net.now, client, b"hello");
        net.run(Duration::from_millis(1));
        let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
        assert_eq!(net.b.read(net.now, server), b"hello");
        assert_eq!(count(&net.b, Mib::TcpExtTCPFastOpenPassive), 1);
    }
}

#[test]
fn every_listener_takes_part_where_the_sysctl_says_so() {
    let (mut net, _) = net("0.0.0.0:80");
    sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen", "0x402");
    let other = net.b.listener(net.now, "0.0.0.0:81", 7);
    assert_eq!(net.b.get_int(net.now, other, SOL_TCP, TCP_FASTOPEN), Ok(7));
    learn(&mut net, other, "10.0.0.2:81");
    assert!(connect(&mut net, "10.0.0.2:81").1);
}

#[test]
fn rfc7413_4_2_2_an_invalid_cookie_gets_a_valid_one_and_no_data_is_taken() {
    let (mut net, listener) = net("0.0.0.0:80");
    learn(&mut net, listener, TO);
    sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen_key", "1-2-3-4");
    let (client, _) = connect(&mut net, TO);
    net.a.write(net.now, client, b"hello");
    net.run_ms(5);
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
    assert_eq!(net.b.read(net.now, server), b"hello");
    assert_eq!(
        (count(&net.b, Mib::TcpExtTCPFastOpenPassiveFail), count(&net.b, Mib::TcpExtTCPFastOpenPassive)),
        (1, 0)
    );
    // The next one uses the new cookie.
    let (client, _) = connect(&mut net, TO);
    net.a.write(net.now, client, b"again");
    net.run_ms(5);
    assert_eq!(count(&net.b, Mib::TcpExtTCPFastOpenPassive), 1);
}

#[test]
fn a_rotated_key_still_takes_the_old_cookie_and_renews_it() {
    let (mut net, listener) = net("0.0.0.0:80");
    sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen_key", "1-2-3-4");
    learn(&mut net, listener, TO);
    sysctl(&mut net.b, net.now, "net.ipv4.tcp_fastopen_key", "5-6-7-8,1-2-3-4");
    for n in 1..=2 {
        let (client, _) = connect(&mut net, TO);
        net.a.write(net.now, client, b"hello");
        net.run_ms(5);
        net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
        assert_eq!(
            (count(&net.b, Mib::TcpExtTCPFastOpenPassive), count(&net.b, Mib::TcpExtTCPFastOpenPassiveAltKey)),
            (n, 1)
        );
    }
    // A listener's own key comes before the namespace's.
    let key: Vec<u8> = (0..16).collect();
    net.b.stack.set_option(net.now, listener, SOL_TCP, TCP_FASTOPEN_KEY, &key, &mut net.b.store).expect("a key");
    let mut out = [0; 32];
    assert_eq!(net.b.stack.get_option(net.now, listener, SOL_TCP, TCP_FASTOPEN_KEY, &mut out), Ok(16));
    let (client, _) = connect(&mut net, TO);
    net.a.write(net.now, client, b"hello");
    net.run_ms(5);
    assert_eq!(count(&net.b, Mib::TcpExtTCPFastOpenPassiveFail), 1);
}

/// The last ACK of host a's handshakes is lost, its SYNs are not.
fn only_syns(_: u64, frame: &[u8]) -> bool {
    let from_a_over_tcp = frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1;
    from_a_over_tcp && frame[47] & 0x02 == 0
}

/// RFC 7413, 5.1: "PendingFastOpenRequests" is bounded, and a reset does not make room at once.
#[test]
fn unfinished_children_are_bounded_and_resets_go_on_counting() {
    let (mut net, listener) = net("0.0.0.0:80");
    learn(&mut net, listener, TO);
    net.b.option(net.now, listener, SOL_TCP, TCP_FASTOPEN, 1).expect("TCP_FASTOPEN");
    net.filter = Some(only_syns);
    let (first, _) = connect(&mut net, TO);
    net.a.write(net.now, first, b"one");
    net.run_ms(5);
    let (second, _) = connect(&mut net, TO);
    net.a.write(net.now, second, b"two");
    net.run_ms(5);
    assert_eq!(
        (count(&net.b, Mib::TcpExtTCPFastOpenPassive), count(&net.b, Mib::TcpExtTCPFastOpenListenOverflow)),
        (1, 1)
    );
    net.filter = None;
    net.a.stack.abort(net.now, first, &mut net.a.store).expect("abort");
    net.run_ms(5);
    for (wait, taken) in [(1, 1), (61, 2)] {
        net.run(Duration::from_secs(wait));
        let (client, _) = connect(&mut net, TO);
        net.a.write(net.now, client, b"three");
        net.run_ms(5);
        assert_eq!(count(&net.b, Mib::TcpExtTCPFastOpenPassive), taken, "after {wait} s");
    }
}

/// Frames of host a that are a SYN with data.
fn no_data_in_syns(_: u64, frame: &[u8]) -> bool {
    let tcp_from_a = frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1;
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    tcp_from_a && frame[47] & 0x02 != 0 && total > 20 + usize::from(frame[46] >> 4) * 4
}

#[test]
fn a_path_that_drops_data_in_syns_costs_a_timeout_and_nothing_more() {
    let (mut net, listener) = net("0.0.0.0:80");
    learn(&mut net, listener, TO);
    net.filter = Some(no_data_in_syns);
    let (client, _) = connect(&mut net, TO);
    net.a.write(net.now, client, b"hello");
    net.run(Duration::from_millis(1100));
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("by the second SYN");
    assert_eq!(net.b.read(net.now, server), b"hello");
    assert_eq!(info(&net.a, net.now, client).fastopen_client_fail, 3);
}

fn nothing_from_a(_: u64, frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1
}

/// RFC 7413, 4.1.3.1, and ip-sysctl, tcp_fastopen_blackhole_timeout_sec.
#[test]
fn a_blackhole_turns_fast_open_off_for_a_while_that_doubles() {
    let (mut net, listener) = net("0.0.0.0:80");
    learn(&mut net, listener, TO);
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_fastopen_blackhole_timeout_sec", "100");
    for (n, off) in [(1, 100), (2, 200)] {
        net.filter = Some(nothing_from_a);
        let (client, deferred) = connect(&mut net, TO);
        assert!(deferred);
        net.a.write(net.now, client, b"hello");
        net.run(Duration::from_secs(8));
        assert_eq!(count(&net.a, Mib::TcpExtTCPFastOpenBlackhole), n);
        net.filter = None;
        assert!(!connect(&mut net, TO).1, "off");
        net.run(Duration::from_secs(off - 10));
        assert!(!connect(&mut net, TO).1, "still off after {off} s less a little");
        net.run(Duration::from_secs(10));
    }
    assert!(connect(&mut net, TO).1);
    sysctl(&mut net.a, net.now, "net.ipv4.tcp_fastopen_blackhole_timeout_sec", "0");
    assert!(connect(&mut net, TO).1, "0: never");
}

#[test]
fn options_are_checked_as_linux_checks_them() {
    let (mut net, listener) = net("0.0.0.0:80");
    let now = net.now;
    let b = &mut net.b;
    assert_eq!(b.option(now, listener, SOL_TCP, TCP_FASTOPEN, -1), Err(Errno::EINVAL));
    assert_eq!(b.option(now, listener, SOL_TCP, TCP_FASTOPEN_CONNECT, 1), Err(Errno::EINVAL), "it listens");
    assert_eq!(b.option(now, listener, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 2), Err(Errno::EINVAL));
    assert_eq!(b.option(now, listener, SOL_TCP, TCP_FASTOPEN, 1 << 30), Ok(()));
    assert_eq!(b.get_int(now, listener, SOL_TCP, TCP_FASTOPEN), Ok(4096), "capped by somaxconn");
    let short = b.stack.set_option(now, listener, SOL_TCP, TCP_FASTOPEN_KEY, &[1; 17], &mut b.store);
    assert_eq!(short, Err(Errno::EINVAL));
    sysctl(b, now, "net.ipv4.tcp_fastopen", "2");
    let client = b.socket(now, Domain::V4, SocketKind::Stream);
    assert_eq!(b.option(now, client, SOL_TCP, TCP_FASTOPEN_CONNECT, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(b.stack.connect_with_data(now, client, addr("10.0.0.1:80"), &mut b.store), Err(Errno::EOPNOTSUPP));
    let udp = b.socket(now, Domain::V4, SocketKind::Dgram);
    assert_eq!(b.option(now, udp, SOL_TCP, TCP_FASTOPEN, 1), Err(Errno::ENOPROTOOPT));
    let bad = b.stack.sysctl_set(now, "net.ipv4.tcp_fastopen_key", "1-2-3", &mut b.store).expect_err("too short");
    assert!(bad.to_string().contains("four hexadecimal words"), "{bad}");
}

#[test]
fn a_listener_that_goes_takes_its_children_along() {
    let (mut net, listener) = net("0.0.0.0:80");
    learn(&mut net, listener, TO);
    let (client, _) = connect(&mut net, TO);
    net.a.write(net.now, client, b"hello");
    net.run(Duration::from_micros(60));
    net.b.stack.close(net.now, listener, &mut net.b.store).expect("close");
    net.run_ms(5);
    assert_eq!(net.a.stack.take_error(client), Some(Errno::ECONNRESET));
    assert_eq!(net.b.stack.socket_counts().0, 1, "the first connection alone is left");
}
