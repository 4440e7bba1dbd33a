//! Duplicate address detection, router advertisements and solicitations, redirects: rule by rule, in virtual time.

use super::*;
use crate::addr::{ALL_NODES, ALL_ROUTERS};
use crate::neigh::NudState;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const ROUTER2: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
const MADE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0xff, 0xfe00, 1);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);

impl Host {
    /// Lets the timers run until `span` has passed; returns what was sent, with its times.
    fn pass(&mut self, span: Duration) -> Vec<(Instant, Vec<u8>)> {
        let end = self.now + span;
        // MLD has tests of its own.
        let mld = |f: &Vec<u8>| f[20] != proto::HOP_BY_HOP;
        let mut out: Vec<_> = self.tx(ETH).into_iter().filter(mld).map(|f| (self.now, f)).collect();
        while let Some(t) = self.ip.next_deadline().filter(|t| *t <= end) {
            self.now = self.now.max(t);
            self.with(|ip, env| ip.handle_timers(env));
            out.extend(self.tx(ETH).into_iter().filter(mld).map(|f| (self.now, f)));
        }
        self.now = end;
        out
    }

    fn add_checked(&mut self, addr: Ipv6Addr) -> bool {
        let addr = IpAddr::V6(addr);
        let a =
            Address { addr, prefix_len: 64, scope: Scope::of(addr), port: ETH, secondary: false, deprecated: false };
        self.with(|ip, env| ip.add_address_checked(env, a, false))
    }

    fn ndp(&mut self, src: Ipv6Addr, dst: Ipv6Addr, message: NdpRepr) -> Delivered<'static> {
        let mut m = vec![0; message.len()];
        message.emit(&mut m, src, dst);
        let f = frame6(src, dst, proto::ICMPV6, 255, &m);
        self.rx(&f).into_owned()
    }

    fn usable(&self, addr: Ipv6Addr) -> bool {
        self.ip.addrs().is_local(addr.into())
    }

    fn settled() -> Self {
        let mut h = Self::new();
        assert!(h.with(|ip, env| ip.add_link_local(env, ETH)));
        h.pass(Duration::from_secs(3));
        assert!(h.usable(OURS6));
        h
    }

    fn hears(&mut self, ra: RouterAdvert) {
        self.hears_from(ROUTER, ra);
    }
    fn hears_from(&mut self, router: Ipv6Addr, ra: RouterAdvert) {
        assert_eq!(self.ndp(router, ALL_NODES, NdpRepr::RouterAdvert(ra)), Delivered::Handled);
    }
    fn default_router(&self) -> Option<IpAddr> {
        self.ip.route(self.now, FAR.into(), Some(OURS6.into()), None).ok().map(|r| r.next_hop)
    }
}

fn message(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, u8, Option<NdpRepr>) {
    let (ip, at) = Ipv6Repr::parse(&frame[14..], frame.len() - 14).expect("IPv6");
    (ip.src, ip.dst, ip.hop_limit, NdpRepr::parse(&frame[14 + at..]).expect("NDP"))
}

fn ra() -> RouterAdvert {
    RouterAdvert { router_lifetime: 1800, source_mac: Some(THEIRS), ..RouterAdvert::default() }
}

fn ra_with_prefix(valid: u32, preferred: u32) -> RouterAdvert {
    let p = PrefixInfo {
        prefix: PREFIX,
        prefix_len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: valid,
        preferred_lifetime: preferred,
    };
    RouterAdvert { prefixes: [Some(p), None, None, None], ..ra() }
}

