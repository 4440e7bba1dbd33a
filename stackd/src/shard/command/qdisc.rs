//! Qdisc parameters and counters, between `stackd.v1` and the qdiscs' own types.

use stackd_base::{Bandwidth, Duration, Instant};
use stackd_proto::{StatusError, v1};
use stackd_qdisc::config::{Chance, Distribution, FqConfig, Loss, NetemConfig, TbfConfig};
use stackd_qdisc::{KindStats, QdiscConfig, QdiscStats};
use v1::qdisc_options::Kind;

/// `u32::MAX` microseconds means "never" on the wire (Linux's ce_threshold).
const NEVER_US: u32 = u32::MAX;

/// The parameters that a request asks for: its present fields over `base` if that is of the same kind, else over the kind's defaults.
pub fn from_proto(options: Option<v1::QdiscOptions>, base: Option<QdiscConfig>) -> Result<QdiscConfig, StatusError> {
    let kind = options.and_then(|o| o.kind).ok_or_else(|| {
        StatusError::invalid("qdisc", "", "no kind given").remedy("fq, pfifo_fast, pfifo, bfifo, netem, tbf or noqueue")
    })?;
    Ok(match kind {
        Kind::Noqueue(v1::NoqueueOptions {}) => QdiscConfig::NoQueue,
        Kind::Pfifo(v1::PfifoOptions { limit }) => {
            let now = if let Some(QdiscConfig::Pfifo { limit }) = base { limit } else { 1000 };
            QdiscConfig::Pfifo { limit: limit.unwrap_or(now) }
        }
        Kind::Bfifo(v1::BfifoOptions { limit }) => {
            let now = if let Some(QdiscConfig::Bfifo { limit }) = base { limit } else { 1000 * 1514 };
            QdiscConfig::Bfifo { limit: limit.unwrap_or(now) }
        }
        Kind::PfifoFast(v1::PfifoFastOptions { limit }) => {
            let now = if let Some(QdiscConfig::PfifoFast { limit }) = base { limit } else { 1000 };
            QdiscConfig::PfifoFast { limit: limit.unwrap_or(now) }
        }
        Kind::Fq(o) => {
            let now = if let Some(QdiscConfig::Fq(c)) = base { c } else { FqConfig::default() };
            QdiscConfig::Fq(fq(o, now)?)
        }
        Kind::Netem(o) => {
            let now = if let Some(QdiscConfig::Netem(c)) = base { c } else { NetemConfig::default() };
            QdiscConfig::Netem(netem(o, now)?)
        }
        Kind::Tbf(o) => {
            let now = if let Some(QdiscConfig::Tbf(c)) = base { Some(c) } else { None };
            QdiscConfig::Tbf(tbf(o, now)?)
        }
        Kind::FqCodel(_) => {
            return Err(StatusError::invalid("qdisc", "fq_codel", "not a qdisc of this stack")
                .remedy("fq, pfifo_fast, pfifo, bfifo, netem, tbf or noqueue"));
        }
    })
}

fn fq(o: v1::FqOptions, now: FqConfig) -> Result<FqConfig, StatusError> {
    let v1::FqOptions {
        limit,
        flow_limit,
        quantum,
        initial_quantum,
        maxrate,
        pacing,
        buckets,
        refill_delay_us,
        low_rate_threshold,
        timer_slack_ns,
        horizon_us,
        horizon_drop,
        ce_threshold_us,
        orphan_mask,
        priomap,
        weights,
    } = o;
    if !priomap.is_empty() || !weights.is_empty() {
        return Err(StatusError::invalid("qdisc.fq.priomap", "", "this fq has one band besides the control queue")
            .remedy("leave priomap and weights out"));
    }
    let bytes = |n: u64| if n == u64::MAX { Bandwidth::MAX } else { Bandwidth::from_bytes_per_sec(n) };
    let config = FqConfig {
        limit: limit.unwrap_or(now.limit),
        flow_limit: flow_limit.unwrap_or(now.flow_limit),
        quantum: quantum.unwrap_or(now.quantum),
        initial_quantum: initial_quantum.unwrap_or(now.initial_quantum),
        maxrate: maxrate.map_or(now.maxrate, bytes),
        pacing: pacing.unwrap_or(now.pacing),
        buckets: buckets.unwrap_or(now.buckets),
        refill_delay: refill_delay_us.map_or(now.refill_delay, |n| Duration::from_micros(n.into())),
        low_rate_threshold: low_rate_threshold.map_or(now.low_rate_threshold, bytes),
        timer_slack: timer_slack_ns.map_or(now.timer_slack, Duration::from_nanos),
        horizon: horizon_us.map_or(now.horizon, Duration::from_micros),
        horizon_drop: horizon_drop.unwrap_or(now.horizon_drop),
        ce_threshold: match ce_threshold_us {
            None => now.ce_threshold,
            Some(NEVER_US) => Duration::MAX,
            Some(n) => Duration::from_micros(n.into()),
        },
        orphan_mask: orphan_mask.unwrap_or(now.orphan_mask),
    };
    config.check().map_err(refused)?;
    Ok(config)
}

