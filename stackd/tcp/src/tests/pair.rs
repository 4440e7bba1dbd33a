//! Two connections of ours talk to each other.

use super::link::{Impair, Pair, percent};
use crate::{Config, State};
use stackd_base::{Duration, Mib};

fn config(cc: &'static str) -> Config {
    Config { congestion: cc, wmem: [4096, 16_384, 100 << 20], rmem: [4096, 131_072, 100 << 20], ..Config::default() }
}

fn transfer(cc: &'static str, impair: Impair, bytes: u64, back: u64, seed: u64) -> (Pair, Duration) {
    let mut p = Pair::new(config(cc), config(cc), impair, seed);
    p.ends[0].to_write = bytes;
    p.ends[1].to_write = back;
    let start = p.now;
    let done = p.run(Duration::from_secs(600), |p| {
        p.ends[1].conn.rx_head() == bytes
            && p.ends[0].conn.rx_head() == back
            && p.ends[0].conn.state() as u8 >= State::TimeWait as u8
            && matches!(p.ends[1].conn.state(), State::Closed | State::TimeWait)
            && matches!(p.ends[0].conn.state(), State::Closed | State::TimeWait)
    });
    let took = p.now - start;
    assert!(
        done,
        "seed {seed} {cc}: stuck after {took:?}: {} of {bytes}, {} of {back}\n{:?}\n{:?}",
        p.ends[1].conn.rx_head(),
        p.ends[0].conn.rx_head(),
        p.ends[0].conn,
        p.ends[1].conn
    );
    (p, took)
}

#[test]
fn a_clean_link_is_filled_and_both_sides_close() {
    for cc in ["reno", "cubic", "bbr"] {
        let (p, took) = transfer(cc, Impair::clean(100, 10), 20 << 20, 100_000, 1);
        // 20 MiB at 100 Mbit/s are 1.68 s; headers and slow start beside it.
        assert!(took < Duration::from_millis(2600), "{cc} {took:?}");
        assert_eq!(p.ends[0].mib.get(Mib::TcpRetransSegs), 0, "{cc} retransmitted on a clean link");
    }
}

#[test]
fn streams_survive_loss_reordering_and_duplication() {
    for cc in ["reno", "cubic", "bbr"] {
        for seed in 0..12 {
            let impair = Impair {
                loss: percent((seed % 4) as u32 * 2),
                reorder: percent(if seed % 3 == 0 { 5 } else { 0 }),
                duplicate: percent(if seed % 2 == 0 { 1 } else { 0 }),
                ..Impair::clean(50, 10)
            };
            transfer(cc, impair, 1 << 20, 300_000, seed);
        }
    }
}

#[test]
fn peers_without_options_still_get_everything() {
    for seed in 0..6 {
        let bare = Config { sack: false, timestamps: false, window_scaling: false, ..config("cubic") };
        let impair = Impair { loss: percent(2), ..Impair::clean(50, 5) };
        let mut p = Pair::new(config("cubic"), bare, impair, seed);
        p.ends[0].to_write = 500_000;
        assert!(
            p.run(Duration::from_secs(300), |p| p.ends[1].conn.rx_head() == 500_000),
            "seed {seed}: {} {:?}",
            p.ends[1].conn.rx_head(),
            p.ends[0].conn
        );
    }
}

#[test]
fn bbr_fills_a_lossy_long_fat_pipe() {
    let impair = Impair { loss: percent(1), ..Impair::clean(1000, 50) };
    // The median: of a seed that loses its last packets the end takes as long as all before.
    let mut rates: Vec<f64> = (3..6)
        .map(|seed| {
            let (_, took) = transfer("bbr", impair, 200 << 20, 0, seed);
            (200u64 << 20) as f64 * 8.0 / took.as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    assert!(rates[1] > 0.45, "{rates:.2?} Gbit/s");
}

#[test]
fn a_closed_window_is_probed_and_reopens() {
    let mut p = Pair::new(config("cubic"), config("cubic"), Impair::clean(100, 5), 4);
    p.ends[0].to_write = 2_000_000;
    p.ends[1].reads = false;
    p.ends[1].close_when_written = false;
    p.ends[0].close_when_written = false;
    assert!(!p.run(Duration::from_secs(20), |p| p.ends[1].conn.rx_head() == 2_000_000));
    assert!(p.ends[0].mib.get(Mib::TcpExtTCPWinProbe) > 2, "{:?}\n{:?}", p.ends[0].conn, p.ends[1].conn);
    assert_eq!(p.ends[0].conn.state(), State::Established);
    p.ends[1].reads = true;
    assert!(p.run(Duration::from_secs(140), |p| p.ends[1].conn.rx_head() == 2_000_000), "{:?}", p.ends[0].conn);
}

/// TSval was the time of cutting and the start of recovery the time of departure: behind fq, every retransmission's echo looked
/// older than the retransmission, and CUBIC undid each of its reductions (it kept up with BBR over 1 % loss).
#[test]
fn real_losses_behind_fq_are_not_undone() {
    let undos = [Mib::TcpExtTCPFullUndo, Mib::TcpExtTCPPartialUndo, Mib::TcpExtTCPLossUndo, Mib::TcpExtTCPDSACKUndo];
    for cc in ["reno", "cubic"] {
        for seed in 0..8 {
            let impair = Impair { loss: percent(1), ..Impair::clean(20, 25) };
            let (p, _) = transfer(cc, impair, 2 << 20, 0, seed);
            let mib = &p.ends[0].mib;
            assert!(mib.get(Mib::TcpRetransSegs) > 0, "{cc} {seed}: nothing was lost");
            assert_eq!(
                undos.map(|m| mib.get(m)),
                [0; 4],
                "{cc} {seed}: undone though everything retransmitted was lost"
            );
        }
    }
}
