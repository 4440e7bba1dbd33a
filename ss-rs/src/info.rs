//! The words of `ss -i`: `struct tcp_info` and the congestion control's state, in iproute2's order.

use std::fmt::Write;

use stackd_proto::v1::{BbrInfo, CongestionInfo, SocketDiag, SocketMemory, TcpInfo, TcpState};

use crate::number::{general, millis, rate};

const OPT_TIMESTAMPS: u32 = 1;
const OPT_SACK: u32 = 2;
const OPT_WSCALE: u32 = 4;
const OPT_ECN: u32 = 8;
const OPT_ECN_SEEN: u32 = 16;
const OPT_SYN_DATA: u32 = 32;
/// `TCPI_ECN_MODE_ACCECN`.
const MODE_ACCECN: u32 = 2;
/// A rate nobody limits.
const UNLIMITED: u64 = u64::MAX;
/// The RTO before any sample, which `ss` does not show.
const RTO_UNKNOWN_US: u32 = 3_000_000;
/// A threshold this high is "infinite" to `ss`.
const SSTHRESH_SHOWN_BELOW: u32 = 0xffff;

/// ` skmem:(r0,rb131072,...)`.
pub fn memory(out: &mut String, memory: &SocketMemory) {
    let SocketMemory { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops } =
        memory;
    let _ = write!(
        out,
        " skmem:(r{rmem_alloc},rb{rcvbuf},t{wmem_alloc},tb{sndbuf},f{fwd_alloc},w{wmem_queued},o{optmem},bl{backlog},d{drops})"
    );
}

/// Everything of -i, each word with a blank before it.
pub fn tcp(out: &mut String, socket: &SocketDiag, options: bool, numeric: bool) {
    let Some(info) = &socket.tcp else { return };
    if options {
        option_words(out, info.options);
        if info.accecn.is_some_and(|a| a.mode == MODE_ACCECN) {
            out.push_str(" accecn");
        }
    }
    if let Some(CongestionInfo { name, bbr: _ }) = &socket.congestion {
        let _ = write!(out, " {name}");
    }
    timing(out, info);
    sizes(out, info);
    amounts(out, info);
    if let Some(CongestionInfo { name: _, bbr: Some(bbr) }) = &socket.congestion {
        bbr_words(out, bbr, numeric);
    }
    rates(out, info, numeric);
    limits(out, info);
    losses(out, info, socket.state() == TcpState::Listen);
    receive_side(out, info);
}

fn option_words(out: &mut String, options: u32) {
    for (bit, word) in [
        (OPT_TIMESTAMPS, " ts"),
        (OPT_SACK, " sack"),
        (OPT_ECN, " ecn"),
        (OPT_ECN_SEEN, " ecnseen"),
        (OPT_SYN_DATA, " fastopen"),
    ] {
        if options & bit != 0 {
            out.push_str(word);
        }
    }
}

/// ` name:value` unless it is zero.
fn nonzero(out: &mut String, name: &str, value: u64) {
    if value != 0 {
        let _ = write!(out, " {name}:{value}");
    }
}

fn timing(out: &mut String, info: &TcpInfo) {
    if info.options & OPT_WSCALE != 0 {
        let _ = write!(out, " wscale:{},{}", info.snd_wscale, info.rcv_wscale);
    }
    if info.rto_us != 0 && info.rto_us != RTO_UNKNOWN_US {
        let _ = write!(out, " rto:{}", millis(info.rto_us.into()));
    }
    nonzero(out, "backoff", info.backoff.into());
    if info.rtt_us != 0 {
        let _ = write!(out, " rtt:{}/{}", millis(info.rtt_us.into()), millis(info.rttvar_us.into()));
    }
    if info.ato_us != 0 {
        let _ = write!(out, " ato:{}", millis(info.ato_us.into()));
    }
}

fn sizes(out: &mut String, info: &TcpInfo) {
    nonzero(out, "mss", info.snd_mss.into());
    nonzero(out, "pmtu", info.pmtu.into());
    nonzero(out, "rcvmss", info.rcv_mss.into());
    nonzero(out, "advmss", info.advmss.into());
    nonzero(out, "cwnd", info.snd_cwnd.into());
    if info.snd_ssthresh < SSTHRESH_SHOWN_BELOW {
        nonzero(out, "ssthresh", info.snd_ssthresh.into());
    }
}

fn amounts(out: &mut String, info: &TcpInfo) {
    nonzero(out, "bytes_sent", info.bytes_sent);
    nonzero(out, "bytes_retrans", info.bytes_retrans);
    nonzero(out, "bytes_acked", info.bytes_acked);
    nonzero(out, "bytes_received", info.bytes_received);
    nonzero(out, "segs_out", info.segs_out.into());
    nonzero(out, "segs_in", info.segs_in.into());
    nonzero(out, "data_segs_out", info.data_segs_out.into());
    nonzero(out, "data_segs_in", info.data_segs_in.into());
}

