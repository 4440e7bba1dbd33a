//! What the end-to-end tests, the demo and the benchmarks share: building and finding our programs, network
//! namespaces, daemons that are started and stopped, and the shape of a visible skip.

pub mod bed;
pub mod bench;
pub mod bins;
pub mod daemon;
pub mod demo;
pub mod ns;
pub mod progress;
pub mod scenario;
pub mod sniff;
pub mod trials;
pub mod tshark;
