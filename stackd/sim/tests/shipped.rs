//! Bugs that other BBR and stack implementations shipped, where a whole path is needed to see them.

use stackd_base::{Bandwidth, Duration, Instant};
use stackd_qdisc::QdiscConfig;
use stackd_sim::net::app::{Ending, Plan, Reading, Writing};
use stackd_sim::net::middlebox::Outage;
use stackd_sim::net::{Host, HostConfig, SockOption, Stage, Task, World};
use stackd_sim::{Experiment, Link, LinkConfig, Report};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MBIT: u64 = 1_000_000;
const START: Instant = Instant::from_nanos(1_000_000_000);

fn mbit(n: u64) -> Bandwidth {
    Bandwidth::from_bits_per_sec(n * MBIT)
}

fn run(e: &Experiment) -> Report {
    e.run().unwrap_or_else(|v| panic!("{}", v.0))
}

/// Shipped bug 1: the pacing rate of the start, a guess, was never derived again from the first RTT: a quarter of the first flights was lost. On a short
/// path with a queue of a BDP, BBR's whole start loses next to nothing.
#[test]
fn the_first_rtt_paces_the_start() {
    let path = |cc| Experiment::new(cc).rate(mbit(100)).rtt(Duration::from_millis(40)).duration(Duration::from_secs(3));
    let r = run(&path("bbr").link(|l| l.limit_bytes = Some(2 * 500_000)));
    assert!(r.retransmits * 50 < r.link.offered, "{} of {} segments", r.retransmits, r.link.offered);
    assert!(r.goodput_second_half > 85 * MBIT, "{}", r.goodput_second_half);
}

/// Shipped bug 6: an estimator that counts the first packet of an interval, or the last one twice, is wrong by a packet in every sample: with few packets
/// a round trip that is a lot. The estimate is the path's rate: 1448 bytes of every 1538.
#[test]
fn the_estimate_is_the_rate_of_the_path_exactly() {
    for (rate, rtt_ms) in [(mbit(1), 40), (mbit(10), 20), (mbit(100), 20), (mbit(1000), 5)] {
        let r =
            run(&Experiment::new("bbr").rate(rate).rtt(Duration::from_millis(rtt_ms)).duration(Duration::from_secs(8)));
        let possible = rate.as_bits_per_sec() as f64 * 1448.0 / 1538.0;
        for p in r.series.iter().filter(|p| p.time > 2.0) {
            let bw = p.bbr_bw.map_or(0.0, |b| b as f64);
            let off = bw / possible - 1.0;
            assert!(off.abs() < 0.02, "{rate:?}, {rtt_ms} ms: at {:.1} s off by {:.1} %", p.time, off * 100.0);
        }
    }
}

/// Bytes read by the receiver of a bulk flow at each of `times`, over 50 Mbit/s and 20 ms with a link that is down from second 3 to second 5.
fn through_an_outage(cc: &str, holds: bool, times: &[Duration]) -> Vec<u64> {
    let wire = LinkConfig { rate: Some(mbit(50)), delay: Duration::from_millis(10), ..LinkConfig::default() };
    let at = |s: u64| START + Duration::from_secs(s);
    let chain = vec![
        Stage::Box(Box::new(Outage::new(at(3), at(5), holds))),
        Stage::Wire(Box::new([Link::new(wire, 1), Link::new(wire, 2)])),
    ];
    let mut world = World::new(START, chain);
    let plan = |total| Plan {
        writing: Writing { total, chunk: 65_536, gap: Duration::ZERO, dialogue: None, urgent: false },
        reading: Reading::AtOnce,
        ending: Ending::Polite,
    };
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 80);
    let options = vec![SockOption { level: 6, option: 13, value: cc.as_bytes().to_vec() }];
    let up = plan(200_000_000);
    let connect = Task::Connect { flow: 0, to, from_port: None, count: 1, as_client: true, plan: up, options };
    let listen = Task::Listen { flow: 0, port: 80, backlog: 8, plan: plan(0), options: vec![] };
    for (n, task) in [(2, listen), (1, connect)] {
        let (v4, v6) = (Ipv4Addr::new(10, 0, 0, n), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)));
        let qdisc = QdiscConfig::default_of("fq").expect("fq");
        let config = HostConfig { v4, v6, mtu: 1500, seed: 1, qdisc, tasks: vec![(START, task)] };
        let host = Host::new(START, config).expect("a host");
        let access = || Link::new(LinkConfig::default(), 0);
        world.attach(Box::new(host), n == 1, &[v4.into(), v6.into()], [access(), access()]);
    }
    times
        .iter()
        .map(|&t| {
            world.run(START + t, u64::MAX).unwrap_or_else(|f| panic!("{f}"));
            world.node(0).outcomes(0)[0].read
        })
        .collect()
}

/// Shipped bug 8: after a link was suspended, the model had forgotten the path and took 37 round trips to learn it again. Here: as much as the path carries,
/// less a tenth, from ten round trips after the first retransmission that gets through (which an RTO that doubled meanwhile may put off by as
/// long as the outage was).
#[test]
fn a_suspended_link_is_used_again_at_once() {
    for holds in [false, true] {
        let times: Vec<Duration> = (0..300).map(|i| Duration::from_millis(3000 + i * 20)).collect();
        let read = through_an_outage("bbr", holds, &times);
        let down = Duration::from_millis(5000);
        let resumed = (0..read.len()).find(|&i| times[i] > down && read[i] > read[i - 1]).expect("it goes on");
        assert!(times[resumed] <= Duration::from_millis(7000), "first byte at {:?}", times[resumed]);
        let (from, to) = (resumed + 10, resumed + 37);
        let bits = (read[to] - read[from]) * 8 * 1000 / (20 * 27);
        assert!(
            bits > 50 * MBIT * 1448 / 1538 * 9 / 10,
            "holds {holds}: {bits} bit/s, resumed at {:?}",
            times[resumed]
        );
    }
}

/// Shipped bug 11: MTUs at which throughput falls off a cliff (segments of which only one and a half fit into a buffer, a quantum, a window).
#[test]
fn no_mtu_is_a_cliff() {
    for cc in ["cubic", "bbr"] {
        for mtu in [576, 1006, 1280, 1492, 1500, 2002, 4352, 9000, 16_384, 17_914, 32_000, 65_520] {
            let e = Experiment::new(cc).rate(mbit(200)).rtt(Duration::from_millis(10)).mss(mtu - 40);
            let r = run(&e.duration(Duration::from_secs(4)).link(|l| l.limit_bytes = Some(1_000_000)));
            // Headers and Ethernet's overhead; 12 bytes of timestamps.
            let possible = 200 * MBIT * u64::from(mtu - 52) / u64::from(mtu + 38);
            assert!(
                r.goodput_second_half * 100 > possible * 85,
                "{cc}, MTU {mtu}: {} of {possible} bit/s",
                r.goodput_second_half
            );
        }
    }
}
