//! The time of day, for those who ask when something came in. The protocols run on the monotonic clock; this one may jump.

use super::Stack;
use stackd_base::Instant;

/// How far the time of day is from the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Realtime {
    /// Added to a monotonic time, it is nanoseconds since 1970.
    offset: u64,
    /// Some socket asked for receive times (`SO_TIMESTAMP`): from then on the offset is kept up to date, as Linux begins to look at
    /// the clock for every packet.
    pub(crate) wanted: bool,
}

impl Realtime {
    /// Nanoseconds since 1970.
    pub(crate) fn at(self, now: Instant) -> u64 {
        now.as_nanos().wrapping_add(self.offset)
    }
}

impl Stack {
    /// Whether [`Stack::set_realtime`] should be called before frames are handed in.
    pub fn wants_realtime(&self) -> bool {
        self.realtime.wanted
    }

    /// It is so many nanoseconds since 1970 at `now`. Until it is said, the monotonic clock is taken for it.
    pub fn set_realtime(&mut self, now: Instant, unix_ns: u64) {
        self.realtime.offset = unix_ns.wrapping_sub(now.as_nanos());
    }
}
