//! After something happened to a socket: its events, what is published, what it is worth waiting for, and its end.

use super::Stack;
use crate::demux::FlowEntry;
use crate::demux::FlowKey;
use crate::ip::TransportError;
use crate::socket::ports::Hold;
use crate::socket::timewait::{TIME_WAIT, TimeWait, TwTimestamps};
use crate::socket::{Binding, Body};
use crate::store::ByteStore;
use crate::types::{Readiness, SockEvent};
use stackd_base::{DropReason, Errno, Instant, Mib, SeqNum, SockId};
use stackd_tcp::record::EndReason;
use stackd_tcp::{CloseReason, Event, IcmpError, IcmpKind, State};
use stackd_wire::{IcmpRepr, proto};

impl Stack {
    /// The next socket whose readiness changed.
    pub fn poll_event(&mut self) -> Option<SockEvent> {
        while let Some(sock) = self.events.pop_front() {
            let Some(s) = self.sockets.get_mut(sock) else { continue };
            s.queued = false;
            let edges = core::mem::take(&mut s.edges);
            if s.detached {
                continue;
            }
            return Some(SockEvent { sock, owner: s.owner, readiness: s.readiness, edges });
        }
        None
    }

    /// What `poll(2)` would say of a socket.
    pub fn readiness(&self, sock: SockId) -> Readiness {
        self.readiness_from(sock, 0)
    }

    /// The same for one who wants `least` bytes of a stream (0: as `SO_RCVLOWAT` says).
    pub fn readiness_from(&self, sock: SockId, least: u32) -> Readiness {
        let Some(s) = self.sockets.get(sock) else { return Readiness::HUP | Readiness::ERR };
        let mut r = if s.error.is_some() || s.errors.is_some() { Readiness::ERR } else { Readiness::EMPTY };
        if s.errors.is_some() && s.opts.select_err_queue {
            r |= Readiness::PRI;
        }
        let (input, output) = (Readiness::IN | Readiness::RDNORM, Readiness::OUT | Readiness::WRNORM);
        match &s.body {
            Body::TcpClosed => {
                r |= Readiness::OUT | Readiness::HUP;
                if s.shut.read {
                    r |= input | Readiness::RDHUP;
                }
            }
            Body::Listen(l) => {
                if !l.accept.is_empty() {
                    r |= input;
                }
            }
            Body::Udp(u) => {
                if u.readable || u.read_shut {
                    r |= input;
                }
                if u.read_shut {
                    r |= Readiness::RDHUP;
                }
                if u.read_shut && u.write_shut {
                    r |= Readiness::HUP;
                }
                r |= output;
            }
            Body::Tcp(t) => {
                let ended = !t.attached;
                if t.peer_closed {
                    r |= Readiness::FIN;
                }
                let write_shut = t.write_shut;
                if ended || (t.read_shut || t.peer_closed) && write_shut {
                    r |= Readiness::HUP;
                }
                if ended || t.read_shut || t.peer_closed {
                    r |= input | Readiness::RDHUP;
                }
                if t.conn.defers_syn() {
                    r |= output;
                }
                if t.conn.has_urgent() {
                    r |= Readiness::PRI;
                }
                if t.established || ended {
                    let least = if least == 0 { s.opts.rcvlowat.max(1) } else { least };
                    // Linux's tcp_poll: an urgent byte that is not read in line is nothing to read.
                    let urgent = u64::from(t.conn.at_urgent_mark() && !s.opts.oobinline);
                    if t.published.0 - t.consumed >= u64::from(least) + urgent {
                        r |= input;
                    }
                    // Linux: writable when a third of the buffer is free, or when writing would fail at once.
                    let room = t.conn.tx_limit().saturating_sub(t.written);
                    let cfg = t.config.as_deref().unwrap_or(&self.sysctls.tcp);
                    if ended || write_shut || (room * 3 >= t.conn.sndbuf() && t.conn.below_notsent_lowat(cfg)) {
                        r |= output;
                    }
                }
            }
        }
        r
    }

