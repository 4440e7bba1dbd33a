//! Datagrams out: `sendto(2)`, `sendmsg(2)`.

use crate::demux::FlowKey;
use crate::ip::{Outgoing, RouteDecision, RouteQuery, SendError};
use crate::packet::{Payload, Sender};
use crate::socket::ancillary::{MAX_SEGMENTS, SendControl};
use crate::socket::errqueue::QueuedError;
use crate::socket::{Body, Socket};
use crate::stack::Stack;
use crate::stack::calls::{datagram_peer, same_family};
use crate::store::ByteStore;
use crate::types::Readiness;
use stackd_base::{Errno, Instant, Mib, PortId, SockId};
use stackd_wire::udp::{self, UdpRepr};
use stackd_wire::{Sum, ipv4, ipv6, proto};
use std::net::{IpAddr, SocketAddr};

/// Most payload of one datagram over IPv4 (65,535 - 20 - 8) and over IPv6 (65,535 - 8: the header does not count).
const MAX_PAYLOAD_V4: usize = 65_507;
const MAX_PAYLOAD_V6: usize = 65_527;

/// A datagram on its way: everything but its bytes.
pub(super) struct Plan {
    pub peer: SocketAddr,
    pub src: IpAddr,
    pub route: RouteDecision,
    multicast: bool,
    loops: bool,
    pub ttl: Option<u8>,
    pub tos: u8,
    gso_size: u16,
    fragments: bool,
    df: bool,
    no_checksum: bool,
    priority: u8,
    departure: Option<Instant>,
}

/// The unspecified address means this host.
fn here(to: SocketAddr) -> SocketAddr {
    let ip = match to.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        // With its scope.
        _ => return to,
    };
    SocketAddr::new(ip, to.port())
}

