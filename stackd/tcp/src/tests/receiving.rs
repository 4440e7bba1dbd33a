//! The receive window and its autotuning, and when to acknowledge: rule by rule, where the segment tests see only the sum.

use crate::ack_policy::{ATO_MIN, AckPolicy};
use crate::window::RecvWindow;
use crate::{Config, MemAccount};
use stackd_base::{Duration, Instant};

const T: Instant = Instant::from_nanos(1_000_000_000);
const PLENTY: MemAccount = MemAccount { used: 0, pressure: u64::MAX, high: u64::MAX };

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn buffer(bytes: u64) -> Config {
    Config { rcvbuf: Some(bytes), ..Config::default() }
}

/// A window whose edge is there.
fn offered(cfg: &Config, mss: u32, edge: u64) -> RecvWindow {
    let mut w = RecvWindow::new(cfg, T, mss);
    w.edge = edge;
    w
}

/// One whose rounds last 10 ms.
fn in_rounds(cfg: &Config) -> RecvWindow {
    let mut w = RecvWindow::new(cfg, T, 1000);
    w.rtt = Some(ms(10));
    w
}

/// The goal of the first round is what a sender starts with, or what half the buffer lets it: a goal that cannot be reached would freeze the buffer.
#[test]
fn the_first_goal_is_ten_segments_half_the_buffer_or_64_k() {
    for (rcvbuf, mss, want) in [(30_000, 1000, 10_000), (30_000, 4000, 15_000), (1 << 20, 9000, 65_535)] {
        assert_eq!(RecvWindow::new(&buffer(rcvbuf), T, mss).space, want, "{rcvbuf} {mss}");
    }
}

/// ip-route(8), `initrwnd`: in segments; it may exceed the default buffer and bounds what the SYN-ACK offers, and nothing later.
#[test]
fn a_route_sets_the_first_window() {
    let cfg = Config { initial_rwnd: Some(200), ..Config::default() };
    assert_eq!(RecvWindow::new(&cfg, T, 1000).rcvbuf, 200_000);
    let cfg = Config { initial_rwnd: Some(10), ..Config::default() };
    let w = RecvWindow::new(&cfg, T, 1000);
    assert_eq!(w.candidate(&cfg, 0, 1000), 10_000);
    assert!(w.candidate(&cfg, 1, 1000) > 10_000);
}

/// RFC 9293, 3.8.6.2.2: the edge moves by a segment, or by half of a buffer that is smaller than two.
#[test]
fn the_edge_moves_by_half_a_small_buffer() {
    let cfg = buffer(1500);
    for (edge, want) in [(750, 1500), (751, 751)] {
        let w = offered(&cfg, 1000, edge);
        assert_eq!(w.candidate(&cfg, 0, 1000), want, "the edge is at {edge}");
    }
}

/// An ACK for nothing but space is due when the window would at least double.
#[test]
fn space_is_announced_when_the_window_doubles() {
    let cfg = buffer(10_000);
    for (edge, head, mss, want) in
        [(5000, 0, 1000, true), (5001, 0, 1000, false), (9500, 8500, 500, false), (10_000, 10_000, 1000, false)]
    {
        let w = offered(&cfg, mss, edge);
        assert_eq!(w.wants_update(&cfg, head, mss), want, "{edge} {head}");
    }
}

#[test]
fn the_receivers_rtt_falls_at_once_and_rises_by_an_eighth() {
    let mut w = RecvWindow::new(&Config::default(), T, 1000);
    for (sample, want) in [(100, 100), (50, 50), (130, 60), (60, 60)] {
        w.sample_rtt(ms(sample));
        assert_eq!(w.rtt, Some(ms(want)), "after {sample} ms");
    }
}

/// Without timestamps a round is the time that a window takes to fill; the next one begins with the edge of then.
#[test]
fn a_filled_window_is_a_round() {
    let mut w = offered(&Config::default(), 1000, 1000);
    w.sample_by_window(T, 0);
    w.sample_by_window(T + ms(5), 999);
    assert_eq!(w.rtt, None);
    w.edge = 3000;
    w.sample_by_window(T + ms(10), 1000);
    assert_eq!(w.rtt, Some(ms(10)));
    w.sample_by_window(T + ms(90), 2999);
    assert_eq!(w.rtt, Some(ms(10)), "that window is not full");
    w.sample_by_window(T + ms(18), 3000);
    assert_eq!(w.rtt, Some(ms(8)));
}

/// A window under autotuning, whose rounds last 10 ms.
fn tuned(rcvbuf: u64) -> (Config, RecvWindow) {
    let cfg = Config { rmem: [4096, rcvbuf, 6 << 20], ..Config::default() };
    let w = in_rounds(&cfg);
    (cfg, w)
}

