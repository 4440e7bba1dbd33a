//! Paths that swallow large segments in silence (RFC 4821, RFC 8899), and sizes that change.

use super::link::{Impair, Pair};
use super::segments::{Test, seg};
use crate::cc::CaState;
use crate::{Config, FlowParams};
use stackd_base::{Duration, Mib, Mss};
use stackd_wire::TcpOptions;

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", nodelay: true, initial_cwnd: 20, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Established over a path of MTU 1500; the peer takes it all.
fn wide(cfg: Config) -> Test {
    let o = TcpOptions { mss: Some(1460), sack_permitted: true, window_scale: Some(7), ..TcpOptions::NONE };
    let mut t = Test::established_with(cfg, o);
    t.recv(seg().ack(1).win(60_000));
    t
}

fn transfer(mtu_probing: u8, passes: u64, bytes: u64) -> (bool, Pair) {
    let cfg = Config { mtu_probing, congestion: "cubic", ..Config::default() };
    let mut p = Pair::new(cfg.clone(), cfg, Impair { passes, ..Impair::clean(50, 5) }, 3);
    p.ends[0].to_write = bytes;
    let done = p.run(Duration::from_secs(60), |p| p.ends[1].conn.rx_head() == bytes);
    (done, p)
}

#[test]
fn rfc4821_a_black_hole_is_found_and_the_largest_size_that_passes() {
    for passes in [1300, 1000, 600, 200] {
        let (done, p) = transfer(1, passes, 4 << 20);
        let c = &p.ends[0].conn;
        assert!(done, "{passes}: {} {:?}", p.ends[1].conn.rx_head(), c);
        let least = if passes == 200 { 200 / 2 } else { passes - 8 - 12 };
        assert!((least..=passes).contains(&u64::from(c.mss)), "{passes}: found {} {:?}", c.mss, c.search_range());
        let (good, bad) = (p.ends[0].mib.get(Mib::TcpExtTCPMTUPSuccess), p.ends[0].mib.get(Mib::TcpExtTCPMTUPFail));
        assert!(good > 0 && bad > 0, "{passes}: {good} {bad}");
    }
}

#[test]
fn tcp_mtu_probing_0_lets_a_black_hole_be_one() {
    let (done, p) = transfer(0, 1300, 100_000);
    assert!(!done);
    assert_eq!(p.ends[0].conn.mss, 1448);
}

#[test]
fn tcp_mtu_probing_2_begins_small_and_finds_the_whole_path() {
    let (done, p) = transfer(2, u64::MAX, 4 << 20);
    assert!(done);
    let c = &p.ends[0].conn;
    assert!(c.mss > 1448 - 8, "{} {:?}", c.mss, c.search_range());
    assert!(p.ends[0].mib.get(Mib::TcpExtTCPMTUPSuccess) >= 4);
    assert_eq!(p.ends[0].mib.get(Mib::TcpRetransSegs), 0);
}

/// Search range 1024 to 1460: the first probe has 1242 bytes.
fn probing(cfg: Config) -> (Test, std::ops::Range<u64>) {
    let mut t = wide(Config { mtu_probing: 2, ..cfg });
    assert_eq!(t.end.conn.mss, 1024);
    t.write(10_000);
    let out = t.drain();
    let probe = out[0].payload.clone().expect("data");
    assert_eq!((probe.clone(), out[0].gso_size), (0..1242, 0), "one packet");
    assert!(out[1..].iter().all(|o| o.payload.as_ref().is_none_or(|p| p.end - p.start <= 1024 || o.gso_size == 1024)));
    (t, probe)
}

#[test]
fn rfc4821_an_acknowledged_probe_raises_the_mss() {
    let (mut t, probe) = probing(plain());
    t.after(ms(10)).recv(seg().ack(probe.end as u32 + 1));
    assert_eq!((t.end.conn.mss, t.end.conn.search_range()), (1242, Some((1242, 1460))));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPMTUPSuccess), 1);
}

