//! Clients: how they attach (`attach.rs`), and how a shard serves and ends them (`lease.rs`).

pub mod attach;
pub mod lease;

pub use attach::NewSession;
