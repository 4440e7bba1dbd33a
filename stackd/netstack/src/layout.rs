//! Linux's byte layouts of `TCP_INFO` and `TCP_CC_INFO` (`linux/tcp.h`, `linux/inet_diag.h`).

use stackd_base::Duration;
use stackd_tcp::cc::CcInfo;
use stackd_tcp::{AccEcnInfo, TcpInfo};

/// Size of `struct tcp_info` in Linux 7.0.
pub const TCP_INFO_LEN: usize = 280;

/// Fields one after the other, in the byte order of the machine.
struct Writer(Vec<u8>);

impl Writer {
    fn u8s(&mut self, values: &[u8]) {
        self.0.extend_from_slice(values);
    }
    fn u16s(&mut self, values: &[u16]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_ne_bytes()));
    }
    fn u32s(&mut self, values: &[u32]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_ne_bytes()));
    }
    fn u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_ne_bytes()));
    }
}

/// `struct tcp_info`.
pub fn tcp_info(info: &TcpInfo) -> Vec<u8> {
    // Exhaustive, so that a new field is placed or left out on purpose.
    let TcpInfo {
        state,
        ca_state,
        retransmits,
        probes,
        backoff,
        options,
        snd_wscale,
        rcv_wscale,
        delivery_rate_app_limited,
        fastopen_client_fail,
        rto,
        ato,
        snd_mss,
        rcv_mss,
        unacked,
        sacked,
        lost,
        retrans,
        fackets,
        last_data_sent,
        last_ack_sent,
        last_data_recv,
        last_ack_recv,
        pmtu,
        rcv_ssthresh,
        rtt,
        rttvar,
        snd_ssthresh,
        snd_cwnd,
        advmss,
        reordering,
        rcv_rtt,
        rcv_space,
        total_retrans,
        pacing_rate,
        max_pacing_rate,
        bytes_acked,
        bytes_received,
        segs_out,
        segs_in,
        notsent_bytes,
        min_rtt,
        data_segs_in,
        data_segs_out,
        delivery_rate,
        busy_time,
        rwnd_limited,
        sndbuf_limited,
        delivered,
        delivered_ce,
        bytes_sent,
        bytes_retrans,
        dsack_dups,
        reord_seen,
        rcv_ooopack,
        snd_wnd,
        rcv_wnd,
        rehash,
        total_rto,
        total_rto_recoveries,
        total_rto_time,
        accecn,
        congestion: _,
        cc: _,
        rmem_alloc: _,
        rcvbuf: _,
        wmem_alloc: _,
        sndbuf: _,
        wmem_queued: _,
    } = *info;
    let mut w = Writer(Vec::with_capacity(TCP_INFO_LEN));
    w.u8s(&[state, ca_state, retransmits, probes, backoff, options]);
    w.u8s(&[snd_wscale & 15 | rcv_wscale << 4, u8::from(delivery_rate_app_limited) | fastopen_client_fail << 1]);
    w.u32s(&[rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans, fackets]);
    w.u32s(&[last_data_sent, last_ack_sent, last_data_recv, last_ack_recv]);
    w.u32s(&[pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering, rcv_rtt, rcv_space]);
    w.u32s(&[total_retrans]);
    w.u64s(&[pacing_rate, max_pacing_rate, bytes_acked, bytes_received]);
    w.u32s(&[segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out]);
    w.u64s(&[delivery_rate, busy_time, rwnd_limited, sndbuf_limited]);
    w.u32s(&[delivered, delivered_ce]);
    w.u64s(&[bytes_sent, bytes_retrans]);
    w.u32s(&[dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash]);
    w.u16s(&[total_rto, total_rto_recoveries]);
    w.u32s(&[total_rto_time]);
    let AccEcnInfo { mode, opt_seen, fail_mode, received_ce, delivered_bytes, received_bytes } = accecn;
    w.u32s(&[received_ce]);
    w.u32s(&delivered_bytes);
    w.u32s(&received_bytes);
    // Bit fields of one word: tcpi_ecn_mode 2, tcpi_accecn_opt_seen 2, tcpi_accecn_fail_mode 4, tcpi_options2 24.
    w.u32s(&[u32::from(mode | opt_seen << 2 | fail_mode << 4)]);
    debug_assert_eq!(w.0.len(), TCP_INFO_LEN);
    w.0
}

/// `struct tcp_info` of a socket that is no connection: its state, and for a listener the two queues where Linux puts them
/// (`tcpi_unacked`: connections to be accepted, `tcpi_sacked`: the backlog).
pub fn listener_info(state: u8, queued: u32, backlog: u32) -> Vec<u8> {
    let mut w = Writer(Vec::with_capacity(TCP_INFO_LEN));
    w.u8s(&[state, 0, 0, 0, 0, 0, 0, 0]);
    w.u32s(&[0, 0, 0, 0, queued, backlog]);
    w.0.resize(TCP_INFO_LEN, 0);
    w.0
}

/// `union tcp_cc_info`: `struct tcp_bbr_info`, or nothing for algorithms without one.
pub fn cc_info(info: CcInfo) -> Vec<u8> {
    match info {
        CcInfo::None => Vec::new(),
        CcInfo::Bbr { bw, min_rtt, pacing_gain, cwnd_gain, mode: _ } => {
            let bw = bw.as_bytes_per_sec();
            let mut w = Writer(Vec::with_capacity(20));
            // An algorithm without a sample yet shows all ones, as Linux's `~0U`.
            w.u32s(&[bw as u32, (bw >> 32) as u32, min_rtt.map_or(u32::MAX, micros), pacing_gain.0, cwnd_gain.0]);
            w.0
        }
    }
}

fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
pub fn sockaddr(addr: std::net::SocketAddr) -> Vec<u8> {
    crate::socket::ancillary::sockaddr(addr)
}