/// RFC 4821, 7.6.2: a lost probe is no congestion; the data goes out again in segments that fit.
#[test]
fn rfc4821_a_lost_probe_costs_no_window() {
    let (mut t, probe) = probing(plain());
    let cwnd = t.end.conn.cwnd;
    t.after(ms(10)).recv(seg().ack(1).sack(probe.end as u32 + 1, 10_001));
    let again: Vec<_> = t.drain().into_iter().filter(|o| o.is_retransmit).collect();
    assert_eq!(again.iter().filter_map(|o| o.payload.clone()).map(|p| p.end - p.start).sum::<u64>(), 1242);
    assert!(again.iter().all(|o| o.gso_size == 1024 || o.payload.as_ref().is_some_and(|p| p.end - p.start <= 1024)));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPMTUPFail), 1);
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSackRecovery), 0);
    t.after(ms(10)).recv(seg().ack(10_001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Open, u32::MAX));
    assert!(t.end.conn.cwnd >= cwnd);
    assert_eq!(t.end.conn.search_range(), Some((1024, 1241)));
}

#[test]
fn rfc4821_the_search_ends_at_the_threshold_and_begins_anew_after_the_interval() {
    let cfg = Config { probe_threshold: 500, probe_interval: Duration::from_secs(60), ..plain() };
    let mut t = wide(Config { mtu_probing: 2, ..cfg });
    t.write(10_000);
    assert!(t.drain().iter().all(|o| o.gso_size == 1024 || o.payload.as_ref().is_none_or(|p| p.end - p.start <= 1024)));
    t.after(ms(10)).recv(seg().ack(10_001));
    t.end.cfg.probe_threshold = 8;
    t.end.conn.mtup.as_mut().expect("probes").fail_at(1030);
    t.write(20_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(20_001));
    assert_eq!(t.end.conn.search_range(), Some((1024, 1029)));
    t.after(Duration::from_secs(61)).write(30_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(30_001));
    assert_eq!(t.end.conn.search_range().map(|r| r.1), Some(1460));
}

#[test]
fn a_black_hole_is_searched_down_to_the_floor() {
    let cfg = Config { mtu_probing: 1, retries1: 1, mtu_probe_floor: 100, early_retrans: 0, ..plain() };
    let mut t = wide(cfg);
    t.write(1460).expect(seg().len(1460));
    let mut sizes = vec![];
    for _ in 0..10 {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        t.drain();
        sizes.push(t.end.conn.mss);
    }
    sizes.dedup();
    assert_eq!(sizes, [1460, 1024, 512, 256, 128, 100]);
}

/// RFC 1191, 6.3: what ICMP said is forgotten after ten minutes; the routing table then has the larger MTU again.
#[test]
fn a_path_that_grows_again_is_believed_from_our_own_tables_only() {
    let mut t = wide(plain());
    let now = t.now;
    t.end.with(|c, env| c.handle_path(now, 1000, env));
    assert_eq!((t.end.conn.mss, t.end.conn.cwnd), (1000, 20 * 1460 / 1000));
    t.end.with(|c, env| c.handle_path(now, 1460, env));
    assert_eq!(t.end.conn.mss, 1460);
}

#[test]
fn tcp_min_snd_mss_bounds_what_a_path_may_say() {
    let cfg = Config { min_snd_mss: 500, ..plain() };
    let mut t = wide(cfg.clone());
    let now = t.now;
    t.end.with(|c, env| c.handle_path(now, 100, env));
    assert_eq!(t.end.conn.mss, 500);
    // Nor may a peer (CVE-2019-11479).
    let flow = FlowParams { mss: Mss::new_clamped(1460), ..FlowParams::new(1, 2) };
    let mut t = Test::connect_over(cfg, flow);
    t.expect(seg().syn()).recv(seg().seq(0).ack(1).syn().options(TcpOptions { mss: Some(60), ..TcpOptions::NONE }));
    assert_eq!(t.end.conn.mss, 500);
}
