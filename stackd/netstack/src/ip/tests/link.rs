//! Interfaces that go down, come up and go for good: what goes along and what comes back.

use super::*;
use crate::neigh::NudState;

fn route_to(h: &mut Host, dst: &str, via: Option<Ipv4Addr>) {
    let (addr, len) = dst.split_once('/').expect("a prefix");
    let dst = Prefix::new(addr.parse().expect("an address"), len.parse().expect("a length")).expect("a prefix");
    let route = Route {
        dst,
        kind: RouteType::Unicast,
        gateway: via.map(IpAddr::V4),
        port: Some(ETH),
        src: None,
        metric: 0,
        origin: RouteOrigin::Static,
        options: RouteOptions::default(),
    };
    h.ip.add_route(route, false).expect("added");
}

fn finds(h: &Host, dst: IpAddr) -> Result<PortId, Errno> {
    h.ip.route(h.now, dst, None, None).map(|r| r.port)
}

#[test]
fn down_takes_routes_neighbours_and_ipv6_along_and_up_brings_the_networks_back() {
    let mut h = Host::new().knows_neighbour();
    route_to(&mut h, "192.0.2.0/24", Some(B4));
    let far = IpAddr::from([192, 0, 2, 7]);
    assert_eq!((finds(&h, B4.into()), finds(&h, far), finds(&h, B6.into())), (Ok(ETH), Ok(ETH), Ok(ETH)));
    let generation = h.ip.generation();
    assert!(h.with(|ip, env| ip.set_up(env, ETH, false)));
    assert!(h.ip.generation() > generation, "cached routes are stale");
    let none = Err(Errno::ENETUNREACH);
    assert_eq!((finds(&h, B4.into()), finds(&h, far), finds(&h, B6.into())), (none, none, none));
    // The address is still the interface's, but nobody's to reach.
    assert!(h.ip.addrs().has(A4.into()) && !h.ip.addrs().is_local(A4.into()) && !h.ip.addrs().has(A6.into()));
    assert_eq!(h.ip.neighbours().iter().count(), 0);

    assert!(h.with(|ip, env| ip.set_up(env, ETH, true)));
    assert_eq!(
        (finds(&h, B4.into()), finds(&h, far)),
        (Ok(ETH), none),
        "the network is back, the operator's route is not"
    );
    assert!(h.ip.addrs().is_local(A4.into()));
    let link_local = h.ip.addrs().on(ETH).find(|a| a.addr.is_ipv6()).expect("a link-local address");
    assert_eq!(link_local.scope, Scope::Link);
    assert!(!h.with(|ip, env| ip.set_up(env, PortId(9), true)), "no such port");
}

#[test]
fn an_address_given_while_down_waits_for_up() {
    let mut h = Host::new();
    h.with(|ip, env| ip.set_up(env, ETH, false));
    let addr = IpAddr::from([10, 7, 0, 1]);
    let a = Address { addr, prefix_len: 16, scope: Scope::Global, port: ETH, secondary: false, deprecated: false };
    assert!(h.with(|ip, env| ip.add_address_checked(env, a, false)));
    let near = IpAddr::from([10, 7, 0, 2]);
    assert!(finds(&h, near).is_err() && !h.ip.addrs().is_local(addr) && h.ip.addrs().has(addr));
    h.with(|ip, env| ip.set_up(env, ETH, true));
    assert!(finds(&h, near) == Ok(ETH) && h.ip.addrs().is_local(addr));
}

#[test]
fn what_waits_is_dropped_once_and_counted() {
    let mut h = Host::new();
    // One waits for its neighbour, one in the queue.
    h.send_udp(IpAddr::from([10, 0, 0, 77]), 10, false).expect("taken");
    h.tx(ETH);
    let mut h = h.knows_neighbour();
    h.send_udp(B4.into(), 10, false).expect("taken");
    h.with(|ip, env| ip.set_up(env, ETH, false));
    assert_eq!(h.drops.get(DropReason::DeviceDown), 2);
    assert_eq!(h.ip.take_dropped().len(), 2);
    assert!(h.tx(ETH).is_empty());
}

#[test]
fn what_was_learnt_about_a_destination_goes_with_its_route() {
    let mut h = Host::new();
    let (far, end) = (IpAddr::from([192, 0, 2, 7]), h.now + Duration::from_secs(600));
    route_to(&mut h, "192.0.2.0/24", Some(B4));
    h.ip.exceptions.learn_gateway(h.now, far, IpAddr::from([10, 0, 0, 9]), end);
    assert!(h.ip.exception(h.now, far).gateway.is_some());
    h.with(|ip, env| ip.set_up(env, ETH, false));
    assert!(h.ip.exception(h.now, far).gateway.is_none());
}

#[test]
fn an_mtu_below_ipv6s_least_takes_ipv6_away() {
    let mut h = Host::new();
    h.with(|ip, env| ip.set_mtu(env, ETH, 1279));
    assert!(!h.ip.addrs().has(A6.into()) && finds(&h, B6.into()).is_err() && finds(&h, B4.into()) == Ok(ETH));
    h.with(|ip, env| ip.set_mtu(env, ETH, 1280));
    assert!(h.ip.addrs().on(ETH).any(|a| a.addr.is_ipv6() && a.scope == Scope::Link));
}

#[test]
fn loopback_gets_its_ipv6_address_back() {
    let mut h = Host::new();
    h.with(|ip, env| ip.set_up(env, LO, false));
    assert!(!h.ip.addrs().is_local(Ipv6Addr::LOCALHOST.into()));
    h.with(|ip, env| ip.set_up(env, LO, true));
    assert!(h.ip.addrs().is_local(Ipv6Addr::LOCALHOST.into()) && h.ip.addrs().is_local(Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn an_interface_that_is_gone_is_no_device_for_ipv4_and_no_route_for_ipv6() {
    let mut h = Host::new().knows_neighbour();
    assert!(h.ip.neighbours().iter().all(|(_, n)| n.state == NudState::Permanent));
    assert!(h.with(|ip, env| ip.remove_port(env, ETH)));
    let through = |dst: IpAddr| h.ip.route(h.now, dst, None, Some(ETH)).map(|r| r.port);
    assert_eq!((through(B4.into()), through(B6.into())), (Err(Errno::ENODEV), Err(Errno::ENETUNREACH)));
    assert!(h.ip.neighbours().iter().next().is_none() && h.ip.addrs().on(ETH).next().is_none());
    // Its number is not used again, and another shard's next number can be taken over.
    assert!(!h.ip.number_next_port(ETH) && h.ip.next_port() == PortId(3) && h.ip.number_next_port(PortId(7)));
    let config = PortConfig {
        name: "x".into(),
        mac: OURS,
        mtu: 1500,
        loopback: false,
        caps: PortCaps { tx_csum: true, tso_max: 65536, uso: true, ethernet: true },
    };
    assert_eq!(h.ip.add_port(config, Box::new(NoQueue::new())), PortId(7));
}
