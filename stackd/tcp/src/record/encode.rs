//! Numbers on the tape: LEB128, signed ones folded, and reading them without trust.

use super::file::RecordError;

/// Signed as unsigned: 0, -1, 1, -2 ...
pub(super) const fn fold(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}
pub(super) const fn unfold(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Appends `v`.
pub(super) fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends the difference from `from` to `to`.
pub(super) fn put_delta(out: &mut Vec<u8>, from: u64, to: u64) {
    put(out, fold(to.wrapping_sub(from) as i64));
}

/// Bytes still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn byte(&mut self) -> Result<u8, RecordError> {
        let (&b, rest) = self.0.split_first().ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(b)
    }

    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn number(&mut self) -> Result<u64, RecordError> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err(RecordError::Number)
    }

    pub fn delta(&mut self, from: u64) -> Result<u64, RecordError> {
        Ok(from.wrapping_add(unfold(self.number()?) as u64))
    }

    /// A value in postcard's encoding.
    pub fn value<T: serde::Deserialize<'a>>(&mut self) -> Result<T, RecordError> {
        let (value, rest) = postcard::take_from_bytes(self.0).map_err(|_| RecordError::Value)?;
        self.0 = rest;
        Ok(value)
    }
}
