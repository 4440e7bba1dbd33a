//! Millions of packets a second through fq on one core: `cargo run --release -p stackd-qdisc --example fq_bench`.

use stackd_base::{Instant, Rng, SplitMix64};
use stackd_qdisc::{Qdisc, QueuedPacket, config::FqConfig, fq::Fq};

/// As large as what the stack needs to queue a packet by reference.
#[derive(Debug)]
struct P {
    flow: u64,
    departure: Option<Instant>,
    _rest: [u64; 4],
}

impl QueuedPacket for P {
    fn wire_len(&self) -> u32 {
        1514
    }
    fn segments(&self) -> u32 {
        1
    }
    fn flow_hash(&self) -> u64 {
        self.flow.wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
    fn departure(&self) -> Option<Instant> {
        self.departure
    }
    fn priority(&self) -> u8 {
        0
    }
    fn max_pacing_rate(&self) -> u64 {
        u64::MAX
    }
    fn ecn_capable(&self) -> bool {
        false
    }
    fn mark_ce(&mut self) {}
    fn split_first(&mut self) -> Option<Self> {
        None
    }
    fn duplicate(&self) -> Option<Self> {
        None
    }
    fn corrupt(&mut self, _: u64) {}
}

/// Packets moved before each measurement.
const WARM_UP: u64 = 1_000_000;
/// Packets of a measurement.
const ROUND: u64 = 1_000_000;
/// Measurements: the best is what the code costs, the others what the neighbours on the machine took.
const ROUNDS: usize = 6;

/// When packets may leave.
#[derive(Clone, Copy)]
enum Pacing {
    /// At once.
    None,
    /// All flows have the same rate: departures are queued in order of time.
    Equal,
    /// Departures lie 0.5 to 1.5 mean gaps ahead: flows overtake each other, as flows of different rates do.
    Varied,
}

/// Mpps, best of all rounds, with `flows` flows; every flow sends its next packet when its last one left.
#[allow(clippy::disallowed_methods)] // A benchmark measures real time.
fn measure(flows: u64, pacing: Pacing) -> f64 {
    let config = FqConfig { limit: u32::MAX, buckets: 1 << 18, ..FqConfig::default() };
    let (mut q, mut rng, mut dropped) = (Fq::new(config), SplitMix64::new(1), Vec::new());
    let mut gaps = SplitMix64::new(2);
    let mut now = 1u64;
    let mut packet = |flow, now| {
        let departure = match pacing {
            Pacing::None => None,
            Pacing::Equal => Some(now + flows * 100),
            Pacing::Varied => Some(now + flows * 50 + gaps.next_u64() % (flows * 100)),
        };
        P { flow, departure: departure.map(Instant::from_nanos), _rest: [0; 4] }
    };
    for flow in 0..flows {
        q.enqueue(packet(flow, now), Instant::from_nanos(now), &mut rng, &mut dropped);
    }
    let mut best = f64::MAX;
    for round in 0..=ROUNDS {
        let start = std::time::Instant::now();
        let mut moved = 0;
        while moved < if round == 0 { WARM_UP } else { ROUND } {
            now += 100;
            if let Some(p) = q.dequeue(Instant::from_nanos(now), &mut rng, &mut dropped) {
                q.enqueue(packet(p.flow, now), Instant::from_nanos(now), &mut rng, &mut dropped);
                moved += 1;
            } else if let Some(t) = q.next_deadline() {
                now = now.max(t.as_nanos());
            }
        }
        if round > 0 {
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    ROUND as f64 / best / 1e6
}

fn main() {
    for (name, pacing) in [("not paced", Pacing::None), ("equal gaps", Pacing::Equal), ("varied gaps", Pacing::Varied)]
    {
        for flows in [1_000u64, 100_000, 1_000_000] {
            println!("{flows:>8} flows, {name:<11}: {:6.2} Mpps", measure(flows, pacing));
        }
    }
}
