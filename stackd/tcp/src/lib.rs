//! One TCP connection as a state machine that does no I/O.
//!
//! Segments, API calls and time go in through `handle_*`; segments, events and deadlines come out through `poll_*`.
//! Payload never passes through here: the connection speaks of ranges of two byte streams (offsets are 64 bit, 0 is the
//! first byte after SYN), and the caller owns the bytes.
//!
//! Order of calls, after any `handle_*`: [`Connection::poll_transmit`] until `None`, [`Connection::poll_event`] until `None`, then
//! [`Connection::next_deadline`] says when [`Connection::handle_timeout`] is due.
#![forbid(unsafe_code)]

mod ack_policy;
pub mod cc;
mod config;
mod connection;
pub mod rate;
mod reassembly;
pub mod record;
mod recovery;
mod rtt;
mod scoreboard;
mod seam;
mod window;

#[cfg(test)]
mod tests;

pub use config::{Config, EcnMode, FlowParams};
pub use connection::{
    AccEcnInfo, Connection, FastOpen, FastOpenLesson, Positions, RepairCall, RepairWindow, Request, TcpInfo,
};
pub use seam::{
    ChallengeLimit, CloseReason, Env, Event, IcmpError, IcmpKind, Ingress, MemAccount, Place, SegmentOut, State,
    TimerInfo,
};
pub use stackd_wire::EcnCodepoint as IpEcn;
