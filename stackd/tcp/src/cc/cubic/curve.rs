//! The curve of one stage of congestion avoidance (RFC 9438, 4.2 to 4.5). Windows are in packets, times in seconds.

use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// C = 0.4 (4.1): how fast the curve climbs, in packets per cubed second.
const C: f64 = 0.4;
/// alpha_cubic = 3 * (1 - beta) / (1 + beta) with beta = 0.7 (4.3): Reno's growth for a flow that only gives up 30 %.
const ALPHA: f64 = 3.0 * 0.3 / 1.7;
/// Growth per ACK that is barely any: a packet in 100 windows.
const NEARLY_FLAT: f64 = 100.0;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Epoch {
    start: Instant,
    /// Seconds from the start to the plateau.
    k: f64,
    /// The plateau.
    origin: f64,
    /// What Reno would have (W_est).
    w_est: f64,
    /// The window before the reduction: from here on W_est grows as Reno's.
    cwnd_prior: f64,
}

impl Epoch {
    /// The stage begins with window `cwnd`; `w_max` = where the last loss was, 0 if unknown; `cwnd_prior` = the window before the last
    /// reduction.
    pub(super) fn new(now: Instant, cwnd: f64, w_max: f64, cwnd_prior: f64) -> Self {
        // 4.2: K = cubic_root((W_max - cwnd_epoch) / C); beyond W_max the curve only has its convex part.
        let (k, origin) = if cwnd < w_max { (((w_max - cwnd) / C).cbrt(), w_max) } else { (0.0, cwnd) };
        Self { start: now, k, origin, w_est: cwnd, cwnd_prior: cwnd_prior.max(cwnd) }
    }

    /// Takes an idle span out of the stage's time.
    pub(super) fn skip(&mut self, idle: Duration) {
        self.start += idle;
    }

    /// W_cubic(t), `t` seconds after the start.
    pub(super) fn w_cubic(&self, t: f64) -> f64 {
        let d = t - self.k;
        self.origin + C * d * d * d
    }

    /// How many packets must be ACKed for the window to grow by one, after `acked` more were.
    pub(super) fn packets_per_increment(&mut self, now: Instant, cwnd: f64, rtt: Duration, acked: u32) -> u32 {
        let t = (now - self.start).as_secs_f64();
        // 4.2: the target is the curve one RTT ahead, at least cwnd and at most 1.5 * cwnd.
        let target = self.w_cubic(t + rtt.as_secs_f64()).clamp(cwnd, cwnd * 1.5);
        let mut per = if target > cwnd { cwnd / (target - cwnd) } else { cwnd * NEARLY_FLAT };
        // 4.3: W_est = W_est + alpha_cubic * segments_acked / cwnd; "once W_est has grown to reach ... cwnd_prior, the
        // sender SHOULD set alpha_cubic to 1".
        let alpha = if self.w_est >= self.cwnd_prior { 1.0 } else { ALPHA };
        self.w_est += alpha * f64::from(acked) / cwnd;
        if self.w_est > cwnd {
            per = per.min(cwnd / (self.w_est - cwnd));
        }
        // 4.4 caps growth at 1.5 windows per RTT: one packet in two.
        per.clamp(2.0, f64::from(u32::MAX)) as u32
    }
}
