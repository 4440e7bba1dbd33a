//! Throttled flows by departure time: a 4-ary heap of (nanoseconds, flow).
//!
//! A throttled flow leaves the heap only when its time has come, so that no position has to be tracked. Four children to a
//! node halve the depth of a binary heap, and the four keys share a cache line.

/// The heap.
#[derive(Debug, Default)]
pub(super) struct Timers(Vec<(u64, u32)>);

impl Timers {
    pub(super) fn first(&self) -> Option<u64> {
        self.0.first().map(|e| e.0)
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, time: u64, flow: u32) {
        let heap = &mut self.0;
        let mut at = heap.len();
        heap.push((time, flow));
        while at > 0 {
            let parent = (at - 1) / 4;
            if heap[parent].0 <= time {
                break;
            }
            heap[at] = heap[parent];
            at = parent;
        }
        heap[at] = (time, flow);
    }

    /// The earliest flow, if its time is not later than `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, u32)> {
        let heap = &mut self.0;
        let first = *heap.first()?;
        if first.0 > now {
            return None;
        }
        let last = heap.pop()?;
        if heap.is_empty() {
            return Some(first);
        }
        let mut at = 0;
        loop {
            let child = at * 4 + 1;
            let end = (child + 4).min(heap.len());
            let Some(least) = (child..end).min_by_key(|&i| heap[i].0) else { break };
            if heap[least].0 >= last.0 {
                break;
            }
            heap[at] = heap[least];
            at = least;
        }
        heap[at] = last;
        Some(first)
    }
}
