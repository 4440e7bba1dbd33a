//! From a seed to a scenario.

use super::kinds::{BoxKind, Flow, Impairment, Kind};
use super::{Scenario, rng, tuning};
use crate::loss::{GilbertElliott, Probability};
use crate::net::app::{Dialogue, Ending, Plan, Reading, Writing};
use crate::net::middlebox::Strip;
use stackd_base::{Bandwidth, Duration, Instant, Rng};

/// Virtual time does not begin at the origin: a zero timestamp must not be special to anybody.
pub(super) const START: Instant = Instant::from_nanos(1_000_000_000);

/// Label of what ends a path for good.
pub(super) const VANISH: &str = "vanish";

/// Between `from` and `to`, every order of magnitude as likely as another.
fn magnitude(r: &mut dyn Rng, from: u64, to: u64) -> u64 {
    let (lo, hi) = ((from.max(1) as f64).ln(), (to.max(1) as f64).ln());
    let x = f64::from(r.next_u32()) / 4_294_967_296.0;
    ((lo + (hi - lo) * x).exp() as u64).clamp(from, to)
}

fn one_in(r: &mut dyn Rng, n: u32) -> bool {
    r.below(n) == 0
}

/// Up to `most` ten-thousandths.
fn chance(r: &mut dyn Rng, most: u32) -> Probability {
    Probability::from_fraction(f64::from(1 + r.below(most)) / 10_000.0)
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut r = rng(seed, "world");
        let rate = Bandwidth::from_bits_per_sec(magnitude(&mut r, 300_000, 1_000_000_000));
        let rtt = Duration::from_micros(magnitude(&mut r, 20, 300_000));
        let v6 = one_in(&mut r, 2);
        let (clients, servers) = (1 + r.below(2) as u8, 1 + r.below(2) as u8);
        let mtus = [1280, 1400, 1500, 1500, 1500, 9000, 65_535];
        let mtu = [mtus[r.below(7) as usize], mtus[r.below(7) as usize]];
        let impairments = impairments(seed, v6, rtt, mtu);
        let nat = impairments.iter().any(|i| matches!(i.kind, Kind::Box { kind: BoxKind::Nat, .. }));
        let count = 1 + r.below(3) as u16;
        let flows = (0..count).map(|id| flow(seed, id, clients, servers, !nat)).collect();
        let mut tunings = tuning::generate(seed, START);
        if impairments.iter().any(|i| matches!(i.kind, Kind::Box { kind: BoxKind::BlackHole(..), .. })) {
            tuning::probe_for_black_holes(seed, START, &mut tunings);
        }
        let expect_all_complete = false;
        Self { seed, v6, rate, rtt, clients, servers, mtu, impairments, tunings, flows, expect_all_complete }
    }
}

/// An impairment in one of so many scenarios.
struct Draw {
    seed: u64,
    out: Vec<Impairment>,
}

impl Draw {
    fn one_in(&mut self, n: u32, label: &'static str, make: impl FnOnce(&mut dyn Rng) -> Kind) {
        let mut r = rng(self.seed, label);
        if one_in(&mut r, n) {
            self.out.push(Impairment { label, kind: make(&mut r) });
        }
    }

    fn box_in(&mut self, n: u32, label: &'static str, make: impl FnOnce(&mut dyn Rng) -> BoxKind) {
        self.one_in(n, label, |r| Kind::Box { before: one_in(r, 2), kind: make(r) });
    }
}

fn impairments(seed: u64, v6: bool, rtt: Duration, mtu: [u32; 2]) -> Vec<Impairment> {
    let mut d = Draw { seed, out: Vec::new() };
    d.one_in(3, "loss", |r| Kind::Loss(chance(r, 600), chance(r, 600)));
    d.one_in(6, "burst", |r| {
        Kind::Burst(GilbertElliott {
            to_bad: chance(r, 200),
            to_good: Probability::from_fraction(0.3),
            loss_bad: Probability::from_fraction(0.7),
            loss_good: Probability::NEVER,
        })
    });
    d.one_in(3, "reorder", |r| {
        let by = rtt / 4 * u64::from(1 + r.below(6)) + Duration::from_micros(20);
        Kind::Reorder(chance(r, 800), by)
    });
    d.one_in(4, "duplicate", |r| Kind::Duplicate(chance(r, 500)));
    d.one_in(5, "corrupt", |r| Kind::Corrupt(chance(r, 200)));
    d.one_in(3, "jitter", |r| Kind::Jitter(rtt / u64::from(1 + r.below(10))));
    d.one_in(2, "queue", |r| Kind::Queue(magnitude(r, 10_000, 500_000).max(u64::from(mtu[0].max(mtu[1])) * 2)));
    d.one_in(6, "marking-queue", |r| Kind::MarkingQueue(Duration::from_micros(magnitude(r, 50, 20_000))));
    d.box_in(5, "nat", |_| BoxKind::Nat);
    d.box_in(5, "strip", |r| {
        BoxKind::Strip(Strip {
            sack: one_in(r, 3),
            timestamps: one_in(r, 3),
            window_scale: one_in(r, 3),
            mss: one_in(r, 6),
            answers_only: one_in(r, 4),
            clamp: one_in(r, 3).then(|| 500 + r.below(900) as u16),
        })
    });
    d.box_in(8, "thin-acks", |r| BoxKind::ThinAcks(2 + r.below(4), one_in(r, 3)));
    d.box_in(8, "compress-acks", |r| BoxKind::CompressAcks(Duration::from_micros(magnitude(r, 100, 30_000))));
    d.box_in(8, "split", |r| BoxKind::Split(50 + r.below(1400) as usize));
    d.box_in(6, "join", |r| {
        let most = if one_in(r, 2) { 65_000 } else { 1500 };
        BoxKind::Join(most, Duration::from_micros(magnitude(r, 10, 2000)))
    });
    d.box_in(8, "bleach", |_| BoxKind::Bleach);
    d.box_in(8, "mark", |r| BoxKind::Mark(chance(r, 2000)));
    let smallest = if v6 { 1280 } else { 576 };
    d.box_in(6, "small-mtu", |r| BoxKind::SmallMtu(smallest + r.below(300) as usize, later(r)));
    d.box_in(25, "black-hole", |r| BoxKind::BlackHole(smallest + r.below(300) as usize, later(r)));
    d.box_in(8, "outage", |r| {
        let from = START + Duration::from_micros(magnitude(r, 1, 5_000_000));
        BoxKind::Outage(from, from + Duration::from_millis(magnitude(r, 10, 40_000)), one_in(r, 2))
    });
    // One side is never heard of again, from then on.
    d.box_in(30, VANISH, |r| {
        let from = START + Duration::from_micros(magnitude(r, 100, 5_000_000));
        BoxKind::Outage(from, from + Duration::from_secs(1 << 20), false)
    });
    d.out
}

