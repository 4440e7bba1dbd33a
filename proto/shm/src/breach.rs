//! What a peer can do wrong. The daemon ends the session on any of these; nothing here panics.

/// The peer broke the shared-memory protocol. The text goes to the log and to `netctl clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A ring's shared index claims more entries than the ring holds, or went backwards.
    #[error("ring index {index} is not within {capacity} entries of {cursor}")]
    RingIndex {
        /// What the peer wrote.
        index: u32,
        /// Our private cursor.
        cursor: u32,
        /// Entries in the ring.
        capacity: u32,
    },
    /// An entry's opcode is not in the table.
    #[error("opcode {0} does not exist in this ABI version")]
    Opcode(u16),
    /// An entry's argument is longer than its slot.
    #[error("argument of {0} bytes; a slot holds {max}", max = crate::abi::ARG_BYTES)]
    ArgLength(u32),
    /// A socket number outside the region's control blocks.
    #[error("socket number {sock} is not below {limit}")]
    SockRange {
        /// What the peer wrote.
        sock: u32,
        /// Control blocks in the region.
        limit: u32,
    },
    /// A send buffer's head went backwards or past what was granted.
    #[error("tx_head {found} is outside {low}..={high}")]
    TxHead {
        /// What the peer wrote.
        found: u64,
        /// The last value accepted.
        low: u64,
        /// The limit granted.
        high: u64,
    },
    /// A receive buffer's tail went backwards or past what was published.
    #[error("rx_tail {found} is outside {low}..={high}")]
    RxTail {
        /// What the peer wrote.
        found: u64,
        /// The last value accepted.
        low: u64,
        /// The head published.
        high: u64,
    },
    /// A datagram record does not fit what was published, or its header makes no sense.
    #[error("datagram record at {offset}: {why}")]
    Datagram {
        /// Offset of the record in the send buffer.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The client asked for more than all its sockets and threads can wait for, or does not take the answers.
    #[error("{0} calls wait for an answer, or for the client to take it")]
    Completions(usize),
    /// The header page does not say what the daemon wrote there.
    #[error("the region's header was rewritten")]
    Header,
    /// The daemon handed out a chunk number beyond the region (only a client can see this).
    #[error("chunk {0} is outside the region")]
    Chunk(u32),
    /// An address in an argument slot cannot be read.
    #[error("socket address of {0} bytes or of an unknown family")]
    Address(usize),
}
