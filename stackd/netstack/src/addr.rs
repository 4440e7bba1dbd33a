//! The addresses of this stack, what is for us, and which source to use.

use stackd_base::{Instant, PortId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The network of `addr`; host bits are cleared. `None` when `len` exceeds the family's 32 or 128.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(a) if len <= 32 => Ipv4Addr::from_bits(a.to_bits() & mask(32, len) as u32).into(),
            IpAddr::V6(a) if len <= 128 => Ipv6Addr::from_bits(a.to_bits() & mask(128, len)).into(),
            _ => return None,
        };
        Some(Self { addr, len })
    }
    /// The prefix that only `addr` belongs to.
    pub const fn host(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }
    /// The network's first address.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }
    /// Bits that count.
    pub const fn bits(&self) -> u8 {
        self.len
    }
    /// Whether `a` belongs to it; never across families.
    pub fn contains(&self, a: IpAddr) -> bool {
        Self::new(a, self.len).is_some_and(|p| p.addr == self.addr)
    }
}

fn mask(width: u32, len: u8) -> u128 {
    let ones = if width == 128 { u128::MAX } else { (1 << width) - 1 };
    match u32::from(len) {
        0 => 0,
        n => ones & (ones << (width - n)),
    }
}

/// How far an address reaches (rtnetlink's names).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// This link.
    Link,
    /// This host.
    Host,
}

impl Scope {
    /// What Linux assigns when nothing is said.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            a if a.is_loopback() => Self::Host,
            IpAddr::V4(a) if a.is_link_local() => Self::Link,
            IpAddr::V6(a) if a.is_unicast_link_local() || is_link_multicast(a) => Self::Link,
            _ => Self::Global,
        }
    }
}

fn is_link_multicast(a: Ipv6Addr) -> bool {
    a.is_multicast() && a.octets()[1] & 0x0f <= 2
}

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// Bits of its network.
    pub prefix_len: u8,
    /// How far it reaches.
    pub scope: Scope,
    /// Whose.
    pub port: PortId,
    /// Another address of the same network came first (`secondary` in `ip addr`): not chosen as source.
    pub secondary: bool,
    /// Preferred lifetime is over (SLAAC): only chosen when there is nothing better.
    pub deprecated: bool,
}

impl Address {
    /// The network it is on.
    pub fn network(&self) -> Prefix {
        Prefix::new(self.addr, self.prefix_len).unwrap_or(Prefix::host(self.addr))
    }
    /// The directed broadcast address of its network; none for /31, /32 and IPv6.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.addr {
            IpAddr::V4(a) if self.prefix_len < 31 && !a.is_loopback() => {
                Some(Ipv4Addr::from_bits(a.to_bits() | !(mask(32, self.prefix_len) as u32)))
            }
            _ => None,
        }
    }
}

/// How an address stands: duplicate address detection, and lifetimes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddrState {
    /// Nobody knows yet whether it is unique (RFC 4862, 2): it is not used, and packets to it are not for us.
    pub tentative: bool,
    /// It is not: somebody else has it. It stays tentative.
    pub dadfailed: bool,
    /// When it goes; `None`: never.
    pub valid_until: Option<Instant>,
    /// When it becomes deprecated; `None`: never.
    pub preferred_until: Option<Instant>,
    /// A router advertisement made it.
    pub autoconf: bool,
    /// Its interface is down: it is not ours until that is up again (Linux's local table loses it meanwhile).
    pub down: bool,
}

/// What a destination address is to this stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// One of our unicast addresses.
    Local,
    /// A broadcast address of a network of ours.
    Broadcast,
    /// A group we belong to.
    Multicast,
    /// Somebody else's.
    Foreign,
}

/// All addresses and group memberships.
#[derive(Debug, Default)]
pub struct AddrTable {
    addrs: Vec<Address>,
    /// Those that are ours in deed: all but tentative ones and those of interfaces that are down.
    local: BTreeMap<IpAddr, PortId>,
    /// Of those that have anything to say; others are as `AddrState::default()`.
    states: BTreeMap<IpAddr, AddrState>,
    broadcast: BTreeSet<(PortId, Ipv4Addr)>,
    /// Groups by interface, with the number of reasons to be in them.
    groups: BTreeMap<(PortId, IpAddr), u32>,
}

