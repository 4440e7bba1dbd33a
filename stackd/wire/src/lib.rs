//! Packet headers: parsed from bytes once, into representations that are legal by construction, and written back.
//!
//! Every `parse` accepts any bytes without panicking. A frame's first bytes (its `head`) may be all that is visible: lengths
//! of the whole packet are then arguments. Addresses are `std::net`'s. Nothing here allocates or does I/O.
#![forbid(unsafe_code)]

mod addr;
pub mod arp;
pub mod checksum;
mod error;
pub mod ethernet;
pub mod icmp;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
mod offload;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod tests;

pub use addr::{EcnCodepoint, MacAddr};
pub use arp::{ArpOperation, ArpRepr};
pub use checksum::Sum;
pub use error::ParseError;
pub use ethernet::{EtherType, EthernetRepr};
pub use icmp::{IcmpRepr, Unreachable};
pub use ipv4::Ipv4Repr;
pub use ipv6::{ExtensionError, Extensions, Ipv6Fragment, Ipv6Repr, ParameterProblem};
pub use ndp::{NdpRepr, PrefixInfo, RouterAdvert};
pub use offload::{Gso, Offload};
pub use tcp::{
    AccEcnOption, AoOption, FastOpenCookie, SackBlock, SackBlocks, TcpFlags, TcpOptions, TcpRepr, Timestamps,
    find_option,
};
pub use udp::UdpRepr;

/// Protocol numbers of IPv4's `protocol` and IPv6's `next header` (IANA).
pub mod proto {
    #![allow(missing_docs)]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT: u8 = 59;
    pub const DEST_OPTS: u8 = 60;
}
