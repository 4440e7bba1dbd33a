//! Segments out: from a connection through IP into a port's queue.

use super::Stack;
use super::authentic::Signer;
use super::config::{PortTraits, mss_for};
use super::flow_label::rehashed;
use crate::demux::FlowKey;
use crate::ip::{Outgoing, RouteDecision, RouteQuery, SendError};
use crate::packet::{Packet, Payload, Sender};
use crate::socket::{Body, Socket};
use crate::store::ByteStore;
use crate::types::SocketKind;
use stackd_base::{Errno, Instant, PortId, SeqNum, SockId};
use stackd_tcp::{IcmpError, IcmpKind, SegmentOut};
use stackd_wire::{TcpRepr, proto};
use std::net::IpAddr;

/// A TCP header with all options.
const MAX_TCP_HEADER: usize = 60;

impl Stack {
    /// Sends what connections have to send.
    pub(super) fn flush<S: ByteStore>(&mut self, now: Instant, store: &mut S) {
        // Those that become dirty meanwhile wait for the next turn: a packet given up by a full queue must not spin here.
        for _ in 0..self.dirty.len() {
            let Some(sock) = self.dirty.pop_front() else { break };
            let Some(s) = self.sockets.get_mut(sock) else { continue };
            s.dirty = false;
            if matches!(s.body, Body::Udp(_)) {
                self.gro_flush(now, sock, store);
                continue;
            }
            self.transmit(now, sock, store);
            self.after_event(now, sock, store);
        }
    }

