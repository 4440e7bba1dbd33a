//! netem's random variables: correlated uniforms, loss chains, delay distributions.

use crate::config::{Distribution, NetemConfig};
use stackd_base::{Duration, Rng};

/// A percentage as a threshold for a uniform 32-bit number.
pub(super) fn threshold(percent: f64) -> u32 {
    (percent / 100.0 * f64::from(u32::MAX)).round() as u32
}

fn hit(percent: f64, rng: &mut dyn Rng) -> bool {
    percent > 0.0 && rng.next_u32() <= threshold(percent)
}

/// A uniform number blended with the one before, as netem does (tc-netem(8): P = correlation * last + (1 - correlation) * random).
#[derive(Debug)]
pub(super) struct Correlated {
    rho: u64,
    last: u64,
}

impl Correlated {
    pub(super) fn new(percent: f64) -> Self {
        Self { rho: u64::from(threshold(percent)), last: 0 }
    }
    pub(super) fn next(&mut self, rng: &mut dyn Rng) -> u32 {
        let value = u64::from(rng.next_u32());
        if self.rho == 0 {
            return value as u32;
        }
        self.last = (value * ((1 << 32) - self.rho) + self.last * self.rho) >> 32;
        self.last as u32
    }
}

/// State of the loss models.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Good reception, no burst.
    #[default]
    Gap,
    /// Good reception within a burst of losses.
    GoodInBurst,
    /// Lost within a burst.
    Burst,
    /// One lost between good ones.
    Single,
}

/// The Markov chain behind `loss state` and `loss gemodel`.
#[derive(Debug, Default)]
pub(super) struct LossChain(State);

impl LossChain {
    /// Salsano et al., "Definition of a general and intuitive loss model": p13 p31 p32 p23 p14. True: this segment is lost.
    pub(super) fn four_state(&mut self, [p13, p31, p32, p23, p14]: [f64; 5], rng: &mut dyn Rng) -> bool {
        let x = f64::from(rng.next_u32()) / f64::from(u32::MAX) * 100.0;
        self.0 = match self.0 {
            State::Gap if x < p14 => State::Single,
            State::Gap if x < p14 + p13 => State::Burst,
            State::Gap | State::Single => State::Gap,
            State::GoodInBurst if x < p23 => State::Burst,
            State::GoodInBurst => State::GoodInBurst,
            State::Burst if x < p32 => State::GoodInBurst,
            State::Burst if x < p32 + p31 => State::Gap,
            State::Burst => State::Burst,
        };
        matches!(self.0, State::Burst | State::Single)
    }

    /// Gilbert-Elliott: p (to bad), r (to good), 1-h (loss in bad), 1-k (loss in good).
    pub(super) fn gilbert_elliott(&mut self, [p, r, bad, good]: [f64; 4], rng: &mut dyn Rng) -> bool {
        match self.0 {
            State::Burst => {
                if hit(r, rng) {
                    self.0 = State::Gap;
                }
                hit(bad, rng)
            }
            State::Gap | State::GoodInBurst | State::Single => {
                if hit(p, rng) {
                    self.0 = State::Burst;
                }
                hit(good, rng)
            }
        }
    }
}

/// A delay, never negative.
pub(super) fn delay(c: &NetemConfig, source: &mut Correlated, rng: &mut dyn Rng) -> Duration {
    if c.jitter.is_zero() {
        return c.delay;
    }
    // In (0, 1): the logarithm and the root below want neither end.
    let u = (f64::from(source.next(rng)) + 0.5) / 4_294_967_296.0;
    let deviation = match c.distribution {
        Distribution::Uniform => 2.0 * u - 1.0,
        Distribution::Normal => normal(u, rng),
        Distribution::Pareto => pareto(u),
        // iproute2's paretonormal: a quarter normal, three quarters Pareto.
        Distribution::ParetoNormal => 0.25 * normal(u, rng) + 0.75 * pareto(u),
    };
    let ns = c.delay.as_nanos() as f64 + deviation * c.jitter.as_nanos() as f64;
    Duration::from_nanos(ns.max(0.0) as u64)
}

/// Box and Muller's transform of `u` and one more uniform: mean 0, standard deviation 1, cut at 4 as tc's table is.
fn normal(u: f64, rng: &mut dyn Rng) -> f64 {
    let v = f64::from(rng.next_u32()) / 4_294_967_296.0;
    ((-2.0 * u.ln()).sqrt() * (core::f64::consts::TAU * v).cos()).clamp(-4.0, 4.0)
}

/// Pareto with shape 3, scaled to mean 0 and standard deviation 1, cut at 4.
fn pareto(u: f64) -> f64 {
    ((u.powf(-1.0 / 3.0) - 1.5) / 0.75f64.sqrt()).min(4.0)
}
