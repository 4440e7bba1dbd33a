//! The life again.

use super::call::{Output, What};
use super::digest::state_digest;
use super::file::{FlowRecording, RecordError, Recording};
use super::records::{Record, Records};
use super::view::View;
use crate::seam::{ChallengeLimit, Env, MemAccount, State};
use crate::{Config, Connection};
use stackd_base::{Instant, MibCounters, Rng, SplitMix64};

/// How a connection is led through a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// Every call again: the same life, to the bit, as long as nothing was changed.
    #[default]
    Exact,
    /// It is given the same answers and made to send what was sent, and shows what it would have liked to do. For one that was changed: what the peer
    /// would have answered to other segments is not known.
    OpenLoop,
}

/// One call of a replay.
#[derive(Clone, Debug)]
pub struct Step {
    /// Counted from 1.
    pub index: u64,
    /// The call as recorded.
    pub record: Record,
    /// The state after it.
    pub view: View,
    /// What came of it; in an open loop, what was recorded.
    pub output: Output,
    /// Checksum of the whole state, where the recording has one to compare with.
    pub digest: Option<u64>,
    /// Bytes that it would send now (open loop).
    pub could_send: u64,
    /// Timers of its own that fired since the call before, with the state after each (open loop).
    pub own_timers: Vec<(Instant, View)>,
}

impl Step {
    /// Nothing differs from what was recorded.
    pub fn is_equal(&self) -> bool {
        self.view == self.record.view && self.output == self.record.output && self.digest == self.record.digest
    }
}

/// Leads a connection through a recording.
#[derive(Debug)]
pub struct Replay<'a> {
    records: Records<'a>,
    conn: Connection,
    cfg: Config,
    change: Change,
    way: Way,
    mib: MibCounters,
    mem: MemAccount,
    challenge: ChallengeLimit,
    /// Digests cannot be compared: the state is laid out in another way.
    has_digests: bool,
    keeps_algorithm: bool,
    index: u64,
    recorded: View,
    now: Instant,
}

/// What is to be different in each configuration that was recorded.
struct Change(Box<dyn FnMut(Config) -> Config>);

impl core::fmt::Debug for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Change")
    }
}

impl<'a> Replay<'a> {
    /// Begins a connection as it was recorded.
    ///
    /// # Errors
    /// A state that this build cannot read.
    pub fn new(recording: &Recording<'a>, flow: &FlowRecording<'a>) -> Result<Self, RecordError> {
        Self::changed(recording, flow, Way::Exact, |cfg| cfg)
    }

    /// Begins it with another configuration.
    ///
    /// # Errors
    /// A state that this build cannot read.
    pub fn changed(
        recording: &Recording<'a>,
        flow: &FlowRecording<'a>,
        way: Way,
        mut change: impl FnMut(Config) -> Config + 'static,
    ) -> Result<Self, RecordError> {
        let cfg = change(flow.config.clone());
        let (mut mem, mut challenge) = (flow.begin.mem, flow.begin.challenge);
        let mut mib = MibCounters::default();
        let at = flow.begin.at;
        let other_algorithm = cfg.congestion != flow.config.congestion;
        let mut none_drawn = Draws::new(Vec::new(), 0);
        let born = flow.begin.start.build(at, &mut env(&mut mib, &mut none_drawn, &cfg, &mut mem, &mut challenge));
        let conn = match born {
            Some(conn) => conn,
            None => {
                let known = super::state_layout();
                if recording.head.state != known {
                    return Err(RecordError::State { found: recording.head.state, known });
                }
                let bytes = flow.state.ok_or(RecordError::Short)?;
                let mut conn: Connection = postcard::from_bytes(bytes).map_err(|_| RecordError::Value)?;
                if other_algorithm {
                    conn.set_congestion(at, cfg.congestion, &cfg);
                }
                conn
            }
        };
        Ok(Self {
            records: flow.records(),
            conn,
            cfg,
            change: Change(Box::new(change)),
            way,
            mib,
            mem,
            challenge,
            has_digests: recording.state_is_readable(),
            keeps_algorithm: other_algorithm,
            index: 0,
            recorded: View::default(),
            now: at,
        })
    }

