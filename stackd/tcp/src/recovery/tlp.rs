//! Tail loss probes (RFC 8985, 7).

use crate::Config;
use serde::{Deserialize, Serialize};
use stackd_base::Duration;

/// Probe in flight.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tlp {
    /// `TLP.end_seq`: the probe is answered when this is acknowledged.
    pub end: Option<u64>,
    /// The probe repeated data, instead of carrying new data.
    pub is_retrans: bool,
}

/// What an ACK says of the probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Waiting,
    /// Nothing had been lost.
    Spurious,
    /// The probe repaired a loss: the window must answer for it.
    Repaired,
}

impl Tlp {
    /// RFC 8985, 7.4.2: detecting losses that the probe repaired.
    pub fn on_ack(&mut self, ack: u64, dsack: bool, plain_duplicate: bool) -> Verdict {
        let Some(end) = self.end else { return Verdict::Waiting };
        if ack < end {
            return Verdict::Waiting;
        }
        let verdict = if !self.is_retrans || dsack {
            Verdict::Spurious
        } else if ack > end {
            Verdict::Repaired
        } else if plain_duplicate {
            Verdict::Spurious
        } else {
            return Verdict::Waiting;
        };
        self.end = None;
        verdict
    }
}

/// RFC 8985, 7.2: "PTO = 2 * SRTT"; with one packet in flight, room for a delayed ACK.
pub(crate) fn probe_timeout(srtt: Option<Duration>, packets_out: u32, cfg: &Config) -> Duration {
    match srtt {
        None => crate::rtt::INITIAL_RTO,
        Some(s) => s * 2 + if packets_out == 1 { cfg.rto_min } else { Duration::from_millis(2) },
    }
}
