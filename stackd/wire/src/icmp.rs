//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443): one set of messages for both.

use crate::{ParseError, Sum, proto};
use std::net::Ipv6Addr;

/// Bytes of the header in front of data, quoted packet or NDP body.
pub const HEADER_LEN: usize = 8;

/// Why a destination cannot be reached, independent of the family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Unreachable {
    /// No route to the network.
    Network,
    /// The host does not answer.
    Host,
    /// Nobody listens to the protocol (v4) / unrecognized next header (v6 says so by a parameter problem).
    Protocol,
    /// Nobody listens on the port.
    Port,
    /// A source route failed (v4) / beyond the scope of the source address (v6).
    Scope,
    /// Administratively prohibited.
    Prohibited,
    /// Another code, as on the wire.
    Other(u8),
}

/// An ICMP message of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpRepr {
    /// Echo request.
    EchoRequest {
        /// Identifier.
        ident: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Echo reply.
    EchoReply {
        /// Identifier.
        ident: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Destination unreachable.
    DestUnreachable(Unreachable),
    /// The packet did not fit: fragmentation needed (v4), packet too big (v6).
    PacketTooBig {
        /// MTU of the next hop; 0 when an old IPv4 router did not say (RFC 1191, 5).
        mtu: u32,
    },
    /// Time exceeded.
    TimeExceeded {
        /// In reassembly rather than in transit.
        reassembly: bool,
    },
    /// Parameter problem.
    ParameterProblem {
        /// Code.
        code: u8,
        /// Offset of the culprit in the quoted packet.
        pointer: u32,
    },
    /// Any other message (NDP, MLD, redirects, timestamps, …).
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Octets 4 to 8.
        rest: [u8; 4],
    },
}

impl IcmpRepr {
    /// Parses the header of an ICMPv4 message; its data follow at offset 8. Checksum: [`verify_v4`].
    ///
    /// # Errors
    /// `Truncated`.
    pub fn parse_v4(bytes: &[u8]) -> Result<Self, ParseError> {
        let &[kind, code, _, _, a, b, c, d] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Ok(match (kind, code) {
            (8, 0) => Self::EchoRequest { ident: hi, seq: lo },
            (0, 0) => Self::EchoReply { ident: hi, seq: lo },
            (3, 4) => Self::PacketTooBig { mtu: u32::from(lo) },
            (3, code) => Self::DestUnreachable(match code {
                0 | 6 | 11 => Unreachable::Network,
                1 | 7 | 8 | 12 => Unreachable::Host,
                2 => Unreachable::Protocol,
                3 => Unreachable::Port,
                5 => Unreachable::Scope,
                9 | 10 | 13 => Unreachable::Prohibited,
                n => Unreachable::Other(n),
            }),
            (11, 0 | 1) => Self::TimeExceeded { reassembly: code == 1 },
            (12, code) => Self::ParameterProblem { code, pointer: u32::from(a) },
            _ => Self::Other { kind, code, rest: [a, b, c, d] },
        })
    }

    /// Parses the header of an ICMPv6 message; its data follow at offset 8. Checksum: [`verify_v6`].
    ///
    /// # Errors
    /// `Truncated`.
    pub fn parse_v6(bytes: &[u8]) -> Result<Self, ParseError> {
        let &[kind, code, _, _, a, b, c, d] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let word = u32::from_be_bytes([a, b, c, d]);
        Ok(match (kind, code) {
            (128, 0) => Self::EchoRequest { ident: hi, seq: lo },
            (129, 0) => Self::EchoReply { ident: hi, seq: lo },
            (1, code) => Self::DestUnreachable(match code {
                0 => Unreachable::Network,
                1 | 5 | 6 => Unreachable::Prohibited,
                2 => Unreachable::Scope,
                3 => Unreachable::Host,
                4 => Unreachable::Port,
                n => Unreachable::Other(n),
            }),
            (2, _) => Self::PacketTooBig { mtu: word },
            (3, 0 | 1) => Self::TimeExceeded { reassembly: code == 1 },
            (4, code) => Self::ParameterProblem { code, pointer: word },
            _ => Self::Other { kind, code, rest: [a, b, c, d] },
        })
    }

