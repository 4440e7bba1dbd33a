//! The SYN queue: handshakes that are kept as [`Request`]s until they end.

use super::Stack;
use super::authentic::Signer;
use super::ingress::Bytes;
use crate::demux::{FlowEntry, FlowKey};
use crate::ip::{Datagram, Outgoing, RouteDecision};
use crate::packet::Payload;
use crate::socket::opts::SockOpts;
use crate::socket::opts::repeats_in;
use crate::socket::requests::HalfOpen;
use crate::socket::{Birth, Body, TcpSock};
use crate::store::ByteStore;
use stackd_base::{DropReason, Instant, Mib, SeqNum, SockId};
use stackd_tcp::record::Start;
use stackd_tcp::{Config, Connection, Env, FlowParams, IcmpError, Request, SegmentOut, State};
use stackd_wire::{AoOption, EcnCodepoint, FastOpenCookie, TcpRepr, proto};
use std::sync::Arc;

/// What a half-open connection is revived with: its listener's options, its path as it is now, and what follows from both.
pub(super) struct Circumstances {
    pub opts: Arc<SockOpts>,
    pub path: RouteDecision,
    pub config: Option<Box<Config>>,
    pub params: FlowParams,
}

impl Stack {
    /// Answers a SYN and keeps what is needed to go on.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn open_request(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        (syn, ecn): (&TcpRepr, EcnCodepoint),
        iss: SeqNum,
        cookie: Option<FastOpenCookie>,
        config: Option<&Config>,
        params: FlowParams,
    ) {
        let Self { sysctls, mib, rng, mem, challenge, .. } = self;
        let mut env = Env { mib, rng, cfg: config.unwrap_or(&sysctls.tcp), mem, challenge };
        let (request, answer) = Request::open(params, iss, (syn, ecn), cookie, now, &mut env);
        let keys = syn.options.ao.map(|a| (a.key_id, a.rnext_key_id));
        let index = self.requests.insert(HalfOpen { flow: *flow, listener, request, keys, deferred: 0 });
        self.tcp_demux.insert_flow(*flow, FlowEntry::Request(index));
        if let Some(l) = self.listener_mut(listener) {
            l.embryonic += 1;
        }
        if let Some(answer) = answer {
            self.send_for_request(now, &HalfOpen { flow: *flow, listener, request, keys, deferred: 0 }, &answer);
        }
    }

    /// In what a connection of this listener lives; `None` without a route to its peer.
    pub(super) fn circumstances(&self, now: Instant, listener: SockId, flow: &FlowKey) -> Option<Circumstances> {
        let opts = Arc::clone(&self.sockets.get(listener)?.opts);
        let path = self.ip.route(now, flow.remote().ip(), Some(flow.local().ip()), opts.device).ok()?;
        let config = self.config_for(&opts, &path);
        let params = self.child_params(listener, &opts, flow, &path);
        Some(Circumstances { opts, path, config, params })
    }

    /// The connection that it stands for, and what it needs for a call.
    fn revived<R>(
        &mut self,
        half: &HalfOpen,
        around: &Circumstances,
        f: impl FnOnce(&mut Connection, &mut Env<'_>) -> R,
    ) -> (Connection, R) {
        let Self { sysctls, mib, rng, mem, challenge, .. } = self;
        let cfg = around.config.as_deref().unwrap_or(&sysctls.tcp);
        let mut env = Env { mib, rng, cfg, mem, challenge };
        let mut conn = half.request.revive(around.params, &mut env);
        let r = f(&mut conn, &mut env);
        (conn, r)
    }

    /// A segment of a half-open connection.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn request_input<S: ByteStore>(
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
        let Some(half) = self.requests.get(index).copied() else { return Err(DropReason::TcpNoSocket) };
        let Some(around) = self.circumstances(now, half.listener, &half.flow) else {
            return Err(DropReason::IpNoRoute);
        };
        if around.opts.device.is_some_and(|device| device != d.port) {
            return Err(DropReason::TcpNoSocket);
        }
        if d.ttl < if d.src.is_ipv4() { around.opts.ip.minttl } else { around.opts.ip.minhops } {
            self.mib.inc(Mib::TcpExtTCPMinTTLDrop);
            return Err(DropReason::IpMinTtl);
        }
        if self.wants_proof(half.listener, seg) {
            self.check_segment(half.listener, flow, seg, d, bytes, Some(half.request.isns()), store)?;
        }
        self.may_finish(now, index, half, &around, seg, bytes.len)?;
        let (conn, ingress) =
            self.revived(&half, &around, |conn, env| conn.handle_segment(at, seg, bytes.len as u32, d.ecn(), env));
        match conn.state() {
            ended @ (State::SynReceived | State::Closed) => {
                // Linux's tcp_check_req: a reset, or a SYN within the window, ends an embryonic connection.
                if ended == State::Closed && (seg.flags.rst() || seg.flags.syn()) {
                    self.mib.inc(Mib::TcpExtEmbryonicRsts);
                }
                self.settle_request(now, index, half, &around, conn);
                ingress.drop.map_or(Ok(()), Err)
            }
            // Its handshake is over: now it is worth a socket.
            _ => {
                if self.sockets.len() >= self.cfg.max_sockets {
                    self.mib.inc(Mib::TcpExtListenDrops);
                    self.mib.dec(Mib::TcpCurrEstab);
                    return Err(DropReason::NoMemory);
                }
                let saved_syn = self.saved_syns.remove(flow);
                let birth = saved_syn.map(|headers| Box::new(Birth { saved_syn: Some(headers), ..Birth::default() }));
                self.forget_request(index);
                let asked = half.keys.and_then(|(key, next)| AoOption::new(key, next, &[]));
                let tcp = TcpSock { birth, ..TcpSock::new(conn, around.config, &around.path) };
                self.admit(now, half.listener, flow, (tcp, asked), ingress, bytes, store)
            }
        }
    }

    /// A connection that a listener's handshake made becomes a socket, and the segment that ended it is taken in.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn admit<S: ByteStore>(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        (tcp, asked): (TcpSock, Option<AoOption>),
        ingress: stackd_tcp::Ingress,
        bytes: &Bytes<'_, S::Payload<'_>>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        // A recording of it begins here: what came before is in the state.
        let begun = (tcp, &Start::Live, asked);
        let Some(child) = self.open_child(now, listener, flow, begun) else { return Err(DropReason::SocketClosed) };
        self.finish_input(now, child, ingress, bytes, store)
    }

    /// The SYN-ACK's timer.
    pub(super) fn request_timeout(&mut self, now: Instant, index: u32) {
        let Some(half) = self.requests.get(index).copied() else { return };
        let Some(around) = self.circumstances(now, half.listener, &half.flow) else {
            // No way back to it, for now.
            self.forget_request(index);
            return;
        };
        let (conn, ()) = self.revived(&half, &around, |conn, env| conn.handle_timeout(now, env));
        self.settle_request(now, index, half, &around, conn);
    }

    /// An ICMP error about a SYN-ACK.
    pub(super) fn request_error(&mut self, now: Instant, index: u32, error: IcmpError) {
        let Some(half) = self.requests.get(index).copied() else { return };
        let Some(around) = self.circumstances(now, half.listener, &half.flow) else { return };
        let (conn, ()) = self.revived(&half, &around, |conn, env| conn.handle_icmp(now, error, env));
        self.settle_request(now, index, half, &around, conn);
    }

    /// Sends what a revived connection has to say, and keeps or forgets it.
    fn settle_request(
        &mut self,
        now: Instant,
        index: u32,
        mut half: HalfOpen,
        around: &Circumstances,
        mut conn: Connection,
    ) {
        loop {
            let Self { sysctls, mib, rng, mem, challenge, .. } = self;
            let cfg = around.config.as_deref().unwrap_or(&sysctls.tcp);
            let mut env = Env { mib, rng, cfg, mem, challenge };
            let Some(out) = conn.poll_transmit(now, &mut env) else { break };
            self.send_for_request(now, &half, &out);
        }
        if conn.state() == State::SynReceived {
            half.request.keep(&conn);
            self.requests.update(index, half);
        } else {
            self.forget_request(index);
        }
    }

    /// The ACK that would finish a handshake: may it, with the accept queue as it is?
    fn may_finish(
        &mut self,
        now: Instant,
        index: u32,
        mut half: HalfOpen,
        around: &Circumstances,
        seg: &TcpRepr,
        len: usize,
    ) -> Result<(), DropReason> {
        if seg.ack.is_none() || seg.flags.rst() || seg.flags.syn() {
            return Ok(());
        }
        // tcp(7), TCP_DEFER_ACCEPT: "Allow a listener to be awakened only when data arrives on the socket." The bare ACK is
        // forgotten; SYN-ACKs go on being repeated, as many as fit into that time (1, 3, 7, 15 ... seconds).
        let defer = around.opts.defer_accept;
        if defer > 0 && len == 0 && !seg.flags.fin() && u32::from(half.deferred) < repeats_in(defer) {
            half.deferred += 1;
            self.requests.update(index, half);
            self.mib.inc(Mib::TcpExtTCPDeferAcceptDrop);
            return Err(DropReason::TcpFlags);
        }
        let full = match self.sockets.get(half.listener).map(|s| &s.body) {
            Some(Body::Listen(l)) => l.accept_full(),
            _ => false,
        };
        if !full {
            return Ok(());
        }
        self.mib.inc(Mib::TcpExtListenOverflows);
        self.mib.inc(Mib::TcpExtListenDrops);
        if self.sysctls.net.tcp_abort_on_overflow {
            self.mib.inc(Mib::TcpExtEmbryonicRsts);
            self.forget_request(index);
            self.reset_unknown(now, &half.flow, seg, len as u32, Some(half.listener));
        }
        // Else the SYN-ACK will be repeated, and with it this ACK: by then there may be room.
        Err(DropReason::TcpListenOverflow)
    }

    /// It is over, one way or the other.
    pub(super) fn forget_request(&mut self, index: u32) {
        let Some(half) = self.requests.remove(index) else { return };
        self.tcp_demux.remove_flow(&half.flow, FlowEntry::Request(index));
        self.saved_syns.remove(&half.flow);
        if let Some(l) = self.listener_mut(half.listener) {
            l.embryonic = l.embryonic.saturating_sub(1);
        }
    }

    /// The listener is no more, and with it those who waited for its answer.
    pub(super) fn forget_requests_of(&mut self, listener: SockId) {
        let gone: Vec<u32> = self.requests.iter().filter(|(_, h)| h.listener == listener).map(|(i, _)| i).collect();
        for index in gone {
            self.forget_request(index);
        }
    }

    fn send_for_request(&mut self, now: Instant, half: &HalfOpen, out: &SegmentOut) {
        let HalfOpen { flow, listener, request, keys, deferred: _ } = half;
        let (iss, irs) = request.isns();
        let Some(s) = self.sockets.get(*listener) else { return };
        let (opts, cookie) = (Arc::clone(&s.opts), s.cookie);
        let (local, remote) = (flow.local().ip(), flow.remote().ip());
        let Ok(route) = self.ip.route(now, remote, Some(local), opts.device) else { return };
        let mut header = [0; 60];
        let signer = Signer::Listener(*listener, iss, Some(irs), *keys);
        let Some(len) = self.sign_bare(signer, flow, &out.repr, &mut header) else { return };
        let v4 = remote.is_ipv4();
        let flow_hash = self.secret.hash_bytes(&flow.bytes());
        let labels = self.sysctls.net.auto_flowlabels;
        let outgoing = Outgoing {
            flow_label: if v4 { 0 } else { labels.label(opts.ip.auto_flow_label, || flow_hash) },
            tos: (if v4 { opts.ip.tos } else { opts.ip.tclass }) & !3 | out.ecn as u8,
            ttl: if v4 { opts.ip.ttl } else { opts.ip.hops },
            dont_fragment: true,
            df: true,
            flow_hash: flow_hash ^ cookie,
            priority: opts.priority.min(255) as u8,
            ..Outgoing::new(local, remote, proto::TCP, &header[..len], Payload::None)
        };
        let (ip, mut env) = self.ip_parts(now);
        // An answer that does not fit or finds no interface is as good as lost.
        let _ = ip.send(&mut env, &route, outgoing);
    }
}
