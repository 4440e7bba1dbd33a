//! Congestion control: one small seam.
//!
//! An algorithm sees acknowledgements as [`RateSample`]s and a few rare events, and answers with a [`Control`]. It never
//! sees a socket, a clock or a random source of its own. All three outputs of `Control` are consumed by the sender.

mod bbr;
mod cubic;
mod hystart;
mod reno;
#[cfg(test)]
mod testpath;

use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Gain, Instant, Mib, MibCounters, Rng};

pub use bbr::Bbr;
pub use cubic::Cubic;
pub use reno::Reno;

/// What the sender may do now. The connection clamps `cwnd` to `snd_cwnd_clamp` and `pacing_rate` to
/// `SO_MAX_PACING_RATE` after the algorithm has spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Control {
    /// Congestion window in packets of one MSS (Linux's `snd_cwnd`).
    pub cwnd: u32,
    /// Slow start threshold in packets; `u32::MAX` = infinite (`TCP_INFINITE_SSTHRESH`).
    pub ssthresh: u32,
    /// Rate to pace at; `None` = not paced by the algorithm (Linux then derives one from `cwnd/srtt` only if fq or
    /// `SK_PACING_NEEDED` asks for it).
    pub pacing_rate: Option<Bandwidth>,
    /// Most bytes to put into one GSO segment; `None` = TSO autosizing by pacing rate (`tcp_tso_autosize`).
    pub send_quantum: Option<u32>,
    /// The algorithm keeps the pipe empty on purpose (PROBE_RTT): the connection must call `RateEstimator::mark_app_limited`,
    /// or the low rate of these packets would be taken for the path's.
    pub mark_app_limited: bool,
}

/// One delivery-rate sample (draft-cheng-iccrg-delivery-rate-estimation), made on every ACK that acknowledges or
/// sacks something, plus what Linux hands to `cong_control` along with it.
#[derive(Clone, Copy, Debug)]
pub struct RateSample {
    /// When the ACK arrived at the device (not when it was processed).
    pub now: Instant,
    /// MSS in bytes.
    pub mss: u32,
    /// `C.delivered` (packets) when the most recently (s)acked packet was sent.
    pub prior_delivered: u64,
    /// `C.delivered` now, in packets, over the connection's life.
    pub delivered_total: u64,
    /// Packets delivered over `interval`; `None` when no valid sample exists (Linux: `delivered < 0`).
    pub delivered: Option<u64>,
    /// max(send phase, ack phase); `None` = invalid. Zero is possible with a coarse clock: it counts as one tick.
    pub interval: Option<Duration>,
    /// RTT of the most recently sent packet this ACK (s)acked, never of a retransmission; `None` = no sample.
    pub rtt: Option<Duration>,
    /// Packets newly acked or sacked by this ACK.
    pub acked_sacked: u32,
    /// Packets newly marked lost on this ACK.
    pub losses: u32,
    /// Packets marked lost over the connection's life (Linux's `tp->lost`).
    pub lost_total: u64,
    /// Packets in flight before this ACK was processed.
    pub prior_in_flight: u32,
    /// Packets in flight after it.
    pub in_flight: u32,
    /// The sample was limited by the application, not by the network.
    pub is_app_limited: bool,
    /// The newest packet acked had been retransmitted.
    pub is_retrans: bool,
    /// ACK seems to be a delayed one (Linux's `is_ack_delayed`).
    pub is_ack_delayed: bool,
    /// Packets delivered with an ECN CE mark over the sample.
    pub delivered_ce: u64,
    /// The ACK advanced, or it was selective on a path that is known to reorder: windows may grow (Linux's `tcp_may_raise_cwnd`).
    pub forward_progress: bool,
    /// The sender was limited by cwnd when it sent what this ACK acknowledges (Linux's `tcp_is_cwnd_limited`).
    pub is_cwnd_limited: bool,
    /// Where recovery stands.
    pub ca_state: CaState,
    /// Smoothed RTT, if any sample exists yet.
    pub srtt: Option<Duration>,
    /// Windowed minimum RTT of the connection (`tcp_min_rtt`).
    pub min_rtt: Option<Duration>,
    /// How far the next departure time lies ahead of `now`: packets counted in `in_flight` that a pacing qdisc still holds.
    pub pacing_lead: Duration,
}

/// Recovery state, Linux's `tcp_ca_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum CaState {
    /// Nothing dubious.
    #[default]
    Open = 0,
    /// SACKs or duplicate ACKs were seen; nothing is marked lost yet.
    Disorder = 1,
    /// ECN told us to reduce.
    Cwr = 2,
    /// Fast recovery.
    Recovery = 3,
    /// After an RTO.
    Loss = 4,
}

/// A congestion event that is not an ordinary ACK.
///
/// For an algorithm that does not own its window in recovery (Reno, CUBIC), `EnterRecovery` and `EcnReduce` answer with
/// `cwnd == ssthresh`, the window to hold when recovery is over; between the two the connection applies PRR and ignores `cwnd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CcEvent {
    /// Entering fast recovery, before the `on_ack` of the ACK that caused it; `in_flight` packets are left in flight. Unless it `reduces`,
    /// ECN has reduced this window already.
    EnterRecovery { now: Instant, in_flight: u32, reduces: bool },
    /// Fast recovery or loss recovery is over.
    ExitRecovery { now: Instant },
    /// A retransmission timeout; `in_flight` packets are left in flight after marking (usually 0). Unless it `reduces`, this window was
    /// reduced already: only the flight begins anew.
    Rto { now: Instant, in_flight: u32, reduces: bool },
    /// The last reduction proved spurious (DSACK, timestamps, F-RTO): put back what was.
    Undo { now: Instant },
    /// ECN-echo asks for one reduction this round.
    EcnReduce { now: Instant, in_flight: u32 },
    /// The first transmission after everything sent was acknowledged (Linux's `CA_EVENT_TX_START`).
    TxStart { now: Instant, app_limited: bool },
    /// Slow start after idle: idle longer than an RTO, `net.ipv4.tcp_slow_start_after_idle` = 1.
    IdleRestart { now: Instant, idle: Duration, rto: Duration },
    /// The send buffer, which had been the limit, became much larger (`tcp_wmem` was raised): how fast the path is nobody knows.
    BufferGrew,
    /// The path's MSS changed.
    MssChanged { mss: u32 },
}

