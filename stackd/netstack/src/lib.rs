//! One shard's whole stack: IP, sockets, routes, neighbours, sysctls. Sans-I/O: packets, time and randomness are arguments.
//!
//! [`Stack`] is the facade. The bytes of sockets belong to the shell, behind [`ByteStore`].
#![forbid(unsafe_code)]

pub mod addr;
pub mod auth;
pub mod demux;
pub mod diag;
mod heap_store;
mod icmp;
mod icmpv6;
pub mod ip;
mod isn;
mod layout;
pub mod neigh;
pub mod packet;
pub mod port;
pub mod route;
pub mod socket;
mod stack;
mod store;
pub mod sysctl;
pub mod timer_wheel;
mod types;

pub use diag::{DiagState, OptionFlags, OwnerUsage, SkMem, SocketInfo};
pub use heap_store::{HeapFifo, HeapStore};
pub use stack::{FastOpenKeys, NewFlow, QdiscError, Recorder, RxMeta, Stack};
pub use store::{ByteStore, FifoKind, OwnerId};
pub use types::{Domain, Readiness, Shutdown, SockEvent, SocketKind, StackConfig};
