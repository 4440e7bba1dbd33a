//! A packet on its way to a device: inline headers and a range of a send buffer.

#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use stackd_base::{FifoId, Instant, SockId};
use stackd_qdisc::QueuedPacket;
use stackd_wire::{EcnCodepoint, Gso, Offload, Sum, TcpFlags, TcpRepr, ethernet, ipv4, proto};
use std::net::IpAddr;

/// Room for headers in front of the payload.
pub const HEAD_CAPACITY: usize = 128;

/// The headers of a packet, inline.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderBuf {
    bytes: [u8; HEAD_CAPACITY],
    len: u8,
}

impl HeaderBuf {
    /// `len` zero bytes.
    ///
    /// # Panics
    /// If `len` exceeds [`HEAD_CAPACITY`]: header lengths are bounded by their protocols.
    pub const fn zeroed(len: usize) -> Self {
        assert!(len <= HEAD_CAPACITY);
        Self { bytes: [0; HEAD_CAPACITY], len: len as u8 }
    }
    /// The headers.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for HeaderBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}
impl DerefMut for HeaderBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}
impl fmt::Debug for HeaderBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_slice())
    }
}

/// What follows the headers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// Bytes of a socket's send buffer, kept there until acknowledged.
    Stream {
        /// Whose.
        fifo: FifoId,
        /// Stream offsets.
        range: Range<u64>,
    },
    /// Bytes of its own.
    Owned(Box<[u8]>),
}

impl Payload {
    /// Bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Stream { range, .. } => (range.end - range.start) as usize,
            Self::Owned(b) => b.len(),
        }
    }
    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Splits after `at` bytes; `at` must not exceed `len()`.
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::None => (Self::None, Self::None),
            Self::Stream { fifo, range } => {
                let mid = range.start + at as u64;
                (Self::Stream { fifo, range: range.start..mid }, Self::Stream { fifo, range: mid..range.end })
            }
            Self::Owned(b) => {
                let (x, y) = b.split_at(at);
                (Self::Owned(x.into()), Self::Owned(y.into()))
            }
        }
    }
}

/// What a packet's departure means to the socket that it came from, which counts frames and bytes below itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accounting {
    /// The end of a frame.
    #[default]
    Frame,
    /// A piece of a frame, of which more will follow.
    Piece,
    /// Nothing: a copy made on the way, by netem.
    Copy,
}

/// Who sent a packet: a socket, and which of the connections that it has one after the other (`connect` to `AF_UNSPEC` ends one). What an earlier
/// one left in a queue must neither take bytes of the present one along nor count as its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// The socket.
    pub sock: SockId,
    /// The connection; 0: accepted, or UDP.
    pub life: u16,
}

/// A packet on its way to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Link, network and transport header.
    pub head: HeaderBuf,
    /// What follows them.
    pub payload: Payload,
    /// What the device still has to do.
    pub offload: Offload,
    /// Where the network header starts in `head` (14 on Ethernet).
    pub network_at: u8,
    /// Where the transport header starts in `head`; equal to `head.len()` when `head` holds none (ARP, later fragments).
    pub transport_at: u8,
    /// Transport protocol; 0 when the frame is not IP.
    pub protocol: u8,
    /// The socket that is told when the packet leaves or is dropped.
    pub sender: Option<Sender>,
    /// What the socket is told.
    pub accounting: Accounting,
    /// Hash of the flow.
    pub flow_hash: u64,
    /// Earliest departure time.
    pub departure: Option<Instant>,
    /// TC_PRIO_*.
    pub priority: u8,
    /// Bytes per second the socket allows; `u64::MAX` = no limit.
    pub max_pacing_rate: u64,
    /// A bit to flip (counted from the start of the frame) once the checksum is complete: netem's corruption. Whoever puts the
    /// frame on a wire must honour it; see [`Packet::write_frame`].
    pub corrupt_bit: Option<u32>,
}

