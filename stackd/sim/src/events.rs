//! The queue of what will happen, in virtual time.

use stackd_base::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Events ordered by time; those of one instant come in the order they were scheduled, so that a seed means one history.
#[derive(Debug)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    scheduled: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: 0 }
    }
}

impl<E> EventQueue<E> {
    /// `event` will happen at `at`.
    pub fn push(&mut self, at: Instant, event: E) {
        self.heap.push(Reverse(Entry { at, order: self.scheduled, event }));
        self.scheduled += 1;
    }

    /// Takes the next event, if there is one not after `until`.
    pub fn pop_until(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(e)| (e.at, e.event))
    }

    /// Events waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }
    /// Nothing will happen.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_keep_their_order() {
        let mut q = EventQueue::default();
        let at = Instant::from_nanos;
        for (t, e) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            q.push(at(t), e);
        }
        let mut seen = String::new();
        while let Some((_, e)) = q.pop_until(at(4)) {
            seen.push(e);
        }
        assert_eq!(seen, "ab");
        while let Some((_, e)) = q.pop_until(at(9)) {
            seen.push(e);
        }
        assert_eq!(seen, "abcd");
    }
}