/// RFC 4862, 5.4.2 and 5.4: a solicitation from "::" to the solicited-node group; RetransTimer later the address is ours. Until then it is
/// neither a source nor a destination, and questions about it are not answered.
#[test]
fn an_address_is_tentative_until_nobody_objected() {
    let mut h = Host::new();
    assert!(h.add_checked(MADE) && !h.add_checked(MADE));
    assert!(h.ip.addrs().state(MADE.into()).tentative && !h.usable(MADE));
    let d = udp(B6.into(), MADE.into(), b"x");
    let f = frame6(B6, MADE, proto::UDP, 64, &d);
    assert_eq!(h.rx(&f), Delivered::Dropped(DropReason::IpNotForUs));
    let question = NdpRepr::NeighborSolicit { target: MADE, source_mac: Some(THEIRS), nonce: None };
    assert_eq!(h.ndp(B6, solicited_node(MADE), question), Delivered::Handled);
    let from = h.ip.route(h.now, FAR.into(), None, Some(ETH)).map(|r| r.src);
    assert_ne!(from, Ok(MADE.into()));
    let began = h.now;
    let sent = h.pass(Duration::from_secs(5));
    let [(at, f)] = &sent[..] else { panic!("{} frames", sent.len()) };
    assert!(*at - began < Duration::from_secs(1), "a random delay below MAX_RTR_SOLICITATION_DELAY");
    let (src, dst, hops, Some(NdpRepr::NeighborSolicit { target, source_mac, nonce })) = message(f) else {
        panic!("a solicitation");
    };
    assert_eq!((src, dst, hops), (Ipv6Addr::UNSPECIFIED, solicited_node(MADE), 255));
    assert_eq!((target, source_mac, nonce.is_some()), (MADE, None, true));
    assert!(h.usable(MADE) && !h.ip.addrs().state(MADE.into()).tentative);
}

/// RFC 4862, 5.4.3 and 5.4.4: another's solicitation from "::", or its advertisement, makes the address a duplicate. RFC 7527, 4.2: not our
/// own solicitation that came back. A node that merely asks for the owner is no proof either.
#[test]
fn a_duplicate_is_not_used() {
    let solicit = |nonce| NdpRepr::NeighborSolicit { target: MADE, source_mac: None, nonce };
    let advert = NdpRepr::NeighborAdvert {
        target: MADE,
        router: false,
        solicited: false,
        override_: true,
        target_mac: Some(THEIRS),
    };
    for (what, src, dst, duplicate) in [
        (advert, MADE, ALL_NODES, true),
        (solicit(Some([9; 6])), Ipv6Addr::UNSPECIFIED, solicited_node(MADE), true),
        (solicit(None), Ipv6Addr::UNSPECIFIED, solicited_node(MADE), true),
        (solicit(None), B6, solicited_node(MADE), false),
    ] {
        let mut h = Host::new();
        h.add_checked(MADE);
        h.pass(Duration::from_millis(1001));
        h.ndp(src, dst, what);
        let sent = h.pass(Duration::from_secs(5));
        let state = h.ip.addrs().state(MADE.into());
        assert_eq!((state.dadfailed, h.usable(MADE)), (duplicate, !duplicate), "{what:?}");
        assert_eq!(h.drops.get(DropReason::DadFailed), u64::from(duplicate));
        assert!(sent.is_empty());
        assert!(h.ip.remove_address(ETH, MADE.into()) && h.add_checked(MADE), "it can be tried again");
    }
    let mut h = Host::new();
    h.add_checked(MADE);
    let sent = h.pass(Duration::from_millis(1001));
    let (src, dst, _, Some(own)) = message(&sent[0].1) else { panic!("a solicitation") };
    h.ndp(src, dst, own);
    h.pass(Duration::from_secs(5));
    assert!(h.usable(MADE), "looped back");
}

/// RFC 4862, 5.4: DupAddrDetectTransmits; zero "indicates that Duplicate Address Detection is not performed".
#[test]
fn dad_transmits_says_how_often() {
    for n in [0, 3] {
        let mut h = Host::new();
        h.ip.port_mut(ETH).expect("port").conf.dad_transmits = n;
        h.add_checked(MADE);
        assert_eq!(h.usable(MADE), n == 0);
        let sent = h.pass(Duration::from_secs(10));
        assert_eq!((sent.len() as u32, h.usable(MADE)), (n, true));
        assert!(sent.windows(2).all(|w| w[1].0 - w[0].0 == Duration::from_secs(1)), "RetransTimer apart");
    }
    let mut h = Host::new();
    h.ip.port_mut(ETH).expect("port").conf.accept_dad = false;
    h.add_checked(MADE);
    assert!(h.usable(MADE));
}

