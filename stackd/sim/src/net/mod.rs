//! Whole hosts on a network of links and middleboxes, in virtual time: real packets, real checksums, real socket calls.

pub mod app;
pub mod content;
mod host;
pub mod middlebox;
mod node;
mod packet;
mod watch;
mod world;

pub use host::{AFTERMATH, Host, HostConfig, SockOption, Task};
pub use node::{Node, Wrong};
pub use packet::{IpPacket, Segment};
pub use watch::Watch;
pub use world::{Failure, Stage, World};