/// Dynamic right-sizing: twice what was taken in a round, sixteen segments, and while the rate grows what it will be two rounds from now.
#[test]
fn the_buffer_is_sized_by_what_the_application_takes() {
    let (cfg, mut w) = tuned(131_072);
    w.on_consumed(40_000);
    assert!(!w.adjust(&cfg, T + Duration::from_nanos(9_999_999), 40_000, 0, 1000, &PLENTY), "the round is not over");
    assert!(w.adjust(&cfg, T + ms(10), 40_000, 0, 1000, &PLENTY));
    // (2 * 40000 + 16 * 1000) and twice its share of growth, 30000 above a goal of 10000.
    assert_eq!((w.rcvbuf, w.space), (96_000 + 2 * 96_000 * 3, 40_000));
    w.on_consumed(80_000);
    assert!(!w.adjust(&cfg, T + ms(20), 80_000, 0, 1000, &PLENTY), "as much as before");
    w.on_consumed(125_000);
    assert!(!w.adjust(&cfg, T + ms(30), 125_000, 0, 1000, &PLENTY), "more, and there is room for it");
    assert_eq!((w.rcvbuf, w.space), (672_000, 45_000));
}

/// What waits behind a hole needs room of its own, the most that waited in the round; it counts as taken where the application keeps up.
#[test]
fn what_waits_behind_a_hole_has_room_too() {
    let (cfg, mut w) = tuned(20_000);
    w.on_consumed(10_000);
    assert!(!w.adjust(&cfg, T + ms(5), 11_000, 3000, 1000, &PLENTY));
    assert!(w.adjust(&cfg, T + ms(10), 11_000, 0, 1000, &PLENTY));
    assert_eq!((w.rcvbuf, w.space), (2 * 10_000 + 16_000 + 3000, 10_000), "an application that lags: what it took");
    let (cfg, mut w) = tuned(20_000);
    w.on_consumed(10_000);
    assert!(w.adjust(&cfg, T + ms(10), 10_000, 3000, 1000, &PLENTY));
    assert_eq!(w.space, 13_000, "one that keeps up: that, and what waits");
    let want = w.rcvbuf;
    // To the byte what there is: it did not grow.
    let (cfg, mut w) = tuned(20_000);
    (w.rcvbuf, w.space) = (want, 10_000);
    w.on_consumed(10_000);
    assert!(!w.adjust(&cfg, T + ms(10), 10_000, 3000, 1000, &PLENTY));
}

#[test]
fn a_buffer_that_is_set_or_under_pressure_does_not_grow() {
    let pressed = MemAccount { used: 2, pressure: 1, high: 3 };
    for (cfg, mem) in [
        (buffer(20_000), PLENTY),
        (Config { moderate_rcvbuf: false, ..tuned(20_000).0 }, PLENTY),
        (tuned(20_000).0, pressed),
    ] {
        let mut w = in_rounds(&cfg);
        w.on_consumed(40_000);
        assert!(!w.adjust(&cfg, T + ms(10), 40_000, 0, 1000, &mem));
        assert_eq!(w.rcvbuf, 20_000);
    }
}

fn policy() -> AckPolicy {
    AckPolicy::new(1460, T)
}

const RTO: Duration = Duration::from_millis(250);

/// Linux's `tcp_incr_quickack`: as many ACKs at once as half the window has segments, two at least and sixteen at most.
#[test]
fn quick_acks_are_for_half_a_window_of_segments() {
    for (window, max, want) in [(10_720, 16, 10), (0, 16, 2), (1 << 20, 16, 16), (1 << 20, 8, 8), (1 << 20, 99, 16)] {
        let mut p = AckPolicy { pingpong: true, ato: ms(90), ..policy() };
        p.enter_quick(window, max);
        assert_eq!((p.quick, p.pingpong, p.ato), (want, false, ATO_MIN), "{window} {max}");
    }
    let mut p = AckPolicy { quick: 12, ..policy() };
    p.enter_quick(0, 16);
    assert_eq!(p.quick, 12, "never fewer than before");
}

/// `tcp_measure_rcv_mss`: larger segments count at once; smaller ones where the sender was not merely out of data, and is not a terminal.
#[test]
fn the_peers_segment_size_follows_its_segments() {
    let mut p = policy();
    assert_eq!(p.rcv_mss, 536);
    for (len, psh, want) in
        [(1000, true, 1000), (600, true, 1000), (536, false, 536), (535, false, 536), (2920, false, 1460)]
    {
        p.on_data(T, len, psh, 0, 1460, RTO);
        assert_eq!(p.rcv_mss, want, "{len}, PSH {psh}");
    }
}

