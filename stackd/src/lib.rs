//! The daemon: an imperative shell around the stack.
//!
//! `config/` what it is told, `daemon.rs` start and stop, `shard/` the threads that own stacks and devices, `session/` clients and
//! what they may take, `dispatch/` the one syscall table, `store/` where the bytes of sockets live, `control/` gRPC.

pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dispatch;
pub mod instance;
pub mod session;
pub mod shard;
pub mod store;
pub mod telemetry;
