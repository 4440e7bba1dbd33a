//! pfifo, bfifo, pfifo_fast and noqueue: order of arrival, in one band or in three.

use crate::config::{ConfigError, QdiscConfig};
use crate::{Dropped, Qdisc, QdiscStats, QueuedPacket};
use stackd_base::{DropReason, Instant, Rng};
use std::collections::VecDeque;

/// Band of each priority (`prio2band` of Linux's pfifo_fast: TC_PRIO_INTERACTIVE and _CONTROL first, bulk last).
const BANDS: [usize; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// The qdisc.
#[derive(Debug)]
pub struct Fifo<P> {
    config: QdiscConfig,
    bands: [VecDeque<P>; 3],
    stats: QdiscStats,
}

impl<P: QueuedPacket> Fifo<P> {
    /// Queue of any of the kinds pfifo, bfifo, pfifo_fast, noqueue; `WrongKind` for others.
    pub fn new(config: &QdiscConfig) -> Result<Self, ConfigError> {
        match config {
            QdiscConfig::NoQueue
            | QdiscConfig::Pfifo { .. }
            | QdiscConfig::Bfifo { .. }
            | QdiscConfig::PfifoFast { .. } => {
                Ok(Self { config: config.clone(), bands: Default::default(), stats: QdiscStats::default() })
            }
            QdiscConfig::Fq(_) | QdiscConfig::Netem(_) | QdiscConfig::Tbf(_) => {
                Err(ConfigError::WrongKind { have: "pfifo", got: config.kind() })
            }
        }
    }

    fn fits(&self, band: usize, len: u32) -> bool {
        match self.config {
            QdiscConfig::Pfifo { limit } | QdiscConfig::PfifoFast { limit } => self.bands[band].len() < limit as usize,
            QdiscConfig::Bfifo { limit } => self.stats.backlog + u64::from(len) <= u64::from(limit),
            QdiscConfig::NoQueue | QdiscConfig::Fq(_) | QdiscConfig::Netem(_) | QdiscConfig::Tbf(_) => true,
        }
    }
}

impl<P: QueuedPacket + core::fmt::Debug + Send> Qdisc<P> for Fifo<P> {
    fn kind(&self) -> &'static str {
        self.config.kind()
    }
    fn enqueue(&mut self, packet: P, _: Instant, _: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        let band = match self.config {
            QdiscConfig::PfifoFast { .. } => BANDS[usize::from(packet.priority() & 0xf)],
            _ => 0,
        };
        let len = packet.wire_len();
        if !self.fits(band, len) {
            self.stats.drops += 1;
            dropped.push(Dropped { packet, reason: DropReason::QdiscLimit });
            return;
        }
        self.stats.queued(len);
        self.bands[band].push_back(packet);
    }
    fn dequeue(&mut self, _: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) -> Option<P> {
        let packet = self.bands.iter_mut().find_map(VecDeque::pop_front)?;
        self.stats.sent(packet.wire_len(), packet.segments());
        Some(packet)
    }
    fn next_deadline(&self) -> Option<Instant> {
        (self.stats.qlen > 0).then_some(Instant::ZERO)
    }
    fn len(&self) -> usize {
        self.stats.qlen as usize
    }
    fn drain(&mut self) -> Vec<P> {
        (self.stats.qlen, self.stats.backlog) = (0, 0);
        self.bands.iter_mut().flat_map(|b| b.drain(..)).collect()
    }
    fn paces(&self) -> bool {
        false
    }
    fn config(&self) -> Option<QdiscConfig> {
        Some(self.config.clone())
    }
    fn stats(&self) -> QdiscStats {
        self.stats.clone()
    }
    fn change(&mut self, config: &QdiscConfig, _: Instant, _: &mut Vec<Dropped<P>>) -> Result<(), ConfigError> {
        if config.kind() != self.config.kind() {
            return Err(ConfigError::WrongKind { have: self.config.kind(), got: config.kind() });
        }
        // As in Linux, a lowered limit keeps what is queued and refuses what comes.
        self.config = config.clone();
        Ok(())
    }
}
