//! One shard's whole stack: IP, sockets, routes, neighbours, sysctls. Sans-I/O: packets, time and randomness are arguments.
//!
//! [`Stack`] is the facade. The bytes of sockets belong to the shell, behind [`ByteStore`].
#![forbid(unsafe_code)]

pub mod addr;
pub mod demux;
mod icmp;
mod icmpv6;
pub mod ip;
mod isn;
pub mod neigh;
pub mod packet;
pub mod port;
pub mod route;
pub mod socket;
mod store;
pub mod timer_wheel;
mod types;

pub use store::{ByteStore, FifoKind, OwnerId};
pub use types::{Domain, Readiness, Shutdown, SockEvent, SocketKind, StackConfig};
