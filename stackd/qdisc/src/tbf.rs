//! tbf: a token bucket in front of one queue. Packets leave at `rate`, after bursts of up to `burst` bytes.

use crate::config::{ConfigError, QdiscConfig, TbfConfig};
use crate::{Dropped, Qdisc, QdiscStats, QueuedPacket};
use stackd_base::{Bandwidth, DropReason, Instant, Rng};
use std::collections::VecDeque;

/// The qdisc. Tokens are nanoseconds of transmission time, as in Linux: exact at every rate.
#[derive(Debug)]
pub struct Tbf<P> {
    config: TbfConfig,
    queue: VecDeque<P>,
    /// Nanoseconds of transmission time saved, at `rate` and at `peakrate`. May be read only together with `at`.
    tokens: i128,
    peak_tokens: i128,
    at: Option<Instant>,
    stats: QdiscStats,
}

fn nanos(rate: Bandwidth, bytes: u32) -> i128 {
    rate.transmission_time(u64::from(bytes)).map_or(0, |d| i128::from(d.as_nanos()))
}

impl<P: QueuedPacket> Tbf<P> {
    /// An empty queue and a full bucket.
    pub fn new(config: TbfConfig) -> Self {
        let (tokens, peak_tokens) = (nanos(config.rate, config.burst), nanos(config.peakrate, config.mtu));
        Self { config, queue: VecDeque::new(), tokens, peak_tokens, at: None, stats: QdiscStats::default() }
    }

    fn largest(&self) -> u32 {
        if self.config.peakrate.is_zero() { self.config.burst } else { self.config.burst.min(self.config.mtu) }
    }

    /// Tokens as they are at `now`.
    fn filled(&self, now: Instant) -> (i128, i128) {
        let gained = i128::from(self.at.map_or(0, |at| (now - at).as_nanos()));
        let (c, full) = (&self.config, nanos(self.config.rate, self.config.burst));
        ((self.tokens + gained).min(full), (self.peak_tokens + gained).min(nanos(c.peakrate, c.mtu)))
    }

    fn put(&mut self, packet: P, dropped: &mut Vec<Dropped<P>>) {
        let len = packet.wire_len();
        if len > self.largest() || self.stats.backlog + u64::from(len) > u64::from(self.config.limit) {
            self.stats.drops += 1;
            dropped.push(Dropped { packet, reason: DropReason::QdiscLimit });
            return;
        }
        self.stats.queued(len);
        self.queue.push_back(packet);
    }
}

impl<P: QueuedPacket + core::fmt::Debug + Send> Qdisc<P> for Tbf<P> {
    fn kind(&self) -> &'static str {
        "tbf"
    }
    fn enqueue(&mut self, mut packet: P, _: Instant, _: &mut dyn Rng, dropped: &mut Vec<Dropped<P>>) {
        // A GSO packet that no bucket can hold goes through in its segments.
        while packet.wire_len() > self.largest() {
            match packet.split_first() {
                Some(first) => self.put(first, dropped),
                None => break,
            }
        }
        self.put(packet, dropped);
    }
    fn dequeue(&mut self, now: Instant, _: &mut dyn Rng, _: &mut Vec<Dropped<P>>) -> Option<P> {
        let len = self.queue.front()?.wire_len();
        let (tokens, peak) = self.filled(now);
        let (tokens, peak) = (tokens - nanos(self.config.rate, len), peak - nanos(self.config.peakrate, len));
        if tokens < 0 || peak < 0 {
            self.stats.overlimits += 1;
            return None;
        }
        (self.tokens, self.peak_tokens, self.at) = (tokens, peak, Some(now));
        let packet = self.queue.pop_front()?;
        self.stats.sent(len, packet.segments());
        Some(packet)
    }
    fn next_deadline(&self) -> Option<Instant> {
        let len = self.queue.front()?.wire_len();
        let missing =
            (nanos(self.config.rate, len) - self.tokens).max(nanos(self.config.peakrate, len) - self.peak_tokens);
        let wait = u64::try_from(missing.max(0)).unwrap_or(u64::MAX);
        Some(self.at.unwrap_or(Instant::ZERO) + stackd_base::Duration::from_nanos(wait))
    }
    fn len(&self) -> usize {
        self.queue.len()
    }
    fn drain(&mut self) -> Vec<P> {
        (self.stats.qlen, self.stats.backlog) = (0, 0);
        self.queue.drain(..).collect()
    }
    fn paces(&self) -> bool {
        false
    }
    fn config(&self) -> Option<QdiscConfig> {
        Some(QdiscConfig::Tbf(self.config.clone()))
    }
    fn stats(&self) -> QdiscStats {
        self.stats.clone()
    }
    fn change(&mut self, config: &QdiscConfig, now: Instant, _: &mut Vec<Dropped<P>>) -> Result<(), ConfigError> {
        let QdiscConfig::Tbf(new) = config else {
            return Err(ConfigError::WrongKind { have: "tbf", got: config.kind() });
        };
        new.check()?;
        if self.queue.iter().any(|p| p.wire_len() > new.burst) {
            // A packet larger than the bucket would block the queue for ever.
            return Err(ConfigError::Inconsistent { kind: "tbf", text: "burst is below the size of a queued packet" });
        }
        (self.tokens, self.peak_tokens) = self.filled(now);
        self.at = Some(now);
        self.config = new.clone();
        (self.tokens, self.peak_tokens) = self.filled(now);
        Ok(())
    }
}
