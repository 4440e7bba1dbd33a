//! Group membership on the wire: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), and their elders while such a querier is heard.
//!
//! What sockets want of a group is merged into one filter per interface (RFC 3376, 3.2). A change of it is reported at once and repeated;
//! queries are answered after a random delay. In non-speaking shards only what sockets joined there is reported.

use super::{IfTimer, IpEnv, IpLayer};
use crate::addr::{ALL_ROUTERS, Scope};
use crate::neigh::dad::random_below;
use crate::packet::{HeaderBuf, Packet, Payload};
use stackd_base::{DropReason, Duration, Instant, Mib, PortId, SockId};
use stackd_wire::igmp::{self, Igmp, Mld, Query, Record, RecordType, Version};
use stackd_wire::{EtherType, EthernetRepr, Ipv6Repr, MacAddr, Sum, ethernet, ipv6, proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 3376, 4.2.14 and RFC 3810, 5.2.14: where version 3 reports go.
const REPORTS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const REPORTS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// RFC 3376, 8.2 and 8.3: what a querier that does not say it is taken to use.
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// Groups in one report: what fits the smallest MTU with a few sources each.
const RECORDS: usize = 32;
/// Sources in one record.
const SOURCES: usize = 30;

/// Which sources of a group are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// All but `sources`; else only they.
    pub exclude: bool,
    /// The exceptions, or the wanted.
    pub sources: BTreeSet<IpAddr>,
}

impl Filter {
    /// Every source.
    pub const fn any() -> Self {
        Self { exclude: true, sources: BTreeSet::new() }
    }
    /// No source: not a member.
    pub const fn none() -> Self {
        Self { exclude: false, sources: BTreeSet::new() }
    }
    /// Whether a packet from `source` is wanted.
    pub fn allows(&self, source: IpAddr) -> bool {
        self.exclude != self.sources.contains(&source)
    }
    fn is_none(&self) -> bool {
        !self.exclude && self.sources.is_empty()
    }
}

/// Who wants a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Holder {
    /// The stack itself: a solicited-node group.
    Stack,
    /// A socket.
    Socket(u32, u32),
}

impl From<SockId> for Holder {
    fn from(s: SockId) -> Self {
        Self::Socket(s.slot, s.generation)
    }
}

/// A group on an interface.
#[derive(Debug)]
struct Group {
    holders: BTreeMap<Holder, Filter>,
    filter: Filter,
    /// RFC 3376, 5.1: reports of a changed mode still to be sent.
    mode_changes: u8,
    /// Reports of changed sources still to be sent.
    source_changes: BTreeMap<IpAddr, u8>,
    /// An answer to a query is due at the timer: sources that were asked about; empty: the whole.
    asked: Option<BTreeSet<IpAddr>>,
    /// RFC 2236, 6: "flag ... indicates whether we were the last host to send a report".
    last_reporter: bool,
}

impl Group {
    fn new() -> Self {
        Self {
            holders: BTreeMap::new(),
            filter: Filter::none(),
            mode_changes: 0,
            source_changes: BTreeMap::new(),
            asked: None,
            last_reporter: false,
        }
    }

    /// RFC 3376, 3.2: one EXCLUDE makes the whole EXCLUDE: the intersection of those lists without what any INCLUDE wants.
    fn merged(&self) -> Filter {
        let included = || self.holders.values().filter(|f| !f.exclude).flat_map(|f| &f.sources).copied();
        let mut excluding = self.holders.values().filter(|f| f.exclude);
        let Some(first) = excluding.next() else { return Filter { exclude: false, sources: included().collect() } };
        let mut sources = first.sources.clone();
        for f in excluding {
            sources.retain(|s| f.sources.contains(s));
        }
        for s in included() {
            sources.remove(&s);
        }
        Filter { exclude: true, sources }
    }

    fn by_socket(&self) -> bool {
        self.holders.keys().any(|h| *h != Holder::Stack)
    }

