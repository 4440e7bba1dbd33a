//! Handing out chunks: last in, first out, so that the chunk given next is the one whose bytes are still in the cache.

use crate::region::Region;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The daemon's account of a region's chunks. One lock per 64 KiB moved, never contended with one shard.
#[derive(Debug)]
pub struct ChunkPool {
    region: Arc<Region>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Returned chunks, the hottest last.
    free: Vec<u32>,
    /// How many at the cold end of `free` had their pages given back already.
    punched: usize,
    /// Chunks from here on were never used.
    fresh: u32,
    in_use: u32,
    quota: u32,
}

impl ChunkPool {
    /// A pool over all of `region`'s chunks, of which `quota` may be in use at a time.
    pub fn new(region: Arc<Region>, quota: u32) -> Arc<Self> {
        let quota = quota.min(region.geometry().chunks);
        let state = State { free: Vec::new(), punched: 0, fresh: 0, in_use: 0, quota };
        Arc::new(Self { region, state: Mutex::new(state) })
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// A chunk, or `None` when the quota is used up.
    pub fn take(&self) -> Option<u32> {
        let mut s = self.lock();
        if s.in_use >= s.quota {
            return None;
        }
        let chunk = match s.free.pop() {
            Some(chunk) => chunk,
            None => {
                let fresh = s.fresh;
                if fresh >= self.region.geometry().chunks {
                    return None;
                }
                s.fresh += 1;
                fresh
            }
        };
        s.punched = s.punched.min(s.free.len());
        s.in_use += 1;
        Some(chunk)
    }

    /// Takes a chunk back.
    pub fn put(&self, chunk: u32) {
        let mut s = self.lock();
        s.in_use -= 1;
        s.free.push(chunk);
    }

    /// Chunks in use.
    pub fn in_use(&self) -> u32 {
        self.lock().in_use
    }

    /// Most chunks that may be in use.
    pub fn quota(&self) -> u32 {
        self.lock().quota
    }

    /// Changes the quota. What is in use beyond it stays until it is put back.
    pub fn set_quota(&self, chunks: u32) {
        self.lock().quota = chunks.min(self.region.geometry().chunks);
    }

    /// Gives the pages of free chunks back to the system, the coldest first, but for the `keep` hottest; at most `budget` of them,
    /// for each is a system call. Returns how many.
    pub fn trim(&self, keep: usize, budget: usize) -> io::Result<usize> {
        let mut s = self.lock();
        let until = s.free.len().saturating_sub(keep).min(s.punched + budget);
        let mut done = 0;
        while s.punched < until {
            self.region.punch(s.free[s.punched])?;
            s.punched += 1;
            done += 1;
        }
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