fn bbr_words(out: &mut String, bbr: &BbrInfo, numeric: bool) {
    let BbrInfo { bw, min_rtt_us, pacing_gain, cwnd_gain, mode: _ } = bbr;
    let _ = write!(out, " bbr:(bw:{}bps,mrtt:{}", rate(bits(*bw), numeric), millis((*min_rtt_us).into()));
    for (name, gain) in [("pacing_gain", *pacing_gain), ("cwnd_gain", *cwnd_gain)] {
        if gain != 0 {
            let _ = write!(out, ",{name}:{}", general(f64::from(gain) / 256.0, 6));
        }
    }
    out.push(')');
}

fn bits(bytes: u64) -> f64 {
    bytes as f64 * 8.0
}

/// `cwnd * mss / rtt`, bits per second: the rate this window allows. `None` before the first sample.
pub fn send_rate(info: &TcpInfo) -> Option<f64> {
    (info.rtt_us > 0 && info.snd_mss > 0 && info.snd_cwnd > 0)
        .then(|| f64::from(info.snd_cwnd) * f64::from(info.snd_mss) * 8e6 / f64::from(info.rtt_us))
}

fn rates(out: &mut String, info: &TcpInfo, numeric: bool) {
    if let Some(send) = send_rate(info) {
        let _ = write!(out, " send {}bps", rate(send, numeric));
    }
    nonzero(out, "lastsnd", info.last_data_sent_ms.into());
    nonzero(out, "lastrcv", info.last_data_recv_ms.into());
    nonzero(out, "lastack", info.last_ack_recv_ms.into());
    if info.pacing_rate != 0 && info.pacing_rate != UNLIMITED {
        let _ = write!(out, " pacing_rate {}bps", rate(bits(info.pacing_rate), numeric));
        if info.max_pacing_rate != 0 && info.max_pacing_rate != UNLIMITED {
            let _ = write!(out, "/{}bps", rate(bits(info.max_pacing_rate), numeric));
        }
    }
    if info.delivery_rate != 0 {
        let _ = write!(out, " delivery_rate {}bps", rate(bits(info.delivery_rate), numeric));
    }
    nonzero(out, "delivered", info.delivered.into());
    nonzero(out, "delivered_ce", info.delivered_ce.into());
    if info.delivery_rate_app_limited {
        out.push_str(" app_limited");
    }
}

fn limits(out: &mut String, info: &TcpInfo) {
    if info.busy_time_us == 0 {
        return;
    }
    let _ = write!(out, " busy:{}ms", info.busy_time_us / 1000);
    for (name, us) in [("rwnd_limited", info.rwnd_limited_us), ("sndbuf_limited", info.sndbuf_limited_us)] {
        if us != 0 {
            let share = 100.0 * us as f64 / info.busy_time_us as f64;
            let _ = write!(out, " {name}:{}ms({share:.1}%)", us / 1000);
        }
    }
}

fn losses(out: &mut String, info: &TcpInfo, listening: bool) {
    // On a listener the kernel puts the accept queue into these two: they are columns already.
    if !listening {
        nonzero(out, "unacked", info.unacked.into());
    }
    if info.retrans != 0 || info.total_retrans != 0 {
        let _ = write!(out, " retrans:{}/{}", info.retrans, info.total_retrans);
    }
    nonzero(out, "lost", info.lost.into());
    if !listening {
        nonzero(out, "sacked", info.sacked.into());
    }
    nonzero(out, "dsack_dups", info.dsack_dups.into());
    nonzero(out, "fackets", info.fackets.into());
    if info.reordering != 3 {
        nonzero(out, "reordering", info.reordering.into());
    }
    nonzero(out, "reord_seen", info.reord_seen.into());
}

fn receive_side(out: &mut String, info: &TcpInfo) {
    if info.rcv_rtt_us != 0 {
        let _ = write!(out, " rcv_rtt:{}", millis(info.rcv_rtt_us.into()));
    }
    nonzero(out, "rcv_space", info.rcv_space.into());
    nonzero(out, "rcv_ssthresh", info.rcv_ssthresh.into());
    nonzero(out, "notsent", info.notsent_bytes.into());
    if info.min_rtt_us != 0 && info.min_rtt_us != u32::MAX {
        let _ = write!(out, " minrtt:{}", millis(info.min_rtt_us.into()));
    }
    nonzero(out, "rcv_ooopack", info.rcv_ooopack.into());
    nonzero(out, "received_ce", info.accecn.map_or(0, |a| a.received_ce).into());
    nonzero(out, "snd_wnd", info.snd_wnd.into());
    nonzero(out, "rcv_wnd", info.rcv_wnd.into());
    nonzero(out, "rehash", info.rehash.into());
}