    /// The records of a change (RFC 3376, 5.1), one round of them.
    fn changes(&mut self, group: IpAddr) -> Vec<Record> {
        if self.mode_changes > 0 {
            self.mode_changes -= 1;
            // RFC 3376, 5.1: the filter-mode-change record carries the sources; their rounds are spent with it.
            for n in self.source_changes.values_mut() {
                *n = n.saturating_sub(1);
            }
            self.source_changes.retain(|_, n| *n > 0);
            let kind = if self.filter.exclude { RecordType::ToExclude } else { RecordType::ToInclude };
            return records(kind, group, self.filter.sources.iter().copied());
        }
        let filter = &self.filter;
        let of = |wanted: bool| self.source_changes.keys().copied().filter(move |s| filter.allows(*s) == wanted);
        let mut out = records_if_any(RecordType::Allow, group, of(true));
        out.extend(records_if_any(RecordType::Block, group, of(false)));
        for n in self.source_changes.values_mut() {
            *n -= 1;
        }
        self.source_changes.retain(|_, n| *n > 0);
        out
    }

    /// The records of the present state, or of what was asked about (RFC 3376, 5.2).
    fn answer(&mut self, group: IpAddr) -> Vec<Record> {
        match self.asked.take() {
            Some(asked) if !asked.is_empty() => {
                let filter = &self.filter;
                records_if_any(RecordType::IsInclude, group, asked.into_iter().filter(|s| filter.allows(*s)))
            }
            _ => self.state(group),
        }
    }

    fn state(&self, group: IpAddr) -> Vec<Record> {
        let kind = if self.filter.exclude { RecordType::IsExclude } else { RecordType::IsInclude };
        if self.filter.is_none() { Vec::new() } else { records(kind, group, self.filter.sources.iter().copied()) }
    }

    fn pending(&self) -> bool {
        self.mode_changes > 0 || !self.source_changes.is_empty()
    }
}

fn records(kind: RecordType, group: IpAddr, sources: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let sources: Vec<IpAddr> = sources.collect();
    if sources.is_empty() {
        return vec![Record { kind, group, sources }];
    }
    sources.chunks(SOURCES).map(|c| Record { kind, group, sources: c.to_vec() }).collect()
}

fn records_if_any(kind: RecordType, group: IpAddr, sources: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let mut sources = sources.peekable();
    if sources.peek().is_none() { Vec::new() } else { records(kind, group, sources) }
}

/// Who asks on an interface, of one family.
#[derive(Clone, Copy, Debug, Default)]
struct Querier {
    /// RFC 3376, 7.2.1: older version querier present, until then.
    v1_until: Option<Instant>,
    v2_until: Option<Instant>,
}

/// Groups of all interfaces.
#[derive(Debug, Default)]
pub(crate) struct Mcast {
    groups: BTreeMap<(PortId, IpAddr), Group>,
    queriers: BTreeMap<(PortId, bool), Querier>,
}

impl Mcast {
    pub(crate) fn forget(&mut self, port: PortId) {
        self.groups.retain(|(p, _), _| *p != port);
        self.queriers.retain(|(p, _), _| *p != port);
    }
}

/// Groups that nobody needs to be told of (RFC 3376, 5: 224.0.0.1; RFC 3810, 6: ff02::1 and scopes below the link's).
fn silent(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(g) => g == Ipv4Addr::new(224, 0, 0, 1),
        IpAddr::V6(g) => g == crate::addr::ALL_NODES || g.octets()[1] & 0x0f < 2,
    }
}

