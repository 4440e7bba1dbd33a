//! The experiment the project exists for: 10 Gbit/s, 100 ms, 1 % random loss, buffers that hold the BDP (125 MB).
//! A user runs the same with
//! `stackd-sim run --cc bbr --rate 10gbit --rtt 100ms --loss 1% --duration 6s --wmem 512mb --rmem 512mb`.

use stackd_base::{Bandwidth, Duration};
use stackd_sim::{Experiment, Report};

fn run(cc: &'static str, seconds: u64, clock_hz: u32, clamp: bool) -> Report {
    Experiment::new(cc)
        .rate(Bandwidth::from_bits_per_sec(10_000_000_000))
        .rtt(Duration::from_millis(100))
        .loss(0.01)
        .buffers(512_000_000, 512_000_000)
        .duration(Duration::from_secs(seconds))
        .clock_hz(clock_hz, clamp)
        .run()
        .unwrap_or_else(|v| panic!("{}", v.0))
}

const MBIT: u64 = 1_000_000;

#[test]
fn bbr_fills_the_path() {
    let r = run("bbr", 8, 0, true);
    assert!(r.goodput_second_half >= 8_000 * MBIT, "{} Mbit/s", r.goodput_second_half / MBIT);
    // What was retransmitted is what was lost: nothing spurious beyond a tenth of it.
    let lost = r.link.lost + r.link.overflowed;
    assert!(r.retransmits <= lost + lost / 10, "{} retransmits, {lost} lost", r.retransmits);
}

#[test]
fn cubic_collapses() {
    let r = run("cubic", 10, 0, true);
    assert!(r.goodput_second_half < 50 * MBIT, "{} Mbit/s", r.goodput_second_half / MBIT);
}

#[test]
fn a_clock_of_100_hz_makes_bbr_collapse() {
    let r = run("bbr", 8, 100, false);
    assert!(r.goodput_second_half < 500 * MBIT, "{} Mbit/s", r.goodput_second_half / MBIT);
}

#[test]
fn counting_a_span_shorter_than_a_tick_as_one_tick_recovers_it() {
    let r = run("bbr", 8, 100, true);
    assert!(r.goodput_second_half >= 7_000 * MBIT, "{} Mbit/s", r.goodput_second_half / MBIT);
}
