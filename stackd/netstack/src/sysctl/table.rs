//! Every key: name, what it takes, what it does.

use super::registry::{Entry, Kind, Value};
use super::{PAGE, Sysctls};
use crate::stack::FastOpenKeys;
use crate::stack::flow_label::AutoFlowLabels;
use stackd_base::Duration;
use stackd_tcp::EcnMode;

/// A number held in some field, as it is.
macro_rules! int {
    ($name:literal, $($field:ident).+ : $ty:ty, $min:literal ..= $max:literal, $doc:literal) => {
        Entry {
            name: $name,
            kind: Kind::Int { min: $min, max: $max },
            doc: $doc,
            get: |s| s.$($field).+.to_string(),
            set: |s, v| s.$($field).+ = v.int() as $ty,
        }
    };
}

/// A switch: 0 or 1.
macro_rules! switch {
    ($name:literal, $($field:ident).+, $doc:literal) => {
        Entry {
            name: $name,
            kind: Kind::Int { min: 0, max: 1 },
            doc: $doc,
            get: |s| u8::from(s.$($field).+).to_string(),
            set: |s, v| s.$($field).+ = v.int() != 0,
        }
    };
}

/// A span of time in this unit.
macro_rules! time {
    ($name:literal, $($field:ident).+, $from:ident, $nanos:literal, $min:literal ..= $max:literal, $doc:literal) => {
        Entry {
            name: $name,
            kind: Kind::Int { min: $min, max: $max },
            doc: $doc,
            get: |s| (s.$($field).+.as_nanos() / $nanos).to_string(),
            set: |s, v| s.$($field).+ = Duration::$from(v.int() as u64),
        }
    };
}

macro_rules! triple {
    ($name:literal, $($field:ident).+, $unit:expr, $doc:literal) => {
        Entry {
            name: $name,
            kind: Kind::Triple { min: 1, max: i64::MAX / PAGE as i64 },
            doc: $doc,
            get: |s| s.$($field).+.map(|n| (n / $unit).to_string()).join("\t"),
            set: |s, v| s.$($field).+ = v.triple().map(|n| n as u64 * $unit),
        }
    };
}

pub(super) fn all() -> impl Iterator<Item = &'static Entry> + Clone {
    TCP_BUFFERS
        .iter()
        .chain(TCP_PROTOCOL)
        .chain(TCP_HANDSHAKE)
        .chain(TCP_TIMEOUTS)
        .chain(TCP_SENDING)
        .chain(SOCKETS)
        .chain(IP)
        .chain(STACKD)
}

fn available() -> Vec<&'static str> {
    stackd_tcp::cc::AVAILABLE.to_vec()
}

fn word(v: &Value) -> Option<&'static str> {
    match v {
        Value::Words(w) => w.first().copied(),
        Value::Int(_) | Value::Triple(_) | Value::Ports(_) | Value::Text(_) => None,
    }
}

fn read_only(_: &mut Sysctls, _: &Value) {}

const TCP_BUFFERS: &[Entry] = &[
    triple!(
        "net.ipv4.tcp_wmem",
        tcp.wmem,
        1,
        "Send buffer of a TCP socket in bytes: min, default, max of autotuning. Live."
    ),
    triple!(
        "net.ipv4.tcp_rmem",
        tcp.rmem,
        1,
        "Receive buffer of a TCP socket in bytes: min, default, max of autotuning. Live."
    ),
    triple!(
        "net.ipv4.tcp_mem",
        net.tcp_mem,
        PAGE,
        "Memory of all TCP buffers of a shard in pages of 4096 bytes: low, pressure, high."
    ),
    switch!("net.ipv4.tcp_moderate_rcvbuf", tcp.moderate_rcvbuf, "Grow receive buffers to match the path."),
    Entry {
        name: "net.ipv4.tcp_notsent_lowat",
        kind: Kind::Int { min: 0, max: 4_294_967_295 },
        doc: "Unsent bytes above which a socket is not writable; 4294967295 = no limit.",
        get: |s| s.tcp.notsent_lowat.min(4_294_967_295).to_string(),
        set: |s, v| s.tcp.notsent_lowat = if v.int() == 4_294_967_295 { u64::MAX } else { v.int() as u64 },
    },
];

