//! One bulk flow over one bottleneck: the experiment that most questions about a congestion control come down to.

use crate::host::{Host, Violation};
use crate::link::{Link, LinkConfig, LinkStats};
use crate::loss::{Loss, Probability};
use crate::pair::{Pair, Side};
use serde::Serialize;
use stackd_base::{Bandwidth, Duration, Instant, Mss};
use stackd_qdisc::QdiscConfig;
use stackd_tcp::cc::CcInfo;
use stackd_tcp::{Config, FlowParams};

/// Virtual time does not begin at the origin: a zero timestamp must not be special to anybody.
const START: Instant = Instant::from_nanos(1_000_000_000);

/// An experiment; build with [`Experiment::new`] and the setters, run with [`Experiment::run`].
#[derive(Clone, Debug)]
pub struct Experiment {
    link: LinkConfig,
    reverse_loss: Loss,
    duration: Duration,
    bytes: Option<u64>,
    config: Config,
    mss: u32,
    qdisc: Option<QdiscConfig>,
    sample_every: Duration,
    seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Congestion control.
    pub congestion: &'static str,
    /// Seed.
    pub seed: u64,
    /// Seconds of virtual time.
    pub seconds: f64,
    /// Bytes the receiving application read.
    pub bytes: u64,
    /// Bits per second over all of it, handshake and start included.
    pub goodput: u64,
    /// Bits per second over its second half.
    pub goodput_second_half: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// The whole stream was delivered, and both ends closed.
    pub complete: bool,
    /// What the data direction of the link did.
    pub link: LinkStats,
    /// The flow over time.
    pub series: Vec<Point>,
    /// Events simulated.
    pub events: u64,
}

/// The flow at one time. Rates in bits per second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Point {
    /// Seconds since the start.
    pub time: f64,
    /// Since the point before.
    pub goodput: u64,
    /// Congestion window, packets.
    pub cwnd: u32,
    /// Pacing rate.
    pub pacing_rate: u64,
    /// Smoothed RTT, microseconds.
    pub srtt_us: u32,
    /// Packets not yet acknowledged.
    pub unacked: u32,
    /// Retransmitted segments so far.
    pub retransmits: u64,
    /// BBR's bandwidth estimate.
    pub bbr_bw: Option<u64>,
    /// BBR's mode.
    pub bbr_mode: Option<&'static str>,
}

impl Experiment {
    /// One flow for 10 s, on a link without a rate, a delay or a fault.
    pub fn new(congestion: &'static str) -> Self {
        Self {
            link: LinkConfig::default(),
            reverse_loss: Loss::None,
            duration: Duration::from_secs(10),
            bytes: None,
            config: Config { congestion, ..Config::default() },
            mss: 1460,
            qdisc: None,
            sample_every: Duration::from_millis(100),
            seed: 1,
        }
    }

