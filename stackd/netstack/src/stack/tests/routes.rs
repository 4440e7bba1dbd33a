//! What a route says of the connections that take it.

use super::*;
use crate::addr::Prefix;
use crate::route::{CcName, Route, RouteOptions, RouteOrigin, RouteType};
use crate::socket::opts::name;
use stackd_tcp::TcpInfo;

fn add(host: &mut Host, to: &str, options: RouteOptions) {
    let dst = Prefix::new(to.parse().expect("address"), if to.contains(':') { 128 } else { 32 }).expect("prefix");
    let port = Some(host.port);
    let (kind, origin) = (RouteType::Unicast, RouteOrigin::Static);
    let route = Route { dst, kind, gateway: None, port, src: None, metric: 0, origin, options };
    host.stack.add_route(route, true).expect("route");
}

fn info(host: &Host, now: Instant, sock: SockId) -> TcpInfo {
    *host.stack.socket_info(now, sock).and_then(|s| s.tcp).expect("a connection")
}

#[test]
fn congestion_control_and_initial_windows_come_from_the_route() {
    for (listen, to, back) in [("0.0.0.0:80", "10.0.0.2", "10.0.0.1"), ("[::]:80", "fd00::2", "fd00::1")] {
        let mut net = Net::new();
        let v6 = to.contains(':');
        let reno = RouteOptions { congctl: CcName::new("reno"), initcwnd: Some(30), ..RouteOptions::default() };
        add(&mut net.a, to, reno);
        add(
            &mut net.b,
            back,
            RouteOptions { congctl: CcName::new("bbr"), initrwnd: Some(4), ..RouteOptions::default() },
        );
        let listener = net.b.listener(net.now, listen, 10);
        let (client, server) = net.connected(listener, &if v6 { format!("[{to}]:80") } else { format!("{to}:80") });
        let (at_a, at_b) = (info(&net.a, net.now, client), info(&net.b, net.now, server));
        assert_eq!((at_a.congestion, at_a.snd_cwnd), ("reno", 30));
        assert_eq!((at_b.congestion, at_b.snd_cwnd), ("bbr", 10));
        let mss = if v6 { 1440 } else { 1460 };
        assert_eq!(at_a.snd_wnd, 4 * mss, "the first window is what initrwnd says");
        net.a.write(net.now, client, &[7; 3000]);
        net.run_ms(50);
        assert_eq!(net.b.read(net.now, server).len(), 3000);
        net.a.write(net.now, client, &[7; 1]);
        net.run_ms(300);
        let opened = info(&net.a, net.now, client).snd_wnd;
        assert!(opened > 60_000, "after the first data the buffer rules: {opened}");
    }
}

#[test]
fn a_program_may_choose_another_algorithm_once_connected() {
    let mut net = Net::new();
    add(&mut net.a, "10.0.0.2", RouteOptions { congctl: CcName::new("reno"), ..RouteOptions::default() });
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, _) = net.connected(listener, "10.0.0.2:80");
    let a = &mut net.a;
    a.stack.set_option(net.now, client, name::SOL_TCP, name::TCP_CONGESTION, b"bbr", &mut a.store).expect("bbr");
    assert_eq!(info(a, net.now, client).congestion, "bbr");
    // A sysctl write puts the configuration together again: the route's rto_min and the socket's choice stay.
    a.stack.sysctl_set(net.now, "net.ipv4.tcp_congestion_control", "cubic", &mut a.store).expect("cubic");
    assert_eq!(info(a, net.now, client).congestion, "bbr");
}

#[test]
fn the_least_timeout_of_a_route_reaches_live_connections() {
    let mut net = Net::new();
    add(&mut net.a, "10.0.0.2", RouteOptions { rto_min: Some(Duration::from_millis(5)), ..RouteOptions::default() });
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, _) = net.connected(listener, "10.0.0.2:80");
    let rto = info(&net.a, net.now, client).rto;
    assert!((5_000..6_000).contains(&rto), "srtt of 100 us + 5 ms: {rto} us");
    // The route goes; the next segment is sent by the connected network's, which says nothing.
    net.a
        .stack
        .ip_mut()
        .remove_route(Prefix::new("10.0.0.2".parse().expect("address"), 32).expect("prefix"), |_| true)
        .expect("gone");
    net.a.write(net.now, client, b"x");
    net.run_ms(100);
    assert!(net.a.stack.tcp_mut(client).is_some_and(|t| t.tuning.is_none() && t.config.is_none()));
    for _ in 0..40 {
        net.a.write(net.now, client, b"x");
        net.run_ms(100);
    }
    let rto = info(&net.a, net.now, client).rto;
    assert!(rto >= 200_000, "the sysctl's 200 ms hold again: {rto} us");
}

#[test]
fn a_quickack_route_never_delays() {
    let unacked_after_5_ms = |quickack: bool| {
        let mut net = Net::new();
        add(&mut net.b, "10.0.0.1", RouteOptions { quickack, ..RouteOptions::default() });
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        let (client, server) = net.connected(listener, "10.0.0.2:80");
        // A dialogue: the server learns to let its answers carry the ACKs.
        for _ in 0..4 {
            net.a.write(net.now, client, b"question");
            net.run_ms(1);
            net.b.read(net.now, server);
            net.b.write(net.now, server, b"answer");
            net.run_ms(1);
            net.a.read(net.now, client);
        }
        net.a.write(net.now, client, b"question");
        net.run_ms(5);
        info(&net.a, net.now, client).unacked
    };
    assert_eq!(unacked_after_5_ms(false), 1, "without it the ACK waits for an answer to carry it");
    assert_eq!(unacked_after_5_ms(true), 0);
}

#[test]
fn the_mtu_of_lo_is_what_each_family_can_say() {
    let mut net = Net::new();
    let (v4, v6) = ("127.0.0.1".parse().expect("address"), "::1".parse().expect("address"));
    let mtu = |dst| net.a.stack.ip().route(net.now, dst, None, None).expect("lo").mtu;
    assert_eq!((mtu(v4), mtu(v6)), (65_535, 65_536));
    // A datagram that fills it arrives whole.
    let receiver = net.a.socket(net.now, Domain::V4, SocketKind::Dgram);
    let to: SocketAddr = "127.0.0.1:53".parse().expect("address");
    net.a.stack.bind(receiver, to).expect("bind");
    let sender = net.a.socket(net.now, Domain::V4, SocketKind::Dgram);
    let sent = net.a.stack.send_to(net.now, sender, Some(to), &[5; 65_507], &mut net.a.store);
    assert_eq!(sent, Ok(65_507));
    net.run_ms(1);
    let fifo = net.a.stack.fifo(receiver).expect("fifo");
    let (_, data, _) = net.a.store.receive(fifo).expect("a datagram");
    assert_eq!(data.len(), 65_507);
}
