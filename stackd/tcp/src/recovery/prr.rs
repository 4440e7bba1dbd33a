//! Proportional Rate Reduction (RFC 9937, formerly RFC 6937), for algorithms that leave the window in recovery to us.

use serde::{Deserialize, Serialize};

/// State of one recovery episode. All in packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Prr {
    /// Flight when it began.
    recover_fs: u32,
    delivered: u32,
    /// Sent since it began.
    pub out: u32,
}

impl Prr {
    /// RFC 9937, 6: `recover_fs` = RecoverFS.
    pub fn start(recover_fs: u32) -> Self {
        Self { recover_fs: recover_fs.max(1), delivered: 0, out: 0 }
    }

    /// In the middle of an episode.
    #[cfg(test)]
    pub fn at(recover_fs: u32, delivered: u32, out: u32) -> Self {
        Self { recover_fs, delivered, out }
    }

    /// The window after an ACK that delivered `acked_sacked` packets with `in_flight` left.
    pub fn cwnd(&mut self, ssthresh: u32, in_flight: u32, acked_sacked: u32, safe: bool) -> u32 {
        self.delivered = self.delivered.saturating_add(acked_sacked);
        let send = if in_flight > ssthresh {
            // RFC 9937, 6: "sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out".
            let target =
                (u64::from(self.delivered) * u64::from(ssthresh)).div_ceil(u64::from(self.recover_fs.max(1))) as u32;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9937, 6: in flight above ssthresh: in proportion. RecoverFS = 20, ssthresh = 14: seven for every ten delivered.
    #[test]
    fn rfc9937_above_ssthresh_sends_in_proportion() {
        let mut p = Prr::start(20);
        let mut in_flight = 19;
        let mut sent = 0;
        for _ in 0..10 {
            in_flight -= 1;
            let n = p.cwnd(14, in_flight.max(15), 1, true).saturating_sub(in_flight.max(15));
            p.out += n;
            sent += n;
        }
        assert_eq!(sent, 7);
    }

    /// Below ssthresh, without SafeACK: no more than was delivered (the conservative reduction bound); with it one more (slow start).
    #[test]
    fn rfc9937_below_ssthresh_conserves_packets_unless_the_ack_is_safe() {
        let mut p = Prr::at(20, 6, 6);
        assert_eq!(p.cwnd(10, 4, 2, false), 4 + 2);
        let mut p = Prr::at(20, 6, 6);
        assert_eq!(p.cwnd(10, 4, 2, true), 4 + 3);
        // What was delivered and not yet used may be caught up on, never beyond ssthresh.
        let mut p = Prr::at(20, 9, 1);
        assert_eq!(p.cwnd(10, 4, 1, true), 10);
    }

    #[test]
    fn rfc9937_the_first_retransmission_always_leaves() {
        assert_eq!(Prr::start(20).cwnd(10, 19, 0, false), 20);
        assert_eq!(Prr::at(20, 1, 1).cwnd(10, 19, 0, false), 19);
    }
}
