//! The shared-memory ABI between stackd and its clients: regions, rings, byte FIFOs, doorbells, and the attach handshake.
//!
//! The daemon's half ([`DaemonSession`], [`fifo::TxReader`], [`fifo::RxWriter`]) assumes that the client is an enemy; whatever it
//! finds comes back as a [`Breach`]. The client's half ([`ClientRing`], [`fifo::TxWriter`], [`fifo::RxReader`]) trusts its daemon, but
//! stays inside the mapping. This is the only crate with `unsafe` for shared memory.

pub mod abi;
pub mod breach;
pub mod doorbell;
pub mod ring;
mod sync;

#[cfg(not(any(loom, shuttle)))]
pub mod attach;
#[cfg(not(any(loom, shuttle)))]
pub mod chunk;
#[cfg(not(any(loom, shuttle)))]
mod client;
#[cfg(not(any(loom, shuttle)))]
mod daemon;
#[cfg(not(any(loom, shuttle)))]
pub mod fifo;
#[cfg(all(test, not(any(loom, shuttle))))]
mod mock_peer;
#[cfg(not(any(loom, shuttle)))]
pub mod neighbours;
#[cfg(not(any(loom, shuttle)))]
pub mod region;

pub use breach::Breach;
#[cfg(not(any(loom, shuttle)))]
pub use client::ClientRing;
#[cfg(not(any(loom, shuttle)))]
pub use daemon::{Call, DaemonRing, DaemonSession, DaemonSocket, SockStatus, doorbell_fd, drain_fd, ring_fd};
#[cfg(not(any(loom, shuttle)))]
pub use region::{Geometry, Region};
