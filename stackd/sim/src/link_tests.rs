use super::*;
use stackd_wire::{EcnCodepoint, TcpRepr};

/// A GSO frame of `n` segments of 1000 bytes of payload starting at `from`; 1078 bytes of wire time each.
fn frame(from: u64, n: u64) -> Frame {
    Frame {
        repr: TcpRepr::default(),
        payload: from..from + n * 1000,
        gso_size: 1000,
        ecn: EcnCodepoint::Ect0,
        departure: None,
        corrupted: false,
    }
}

fn send(link: &mut Link, now: Instant, f: &Frame) -> Vec<(Instant, Frame)> {
    let mut out = Vec::new();
    link.offer(now, f, |at, part| out.push((at, part)));
    out
}

fn gbit() -> LinkConfig {
    LinkConfig {
        rate: Some(Bandwidth::from_bits_per_sec(1_000_000_000)),
        delay: Duration::from_millis(1),
        ..LinkConfig::default()
    }
}

#[test]
fn a_frame_arrives_after_its_last_bit_and_the_delay_and_queues_behind_others() {
    let mut l = Link::new(gbit(), 1);
    let wire = Duration::from_nanos(1078 * 8);
    let a = send(&mut l, Instant::ZERO, &frame(0, 10));
    assert_eq!(a[0].0, Instant::ZERO + wire * 10 + Duration::from_millis(1));
    let b = send(&mut l, Instant::ZERO, &frame(10_000, 1));
    assert_eq!(b[0].0 - a[0].0, wire);
}

#[test]
fn loss_strikes_single_segments_inside_a_gso_frame() {
    let loss = Loss::Random(Probability::from_fraction(0.02));
    let mut l = Link::new(LinkConfig { loss, ..gbit() }, 7);
    let mut partial = 0;
    for i in 0..1000 {
        let f = frame(i * 40_000, 40);
        let got: u64 = send(&mut l, Instant::ZERO, &f).iter().map(|(_, p)| p.payload.end - p.payload.start).sum();
        partial += u64::from(got > 0 && got < 40_000);
    }
    let s = l.stats();
    assert!((700..900).contains(&s.lost), "{s:?}");
    assert_eq!(s.lost + s.delivered, s.offered);
    assert!(partial > 400, "{partial}"); // 1 - 0.98^40 = 55 % of frames lose a part
}

#[test]
fn a_full_queue_drops_the_tail_segment_by_segment() {
    let mut l = Link::new(LinkConfig { limit_bytes: Some(1078 * 10), ..gbit() }, 1);
    let out = send(&mut l, Instant::ZERO, &frame(0, 16));
    assert_eq!((out.len(), out[0].1.payload.clone()), (1, 0..10_000));
    assert_eq!(l.stats().overflowed, 6);
    let mut l = Link::new(LinkConfig { limit_packets: Some(4), ..gbit() }, 1);
    send(&mut l, Instant::ZERO, &frame(0, 3));
    send(&mut l, Instant::ZERO, &frame(3_000, 3));
    assert_eq!(l.stats().overflowed, 2);
    // Half a millisecond later the queue is empty again.
    send(&mut l, Instant::from_nanos(500_000), &frame(6_000, 4));
    assert_eq!(l.stats().overflowed, 2);
}

#[test]
fn every_segment_has_one_fate_and_order_only_breaks_on_purpose() {
    let p = Probability::from_fraction;
    let cfg = LinkConfig {
        loss: Loss::Random(p(0.05)),
        corrupt: p(0.05),
        reorder: p(0.05),
        reorder_by: Duration::from_millis(3),
        duplicate: p(0.05),
        jitter: Duration::from_millis(1),
        ..gbit()
    };
    let mut l = Link::new(cfg, 3);
    let mut all = Vec::new();
    for i in 0..200 {
        all.extend(send(&mut l, Instant::from_nanos(i * 1_000_000), &frame(i * 20_000, 20)));
    }
    let s = l.stats();
    assert_eq!(s.offered, s.delivered + s.lost + s.corrupted + s.overflowed);
    let arrived: u64 = all.iter().map(|(_, f)| u64::from(f.segments())).sum();
    assert_eq!(arrived, s.delivered + s.duplicated);
    all.sort_by_key(|(at, _)| *at);
    let inversions = all.windows(2).filter(|w| w[1].1.payload.start < w[0].1.payload.start).count() as u64;
    assert!(inversions > 0 && inversions <= s.reordered, "{inversions} {s:?}");
}

#[test]
fn a_standing_queue_marks_what_can_be_marked() {
    let mut l = Link::new(LinkConfig { ce_threshold: Some(Duration::from_micros(50)), ..gbit() }, 1);
    assert_eq!(send(&mut l, Instant::ZERO, &frame(0, 10))[0].1.ecn, EcnCodepoint::Ect0);
    assert_eq!(send(&mut l, Instant::ZERO, &frame(10_000, 1))[0].1.ecn, EcnCodepoint::Ce);
    let not_ect = Frame { ecn: EcnCodepoint::NotEct, ..frame(11_000, 1) };
    assert_eq!(send(&mut l, Instant::ZERO, &not_ect)[0].1.ecn, EcnCodepoint::NotEct);
}
