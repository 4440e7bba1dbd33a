//! Packets as bytes: those that scripts inject are built here, those that the stack sends are taken apart here.
//!
//! On purpose not with the stack's own codec: what it writes wrongly it would read back rightly.

mod build;
mod icmp;
mod options;
mod show;
mod view;

pub use build::{Ends, build_icmp, build_tcp, build_udp, wrap};
pub use icmp::{code_of, type_of};
pub use options::{encode, parse_options};
pub use show::show_packet;
pub use view::View;

/// IP's protocol numbers.
#[allow(missing_docs)]
pub mod proto {
    pub const ICMP: u8 = 1;
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
    pub const MPLS: u8 = 137;
}

/// The Internet checksum (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        debug_assert!(part.len().is_multiple_of(2) || std::ptr::eq(*part, *parts.last().expect("not empty")));
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What transport checksums cover of the IP header.
pub fn pseudo(src: std::net::IpAddr, dst: std::net::IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for a in [src, dst] {
        match a {
            std::net::IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
            std::net::IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
        }
    }
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.extend_from_slice(&u32::from(protocol).to_be_bytes());
    out
}
