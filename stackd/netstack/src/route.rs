//! The routing table: longest prefix first, then the lowest metric.

use crate::addr::Prefix;
use prefix_trie::PrefixMap;
use smallvec::SmallVec;
use stackd_base::{Duration, PortId};
use std::net::IpAddr;

/// What happens to a packet that takes the route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum RouteType {
    /// It is sent.
    Unicast,
    /// It is delivered here.
    Local,
    /// It is discarded silently; local senders get EINVAL.
    Blackhole,
    /// It is answered with host unreachable; local senders get EHOSTUNREACH.
    Unreachable,
    /// It is answered with administratively prohibited; local senders get EACCES.
    Prohibit,
}

/// Who made a route (rtnetlink's `proto`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum RouteOrigin {
    /// This stack, for the network of an address.
    Kernel,
    /// Configuration.
    Boot,
    /// An operator.
    Static,
    /// A router advertisement.
    Ra,
}

/// A congestion control's name, at most 15 bytes (Linux's `TCP_CA_NAME_MAX`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CcName([u8; 15], u8);

impl CcName {
    /// The name; `None` when it is empty, too long or not ASCII.
    pub fn new(name: &str) -> Option<Self> {
        let mut b = [0; 15];
        if name.is_empty() || !name.is_ascii() {
            return None;
        }
        b.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self(b, name.len() as u8))
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0[..usize::from(self.1)]).unwrap_or_default()
    }
}
impl core::fmt::Debug for CcName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Per-route parameters (`ip route ... mtu lock 1400 congctl bbr`). `None`: the sysctl or the interface decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteOptions {
    /// Congestion control of connections made from now on, whatever their sockets asked for before (as Linux).
    pub congctl: Option<CcName>,
    /// Lower bound of the retransmission timeout; acts on live connections too.
    pub rto_min: Option<Duration>,
    /// Initial congestion window in segments.
    pub initcwnd: Option<u32>,
    /// Receive window in segments until data has arrived.
    pub initrwnd: Option<u32>,
    /// MSS to advertise.
    pub advmss: Option<u16>,
    /// Path MTU to start from.
    pub mtu: Option<u32>,
    /// `mtu lock`: path MTU discovery may not change it, and DF is not set.
    pub mtu_lock: bool,
    /// Hop limit.
    pub hoplimit: Option<u8>,
    /// Data is acknowledged at once always; acts on live connections too.
    pub quickack: bool,
    /// RFC 4191, 2.1: of two routes alike the one with the higher preference is taken: -1 low, 0 medium, 1 high.
    pub pref: i8,
}

impl RouteOptions {
    /// Something in it concerns how a TCP connection behaves, beyond the sizes and limits of its packets.
    pub const fn tunes_tcp(&self) -> bool {
        let Self {
            congctl,
            rto_min,
            initcwnd,
            initrwnd,
            advmss: _,
            mtu: _,
            mtu_lock: _,
            hoplimit: _,
            quickack,
            pref: _,
        } = self;
        congctl.is_some() || rto_min.is_some() || initcwnd.is_some() || initrwnd.is_some() || *quickack
    }
}

/// One route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destinations.
    pub dst: Prefix,
    /// What happens.
    pub kind: RouteType,
    /// The next hop; `None`: destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// The interface; `None` for types that send nothing.
    pub port: Option<PortId>,
    /// Preferred source (`src`).
    pub src: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
    /// Who made it.
    pub origin: RouteOrigin,
    /// Parameters.
    pub options: RouteOptions,
}

/// Why a route was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// Same destination and metric exist (EEXIST).
    #[error("a route to the same prefix with the same metric exists; replace it, or use another metric")]
    Exists,
    /// No such route (ESRCH on Linux).
    #[error("no such route")]
    NotFound,
    /// Gateway or source of the other family, or a unicast route without an interface (EINVAL).
    #[error("route is inconsistent: gateway, source and destination want one family, and a unicast route an interface")]
    Invalid,
}

type Bucket = SmallVec<[Route; 1]>;