    /// `SO_ERROR`: the pending error, which is cleared by asking.
    pub fn take_error(&mut self, sock: SockId) -> Option<Errno> {
        let error = self.sockets.get_mut(sock)?.error.take();
        if error.is_some() {
            self.note(sock, Readiness::EMPTY);
        }
        error
    }

    /// Sets what is fresh and queues an event if the application has something to learn.
    pub(super) fn note(&mut self, sock: SockId, fresh: Readiness) {
        let now = self.readiness(sock);
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let edges = (now & !s.readiness) | (fresh & now);
        let changed = now != s.readiness;
        s.readiness = now;
        s.edges |= edges;
        // A child that nobody accepted yet has nobody to tell.
        let hidden = s.detached || matches!(&s.body, Body::Tcp(t) if t.parent.is_some());
        // Below SO_RCVLOWAT new bytes make nothing readable, but somebody may wait for fewer.
        let arrived = fresh.contains(Readiness::IN) && s.opts.rcvlowat > 1 || s.lingering;
        if (changed || !edges.is_empty() || arrived) && !s.queued && !hidden {
            s.queued = true;
            self.events.push_back(sock);
        }
    }

    /// Draws the consequences of whatever was done to a connection.
    pub(super) fn after_event<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        let mut fresh = Readiness::EMPTY;
        let mut closed = None;
        while let Some(event) = self.tcp_mut(sock).and_then(|t| t.conn.poll_event()) {
            match event {
                Event::Connected => {
                    fresh |= Readiness::OUT | Readiness::WRNORM;
                    self.connected(now, sock, store);
                }
                Event::Readable => fresh |= Readiness::IN | Readiness::RDNORM,
                Event::Writable => fresh |= Readiness::OUT | Readiness::WRNORM,
                Event::PeerClosed => {
                    fresh |= Readiness::IN | Readiness::RDHUP;
                    if let Some(t) = self.tcp_mut(sock) {
                        t.peer_closed = true;
                    }
                }
                Event::ErrorQueue(errno) => {
                    if let Some(t) = self.tcp_mut(sock) {
                        t.soft_error = Some(errno);
                    }
                    // ip(7), IP_RECVERR: "for stream sockets ... all errors are immediately passed to the user" instead of being kept.
                    if let Some(s) = self.sockets.get_mut(sock)
                        && (if s.local.is_ipv4() { s.opts.ip.recverr } else { s.opts.ip.recverr6 })
                    {
                        s.error = Some(errno);
                        fresh |= Readiness::ERR;
                    }
                }
                Event::Urgent => {
                    fresh |= Readiness::PRI;
                    // Before what it marks is published.
                    let mark = self.urgent_mark(sock).map(|m| m.0);
                    if let (Some(mark), Some(fifo)) = (mark, self.fifo_of(sock, store)) {
                        store.rx_urgent(fifo, mark);
                    }
                }
                Event::FastOpen => self.fast_open_learn(now, sock),
                Event::Doubt => self.doubt_path(now, sock),
                Event::Closed(reason) => closed = Some(reason),
            }
        }
        self.publish(sock, store);
        self.charge(sock);
        if let Some(reason) = closed {
            fresh |= Readiness::HUP | Readiness::IN | Readiness::OUT;
            self.connection_ended(now, sock, reason, store);
        }
        let deadline = match self.sockets.get(sock).map(|s| &s.body) {
            Some(Body::Tcp(t)) if t.attached => t.conn.next_deadline(),
            Some(_) => None,
            None => return,
        };
        self.timers.set(sock.slot, deadline);
        self.note(sock, fresh);
    }

    fn connected<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        // A passive connection gets its buffers now. Without memory for them it stays without: placing data will fail then.
        let _ = self.fifo_of(sock, store);
        let Some(t) = self.tcp_mut(sock) else { return };
        t.established = true;
        if let Some(listener) = t.take_fast_parent() {
            self.fast_open_settled(now, listener, false);
        } else if let Some(listener) = t.parent {
            self.child_established(sock, listener);
        }
    }

    /// Tells the byte store how far data goes and how far it may go.
    fn publish<S: ByteStore>(&mut self, sock: SockId, store: &mut S) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let (Some(fifo), Body::Tcp(t)) = (s.fifo, &mut s.body) else { return };
        let cfg = t.config.as_deref().unwrap_or(&self.sysctls.tcp);
        let (head, released) = (t.conn.rx_head(), t.conn.tx_released());
        let limit = t.conn.tx_limit().min(t.conn.notsent_limit(cfg));
        let (old_head, old_released, old_limit) = t.published;
        // A limit once published stays good: the application may be writing up to it.
        let limit = limit.max(old_limit);
        let writes = t.established || t.conn.writes_early();
        if head != old_head {
            store.rx_publish(fifo, head);
        }
        if writes && (released != old_released || limit != old_limit) {
            store.tx_publish(fifo, released, limit);
        }
        t.published = (head, released, if writes { limit } else { old_limit });
    }

    /// Keeps the account of `net.ipv4.tcp_mem`: bytes that wait to be acknowledged, to be put in order, to be read.
    fn charge(&mut self, sock: SockId) {
        let was_pressed = self.mem.under_pressure();
        let Some(Body::Tcp(t)) = self.sockets.get_mut(sock).map(|s| &mut s.body) else { return };
        let (head, released, _) = t.published;
        let holds = head.saturating_sub(t.consumed) + t.written.saturating_sub(released) + t.conn.rx_out_of_order();
        let before = core::mem::replace(&mut t.charged, holds);
        self.mem.used = (self.mem.used + holds).saturating_sub(before);
        if self.mem.under_pressure() && !was_pressed {
            self.mib.inc(Mib::TcpExtTCPMemoryPressures);
        }
    }

    /// The connection is over: its four-tuple goes, to TIME_WAIT or altogether.
    fn connection_ended<S: ByteStore>(&mut self, now: Instant, sock: SockId, reason: CloseReason, store: &mut S) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let Body::Tcp(t) = &mut s.body else { return };
        if !t.attached {
            return;
        }
        // Its last words: the ACK of a FIN, or a RST.
        self.transmit(now, sock, store);
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let Body::Tcp(t) = &mut s.body else { return };
        t.attached = false;
        t.conn.end_tape(EndReason::Finished);
        let errno = match reason {
            // Linux reports why it could not get through rather than that it gave up.
            CloseReason::TimedOut => t.soft_error.or(reason.errno()),
            // Linux's tcp_reset: who knows that the peer will send no more hears that it will not read either.
            CloseReason::Reset if t.peer_closed && !t.write_shut => Some(Errno::EPIPE),
            CloseReason::Finished
            | CloseReason::Reset
            | CloseReason::ResetAfterFin
            | CloseReason::Refused
            | CloseReason::Unreachable(_)
            | CloseReason::Aborted => reason.errno(),
        };
        let established = t.established;
        let waits = t.conn.state() == State::TimeWait;
        let (parent, tos) = (t.parent, s.opts.ip.tos & !3);
        let (fast_parent, verdict) = (t.take_fast_parent(), t.conn.fast_open_blackholed());
        let (local, peer, detached) = (s.local, s.peer, s.detached);
        // A port out of the ephemeral range stays open to other destinations; a bound one is held against everybody.
        let hold = match s.binding {
            Binding::Hold(hold) => hold,
            Binding::Claim | Binding::None => Hold::Follower(s.opts.reuseaddr),
        };
        if established || parent.is_none() {
            s.error = s.error.or(errno);
        }
        let Some(peer) = peer else { return };
        self.fast_open_ended(now, verdict, peer.ip().is_loopback());
        if let Some(listener) = fast_parent {
            self.fast_open_settled(now, listener, reason == CloseReason::Reset);
        }
        let flow = FlowKey::new(local, peer);
        self.tcp_demux.remove_flow(&flow, FlowEntry::Sock(sock));
        if waits {
            self.enter_time_wait(now, sock, &flow, hold, tos);
        }
        if let Some(listener) = parent
            && !established
        {
            if reason == CloseReason::Refused {
                self.mib.inc(Mib::TcpExtEmbryonicRsts);
            }
            self.child_gone(sock, listener);
            self.free(sock, store);
            return;
        }
        if detached {
            self.orphans = self.orphans.saturating_sub(1);
            self.free(sock, store);
        }
    }

    fn enter_time_wait(&mut self, now: Instant, sock: SockId, flow: &FlowKey, hold: Hold, tos: u8) {
        if self.tw.len() as u32 >= self.sysctls.net.tcp_max_tw_buckets {
            // ip-sysctl, tcp_max_tw_buckets: "If this number is exceeded time-wait socket is immediately destroyed and warning is printed."
            self.mib.inc(Mib::TcpExtTCPTimeWaitOverflow);
            return;
        }
        let Some(t) = self.tcp_mut(sock) else { return };
        let conn = &t.conn;
        let (rcv_wnd, rcv_wscale) = conn.rcv_wnd();
        let offset = conn.flow().ts_offset;
        let entry = TimeWait {
            flow: *flow,
            snd_nxt: conn.snd_nxt(),
            rcv_nxt: conn.rcv_nxt(),
            rcv_wnd,
            rcv_wscale,
            ts: conn.ts_recent().map(|(recent, recent_at)| TwTimestamps { recent, recent_at, offset }),
            hold,
            tos,
            fin_wait_2: false,
        };
        self.tcp_ports.hold(flow.local(), hold);
        let index = self.tw.insert(now, entry, TIME_WAIT);
        self.tcp_demux.insert_flow(*flow, FlowEntry::TimeWait(index));
        self.keep_auth(sock, index);
        self.mib.inc(Mib::TcpExtTW);
    }

    /// A TIME_WAIT entry makes way before its time.
    pub(super) fn end_time_wait(&mut self, index: u32) {
        if let Some(entry) = self.tw.remove(index) {
            self.forget_time_wait(index, &entry);
        }
    }

    /// An entry that is out of its table goes out of the others.
    pub(super) fn forget_time_wait(&mut self, index: u32, entry: &TimeWait) {
        if !self.tw_auth.is_empty() {
            self.tw_auth.remove(&index);
        }
        self.tcp_demux.remove_flow(&entry.flow, FlowEntry::TimeWait(index));
        self.tcp_ports.unhold(entry.flow.local(), entry.hold);
    }

    /// A new connection takes over the four-tuple of an entry.
    /// The least initial sequence number it may use, far beyond what the old one could have in flight (as Linux).
    pub(super) fn evict_time_wait(&mut self, flow: &FlowKey) -> Option<SeqNum> {
        if let Some(FlowEntry::TimeWait(index)) = self.tcp_demux.flow(flow) {
            let least = self.tw.get(index).map(|tw| tw.snd_nxt + 65_535 + 2);
            self.end_time_wait(index);
            self.mib.inc(Mib::TcpExtTWRecycled);
            return least;
        }
        None
    }

    /// What is left of an earlier attempt to connect goes, so that the socket may try again.
    pub(super) fn discard_dead<S: ByteStore>(&mut self, sock: SockId, store: &mut S) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        if !matches!(&s.body, Body::Tcp(t) if !t.attached) {
            return;
        }
        if let Body::Tcp(t) = core::mem::replace(&mut s.body, Body::TcpClosed) {
            self.mem.used = self.mem.used.saturating_sub(t.charged);
        }
        s.peer = None;
        if let Some(fifo) = s.fifo.take() {
            store.close(fifo);
        }
        if let Binding::Hold(hold) = s.binding {
            let held = s.local;
            s.binding = Binding::None;
            s.local.set_port(0);
            self.tcp_ports.unhold(held, hold);
        }
    }

    /// Takes a socket out of every table.
    pub(super) fn free<S: ByteStore>(&mut self, sock: SockId, store: &mut S) {
        self.leave_all(sock);
        let Some(s) = self.sockets.remove(sock) else { return };
        self.timers.set(sock.slot, None);
        let (tcp, port) = (s.kind() == crate::types::SocketKind::Stream, s.local.port());
        let ports = if tcp { &mut self.tcp_ports } else { &mut self.udp_ports };
        match s.binding {
            Binding::None => {}
            Binding::Claim => ports.release(port, sock),
            Binding::Hold(hold) => ports.unhold(s.local, hold),
        }
        match &s.body {
            Body::Tcp(t) => {
                self.mem.used = self.mem.used.saturating_sub(t.charged);
                if let Some(peer) = s.peer {
                    self.tcp_demux.remove_flow(&FlowKey::new(s.local, peer), FlowEntry::Sock(sock));
                }
            }
            Body::Listen(_) => self.tcp_demux.remove_waiting(port, sock),
            Body::Udp(_) => self.udp_demux.remove_waiting(port, sock),
            Body::TcpClosed => {}
        }
        if let Some(fifo) = s.fifo {
            store.close(fifo);
        }
    }

    /// An ICMP error about a packet of ours.
    pub(super) fn handle_transport_error<S: ByteStore>(&mut self, now: Instant, error: &TransportError, store: &mut S) {
        if error.protocol != proto::TCP {
            self.udp_error(now, error);
            return;
        }
        let flow = FlowKey::new(error.local, error.remote);
        if let (Some(FlowEntry::Request(index)), Some(seq)) = (self.tcp_demux.flow(&flow), error.seq) {
            if matches!(error.error, IcmpRepr::PacketTooBig { .. }) {
                // The next SYN-ACK is no smaller for it; the connection will ask the path.
                return;
            }
            let (errno, _) = error.errno();
            let kind = if error.ends_request() { IcmpKind::Hard(errno) } else { IcmpKind::Soft(errno) };
            self.request_error(now, index, IcmpError { seq, kind });
            return;
        }
        let (Some(FlowEntry::Sock(sock)), Some(seq)) = (self.tcp_demux.flow(&flow), error.seq) else {
            self.drops.count(DropReason::IcmpUnsolicited);
            return;
        };
        if let IcmpRepr::PacketTooBig { mtu } = error.error {
            let path_mss = |stack: &Self| stack.connection(sock).map(|c| c.flow().mss);
            let before = path_mss(self);
            self.path_mtu_changed(now, sock, seq, mtu);
            // RFC 1191, 6.2: what one connection believed, all that go there must know (they would lose a segment each to learn it).
            if path_mss(self) != before {
                self.ip.learn_mtu(now, error.remote.ip(), mtu);
            }
        } else if error.errno().1 && self.ignores_icmp(sock) {
            self.drops.count(DropReason::IcmpIgnored);
            return;
        } else {
            let waits = self.tcp_mut(sock).is_some_and(|t| t.parent.is_some());
            let Some((conn, mut env)) = self.tcp_parts(sock) else { return };
            let (errno, fatal) = error.errno();
            // As Linux: any such error ends a handshake, but that of a Fast Open child which was accepted: it counts as established.
            let ends = if conn.state() == State::SynReceived { waits || !conn.is_fast_child() } else { fatal };
            let kind = if ends { IcmpKind::Hard(errno) } else { IcmpKind::Soft(errno) };
            conn.handle_icmp(now, IcmpError { seq, kind }, &mut env);
            self.mark_dirty(sock);
        }
        self.after_event(now, sock, store);
    }
}