impl Packet {
    /// A packet of these headers and this payload, everything else at its default.
    pub const fn new(head: HeaderBuf, payload: Payload) -> Self {
        let len = head.len;
        Self {
            head,
            payload,
            offload: Offload { csum: None, csum_valid: false, gso_size: 0, gso: Gso::None, hdr_len: 0 },
            network_at: ethernet::HEADER_LEN as u8,
            transport_at: len,
            protocol: 0,
            sender: None,
            accounting: Accounting::Frame,
            flow_hash: 0,
            departure: None,
            priority: 0,
            max_pacing_rate: u64::MAX,
            corrupt_bit: None,
        }
    }

    /// Bytes of the frame as handed to the device: headers once, and payload.
    pub fn frame_len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Bytes of the IP packet.
    pub fn ip_len(&self) -> usize {
        self.frame_len() - usize::from(self.network_at)
    }

    /// 4 or 6; 0 when it is not IP.
    pub fn ip_version(&self) -> u8 {
        if self.protocol == 0 { 0 } else { self.head.get(usize::from(self.network_at)).map_or(0, |b| b >> 4) }
    }

    /// Source and destination address, if it is IP.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let ip = self.head.get(usize::from(self.network_at)..)?;
        let v4 = |at: usize| ip.get(at..)?.first_chunk::<4>().map(|o| IpAddr::from(*o));
        let v6 = |at: usize| ip.get(at..)?.first_chunk::<16>().map(|o| IpAddr::from(*o));
        match self.ip_version() {
            4 => Some((v4(12)?, v4(16)?)),
            6 => Some((v6(8)?, v6(24)?)),
            _ => None,
        }
    }

    /// The transport header, empty if there is none.
    pub fn transport(&self) -> &[u8] {
        self.head.get(usize::from(self.transport_at)..).unwrap_or_default()
    }

    /// The TCP header, if this is TCP.
    pub fn tcp(&self) -> Option<TcpRepr> {
        if self.protocol != proto::TCP {
            return None;
        }
        TcpRepr::parse(self.transport()).ok().map(|(r, _)| r)
    }

    /// Appends the whole frame to `out`, its checksum computed in software and netem's corruption applied. `payload` must be the
    /// bytes that `self.payload` stands for. Only for a packet of one segment.
    pub fn write_frame(&self, payload: &[u8], out: &mut Vec<u8>) {
        debug_assert_eq!(payload.len(), self.payload.len());
        let start = out.len();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(payload);
        let frame = &mut out[start..];
        if let Some((at, field)) = self.offload.csum {
            let (at, field) = (usize::from(at), usize::from(at) + usize::from(field));
            if let Some(covered) = frame.get(at..) {
                // The field holds the pseudo-header's sum, so summing over it completes the checksum.
                let sum = Sum::of(covered);
                let value = if self.protocol == proto::UDP { sum.finish_udp() } else { sum.finish() };
                if let Some(f) = frame.get_mut(field..field + 2) {
                    f.copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        if let Some(bit) = self.corrupt_bit
            && let Some(b) = frame.get_mut(bit as usize / 8)
        {
            *b ^= 1 << (bit % 8);
        }
    }

    /// Rewrites the length fields (and IPv4's checksum, and the pseudo-header's sum) for the payload as it is now.
    fn fix_lengths(&mut self) {
        let (n, t) = (usize::from(self.network_at), usize::from(self.transport_at));
        let ip_len = self.ip_len();
        match self.ip_version() {
            4 => {
                self.head[n + 2..n + 4].copy_from_slice(&(ip_len as u16).to_be_bytes());
                self.fix_ipv4_checksum();
            }
            6 => self.head[n + 4..n + 6].copy_from_slice(&((ip_len - 40) as u16).to_be_bytes()),
            _ => return,
        }
        let transport_len = self.frame_len() - t;
        if self.protocol == proto::UDP {
            self.head[t + 4..t + 6].copy_from_slice(&(transport_len as u16).to_be_bytes());
        }
        if let (Some((_, field)), Some((src, dst))) = (self.offload.csum, self.addresses()) {
            let sum = Sum::pseudo(src, dst, self.protocol, transport_len as u32).partial();
            let at = t + usize::from(field);
            self.head[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }

    fn fix_ipv4_checksum(&mut self) {
        let n = usize::from(self.network_at);
        let h = &mut self.head[n..n + ipv4::MIN_HEADER_LEN];
        h[10..12].fill(0);
        let sum = Sum::of(h).finish();
        h[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn tos(&self) -> Option<u8> {
        let ip = self.head.get(usize::from(self.network_at)..)?;
        match self.ip_version() {
            4 => ip.get(1).copied(),
            6 => Some(ip.first()? << 4 | ip.get(1)? >> 4),
            _ => None,
        }
    }

    /// Turns `self`, a copy of a GSO packet that holds the payload behind the first segment, into the packet of the rest.
    fn become_rest(&mut self, skipped: usize) {
        let (n, t) = (usize::from(self.network_at), usize::from(self.transport_at));
        if self.ip_version() == 4 {
            // Linux numbers the segments of one GSO packet consecutively.
            let id = u16::from_be_bytes([self.head[n + 4], self.head[n + 5]]).wrapping_add(1);
            self.head[n + 4..n + 6].copy_from_slice(&id.to_be_bytes());
        }
        if self.protocol == proto::TCP {
            let seq = &mut self.head[t + 4..t + 8];
            let next = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]).wrapping_add(skipped as u32);
            seq.copy_from_slice(&next.to_be_bytes());
            // RFC 3168, 6.1.2: CWR announces one window reduction: the first segment alone carries it.
            self.head[t + 13] &= !(TcpFlags::CWR.bits() as u8);
        }
        self.fix_lengths();
        if self.payload.len() <= usize::from(self.offload.gso_size) {
            self.offload.gso_size = 0;
            self.offload.gso = Gso::None;
        }
    }
}

impl QueuedPacket for Packet {
    fn wire_len(&self) -> u32 {
        let extra_headers = (self.segments() - 1) * self.head.len() as u32;
        self.frame_len() as u32 + extra_headers
    }

    fn segments(&self) -> u32 {
        match self.offload.gso_size {
            0 => 1,
            size => (self.payload.len() as u32).div_ceil(u32::from(size)).max(1),
        }
    }

    fn flow_hash(&self) -> u64 {
        self.flow_hash
    }
    fn departure(&self) -> Option<Instant> {
        self.departure
    }
    fn priority(&self) -> u8 {
        self.priority
    }
    fn max_pacing_rate(&self) -> u64 {
        self.max_pacing_rate
    }

    fn ecn_capable(&self) -> bool {
        self.tos().is_some_and(|t| EcnCodepoint::from_tos(t).is_capable())
    }

    fn mark_ce(&mut self) {
        let n = usize::from(self.network_at);
        match self.ip_version() {
            4 => {
                self.head[n + 1] |= EcnCodepoint::Ce as u8;
                self.fix_ipv4_checksum();
            }
            // The traffic class straddles the first two octets.
            6 => self.head[n + 1] |= (EcnCodepoint::Ce as u8) << 4,
            _ => {}
        }
    }

    fn split_first(&mut self) -> Option<Self> {
        if self.segments() <= 1 {
            return None;
        }
        let size = usize::from(self.offload.gso_size);
        let (first_bytes, rest_bytes) = core::mem::take(&mut self.payload).split_at(size);
        let mut first = Self { payload: first_bytes, ..self.clone() };
        self.payload = rest_bytes;
        first.offload.gso_size = 0;
        first.offload.gso = Gso::None;
        if first.accounting == Accounting::Frame {
            first.accounting = Accounting::Piece;
        }
        if first.protocol == proto::TCP {
            // FIN and PSH belong to the last byte, which the first segment does not carry.
            let flags = &mut first.head[usize::from(self.transport_at) + 13];
            *flags &= !((TcpFlags::FIN | TcpFlags::PSH).bits() as u8);
        }
        first.fix_lengths();
        self.become_rest(size);
        Some(first)
    }

    fn duplicate(&self) -> Option<Self> {
        Some(Self { accounting: Accounting::Copy, ..self.clone() })
    }

    fn corrupt(&mut self, random: u64) {
        // The link-layer header stays intact: netem corrupts what the network carries.
        let first = u64::from(self.network_at) * 8;
        let bits = (self.frame_len() as u64 * 8).saturating_sub(first);
        if bits > 0 {
            self.corrupt_bit = Some((first + random % bits) as u32);
        }
    }
}
