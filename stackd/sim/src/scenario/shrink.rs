//! The smallest scenario that still fails.

use super::{Reduction, Scenario};
use crate::net::Failure;
use std::collections::BTreeSet;

/// Runs that shrinking may take: each is short, but a failure may need all of its parts.
const MOST_RUNS: u32 = 300;

/// Takes out of a failing scenario whatever it fails without. Returns what was taken out, and the failure that is left.
pub fn shrink(scenario: &Scenario, failure: Failure) -> (Reduction, Failure) {
    let mut s = Shrinker { scenario, best: Reduction::default(), failure, runs: 0 };
    s.labels();
    s.flows();
    s.bytes();
    s.connections();
    // What was needed for much may not be needed for little.
    s.labels();
    (s.best, s.failure)
}

struct Shrinker<'a> {
    scenario: &'a Scenario,
    best: Reduction,
    failure: Failure,
    runs: u32,
}

impl Shrinker<'_> {
    /// Keeps `r` if the scenario fails with it too.
    fn attempt(&mut self, r: Reduction) -> bool {
        if self.runs >= MOST_RUNS || r == self.best {
            return false;
        }
        self.runs += 1;
        match self.scenario.reduced(&r).check() {
            Ok(_) => false,
            Err(failure) => {
                (self.best, self.failure) = (r, failure);
                true
            }
        }
    }

    /// Halves first, then single ones.
    fn labels(&mut self) {
        let mut size = self.scenario.labels().len();
        while size > 0 {
            let left: Vec<String> = {
                let gone = &self.best.without;
                self.scenario.labels().into_iter().filter(|l| !gone.contains(l)).collect()
            };
            for some in left.chunks(size) {
                let mut r = self.best.clone();
                r.without.extend(some.iter().cloned());
                self.attempt(r);
            }
            size /= 2;
        }
    }

    fn flows(&mut self) {
        let all: BTreeSet<u16> = self.scenario.flows.iter().map(|f| f.id).collect();
        if all.len() < 2 {
            return;
        }
        for &id in &all {
            if self.attempt(Reduction { flows: Some(BTreeSet::from([id])), ..self.best.clone() }) {
                return;
            }
        }
        for id in &all {
            let mut left = self.best.flows.clone().unwrap_or_else(|| all.clone());
            if left.len() > 1 && left.remove(id) {
                self.attempt(Reduction { flows: Some(left), ..self.best.clone() });
            }
        }
    }

    /// Bisects the length of the streams.
    fn bytes(&mut self) {
        let longest = |s: &Scenario| {
            s.flows.iter().flat_map(|f| [f.client.writing.total, f.server.writing.total]).max().unwrap_or(0)
        };
        let (mut passes, mut fails) = (0, longest(&self.scenario.reduced(&self.best)));
        if self.attempt(Reduction { max_bytes: Some(0), ..self.best.clone() }) {
            return;
        }
        while fails - passes > 1 + fails / 16 {
            let middle = passes + (fails - passes) / 2;
            if self.attempt(Reduction { max_bytes: Some(middle), ..self.best.clone() }) {
                fails = middle;
            } else {
                passes = middle;
            }
        }
    }

    fn connections(&mut self) {
        let mut most = self.scenario.flows.iter().map(|f| f.connections).max().unwrap_or(1);
        while most > 1 {
            most /= 2;
            if !self.attempt(Reduction { max_connections: Some(most), ..self.best.clone() }) {
                break;
            }
        }
    }
}
