//! Sysctls and socket options that a scenario sets, before its connections begin or in the middle of them.

use super::rng;
use crate::net::{SockOption, Task};
use stackd_base::{Duration, Instant, Rng};
use stackd_qdisc::QdiscConfig;

/// Whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The hosts to the left.
    Clients,
    /// The hosts to the right.
    Servers,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Servers => "servers",
        }
    }
}

/// One setting of all hosts of one side.
#[derive(Clone, PartialEq, Debug)]
pub struct Tuning {
    /// What `--without` calls it.
    pub label: String,
    /// Whose.
    pub side: Side,
    /// Option of every socket that is made, before it connects or listens.
    pub option: Option<SockOption>,
    /// What is done at some time.
    pub task: Option<(Instant, Task)>,
    /// Connections may fail of it.
    pub may_fail: bool,
}

impl Tuning {
    /// Makes a side look for black holes, from the start.
    pub(super) fn probes(&self, side: Side) -> bool {
        self.side == side && self.label.starts_with(PROBING)
    }
}

/// How the label begins of what finds black holes; the random settings of the same sysctl may switch it on late, or off.
const PROBING: &str = "finds-black-holes@";

/// Sysctls and what they may be set to.
const SYSCTLS: &[(&str, &[&str])] = &[
    ("net.ipv4.tcp_congestion_control", &["reno", "cubic", "bbr"]),
    ("net.ipv4.tcp_timestamps", &["0"]),
    ("net.ipv4.tcp_sack", &["0"]),
    ("net.ipv4.tcp_dsack", &["0"]),
    ("net.ipv4.tcp_window_scaling", &["0"]),
    ("net.ipv4.tcp_ecn", &["0", "1", "2", "3", "4", "5"]),
    ("net.ipv4.tcp_ecn_option", &["0", "1", "3"]),
    ("net.ipv4.tcp_mtu_probing", &["1", "2"]),
    ("net.ipv4.tcp_base_mss", &["256", "536"]),
    ("net.ipv4.tcp_fastopen", &["3", "1027", "1543"]),
    ("net.ipv4.tcp_retries1", &["1"]),
    ("net.ipv4.tcp_thin_linear_timeouts", &["1"]),
    ("net.ipv4.tcp_syn_linear_timeouts", &["0"]),
    ("net.ipv4.tcp_wmem", &["4096 8192 16384", "4096 65536 65536"]),
    ("net.ipv4.tcp_rmem", &["4096 8192 16384", "4096 65536 262144"]),
    ("net.ipv4.tcp_mem", &["8 12 16", "64 96 128"]),
    ("net.ipv4.tcp_moderate_rcvbuf", &["0"]),
    ("net.ipv4.tcp_notsent_lowat", &["1", "4096"]),
    ("net.ipv4.tcp_early_retrans", &["0"]),
    ("net.ipv4.tcp_recovery", &["0", "1"]),
    ("net.ipv4.tcp_frto", &["0"]),
    ("net.ipv4.tcp_reordering", &["1", "10"]),
    ("net.ipv4.tcp_slow_start_after_idle", &["0"]),
    ("net.ipv4.tcp_autocorking", &["0"]),
    ("net.ipv4.tcp_limit_output_bytes", &["4096"]),
    ("net.ipv4.tcp_min_tso_segs", &["1"]),
    ("net.ipv4.tcp_rto_min_us", &["20000", "1000000"]),
    ("net.ipv4.tcp_syncookies", &["0", "2"]),
    ("net.ipv4.tcp_tw_reuse", &["0", "1"]),
    ("net.ipv4.tcp_max_tw_buckets", &["1"]),
    ("net.ipv4.tcp_challenge_ack_limit", &["1"]),
];

const SOL_SOCKET: i32 = 1;
const SOL_TCP: i32 = 6;

/// Integer options: name, level, number, values.
const OPTIONS: &[(&str, i32, i32, &[i32])] = &[
    ("nodelay", SOL_TCP, 1, &[1]),
    ("maxseg", SOL_TCP, 2, &[88, 500, 1000]),
    ("cork", SOL_TCP, 3, &[1]),
    ("keepidle", SOL_TCP, 4, &[1, 10]),
    ("keepintvl", SOL_TCP, 5, &[1, 10]),
    ("linger2", SOL_TCP, 8, &[-1, 5]),
    ("defer_accept", SOL_TCP, 9, &[1, 5]),
    ("window_clamp", SOL_TCP, 10, &[2000, 20_000]),
    ("quickack", SOL_TCP, 12, &[0, 1]),
    ("notsent_lowat", SOL_TCP, 25, &[1, 5000]),
    ("sndbuf", SOL_SOCKET, 7, &[1, 3000, 100_000]),
    ("rcvbuf", SOL_SOCKET, 8, &[1, 3000, 100_000]),
    ("keepalive", SOL_SOCKET, 9, &[1]),
    ("rcvlowat", SOL_SOCKET, 18, &[1, 2000]),
    ("fastopen", SOL_TCP, 23, &[1, 16]),
    ("fastopen_connect", SOL_TCP, 30, &[1]),
];

const ALGORITHMS: [&str; 3] = ["reno", "cubic", "bbr"];

