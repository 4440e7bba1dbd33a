//! Multicast groups of sockets: `IP_ADD_MEMBERSHIP` to `MCAST_MSFILTER`, with source filters (RFC 3376, 2; RFC 3678).

use super::Stack;
use crate::ip::{Filter, Holder, RouteQuery};
use crate::socket::opts::{int, name};
use crate::socket::{Body, UdpSock};
use crate::types::Domain;
use stackd_base::{Errno, Instant, PortId, SockId};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One group of a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Where.
    pub port: PortId,
    /// Which.
    pub group: IpAddr,
    /// From whom.
    pub filter: Filter,
}

/// What an option asks for.
enum Verb {
    Join,
    Leave,
    JoinSource(IpAddr),
    LeaveSource(IpAddr),
    Block(IpAddr),
    Unblock(IpAddr),
    Set(Filter),
}

/// A parsed option: the interface it names (by number or by address), the group, what to do.
struct Request {
    index: u32,
    address: Option<Ipv4Addr>,
    group: IpAddr,
    verb: Verb,
}

/// True for the options of this file.
pub(super) fn is_ours(level: i32, option: i32) -> bool {
    match level {
        name::SOL_IP => (name::IP_ADD_MEMBERSHIP..=name::MCAST_MSFILTER).contains(&option),
        name::SOL_IPV6 => {
            matches!(option, name::IPV6_ADD_MEMBERSHIP | name::IPV6_DROP_MEMBERSHIP)
                || (name::MCAST_JOIN_GROUP..=name::MCAST_MSFILTER).contains(&option)
        }
        _ => false,
    }
}

impl Stack {
    /// A group option of `setsockopt`.
    ///
    /// # Errors
    /// Linux's: `EPROTO` (a stream), `EINVAL` (no group, bad value or mode), `ENODEV`, `EADDRINUSE` (joined already), `EADDRNOTAVAIL` (not
    /// joined, or no such source), `ENOBUFS` (`net.ipv4.igmp_max_memberships`, `igmp_max_msf`, `net.ipv6.mld_max_msf`).
    pub(super) fn set_membership(
        &mut self,
        now: Instant,
        sock: SockId,
        level: i32,
        option: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        if level == name::SOL_IPV6 && s.domain != Domain::V6 {
            return Err(Errno::ENOPROTOOPT);
        }
        if !matches!(s.body, Body::Udp(_)) {
            // Linux looks at some values' length first: `struct ipv6_mreq`, and never comes as far with a filter.
            let v6 =
                matches!((level, option), (name::SOL_IPV6, name::IPV6_ADD_MEMBERSHIP | name::IPV6_DROP_MEMBERSHIP));
            let short = v6 && value.len() < 20 || (level, option) == (name::SOL_IP, name::IP_MSFILTER);
            return Err(if short { Errno::EINVAL } else { Errno::EPROTO });
        }
        let request = parse(level == name::SOL_IPV6, option, value)?;
        if !request.group.is_multicast() || request.group.is_ipv6() != (level == name::SOL_IPV6) {
            return Err(Errno::EINVAL);
        }
        let port = self.group_port(now, sock, &request)?;
        let v4 = request.group.is_ipv4();
        let ip = &self.sysctls.ip;
        let (most, most_sources) =
            if v4 { (ip.igmp_max_memberships, ip.igmp_max_msf) } else { (usize::MAX, ip.mld_max_msf) };
        let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body) else { return Err(Errno::EBADF) };
        let filter = change(u, port, request.group, request.verb, (most, most_sources))?;
        self.ip.set_membership(port, request.group, Holder::from(sock), filter);
        Ok(())
    }

    /// The interface of a request: by number, by address, or by the route to the group (Linux's `ip_mc_find_dev`).
    fn group_port(&self, now: Instant, sock: SockId, r: &Request) -> Result<PortId, Errno> {
        if r.index != 0 {
            return Some(PortId(r.index)).filter(|p| self.ip.port(*p).is_some()).ok_or(Errno::ENODEV);
        }
        if let Some(a) = r.address {
            return self.ip.addrs().owner(a.into()).ok_or(Errno::ENODEV);
        }
        let port = self.sockets.get(sock).and_then(|s| s.opts.device);
        let query = RouteQuery { port, ..RouteQuery::to(r.group) };
        // A group needs no source to be heard.
        match self.ip.route_by(now, &query) {
            Ok(route) => Ok(route.port),
            Err(_) => {
                let first = self.ip.ports().iter().find(|p| p.up && !p.config.loopback).map(|p| p.id);
                port.or(first).ok_or(Errno::ENODEV)
            }
        }
    }

    /// The socket goes: so do its groups.
    pub(super) fn leave_all(&mut self, sock: SockId) {
        let Some(Body::Udp(u)) = self.sockets.get_mut(sock).map(|s| &mut s.body) else { return };
        for Membership { port, group, .. } in core::mem::take(&mut u.groups) {
            self.ip.set_membership(port, group, Holder::from(sock), None);
        }
    }

    /// Whether a socket wants a datagram to this group or broadcast address (Linux's `ip_mc_sf_allow`).
    pub(super) fn wants_group(&self, sock: SockId, port: PortId, group: IpAddr, source: IpAddr) -> bool {
        let Some(s) = self.sockets.get(sock) else { return false };
        let Body::Udp(u) = &s.body else { return false };
        if !group.is_multicast() {
            return true;
        }
        match u.groups.iter().find(|m| m.port == port && m.group == group) {
            Some(m) => m.filter.allows(source),
            // ip(7), IP_MULTICAST_ALL: "If set to 1 (default), ... also ... messages from groups joined by others".
            None if group.is_ipv4() => s.opts.ip.mcast_all,
            None => s.opts.ip.mcast_all6,
        }
    }
}

