//! What routers advertise: default routes, prefixes, addresses, and how the link is to be used (RFC 4861, 6.3; RFC 4862, 5.5; RFC 4191).

use super::Observation;
use super::dad::{lifetime, random_below};
use crate::addr::{ALL_ROUTERS, AddrState, Address, Prefix, Scope};
use crate::ip::{IfTimer, IpEnv, IpLayer};
use crate::route::{Route, RouteOptions, RouteOrigin, RouteType};
use stackd_base::{DropReason, Duration, Instant, Mib, PortId, Rng};
use stackd_wire::{MacAddr, NdpRepr, PrefixInfo, RouterAdvert};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// RFC 4862, 5.5.3 (e): lifetimes below this are not believed unless they are longer than what is left.
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);

/// What routers said about a link. `None`: nothing, or "unspecified".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkParams {
    /// Cur Hop Limit.
    pub hop_limit: Option<u8>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// How long a neighbour counts as reachable.
    pub reachable: Option<Duration>,
    /// Time between solicitations.
    pub retrans: Option<Duration>,
}

/// Router solicitation on one interface.
#[derive(Clone, Copy, Debug)]
struct Soliciting {
    sent: u32,
    interval: Duration,
}

/// What was learnt from routers.
#[derive(Debug, Default)]
pub(crate) struct Slaac {
    params: BTreeMap<PortId, LinkParams>,
    soliciting: BTreeMap<PortId, Soliciting>,
}

impl Slaac {
    pub(crate) fn params(&self, port: PortId) -> LinkParams {
        self.params.get(&port).copied().unwrap_or_default()
    }
    pub(crate) fn forget(&mut self, port: PortId) {
        self.params.remove(&port);
        self.soliciting.remove(&port);
    }
}

impl IpLayer {
    /// Begins to ask for router advertisements: when an interface has come up and has its link-local address.
    pub fn begin_soliciting(&mut self, env: &mut IpEnv<'_>, port: PortId) {
        let conf = self.conf(port);
        if conf.accept_ra == 0 || conf.router_solicitations == 0 || !self.speaks {
            return;
        }
        self.slaac.soliciting.insert(port, Soliciting { sent: 0, interval: Duration::ZERO });
        // RFC 4861, 6.3.7: "a host SHOULD delay the transmission for a random amount of time between 0 and MAX_RTR_SOLICITATION_DELAY."
        let delay = random_below(env.rng, conf.solicit_delay);
        self.timers.set(IfTimer::RouterSolicit(port), Some(env.now + delay));
    }

    pub(crate) fn router_solicit_due(&mut self, env: &mut IpEnv<'_>, port: PortId) {
        let conf = self.conf(port);
        let Some(s) = self.slaac.soliciting.get_mut(&port) else { return };
        if conf.accept_ra == 0 || u32::try_from(conf.router_solicitations).is_ok_and(|most| s.sent >= most) {
            self.slaac.soliciting.remove(&port);
            return;
        }
        s.sent += 1;
        // RFC 7559, 2: "RT = 2*RTprev + RAND*RTprev", at first "IRT + RAND*IRT", at most "MRT + RAND*MRT"; RAND is within 10 %.
        let base = if s.interval.is_zero() { conf.solicit_interval } else { s.interval.mul_ratio(2, 1) };
        s.interval = jitter(env.rng, base.min(conf.solicit_max_interval));
        let next = env.now + s.interval;
        self.timers.set(IfTimer::RouterSolicit(port), Some(next));
        let Some(ours) = self.port(port).map(|p| p.config.mac) else { return };
        let to = IpAddr::from(ALL_ROUTERS);
        let Some(IpAddr::V6(src)) = self.addrs().select_source(port, to, to) else { return };
        env.mib.inc(Mib::Icmp6OutRouterSolicits);
        let question = NdpRepr::RouterSolicit { source_mac: Some(ours) };
        self.send_ndp(env, port, src, ALL_ROUTERS, MacAddr::of_multicast_v6(ALL_ROUTERS), question);
    }

    /// Gives a port its link-local address from its MAC (RFC 4862, 5.3), with a look for duplicates. False: it has it.
    pub fn add_link_local(&mut self, env: &mut IpEnv<'_>, port: PortId) -> bool {
        let Some(mac) = self.port(port).map(|p| p.config.mac) else { return false };
        let addr = with_identifier(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac);
        let a = Address { addr, prefix_len: 64, scope: Scope::Link, port, secondary: false, deprecated: false };
        self.add_address_checked(env, a, false)
    }

