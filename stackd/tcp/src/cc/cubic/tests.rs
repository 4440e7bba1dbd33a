use super::super::testpath::{ack, config, rng};
use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A window that lost at 1000 packets, in congestion avoidance since 0 ms.
fn after_loss_at_1000() -> Cubic {
    let mut c = Cubic::new(&config());
    c.window.cwnd = 1000;
    c.on_event(CcEvent::EnterRecovery { now: at(0), in_flight: 1000, reduces: true }, &mut rng());
    c.on_event(CcEvent::ExitRecovery { now: at(0) }, &mut rng());
    c
}

/// One full window of ACKs each RTT.
fn run(c: &mut Cubic, from_ms: u64, to_ms: u64, rtt_ms: u64) {
    let mut now = from_ms;
    while now < to_ms {
        let window = c.control().cwnd;
        let mut s = ack(at(now), window);
        s.min_rtt = Some(Duration::from_millis(rtt_ms));
        c.on_ack(&s, &mut rng());
        now += rtt_ms;
    }
}

#[test]
fn a_loss_costs_thirty_percent() {
    let c = after_loss_at_1000();
    assert_eq!((c.control().cwnd, c.control().ssthresh), (700, 700));
}

#[test]
fn the_window_is_back_at_w_max_after_k_seconds() {
    // K = cbrt(300 / 0.4) = 9.09 s
    let mut c = after_loss_at_1000();
    run(&mut c, 0, 9_100, 100);
    assert!((985..=1002).contains(&c.control().cwnd), "{}", c.control().cwnd);
    run(&mut c, 9_100, 18_200, 100);
    assert!((1250..=1340).contains(&c.control().cwnd), "convex past the plateau: {}", c.control().cwnd);
}

#[test]
fn growth_does_not_depend_on_the_rtt() {
    let (mut short, mut long) = (after_loss_at_1000(), after_loss_at_1000());
    run(&mut short, 0, 12_000, 50);
    run(&mut long, 0, 12_000, 200);
    assert!(short.control().cwnd.abs_diff(long.control().cwnd) < 40);
}

#[test]
fn on_a_short_path_it_grows_as_reno_would() {
    // 1 ms RTT, small window: the cubic curve is flat, W_est must carry it. Reno-friendly: +0.53 packets
    // per RTT up to the 20 of before (11 RTTs), then +1.
    let mut c = Cubic::new(&config());
    c.window.cwnd = 20;
    c.on_event(CcEvent::EnterRecovery { now: at(0), in_flight: 20, reduces: true }, &mut rng());
    c.on_event(CcEvent::ExitRecovery { now: at(0) }, &mut rng());
    let before = c.control().cwnd;
    run(&mut c, 0, 20, 1);
    let grown = c.control().cwnd - before;
    assert!((12..=16).contains(&grown), "{grown}");
}

#[test]
fn fast_convergence_gives_way_when_losses_come_below_w_max() {
    let mut c = after_loss_at_1000();
    c.on_event(CcEvent::EnterRecovery { now: at(500), in_flight: 700, reduces: true }, &mut rng());
    // (1 + 0.7) / 2 * 700
    assert!((c.w_max - 595.1).abs() < 1.0, "{}", c.w_max);
}

#[test]
fn after_a_timeout_the_plateau_is_where_avoidance_begins() {
    let mut c = after_loss_at_1000();
    let ctl = c.on_event(CcEvent::Rto { now: at(500), in_flight: 0, reduces: true }, &mut rng());
    assert_eq!((ctl.cwnd, ctl.ssthresh), (1, 490));
    assert_eq!(c.w_max, 0.0);
}

#[test]
fn an_undo_restores_window_threshold_and_plateau() {
    let mut c = after_loss_at_1000();
    run(&mut c, 0, 1_000, 100);
    let before = (c.control(), c.w_max);
    c.on_event(CcEvent::EnterRecovery { now: at(1_000), in_flight: 700, reduces: true }, &mut rng());
    c.on_event(CcEvent::Undo { now: at(1_050) }, &mut rng());
    assert_eq!((c.control(), c.w_max), before);
}

