//! Neighbours: who has which link-layer address, with Linux's states (RFC 4861, 7.3.2; used for ARP alike).

pub(crate) mod arp;
pub(crate) mod dad;
pub(crate) mod ndp;
pub(crate) mod slaac;
#[cfg(test)]
mod tests;

use crate::packet::Packet;
use stackd_base::{DropReason, Duration, Instant, PortId};
use stackd_qdisc::Dropped;
use stackd_wire::MacAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// A neighbour: an address on a port.
pub type NeighKey = (PortId, IpAddr);

/// `net.ipv4.neigh.default.*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighConfig {
    /// `base_reachable_time_ms`.
    pub base_reachable_time: Duration,
    /// `delay_first_probe_time`.
    pub delay_first_probe: Duration,
    /// `retrans_time_ms`.
    pub retrans: Duration,
    /// `mcast_solicit`.
    pub mcast_solicit: u32,
    /// `ucast_solicit`.
    pub ucast_solicit: u32,
    /// `unres_qlen_bytes`.
    pub unres_qlen_bytes: usize,
    /// `gc_thresh3`: most entries.
    pub max_entries: usize,
    /// `gc_stale_time`: how long an unused entry is kept once there are more than `gc_thresh1`.
    pub gc_stale: Duration,
    /// `gc_thresh1`: below this nothing is collected.
    pub gc_threshold: usize,
}

impl Default for NeighConfig {
    fn default() -> Self {
        Self {
            base_reachable_time: Duration::from_secs(30),
            delay_first_probe: Duration::from_secs(5),
            retrans: Duration::from_secs(1),
            mcast_solicit: 3,
            ucast_solicit: 3,
            unres_qlen_bytes: 212_992,
            max_entries: 1024,
            gc_stale: Duration::from_secs(60),
            gc_threshold: 128,
        }
    }
}

/// Neighbour unreachability detection, by Linux's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NudState {
    /// Being resolved; packets wait.
    Incomplete,
    /// Known, and recently confirmed.
    Reachable,
    /// Known, not recently confirmed.
    Stale,
    /// Used while stale; waiting for a transport to confirm it.
    Delay,
    /// Being asked whether it is still there.
    Probe,
    /// Did not answer.
    Failed,
    /// Set by an operator.
    Permanent,
}

/// What `ip neigh` shows.
#[derive(Debug)]
pub struct Neighbour {
    /// The state.
    pub state: NudState,
    /// Link-layer address, if known.
    pub mac: Option<MacAddr>,
    /// It said it is a router.
    pub router: bool,
    /// When it was last known to be there.
    pub confirmed: Instant,
    /// When a packet last went there.
    pub used: Instant,
    /// Solicitations sent in this state.
    pub probes: u32,
    timer: Option<Instant>,
    queue: VecDeque<Packet>,
    queued_bytes: usize,
}

/// What the sender of a packet is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// Send to this address.
    Ready(MacAddr),
    /// Queue; `solicit`: and ask now.
    Wait { solicit: bool },
    /// The table is full of entries that cannot go.
    Full,
}

/// What a neighbour said about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Observation {
    pub mac: Option<MacAddr>,
    /// It answers our question.
    pub solicited: bool,
    /// It may replace an address we know.
    pub replace: bool,
    /// `None`: it does not say.
    pub router: Option<bool>,
    /// An entry is made if there is none.
    pub create: bool,
}

/// What a timer asks for.
#[derive(Debug)]
pub(crate) enum NeighAction {
    /// Ask; to this address alone if given, else to the group.
    Solicit { key: NeighKey, unicast: Option<MacAddr> },
    /// It does not answer: these waited for it.
    Failed { packets: VecDeque<Packet> },
}

/// All neighbours of all ports.
#[derive(Debug, Default)]
pub struct NeighTable {
    entries: BTreeMap<NeighKey, Neighbour>,
    timers: BTreeSet<(Instant, NeighKey)>,
}

impl NeighTable {
    /// All of them, by port and address.
    pub fn iter(&self) -> impl Iterator<Item = (&NeighKey, &Neighbour)> {
        self.entries.iter()
    }
    /// One of them.
    pub fn get(&self, key: NeighKey) -> Option<&Neighbour> {
        self.entries.get(&key)
    }

    /// `ip neigh replace ... nud permanent`. Packets that waited are returned to be sent.
    #[must_use]
    pub(crate) fn set_permanent(&mut self, now: Instant, key: NeighKey, mac: MacAddr) -> Vec<Packet> {
        self.insert(now, key);
        let queue = self.with(key, |e| {
            (e.state, e.mac, e.timer) = (NudState::Permanent, Some(mac), None);
            e.take_queue()
        });
        queue.unwrap_or_default().into()
    }

