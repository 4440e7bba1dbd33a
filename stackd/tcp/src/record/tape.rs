//! The tape: what happened to a connection, written into blocks while it happens.
//!
//! A record is a few bytes in a block that exists already. Only a full block leaves, whole, for an empty one in exchange; where none is to be had, the
//! recording ends and says so, and the connection goes on as if nothing had been.

use super::call::{Outcome, Output, What};
use super::digest::state_digest;
use super::encode::{put, put_delta};
use super::file::{BlockKind, End, EndReason, Start};
use super::view::View;
use crate::seam::{ChallengeLimit, Env, MemAccount};
use crate::{Config, Connection};
use stackd_base::{Instant, Rng};

/// Where blocks go. Neither method may wait.
pub trait TapeSink: core::fmt::Debug + Send {
    /// Takes a block to be kept.
    fn put(&mut self, kind: BlockKind, block: Vec<u8>);
    /// An empty block to write on; `None`: whoever takes them is too slow.
    fn empty(&mut self) -> Option<Vec<u8>>;
}

/// How closely to look.
#[derive(Clone, Copy, Debug)]
pub struct TapeOptions {
    /// A checksum of the whole state every so many calls; 1: after each.
    pub digest_every: u32,
}

impl Default for TapeOptions {
    fn default() -> Self {
        Self { digest_every: 16_384 }
    }
}

/// What a record begins with: which parts it has.
pub(super) mod part {
    pub const RARE: u8 = 1;
    pub const MEM_USED: u8 = 2;
    pub const DRAWS: u8 = 4;
    pub const VIEW: u8 = 8;
    pub const OUTPUT: u8 = 16;
    pub const ALL: u8 = 31;
}
/// Parts that hardly any record has.
pub(super) mod rare {
    pub const CONFIG: u8 = 1;
    pub const MEM_LIMITS: u8 = 2;
    pub const CHALLENGE: u8 = 4;
    pub const DIGEST: u8 = 8;
    pub const ALL: u8 = 15;
}

/// Room that a record of the usual parts cannot exceed.
const MARGIN: usize = 1024;

/// A recording in progress.
#[derive(Debug)]
pub struct Tape {
    sink: Box<dyn TapeSink>,
    block: Vec<u8>,
    cfg: Config,
    mem: MemAccount,
    challenge: ChallengeLimit,
    clock: Instant,
    view: View,
    draws: Vec<u64>,
    records: u64,
    options: TapeOptions,
    until_digest: u32,
    /// What its last block will say.
    end: End,
}

impl Tape {
    /// Begins with a connection as it is: just made in the way that `start` tells, or alive ([`Start::Live`]). One that `start` does not describe to
    /// the bit counts as alive. `None` when the sink has no room even for that.
    pub fn begin(
        at: Instant,
        start: &Start,
        conn: &Connection,
        env: &mut Env<'_>,
        options: TapeOptions,
        mut sink: Box<dyn TapeSink>,
    ) -> Option<Self> {
        let block = sink.empty()?;
        let built = start.build(at, env).is_some_and(|c| state_digest(&c) == state_digest(conn));
        let start = if built { start } else { &Start::Live };
        let (mem, challenge) = (*env.mem, *env.challenge);
        sink.put(BlockKind::Begin, super::file::begin_block(at, start, &mem, &challenge, env.cfg)?);
        if matches!(start, Start::Live) {
            sink.put(BlockKind::State, postcard::to_stdvec(conn).ok()?);
        }
        Some(Self {
            sink,
            block,
            cfg: env.cfg.clone(),
            mem,
            challenge,
            clock: at,
            view: View::default(),
            draws: Vec::with_capacity(16),
            records: 0,
            options,
            until_digest: options.digest_every.max(1),
            end: End { reason: EndReason::Finished, records: 0, digest: None },
        })
    }

    /// Writes down a call that was made.
    fn record(&mut self, at: Instant, what: &What, before: &Before, outcome: &Outcome, conn: &Connection) {
        let view = View::of(conn, &self.cfg);
        let output = outcome.output(at);
        self.until_digest -= 1;
        let mut rare = before.rare;
        if self.until_digest == 0 {
            self.until_digest = self.options.digest_every.max(1);
            rare |= rare::DIGEST;
        }
        let mut parts = 0;
        parts |= if rare != 0 { part::RARE } else { 0 };
        parts |= if before.mem_used.is_some() { part::MEM_USED } else { 0 };
        parts |= if self.draws.is_empty() { 0 } else { part::DRAWS };
        parts |= if view == self.view { 0 } else { part::VIEW };
        parts |= if output == Output::Nothing { 0 } else { part::OUTPUT };
        self.block.push(parts);
        put_delta(&mut self.block, self.clock.as_nanos(), at.as_nanos());
        self.clock = at;
        if rare != 0 {
            self.record_rare(rare, conn);
        }
        if let Some(was) = before.mem_used {
            put_delta(&mut self.block, was, self.mem.used);
        }
        if !self.draws.is_empty() {
            put(&mut self.block, self.draws.len() as u64);
            for draw in self.draws.drain(..) {
                put(&mut self.block, draw);
            }
        }
        self.value(what);
        if view != self.view {
            self.record_view(&view);
        }
        if output != Output::Nothing {
            self.value(&output);
        }
        self.records += 1;
    }

