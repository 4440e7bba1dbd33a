//! Qdiscs from their configurations, and the exchange of a live one.

use crate::config::QdiscConfig;
use crate::fifo::Fifo;
use crate::fq::Fq;
use crate::netem::Netem;
use crate::tbf::Tbf;
use crate::{ConfigError, Dropped, Qdisc, QueuedPacket};
use stackd_base::{DropReason, Instant, Rng};

/// A qdisc with these parameters.
///
/// # Errors
/// Parameters that contradict each other.
pub fn build<P>(config: &QdiscConfig) -> Result<Box<dyn Qdisc<P>>, ConfigError>
where
    P: QueuedPacket + core::fmt::Debug + Send + 'static,
{
    Ok(match config {
        QdiscConfig::NoQueue
        | QdiscConfig::Pfifo { .. }
        | QdiscConfig::Bfifo { .. }
        | QdiscConfig::PfifoFast { .. } => Box::new(Fifo::new(config)?),
        QdiscConfig::Fq(c) => {
            c.check()?;
            Box::new(Fq::new(c.clone()))
        }
        QdiscConfig::Netem(c) => Box::new(Netem::new(c.clone())),
        QdiscConfig::Tbf(c) => {
            c.check()?;
            Box::new(Tbf::new(c.clone()))
        }
    })
}

/// Moves every packet from `old` to `new`; what the new one cannot hold goes to `dropped` as `QdiscReplaced`. Returns how many moved.
pub fn replace<P: QueuedPacket>(
    old: &mut dyn Qdisc<P>,
    new: &mut dyn Qdisc<P>,
    now: Instant,
    rng: &mut dyn Rng,
    dropped: &mut Vec<Dropped<P>>,
) -> usize {
    let before = dropped.len();
    for packet in old.drain() {
        new.enqueue(packet, now, rng, dropped);
    }
    for d in &mut dropped[before..] {
        d.reason = DropReason::QdiscReplaced;
    }
    new.len()
}
