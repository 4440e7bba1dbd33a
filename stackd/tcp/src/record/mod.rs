//! Record and replay: a connection's whole life as the calls it got, and the same life again.
//!
//! A [`Connection`](crate::Connection) is a pure state machine, so its calls with their arguments and what it read of its surroundings (configuration,
//! memory account, challenge budget, random draws) are all there is to keep: [`Tape`] writes them down while it runs, with what came of
//! each ([`View`], [`Output`]). [`Recording`] reads them back, [`Replay`] makes them again.
//!
//! Payload is not in it: a connection never sees any.

mod call;
mod digest;
mod encode;
mod file;
mod layout;
mod records;
mod replay;
mod tape;
mod view;

#[cfg(test)]
mod tests;

pub use call::{Outcome, Output, Sent, What};
pub use digest::state_digest;
pub use file::{BlockKind, End, EndReason, FlowHead, FlowRecording, Framer, Head, RecordError, Recording, Start};
pub use layout::{call_layout, state_layout};
pub use records::{Record, Records};
pub use replay::{Replay, Step, Way};
pub use tape::{Tape, TapeOptions, TapeSink};
pub use view::View;
