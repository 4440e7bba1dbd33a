use super::*;
use crate::toy::Toy;
use stackd_base::{Duration, SplitMix64};

struct Bench {
    q: Fq<Toy>,
    now: Instant,
    rng: SplitMix64,
    dropped: Vec<Dropped<Toy>>,
}

impl Bench {
    fn new(text: &str) -> Self {
        let Ok(QdiscConfig::Fq(c)) = text.parse() else { panic!("{text}") };
        let now = Instant::from_nanos(1_000_000_000);
        Self { q: Fq::new(c), now, rng: SplitMix64::new(1), dropped: Vec::new() }
    }
    fn put(&mut self, p: Toy) {
        self.q.enqueue(p, self.now, &mut self.rng, &mut self.dropped);
    }
    fn get(&mut self) -> Option<Toy> {
        self.q.dequeue(self.now, &mut self.rng, &mut self.dropped)
    }
    /// Everything, waiting for each deadline: (time, packet).
    fn run(&mut self) -> Vec<(Instant, Toy)> {
        let mut out = Vec::new();
        loop {
            while let Some(p) = self.get() {
                out.push((self.now, p));
            }
            match self.q.next_deadline() {
                Some(t) => {
                    assert!(t > self.now, "a deadline in the past must yield a packet");
                    self.now = t;
                }
                None => return out,
            }
        }
    }
    fn fq(&self) -> FqStats {
        let KindStats::Fq(s) = self.q.stats().kind else { panic!("not fq") };
        s
    }
}

#[test]
fn flows_share_by_bytes_whatever_their_packet_sizes() {
    let mut b = Bench::new("fq flow_limit 2000 initial_quantum 1500 quantum 3000");
    for i in 0..1000 {
        b.put(Toy { len: 1500, ..Toy::new(1, i) });
        b.put(Toy { len: 300, ..Toy::new(2, i) });
    }
    let mut sent = [0u64; 3];
    for _ in 0..600 {
        let p = b.get().expect("backlogged");
        sent[p.flow as usize] += u64::from(p.len);
    }
    assert!(sent[1].abs_diff(sent[2]) <= 2 * 3000, "{sent:?}");
}

#[test]
fn a_new_flow_goes_before_old_ones() {
    let mut b = Bench::new("fq initial_quantum 1500 quantum 1500");
    (0..50).for_each(|i| b.put(Toy::new(1, i)));
    b.get();
    b.get();
    b.put(Toy::new(2, 100));
    assert_eq!(b.get().map(|p| p.flow), Some(2));
}

#[test]
fn packets_leave_at_their_departure_time_exactly_and_in_its_order() {
    let mut b = Bench::new("fq horizon 20s");
    let mut times: Vec<u64> = (0..500).map(|i| i * 37_003 % 500_000).collect();
    for (i, t) in times.iter().enumerate() {
        b.put(Toy { departure: Some(b.now + Duration::from_nanos(*t + 1)), ..Toy::new(i as u64 % 50, i as u64) });
    }
    times.sort_unstable();
    let start = b.now;
    let out = b.run();
    assert!(out.iter().all(|(at, p)| Some(*at) == p.departure));
    assert_eq!(out.iter().map(|(at, _)| (*at - start).as_nanos() - 1).collect::<Vec<_>>(), times);
    assert!(b.fq().throttled > 0 && b.fq().unthrottle_latency_ns == 0);
}

#[test]
fn a_socket_rate_is_kept_exactly() {
    // 1500 bytes at 1.5 MB/s: one a millisecond, once the initial credit is used up.
    let mut b = Bench::new("fq initial_quantum 1500 quantum 1500 flow_limit 1000 low_rate_threshold 0bit");
    (0..100).for_each(|i| b.put(Toy { rate: 1_500_000, ..Toy::new(1, i) }));
    let out = b.run();
    for pair in out.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, Duration::from_millis(1));
    }
}

#[test]
fn maxrate_holds_for_paced_packets_too_and_long_gaps_are_cut() {
    let mut b = Bench::new("fq maxrate 800bit");
    (0..3).for_each(|i| b.put(Toy { departure: Some(b.now), ..Toy::new(1, i) }));
    let out = b.run();
    assert_eq!(out[1].0 - out[0].0, Duration::from_secs(1));
    assert_eq!(b.fq().pkts_too_long, 3);
}

#[test]
fn limits_count_and_drop_the_newcomer() {
    let mut b = Bench::new("fq limit 5 flow_limit 3");
    (0..4).for_each(|i| b.put(Toy::new(1, i)));
    (0..4).for_each(|i| b.put(Toy::new(2, i)));
    let reasons: Vec<_> = b.dropped.iter().map(|d| (d.packet.flow, d.packet.id, d.reason)).collect();
    use DropReason::{QdiscFlowLimit, QdiscLimit};
    assert_eq!(reasons, [(1, 3, QdiscFlowLimit), (2, 2, QdiscLimit), (2, 3, QdiscLimit)]);
    assert_eq!((b.fq().flows_plimit, b.q.stats().drops, b.q.stats().backlog), (1, 3, 7500));
}

