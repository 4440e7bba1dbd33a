//! Which ports are taken, by whom, and which one an active open gets.

use crate::demux::Keyed;
use hashbrown::HashMap;
use smallvec::SmallVec;
use stackd_base::{Errno, PortId, SockId};
use std::net::{IpAddr, SocketAddr};

/// A claim of a socket on a local port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who.
    pub sock: SockId,
    /// Local address; unspecified = all.
    pub ip: IpAddr,
    /// An IPv6 wildcard that leaves IPv4 alone.
    pub v6only: bool,
    /// `SO_BINDTODEVICE`.
    pub device: Option<PortId>,
    /// `SO_REUSEADDR`.
    pub reuseaddr: bool,
    /// `SO_REUSEPORT`.
    pub reuseport: bool,
    /// Whose the socket is: only one user's sockets share a port that way.
    pub uid: u32,
    /// In LISTEN: `SO_REUSEADDR` does not share a port with it.
    pub listening: bool,
}

impl Claim {
    fn overlaps(&self, other: &Self) -> bool {
        if matches!((self.device, other.device), (Some(a), Some(b)) if a != b) {
            return false;
        }
        match (self.ip, other.ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (IpAddr::V6(a), IpAddr::V6(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (IpAddr::V4(_), IpAddr::V6(six)) => six.is_unspecified() && !other.v6only,
            (IpAddr::V6(six), IpAddr::V4(_)) => six.is_unspecified() && !self.v6only,
        }
    }

    /// Whether a connection from `ip` stands in its way.
    fn covers(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V6(six), IpAddr::V4(_)) => six.is_unspecified() && !self.v6only,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
            (mine, theirs) => mine == theirs || mine.is_unspecified(),
        }
    }

    /// Linux's `inet_csk_bind_conflict`. socket(7), SO_REUSEPORT: "To prevent port hijacking, all of the processes binding to the same
    /// address must have the same effective UID."
    fn conflicts(&self, other: &Self) -> bool {
        if !self.overlaps(other) || (self.reuseport && other.reuseport && self.uid == other.uid) {
            return false;
        }
        // One of them may listen: whoever comes second finds the other listening.
        !(self.reuseaddr && other.reuseaddr) || other.listening
    }
}

/// Connections of one local address that hold a port without having bound it: children of a listener, active opens, TIME_WAIT entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Followers {
    ip: IpAddr,
    /// With `SO_REUSEADDR` inherited.
    reusable: u32,
    /// Without.
    exclusive: u32,
    /// Active opens that got this port from the ephemeral range; their four-tuples keep them apart.
    ephemeral: u32,
}

impl Followers {
    fn is_empty(&self) -> bool {
        self.reusable == 0 && self.exclusive == 0 && self.ephemeral == 0
    }

    fn count(&mut self, hold: Hold) -> &mut u32 {
        match hold {
            Hold::Ephemeral => &mut self.ephemeral,
            Hold::Follower(true) => &mut self.reusable,
            Hold::Follower(false) => &mut self.exclusive,
        }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    claims: SmallVec<[Claim; 1]>,
    followers: SmallVec<[Followers; 1]>,
}

impl Bucket {
    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.followers.is_empty()
    }
}

/// How a connection that has no claim holds its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// An active open on an ephemeral port.
    Ephemeral,
    /// A child of a listener, or what is left of a bound connection; true: its socket had `SO_REUSEADDR`.
    Follower(bool),
}

/// The local ports of one protocol.
#[derive(Debug)]
pub struct PortTable {
    buckets: HashMap<u16, Bucket, Keyed>,
}

impl PortTable {
    /// All ports free.
    pub fn new(key: Keyed) -> Self {
        Self { buckets: HashMap::with_hasher(key) }
    }

