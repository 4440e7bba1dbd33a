//! Guesses of a path MTU where a router does not say it.

/// RFC 1191, 7.1: the next plateau below `len` when an old router does not say the MTU.
pub(crate) fn plateau_below(len: u32) -> u32 {
    const PLATEAUS: [u32; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
    PLATEAUS.into_iter().find(|&p| p < len).unwrap_or(68)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plateaus() {
        assert_eq!((plateau_below(1500), plateau_below(1492), plateau_below(60)), (1492, 1006, 68));
    }
}
