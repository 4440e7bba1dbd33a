//! Retransmission timeout (RFC 6298): backoff and giving up.

use crate::Config;
use serde::{Deserialize, Serialize};
use stackd_base::Duration;

/// What the one retransmission timer stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum RetransTimer {
    /// RFC 6298.
    Rto,
    /// Tail loss probe (RFC 8985, 7).
    Tlp,
    /// RACK's reordering window (RFC 8985, 6.3).
    Reorder,
    /// Zero-window probe (RFC 9293, 3.8.6.1).
    Persist,
}

/// RFC 6298, 5.5: "The host MUST set RTO <- RTO * 2 (\"back off the timer\")".
pub(crate) fn backed_off(rto: Duration, backoff: u8, cfg: &Config) -> Duration {
    let factor = 1u64.checked_shl(u32::from(backoff)).unwrap_or(u64::MAX);
    (rto * factor).min(cfg.rto_max)
}

/// How long `retries` backed-off timeouts starting at `base` last: the sum that `tcp_retries2` stands for.
pub(crate) fn retry_span(retries: u8, base: Duration, cfg: &Config) -> Duration {
    let mut total = Duration::ZERO;
    for i in 0..=retries {
        total += backed_off(base, i, cfg);
    }
    total
}