    /// Claims `port`.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub fn claim(&mut self, port: u16, claim: Claim) -> Result<(), Errno> {
        if self.is_taken(port, &claim) {
            return Err(Errno::EADDRINUSE);
        }
        self.buckets.entry(port).or_default().claims.push(claim);
        Ok(())
    }

    /// Whether `claim` would collide with somebody else's.
    pub fn is_taken(&self, port: u16, claim: &Claim) -> bool {
        self.buckets.get(&port).is_some_and(|b| {
            b.claims.iter().any(|c| c.sock != claim.sock && claim.conflicts(c))
                || b.followers.iter().filter(|f| claim.covers(f.ip)).any(|f| {
                    f.exclusive > 0 && !claim.reuseport
                        || f.reusable > 0 && !claim.reuseaddr && !claim.reuseport
                        || f.ephemeral > 0 && !claim.reuseaddr
                })
        })
    }

    /// A claimed socket changes (goes to LISTEN, gets its address narrowed by connect).
    ///
    /// # Errors
    /// `EADDRINUSE`: another socket listens there already.
    pub fn update(&mut self, port: u16, claim: Claim) -> Result<(), Errno> {
        let Some(bucket) = self.buckets.get_mut(&port) else { return Ok(()) };
        // Only other claims count here: connections of an earlier listener on this port do not keep a new one from listening.
        if bucket.claims.iter().any(|c| c.sock != claim.sock && claim.conflicts(c)) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(mine) = bucket.claims.iter_mut().find(|c| c.sock == claim.sock) {
            *mine = claim;
        }
        Ok(())
    }

    /// The options of a socket that has `port` changed. Linux asks nobody then: who does not get along any more learns it by `listen`.
    /// Who shared the port once by `SO_REUSEPORT` goes on being shared with.
    pub fn change_claim(&mut self, port: u16, claim: Claim) {
        let Some(bucket) = self.buckets.get_mut(&port) else { return };
        if let Some(mine) = bucket.claims.iter_mut().find(|c| c.sock == claim.sock) {
            *mine = Claim { reuseport: claim.reuseport || mine.reuseport, ..claim };
        }
    }

    /// Claims `port`, or changes the claim on it, whoever else has it (Linux's `SK_FORCE_REUSE`).
    pub fn replace(&mut self, port: u16, claim: Claim) {
        let bucket = self.buckets.entry(port).or_default();
        match bucket.claims.iter_mut().find(|c| c.sock == claim.sock) {
            Some(mine) => *mine = claim,
            None => bucket.claims.push(claim),
        }
    }

    /// Gives a claim back.
    pub fn release(&mut self, port: u16, sock: SockId) {
        self.change(port, |b| b.claims.retain(|c| c.sock != sock));
    }

    /// A connection without a claim starts to hold a port.
    pub fn hold(&mut self, at: SocketAddr, hold: Hold) {
        let followers = &mut self.buckets.entry(at.port()).or_default().followers;
        let i = followers.iter().position(|f| f.ip == at.ip()).unwrap_or_else(|| {
            followers.push(Followers { ip: at.ip(), reusable: 0, exclusive: 0, ephemeral: 0 });
            followers.len() - 1
        });
        *followers[i].count(hold) += 1;
    }

    /// It stops.
    pub fn unhold(&mut self, at: SocketAddr, hold: Hold) {
        self.change(at.port(), |b| {
            let Some(i) = b.followers.iter().position(|f| f.ip == at.ip()) else { return };
            let n = b.followers[i].count(hold);
            *n = n.saturating_sub(1);
            if b.followers[i].is_empty() {
                b.followers.swap_remove(i);
            }
        });
    }

    fn change(&mut self, port: u16, f: impl FnOnce(&mut Bucket)) {
        if let Some(b) = self.buckets.get_mut(&port) {
            f(b);
            if b.is_empty() {
                self.buckets.remove(&port);
            }
        }
    }

    /// A port for an active open: RFC 6056, 3.3.4 ("Double-Hash Port Selection"), `offset` being the keyed hash of the
    /// destination and its counter; the parity rule is Linux's: odd or even as the range's first port, so that the other half is left to `bind(0)`.
    /// `accept` decides whether the four-tuple with this port is free (and belongs to this shard).
    pub fn pick_for_connect(&self, range: PortRange<'_>, offset: u32, accept: impl Fn(u16) -> bool) -> Option<u16> {
        let usable =
            |b: &Bucket| b.claims.is_empty() && b.followers.iter().all(|f| f.reusable == 0 && f.exclusive == 0);
        // Ports are handed out in a row and come back in the order in which they went (TIME_WAIT is as long for all): where the first
        // hundreds are still taken, so are usually the thousands behind them. Both halves get a short look before either gets a long one.
        [(offset & !1, SHORT_WALK), (offset | 1, SHORT_WALK), (offset & !1, u32::MAX), (offset | 1, u32::MAX)]
            .into_iter()
            .find_map(|(offset, most)| self.walk(range, offset, most, &accept, usable))
    }

    /// A port for `bind` to port 0.
    pub fn pick_for_bind(
        &self,
        range: PortRange<'_>,
        offset: u32,
        claim: &Claim,
        accept: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let free = |port: u16| accept(port) && !self.is_taken(port, claim);
        let all = u32::MAX;
        self.walk(range, offset | 1, all, &free, |_| true)
            .or_else(|| self.walk(range, offset & !1, all, &free, |_| true))
    }

    fn walk(
        &self,
        range: PortRange<'_>,
        offset: u32,
        most: u32,
        accept: &impl Fn(u16) -> bool,
        usable: impl Fn(&Bucket) -> bool,
    ) -> Option<u16> {
        let count = u32::from(range.last - range.first) + 1;
        let parity = offset & 1;
        let half = (count + 1 - parity) / 2;
        let start = if half == 0 { return None } else { (offset >> 1) % half };
        (0..half.min(most))
            .map(|i| range.first + (((start + i) % half) * 2 + parity) as u16)
            .filter(|p| !range.reserved.iter().any(|&(a, b)| (a..=b).contains(p)))
            .find(|&p| self.buckets.get(&p).is_none_or(&usable) && accept(p))
    }
}

