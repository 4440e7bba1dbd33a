use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

/// Sends `n` packets, one each `gap` ms from `start`.
fn send(e: &mut RateEstimator, start: u64, gap: u64, n: u64, in_flight: u32) -> Vec<(TxRateState, Instant, u64)> {
    (0..n).map(|i| (e.on_send(at(start + i * gap), in_flight + i as u32), at(start + i * gap), start + i)).collect()
}

fn deliver(e: &mut RateEstimator, sent: &[(TxRateState, Instant, u64)]) {
    for (tx, at, end) in sent {
        e.on_delivered(tx, *at, *end, 1, false);
    }
}

const RTT: Option<Duration> = Some(Duration::from_millis(100));

#[test]
fn a_flight_acked_evenly_measures_the_rate() {
    let mut e = RateEstimator::new(at(0));
    let first = send(&mut e, 0, 1, 10, 0);
    for (i, p) in first.iter().enumerate() {
        deliver(&mut e, core::slice::from_ref(p));
        e.sample(at(100 + i as u64), RTT);
    }
    // The second flight leaves one packet an ms, as the ACKs came.
    let second = send(&mut e, 110, 1, 10, 1);
    deliver(&mut e, &second[..1]);
    e.sample(at(210), RTT);
    deliver(&mut e, &second[1..]);
    let s = e.sample(at(219), RTT);
    assert_eq!((s.delivered, s.interval), (Some(10), Some(Duration::from_millis(110))));
}

#[test]
fn a_send_burst_is_measured_by_its_acks_and_compressed_acks_by_the_sending() {
    let mut e = RateEstimator::new(at(0));
    // Ten packets over 90 ms, all acked at one instant 100 ms after the last left: the ACK phase is 190 ms, not 0.
    let p = send(&mut e, 0, 10, 10, 0);
    deliver(&mut e, &p);
    let s = e.sample(at(190), RTT);
    assert_eq!((s.delivered, s.interval), (Some(10), Some(Duration::from_millis(190))));
}

#[test]
fn an_interval_shorter_than_the_min_rtt_is_invalid() {
    // A spurious retransmission acked by its first copy.
    let mut e = RateEstimator::new(at(0));
    let _first = e.on_send(at(0), 0);
    deliver(&mut e, &[]);
    let again = e.on_send(at(99), 0);
    e.on_delivered(&again, at(99), 1, 1, true);
    let s = e.sample(at(101), RTT);
    assert_eq!((s.delivered, s.interval, s.is_retrans), (None, None, true));
    assert_eq!(e.delivery_rate(1000), None);
}

#[test]
fn the_newest_transmission_decides_whatever_order_sacks_come_in() {
    let mut e = RateEstimator::new(at(0));
    let p = send(&mut e, 0, 10, 3, 0);
    deliver(&mut e, &[p[2], p[0], p[1]]);
    let s = e.sample(at(200), RTT);
    assert_eq!(s.prior_delivered, p[2].0.delivered);
    assert_eq!(e.first_sent_at, p[2].1);
}

#[test]
fn idle_time_is_no_part_of_a_sample() {
    let mut e = RateEstimator::new(at(0));
    let p = send(&mut e, 0, 1, 1, 0);
    deliver(&mut e, &p);
    e.sample(at(100), RTT);
    let p = send(&mut e, 60_000, 1, 1, 0);
    deliver(&mut e, &p);
    assert_eq!(e.sample(at(60_100), RTT).interval, RTT);
}

#[test]
fn the_app_limited_mark_lasts_until_the_bubble_is_acked() {
    let mut e = RateEstimator::new(at(0));
    let p = send(&mut e, 0, 1, 2, 0);
    e.mark_app_limited(2);
    let limited = send(&mut e, 10, 1, 1, 2);
    assert!(limited[0].0.is_app_limited && !p[0].0.is_app_limited);
    deliver(&mut e, &p);
    assert!(!e.sample(at(110), RTT).is_app_limited && e.is_app_limited());
    deliver(&mut e, &limited);
    assert!(e.sample(at(120), RTT).is_app_limited);
    assert!(!e.is_app_limited());
}

#[test]
fn an_app_limited_sample_shows_only_when_it_is_faster() {
    let mut e = RateEstimator::new(at(0));
    let p = send(&mut e, 0, 0, 10, 0);
    deliver(&mut e, &p);
    e.sample(at(100), RTT);
    let before = e.delivery_rate(1000);
    assert_eq!(before, Some((Bandwidth::from_bytes_per_sec(100_000), false)));
    e.mark_app_limited(0);
    let p = send(&mut e, 200, 0, 1, 0);
    deliver(&mut e, &p);
    e.sample(at(300), RTT);
    assert_eq!(e.delivery_rate(1000), before);
}

/// Shipped bug 6: off by one: a packet's own delivery belongs to its sample, what was delivered before it left does not.
#[test]
fn a_single_packet_is_one_packet_per_round_trip() {
    let mut e = RateEstimator::new(at(0));
    for round in 0..5 {
        let p = send(&mut e, round * 100, 0, 1, 0);
        deliver(&mut e, &p);
        let s = e.sample(at(round * 100 + 100), RTT);
        assert_eq!((s.delivered, s.prior_delivered, s.interval), (Some(1), round, RTT));
    }
}

/// Shipped bug 10: a coarse clock.
#[test]
fn zero_is_one_tick_or_no_measurement() {
    let tick = Duration::from_millis(10);
    assert_eq!(at_least_one_tick(Duration::ZERO, Some(tick)), Some(tick));
    assert_eq!(at_least_one_tick(Duration::ZERO, None), None);
    assert_eq!(at_least_one_tick(Duration::from_millis(3), None), Some(Duration::from_millis(3)));
    assert_eq!(at_least_one_tick(Duration::ZERO, Some(Duration::ZERO)), Some(Duration::from_nanos(1)));
}

#[test]
fn an_ack_of_nothing_is_no_sample() {
    let mut e = RateEstimator::new(at(0));
    let _ = e.on_send(at(0), 0);
    let s = e.sample(at(50), RTT);
    assert_eq!((s.delivered, s.interval, s.acked_sacked), (None, None, 0));
}
