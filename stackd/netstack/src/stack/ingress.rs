//! Frames in: through IP to TCP and UDP.

use super::Stack;
use super::authentic::Signer;
use crate::demux::{FlowEntry, FlowKey};
use crate::ip::{Datagram, Delivered};
use crate::packet::{Packet, Payload};
use crate::socket::Body;
use crate::socket::timewait::Verdict;
use crate::store::{ByteStore, FifoKind};
use core::ops::Range;
use stackd_base::{DropReason, FifoId, Instant, Mib, PortId, SeqNum, SockId};
use stackd_tcp::{Ingress, Place};
use stackd_wire::{Offload, Sum, TcpFlags, TcpOptions, TcpRepr, proto, tcp};
use std::net::SocketAddr;

/// What came with a received frame.
#[derive(Clone, Copy, Debug)]
pub struct RxMeta {
    /// When the device handed it over: what RTT samples are taken from.
    pub at: Instant,
    /// Checksum and segmentation state.
    pub offload: Offload,
}

/// The part of a frame that the stack cannot see.
#[derive(Clone, Debug)]
pub(super) enum Beyond<P> {
    /// There is none.
    Nothing,
    /// The shell has it.
    Shell(P),
    /// It lies in the send buffer of a socket of this stack (loopback).
    Fifo(FifoId, Range<u64>),
}

/// A segment's payload: `visible` bytes, then those beyond, `len` in all.
pub(super) struct Bytes<'a, P> {
    pub visible: &'a [u8],
    pub beyond: Beyond<P>,
    pub len: usize,
}

impl Stack {
    /// A frame arrived on `port`. The frame is `head` followed by `payload_len` bytes that only the shell can see; `head` holds at
    /// least all headers of a TCP segment, and the whole of any other frame. (A shell that received into memory of its own passes
    /// everything as `head` and no payload.)
    #[allow(clippy::too_many_arguments)]
    pub fn handle_frame<S: ByteStore>(
        &mut self,
        now: Instant,
        port: PortId,
        head: &[u8],
        payload: S::Payload<'_>,
        payload_len: usize,
        meta: RxMeta,
        store: &mut S,
    ) {
        let beyond = if payload_len == 0 { Beyond::Nothing } else { Beyond::Shell(payload) };
        let (ip, mut env) = self.ip_parts(now);
        let delivered = ip.handle_frame(&mut env, port, head, payload_len, &meta.offload);
        self.dispatch::<S>(now, delivered, beyond, meta.at, store);
    }

    /// A packet that `poll_loopback` gave out comes back in, its payload still in the sender's buffer: one copy, FIFO to FIFO.
    pub fn handle_loopback<S: ByteStore>(&mut self, now: Instant, packet: Packet, store: &mut S) {
        let Some(port) = self.ip.loopback() else { return };
        let beyond = match &packet.payload {
            Payload::Stream { fifo, range } => Beyond::Fifo(*fifo, range.clone()),
            Payload::None | Payload::Owned(_) => Beyond::Nothing,
        };
        let (ip, mut env) = self.ip_parts(now);
        let mut delivered = ip.handle_packet(&mut env, port, &packet);
        // Linux: what this host sends to an address of its own has come in by the interface that has the address.
        if let Delivered::Transport(d) = &mut delivered
            && let Some(owner) = ip.addrs().owner(d.dst)
        {
            d.port = owner;
        }
        self.dispatch::<S>(now, delivered, beyond, now, store);
        self.handle_tx_complete(now, &packet);
    }

