//! The calls a connection gets, as values: one that is recorded is made again by [`Connection::apply`].

use super::digest::checksum;
use crate::seam::{Env, Event, IcmpError, Ingress, SegmentOut};
use crate::{Connection, FastOpenLesson, RepairCall, cc};
use serde::{Deserialize, Serialize};
use stackd_base::{Duration, Instant, SeqNum};
use stackd_wire::{EcnCodepoint, FastOpenCookie, TcpFlags, TcpRepr};

/// What was called, without when. Names are those of the methods.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum What {
    Segment {
        seg: TcpRepr,
        len: u32,
        ecn: EcnCodepoint,
    },
    Transmit,
    TxComplete {
        bytes: u32,
    },
    Written {
        head: u64,
    },
    Consumed {
        tail: u64,
    },
    WrittenUrgent {
        head: u64,
    },
    Path {
        mss: u32,
    },
    Timeout,
    /// An event was taken out.
    Event,
    Icmp(IcmpError),
    ShutdownWrite,
    Close {
        unread: bool,
    },
    Abort,
    SetCongestion {
        #[serde(with = "cc::name")]
        name: cc::Name,
    },
    SetPortPaces(bool),
    RearmKeepalive,
    GrantCookie(FastOpenCookie),
    NoteSynEcn(EcnCodepoint),
    FastOpenLesson,
    TxPiece {
        bytes: u32,
    },
    SetMore(bool),
    SetReadShut(bool),
    Repair(RepairCall),
    MarkUrgent {
        end: u64,
    },
    UrgentTaken,
    SetRcvBuf(u64),
    Flush,
}

/// What a call answered.
#[derive(Clone, Debug)]
#[allow(missing_docs, clippy::large_enum_variant, reason = "lives on the stack for one call")]
pub enum Outcome {
    Done,
    Ingress(Ingress),
    Segment(Option<SegmentOut>),
    Event(Option<Event>),
    Known(bool),
    Lesson(Option<FastOpenLesson>),
}

/// What a recording keeps of an [`Outcome`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Output {
    #[default]
    Nothing,
    /// Payload was placed, or the segment refused: a checksum of where and why.
    Ingress(u32),
    Sent(Sent),
    Event(Event),
    Known(bool),
}

/// A segment that left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Its first sequence number.
    pub seq: SeqNum,
    /// Payload bytes.
    pub len: u32,
    /// Payload bytes of each packet; 0: one packet.
    pub gso_size: u16,
    /// Control bits without ACK.
    pub flags: TcpFlags,
    /// It was held back for that long by pacing.
    pub departs_in: Option<Duration>,
    /// All of it was sent before.
    pub is_retransmit: bool,
    /// Checksum of everything, options included.
    pub sum: u32,
}

impl Sent {
    fn of(now: Option<Instant>, out: &SegmentOut) -> Self {
        let SegmentOut { repr, payload, gso_size, departure, ecn, is_retransmit } = out;
        let range = payload.clone().unwrap_or_default();
        let sum = checksum(&(repr, range.start, range.end, gso_size, departure, ecn, is_retransmit));
        Self {
            seq: repr.seq,
            len: (range.end - range.start) as u32,
            gso_size: *gso_size,
            flags: repr.flags,
            departs_in: departure.zip(now).map(|(at, now)| at - now),
            is_retransmit: *is_retransmit,
            sum,
        }
    }
}

impl Outcome {
    /// What is kept of it.
    pub(super) fn output(&self, now: Instant) -> Output {
        match self {
            // What a lesson says follows from the state.
            Self::Done | Self::Segment(None) | Self::Event(None) | Self::Lesson(_) => Output::Nothing,
            Self::Ingress(i) if *i == Ingress::default() => Output::Nothing,
            Self::Ingress(Ingress { place, drop }) => {
                let place = place.map(|p| (p.stream_offset, p.at, p.len));
                Output::Ingress(checksum(&(place, drop.map(|d| d.name()))))
            }
            Self::Segment(Some(out)) => Output::Sent(Sent::of(Some(now), out)),
            Self::Event(Some(e)) => Output::Event(*e),
            Self::Known(k) => Output::Known(*k),
        }
    }

    pub(crate) fn ingress(self) -> Ingress {
        if let Self::Ingress(i) = self { i } else { Ingress::default() }
    }
    pub(crate) fn segment(self) -> Option<SegmentOut> {
        if let Self::Segment(s) = self { s } else { None }
    }
    pub(crate) fn event(self) -> Option<Event> {
        if let Self::Event(e) = self { e } else { None }
    }
    pub(crate) fn lesson(self) -> Option<FastOpenLesson> {
        if let Self::Lesson(l) = self { l } else { None }
    }
    pub(crate) fn known(self) -> bool {
        matches!(self, Self::Known(true))
    }
}

impl Connection {
    /// Makes a call that was recorded.
    pub fn apply(&mut self, at: Instant, what: &What, env: &mut Env<'_>) -> Outcome {
        match what {
            What::Segment { seg, len, ecn } => {
                return Outcome::Ingress(self.handle_segment(at, seg, *len, *ecn, env));
            }
            What::Transmit => return Outcome::Segment(self.poll_transmit(at, env)),
            What::Written { head } => self.handle_written(at, *head, env),
            What::WrittenUrgent { head } => self.handle_written_urgent(at, *head, env),
            What::Path { mss } => self.handle_path(at, *mss, env),
            What::Consumed { tail } => self.handle_consumed(at, *tail, env),
            What::Timeout => self.handle_timeout(at, env),
            What::Icmp(error) => self.handle_icmp(at, *error, env),
            What::ShutdownWrite => self.handle_shutdown_write(at, env),
            What::Close { unread } => self.handle_close(at, *unread, env),
            What::Abort => self.handle_abort(env),
            What::SetCongestion { name } => return Outcome::Known(self.set_congestion(at, name, env.cfg)),
            What::RearmKeepalive => self.rearm_keepalive(at, env.cfg),
            What::Repair(call) => self.handle_repair(at, *call, env),
            What::TxComplete { .. }
            | What::TxPiece { .. }
            | What::Event
            | What::SetPortPaces(_)
            | What::SetMore(_)
            | What::Flush
            | What::SetReadShut(_)
            | What::MarkUrgent { .. }
            | What::UrgentTaken
            | What::SetRcvBuf(_)
            | What::GrantCookie(_)
            | What::NoteSynEcn(_)
            | What::FastOpenLesson => return self.apply_bare(what),
        }
        Outcome::Done
    }

    /// The same for calls that look at nothing outside.
    pub(super) fn apply_bare(&mut self, what: &What) -> Outcome {
        match what {
            What::TxComplete { bytes } => self.handle_tx_complete(*bytes),
            What::TxPiece { bytes } => self.handle_tx_piece(*bytes),
            What::Event => return Outcome::Event(self.poll_event()),
            What::SetPortPaces(paces) => self.set_port_paces(*paces),
            What::SetMore(more) => self.set_more(*more),
            What::Flush => self.flush(),
            What::SetReadShut(shut) => self.set_read_shut(*shut),
            What::MarkUrgent { end } => self.handle_mark_urgent(*end),
            What::UrgentTaken => self.handle_urgent_taken(),
            What::SetRcvBuf(bytes) => self.set_rcvbuf(*bytes),
            What::GrantCookie(cookie) => self.grant_cookie(*cookie),
            What::NoteSynEcn(ip) => self.note_syn_ecn(*ip),
            What::FastOpenLesson => return Outcome::Lesson(self.fast_open_lesson()),
            _ => {}
        }
        Outcome::Done
    }
}
