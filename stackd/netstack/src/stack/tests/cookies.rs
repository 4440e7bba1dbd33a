//! SYN cookies: connections that nothing was kept of.

use super::*;
use stackd_tcp::TcpInfo;

fn cookies(net: &mut Net, mode: &str) {
    net.b.stack.sysctl_set(net.now, "net.ipv4.tcp_syncookies", mode, &mut net.b.store).expect("sysctl");
}

fn info(host: &Host, now: Instant, sock: SockId) -> TcpInfo {
    *host.stack.socket_info(now, sock).and_then(|s| s.tcp).expect("a connection")
}

fn connect(net: &mut Net, to: &str) -> SockId {
    let to: SocketAddr = to.parse().expect("address");
    let domain = if to.is_ipv4() { Domain::V4 } else { Domain::V6 };
    let client = net.a.socket(net.now, domain, SocketKind::Stream);
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(5);
    client
}

/// Host a's ACKs are lost, its SYNs are not.
fn only_syns(_: u64, frame: &[u8]) -> bool {
    let from_a_over_tcp = frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1;
    from_a_over_tcp && frame[47] & 0x02 == 0
}

#[test]
fn the_timestamp_brings_every_option_back() {
    for (listen, to) in [("0.0.0.0:80", "10.0.0.2:80"), ("[::]:80", "[fd00::2]:80")] {
        let options = |mode: &str, ecn: &str| {
            let mut net = Net::new();
            cookies(&mut net, mode);
            net.a.stack.sysctl_set(net.now, "net.ipv4.tcp_ecn", ecn, &mut net.a.store).expect("sysctl");
            let listener = net.b.listener(net.now, listen, 10);
            let (client, server) = net.connected(listener, to);
            net.a.write(net.now, client, &[7; 5000]);
            net.run_ms(50);
            assert_eq!(net.b.read(net.now, server), [7; 5000]);
            net.b.write(net.now, server, &[8; 5000]);
            net.run_ms(50);
            assert_eq!(net.a.read(net.now, client), [8; 5000]);
            let sent = net.b.stack.mib().get(Mib::TcpExtSyncookiesSent);
            let received = net.b.stack.mib().get(Mib::TcpExtSyncookiesRecv);
            assert_eq!((sent, received), if mode == "2" { (1, 1) } else { (0, 0) });
            let i = info(&net.b, net.now, server);
            assert!(i.rtt < 10_000, "the cookie's timestamp is no clock: {} us", i.rtt);
            (i.options, i.snd_wscale, i.rcv_wscale, i.snd_mss)
        };
        for ecn in ["0", "1"] {
            assert_eq!(options("2", ecn), options("0", ecn), "as if the SYN had been kept");
        }
    }
}

#[test]
fn without_timestamps_a_connection_has_no_options() {
    let mut net = Net::new();
    cookies(&mut net, "2");
    net.a.stack.sysctl_set(net.now, "net.ipv4.tcp_timestamps", "0", &mut net.a.store).expect("sysctl");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    net.a.write(net.now, client, &[7; 5000]);
    net.run_ms(50);
    assert_eq!(net.b.read(net.now, server), [7; 5000]);
    let (a, b) = (info(&net.a, net.now, client), info(&net.b, net.now, server));
    assert_eq!((a.options, b.options), (0, 0));
    assert_eq!((b.snd_wscale, b.rcv_wscale, b.snd_mss), (0, 0, 1460));
}