    #[cold]
    fn record_rare(&mut self, rare: u8, conn: &Connection) {
        self.block.push(rare);
        if rare & rare::CONFIG != 0 {
            let text = serde_json::to_vec(&self.cfg).unwrap_or_default();
            put(&mut self.block, text.len() as u64);
            self.block.extend_from_slice(&text);
        }
        if rare & rare::MEM_LIMITS != 0 {
            put(&mut self.block, self.mem.pressure);
            put(&mut self.block, self.mem.high);
        }
        if rare & rare::CHALLENGE != 0 {
            let challenge = self.challenge;
            self.value(&challenge);
        }
        if rare & rare::DIGEST != 0 {
            self.block.extend_from_slice(&state_digest(conn).to_le_bytes());
        }
    }

    fn record_view(&mut self, view: &View) {
        let (old, new) = (self.view.values(), view.values());
        let mask = old.iter().zip(&new).enumerate().fold(0u32, |m, (i, (a, b))| m | u32::from(a != b) << i);
        put(&mut self.block, u64::from(mask));
        for (a, b) in old.iter().zip(&new).filter(|(a, b)| a != b) {
            put_delta(&mut self.block, *a, *b);
        }
        self.view = *view;
    }

    /// Appends a value in postcard's encoding.
    fn value(&mut self, value: &impl serde::Serialize) {
        let mut room = [0; 384];
        match postcard::to_slice(value, &mut room) {
            Ok(bytes) => self.block.extend_from_slice(bytes),
            // A call that outgrew the room is still recorded, only slower.
            Err(_) => self.block.extend(postcard::to_stdvec(value).unwrap_or_default()),
        }
    }

    /// Makes room for the next record. False: there is none, and the recording is over.
    fn turn(&mut self) -> bool {
        if self.block.capacity() - self.block.len() >= MARGIN {
            return true;
        }
        let Some(empty) = self.sink.empty() else {
            self.end.reason = EndReason::TooSlow;
            return false;
        };
        let full = core::mem::replace(&mut self.block, empty);
        self.sink.put(BlockKind::Calls, full);
        true
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.sink.put(BlockKind::Calls, core::mem::take(&mut self.block));
        self.end.records = self.records;
        self.sink.put(BlockKind::End, serde_json::to_vec(&self.end).unwrap_or_default());
    }
}

/// What was new around the connection when a call came.
#[derive(Default)]
struct Before {
    rare: u8,
    /// As recorded last, where it changed.
    mem_used: Option<u64>,
}

struct TapeRng<'a> {
    inner: &'a mut dyn Rng,
    draws: &'a mut Vec<u64>,
}

impl Rng for TapeRng<'_> {
    fn next_u64(&mut self) -> u64 {
        let draw = self.inner.next_u64();
        self.draws.push(draw);
        draw
    }
}

impl Connection {
    /// From now on every call goes on this tape.
    pub fn start_tape(&mut self, tape: Tape) {
        self.tape = Some(Box::new(tape));
    }

    /// Ends the recording, if there is one.
    pub fn end_tape(&mut self, reason: EndReason) {
        if let Some(mut tape) = self.tape.take() {
            tape.end.reason = reason;
            tape.end.digest = Some(state_digest(self));
        }
    }

    /// A recording is in progress.
    pub fn is_taped(&self) -> bool {
        self.tape.is_some()
    }

    /// Makes a call and records it.
    #[inline(never)]
    pub(crate) fn taped(&mut self, at: Option<Instant>, what: What, env: &mut Env<'_>) -> Outcome {
        let Some(mut tape) = self.tape.take() else { return Outcome::Done };
        let at = at.unwrap_or(tape.clock);
        let mut before = tape.notice(env.cfg);
        if tape.mem.used != env.mem.used {
            before.mem_used = Some(tape.mem.used);
        }
        if (tape.mem.pressure, tape.mem.high) != (env.mem.pressure, env.mem.high) {
            before.rare |= rare::MEM_LIMITS;
        }
        tape.mem = *env.mem;
        if tape.challenge != *env.challenge {
            before.rare |= rare::CHALLENGE;
            tape.challenge = *env.challenge;
        }
        let Env { mib, rng, cfg, mem, challenge } = env;
        let mut rng = TapeRng { inner: &mut **rng, draws: &mut tape.draws };
        let mut within = Env { mib, rng: &mut rng, cfg, mem, challenge };
        let outcome = self.apply(at, &what, &mut within);
        tape.record(at, &what, &before, &outcome, self);
        tape.challenge = *env.challenge;
        self.resume(tape);
        outcome
    }

    /// The same for calls that see no more of the outside than the configuration, or not even that.
    #[inline(never)]
    pub(crate) fn taped_bare(&mut self, at: Option<Instant>, what: What, cfg: Option<&Config>) -> Outcome {
        let Some(mut tape) = self.tape.take() else { return Outcome::Done };
        let at = at.unwrap_or(tape.clock);
        let before = cfg.map_or_else(Before::default, |cfg| tape.notice(cfg));
        let outcome = match (&what, cfg) {
            (What::SetCongestion { name }, Some(cfg)) => Outcome::Known(self.set_congestion(at, name, cfg)),
            (What::RearmKeepalive, Some(cfg)) => {
                self.rearm_keepalive(at, cfg);
                Outcome::Done
            }
            _ => self.apply_bare(&what),
        };
        tape.record(at, &what, &before, &outcome, self);
        self.resume(tape);
        outcome
    }

    fn resume(&mut self, mut tape: Box<Tape>) {
        if tape.turn() {
            self.tape = Some(tape);
        }
    }
}

impl Tape {
    fn notice(&mut self, cfg: &Config) -> Before {
        let mut before = Before::default();
        if self.cfg != *cfg {
            self.cfg = cfg.clone();
            before.rare |= rare::CONFIG;
        }
        before
    }
}
