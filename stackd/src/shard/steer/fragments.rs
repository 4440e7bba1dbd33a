//! Fragments belong to the shard of their packet, and only the first one tells which that is: those that come before it wait.

use super::packet::{self, Fragment, FragmentKey, Seen};
use super::{Owner, Steering};
use crate::shard::HandedFrame;
use std::collections::VecDeque;

/// Packets whose owner is remembered while their fragments arrive.
const KNOWN: usize = 256;
/// Fragments that wait for the first one of their packet.
const WAITING: usize = 64;

/// What one shard knows of the fragments that its queues receive.
#[derive(Debug, Default)]
pub struct Fragments {
    known: VecDeque<(FragmentKey, u8)>,
    waiting: VecDeque<(FragmentKey, HandedFrame)>,
}

/// What to do with a fragment.
#[derive(Debug)]
pub enum Verdict {
    /// It belongs to this shard, as do those that waited for it, to be handled after it.
    Owned(u8, Vec<HandedFrame>),
    /// It waits. True: the one that waited longest had to go for it.
    Kept(bool),
}

impl Fragments {
    /// Judges a fragment; `keep` makes a copy of it.
    pub fn judge(&mut self, steering: &Steering, frame: &[u8], keep: impl FnOnce() -> HandedFrame) -> Verdict {
        let Some(Seen::Fragment(Fragment { key, flow, first })) = packet::network(frame).map(packet::look) else {
            return Verdict::Owned(0, Vec::new());
        };
        if !first {
            if let Some((_, owner)) = self.known.iter().rev().find(|(k, _)| *k == key) {
                return Verdict::Owned(*owner, Vec::new());
            }
            let full = self.waiting.len() >= WAITING;
            if full {
                self.waiting.pop_front();
            }
            self.waiting.push_back((key, keep()));
            return Verdict::Kept(full);
        }
        let owner = match flow.map(|flow| steering.owner_of_flow(&flow, false)) {
            Some(Owner::Shard(owner) | Owner::Search { last: owner, .. }) => owner,
            // A ping, or a first fragment too short for ports: whoever puts it together finds out.
            Some(Owner::All | Owner::Fragment) | None => 0,
        };
        if self.known.len() >= KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((key, owner));
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(k, _)| *k == key);
        self.waiting = waiting;
        let ready: VecDeque<(FragmentKey, HandedFrame)> = ready;
        Verdict::Owned(owner, ready.into_iter().map(|(_, frame)| frame).collect())
    }
}
