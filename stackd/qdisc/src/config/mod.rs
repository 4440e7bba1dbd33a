//! Parameters of qdiscs, read and written in `tc`'s own words: `"fq flow_limit 200".parse::<QdiscConfig>()`.

mod parse;
#[cfg(test)]
mod tests;
mod units;

use core::fmt;
use stackd_base::{Bandwidth, Duration};
use units::{show_rate, show_time};

/// A mistake in a configuration: what was wrong, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("unknown qdisc \"{0}\"; want one of fq, pfifo_fast, pfifo, bfifo, netem, tbf, noqueue")]
    UnknownKind(String),
    #[error("{kind}: unknown parameter \"{key}\"; want one of {want}")]
    UnknownKey { kind: &'static str, key: String, want: &'static str },
    #[error("{key}: a value is missing")]
    MissingValue { key: String },
    #[error("{key}: \"{value}\" is not {want}")]
    BadValue { key: String, value: String, want: &'static str },
    #[error("{kind}: {text}")]
    Inconsistent { kind: &'static str, text: &'static str },
    #[error("the qdisc is {have}, these are parameters of {got}; replace it to change the kind")]
    WrongKind { have: &'static str, got: &'static str },
}

/// A qdisc's kind and parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum QdiscConfig {
    /// No limit, no order but arrival.
    NoQueue,
    /// One queue of so many packets.
    Pfifo {
        /// Packets.
        limit: u32,
    },
    /// One queue of so many bytes.
    Bfifo {
        /// Bytes.
        limit: u32,
    },
    /// Three bands by priority, so many packets each.
    PfifoFast {
        /// Packets a band (txqueuelen).
        limit: u32,
    },
    /// Fair queueing with pacing.
    Fq(FqConfig),
    /// Network emulator.
    Netem(NetemConfig),
    /// Token bucket.
    Tbf(TbfConfig),
}

/// fq's parameters; defaults are Linux's for an Ethernet MTU, apart from `timer_slack`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FqConfig {
    /// Packets in all.
    pub limit: u32,
    /// Packets a flow.
    pub flow_limit: u32,
    /// Bytes a flow sends in one round.
    pub quantum: u32,
    /// Bytes a new flow may send first.
    pub initial_quantum: u32,
    /// Upper rate of every flow.
    pub maxrate: Bandwidth,
    /// Obey the pacing rates of sockets.
    pub pacing: bool,
    /// Flows the table is made for; it grows by itself.
    pub buckets: u32,
    /// Idle time after which a flow gets a fresh quantum.
    pub refill_delay: Duration,
    /// At or below this rate every packet is spaced on its own, whatever credit is left.
    pub low_rate_threshold: Bandwidth,
    /// How late a wake-up is asked for. Linux has 10 us, to save timer interrupts; the default here is zero: the shell
    /// watches the clock.
    pub timer_slack: Duration,
    /// How far ahead a departure time may lie.
    pub horizon: Duration,
    /// Beyond it: drop; else send at the horizon.
    pub horizon_drop: bool,
    /// Waiting time beyond which ECT packets are marked; `Duration::MAX` = never.
    pub ce_threshold: Duration,
    /// Packets without a socket share this many flows, less one.
    pub orphan_mask: u32,
}

impl Default for FqConfig {
    fn default() -> Self {
        Self {
            limit: 10_000,
            flow_limit: 100,
            quantum: 2 * 1514,
            initial_quantum: 10 * 1514,
            maxrate: Bandwidth::MAX,
            pacing: true,
            buckets: 1024,
            refill_delay: Duration::from_millis(40),
            low_rate_threshold: Bandwidth::from_bits_per_sec(550_000),
            timer_slack: Duration::ZERO,
            horizon: Duration::from_secs(10),
            horizon_drop: true,
            ce_threshold: Duration::MAX,
            orphan_mask: 1023,
        }
    }
}

impl FqConfig {
    /// Whether the parameters make sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text| Err(ConfigError::Inconsistent { kind: "fq", text });
        if self.quantum == 0 || self.quantum > 1 << 20 {
            // With no quantum the round robin would never end.
            return wrong("quantum must be between 1 and 1048576 bytes");
        }
        if self.initial_quantum > i32::MAX as u32 {
            return wrong("initial_quantum must be below 2^31 bytes");
        }
        if !self.buckets.is_power_of_two() || self.buckets > 1 << 18 {
            return wrong("buckets must be a power of two up to 262144");
        }
        if self.flow_limit == 0 {
            return wrong("flow_limit must be at least 1 packet");
        }
        Ok(())
    }
}

/// How netem draws delays around their mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Distribution {
    #[default]
    Uniform,
    Normal,
    Pareto,
    ParetoNormal,
}

impl Distribution {
    /// tc's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::ParetoNormal => "paretonormal",
        }
    }
}

/// A probability in percent and the correlation with the previous decision in percent.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Chance {
    /// 0..=100.
    pub percent: f64,
    /// 0..=100.
    pub correlation: f64,
}

/// netem's loss models.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// Each segment on its own (or correlated with the one before).
    Random(Chance),
    /// 4-state Markov chain: p13 p31 p32 p23 p14, percent each.
    State([f64; 5]),
    /// Gilbert-Elliott: p, r, 1-h, 1-k, percent each.
    Gemodel([f64; 4]),
}

