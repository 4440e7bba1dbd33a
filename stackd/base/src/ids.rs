//! Small typed indices.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $repr);
    };
}

id!(/** A network interface of a stack (Linux's ifindex: starts at 1, never reused while the stack lives). */ PortId, u32);
id!(/** A queue of a device. */ QueueId, u16);
id!(/** A worker thread and all it owns. */ ShardId, u8);
id!(/** The byte store of one direction of one socket; the shell gives it meaning. */ FifoId, u32);

/// A socket of one shard: a slot and the generation that tells a reused slot from the one that was meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SockId {
    /// Index into the shard's socket table.
    pub slot: u32,
    /// Incremented whenever the slot is reused.
    pub generation: u32,
}
