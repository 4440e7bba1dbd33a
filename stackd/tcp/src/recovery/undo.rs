//! Undoing a reduction that proves unnecessary: by DSACK (RFC 3708), by timestamps (Eifel, RFC 3522, 4015).

use serde::{Deserialize, Serialize};

/// What it takes to prove a recovery spurious.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// `una` when the episode began; `None`: nothing to undo.
    pub marker: Option<u64>,
    /// Retransmitted packets not yet reported as duplicates; `None` before the first retransmission.
    pub unreported: Option<u32>,
}

impl Undo {
    pub fn start(una: u64, retrans_out: u32) -> Self {
        Self { marker: Some(una), unreported: (retrans_out > 0).then_some(retrans_out) }
    }
    pub fn on_retransmit(&mut self, packets: u32) {
        if self.marker.is_some() {
            self.unreported = Some(self.unreported.unwrap_or(0) + packets);
        }
    }
    /// A DSACK covered `packets` whose end lies at `end`.
    pub fn on_dsack(&mut self, end: u64, packets: u32) {
        if self.marker.is_some_and(|m| end > m)
            && let Some(n) = &mut self.unreported
        {
            *n = n.saturating_sub(packets);
        }
    }
    /// Every retransmission was a duplicate.
    pub fn all_duplicates(&self) -> bool {
        self.marker.is_some() && self.unreported == Some(0)
    }
}
