//! What a connection is told: sysctls and socket options as plain values, and the path.

use core::num::NonZeroU16;
use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Mss};

/// `net.ipv4.tcp_ecn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum EcnMode {
    /// 0: neither asked for nor accepted.
    Off,
    /// 1: asked for and accepted.
    On,
    /// 2: accepted when the peer asks.
    #[default]
    Passive,
    /// 3: Accurate ECN (RFC 9768) asked for and accepted; what the peer can do of it.
    Accurate,
    /// 4: Accurate ECN accepted, RFC 3168 asked for.
    AccuratePassive,
    /// 5: Accurate ECN accepted, nothing asked for.
    AccurateAccept,
}

impl EcnMode {
    /// A passive open answers an ECN-setup SYN in kind.
    pub const fn accepts(self) -> bool {
        !matches!(self, Self::Off)
    }
    /// A passive open agrees to AccECN.
    pub const fn accepts_accurate(self) -> bool {
        matches!(self, Self::Accurate | Self::AccuratePassive | Self::AccurateAccept)
    }
    /// An active open asks for RFC 3168 alone.
    pub const fn asks_classic(self) -> bool {
        matches!(self, Self::On | Self::AccuratePassive)
    }
    /// An active open asks for AccECN.
    pub const fn asks_accurate(self) -> bool {
        matches!(self, Self::Accurate)
    }
}

