//! When to acknowledge: delayed ACKs (RFC 1122, 4.2.3.2), quick ACKs at the start, interactive mode; as Linux decides.

use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant};

/// Linux's `TCP_ATO_MIN` and `TCP_DELACK_MIN`.
pub(crate) const ATO_MIN: Duration = Duration::from_millis(40);
/// Linux's `TCP_DELACK_MAX`. RFC 1122, 4.2.3.2: "the delay MUST be less than 0.5 seconds".
const DELACK_MAX: Duration = Duration::from_millis(200);
const MAX_QUICKACKS: u32 = 16;

/// Acknowledgement state of one connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AckPolicy {
    /// ACKs still to be sent at once.
    pub quick: u32,
    /// The flow is a dialogue: hold ACKs back, data will carry them.
    pub pingpong: bool,
    /// Estimated gap between data segments; zero before the first.
    pub ato: Duration,
    /// Estimate of the peer's segment size.
    pub rcv_mss: u32,
    /// When data arrived last.
    pub last_data: Instant,
    /// An ACK must leave now.
    pub now: bool,
    /// An ACK is owed.
    pub pending: bool,
    /// When a delayed ACK is due.
    pub deadline: Option<Instant>,
}

impl AckPolicy {
    pub fn new(mss: u32, now: Instant) -> Self {
        Self {
            quick: 0,
            pingpong: false,
            ato: Duration::ZERO,
            rcv_mss: mss.clamp(88, 536),
            last_data: now,
            now: false,
            pending: false,
            deadline: None,
        }
    }

    /// The next ACKs are sent at once: after loss, out-of-order arrival, at the start.
    pub fn enter_quick(&mut self, window: u64, max: u32) {
        let n = (window / (2 * u64::from(self.rcv_mss.max(1)))).clamp(2, u64::from(max.min(MAX_QUICKACKS))) as u32;
        self.quick = self.quick.max(n);
        self.pingpong = false;
        self.ato = ATO_MIN;
    }

    /// Data arrived: `len` bytes in segments of at most `len`, `rto` of our own sender.
    pub fn on_data(&mut self, now: Instant, len: u32, psh: bool, window: u64, mss: u32, rto: Duration) {
        let seg = len.min(mss);
        // A smaller size than before counts only where the sender did not stop for lack of data.
        if seg >= self.rcv_mss || (seg >= 536 && !psh) {
            self.rcv_mss = seg;
        }
        let gap = now - self.last_data;
        if self.ato.is_zero() {
            self.quick = self.quick.max((window / (2 * u64::from(self.rcv_mss.max(1)))).clamp(2, 16) as u32);
            self.ato = ATO_MIN;
        } else if gap <= ATO_MIN / 2 {
            self.ato = self.ato / 2 + ATO_MIN / 2;
        } else if gap < self.ato {
            self.ato = (self.ato / 2 + gap).min(rto);
        } else if gap > rto {
            // A long silence: the sender may have restarted with a small window.
            self.quick = self.quick.max(2);
        }
        self.last_data = now;
        self.pending = true;
    }

    /// Decides after data arrived. `unacked` bytes wait for an ACK; `at_once`: duplicates, gaps, `TCP_QUICKACK`.
    pub fn decide(&mut self, now: Instant, unacked: u64, at_once: bool, srtt: Option<Duration>) {
        if !self.pending {
            return;
        }
        // RFC 9293, 3.8.6.3: "an ACK should be generated for at least every second full-sized segment". Linux waits for the application to
        // read when the window would not grow; ours is another process, and the sender's clock must not wait for it.
        let two_segments = unacked > u64::from(self.rcv_mss);
        let quick = self.quick > 0 && !self.pingpong;
        if two_segments || quick || at_once {
            self.now = true;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + self.delay(srtt));
        }
    }

    fn delay(&self, srtt: Option<Duration>) -> Duration {
        let mut max = if self.pingpong { DELACK_MAX } else { Duration::from_millis(500) };
        if self.ato > ATO_MIN
            && let Some(s) = srtt
        {
            max = max.min(s.max(ATO_MIN));
        }
        self.ato.min(max).min(DELACK_MAX)
    }

    /// The delayed-ACK timer fired.
    pub fn on_timeout(&mut self, rto: Duration) {
        self.deadline = None;
        if !self.pending {
            return;
        }
        if self.pingpong {
            // Data did not come to carry it: no dialogue after all.
            self.pingpong = false;
            self.ato = ATO_MIN;
        } else {
            self.ato = (self.ato * 2).min(rto);
        }
        self.now = true;
    }

    /// A segment with ACK left.
    pub fn on_sent(&mut self, with_data: bool, now: Instant) {
        if self.pending {
            self.quick = self.quick.saturating_sub(1);
        }
        // Data soon after data: a dialogue.
        if with_data && !self.ato.is_zero() && now - self.last_data < self.ato {
            self.pingpong = true;
        }
        self.now = false;
        self.pending = false;
        self.deadline = None;
    }
}