/// RFC 4861, 6.3.7 and RFC 7559, 2: solicitations from the link-local address with exponential backoff, until a router answers.
#[test]
fn routers_are_solicited_with_backoff_until_one_answers() {
    let mut h = Host::new();
    h.with(|ip, env| ip.add_link_local(env, ETH));
    let mut sent = h.pass(Duration::from_secs(130));
    sent.retain(|(_, f)| matches!(message(f).3, Some(NdpRepr::RouterSolicit { .. })));
    assert_eq!(message(&sent[0].1).0, OURS6);
    assert_eq!(message(&sent[0].1).1, ALL_ROUTERS);
    let mut expected = 4.0;
    for w in sent.windows(2) {
        let gap = (w[1].0 - w[0].0).as_secs_f64();
        assert!((gap / expected - 1.0).abs() <= 0.11, "{gap} s, not {expected}");
        expected = gap * 2.0;
    }
    assert!(sent.len() >= 5, "{}", sent.len());
    // RFC 7559, 2.1: an advertisement of something that is no default router does not end it.
    h.hears(RouterAdvert { router_lifetime: 0, ..ra() });
    assert!(!h.pass(Duration::from_secs(400)).is_empty());
    h.hears(ra());
    assert!(h.pass(Duration::from_secs(1700)).is_empty());
    let mut h = Host::new();
    h.ip.port_mut(ETH).expect("port").conf.router_solicitations = 3;
    h.with(|ip, env| ip.add_link_local(env, ETH));
    let sent = h.pass(Duration::from_secs(10_000));
    assert_eq!(sent.iter().filter(|(_, f)| matches!(message(f).3, Some(NdpRepr::RouterSolicit { .. }))).count(), 3);
}

/// RFC 4861, 6.3.4 and 6.3.5: a default router lasts as long as its lifetime says, and goes at once with zero.
#[test]
fn a_default_router_lasts_for_its_lifetime() {
    let mut h = Host::settled();
    h.hears(ra());
    assert_eq!(h.default_router(), Some(ROUTER.into()));
    h.pass(Duration::from_secs(1000));
    h.hears(ra());
    h.pass(Duration::from_secs(1799));
    assert_eq!(h.default_router(), Some(ROUTER.into()));
    h.pass(Duration::from_secs(2));
    assert_eq!(h.default_router(), None);
    h.hears(ra());
    h.hears(RouterAdvert { router_lifetime: 0, ..ra() });
    assert_eq!(h.default_router(), None);
    for (key, heeded) in [("accept_ra_defrtr", false), ("", true)] {
        h.ip.port_mut(ETH).expect("port").conf.accept_ra_defrtr = key.is_empty();
        h.hears(ra());
        assert_eq!(h.default_router().is_some(), heeded);
    }
    h.ip.port_mut(ETH).expect("port").conf.accept_ra = 0;
    let refused = h.ndp(ROUTER, ALL_NODES, NdpRepr::RouterAdvert(ra()));
    assert_eq!(refused, Delivered::Dropped(DropReason::IcmpIgnored));
}

/// RFC 4191, 3.1: of reachable routers the one with the higher preference; RFC 4861, 6.3.6: one that does not answer comes last.
#[test]
fn the_preferred_router_is_used_and_one_that_is_gone_is_not() {
    let mut h = Host::settled();
    h.hears(ra());
    h.hears_from(ROUTER2, RouterAdvert { preference: -1, ..ra() });
    assert_eq!(h.default_router(), Some(ROUTER.into()));
    h.hears_from(ROUTER2, RouterAdvert { preference: 1, ..ra() });
    assert_eq!(h.default_router(), Some(ROUTER2.into()));
    // Packets go there, and nobody answers any more.
    let route = h.ip.route(h.now, FAR.into(), Some(OURS6.into()), None).expect("route");
    let mut header = [0; 8];
    UdpRepr { src_port: 5, dst_port: 6, payload_len: 0 }.emit(&mut header, OURS6.into(), FAR.into(), Sum::default());
    let out = Outgoing::new(OURS6.into(), FAR.into(), proto::UDP, &header, Payload::None);
    h.with(|ip, env| ip.send(env, &route, out)).expect("sent");
    h.pass(Duration::from_secs(20));
    assert_eq!(h.ip.neighbours().get((ETH, ROUTER2.into())).map(|n| n.state), Some(NudState::Failed));
    assert_ne!(h.ip.generation(), route.generation, "sockets look again");
    assert_eq!(h.default_router(), Some(ROUTER.into()));
}

