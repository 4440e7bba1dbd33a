use super::*;
use crate::toy::Toy;
use stackd_base::Duration;

fn netem(text: &str) -> Netem<Toy> {
    let Ok(QdiscConfig::Netem(c)) = text.parse() else { panic!("{text}") };
    Netem::new(c)
}

/// Sends `n` packets a millisecond apart; (arrival, packet) in order of arrival, and the number lost.
fn run(text: &str, n: u64, seed: u64) -> (Vec<(Instant, Toy)>, usize) {
    let (mut q, mut rng, mut dropped, mut out) = (netem(text), SplitMix64::new(seed), Vec::new(), Vec::new());
    for id in 0..n {
        q.enqueue(Toy::new(0, id), Instant::from_nanos(id * 1_000_000), &mut rng, &mut dropped);
    }
    while let Some(at) = q.next_deadline() {
        out.push((at, q.dequeue(at, &mut rng, &mut dropped).expect("due")));
    }
    assert!(dropped.iter().all(|d| d.reason == DropReason::EmulatedLoss));
    (out, dropped.len())
}

/// Within five standard deviations of a binomial.
fn near(count: usize, n: u64, p: f64) -> bool {
    let (n, c) = (n as f64, count as f64);
    (c - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt()
}

const N: u64 = 50_000;

#[test]
fn rates_of_loss_duplication_and_corruption_are_what_was_asked() {
    for seed in 0..3 {
        let (_, lost) = run("netem limit 1000000 loss 1%", N, seed);
        assert!(near(lost, N, 0.01), "{lost}");
        let (out, lost) = run("netem limit 1000000 duplicate 2%", N, seed);
        assert!(lost == 0 && near(out.len() - N as usize, N, 0.02), "{}", out.len());
        let (out, _) = run("netem limit 1000000 corrupt 0.5%", N, seed);
        assert!(near(out.iter().filter(|(_, p)| p.corrupted).count(), N, 0.005));
    }
}

#[test]
fn gilbert_elliott_loses_its_stationary_share() {
    // p = 1 %, r = 10 %: in the bad state 1/11 of the time. Bursts correlate, so the bound is wider than a binomial's.
    let (_, lost) = run("netem limit 1000000 loss gemodel 1% 10% 100% 0%", N, 3);
    assert!((lost as f64 / N as f64 - 1.0 / 11.0).abs() < 0.01, "{lost}");
    let (_, lost) = run("netem limit 1000000 loss state 1% 10%", N, 3);
    assert!((lost as f64 / N as f64 - 1.0 / 11.0).abs() < 0.01, "{lost}");
}

#[test]
fn delays_have_their_mean_and_spread() {
    let spread = |text: &str| {
        let (out, _) = run(text, N, 5);
        let d: Vec<f64> = out.iter().map(|(at, p)| (at.as_nanos() - p.id * 1_000_000) as f64 / 1e6).collect();
        let mean = d.iter().sum::<f64>() / d.len() as f64;
        (mean, (d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d.len() as f64).sqrt())
    };
    let (mean, sd) = spread("netem limit 1000000 delay 100ms 10ms");
    assert!((mean - 100.0).abs() < 0.2 && (sd - 10.0 / 3f64.sqrt()).abs() < 0.1, "{mean} {sd}");
    let (mean, sd) = spread("netem limit 1000000 delay 100ms 10ms distribution normal");
    assert!((mean - 100.0).abs() < 0.3 && (sd - 10.0).abs() < 0.2, "{mean} {sd}");
}

#[test]
fn a_constant_delay_is_exact_and_keeps_order() {
    let (out, _) = run("netem limit 100000 delay 50ms", 1000, 1);
    assert!(
        out.iter().enumerate().all(|(i, (at, p))| p.id == i as u64 && at.as_nanos() == p.id * 1_000_000 + 50_000_000)
    );
}

#[test]
fn reordering_happens_as_often_as_asked_and_respects_the_gap() {
    let late = |out: &[(Instant, Toy)]| out.iter().filter(|(at, p)| at.as_nanos() == p.id * 1_000_000).count();
    let (out, _) = run("netem limit 1000000 delay 10ms reorder 5%", N, 2);
    assert!(near(late(&out), N, 0.05));
    let (out, _) = run("netem limit 1000000 delay 10ms reorder 100% gap 5", N, 2);
    assert_eq!(late(&out) as u64, N / 5);
}

#[test]
fn loss_strikes_segments_of_a_gso_packet_one_by_one() {
    let (mut q, mut rng, mut dropped) = (netem("netem limit 1000000 loss 10%"), SplitMix64::new(8), Vec::new());
    for id in 0..500 {
        q.enqueue(Toy { segments: 40, ..Toy::new(0, id) }, Instant::ZERO, &mut rng, &mut dropped);
    }
    assert!(near(dropped.len(), 20_000, 0.1) && dropped.len() + q.len() == 20_000);
    assert!(dropped.iter().all(|d| d.packet.segments == 1));
}

#[test]
fn the_rate_spaces_segments_and_the_limit_bounds_the_queue() {
    let (mut q, mut rng, mut dropped) = (netem("netem limit 10 rate 12mbit delay 5ms"), SplitMix64::new(8), Vec::new());
    q.enqueue(Toy { segments: 12, ..Toy::new(0, 0) }, Instant::ZERO, &mut rng, &mut dropped);
    assert_eq!((q.len(), dropped.len(), dropped[0].reason), (10, 2, DropReason::QdiscLimit));
    for i in 1..=10 {
        let at = q.next_deadline().expect("queued");
        assert_eq!(at, Instant::ZERO + Duration::from_millis(i + 5));
        assert!(q.dequeue(at - Duration::from_nanos(1), &mut rng, &mut dropped).is_none());
        assert!(q.dequeue(at, &mut rng, &mut dropped).is_some());
    }
}

#[test]
fn a_seed_makes_the_decisions_repeatable() {
    let ids =
        |seed| run("netem limit 1000000 loss 20% seed 7", 500, seed).0.iter().map(|(_, p)| p.id).collect::<Vec<_>>();
    assert_eq!(ids(1), ids(2));
}