impl IpLayer {
    /// What `holder` wants of a group on a port from now on; `None` or nothing: to leave it. Reports go out with the next timers.
    pub fn set_membership(&mut self, port: PortId, group: IpAddr, holder: Holder, wanted: Option<Filter>) {
        let robustness = if group.is_ipv4() { self.config.igmp_qrv } else { self.config.mld_qrv };
        let had = self.mcast.groups.contains_key(&(port, group));
        let g = self.mcast.groups.entry((port, group)).or_insert_with(Group::new);
        let was_member = !g.filter.is_none();
        match wanted.filter(|f| !f.is_none()) {
            Some(f) => drop(g.holders.insert(holder, f)),
            None => drop(g.holders.remove(&holder)),
        }
        let new = g.merged();
        let old = core::mem::replace(&mut g.filter, new);
        if old.exclude != g.filter.exclude {
            g.mode_changes = robustness;
            g.source_changes.clear();
        }
        let (a, b) = (&old.sources, &g.filter.sources);
        let changed: Vec<IpAddr> =
            if old.exclude == g.filter.exclude { a.symmetric_difference(b).copied().collect() } else { Vec::new() };
        for s in changed {
            g.source_changes.insert(s, robustness);
        }
        let member = !g.filter.is_none();
        if member && !was_member {
            self.addrs.join(port, group);
        } else if !member && was_member {
            self.addrs.leave(port, group);
        }
        let g = self.mcast.groups.get_mut(&(port, group));
        if g.as_ref().is_some_and(|g| g.pending()) && !silent(group) {
            self.timers.set(IfTimer::Group(port, group), Some(Instant::ZERO));
        } else if !member && (!had || silent(group)) {
            self.mcast.groups.remove(&(port, group));
        }
    }

    /// The groups of ports (`ip maddr`), with how many want each.
    pub fn memberships(&self) -> impl Iterator<Item = (PortId, IpAddr, usize)> {
        self.mcast.groups.iter().filter(|(_, g)| !g.filter.is_none()).map(|((p, a), g)| (*p, *a, g.holders.len()))
    }

    /// Whether this stack itself wants the group, its sockets aside.
    pub fn holds_itself(&self, port: PortId, group: IpAddr) -> bool {
        self.mcast.groups.get(&(port, group)).is_some_and(|g| g.holders.contains_key(&Holder::Stack))
    }

    /// The version to speak: as forced, else as the oldest querier that was heard lately.
    fn membership_version(&self, now: Instant, port: PortId, v6: bool) -> Version {
        let conf = self.conf(port);
        let forced = if v6 {
            // MLDv1 is IGMPv2's counterpart.
            [None, Some(Version::V2), Some(Version::V3)].get(usize::from(conf.force_mld_version)).copied().flatten()
        } else {
            let all = [None, Some(Version::V1), Some(Version::V2), Some(Version::V3)];
            all.get(usize::from(conf.force_igmp_version)).copied().flatten()
        };
        let q = self.mcast.queriers.get(&(port, v6)).copied().unwrap_or_default();
        let heard = |t: Option<Instant>| t.is_some_and(|t| now < t);
        forced.unwrap_or(match (heard(q.v1_until), heard(q.v2_until)) {
            (true, _) => Version::V1,
            (_, true) => Version::V2,
            _ => Version::V3,
        })
    }

    /// A group's timer: a change to be reported (again), or an answer that is due.
    pub(crate) fn group_due(&mut self, env: &mut IpEnv<'_>, port: PortId, group: IpAddr) {
        let version = self.membership_version(env.now, port, group.is_ipv6());
        let speaks = self.speaks;
        let conf = self.conf(port);
        let Some(g) = self.mcast.groups.get_mut(&(port, group)) else { return };
        let may = (speaks || g.by_socket() || g.holders.is_empty()) && !silent(group);
        let mut out = Vec::new();
        let (member, was_last) = (!g.filter.is_none(), g.last_reporter);
        if version == Version::V3 {
            if g.asked.is_some() {
                out.extend(g.answer(group));
            }
            if g.pending() {
                out.extend(g.changes(group));
            }
        } else {
            // RFC 2236, 3: sources do not exist here: a member reports the group, twice when it is new; a leave is said once.
            g.asked = None;
            g.source_changes.clear();
            g.mode_changes = if member { g.mode_changes.saturating_sub(1) } else { 0 };
            g.last_reporter = member;
        }
        let again = g.pending();
        if !again && !member {
            self.mcast.groups.remove(&(port, group));
        }
        let interval = match (version, group.is_ipv6()) {
            (Version::V3, false) => conf.igmpv3_interval,
            (Version::V3, true) => conf.mldv2_interval,
            (_, false) => conf.igmpv2_interval,
            (_, true) => conf.mldv1_interval,
        };
        let next = again.then(|| env.now + random_below(env.rng, interval));
        self.timers.set(IfTimer::Group(port, group), next);
        if !may {
            return;
        }
        match version {
            Version::V3 => self.report(env, port, group.is_ipv6(), &out),
            Version::V1 | Version::V2 if member => self.report_old(env, port, group, version),
            // RFC 2236, 6: a version 1 router knows no leaves; who did not report last need not say so.
            Version::V2 if was_last => self.leave_old(env, port, group),
            Version::V1 | Version::V2 => {}
        }
    }

