//! Checksums of values: of small ones for comparing outputs, of a connection's whole state for comparing states.

use crate::Connection;
use core::hash::Hasher;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use siphasher::sip::SipHasher13;

/// CRC-32 of a small value's encoding.
pub(super) fn checksum(value: &impl Serialize) -> u32 {
    let mut room = [0; 512];
    // Nothing that is asked for needs as much as that; if something should, all of it count as equal rather than none.
    let used = postcard::to_slice(value, &mut room).map_or(0, |bytes| bytes.len());
    crc32fast::hash(&room[..used])
}

/// 64 bits over everything that a connection consists of.
pub fn state_digest(conn: &Connection) -> u64 {
    let sink = Hashed { hasher: SipHasher13::new(), room: [0; 256], used: 0 };
    postcard::serialize_with_flavor(conn, sink).unwrap_or(0)
}

struct Hashed {
    hasher: SipHasher13,
    room: [u8; 256],
    used: usize,
}

impl Hashed {
    fn flush(&mut self) {
        self.hasher.write(&self.room[..self.used]);
        self.used = 0;
    }
}

impl Flavor for Hashed {
    type Output = u64;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.used == self.room.len() {
            self.flush();
        }
        self.room[self.used] = byte;
        self.used += 1;
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<u64> {
        self.flush();
        Ok(self.hasher.finish())
    }
}
