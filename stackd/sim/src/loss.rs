//! How segments get lost: independently, or in bursts.

use stackd_base::Rng;

/// A probability out of 2^32 (`u32::MAX` = always), as [`Rng::chance`] takes it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Probability(pub u32);

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0);

    /// From a fraction; below 0 is never, from 1 on always.
    pub fn from_fraction(p: f64) -> Self {
        // A float-to-integer cast saturates, and turns NaN into 0.
        Self(if p >= 1.0 { u32::MAX } else { (p * 4_294_967_296.0) as u32 })
    }
    /// As a fraction.
    pub fn as_fraction(self) -> f64 {
        if self.0 == u32::MAX { 1.0 } else { f64::from(self.0) / 4_294_967_296.0 }
    }
    /// Tosses the coin.
    pub fn toss(self, rng: &mut dyn Rng) -> bool {
        rng.chance(self.0)
    }
}

/// A loss process, asked once per segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Loss {
    /// Nothing is lost.
    #[default]
    None,
    /// Each segment with the same probability.
    Random(Probability),
    /// Gilbert's and Elliott's two states: a good one and a bad one, each with its own probability of loss.
    Bursty(GilbertElliott),
}

/// Transition and loss probabilities, per segment (as netem's `loss gemodel p r 1-h 1-k`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GilbertElliott {
    /// Good to bad.
    pub to_bad: Probability,
    /// Bad to good.
    pub to_good: Probability,
    /// Loss in the bad state.
    pub loss_bad: Probability,
    /// Loss in the good state.
    pub loss_good: Probability,
}

/// A loss process and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct LossProcess {
    loss: Loss,
    is_bad: bool,
}

impl LossProcess {
    /// In the good state.
    pub const fn new(loss: Loss) -> Self {
        Self { loss, is_bad: false }
    }

    /// Whether the next segment is lost.
    pub fn strikes(&mut self, rng: &mut dyn Rng) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(p) => p.toss(rng),
            Loss::Bursty(g) => {
                let turn = if self.is_bad { g.to_good } else { g.to_bad };
                self.is_bad ^= turn.toss(rng);
                if self.is_bad { g.loss_bad } else { g.loss_good }.toss(rng)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::SplitMix64;

    fn strikes(loss: Loss, n: usize) -> Vec<bool> {
        let (mut p, mut rng) = (LossProcess::new(loss), SplitMix64::new(5));
        (0..n).map(|_| p.strikes(&mut rng)).collect()
    }

    #[test]
    fn random_loss_has_its_rate() {
        let lost = strikes(Loss::Random(Probability::from_fraction(0.01)), 100_000).iter().filter(|l| **l).count();
        assert!((900..1100).contains(&lost), "{lost}");
    }

    #[test]
    fn bursts_have_their_mean_length_and_share() {
        let f = Probability::from_fraction;
        let g = GilbertElliott { to_bad: f(0.01), to_good: f(0.25), loss_bad: f(1.0), loss_good: Probability::NEVER };
        let s = strikes(Loss::Bursty(g), 200_000);
        let lost = s.iter().filter(|l| **l).count();
        let bursts = s.windows(2).filter(|w| !w[0] && w[1]).count();
        let (share, length) = (lost as f64 / s.len() as f64, lost as f64 / bursts as f64);
        assert!((0.034..0.043).contains(&share), "{share}"); // 0.01 / 0.26
        assert!((3.6..4.4).contains(&length), "{length}"); // 1 / 0.25
    }

    #[test]
    fn fractions_outside_the_range_are_its_ends() {
        assert_eq!(Probability::from_fraction(-1.0), Probability::NEVER);
        assert_eq!(Probability::from_fraction(2.0), Probability(u32::MAX));
        assert_eq!(Probability::from_fraction(f64::NAN), Probability::NEVER);
    }
}
