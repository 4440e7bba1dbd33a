//! Thousands of random scenarios, everything checked after every event. A seed that fails is shrunk, and printed with the line that runs it again.
//!
//! `STACKD_SIM_SEEDS=100000` runs more of them (`cargo test --release -p stackd-sim --test scenarios`, or `stackd-sim fuzz`).

use stackd_sim::scenario::{Reduction, Scenario, campaign, shrink};

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[test]
fn thousands_of_scenarios_hold_every_invariant() {
    let seeds = std::env::var("STACKD_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12_000);
    let c = campaign(1, seeds, threads(), 5, &|n| println!("{n} seeds"));
    let found: Vec<String> = c.found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} seeds fail:\n{}", found.len(), found.join("\n"));
    assert_eq!(c.seeds, seeds);
    // Most of what is simulated ends well: a campaign of connections that never come about would find nothing.
    let s = c.sum;
    println!("{s:?}, busiest {:?}", c.busiest);
    assert!(s.complete * 10 > s.connections * 7 && s.events > 300 * seeds, "{s:?}");
}

#[test]
fn a_seed_is_a_history() {
    let run = || Scenario::from_seed(77).run();
    assert_eq!(run(), run());
}

/// What is left out does not change what is left in.
#[test]
fn a_reduction_leaves_the_rest_as_it_was() {
    for seed in 0..200 {
        let whole = Scenario::from_seed(seed);
        let Some(label) = whole.labels().into_iter().next() else { continue };
        let reduced = whole.reduced(&Reduction { without: [label.clone()].into(), ..Reduction::default() });
        assert_eq!(reduced.labels(), whole.labels()[1..]);
        assert_eq!((reduced.rate, reduced.rtt, &reduced.flows), (whole.rate, whole.rtt, &whole.flows));
    }
}

/// Takes a scenario that must fail (its bound on events made absurd by a world in which nothing arrives), shrinks it, and runs the printed line.
#[test]
fn a_failing_seed_is_shrunk_and_its_line_reproduces_it() {
    let mut fails = 0;
    for seed in 0..400 {
        // Programs that abort are taken for polite ones: their flows cannot be complete, whatever else happens.
        let mut scenario = Scenario::from_seed(seed);
        scenario.expect_all_complete = true;
        let Err(failure) = scenario.check() else { continue };
        let (reduction, smaller) = shrink(&scenario, failure);
        let again = scenario.reduced(&reduction).check().expect_err("the smaller one fails too");
        assert_eq!(again, smaller, "seed {seed}: {}", scenario.rerun(&reduction));
        let left = scenario.reduced(&reduction);
        assert!(left.labels().len() + left.flows.len() <= scenario.labels().len() + scenario.flows.len());
        assert!(left.flows.len() == 1, "one flow is enough: {}", scenario.rerun(&reduction));
        fails += 1;
        if fails == 5 {
            return;
        }
    }
    panic!("only {fails} scenarios fail");
}