    /// RFC 3376, 5.2: an answer to a general query: every group.
    pub(crate) fn general_answer_due(&mut self, env: &mut IpEnv<'_>, port: PortId, v6: bool) {
        let speaks = self.speaks;
        let range = self.mcast.groups.iter().filter(|((p, a), _)| *p == port && a.is_ipv6() == v6 && !silent(*a));
        let out: Vec<Record> =
            range.filter(|(_, g)| speaks || g.by_socket()).flat_map(|((_, a), g)| g.state(*a)).collect();
        self.report(env, port, v6, &out);
    }

    fn report(&mut self, env: &mut IpEnv<'_>, port: PortId, v6: bool, records: &[Record]) {
        for some in records.chunks(RECORDS) {
            if v6 {
                env.mib.inc(Mib::Icmp6OutMLDv2Reports);
                self.send_mld(env, port, REPORTS_V6, igmp::mld_v2_report(some));
            } else {
                self.send_igmp(env, port, REPORTS_V4, &igmp::igmp_v3_report(some));
            }
        }
    }

    fn report_old(&mut self, env: &mut IpEnv<'_>, port: PortId, group: IpAddr, version: Version) {
        match group {
            IpAddr::V4(g) => {
                let kind = if version == Version::V1 { igmp::kind::REPORT_V1 } else { igmp::kind::REPORT_V2 };
                self.send_igmp(env, port, g, &igmp::igmp_v2_message(kind, g));
            }
            IpAddr::V6(g) => {
                env.mib.inc(Mib::Icmp6OutGroupMembResponses);
                self.send_mld(env, port, g, igmp::mld_v1_message(igmp::kind::MLD_REPORT_V1, g));
            }
        }
    }

    fn leave_old(&mut self, env: &mut IpEnv<'_>, port: PortId, group: IpAddr) {
        match group {
            IpAddr::V4(g) => {
                self.send_igmp(env, port, ALL_ROUTERS_V4, &igmp::igmp_v2_message(igmp::kind::LEAVE_V2, g));
            }
            IpAddr::V6(g) => {
                env.mib.inc(Mib::Icmp6OutGroupMembReductions);
                self.send_mld(env, port, ALL_ROUTERS, igmp::mld_v1_message(igmp::kind::MLD_DONE, g));
            }
        }
    }