    pub(super) fn transmit<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        while let Some((conn, mut env)) = self.tcp_parts(sock) {
            let Some(segment) = conn.poll_transmit(now, &mut env) else { break };
            self.send_segment(now, sock, segment, store);
        }
    }

    fn send_segment<S: ByteStore>(&mut self, now: Instant, sock: SockId, out: SegmentOut, store: &mut S) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let Some(peer) = s.peer else { return };
        let (opts, local, fifo) = (&s.opts, s.local, s.fifo);
        let Body::Tcp(t) = &mut s.body else { return };
        let (sender, rehashes) = (Some(Sender { sock, life: t.life }), t.conn.rehashes());
        let payload_len = out.payload.as_ref().map_or(0, |r| (r.end - r.start) as u32);
        let mut wider = None;
        let route = match t.route(now, local.ip(), self.ip.generation()) {
            Some(route) => route,
            None => match self.ip.route_by(
                now,
                &RouteQuery { src: Some(local.ip()), port: opts.device, mark: opts.mark, ..RouteQuery::to(peer.ip()) },
            ) {
                Ok(route) => {
                    if t.keep_route(now, &route) {
                        t.config = super::config::resolve(&self.sysctls, &s.opts, t.tuning.as_deref());
                    }
                    let mss = super::config::path_mss(&self.sysctls, &s.opts, &route, peer.is_ipv6());
                    wider = (mss > t.conn.flow().mss.get()).then_some(mss);
                    route
                }
                Err(errno) => {
                    // As Linux: without a route the segment is lost, and the timer tries again.
                    t.soft_error = Some(errno);
                    t.conn.handle_tx_complete(payload_len);
                    return;
                }
            },
        };
        let mut header = [0; MAX_TCP_HEADER];
        let (options, signed) = match &s.auth {
            Some(auth) => auth.reserve(out.repr.options, peer.ip()),
            None => (out.repr.options, false),
        };
        let len = TcpRepr { options, ..out.repr }.emit(&mut header);
        let mut payload = match (out.payload, fifo) {
            (Some(range), Some(fifo)) if !range.is_empty() => Payload::Stream { fifo, range },
            _ => Payload::None,
        };
        if signed {
            // What was hashed is what leaves, whatever the program does to its memory meanwhile.
            let mut bytes = Vec::new();
            if let Payload::Stream { fifo, range } = payload
                && !store.tx_copy(fifo, range, &mut bytes)
            {
                t.conn.handle_tx_complete(payload_len);
                return;
            }
            Self::sign_segment(s, out.repr.seq, &mut header[..len], &bytes);
            payload = if bytes.is_empty() { Payload::None } else { Payload::Owned(bytes.into()) };
        }
        let opts = &s.opts;
        let v4 = peer.is_ipv4();
        let hash = || rehashed(self.secret.hash_bytes(&FlowKey::new(local, peer).bytes()), rehashes);
        let flow_label = if v4 { 0 } else { self.sysctls.net.auto_flowlabels.label(opts.ip.auto_flow_label, hash) };
        let outgoing = Outgoing {
            tos: (if v4 { opts.ip.tos } else { opts.ip.tclass }) & !3 | out.ecn as u8,
            ttl: if v4 { opts.ip.ttl } else { opts.ip.hops },
            dont_fragment: true,
            df: true,
            flow_label,
            gso_size: out.gso_size,
            sender,
            flow_hash: s.cookie,
            departure: out.departure,
            priority: opts.priority.min(255) as u8,
            max_pacing_rate: opts.max_pacing_rate,
            ..Outgoing::new(local.ip(), peer.ip(), proto::TCP, &header[..len], payload)
        };
        let (ip, mut env) = self.ip_parts(now);
        if let Err(error) = ip.send(&mut env, &route, outgoing) {
            if let Some(t) = self.tcp_mut(sock) {
                t.conn.handle_tx_complete(payload_len);
            }
            if let SendError::TooBig { mtu } = error {
                // The path shrank under the connection: it cuts smaller segments from now on.
                self.path_mtu_changed(now, sock, out.repr.seq, mtu);
            }
        }
        if let (Some(mss), Some((conn, mut env))) = (wider, self.tcp_parts(sock)) {
            conn.handle_path(now, mss, &mut env);
        }
        self.reap_dropped(now);
    }

    /// Tells a connection of a smaller path MTU.
    pub(super) fn path_mtu_changed(&mut self, now: Instant, sock: SockId, seq: SeqNum, mtu: u32) {
        let Some(peer) = self.sockets.get(sock).and_then(|s| s.peer) else { return };
        if let Some(t) = self.tcp_mut(sock) {
            t.path = None;
        }
        let kind = IcmpKind::TooBig { mss: mss_for(mtu, peer.is_ipv6()) };
        if let Some((conn, mut env)) = self.tcp_parts(sock) {
            conn.handle_icmp(now, IcmpError { seq, kind }, &mut env);
            self.mark_dirty(sock);
        }
    }

    /// RFC 9293, 3.8.3, R1: a connection that gets no answers looks for its route anew, and the next hop has to show that it lives.
    pub(super) fn doubt_path(&mut self, now: Instant, sock: SockId) {
        if let Ok(route) = self.route_of(now, sock) {
            self.ip.suspect_neighbour(now, route.port, route.next_hop);
        }
        if let Some(t) = self.tcp_mut(sock) {
            t.path = None;
        }
    }

    /// A segment that no connection sends: RST for nobody, ACK of TIME_WAIT.
    pub(super) fn send_bare(&mut self, now: Instant, flow: &FlowKey, repr: &TcpRepr, tos: u8, signer: Signer) {
        let (local, remote) = (flow.local().ip(), flow.remote().ip());
        let Ok(route) = self.ip.route(now, remote, Some(local), None) else { return };
        let mut header = [0; MAX_TCP_HEADER];
        let Some(len) = self.sign_bare(signer, flow, repr, &mut header) else { return };
        let outgoing = Outgoing {
            tos,
            dont_fragment: true,
            df: true,
            flow_hash: self.secret.hash_bytes(&flow.bytes()),
            ..Outgoing::new(local, remote, proto::TCP, &header[..len], Payload::None)
        };
        let (ip, mut env) = self.ip_parts(now);
        env.mib.inc(stackd_base::Mib::TcpOutSegs);
        // An answer that does not fit or finds no interface is as good as lost.
        let _ = ip.send(&mut env, &route, outgoing);
    }

    /// Tells connections about packets that were given up below them: they no longer count as queued.
    pub(super) fn reap_dropped(&mut self, now: Instant) {
        if !self.ip.has_dropped() {
            return;
        }
        for dropped in self.ip.take_dropped() {
            self.handle_tx_complete(now, &dropped.packet);
        }
    }

    /// Whether a packet, queued or given out, refers to bytes that are gone: it is not to be sent.
    pub fn is_stale(&self, packet: &Packet) -> bool {
        let Payload::Stream { range, fifo } = &packet.payload else { return false };
        let Some(Sender { sock, life }) = packet.sender else { return true };
        match self.sockets.get(sock) {
            Some(s) => match &s.body {
                Body::Tcp(t) => t.life != life || s.fifo != Some(*fifo) || range.start < t.published.1,
                Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => true,
            },
            None => true,
        }
    }

    /// What of an interface concerns connections.
    pub(super) fn port_traits(&self, id: PortId) -> PortTraits {
        let Some(port) = self.ip.port(id) else { return PortTraits { paces: false, gso_max: 0 } };
        // Headers (Ethernet, IPv6, TCP with options) must fit into the 64 KiB of an IP packet with the payload.
        const MOST: u32 = 65_535 - 40 - 60;
        // Even a device that cannot segment gets large packets: they are cut in front of it, after the qdisc.
        PortTraits { paces: port.qdisc().paces(), gso_max: MOST }
    }

    /// Whether a socket may be bound to this address.
    pub(super) fn is_bindable(&self, kind: SocketKind, ip: IpAddr) -> bool {
        let addrs = self.ip.addrs();
        // Linux lets TCP over IPv4 bind to groups too; nobody will connect there.
        let group = kind == SocketKind::Dgram || ip.is_ipv4();
        addrs.is_local(ip) || group && (ip.is_multicast() || addrs.is_broadcast(ip))
    }

    /// Whether packets may leave with this source. Linux asks that of IPv4 alone, and `IP_FREEBIND` is not enough: `IP_TRANSPARENT` is.
    pub(super) fn may_leave_from(&self, s: &Socket, src: Option<IpAddr>) -> Result<(), Errno> {
        match src {
            Some(src @ IpAddr::V4(_)) if !s.opts.ip.transparent && !self.is_bindable(SocketKind::Dgram, src) => {
                Err(Errno::ENETUNREACH)
            }
            _ => Ok(()),
        }
    }

    /// The path of a socket as it is now.
    pub(super) fn route_of(&self, now: Instant, sock: SockId) -> Result<RouteDecision, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let peer = s.peer.ok_or(Errno::ENOTCONN)?;
        let src = Some(s.local.ip()).filter(|ip| !ip.is_unspecified());
        self.ip.route_by(now, &s.query(peer.ip(), src))
    }
}
