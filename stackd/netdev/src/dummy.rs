//! A device that swallows what it is given, as Linux's `dummy`: a place for addresses and routes that no wire is needed for.

use crate::{Caps, Device, RxMeta, TxFrame, TxResult};
use stackd_base::{Instant, QueueId};

/// One queue of it.
#[derive(Debug)]
pub struct Dummy {
    queue: QueueId,
    mtu: u32,
}

impl Dummy {
    /// A queue of a device with this MTU.
    pub const fn new(queue: QueueId, mtu: u32) -> Self {
        Self { queue, mtu }
    }
}

impl Device for Dummy {
    fn queue(&self) -> QueueId {
        self.queue
    }
    fn caps(&self) -> Caps {
        // Nobody is there to be asked for an address: as NOARP on Linux.
        Caps { mtu: self.mtu, tx_csum: true, tso_max: 65_535, uso: true, gro: false, ethernet: false }
    }
    fn receive(&mut self, _: Instant, _: &mut [u8]) -> std::io::Result<Option<RxMeta>> {
        Ok(None)
    }
    unsafe fn transmit(&mut self, _: Instant, _: &TxFrame<'_>) -> TxResult {
        TxResult::Sent
    }
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
