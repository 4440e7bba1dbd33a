//! Datagrams in: who gets them, and what they are told besides the bytes.

use super::gro::Segment;
use super::send::Plan;
use crate::ip::Datagram;
use crate::socket::Body;
use crate::socket::ancillary::RecvControl;
use crate::stack::Stack;
use crate::store::ByteStore;
use crate::types::Readiness;
use stackd_base::{DropReason, Instant, Mib, SockId};
use stackd_wire::udp::{self, UdpRepr};
use stackd_wire::{IcmpRepr, Sum, Unreachable, proto};
use std::borrow::Cow;
use std::net::SocketAddr;

/// A datagram whose header is right.
struct Arrival<'a> {
    from: SocketAddr,
    control: RecvControl,
    data: &'a [u8],
    /// IPv6 without a checksum: only for sockets that said so.
    unchecked: bool,
}

impl Stack {
    /// A datagram arrived.
    pub(in crate::stack) fn udp_input<S: ByteStore>(
        &mut self,
        now: Instant,
        d: &Datagram<'_>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let arrival = self.udp_checked(now, d)?;
        let local = arrival.control.dst;
        if d.group {
            let receivers = self.udp_demux.all_waiting(local, arrival.from, d.port);
            let mut result = Err(DropReason::UdpNoSocket);
            for sock in receivers {
                if self.wants_group(sock, d.port, local.ip(), arrival.from.ip()) {
                    result = self.udp_take(now, sock, &arrival, store);
                }
            }
            if result.is_err() {
                self.mib.inc(if d.src.is_ipv4() { Mib::UdpIgnoredMulti } else { Mib::Udp6IgnoredMulti });
            }
            return result;
        }
        let Some(sock) = self.udp_demux.find_waiting(local, arrival.from, d.port) else {
            self.mib.inc(if d.src.is_ipv4() { Mib::UdpNoPorts } else { Mib::Udp6NoPorts });
            // RFC 1122, 4.1.3.1: "If a datagram arrives addressed to a UDP port for which there is no pending LISTEN call, UDP
            // SHOULD send an ICMP Port Unreachable message."
            let (ip, mut env) = self.ip_parts(now);
            ip.answer_error(&mut env, d.port, &d.packet, IcmpRepr::DestUnreachable(Unreachable::Port));
            return Err(DropReason::UdpNoSocket);
        };
        self.udp_take(now, sock, &arrival, store)
    }

    fn udp_checked<'a>(&mut self, now: Instant, d: &'a Datagram<'_>) -> Result<Arrival<'a>, DropReason> {
        let v4 = d.src.is_ipv4();
        let (errors, checksum) =
            if v4 { (Mib::UdpInErrors, Mib::UdpInCsumErrors) } else { (Mib::Udp6InErrors, Mib::Udp6InCsumErrors) };
        let transport = d.transport();
        let (Ok((repr, _)), Some(header)) =
            (UdpRepr::parse(transport, d.transport_len), transport.first_chunk::<{ udp::HEADER_LEN }>())
        else {
            self.mib.inc(errors);
            return Err(DropReason::UdpInvalid);
        };
        let len = usize::from(repr.payload_len);
        let Some(data) = transport.get(udp::HEADER_LEN..udp::HEADER_LEN + len) else {
            self.mib.inc(errors);
            return Err(DropReason::UdpInvalid);
        };
        // RFC 8200, 8.1: "IPv6 receivers must discard UDP packets containing a zero checksum", but for RFC 6936's exceptions.
        let unchecked = !v4 && header[6..] == [0, 0] && !d.checksum_trusted;
        if !d.checksum_trusted && !unchecked && !udp::verify(header, d.src, d.dst, Sum::of(data), repr.payload_len) {
            self.mib.inc(errors);
            self.mib.inc(checksum);
            return Err(DropReason::UdpChecksum);
        }
        let local = if d.group { self.ip.addrs().select_source(d.port, d.src, d.src).unwrap_or(d.dst) } else { d.dst };
        let size = d.gso_size;
        let control = RecvControl {
            port: d.port,
            dst: SocketAddr::new(d.dst, repr.dst_port),
            local,
            ttl: d.ttl,
            tos: d.tos,
            gso_size: (size != 0 && len > usize::from(size)).then_some(size),
            unix_ns: self.realtime.at(now),
        };
        let from = crate::addr::scoped(SocketAddr::new(d.src, repr.src_port), d.port);
        Ok(Arrival { from, control, data, unchecked })
    }

