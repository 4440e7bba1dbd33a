//! Sockets as JSON: the same names as the text, plain numbers, units in the names where the text has them as suffix.

use serde_json::{Map, Value, json};
use stackd_proto::v1::{Endpoint, SocketDiag, SocketMemory, TcpInfo, Transport};

use crate::{
    filter::ip,
    info,
    render::{sockopt_names, timer_name},
    state,
};

/// One socket with everything the daemon sent.
pub fn socket(socket: &SocketDiag) -> Value {
    let mut out = json!({
        "netid": match socket.transport() { Transport::Tcp => "tcp", Transport::Udp => "udp", Transport::Unspecified => "unknown" },
        "state": state::column(socket.state()),
        "recv_q": socket.receive_queue,
        "send_q": socket.send_queue,
        "local": end(socket.local.as_ref()),
        "peer": end(socket.remote.as_ref()),
        "uid": socket.uid,
        "ino": socket.inode,
        "sk": format!("{:x}", socket.cookie),
        "shard": socket.shard,
        "users": socket.owners.iter().map(|owner| {
            let process = owner.process.clone().unwrap_or_default();
            json!({ "comm": process.comm, "pid": process.pid, "fd": (owner.fd >= 0).then_some(owner.fd) })
        }).collect::<Vec<_>>(),
    });
    let Value::Object(map) = &mut out else { return out };
    if !socket.device.is_empty() {
        map.insert("dev".into(), json!(socket.device));
    }
    if let Some(options) = &socket.options {
        let tcp = socket.transport() == Transport::Tcp;
        let on = sockopt_names(options, tcp).into_iter().filter(|(_, on)| *on).map(|(name, _)| name);
        map.insert("sockopt".into(), on.collect::<Vec<_>>().into());
    }
    if let Some(timer) = &socket.timer {
        let value =
            json!({ "name": timer_name(timer.kind()), "expires_ms": timer.expires_ms, "retrans": timer.retransmits });
        map.insert("timer".into(), value);
    }
    if let Some(memory) = &socket.memory {
        map.insert("skmem".into(), memory_value(memory));
    }
    if let Some(congestion) = &socket.congestion {
        map.insert("cc".into(), json!(congestion.name));
        if let Some(bbr) = &congestion.bbr {
            map.insert(
                "bbr".into(),
                json!({
                    "bw_bps": bbr.bw.saturating_mul(8),
                    "mrtt_us": bbr.min_rtt_us,
                    "pacing_gain": f64::from(bbr.pacing_gain) / 256.0,
                    "cwnd_gain": f64::from(bbr.cwnd_gain) / 256.0,
                    "mode": bbr.mode,
                }),
            );
        }
    }
    if let Some(tcp) = &socket.tcp {
        tcp_values(map, tcp);
    }
    out
}

fn end(end: Option<&Endpoint>) -> Value {
    let Some(end) = end else { return Value::Null };
    json!({ "address": ip(&end.address).map(|a| a.to_string()), "port": end.port })
}

fn memory_value(memory: &SocketMemory) -> Value {
    let SocketMemory { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops } =
        memory;
    json!({
        "rmem_alloc": rmem_alloc, "rcv_buf": rcvbuf, "wmem_alloc": wmem_alloc, "snd_buf": sndbuf, "fwd_alloc": fwd_alloc,
        "wmem_queued": wmem_queued, "opt_mem": optmem, "back_log": backlog, "sock_drop": drops,
    })
}

fn tcp_values(out: &mut Map<String, Value>, tcp: &TcpInfo) {
    let fields: &[(&str, u64)] = &[
        ("ca_state", tcp.ca_state.into()),
        ("backoff", tcp.backoff.into()),
        ("options", tcp.options.into()),
        ("snd_wscale", tcp.snd_wscale.into()),
        ("rcv_wscale", tcp.rcv_wscale.into()),
        ("rto_us", tcp.rto_us.into()),
        ("ato_us", tcp.ato_us.into()),
        ("rtt_us", tcp.rtt_us.into()),
        ("rttvar_us", tcp.rttvar_us.into()),
        ("mss", tcp.snd_mss.into()),
        ("rcvmss", tcp.rcv_mss.into()),
        ("advmss", tcp.advmss.into()),
        ("pmtu", tcp.pmtu.into()),
        ("cwnd", tcp.snd_cwnd.into()),
        ("ssthresh", tcp.snd_ssthresh.into()),
        ("unacked", tcp.unacked.into()),
        ("sacked", tcp.sacked.into()),
        ("lost", tcp.lost.into()),
        ("retrans", tcp.retrans.into()),
        ("retrans_total", tcp.total_retrans.into()),
        ("reordering", tcp.reordering.into()),
        ("bytes_sent", tcp.bytes_sent),
        ("bytes_retrans", tcp.bytes_retrans),
        ("bytes_acked", tcp.bytes_acked),
        ("bytes_received", tcp.bytes_received),
        ("segs_out", tcp.segs_out.into()),
        ("segs_in", tcp.segs_in.into()),
        ("data_segs_out", tcp.data_segs_out.into()),
        ("data_segs_in", tcp.data_segs_in.into()),
        ("lastsnd_ms", tcp.last_data_sent_ms.into()),
        ("lastrcv_ms", tcp.last_data_recv_ms.into()),
        ("lastack_ms", tcp.last_ack_recv_ms.into()),
        ("delivery_rate_bps", tcp.delivery_rate.saturating_mul(8)),
        ("delivered", tcp.delivered.into()),
        ("delivered_ce", tcp.delivered_ce.into()),
        ("busy_us", tcp.busy_time_us),
        ("rwnd_limited_us", tcp.rwnd_limited_us),
        ("sndbuf_limited_us", tcp.sndbuf_limited_us),
        ("rcv_rtt_us", tcp.rcv_rtt_us.into()),
        ("rcv_space", tcp.rcv_space.into()),
        ("rcv_ssthresh", tcp.rcv_ssthresh.into()),
        ("notsent", tcp.notsent_bytes.into()),
        ("dsack_dups", tcp.dsack_dups.into()),
        ("reord_seen", tcp.reord_seen.into()),
        ("rcv_ooopack", tcp.rcv_ooopack.into()),
        ("snd_wnd", tcp.snd_wnd.into()),
        ("rcv_wnd", tcp.rcv_wnd.into()),
    ];
    for (name, value) in fields {
        out.insert((*name).to_owned(), json!(value));
    }
    out.insert("app_limited".into(), json!(tcp.delivery_rate_app_limited));
    // No sample and no limit are null, not a magic number.
    out.insert("minrtt_us".into(), json!((tcp.min_rtt_us != u32::MAX).then_some(tcp.min_rtt_us)));
    let limited = |rate: u64| (rate != u64::MAX).then(|| rate.saturating_mul(8));
    out.insert("pacing_rate_bps".into(), json!(limited(tcp.pacing_rate)));
    out.insert("max_pacing_rate_bps".into(), json!(limited(tcp.max_pacing_rate)));
    out.insert("send_bps".into(), json!(info::send_rate(tcp)));
}