/// Ports of one half of the range that an active open looks at before it tries the other half.
const SHORT_WALK: u32 = 256;

/// `net.ipv4.ip_local_port_range` and `ip_local_reserved_ports`.
#[derive(Clone, Copy, Debug)]
pub struct PortRange<'a> {
    /// First port of the range.
    pub first: u16,
    /// Last one, included; not below `first`.
    pub last: u16,
    /// Never handed out: inclusive ranges.
    pub reserved: &'a [(u16, u16)],
}

impl<'a> PortRange<'a> {
    /// The range of a socket: ip(7), `IP_LOCAL_PORT_RANGE` ("narrows"): each bound counts only where it lies within the sysctl's; 0 is none.
    pub fn of(net: &'a crate::sysctl::NetSysctls, own: (u16, u16)) -> Self {
        let (mut first, mut last) = net.local_port_range;
        let within = first..=last;
        if within.contains(&own.0) {
            first = own.0;
        }
        if within.contains(&own.1) {
            last = own.1;
        }
        Self { first, last: last.max(first), reserved: &net.reserved_ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(slot: u32, ip: &str) -> Claim {
        Claim {
            sock: SockId { slot, generation: 0 },
            ip: ip.parse().expect("test address"),
            v6only: false,
            device: None,
            reuseaddr: false,
            reuseport: false,
            uid: 0,
            listening: false,
        }
    }
    fn table() -> PortTable {
        PortTable::new(Keyed::new(1, 2))
    }
    const RANGE: PortRange<'static> = PortRange { first: 32768, last: 32777, reserved: &[(32770, 32771)] };

    #[test]
    fn the_wildcard_collides_with_every_address_of_its_families() {
        let mut t = table();
        t.claim(80, claim(1, "::")).expect("free");
        assert_eq!(t.claim(80, claim(2, "10.0.0.1")), Err(Errno::EADDRINUSE));
        assert_eq!(t.claim(80, claim(2, "fd00::1")), Err(Errno::EADDRINUSE));
        t.release(80, SockId { slot: 1, generation: 0 });
        t.claim(80, Claim { v6only: true, ..claim(1, "::") }).expect("free again");
        t.claim(80, claim(2, "0.0.0.0")).expect("IPv6-only leaves IPv4");
        assert_eq!(t.claim(80, claim(3, "10.0.0.1")), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn reuseaddr_shares_unless_somebody_listens() {
        let mut t = table();
        let a = Claim { reuseaddr: true, ..claim(1, "0.0.0.0") };
        let b = Claim { reuseaddr: true, ..claim(2, "0.0.0.0") };
        t.claim(80, a).expect("free");
        t.claim(80, b).expect("both reuse");
        t.update(80, Claim { listening: true, ..a }).expect("b is only bound there");
        t.update(80, Claim { listening: true, ..b }).expect_err("a listens: a second one collides");
        t.release(80, b.sock);
        assert_eq!(t.claim(80, b), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn reuseport_needs_both() {
        let mut t = table();
        t.claim(80, Claim { reuseport: true, listening: true, ..claim(1, "0.0.0.0") }).expect("free");
        assert_eq!(t.claim(80, claim(2, "0.0.0.0")), Err(Errno::EADDRINUSE));
        t.claim(80, Claim { reuseport: true, listening: true, ..claim(2, "0.0.0.0") }).expect("group");
        let other = Claim { reuseport: true, uid: 1000, ..claim(3, "0.0.0.0") };
        assert_eq!(t.claim(80, other), Err(Errno::EADDRINUSE), "another user's");
    }

    #[test]
    fn a_server_restarts_over_time_wait_only_with_reuseaddr() {
        let mut t = table();
        t.hold("10.0.0.1:80".parse().expect("test address"), Hold::Follower(true));
        assert_eq!(t.claim(80, claim(1, "0.0.0.0")), Err(Errno::EADDRINUSE));
        t.claim(80, Claim { reuseaddr: true, ..claim(1, "0.0.0.0") }).expect("SO_REUSEADDR");
    }

    /// A connection accepted on one address kept every other address of the host from binding the port (Linux compares addresses).
    #[test]
    fn connections_of_another_address_are_not_in_the_way() {
        let mut t = table();
        let at = |text: &str| text.parse::<SocketAddr>().expect("test address");
        for hold in [Hold::Follower(false), Hold::Follower(true), Hold::Ephemeral] {
            t.hold(at("10.0.0.1:80"), hold);
            assert_eq!(t.claim(80, claim(1, "10.0.0.1")), Err(Errno::EADDRINUSE), "{hold:?}");
            assert_eq!(t.claim(80, claim(1, "0.0.0.0")), Err(Errno::EADDRINUSE), "{hold:?}");
            assert_eq!(t.claim(80, claim(1, "::")), Err(Errno::EADDRINUSE), "{hold:?}");
            for other in ["10.0.0.2", "fd00::1"] {
                t.claim(80, claim(1, other)).expect("another address");
                t.release(80, SockId { slot: 1, generation: 0 });
            }
            t.unhold(at("10.0.0.1:80"), hold);
            t.claim(80, claim(1, "10.0.0.1")).expect("given back");
            t.release(80, SockId { slot: 1, generation: 0 });
        }
    }

    #[test]
    fn a_range_of_its_own_narrows_the_sysctls() {
        let net = crate::sysctl::Sysctls::default().net;
        let (first, last) = net.local_port_range;
        let of = |own| {
            let r = PortRange::of(&net, own);
            (r.first, r.last)
        };
        assert_eq!(of((0, 0)), (first, last));
        assert_eq!(of((first + 5, first + 9)), (first + 5, first + 9));
        // A bound outside of the sysctl's range says nothing.
        assert_eq!(of((1, first + 9)), (first, first + 9));
        assert_eq!(of((first + 5, 65_535)), (first + 5, last));
    }

    #[test]
    fn ephemeral_ports_skip_reserved_and_claimed_ones_and_run_out() {
        let mut t = table();
        t.claim(32768, claim(1, "0.0.0.0")).expect("free");
        let mut taken = Vec::new();
        for offset in 0..32 {
            let free = |p: u16| !taken.contains(&p);
            let Some(port) = t.pick_for_connect(RANGE, offset * 7, free) else { break };
            taken.push(port);
        }
        taken.sort_unstable();
        assert_eq!(taken, [32769, 32772, 32773, 32774, 32775, 32776, 32777]);
        assert_eq!(t.pick_for_connect(RANGE, 5, |_| false), None);
    }

    /// The fifteen-thousandth connection in a row to one place took a millisecond: all of the even half of the range was looked at, and was
    /// in TIME_WAIT, before the first odd port.
    #[test]
    fn when_one_half_is_in_time_wait_the_other_is_found_soon() {
        let wide = PortRange { first: 32_768, last: 60_999, reserved: &[] };
        let looks = std::cell::Cell::new(0);
        let odd_only = |p: u16| {
            looks.set(looks.get() + 1);
            p % 2 == 1
        };
        assert!(table().pick_for_connect(wide, 12_346, odd_only).is_some_and(|p| p % 2 == 1));
        assert!(looks.get() <= SHORT_WALK + 1, "{} looks", looks.get());
        // And the last free port of all is still found.
        assert_eq!(table().pick_for_connect(wide, 12_346, |p| p == 32_770), Some(32_770));
    }

    #[test]
    fn bind_to_zero_finds_a_free_port() {
        let mut t = table();
        let mut got = Vec::new();
        for slot in 0..8 {
            let c = claim(slot, "0.0.0.0");
            let port = t.pick_for_bind(RANGE, 12345, &c, |_| true).expect("eight ports are free");
            t.claim(port, c).expect("picked");
            got.push(port);
        }
        assert_eq!(t.pick_for_bind(RANGE, 0, &claim(9, "0.0.0.0"), |_| true), None);
        assert!(got.iter().all(|p| !(32770..=32771).contains(p)));
    }
}
