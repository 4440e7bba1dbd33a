//! Loss recovery: what decides that a packet is lost, when to send it again, and when the decision was wrong.

pub(crate) mod frto;
mod prr;
mod rack;
mod rto;
pub(crate) mod tlp;
mod undo;

pub(crate) use prr::Prr;
pub(crate) use rack::Rack;
pub(crate) use rto::{RetransTimer, backed_off, retry_span};
pub(crate) use tlp::{Tlp, probe_timeout};
pub(crate) use undo::Undo;
