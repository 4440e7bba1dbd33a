//! Segmentation and checksums in software, for devices that have no offload and for middleware that looks at segments.

use crate::{Gso, Offload, vnet};
use stackd_wire::Sum;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

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

/// Segments `first..first + n` of a GSO frame as a frame of their own: its headers go to `head` (cleared first), its payload is the returned range
/// of `frame`. Lengths, numbers and flags are as a device would write them; the checksum is left open, so that nothing reads the payload.
/// `None` beyond the last segment, or when the headers do not lie in the frame (as [`vnet::decode`] guarantees they do).
pub fn run(
    frame: &[u8],
    offload: &Offload,
    first: usize,
    n: usize,
    head: &mut Vec<u8>,
) -> Option<(Range<usize>, Offload)> {
    let hdr = usize::from(offload.hdr_len);
    let size = usize::from(offload.gso_size);
    let total = count(frame.len(), offload);
    let (t, csum_field) = offload.csum.map(|(s, f)| (usize::from(s), usize::from(f)))?;
    if n == 0 || first + n > total || hdr > frame.len() || t < ETH + 20 || t + csum_field + 2 > hdr {
        return None;
    }
    let from = hdr + first * size;
    let payload = from..(from + n * size).min(frame.len());
    let len = hdr + payload.len();
    // Neither family can say a longer length.
    if len - ETH > 65_535 {
        return None;
    }
    head.clear();
    head.extend_from_slice(frame.get(..hdr)?);
    let pseudo = network(head, len, t, first, vnet::protocol(offload.gso))?;
    if offload.gso == Gso::UdpL4 {
        head[t + 4..t + 6].copy_from_slice(&((len - t) as u16).to_be_bytes());
    } else {
        // TCP's checksum field is the 17th byte of its header: numbers and flags before it lie in `head` as it does.
        if csum_field < 14 {
            return None;
        }
        let seq = u32::from_be_bytes([head[t + 4], head[t + 5], head[t + 6], head[t + 7]]);
        head[t + 4..t + 8].copy_from_slice(&seq.wrapping_add((first * size) as u32).to_be_bytes());
        if first + n < total {
            // FIN and PSH belong to the last byte.
            head[t + 13] &= !FIN_PSH;
        }
        if first > 0 {
            // RFC 3168, 6.1.2: CWR announces one reduction: the first segment alone carries it.
            head[t + 13] &= !CWR;
        }
    }
    let at = t + csum_field;
    head[at..at + 2].copy_from_slice(&pseudo.partial().to_be_bytes());
    let one = Offload { csum: offload.csum, ..Offload::default() };
    let left = if n == 1 { one } else { Offload { csum_valid: false, ..*offload } };
    Some((payload, left))
}

/// Writes the lengths (and IPv4's number and checksum) of a frame of `len` bytes whose transport header starts at `t`: the pseudo-header's sum.
fn network(head: &mut [u8], len: usize, t: usize, first: usize, protocol: u8) -> Option<Sum> {
    let transport_len = (len - t) as u32;
    if head[ETH] >> 4 == 4 {
        head[ETH + 2..ETH + 4].copy_from_slice(&((len - ETH) as u16).to_be_bytes());
        // Linux numbers the segments of one GSO packet consecutively.
        let id = u16::from_be_bytes([head[ETH + 4], head[ETH + 5]]).wrapping_add(first as u16);
        head[ETH + 4..ETH + 6].copy_from_slice(&id.to_be_bytes());
        let header = usize::from(head[ETH] & 0xf) * 4;
        if header < 20 || ETH + header > t {
            return None;
        }
        head[ETH + 10..ETH + 12].fill(0);
        let sum = Sum::of(&head[ETH..ETH + header]).finish();
        head[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        let address = |at: usize| head.get(at..)?.first_chunk::<4>().map(|o| Ipv4Addr::from(*o));
        Some(Sum::pseudo_v4(address(ETH + 12)?, address(ETH + 16)?, protocol, transport_len))
    } else {
        if t < ETH + 40 {
            return None;
        }
        head[ETH + 4..ETH + 6].copy_from_slice(&((len - ETH - 40) as u16).to_be_bytes());
        let address = |at: usize| head.get(at..)?.first_chunk::<16>().map(|o| Ipv6Addr::from(*o));
        Some(Sum::pseudo_v6(address(ETH + 8)?, address(ETH + 24)?, protocol, transport_len))
    }
}

/// The `index`-th segment of a GSO frame, whole and with its checksum, in `out` (cleared first). `None` as in [`run`].
pub fn segment_into(frame: &[u8], offload: &Offload, index: usize, out: &mut Vec<u8>) -> Option<()> {
    let (payload, mut left) = run(frame, offload, index, 1, out)?;
    out.extend_from_slice(frame.get(payload)?);
    complete_checksum(out, &mut left);
    Some(())
}

/// As [`segment_into`], in memory of its own.
pub fn segment(frame: &[u8], offload: &Offload, index: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    segment_into(frame, offload, index, &mut out).map(|()| out)
}