fn chance(argument: &str, now: Chance, percent: Option<f64>, correlation: Option<f64>) -> Result<Chance, StatusError> {
    let valid = |v: f64| {
        if (0.0..=100.0).contains(&v) {
            Ok(v)
        } else {
            Err(StatusError::invalid(format!("qdisc.netem.{argument}"), v, "not a percentage").remedy("0 to 100"))
        }
    };
    Ok(Chance {
        percent: percent.map_or(Ok(now.percent), valid)?,
        correlation: correlation.map_or(Ok(now.correlation), valid)?,
    })
}

fn netem(o: v1::NetemOptions, now: NetemConfig) -> Result<NetemConfig, StatusError> {
    let v1::NetemOptions {
        limit,
        delay_ns,
        jitter_ns,
        delay_correlation,
        distribution,
        loss,
        loss_correlation,
        duplicate,
        duplicate_correlation,
        corrupt,
        corrupt_correlation,
        reorder,
        reorder_correlation,
        gap,
        rate,
        packet_overhead,
        ecn,
        seed,
        gemodel,
        slot_min_ns,
        slot_max_ns,
        slot_packets,
        slot_bytes,
    } = o;
    if slot_min_ns.is_some() || slot_max_ns.is_some() || slot_packets.is_some() || slot_bytes.is_some() {
        return Err(StatusError::invalid("qdisc.netem.slot", "", "slots are not emulated").remedy("leave slot out"));
    }
    let distribution = match &*distribution {
        "" => now.distribution,
        "uniform" => Distribution::Uniform,
        "normal" => Distribution::Normal,
        "pareto" => Distribution::Pareto,
        "paretonormal" => Distribution::ParetoNormal,
        other => {
            return Err(StatusError::invalid("qdisc.netem.distribution", other, "no such distribution")
                .remedy("uniform, normal, pareto or paretonormal"));
        }
    };
    let loss = match (&gemodel[..], loss.or(loss_correlation)) {
        ([p, r, h, k], None) => Loss::Gemodel([*p, *r, *h, *k]),
        ([], None) => now.loss,
        ([], Some(_)) => {
            let base = if let Loss::Random(c) = now.loss { c } else { Chance::default() };
            Loss::Random(chance("loss", base, loss, loss_correlation)?)
        }
        _ => {
            return Err(StatusError::invalid("qdisc.netem.gemodel", gemodel.len(), "not a loss model")
                .remedy("exactly p, r, 1-h and 1-k, and no other loss"));
        }
    };
    let reorder = chance("reorder", now.reorder, reorder, reorder_correlation)?;
    Ok(NetemConfig {
        limit: limit.unwrap_or(now.limit),
        delay: delay_ns.map_or(now.delay, Duration::from_nanos),
        jitter: jitter_ns.map_or(now.jitter, Duration::from_nanos),
        delay_correlation: delay_correlation.unwrap_or(now.delay_correlation),
        distribution,
        loss,
        duplicate: chance("duplicate", now.duplicate, duplicate, duplicate_correlation)?,
        corrupt: chance("corrupt", now.corrupt, corrupt, corrupt_correlation)?,
        // tc-netem(8): reordering without a gap lets every segment try.
        gap: gap.unwrap_or(if reorder.percent > 0.0 && now.gap == 0 { 1 } else { now.gap }),
        reorder,
        rate: rate.map_or(now.rate, Bandwidth::from_bytes_per_sec),
        packet_overhead: packet_overhead.unwrap_or(now.packet_overhead),
        ecn: ecn.unwrap_or(now.ecn),
        seed: seed.or(now.seed),
    })
}

