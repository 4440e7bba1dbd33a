//! The file: blocks with a kind, a flow, a length and a checksum; and reading it without believing any of it.

use super::layout::{call_layout, state_layout};
use super::records::Records;
use crate::Connection;
use crate::config::{Config, FlowParams};
use crate::seam::{ChallengeLimit, Env, MemAccount};
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, SeqNum};
use stackd_wire::{EcnCodepoint, TcpRepr};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use thiserror::Error;

/// First bytes of a file: a name, and what a text-mode transfer would destroy.
const MAGIC: &[u8; 8] = b"\x89sdrec\r\n";
/// Of the framing.
const VERSION: u16 = 2;
/// Kind, flow, length, checksum.
const BLOCK_HEAD: usize = 1 + 4 + 4 + 4;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlockKind {
    /// [`Head`], JSON. The first one.
    Head = 1,
    /// [`FlowHead`], JSON.
    Flow = 2,
    /// How the flow began, and what surrounded it.
    Begin = 3,
    /// The state of a connection that was alive already.
    State = 4,
    /// Calls.
    Calls = 5,
    /// [`End`] of a flow, JSON.
    End = 6,
    /// The last one: the file is whole.
    Done = 7,
}

impl BlockKind {
    const fn from_byte(b: u8) -> Option<Self> {
        Some(match b {
            1 => Self::Head,
            2 => Self::Flow,
            3 => Self::Begin,
            4 => Self::State,
            5 => Self::Calls,
            6 => Self::End,
            7 => Self::Done,
            _ => return None,
        })
    }
}

/// Who made the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Version of stackd.
    pub version: String,
    /// Layout of calls: see [`call_layout`].
    pub calls: u64,
    /// Layout of a connection: see [`state_layout`].
    pub state: u64,
    /// When, in nanoseconds since 1970.
    pub unix_ns: u64,
}

impl Head {
    /// Of this build.
    pub fn of_this_build(unix_ns: u64) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version, calls: call_layout(), state: state_layout(), unix_ns }
    }
}

/// Which connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowHead {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// `SO_COOKIE`.
    pub cookie: u64,
}

/// How a recording begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one a recording")]
pub enum Start {
    /// [`Connection::connect`](crate::Connection::connect).
    Connect {
        /// The path.
        flow: FlowParams,
        /// Our first sequence number.
        iss: SeqNum,
    },
    /// [`Connection::accept`](crate::Connection::accept).
    Accept {
        /// The path.
        flow: FlowParams,
        /// Our first sequence number.
        iss: SeqNum,
        /// The peer's SYN.
        syn: TcpRepr,
    },
    /// [`Connection::accept_cookie`](crate::Connection::accept_cookie).
    Cookie {
        /// The path.
        flow: FlowParams,
        /// Our first sequence number.
        iss: SeqNum,
        /// The peer's SYN as the cookie tells it.
        syn: TcpRepr,
    },
    /// In the middle of its life, or begun in a way that these do not describe: the whole state is kept.
    Live,
}

impl Start {
    /// The connection that begins so; `None` for one that was alive.
    pub(super) fn build(&self, at: Instant, env: &mut Env<'_>) -> Option<Connection> {
        Some(match self {
            Self::Connect { flow, iss } => Connection::connect(env.cfg, *flow, *iss, at),
            Self::Accept { flow, iss, syn } => Connection::accept(env.cfg, *flow, *iss, syn, at),
            Self::Cookie { flow, iss, syn } => {
                Connection::accept_cookie(*flow, *iss, (syn, EcnCodepoint::NotEct), at, env).0
            }
            Self::Live => return None,
        })
    }
}

/// How a recording ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// Calls recorded.
    pub records: u64,
    /// Checksum of the state at the end, where the connection was still there.
    pub digest: Option<u64>,
}

impl End {
    /// From a block.
    pub fn read(block: &[u8]) -> Option<Self> {
        serde_json::from_slice(block).ok()
    }
}

/// Why a recording ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The connection did.
    Finished,
    /// It was told to.
    Stopped,
    /// Whoever took the blocks was too slow: the connection did not wait.
    TooSlow,
}

impl EndReason {
    /// For a user.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Finished => "the connection ended",
            Self::Stopped => "the recording was stopped",
            Self::TooSlow => "its reader was too slow: the connection went on without being recorded",
        }
    }
}

