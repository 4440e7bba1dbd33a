//! The calls of a recording, read back.

use super::call::{Output, What};
use super::encode::Cursor;
use super::file::RecordError;
use super::tape::{part, rare};
use super::view::View;
use crate::config::Config;
use crate::seam::ChallengeLimit;
use stackd_base::Instant;

/// A call as it was made, what had changed around it, and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
    /// The configuration is another one from here on.
    pub config: Option<Box<Config>>,
    /// The difference of the shard's TCP memory, and its new limits.
    pub mem_used: Option<u64>,
    /// Pressure and high.
    pub mem_limits: Option<(u64, u64)>,
    /// The budget of challenge ACKs, where others drew on it.
    pub challenge: Option<ChallengeLimit>,
    /// Random numbers drawn.
    pub draws: Vec<u64>,
    /// The state afterwards.
    pub view: View,
    /// What came of it.
    pub output: Output,
    /// Checksum of the whole state afterwards.
    pub digest: Option<u64>,
}

/// Reads records one by one. Ends after the first that makes no sense.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    blocks: std::vec::IntoIter<&'a [u8]>,
    rest: Cursor<'a>,
    clock: Instant,
    view: View,
    index: u64,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(blocks: Vec<&'a [u8]>, began: Instant) -> Self {
        Self {
            blocks: blocks.into_iter(),
            rest: Cursor(&[]),
            clock: began,
            view: View::default(),
            index: 0,
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Record, RecordError> {
        let c = &mut self.rest;
        let parts = c.byte()?;
        if parts & !part::ALL != 0 {
            return Err(RecordError::Value);
        }
        self.clock = Instant::from_nanos(c.delta(self.clock.as_nanos())?);
        let rare = if parts & part::RARE != 0 { c.byte()? } else { 0 };
        if rare & !rare::ALL != 0 {
            return Err(RecordError::Value);
        }
        let mut config = None;
        if rare & rare::CONFIG != 0 {
            let len = usize::try_from(c.number()?).map_err(|_| RecordError::Short)?;
            let text = c.bytes(len)?;
            config = Some(Box::new(serde_json::from_slice(text).map_err(|_| RecordError::Value)?));
        }
        let mem_limits = if rare & rare::MEM_LIMITS != 0 { Some((c.number()?, c.number()?)) } else { None };
        let challenge = if rare & rare::CHALLENGE != 0 { Some(c.value()?) } else { None };
        let digest = match rare & rare::DIGEST {
            0 => None,
            _ => Some(u64::from_le_bytes(c.bytes(8)?.try_into().map_err(|_| RecordError::Short)?)),
        };
        let mem_used = if parts & part::MEM_USED != 0 { Some(c.delta(0)?) } else { None };
        let mut draws = Vec::new();
        if parts & part::DRAWS != 0 {
            for _ in 0..c.number()? {
                draws.push(c.number()?);
            }
        }
        let what = c.value()?;
        if parts & part::VIEW != 0 {
            self.view = read_view(c, &self.view)?;
        }
        let output = if parts & part::OUTPUT != 0 { c.value()? } else { Output::Nothing };
        let (at, view) = (self.clock, self.view);
        Ok(Record { at, what, config, mem_used, mem_limits, challenge, draws, view, output, digest })
    }
}

fn read_view(c: &mut Cursor<'_>, old: &View) -> Result<View, RecordError> {
    let mask = c.number()?;
    let mut values = old.values();
    if mask >> values.len() != 0 {
        return Err(RecordError::Value);
    }
    for (i, value) in values.iter_mut().enumerate() {
        if mask >> i & 1 != 0 {
            *value = c.delta(*value)?;
        }
    }
    Ok(View::from_values(values))
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed && self.rest.0.is_empty() {
            self.rest = Cursor(self.blocks.next()?);
        }
        if self.failed {
            return None;
        }
        let record = self.read();
        self.index += 1;
        self.failed = record.is_err();
        Some(record.map_err(|why| RecordError::At { index: self.index, why: Box::new(why) }))
    }
}
