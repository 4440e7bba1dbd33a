//! pcapng blocks (draft-ietf-opsawg-pcapng), little-endian, nanosecond timestamps.

use bytes::{BufMut, BytesMut};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// An interface of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// LINKTYPE: 1 Ethernet, 101 raw IP.
    pub link_type: u16,
}

/// A frame of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The position of its interface's description.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
    /// Length on the wire.
    pub original_len: u32,
    /// What was kept of it.
    pub data: &'a [u8],
    /// It left (true) or arrived (false).
    pub outbound: bool,
    /// Frames lost between this one and the one before.
    pub missed: u64,
}

/// The head of a file: section header and one description an interface, in the order that frames will count them.
pub fn header<'a>(out: &mut BytesMut, interfaces: impl IntoIterator<Item = Interface<'a>>, snap_len: u32) {
    block(out, SECTION_HEADER, |out| {
        out.put_u32_le(0x1a2b_3c4d);
        out.put_u16_le(1);
        out.put_u16_le(0);
        // Section length: unknown, the file grows.
        out.put_u64_le(u64::MAX);
        option(out, 4, concat!("stackd ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(out, 0, &[]);
    });
    for Interface { name, link_type } in interfaces {
        block(out, INTERFACE_DESCRIPTION, |out| {
            out.put_u16_le(link_type);
            out.put_u16_le(0);
            out.put_u32_le(snap_len);
            option(out, 2, name.as_bytes());
            // if_tsresol: 10^-9 s.
            option(out, 9, &[9]);
            option(out, 0, &[]);
        });
    }
}

/// One frame.
pub fn packet(out: &mut BytesMut, frame: &Frame<'_>) {
    let Frame { interface, unix_ns, original_len, data, outbound, missed } = *frame;
    block(out, ENHANCED_PACKET, |out| {
        out.put_u32_le(interface);
        out.put_u32_le((unix_ns >> 32) as u32);
        out.put_u32_le(unix_ns as u32);
        out.put_u32_le(u32::try_from(data.len()).unwrap_or(u32::MAX));
        out.put_u32_le(original_len);
        let start = out.len();
        out.put_slice(data);
        pad(out, start);
        // epb_flags: bits 0-1 direction, 1 = inbound, 2 = outbound.
        option(out, 2, &(if outbound { 2u32 } else { 1 }).to_le_bytes());
        if missed > 0 {
            // epb_dropcount: packets lost between this one and the one before.
            option(out, 4, &missed.to_le_bytes());
        }
        option(out, 0, &[]);
    });
}

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
