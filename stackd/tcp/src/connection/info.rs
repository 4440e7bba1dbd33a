//! What `ss -i`, `TCP_INFO` and `netctl` show.

use super::{AccEcnInfo, Connection};
use crate::cc::CcInfo;
use crate::config::Config;
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// Linux's `TCP_INFINITE_SSTHRESH`: none was found yet.
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;
/// What the timestamp option takes of every segment, padded (RFC 7323, appendix A).
const TIMESTAMP_ROOM: u32 = 12;

/// Who limits the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Chrono {
    #[default]
    Idle,
    Busy,
    Rwnd,
    Sndbuf,
}

/// Counters of one connection.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub segs_out: u32,
    pub segs_in: u32,
    pub data_segs_out: u32,
    pub data_segs_in: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub total_retrans: u32,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub rehash: u32,
    pub to_zero_window: u32,
    /// Timeouts, those of SYNs included; and rows of them without anything new acknowledged in between.
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    /// Milliseconds spent in rows of timeouts that are over, and when the one that is not began (in milliseconds; 0: there is none). As Linux's
    /// `rto_stamp`: an idle connection has no room for more.
    pub total_rto_time: u32,
    pub rto_stamp: u32,
    pub last_data_sent: Instant,
    pub last_recv: Instant,
    pub last_ack_recv: Instant,
    pub chrono: Chrono,
    pub chrono_since: Instant,
    pub busy: Duration,
    pub rwnd: Duration,
    pub sndbuf: Duration,
    /// Internal pacing holds a segment back until then.
    pub paced_until: Option<Instant>,
    /// A packet with ECT or CE arrived.
    pub ecn_seen: bool,
}

/// A moment in milliseconds, not 0.
fn stamp(at: Instant) -> u32 {
    (at.as_millis() as u32).max(1)
}

impl Stats {
    /// The send buffer holds the sender back.
    pub fn was_sndbuf_limited(&self) -> bool {
        self.chrono == Chrono::Sndbuf
    }

    /// A timeout, the first of a row or another one (Linux's `tcp_update_rto_stats`).
    pub fn count_rto(&mut self, now: Instant, is_first: bool) {
        self.total_rto = self.total_rto.saturating_add(1);
        if is_first {
            self.total_rto_recoveries = self.total_rto_recoveries.saturating_add(1);
            // A row that a partial acknowledgment divides goes on as far as time is concerned.
            self.end_rto_row(now);
            self.begin_rto_row(now);
        }
    }

    /// A row of timeouts began at `since`.
    pub fn begin_rto_row(&mut self, since: Instant) {
        self.rto_stamp = stamp(since);
    }

    /// The row that goes on, if one does, began at `since`.
    pub fn date_rto_row(&mut self, since: Instant) {
        if self.rto_stamp != 0 {
            self.begin_rto_row(since);
        }
    }

    /// Recovery from timeouts is over.
    pub fn end_rto_row(&mut self, now: Instant) {
        self.total_rto_time = self.rto_time(now);
        self.rto_stamp = 0;
    }

    /// Milliseconds spent in rows of timeouts until `now`.
    fn rto_time(&self, now: Instant) -> u32 {
        let row = if self.rto_stamp == 0 { 0 } else { stamp(now).wrapping_sub(self.rto_stamp) };
        self.total_rto_time.saturating_add(row)
    }

    pub fn switch_chrono(&mut self, now: Instant, to: Chrono) {
        let (busy, rwnd, sndbuf) = self.chrono_at(now);
        (self.busy, self.rwnd, self.sndbuf) = (busy, rwnd, sndbuf);
        self.chrono = to;
        self.chrono_since = now;
    }

    fn chrono_at(&self, now: Instant) -> (Duration, Duration, Duration) {
        let span = now - self.chrono_since;
        let zero = Duration::ZERO;
        let (b, r, s) = match self.chrono {
            Chrono::Idle => (zero, zero, zero),
            Chrono::Busy => (span, zero, zero),
            Chrono::Rwnd => (span, span, zero),
            Chrono::Sndbuf => (span, zero, span),
        };
        (self.busy + b, self.rwnd + r, self.sndbuf + s)
    }
}

/// Linux's `struct tcp_info`, field by field with its units (times in us unless said), and what `ss -m` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct TcpInfo {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    /// `TCPI_OPT_*`: timestamps 1, SACK 2, window scale 4, ECN 8, ECN seen 16, data of a SYN accepted 32.
    pub options: u8,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub delivery_rate_app_limited: bool,
    /// Why data did not go with the SYN: 1 no cookie, 2 not acknowledged, 3 the SYN was repeated.
    pub fastopen_client_fail: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    /// Milliseconds.
    pub last_data_sent: u32,
    /// Milliseconds.
    pub last_ack_sent: u32,
    /// Milliseconds.
    pub last_data_recv: u32,
    /// Milliseconds.
    pub last_ack_recv: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    /// Bytes per second; `u64::MAX` unlimited.
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    /// Milliseconds.
    pub total_rto_time: u32,
    /// Accurate ECN, and which kind of ECN it is.
    pub accecn: AccEcnInfo,
    /// Name of the algorithm.
    pub congestion: &'static str,
    /// Its own state.
    pub cc: CcInfo,
    /// Bytes in the receive buffer, in order and out of order.
    pub rmem_alloc: u64,
    pub rcvbuf: u64,
    /// Bytes below us that the device has not taken.
    pub wmem_alloc: u64,
    pub sndbuf: u64,
    /// Bytes written and not acknowledged.
    pub wmem_queued: u64,
}