    fn dispatch<S: ByteStore>(
        &mut self,
        now: Instant,
        delivered: Delivered<'_>,
        beyond: Beyond<S::Payload<'_>>,
        at: Instant,
        store: &mut S,
    ) {
        match delivered {
            Delivered::Transport(d) if d.protocol == proto::TCP => {
                let hidden = d.transport().len() < d.transport_len;
                let beyond = if hidden { beyond } else { Beyond::Nothing };
                if let Err(reason) = self.tcp_input(now, &d, beyond, at, store) {
                    self.drops.count(reason);
                }
            }
            Delivered::Transport(d) => {
                if let Err(reason) = self.udp_input(now, &d, store) {
                    self.drops.count(reason);
                }
            }
            Delivered::Error(error) => self.handle_transport_error(now, &error, store),
            Delivered::Handled | Delivered::Dropped(_) => {}
        }
        self.reap_dropped(now);
    }

    fn tcp_input<S: ByteStore>(
        &mut self,
        now: Instant,
        d: &Datagram<'_>,
        beyond: Beyond<S::Payload<'_>>,
        at: Instant,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let transport = d.transport();
        let Ok((seg, header_len)) = TcpRepr::parse(transport) else {
            self.mib.inc(Mib::TcpInSegs);
            self.mib.inc(Mib::TcpInErrs);
            return Err(DropReason::TcpInvalid);
        };
        self.mib.add(Mib::TcpInSegs, u64::from(d.segments(header_len)));
        if header_len > d.transport_len {
            self.mib.inc(Mib::TcpInErrs);
            return Err(DropReason::TcpInvalid);
        }
        let len = d.transport_len - header_len;
        let rest = &transport[header_len..];
        let bytes = Bytes { visible: &rest[..len.min(rest.len())], beyond, len };
        if !d.checksum_trusted && !tcp::verify(&transport[..header_len], d.src, d.dst, sum(&bytes, store), len) {
            self.mib.inc(Mib::TcpInCsumErrors);
            self.mib.inc(Mib::TcpInErrs);
            return Err(DropReason::TcpChecksum);
        }
        // RFC 9293, 3.9.2.3 (MUST-57): "A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a
        // broadcast or multicast address"; nothing else to a group can be ours either.
        if d.group {
            return Err(DropReason::TcpNoSocket);
        }
        let (local, remote) = (SocketAddr::new(d.dst, seg.dst_port), SocketAddr::new(d.src, seg.src_port));
        let flow = FlowKey::new(local, remote);
        match self.tcp_demux.flow(&flow) {
            Some(FlowEntry::Sock(sock)) => self.deliver(now, sock, &seg, d, &bytes, at, store),
            Some(FlowEntry::Request(index)) => self.request_input(now, index, &flow, &seg, d, &bytes, at, store),
            Some(FlowEntry::TimeWait(index)) => self.time_wait_input(now, index, &flow, &seg, d, &bytes, at, store),
            None => self.unclaimed(now, &flow, &seg, d, &bytes, at, SeqNum(0), store),
        }
    }

    /// A segment of no known flow: for a listener, or for nobody.
    #[allow(clippy::too_many_arguments)]
    fn unclaimed<S: ByteStore>(
        &mut self,
        now: Instant,
        flow: &FlowKey,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        at: Instant,
        least_iss: SeqNum,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let waiting = self.tcp_demux.find_waiting(flow.local(), flow.remote(), d.port);
        if let Some(listener) = waiting
            && self.wants_proof(listener, seg)
        {
            self.check_segment(listener, flow, seg, d, bytes, None, store)?;
        }
        match waiting {
            // RFC 9293, 3.10.7.2, LISTEN: RST is ignored, ACK is answered with RST, SYN opens, anything else is dropped.
            Some(_) if seg.flags.rst() => Err(DropReason::TcpReset),
            Some(listener) if seg.ack.is_none() => {
                if !seg.flags.syn() || seg.flags.fin() {
                    return Err(DropReason::TcpFlags);
                }
                self.listen_input(now, listener, flow, (seg, d.ecn()), bytes, least_iss, store)?;
                self.save_syn(listener, flow, d, d.transport_len - bytes.len);
                Ok(())
            }
            waiting => {
                if let Some(listener) = waiting
                    && self.cookie_input(now, listener, flow, seg, d, bytes, at, store)?
                {
                    return Ok(());
                }
                self.reset_unknown(now, flow, seg, bytes.len as u32, waiting);
                Err(DropReason::TcpNoSocket)
            }
        }
    }