/// From the start, or in the middle.
fn later(r: &mut dyn Rng) -> Instant {
    if one_in(r, 2) { START } else { START + Duration::from_micros(magnitude(r, 100, 3_000_000)) }
}

fn flow(seed: u64, id: u16, clients: u8, servers: u8, may_be_simultaneous: bool) -> Flow {
    let label = format!("flow {id}");
    let mut r = rng(seed, &label);
    let r = &mut r;
    let hosts = (r.below(u32::from(clients)) as u8, r.below(u32::from(servers)) as u8);
    let start = START + Duration::from_micros(magnitude(r, 1, 500_000));
    let (mut client, mut server, mut connections) = plans(r);
    let simultaneous = may_be_simultaneous && one_in(r, 12);
    if simultaneous {
        connections = 1;
    }
    for plan in [&mut client, &mut server] {
        plan.reading = reading(r, plan.reading);
        if one_in(r, 8) {
            plan.ending = ending(r);
        }
    }
    // Its own luck: flows are what they were before there was urgent data.
    let mut r = rng(seed, &format!("urgent {id}"));
    client.writing.urgent = one_in(&mut r, 10);
    server.writing.urgent = one_in(&mut r, 10);
    Flow { id, hosts, connections, start, simultaneous, client, server }
}

fn plan(total: u64, chunk: u32, gap: Duration, dialogue: Option<Dialogue>) -> Plan {
    Plan {
        writing: Writing { total, chunk, gap, dialogue, urgent: false },
        reading: Reading::AtOnce,
        ending: Ending::Polite,
    }
}

/// What the two programs write, and how many connections there are.
fn plans(r: &mut dyn Rng) -> (Plan, Plan, u16) {
    let bulk = |r: &mut dyn Rng| {
        let total = magnitude(r, 1, 300_000);
        plan(total, magnitude(r, 100, 65_536) as u32, Duration::ZERO, None)
    };
    let nothing = plan(0, 1, Duration::ZERO, None);
    match r.below(7) {
        0 => (bulk(r), nothing, 1),
        1 => (nothing, bulk(r), 1),
        2 => (bulk(r), bulk(r), 1),
        3 => {
            // Many small writes, with pauses or without.
            let chunk = 1 + r.below(200);
            let gap = if one_in(r, 2) { Duration::ZERO } else { Duration::from_micros(magnitude(r, 10, 100_000)) };
            let p = plan(u64::from(chunk) * u64::from(1 + r.below(200)), chunk, gap, None);
            if one_in(r, 2) { (p, nothing, 1) } else { (p, p, 1) }
        }
        4 | 5 => {
            let (request, answer) = (magnitude(r, 1, 3000), magnitude(r, 1, 30_000));
            let rounds = u64::from(1 + r.below(20));
            let chunk = magnitude(r, 10, 65_536) as u32;
            let gap = if one_in(r, 4) { Duration::from_micros(magnitude(r, 10, 1_000_000)) } else { Duration::ZERO };
            let asks = Dialogue { first: request, request: answer, answer: request };
            let answers = Dialogue { first: 0, request, answer };
            let client = plan(request * rounds, chunk, gap, Some(asks));
            (client, plan(answer * rounds, chunk, Duration::ZERO, Some(answers)), 1)
        }
        _ => {
            let small = |r: &mut dyn Rng| plan(magnitude(r, 1, 3000), 4096, Duration::ZERO, None);
            (small(r), small(r), 2 + r.below(20) as u16)
        }
    }
}

fn reading(r: &mut dyn Rng, usual: Reading) -> Reading {
    match r.below(8) {
        0 => Reading::Slowly {
            bytes: magnitude(r, 100, 20_000) as u32,
            every: Duration::from_micros(magnitude(r, 10, 30_000)),
        },
        1 => Reading::Late(Duration::from_micros(magnitude(r, 100, 20_000_000))),
        _ => usual,
    }
}

fn ending(r: &mut dyn Rng) -> Ending {
    match r.below(3) {
        0 => Ending::Abrupt,
        1 => Ending::Abort(magnitude(r, 1, 100_000)),
        _ => Ending::Unread(magnitude(r, 1, 100_000)),
    }
}
