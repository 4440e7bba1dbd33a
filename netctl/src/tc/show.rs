//! Qdiscs as `tc qdisc show` prints them.

use std::fmt::Write;

use serde_json::{Value, json};
use stackd_proto::v1::{FqOptions, FqStats, NetemOptions, Qdisc, QdiscStats, TbfOptions, qdisc_options::Kind};

use crate::units::{show_percent, show_rate, show_size, show_time_ns};

/// One qdisc, with its statistics when asked.
pub fn text(qdisc: &Qdisc, stats: bool) -> String {
    let Qdisc { device, kind, handle, parent, options, stats: s, refcount } = qdisc;
    let parent = if parent.is_empty() { "root" } else { parent };
    let mut out = format!("qdisc {kind} {handle:x}: dev {device} {parent}");
    if *refcount > 1 {
        let _ = write!(out, " refcnt {refcount}");
    }
    out.push(' ');
    if let Some(kind) = options.as_ref().and_then(|o| o.kind.as_ref()) {
        options_text(&mut out, kind);
    }
    out.push('\n');
    if stats {
        stats_text(&mut out, &s.clone().unwrap_or_default());
    }
    out
}

fn options_text(out: &mut String, kind: &Kind) {
    match kind {
        Kind::Fq(o) => fq(out, o),
        Kind::Netem(o) => netem(out, o),
        Kind::Tbf(o) => tbf(out, o),
        Kind::Pfifo(o) => number(out, "limit", o.limit, "p"),
        Kind::Bfifo(o) => {
            if let Some(limit) = o.limit {
                let _ = write!(out, "limit {} ", show_size(limit.into()));
            }
        }
        Kind::PfifoFast(_) => out.push_str("bands 3 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1 "),
        Kind::FqCodel(o) => {
            number(out, "limit", o.limit, "p");
            number(out, "flows", o.flows, "");
            number(out, "quantum", o.quantum, "");
            time(out, "target", o.target_us.map(|us| us * 1000));
            time(out, "interval", o.interval_us.map(|us| us * 1000));
            if let Some(limit) = o.memory_limit {
                let _ = write!(out, "memory_limit {} ", show_size(limit.into()));
            }
            if o.ecn == Some(true) {
                out.push_str("ecn ");
            }
            number(out, "drop_batch", o.drop_batch, "");
        }
        Kind::Noqueue(_) => {}
    }
}

fn number(out: &mut String, name: &str, value: Option<u32>, unit: &str) {
    if let Some(value) = value {
        let _ = write!(out, "{name} {value}{unit} ");
    }
}

fn time(out: &mut String, name: &str, ns: Option<u64>) {
    if let Some(ns) = ns {
        let _ = write!(out, "{name} {} ", show_time_ns(ns));
    }
}

fn fq(out: &mut String, o: &FqOptions) {
    number(out, "limit", o.limit, "p");
    number(out, "flow_limit", o.flow_limit, "p");
    number(out, "buckets", o.buckets, "");
    number(out, "orphan_mask", o.orphan_mask, "");
    if o.pacing == Some(false) {
        out.push_str("nopacing ");
    }
    if !o.weights.is_empty() {
        let list = |n: &[u32]| n.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let _ = write!(out, "bands 3 priomap {} weights {} ", list(&o.priomap), list(&o.weights));
    }
    number(out, "quantum", o.quantum, "b");
    number(out, "initial_quantum", o.initial_quantum, "b");
    if let Some(rate) = o.maxrate.filter(|r| *r != u64::MAX) {
        let _ = write!(out, "maxrate {} ", show_rate(rate));
    }
    if let Some(rate) = o.low_rate_threshold.filter(|r| *r != 0) {
        let _ = write!(out, "low_rate_threshold {} ", show_rate(rate));
    }
    time(out, "refill_delay", o.refill_delay_us.map(|us| u64::from(us) * 1000));
    time(out, "ce_threshold", o.ce_threshold_us.filter(|us| *us != u32::MAX).map(|us| u64::from(us) * 1000));
    time(out, "timer_slack", o.timer_slack_ns);
    time(out, "horizon", o.horizon_us.map(|us| us.saturating_mul(1000)));
    match o.horizon_drop {
        Some(true) => out.push_str("horizon_drop "),
        Some(false) => out.push_str("horizon_cap "),
        None => {}
    }
}

fn tbf(out: &mut String, o: &TbfOptions) {
    if let Some(rate) = o.rate {
        let _ = write!(out, "rate {} ", show_rate(rate));
    }
    if let Some(burst) = o.burst {
        let _ = write!(out, "burst {} ", show_size(burst.into()));
    }
    if let Some(rate) = o.peakrate.filter(|r| *r != 0) {
        let _ = write!(out, "peakrate {} ", show_rate(rate));
    }
    match (o.latency_us, o.limit) {
        (Some(us), _) => time(out, "lat", Some(us * 1000)),
        (None, Some(limit)) => {
            let _ = write!(out, "limit {} ", show_size(limit.into()));
        }
        (None, None) => {}
    }
}

