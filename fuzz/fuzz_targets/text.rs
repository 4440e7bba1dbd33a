//! What operators write: filters of `ss`, disciplines as `tc` takes them, values of sysctls. Any text is taken or refused
//! with a message; what was taken and is written again is the same.
#![no_main]

mod words;

use libfuzzer_sys::fuzz_target;
use ss_rs::filter::Filter;
use ss_rs::services::Services;
use stackd_base::Instant;
use stackd_netstack::{HeapStore, Stack, StackConfig};
use stackd_proto::v1::SocketDiag;
use stackd_qdisc::QdiscConfig;
use std::sync::LazyLock;

const FILTER: &[&str] = &[
    "state",
    "exclude",
    "established",
    "connected",
    "synchronized",
    "bucket",
    "big",
    "all",
    "dst",
    "src",
    "dport",
    "sport",
    "eq",
    "ne",
    "ge",
    "le",
    "gt",
    "lt",
    "=",
    "!=",
    ">=",
    "<=",
    ">",
    "<",
    "and",
    "or",
    "not",
    "&",
    "&&",
    "|",
    "||",
    "!",
    "(",
    ")",
    ":80",
    ":http",
    "10.0.0.1",
    "10.0.0.0/8",
    "[::1]:80",
    "fd00::/8",
    "*",
    "*:443",
    "dev",
    "eth0",
    "fwmark",
    "0x1/0xff",
    "autobound",
    "80",
    "70000",
    "inet:1.2.3.4",
    "inet6:[fe80::1]",
    "unix:x",
    "link:y",
    "::ffff:1.2.3.4/100",
    "/33",
];

const QDISC: &[&str] = &[
    "fq",
    "pfifo",
    "bfifo",
    "pfifo_fast",
    "noqueue",
    "netem",
    "tbf",
    "limit",
    "10",
    "10kb",
    "flow_limit",
    "quantum",
    "initial_quantum",
    "maxrate",
    "1mbit",
    "1gbit",
    "buckets",
    "pacing",
    "nopacing",
    "ce_threshold",
    "horizon",
    "10s",
    "horizon_drop",
    "horizon_cap",
    "delay",
    "5ms",
    "1ms",
    "25%",
    "distribution",
    "normal",
    "pareto",
    "loss",
    "10%",
    "random",
    "state",
    "gemodel",
    "ecn",
    "duplicate",
    "corrupt",
    "reorder",
    "gap",
    "5",
    "rate",
    "burst",
    "2000",
    "latency",
    "mtu",
    "peakrate",
    "seed",
    "18446744073709551615",
    "-1",
    "1e9",
    "0",
    "bands",
    "3",
    "priomap",
    "timer_slack",
    "orphan_mask",
    "1023",
    "refill_delay",
    "40ms",
    "low_rate_threshold",
    "550kbit",
    "slot",
    "100.5%",
];

const SYSCTL: &[&str] = &[
    "net.ipv4.tcp_wmem ",
    "net.ipv4.tcp_rmem ",
    "net.ipv4.tcp_mem ",
    "net.ipv4.tcp_congestion_control ",
    "net.ipv4.ip_local_port_range ",
    "net.ipv4.ip_local_reserved_ports ",
    "net.ipv4.tcp_fastopen_key ",
    "net.ipv4.tcp_ecn ",
    "net.ipv4.conf.all.forwarding ",
    "net.ipv6.conf.default.accept_ra ",
    "net.core.default_qdisc ",
    "net.ipv4.tcp_rto_min_us ",
    "stackd.clock_hz ",
    "0",
    "1",
    "-1",
    "4096",
    "bbr",
    "reno",
    " ",
    "\t",
    ",",
    "-",
    "18446744073709551615",
    "0x10",
    "fq",
    "00000000-11111111-22222222-33333333",
    "net.ipv4.tcp_available_congestion_control ",
    "net.ipv4.tcp_allowed_congestion_control ",
    "1000-2000,3000",
    "32768 60999",
];

static SERVICES: LazyLock<Services> =
    LazyLock::new(|| Services::parse("http 80/tcp www\nhttps 443/tcp\ndomain 53/udp\n"));

fuzz_target!(|data: &[u8]| {
    let Some((&what, rest)) = data.split_first() else { return };
    match what % 3 {
        0 => {
            let text = words::text(rest, FILTER);
            let list: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
            if let Ok(filter) = Filter::parse(&list, &SERVICES) {
                let _ = filter.matches(&SocketDiag::default(), (32768, 60999));
            }
        }
        1 => {
            let text = words::text(rest, QDISC);
            if let Ok(config) = text.parse::<QdiscConfig>() {
                let again = config.to_string();
                let parsed = again.parse::<QdiscConfig>();
                assert_eq!(parsed.as_ref().ok(), Some(&config), "{text:?} is shown as {again:?}: {parsed:?}");
            }
        }
        _ => {
            let text = words::text(rest, SYSCTL);
            let Some((key, value)) = text.split_once(' ') else { return };
            let mut stack = Stack::new(StackConfig::default(), 1);
            let mut store = HeapStore::default();
            if stack.sysctl_set(Instant::from_nanos(1), key, value.trim(), &mut store).is_ok() {
                let shown = stack.sysctl_get(key).expect("what was written can be read");
                stack
                    .sysctl_set(Instant::from_nanos(2), key, &shown, &mut store)
                    .expect("what was read can be written");
                assert_eq!(stack.sysctl_get(key).ok(), Some(shown), "{text:?}");
            }
        }
    }
});
