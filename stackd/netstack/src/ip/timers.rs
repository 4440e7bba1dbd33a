//! One deadline for each of many things, found by time and by thing.

use stackd_base::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// Deadlines by key. At most one a key.
#[derive(Debug)]
pub(crate) struct TimerSet<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for TimerSet<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> TimerSet<K> {
    /// Sets, moves or (with `None`) takes away a deadline.
    pub(crate) fn set(&mut self, key: K, at: Option<Instant>) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }
    /// When a key is due.
    pub(crate) fn get(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }
    /// Takes one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.by_time.first().filter(|(t, _)| *t <= now)?;
        self.by_time.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }
    /// The earliest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(t, _)| *t)
    }
    /// Keeps those for which `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.by_time.retain(|(_, k)| keep(k));
        self.by_key.retain(|k, _| keep(k));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_deadline_a_key_in_order_of_time() {
        let t = Instant::from_nanos;
        let mut s = TimerSet::default();
        s.set(1, Some(t(10)));
        s.set(2, Some(t(5)));
        s.set(1, Some(t(3)));
        assert_eq!((s.next_deadline(), s.get(1), s.pop(t(2))), (Some(t(3)), Some(t(3)), None));
        assert_eq!((s.pop(t(9)), s.pop(t(9)), s.pop(t(9))), (Some(1), Some(2), None));
        s.set(3, Some(t(1)));
        s.set(3, None);
        assert_eq!((s.next_deadline(), s.pop(t(9))), (None, None));
    }
}