/// Changes one membership of a socket; returns what is wanted of the group now.
fn change(
    u: &mut UdpSock,
    port: PortId,
    group: IpAddr,
    verb: Verb,
    (most, most_sources): (usize, usize),
) -> Result<Option<Filter>, Errno> {
    let at = u.groups.iter().position(|m| m.port == port && m.group == group);
    let full = u.groups.len() >= most;
    let mut join = |filter: Filter| {
        if full {
            return Err(Errno::ENOBUFS);
        }
        u.groups.push(Membership { port, group, filter: filter.clone() });
        Ok(Some(filter))
    };
    let Some(at) = at else {
        return match verb {
            Verb::Join => join(Filter::any()),
            Verb::JoinSource(s) => join(Filter { exclude: false, sources: BTreeSet::from([s]) }),
            Verb::Leave => Err(Errno::EADDRNOTAVAIL),
            Verb::LeaveSource(_) | Verb::Block(_) | Verb::Unblock(_) | Verb::Set(_) => Err(Errno::EINVAL),
        };
    };
    let filter = &mut u.groups[at].filter;
    let (exclude, count) = (filter.exclude, filter.sources.len());
    // RFC 3678, 4.1.3: what does not fit the present mode is refused.
    let mode = |want: bool| if exclude == want { Ok(()) } else { Err(Errno::EINVAL) };
    let room = if count < most_sources { Ok(()) } else { Err(Errno::ENOBUFS) };
    let did = |done: bool| if done { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) };
    match verb {
        Verb::Join => return Err(Errno::EADDRINUSE),
        Verb::Leave => *filter = Filter::none(),
        Verb::JoinSource(s) => {
            mode(false)?;
            room?;
            did(filter.sources.insert(s))?;
        }
        Verb::LeaveSource(s) => {
            mode(false)?;
            did(filter.sources.remove(&s))?;
        }
        Verb::Block(s) => {
            mode(true)?;
            room?;
            did(filter.sources.insert(s))?;
        }
        Verb::Unblock(s) => {
            mode(true)?;
            did(filter.sources.remove(&s))?;
        }
        Verb::Set(new) => {
            if new.sources.len() > most_sources {
                return Err(Errno::ENOBUFS);
            }
            *filter = new;
        }
    }
    if !filter.exclude && filter.sources.is_empty() {
        u.groups.remove(at);
        return Ok(None);
    }
    Ok(Some(filter.clone()))
}