/// All routes of both families.
#[derive(Debug, Default)]
pub struct RouteTable {
    v4: PrefixMap<(u32, u8), Bucket>,
    v6: PrefixMap<(u128, u8), Bucket>,
    len: usize,
}

impl RouteTable {
    /// Adds a route. With `replace`, one with the same destination and metric gives way (IPv4: as `ip route replace`).
    ///
    /// # Errors
    /// `Exists` unless `replace`; `Invalid`.
    pub fn add(&mut self, route: Route, replace: bool) -> Result<(), RouteError> {
        let v4 = route.dst.addr().is_ipv4();
        let other_family = |a: Option<IpAddr>| a.is_some_and(|a| a.is_ipv4() != v4);
        let sends = matches!(route.kind, RouteType::Unicast | RouteType::Local);
        if other_family(route.gateway) || other_family(route.src) || (sends && route.port.is_none()) {
            return Err(RouteError::Invalid);
        }
        let bucket = self.bucket_mut(route.dst);
        let order = |r: &Route| (r.metric, core::cmp::Reverse(r.options.pref));
        let at = bucket.partition_point(|r| order(r) <= order(&route));
        // The same metric through another interface is a different route in IPv6 (and for on-link routes of two interfaces), and so is
        // another default router (RFC 4861, 6.3.4: "a default router list").
        let routers =
            |r: &Route| r.origin == RouteOrigin::Ra && route.origin == RouteOrigin::Ra && r.gateway != route.gateway;
        let same = bucket.iter().position(|r| r.metric == route.metric && (v4 || r.port == route.port) && !routers(r));
        match same {
            Some(i) if replace => bucket[i] = route,
            Some(_) => return Err(RouteError::Exists),
            None => {
                bucket.insert(at, route);
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Removes the first route to `dst` for which `matches` holds.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, dst: Prefix, matches: impl Fn(&Route) -> bool) -> Result<Route, RouteError> {
        let bucket = self.bucket_mut(dst);
        let gone = bucket.iter().position(matches).map(|i| bucket.remove(i));
        if bucket.is_empty() {
            match dst.addr() {
                IpAddr::V4(a) => drop(self.v4.remove(&(a.to_bits(), dst.bits()))),
                IpAddr::V6(a) => drop(self.v6.remove(&(a.to_bits(), dst.bits()))),
            }
        }
        self.len -= usize::from(gone.is_some());
        gone.ok_or(RouteError::NotFound)
    }

    /// Removes every route for which `gone` holds.
    pub fn retain(&mut self, keep: impl Fn(&Route) -> bool) {
        let doomed: Vec<Route> = self.iter().filter(|r| !keep(r)).copied().collect();
        for r in doomed {
            // It was there a moment ago.
            let _ = self.remove(r.dst, |x| *x == r);
        }
    }

    /// The route to `dst`: the longest prefix with a route that `usable` accepts; within a prefix the lowest metric.
    pub fn lookup(&self, dst: IpAddr, usable: impl Fn(&Route) -> bool) -> Option<&Route> {
        let pick = |b: &'_ Bucket| b.iter().position(&usable);
        // Nearly always the longest prefix has a usable route.
        match dst {
            IpAddr::V4(a) => {
                let key = (a.to_bits(), 32);
                let (_, b) = self.v4.get_lpm(&key)?;
                if let Some(i) = pick(b) {
                    return b.get(i);
                }
                let all: SmallVec<[&Bucket; 8]> = self.v4.cover(&key).map(|(_, b)| b).collect();
                all.into_iter().rev().find_map(|b| b.get(pick(b)?))
            }
            IpAddr::V6(a) => {
                let key = (a.to_bits(), 128);
                let (_, b) = self.v6.get_lpm(&key)?;
                if let Some(i) = pick(b) {
                    return b.get(i);
                }
                let all: SmallVec<[&Bucket; 8]> = self.v6.cover(&key).map(|(_, b)| b).collect();
                all.into_iter().rev().find_map(|b| b.get(pick(b)?))
            }
        }
    }

    /// All routes, IPv4 first, in order of prefixes.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.v4.iter().flat_map(|(_, b)| b).chain(self.v6.iter().flat_map(|(_, b)| b))
    }

    /// Number of routes.
    pub const fn len(&self) -> usize {
        self.len
    }
    /// True without routes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn bucket_mut(&mut self, dst: Prefix) -> &mut Bucket {
        match dst.addr() {
            IpAddr::V4(a) => self.v4.entry((a.to_bits(), dst.bits())).or_default(),
            IpAddr::V6(a) => self.v6.entry((a.to_bits(), dst.bits())).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(s: &str) -> Prefix {
        let (a, l) = s.split_once('/').expect("prefix");
        Prefix::new(a.parse().expect("address"), l.parse().expect("length")).expect("prefix")
    }
    fn route(dst: &str, port: u32, metric: u32) -> Route {
        Route {
            dst: prefix(dst),
            kind: RouteType::Unicast,
            gateway: None,
            port: Some(PortId(port)),
            src: None,
            metric,
            origin: RouteOrigin::Static,
            options: RouteOptions::default(),
        }
    }

    #[test]
    fn longest_prefix_then_lowest_metric_then_what_is_usable() {
        let mut t = RouteTable::default();
        for r in [
            route("0.0.0.0/0", 1, 0),
            route("10.0.0.0/8", 2, 20),
            route("10.0.0.0/8", 3, 10),
            route("10.1.0.0/16", 4, 0),
        ] {
            t.add(r, false).expect("added");
        }
        let port = |a: &str, down: u32| {
            t.lookup(a.parse().expect("address"), |r| r.port != Some(PortId(down))).and_then(|r| r.port).map(|p| p.0)
        };
        assert_eq!((port("10.1.2.3", 0), port("10.2.0.1", 0), port("8.8.8.8", 0)), (Some(4), Some(3), Some(1)));
        assert_eq!((port("10.1.2.3", 4), port("10.2.0.1", 3), port("8.8.8.8", 1)), (Some(3), Some(2), None));
        assert_eq!(t.lookup("::1".parse().expect("address"), |_| true), None);
    }

    #[test]
    fn duplicates_are_refused_or_replace() {
        let mut t = RouteTable::default();
        t.add(route("10.0.0.0/8", 1, 0), false).expect("added");
        assert_eq!(t.add(route("10.0.0.0/8", 2, 0), false), Err(RouteError::Exists));
        t.add(route("10.0.0.0/8", 2, 0), true).expect("replaced");
        assert_eq!(t.len(), 1);
        assert_eq!(t.remove(prefix("10.0.0.0/8"), |r| r.port == Some(PortId(1))), Err(RouteError::NotFound));
        assert!(t.remove(prefix("10.0.0.0/8"), |_| true).is_ok() && t.is_empty());
    }

    #[test]
    fn families_do_not_mix() {
        let mut t = RouteTable::default();
        let r = Route { gateway: Some("::1".parse().expect("address")), ..route("10.0.0.0/8", 1, 0) };
        assert_eq!(t.add(r, false), Err(RouteError::Invalid));
        assert_eq!(t.add(Route { port: None, ..route("10.0.0.0/8", 1, 0) }, false), Err(RouteError::Invalid));
    }

    proptest! {
        #[test]
        fn equals_a_linear_search(routes in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..40), dst in any::<u32>()) {
            let mut t = RouteTable::default();
            let mut all = Vec::new();
            for (i, (a, len)) in routes.into_iter().enumerate() {
                // Half of them near the destination, so that prefixes nest.
                let a = if i % 2 == 0 { dst ^ (a & 0xff) } else { a };
                let r = Route { dst: Prefix::new(IpAddr::V4(a.into()), len).expect("prefix"), ..route("0.0.0.0/0", 1, 0) };
                if t.add(r, false).is_ok() { all.push(r); }
            }
            let dst = IpAddr::V4(dst.into());
            let want = all.iter().filter(|r| r.dst.contains(dst)).max_by_key(|r| r.dst.bits());
            prop_assert_eq!(t.lookup(dst, |_| true), want);
        }
    }
}
