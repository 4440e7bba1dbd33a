//! What was learnt about single destinations: path MTUs (RFC 1191, RFC 8201) and better first hops (redirects). Linux's route exceptions.

use stackd_base::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Destinations remembered; errors are easily forged in numbers.
const CAPACITY: usize = 4096;

/// What is known about one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exception {
    /// The path's MTU, and until when it is believed.
    pub mtu: Option<(u32, Instant)>,
    /// The first hop, and until when it is used.
    pub gateway: Option<(IpAddr, Instant)>,
}

impl Exception {
    /// When nothing of it is left.
    fn expires(&self) -> Instant {
        let of = [self.mtu.map(|m| m.1), self.gateway.map(|g| g.1)];
        of.into_iter().flatten().max().unwrap_or(Instant::ZERO)
    }
    /// What of it still holds.
    fn at(&self, now: Instant) -> Self {
        Self { mtu: self.mtu.filter(|m| now < m.1), gateway: self.gateway.filter(|g| now < g.1) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Exceptions {
    paths: BTreeMap<IpAddr, Exception>,
}

impl Exceptions {
    /// What is known about `dst`.
    pub(crate) fn get(&self, now: Instant, dst: IpAddr) -> Exception {
        self.paths.get(&dst).map(|e| e.at(now)).unwrap_or_default()
    }

    /// All of them that hold, by destination.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Exception)> {
        self.paths.iter().map(move |(dst, e)| (*dst, e.at(now))).filter(|(_, e)| *e != Exception::default())
    }

    /// Remembers a smaller MTU. False when it is no news: RFC 8201, 4: "MUST NOT increase its estimate of the Path MTU in
    /// response to the contents of a Packet Too Big message".
    pub(crate) fn learn_mtu(&mut self, now: Instant, dst: IpAddr, mtu: u32, expires: Instant) -> bool {
        if self.get(now, dst).mtu.is_some_and(|(known, _)| known <= mtu) {
            return false;
        }
        self.entry(now, dst).mtu = Some((mtu, expires));
        true
    }

    /// Remembers a first hop.
    pub(crate) fn learn_gateway(&mut self, now: Instant, dst: IpAddr, gateway: IpAddr, expires: Instant) {
        self.entry(now, dst).gateway = Some((gateway, expires));
    }

    /// The route to it is gone.
    pub(crate) fn forget(&mut self, dst: IpAddr) {
        self.paths.remove(&dst);
    }

    /// `ip route flush cache`.
    pub(crate) fn clear(&mut self) {
        self.paths.clear();
    }

    fn entry(&mut self, now: Instant, dst: IpAddr) -> &mut Exception {
        if self.paths.len() >= CAPACITY && !self.paths.contains_key(&dst) {
            self.paths.retain(|_, e| now < e.expires());
            if self.paths.len() >= CAPACITY
                && let Some(oldest) = self.paths.iter().min_by_key(|(_, e)| e.expires()).map(|(d, _)| *d)
            {
                self.paths.remove(&oldest);
            }
        }
        self.paths.entry(dst).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::Duration;
    use std::net::Ipv4Addr;

    #[test]
    fn only_smaller_values_are_learnt_and_they_expire() {
        let (mut c, d) = (Exceptions::default(), IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        let (t0, end) = (Instant::ZERO, Instant::ZERO + Duration::from_secs(600));
        assert!(c.learn_mtu(t0, d, 1400, end) && !c.learn_mtu(t0, d, 1450, end) && c.learn_mtu(t0, d, 1300, end));
        assert_eq!((c.get(t0, d).mtu, c.get(end, d).mtu), (Some((1300, end)), None));
        assert_eq!((c.iter(t0).count(), c.iter(end).count()), (1, 0));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut c = Exceptions::default();
        for i in 0..2 * CAPACITY as u32 {
            let expires = Instant::from_nanos(1000 + u64::from(i));
            c.learn_mtu(Instant::ZERO, IpAddr::from(Ipv4Addr::from_bits(i)), 1400, expires);
        }
        assert_eq!(c.paths.len(), CAPACITY);
    }
}