impl AddrTable {
    /// Adds an address. False: it is there already, or cannot be an interface's address.
    pub fn add(&mut self, mut address: Address) -> bool {
        let a = address.addr;
        let max = if a.is_ipv4() { 32 } else { 128 };
        let limited = matches!(a, IpAddr::V4(v) if v.is_broadcast());
        if a.is_multicast() || a.is_unspecified() || limited || address.prefix_len > max || self.has(a) {
            return false;
        }
        address.secondary =
            a.is_ipv4() && self.on(address.port).any(|x| x.network() == address.network() && !x.secondary);
        self.local.insert(a, address.port);
        if let Some(b) = address.broadcast() {
            self.broadcast.insert((address.port, b));
        }
        if let IpAddr::V6(v6) = a {
            self.join(address.port, solicited_node(v6).into());
        }
        self.addrs.push(address);
        true
    }

    /// Takes an address away; `None` when it is not there. The next secondary of its network becomes primary.
    pub fn remove(&mut self, port: PortId, addr: IpAddr) -> Option<Address> {
        let i = self.addrs.iter().position(|a| a.port == port && a.addr == addr)?;
        let gone = self.addrs.remove(i);
        self.local.remove(&addr);
        self.states.remove(&addr);
        if let Some(b) = gone.broadcast()
            && !self.on(port).any(|a| a.broadcast() == Some(b))
        {
            self.broadcast.remove(&(port, b));
        }
        if let IpAddr::V6(v6) = addr {
            self.leave(port, solicited_node(v6).into());
        }
        if !gone.secondary
            && let Some(heir) = self.addrs.iter_mut().find(|a| a.port == port && a.network() == gone.network())
        {
            heir.secondary = false;
        }
        Some(gone)
    }

    /// Marks an address deprecated or preferred again.
    pub fn set_deprecated(&mut self, addr: IpAddr, deprecated: bool) {
        for a in self.addrs.iter_mut().filter(|a| a.addr == addr) {
            a.deprecated = deprecated;
        }
    }

    /// Whether it is an address of an interface, tentative or not.
    pub fn has(&self, addr: IpAddr) -> bool {
        self.local.contains_key(&addr) || self.states.contains_key(&addr)
    }

    /// How an address stands.
    pub fn state(&self, addr: IpAddr) -> AddrState {
        self.states.get(&addr).copied().unwrap_or_default()
    }

    /// Changes how an address stands.
    pub fn set_state(&mut self, addr: IpAddr, state: AddrState) {
        let Some(port) = self.addrs.iter().find(|a| a.addr == addr).map(|a| a.port) else { return };
        if state.tentative || state.down {
            self.local.remove(&addr);
        } else {
            self.local.insert(addr, port);
        }
        if state == AddrState::default() {
            self.states.remove(&addr);
        } else {
            self.states.insert(addr, state);
        }
    }