    /// The connection as it is now.
    pub fn connection(&self) -> &Connection {
        &self.conn
    }
    /// The configuration in force now.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    fn step(&mut self, mut record: Record) -> Step {
        self.index += 1;
        if let Some(config) = &record.config {
            self.cfg = (self.change.0)((**config).clone());
        }
        self.mem.used = self.mem.used.wrapping_add(record.mem_used.unwrap_or(0));
        if let Some((pressure, high)) = record.mem_limits {
            (self.mem.pressure, self.mem.high) = (pressure, high);
        }
        if let Some(challenge) = record.challenge {
            self.challenge = challenge;
        }
        if !self.has_digests {
            record.digest = None;
        }
        let mut rng = Draws::new(core::mem::take(&mut record.draws), self.index);
        let mut own_timers = Vec::new();
        let output = match self.way {
            Way::Exact => {
                let mut env = env(&mut self.mib, &mut rng, &self.cfg, &mut self.mem, &mut self.challenge);
                self.conn.apply(record.at, &record.what, &mut env).output(record.at)
            }
            Way::OpenLoop => {
                own_timers = self.own_timers(record.at, &mut rng);
                self.lead(&record, &mut rng);
                record.output
            }
        };
        record.draws = rng.draws;
        self.recorded = record.view;
        self.now = record.at;
        Step {
            index: self.index,
            view: View::of(&self.conn, &self.cfg),
            output,
            digest: record.digest.map(|_| state_digest(&self.conn)),
            could_send: if self.way == Way::OpenLoop { self.conn.could_send(record.at) } else { 0 },
            own_timers,
            record,
        }
    }

    /// A recorded call, to a connection that is not the recorded one.
    fn lead(&mut self, record: &Record, rng: &mut Draws) {
        let mut env = env(&mut self.mib, rng, &self.cfg, &mut self.mem, &mut self.challenge);
        match (&record.what, &record.output) {
            (What::Transmit, Output::Sent(sent)) => self.conn.transmit_as(record.at, sent, &mut env),
            (What::Transmit, _) => self.conn.transmit_nothing(record.at, &mut env),
            (What::SetCongestion { .. }, _) if self.keeps_algorithm => {}
            (what, _) => {
                self.conn.apply(record.at, what, &mut env);
            }
        }
    }

    /// Timers that the recorded connection did not have fire at their own time. Those they share fire when they were recorded to.
    fn own_timers(&mut self, until: Instant, rng: &mut Draws) -> Vec<(Instant, View)> {
        let mut fired = Vec::new();
        let mut last = Instant::ZERO;
        while let Some(at) = self.conn.next_deadline() {
            let shared = at.as_nanos() == self.recorded.deadline;
            if shared || at >= until || at <= last || self.conn.state() == State::Closed || fired.len() >= 64 {
                break;
            }
            last = at;
            let mut env = env(&mut self.mib, rng, &self.cfg, &mut self.mem, &mut self.challenge);
            self.conn.handle_timeout(at.max(self.now), &mut env);
            fired.push((at, View::of(&self.conn, &self.cfg)));
        }
        fired
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Step, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        Some(record.map(|record| self.step(record)))
    }
}

fn env<'a>(
    mib: &'a mut MibCounters,
    rng: &'a mut Draws,
    cfg: &'a Config,
    mem: &'a mut MemAccount,
    challenge: &'a mut ChallengeLimit,
) -> Env<'a> {
    Env { mib, rng, cfg, mem, challenge }
}

/// The random numbers that were drawn. One that is changed may want more of them.
struct Draws {
    draws: Vec<u64>,
    next: usize,
    more: SplitMix64,
}

impl Draws {
    fn new(draws: Vec<u64>, seed: u64) -> Self {
        Self { draws, next: 0, more: SplitMix64::new(seed) }
    }
}

impl Rng for Draws {
    fn next_u64(&mut self) -> u64 {
        self.next += 1;
        match self.draws.get(self.next - 1) {
            Some(&draw) => draw,
            None => self.more.next_u64(),
        }
    }
}