fn tbf(o: v1::TbfOptions, now: Option<TbfConfig>) -> Result<TbfConfig, StatusError> {
    let v1::TbfOptions { rate, burst, limit, latency_us, peakrate, mtu } = o;
    let missing =
        |what: &str| StatusError::invalid(format!("qdisc.tbf.{what}"), "", "missing").remedy(format!("give {what}"));
    let have = |f: fn(&TbfConfig) -> u32| now.as_ref().map(f);
    let rate =
        rate.map(Bandwidth::from_bytes_per_sec).or(now.as_ref().map(|n| n.rate)).ok_or_else(|| missing("rate"))?;
    let burst = burst.or(have(|n| n.burst)).ok_or_else(|| missing("burst"))?;
    // tc-tbf(8): latency is the time a packet may wait; the limit is what that makes at the rate, plus a burst.
    let by_latency = latency_us
        .map(|us| u32::try_from(rate.bytes_in(Duration::from_micros(us))).unwrap_or(u32::MAX).saturating_add(burst));
    let config = TbfConfig {
        rate,
        burst,
        limit: limit.or(by_latency).or(have(|n| n.limit)).ok_or_else(|| missing("limit or latency"))?,
        peakrate: peakrate.map_or(now.as_ref().map_or(Bandwidth::ZERO, |n| n.peakrate), Bandwidth::from_bytes_per_sec),
        mtu: mtu.or(have(|n| n.mtu)).unwrap_or(0),
    };
    config.check().map_err(refused)?;
    Ok(config)
}

/// A qdisc's refusal as the control plane says it.
pub fn refused(error: stackd_qdisc::ConfigError) -> StatusError {
    StatusError::invalid("qdisc", "", error.to_string())
}

/// Every parameter of a qdisc.
pub fn to_proto(config: &QdiscConfig) -> v1::QdiscOptions {
    let kind = match config {
        QdiscConfig::NoQueue => Kind::Noqueue(v1::NoqueueOptions {}),
        QdiscConfig::Pfifo { limit } => Kind::Pfifo(v1::PfifoOptions { limit: Some(*limit) }),
        QdiscConfig::Bfifo { limit } => Kind::Bfifo(v1::BfifoOptions { limit: Some(*limit) }),
        QdiscConfig::PfifoFast { limit } => Kind::PfifoFast(v1::PfifoFastOptions { limit: Some(*limit) }),
        QdiscConfig::Fq(c) => Kind::Fq(fq_to_proto(c)),
        QdiscConfig::Netem(c) => Kind::Netem(netem_to_proto(c)),
        QdiscConfig::Tbf(c) => {
            let TbfConfig { rate, burst, limit, peakrate, mtu } = *c;
            Kind::Tbf(v1::TbfOptions {
                rate: Some(rate.as_bytes_per_sec()),
                burst: Some(burst),
                limit: Some(limit),
                latency_us: None,
                peakrate: Some(peakrate.as_bytes_per_sec()),
                mtu: Some(mtu),
            })
        }
    };
    v1::QdiscOptions { kind: Some(kind) }
}

fn fq_to_proto(c: &FqConfig) -> v1::FqOptions {
    let FqConfig {
        limit,
        flow_limit,
        quantum,
        initial_quantum,
        maxrate,
        pacing,
        buckets,
        refill_delay,
        low_rate_threshold,
        timer_slack,
        horizon,
        horizon_drop,
        ce_threshold,
        orphan_mask,
    } = *c;
    let us32 = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(NEVER_US);
    v1::FqOptions {
        limit: Some(limit),
        flow_limit: Some(flow_limit),
        quantum: Some(quantum),
        initial_quantum: Some(initial_quantum),
        maxrate: Some(maxrate.as_bytes_per_sec()),
        pacing: Some(pacing),
        buckets: Some(buckets),
        refill_delay_us: Some(us32(refill_delay)),
        low_rate_threshold: Some(low_rate_threshold.as_bytes_per_sec()),
        timer_slack_ns: Some(timer_slack.as_nanos()),
        horizon_us: Some(horizon.as_micros()),
        horizon_drop: Some(horizon_drop),
        ce_threshold_us: Some(us32(ce_threshold)),
        orphan_mask: Some(orphan_mask),
        priomap: Vec::new(),
        weights: Vec::new(),
    }
}

