//! PROBE_BW's cycle of pacing gains: one phase probes for more bandwidth, the next drains the queue that this may have made, and
//! six cruise.

use super::gains;
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Gain, Instant, Rng};

/// Phases of a cycle.
const LEN: u8 = 8;
/// The phase that probes.
const PROBE: u8 = 0;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cycle {
    phase: u8,
    since: Instant,
}

/// What a phase's end depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhaseView {
    pub(super) now: Instant,
    pub(super) min_rtt: Option<Duration>,
    /// Packets marked lost on this ACK.
    pub(super) losses: u32,
    /// Packets in the network when this ACK arrived, before it was counted.
    pub(super) in_network: u64,
    /// The window that fills the pipe with the phase's gain.
    pub(super) inflight_at_gain: u64,
    /// The window that just fills the pipe.
    pub(super) inflight_at_one: u64,
}

impl Cycle {
    /// Starts anywhere but in the draining phase: flows that start together must not probe together.
    pub(super) fn start_at_random(now: Instant, rng: &mut dyn Rng) -> Self {
        // Seven phases are left; counting down from the last one, the draining phase (1) is the only one not reached.
        let phase = (LEN - rng.below(u32::from(LEN - 1)) as u8) % LEN;
        Self { phase, since: now }
    }

    pub(super) const fn gain(self) -> Gain {
        match self.phase {
            PROBE => gains::PROBE_UP,
            1 => gains::PROBE_DOWN,
            _ => Gain::ONE,
        }
    }

    pub(super) const fn is_probing(self) -> bool {
        self.phase == PROBE
    }

    /// Moves on when the phase has done its work. `gain` is the pacing gain in force.
    pub(super) fn advance_if_due(&mut self, gain: Gain, v: &PhaseView) {
        let full_length = v.min_rtt.is_some_and(|m| v.now - self.since > m);
        let due = match gain.cmp(&Gain::ONE) {
            core::cmp::Ordering::Equal => full_length,
            // Probing lasts until it has put gain * BDP into the network, or was told by a loss that this does not fit.
            core::cmp::Ordering::Greater => full_length && (v.losses > 0 || v.in_network >= v.inflight_at_gain),
            // Draining is over early when the queue is gone.
            core::cmp::Ordering::Less => full_length || v.in_network <= v.inflight_at_one,
        };
        if due {
            self.phase = (self.phase + 1) % LEN;
            self.since = v.now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackd_base::SplitMix64;

    fn view(ms: u64) -> PhaseView {
        PhaseView {
            now: Instant::from_nanos(ms * 1_000_000),
            min_rtt: Some(Duration::from_millis(10)),
            losses: 0,
            in_network: 100,
            inflight_at_gain: 125,
            inflight_at_one: 100,
        }
    }

    #[test]
    fn it_never_starts_by_draining_and_starts_everywhere_else() {
        let mut rng = SplitMix64::new(3);
        let phases: std::collections::BTreeSet<u8> =
            (0..1000).map(|_| Cycle::start_at_random(Instant::ZERO, &mut rng).phase).collect();
        assert_eq!(phases.into_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn probing_lasts_until_the_pipe_holds_a_quarter_more_or_something_is_lost() {
        let mut c = Cycle { phase: 0, since: Instant::ZERO };
        c.advance_if_due(c.gain(), &view(50));
        assert!(c.is_probing());
        c.advance_if_due(c.gain(), &PhaseView { losses: 1, ..view(51) });
        assert_eq!(c.gain(), gains::PROBE_DOWN);
        let mut c = Cycle { phase: 0, since: Instant::ZERO };
        c.advance_if_due(c.gain(), &PhaseView { in_network: 125, ..view(11) });
        assert_eq!(c.gain(), gains::PROBE_DOWN);
    }

    #[test]
    fn draining_ends_when_the_queue_is_gone_and_cruising_lasts_a_min_rtt() {
        let mut c = Cycle { phase: 1, since: Instant::ZERO };
        c.advance_if_due(c.gain(), &PhaseView { in_network: 101, ..view(1) });
        assert_eq!(c.phase, 1);
        c.advance_if_due(c.gain(), &view(1));
        assert_eq!(c.phase, 2);
        c.advance_if_due(c.gain(), &view(11));
        assert_eq!(c.phase, 2);
        c.advance_if_due(c.gain(), &view(12));
        assert_eq!(c.phase, 3);
    }
}
