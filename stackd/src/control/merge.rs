//! Shards' answers put together: what is per shard is summed, what is replicated is shown once.

use std::collections::BTreeMap;

use stackd_proto::v1;

/// Links are the same on every shard; their statistics add up.
pub(super) fn links(answers: Vec<v1::ListLinksResponse>) -> v1::ListLinksResponse {
    let mut by_index: BTreeMap<u32, v1::Link> = BTreeMap::new();
    for link in answers.into_iter().flat_map(|a| a.links) {
        let stats = link.stats.unwrap_or_default();
        match by_index.get_mut(&link.index) {
            None => {
                by_index.insert(link.index, v1::Link { stats: Some(stats), ..link });
            }
            Some(seen) => add_link_stats(seen.stats.get_or_insert_default(), stats),
        }
    }
    v1::ListLinksResponse { links: by_index.into_values().collect() }
}

fn add_link_stats(sum: &mut v1::LinkStats, more: v1::LinkStats) {
    let v1::LinkStats {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        rx_missed,
        rx_multicast,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        tx_carrier,
        tx_collisions,
    } = more;
    sum.rx_bytes += rx_bytes;
    sum.rx_packets += rx_packets;
    sum.rx_errors += rx_errors;
    sum.rx_dropped += rx_dropped;
    sum.rx_missed += rx_missed;
    sum.rx_multicast += rx_multicast;
    sum.tx_bytes += tx_bytes;
    sum.tx_packets += tx_packets;
    sum.tx_errors += tx_errors;
    sum.tx_dropped += tx_dropped;
    sum.tx_carrier += tx_carrier;
    sum.tx_collisions += tx_collisions;
}

/// Each shard has its own instance of a device's qdisc; one line stands for all, with the sum of their statistics.
pub(super) fn qdiscs(answers: Vec<v1::QdiscListResponse>) -> v1::QdiscListResponse {
    let mut out: Vec<v1::Qdisc> = Vec::new();
    for qdisc in answers.into_iter().flat_map(|a| a.qdiscs) {
        let same =
            |q: &&mut v1::Qdisc| q.device == qdisc.device && q.handle == qdisc.handle && q.parent == qdisc.parent;
        match out.iter_mut().find(same) {
            None => out.push(qdisc),
            Some(seen) => add_qdisc_stats(seen.stats.get_or_insert_default(), qdisc.stats.unwrap_or_default()),
        }
    }
    v1::QdiscListResponse { qdiscs: out }
}

fn add_qdisc_stats(sum: &mut v1::QdiscStats, more: v1::QdiscStats) {
    let v1::QdiscStats { bytes, packets, dropped, overlimits, requeues, backlog_bytes, qlen, rate_bps, rate_pps, fq } =
        more;
    sum.bytes += bytes;
    sum.packets += packets;
    sum.dropped += dropped;
    sum.overlimits += overlimits;
    sum.requeues += requeues;
    sum.backlog_bytes += backlog_bytes;
    sum.qlen += qlen;
    sum.rate_bps += rate_bps;
    sum.rate_pps += rate_pps;
    if let Some(fq) = fq {
        add_fq_stats(sum.fq.get_or_insert_default(), fq);
    }
}

fn add_fq_stats(sum: &mut v1::FqStats, more: v1::FqStats) {
    let v1::FqStats {
        gc_flows,
        highprio_packets,
        tcp_retrans,
        throttled,
        flows_plimit,
        pkts_too_long,
        allocation_errors,
        time_next_delayed_flow_ns,
        flows,
        inactive_flows,
        throttled_flows,
        unthrottle_latency_ns,
        ce_mark,
        horizon_drops,
        horizon_caps,
        fastpath_packets,
        band_drops,
        band_packets,
    } = more;
    // The flow that may send first counts; a shard without throttled flows has nothing to say.
    if throttled_flows > 0 {
        sum.time_next_delayed_flow_ns = if sum.throttled_flows > 0 {
            sum.time_next_delayed_flow_ns.min(time_next_delayed_flow_ns)
        } else {
            time_next_delayed_flow_ns
        };
    }
    sum.gc_flows += gc_flows;
    sum.highprio_packets += highprio_packets;
    sum.tcp_retrans += tcp_retrans;
    sum.throttled += throttled;
    sum.flows_plimit += flows_plimit;
    sum.pkts_too_long += pkts_too_long;
    sum.allocation_errors += allocation_errors;
    sum.flows += flows;
    sum.inactive_flows += inactive_flows;
    sum.throttled_flows += throttled_flows;
    sum.unthrottle_latency_ns = sum.unthrottle_latency_ns.max(unthrottle_latency_ns);
    sum.ce_mark += ce_mark;
    sum.horizon_drops += horizon_drops;
    sum.horizon_caps += horizon_caps;
    sum.fastpath_packets += fastpath_packets;
    add_each(&mut sum.band_drops, &band_drops);
    add_each(&mut sum.band_packets, &band_packets);
}

