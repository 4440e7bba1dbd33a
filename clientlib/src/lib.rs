//! Sockets in a stackd daemon, shaped like the standard library's.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! let mut stream = stackd_client::TcpStream::connect("192.0.2.1:80")?;
//! stream.set_congestion("bbr")?;
//! stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//! A [`Session`] is one process's attachment to one daemon; without a word about it, all sockets use the process's default session.
//! [`tokio`] holds the asynchronous flavour. Errors are `io::Error`s with Linux's errno inside.
//!
//! **Fork.** A child shares the memory of its parent's session, and neither knows what the other did: after `fork`, a child must not use
//! sockets of the parent (exec, or open a new [`Session`]). Descriptors are close-on-exec.
//!
//! **The daemon's death** ends the session: every blocked call returns ECONNRESET at once, every later one too. A new [`Session::connect`]
//! reaches the next daemon.

mod keys;
mod lane;
mod options;
pub mod raw;
mod session;
mod socket;
mod tcp;
mod tcp_info;
pub mod tokio;
mod udp;

pub use keys::{AoAlgorithm, AoKey, Peers};
pub use options::Linger;
pub use session::{Session, Stats};
pub use tcp::{Incoming, TcpConnect, TcpListener, TcpStream};
pub use tcp_info::TcpInfo;
pub use udp::UdpSocket;

#[cfg(test)]
mod fake_daemon;
#[cfg(test)]
mod hang_tests;
#[cfg(test)]
mod tests;