    /// `ip neigh del`. Packets that waited are returned; `None`: there was no entry.
    pub(crate) fn remove(&mut self, key: NeighKey) -> Option<Vec<Packet>> {
        let mut e = self.entries.remove(&key)?;
        if let Some(t) = e.timer {
            self.timers.remove(&(t, key));
        }
        Some(e.take_queue().into())
    }

    pub(crate) fn remove_port(&mut self, port: PortId) -> Vec<Packet> {
        let keys: Vec<NeighKey> = self.entries.keys().filter(|k| k.0 == port).copied().collect();
        keys.into_iter().filter_map(|k| self.remove(k)).flatten().collect()
    }

    /// A packet wants to go there.
    pub(crate) fn resolve(&mut self, now: Instant, cfg: &NeighConfig, key: NeighKey) -> Resolution {
        if !self.entries.contains_key(&key) {
            if !self.make_room(now, cfg) {
                return Resolution::Full;
            }
            self.insert(now, key);
        }
        self.with(key, |e| {
            e.used = now;
            if e.state == NudState::Reachable && now - e.confirmed > cfg.base_reachable_time {
                e.state = NudState::Stale;
            }
            match (e.state, e.mac) {
                (NudState::Reachable | NudState::Permanent | NudState::Delay | NudState::Probe, Some(mac)) => {
                    Resolution::Ready(mac)
                }
                (NudState::Stale, Some(mac)) => {
                    // RFC 4861, 7.3.3: "The first time a node sends a packet to a neighbor whose entry is STALE, the sender
                    // changes the state to DELAY and sets a timer to expire in DELAY_FIRST_PROBE_TIME seconds."
                    (e.state, e.timer) = (NudState::Delay, Some(now + cfg.delay_first_probe));
                    Resolution::Ready(mac)
                }
                (NudState::Incomplete, _) if e.timer.is_some() => Resolution::Wait { solicit: false },
                _ => {
                    (e.state, e.probes, e.timer) = (NudState::Incomplete, 1, Some(now + cfg.retrans));
                    Resolution::Wait { solicit: true }
                }
            }
        })
        .unwrap_or(Resolution::Full)
    }

    /// Keeps a packet until the neighbour answers. The oldest give way when it is too much (Linux's `unres_qlen_bytes`).
    pub(crate) fn queue(
        &mut self,
        cfg: &NeighConfig,
        key: NeighKey,
        packet: Packet,
        dropped: &mut Vec<Dropped<Packet>>,
    ) {
        let Some(e) = self.entries.get_mut(&key) else {
            dropped.push(Dropped { packet, reason: DropReason::NeighUnresolved });
            return;
        };
        e.queued_bytes += packet.frame_len();
        e.queue.push_back(packet);
        while e.queued_bytes > cfg.unres_qlen_bytes {
            let Some(packet) = e.queue.pop_front() else { break };
            e.queued_bytes -= packet.frame_len();
            dropped.push(Dropped { packet, reason: DropReason::NeighQueueFull });
        }
    }

