//! The client's end of a ring pair.

use crate::abi::{Arg, Cqe, Sqe};
use crate::breach::Breach;
use crate::daemon::{drain_fd, ring_fd};
use crate::doorbell::Asleep;
use crate::region::{MappedRing, Region, RingPair};
use crate::ring::{Consumer, Producer};
use rustix::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// One thread's rings.
#[derive(Debug)]
pub struct ClientRing {
    sq: Producer<MappedRing>,
    cq: Consumer<MappedRing>,
    pair: RingPair,
    region: Arc<Region>,
    eventfd: Arc<OwnedFd>,
    doorbell: Arc<OwnedFd>,
}

impl ClientRing {
    /// Ring `index` of the region, fresh from the daemon, with its completion eventfd and the session's doorbell.
    /// `None`: the region has no such ring.
    pub fn new(region: Arc<Region>, index: u32, eventfd: Arc<OwnedFd>, doorbell: Arc<OwnedFd>) -> Option<Self> {
        let pair = region.ring_pair(index)?;
        let (sq, cq) = (Producer::new(pair.submission()), Consumer::new(pair.completion()));
        Some(Self { sq, cq, pair, region, eventfd, doorbell })
    }

    /// Publishes a call. `false`: the ring is full (the daemon is busy, or gone).
    pub fn push(&mut self, sqe: Sqe, arg: &Arg) -> Result<bool, Breach> {
        self.sq.push(sqe, arg)
    }

    /// Room for calls, as of now.
    pub fn free(&mut self) -> Result<u32, Breach> {
        self.sq.free()
    }

    /// Wakes the daemon if it sleeps. Returns whether a system call was needed.
    pub fn ring(&self) -> bool {
        let must = Asleep(self.region.daemon_asleep()).must_ring();
        if must {
            ring_fd(self.doorbell.as_fd());
        }
        must
    }

    /// Whether no answer waits.
    pub fn is_empty(&mut self) -> Result<bool, Breach> {
        self.cq.is_empty()
    }

    /// Takes one answer.
    pub fn pop(&mut self, arg: &mut Arg) -> Result<Option<Cqe>, Breach> {
        self.cq.pop(arg)
    }

    /// Before the last look ([`ClientRing::pop`]) and before blocking on [`ClientRing::eventfd`].
    pub fn prepare_sleep(&self) {
        Asleep(self.pair.client_asleep()).prepare();
    }

    /// After waking, or when the last look found something. `rang`: the eventfd is readable, and is emptied.
    pub fn awake(&self, rang: bool) {
        Asleep(self.pair.client_asleep()).awake();
        if rang {
            drain_fd(self.eventfd.as_fd());
        }
    }

    /// What the thread sleeps on.
    pub fn eventfd(&self) -> &Arc<OwnedFd> {
        &self.eventfd
    }
}
