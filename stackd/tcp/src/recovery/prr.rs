//! Proportional Rate Reduction (RFC 9937, formerly RFC 6937), for algorithms that leave the window in recovery to us.

use serde::{Deserialize, Serialize};

/// State of one recovery episode. All in packets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Prr {
    /// Window when it began (RecoverFS).
    prior_cwnd: u32,
    delivered: u32,
    /// Sent since it began.
    pub out: u32,
}

impl Prr {
    pub fn start(cwnd: u32) -> Self {
        Self { prior_cwnd: cwnd.max(1), delivered: 0, out: 0 }
    }

    /// The window after an ACK that delivered `acked_sacked` packets with `in_flight` left.
    pub fn cwnd(&mut self, ssthresh: u32, in_flight: u32, acked_sacked: u32, safe: bool) -> u32 {
        self.delivered = self.delivered.saturating_add(acked_sacked);
        let send = if in_flight > ssthresh {
            // RFC 9937, 6: "sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out".
            let target =
                (u64::from(self.delivered) * u64::from(ssthresh)).div_ceil(u64::from(self.prior_cwnd.max(1))) as u32;
            target.saturating_sub(self.out)
        } else {
            // "sndcnt = MAX(prr_delivered - prr_out, DeliveredData)", one more if SafeACK, at most up to ssthresh.
            let n = self.delivered.saturating_sub(self.out).max(acked_sacked) + u32::from(safe);
            n.min(ssthresh - in_flight)
        };
        // "If (prr_out is 0 AND sndcnt is 0): sndcnt = MSS": the first retransmission leaves at once.
        let send = if self.out == 0 { send.max(1) } else { send };
        in_flight + send
    }
}