/// Why a file cannot be read, or replayed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[allow(missing_docs)]
pub enum RecordError {
    #[error("not a recording: it does not begin as `netctl record` writes them")]
    Foreign,
    #[error("a recording of format {0}; this build reads format {VERSION}")]
    Version(u16),
    #[error("cut off at byte {0}: the recording is not whole")]
    Truncated(usize),
    #[error("damaged at byte {at}: {what}")]
    Damaged { at: usize, what: &'static str },
    #[error(
        "made by stackd {version}, whose calls have another layout ({found:016x}; here {known:016x}): replay it with the stackd-sim of that build"
    )]
    Calls { version: String, found: u64, known: u64 },
    #[error(
        "begins in the middle of a connection's life, with a state of another layout ({found:016x}; here {known:016x}): replay it with the stackd-sim of that build, or record the connection from its birth"
    )]
    State { found: u64, known: u64 },
    #[error("holds no connection")]
    Empty,
    #[error("holds {have} connections; there is no number {asked}")]
    NoFlow { have: usize, asked: usize },
    #[error("a record ends early")]
    Short,
    #[error("a number of more than 64 bits")]
    Number,
    #[error("a value that makes no sense")]
    Value,
    #[error("record {index}: {why}")]
    At { index: u64, why: Box<RecordError> },
}

/// Makes a file of blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framer;

impl Framer {
    /// What a file begins with.
    pub fn head(out: &mut Vec<u8>, head: &Head) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        Self::block(out, BlockKind::Head, 0, &serde_json::to_vec(head).unwrap_or_default());
    }

    /// A block of flow number `flow`.
    pub fn block(out: &mut Vec<u8>, kind: BlockKind, flow: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let payload = &payload[..len as usize];
        let mut head = [0; BLOCK_HEAD];
        head[0] = kind as u8;
        head[1..5].copy_from_slice(&flow.to_le_bytes());
        head[5..9].copy_from_slice(&len.to_le_bytes());
        let sum = block_sum(&head, payload);
        head[9..].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(payload);
    }

    /// The description of a flow.
    pub fn flow(out: &mut Vec<u8>, flow: u32, head: &FlowHead) {
        Self::block(out, BlockKind::Flow, flow, &serde_json::to_vec(head).unwrap_or_default());
    }

    /// What a file ends with.
    pub fn done(out: &mut Vec<u8>) {
        Self::block(out, BlockKind::Done, 0, &[]);
    }
}

/// CRC-32 over kind, flow, length and payload.
fn block_sum(head: &[u8; BLOCK_HEAD], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..9]);
    crc.update(payload);
    crc.finalize()
}

/// What surrounded a connection when its recording began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub at: Instant,
    pub start: Start,
    pub mem: MemAccount,
    pub challenge: ChallengeLimit,
    /// JSON: keys that a later build added take their defaults.
    pub config: String,
}

pub(super) fn begin_block(
    at: Instant,
    start: &Start,
    mem: &MemAccount,
    challenge: &ChallengeLimit,
    cfg: &Config,
) -> Option<Vec<u8>> {
    let config = serde_json::to_string(cfg).ok()?;
    let begin = Begin { at, start: start.clone(), mem: *mem, challenge: *challenge, config };
    postcard::to_stdvec(&begin).ok()
}

/// One connection of a file.
#[derive(Clone, Debug)]
pub struct FlowRecording<'a> {
    /// Which.
    pub head: FlowHead,
    /// How it ended; `None` in a file that was cut off.
    pub end: Option<End>,
    pub(super) begin: Begin,
    pub(super) config: Config,
    pub(super) state: Option<&'a [u8]>,
    pub(super) calls: Vec<&'a [u8]>,
}

impl<'a> FlowRecording<'a> {
    /// Its calls.
    pub fn records(&self) -> Records<'a> {
        Records::new(self.calls.clone(), self.begin.at)
    }
    /// When it began, on the connection's clock.
    pub fn began(&self) -> Instant {
        self.begin.at
    }
    /// How it began.
    pub fn start(&self) -> &Start {
        &self.begin.start
    }
    /// The configuration that it began with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Recording<'a> {
    /// Who made it.
    pub head: Head,
    /// Its connections, in the order in which they began.
    pub flows: Vec<FlowRecording<'a>>,
}

#[derive(Default)]
struct Pieces<'a> {
    head: Option<FlowHead>,
    begin: Option<(Begin, Config)>,
    state: Option<&'a [u8]>,
    calls: Vec<&'a [u8]>,
    end: Option<End>,
}

