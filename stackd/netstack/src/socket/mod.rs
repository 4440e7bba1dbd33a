//! Sockets: what programs hold, and what is left when they let go.

pub mod opts;
pub mod ports;
pub mod timewait;