/// The settings of a seed. `start`: when the world begins.
pub(super) fn generate(seed: u64, start: Instant) -> Vec<Tuning> {
    let mut out = Vec::new();
    for side in [Side::Clients, Side::Servers] {
        let mut r = rng(seed, side.name());
        // A third of all scenarios leave a side as it is made.
        if r.below(3) == 0 {
            continue;
        }
        for _ in 0..r.below(4) {
            sysctl(&mut r, side, start, false, &mut out);
        }
        for _ in 0..r.below(3) {
            option(&mut r, side, &mut out);
        }
        if r.below(3) == 0 {
            live(&mut r, side, start, &mut out);
        }
        if r.below(3) == 0 {
            qdisc(&mut r, side, start, &mut out);
        }
    }
    out
}

/// Of scenarios with a black hole: half of them have both sides search for the path's MTU, and then nothing excuses a connection that does not find it.
pub(super) fn probe_for_black_holes(seed: u64, start: Instant, out: &mut Vec<Tuning>) {
    let mut r = rng(seed, "finds-black-holes");
    if r.below(2) == 0 {
        return;
    }
    let value = *pick(&mut r, &["1", "2"]);
    out.retain(|t| !t.label.contains("tcp_mtu_probing"));
    for side in [Side::Clients, Side::Servers] {
        let task = Some((start, Task::Sysctl("net.ipv4.tcp_mtu_probing".into(), value.into())));
        push(out, Tuning { label: format!("{PROBING}{}", side.name()), side, option: None, task, may_fail: false });
    }
}

fn pick<'a, T>(r: &mut dyn Rng, of: &'a [T]) -> &'a T {
    &of[r.below(of.len() as u32) as usize]
}

fn push(out: &mut Vec<Tuning>, tuning: Tuning) {
    if out.iter().all(|t| t.label != tuning.label) {
        out.push(tuning);
    }
}

fn sysctl(r: &mut dyn Rng, side: Side, at: Instant, live: bool, out: &mut Vec<Tuning>) {
    let (name, values) = *pick(r, SYSCTLS);
    let value = *pick(r, values);
    let short = name.rsplit('.').next().unwrap_or(name);
    let label = format!("{}{short}@{}", if live { "live:" } else { "" }, side.name());
    let task = Some((at, Task::Sysctl(name.into(), value.into())));
    // The first segment to arrive must be the one that answers the SYN-ACK, or the cookie is not found in it (as Linux's).
    let may_fail = (name, value) == ("net.ipv4.tcp_syncookies", "2");
    push(out, Tuning { label, side, option: None, task, may_fail });
}

fn option(r: &mut dyn Rng, side: Side, out: &mut Vec<Tuning>) {
    let (name, o, may_fail) = match r.below(8) {
        0 => {
            let rate = 20_000u64 << r.below(8);
            ("max_pacing_rate", SockOption { level: SOL_SOCKET, option: 47, value: rate.to_ne_bytes().to_vec() }, false)
        }
        1 => ("congestion", congestion(r), false),
        2 => ("user_timeout", SockOption::int(SOL_TCP, 18, 3000), true),
        _ => {
            let (name, level, number, values) = *pick(r, OPTIONS);
            // A keepalive takes a long outage for death; a Fast Open without data never begins.
            let may_fail = ["keepidle", "keepintvl", "fastopen_connect"].contains(&name);
            (name, SockOption::int(level, number, *pick(r, values)), may_fail)
        }
    };
    let label = format!("{name}@{}", side.name());
    push(out, Tuning { label, side, option: Some(o), task: None, may_fail });
}

fn congestion(r: &mut dyn Rng) -> SockOption {
    SockOption { level: SOL_TCP, option: 13, value: pick(r, &ALGORITHMS).as_bytes().to_vec() }
}

/// Something that changes under living connections.
fn live(r: &mut dyn Rng, side: Side, start: Instant, out: &mut Vec<Tuning>) {
    for _ in 0..=r.below(3) {
        let at = start + Duration::from_micros(u64::from(1 + r.below(2_000_000)));
        let (name, task) = match r.below(6) {
            0 => ("live:route", Task::Reroute { mtu: None }),
            1 => ("live:mtu", Task::Reroute { mtu: Some(1280 + r.below(220)) }),
            2 => ("live:congestion", Task::SetOption(congestion(r))),
            3 => ("live:nodelay", Task::SetOption(SockOption::int(SOL_TCP, 1, r.below(2) as i32))),
            4 => ("live:cork", Task::SetOption(SockOption::int(SOL_TCP, 3, r.below(2) as i32))),
            _ => {
                sysctl(r, side, at, true, out);
                continue;
            }
        };
        let label = format!("{name}@{}", side.name());
        push(out, Tuning { label, side, option: None, task: Some((at, task)), may_fail: false });
    }
}

fn qdisc(r: &mut dyn Rng, side: Side, start: Instant, out: &mut Vec<Tuning>) {
    let text =
        *pick(r, &["pfifo limit 50", "fq", "fq limit 100", "tbf rate 20mbit burst 20kb limit 60kb", "pfifo limit 5"]);
    let Ok(config) = text.parse::<QdiscConfig>() else { return };
    // Half of them while connections live.
    let at = if r.below(2) == 0 { start } else { start + Duration::from_millis(u64::from(r.below(1000))) };
    let label = format!("qdisc@{}", side.name());
    // tbf never lets a segment through that is larger than its bucket.
    let may_fail = config.kind() == "tbf";
    push(out, Tuning { label, side, option: None, task: Some((at, Task::Qdisc(config))), may_fail });
}
