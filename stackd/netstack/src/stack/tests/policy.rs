//! Policy routing: `SO_MARK` and `ip rule`.

use super::Net;
use crate::addr::Prefix;
use crate::ip::{RouteQuery, Rule};
use crate::route::{Route, RouteOptions, RouteOrigin, RouteType};
use crate::socket::opts::name::*;
use crate::types::{Domain, SocketKind};
use stackd_base::Errno;
use std::net::IpAddr;

fn ip(s: &str) -> IpAddr {
    s.parse().expect("address")
}

/// A mark chooses the table, and with it the gateway; a table without a fitting route leaves the decision to the next rule; without the
/// mark nothing changes.
#[test]
fn a_marked_socket_takes_the_table_of_its_rule() {
    let mut net = Net::new();
    let now = net.now;
    let h = &mut net.a;
    let port = h.port;
    let route = |dst: &str, len, via: &str| Route {
        dst: Prefix::new(ip(dst), len).expect("prefix"),
        kind: RouteType::Unicast,
        gateway: Some(ip(via)),
        port: Some(port),
        src: None,
        metric: 0,
        origin: RouteOrigin::Static,
        options: RouteOptions::default(),
    };
    let layer = h.stack.ip_mut();
    layer.add_route(route("0.0.0.0", 0, "10.0.0.2"), false).expect("main");
    layer.add_route_in(100, route("192.0.2.0", 24, "10.0.0.3"), false).expect("table 100");
    assert!(layer.add_route_in(255, route("192.0.2.0", 24, "10.0.0.3"), false).is_err(), "local is not for operators");
    let rule = |priority, mark| Rule {
        priority,
        v6: false,
        fwmark: Some((mark, 0xff)),
        from: None,
        to: None,
        oif: None,
        table: 100,
    };
    let generation = layer.generation();
    assert!(layer.add_rule(rule(1000, 7)) && !layer.add_rule(rule(1000, 7)));
    assert_ne!(layer.generation(), generation, "sockets look again");
    let hop = |layer: &crate::ip::IpLayer, dst: &str, mark| {
        layer.route_by(now, &RouteQuery { mark, ..RouteQuery::to(ip(dst)) }).map(|r| r.next_hop)
    };
    let (main, marked) = (Ok(ip("10.0.0.2")), Ok(ip("10.0.0.3")));
    let layer = h.stack.ip();
    assert_eq!(
        [hop(layer, "192.0.2.1", 0), hop(layer, "192.0.2.1", 7), hop(layer, "192.0.2.1", 0x107)],
        [main, marked, marked]
    );
    assert_eq!(hop(layer, "198.51.100.1", 7), main, "no route there: the next rule");
    // Through a socket: the neighbour that is asked for tells which way the datagram takes.
    let s = h.socket(now, Domain::V4, SocketKind::Dgram);
    h.option(now, s, SOL_SOCKET, SO_MARK, 7).expect("option");
    h.stack.send_to(now, s, Some("192.0.2.1:9".parse().expect("address")), b"x", &mut h.store).expect("sent");
    assert!(h.stack.ip().neighbours().get((port, ip("10.0.0.3"))).is_some());
    let t = h.socket(now, Domain::V4, SocketKind::Stream);
    h.option(now, t, SOL_SOCKET, SO_MARK, 7).expect("option");
    let to = "192.0.2.9:9".parse().expect("address");
    assert_eq!(h.stack.connect(now, t, to, &mut h.store), Err(Errno::EINPROGRESS));
    assert!(h.stack.ip().neighbours().get((port, ip("10.0.0.2"))).is_none(), "TCP too");
    let layer = h.stack.ip_mut();
    assert!(layer.remove_rule(&rule(0, 7)) && !layer.remove_rule(&rule(0, 7)));
    assert_eq!(hop(h.stack.ip(), "192.0.2.1", 7), main);
}

/// `from`, `to` and `oif`, and the order of priorities.
#[test]
fn rules_match_by_source_destination_and_interface_in_order() {
    let mut net = Net::new();
    let now = net.now;
    let port = net.a.port;
    let layer = net.a.stack.ip_mut();
    let unreachable = |dst: &str, kind| Route {
        dst: Prefix::new(ip(dst), 0).expect("prefix"),
        kind,
        gateway: None,
        port: None,
        src: None,
        metric: 0,
        origin: RouteOrigin::Static,
        options: RouteOptions::default(),
    };
    layer.add_route_in(10, unreachable("::", RouteType::Unreachable), false).expect("table 10");
    layer.add_route_in(11, unreachable("::", RouteType::Prohibit), false).expect("table 11");
    let any = Rule { priority: 0, v6: true, fwmark: None, from: None, to: None, oif: None, table: 10 };
    let net48 = |a: &str| Prefix::new(ip(a), 48);
    layer.add_rule(Rule { priority: 20, from: net48("fd00::"), to: net48("2001:db8::"), ..any });
    layer.add_rule(Rule { priority: 10, oif: Some(port), to: net48("2001:db8::"), table: 11, ..any });
    let q = RouteQuery::to(ip("2001:db8::1"));
    let with = |q: &RouteQuery| layer.route_by(now, q).map(|r| r.next_hop);
    assert_eq!(with(&q), Err(Errno::ENETUNREACH));
    assert_eq!(with(&RouteQuery { src: Some(ip("fd00::1")), ..q }), Err(Errno::EHOSTUNREACH));
    assert_eq!(with(&RouteQuery { src: Some(ip("fd00::1")), port: Some(port), ..q }), Err(Errno::EACCES));
    assert_eq!(with(&RouteQuery { src: Some(ip("fd01::1")), ..q }), Err(Errno::ENETUNREACH));
    assert_eq!(layer.next_rule_priority(true), 9);
}
