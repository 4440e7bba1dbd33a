//! BBR v1 as Linux runs it: it models the path by its bottleneck bandwidth (windowed maximum of delivery-rate samples) and its round-trip
//! propagation time (windowed minimum), paces at the first and keeps about twice their product in flight. Loss is no signal to it.
//!
//! `model` holds the estimates and how each ACK updates them; `filter`, `aggregation`, `policer` what they are made of; `modes` the state
//! machine STARTUP, DRAIN, PROBE_BW, PROBE_RTT; `cycle` the gain cycle of PROBE_BW; `window` what may be in flight.

mod aggregation;
mod cycle;
mod filter;
mod model;
mod modes;
mod policer;
#[cfg(test)]
mod tests;
mod window;

use super::{CaState, CcConfig, CcEvent, CcInfo, CongestionControl, Control, RateSample, Saved};
use model::Model;
use modes::Mode;
use serde::{Deserialize, Serialize};
use stackd_base::{Bandwidth, Duration, Gain, Rng};

/// The gains, in the paper's words.
pub(super) mod gains {
    use stackd_base::Gain;

    /// 2/ln 2: the smallest that lets the rate double each round.
    pub(in super::super) const STARTUP: Gain = Gain(256 * 2885 / 1000 + 1);
    /// Its inverse: drains in one round what STARTUP queued.
    pub(in super::super) const DRAIN: Gain = Gain(256 * 1000 / 2885);
    /// PROBE_BW: two BDP in flight, for delayed and stretched ACKs.
    pub(in super::super) const CWND: Gain = Gain(512);
    pub(in super::super) const PROBE_UP: Gain = Gain::from_ratio(5, 4);
    pub(in super::super) const PROBE_DOWN: Gain = Gain::from_ratio(3, 4);
}

/// Pacing stays this much below the estimate, so that no queue builds from rounding.
const PACING_MARGIN_PERCENT: u64 = 1;
/// Never fewer packets than these in flight: enough for delayed ACKs.
const MIN_CWND: u32 = 4;
/// Below this pacing rate segments go out one by one.
const SINGLE_SEGMENT_RATE: Bandwidth = Bandwidth::from_bits_per_sec(1_200_000);
/// Most bytes in one GSO segment: 64 KiB less the headers.
const GSO_MAX: u64 = 65_535 - 160;
/// Before any RTT is known the initial window is paced out as if it were this.
const NOMINAL_RTT: Duration = Duration::from_millis(1);

/// The BBR algorithm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bbr {
    model: Model,
    mode: Mode,
    window: window::Window,
    pacing_rate: Bandwidth,
    pacing_gain: Gain,
    cwnd_gain: Gain,
    /// The pacing rate rests on a measured RTT, no longer on [`NOMINAL_RTT`].
    has_seen_rtt: bool,
    /// Sending resumed after the application had nothing to send, and no ACK has come since.
    idle_restart: bool,
    ssthresh: u32,
    mark_app_limited: bool,
    mss: u32,
}

impl Bbr {
    /// In STARTUP, pacing the initial window over the first RTT.
    pub fn new(config: &CcConfig) -> Self {
        let mut bbr = Self {
            model: Model::new(config),
            mode: Mode::Startup,
            window: window::Window::new(config.initial_cwnd),
            pacing_rate: Bandwidth::ZERO,
            pacing_gain: gains::STARTUP,
            cwnd_gain: gains::STARTUP,
            has_seen_rtt: false,
            idle_restart: false,
            ssthresh: u32::MAX,
            mark_app_limited: false,
            mss: config.mss.max(1),
        };
        bbr.init_pacing_rate(config.srtt);
        bbr
    }

    /// The initial window over the RTT, with STARTUP's gain. Called again when the first RTT sample is there: a connection made
    /// without one (a lost SYN, a SYN cookie) must not pace at a nominal rate until its first bandwidth sample.
    fn init_pacing_rate(&mut self, srtt: Option<Duration>) {
        let rtt = match srtt {
            Some(rtt) => {
                self.has_seen_rtt = true;
                rtt.max(Duration::from_micros(1))
            }
            None => NOMINAL_RTT,
        };
        let bw = Bandwidth::from_delivery(u64::from(self.window.cwnd()) * u64::from(self.mss), rtt);
        self.pacing_rate = paced(bw, gains::STARTUP);
    }

    /// Until the pipe is known to be full the rate only grows: an early low sample must not slow STARTUP down.
    fn set_pacing_rate(&mut self, gain: Gain, srtt: Option<Duration>) {
        if !self.has_seen_rtt && srtt.is_some() {
            self.init_pacing_rate(srtt);
        }
        let rate = paced(self.model.bw(), gain);
        if self.model.is_pipe_full() || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
    }

    /// Packets of one GSO segment: about a millisecond at the pacing rate, at least two except on slow paths.
    fn tso_segments(&self) -> u32 {
        let least = if self.pacing_rate < SINGLE_SEGMENT_RATE { 1 } else { 2 };
        let bytes = (self.pacing_rate.as_bytes_per_sec() >> 10).min(GSO_MAX);
        ((bytes / u64::from(self.mss)) as u32).max(least)
    }

    /// Packets that will be in the network when what is scheduled now leaves: those a pacing qdisc still holds are counted as in
    /// flight already, and by then the path will have delivered others.
    fn packets_in_network(&self, in_flight: u32, s: &RateSample) -> u64 {
        let delivered = self.model.max_bw().bytes_in(s.pacing_lead) / u64::from(self.mss);
        let mut then = u64::from(in_flight);
        if self.pacing_gain > Gain::ONE {
            then += u64::from(self.tso_segments());
        }
        then.saturating_sub(delivered)
    }

