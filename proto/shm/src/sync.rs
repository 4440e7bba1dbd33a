//! The atomics under everything here: core's, or a model checker's.
//!
//! `RUSTFLAGS="--cfg loom"` or `"--cfg shuttle"` swaps them, and leaves out what needs mapped memory (regions, FIFOs, attach):
//! ring and doorbell, where the ordering arguments are, compile unchanged.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(all(shuttle, not(loom)))]
pub use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