#[test]
fn idle_time_is_no_time_on_the_curve() {
    let (mut busy, mut idle) = (after_loss_at_1000(), after_loss_at_1000());
    run(&mut busy, 0, 6_000, 100);
    run(&mut idle, 0, 3_000, 100);
    idle.on_event(CcEvent::TxStart { now: at(62_900), app_limited: true }, &mut rng());
    run(&mut idle, 63_000, 66_000, 100);
    assert!(busy.control().cwnd.abs_diff(idle.control().cwnd) <= 5);
}

#[test]
fn the_window_holds_during_recovery() {
    let mut c = after_loss_at_1000();
    let mut s = ack(at(10), 500);
    s.ca_state = super::super::CaState::Recovery;
    assert_eq!(c.on_ack(&s, &mut rng()).cwnd, 700);
}

/// RFC 9438, 4.3: alpha becomes 1 when W_est reaches cwnd_prior, the window before the reduction. The plateau that fast convergence had
/// lowered was taken for it: the flow that should give way grew as fast as Reno too early.
#[test]
fn rfc9438_reno_growth_begins_at_the_window_before_the_reduction() {
    let mut c = after_loss_at_1000();
    c.on_event(CcEvent::EnterRecovery { now: at(500), in_flight: 700, reduces: true }, &mut rng());
    c.on_event(CcEvent::ExitRecovery { now: at(500) }, &mut rng());
    assert_eq!(c.cwnd_prior, 700.0);
    assert!(c.w_max < 600.0);
}

/// RFC 9438, 4.9.1: the stage goes on where it was: its time too.
#[test]
fn rfc9438_an_undo_goes_on_with_the_same_stage() {
    let (mut undone, mut never) = (after_loss_at_1000(), after_loss_at_1000());
    run(&mut undone, 0, 6_000, 100);
    run(&mut never, 0, 6_000, 100);
    undone.on_event(CcEvent::EnterRecovery { now: at(6_000), in_flight: 700, reduces: true }, &mut rng());
    undone.on_event(CcEvent::Undo { now: at(6_050) }, &mut rng());
    run(&mut undone, 6_050, 9_050, 100);
    run(&mut never, 6_050, 9_050, 100);
    assert!(undone.control().cwnd.abs_diff(never.control().cwnd) <= 2, "{:?} {:?}", undone.control(), never.control());
}

/// RFC 9438, 4.2: never more than half the window again per round trip, however far the curve has run ahead.
#[test]
fn rfc9438_growth_is_bounded_by_half_a_window_a_round_trip() {
    let mut c = after_loss_at_1000();
    run(&mut c, 0, 100, 100);
    let before = c.control().cwnd;
    // A minute later, without a TxStart: the curve is at 50 times the window.
    run(&mut c, 60_000, 60_100, 100);
    assert!(c.control().cwnd <= before + before / 2 + 1, "{} {before}", c.control().cwnd);
    assert!(c.control().cwnd > before + before / 4);
}

/// RFC 9406, 4.3: the slow start after a loss is an ordinary one.
#[test]
fn rfc9406_only_the_initial_slow_start_is_watched() {
    let mut c = Cubic::new(&config());
    c.on_event(CcEvent::Rto { now: at(0), in_flight: 0, reduces: true }, &mut rng());
    c.window.ssthresh = 1_000;
    for round in 0..4u64 {
        for _ in 0..20 {
            let mut s = ack(at(100 * round), 4);
            (s.prior_delivered, s.delivered_total) = (round * 100, round * 100 + 100);
            s.rtt = Some(Duration::from_millis(40 + 20 * round));
            c.on_ack(&s, &mut rng());
        }
    }
    assert_eq!((c.control().cwnd, c.control().ssthresh), (1 + 320, 1_000));
}
