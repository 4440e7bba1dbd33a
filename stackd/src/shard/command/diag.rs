//! `ss`: sockets as `stackd.v1` shows them.

use super::Shard;
use super::net::octets;
use crate::control::backend::ClosedSocket;
use stackd_base::Instant;
use stackd_netstack::{DiagState, Domain, OptionFlags, SkMem, SocketInfo, SocketKind};
use stackd_proto::v1;
use stackd_tcp::cc::CcInfo;
use stackd_tcp::{AccEcnInfo, TcpInfo};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::sync::mpsc::error::TrySendError;

/// Cookies of different shards differ in this byte.
const COOKIE_SHARD_SHIFT: u32 = 56;

fn endpoint(addr: SocketAddr) -> v1::Endpoint {
    let scope_id = if let SocketAddr::V6(v6) = addr { v6.scope_id() } else { 0 };
    v1::Endpoint { address: octets(addr.ip()), port: addr.port().into(), scope_id }
}

fn nobody(domain: Domain) -> SocketAddr {
    let ip: IpAddr = match domain {
        Domain::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Domain::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

fn passes(filter: &v1::DiagFilter, info: &SocketInfo) -> bool {
    let transport = match info.kind {
        SocketKind::Stream => v1::Transport::Tcp,
        SocketKind::Dgram => v1::Transport::Udp,
    };
    let family = match info.domain {
        Domain::V4 => v1::AddressFamily::Inet,
        Domain::V6 => v1::AddressFamily::Inet6,
    };
    (filter.transports.is_empty() || filter.transports.contains(&(transport as i32)))
        && (filter.family == v1::AddressFamily::Unspecified as i32 || filter.family == family as i32)
        && (filter.states == 0 || filter.states & 1 << (info.state as u32) != 0)
        && (filter.session_id == 0 || filter.session_id == info.owner.0)
}

impl Shard {
    fn cookie(&self, info: &SocketInfo) -> u64 {
        info.cookie | u64::from(self.index) << COOKIE_SHARD_SHIFT
    }

    pub(super) fn list_sockets(&self, now: Instant, filter: &v1::DiagFilter) -> Vec<v1::SocketDiag> {
        let passing = self.core.stack.sockets(now).filter(|info| passes(filter, info));
        passing.map(|info| self.diag(&self.with_unread(info), filter.with_info)).collect()
    }

    /// What the stack has not heard of yet: a client reads without telling, until it is asked for more window.
    fn with_unread(&self, mut info: SocketInfo) -> SocketInfo {
        if let Some(unread) = info.sock.and_then(|sock| self.core.store.unread(sock)) {
            let known = std::mem::replace(&mut info.recv_q, unread);
            let read = u32::try_from(known.saturating_sub(unread)).unwrap_or(u32::MAX);
            info.mem.rmem_alloc = info.mem.rmem_alloc.saturating_sub(read);
        }
        info
    }

    fn diag(&self, info: &SocketInfo, with_info: bool) -> v1::SocketDiag {
        let owner = self.core.store.session_of(info.owner.0).and_then(|key| self.core.store.session(key));
        let owner = owner.filter(|_| !info.orphan);
        let (timer, expires, retransmits) = match info.timer {
            None => (v1::TimerKind::Off, 0, 0),
            Some((kind, left, times)) => {
                let kind = match kind {
                    2 => v1::TimerKind::Keepalive,
                    3 => v1::TimerKind::Timewait,
                    4 => v1::TimerKind::Persist,
                    _ => v1::TimerKind::On,
                };
                (kind, left.as_millis(), times)
            }
        };
        let device = info.device.and_then(|id| self.core.stack.ip().port(id)).map(|p| p.config.name.clone());
        let cookie = self.cookie(info);
        v1::SocketDiag {
            transport: match info.kind {
                SocketKind::Stream => v1::Transport::Tcp,
                SocketKind::Dgram => v1::Transport::Udp,
            } as i32,
            family: match info.domain {
                Domain::V4 => v1::AddressFamily::Inet,
                Domain::V6 => v1::AddressFamily::Inet6,
            } as i32,
            state: info.state as i32,
            local: Some(endpoint(info.local)),
            remote: Some(endpoint(info.peer.unwrap_or(nobody(info.domain)))),
            device: device.unwrap_or_default(),
            receive_queue: u32::try_from(info.recv_q).unwrap_or(u32::MAX),
            send_queue: u32::try_from(info.send_q).unwrap_or(u32::MAX),
            timer: Some(v1::SocketTimer { kind: timer as i32, expires_ms: expires, retransmits: retransmits.into() }),
            uid: owner.map_or(0, |s| s.process.uid),
            inode: if owner.is_some() { cookie } else { 0 },
            cookie,
            memory: with_info.then(|| memory(&info.mem)),
            tcp: info.tcp.as_deref().filter(|_| with_info).map(tcp),
            congestion: info
                .congestion
                .filter(|_| with_info)
                .map(|name| v1::CongestionInfo { name: name.into(), bbr: bbr(&info.cc) }),
            owners: owner.map(|s| v1::SocketOwner { process: Some(s.process.clone()), fd: -1 }).into_iter().collect(),
            shutdown: info.shutdown.into(),
            mark: info.mark,
            shard: self.index.into(),
            v6only: info.v6only,
            tos: info.tos.into(),
            tclass: if info.domain == Domain::V6 { info.tos.into() } else { 0 },
            options: Some(options(&info.options)),
            session_id: owner.map_or(0, |s| s.id),
        }
    }

    pub(super) fn kill_sockets(&mut self, now: Instant, cookies: &[u64]) -> Vec<u64> {
        let found: Vec<_> = self
            .core
            .stack
            .sockets(now)
            .map(|info| (self.cookie(&info), info.sock))
            .filter(|(cookie, _)| cookies.contains(cookie))
            .collect();
        let mut killed = Vec::new();
        for (cookie, sock) in found {
            if let Some(sock) = sock
                && self.core.stack.abort(now, sock, &mut self.core.store).is_ok()
            {
                killed.push(cookie);
            }
        }
        killed
    }

    pub(super) fn summary(&self, now: Instant) -> v1::DiagSummaryResponse {
        let mut out = v1::DiagSummaryResponse::default();
        for info in self.core.stack.sockets(now) {
            out.total += 1;
            if info.kind == SocketKind::Dgram {
                match info.domain {
                    Domain::V4 => out.udp_ipv4 += 1,
                    Domain::V6 => out.udp_ipv6 += 1,
                }
                continue;
            }
            out.tcp_total += 1;
            match info.domain {
                Domain::V4 => out.tcp_ipv4 += 1,
                Domain::V6 => out.tcp_ipv6 += 1,
            }
            match info.state {
                DiagState::Established => out.tcp_established += 1,
                DiagState::TimeWait => out.tcp_time_wait += 1,
                DiagState::Close => out.tcp_closed += 1,
                _ => {}
            }
            out.tcp_orphaned += u64::from(info.orphan && info.state != DiagState::TimeWait);
            out.tcp_memory_bytes += u64::from(info.mem.rmem_alloc) + u64::from(info.mem.wmem_queued);
        }
        out
    }

    /// `ss -E`: compares with the last look, and reports what is gone by its last known state.
    pub(in crate::shard) fn report_closed(&mut self, now: Instant) {
        if self.watchers.sinks.is_empty() || now < self.watchers.next {
            return;
        }
        self.watchers.next = now + super::WATCH_INTERVAL;
        let seen: HashMap<u64, v1::SocketDiag> = self
            .core
            .stack
            .sockets(now)
            .filter(|i| i.sock.is_some())
            .map(|i| (self.cookie(&i), self.diag(&i, true)))
            .collect();
        let before = std::mem::take(&mut self.watchers.last);
        for diag in before.into_iter().filter(|(cookie, _)| !seen.contains_key(cookie)).map(|(_, diag)| diag) {
            self.watchers.sinks.retain_mut(|(sink, missed)| {
                match sink.try_send(ClosedSocket { diag: diag.clone(), missed: *missed }) {
                    Ok(()) => *missed = 0,
                    Err(TrySendError::Full(_)) => *missed += 1,
                    Err(TrySendError::Closed(_)) => return false,
                }
                true
            });
        }
        self.watchers.sinks.retain(|(sink, _)| !sink.is_closed());
        self.watchers.last = if self.watchers.sinks.is_empty() { HashMap::new() } else { seen };
    }
}

fn options(o: &OptionFlags) -> v1::SocketOptions {
    let OptionFlags {
        reuse_address,
        reuse_port,
        keepalive,
        no_delay,
        cork,
        defer_accept,
        linger,
        broadcast,
        transparent,
        bind_address_no_port,
        receive_error,
        freebind,
    } = *o;
    v1::SocketOptions {
        reuse_address,
        reuse_port,
        keepalive,
        no_delay,
        cork,
        defer_accept,
        linger,
        broadcast,
        transparent,
        bind_address_no_port,
        receive_error,
        freebind,
    }
}

fn memory(m: &SkMem) -> v1::SocketMemory {
    let SkMem { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops } = *m;
    v1::SocketMemory {
        rmem_alloc: rmem_alloc.into(),
        rcvbuf: rcvbuf.into(),
        wmem_alloc: wmem_alloc.into(),
        sndbuf: sndbuf.into(),
        fwd_alloc: fwd_alloc.into(),
        wmem_queued: wmem_queued.into(),
        optmem: optmem.into(),
        backlog: backlog.into(),
        drops: drops.into(),
    }
}

fn bbr(cc: &CcInfo) -> Option<v1::BbrInfo> {
    match cc {
        CcInfo::None => None,
        CcInfo::Bbr { bw, min_rtt, pacing_gain, cwnd_gain, mode } => Some(v1::BbrInfo {
            bw: bw.as_bytes_per_sec(),
            min_rtt_us: min_rtt.map_or(u32::MAX, |d| u32::try_from(d.as_micros()).unwrap_or(u32::MAX)),
            pacing_gain: pacing_gain.0,
            cwnd_gain: cwnd_gain.0,
            mode: (*mode).into(),
        }),
    }
}

fn tcp(i: &TcpInfo) -> v1::TcpInfo {
    v1::TcpInfo {
        ca_state: i.ca_state.into(),
        retransmits: i.retransmits.into(),
        probes: i.probes.into(),
        backoff: i.backoff.into(),
        options: i.options.into(),
        snd_wscale: i.snd_wscale.into(),
        rcv_wscale: i.rcv_wscale.into(),
        delivery_rate_app_limited: i.delivery_rate_app_limited,
        fastopen_client_fail: i.fastopen_client_fail.into(),
        rto_us: i.rto,
        ato_us: i.ato,
        snd_mss: i.snd_mss,
        rcv_mss: i.rcv_mss,
        unacked: i.unacked,
        sacked: i.sacked,
        lost: i.lost,
        retrans: i.retrans,
        fackets: i.fackets,
        last_data_sent_ms: i.last_data_sent,
        last_ack_sent_ms: i.last_ack_sent,
        last_data_recv_ms: i.last_data_recv,
        last_ack_recv_ms: i.last_ack_recv,
        pmtu: i.pmtu,
        rcv_ssthresh: i.rcv_ssthresh,
        rtt_us: i.rtt,
        rttvar_us: i.rttvar,
        snd_ssthresh: i.snd_ssthresh,
        snd_cwnd: i.snd_cwnd,
        advmss: i.advmss,
        reordering: i.reordering,
        rcv_rtt_us: i.rcv_rtt,
        rcv_space: i.rcv_space,
        total_retrans: i.total_retrans,
        pacing_rate: i.pacing_rate,
        max_pacing_rate: i.max_pacing_rate,
        bytes_acked: i.bytes_acked,
        bytes_received: i.bytes_received,
        segs_out: i.segs_out,
        segs_in: i.segs_in,
        notsent_bytes: i.notsent_bytes,
        min_rtt_us: i.min_rtt,
        data_segs_in: i.data_segs_in,
        data_segs_out: i.data_segs_out,
        delivery_rate: i.delivery_rate,
        busy_time_us: i.busy_time,
        rwnd_limited_us: i.rwnd_limited,
        sndbuf_limited_us: i.sndbuf_limited,
        delivered: i.delivered,
        delivered_ce: i.delivered_ce,
        bytes_sent: i.bytes_sent,
        bytes_retrans: i.bytes_retrans,
        dsack_dups: i.dsack_dups,
        reord_seen: i.reord_seen,
        rcv_ooopack: i.rcv_ooopack,
        snd_wnd: i.snd_wnd,
        rcv_wnd: i.rcv_wnd,
        rehash: i.rehash,
        total_rto: i.total_rto.into(),
        total_rto_recoveries: i.total_rto_recoveries.into(),
        total_rto_time_ms: i.total_rto_time,
        accecn: Some(accecn(&i.accecn)),
    }
}

fn accecn(i: &AccEcnInfo) -> v1::AccEcnInfo {
    let AccEcnInfo { mode, opt_seen, fail_mode, received_ce, delivered_bytes, received_bytes } = *i;
    let [delivered_e1_bytes, delivered_e0_bytes, delivered_ce_bytes] = delivered_bytes;
    let [received_e1_bytes, received_e0_bytes, received_ce_bytes] = received_bytes;
    v1::AccEcnInfo {
        mode: mode.into(),
        opt_seen: opt_seen.into(),
        fail_mode: fail_mode.into(),
        received_ce,
        delivered_e1_bytes,
        delivered_e0_bytes,
        delivered_ce_bytes,
        received_e1_bytes,
        received_e0_bytes,
        received_ce_bytes,
    }
}
