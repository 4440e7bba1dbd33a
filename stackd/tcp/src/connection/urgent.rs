//! Urgent data (RFC 9293, 3.8.5; RFC 6093), as Linux has it: one byte at a time is urgent, the last one of what the pointer covers.
//!
//! The byte stays in the stream: whoever reads it is told where it lies ([`Connection::urgent_mark`]) and takes it out of line, or in
//! line (`SO_OOBINLINE`), himself.

use super::Connection;
use crate::record::What;
use crate::seam::{Env, Event, State};
use serde::{Deserialize, Serialize};
use stackd_base::Instant;
use stackd_wire::{TcpFlags, TcpRepr};

/// Both directions' urgent state.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Urgent {
    /// SND.UP: send position of the octet following the urgent data; 0 before any.
    snd_up: u64,
    /// Stream offset of the byte that the peer's pointer marks, until it is read.
    mark: Option<u64>,
    /// It was read out of line (`MSG_OOB`): only its place is left.
    taken: bool,
}

impl Urgent {
    /// URG and its pointer for a segment at position `pos`.
    pub fn pointer(&self, pos: u64, una: u64, nxt: u64) -> (TcpFlags, u16) {
        if self.snd_up <= una || pos >= self.snd_up {
            return (TcpFlags::NONE, 0);
        }
        // RFC 9293, 3.8.5 (MUST-62): "The urgent pointer MUST point to the sequence number of the octet following the urgent data."
        match u16::try_from(self.snd_up - pos) {
            Ok(offset) => (TcpFlags::URG, offset),
            // (MUST-31): "of any length": too far for the field, it says as much as the field can.
            Err(_) if pos + 0xffff > nxt => (TcpFlags::URG, 0xffff),
            Err(_) => (TcpFlags::NONE, 0),
        }
    }
}

impl Connection {
    /// The application wrote up to `head`, the last byte urgent (`MSG_OOB`).
    pub fn handle_written_urgent(&mut self, now: Instant, head: u64, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::WrittenUrgent { head }, env);
            return;
        }
        let before = self.written;
        self.handle_written(now, head, env);
        if self.written > before {
            self.urg.get_or_insert_default().snd_up = self.written + 1;
        }
    }

    /// What is written next up to `end` is urgent, its last byte being the urgent one: to be said before those bytes are written.
    pub fn handle_mark_urgent(&mut self, end: u64) {
        if self.tape.is_some() {
            self.taped_bare(None, What::MarkUrgent { end }, None);
            return;
        }
        if !self.fin_wanted && self.state != State::Closed {
            self.urg.get_or_insert_default().snd_up = end + 1;
        }
    }

    /// The urgent byte was read out of line.
    pub fn handle_urgent_taken(&mut self) {
        if self.tape.is_some() {
            self.taped_bare(None, What::UrgentTaken, None);
            return;
        }
        if let Some(u) = &mut self.urg {
            u.taken = true;
        }
    }

    /// Urgent data is not acknowledged yet: it leaves without waiting for company, a segment at a time.
    pub(super) fn urgent_pending(&self) -> bool {
        self.urg.as_ref().is_some_and(|u| u.snd_up > self.una)
    }

    /// RFC 9293, 3.10.7.4, sixth: the peer's pointer. `start` is the stream offset of the segment's first byte.
    pub(super) fn take_urgent(&mut self, seg: &TcpRepr, start: i64, env: &Env<'_>) {
        if !seg.flags.urg() || !self.state.can_receive() {
            return;
        }
        // ip-sysctl, tcp_stdurg: RFC 1122 says that the pointer is the last urgent byte; everybody else, and RFC 6093, that it is the one after.
        let back = i64::from(seg.urgent > 0 && !env.cfg.stdurg);
        let mark = start + i64::from(seg.urgent) - back;
        // What was received, or marked further on already, is no news.
        let Ok(mark) = u64::try_from(mark) else { return };
        if mark < self.rcv_nxt || self.urgent_mark().is_some_and(|m| m >= mark) {
            return;
        }
        let u = self.urg.get_or_insert_default();
        (u.mark, u.taken) = (Some(mark), false);
        // (MUST-32): "inform the application layer asynchronously whenever it receives an urgent pointer and there was previously no pending
        // urgent data, or whenever the urgent pointer advances in the data stream".
        self.notify(Event::Urgent);
    }

    /// Stream offset of the urgent byte, until it is read.
    pub fn urgent_mark(&self) -> Option<u64> {
        self.urg.as_ref()?.mark
    }

    /// The urgent byte is here and was not read: `POLLPRI`, and what `MSG_OOB` reads.
    pub fn has_urgent(&self) -> bool {
        !self.is_urgent_taken() && self.urgent_mark().is_some_and(|m| m < self.rx_head())
    }

    /// The urgent byte was read out of line; its place is still marked.
    pub fn is_urgent_taken(&self) -> bool {
        self.urg.as_ref().is_some_and(|u| u.taken)
    }

    /// (MUST-33): "a way for the application to learn how much urgent data remains to be read": bytes up to the urgent one and with it.
    pub fn urgent_left(&self) -> Option<u64> {
        self.urgent_mark().map(|m| m + 1 - self.rcv.consumed.min(m + 1))
    }

    /// `SIOCATMARK`: the next byte to be read is the urgent one.
    pub fn at_urgent_mark(&self) -> bool {
        self.urgent_mark() == Some(self.rcv.consumed)
    }

    /// The application read on: past the mark there is none.
    pub(super) fn forget_urgent(&mut self) {
        if let Some(u) = &mut self.urg
            && u.mark.is_some_and(|m| m < self.rcv.consumed)
        {
            u.mark = None;
        }
    }
}
