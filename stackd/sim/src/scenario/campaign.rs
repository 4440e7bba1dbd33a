//! Many seeds, over all processors.

use super::{Reduction, Scenario, Verdict, shrink};
use crate::net::Failure;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A seed that fails, made small.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What it fails without.
    pub reduction: Reduction,
    /// What is left of the failure.
    pub failure: Failure,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = format!("stackd-sim scenario --seed {}{}", self.seed, self.reduction.arguments());
        write!(f, "seed {}: {}\n  rerun: {line}", self.seed, self.failure)
    }
}

/// What came of a campaign.
#[derive(Clone, Default, Debug)]
pub struct Campaign {
    /// Seeds that ran.
    pub seeds: u64,
    /// Sums over those in which nothing was wrong.
    pub sum: Verdict,
    /// Largest share of the permitted events that a seed used, in thousandths, and which seed.
    pub busiest: (u64, u64),
    /// Seeds that failed.
    pub found: Vec<Found>,
}

impl Scenario {
    /// As [`run`](Self::run); a panic is a failure like any other.
    ///
    /// # Errors
    /// The first thing that must never be.
    pub fn check(&self) -> Result<Verdict, Failure> {
        catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let at = stackd_base::Instant::ZERO;
            Err(Failure { at, node: None, what: format!("panicked: {text}") })
        })
    }
}

/// Runs seeds `first..first + count` on `threads` threads; after `most` failures no new seed begins. Failures are shrunk. `progress` is told
/// of every thousandth seed.
pub fn campaign(first: u64, count: u64, threads: usize, most: usize, progress: &(dyn Fn(u64) + Sync)) -> Campaign {
    let next = AtomicU64::new(first);
    let result = Mutex::new(Campaign::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let scenario = Scenario::from_seed(seed);
                    let outcome = scenario.check();
                    let found = outcome.as_ref().err().map(|failure| {
                        let (reduction, failure) = shrink(&scenario, failure.clone());
                        Found { seed, reduction, failure }
                    });
                    // A thread that panicked under the lock left a sum of whole seeds.
                    let mut c = result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    c.seeds += 1;
                    if let Ok(v) = outcome {
                        c.busiest = c.busiest.max((v.events * 1000 / v.most_events.max(1), seed));
                        c.sum += v;
                    }
                    c.found.extend(found);
                    if c.found.len() >= most {
                        next.store(first + count, Ordering::Relaxed);
                    }
                    if c.seeds.is_multiple_of(1000) {
                        progress(c.seeds);
                    }
                }
            });
        }
    });
    let mut c = result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    c.found.sort_by_key(|f| f.seed);
    c
}