/// The TCP sysctls of a namespace with one socket's options over them. Read afresh at every call through
/// [`Env::cfg`](crate::Env), so that a change reaches live connections.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `tcp_wmem`: min, default, max bytes of a send buffer.
    pub wmem: [u64; 3],
    /// `tcp_rmem`: min, default, max bytes of a receive buffer.
    pub rmem: [u64; 3],
    /// `SO_SNDBUF` (already doubled): fixes the send buffer.
    pub sndbuf: Option<u64>,
    /// `SO_RCVBUF` (already doubled): fixes the receive buffer.
    pub rcvbuf: Option<u64>,
    /// `tcp_moderate_rcvbuf`.
    pub moderate_rcvbuf: bool,
    /// `TCP_CONGESTION` or `tcp_congestion_control`; taken when the connection is made.
    #[serde(with = "crate::cc::name")]
    pub congestion: crate::cc::Name,
    /// `tcp_timestamps`.
    pub timestamps: bool,
    /// `tcp_sack`.
    pub sack: bool,
    /// `tcp_dsack`.
    pub dsack: bool,
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_ecn`.
    pub ecn: EcnMode,
    /// `tcp_ecn_fallback`: SYNs that go unanswered go without ECN, and no ECT is sent where the handshake showed that marks are mangled.
    pub ecn_fallback: bool,
    /// `tcp_ecn_option`: 0 no AccECN option, 1 when a counter needs it, 2 always, 3 even where it seems to be dropped.
    pub ecn_option: u8,
    /// `tcp_ecn_option_beacon`: least times a round trip that the option is sent.
    pub ecn_option_beacon: u32,
    /// `tcp_syn_retries` or `TCP_SYNCNT`.
    pub syn_retries: u8,
    /// `tcp_syn_linear_timeouts`: so many timeouts of a SYN come before the first that doubles, on top of `syn_retries`.
    pub syn_linear_timeouts: u8,
    /// `tcp_synack_retries`.
    pub synack_retries: u8,
    /// `tcp_retries1`: timeouts before the route is doubted.
    pub retries1: u8,
    /// `tcp_retries2`.
    pub retries2: u8,
    /// `tcp_orphan_retries`; 0 counts as 8.
    pub orphan_retries: u8,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Option<Duration>,
    /// `tcp_rto_min_us`.
    pub rto_min: Duration,
    /// `tcp_rto_max_ms`.
    pub rto_max: Duration,
    /// `tcp_fin_timeout` or `TCP_LINGER2`.
    pub fin_timeout: Duration,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `tcp_keepalive_time` or `TCP_KEEPIDLE`.
    pub keepalive_time: Duration,
    /// `tcp_keepalive_intvl` or `TCP_KEEPINTVL`.
    pub keepalive_intvl: Duration,
    /// `tcp_keepalive_probes` or `TCP_KEEPCNT`.
    pub keepalive_probes: u8,
    /// `TCP_NODELAY`.
    pub nodelay: bool,
    /// `TCP_CORK`.
    pub cork: bool,
    /// `TCP_QUICKACK`.
    pub quickack: bool,
    /// `TCP_QUICKACK` was cleared: ACKs wait for data to carry them.
    pub delayed_ack: bool,
    /// `TCP_MAXSEG`.
    pub maxseg: Option<u16>,
    /// `TCP_WINDOW_CLAMP`.
    pub window_clamp: Option<u32>,
    /// `SO_MAX_PACING_RATE`; `Bandwidth::MAX` = none.
    pub max_pacing_rate: Bandwidth,
    /// `TCP_NOTSENT_LOWAT` or `tcp_notsent_lowat`, bytes.
    pub notsent_lowat: u64,
    /// `tcp_limit_output_bytes`.
    pub limit_output_bytes: u64,
    /// `tcp_min_tso_segs`.
    pub min_tso_segs: u32,
    /// `tcp_tso_rtt_log`.
    pub tso_rtt_log: u8,
    /// `tcp_pacing_ss_ratio`, percent.
    pub pacing_ss_ratio: u32,
    /// `tcp_pacing_ca_ratio`, percent.
    pub pacing_ca_ratio: u32,
    /// `tcp_slow_start_after_idle`.
    pub slow_start_after_idle: bool,
    /// `tcp_reordering`, packets.
    pub reordering: u32,
    /// `tcp_max_reordering`, packets.
    pub max_reordering: u32,
    /// `tcp_recovery`: bit 0 RACK, bit 1 static reordering window, bit 2 no duplicate-ACK threshold.
    pub recovery: u8,
    /// `tcp_early_retrans`: 0 switches tail loss probes off.
    pub early_retrans: u8,
    /// `tcp_frto`: 0 switches F-RTO off.
    pub frto: u8,
    /// `tcp_thin_linear_timeouts`.
    pub thin_linear_timeouts: bool,
    /// `tcp_autocorking`.
    pub autocorking: bool,
    /// `tcp_challenge_ack_limit` a second; `i32::MAX`: no limit but each connection's own.
    pub challenge_ack_limit: u32,
    /// `tcp_mtu_probing`: 0 never, 1 when a black hole is suspected, 2 always.
    pub mtu_probing: u8,
    /// `tcp_base_mss`: where probing begins, payload bytes.
    pub base_mss: u32,
    /// `tcp_mtu_probe_floor`: where a black hole's search ends, payload bytes.
    pub mtu_probe_floor: u32,
    /// `tcp_probe_threshold`: a search range of fewer bytes is searched no further.
    pub probe_threshold: u32,
    /// `tcp_probe_interval`.
    pub probe_interval: Duration,
    /// `tcp_stdurg`: the urgent pointer is the last urgent byte (RFC 1122) instead of the one after it.
    pub stdurg: bool,
    /// `tcp_min_snd_mss`: no path makes segments smaller.
    pub min_snd_mss: u32,
    /// `tcp_invalid_ratelimit`.
    pub invalid_ratelimit: Duration,
    /// Most packets of the congestion window (`snd_cwnd_clamp`).
    pub cwnd_clamp: u32,
    /// Initial window in packets (RFC 6928).
    pub initial_cwnd: u32,
    /// Window offered until data has arrived, in segments (`ip route ... initrwnd`); `None` = what the buffer allows.
    pub initial_rwnd: Option<u32>,
    /// Tick the clock is coarsened to (`stackd.clock_hz`); zero = nanoseconds.
    pub clock_tick: Duration,
    /// A zero RTT or interval on a coarse clock counts as one tick (as in Linux); false shows what happens without.
    pub clock_clamp: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wmem: [4096, 16_384, 4 << 20],
            rmem: [4096, 131_072, 6 << 20],
            sndbuf: None,
            rcvbuf: None,
            moderate_rcvbuf: true,
            congestion: "cubic",
            timestamps: true,
            sack: true,
            dsack: true,
            window_scaling: true,
            ecn: EcnMode::Passive,
            ecn_fallback: true,
            ecn_option: 2,
            ecn_option_beacon: 3,
            syn_retries: 6,
            syn_linear_timeouts: 4,
            synack_retries: 5,
            retries1: 3,
            retries2: 15,
            orphan_retries: 0,
            user_timeout: None,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            fin_timeout: Duration::from_secs(60),
            keepalive: false,
            keepalive_time: Duration::from_secs(7200),
            keepalive_intvl: Duration::from_secs(75),
            keepalive_probes: 9,
            nodelay: false,
            cork: false,
            quickack: false,
            delayed_ack: false,
            maxseg: None,
            window_clamp: None,
            max_pacing_rate: Bandwidth::MAX,
            notsent_lowat: u64::MAX,
            limit_output_bytes: 4 << 20,
            min_tso_segs: 2,
            tso_rtt_log: 9,
            pacing_ss_ratio: 200,
            pacing_ca_ratio: 120,
            slow_start_after_idle: true,
            reordering: 3,
            max_reordering: 300,
            recovery: 1,
            early_retrans: 3,
            frto: 2,
            thin_linear_timeouts: false,
            autocorking: true,
            challenge_ack_limit: i32::MAX as u32,
            mtu_probing: 0,
            base_mss: 1024,
            mtu_probe_floor: 48,
            probe_threshold: 8,
            probe_interval: Duration::from_secs(600),
            stdurg: false,
            min_snd_mss: 48,
            invalid_ratelimit: Duration::from_millis(500),
            cwnd_clamp: u32::MAX,
            initial_cwnd: 10,
            initial_rwnd: None,
            clock_tick: Duration::ZERO,
            clock_clamp: true,
        }
    }
}

/// What the connection knows of its path when it is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FlowParams {
    /// Our port.
    pub src_port: u16,
    /// The peer's.
    pub dst_port: u16,
    /// IPv6: only the default MSS depends on it.
    pub ipv6: bool,
    /// Path MTU minus IP header and 20 bytes of TCP header: no segment of ours is larger.
    pub mss: Mss,
    /// What our MSS option says, where that is another: the interface's MTU bounds what we receive (RFC 6691, 2: "the MSS value to be sent in an
    /// MSS option should be equal to the effective MTU minus the fixed IP and TCP headers"), whatever was learnt of the way out.
    pub advmss: Option<NonZeroU16>,
    /// The port's qdisc honours departure times.
    pub port_paces: bool,
    /// Most payload bytes of one GSO segment; at most 65,535 minus headers. One MSS or less: no GSO.
    pub gso_max: u32,
    /// Added to our millisecond timestamp clock, so that it does not tell the uptime (RFC 7323, 7.1).
    pub ts_offset: u32,
    /// Bytes of every segment's options that a digest takes (TCP-MD5, TCP-AO), which the stack adds.
    pub signature: u8,
}

impl FlowParams {
    /// Ethernet's MTU, GSO, a pacing port.
    pub fn new(src_port: u16, dst_port: u16) -> Self {
        Self {
            src_port,
            dst_port,
            ipv6: false,
            mss: Mss::new_clamped(1460),
            advmss: None,
            port_paces: true,
            gso_max: 65_000,
            ts_offset: 0,
            signature: 0,
        }
    }
}