    /// The neighbour said something. Returns its address and what waited for it.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        cfg: &NeighConfig,
        key: NeighKey,
        o: Observation,
    ) -> Option<(MacAddr, VecDeque<Packet>)> {
        if !self.entries.contains_key(&key) {
            if !o.create || !self.make_room(now, cfg) {
                return None;
            }
            self.insert(now, key);
        }
        self.with(key, |e| {
            if e.state == NudState::Permanent {
                return None;
            }
            let known = e.mac.filter(|_| !matches!(e.state, NudState::Incomplete | NudState::Failed));
            let mac = o.mac.or(known)?;
            let differs = known.is_some_and(|k| k != mac);
            // RFC 4861, 7.2.5: "If the Override flag is clear and the supplied link-layer address differs from that in the cache":
            // REACHABLE becomes STALE and nothing else happens.
            if differs && !o.replace {
                if e.state == NudState::Reachable {
                    e.state = NudState::Stale;
                }
                return None;
            }
            e.mac = Some(mac);
            e.router = o.router.unwrap_or(e.router);
            if o.solicited {
                (e.state, e.confirmed, e.timer, e.probes) = (NudState::Reachable, now, None, 0);
            } else if known.is_none() || differs {
                (e.state, e.timer, e.probes) = (NudState::Stale, None, 0);
            }
            Some((mac, e.take_queue()))
        })
        .flatten()
    }

    /// A transport heard from it.
    pub(crate) fn confirm(&mut self, now: Instant, _: &NeighConfig, key: NeighKey) {
        // The usual case changes no timer and is looked up once.
        let Some(e) = self.entries.get_mut(&key) else { return };
        match e.state {
            NudState::Reachable => e.confirmed = now,
            NudState::Stale | NudState::Delay | NudState::Probe => {
                self.with(key, |e| (e.state, e.confirmed, e.timer, e.probes) = (NudState::Reachable, now, None, 0));
            }
            NudState::Incomplete | NudState::Failed | NudState::Permanent => {}
        }
    }

    /// A transport gets no answers through it: it is asked at once whether it is still there (RFC 4861, 7.3.3: PROBE).
    pub(crate) fn suspect(&mut self, now: Instant, key: NeighKey) {
        self.with(key, |e| {
            if matches!(e.state, NudState::Reachable | NudState::Stale | NudState::Delay) {
                (e.state, e.probes, e.timer) = (NudState::Probe, 0, Some(now));
            }
        });
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(t, _)| *t)
    }

    /// Whose timer is due.
    pub(crate) fn due(&self, now: Instant) -> Option<NeighKey> {
        self.timers.first().filter(|(t, _)| *t <= now).map(|(_, key)| *key)
    }

    /// Takes the first timer that is due. What to do about it, if anything.
    pub(crate) fn poll_timer(&mut self, now: Instant, cfg: &NeighConfig) -> Option<NeighAction> {
        let key = self.due(now)?;
        self.with(key, |e| e.expire(now, cfg, key)).flatten()
    }

    fn insert(&mut self, now: Instant, key: NeighKey) {
        self.entries.entry(key).or_insert_with(|| Neighbour {
            state: NudState::Incomplete,
            mac: None,
            router: false,
            confirmed: Instant::ZERO,
            used: now,
            probes: 0,
            timer: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
        });
    }

    /// Changes an entry and keeps the timer set in step.
    fn with<T>(&mut self, key: NeighKey, f: impl FnOnce(&mut Neighbour) -> T) -> Option<T> {
        let e = self.entries.get_mut(&key)?;
        let before = e.timer;
        let out = f(e);
        if e.timer != before {
            if let Some(t) = before {
                self.timers.remove(&(t, key));
            }
            if let Some(t) = e.timer {
                self.timers.insert((t, key));
            }
        }
        Some(out)
    }

    /// Makes room for one more entry: old unused ones go once there are many, the least recently used one when it is full.
    fn make_room(&mut self, now: Instant, cfg: &NeighConfig) -> bool {
        if self.entries.len() < cfg.gc_threshold {
            return true;
        }
        let idle = |e: &Neighbour| matches!(e.state, NudState::Stale | NudState::Failed | NudState::Reachable);
        if self.entries.len() >= cfg.max_entries {
            let old: Vec<NeighKey> =
                self.entries.iter().filter(|(_, e)| idle(e) && now - e.used > cfg.gc_stale).map(|(k, _)| *k).collect();
            for k in old {
                self.remove(k);
            }
        }
        if self.entries.len() < cfg.max_entries {
            return true;
        }
        let oldest = self.entries.iter().filter(|(_, e)| idle(e)).min_by_key(|(_, e)| e.used).map(|(k, _)| *k);
        oldest.is_some_and(|k| self.remove(k).is_some())
    }
}

impl Neighbour {
    fn take_queue(&mut self) -> VecDeque<Packet> {
        self.queued_bytes = 0;
        core::mem::take(&mut self.queue)
    }

    /// Packets waiting for an answer.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    fn expire(&mut self, now: Instant, cfg: &NeighConfig, key: NeighKey) -> Option<NeighAction> {
        self.timer = None;
        let limit = match self.state {
            NudState::Incomplete => cfg.mcast_solicit,
            NudState::Delay => {
                (self.state, self.probes) = (NudState::Probe, 0);
                cfg.ucast_solicit
            }
            NudState::Probe => cfg.ucast_solicit,
            NudState::Reachable | NudState::Stale | NudState::Failed | NudState::Permanent => return None,
        };
        if self.probes >= limit {
            (self.state, self.probes) = (NudState::Failed, 0);
            return Some(NeighAction::Failed { packets: self.take_queue() });
        }
        self.probes += 1;
        self.timer = Some(now + cfg.retrans);
        let unicast = if self.state == NudState::Probe { self.mac } else { None };
        Some(NeighAction::Solicit { key, unicast })
    }
}