impl Stack {
    /// Sends one datagram; `to` = `None` sends to the connected peer.
    ///
    /// # Errors
    /// As [`Stack::send_datagram`].
    pub fn send_to<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        to: Option<SocketAddr>,
        data: &[u8],
        store: &mut S,
    ) -> Result<usize, Errno> {
        self.send_datagram(now, sock, to, &SendControl::default(), data, store)
    }

    /// `sendmsg(2)`: `control` = its control messages, in Linux's layout.
    ///
    /// # Errors
    /// As [`Stack::send_datagram`], and `EINVAL` for a control message that is malformed or unknown.
    pub fn send_message<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        to: Option<SocketAddr>,
        control: &[u8],
        data: &[u8],
        store: &mut S,
    ) -> Result<usize, Errno> {
        let domain = self.sockets.get(sock).ok_or(Errno::EBADF)?.domain;
        let control = SendControl::parse(domain, control)?;
        self.send_datagram(now, sock, to, &control, data, store)
    }

    /// Sends one datagram, or with `UDP_SEGMENT` several of one size.
    ///
    /// # Errors
    /// `EDESTADDRREQ`, `EMSGSIZE`, `EACCES` (broadcast not allowed), `EPIPE` (shut down), `EISCONN` never (as Linux: `to` wins),
    /// `EINVAL` (a source that is not ours, segments that do not fit), what routing says, and a pending ICMP error.
    pub fn send_datagram<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        to: Option<SocketAddr>,
        control: &SendControl,
        data: &[u8],
        store: &mut S,
    ) -> Result<usize, Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let Body::Udp(u) = &s.body else { return Err(Errno::EOPNOTSUPP) };
        if u.write_shut {
            return Err(Errno::EPIPE);
        }
        // ip(7), SO_ERROR: a pending error is reported by the next call.
        if let Some(error) = s.error.take() {
            self.note(sock, Readiness::EMPTY);
            return Err(error);
        }
        let plan = self.plan(now, sock, to, control, data.len())?;
        self.udp_autobind(sock)?;
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let (src, dst) = (plan.src, plan.peer.ip());
        let v4 = dst.is_ipv4();
        let repr = UdpRepr { src_port: s.local.port(), dst_port: plan.peer.port(), payload_len: data.len() as u16 };
        let mut header = [0; udp::HEADER_LEN];
        // The segments of one packet get their checksums when it is cut.
        let sum = if plan.gso_size == 0 { Sum::of(data) } else { Sum::default() };
        repr.emit(&mut header, src, dst, sum);
        if plan.no_checksum {
            header[6..].fill(0);
        }
        let flow = FlowKey::new(SocketAddr::new(src, s.local.port()), plan.peer);
        let (labels, own) = (self.sysctls.net.auto_flowlabels, s.opts.ip.auto_flow_label);
        let outgoing = Outgoing {
            flow_label: if v4 { 0 } else { labels.label(own, || self.secret.hash_bytes(&flow.bytes())) },
            tos: plan.tos,
            ttl: plan.ttl,
            dont_fragment: !plan.fragments,
            df: plan.df,
            gso_size: plan.gso_size,
            sender: Some(Sender { sock, life: 0 }),
            flow_hash: s.cookie,
            priority: plan.priority,
            departure: plan.departure,
            max_pacing_rate: s.opts.max_pacing_rate,
            ..Outgoing::new(src, dst, proto::UDP, &header, Payload::Owned(data.into()))
        };
        // RFC 1112, 6.1: a hop limit of zero stays within the host.
        let leaves = !(plan.multicast && plan.ttl == Some(0));
        if leaves {
            let (ip, mut env) = self.ip_parts(now);
            let sent = ip.send(&mut env, &plan.route, outgoing);
            self.reap_dropped(now);
            if let Err(error) = sent {
                self.local_error(sock, error, plan.peer);
                return Err(error.errno());
            }
        }
        self.mib.inc(if v4 { Mib::UdpOutDatagrams } else { Mib::Udp6OutDatagrams });
        if plan.loops {
            self.udp_loop_back(now, &plan, &[&header, data].concat(), store);
        }
        Ok(data.len())
    }

    /// Where a datagram goes, and how.
    fn plan(
        &self,
        now: Instant,
        sock: SockId,
        to: Option<SocketAddr>,
        control: &SendControl,
        len: usize,
    ) -> Result<Plan, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let peer = match to {
            Some(to) => here(same_family(s, datagram_peer(s, to)?)?),
            None => s.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        if peer.port() == 0 || control.departure.is_some() && s.opts.txtime.is_none() {
            return Err(Errno::EINVAL);
        }
        let (dst, v4, o) = (peer.ip(), peer.is_ipv4(), &s.opts.ip);
        if len > if v4 { MAX_PAYLOAD_V4 } else { MAX_PAYLOAD_V6 } {
            return Err(Errno::EMSGSIZE);
        }
        let multicast = dst.is_multicast();
        let port = self.outgoing_port(s, to, control, dst)?;
        let bound = Some(s.local.ip()).filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == v4 && !ip.is_multicast());
        let chosen = control.source.map(|source| self.may_send_from(s, source, v4)).transpose()?;
        let group_source = o.mcast_addr.filter(|_| multicast && v4).map(IpAddr::V4);
        self.may_leave_from(s, chosen.or(bound))?;
        let query = RouteQuery {
            src: chosen.or(bound).or(group_source),
            port,
            mark: control.mark.unwrap_or(s.opts.mark),
            ..RouteQuery::to(dst)
        };
        let mut route = self.ip.route_by(now, &query)?;
        if route.broadcast && !s.opts.broadcast {
            return Err(Errno::EACCES);
        }
        let discover = o.discover(v4);
        if !discover.uses_pmtu() {
            route.mtu = route.link_mtu;
        }
        let no_checksum = if v4 { s.opts.no_check } else { o.no_check6_tx };
        let gso_size = self.segment_size(control.gso_size.unwrap_or(o.gso_size), len, &route, no_checksum, v4)?;
        let own_ttl = if v4 { o.ttl } else { o.hops };
        let group_ttl = if v4 { o.mcast_ttl } else { o.mcast_hops };
        let member = (multicast && if v4 { o.mcast_loop } else { o.mcast_loop6 }) || route.broadcast;
        Ok(Plan {
            peer,
            src: route.src,
            multicast,
            loops: member && !route.local && self.ip.hears(route.port, dst),
            ttl: control.ttl.or(if multicast { Some(group_ttl) } else { own_ttl }),
            tos: control.tos.unwrap_or(if v4 { o.tos } else { o.tclass }),
            gso_size,
            fragments: discover.fragments() && (v4 || !control.dont_fragment.unwrap_or(o.dontfrag)),
            df: v4 && discover.sets_df(),
            no_checksum,
            priority: control.priority.unwrap_or(s.opts.priority.min(255) as u8),
            // Zero is no time, as in Linux.
            departure: control.departure.filter(|t| *t != Instant::ZERO),
            route,
        })
    }

    /// `IP_PKTINFO`, the scope of the address, `SO_BINDTODEVICE`, and then `IP_MULTICAST_IF` or `IP_UNICAST_IF`, in this order.
    fn outgoing_port(
        &self,
        s: &Socket,
        to: Option<SocketAddr>,
        control: &SendControl,
        dst: IpAddr,
    ) -> Result<Option<PortId>, Errno> {
        let (o, v4) = (&s.opts.ip, dst.is_ipv4());
        let scope = to.and_then(|to| crate::addr::scope_of(&to));
        if !v4
            && let (Some(a), Some(b)) = (control.port.or(scope), s.opts.device)
            && a != b
        {
            return Err(Errno::EINVAL);
        }
        let by_kind = match (dst.is_multicast(), v4) {
            (true, true) => o.mcast_if,
            (true, false) => o.mcast_if6,
            (false, _) => o.unicast_if,
        };
        let port = control.port.or(scope).or(s.opts.device).or(by_kind);
        if port.is_some_and(|p| self.ip.port(p).is_none()) {
            return Err(Errno::ENODEV);
        }
        Ok(port)
    }

    fn may_send_from(&self, s: &Socket, source: IpAddr, v4: bool) -> Result<IpAddr, Errno> {
        let anything = s.opts.ip.transparent || s.opts.ip.freebind;
        // IPv4's routing asks about it later.
        if source.is_ipv4() != v4 || !(v4 || anything || self.ip.addrs().is_local(source)) {
            return Err(Errno::EINVAL);
        }
        Ok(source)
    }

    /// udp(7), `UDP_SEGMENT`: "segmentation offload ... The size ... must be chosen such that ... it does not exceed the path MTU".
    fn segment_size(
        &self,
        size: u16,
        len: usize,
        route: &RouteDecision,
        no_checksum: bool,
        v4: bool,
    ) -> Result<u16, Errno> {
        if size == 0 {
            return Ok(0);
        }
        let headers = udp::HEADER_LEN + if v4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
        let bytes = usize::from(size);
        if headers + bytes > route.mtu as usize || len > bytes * MAX_SEGMENTS || no_checksum {
            return Err(Errno::EINVAL);
        }
        Ok(if len > bytes { size } else { 0 })
    }

    /// `IP_RECVERR`: the error queue says which MTU would fit.
    fn local_error(&mut self, sock: SockId, error: SendError, peer: SocketAddr) {
        let SendError::TooBig { mtu } = error else { return };
        let Some(s) = self.sockets.get(sock) else { return };
        let v6 = s.domain == crate::types::Domain::V6;
        if if peer.is_ipv4() { s.opts.ip.recverr } else { s.opts.ip.recverr6 } {
            let entry = QueuedError::local(Errno::EMSGSIZE, mtu, s.presented(peer), v6 && !peer.is_ipv4());
            self.queue_error(sock, entry);
        }
    }
}