    /// True for messages that report an error about a packet that they quote.
    pub const fn is_error(&self) -> bool {
        matches!(
            self,
            Self::DestUnreachable(_)
                | Self::PacketTooBig { .. }
                | Self::TimeExceeded { .. }
                | Self::ParameterProblem { .. }
        )
    }

    /// Type, code and octets 4 to 8 in ICMPv4.
    fn fields_v4(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::EchoRequest { ident, seq } => (8, 0, pair(ident, seq)),
            Self::EchoReply { ident, seq } => (0, 0, pair(ident, seq)),
            Self::DestUnreachable(u) => {
                let code = match u {
                    Unreachable::Network => 0,
                    Unreachable::Host => 1,
                    Unreachable::Protocol => 2,
                    Unreachable::Port => 3,
                    Unreachable::Scope => 5,
                    Unreachable::Prohibited => 13,
                    Unreachable::Other(n) => n,
                };
                (3, code, [0; 4])
            }
            Self::PacketTooBig { mtu } => (3, 4, pair(0, mtu.min(0xffff) as u16)),
            Self::TimeExceeded { reassembly } => (11, reassembly.into(), [0; 4]),
            Self::ParameterProblem { code, pointer } => (12, code, [pointer.min(255) as u8, 0, 0, 0]),
            Self::Other { kind, code, rest } => (kind, code, rest),
        }
    }

    /// Type, code and octets 4 to 8 in ICMPv6.
    fn fields_v6(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::EchoRequest { ident, seq } => (128, 0, pair(ident, seq)),
            Self::EchoReply { ident, seq } => (129, 0, pair(ident, seq)),
            // RFC 4443 has no "protocol unreachable": it is a parameter problem.
            Self::DestUnreachable(Unreachable::Protocol) => (4, 1, [0; 4]),
            Self::DestUnreachable(u) => {
                let code = match u {
                    Unreachable::Network | Unreachable::Protocol => 0,
                    Unreachable::Prohibited => 1,
                    Unreachable::Scope => 2,
                    Unreachable::Host => 3,
                    Unreachable::Port => 4,
                    Unreachable::Other(n) => n,
                };
                (1, code, [0; 4])
            }
            Self::PacketTooBig { mtu } => (2, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { reassembly } => (3, reassembly.into(), [0; 4]),
            Self::ParameterProblem { code, pointer } => (4, code, pointer.to_be_bytes()),
            Self::Other { kind, code, rest } => (kind, code, rest),
        }
    }

    /// Writes an ICMPv4 header in front of `data`, which is already in `message[8..]`; the checksum covers both.
    ///
    /// # Panics
    /// If `message` is shorter than 8 bytes.
    pub fn emit_v4(&self, message: &mut [u8]) {
        put(message, self.fields_v4());
        let sum = Sum::of(message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }

    /// Writes an ICMPv6 header in front of the data already in `message[8..]`; the checksum covers both and the pseudo-header.
    ///
    /// # Panics
    /// If `message` is shorter than 8 bytes.
    pub fn emit_v6(&self, message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
        put(message, self.fields_v6());
        let sum = Sum::pseudo_v6(src, dst, proto::ICMPV6, message.len() as u32).and(Sum::of(message)).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

fn pair(a: u16, b: u16) -> [u8; 4] {
    let ([a0, a1], [b0, b1]) = (a.to_be_bytes(), b.to_be_bytes());
    [a0, a1, b0, b1]
}

fn put(message: &mut [u8], (kind, code, rest): (u8, u8, [u8; 4])) {
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&rest);
}

/// Whether the checksum of a whole ICMPv4 message is right.
pub fn verify_v4(message: &[u8]) -> bool {
    Sum::of(message).is_valid()
}

/// Whether the checksum of a whole ICMPv6 message is right.
pub fn verify_v6(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> bool {
    Sum::pseudo_v6(src, dst, proto::ICMPV6, message.len() as u32).and(Sum::of(message)).is_valid()
}