const TCP_PROTOCOL: &[Entry] = &[
    Entry {
        name: "net.ipv4.tcp_congestion_control",
        kind: Kind::Choice(available),
        doc: "Algorithm of new connections that choose none.",
        get: |s| s.tcp.congestion.to_owned(),
        set: |s, v| {
            if let Some(name) = word(v) {
                s.tcp.congestion = name;
                if !s.net.allowed_congestion.contains(&name) {
                    s.net.allowed_congestion.push(name);
                }
            }
        },
    },
    Entry {
        name: "net.ipv4.tcp_available_congestion_control",
        kind: Kind::ReadOnly,
        doc: "Algorithms that are built in.",
        get: |_| available().join(" "),
        set: read_only,
    },
    Entry {
        name: "net.ipv4.tcp_allowed_congestion_control",
        kind: Kind::Choices(available),
        doc: "Algorithms that TCP_CONGESTION may choose.",
        get: |s| s.net.allowed_congestion.join(" "),
        set: |s, v| {
            if let Value::Words(words) = v {
                s.net.allowed_congestion.clone_from(words);
            }
        },
    },
    switch!("net.ipv4.tcp_timestamps", tcp.timestamps, "Offer and accept timestamps (RFC 7323)."),
    switch!("net.ipv4.tcp_sack", tcp.sack, "Offer and accept selective acknowledgments (RFC 2018)."),
    switch!("net.ipv4.tcp_dsack", tcp.dsack, "Send duplicate SACKs (RFC 2883)."),
    switch!("net.ipv4.tcp_window_scaling", tcp.window_scaling, "Offer and accept window scaling (RFC 7323)."),
    Entry {
        name: "net.ipv4.tcp_ecn",
        kind: Kind::Int { min: 0, max: 5 },
        doc: "Explicit congestion notification: 0 off; RFC 3168: 1 ask and accept, 2 accept; Accurate ECN (RFC 9768) accepted, and 3 asked for, 4 RFC 3168 asked for, 5 nothing asked for.",
        get: |s| {
            String::from(match s.tcp.ecn {
                EcnMode::Off => "0",
                EcnMode::On => "1",
                EcnMode::Passive => "2",
                EcnMode::Accurate => "3",
                EcnMode::AccuratePassive => "4",
                EcnMode::AccurateAccept => "5",
            })
        },
        set: |s, v| {
            s.tcp.ecn = match v.int() {
                0 => EcnMode::Off,
                1 => EcnMode::On,
                2 => EcnMode::Passive,
                3 => EcnMode::Accurate,
                4 => EcnMode::AccuratePassive,
                _ => EcnMode::AccurateAccept,
            }
        },
    },
    switch!(
        "net.ipv4.tcp_ecn_fallback",
        tcp.ecn_fallback,
        "SYNs that go unanswered go without ECN; and no ECT where the handshake of Accurate ECN shows that marks are mangled."
    ),
    int!("net.ipv4.tcp_ecn_option", tcp.ecn_option: u8, 0..=3, "Accurate ECN's option: 0 never, 1 when a counter changes or the beacon is due, 2 on every segment, 3 also where it seems to be dropped."),
    int!("net.ipv4.tcp_ecn_option_beacon", tcp.ecn_option_beacon: u32, 0..=3, "Least times a round trip that Accurate ECN's option is sent when tcp_ecn_option is 1; 0: no beacon."),
    int!("net.ipv4.tcp_reordering", tcp.reordering: u32, 1..=300, "Packets of reordering assumed at first."),
    int!("net.ipv4.tcp_max_reordering", tcp.max_reordering: u32, 1..=1_000_000, "Most packets of reordering to learn."),
    int!("net.ipv4.tcp_recovery", tcp.recovery: u8, 0..=7, "Bits: 1 RACK, 2 static reordering window, 4 no duplicate-ACK threshold."),
    int!("net.ipv4.tcp_early_retrans", tcp.early_retrans: u8, 0..=4, "3 and 4: tail loss probes; 0: none."),
    int!("net.ipv4.tcp_frto", tcp.frto: u8, 0..=2, "Detect spurious retransmission timeouts (RFC 5682); 0: off."),
    int!("net.ipv4.tcp_challenge_ack_limit", tcp.challenge_ack_limit: u32, 0..=2_147_483_647, "Challenge ACKs (RFC 5961) a second, all connections of a shard; 2147483647: no limit but one per connection and tcp_invalid_ratelimit."),
    time!(
        "net.ipv4.tcp_invalid_ratelimit",
        tcp.invalid_ratelimit,
        from_millis,
        1_000_000,
        0..=2_147_483_647,
        "Least milliseconds between answers to invalid segments of one connection."
    ),
    switch!(
        "net.ipv4.tcp_stdurg",
        tcp.stdurg,
        "The urgent pointer is the last urgent byte (RFC 1122), not the one after it (RFC 6093)."
    ),
    switch!("net.ipv4.tcp_rfc1337", net.tcp_rfc1337, "TIME_WAIT ignores RST (RFC 1337)."),
];