    /// RFC 9293, 3.10.7.1, CLOSED: "An incoming segment not containing a RST causes a RST to be sent in response."
    /// A `listener` with keys signs it; a segment that was signed is not answered by one that is not (RFC 2385, 4.1 as Linux reads it).
    pub(super) fn reset_unknown(
        &mut self,
        now: Instant,
        flow: &FlowKey,
        seg: &TcpRepr,
        len: u32,
        listener: Option<SockId>,
    ) {
        let proven = seg.options.md5.is_some() || seg.options.ao.is_some();
        if seg.flags.rst() || proven && listener.is_none() {
            return;
        }
        let isns = (seg.ack.map_or(SeqNum(0), |a| a - 1), seg.ack.map(|_| seg.seq - 1));
        let signer = listener.map_or(Signer::None, |l| Signer::Listener(l, isns.0, isns.1, None));
        let (seq, ack) = match seg.ack {
            Some(ack) => (ack, None),
            None => (SeqNum(0), Some(seg.seq + seg.sequence_len(len))),
        };
        let rst = TcpRepr {
            src_port: flow.local().port(),
            dst_port: flow.remote().port(),
            seq,
            ack,
            flags: TcpFlags::RST,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        };
        self.mib.inc(Mib::TcpOutRsts);
        self.send_bare(now, flow, &rst, 0, signer);
    }

    #[allow(clippy::too_many_arguments)]
    fn time_wait_input<S: ByteStore>(
        &mut self,
        now: Instant,
        index: u32,
        flow: &FlowKey,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        at: Instant,
        store: &mut S,
    ) -> Result<(), DropReason> {
        if !self.tw_auth.is_empty() || seg.options.md5.is_some() || seg.options.ao.is_some() {
            self.check_time_wait(index, flow, seg, d, bytes, store)?;
        }
        let (rfc1337, fin_timeout) = (self.sysctls.net.tcp_rfc1337, self.sysctls.net.tcp_fin_timeout);
        match self.tw.handle_segment(at, index, seg, bytes.len as u32, rfc1337, fin_timeout) {
            Verdict::Ack(ack) => {
                let tos = self.tw.get(index).map_or(0, |t| t.tos);
                self.send_bare(now, flow, &ack, tos, Signer::TimeWait(index));
                Err(DropReason::TcpTimeWait)
            }
            Verdict::Drop(reason) => Err(reason),
            Verdict::Kill => {
                self.end_time_wait(index);
                if bytes.len > 0 {
                    self.reset_unknown(now, flow, seg, bytes.len as u32, None);
                }
                Err(DropReason::TcpTimeWait)
            }
            Verdict::Reopen(least_iss) => {
                // Only a listener can take it over; without one the entry stays as it was.
                if self.tcp_demux.find_waiting(flow.local(), flow.remote(), d.port).is_none() {
                    self.reset_unknown(now, flow, seg, bytes.len as u32, None);
                    return Err(DropReason::TcpNoSocket);
                }
                self.end_time_wait(index);
                self.unclaimed(now, flow, seg, d, bytes, at, least_iss, store)
            }
        }
    }