    pub(crate) fn router_advert_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: Ipv6Addr,
        ra: &RouterAdvert,
    ) -> Result<(), DropReason> {
        // RFC 4861, 6.1.2: "IP Source Address is a link-local address."
        if !src.is_unicast_link_local() {
            return Err(DropReason::NdpInvalid);
        }
        let conf = self.conf(port);
        if conf.accept_ra == 0 {
            return Err(DropReason::IcmpIgnored);
        }
        if let Some(mac) = ra.source_mac {
            let o = Observation { mac: Some(mac), solicited: false, replace: true, router: Some(true), create: true };
            self.learn_neighbour(env, (port, src.into()), o);
        }
        self.link_params_in(port, ra);
        if conf.accept_ra_defrtr {
            self.default_router_in(env, port, src, ra);
        }
        if conf.accept_ra_pinfo {
            for p in ra.prefixes.iter().flatten() {
                self.prefix_in(env, port, p);
            }
        }
        // RFC 7559, 2.1: "the host will stop sending ... once it receives ... an RA with a Router Lifetime greater than zero".
        if ra.router_lifetime > 0 {
            self.slaac.soliciting.remove(&port);
            self.timers.set(IfTimer::RouterSolicit(port), None);
        }
        Ok(())
    }

    fn link_params_in(&mut self, port: PortId, ra: &RouterAdvert) {
        let link = self.port(port).map_or(0, |p| p.config.mtu);
        let takes_mtu = self.conf(port).accept_ra_mtu;
        let p = self.slaac.params.entry(port).or_default();
        let before = *p;
        // RFC 4861, 6.3.4: each only "if the ... value is non-zero"; what is unspecified leaves what is known.
        p.hop_limit = Some(ra.hop_limit).filter(|h| *h > 0).or(p.hop_limit);
        let millis = |ms: u32| (ms != 0).then(|| Duration::from_millis(ms.into()));
        // RFC 4861, 4.2: the reachable time is at most an hour (6.2.1).
        p.reachable = millis(ra.reachable_time).filter(|d| *d <= Duration::from_secs(3600)).or(p.reachable);
        p.retrans = millis(ra.retrans_timer).or(p.retrans);
        // RFC 4861, 6.3.4: "SHOULD ... as long as the value is greater than or equal to the minimum link MTU and does not exceed
        // the maximum LinkMTU value".
        p.mtu = ra.mtu.filter(|m| takes_mtu && (1280..=link).contains(m)).or(p.mtu);
        if *p != before {
            self.changed();
        }
    }

    fn default_router_in(&mut self, env: &mut IpEnv<'_>, port: PortId, src: Ipv6Addr, ra: &RouterAdvert) {
        let Some(any) = Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0) else { return };
        let (conf, router) = (self.conf(port), IpAddr::V6(src));
        let mine = move |r: &Route| r.origin == RouteOrigin::Ra && r.gateway == Some(router) && r.port == Some(port);
        let timer = IfTimer::RaRoute(port, any, Some(router));
        // RFC 4861, 6.3.4: lifetime zero: "immediately time-out the entry".
        let old = self.remove_route(any, mine).ok();
        if ra.router_lifetime == 0 {
            self.timers.set(timer, None);
            return;
        }
        let pref = if conf.accept_ra_rtr_pref { ra.preference } else { 0 };
        let options = RouteOptions { pref, ..old.map_or(RouteOptions::default(), |r| r.options) };
        let route = Route { metric: conf.ra_defrtr_metric, ..ra_route(any, Some(router), port, options) };
        // A route of an operator with the same metric on the same port stays.
        if self.add_route(route, false).is_ok() {
            self.timers.set(timer, Some(env.now + Duration::from_secs(ra.router_lifetime.into())));
        }
    }

    fn prefix_in(&mut self, env: &mut IpEnv<'_>, port: PortId, p: &PrefixInfo) {
        let Some(net) = Prefix::new(p.prefix.into(), p.prefix_len) else { return };
        // RFC 4862, 5.5.3: the link-local prefix is ignored; "If the preferred lifetime is greater than the valid lifetime": ignored.
        if p.prefix.is_unicast_link_local() || p.prefix.is_multicast() || p.preferred_lifetime > p.valid_lifetime {
            return;
        }
        if p.on_link {
            let mine = move |r: &Route| r.origin == RouteOrigin::Ra && r.gateway.is_none() && r.port == Some(port);
            let _ = self.remove_route(net, mine);
            let timer = IfTimer::RaRoute(port, net, None);
            let until = lifetime(env.now, p.valid_lifetime).filter(|_| p.valid_lifetime > 0);
            if p.valid_lifetime > 0 {
                let _ = self.add_route(ra_route(net, None, port, RouteOptions::default()), false);
            }
            self.timers.set(timer, until);
        }
        // RFC 4862, 5.5.3 (d): the prefix and the 64-bit interface identifier must add up to 128.
        let conf = self.conf(port);
        if !p.autonomous || !conf.autoconf || p.prefix_len != 64 {
            return;
        }
        let (IpAddr::V6(base), Some(mac)) = (net.addr(), self.port(port).map(|p| p.config.mac)) else { return };
        self.autoconf_address(env, port, with_identifier(base, mac), p);
    }

    fn autoconf_address(&mut self, env: &mut IpEnv<'_>, port: PortId, addr: IpAddr, p: &PrefixInfo) {
        let now = env.now;
        if !self.addrs().on(port).any(|a| a.addr == addr) {
            // RFC 4862, 5.5.3 (d): formed "if the Valid Lifetime is not 0".
            let a = Address { addr, prefix_len: 64, scope: Scope::of(addr), port, secondary: false, deprecated: false };
            if p.valid_lifetime == 0 || self.addrs().has(addr) || !self.add_address_checked(env, a, false) {
                return;
            }
            let valid = lifetime(now, p.valid_lifetime);
            self.set_lifetimes(now, addr, valid, lifetime(now, p.preferred_lifetime), true);
            return;
        }
        let state = self.addrs().state(addr);
        // One that an operator gave is not a router's to change.
        if !state.autoconf {
            return;
        }
        let remaining = state.valid_until.map(|t| t.saturating_since(now));
        let offered = Duration::from_secs(p.valid_lifetime.into());
        // RFC 4862, 5.5.3 (e): 1. more than two hours, or more than what is left: taken. 2. what is left is at most two hours: ignored.
        // 3. otherwise two hours. So a forged advertisement cannot take an address away at once.
        let valid = if p.valid_lifetime == u32::MAX {
            None
        } else if offered > TWO_HOURS || remaining.is_some_and(|r| offered > r) {
            Some(now + offered)
        } else if remaining.is_some_and(|r| r <= TWO_HOURS) {
            state.valid_until
        } else {
            Some(now + TWO_HOURS)
        };
        // "Note that the preferred lifetime of the corresponding address is always reset to the Preferred Lifetime in the received ...
        // option".
        self.set_lifetimes(now, addr, valid, lifetime(now, p.preferred_lifetime), true);
    }

    /// Gives an address its lifetimes.
    pub fn set_lifetimes(
        &mut self,
        now: Instant,
        addr: IpAddr,
        valid_until: Option<Instant>,
        preferred_until: Option<Instant>,
        autoconf: bool,
    ) {
        let state = AddrState { valid_until, preferred_until, autoconf, ..self.addrs().state(addr) };
        self.addrs.set_state(addr, state);
        let deprecated = preferred_until.is_some_and(|t| t <= now);
        self.addrs.set_deprecated(addr, deprecated);
        self.timers.set(IfTimer::Preferred(addr), preferred_until.filter(|_| !deprecated));
        self.timers.set(IfTimer::Valid(addr), valid_until);
        self.changed();
    }

    /// RFC 4862, 5.5.4: "A preferred address becomes deprecated when its preferred lifetime expires."
    pub(crate) fn preferred_over(&mut self, addr: IpAddr) {
        self.addrs.set_deprecated(addr, true);
        self.changed();
    }

    /// "An address (and its association with an interface) becomes invalid when its valid lifetime expires."
    pub(crate) fn valid_over(&mut self, addr: IpAddr) {
        let port = self.addrs().iter().find(|a| a.addr == addr).map(|a| a.port);
        if let Some(port) = port {
            self.remove_address(port, addr);
        }
    }

    pub(crate) fn ra_route_over(&mut self, port: PortId, dst: Prefix, gateway: Option<IpAddr>) {
        let mine = |r: &Route| r.origin == RouteOrigin::Ra && r.gateway == gateway && r.port == Some(port);
        let _ = self.remove_route(dst, mine);
    }

    /// Seconds until a route of a router's goes, rounded down.
    pub fn route_expires(&self, now: Instant, r: &Route) -> Option<Duration> {
        let port = r.port.filter(|_| r.origin == RouteOrigin::Ra)?;
        self.timers.get(IfTimer::RaRoute(port, r.dst, r.gateway)).map(|t| t.saturating_since(now))
    }

    /// What routers said about a link.
    pub fn link_params(&self, port: PortId) -> LinkParams {
        self.slaac.params(port)
    }
}