/// The gap between segments, as Linux's `tcp_event_data_recv` follows it.
#[test]
fn the_delay_follows_the_gap_between_segments() {
    let mut p = policy();
    p.on_data(T + ms(1), 1000, false, 20_000, 1460, RTO);
    assert_eq!((p.ato, p.quick, p.last_data, p.pending), (ATO_MIN, 10, T + ms(1), true), "the first one");
    for (gap, before, after, rto) in [
        (20, 100, 70, 250),
        (21, 100, 71, 250),
        (99, 100, 149, 250),
        (21, 100, 60, 60),
        (100, 100, 100, 250),
        (250, 100, 100, 250),
    ] {
        let mut p = AckPolicy { ato: ms(before), ..policy() };
        p.on_data(T + ms(gap), 1000, false, 20_000, 1460, ms(rto));
        assert_eq!((p.ato, p.quick), (ms(after), 0), "a gap of {gap} ms");
    }
    let mut p = AckPolicy { ato: ms(100), ..policy() };
    p.on_data(T + ms(251), 1000, false, 20_000, 1460, RTO);
    assert_eq!((p.ato, p.quick), (ms(100), 2), "after a silence two are acknowledged at once");
}

/// RFC 9293, 3.8.6.3: more than a segment is acknowledged at once; so is what is asked for at once, and what comes while ACKs are quick.
#[test]
fn one_segment_alone_waits_for_another() {
    let owing = || AckPolicy { pending: true, ato: ATO_MIN, ..policy() };
    let decided = |mut p: AckPolicy, unacked, at_once| {
        p.decide(T, unacked, at_once, None);
        (p.now, p.deadline)
    };
    assert_eq!(decided(owing(), 536, false), (false, Some(T + ATO_MIN)));
    assert_eq!(decided(owing(), 537, false), (true, None));
    assert_eq!(decided(owing(), 1, true), (true, None));
    assert_eq!(decided(AckPolicy { quick: 1, ..owing() }, 1, false), (true, None));
    assert_eq!(decided(AckPolicy { quick: 1, pingpong: true, ..owing() }, 1, false), (false, Some(T + ATO_MIN)));
    assert_eq!(decided(AckPolicy { pending: false, ..owing() }, 1000, true), (false, None), "nothing is owed");
    assert_eq!(
        decided(AckPolicy { deadline: Some(T), ..owing() }, 1, false),
        (false, Some(T)),
        "the first one's time holds"
    );
}

/// Linux's `tcp_send_delayed_ack`: a long delay is bounded by the round trip; RFC 1122, 4.2.3.2: "MUST be less than 0.5 seconds".
#[test]
fn a_delay_is_bounded() {
    for (ato, srtt, want) in [
        (40, Some(5), 40),
        (300, None, 200),
        (100, Some(60), 60),
        (100, Some(10), 40),
        (41, Some(5), 40),
        (100, Some(300), 100),
    ] {
        let mut p = AckPolicy { pending: true, ato: ms(ato), ..policy() };
        p.decide(T, 1, false, srtt.map(ms));
        assert_eq!(p.deadline, Some(T + ms(want)), "{ato} {srtt:?}");
    }
}

#[test]
fn a_delayed_ack_that_nothing_carried_ends_the_dialogue() {
    let due = |p| AckPolicy { pending: true, deadline: Some(T), ..p };
    let mut p = due(AckPolicy { pingpong: true, ato: ms(90), ..policy() });
    p.on_timeout(RTO);
    assert_eq!((p.pingpong, p.ato, p.now, p.deadline), (false, ATO_MIN, true, None));
    for (before, after) in [(40, 80), (200, 250)] {
        let mut p = due(AckPolicy { ato: ms(before), ..policy() });
        p.on_timeout(RTO);
        assert_eq!((p.ato, p.now), (ms(after), true), "one-way: it waits twice as long the next time, up to a timeout");
    }
    let mut p = AckPolicy { pending: false, ato: ms(90), ..due(policy()) };
    p.on_timeout(RTO);
    assert_eq!((p.ato, p.now, p.deadline), (ms(90), false, None));
}

#[test]
fn data_soon_after_data_is_a_dialogue() {
    for (with_data, ato, gap, want) in
        [(true, 40, 39, true), (true, 40, 40, false), (false, 40, 0, false), (true, 0, 0, false)]
    {
        let mut p = AckPolicy { ato: ms(ato), quick: 3, pending: true, now: true, deadline: Some(T), ..policy() };
        p.on_sent(with_data, T + ms(gap));
        assert_eq!((p.pingpong, p.quick), (want, 2), "{with_data} {ato} {gap}");
        assert_eq!((p.now, p.pending, p.deadline), (false, false, None));
        p.on_sent(with_data, T + ms(gap));
        assert_eq!(p.quick, 2, "nothing was owed");
    }
}
