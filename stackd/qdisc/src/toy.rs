//! A packet for tests.

use crate::QueuedPacket;
use stackd_base::Instant;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toy {
    pub id: u64,
    pub flow: u64,
    pub len: u32,
    pub segments: u32,
    pub departure: Option<Instant>,
    pub priority: u8,
    pub rate: u64,
    pub ect: bool,
    pub ce: bool,
    pub corrupted: bool,
}

impl Toy {
    pub(crate) const fn new(flow: u64, id: u64) -> Self {
        let rate = u64::MAX;
        Self {
            id,
            flow,
            len: 1500,
            segments: 1,
            departure: None,
            priority: 0,
            rate,
            ect: false,
            ce: false,
            corrupted: false,
        }
    }
}

impl QueuedPacket for Toy {
    fn wire_len(&self) -> u32 {
        self.len * self.segments
    }
    fn segments(&self) -> u32 {
        self.segments
    }
    fn flow_hash(&self) -> u64 {
        self.flow
    }
    fn departure(&self) -> Option<Instant> {
        self.departure
    }
    fn priority(&self) -> u8 {
        self.priority
    }
    fn max_pacing_rate(&self) -> u64 {
        self.rate
    }
    fn ecn_capable(&self) -> bool {
        self.ect
    }
    fn mark_ce(&mut self) {
        self.ce = true;
    }
    fn split_first(&mut self) -> Option<Self> {
        if self.segments < 2 {
            return None;
        }
        self.segments -= 1;
        Some(Self { segments: 1, ..self.clone() })
    }
    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
    fn corrupt(&mut self, _: u64) {
        self.corrupted = true;
    }
}
