//! The vocabulary every other crate of the stack speaks.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time, randomness and packets are arguments.
#![forbid(unsafe_code)]

mod counters;
mod drop;
mod errno;
mod ids;
mod rate;
mod rng;
mod seq;
mod time;

pub use counters::{Mib, MibCounters, MibEntry};
pub use drop::{DropCounters, DropReason};
pub use errno::Errno;
pub use ids::{FifoId, PortId, QueueId, ShardId, SockId};
pub use rate::{Bandwidth, Gain, Mss};
pub use rng::{Rng, SplitMix64};
pub use seq::SeqNum;
pub use time::{Clock, Duration, Instant};