    /// Every address, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.addrs.iter()
    }

    /// The addresses of one interface.
    pub fn on(&self, port: PortId) -> impl Iterator<Item = &Address> {
        self.addrs.iter().filter(move |a| a.port == port)
    }

    /// The interface that has this address. All of 127/8 is local where 127.0.0.1/8 is.
    pub fn owner(&self, addr: IpAddr) -> Option<PortId> {
        if let Some(&p) = self.local.get(&addr) {
            return Some(p);
        }
        match addr {
            IpAddr::V4(v) if v.is_loopback() => {
                self.addrs.iter().find(|a| a.addr.is_loopback() && a.network().contains(addr)).map(|a| a.port)
            }
            _ => None,
        }
    }

    /// Whether the address is one of ours.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.owner(addr).is_some()
    }

    /// What a destination is for a packet that came in on `port`. Weak host model (RFC 1122, 3.3.4.2), as Linux: our address is ours
    /// on every interface.
    pub fn classify(&self, port: PortId, dst: IpAddr) -> Class {
        if self.is_local(dst) {
            return Class::Local;
        }
        match dst {
            IpAddr::V4(v) if v.is_broadcast() || self.broadcast.contains(&(port, v)) => Class::Broadcast,
            a if a.is_multicast() && self.is_member(port, a) => Class::Multicast,
            _ => Class::Foreign,
        }
    }

    /// Whether any interface has this directed broadcast address.
    pub fn is_broadcast(&self, addr: IpAddr) -> bool {
        matches!(addr, IpAddr::V4(v) if v.is_broadcast() || self.broadcast.iter().any(|&(_, b)| b == v))
    }

    /// Joins a group on an interface; each join wants its own leave.
    pub fn join(&mut self, port: PortId, group: IpAddr) {
        *self.groups.entry((port, group)).or_default() += 1;
    }

    /// Undoes one join. False: there was none.
    pub fn leave(&mut self, port: PortId, group: IpAddr) -> bool {
        let Some(n) = self.groups.get_mut(&(port, group)) else { return false };
        *n -= 1;
        if *n == 0 {
            self.groups.remove(&(port, group));
        }
        true
    }

    fn is_member(&self, port: PortId, group: IpAddr) -> bool {
        // Every host belongs to these (RFC 1112, 4; RFC 4291, 2.8).
        let always = match group {
            IpAddr::V4(g) => g == Ipv4Addr::new(224, 0, 0, 1),
            IpAddr::V6(g) => g == ALL_NODES || g == Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1),
        };
        always || self.groups.contains_key(&(port, group))
    }

    /// The source for a packet to `dst` that leaves by `port` through `via`; `None` when there is no address of its family.
    pub fn select_source(&self, port: PortId, dst: IpAddr, via: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V4(_) => self.select_v4(port, dst, via),
            IpAddr::V6(d) => self.select_v6(port, d),
        }
    }

    /// Linux's `inet_select_addr`: a primary address on the interface whose network has the next hop, else its first, else any.
    fn select_v4(&self, port: PortId, dst: IpAddr, via: IpAddr) -> Option<IpAddr> {
        let usable =
            |a: &&Address| a.addr.is_ipv4() && !a.secondary && (a.scope <= Scope::of(dst) || a.network().contains(via));
        let mine = || self.on(port).filter(usable);
        mine()
            .find(|a| a.network().contains(via))
            .or_else(|| mine().next())
            .or_else(|| self.addrs.iter().filter(usable).find(|a| a.scope == Scope::Global))
            .map(|a| a.addr)
    }

    /// RFC 6724, 5, rules 1 (same address), 2 (scope), 3 (deprecated), 5 (outgoing interface), 6 (label) and 8 (longest prefix).
    fn select_v6(&self, port: PortId, dst: Ipv6Addr) -> Option<IpAddr> {
        let want = Scope::of(dst.into());
        let rank = |a: &&Address| {
            let IpAddr::V6(s) = a.addr else { return None };
            // RFC 6724, 4: "tentative" addresses are no candidates.
            let state = self.state(a.addr);
            if state.tentative || state.down {
                return None;
            }
            // A link-local address is only meaningful on its own link.
            if a.port != port && a.scope != Scope::Global && want != Scope::Host {
                return None;
            }
            let reaches = a.scope <= want;
            let common = (s.to_bits() ^ dst.to_bits()).leading_zeros();
            // Rule 8, RFC 6724, 2.2: the common prefix counts "up to the length of S's prefix".
            let common = common.min(u32::from(a.prefix_len));
            // Among those that reach, the narrowest scope (rule 2); among those that do not, the widest.
            let nearest = if reaches { a.scope as u8 } else { u8::MAX - a.scope as u8 };
            Some((s == dst, reaches, nearest, !a.deprecated, a.port == port, label(s) == label(dst), common))
        };
        // `rev`: among equals the first added wins.
        self.addrs.iter().rev().filter_map(|a| Some((rank(&a)?, a.addr))).max_by_key(|(r, _)| *r).map(|(_, a)| a)
    }
}

