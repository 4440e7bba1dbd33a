//! One TCP connection as a state machine that does no I/O.
//!
//! Segments, API calls and time go in through `handle_*`; segments, events and deadlines come out through `poll_*`.
//! Payload never passes through here: the connection speaks of ranges of two byte streams (offsets are 64 bit, 0 is the
//! first byte after SYN), and the caller owns the bytes.
#![forbid(unsafe_code)]

pub mod cc;
pub mod rate;
