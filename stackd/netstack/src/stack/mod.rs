//! The facade: one shard's whole stack.

mod associate;
mod authentic;
mod calls;
mod check;
mod config;
mod connect;
mod control;
mod cookies;
mod fastopen;
pub mod flow_label;
mod half_open;
mod handshake_options;
mod ingress;
mod linger;
mod listen;
mod multicast;
mod options;
mod orphans;
mod output;
mod queues;
mod realtime;
mod record;
mod repair;
mod saved_syn;
mod settle;
mod udp;
mod urgent;

#[cfg(test)]
mod tests;

pub use control::QdiscError;
pub use fastopen::FastOpenKeys;
pub use ingress::RxMeta;
pub use multicast::Membership;
pub use record::{NewFlow, Recorder};
pub use udp::Held;

use crate::demux::{Demux, Keyed};
use crate::ip::{IpEnv, IpLayer};
use crate::packet::{Accounting, Packet, Sender};
use crate::socket::ports::PortTable;
use crate::socket::requests::RequestTable;
use crate::socket::table::SocketTable;
use crate::socket::timewait::TimeWaitTable;
use crate::socket::{Body, TcpSock};
use crate::store::ByteStore;
use crate::sysctl::Sysctls;
use crate::timer_wheel::TimerWheel;
use crate::types::StackConfig;
use hashbrown::HashMap;
use stackd_base::{DropCounters, Instant, MibCounters, PortId, Rng, SockId, SplitMix64};
use stackd_tcp::{ChallengeLimit, Connection, Env, MemAccount};
use std::collections::VecDeque;

/// One shard's whole stack, sans-I/O.
///
/// Order of calls: `handle_frame` and the socket calls as things happen; `handle_timers` when `next_deadline` has come;
/// then `poll_loopback` and `poll_transmit` of every port until `None`, `poll_event` until `None`, and sleep until `next_deadline`.
#[derive(Debug)]
pub struct Stack {
    pub(crate) cfg: StackConfig,
    pub(crate) sysctls: Sysctls,
    pub(crate) sockets: SocketTable,
    pub(crate) timers: TimerWheel,
    pub(crate) tw: TimeWaitTable,
    pub(crate) requests: RequestTable,
    pub(crate) tcp_demux: Demux,
    pub(crate) udp_demux: Demux,
    pub(crate) tcp_ports: PortTable,
    pub(crate) udp_ports: PortTable,
    /// Where the next ephemeral port of a destination is looked for (RFC 6056).
    pub(crate) port_counters: Box<[u32; calls::PORT_COUNTERS]>,
    /// Sockets that may have something to send.
    pub(crate) dirty: VecDeque<SockId>,
    /// Sockets whose readiness changed.
    pub(crate) events: VecDeque<SockId>,
    /// Connections that their application closed and that are not finished.
    pub(crate) orphans: u32,
    pub(crate) mib: MibCounters,
    pub(crate) drops: DropCounters,
    pub(crate) mem: MemAccount,
    pub(crate) challenge: ChallengeLimit,
    pub(crate) rng: SplitMix64,
    pub(crate) secret: Keyed,
    pub(crate) fast_open: fastopen::FastOpenClient,
    /// Keys of TIME_WAIT entries that sign.
    pub(crate) tw_auth: HashMap<u32, authentic::TimeWaitAuth, rapidhash::fast::RandomState>,
    pub(crate) ip: IpLayer,
    pub(crate) recordings: record::Recordings,
    /// The last number given to a connection that was opened here (`Sender`).
    pub(crate) lives: u16,
    pub(crate) realtime: realtime::Realtime,
    pub(crate) saved_syns: saved_syn::SavedSyns,
}

impl Stack {
    /// A stack without interfaces. Everything random in it follows from `seed`, which a daemon takes from the OS and keeps secret.
    pub fn new(cfg: StackConfig, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let secret = Keyed::new(rng.next_u64(), rng.next_u64());
        let tables = Keyed::new(rng.next_u64(), rng.next_u64());
        let sysctls = Sysctls::default();
        let mut ip = IpLayer::new(sysctls.ip, &mut rng);
        // Every shard hears what the others hear; one asks.
        ip.speaks = cfg.shard.0 == 0;
        Self {
            cfg,
            sockets: SocketTable::default(),
            timers: TimerWheel::default(),
            tw: TimeWaitTable::default(),
            requests: RequestTable::default(),
            tcp_demux: Demux::new(tables),
            udp_demux: Demux::new(tables),
            tcp_ports: PortTable::new(tables),
            udp_ports: PortTable::new(tables),
            port_counters: Box::new([0; calls::PORT_COUNTERS]),
            dirty: VecDeque::new(),
            events: VecDeque::new(),
            orphans: 0,
            mib: MibCounters::default(),
            drops: DropCounters::default(),
            mem: MemAccount::default(),
            challenge: ChallengeLimit::default(),
            rng,
            secret,
            fast_open: fastopen::FastOpenClient::default(),
            tw_auth: HashMap::default(),
            ip,
            recordings: record::Recordings::default(),
            lives: 0,
            realtime: realtime::Realtime::default(),
            saved_syns: saved_syn::SavedSyns::default(),
            sysctls,
        }
    }

