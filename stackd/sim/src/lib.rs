//! Virtual time and virtual links: a test instrument for the stack, and a user's tool.
//!
//! The very code that runs in the daemon runs here, at 10 Gbit/s on a laptop, and a seed is a whole history: running it again
//! gives the same one.
#![forbid(unsafe_code)]

mod events;
mod frame;
mod link;
mod loss;

pub use events::EventQueue;
pub use frame::{Frame, OVERHEAD};
pub use link::{Link, LinkConfig, LinkStats};
pub use loss::{GilbertElliott, Loss, LossProcess, Probability};
