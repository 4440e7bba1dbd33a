//! Millions of packets a second through fq on one core: `cargo run --release -p stackd-qdisc --example fq_bench`.

use stackd_base::{Instant, SplitMix64};
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

#[allow(clippy::disallowed_methods)] // A benchmark measures real time.
fn main() {
    for paced in [false, true] {
        for flows in [1_000u64, 100_000, 1_000_000] {
            let config = FqConfig { limit: u32::MAX, buckets: 1 << 18, ..FqConfig::default() };
            let (mut q, mut rng, mut dropped) = (Fq::new(config), SplitMix64::new(1), Vec::new());
            let mut now = 1u64;
            let packet =
                |flow, now| P { flow, departure: paced.then(|| Instant::from_nanos(now + flows * 100)), _rest: [0; 4] };
            for flow in 0..flows {
                q.enqueue(packet(flow, now), Instant::from_nanos(now), &mut rng, &mut dropped);
            }
            let rounds = 4_000_000u64;
            let start = std::time::Instant::now();
            let mut moved = 0;
            while moved < rounds {
                now += 100;
                if let Some(p) = q.dequeue(Instant::from_nanos(now), &mut rng, &mut dropped) {
                    q.enqueue(packet(p.flow, now), Instant::from_nanos(now), &mut rng, &mut dropped);
                    moved += 1;
                } else if let Some(t) = q.next_deadline() {
                    now = now.max(t.as_nanos());
                }
            }
            let rate = rounds as f64 / start.elapsed().as_secs_f64() / 1e6;
            println!("{flows:>8} flows, {}: {rate:6.2} Mpps", if paced { "paced    " } else { "not paced" });
        }
    }
}