const TCP_HANDSHAKE: &[Entry] = &[
    int!("net.ipv4.tcp_fastopen", net.tcp_fastopen: u32, 0..=0x607, "Fast Open (RFC 7413), bits: 0x1 clients, 0x2 servers, 0x4 clients without a cookie, 0x200 servers without a cookie, 0x400 every listener without TCP_FASTOPEN."),
    Entry {
        name: "net.ipv4.tcp_fastopen_key",
        kind: Kind::Text {
            check: |text| FastOpenKeys::parse(text).is_some(),
            want: "four hexadecimal words joined by '-', and perhaps a comma and four more: the key and the one before",
        },
        doc: "Key that Fast Open cookies are made with, and after a comma the one before, which is still accepted. All zero until the first listener needs one.",
        get: |s| s.net.tcp_fastopen_key.print(),
        set: |s, v| {
            if let Value::Text(text) = v
                && let Some(keys) = FastOpenKeys::parse(text)
            {
                s.net.tcp_fastopen_key = keys;
            }
        },
    },
    int!("net.ipv4.tcp_fastopen_blackhole_timeout_sec", net.tcp_fastopen_blackhole_timeout: u32, 0..=2_147_483_647, "Seconds that clients do without Fast Open when SYNs with it vanish, doubling up to 64 times that; 0: never."),
];

const TCP_TIMEOUTS: &[Entry] = &[
    int!("net.ipv4.tcp_syn_retries", tcp.syn_retries: u8, 1..=127, "Repetitions of a SYN before connect gives up."),
    int!("net.ipv4.tcp_syn_linear_timeouts", tcp.syn_linear_timeouts: u8, 0..=127, "Timeouts of a SYN, beyond tcp_syn_retries, before they begin to double."),
    int!("net.ipv4.tcp_synack_retries", tcp.synack_retries: u8, 0..=255, "Repetitions of a SYN-ACK before a half-open connection is forgotten."),
    int!("net.ipv4.tcp_retries1", tcp.retries1: u8, 0..=255, "Retransmission timeouts before the route and its neighbour are doubted, and black holes suspected."),
    int!("net.ipv4.tcp_retries2", tcp.retries2: u8, 0..=255, "Retransmission timeouts before a connection is given up."),
    switch!(
        "net.ipv4.tcp_thin_linear_timeouts",
        tcp.thin_linear_timeouts,
        "With fewer than four packets in flight, the first six retransmission timeouts do not double."
    ),
    int!("net.ipv4.tcp_orphan_retries", tcp.orphan_retries: u8, 0..=255, "The same for connections that their application closed; 0 counts as 8."),
    time!(
        "net.ipv4.tcp_keepalive_time",
        tcp.keepalive_time,
        from_secs,
        1_000_000_000,
        1..=32_767,
        "Idle seconds before keepalive probes begin."
    ),
    time!(
        "net.ipv4.tcp_keepalive_intvl",
        tcp.keepalive_intvl,
        from_secs,
        1_000_000_000,
        1..=32_767,
        "Seconds between keepalive probes."
    ),
    int!("net.ipv4.tcp_keepalive_probes", tcp.keepalive_probes: u8, 1..=127, "Unanswered keepalive probes before a connection is given up."),
    Entry {
        name: "net.ipv4.tcp_fin_timeout",
        kind: Kind::Int { min: 1, max: 2_147_483 },
        doc: "Seconds a closed connection waits for the peer's FIN.",
        get: |s| (s.tcp.fin_timeout.as_millis() / 1000).to_string(),
        set: |s, v| {
            s.tcp.fin_timeout = Duration::from_secs(v.int() as u64);
            s.net.tcp_fin_timeout = s.tcp.fin_timeout;
        },
    },
    time!(
        "net.ipv4.tcp_rto_min_us",
        tcp.rto_min,
        from_micros,
        1_000,
        1..=2_147_483_647,
        "Smallest retransmission timeout in microseconds."
    ),
    time!(
        "net.ipv4.tcp_rto_max_ms",
        tcp.rto_max,
        from_millis,
        1_000_000,
        1000..=120_000,
        "Largest retransmission timeout in milliseconds."
    ),
];

