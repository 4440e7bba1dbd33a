//! What sends and receives at the ends of a network.

use super::app::Outcome;
use super::packet::IpPacket;
use stackd_base::Instant;

/// Something wrong, that nothing on the way excuses.
pub type Wrong = String;

/// A host: a stack and its programs.
pub trait Node: std::fmt::Debug {
    /// A packet arrived.
    fn receive(&mut self, now: Instant, packet: IpPacket);
    /// A time that it asked for has come, or what is planned for it is due.
    fn handle_timeout(&mut self, now: Instant);
    /// Programs and stack do what they can; what is to leave goes to `out`.
    ///
    /// # Errors
    /// What a program read is not what was written; a rule of the wire was broken.
    fn poll(&mut self, now: Instant, out: &mut Vec<IpPacket>) -> Result<(), Wrong>;
    /// When `handle_timeout` is due.
    fn next_deadline(&self, now: Instant) -> Option<Instant>;
    /// What must hold after every event.
    ///
    /// # Errors
    /// What does not.
    fn check(&mut self, now: Instant) -> Result<(), Wrong>;
    /// No program holds a socket any more and none will.
    fn is_finished(&self) -> bool;
    /// What came of each connection of `flow`, in the order in which they began here.
    fn outcomes(&self, flow: u16) -> Vec<Outcome>;
    /// Everything is over and time has passed: nothing may be left.
    ///
    /// # Errors
    /// What is left.
    fn check_empty(&mut self, now: Instant) -> Result<(), Wrong>;
}
