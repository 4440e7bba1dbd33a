//! Sizes: every MTU, buffers that grow and do not.

use super::link::{Impair, Pair, percent};
use crate::{Config, FlowParams, State};
use stackd_base::{Duration, Mib, Mss};

fn config(cc: &'static str) -> Config {
    Config { congestion: cc, wmem: [4096, 16_384, 64 << 20], rmem: [4096, 131_072, 64 << 20], ..Config::default() }
}

/// From the least IPv4 hosts must take to `lo`'s, with the cliffs around GSO's 64 KiB: nothing is larger than the MSS agreed on (`Pair`
/// checks each packet), and loss does not stop it.
#[test]
fn no_segment_exceeds_the_mss_at_any_mtu() {
    for mtu in
        [576, 577, 1006, 1280, 1492, 1499, 1500, 1501, 4352, 9000, 16_384, 21_845, 32_767, 32_768, 32_789, 65_520]
    {
        for cc in ["cubic", "bbr"] {
            let impair = Impair { loss: percent(1), ..Impair::clean(1000, 5) };
            let flow = FlowParams { mss: Mss::new_clamped(mtu - 40), ..FlowParams::new(1000, 80) };
            let mut p = Pair::over(config(cc), config(cc), flow, impair, u64::from(mtu));
            p.ends[0].to_write = 3_000_000;
            let done = p.run(Duration::from_secs(60), |p| p.ends[1].conn.rx_head() == 3_000_000);
            assert!(done, "MTU {mtu} {cc}: {} {:?}", p.ends[1].conn.rx_head(), p.ends[0].conn);
            assert_eq!(p.ends[0].conn.mss, mtu - 52);
            assert_eq!(p.largest, u64::from(mtu - 52), "MTU {mtu} {cc}");
        }
    }
}

/// A path with a BDP far above the default buffers: both grow to what it needs, and not to whatever they may.
#[test]
fn buffers_grow_with_the_path_in_both_directions() {
    for (bytes, back) in [(60 << 20, 0), (0, 60 << 20)] {
        let mut p = Pair::new(config("cubic"), config("cubic"), Impair::clean(500, 25), 5);
        (p.ends[0].to_write, p.ends[1].to_write) = (bytes, back);
        (p.ends[0].close_when_written, p.ends[1].close_when_written) = (false, false);
        let (from, to) = if bytes > 0 { (0, 1) } else { (1, 0) };
        let start = p.now;
        assert!(p.run(Duration::from_secs(30), |p| p.ends[to].conn.rx_head() == 60 << 20));
        // 500 Mbit/s * 50 ms = 3.1 MB.
        let (snd, rcv) = (p.ends[from].conn.sndbuf(), p.ends[to].conn.rcvbuf());
        // HyStart++ lets the window grow by a quarter for five rounds once the RTT has risen: three times what it was then.
        assert!((4_000_000..50_000_000).contains(&snd), "sndbuf {snd}");
        assert!((4_000_000..50_000_000).contains(&rcv), "rcvbuf {rcv}");
        assert!(p.now - start < Duration::from_millis(2000), "{:?}", p.now - start);
        // The direction that carries nothing keeps its default.
        assert!(p.ends[from].conn.rcvbuf() <= 131_072);
    }
}

#[test]
fn a_fixed_buffer_stays_and_a_slow_reader_does_not_make_it_grow() {
    let fixed = Config { rcvbuf: Some(200_000), sndbuf: Some(100_000), ..config("cubic") };
    let mut p = Pair::new(fixed.clone(), fixed, Impair::clean(500, 5), 6);
    p.ends[0].to_write = 5 << 20;
    assert!(p.run(Duration::from_secs(30), |p| p.ends[1].conn.rx_head() == 5 << 20));
    assert_eq!((p.ends[0].conn.sndbuf(), p.ends[1].conn.rcvbuf()), (100_000, 200_000));

    let mut p = Pair::new(config("cubic"), config("cubic"), Impair::clean(500, 5), 7);
    p.ends[0].to_write = 50 << 20;
    p.ends[1].reads = false;
    (p.ends[0].close_when_written, p.ends[1].close_when_written) = (false, false);
    p.run(Duration::from_secs(5), |_| false);
    assert!(p.ends[1].conn.rcvbuf() <= 300_000, "{}", p.ends[1].conn.rcvbuf());
    assert!(p.ends[1].conn.rx_head() <= 300_000);
    assert_eq!(p.ends[0].conn.state(), State::Established);
    assert_eq!(p.ends[0].mib.get(Mib::TcpExtTCPTimeouts), 0);
}

/// `sysctl -w net.ipv4.tcp_wmem` on a live flow: BBR had taken the small buffer's rate for the path's, and would have probed its way up by
/// a quarter every eight round trips.
#[test]
fn bbr_takes_a_raised_send_buffer_at_once() {
    let small = Config { wmem: [4096, 16_384, 1 << 20], ..config("bbr") };
    let mut p = Pair::new(small, config("bbr"), Impair { loss: percent(1), ..Impair::clean(1000, 50) }, 8);
    p.ends[0].to_write = 4 << 30;
    p.run(Duration::from_millis(1500), |_| false);
    let before = p.ends[1].conn.rx_head();
    p.ends[0].cfg.wmem[2] = 64 << 20;
    p.run(Duration::from_millis(2500), |_| false);
    let mbit = (p.ends[1].conn.rx_head() - before) as f64 * 8.0 / 2.5e6;
    assert!(mbit > 300.0, "{mbit} Mbit/s, {} before", before as f64 * 8.0 / 1.5e6);
}