    /// A datagram (or several of one size, merged by a device) for a socket.
    fn udp_take<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        a: &Arrival<'_>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let Some(s) = self.sockets.get(sock) else { return Err(DropReason::SocketClosed) };
        let o = &s.opts.ip;
        let v4 = a.from.is_ipv4();
        if a.unchecked && !o.no_check6_rx {
            self.mib.inc(Mib::Udp6InErrors);
            self.mib.inc(Mib::Udp6InCsumErrors);
            return Err(DropReason::UdpChecksum);
        }
        if a.control.ttl < if v4 { o.minttl } else { o.minhops } {
            return Err(DropReason::IpMinTtl);
        }
        if o.wanted.gro {
            return self.gro_take(now, sock, &Segment { from: a.from, control: a.control, data: a.data }, store);
        }
        // Without UDP_GRO the socket gets what was sent, one datagram each.
        let size = a.control.gso_size.map_or(a.data.len(), usize::from).max(1);
        let control = RecvControl { gso_size: None, ..a.control };
        if a.data.len() <= size {
            return self.udp_deliver(sock, a.from, &control, a.data, store);
        }
        let mut result = Ok(());
        for piece in a.data.chunks(size) {
            if let Err(reason) = self.udp_deliver(sock, a.from, &control, piece, store) {
                // Each lost datagram is counted; the last one by the caller.
                if let Err(earlier) = core::mem::replace(&mut result, Err(reason)) {
                    self.drops.count(earlier);
                }
            }
        }
        result
    }

    /// Puts one record into a socket's receive buffer.
    pub(super) fn udp_deliver<S: ByteStore>(
        &mut self,
        sock: SockId,
        from: SocketAddr,
        control: &RecvControl,
        data: &[u8],
        store: &mut S,
    ) -> Result<(), DropReason> {
        let v4 = from.is_ipv4();
        let Some(s) = self.sockets.get_mut(sock) else { return Err(DropReason::SocketClosed) };
        let presented = s.presented(from);
        let control = control.write(&s.opts.ip.wanted);
        let (Some(fifo), Body::Udp(u)) = (s.fifo, &mut s.body) else { return Err(DropReason::SocketClosed) };
        if !store.rx_datagram(fifo, presented, &control, data) {
            u.drops += 1;
            self.mib.inc(if v4 { Mib::UdpRcvbufErrors } else { Mib::Udp6RcvbufErrors });
            self.mib.inc(if v4 { Mib::UdpInErrors } else { Mib::Udp6InErrors });
            return Err(DropReason::UdpRcvBuf);
        }
        u.readable = true;
        self.mib.inc(if v4 { Mib::UdpInDatagrams } else { Mib::Udp6InDatagrams });
        self.note(sock, Readiness::IN | Readiness::RDNORM);
        Ok(())
    }

    /// ip(7), `IP_MULTICAST_LOOP`: what this host sends to a group (or to everybody) it hears itself, as if it had come in by the
    /// interface that it left by.
    pub(super) fn udp_loop_back<S: ByteStore>(&mut self, now: Instant, plan: &Plan, packet: &[u8], store: &mut S) {
        let d = Datagram {
            port: plan.route.port,
            src: plan.src,
            dst: plan.peer.ip(),
            protocol: proto::UDP,
            ttl: plan.ttl.unwrap_or(1),
            tos: plan.tos,
            group: true,
            transport_at: 0,
            transport_len: packet.len(),
            packet: Cow::Borrowed(packet),
            frame_at: 0,
            // It never left the machine.
            checksum_trusted: true,
            gso_size: 0,
        };
        if let Err(reason) = self.udp_input(now, &d, store) {
            self.drops.count(reason);
        }
    }
}
