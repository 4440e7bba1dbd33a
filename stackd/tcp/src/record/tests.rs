//! Two connections over a bad link are recorded and live again; files that are none of ours, or not whole.

mod files;
mod layout;
mod lives;

use super::{BlockKind, FlowHead, Framer, Head, Start, Tape, TapeOptions, TapeSink};
use crate::tests::link::End;
use stackd_base::Instant;
use std::sync::{Arc, Mutex};

/// Where a test's blocks go: into a file in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    file: Arc<Mutex<Vec<u8>>>,
    flow: u32,
    /// Empty blocks it still has to give; `None`: enough.
    blocks: Option<usize>,
}

impl Shelf {
    pub fn new() -> Self {
        let mut file = Vec::new();
        Framer::head(&mut file, &Head::of_this_build(0));
        Self { file: Arc::new(Mutex::new(file)), flow: 0, blocks: None }
    }

    /// For another flow of the same file.
    pub fn flow(&self, flow: u32) -> Self {
        let local = ([10, 0, 0, 1], 1000).into();
        let head = FlowHead { local, remote: ([10, 0, 0, 2], 80).into(), cookie: u64::from(flow) };
        Framer::flow(&mut self.file.lock().unwrap(), flow, &head);
        Self { flow, ..self.clone() }
    }

    pub fn finish(&self) -> Vec<u8> {
        let mut file = self.file.lock().unwrap().clone();
        Framer::done(&mut file);
        file
    }
}

impl TapeSink for Shelf {
    fn put(&mut self, kind: BlockKind, block: Vec<u8>) {
        Framer::block(&mut self.file.lock().unwrap(), kind, self.flow, &block);
    }
    fn empty(&mut self) -> Option<Vec<u8>> {
        if let Some(left) = &mut self.blocks {
            *left = left.checked_sub(1)?;
        }
        Some(Vec::with_capacity(8192))
    }
}

/// Starts recording an end, with a checksum of its whole state after every call.
pub(super) fn record(end: &mut End, at: Instant, start: &Start, shelf: Shelf) {
    end.with(|conn, env| {
        let options = TapeOptions { digest_every: 1 };
        let tape = Tape::begin(at, start, conn, env, options, Box::new(shelf)).expect("the shelf has room");
        conn.start_tape(tape);
    });
}