/// A congestion control algorithm.
pub trait CongestionControl: core::fmt::Debug + Send {
    /// Name as in `net.ipv4.tcp_congestion_control`.
    fn name(&self) -> &'static str;
    /// An ACK arrived. Called after loss detection, with the sample of this ACK.
    fn on_ack(&mut self, sample: &RateSample, rng: &mut dyn Rng) -> Control;
    /// Something rarer happened.
    fn on_event(&mut self, event: CcEvent, rng: &mut dyn Rng) -> Control;
    /// The current decision, without an event.
    fn control(&self) -> Control;
    /// True when the algorithm does its own recovery-time window (BBR): the connection then skips PRR (Linux: has `cong_control`).
    fn owns_recovery_cwnd(&self) -> bool;
    /// True when the algorithm must be paced even without fq (BBR).
    fn needs_pacing(&self) -> bool;
    /// What `ss -i` and `TCP_CC_INFO` show.
    fn info(&self) -> CcInfo;
    /// Itself, for a recording.
    fn saved(&self) -> Saved;
    /// Something worth a MIB counter happened since the last call; ask after each `on_ack` until `None`.
    fn poll_note(&mut self) -> Option<CcNote> {
        None
    }
}

/// An algorithm's name. (Spelled out, serde would take it for something borrowed from what it reads.)
pub type Name = &'static str;

/// An algorithm with all its state, as a recording keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, clippy::large_enum_variant, reason = "lives for a moment")]
pub enum Saved {
    Reno(Reno),
    Cubic(Cubic),
    Bbr(Bbr),
}

impl Saved {
    fn restore(self) -> Box<dyn CongestionControl> {
        match self {
            Self::Reno(cc) => Box::new(cc),
            Self::Cubic(cc) => Box::new(cc),
            Self::Bbr(cc) => Box::new(cc),
        }
    }
}

/// `#[serde(with)]` of a connection's algorithm.
pub(crate) mod boxed {
    use super::{CongestionControl, Saved};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::borrowed_box, reason = "serde passes the field as it is")]
    pub fn serialize<S: Serializer>(cc: &Box<dyn CongestionControl>, to: S) -> Result<S::Ok, S::Error> {
        cc.saved().serialize(to)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<dyn CongestionControl>, D::Error> {
        Saved::deserialize(from).map(Saved::restore)
    }
}

/// `#[serde(with)]` of an algorithm's name.
pub(crate) mod name {
    use super::AVAILABLE;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(name: &&'static str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
        let name = String::deserialize(from)?;
        let known = AVAILABLE.into_iter().find(|n| *n == name);
        known.ok_or_else(|| D::Error::custom(format_args!("no congestion control is called \"{name}\"")))
    }
}

/// Something an algorithm did that Linux counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CcNote {
    /// HyStart++ left slow start at this window: the RTT had risen, and stayed so.
    HystartDelay { cwnd: u32 },
}

impl CcNote {
    /// Counts it under Linux's name.
    pub fn count(self, mib: &mut MibCounters) {
        match self {
            Self::HystartDelay { cwnd } => {
                mib.inc(Mib::TcpExtTCPHystartDelayDetect);
                mib.add(Mib::TcpExtTCPHystartDelayCwnd, u64::from(cwnd));
            }
        }
    }
}

/// Names that [`by_name`] knows, as in `net.ipv4.tcp_available_congestion_control`.
pub const AVAILABLE: [&str; 3] = ["reno", "cubic", "bbr"];

/// A new instance of the algorithm of this name; `None` for an unknown one.
pub fn by_name(name: &str, config: &CcConfig) -> Option<Box<dyn CongestionControl>> {
    match name {
        "reno" => Some(Box::new(reno::Reno::new(config))),
        "cubic" => Some(Box::new(cubic::Cubic::new(config))),
        "bbr" => Some(Box::new(bbr::Bbr::new(config))),
        _ => None,
    }
}

/// Live state for diagnostics (Linux's `union tcp_cc_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CcInfo {
    /// Nothing to show.
    None,
    /// `struct tcp_bbr_info`.
    Bbr {
        /// Bottleneck bandwidth estimate.
        bw: Bandwidth,
        /// Windowed minimum RTT.
        min_rtt: Option<Duration>,
        /// Pacing gain.
        pacing_gain: Gain,
        /// Window gain.
        cwnd_gain: Gain,
        /// Mode: startup, drain, probe_bw, probe_rtt.
        mode: &'static str,
    },
}

/// What an algorithm is told at birth.
#[derive(Clone, Copy, Debug)]
pub struct CcConfig {
    /// Now.
    pub now: Instant,
    /// MSS in bytes.
    pub mss: u32,
    /// Initial window in packets (RFC 6928: 10).
    pub initial_cwnd: u32,
    /// First RTT if the handshake gave one.
    pub srtt: Option<Duration>,
    /// One tick of the clock the samples are taken with (`stackd.clock_hz`); zero or RTTs of zero are clamped to it. `None` = do not clamp
    /// (shows the collapse reported for the 100 Hz clock).
    pub clock_tick: Option<Duration>,
}
