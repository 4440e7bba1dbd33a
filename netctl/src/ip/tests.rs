//! Golden lines are what iproute2-6.1.0 printed.

use stackd_proto::v1::{Address, Link, LinkStats, Neighbour, NeighbourState, Route, RouteType, Scope};

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn route_of(text: &str) -> Result<Route, Failure> {
    route::route(&mut Words::new(&words(text)), Flags::default())
}

#[test]
fn golden_link_statistics() {
    let zero = Link::default();
    let want = "    RX:  bytes packets errors dropped  missed   mcast           \n             0       0      0       0       0       0 \n    TX:  bytes packets errors dropped carrier collsns           \n             0       0      0       0       0       0 \n";
    assert_eq!(link::stats(&zero), want);
    // A figure of twelve digits pushes its column, and only that one, to the right.
    let stats = LinkStats { rx_bytes: 123_456_789_012, tx_packets: 42, ..Default::default() };
    let busy = Link { stats: Some(stats), ..Default::default() };
    let want = "    RX:    bytes packets errors dropped  missed   mcast           \n    123456789012       0      0       0       0       0 \n    TX:    bytes packets errors dropped carrier collsns           \n               0      42      0       0       0       0 \n";
    assert_eq!(link::stats(&busy), want);
}

#[test]
fn golden_link_and_address() {
    let lo = Link {
        index: 1,
        name: "lo".into(),
        flags: 0x1_0009,
        mtu: 65_536,
        qdisc: "noqueue".into(),
        operstate: "UNKNOWN".into(),
        tx_queue_len: 1000,
        hardware_address: vec![0; 6],
        broadcast_address: vec![0; 6],
        ..Default::default()
    };
    let want = "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n";
    assert_eq!(link::head(&lo, " mode DEFAULT"), want);
    let a = Address {
        device: "lo".into(),
        address: vec![127, 0, 0, 1],
        prefix_len: 8,
        scope: Scope::Host as i32,
        ..Default::default()
    };
    assert_eq!(
        address::text(&a),
        "    inet 127.0.0.1/8 scope host lo\n       valid_lft forever preferred_lft forever\n"
    );
    let six = Address { address: [vec![0; 15], vec![1]].concat(), prefix_len: 128, ..a };
    assert_eq!(address::text(&six), "    inet6 ::1/128 scope host \n       valid_lft forever preferred_lft forever\n");
}

#[test]
fn golden_routes() {
    let kernel = Route {
        destination: vec![192, 0, 2, 0],
        prefix_len: 24,
        device: "eth0".into(),
        protocol: "kernel".into(),
        scope: Scope::Link as i32,
        preferred_source: vec![192, 0, 2, 2],
        table: 254,
        ..Default::default()
    };
    assert_eq!(route::text(&kernel), "192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2 ");
    assert_eq!(route::text(&route_of("default via 192.0.2.1 dev eth0").unwrap()), "default via 192.0.2.1 dev eth0 ");
    let local = Route { r#type: RouteType::Local as i32, destination: vec![127, 0, 0, 1], prefix_len: 32, ..kernel };
    assert!(route::text(&local).starts_with("local 127.0.0.1 dev eth0 "));
}

#[test]
fn golden_neighbour() {
    let n = Neighbour {
        address: vec![10, 0, 0, 1],
        device: "lo".into(),
        hardware_address: vec![0, 0, 0, 0, 0, 1],
        state: NeighbourState::Permanent as i32,
        ..Default::default()
    };
    assert_eq!(neighbour::text(&n, false), "10.0.0.1 dev lo lladdr 00:00:00:00:00:01 PERMANENT ");
}

#[test]
fn routes_are_read_as_they_are_printed() {
    for text in [
        "10.0.0.0/8 via 192.0.2.1 dev eth0 metric 5 mtu 1400 initcwnd 20 congctl bbr ",
        "blackhole 10.0.0.0/8 ",
        "10.1.2.3 dev eth0 scope link ",
        "2001:db8::/32 via fe80::1 dev eth0 ",
    ] {
        assert_eq!(route::text(&route_of(text).unwrap()), text);
    }
}

#[test]
fn bad_words_are_named() {
    for (text, says) in [
        ("foo", "any valid prefix is expected rather than \"foo\""),
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("via 10.0.0.1", "destination is missing"),
        ("10.0.0.0/8 metric x", "want a number"),
        ("10.0.0.0/8 via", "not complete"),
    ] {
        let failure = route_of(text).unwrap_err();
        assert!(failure.text.contains(says), "{text}: {}", failure.text);
    }
    let failure = address::address(&mut Words::new(&words("1.2.3.4/99 dev lo"))).unwrap_err();
    assert_eq!(failure.text, "Error: any valid prefix is expected rather than \"1.2.3.4/99\".");
    assert!(link::set(&mut Words::new(&words("lo mtu 99999999999"))).is_err());
}

#[test]
fn broadcast_plus_and_default_scopes() {
    let a = address::address(&mut Words::new(&words("10.1.2.3/24 brd + dev tap0"))).unwrap();
    assert_eq!(a.broadcast, [10, 1, 2, 255]);
    assert_eq!(a.scope(), Scope::Global);
    let a = address::address(&mut Words::new(&words("127.0.0.2/8 dev lo"))).unwrap();
    assert_eq!(a.scope(), Scope::Host);
}