    /// A segment for a connection.
    #[allow(clippy::too_many_arguments)]
    fn deliver<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        at: Instant,
        store: &mut S,
    ) -> Result<(), DropReason> {
        if self.wants_proof(sock, seg) {
            let flow = FlowKey::new(SocketAddr::new(d.dst, seg.dst_port), SocketAddr::new(d.src, seg.src_port));
            self.check_segment(sock, &flow, seg, d, bytes, None, store)?;
        }
        if let Some(s) = self.sockets.get(sock) {
            if s.opts.device.is_some_and(|device| device != d.port) {
                return Err(DropReason::TcpNoSocket);
            }
            // RFC 5082, 3 (GTSM): what has come further than the peer can be is not from the peer.
            if d.ttl < if d.src.is_ipv4() { s.opts.ip.minttl } else { s.opts.ip.minhops } {
                self.mib.inc(Mib::TcpExtTCPMinTTLDrop);
                return Err(DropReason::IpMinTtl);
            }
        }
        let Some((conn, mut env)) = self.tcp_parts(sock) else { return Err(DropReason::SocketClosed) };
        let ingress = conn.handle_segment(at, seg, bytes.len as u32, d.ecn(), &mut env);
        self.finish_input(now, sock, ingress, bytes, store)
    }

    /// What a connection made of a segment: its bytes go where they belong, and consequences are drawn.
    pub(super) fn finish_input<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        ingress: Ingress,
        bytes: &Bytes<'_, S::Payload<'_>>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        if let Some(place) = ingress.place
            && !self.place(sock, &place, bytes, store)
        {
            // The connection has accounted for bytes that nobody can keep: it cannot go on (Linux: tcp_abort on memory).
            self.mib.inc(Mib::TcpExtTCPAbortOnMemory);
            if let Some((conn, mut env)) = self.tcp_parts(sock) {
                conn.handle_abort(&mut env);
            }
            self.mark_dirty(sock);
            self.after_event(now, sock, store);
            return Err(DropReason::NoMemory);
        }
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        ingress.drop.map_or(Ok(()), Err)
    }

    /// Whether digests are to be looked at: there are keys, or a digest.
    pub(super) fn wants_proof(&self, sock: SockId, seg: &TcpRepr) -> bool {
        let keys = self.sockets.get(sock).is_some_and(|s| s.auth.is_some());
        keys || seg.options.md5.is_some() || seg.options.ao.is_some()
    }

    /// Puts accepted bytes where they belong.
    pub(super) fn place<S: ByteStore>(
        &mut self,
        sock: SockId,
        place: &Place,
        bytes: &Bytes<'_, S::Payload<'_>>,
        store: &mut S,
    ) -> bool {
        let Some(fifo) = self.fifo_of(sock, store) else { return false };
        let (at, end) = (place.at as usize, place.at as usize + place.len as usize);
        let visible = bytes.visible.len();
        if at < visible && !store.rx_place_bytes(fifo, place.stream_offset, &bytes.visible[at..end.min(visible)]) {
            return false;
        }
        if end <= visible {
            return true;
        }
        let from = at.max(visible);
        let offset = place.stream_offset + (from - at) as u64;
        let (hidden_at, hidden_len) = (from - visible, end - from);
        match &bytes.beyond {
            Beyond::Nothing => false,
            Beyond::Shell(p) => store.rx_place(fifo, offset, *p, hidden_at, hidden_len),
            Beyond::Fifo(source, range) => {
                let start = range.start + hidden_at as u64;
                store.rx_place_from(fifo, offset, *source, start..start + hidden_len as u64)
            }
        }
    }

    /// The FIFOs of a connection; a passive one gets them with its first bytes, or when it is accepted.
    pub(super) fn fifo_of<S: ByteStore>(&mut self, sock: SockId, store: &mut S) -> Option<FifoId> {
        let s = self.sockets.get_mut(sock)?;
        if s.fifo.is_none() && matches!(s.body, Body::Tcp(_)) {
            s.fifo = store.open(sock, s.owner, FifoKind::Stream).ok();
        }
        s.fifo
    }
}

/// The sum over a payload of which part is visible.
fn sum<S: ByteStore>(bytes: &Bytes<'_, S::Payload<'_>>, store: &S) -> Sum {
    let visible = Sum::of(bytes.visible);
    match &bytes.beyond {
        // Loopback never left the machine: its checksum was never made.
        Beyond::Nothing | Beyond::Fifo(..) => visible,
        Beyond::Shell(p) => {
            let hidden = store.payload_checksum(*p, 0, bytes.len - bytes.visible.len());
            visible.and_at(hidden, bytes.visible.len())
        }
    }
}