fn netem(out: &mut String, o: &NetemOptions) {
    number(out, "limit", o.limit, "");
    if let Some(delay) = o.delay_ns.filter(|d| *d != 0) {
        let _ = write!(out, "delay {} ", show_time_ns(delay));
        if let Some(jitter) = o.jitter_ns.filter(|j| *j != 0) {
            let _ = write!(out, " {} ", show_time_ns(jitter));
            if let Some(c) = o.delay_correlation.filter(|c| *c != 0.0) {
                let _ = write!(out, "{} ", show_percent(c));
            }
        }
    }
    if let [p, r, h, k] = o.gemodel[..] {
        let list = [p, r, h, k].map(show_percent);
        let _ = write!(out, "loss gemodel p {} r {} 1-h {} 1-k {} ", list[0], list[1], list[2], list[3]);
    }
    for (name, value, correlation) in [
        ("loss", o.loss, o.loss_correlation),
        ("duplicate", o.duplicate, o.duplicate_correlation),
        ("reorder", o.reorder, o.reorder_correlation),
        ("corrupt", o.corrupt, o.corrupt_correlation),
    ] {
        if let Some(value) = value.filter(|v| *v != 0.0) {
            let _ = write!(out, "{name} {} ", show_percent(value));
            if let Some(c) = correlation.filter(|c| *c != 0.0) {
                let _ = write!(out, "{} ", show_percent(c));
            }
        }
    }
    if let Some(rate) = o.rate.filter(|r| *r != 0) {
        let _ = write!(out, "rate {} ", show_rate(rate));
    }
    if o.ecn == Some(true) {
        out.push_str("ecn ");
    }
    if let Some(seed) = o.seed {
        let _ = write!(out, "seed {seed} ");
    }
    number(out, "gap", o.gap.filter(|g| *g != 0), "");
}

fn stats_text(out: &mut String, s: &QdiscStats) {
    let QdiscStats { bytes, packets, dropped, overlimits, requeues, backlog_bytes, qlen, rate_bps, rate_pps, fq } = s;
    let _ = writeln!(
        out,
        " Sent {bytes} bytes {packets} pkt (dropped {dropped}, overlimits {overlimits} requeues {requeues}) "
    );
    if *rate_bps != 0 || *rate_pps != 0 {
        let _ = writeln!(out, " rate {rate_bps}bit {rate_pps}pps ");
    }
    let backlog = if *backlog_bytes == 0 { "0b".into() } else { show_size(*backlog_bytes) };
    let _ = writeln!(out, " backlog {backlog} {qlen}p requeues {requeues}");
    if let Some(fq) = fq {
        fq_stats(out, fq);
    }
}

fn fq_stats(out: &mut String, s: &FqStats) {
    let _ = write!(out, "  flows {} (inactive {} throttled {}", s.flows, s.inactive_flows, s.throttled_flows);
    if s.time_next_delayed_flow_ns > 0 {
        let _ = write!(out, " next_packet_delay {}", show_time_ns(s.time_next_delayed_flow_ns.unsigned_abs()));
    }
    let _ = writeln!(out, ")");
    let _ = write!(out, "  gc {} highprio {}", s.gc_flows, s.highprio_packets);
    for (name, value) in [
        ("fastpath", s.fastpath_packets),
        ("retrans", s.tcp_retrans),
        ("throttled", s.throttled),
        ("flows_plimit", s.flows_plimit),
    ] {
        if value != 0 || name == "throttled" {
            let _ = write!(out, " {name} {value}");
        }
    }
    if s.unthrottle_latency_ns != 0 {
        let _ = write!(out, " latency {}", show_time_ns(s.unthrottle_latency_ns));
    }
    for (name, value) in [
        ("too long pkts", s.pkts_too_long),
        ("alloc errors", s.allocation_errors),
        ("ce_mark", s.ce_mark),
        ("horizon_caps", s.horizon_caps),
        ("horizon_drops", s.horizon_drops),
    ] {
        if value != 0 {
            let _ = write!(out, " {name} {value}");
        }
    }
    out.push('\n');
}

/// One qdisc as JSON: `tc -j`'s frame, options as the text has them.
pub fn json(qdisc: &Qdisc, stats: bool) -> Value {
    let mut options = String::new();
    if let Some(kind) = qdisc.options.as_ref().and_then(|o| o.kind.as_ref()) {
        options_text(&mut options, kind);
    }
    let mut out = json!({
        "kind": qdisc.kind, "handle": format!("{:x}:", qdisc.handle), "dev": qdisc.device,
        "root": qdisc.parent.is_empty() || qdisc.parent == "root", "refcnt": qdisc.refcount, "options": options.trim_end(),
    });
    if stats && let (Value::Object(map), Some(s)) = (&mut out, &qdisc.stats) {
        for (name, value) in [
            ("bytes", s.bytes),
            ("packets", s.packets),
            ("drops", s.dropped),
            ("overlimits", s.overlimits),
            ("requeues", s.requeues),
            ("backlog", s.backlog_bytes),
            ("qlen", s.qlen),
        ] {
            map.insert(name.into(), json!(value));
        }
        if let Some(fq) = &s.fq {
            for (name, value) in [
                ("flows", u64::from(fq.flows)),
                ("inactive", fq.inactive_flows.into()),
                ("throttled_flows", fq.throttled_flows.into()),
                ("gc", fq.gc_flows),
                ("highprio", fq.highprio_packets),
                ("throttled", fq.throttled),
                ("flows_plimit", fq.flows_plimit),
                ("ce_mark", fq.ce_mark),
                ("horizon_drops", fq.horizon_drops),
                ("horizon_caps", fq.horizon_caps),
            ] {
                map.insert(name.into(), json!(value));
            }
        }
    }
    out
}
