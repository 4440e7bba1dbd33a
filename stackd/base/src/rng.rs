//! Randomness as an argument.

/// A source of random words. The daemon seeds one from the OS; simulations and replays from a number.
pub trait Rng {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// The next 32 random bits.
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// Uniform in `0..bound` (Lemire's method); zero for a zero bound.
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// True with probability `p` out of 2^32 (`u32::MAX` counts as always).
    fn chance(&mut self, p: u32) -> bool {
        p != 0 && (p == u32::MAX || self.next_u32() < p)
    }
}

/// Steele, Lea and Flood's SplitMix64: tiny, seedable, good enough for simulation and jitter, never for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Rng for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sequence_of_seed_zero() {
        let mut r = SplitMix64::new(0);
        assert_eq!([r.next_u64(), r.next_u64()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn chance_is_never_and_always_at_its_ends() {
        let mut r = SplitMix64::new(7);
        assert!((0..1000).all(|_| !r.chance(0) && r.chance(u32::MAX)));
    }
}