#[test]
fn the_horizon_drops_or_caps() {
    let mut b = Bench::new("fq horizon 1s");
    let late = Toy { departure: Some(b.now + Duration::from_secs(2)), ..Toy::new(1, 0) };
    b.put(late.clone());
    assert_eq!((b.dropped[0].reason, b.fq().horizon_drops), (DropReason::QdiscHorizon, 1));
    let mut b = Bench::new("fq horizon 1s horizon_cap");
    let start = b.now;
    b.put(late);
    assert_eq!((b.run()[0].0 - start, b.fq().horizon_caps), (Duration::from_secs(1), 1));
}

#[test]
fn control_packets_pass_everything() {
    let mut b = Bench::new("fq");
    (0..10).for_each(|i| b.put(Toy::new(1, i)));
    b.put(Toy { priority: 7, ..Toy::new(1, 99) });
    assert_eq!((b.get().map(|p| p.id), b.fq().highprio_packets), (Some(99), 1));
}

#[test]
fn waiting_beyond_the_threshold_marks_ce() {
    let mut b = Bench::new("fq ce_threshold 1ms");
    b.put(Toy { ect: true, ..Toy::new(1, 0) });
    b.put(Toy { ect: true, ..Toy::new(1, 1) });
    assert_eq!(b.get().map(|p| p.ce), Some(false));
    b.now += Duration::from_millis(2);
    assert_eq!((b.get().map(|p| p.ce), b.fq().ce_mark), (Some(true), 1));
}

#[test]
fn idle_flows_are_forgotten() {
    let mut b = Bench::new("fq buckets 8");
    for i in 0..1000 {
        b.put(Toy::new(i, i));
        b.run();
    }
    // The last flow is found to be empty by the next dequeue.
    assert_eq!((b.fq().flows, b.fq().inactive_flows), (1000, 999));
    b.now += Duration::from_secs(10);
    for i in 1000..2000 {
        b.put(Toy::new(i, i));
        b.run();
    }
    assert_eq!((b.fq().gc_flows, b.fq().flows), (999, 1001));
}

/// Random traffic against a plain count: nothing is lost, doubled or reordered within a flow, with the table growing and shrinking.
#[test]
fn nothing_is_lost_or_reordered_within_a_flow() {
    let mut b = Bench::new("fq buckets 8 limit 100000");
    let mut rng = SplitMix64::new(42);
    let (mut sent, mut got, mut last) = (0u64, 0u64, std::collections::HashMap::new());
    for _ in 0..20_000 {
        if rng.chance(u32::MAX / 2) {
            b.put(Toy { rate: 1_000_000 + u64::from(rng.below(100_000_000)), ..Toy::new(rng.next_u64() % 700, sent) });
            sent += 1;
        } else if let Some(p) = b.get() {
            assert!(last.insert(p.flow, p.id).is_none_or(|before| before < p.id));
            got += 1;
        } else {
            b.now += Duration::from_micros(u64::from(rng.below(4_000_000)));
        }
    }
    for (_, p) in b.run() {
        assert!(last.insert(p.flow, p.id).is_none_or(|before| before < p.id));
        got += 1;
    }
    assert!(b.fq().gc_flows > 0);
    assert_eq!((sent, b.q.stats().backlog, b.q.len()), (got + b.dropped.len() as u64, 0, 0));
}

#[test]
fn replacing_and_shrinking_lose_only_what_does_not_fit() {
    let mut b = Bench::new("fq");
    for i in 0..60 {
        b.put(Toy { departure: (i % 2 == 0).then_some(b.now + Duration::from_millis(60 - i)), ..Toy::new(i % 7, i) });
    }
    let mut new = crate::build::<Toy>(&"pfifo limit 50".parse().expect("valid")).expect("valid");
    let kept = crate::replace(&mut b.q, &mut *new, b.now, &mut b.rng, &mut b.dropped);
    assert_eq!((kept, new.len(), b.q.len(), b.dropped.len()), (50, 50, 0, 10));
    assert!(b.dropped.iter().all(|d| d.reason == DropReason::QdiscReplaced));
    b.dropped.clear();
    (0..60).for_each(|i| b.put(Toy::new(i % 7, i)));
    b.q.change(&"fq limit 20".parse().expect("valid"), b.now, &mut b.dropped).expect("same kind");
    assert_eq!((b.q.len(), b.dropped.len(), b.run().len()), (20, 40, 20));
    assert!(b.q.change(&QdiscConfig::NoQueue, b.now, &mut b.dropped).is_err());
}