const TCP_SENDING: &[Entry] = &[
    switch!(
        "net.ipv4.tcp_slow_start_after_idle",
        tcp.slow_start_after_idle,
        "Restart from the initial window after an idle period."
    ),
    int!("net.ipv4.tcp_limit_output_bytes", tcp.limit_output_bytes: u64, 0..=2_147_483_647, "Bytes of one connection that may wait below it (small queues)."),
    int!("net.ipv4.tcp_min_tso_segs", tcp.min_tso_segs: u32, 1..=65_535, "Fewest segments of a GSO packet, window permitting."),
    int!("net.ipv4.tcp_tso_rtt_log", tcp.tso_rtt_log: u8, 0..=30, "Shift of the RTT (us) below which GSO packets grow beyond the pacing quantum; 0: off."),
    int!("net.ipv4.tcp_pacing_ss_ratio", tcp.pacing_ss_ratio: u32, 0..=1000, "Pacing rate in slow start, percent of cwnd/srtt."),
    int!("net.ipv4.tcp_pacing_ca_ratio", tcp.pacing_ca_ratio: u32, 0..=1000, "Pacing rate in congestion avoidance, percent of cwnd/srtt."),
    switch!(
        "net.ipv4.tcp_autocorking",
        tcp.autocorking,
        "Coalesce small writes while an earlier packet waits to leave."
    ),
    int!("net.ipv4.tcp_mtu_probing", tcp.mtu_probing: u8, 0..=2, "Packetization-layer path MTU discovery (RFC 4821): 0 off, 1 when a black hole is suspected, 2 always, from tcp_base_mss."),
    int!("net.ipv4.tcp_base_mss", tcp.base_mss: u32, 48..=65_535, "MSS that path MTU probing begins with."),
    int!("net.ipv4.tcp_mtu_probe_floor", tcp.mtu_probe_floor: u32, 48..=65_535, "Smallest MSS that a suspected black hole is searched down to."),
    int!("net.ipv4.tcp_probe_threshold", tcp.probe_threshold: u32, 1..=65_535, "Bytes of the search range below which path MTU probing is content."),
    time!(
        "net.ipv4.tcp_probe_interval",
        tcp.probe_interval,
        from_secs,
        1_000_000_000,
        1..=2_147_483_647,
        "Seconds before path MTU probing searches anew."
    ),
    int!("net.ipv4.tcp_min_snd_mss", tcp.min_snd_mss: u32, 48..=65_535, "Smallest MSS a path can impose."),
];

