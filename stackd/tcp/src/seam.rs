//! What crosses the border between a connection and its stack.

use crate::Config;
use core::ops::Range;
use serde::{Deserialize, Serialize};
use stackd_base::{DropReason, Duration, Errno, Instant, MibCounters, Rng, SeqNum};
use stackd_wire::{EcnCodepoint, TcpRepr};

/// What a connection needs of its stack during a call.
#[allow(missing_debug_implementations)]
pub struct Env<'a> {
    /// Counters of the stack.
    pub mib: &'a mut MibCounters,
    /// Randomness.
    pub rng: &'a mut dyn Rng,
    /// Sysctls and this socket's options.
    pub cfg: &'a Config,
    /// TCP memory of the shard.
    pub mem: &'a mut MemAccount,
    /// Challenge ACKs of the shard.
    pub challenge: &'a mut ChallengeLimit,
}

/// `net.ipv4.tcp_mem` of one shard, in bytes. The stack keeps `used`; connections read it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MemAccount {
    /// Bytes that wait in send and receive buffers.
    pub used: u64,
    /// Above this, buffers grow no more.
    pub pressure: u64,
    /// Above this, out-of-order data is refused and windows close.
    pub high: u64,
}

impl MemAccount {
    /// Linux's `tcp_under_memory_pressure`.
    pub const fn under_pressure(&self) -> bool {
        self.used > self.pressure
    }
    /// The hard limit is reached.
    pub const fn exhausted(&self) -> bool {
        self.used > self.high
    }
}

impl Default for MemAccount {
    fn default() -> Self {
        Self { used: 0, pressure: 4 << 30, high: 6 << 30 }
    }
}

/// The budget of challenge ACKs that all connections of a shard share.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChallengeLimit {
    window_start: Instant,
    left: u32,
    started: bool,
}

impl ChallengeLimit {
    /// RFC 5961, 7: "an ACK throttling mechanism SHOULD be implemented". The budget of a second is drawn from
    /// `limit/2 .. 3*limit/2`: a fixed one is an oracle for off-path attackers (CVE-2016-5696).
    pub fn allow(&mut self, now: Instant, limit: u32, rng: &mut dyn Rng) -> bool {
        if limit == i32::MAX as u32 {
            return true;
        }
        if !self.started || now - self.window_start >= Duration::from_secs(1) {
            self.started = true;
            self.window_start = now;
            self.left = limit.div_ceil(2).saturating_add(rng.below(limit.max(1)));
        }
        let ok = self.left > 0;
        self.left = self.left.saturating_sub(1);
        ok
    }
}

/// A segment for the wire.
#[derive(Clone, Debug)]
pub struct SegmentOut {
    /// Header of the (first) segment.
    pub repr: TcpRepr,
    /// Bytes of the send stream that follow.
    pub payload: Option<Range<u64>>,
    /// Payload bytes of each segment when `payload` is to be cut into several; 0: it is one.
    pub gso_size: u16,
    /// Not to leave before; `None` = at once.
    pub departure: Option<Instant>,
    /// ECN field of the IP header.
    pub ecn: EcnCodepoint,
    /// All of it was sent before.
    pub is_retransmit: bool,
}

/// What became of an arriving segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ingress {
    /// Payload to keep.
    pub place: Option<Place>,
    /// The segment was refused.
    pub drop: Option<DropReason>,
}

/// Payload bytes `at .. at+len` belong at `stream_offset` of the receive stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where in the stream.
    pub stream_offset: u64,
    /// First byte in the payload.
    pub at: u32,
    /// How many.
    pub len: u32,
}

/// What the application or the stack must learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The handshake is complete.
    Connected,
    /// `rx_head` moved.
    Readable,
    /// `tx_released` or `tx_limit` moved.
    Writable,
    /// The peer's FIN is in order: end of file at `rx_head`.
    PeerClosed,
    /// TIME_WAIT begins (the stack may keep it in a smaller form) or the connection is gone.
    Closed(CloseReason),
    /// An ICMP error that does not end the connection.
    ErrorQueue(Errno),
    /// A handshake taught something about Fast Open: [`Connection::fast_open_lesson`](crate::Connection::fast_open_lesson).
    FastOpen,
    /// The peer's urgent pointer arrived or moved on.
    Urgent,
    /// Retransmissions go unanswered: the route and the neighbour behind it are to be doubted (RFC 9293, 3.8.3, R1).
    Doubt,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CloseReason {
    /// Both directions finished; `State::TimeWait` when the peer may still ask for our last ACK.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer reset it after its FIN: what we had still to say reached nobody.
    ResetAfterFin,
    /// The peer refused it: RST in answer to our SYN.
    Refused,
    /// Nobody answered: retransmissions, probes or keepalives exhausted.
    TimedOut,
    /// A hard ICMP error during the handshake.
    Unreachable(Errno),
    /// We aborted it.
    Aborted,
}

impl CloseReason {
    /// `SO_ERROR`; `None` for an orderly end or our own abort.
    pub const fn errno(self) -> Option<Errno> {
        match self {
            Self::Finished | Self::Aborted => None,
            Self::Reset => Some(Errno::ECONNRESET),
            Self::ResetAfterFin => Some(Errno::EPIPE),
            Self::Refused => Some(Errno::ECONNREFUSED),
            Self::TimedOut => Some(Errno::ETIMEDOUT),
            Self::Unreachable(e) => Some(e),
        }
    }
}

/// An ICMP error about a segment of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IcmpError {
    /// Sequence number of the quoted segment.
    pub seq: SeqNum,
    /// What it says.
    pub kind: IcmpKind,
}

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IcmpKind {
    /// Fragmentation needed or packet too big: new path MTU minus IP header and 20 bytes of TCP header.
    TooBig {
        /// As [`FlowParams::mss`](crate::FlowParams).
        mss: u32,
    },
    /// Protocol or port unreachable and the like: ends a handshake (RFC 1122, 4.2.3.9).
    Hard(Errno),
    /// Network or host unreachable, time exceeded.
    Soft(Errno),
}

/// RFC 9293, 3.3.2. Values are Linux's (`TCP_ESTABLISHED` = 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum State {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Closing = 11,
}

impl State {
    /// Both SYNs were exchanged.
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived | Self::Closed)
    }
    /// The application may still send.
    pub const fn can_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }
    /// The peer may still send data.
    pub const fn can_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }
}

/// The timer `ss -o` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerInfo {
    /// `on` (1), `keepalive` (2), `persist` (4) as in `idiag_timer`.
    pub kind: u8,
    /// When it fires.
    pub at: Instant,
    /// How often it fired in a row.
    pub retransmits: u8,
}
