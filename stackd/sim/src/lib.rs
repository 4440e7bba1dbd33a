//! Virtual time and virtual links: a test instrument for the stack, and a user's tool.
//!
//! The very code that runs in the daemon runs here, at 10 Gbit/s on a laptop, and a seed is a whole history: running it again
//! gives the same one.
#![forbid(unsafe_code)]

mod coverage;
mod events;
mod experiment;
mod frame;
mod host;
mod link;
mod loss;
pub mod net;
mod pair;
pub mod scenario;

pub use coverage::Coverage;
pub use events::EventQueue;
pub use experiment::{Experiment, Point, Report};
pub use frame::{Frame, OVERHEAD};
pub use host::{Host, Violation};
pub use link::{Cargo, Link, LinkConfig, LinkStats};
pub use loss::{GilbertElliott, Loss, LossProcess, Probability};
pub use pair::{Pair, Side};
