//! TCP headers (RFC 9293, 3.1).

mod options;
#[cfg(test)]
mod tests;

use crate::{ParseError, Sum};
use core::fmt;
use core::ops::{BitOr, BitOrAssign};
use serde::{Deserialize, Serialize};
use stackd_base::SeqNum;
use std::net::IpAddr;

pub use options::{AccEcnOption, AoOption, FastOpenCookie, SackBlock, SackBlocks, TcpOptions, Timestamps, find_option};

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Offset of the checksum field from the start of the header.
pub const CHECKSUM_AT: u16 = 16;

/// Control bits except ACK, which is the presence of [`TcpRepr::ack`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TcpFlags(u16);

impl TcpFlags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x001);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x002);
    /// Reset.
    pub const RST: Self = Self(0x004);
    /// Push.
    pub const PSH: Self = Self(0x008);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x020);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x040);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x080);
    /// Accurate ECN, formerly NS.
    pub const AE: Self = Self(0x100);

    const ACK_BIT: u16 = 0x010;
    const ALL: u16 = 0x1ef;

    /// The bits as they stand in the header's 13th and 14th octet; ACK and reserved bits are not kept.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL)
    }
    /// The bits as they stand in the header.
    pub const fn bits(self) -> u16 {
        self.0
    }
    /// True when every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// True when some bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    /// These bits and `other`'s.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// These bits without `other`'s.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// FIN is set.
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }
    /// SYN is set.
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }
    /// RST is set.
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }
    /// PSH is set.
    pub const fn psh(self) -> bool {
        self.contains(Self::PSH)
    }
    /// URG is set.
    pub const fn urg(self) -> bool {
        self.contains(Self::URG)
    }
    /// ECE is set.
    pub const fn ece(self) -> bool {
        self.contains(Self::ECE)
    }
    /// CWR is set.
    pub const fn cwr(self) -> bool {
        self.contains(Self::CWR)
    }
    /// AE is set.
    pub const fn ae(self) -> bool {
        self.contains(Self::AE)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;
    fn bitor(self, o: Self) -> Self {
        self.with(o)
    }
}
impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, o: Self) {
        *self = self.with(o);
    }
}
impl fmt::Debug for TcpFlags {
    /// tcpdump's letters: `[FS]`, with `e` for AE.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (bit, c) in [
            (Self::FIN, "F"),
            (Self::SYN, "S"),
            (Self::RST, "R"),
            (Self::PSH, "P"),
            (Self::URG, "U"),
            (Self::ECE, "E"),
            (Self::CWR, "W"),
            (Self::AE, "e"),
        ] {
            if self.contains(bit) {
                f.write_str(c)?;
            }
        }
        f.write_str("]")
    }
}

/// A TCP header. Its checksum is not part of it: see [`TcpRepr::fill_checksum`] and [`verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TcpRepr {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte (of the SYN if that is set).
    pub seq: SeqNum,
    /// Acknowledgment number; `Some` exactly when the ACK bit is set.
    pub ack: Option<SeqNum>,
    /// The other control bits.
    pub flags: TcpFlags,
    /// Window field, as on the wire: not scaled.
    pub window: u16,
    /// Urgent pointer; only meaningful with URG.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpRepr {
    /// Parses the header at the start of `bytes` and says how long it is. The checksum is not looked at.
    ///
    /// Options that are unknown or have a wrong length for their kind are skipped; at one whose length runs past the header,
    /// parsing of options stops and the rest is ignored, as Linux does (RFC 9293, 3.1 MUST-7: "MUST be prepared to handle
    /// an illegal option length (e.g., zero)").
    ///
    /// # Errors
    /// `Truncated` when `bytes` ends before the header does, `Length` when the data offset is below 5.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        let h: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let header_len = usize::from(h[12] >> 4) * 4;
        if header_len < MIN_HEADER_LEN {
            return Err(ParseError::Length);
        }
        let opts = bytes.get(MIN_HEADER_LEN..header_len).ok_or(ParseError::Truncated)?;
        let bits = u16::from_be_bytes([h[12] & 0x0f, h[13]]);
        let flags = TcpFlags::from_bits(bits);
        let repr = Self {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            seq: SeqNum(u32::from_be_bytes([h[4], h[5], h[6], h[7]])),
            ack: (bits & TcpFlags::ACK_BIT != 0).then(|| SeqNum(u32::from_be_bytes([h[8], h[9], h[10], h[11]]))),
            flags,
            window: u16::from_be_bytes([h[14], h[15]]),
            urgent: u16::from_be_bytes([h[18], h[19]]),
            options: TcpOptions::parse(opts, flags.syn()),
        };
        Ok((repr, header_len))
    }

    /// Bytes `emit` writes, options and padding included.
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Writes the header, its checksum field zero, and returns its length.
    ///
    /// # Panics
    /// If `buf` is shorter than `header_len()`.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Self { src_port, dst_port, seq, ack, flags, window, urgent, options } = self;
        let mut opts = [0; options::MAX_LEN];
        let opts_len = options.emit(&mut opts);
        let len = MIN_HEADER_LEN + opts_len;
        let bits = flags.bits() | if ack.is_some() { TcpFlags::ACK_BIT } else { 0 };
        let h = &mut buf[..len];
        h[0..2].copy_from_slice(&src_port.to_be_bytes());
        h[2..4].copy_from_slice(&dst_port.to_be_bytes());
        h[4..8].copy_from_slice(&seq.0.to_be_bytes());
        h[8..12].copy_from_slice(&ack.map_or(0, |a| a.0).to_be_bytes());
        h[12..14].copy_from_slice(&((len as u16 / 4) << 12 | bits).to_be_bytes());
        h[14..16].copy_from_slice(&window.to_be_bytes());
        h[16..18].fill(0);
        h[18..20].copy_from_slice(&urgent.to_be_bytes());
        h[MIN_HEADER_LEN..].copy_from_slice(&opts[..opts_len]);
        len
    }

    /// Fills in the checksum of an emitted header (`header`, checksum field zero) followed by `payload_len` bytes summing to `payload`.
    ///
    /// # Panics
    /// If `header` is shorter than 20 bytes.
    pub fn fill_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload: Sum, payload_len: usize) {
        let sum = Sum::pseudo(src, dst, crate::proto::TCP, (header.len() + payload_len) as u32);
        let csum = sum.and(Sum::of(header)).and(payload).finish();
        header[16..18].copy_from_slice(&csum.to_be_bytes());
    }

    /// Leaves the checksum to the device: the field holds the pseudo-header's sum.
    ///
    /// # Panics
    /// If `header` is shorter than 20 bytes.
    pub fn fill_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload_len: usize) {
        let sum = Sum::pseudo(src, dst, crate::proto::TCP, (header.len() + payload_len) as u32);
        header[16..18].copy_from_slice(&sum.partial().to_be_bytes());
    }

    /// Sequence space this segment takes with `payload_len` bytes (RFC 9293, 3.4: SYN and FIN count as one each).
    pub fn sequence_len(&self, payload_len: u32) -> u32 {
        payload_len + u32::from(self.flags.syn()) + u32::from(self.flags.fin())
    }
}

/// Whether the checksum of `header` (with options) and a payload of `payload_len` bytes summing to `payload` is right.
pub fn verify(header: &[u8], src: IpAddr, dst: IpAddr, payload: Sum, payload_len: usize) -> bool {
    Sum::pseudo(src, dst, crate::proto::TCP, (header.len() + payload_len) as u32)
        .and(Sum::of(header))
        .and(payload)
        .is_valid()
}