fn add_each(sum: &mut Vec<u64>, more: &[u64]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    for (s, m) in sum.iter_mut().zip(more) {
        *s += m;
    }
}

/// A neighbour may be known to several shards; the freshest knowledge wins.
pub(super) fn neighbours(answers: Vec<v1::ListNeighboursResponse>) -> v1::ListNeighboursResponse {
    let mut best: BTreeMap<(String, Vec<u8>), v1::Neighbour> = BTreeMap::new();
    for neighbour in answers.into_iter().flat_map(|a| a.neighbours) {
        let key = (neighbour.device.clone(), neighbour.address.clone());
        match best.get(&key) {
            Some(seen) if seen.updated_ms <= neighbour.updated_ms => {}
            _ => {
                best.insert(key, neighbour);
            }
        }
    }
    v1::ListNeighboursResponse { neighbours: best.into_values().collect() }
}

/// Counters of the same name add up, in the order of shard 0; or are shown per shard.
pub(super) fn counters(answers: Vec<v1::CounterListResponse>, per_shard: bool) -> v1::CounterListResponse {
    let mut out = v1::CounterListResponse::default();
    for (shard, answer) in (0u32..).zip(answers) {
        out.at_ns = out.at_ns.max(answer.at_ns);
        add_counters(&mut out.mib, answer.mib, shard, per_shard);
        add_counters(&mut out.drops, answer.drops, shard, per_shard);
    }
    out
}

fn add_counters(sum: &mut Vec<v1::Counter>, more: Vec<v1::Counter>, shard: u32, per_shard: bool) {
    // Every shard has the same table in the same order, so the position is a good first guess.
    for (at, counter) in more.into_iter().enumerate() {
        if per_shard {
            sum.push(v1::Counter { shard, ..counter });
            continue;
        }
        let found = match sum.get(at) {
            Some(seen) if seen.name == counter.name => Some(at),
            _ => sum.iter().position(|seen| seen.name == counter.name),
        };
        match found {
            Some(at) => sum[at].value += counter.value,
            None => sum.push(v1::Counter { shard: 0, ..counter }),
        }
    }
}

/// `ss -s`: every figure is a count of this shard's own sockets.
pub(super) fn summaries(answers: Vec<v1::DiagSummaryResponse>) -> v1::DiagSummaryResponse {
    let mut sum = v1::DiagSummaryResponse::default();
    for v1::DiagSummaryResponse {
        total,
        tcp_total,
        tcp_established,
        tcp_closed,
        tcp_orphaned,
        tcp_time_wait,
        tcp_ipv4,
        tcp_ipv6,
        udp_ipv4,
        udp_ipv6,
        fragments_ipv4,
        fragments_ipv6,
        tcp_memory_bytes,
    } in answers
    {
        sum.total += total;
        sum.tcp_total += tcp_total;
        sum.tcp_established += tcp_established;
        sum.tcp_closed += tcp_closed;
        sum.tcp_orphaned += tcp_orphaned;
        sum.tcp_time_wait += tcp_time_wait;
        sum.tcp_ipv4 += tcp_ipv4;
        sum.tcp_ipv6 += tcp_ipv6;
        sum.udp_ipv4 += udp_ipv4;
        sum.udp_ipv6 += udp_ipv6;
        sum.fragments_ipv4 += fragments_ipv4;
        sum.fragments_ipv6 += fragments_ipv6;
        sum.tcp_memory_bytes += tcp_memory_bytes;
    }
    sum
}
/// Each shard knows what its own sockets joined.
pub(super) fn groups(answers: Vec<v1::ListGroupsResponse>) -> v1::ListGroupsResponse {
    let mut groups: Vec<v1::Group> = Vec::new();
    for group in answers.into_iter().flat_map(|a| a.groups) {
        match groups.iter_mut().find(|g| (g.index, &g.address) == (group.index, &group.address)) {
            Some(known) => {
                known.sockets += group.sockets;
                known.own |= group.own;
            }
            None => groups.push(group),
        }
    }
    groups.sort_by_key(|g| g.index);
    v1::ListGroupsResponse { groups }
}
