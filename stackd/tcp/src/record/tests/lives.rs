//! Lives that are lived twice.

use super::{Shelf, record};
use crate::record::{EndReason, Recording, Replay, Start, View, Way};
use crate::tests::link::{Impair, Pair, percent};
use crate::{Config, State};
use stackd_base::{Duration, Mib};
use std::cell::RefCell;

thread_local! {
    /// For the server's birth, which happens within the simulation.
    static SERVER: RefCell<Option<Shelf>> = const { RefCell::new(None) };
}

fn config(cc: &'static str) -> Config {
    Config { congestion: cc, wmem: [4096, 16_384, 8 << 20], rmem: [4096, 131_072, 8 << 20], ..Config::default() }
}

fn lossy(seed: u64) -> Impair {
    Impair { loss: percent(2), reorder: percent(2), duplicate: percent(1), ..Impair::clean(50, 10 + seed) }
}

/// A transfer in both directions to its end, both ends recorded from birth.
fn recorded(cc: &'static str, seed: u64) -> (Pair, Vec<u8>) {
    let shelf = Shelf::new();
    let mut p = Pair::new(config(cc), config(cc), lossy(seed), seed);
    (p.ends[0].to_write, p.ends[1].to_write) = (600_000, 100_000);
    let start = Start::Connect { flow: p.ends[0].conn.flow, iss: p.ends[0].conn.iss };
    let now = p.now;
    record(&mut p.ends[0], now, &start, shelf.flow(1));
    SERVER.set(Some(shelf.clone()));
    p.on_accept = Some(|end, flow, syn, now| {
        let start = Start::Accept { flow: *flow, iss: end.conn.iss, syn: *syn };
        SERVER.with_borrow(|s| record(end, now, &start, s.as_ref().unwrap().flow(2)));
    });
    assert!(p.run(Duration::from_secs(200), |p| p.ends.iter().all(|e| e.conn.state() as u8 >= 6)), "{cc} {seed}");
    for end in &mut p.ends {
        end.conn.end_tape(EndReason::Finished);
    }
    let file = shelf.finish();
    (p, file)
}

#[test]
fn a_life_through_loss_is_repeated_to_the_bit() {
    for (cc, seed) in [("reno", 1), ("cubic", 2), ("bbr", 3), ("cubic", 4), ("bbr", 5)] {
        let (p, file) = recorded(cc, seed);
        assert!(p.ends[0].mib.get(Mib::TcpRetransSegs) > 0, "{cc} {seed}: nothing was lost");
        let recording = Recording::parse(&file).unwrap();
        for (i, end) in p.ends.iter().enumerate() {
            let flow = recording.flow(i + 1).unwrap();
            let mut replay = Replay::new(&recording, flow).unwrap();
            let mut steps = 0;
            for step in &mut replay {
                let step = step.unwrap();
                steps += 1;
                assert!(step.digest.is_some());
                assert!(step.is_equal(), "{cc} {seed} end {i}: {step:?}");
            }
            let written = flow.end.unwrap();
            assert_eq!((written.records, written.reason), (steps, EndReason::Finished));
            assert!(steps > 500, "{steps}");
            assert_eq!(written.digest, Some(crate::record::state_digest(replay.connection())));
            assert_eq!(format!("{:?}", replay.connection()), format!("{:?}", end.conn));
        }
    }
}

#[test]
fn a_live_connection_is_recorded_from_its_state_on() {
    for cc in ["reno", "cubic", "bbr"] {
        let mut p = Pair::new(config(cc), config(cc), lossy(3), 9);
        (p.ends[0].to_write, p.ends[1].to_write) = (900_000, 900_000);
        // In the middle of it, with holes in both directions.
        assert!(p.run(Duration::from_secs(60), |p| {
            p.ends[0].conn.board.lost_out() > 0 && p.ends[0].conn.reasm.bytes() > 0
        }));
        let shelf = Shelf::new();
        let now = p.now;
        for (i, end) in p.ends.iter_mut().enumerate() {
            record(end, now, &Start::Live, shelf.flow(i as u32 + 1));
        }
        p.run(Duration::from_secs(200), |p| p.ends.iter().all(|e| e.conn.state() as u8 >= 6));
        p.ends.iter_mut().for_each(|e| e.conn.end_tape(EndReason::Stopped));
        let file = shelf.finish();
        let recording = Recording::parse(&file).unwrap();
        for (i, flow) in recording.flows.iter().enumerate() {
            let mut steps = 0;
            for step in Replay::new(&recording, flow).unwrap() {
                let step = step.unwrap();
                steps += 1;
                assert!(step.is_equal(), "{cc} end {i}: {step:?}");
            }
            assert!(steps > 100, "{cc} end {i}: {steps}");
        }
    }
}

/// What an operator changes in the middle is part of what is recorded.
#[test]
fn changes_of_configuration_and_algorithm_are_replayed() {
    let mut p = Pair::new(config("cubic"), config("cubic"), lossy(1), 4);
    p.ends[0].to_write = 700_000;
    let start = Start::Connect { flow: p.ends[0].conn.flow, iss: p.ends[0].conn.iss };
    let (now, shelf) = (p.now, Shelf::new());
    record(&mut p.ends[0], now, &start, shelf.flow(1));
    p.run(Duration::from_secs(60), |p| p.ends[1].conn.rx_head() > 200_000);
    p.ends[0].cfg.max_pacing_rate = stackd_base::Bandwidth::from_bits_per_sec(10_000_000);
    p.ends[0].mem.used = 5 << 30;
    p.run(Duration::from_secs(60), |p| p.ends[1].conn.rx_head() > 400_000);
    let now = p.now;
    p.ends[0].cfg.congestion = "bbr";
    p.ends[0].with(|c, env| assert!(c.set_congestion(now, "bbr", env.cfg)));
    p.ends[0].mem.high = 7 << 30;
    p.run(Duration::from_secs(200), |p| p.ends[0].conn.state() as u8 >= 6);
    p.ends[0].conn.end_tape(EndReason::Finished);
    let file = shelf.finish();
    let recording = Recording::parse(&file).unwrap();
    let mut replay = Replay::new(&recording, recording.flow(1).unwrap()).unwrap();
    assert!(replay.all(|step| step.unwrap().is_equal()));
    assert_eq!(replay.connection().congestion(), "bbr");
    assert_eq!(replay.config(), &p.ends[0].cfg);
}