/// RFC 4291, appendix A: the prefix and the modified EUI-64 of a MAC address.
fn with_identifier(base: Ipv6Addr, mac: MacAddr) -> IpAddr {
    let id = u64::from_be_bytes(mac.interface_id());
    IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | u128::from(id)))
}

/// Within 10 % of `d` on either side.
fn jitter(rng: &mut dyn Rng, d: Duration) -> Duration {
    let tenth = Duration::from_nanos(d.as_nanos() / 10);
    d - tenth + random_below(rng, tenth.mul_ratio(2, 1))
}

const fn ra_route(dst: Prefix, gateway: Option<IpAddr>, port: PortId, options: RouteOptions) -> Route {
    Route {
        dst,
        kind: RouteType::Unicast,
        gateway,
        port: Some(port),
        src: None,
        // Linux's metric of a prefix from an advertisement.
        metric: 256,
        origin: RouteOrigin::Ra,
        options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_the_modified_eui64() {
        // RFC 2464, 4: 34-56-78-9A-BC-DE has the interface identifier 36-56-78-FF-FE-9A-BC-DE.
        let base = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        let got = with_identifier(base, MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
        assert_eq!(got, "fe80::3656:78ff:fe9a:bcde".parse::<IpAddr>().expect("an address"));
    }
}
