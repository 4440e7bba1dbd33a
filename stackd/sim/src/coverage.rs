//! Which bytes of a stream have arrived.

use std::collections::BTreeMap;

/// A set of byte ranges, of which the one that begins at 0 matters most.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    /// Everything below is there.
    contiguous: u64,
    /// Ranges above, disjoint and not adjacent: start to end.
    islands: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Bytes there without a gap from the start.
    pub const fn contiguous(&self) -> u64 {
        self.contiguous
    }

    /// `start..end` has arrived (again).
    pub fn add(&mut self, start: u64, end: u64) {
        if end <= self.contiguous || start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        if start > self.contiguous {
            if let Some((&s, &e)) = self.islands.range(..=start).next_back()
                && e >= start
            {
                (start, end) = (s, end.max(e));
            }
            self.absorb_from(start, &mut end);
            self.islands.insert(start, end);
            return;
        }
        self.absorb_from(start, &mut end);
        self.contiguous = end;
    }

    /// Removes the islands that begin in `start..=end`, and stretches `end` over them.
    fn absorb_from(&mut self, start: u64, end: &mut u64) {
        while let Some((&s, &e)) = self.islands.range(start..=*end).next() {
            self.islands.remove(&s);
            *end = (*end).max(e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::{Rng, SplitMix64};

    #[test]
    fn it_agrees_with_a_bitmap() {
        for seed in 0..200 {
            let mut rng = SplitMix64::new(seed);
            let (mut c, mut bits) = (Coverage::default(), [false; 64]);
            for _ in 0..30 {
                let start = u64::from(rng.below(60));
                let end = (start + u64::from(rng.below(6))).min(64);
                c.add(start, end);
                bits[start as usize..end as usize].fill(true);
                let want = bits.iter().take_while(|b| **b).count() as u64;
                assert_eq!(c.contiguous(), want, "seed {seed}");
            }
        }
    }
}