/// RFC 4861, 6.3.4: hop limit, MTU, reachable time and retransmission timer, each if it is specified and sensible.
#[test]
fn a_router_says_how_the_link_is_used() {
    let mut h = Host::settled();
    let said = RouterAdvert { hop_limit: 33, mtu: Some(1400), reachable_time: 5000, retrans_timer: 250, ..ra() };
    h.hears(said);
    h.hears(ra());
    h.hears(RouterAdvert { mtu: Some(9000), ..ra() });
    h.hears(RouterAdvert { mtu: Some(1000), ..ra() });
    let p = h.ip.link_params(ETH);
    assert_eq!((p.hop_limit, p.mtu), (Some(33), Some(1400)));
    let n = h.ip.neigh_config(ETH, true);
    assert_eq!((n.base_reachable_time, n.retrans), (Duration::from_secs(5), Duration::from_millis(250)));
    assert_eq!(h.ip.neigh_config(ETH, false), h.ip.config.neigh);
    let route = |h: &Host, dst: IpAddr| h.ip.route(h.now, dst, None, None).expect("route").mtu;
    assert_eq!((route(&h, B6.into()), route(&h, B4.into())), (1400, 1500));
    let mut h = h.knows_neighbour();
    h.send_udp(B6.into(), 10, false).expect("sent");
    let f = h.tx(ETH).remove(0);
    assert_eq!(f[14 + 7], 33, "the hop limit");
}

/// RFC 4862, 5.5.4: deprecated when the preferred lifetime is over, gone when the valid one is.
#[test]
fn lifetimes_of_an_address_end() {
    let mut h = Host::settled();
    h.hears(ra_with_prefix(10_000, 5000));
    assert!(!h.usable(MADE), "tentative first");
    h.pass(Duration::from_secs(3));
    assert!(h.usable(MADE));
    let deprecated = |h: &Host| h.ip.addrs().iter().find(|a| a.addr == MADE).map(|a| a.deprecated);
    h.pass(Duration::from_secs(4990));
    assert_eq!(deprecated(&h), Some(false));
    h.pass(Duration::from_secs(10));
    assert_eq!((deprecated(&h), h.usable(MADE)), (Some(true), true));
    let on_link = |h: &Host| h.ip.routes().iter().any(|r| r.dst.contains(MADE.into()) && r.dst.bits() == 64);
    assert!(on_link(&h));
    h.pass(Duration::from_secs(5000));
    assert_eq!((deprecated(&h), h.usable(MADE)), (None, false));
}

/// RFC 4862, 5.5.3 (e): the two-hour rule: an advertisement shortens a lifetime to two hours at most, so that a forged one does no great harm.
#[test]
fn a_valid_lifetime_is_not_cut_below_two_hours() {
    let left = |h: &Host| h.ip.addrs().state(MADE.into()).valid_until.map(|t| (t - h.now).as_millis() / 1000);
    let mut h = Host::settled();
    h.hears(ra_with_prefix(100_000, 50_000));
    h.pass(Duration::from_secs(3));
    // 1. "greater than 2 hours or greater than RemainingLifetime": taken.
    h.hears(ra_with_prefix(7201, 100));
    assert_eq!(left(&h), Some(7201));
    h.hears(ra_with_prefix(100_000, 50_000));
    // 3. Otherwise: two hours.
    h.hears(ra_with_prefix(10, 10));
    assert_eq!(left(&h), Some(7200));
    // 2. "less than or equal to 2 hours, ignore".
    h.pass(Duration::from_secs(1000));
    h.hears(ra_with_prefix(10, 10));
    assert_eq!(left(&h), Some(6200));
    h.hears(ra_with_prefix(0, 0));
    assert_eq!(left(&h), Some(6200));
    let a = h.ip.addrs().iter().find(|a| a.addr == MADE).expect("address");
    assert!(a.deprecated, "the preferred lifetime is taken as it is");
    h.hears(ra_with_prefix(6300, 6300));
    assert_eq!(left(&h), Some(6300));
    h.hears(ra_with_prefix(u32::MAX, u32::MAX));
    assert_eq!((left(&h), h.ip.addrs().iter().any(|a| a.deprecated)), (None, false));
    h.pass(Duration::from_secs(1_000_000));
    assert!(h.usable(MADE));
}