fn netem_to_proto(c: &NetemConfig) -> v1::NetemOptions {
    let NetemConfig {
        limit,
        delay,
        jitter,
        delay_correlation,
        distribution,
        loss,
        duplicate,
        corrupt,
        reorder,
        gap,
        rate,
        packet_overhead,
        ecn,
        seed,
    } = c;
    let (random, gemodel) = match loss {
        Loss::Random(chance) => (*chance, Vec::new()),
        Loss::Gemodel(p) => (Chance::default(), p.to_vec()),
        // The four-state model has no field of its own on the wire.
        Loss::State(p) => (Chance::default(), p.to_vec()),
    };
    v1::NetemOptions {
        limit: Some(*limit),
        delay_ns: Some(delay.as_nanos()),
        jitter_ns: Some(jitter.as_nanos()),
        delay_correlation: Some(*delay_correlation),
        distribution: distribution.name().into(),
        loss: Some(random.percent),
        loss_correlation: Some(random.correlation),
        duplicate: Some(duplicate.percent),
        duplicate_correlation: Some(duplicate.correlation),
        corrupt: Some(corrupt.percent),
        corrupt_correlation: Some(corrupt.correlation),
        reorder: Some(reorder.percent),
        reorder_correlation: Some(reorder.correlation),
        gap: Some(*gap),
        rate: Some(rate.as_bytes_per_sec()),
        packet_overhead: Some(*packet_overhead),
        ecn: Some(*ecn),
        seed: *seed,
        gemodel,
        slot_min_ns: None,
        slot_max_ns: None,
        slot_packets: None,
        slot_bytes: None,
    }
}

/// Counters, as of `now` of the stack's clock.
pub fn stats(stats: &QdiscStats, now: Instant) -> v1::QdiscStats {
    let QdiscStats { bytes, packets, drops, overlimits, requeues, backlog, qlen, kind } = stats;
    let fq = match kind {
        KindStats::None => None,
        KindStats::Fq(fq) => Some(fq_stats(fq, now)),
    };
    v1::QdiscStats {
        bytes: *bytes,
        packets: *packets,
        dropped: *drops,
        overlimits: *overlimits,
        requeues: *requeues,
        backlog_bytes: *backlog,
        qlen: *qlen,
        rate_bps: 0,
        rate_pps: 0,
        fq,
    }
}

fn fq_stats(fq: &stackd_qdisc::FqStats, now: Instant) -> v1::FqStats {
    let stackd_qdisc::FqStats {
        gc_flows,
        highprio_packets,
        throttled,
        flows_plimit,
        pkts_too_long,
        allocation_errors,
        time_next_delayed_flow,
        flows,
        inactive_flows,
        throttled_flows,
        unthrottle_latency_ns,
        ce_mark,
        horizon_drops,
        horizon_caps,
    } = *fq;
    let next = match time_next_delayed_flow {
        0 => 0,
        at => at.wrapping_sub(now.as_nanos()).cast_signed(),
    };
    v1::FqStats {
        gc_flows,
        highprio_packets,
        tcp_retrans: 0,
        throttled,
        flows_plimit,
        pkts_too_long,
        allocation_errors,
        time_next_delayed_flow_ns: next,
        flows,
        inactive_flows,
        throttled_flows,
        unthrottle_latency_ns,
        ce_mark,
        horizon_drops,
        horizon_caps,
        fastpath_packets: 0,
        band_drops: Vec::new(),
        band_packets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_asked_for() {
        for text in [
            "fq limit 5000 flow_limit 50 quantum 9000 ce_threshold 1ms",
            "netem delay 10ms 1ms loss 1% rate 10mbit",
            "tbf rate 10mbit burst 15k limit 100k",
            "pfifo limit 7",
            "bfifo limit 7000",
            "pfifo_fast",
            "noqueue",
        ] {
            let config: QdiscConfig = text.parse().expect(text);
            let back = from_proto(Some(to_proto(&config)), None).expect(text);
            assert_eq!(back, config, "{text}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let base: QdiscConfig = "fq limit 5000 quantum 9000".parse().expect("fq");
        let asked =
            v1::QdiscOptions { kind: Some(Kind::Fq(v1::FqOptions { flow_limit: Some(7), ..Default::default() })) };
        let QdiscConfig::Fq(c) = from_proto(Some(asked), Some(base)).expect("fine") else { panic!("not fq") };
        assert_eq!((c.limit, c.quantum, c.flow_limit), (5000, 9000, 7));
    }

    #[test]
    fn nonsense_is_refused() {
        let quantum = v1::FqOptions { quantum: Some(0), ..Default::default() };
        assert!(from_proto(Some(v1::QdiscOptions { kind: Some(Kind::Fq(quantum)) }), None).is_err());
        let loss = v1::NetemOptions { loss: Some(101.0), ..Default::default() };
        assert!(from_proto(Some(v1::QdiscOptions { kind: Some(Kind::Netem(loss)) }), None).is_err());
        assert!(from_proto(None, None).is_err());
    }
}
