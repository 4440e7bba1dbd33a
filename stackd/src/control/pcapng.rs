//! pcapng blocks (draft-ietf-opsawg-pcapng), little-endian, nanosecond timestamps.

use bytes::{BufMut, BytesMut};

use super::backend::{CaptureInterface, CapturedFrame};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// One block: type, length, body padded to 4 bytes, length again.
fn block(out: &mut BytesMut, kind: u32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(kind);
    out.put_u32_le(0);
    body(out);
    pad(out, start);
    let total = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&total.to_le_bytes());
    out.put_u32_le(total);
}

fn pad(out: &mut BytesMut, start: usize) {
    while !(out.len() - start).is_multiple_of(4) {
        out.put_u8(0);
    }
}

fn option(out: &mut BytesMut, code: u16, value: &[u8]) {
    let Ok(len) = u16::try_from(value.len()) else { return };
    out.put_u16_le(code);
    out.put_u16_le(len);
    let start = out.len();
    out.put_slice(value);
    pad(out, start);
}

/// The head of a file: section header and one description an interface, in the order that frames will count them.
pub(super) fn header(out: &mut BytesMut, interfaces: &[CaptureInterface], snap_len: u32) {
    block(out, SECTION_HEADER, |out| {
        out.put_u32_le(0x1a2b_3c4d);
        out.put_u16_le(1);
        out.put_u16_le(0);
        // Section length: unknown, the file grows.
        out.put_u64_le(u64::MAX);
        option(out, 4, concat!("stackd ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(out, 0, &[]);
    });
    for CaptureInterface { index: _, name, link_type } in interfaces {
        block(out, INTERFACE_DESCRIPTION, |out| {
            out.put_u16_le(*link_type);
            out.put_u16_le(0);
            out.put_u32_le(snap_len);
            option(out, 2, name.as_bytes());
            // if_tsresol: 10^-9 s.
            option(out, 9, &[9]);
            option(out, 0, &[]);
        });
    }
}

/// One frame; `interface` is the position of its description.
pub(super) fn packet(out: &mut BytesMut, interface: u32, frame: &CapturedFrame, dropped: u64) {
    block(out, ENHANCED_PACKET, |out| {
        out.put_u32_le(interface);
        out.put_u32_le((frame.unix_ns >> 32) as u32);
        out.put_u32_le(frame.unix_ns as u32);
        out.put_u32_le(u32::try_from(frame.data.len()).unwrap_or(u32::MAX));
        out.put_u32_le(frame.original_len);
        let start = out.len();
        out.put_slice(&frame.data);
        pad(out, start);
        // epb_flags: bits 0-1 direction, 1 = inbound, 2 = outbound.
        option(out, 2, &(if frame.outbound { 2u32 } else { 1 }).to_le_bytes());
        if dropped > 0 {
            // epb_dropcount: packets lost between this one and the one before.
            option(out, 4, &dropped.to_le_bytes());
        }
        option(out, 0, &[]);
    });
}
