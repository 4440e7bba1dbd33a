//! What the bytes of a stream are: each one follows from its stream and its place in it, so that a byte that is lost, doubled, moved or
//! taken from elsewhere is seen where it is read.

/// Bytes at the start of a stream that say which one it is.
pub const HEADER: u64 = 8;

/// Names a stream: which flow, which of its connections, which direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId {
    /// The flow.
    pub flow: u16,
    /// Number of the connection, as its sender counts.
    pub index: u16,
    /// Sent by the side that connected.
    pub from_client: bool,
}

impl StreamId {
    fn header(self) -> [u8; HEADER as usize] {
        let ([a, b], [c, d]) = (self.flow.to_be_bytes(), self.index.to_be_bytes());
        [b'S', a, b, c, d, u8::from(self.from_client), b'I', b'D']
    }

    /// The stream that begins with `header`.
    fn parse(h: &[u8]) -> Option<Self> {
        let id = Self {
            flow: u16::from_be_bytes([h[1], h[2]]),
            index: u16::from_be_bytes([h[3], h[4]]),
            from_client: h[5] == 1,
        };
        (id.header() == h).then_some(id)
    }

    /// Byte `at` of the stream.
    fn byte(self, at: u64) -> u8 {
        if at < HEADER {
            return self.header()[at as usize];
        }
        let key = u64::from(self.flow) << 32 | u64::from(self.index) << 8 | u64::from(self.from_client);
        let mixed = (at / 8).wrapping_add(key << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).to_le_bytes()[(at % 8) as usize]
    }

    /// Bytes `from..to` of the stream.
    pub fn bytes(self, from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|at| self.byte(at)).collect()
    }
}

/// Reads a stream and compares.
#[derive(Clone, Debug)]
pub struct Reader {
    flow: u16,
    from_client: bool,
    /// Which connection it is, once its header was read.
    id: Option<StreamId>,
    header: Vec<u8>,
    read: u64,
}

impl Reader {
    /// Expects the stream of some connection of `flow`.
    pub const fn new(flow: u16, from_client: bool) -> Self {
        Self { flow, from_client, id: None, header: Vec::new(), read: 0 }
    }

    /// Bytes read.
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// The first byte that is not what was written.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &b in bytes {
            if self.read < HEADER {
                self.header.push(b);
                self.read += 1;
                if self.read == HEADER {
                    self.identify()?;
                }
                continue;
            }
            let want = self.id.map(|id| id.byte(self.read));
            if want != Some(b) {
                return Err(format!("{:?}: byte {} is {b:#04x}, written was {want:02x?}", self.id, self.read));
            }
            self.read += 1;
        }
        Ok(())
    }

    fn identify(&mut self) -> Result<(), String> {
        let id = StreamId::parse(&self.header);
        match id {
            Some(id) if id.flow == self.flow && id.from_client == self.from_client => self.id = Some(id),
            _ => return Err(format!("a stream of flow {} begins with {:02x?}: {id:?}", self.flow, self.header)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_doubled_or_foreign_is_seen() {
        let id = StreamId { flow: 3, index: 1, from_client: true };
        let stream = id.bytes(0, 5000);
        let read = |bytes: &[u8]| Reader::new(3, true).take(bytes);
        assert_eq!(read(&stream), Ok(()));
        let mut moved = stream.clone();
        moved.remove(1448);
        assert!(read(&moved).is_err());
        let mut doubled = stream.clone();
        doubled.splice(100..100, stream[92..100].iter().copied());
        assert!(read(&doubled).is_err());
        let other = StreamId { index: 2, ..id }.bytes(0, 5000);
        assert!(read(&[&stream[..2000], &other[2000..]].concat()).is_err());
        assert!(Reader::new(4, true).take(&stream).is_err() && Reader::new(3, false).take(&stream).is_err());
    }
}
