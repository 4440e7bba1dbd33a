//! Doorbells: waking a peer that sleeps, and only then.
//!
//! Each side has an `asleep` word that the other reads, and an eventfd that the other writes.
//!
//! ```text
//! producer:  P1 publish (ring tail, Release)        consumer:  C1 asleep = 1
//!            P2 fence SeqCst                                   C2 fence SeqCst
//!            P3 if asleep { ring the eventfd }                 C3 look at the ring again; found something: asleep = 0, go on
//!                                                              C4 block on the eventfd; then asleep = 0
//! ```
//! **No wake-up is lost** (Dekker's argument): the fences P2 and C2 are totally ordered. If P2 comes first, C3 reads what P1
//! wrote (C11 29.3p7: a read after the later fence sees the write before the earlier one) and the consumer does not block. If
//! C2 comes first, P3 reads the 1 of C1 by the same rule, and the producer rings. Without either fence both may read the old
//! value (x86's store buffer does just that), and both wait: the models in `tests/loom.rs` show this to happen.
//!
//! A producer that rings takes the word down (`swap(0)`), so that ten entries published to a sleeper cost one system call:
//! whoever takes it down rings, and the consumer looks at everything once it wakes, which it does after the taker's write.
//! A spurious ring is harmless; the consumer drains the eventfd before it looks.

use crate::sync::{AtomicU32, Ordering, fence};

/// One side's `asleep` word.
#[derive(Clone, Copy, Debug)]
pub struct Asleep<'a>(pub &'a AtomicU32);

impl Asleep<'_> {
    /// Producer, after publishing: must the peer be rung?
    #[must_use = "the peer sleeps for ever if nobody rings"]
    pub fn must_ring(self) -> bool {
        // Orders the publishing store (ring tail) before the load of `asleep`: P2.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Consumer, before its last look at the rings and before it blocks.
    pub fn prepare(self) {
        self.0.store(1, Ordering::Relaxed);
        // Orders the store to `asleep` before the loads of the ring indices: C2.
        fence(Ordering::SeqCst);
    }

    /// Consumer, awake again (or it found something on its last look).
    pub fn awake(self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
