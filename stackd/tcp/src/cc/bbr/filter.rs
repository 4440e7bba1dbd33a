//! The windowed maximum that BBR keeps of the bandwidth samples (Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016).

use serde::{Deserialize, Serialize};
use stackd_base::Bandwidth;

/// Packet-timed rounds a sample counts for.
pub(super) const WINDOW: u32 = 10;
/// A sample of each round in the window, and the one that enters.
const SLOTS: usize = WINDOW as usize + 1;

/// Exact maximum over the last [`WINDOW`] rounds: candidates in falling order of rate and rising order of round, of which the
/// first is the maximum. At most one candidate a round can survive, hence the fixed size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MaxFilter {
    slots: [(u32, Bandwidth); SLOTS],
    len: usize,
}

impl MaxFilter {
    pub(super) const fn new() -> Self {
        Self { slots: [(0, Bandwidth::ZERO); SLOTS], len: 0 }
    }

    /// The maximum; zero before the first sample.
    pub(super) fn get(&self) -> Bandwidth {
        self.slots[..self.len].first().map_or(Bandwidth::ZERO, |s| s.1)
    }

    /// A sample of round `round` (never lower than before). Candidates that are `WINDOW` rounds old are forgotten.
    pub(super) fn update(&mut self, round: u32, sample: Bandwidth) {
        while self.len > 0 && self.slots[self.len - 1].1 <= sample {
            self.len -= 1;
        }
        let is_new_round = self.len == 0 || self.slots[self.len - 1].0 != round;
        // A lower sample of a round that already has a candidate can never become the maximum.
        if is_new_round {
            let expired = self.slots[..self.len].iter().take_while(|s| round.wrapping_sub(s.0) >= WINDOW).count();
            self.slots.copy_within(expired..self.len, 0);
            self.len -= expired;
            if self.len < SLOTS {
                self.slots[self.len] = (round, sample);
                self.len += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bw(n: u64) -> Bandwidth {
        Bandwidth::from_bytes_per_sec(n)
    }

    #[test]
    fn a_maximum_lives_for_ten_rounds() {
        let mut f = MaxFilter::new();
        f.update(0, bw(100));
        (1..10).for_each(|r| f.update(r, bw(50)));
        assert_eq!(f.get(), bw(100));
        f.update(10, bw(50));
        assert_eq!(f.get(), bw(50));
    }

    proptest! {
        #[test]
        fn it_is_the_maximum_of_the_window(samples in prop::collection::vec((0u32..3, 0u64..20), 1..200)) {
            let (mut f, mut round, mut seen) = (MaxFilter::new(), 0u32, Vec::new());
            for (step, v) in samples {
                round += step;
                f.update(round, bw(v));
                seen.push((round, v));
                let want = seen.iter().filter(|s| round - s.0 < WINDOW).map(|s| s.1).max().unwrap_or(0);
                prop_assert_eq!(f.get(), bw(want));
            }
        }
    }
}
