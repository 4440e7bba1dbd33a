//! Segmentation and checksums in software, for devices that have no offload and for middleware that looks at segments.

use crate::{Gso, Offload, vnet};
use stackd_wire::Sum;
use std::net::{Ipv4Addr, Ipv6Addr};

const ETH: usize = 14;
const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// Completes the checksum that `offload` left open, if any, and clears the request.
pub fn complete_checksum(frame: &mut [u8], offload: &mut Offload) {
    let Some((start, field)) = offload.csum.take() else { return };
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(field));
    let Some(covered) = frame.get(start..) else { return };
    // The field holds the pseudo-header's sum, so summing over it completes the checksum.
    let sum = Sum::of(covered);
    // UDP's field is 6 bytes into its header, TCP's 16.
    let value = if field - start == 6 { sum.finish_udp() } else { sum.finish() };
    if let Some(f) = frame.get_mut(field..field + 2) {
        f.copy_from_slice(&value.to_be_bytes());
    }
    offload.csum_valid = true;
}

/// Number of segments of a frame of `len` bytes.
pub fn count(len: usize, offload: &Offload) -> usize {
    if offload.gso_size == 0 || offload.gso == Gso::None {
        return 1;
    }
    len.saturating_sub(usize::from(offload.hdr_len)).div_ceil(usize::from(offload.gso_size)).max(1)
}

/// The `index`-th segment of a GSO frame, its lengths, numbers, flags and checksums as a device would write them. `None` beyond the last,
/// or when the headers do not lie in the frame (as [`vnet::decode`] guarantees they do).
pub fn segment(frame: &[u8], offload: &Offload, index: usize) -> Option<Vec<u8>> {
    let hdr = usize::from(offload.hdr_len);
    let size = usize::from(offload.gso_size);
    let total = count(frame.len(), offload);
    let (t, csum_field) = offload.csum.map(|(s, f)| (usize::from(s), usize::from(f)))?;
    if index >= total || hdr > frame.len() || t < ETH + 20 || t + csum_field + 2 > hdr {
        return None;
    }
    let from = hdr + index * size;
    let payload = frame.get(from..(from + size).min(frame.len()))?;
    let mut out = Vec::with_capacity(hdr + payload.len());
    out.extend_from_slice(&frame[..hdr]);
    out.extend_from_slice(payload);
    let transport_len = out.len() - t;
    let protocol = vnet::protocol(offload.gso);
    let pseudo = if out[ETH] >> 4 == 4 {
        let ip_len = (out.len() - ETH) as u16;
        out[ETH + 2..ETH + 4].copy_from_slice(&ip_len.to_be_bytes());
        // Linux numbers the segments of one GSO packet consecutively.
        let id = u16::from_be_bytes([out[ETH + 4], out[ETH + 5]]).wrapping_add(index as u16);
        out[ETH + 4..ETH + 6].copy_from_slice(&id.to_be_bytes());
        let header = usize::from(out[ETH] & 0xf) * 4;
        if header < 20 || ETH + header > t {
            return None;
        }
        out[ETH + 10..ETH + 12].fill(0);
        let sum = Sum::of(&out[ETH..ETH + header]).finish();
        out[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        let address = |at: usize| out.get(at..)?.first_chunk::<4>().map(|o| Ipv4Addr::from(*o));
        Sum::pseudo_v4(address(ETH + 12)?, address(ETH + 16)?, protocol, transport_len as u32)
    } else {
        if t < ETH + 40 {
            return None;
        }
        let len = (out.len() - ETH - 40) as u16;
        out[ETH + 4..ETH + 6].copy_from_slice(&len.to_be_bytes());
        let address = |at: usize| out.get(at..)?.first_chunk::<16>().map(|o| Ipv6Addr::from(*o));
        Sum::pseudo_v6(address(ETH + 8)?, address(ETH + 24)?, protocol, transport_len as u32)
    };
    if offload.gso == Gso::UdpL4 {
        out[t + 4..t + 6].copy_from_slice(&(transport_len as u16).to_be_bytes());
    } else {
        let seq = u32::from_be_bytes([out[t + 4], out[t + 5], out[t + 6], out[t + 7]]);
        out[t + 4..t + 8].copy_from_slice(&seq.wrapping_add((index * size) as u32).to_be_bytes());
        if index + 1 < total {
            // FIN and PSH belong to the last byte.
            out[t + 13] &= !FIN_PSH;
        }
        if index > 0 {
            // RFC 3168, 6.1.2: CWR announces one reduction: the first segment alone carries it.
            out[t + 13] &= !CWR;
        }
    }
    let at = t + csum_field;
    out[at..at + 2].copy_from_slice(&pseudo.partial().to_be_bytes());
    let mut left = Offload { csum: offload.csum, ..Offload::default() };
    complete_checksum(&mut out, &mut left);
    Some(out)
}
