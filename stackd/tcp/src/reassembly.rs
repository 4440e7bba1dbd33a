//! Which parts of the receive stream arrived out of order. The bytes already lie in their final place.

use crate::connection::check::ensure;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Out-of-order ranges beyond `rcv_nxt`. Most connections have none most of the time: it takes room only while it holds some.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reassembly(Option<Box<Held>>);

/// Ranges, disjoint and not touching.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Held {
    ranges: BTreeMap<u64, u64>,
    /// A position in each range that should be reported, most recent first.
    recent: SmallVec<[u64; 4]>,
    bytes: u64,
}

impl Reassembly {
    /// Nothing is out of order.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
    /// End of the last range held.
    pub fn end(&self) -> Option<u64> {
        self.0.as_ref()?.ranges.last_key_value().map(|(_, &end)| end)
    }
    /// The first range held.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.0.as_ref()?.ranges.first_key_value().map(|(&start, &end)| (start, end))
    }
    /// Ranges held, each an entry of the tree.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |h| h.ranges.len())
    }
    /// Bytes held out of order.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |h| h.bytes)
    }

    /// `start..end` arrived. Returns the range that was held already when all or part of it is a duplicate (RFC 2883).
    pub fn insert(&mut self, start: u64, end: u64) -> Option<(u64, u64)> {
        self.0.get_or_insert_default().insert(start, end)
    }

    /// The in-order stream reaches `nxt` now; returns where it ends after joining what was waiting.
    pub fn advance(&mut self, nxt: u64) -> u64 {
        let Some(held) = &mut self.0 else { return nxt };
        let end = held.advance(nxt);
        if held.ranges.is_empty() {
            self.0 = None;
        }
        end
    }

    /// Up to `max` blocks to report, most recent first.
    pub fn sack_blocks(&self, max: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().flat_map(move |h| h.recent.iter().take(max).filter_map(|&p| h.around(p)))
    }
    /// Ranges lie apart, beyond `rcv_nxt` and within `edge` and the stream, and their bytes are counted.
    pub fn check(&self, rcv_nxt: u64, edge: u64, fin: Option<u64>) -> Result<(), String> {
        let Some(held) = &self.0 else { return Ok(()) };
        ensure!(!held.ranges.is_empty(), "reassembly: memory for nothing");
        let (mut bytes, mut last) = (0, rcv_nxt);
        for (&start, &end) in &held.ranges {
            ensure!(start > last && end > start, "reassembly: {start}..{end} after {last}");
            bytes += end - start;
            last = end;
        }
        ensure!(bytes == held.bytes, "reassembly: {bytes} bytes held, counted {}", held.bytes);
        ensure!(last <= edge, "reassembly: {last} lies beyond the window's edge {edge}");
        ensure!(fin.is_none_or(|f| last <= f), "reassembly: {last} lies beyond the end of the stream {fin:?}");
        ensure!(
            held.recent.iter().all(|&p| held.around(p).is_some()),
            "reassembly: {:?} to report, not there",
            held.recent
        );
        Ok(())
    }

    /// The whole held range around `at`.
    pub fn around(&self, at: u64) -> Option<(u64, u64)> {
        self.0.as_ref()?.around(at)
    }
}

impl Held {
    fn insert(&mut self, start: u64, end: u64) -> Option<(u64, u64)> {
        let mut duplicate: Option<(u64, u64)> = None;
        let (mut lo, mut hi) = (start, end);
        if let Some((&s, &e)) = self.ranges.range(..=start).next_back()
            && e >= start
        {
            if e > start {
                duplicate = Some((start, e.min(end)));
            }
            lo = s;
            hi = hi.max(e);
            self.ranges.remove(&s);
            self.bytes -= e - s;
        }
        while let Some((&s, &e)) = self.ranges.range(start..=end).next() {
            if s < end && duplicate.is_none() {
                duplicate = Some((s, e.min(end)));
            }
            hi = hi.max(e);
            self.ranges.remove(&s);
            self.bytes -= e - s;
        }
        self.ranges.insert(lo, hi);
        self.bytes += hi - lo;
        // RFC 2018, 4: "The first SACK block ... MUST specify the contiguous block of data containing the segment which
        // triggered this ACK".
        self.recent.retain(|p| *p < lo || *p >= hi);
        self.recent.truncate(3);
        self.recent.insert(0, start);
        duplicate
    }

    fn advance(&mut self, mut nxt: u64) -> u64 {
        while let Some(first) = self.ranges.first_entry() {
            if *first.key() > nxt {
                break;
            }
            let (s, e) = first.remove_entry();
            self.bytes -= e - s;
            nxt = nxt.max(e);
        }
        self.recent.retain(|p| *p >= nxt);
        nxt
    }

    fn around(&self, at: u64) -> Option<(u64, u64)> {
        let (&s, &e) = self.ranges.range(..=at).next_back()?;
        (at < e).then_some((s, e))
    }
}
