//! Files that are not what they should be.

use super::{Shelf, record};
use crate::Config;
use crate::record::{BlockKind, EndReason, Framer, Head, RecordError, Recording, Replay, Start};
use crate::tests::link::{Impair, Pair};
use proptest::prelude::*;
use stackd_base::Duration;
use std::sync::OnceLock;

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut p = Pair::new(Config::default(), Config::default(), Impair::clean(50, 5), 1);
        p.ends[0].to_write = 100_000;
        let start = Start::Connect { flow: p.ends[0].conn.flow, iss: p.ends[0].conn.iss };
        let (now, shelf) = (p.now, Shelf::new());
        record(&mut p.ends[0], now, &start, shelf.flow(1));
        p.run(Duration::from_secs(60), |p| p.ends[0].conn.state() as u8 >= 6);
        p.ends[0].conn.end_tape(EndReason::Finished);
        shelf.finish()
    })
}

fn error_of(file: &[u8]) -> RecordError {
    Recording::parse(file).expect_err("should not be taken for a recording")
}

#[test]
fn a_file_cut_off_anywhere_is_said_to_be_cut_off() {
    let whole = file();
    Recording::parse(whole).unwrap();
    for len in 1..whole.len() {
        assert_eq!(error_of(&whole[..len]), RecordError::Truncated(len), "at {len}");
    }
    let text = error_of(&whole[..whole.len() - 1]).to_string();
    assert_eq!(text, format!("cut off at byte {}: the recording is not whole", whole.len() - 1));
}

#[test]
fn what_is_there_of_a_file_cut_off_can_be_had() {
    let whole = file();
    let (recording, trouble) = Recording::parse_what_is_there(&whole[..whole.len() - 1]).unwrap();
    assert_eq!(trouble, Some(RecordError::Truncated(whole.len() - 1)));
    assert!(Replay::new(&recording, recording.flow(1).unwrap()).unwrap().all(|s| s.unwrap().is_equal()));
}

#[test]
fn foreign_files_are_told_from_damaged_ones() {
    for foreign in [&b""[..], b"\x0a\x0d\x0d\x0a pcapng, say", b"#!/bin/sh\n", &[0; 64]] {
        assert_eq!(error_of(foreign), RecordError::Foreign);
    }
    let mut other = file().to_vec();
    other[8] = 9;
    assert_eq!(error_of(&other), RecordError::Version(9));
    let mut longer = file().to_vec();
    longer.push(0);
    assert!(matches!(error_of(&longer), RecordError::Damaged { what: "something follows the end", .. }));
    // A bit that flips somewhere never goes unnoticed.
    for at in (10..file().len()).step_by(7) {
        let mut flipped = file().to_vec();
        flipped[at] ^= 0x10;
        assert!(Recording::parse(&flipped).is_err(), "at {at}");
    }
}

#[test]
fn a_recording_of_another_layout_names_both() {
    let mut other = Vec::new();
    Framer::head(&mut other, &Head { calls: 1, ..Head::of_this_build(0) });
    assert!(error_of(&other).to_string().contains("0000000000000001"), "{}", error_of(&other));
    // A state of another layout matters to recordings that begin with one, and to checksums.
    let at = file().windows(8).position(|w| w == b"\"state\":").unwrap() + 8;
    let len = file()[at..].iter().position(|&b| b == b',').unwrap();
    assert!(len > 10);
    let mut head: Head = Head::of_this_build(0);
    head.state ^= 1;
    let mut changed = Vec::new();
    Framer::head(&mut changed, &head);
    let mut own = Vec::new();
    Framer::head(&mut own, &Head::of_this_build(0));
    changed.extend_from_slice(&file()[own.len()..]);
    let recording = Recording::parse(&changed).unwrap();
    let steps: Vec<_> = Replay::new(&recording, recording.flow(1).unwrap()).unwrap().map(Result::unwrap).collect();
    assert!(!steps.is_empty() && steps.iter().all(|s| s.is_equal() && s.digest.is_none()));
}

/// Options are plain values with a length of their own: one beyond their room made the first look at them panic.
#[test]
fn options_longer_than_their_room_are_refused() {
    fn refuses<T: serde::Serialize + serde::de::DeserializeOwned>(good: T, at: fn(usize) -> usize) {
        let mut bytes = postcard::to_stdvec(&good).unwrap();
        assert!(postcard::from_bytes::<T>(&bytes).is_ok());
        let at = at(bytes.len());
        bytes[at] = 17;
        assert!(postcard::from_bytes::<T>(&bytes).is_err(), "{bytes:?}");
    }
    refuses(stackd_wire::SackBlocks::EMPTY, |len| len - 1);
    refuses(stackd_wire::FastOpenCookie::REQUEST, |len| len - 2);
    refuses(stackd_wire::AccEcnOption::default(), |_| 1);
    refuses(stackd_wire::AoOption::new(1, 2, &[3; 12]).unwrap(), |len| len - 1);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), prefix in 0usize..400) {
        let _ = Recording::parse(&bytes);
        let mut mixed = file()[..prefix.min(file().len())].to_vec();
        mixed.extend_from_slice(&bytes);
        let _ = Recording::parse_what_is_there(&mixed);
    }

    /// Blocks whose checksums are right and whose contents are anything.
    #[test]
    fn no_contents_make_the_reader_panic(
        kinds in proptest::collection::vec((1u8..8, 0u32..3, proptest::collection::vec(any::<u8>(), 0..120)), 0..12),
        calls in proptest::collection::vec(any::<u8>(), 0..2000),
        cut in 0usize..4000,
    ) {
        let mut made = Vec::new();
        Framer::head(&mut made, &Head::of_this_build(0));
        let all = [BlockKind::Head, BlockKind::Flow, BlockKind::Begin, BlockKind::State, BlockKind::Calls, BlockKind::End, BlockKind::Done];
        for (kind, flow, payload) in &kinds {
            Framer::block(&mut made, all[usize::from(*kind) - 1], *flow, payload);
        }
        let _ = Recording::parse_what_is_there(&made);
        // A flow that begins well and goes on with anything.
        let whole = Recording::parse(file()).unwrap();
        let mut flow = whole.flow(1).unwrap().clone();
        let good: Vec<u8> = flow.calls.concat();
        let mut mixed = good[..cut.min(good.len())].to_vec();
        mixed.extend_from_slice(&calls);
        flow.calls = vec![&mixed];
        for record in flow.records() {
            let _ = format!("{record:?}");
        }
    }
}
