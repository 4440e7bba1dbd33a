//! The sockets of a shard: slots that are reused, generations that tell.

use super::Socket;
use slab::Slab;
use stackd_base::SockId;

/// All sockets of a shard.
#[derive(Debug, Default)]
pub struct SocketTable {
    slots: Slab<Socket>,
    /// By slot: how often it was taken.
    generations: Vec<u32>,
}

impl SocketTable {
    /// Sockets alive, embryonic and orphaned ones included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The id the next socket will have: its FIFOs are opened under it before it exists.
    pub fn next_id(&self) -> SockId {
        let slot = self.slots.vacant_key();
        SockId { slot: slot as u32, generation: self.generations.get(slot).map_or(0, |g| g.wrapping_add(1)) }
    }

    /// Takes a slot.
    pub fn insert(&mut self, socket: Socket) -> SockId {
        let id = self.next_id();
        let slot = self.slots.insert(socket);
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        self.generations[slot] = id.generation;
        id
    }

    /// The socket that `id` means, if it still exists.
    pub fn get(&self, id: SockId) -> Option<&Socket> {
        self.slots.get(id.slot as usize).filter(|_| self.generations[id.slot as usize] == id.generation)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: SockId) -> Option<&mut Socket> {
        let generation = *self.generations.get(id.slot as usize)?;
        self.slots.get_mut(id.slot as usize).filter(|_| generation == id.generation)
    }

    /// The id of whoever is in a slot.
    pub fn id_of(&self, slot: u32) -> Option<SockId> {
        self.slots.contains(slot as usize).then(|| SockId { slot, generation: self.generations[slot as usize] })
    }

    /// Frees a slot.
    pub fn remove(&mut self, id: SockId) -> Option<Socket> {
        self.get(id)?;
        self.slots.try_remove(id.slot as usize)
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = (SockId, &Socket)> {
        self.slots.iter().map(|(slot, s)| (SockId { slot: slot as u32, generation: self.generations[slot] }, s))
    }
}