#[test]
fn a_full_syn_queue_costs_nothing_more_and_everybody_gets_in() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 30);
    // ARP is out of the way.
    net.connected(listener, "10.0.0.2:80");
    net.filter = Some(only_syns);
    let clients: Vec<SockId> = (0..31).map(|_| connect(&mut net, "10.0.0.2:80")).collect();
    let (sockets, _, _) = net.b.stack.socket_counts();
    assert_eq!((sockets, net.b.stack.half_open()), (2, 30), "the listener, one connection, and a SYN queue of 30");
    assert_eq!(net.b.stack.mib().get(Mib::TcpExtSyncookiesSent), 1);
    net.filter = None;
    for &client in &clients {
        net.a.write(net.now, client, b"hello");
    }
    net.run_ms(3000);
    let mut accepted = 0;
    while let Ok((server, _)) = net.b.stack.accept(net.now, listener, &mut net.b.store) {
        accepted += 1;
        assert_eq!(net.b.read(net.now, server), b"hello");
    }
    assert_eq!(accepted, clients.len());
    assert_eq!(net.b.stack.mib().get(Mib::TcpExtSyncookiesRecv), 1);
}

#[test]
fn without_cookies_the_queue_turns_strangers_away() {
    let mut net = Net::new();
    cookies(&mut net, "0");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 2);
    net.connected(listener, "10.0.0.2:80");
    net.filter = Some(only_syns);
    for _ in 0..4 {
        connect(&mut net, "10.0.0.2:80");
    }
    assert!(net.b.stack.mib().get(Mib::TcpExtTCPReqQFullDrop) >= 2);
    assert_eq!((net.b.stack.socket_counts().0, net.b.stack.half_open()), (2, 2));
}

#[test]
fn a_stale_cookie_is_refused() {
    let mut net = Net::new();
    cookies(&mut net, "2");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.connected(listener, "10.0.0.2:80");
    net.filter = Some(only_syns);
    let late = connect(&mut net, "10.0.0.2:80");
    net.run(Duration::from_secs(119));
    // A cookie for somebody else keeps the listener looking; this one is older than its minute and the next.
    net.filter = None;
    net.connected(listener, "10.0.0.2:80");
    net.run(Duration::from_secs(3));
    net.a.write(net.now, late, b"hello");
    net.run_ms(5);
    assert_eq!(net.b.stack.mib().get(Mib::TcpExtSyncookiesFailed), 1);
    assert_eq!(net.a.stack.take_error(late), Some(Errno::ECONNRESET));
    assert_eq!(net.b.stack.accept(net.now, listener, &mut net.b.store), Err(Errno::EAGAIN));
}

/// A cookie can say no MSS below its table: the connection then took the smallest of the table, and every full segment exceeded what the
/// peer had asked for. (Found by the simulation: `TCP_MAXSEG` 88.)
#[test]
fn a_peer_whose_mss_is_below_the_table_gets_no_cookie() {
    for (listen, to) in [("0.0.0.0:80", "10.0.0.2:80"), ("[::]:80", "[fd00::2]:80")] {
        let mut net = Net::new();
        cookies(&mut net, "2");
        let listener = net.b.listener(net.now, listen, 10);
        let to: SocketAddr = to.parse().expect("address");
        let domain = if to.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let client = net.a.socket(net.now, domain, SocketKind::Stream);
        net.a.option(net.now, client, 6, 2, 300).expect("TCP_MAXSEG");
        assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
        net.run_ms(5);
        let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("a connection");
        assert_eq!(net.b.stack.mib().get(Mib::TcpExtSyncookiesSent), 0);
        assert!(info(&net.b, net.now, server).snd_mss <= 300);
    }
}

/// The bare ACK that brings a cookie back to a listener with `TCP_DEFER_ACCEPT` makes a child that waits for data: its timer was never set,
/// and without data it stayed for ever. (Found by the simulation.)
#[test]
fn a_deferred_child_of_a_cookie_does_not_stay_for_ever() {
    let mut net = Net::new();
    cookies(&mut net, "2");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.b.option(net.now, listener, 6, 9, 1).expect("TCP_DEFER_ACCEPT");
    connect(&mut net, "10.0.0.2:80");
    net.b.stack.check_invariants(net.now).unwrap_or_else(|e| panic!("{e}"));
    // The SYN-ACK is repeated after a second; the answer to that one counts.
    net.run_ms(3000);
    net.b.stack.accept(net.now, listener, &mut net.b.store).expect("the time to wait for data is over");
}
