//! Choices out of a fuzzer's bytes: what is missing reads as zero, so that every prefix of an input means the same.

/// A cursor over the input.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }
    /// The next two.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }
    /// The next four.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }
    /// One bit's worth of a byte.
    pub fn flip(&mut self) -> bool {
        self.u8() & 1 == 1
    }
    /// One of a few.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.u8()) % of.len()]
    }
    /// Up to `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now
    }
    /// A distance as attackers choose them: near an edge, or anything.
    pub fn distance(&mut self) -> u32 {
        match self.u8() {
            n @ 0..=63 => u32::from(n).wrapping_sub(32),
            64..=127 => u32::from(self.u16()),
            128..=159 => u32::from(self.u16()).wrapping_neg(),
            160..=191 => 1 << (self.u8() % 32),
            192..=199 => self.u32(),
            _ => 0,
        }
    }
}
