//! A device in memory, for tests of middleware.

use crate::{Caps, Device, Offload, RxMeta, TxFrame, TxResult, gather};
use stackd_base::{Instant, QueueId};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub sent: Vec<(Vec<u8>, Offload)>,
    pub waiting: VecDeque<(Vec<u8>, Offload)>,
    /// Frames it takes before it is full.
    pub room: Option<usize>,
    /// It refuses everything.
    pub broken: bool,
    pub offloads: bool,
}

impl Device for Memory {
    fn queue(&self) -> QueueId {
        QueueId(0)
    }
    fn caps(&self) -> Caps {
        let tso_max = if self.offloads { 65_535 } else { 0 };
        Caps { mtu: 1500, tx_csum: self.offloads, tso_max, uso: self.offloads, gro: true, ethernet: true }
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        Ok(self.waiting.pop_front().map(|(bytes, offload)| {
            buf[..bytes.len()].copy_from_slice(&bytes);
            RxMeta { at: now, offload, start: 0, len: bytes.len() }
        }))
    }
    unsafe fn transmit(&mut self, _: Instant, frame: &TxFrame<'_>) -> TxResult {
        if self.broken {
            return TxResult::Refused(io::Error::other("broken"));
        }
        match &mut self.room {
            Some(0) => return TxResult::Busy,
            Some(n) => *n -= 1,
            None => {}
        }
        let mut bytes = Vec::new();
        // SAFETY: by this function's contract.
        unsafe { gather(frame.pieces, &mut bytes) };
        self.sent.push((bytes, frame.offload));
        TxResult::Sent
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
