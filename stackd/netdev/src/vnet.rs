//! The virtio-net header in front of frames on TAP devices and wires (virtio 1.2, 5.1.6; legacy: host byte order, 10 bytes).

use crate::{Gso, Offload};
use stackd_wire::proto;

/// Bytes of the header.
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A header that contradicts itself or its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum VnetError {
    #[error("shorter than a virtio-net header and an Ethernet header")]
    Short,
    #[error("checksum range lies outside the frame")]
    Checksum,
    #[error("segmentation kind {0} is unknown")]
    GsoType(u8),
    #[error("segmentation without a segment size, a checksum offset or complete headers")]
    Gso,
}

/// The header that asks for `offload`.
pub fn encode(offload: &Offload) -> [u8; LEN] {
    let mut h = [0; LEN];
    if let Some((start, field)) = offload.csum {
        h[0] = NEEDS_CSUM;
        h[6..8].copy_from_slice(&start.to_ne_bytes());
        h[8..10].copy_from_slice(&field.to_ne_bytes());
    } else if offload.csum_valid {
        h[0] = DATA_VALID;
    }
    if offload.gso_size > 0 {
        h[1] = match offload.gso {
            Gso::None => 0,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::UdpL4 => GSO_UDP_L4,
        };
    }
    if h[1] != 0 {
        h[2..4].copy_from_slice(&offload.hdr_len.to_ne_bytes());
        h[4..6].copy_from_slice(&offload.gso_size.to_ne_bytes());
    }
    h
}

/// What `header` says of `frame`, checked against the frame. Every offset in the result lies inside it.
pub fn decode(header: &[u8], frame: &[u8]) -> Result<Offload, VnetError> {
    let Some(h) = header.first_chunk::<LEN>() else { return Err(VnetError::Short) };
    if frame.len() < 14 {
        return Err(VnetError::Short);
    }
    let word = |at: usize| u16::from_ne_bytes([h[at], h[at + 1]]);
    let mut offload = Offload { csum_valid: h[0] & DATA_VALID != 0, ..Offload::default() };
    if h[0] & NEEDS_CSUM != 0 {
        let (start, field) = (word(6), word(8));
        if usize::from(start) + usize::from(field) + 2 > frame.len() {
            return Err(VnetError::Checksum);
        }
        offload.csum = Some((start, field));
    }
    offload.gso = match h[1] & !GSO_ECN {
        0 => return Ok(offload),
        GSO_TCPV4 => Gso::TcpV4,
        GSO_TCPV6 => Gso::TcpV6,
        GSO_UDP_L4 => Gso::UdpL4,
        other => return Err(VnetError::GsoType(other)),
    };
    let (Some((start, _)), size @ 1..) = (offload.csum, word(4)) else { return Err(VnetError::Gso) };
    offload.gso_size = size;
    // virtio 1.2, 5.1.6.4: hdr_len is a hint (Linux puts the linear part there): the headers themselves are asked.
    let start = usize::from(start);
    let transport = match offload.gso {
        Gso::UdpL4 => 8,
        Gso::TcpV4 | Gso::TcpV6 | Gso::None => usize::from(*frame.get(start + 12).ok_or(VnetError::Gso)? >> 4) * 4,
    };
    let least = if offload.gso == Gso::UdpL4 { 8 } else { 20 };
    if transport < least || start + transport > frame.len() || start < 14 + 20 {
        return Err(VnetError::Gso);
    }
    offload.hdr_len = (start + transport) as u16;
    Ok(offload)
}

/// Transport protocol of a frame's segmentation kind.
pub(crate) const fn protocol(gso: Gso) -> u8 {
    match gso {
        Gso::UdpL4 => proto::UDP,
        Gso::TcpV4 | Gso::TcpV6 | Gso::None => proto::TCP,
    }
}
