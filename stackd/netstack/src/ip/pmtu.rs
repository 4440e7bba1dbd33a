//! Path MTUs learnt from ICMP (RFC 1191, RFC 8201).

use stackd_base::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Destinations remembered; errors are easily forged in numbers.
const CAPACITY: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct PmtuCache {
    paths: BTreeMap<IpAddr, (u32, Instant)>,
}

impl PmtuCache {
    /// What is known about the path to `dst`.
    pub(crate) fn get(&self, now: Instant, dst: IpAddr) -> Option<u32> {
        self.paths.get(&dst).filter(|(_, expires)| now < *expires).map(|(mtu, _)| *mtu)
    }

    /// Remembers a smaller MTU. False when it is no news: RFC 8201, 4: "MUST NOT increase its estimate of the Path MTU in
    /// response to the contents of a Packet Too Big message".
    pub(crate) fn learn(&mut self, now: Instant, dst: IpAddr, mtu: u32, expires: Instant) -> bool {
        if self.get(now, dst).is_some_and(|known| known <= mtu) {
            return false;
        }
        if self.paths.len() >= CAPACITY && !self.paths.contains_key(&dst) {
            self.paths.retain(|_, (_, e)| now < *e);
            if self.paths.len() >= CAPACITY
                && let Some(oldest) = self.paths.iter().min_by_key(|(_, (_, e))| *e).map(|(d, _)| *d)
            {
                self.paths.remove(&oldest);
            }
        }
        self.paths.insert(dst, (mtu, expires));
        true
    }
}

/// RFC 1191, 7.1: the next plateau below `len` when an old router does not say the MTU.
pub(crate) fn plateau_below(len: u32) -> u32 {
    const PLATEAUS: [u32; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
    PLATEAUS.into_iter().find(|&p| p < len).unwrap_or(68)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::Duration;
    use std::net::Ipv4Addr;

    #[test]
    fn only_smaller_values_are_learnt_and_they_expire() {
        let (mut c, d) = (PmtuCache::default(), IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        let (t0, end) = (Instant::ZERO, Instant::ZERO + Duration::from_secs(600));
        assert!(c.learn(t0, d, 1400, end) && !c.learn(t0, d, 1450, end) && c.learn(t0, d, 1300, end));
        assert_eq!((c.get(t0, d), c.get(end, d)), (Some(1300), None));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut c = PmtuCache::default();
        for i in 0..2 * CAPACITY as u32 {
            let expires = Instant::from_nanos(1000 + u64::from(i));
            c.learn(Instant::ZERO, IpAddr::from(Ipv4Addr::from_bits(i)), 1400, expires);
        }
        assert_eq!(c.paths.len(), CAPACITY);
    }

    #[test]
    fn plateaus() {
        assert_eq!((plateau_below(1500), plateau_below(1492), plateau_below(60)), (1492, 1006, 68));
    }
}
