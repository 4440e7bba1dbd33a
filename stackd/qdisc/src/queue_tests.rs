//! pfifo, bfifo, pfifo_fast and tbf in virtual time.

use crate::toy::Toy;
use crate::{Qdisc, build};
use stackd_base::{DropReason, Duration, Instant, SplitMix64};

fn make(text: &str) -> Box<dyn Qdisc<Toy>> {
    build(&text.parse().expect(text)).expect(text)
}

#[test]
fn fifos_keep_order_and_limits_and_bands() {
    for (text, kept) in [("pfifo limit 3", 3), ("bfifo limit 4500", 3), ("noqueue", 5)] {
        let (mut q, mut rng, mut dropped) = (make(text), SplitMix64::new(0), Vec::new());
        (0..5).for_each(|i| q.enqueue(Toy::new(0, i), Instant::ZERO, &mut rng, &mut dropped));
        let out: Vec<_> =
            std::iter::from_fn(|| q.dequeue(Instant::ZERO, &mut rng, &mut dropped)).map(|p| p.id).collect();
        assert_eq!((out, dropped.len()), ((0..kept).collect(), 5 - kept as usize), "{text}");
        assert!(dropped.iter().all(|d| d.reason == DropReason::QdiscLimit) && q.next_deadline().is_none());
    }
    let (mut q, mut rng, mut dropped) = (make("pfifo_fast"), SplitMix64::new(0), Vec::new());
    for (id, priority) in [(0, 2), (1, 0), (2, 6)] {
        q.enqueue(Toy { priority, ..Toy::new(0, id) }, Instant::ZERO, &mut rng, &mut dropped);
    }
    let out: Vec<_> = std::iter::from_fn(|| q.dequeue(Instant::ZERO, &mut rng, &mut dropped)).map(|p| p.id).collect();
    assert_eq!(out, [2, 1, 0]);
}

#[test]
fn a_token_bucket_lets_a_burst_go_and_then_keeps_the_rate_exactly() {
    // 1500 bytes at 12 Mbit/s take a millisecond; the bucket holds two.
    let (mut q, mut rng, mut dropped) =
        (make("tbf rate 12mbit burst 3000 limit 15000"), SplitMix64::new(0), Vec::new());
    let (mut now, mut times) = (Instant::from_nanos(1_000_000_000), Vec::new());
    let start = now;
    q.enqueue(Toy { segments: 12, ..Toy::new(0, 0) }, now, &mut rng, &mut dropped);
    assert_eq!((dropped.iter().map(|d| d.packet.segments).sum::<u32>(), q.stats().backlog), (2, 15_000));
    while let Some(at) = q.next_deadline() {
        now = now.max(at);
        let p = q.dequeue(now, &mut rng, &mut dropped).expect("due");
        times.push(((now - start).as_millis(), p.segments));
    }
    assert_eq!(times[0], (0, 1));
    assert_eq!(times.iter().map(|t| t.1).sum::<u32>(), 10);
    assert_eq!(now - start, Duration::from_millis(8));
}
