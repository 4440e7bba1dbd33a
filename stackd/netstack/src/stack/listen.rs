//! Passive opens: SYN queue, accept queue, and what happens when they are full.

use super::Stack;
use super::fastopen::FastSyn;
use super::half_open::Circumstances;
use super::ingress::Bytes;
use crate::demux::{FlowEntry, FlowKey};
use crate::ip::Datagram;
use crate::isn;
use crate::socket::ports::Hold;
use crate::socket::{Binding, Body, Listener, Socket, TcpSock};
use crate::store::ByteStore;
use crate::types::Readiness;
use stackd_base::{DropReason, Instant, Mib, Rng, SeqNum, SockId};
use stackd_tcp::record::Start;
use stackd_tcp::{Connection, Env, Place, State};
use stackd_wire::{AoOption, EcnCodepoint, TcpOptions, TcpRepr};
use std::sync::Arc;

impl Stack {
    /// A SYN for a listener.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn listen_input<S: ByteStore>(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        (syn, ecn): (&TcpRepr, EcnCodepoint),
        bytes: &Bytes<'_, S::Payload<'_>>,
        least_iss: SeqNum,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let syn_limit = self.sysctls.net.tcp_max_syn_backlog;
        let Some(s) = self.sockets.get(listener) else { return Err(DropReason::SocketClosed) };
        let Body::Listen(l) = &s.body else { return Err(DropReason::TcpNoSocket) };
        if l.accept_full() {
            self.mib.inc(Mib::TcpExtListenOverflows);
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::TcpListenOverflow);
        }
        // Linux: full at the backlog; without SYN cookies the last quarter of tcp_max_syn_backlog is closed to strangers.
        let embryonic = l.embryonic;
        let (full, opts, device) = (l.syn_full(), Arc::clone(&s.opts), s.opts.device);
        let cookie = self.wants_cookie(full, least_iss, flow, syn);
        let crowded = self.sysctls.net.tcp_syncookies == 0 && syn_limit.saturating_sub(embryonic) < syn_limit >> 2;
        if !cookie && (full || crowded) {
            self.mib.inc(Mib::TcpExtTCPReqQFullDrop);
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::TcpSynOverflow);
        }
        if !cookie && self.sockets.len() >= self.cfg.max_sockets {
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::NoMemory);
        }
        let Ok(path) = self.ip.route(now, flow.remote().ip(), Some(flow.local().ip()), device) else {
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::IpNoRoute);
        };
        if cookie {
            if full {
                self.mib.inc(Mib::TcpExtTCPReqQFullDoCookies);
            }
            self.send_cookie(now, listener, flow, (syn, ecn), &path, &opts);
            return Ok(());
        }
        let mut iss = isn::initial_sequence(&self.secret, flow, now);
        if least_iss != SeqNum(0) && iss.before(least_iss) {
            iss = least_iss;
        }
        let resolved = self.config_for(&opts, &path);
        let params = self.child_params(listener, &opts, flow, &path);
        let grant = match self.judge_fast_syn(now, listener, flow, syn, bytes.len, &opts) {
            FastSyn::Ordinary => None,
            FastSyn::Grant(cookie) => Some(cookie),
            FastSyn::Take(renewed) => {
                let Self { sysctls, mib, rng, mem, challenge, .. } = self;
                let cfg = resolved.as_deref().unwrap_or(&sysctls.tcp);
                let mut env = Env { mib, rng, cfg, mem, challenge };
                let (mut conn, ingress) = Connection::accept_fast(params, iss, syn, bytes.len as u32, now, &mut env);
                conn.note_syn_ecn(ecn);
                if let Some(cookie) = renewed {
                    conn.grant_cookie(cookie);
                    self.mib.inc(Mib::TcpExtTCPFastOpenPassiveAltKey);
                }
                let tcp = TcpSock::new(conn, resolved, &path);
                let start = Start::Accept { flow: params, iss, syn: *syn };
                let begun = (tcp, &start, syn.options.ao);
                return self.open_fast_child(now, listener, flow, begun, ingress.place, bytes, store);
            }
        };
        self.open_request(now, listener, flow, (syn, ecn), iss, grant, resolved.as_deref(), params);
        Ok(())
    }

    /// A connection made by data in a SYN (RFC 7413, 4.2.2): to be accepted at once, with that data.
    #[allow(clippy::too_many_arguments)]
    fn open_fast_child<S: ByteStore>(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        begun: (TcpSock, &Start, Option<AoOption>),
        place: Option<Place>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        store: &mut S,
    ) -> Result<(), DropReason> {
        let Some(child) = self.open_child(now, listener, flow, begun) else { return Err(DropReason::SocketClosed) };
        let kept = self.fifo_of(child, store).is_some() && place.is_none_or(|p| self.place(child, &p, bytes, store));
        if !kept {
            self.mib.inc(Mib::TcpExtTCPFastOpenPassiveFail);
            self.child_gone(child, listener);
            self.free(child, store);
            return Err(DropReason::NoMemory);
        }
        if let Some(t) = self.tcp_mut(child) {
            t.established = true;
            t.birth.get_or_insert_default().fast_parent = Some(listener);
        }
        if let Some(l) = self.listener_mut(listener) {
            l.fast_open_pending += 1;
        }
        self.mib.inc(Mib::TcpExtTCPFastOpenPassive);
        self.child_established(child, listener);
        self.mark_dirty(child);
        self.after_event(now, child, store);
        Ok(())
    }

    /// An ACK to a listener: true if it brought a cookie of ours back, and the connection began.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn cookie_input<S: ByteStore>(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        at: Instant,
        store: &mut S,
    ) -> Result<bool, DropReason> {
        let Some((syn, iss)) = self.read_cookie(now, listener, flow, seg) else { return Ok(false) };
        let Some(s) = self.sockets.get(listener) else { return Err(DropReason::SocketClosed) };
        if matches!(&s.body, Body::Listen(l) if l.accept_full()) {
            self.mib.inc(Mib::TcpExtListenOverflows);
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::TcpListenOverflow);
        }
        if self.sockets.len() >= self.cfg.max_sockets {
            self.mib.inc(Mib::TcpExtListenDrops);
            return Err(DropReason::NoMemory);
        }
        let Some(around) = self.circumstances(now, listener, flow) else { return Err(DropReason::IpNoRoute) };
        let Circumstances { opts: _, path, config: resolved, params } = around;
        let (mut conn, _) = self.revive(&resolved, params, iss, (&syn, EcnCodepoint::NotEct), now);
        // The echo of a timestamp that carried options says nothing of the round trip.
        let options = TcpOptions { timestamps: None, ..seg.options };
        let Self { sysctls, mib, rng, mem, challenge, .. } = self;
        let cfg = resolved.as_deref().unwrap_or(&sysctls.tcp);
        let mut env = Env { mib, rng, cfg, mem, challenge };
        let ingress = conn.handle_segment(at, &TcpRepr { options, ..*seg }, bytes.len as u32, d.ecn(), &mut env);
        if matches!(conn.state(), State::SynReceived | State::Closed) {
            // Something is wrong with it besides: the cookie is good for the next one.
            return Err(ingress.drop.unwrap_or(DropReason::TcpFlags));
        }
        let tcp = TcpSock::new(conn, resolved, &path);
        self.admit(now, listener, flow, (tcp, seg.options.ao), ingress, bytes, store)?;
        Ok(true)
    }

    /// A socket for a connection that a listener got.
    pub(super) fn open_child(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        (mut tcp, start, asked): (TcpSock, &Start, Option<AoOption>),
    ) -> Option<SockId> {
        let s = self.sockets.get(listener)?;
        let (owner, uid, domain, opts) = (s.owner, s.uid, s.domain, Arc::clone(&s.opts));
        let auth = s.auth.as_ref().and_then(|a| a.for_child(flow.remote().ip(), tcp.port, asked));
        let hold = Hold::Follower(opts.reuseaddr);
        tcp.parent = Some(listener);
        let cookie = self.rng.next_u64();
        let mut child = Socket::new(owner, domain, opts, cookie, Body::Tcp(Box::new(tcp)));
        child.uid = uid;
        (child.local, child.peer) = (flow.local(), Some(flow.remote()));
        child.binding = Binding::Hold(hold);
        child.auth = auth;
        self.tcp_ports.hold(flow.local(), hold);
        let child = self.sockets.insert(child);
        self.tcp_demux.insert_flow(*flow, FlowEntry::Sock(child));
        self.born(now, child, start);
        Some(child)
    }

    pub(super) fn listener_mut(&mut self, sock: SockId) -> Option<&mut Listener> {
        match &mut self.sockets.get_mut(sock)?.body {
            Body::Listen(l) => Some(l),
            Body::TcpClosed | Body::Tcp(_) | Body::Udp(_) => None,
        }
    }

    /// A child's handshake ended well: to the accept queue.
    pub(super) fn child_established(&mut self, child: SockId, listener: SockId) {
        self.mib.inc(Mib::TcpPassiveOpens);
        if let Some(Body::Listen(l)) = self.sockets.get_mut(listener).map(|s| &mut s.body) {
            l.accept.push_back(child);
            self.note(listener, Readiness::IN | Readiness::RDNORM);
        }
    }

    /// A child died before it was accepted.
    pub(super) fn child_gone(&mut self, child: SockId, listener: SockId) {
        if let Some(Body::Listen(l)) = self.sockets.get_mut(listener).map(|s| &mut s.body) {
            l.accept.retain(|&c| c != child);
            self.note(listener, Readiness::EMPTY);
        }
    }

    /// A listener goes back to CLOSED. Handshakes under way are forgotten, those not accepted are reset.
    pub(super) fn stop_listening<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let port = s.local.port();
        let Body::Listen(l) = core::mem::replace(&mut s.body, Body::TcpClosed) else { return };
        self.tcp_demux.remove_waiting(port, sock);
        let claim = super::calls::claim_of(sock, s, s.local.ip());
        // Cannot fail: a claim that listened conflicts with nothing when it no longer does.
        let _ = self.tcp_ports.update(port, claim);
        self.forget_requests_of(sock);
        for child in l.accept {
            let Some(t) = self.tcp_mut(child) else { continue };
            t.parent = None;
            if !t.attached {
                // It ended while it waited to be accepted: nothing is left to be told to its peer.
                self.free(child, store);
                continue;
            }
            let Some((conn, mut env)) = self.tcp_parts(child) else { continue };
            conn.handle_abort(&mut env);
            if let Some(s) = self.sockets.get_mut(child) {
                s.detached = true;
                self.orphans += 1;
            }
            self.mark_dirty(child);
            self.after_event(now, child, store);
        }
    }
}
