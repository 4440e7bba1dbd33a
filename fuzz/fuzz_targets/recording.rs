//! The reader of recordings takes any bytes: as a file, and as the calls of a file whose checksums are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackd_base::{Instant, MibCounters, SeqNum, SplitMix64};
use stackd_tcp::record::{BlockKind, FlowHead, Framer, Head, Recording, Start, Tape, TapeOptions, TapeSink};
use stackd_tcp::{ChallengeLimit, Config, Connection, Env, FlowParams, MemAccount};
use std::sync::{Arc, LazyLock, Mutex};

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<(BlockKind, Vec<u8>)>>>);

impl TapeSink for Kept {
    fn put(&mut self, kind: BlockKind, block: Vec<u8>) {
        if let Ok(mut blocks) = self.0.lock() {
            blocks.push((kind, block));
        }
    }
    fn empty(&mut self) -> Option<Vec<u8>> {
        Some(Vec::with_capacity(1 << 16))
    }
}

/// The blocks of a short life: a SYN that is sent.
static LIFE: LazyLock<Vec<(BlockKind, Vec<u8>)>> = LazyLock::new(|| {
    let (cfg, kept) = (Config::default(), Kept::default());
    let (mut mib, mut rng) = (MibCounters::default(), SplitMix64::new(1));
    let (mut mem, mut challenge) = (MemAccount::default(), ChallengeLimit::default());
    let mut env = Env { mib: &mut mib, rng: &mut rng, cfg: &cfg, mem: &mut mem, challenge: &mut challenge };
    let (flow, iss, now) = (FlowParams::new(1000, 80), SeqNum(7), Instant::from_nanos(1));
    let mut conn = Connection::connect(&cfg, flow, iss, now);
    let start = Start::Connect { flow, iss };
    let tape = Tape::begin(now, &start, &conn, &mut env, TapeOptions { digest_every: 1 }, Box::new(kept.clone()));
    conn.start_tape(tape.expect("there is room"));
    conn.poll_transmit(now, &mut env);
    conn.poll_transmit(now, &mut env);
    drop(conn);
    let blocks = kept.0.lock().map(|b| b.clone());
    blocks.unwrap_or_default()
});

fuzz_target!(|data: &[u8]| {
    let _ = Recording::parse_what_is_there(data);
    let mut file = Vec::new();
    Framer::head(&mut file, &Head::of_this_build(0));
    let addr = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    Framer::flow(&mut file, 1, &FlowHead { local: addr, remote: addr, cookie: 0 });
    for (kind, block) in LIFE.iter() {
        match kind {
            // A good beginning goes on with anything; another kind of block is replaced by it.
            BlockKind::Calls => {
                let (from, rest) = data.split_first().map_or((0, data), |(&n, rest)| (usize::from(n), rest));
                let mut calls = block[..from.min(block.len())].to_vec();
                calls.extend_from_slice(rest);
                Framer::block(&mut file, *kind, 1, &calls);
            }
            BlockKind::Begin if data.first() == Some(&0xff) => Framer::block(&mut file, *kind, 1, &data[1..]),
            BlockKind::End if data.first() == Some(&0xfe) => Framer::block(&mut file, *kind, 1, &data[1..]),
            _ => Framer::block(&mut file, *kind, 1, block),
        }
    }
    Framer::done(&mut file);
    if let Ok(recording) = Recording::parse(&file) {
        for flow in &recording.flows {
            for record in flow.records() {
                let _ = format!("{record:?}");
            }
        }
    }
});