    /// An IGMP message arrived.
    pub(crate) fn igmp_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        ttl: u8,
        message: &[u8],
    ) -> Result<(), DropReason> {
        // RFC 3376, 4: "sent with an IP Time-to-Live of 1".
        if ttl != 1 {
            return Err(DropReason::IgmpInvalid);
        }
        match Igmp::parse(message).map_err(|_| DropReason::IgmpInvalid)? {
            Igmp::Query(q) => self.query_in(env, port, false, &q),
            Igmp::Report(group) => self.others_report(env, port, group.into()),
            Igmp::Other => return Err(DropReason::IcmpIgnored),
        }
        Ok(())
    }

    /// An MLD message arrived, its checksum verified. `None`: it is none.
    pub(crate) fn mld_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: Ipv6Addr,
        ttl: u8,
        message: &[u8],
    ) -> Option<Result<(), DropReason>> {
        let parsed = match Mld::parse(message) {
            Ok(None) => return None,
            Ok(Some(parsed)) => parsed,
            Err(_) => return Some(Err(DropReason::IgmpInvalid)),
        };
        // RFC 3810, 6.2: from a link-local address, with a hop limit of 1.
        if ttl != 1 || !(src.is_unicast_link_local() || src.is_unspecified()) {
            return Some(Err(DropReason::IgmpInvalid));
        }
        match parsed {
            Mld::Query(q) => {
                env.mib.inc(Mib::Icmp6InGroupMembQueries);
                self.query_in(env, port, true, &q);
            }
            Mld::Report(group) => {
                env.mib.inc(Mib::Icmp6InGroupMembResponses);
                self.others_report(env, port, group.into());
            }
        }
        Some(Ok(()))
    }

    fn query_in(&mut self, env: &mut IpEnv<'_>, port: PortId, v6: bool, q: &Query) {
        let now = env.now;
        let interval = if q.interval_s == 0 { QUERY_INTERVAL } else { Duration::from_secs(q.interval_s.into()) };
        let robustness = if v6 { self.config.mld_qrv } else { self.config.igmp_qrv };
        let wait = Duration::from_millis(q.max_response_ms.into());
        // RFC 3376, 8.12: Robustness Variable times Query Interval plus one Query Response Interval.
        let present = interval.mul_ratio(robustness.into(), 1) + wait.max(Duration::from_secs(10));
        let querier = self.mcast.queriers.entry((port, v6)).or_default();
        match q.version {
            Version::V1 => querier.v1_until = Some(now + present),
            Version::V2 => querier.v2_until = Some(now + present),
            Version::V3 => {}
        }
        let version = self.membership_version(now, port, v6);
        let asked: BTreeSet<IpAddr> = q.sources.iter().copied().collect();
        if version == Version::V3 && q.group.is_none() {
            let due = now + random_below(env.rng, wait);
            let key = IfTimer::GeneralQuery(port, v6);
            // RFC 3376, 5.2, rule 1: an answer that is due earlier anyway does.
            let earlier = self.timers.get(key).is_some_and(|t| t <= due);
            if !earlier {
                self.timers.set(key, Some(due));
            }
            return;
        }
        let groups: Vec<IpAddr> = self
            .mcast
            .groups
            .iter()
            .filter(|((p, a), g)| {
                *p == port && a.is_ipv6() == v6 && q.group.is_none_or(|w| w == *a) && !g.filter.is_none()
            })
            .map(|((_, a), _)| *a)
            .filter(|a| !silent(*a))
            .collect();
        for group in groups {
            let due = now + random_below(env.rng, wait);
            let key = IfTimer::Group(port, group);
            let Some(g) = self.mcast.groups.get_mut(&(port, group)) else { continue };
            // RFC 3376, 5.2, rules 3 to 5: one pending answer a group; the whole swallows the part.
            g.asked = Some(match g.asked.take() {
                Some(before) if !before.is_empty() && !asked.is_empty() => before.union(&asked).copied().collect(),
                Some(_) => BTreeSet::new(),
                None => asked.clone(),
            });
            if self.timers.get(key).is_none_or(|t| due < t) {
                self.timers.set(key, Some(due));
            }
        }
    }

    /// RFC 2236, 3: "If a host receives another host's Report ... while it has a timer running, it stops its timer".
    fn others_report(&mut self, env: &mut IpEnv<'_>, port: PortId, group: IpAddr) {
        if self.membership_version(env.now, port, group.is_ipv6()) == Version::V3 {
            return;
        }
        if let Some(g) = self.mcast.groups.get_mut(&(port, group))
            && !g.filter.is_none()
        {
            (g.asked, g.last_reporter, g.mode_changes) = (None, false, 0);
            self.timers.set(IfTimer::Group(port, group), None);
        }
    }

    /// RFC 2236, 2: with the Router Alert option, one hop; RFC 3376, 4: type of service 0xc0.
    fn send_igmp(&mut self, env: &mut IpEnv<'_>, port: PortId, dst: Ipv4Addr, message: &[u8]) {
        const HEADER: usize = 24;
        let Some(ours) = self.port(port).filter(|p| p.config.caps.ethernet).map(|p| p.config.mac) else { return };
        let src = match self.addrs.select_source(port, dst.into(), dst.into()) {
            Some(IpAddr::V4(a)) => a,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let at = ethernet::HEADER_LEN;
        let mut head = HeaderBuf::zeroed(at + HEADER);
        EthernetRepr { dst: MacAddr::of_multicast_v4(dst), src: ours, ether_type: EtherType::Ipv4 as u16 }
            .emit(&mut head);
        let h = &mut head[at..];
        let total = (HEADER + message.len()) as u16;
        h[..2].copy_from_slice(&[0x46, 0xc0]);
        h[2..4].copy_from_slice(&total.to_be_bytes());
        // RFC 791: DF; there is nothing to be put together.
        h[6] = 0x40;
        h[8..10].copy_from_slice(&[1, proto::IGMP]);
        h[12..16].copy_from_slice(&src.octets());
        h[16..20].copy_from_slice(&dst.octets());
        h[20..24].copy_from_slice(&[0x94, 4, 0, 0]);
        let sum = Sum::of(h).finish();
        h[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Packet { priority: 7, ..Packet::new(head, Payload::Owned(message.into())) };
        (frame.protocol, frame.transport_at) = (proto::IGMP, (at + HEADER) as u8);
        env.mib.inc(Mib::IpOutRequests);
        self.enqueue(env, port, frame);
    }

    /// RFC 3810, 5: from a link-local address (RFC 3590: or "::"), hop limit 1, with a Router Alert hop-by-hop option.
    fn send_mld(&mut self, env: &mut IpEnv<'_>, port: PortId, dst: Ipv6Addr, mut message: Vec<u8>) {
        const HOP_BY_HOP: [u8; 8] = [proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
        let Some(ours) = self.port(port).filter(|p| p.config.caps.ethernet).map(|p| p.config.mac) else { return };
        let usable = |a: &&crate::addr::Address| a.scope == Scope::Link && self.addrs.is_local(a.addr);
        let src = match self.addrs.on(port).filter(|a| a.addr.is_ipv6()).find(usable).map(|a| a.addr) {
            Some(IpAddr::V6(a)) => a,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let sum = Sum::pseudo_v6(src, dst, proto::ICMPV6, message.len() as u32).and(Sum::of(&message)).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let at = ethernet::HEADER_LEN;
        let mut head = HeaderBuf::zeroed(at + ipv6::HEADER_LEN + HOP_BY_HOP.len());
        EthernetRepr { dst: MacAddr::of_multicast_v6(dst), src: ours, ether_type: EtherType::Ipv6 as u16 }
            .emit(&mut head);
        let ip = Ipv6Repr {
            src,
            dst,
            next_header: proto::HOP_BY_HOP,
            hop_limit: 1,
            traffic_class: 0,
            flow_label: 0,
            payload_len: (HOP_BY_HOP.len() + message.len()) as u16,
        };
        ip.emit(&mut head[at..]);
        head[at + ipv6::HEADER_LEN..].copy_from_slice(&HOP_BY_HOP);
        env.mib.inc(Mib::Icmp6OutMsgs);
        env.mib.inc(Mib::Ip6OutRequests);
        let t = head.len();
        let mut frame = Packet { priority: 7, ..Packet::new(head, Payload::Owned(message.into())) };
        (frame.protocol, frame.transport_at) = (proto::ICMPV6, t as u8);
        self.enqueue(env, port, frame);
    }
}