/// netem's parameters.
#[derive(Clone, PartialEq, Debug)]
pub struct NetemConfig {
    /// Segments in all, those in flight included.
    pub limit: u32,
    /// Mean delay.
    pub delay: Duration,
    /// Half width (uniform) or standard deviation (others).
    pub jitter: Duration,
    /// Correlation of successive delays, percent.
    pub delay_correlation: f64,
    /// Of the delay.
    pub distribution: Distribution,
    /// Which segments are lost.
    pub loss: Loss,
    /// Which are doubled.
    pub duplicate: Chance,
    /// Which have a bit flipped.
    pub corrupt: Chance,
    /// Which skip the delay.
    pub reorder: Chance,
    /// Only each gap-th segment may skip it; 0 = none does.
    pub gap: u32,
    /// Rate of the emulated link; zero = infinite.
    pub rate: Bandwidth,
    /// Bytes added to each segment when its time on the link is computed.
    pub packet_overhead: i32,
    /// Mark CE instead of losing, where the segment is ECT.
    pub ecn: bool,
    /// Seed of the decisions; `None` = the stack's random source.
    pub seed: Option<u64>,
}

impl Default for NetemConfig {
    fn default() -> Self {
        Self {
            limit: 1000,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            delay_correlation: 0.0,
            distribution: Distribution::Uniform,
            loss: Loss::Random(Chance::default()),
            duplicate: Chance::default(),
            corrupt: Chance::default(),
            reorder: Chance::default(),
            gap: 0,
            rate: Bandwidth::ZERO,
            packet_overhead: 0,
            ecn: false,
            seed: None,
        }
    }
}

/// tbf's parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TbfConfig {
    /// Sustained rate.
    pub rate: Bandwidth,
    /// Bytes that may leave at once.
    pub burst: u32,
    /// Bytes queued.
    pub limit: u32,
    /// Rate of a burst; zero = unlimited.
    pub peakrate: Bandwidth,
    /// Bytes that may leave at once at `peakrate`.
    pub mtu: u32,
}

impl QdiscConfig {
    /// Kind as in `tc`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoQueue => "noqueue",
            Self::Pfifo { .. } => "pfifo",
            Self::Bfifo { .. } => "bfifo",
            Self::PfifoFast { .. } => "pfifo_fast",
            Self::Fq(_) => "fq",
            Self::Netem(_) => "netem",
            Self::Tbf(_) => "tbf",
        }
    }

    /// Linux's default qdisc of a kind's name (what `net.core.default_qdisc` takes).
    pub fn default_of(kind: &str) -> Result<Self, ConfigError> {
        kind.parse()
    }
}

fn show_chance(f: &mut fmt::Formatter<'_>, name: &str, c: Chance) -> fmt::Result {
    if c.percent > 0.0 {
        write!(f, " {name} {}%", c.percent)?;
        if c.correlation > 0.0 {
            write!(f, " {}%", c.correlation)?;
        }
    }
    Ok(())
}

impl fmt::Display for QdiscConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::NoQueue => Ok(()),
            Self::Pfifo { limit } | Self::Bfifo { limit } | Self::PfifoFast { limit } => write!(f, " limit {limit}"),
            Self::Fq(c) => c.fmt(f),
            Self::Netem(c) => c.fmt(f),
            Self::Tbf(c) => {
                write!(f, " rate {} burst {} limit {}", show_rate(c.rate), c.burst, c.limit)?;
                if !c.peakrate.is_zero() {
                    write!(f, " peakrate {} mtu {}", show_rate(c.peakrate), c.mtu)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for FqConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " limit {} flow_limit {} buckets {}", self.limit, self.flow_limit, self.buckets)?;
        write!(f, " orphan_mask {} quantum {}", self.orphan_mask, self.quantum)?;
        write!(f, " initial_quantum {} {}", self.initial_quantum, if self.pacing { "pacing" } else { "nopacing" })?;
        if self.maxrate != Bandwidth::MAX {
            write!(f, " maxrate {}", show_rate(self.maxrate))?;
        }
        write!(f, " low_rate_threshold {}", show_rate(self.low_rate_threshold))?;
        write!(f, " refill_delay {}", show_time(self.refill_delay))?;
        if self.ce_threshold != Duration::MAX {
            write!(f, " ce_threshold {}", show_time(self.ce_threshold))?;
        }
        write!(f, " timer_slack {} horizon {}", show_time(self.timer_slack), show_time(self.horizon))?;
        f.write_str(if self.horizon_drop { " horizon_drop" } else { " horizon_cap" })
    }
}

impl fmt::Display for NetemConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " limit {}", self.limit)?;
        if !self.delay.is_zero() || !self.jitter.is_zero() {
            write!(f, " delay {}", show_time(self.delay))?;
            if !self.jitter.is_zero() {
                write!(f, " {}", show_time(self.jitter))?;
                if self.delay_correlation > 0.0 {
                    write!(f, " {}%", self.delay_correlation)?;
                }
                if self.distribution != Distribution::Uniform {
                    write!(f, " distribution {}", self.distribution.name())?;
                }
            }
        }
        match self.loss {
            Loss::Random(c) => show_chance(f, "loss", c)?,
            Loss::State(p) => write!(f, " loss state {}% {}% {}% {}% {}%", p[0], p[1], p[2], p[3], p[4])?,
            Loss::Gemodel(p) => write!(f, " loss gemodel {}% {}% {}% {}%", p[0], p[1], p[2], p[3])?,
        }
        show_chance(f, "duplicate", self.duplicate)?;
        show_chance(f, "reorder", self.reorder)?;
        show_chance(f, "corrupt", self.corrupt)?;
        if !self.rate.is_zero() {
            write!(f, " rate {}", show_rate(self.rate))?;
            if self.packet_overhead != 0 {
                write!(f, " {}", self.packet_overhead)?;
            }
        }
        if self.ecn {
            f.write_str(" ecn")?;
        }
        if self.gap != 0 {
            write!(f, " gap {}", self.gap)?;
        }
        self.seed.map_or(Ok(()), |seed| write!(f, " seed {seed}"))
    }
}