fn parse(v6: bool, option: i32, value: &[u8]) -> Result<Request, Errno> {
    let v4_at = |at: usize| value.get(at..)?.first_chunk::<4>().map(|o| Ipv4Addr::from(*o));
    let need = |a: Option<Ipv4Addr>| a.ok_or(Errno::EINVAL);
    let named = |a: Ipv4Addr| Some(a).filter(|a| !a.is_unspecified());
    if v6 && matches!(option, name::IPV6_ADD_MEMBERSHIP | name::IPV6_DROP_MEMBERSHIP) {
        // struct ipv6_mreq
        let (group, rest) = value.split_first_chunk::<16>().ok_or(Errno::EINVAL)?;
        let verb = if option == name::IPV6_ADD_MEMBERSHIP { Verb::Join } else { Verb::Leave };
        return Ok(Request { index: int(rest)? as u32, address: None, group: Ipv6Addr::from(*group).into(), verb });
    }
    Ok(match option {
        name::IP_ADD_MEMBERSHIP | name::IP_DROP_MEMBERSHIP => {
            // struct ip_mreq, or ip_mreqn with an index behind it.
            let index = if value.len() >= 12 { int(&value[8..12])? as u32 } else { 0 };
            let verb = if option == name::IP_ADD_MEMBERSHIP { Verb::Join } else { Verb::Leave };
            Request { index, address: named(need(v4_at(4))?), group: need(v4_at(0))?.into(), verb }
        }
        name::IP_ADD_SOURCE_MEMBERSHIP..=name::IP_DROP_SOURCE_MEMBERSHIP
        | name::IP_UNBLOCK_SOURCE
        | name::IP_BLOCK_SOURCE => {
            // struct ip_mreq_source
            let source = need(v4_at(8))?.into();
            let verb = match option {
                name::IP_ADD_SOURCE_MEMBERSHIP => Verb::JoinSource(source),
                name::IP_DROP_SOURCE_MEMBERSHIP => Verb::LeaveSource(source),
                name::IP_BLOCK_SOURCE => Verb::Block(source),
                _ => Verb::Unblock(source),
            };
            Request { index: 0, address: named(need(v4_at(4))?), group: need(v4_at(0))?.into(), verb }
        }
        name::IP_MSFILTER => {
            // struct ip_msfilter
            let (mode, count) = (int(value.get(8..).unwrap_or_default())?, int(value.get(12..).unwrap_or_default())?);
            let list = value.get(16..).unwrap_or_default().as_chunks::<4>().0;
            let sources = list.iter().take(count as usize).map(|o| IpAddr::from(*o));
            let filter = filter(mode, count, sources)?;
            Request {
                index: 0,
                address: named(need(v4_at(4))?),
                group: need(v4_at(0))?.into(),
                verb: Verb::Set(filter),
            }
        }
        name::MCAST_JOIN_GROUP..=name::MCAST_MSFILTER => {
            let index = int(value)? as u32;
            let at = |at: usize| value.get(at..).and_then(sockaddr_storage).ok_or(Errno::EADDRNOTAVAIL);
            let group = at(8)?;
            let verb = match option {
                name::MCAST_JOIN_GROUP => Verb::Join,
                name::MCAST_LEAVE_GROUP => Verb::Leave,
                name::MCAST_JOIN_SOURCE_GROUP => Verb::JoinSource(at(136)?),
                name::MCAST_LEAVE_SOURCE_GROUP => Verb::LeaveSource(at(136)?),
                name::MCAST_BLOCK_SOURCE => Verb::Block(at(136)?),
                name::MCAST_UNBLOCK_SOURCE => Verb::Unblock(at(136)?),
                _ => {
                    // struct group_filter
                    let mode = int(value.get(136..).unwrap_or_default())?;
                    let count = int(value.get(140..).unwrap_or_default())?;
                    let list = value.get(144..).unwrap_or_default().chunks_exact(128);
                    Verb::Set(filter(mode, count, list.take(count as usize).filter_map(sockaddr_storage))?)
                }
            };
            Request { index, address: None, group, verb }
        }
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// RFC 3678, 4.2: MCAST_EXCLUDE is 0, MCAST_INCLUDE 1.
fn filter(mode: i32, count: i32, sources: impl Iterator<Item = IpAddr>) -> Result<Filter, Errno> {
    let sources: BTreeSet<IpAddr> = sources.collect();
    if !(0..=1).contains(&mode) || sources.len() != usize::try_from(count).map_err(|_| Errno::EINVAL)? {
        return Err(Errno::EINVAL);
    }
    Ok(Filter { exclude: mode == 0, sources })
}

/// The address in a `struct sockaddr_storage`.
fn sockaddr_storage(b: &[u8]) -> Option<IpAddr> {
    match u16::from_ne_bytes(*b.first_chunk()?) {
        2 => b.get(4..)?.first_chunk::<4>().map(|o| IpAddr::from(*o)),
        10 => b.get(8..)?.first_chunk::<16>().map(|o| IpAddr::from(*o)),
        _ => None,
    }
}