const SOCKETS: &[Entry] = &[
    int!("net.core.somaxconn", net.somaxconn: u32, 0..=2_147_483_647, "Cap of listen's backlog."),
    int!("net.core.wmem_max", net.wmem_max: u32, 4608..=2_147_483_647, "Cap of SO_SNDBUF, bytes before doubling."),
    int!("net.core.rmem_max", net.rmem_max: u32, 2304..=2_147_483_647, "Cap of SO_RCVBUF, bytes before doubling."),
    int!("net.core.wmem_default", net.wmem_default: u32, 4608..=2_147_483_647, "Send buffer of a UDP socket, bytes."),
    int!("net.core.rmem_default", net.rmem_default: u32, 2304..=2_147_483_647, "Receive buffer of a UDP socket, bytes."),
    int!("net.ipv4.tcp_max_syn_backlog", net.tcp_max_syn_backlog: u32, 0..=2_147_483_647, "Half-open connections of a listener."),
    int!("net.ipv4.tcp_syncookies", net.tcp_syncookies: u8, 0..=2, "Answer SYNs with cookies: 0 never, 1 when a listener's SYN queue is full, 2 always."),
    switch!(
        "net.ipv4.tcp_abort_on_overflow",
        net.tcp_abort_on_overflow,
        "Reset connections that the accept queue has no room for."
    ),
    int!("net.ipv4.tcp_max_orphans", net.tcp_max_orphans: u32, 0..=2_147_483_647, "Connections that may finish without their application."),
    int!("net.ipv4.tcp_max_tw_buckets", net.tcp_max_tw_buckets: u32, 0..=2_147_483_647, "Most TIME_WAIT entries."),
    int!("net.ipv4.tcp_tw_reuse", net.tcp_tw_reuse: u8, 0..=2, "connect may take a TIME_WAIT port over: 0 never, 1 always, 2 on loopback."),
    time!(
        "net.ipv4.tcp_tw_reuse_delay",
        net.tcp_tw_reuse_delay,
        from_millis,
        1_000_000,
        1..=60_000,
        "Milliseconds since the last segment of a connection in TIME_WAIT before tcp_tw_reuse may take its port."
    ),
    Entry {
        name: "net.ipv4.ip_local_port_range",
        kind: Kind::PortRange,
        doc: "First and last port for sockets that were bound to none.",
        get: |s| format!("{}\t{}", s.net.local_port_range.0, s.net.local_port_range.1),
        set: |s, v| {
            if let Value::Ports(ranges) = v
                && let Some(&range) = ranges.first()
            {
                s.net.local_port_range = range;
            }
        },
    },
    Entry {
        name: "net.ipv4.ip_local_reserved_ports",
        kind: Kind::PortList,
        doc: "Ports out of that range that are never picked, as 8080,9000-9010.",
        get: |s| {
            let one = |&(a, b): &(u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
            s.net.reserved_ports.iter().map(one).collect::<Vec<_>>().join(",")
        },
        set: |s, v| {
            if let Value::Ports(ranges) = v {
                s.net.reserved_ports.clone_from(ranges);
            }
        },
    },
    switch!("net.ipv4.ip_nonlocal_bind", net.nonlocal_bind, "bind may take IPv4 addresses that are not ours."),
    switch!("net.ipv6.ip_nonlocal_bind", net.nonlocal_bind_v6, "bind may take IPv6 addresses that are not ours."),
    Entry {
        name: "net.ipv6.auto_flowlabels",
        kind: Kind::Int { min: 0, max: 3 },
        doc: "Flow labels made from a hash of the flow: 0 none, 1 unless a socket says no, 2 if a socket says so (IPV6_AUTOFLOWLABEL), 3 always.",
        get: |s| (s.net.auto_flowlabels as u8).to_string(),
        set: |s, v| s.net.auto_flowlabels = AutoFlowLabels::from_int(v.int()),
    },
    switch!("net.ipv6.bindv6only", net.bindv6only, "New IPv6 sockets leave IPv4 alone."),
    Entry {
        name: "net.core.default_qdisc",
        kind: Kind::Choice(|| vec!["fq", "pfifo_fast", "pfifo", "bfifo", "noqueue"]),
        doc: "Queueing discipline of interfaces added from now on.",
        get: |s| s.net.default_qdisc.to_owned(),
        set: |s, v| {
            if let Some(name) = word(v) {
                s.net.default_qdisc = name;
            }
        },
    },
];

const IP: &[Entry] = &[
    int!("net.ipv4.ip_default_ttl", ip.default_ttl: u8, 1..=255, "TTL of packets whose socket sets none."),
    switch!("net.ipv4.icmp_echo_ignore_all", ip.echo_ignore_all, "Leave echo requests unanswered."),
    time!(
        "net.ipv4.icmp_ratelimit",
        ip.icmp_ratelimit,
        from_millis,
        1_000_000,
        0..=2_147_483_647,
        "Least milliseconds between ICMP errors to one destination, after a burst of six."
    ),
    int!("net.ipv4.icmp_msgs_per_sec", ip.icmp_msgs_per_sec: u32, 0..=2_147_483_647, "ICMP errors a second, all destinations."),
    int!("net.ipv4.icmp_msgs_burst", ip.icmp_msgs_burst: u32, 0..=2_147_483_647, "ICMP errors in a burst."),
    int!("net.ipv4.icmp_ratemask", ip.icmp_ratemask: u32, 0..=4_294_967_295, "Which ICMP types the limits hold for: bit n is type n."),
    switch!(
        "net.ipv4.icmp_echo_ignore_broadcasts",
        ip.echo_ignore_broadcasts,
        "Leave echo requests to groups and broadcasts unanswered."
    ),
    switch!("net.ipv6.icmp.echo_ignore_all", ip.echo_ignore_all6, "Leave ICMPv6 echo requests unanswered."),
    switch!(
        "net.ipv6.icmp.echo_ignore_multicast",
        ip.echo_ignore_multicast6,
        "Leave ICMPv6 echo requests to groups unanswered."
    ),
    time!(
        "net.ipv6.icmp.ratelimit",
        ip.icmp6_ratelimit,
        from_millis,
        1_000_000,
        0..=2_147_483_647,
        "Least milliseconds between ICMPv6 errors to one destination, after a burst of six."
    ),
    int!("net.ipv6.ip6frag_high_thresh", ip.frag_high_thresh6: usize, 0..=2_147_483_647, "Bytes of incomplete IPv6 packets kept for reassembly."),
    time!(
        "net.ipv6.ip6frag_time",
        ip.frag_time6,
        from_secs,
        1_000_000_000,
        1..=32_767,
        "Seconds an IPv6 fragment waits for the others."
    ),
    int!("net.ipv4.ipfrag_high_thresh", ip.frag_high_thresh: usize, 0..=2_147_483_647, "Bytes of incomplete IPv4 packets kept for reassembly."),
    time!(
        "net.ipv4.ipfrag_time",
        ip.frag_time,
        from_secs,
        1_000_000_000,
        1..=32_767,
        "Seconds an IPv4 fragment waits for the others."
    ),
    int!("net.ipv4.route.min_pmtu", ip.min_pmtu: u32, 68..=65_535, "Smallest path MTU believed."),
    time!(
        "net.ipv4.route.mtu_expires",
        ip.mtu_expires,
        from_secs,
        1_000_000_000,
        1..=2_147_483,
        "Seconds a path MTU is remembered."
    ),
    int!("net.ipv4.igmp_qrv", ip.igmp_qrv: u8, 1..=7, "How often a changed group membership is reported (IGMP's robustness variable)."),
    int!("net.ipv4.igmp_max_memberships", ip.igmp_max_memberships: usize, 0..=2_147_483_647, "Most IPv4 groups of a socket."),
    int!("net.ipv4.igmp_max_msf", ip.igmp_max_msf: usize, 0..=2_147_483_647, "Most sources in the filter of an IPv4 group."),
    int!("net.ipv6.mld_qrv", ip.mld_qrv: u8, 1..=7, "How often a changed group membership is reported (MLD's robustness variable)."),
    int!("net.ipv6.mld_max_msf", ip.mld_max_msf: usize, 0..=2_147_483_647, "Most sources in the filter of an IPv6 group."),
    time!(
        "net.ipv4.neigh.default.retrans_time_ms",
        ip.neigh.retrans,
        from_millis,
        1_000_000,
        1..=2_147_483_647,
        "Milliseconds between neighbour solicitations."
    ),
    int!("net.ipv4.neigh.default.unres_qlen_bytes", ip.neigh.unres_qlen_bytes: usize, 0..=2_147_483_647, "Bytes that wait for one neighbour's address."),
    int!("net.ipv4.neigh.default.gc_thresh3", ip.neigh.max_entries: usize, 1..=2_147_483_647, "Most neighbours."),
];

const STACKD: &[Entry] = &[
    Entry {
        name: "stackd.clock_hz",
        kind: Kind::Int { min: 0, max: 1_000_000_000 },
        doc: "Coarsens the clock TCP sees to this many ticks a second, to reproduce what jiffies do; 0 = nanoseconds.",
        get: |s| match s.tcp.clock_tick.as_nanos() {
            0 => String::from("0"),
            tick => (1_000_000_000 / tick).to_string(),
        },
        set: |s, v| {
            s.tcp.clock_tick = match v.int() {
                0 => Duration::ZERO,
                hz => Duration::from_nanos(1_000_000_000 / hz as u64),
            }
        },
    },
    switch!(
        "stackd.clock_clamp",
        tcp.clock_clamp,
        "With a coarse clock, a zero RTT or interval counts as one tick, as in Linux."
    ),
    int!("stackd.initial_cwnd", tcp.initial_cwnd: u32, 1..=10_000, "Initial congestion window in packets (RFC 6928)."),
];
