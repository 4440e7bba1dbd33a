//! Single networks, each made for one question.

use stackd_base::{Duration, Instant};
use stackd_qdisc::QdiscConfig;
use stackd_sim::net::app::{Ending, Plan, Reading, Writing};
use stackd_sim::net::middlebox::{Middlebox, PoliteRouter};
use stackd_sim::net::{AFTERMATH, Host, HostConfig, Stage, Task, World};
use stackd_sim::{Link, LinkConfig};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const START: Instant = Instant::from_nanos(1_000_000_000);

fn plan(total: u64) -> Plan {
    let writing = Writing { total, chunk: 65_536, gap: Duration::ZERO, dialogue: None, urgent: false };
    Plan { writing, reading: Reading::AtOnce, ending: Ending::Polite }
}

fn address(n: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, 0, 0, n), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)))
}

fn host(n: u8, tasks: Vec<(Instant, Task)>) -> Box<Host> {
    let (v4, v6) = address(n);
    let qdisc = QdiscConfig::default_of("fq").expect("fq");
    Box::new(Host::new(START, HostConfig { v4, v6, mtu: 1500, seed: u64::from(n), qdisc, tasks }).expect("a host"))
}

/// Two hosts, a link of 10 ms, one middlebox; connections of flow 0 from the first to the second, `up` and `down` bytes each.
fn pair(middlebox: Box<dyn Middlebox>, connections: u16, up: u64, down: u64) -> World {
    let wire = LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::default() };
    let chain = vec![Stage::Box(middlebox), Stage::Wire(Box::new([Link::new(wire, 1), Link::new(wire, 2)]))];
    let mut world = World::new(START, chain);
    let connect = Task::Connect {
        flow: 0,
        to: SocketAddr::new(IpAddr::V4(address(2).0), 80),
        from_port: None,
        count: connections,
        as_client: true,
        plan: plan(up),
        options: vec![],
    };
    let listen = Task::Listen { flow: 0, port: 80, backlog: 64, plan: plan(down), options: vec![] };
    for (n, task) in [(1, connect), (2, listen)] {
        let (v4, v6) = address(n);
        let access = || Link::new(LinkConfig::default(), 0);
        let at = if n == 1 { START + Duration::from_millis(1) } else { START };
        world.attach(host(n, vec![(at, task)]), n == 1, &[v4.into(), v6.into()], [access(), access()]);
    }
    world
}

/// Runs for `span` and says how many connections of flow 0 were whole.
fn complete(world: &mut World, span: Duration, up: u64) -> usize {
    world.run(START + span, 10_000_000).unwrap_or_else(|f| panic!("{f}"));
    let whole = world.node(1).outcomes(0).iter().filter(|o| o.eof && o.read == up && o.error.is_none()).count();
    let end = world.now() + AFTERMATH;
    world.run(end, 10_000_000).unwrap_or_else(|f| panic!("{f}"));
    world.check_empty().unwrap_or_else(|f| panic!("{f}"));
    whole
}

/// What "packet too big" said to one connection was kept by that one alone: all others to the same host, and every one after it, had to lose a
/// segment and be told too. Here the router says it once in an hour.
#[test]
fn a_path_mtu_learnt_by_one_connection_is_every_connections() {
    let router = PoliteRouter::new(1000, START).every(Duration::from_secs(3600));
    let mut world = pair(Box::new(router), 8, 20_000, 10);
    assert_eq!(complete(&mut world, Duration::from_secs(20), 20_000), 8);
}
