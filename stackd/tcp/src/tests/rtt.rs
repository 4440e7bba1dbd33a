//! RFC 6298 with Linux's refinement, worked by hand: a mutation check found no test that held the deviation (`docs/mutants.md`).

use crate::rtt::Rtt;
use stackd_base::{Duration, Instant};

const MIN: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(120);

/// Microseconds: what is worked out below is rounded to them.
fn us(d: Duration) -> u64 {
    d.as_nanos() / 1000
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn rfc6298_the_rto_follows_the_largest_deviation_of_a_round() {
    let mut r = Rtt::default();
    assert_eq!(r.rto(MAX), Duration::from_secs(1));
    // RTT, snd_una, snd_nxt; SRTT, mean deviation, RTO in microseconds.
    let steps: [(u64, u64, u64, u64, u64, u64); 7] = [
        // 2.2: SRTT = R, RTTVAR = R/2, and at least rto_min.
        (100, 1, 10, 100_000, 50_000, 300_000),
        // 2.3: SRTT + (400 ms)/8; four times the deviation: 200 + 400 - 50.
        (500, 5, 12, 150_000, 137_500, 700_000),
        // The deviation falls, the RTO does not within a round: it ends beyond 10.
        (150, 10, 15, 150_000, 103_125, 700_000),
        // The round ends; its largest deviation was what the RTO knows.
        (150, 11, 20, 150_000, 77_343, 700_000),
        // In the next the largest was 232.03 ms: the RTO comes down by a quarter of what is between, (550 - 232.03)/4.
        (150, 21, 30, 150_000, 58_007, 620_507),
        // A fall of the RTT counts an eighth: (80 - 58.007)/8.
        (70, 22, 31, 140_000, 58_695, 610_507),
        // A fall smaller than the deviation lowers it as any calm sample does.
        (139, 23, 32, 139_875, 44_271, 610_382),
    ];
    for (i, (rtt, una, nxt, srtt, dev, rto)) in steps.into_iter().enumerate() {
        r.sample(ms(rtt), una, nxt, MIN);
        let got = (r.srtt().map(us), us(r.rttvar()), us(r.rto(MAX)));
        assert_eq!(got, (Some(srtt), dev, rto), "step {i}");
    }
    assert_eq!(r.rto(ms(500)), ms(500));
}

/// The first sample is the largest deviation of its round: the RTO comes down in the next one only.
#[test]
fn rfc6298_the_first_deviation_lasts_a_round() {
    let mut r = Rtt::default();
    // The deviation is 1000, 750, 562.5 ms: at last 500 + 1000 - (1000 - 562.5)/4.
    for (una, rto) in [(1, 1500), (11, 1500), (21, 1390)] {
        r.sample(ms(500), una, una + 9, MIN);
        assert_eq!(us(r.rto(MAX)) / 1000, rto, "una {una}");
    }
}

/// A sysctl raised the least RTO: it holds from the next round on.
#[test]
fn rto_min_raised_meanwhile_holds_from_the_next_round() {
    let mut r = Rtt::default();
    r.sample(ms(10), 1, 10, MIN);
    r.sample(ms(10), 5, 10, ms(900));
    assert_eq!(r.rto(MAX), ms(210));
    r.sample(ms(10), 11, 20, ms(900));
    assert_eq!(r.rto(MAX), ms(910));
}

/// Linux's `tcp_min_rtt_wlen` of 300 s, in two halves.
#[test]
fn the_minimum_is_forgotten_after_its_window() {
    let mut r = Rtt::default();
    let steps =
        [(1, 100, 100), (100, 80, 80), (120, 90, 80), (151, 90, 80), (160, 95, 80), (302, 120, 90), (602, 130, 130)];
    for (at, rtt, min) in steps {
        r.sample_min(Instant::from_nanos(at * 1_000_000_000), ms(rtt));
        assert_eq!(r.min(), Some(ms(min)), "at {at} s");
    }
}