    /// Rate of the bottleneck, in both directions.
    #[must_use]
    pub fn rate(mut self, rate: Bandwidth) -> Self {
        self.link.rate = Some(rate);
        self
    }
    /// Round-trip propagation time, half of it in each direction.
    #[must_use]
    pub fn rtt(mut self, rtt: Duration) -> Self {
        self.link.delay = rtt / 2;
        self
    }
    /// Random loss of data segments.
    #[must_use]
    pub fn loss(self, fraction: f64) -> Self {
        self.loss_process(Loss::Random(Probability::from_fraction(fraction)))
    }
    /// Any loss process on data segments.
    #[must_use]
    pub fn loss_process(mut self, loss: Loss) -> Self {
        self.link.loss = loss;
        self
    }
    /// Loss of what the receiver sends.
    #[must_use]
    pub fn reverse_loss(mut self, fraction: f64) -> Self {
        self.reverse_loss = Loss::Random(Probability::from_fraction(fraction));
        self
    }
    /// Changes anything else about the link.
    #[must_use]
    pub fn link(mut self, change: impl FnOnce(&mut LinkConfig)) -> Self {
        change(&mut self.link);
        self
    }
    /// How long to run, at most.
    #[must_use]
    pub const fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }
    /// Sends so many bytes and closes; without, sends to the end.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
    /// The largest send and receive buffers (`tcp_wmem`, `tcp_rmem`).
    #[must_use]
    pub fn buffers(self, wmem_max: u64, rmem_max: u64) -> Self {
        self.sysctls(|c| {
            for (range, max) in [(&mut c.wmem, wmem_max), (&mut c.rmem, rmem_max)] {
                *range = [range[0].min(max), range[1].min(max), max];
            }
        })
    }
    /// Changes any other sysctl or socket option of both hosts.
    #[must_use]
    pub fn sysctls(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }
    /// Both hosts' clocks tick so often a second (0 = nanoseconds); `clamp` = a span of zero counts as one tick.
    #[must_use]
    pub fn clock_hz(mut self, hz: u32, clamp: bool) -> Self {
        self.config.clock_tick = if hz == 0 { Duration::ZERO } else { Duration::from_nanos(1_000_000_000 / hz as u64) };
        self.config.clock_clamp = clamp;
        self
    }
    /// What the MSS option says (1460 on Ethernet).
    #[must_use]
    pub const fn mss(mut self, mss: u32) -> Self {
        self.mss = mss;
        self
    }
    /// A qdisc in front of the sender's device (fq then does the pacing); without, connections pace themselves.
    #[must_use]
    pub fn qdisc(mut self, qdisc: QdiscConfig) -> Self {
        self.qdisc = Some(qdisc);
        self
    }
    /// Distance of the points of the series.
    #[must_use]
    pub fn sample_every(mut self, span: Duration) -> Self {
        self.sample_every = span.max(Duration::from_micros(1));
        self
    }
    /// Another history.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn pair(&self) -> Result<Pair, Violation> {
        let flow = |src, dst| FlowParams { mss: Mss::new_clamped(self.mss), ..FlowParams::new(src, dst) };
        let qdisc = self.qdisc.as_ref().map(stackd_qdisc::build).transpose().map_err(|e| Violation(e.to_string()))?;
        let s = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Initial sequence numbers all over the space, so that wrapping is nothing rare.
        let client =
            Host::new(flow(40_000, 80), s as u32, self.config.clone(), self.bytes.unwrap_or(u64::MAX), s ^ 1, qdisc);
        let server = Host::new(flow(80, 40_000), (s >> 32) as u32, self.config.clone(), 0, s ^ 2, None);
        let up = Link::new(self.link, s ^ 3);
        let down = Link::new(LinkConfig { loss: self.reverse_loss, ..self.link }, s ^ 4);
        Ok(Pair::new(client, server, up, down, START))
    }

    /// Runs it.
    ///
    /// # Errors
    /// The first broken invariant of a connection, with the seed that breaks it.
    pub fn run(&self) -> Result<Report, Violation> {
        let mut pair = self.pair()?;
        let end = START + self.duration;
        let (mut series, mut last, mut half) = (Vec::new(), 0, 0);
        let mut at = START;
        while at < end {
            let step = self.sample_every.min(end - at);
            at += step;
            pair.run_until(at).map_err(|v| Violation(format!("seed {}: {}", self.seed, v.0)))?;
            let read = pair.host(Side::Server).consumed();
            if at - START <= self.duration / 2 {
                half = read;
            }
            series.push(point(&pair, at, read - last, step));
            last = read;
            if self.is_complete(&pair) {
                break;
            }
        }
        let span = at - START;
        let bits = |bytes, span| Bandwidth::from_delivery(bytes, span).as_bits_per_sec();
        Ok(Report {
            congestion: self.config.congestion,
            seed: self.seed,
            seconds: span.as_secs_f64(),
            bytes: last,
            goodput: bits(last, span),
            goodput_second_half: bits(last - half, self.duration / 2),
            retransmits: series.last().map_or(0, |p| p.retransmits),
            complete: self.is_complete(&pair),
            link: pair.link_stats(Side::Client),
            series,
            events: pair.events(),
        })
    }

    fn is_complete(&self, pair: &Pair) -> bool {
        let server = pair.host(Side::Server);
        self.bytes == Some(server.consumed())
            && server.peer_closed()
            && pair.host(Side::Client).is_finished()
            && server.is_finished()
    }
}

fn point(pair: &Pair, at: Instant, bytes: u64, step: Duration) -> Point {
    let mut p = Point {
        time: (at - START).as_secs_f64(),
        goodput: Bandwidth::from_delivery(bytes, step).as_bits_per_sec(),
        ..Point::default()
    };
    if let Some(conn) = pair.host(Side::Client).connection() {
        let i = conn.info(at, pair.host(Side::Client).config());
        p.cwnd = i.snd_cwnd;
        p.pacing_rate = i.pacing_rate.saturating_mul(8);
        p.srtt_us = i.rtt;
        p.unacked = i.unacked;
        p.retransmits = u64::from(i.total_retrans);
        if let CcInfo::Bbr { bw, mode, .. } = i.cc {
            p.bbr_bw = Some(bw.as_bits_per_sec());
            p.bbr_mode = Some(mode);
        }
    }
    p
}
