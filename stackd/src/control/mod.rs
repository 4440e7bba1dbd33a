//! The control plane: `stackd.v1` over a Unix socket.
//!
//! Tasks here never touch a shard's data: they send [`backend::Command`]s and await replies.

pub mod backend;