    /// Window that holds the BDP times `gain`, with the allowances for GSO and delayed ACKs.
    fn inflight(&self, bw: Bandwidth, gain: Gain) -> u64 {
        self.with_allowances(self.model.bdp(bw, gain, self.mss))
    }

    fn with_allowances(&self, packets: u64) -> u64 {
        // Three GSO segments: in the qdisc, in the sender's device, in the receiver's GRO; and even, for delayed ACKs.
        let mut w = packets + 3 * u64::from(self.tso_segments());
        w = w.next_multiple_of(2);
        // Small windows must be able to probe at all.
        if matches!(self.mode, Mode::ProbeBw(c) if c.is_probing()) {
            w += 2;
        }
        w
    }

    fn target_cwnd(&self) -> u64 {
        let bw = self.model.bw();
        let mut packets = self.model.bdp(bw, self.cwnd_gain, self.mss);
        if self.model.is_pipe_full() {
            packets += self.model.aggregation.cwnd_bonus(bw, self.mss);
        }
        self.with_allowances(packets)
    }
}

/// The rate at `gain`, less the margin.
fn paced(bw: Bandwidth, gain: Gain) -> Bandwidth {
    let rate = gain.apply(bw.as_bytes_per_sec());
    Bandwidth::from_bytes_per_sec((u128::from(rate) * u128::from(100 - PACING_MARGIN_PERCENT) / 100) as u64)
}

impl CongestionControl for Bbr {
    fn name(&self) -> &'static str {
        "bbr"
    }

    fn on_ack(&mut self, s: &RateSample, rng: &mut dyn Rng) -> Control {
        self.mss = s.mss.max(1);
        self.mark_app_limited = false;
        let round = self.model.update(s, matches!(self.mode, Mode::ProbeBw(_)), self.window.cwnd());
        if round.started {
            self.window.end_packet_conservation();
        }
        if round.probe_again {
            self.enter_probe_bw(s.now, rng);
        }
        self.update_mode(s, &round, rng);
        self.update_gains();
        self.set_pacing_rate(self.pacing_gain, s.srtt);
        let target = self.target_cwnd();
        let entered_recovery = self.window.update(s, target, self.model.is_pipe_full());
        if entered_recovery {
            self.model.start_round(s.delivered_total);
        }
        if matches!(self.mode, Mode::ProbeRtt(_)) {
            self.window.limit(MIN_CWND);
        }
        self.control()
    }

    fn on_event(&mut self, event: CcEvent, rng: &mut dyn Rng) -> Control {
        self.mark_app_limited = false;
        match event {
            CcEvent::EnterRecovery { .. } => self.window.save(matches!(self.mode, Mode::ProbeRtt(_))),
            // BBR v1 does not react to ECN.
            CcEvent::EcnReduce { .. } => {}
            CcEvent::Rto { now, in_flight, reduces } => {
                if reduces {
                    self.window.save(matches!(self.mode, Mode::ProbeRtt(_)));
                }
                self.window.enter_loss(in_flight);
                self.model.enter_loss(now, self.mss, matches!(self.mode, Mode::ProbeBw(_)));
            }
            // The next `on_ack` sees whether it is over for good: a recovery that follows on the same ACK is the same one to BBR,
            // with no second round of packet conservation. (Steady random loss at a large window is one long recovery.)
            CcEvent::ExitRecovery { .. } => {}
            CcEvent::Undo { .. } => {
                // What looked like a full pipe or a policer was reordering.
                self.model.forget_full_pipe_evidence();
                self.window.restore();
            }
            CcEvent::TxStart { now, app_limited } => {
                if app_limited {
                    self.restart_from_idle(now, rng);
                }
            }
            // The rate stopped growing for want of a buffer, not of a path.
            CcEvent::BufferGrew => {
                self.model.reopen_pipe();
                if !matches!(self.mode, Mode::ProbeRtt(_)) {
                    self.mode = Mode::Startup;
                    self.update_gains();
                }
            }
            // BBR's model outlives an idle span, and pacing bounds the burst: no slow start.
            CcEvent::IdleRestart { .. } => {}
            CcEvent::MssChanged { mss } => {
                // The model is in bytes per second, so pacing stays right; the window is a number of packets.
                self.window.rescale(self.mss, mss);
                self.mss = mss.max(1);
            }
        }
        self.control()
    }

    fn control(&self) -> Control {
        Control {
            cwnd: self.window.cwnd(),
            ssthresh: self.ssthresh,
            pacing_rate: Some(self.pacing_rate),
            send_quantum: Some(self.tso_segments() * self.mss),
            mark_app_limited: self.mark_app_limited,
        }
    }
    fn owns_recovery_cwnd(&self) -> bool {
        true
    }
    fn needs_pacing(&self) -> bool {
        true
    }
    fn saved(&self) -> Saved {
        Saved::Bbr(self.clone())
    }

    fn info(&self) -> CcInfo {
        CcInfo::Bbr {
            bw: self.model.bw(),
            min_rtt: self.model.min_rtt(),
            pacing_gain: self.pacing_gain,
            cwnd_gain: self.cwnd_gain,
            mode: self.mode.name(),
        }
    }
}