fn us(d: Duration) -> u32 {
    d.as_micros().min(u64::from(u32::MAX)) as u32
}
fn cap(v: u64) -> u32 {
    v.min(u64::from(u32::MAX)) as u32
}

impl Connection {
    /// How often the path was suspected, and another was to be tried (`tcpi_rehash`).
    pub fn rehashes(&self) -> u32 {
        self.stats.rehash
    }

    /// Every field of Linux's `struct tcp_info`, and more.
    pub fn info(&self, now: Instant, cfg: &Config) -> TcpInfo {
        let st = &self.stats;
        let (busy, rwnd, sndbuf) = st.chrono_at(now);
        let ms = |t: Instant| cap((now - t).as_millis());
        let rate = self.rate.delivery_rate(self.mss);
        let (syn_data, fastopen_client_fail) = self.fast_open_info();
        TcpInfo {
            state: self.state as u8,
            ca_state: self.ca_state as u8,
            retransmits: self.retransmits,
            probes: self.probes_out,
            backoff: self.backoff,
            options: u8::from(self.opts.ts)
                | u8::from(self.opts.sack) << 1
                | u8::from(self.opts.wscale) << 2
                | u8::from(self.opts.ecn || self.accurate().is_some()) << 3
                | u8::from(st.ecn_seen) << 4
                | u8::from(syn_data) << 5,
            snd_wscale: self.opts.snd_scale,
            rcv_wscale: self.rcv.scale,
            delivery_rate_app_limited: rate.is_some_and(|r| r.1),
            fastopen_client_fail,
            rto: us(self.rto(cfg)),
            ato: us(self.ack.ato),
            snd_mss: self.mss,
            rcv_mss: self.ack.rcv_mss,
            unacked: self.board.packets_out(),
            sacked: self.board.sacked_out(),
            lost: self.board.lost_out(),
            retrans: self.board.retrans_out(),
            fackets: 0,
            last_data_sent: ms(st.last_data_sent),
            last_ack_sent: 0,
            last_data_recv: ms(self.ack.last_data),
            last_ack_recv: ms(st.last_ack_recv),
            pmtu: self.flow.mss.get() + if self.flow.ipv6 { 60 } else { 40 },
            rcv_ssthresh: cap(self.rcv.rcvbuf),
            rtt: self.rtt.srtt().map_or(0, us),
            rttvar: us(self.rtt.rttvar()),
            snd_ssthresh: self.ssthresh.min(INFINITE_SSTHRESH),
            snd_cwnd: self.cwnd,
            // Linux counts what options take of every segment: the room for data that the peer was told, less the timestamp (RFC 7323).
            advmss: u32::from(self.advmss).saturating_sub(if self.opts.ts { TIMESTAMP_ROOM } else { 0 }),
            reordering: self.reordering,
            rcv_rtt: self.rcv.rtt.map_or(0, us),
            rcv_space: cap(self.rcv.space),
            total_retrans: st.total_retrans,
            pacing_rate: self.pacing_rate(cfg).map_or(u64::MAX, |r| r.as_bytes_per_sec()),
            max_pacing_rate: cfg.max_pacing_rate.as_bytes_per_sec(),
            bytes_acked: st.bytes_acked,
            bytes_received: st.bytes_received,
            segs_out: st.segs_out,
            segs_in: st.segs_in,
            notsent_bytes: cap(self.not_sent()),
            min_rtt: self.rtt.min().map_or(u32::MAX, us),
            data_segs_in: st.data_segs_in,
            data_segs_out: st.data_segs_out,
            delivery_rate: rate.map_or(0, |r| r.0.as_bytes_per_sec()),
            busy_time: busy.as_micros(),
            rwnd_limited: rwnd.as_micros(),
            sndbuf_limited: sndbuf.as_micros(),
            delivered: cap(self.rate.delivered()),
            delivered_ce: cap(self.rate.delivered_ce()),
            bytes_sent: st.bytes_sent,
            bytes_retrans: st.bytes_retrans,
            dsack_dups: st.dsack_dups,
            reord_seen: st.reord_seen,
            rcv_ooopack: st.rcv_ooopack,
            snd_wnd: cap(self.snd_wnd),
            rcv_wnd: cap(self.rcv.edge.saturating_sub(self.rcv_nxt)),
            rehash: st.rehash,
            total_rto: st.total_rto,
            total_rto_recoveries: st.total_rto_recoveries,
            total_rto_time: st.rto_time(now),
            accecn: self.accecn_info(),
            congestion: self.cc.name(),
            cc: self.cc.info(),
            rmem_alloc: self.rx_head().saturating_sub(self.rcv.consumed) + self.reasm.bytes(),
            rcvbuf: self.rcv.rcvbuf,
            wmem_alloc: self.queued_below,
            sndbuf: self.sndbuf,
            wmem_queued: self.written - self.tx_released(),
        }
    }
}
