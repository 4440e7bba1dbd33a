//! `TCP_REPAIR` of a socket.

use super::Socket;
use stackd_base::{Instant, SeqNum};

/// `TCP_REPAIR_QUEUE`, by Linux's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Queue {
    /// None.
    #[default]
    None = 0,
    /// What was received and not read.
    Receive = 1,
    /// What was written and not acknowledged.
    Send = 2,
}

impl Queue {
    /// The queue with this number.
    pub fn from_raw(n: i32) -> Option<Self> {
        match n {
            0 => Some(Self::None),
            1 => Some(Self::Receive),
            2 => Some(Self::Send),
            _ => None,
        }
    }
}

/// Made when a repair begins; kept afterwards, as Linux keeps its numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repair {
    /// Under repair now.
    pub on: bool,
    /// Chosen queue.
    pub queue: Queue,
    /// `TCP_QUEUE_SEQ` of the send queue, for the next connect.
    pub snd_seq: SeqNum,
    /// Of the receive queue.
    pub rcv_seq: SeqNum,
    /// `TCP_TIMESTAMP` for the next connect, and when it was said.
    pub clock: Option<(u32, Instant)>,
}

impl Socket {
    /// Under repair.
    pub fn is_repairing(&self) -> bool {
        self.repair.as_ref().is_some_and(|r| r.on)
    }

    /// What is kept of repairs.
    pub fn repair_mut(&mut self) -> &mut Repair {
        self.repair.get_or_insert_default()
    }
}
