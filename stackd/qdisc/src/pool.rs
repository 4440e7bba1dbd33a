//! Packets in one slab, chained by index: a queue costs two words, and moving a packet between queues moves no packet.

/// "No slot".
pub(crate) const NIL: u32 = u32::MAX;

/// One packet and what its queue knows of it.
#[derive(Debug)]
pub(crate) struct Slot<P> {
    /// The packet; `None` while the slot is free.
    pub packet: Option<P>,
    /// Next in its queue, or next free slot.
    pub next: u32,
    /// Bytes on the wire.
    pub len: u32,
    /// When it may leave, nanoseconds.
    pub time: u64,
}

/// The slab.
#[derive(Debug)]
pub(crate) struct Pool<P> {
    slots: Vec<Slot<P>>,
    free: u32,
}

impl<P> Pool<P> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: NIL }
    }
    pub(crate) fn insert(&mut self, packet: P, len: u32, time: u64) -> u32 {
        let slot = Slot { packet: Some(packet), next: NIL, len, time };
        if self.free == NIL {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].next;
            self.slots[at as usize] = slot;
            at
        }
    }
    pub(crate) fn slot(&self, at: u32) -> &Slot<P> {
        &self.slots[at as usize]
    }
    pub(crate) fn slot_mut(&mut self, at: u32) -> &mut Slot<P> {
        &mut self.slots[at as usize]
    }
    /// Takes the packet out and frees its slot: (packet, bytes, time, next of its queue).
    pub(crate) fn remove(&mut self, at: u32) -> Option<(P, u32, u64, u32)> {
        let slot = self.slots.get_mut(at as usize)?;
        let packet = slot.packet.take()?;
        let out = (packet, slot.len, slot.time, slot.next);
        slot.next = self.free;
        self.free = at;
        Some(out)
    }
}
