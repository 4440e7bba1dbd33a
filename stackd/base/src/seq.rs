//! TCP sequence numbers: 32 bits that wrap.

use core::cmp::Ordering;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use serde::{Deserialize, Serialize};

/// A sequence number modulo 2^32 (RFC 9293, 3.4). Ordered within half the space: no `Ord`, because the order is not total.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// `self - other` as a signed distance.
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
    /// Strictly earlier in sequence space.
    pub const fn before(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }
    /// Strictly later in sequence space.
    pub const fn after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
    /// Earlier or equal.
    pub const fn before_eq(self, other: Self) -> bool {
        self.distance_from(other) <= 0
    }
    /// Later or equal.
    pub const fn after_eq(self, other: Self) -> bool {
        self.distance_from(other) >= 0
    }
    /// `low <= self < high`, modulo 2^32 (works for windows up to 2^32 - 1).
    pub const fn in_range(self, low: Self, high: Self) -> bool {
        self.0.wrapping_sub(low.0) < high.0.wrapping_sub(low.0)
    }
    /// The later of the two.
    pub const fn max(self, other: Self) -> Self {
        if self.after(other) { self } else { other }
    }
    /// The earlier of the two.
    pub const fn min(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }
}

impl PartialOrd for SeqNum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.distance_from(*other).cmp(&0))
    }
}
impl Add<u32> for SeqNum {
    type Output = Self;
    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}
impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}
impl Sub<u32> for SeqNum {
    type Output = Self;
    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}
impl Sub for SeqNum {
    type Output = u32;
    /// Bytes from `earlier` up to `self`, modulo 2^32.
    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}
impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wraps() {
        let (a, b) = (SeqNum(u32::MAX - 1), SeqNum(3));
        assert!(a.before(b) && b.after(a) && a < b);
        assert_eq!(b - a, 5);
        assert!(SeqNum(u32::MAX).in_range(a, b) && !b.in_range(a, b));
    }
}