    /// Everything whose time has come.
    pub fn handle_timers<S: ByteStore>(&mut self, now: Instant, store: &mut S) {
        while let Some(slot) = self.timers.pop_expired(now) {
            let Some(sock) = self.sockets.id_of(slot) else { continue };
            self.connection_timeout(now, sock, store);
        }
        while let Some(index) = self.requests.pop_due(now) {
            self.request_timeout(now, index);
        }
        while let Some((index, entry)) = self.tw.pop_expired(now) {
            self.forget_time_wait(index, &entry);
        }
        let (ip, mut env) = self.ip_parts(now);
        ip.handle_timers(&mut env);
        self.reap_dropped(now);
        self.flush(now, store);
    }

    /// The next packet for a port's device.
    pub fn poll_transmit<S: ByteStore>(&mut self, now: Instant, port: PortId, store: &mut S) -> Option<Packet> {
        self.flush(now, store);
        loop {
            let (ip, mut env) = self.ip_parts(now);
            let packet = ip.dequeue(&mut env, port);
            self.reap_dropped(now);
            let packet = packet?;
            if !self.is_stale(&packet) {
                return Some(packet);
            }
            self.drops.count(stackd_base::DropReason::TcpStaleTransmit);
            self.handle_tx_complete(now, &packet);
        }
    }

    /// The next packet on `lo`: give it to `handle_loopback` (after a capture looked at it).
    pub fn poll_loopback<S: ByteStore>(&mut self, now: Instant, store: &mut S) -> Option<Packet> {
        let lo = self.ip.loopback()?;
        self.poll_transmit(now, lo, store)
    }

    /// The device took a packet (or lost it): its socket may send more. Call it for every packet polled, before the packet's
    /// bytes are forgotten.
    pub fn handle_tx_complete(&mut self, _now: Instant, packet: &Packet) {
        if let Some(Sender { sock, life }) = packet.sender
            && let Some(Body::Tcp(t)) = self.sockets.get_mut(sock).map(|s| &mut s.body)
            && t.life == life
        {
            let bytes = packet.payload.len() as u32;
            match packet.accounting {
                Accounting::Frame => t.conn.handle_tx_complete(bytes),
                Accounting::Piece => t.conn.handle_tx_piece(bytes),
                Accounting::Copy => return,
            }
            self.mark_dirty(sock);
        }
    }

    /// When to come back if nothing else happens; a time in the past means now.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.dirty.is_empty() || !self.events.is_empty() {
            return Some(Instant::ZERO);
        }
        let ports = self.ip.ports().iter().filter_map(|p| p.next_deadline());
        [self.timers.next_deadline(), self.requests.next_deadline(), self.tw.next_deadline(), self.ip.next_deadline()]
            .into_iter()
            .flatten()
            .chain(ports)
            .min()
    }

    /// Whether a segment or datagram of these two ends finds a connection, a TIME_WAIT entry or a connected UDP socket here. A shell with
    /// several shards asks, to find the one that a frame belongs to.
    pub fn has_flow(&self, tcp: bool, local: std::net::SocketAddr, remote: std::net::SocketAddr) -> bool {
        let demux = if tcp { &self.tcp_demux } else { &self.udp_demux };
        demux.flow(&crate::demux::FlowKey::new(local, remote)).is_some()
    }

    /// Linux's counters. `TcpCurrEstab` and the like are gauges.
    pub fn mib(&self) -> &MibCounters {
        &self.mib
    }

    /// Packets dropped, one reason each.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// A drop that the shell decided on (device refused it, hand-over ring full).
    pub fn count_drop(&mut self, reason: stackd_base::DropReason) {
        self.drops.count(reason);
    }

    /// A connection and what it needs for a call.
    pub(crate) fn tcp_parts(&mut self, sock: SockId) -> Option<(&mut Connection, Env<'_>)> {
        let Self { sockets, sysctls, mib, rng, mem, challenge, .. } = self;
        let Body::Tcp(t) = &mut sockets.get_mut(sock)?.body else { return None };
        let TcpSock { conn, config, .. } = &mut **t;
        let cfg = config.as_deref().unwrap_or(&sysctls.tcp);
        Some((conn, Env { mib, rng, cfg, mem, challenge }))
    }

    /// A connection's socket side.
    pub(crate) fn tcp_mut(&mut self, sock: SockId) -> Option<&mut TcpSock> {
        match &mut self.sockets.get_mut(sock)?.body {
            Body::Tcp(t) => Some(t),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        }
    }

    /// The IP layer and what it needs for a call.
    pub(crate) fn ip_parts(&mut self, now: Instant) -> (&mut IpLayer, IpEnv<'_>) {
        let Self { ip, mib, drops, rng, .. } = self;
        (ip, IpEnv { now, mib, drops, rng })
    }

    /// Puts a socket on the list of those that may have something to send.
    pub(crate) fn mark_dirty(&mut self, sock: SockId) {
        if let Some(s) = self.sockets.get_mut(sock)
            && !s.dirty
        {
            s.dirty = true;
            self.dirty.push_back(sock);
        }
    }
}