/// RFC 4862, 5.5.3: what no address is made of.
#[test]
fn prefixes_that_make_no_address() {
    let with = |change: fn(&mut PrefixInfo)| {
        let mut h = Host::settled();
        let mut said = ra_with_prefix(10_000, 5000);
        if let Some(p) = &mut said.prefixes[0] {
            change(p);
        }
        h.hears(said);
        h.pass(Duration::from_secs(3));
        h.ip.addrs().on(ETH).filter(|a| a.addr.is_ipv6()).count()
    };
    assert_eq!(with(|_| {}), 3);
    assert_eq!(with(|p| p.autonomous = false), 2);
    assert_eq!(with(|p| p.prefix_len = 63), 2);
    assert_eq!(with(|p| p.valid_lifetime = 0), 2);
    assert_eq!(with(|p| p.preferred_lifetime = 10_001), 2);
    assert_eq!(with(|p| p.prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 2);
}

/// RFC 4861, 8 and RFC 1122, 3.2.2.2: redirects are ignored by default; where they are accepted, only from the present first hop and
/// only to a neighbour.
#[test]
fn redirects_are_followed_only_where_accepted_and_from_the_gateway() {
    let better = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
    let redirect =
        |target| NdpRepr::Redirect { target, destination: FAR, target_mac: Some(MacAddr([2, 0, 0, 0, 0, 7])) };
    let mut h = Host::settled();
    h.hears(ra());
    let ignored = Delivered::Dropped(DropReason::IcmpIgnored);
    let refused = Delivered::Dropped(DropReason::RedirectInvalid);
    assert_eq!(h.ndp(ROUTER, OURS6, redirect(better)), ignored);
    h.ip.port_mut(ETH).expect("port").conf.accept_redirects6 = true;
    assert_eq!(h.ndp(ROUTER2, OURS6, redirect(better)), refused, "not from the present router");
    assert_eq!(h.ndp(ROUTER, OURS6, redirect(B6)), refused, "neither link-local nor the destination");
    assert_eq!(h.default_router(), Some(ROUTER.into()));
    assert_eq!(h.ndp(ROUTER, OURS6, redirect(better)), Delivered::Handled);
    assert_eq!(h.default_router(), Some(better.into()));
    assert!(h.ip.neighbours().get((ETH, better.into())).is_some_and(|n| n.router && n.mac.is_some()));
    h.pass(Duration::from_secs(301));
    assert_eq!(h.default_router(), Some(ROUTER.into()));
}

#[test]
fn ipv4_redirects_likewise() {
    let (gateway, better, far) = (B4, Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(192, 0, 2, 1));
    let mut h = Host::new();
    let via = |gateway: Ipv4Addr, metric| Route {
        dst: Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0).expect("prefix"),
        kind: RouteType::Unicast,
        gateway: Some(gateway.into()),
        port: Some(ETH),
        src: None,
        metric,
        origin: RouteOrigin::Static,
        options: RouteOptions::default(),
    };
    h.ip.add_route(via(gateway, 0), false).expect("route");
    let redirect = |h: &mut Host, from: Ipv4Addr, to: Ipv4Addr| {
        let mut quoted = vec![0; 20];
        ip4(A4, far, proto::UDP, &[0; 8]).emit(&mut quoted);
        quoted.extend([0; 8]);
        let mut m = vec![0; 8];
        m.extend(quoted);
        IcmpRepr::Other { kind: 5, code: 1, rest: to.octets() }.emit_v4(&mut m);
        h.rx(&frame4(ip4(from, A4, proto::ICMP, &m), &m)).into_owned()
    };
    let hop = |h: &Host| h.ip.route(h.now, far.into(), None, None).expect("route").next_hop;
    assert_eq!(redirect(&mut h, gateway, better), Delivered::Dropped(DropReason::IcmpIgnored));
    h.ip.port_mut(ETH).expect("port").conf.accept_redirects = true;
    let refused = Delivered::Dropped(DropReason::RedirectInvalid);
    assert_eq!(redirect(&mut h, gateway, better), refused, "secure_redirects: no gateway of the table");
    h.ip.add_route(via(better, 9), false).expect("route");
    assert_eq!(redirect(&mut h, better, better), refused, "not from the present gateway");
    assert_eq!(redirect(&mut h, gateway, Ipv4Addr::new(10, 1, 0, 3)), refused, "not on this network");
    assert_eq!(hop(&h), IpAddr::from(gateway));
    assert_eq!(redirect(&mut h, gateway, better), Delivered::Handled);
    assert_eq!((hop(&h), h.mib.get(Mib::IcmpInRedirects)), (better.into(), 5));
}
