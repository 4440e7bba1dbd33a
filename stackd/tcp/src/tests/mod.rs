//! Tests of the whole connection: a segment at a time, and two connections over a bad link.

mod accecn;
mod acks;
mod board;
mod deadlines;
mod ecn_pmtu;
mod episodes;
mod fastopen;
mod handshake;
mod invariants;
pub(crate) mod link;
mod loss;
mod mtu;
mod pair;
mod receiving;
mod recovery;
mod repair;
mod rfc9293;
mod rtt;
mod rules;
mod segments;
mod shipped;
mod sizes;
mod sparing;
mod timeouts;
mod timers;
mod undo;
mod urgent;