/// A birth that the recording has no word for (Fast Open, say) is kept as a state instead of wrongly.
#[test]
fn a_connection_that_its_start_does_not_describe_counts_as_alive() {
    let mut p = Pair::new(config("cubic"), config("cubic"), lossy(1), 4);
    let start = Start::Connect { flow: p.ends[0].conn.flow, iss: p.ends[0].conn.iss };
    p.ends[0].conn.grant_cookie(stackd_wire::FastOpenCookie::REQUEST);
    p.ends[0].to_write = 20_000;
    let (now, shelf) = (p.now, Shelf::new());
    record(&mut p.ends[0], now, &start, shelf.flow(1));
    p.run(Duration::from_secs(60), |p| p.ends[1].conn.rx_head() == 20_000);
    p.ends[0].conn.end_tape(EndReason::Stopped);
    let file = shelf.finish();
    let recording = Recording::parse(&file).unwrap();
    let flow = recording.flow(1).unwrap();
    assert!(matches!(flow.start(), Start::Live));
    assert!(Replay::new(&recording, flow).unwrap().all(|s| s.unwrap().is_equal()));
}

/// Led through its own life, a connection that was not changed is the one that was recorded.
#[test]
fn an_open_loop_without_a_change_is_the_recorded_life() {
    for (cc, seed) in [("reno", 1), ("cubic", 2), ("bbr", 3)] {
        let (_, file) = recorded(cc, seed);
        let recording = Recording::parse(&file).unwrap();
        for flow in &recording.flows {
            for step in Replay::changed(&recording, flow, Way::OpenLoop, |cfg| cfg).unwrap() {
                let step = step.unwrap();
                let differs: Vec<_> = step.record.view.differences(&step.view).collect();
                assert!(differs.is_empty() && step.own_timers.is_empty(), "{cc} {seed}: {differs:?} {step:?}");
            }
        }
    }
}

#[test]
fn another_algorithm_sees_the_same_answers_and_wants_something_else() {
    let (_, file) = recorded("bbr", 3);
    let recording = Recording::parse(&file).unwrap();
    let flow = recording.flow(1).unwrap();
    let cubic = |cfg| Config { congestion: "cubic", ..cfg };
    let mut replay = Replay::changed(&recording, flow, Way::OpenLoop, cubic).unwrap();
    let (mut differed, mut steps) = (0, 0);
    for step in &mut replay {
        let step = step.unwrap();
        steps += 1;
        let sides = |v: &View| (v.una, v.nxt, v.rcv_nxt, v.state);
        assert_eq!(sides(&step.record.view), sides(&step.view), "{step:?}");
        differed += u64::from(step.record.view.cwnd != step.view.cwnd);
    }
    assert_eq!(replay.connection().congestion(), "cubic");
    assert!(differed * 4 > steps, "{differed} of {steps}");
    // Without leading, the changed one leaves the recorded path, and is seen to.
    let mut exact = Replay::changed(&recording, flow, Way::Exact, cubic).unwrap();
    let first = exact.find(|s| !s.as_ref().unwrap().is_equal()).unwrap().unwrap();
    assert!(first.record.view.differences(&first.view).next().is_some());
}

/// Whoever takes the blocks is too slow: the connection does not notice, and the file says where it stops.
#[test]
fn a_slow_reader_ends_the_recording_and_nothing_else() {
    let mut p = Pair::new(config("cubic"), config("cubic"), lossy(1), 7);
    p.ends[0].to_write = 900_000;
    let start = Start::Connect { flow: p.ends[0].conn.flow, iss: p.ends[0].conn.iss };
    let (now, shelf) = (p.now, Shelf { blocks: Some(3), ..Shelf::new() });
    record(&mut p.ends[0], now, &start, shelf.flow(1));
    assert!(p.run(Duration::from_secs(200), |p| p.ends[1].conn.rx_head() == 900_000));
    assert!(!p.ends[0].conn.is_taped());
    let file = shelf.finish();
    let recording = Recording::parse(&file).unwrap();
    let flow = recording.flow(1).unwrap();
    assert_eq!(flow.end.unwrap().reason, EndReason::TooSlow);
    let steps = Replay::new(&recording, flow).unwrap().map(|s| assert!(s.unwrap().is_equal())).count();
    assert_eq!(steps as u64, flow.end.unwrap().records);
    assert!(steps > 50 && p.ends[0].conn.state() != State::Closed);
}

/// A call that changes a connection and is not on the tape would make every recording after it wrong.
#[test]
fn every_call_that_changes_a_connection_is_on_the_tape() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/connection");
    let mut found = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let Some((_, methods)) = text.split_once("impl Connection {") else { continue };
        for method in methods.split("\n    pub fn ").skip(1) {
            let (signature, body) = method.split_once("{\n").unwrap();
            if signature.contains("&mut self") {
                found += 1;
                let first = body.trim_start();
                assert!(first.starts_with("if self.tape.is_some()"), "not recorded: {signature}");
            }
        }
    }
    assert!(found >= 14, "{found}");
}