impl<'a> Recording<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// A file that is no recording, of another format, cut off or damaged.
    pub fn parse(file: &'a [u8]) -> Result<Self, RecordError> {
        let (recording, trouble) = Self::parse_what_is_there(file)?;
        trouble.map_or(Ok(recording), Err)
    }

    /// Reads as much as is there: the second value tells why there is no more.
    ///
    /// # Errors
    /// When not even the head can be read.
    pub fn parse_what_is_there(file: &'a [u8]) -> Result<(Self, Option<RecordError>), RecordError> {
        let whole = MAGIC.len() + 2;
        if file.len() < whole {
            let begins = !file.is_empty() && MAGIC.starts_with(&file[..file.len().min(MAGIC.len())]);
            return Err(if begins { RecordError::Truncated(file.len()) } else { RecordError::Foreign });
        }
        if !file.starts_with(MAGIC) {
            return Err(RecordError::Foreign);
        }
        let version = u16::from_le_bytes([file[8], file[9]]);
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let mut at = whole;
        let (kind, _, payload) = next_block(file, &mut at)?;
        let damaged = RecordError::Damaged { at: whole, what: "the head says nothing" };
        let head: Head = match kind {
            BlockKind::Head => serde_json::from_slice(payload).map_err(|_| damaged)?,
            _ => return Err(damaged),
        };
        if head.calls != call_layout() {
            return Err(RecordError::Calls { version: head.version, found: head.calls, known: call_layout() });
        }
        let mut pieces = BTreeMap::new();
        let trouble = collect(file, at, &mut pieces).err();
        let flows: Vec<_> = pieces.into_values().filter_map(Pieces::whole).collect();
        if flows.is_empty() {
            return Err(trouble.unwrap_or(RecordError::Empty));
        }
        Ok((Self { head, flows }, trouble))
    }

    /// One of its connections, counted from 1.
    ///
    /// # Errors
    /// There are not that many.
    pub fn flow(&self, number: usize) -> Result<&FlowRecording<'a>, RecordError> {
        let have = self.flows.len();
        let flow = number.checked_sub(1).and_then(|n| self.flows.get(n));
        flow.ok_or(RecordError::NoFlow { have, asked: number })
    }

    /// Whether states in it can be read by this build.
    pub fn state_is_readable(&self) -> bool {
        self.head.state == state_layout()
    }
}

impl<'a> Pieces<'a> {
    fn whole(self) -> Option<FlowRecording<'a>> {
        let (begin, config) = self.begin?;
        Some(FlowRecording { head: self.head?, end: self.end, begin, config, state: self.state, calls: self.calls })
    }
}

fn collect<'a>(file: &'a [u8], mut at: usize, flows: &mut BTreeMap<u32, Pieces<'a>>) -> Result<(), RecordError> {
    loop {
        let start = at;
        let damaged = |what| RecordError::Damaged { at: start, what };
        let (kind, number, payload) = next_block(file, &mut at)?;
        if kind == BlockKind::Done {
            let rest = at == file.len();
            let open = flows.values().any(|f| f.end.is_none());
            return match (rest, open) {
                (false, _) => Err(RecordError::Damaged { at, what: "something follows the end" }),
                (true, true) => Err(RecordError::Damaged { at: start, what: "a connection has no end" }),
                (true, false) => Ok(()),
            };
        }
        let flow = match kind {
            BlockKind::Flow => flows.entry(number).or_default(),
            _ => flows.get_mut(&number).ok_or_else(|| damaged("a block of a connection that was not introduced"))?,
        };
        if flow.end.is_some() || flow.begin.is_none() && matches!(kind, BlockKind::Calls | BlockKind::State) {
            return Err(damaged("a block out of order"));
        }
        match kind {
            BlockKind::Head | BlockKind::Done => return Err(damaged("a second head")),
            BlockKind::Flow if flow.head.is_some() => return Err(damaged("a connection is introduced twice")),
            BlockKind::Flow => {
                flow.head = Some(serde_json::from_slice(payload).map_err(|_| damaged("a connection without a name"))?);
            }
            BlockKind::Begin => {
                let begin: Begin = postcard::from_bytes(payload).map_err(|_| damaged("a beginning without sense"))?;
                let config =
                    serde_json::from_str(&begin.config).map_err(|_| damaged("a configuration without sense"))?;
                flow.begin = Some((begin, config));
            }
            BlockKind::State => flow.state = Some(payload),
            BlockKind::Calls => flow.calls.push(payload),
            BlockKind::End => {
                flow.end = Some(End::read(payload).ok_or_else(|| damaged("an end without sense"))?);
            }
        }
    }
}

fn next_block<'a>(file: &'a [u8], at: &mut usize) -> Result<(BlockKind, u32, &'a [u8]), RecordError> {
    let start = *at;
    let cut = || RecordError::Truncated(file.len());
    let head: &[u8; BLOCK_HEAD] = file.get(start..).and_then(|f| f.first_chunk()).ok_or_else(cut)?;
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let kind =
        BlockKind::from_byte(head[0]).ok_or(RecordError::Damaged { at: start, what: "a block of no known kind" })?;
    let body = start + BLOCK_HEAD;
    let end = body.checked_add(word(5) as usize).ok_or_else(cut)?;
    let payload = file.get(body..end).ok_or_else(cut)?;
    if block_sum(head, payload) != word(9) {
        return Err(RecordError::Damaged { at: start, what: "a block does not match its checksum" });
    }
    *at = end;
    Ok((kind, word(1), payload))
}