/// The interface that an IPv6 address names by its scope (RFC 4007, 6): only where the address itself says no more than "this link".
pub fn scope_of(addr: &SocketAddr) -> Option<PortId> {
    match addr {
        SocketAddr::V6(a) if a.scope_id() != 0 && needs_scope(*a.ip()) => Some(PortId(a.scope_id())),
        _ => None,
    }
}

/// The address of a peer that was heard on `port`, with its scope where it needs one.
pub fn scoped(addr: SocketAddr, port: PortId) -> SocketAddr {
    match addr {
        SocketAddr::V6(mut a) if needs_scope(*a.ip()) => {
            a.set_scope_id(port.0);
            a.into()
        }
        _ => addr,
    }
}

/// Link-local, unicast or multicast.
pub fn needs_scope(a: Ipv6Addr) -> bool {
    a.is_unicast_link_local() || is_link_multicast(a)
}

/// The group of all nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group of all routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// RFC 4291, 2.7.1: ff02::1:ff00:0/104 and the low 24 bits of the address.
pub fn solicited_node(a: Ipv6Addr) -> Ipv6Addr {
    const BASE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(BASE | a.to_bits() & 0xff_ffff)
}

/// RFC 6724, 2.1: the labels of the default policy table, longest prefix first.
fn label(a: Ipv6Addr) -> u8 {
    match a.segments() {
        _ if a.is_loopback() => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 5,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [s, ..] if s & 0xffc0 == 0xfec0 => 11,
        [s, ..] if s & 0xfe00 == 0xfc00 => 13,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().expect("address")
    }
    fn addr(port: u32, a: &str, prefix_len: u8) -> Address {
        let addr = ip(a);
        Address { addr, prefix_len, scope: Scope::of(addr), port: PortId(port), secondary: false, deprecated: false }
    }

    #[test]
    fn prefixes_contain_by_their_bits() {
        let p = Prefix::new(ip("10.1.2.3"), 24).expect("prefix");
        assert_eq!(p.addr(), ip("10.1.2.0"));
        assert!(p.contains(ip("10.1.2.255")) && !p.contains(ip("10.1.3.0")) && !p.contains(ip("::1")));
        assert!(Prefix::new(ip("::"), 0).expect("default").contains(ip("ff02::1")));
        assert_eq!(Prefix::new(ip("1.2.3.4"), 33), None);
    }

    #[test]
    fn classification() {
        let mut t = AddrTable::default();
        assert!(
            t.add(addr(1, "127.0.0.1", 8)) && t.add(addr(2, "10.0.0.2", 24)) && t.add(addr(2, "fe80::12:3456", 64))
        );
        assert!(!t.add(addr(2, "10.0.0.2", 24)) && !t.add(addr(2, "224.0.0.1", 24)) && !t.add(addr(2, "0.0.0.0", 0)));
        let c = |a| t.classify(PortId(2), ip(a));
        assert_eq!((c("127.9.9.9"), c("10.0.0.2"), c("10.0.0.3")), (Class::Local, Class::Local, Class::Foreign));
        assert_eq!((c("10.0.0.255"), c("255.255.255.255")), (Class::Broadcast, Class::Broadcast));
        assert_eq!((c("224.0.0.1"), c("224.0.0.5")), (Class::Multicast, Class::Foreign));
        assert_eq!((c("ff02::1:ff12:3456"), c("ff02::1:ff12:3457")), (Class::Multicast, Class::Foreign));
        t.remove(PortId(2), ip("fe80::12:3456"));
        assert_eq!(t.classify(PortId(2), ip("ff02::1:ff12:3456")), Class::Foreign);
    }

    #[test]
    fn a_secondary_inherits_when_the_primary_goes() {
        let mut t = AddrTable::default();
        t.add(addr(2, "10.0.0.2", 24));
        t.add(addr(2, "10.0.0.3", 24));
        assert_eq!(t.select_source(PortId(2), ip("10.0.0.9"), ip("10.0.0.9")), Some(ip("10.0.0.2")));
        t.remove(PortId(2), ip("10.0.0.2"));
        assert_eq!(t.select_source(PortId(2), ip("10.0.0.9"), ip("10.0.0.9")), Some(ip("10.0.0.3")));
    }

    #[test]
    fn v6_sources_match_the_scope_of_the_destination() {
        let mut t = AddrTable::default();
        t.add(addr(1, "::1", 128));
        t.add(addr(2, "fe80::1", 64));
        t.add(addr(2, "2001:db8::1", 64));
        t.add(addr(2, "fd00::1", 64));
        let s = |d| t.select_source(PortId(2), ip(d), ip(d));
        assert_eq!(s("fe80::9"), Some(ip("fe80::1")));
        assert_eq!(s("2001:db8:1::9"), Some(ip("2001:db8::1")));
        assert_eq!(s("fd00:1::9"), Some(ip("fd00::1")));
        assert_eq!(s("ff02::1"), Some(ip("fe80::1")));
    }

    /// RFC 6724, 5: each rule decides where those before it do not; and 10.1's examples.
    #[test]
    fn source_address_selection_rule_by_rule() {
        let pick = |addrs: &[(u32, &str, u8)], deprecated: &str, dst: &str| {
            let mut t = AddrTable::default();
            for &(port, a, len) in addrs {
                assert!(t.add(addr(port, a, len)));
            }
            if !deprecated.is_empty() {
                t.set_deprecated(ip(deprecated), true);
            }
            t.select_source(PortId(2), ip(dst), ip(dst)).expect("a source").to_string()
        };
        // Rule 1: the same address.
        assert_eq!(pick(&[(2, "2001:db8::1", 64), (2, "2001:db8::2", 64)], "", "2001:db8::2"), "2001:db8::2");
        // Rule 2: appropriate scope: a link-local destination wants the narrow one, a global destination never gets it.
        assert_eq!(pick(&[(2, "fe80::1", 64), (2, "2001:db8:2::1", 64)], "", "2001:db8:1::1"), "2001:db8:2::1");
        assert_eq!(pick(&[(2, "2001:db8:2::1", 64), (2, "fe80::1", 64)], "", "ff02::1"), "fe80::1");
        // Rule 2 before rule 3: it was the other way round here.
        assert_eq!(pick(&[(2, "2001:db8:2::1", 64), (2, "fe80::1", 64)], "fe80::1", "fe80::9"), "fe80::1");
        // Rule 3: no deprecated address, though its prefix is longer.
        assert_eq!(
            pick(&[(2, "2001:db8:1::2", 64), (2, "2001:db8:3::2", 64)], "2001:db8:1::2", "2001:db8:1::9"),
            "2001:db8:3::2"
        );
        // Rule 5: the outgoing interface's.
        assert_eq!(pick(&[(3, "2001:db8:1::2", 64), (2, "2001:db8:3::2", 64)], "", "2001:db8:1::9"), "2001:db8:3::2");
        // Rule 6: the label: 6to4 to 6to4, unique local to unique local, Teredo not to native.
        assert_eq!(
            pick(&[(2, "2001:db8:1::2", 64), (2, "2002:c633:6401::d5e3", 64)], "", "2002:c633:6401::1"),
            "2002:c633:6401::d5e3"
        );
        assert_eq!(pick(&[(2, "2001:db8:1::2", 64), (2, "fd00::2", 64)], "", "fd01::1"), "fd00::2");
        assert_eq!(pick(&[(2, "2001::2", 64), (2, "2610::2", 64)], "", "2001:db8::1"), "2610::2");
        // Rule 8: the longest common prefix, no further than the source's own prefix.
        assert_eq!(pick(&[(2, "2001:db8:3::2", 64), (2, "2001:db8:1::2", 64)], "", "2001:db8:1::1"), "2001:db8:1::2");
        assert_eq!(pick(&[(2, "2001:db8:1::ff", 64), (2, "2001:db8:1::2", 64)], "", "2001:db8:1::3"), "2001:db8:1::ff");
    }
}
