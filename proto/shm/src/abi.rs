//! The binary interface: what lies where, the entries, the opcode table.
//!
//! All integers are little-endian as the machine has them (both sides run on one host). A change that an old peer would
//! misread raises [`ABI_VERSION`]; a new opcode does not (an old daemon answers it by ending the session, so clients ask the version).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// `"stackd\0\1"`: first word of a region and of every attach message.
pub const MAGIC: u64 = u64::from_le_bytes(*b"stackd\0\x01");
/// This crate's version of the interface.
pub const ABI_VERSION: u16 = 5;
/// Size of a chunk of a FIFO: 64 KiB.
pub const CHUNK_BYTES: usize = 1 << CHUNK_SHIFT;
/// log2 of [`CHUNK_BYTES`].
pub const CHUNK_SHIFT: u32 = 16;
/// Entries of a FIFO's chunk table. A FIFO holds at most `TABLE_LEN` chunks = 256 MiB at a time.
pub const TABLE_LEN: usize = 4096;
/// Size of a ring entry.
pub const ENTRY_WORDS: usize = 8;
/// Size of the argument slot that belongs to each ring entry: an address, an option's value, a `struct tcp_info`.
pub const ARG_BYTES: usize = 512;
/// [`ARG_BYTES`] in words.
pub const ARG_WORDS: usize = ARG_BYTES / 8;

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $n:literal;)*) => {
        /// What a submission entry asks for. Every call answers with one completion whose `result` is >= 0, or minus a Linux errno;
        /// except `Kick`, which answers nothing, and entries with `user_data` 0, whose answer the client ignores.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Opcode { $($(#[$doc])* $name = $n,)* }
        impl Opcode {
            /// All of them, by number.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$name,)*];
            /// The opcode with this number.
            pub const fn from_raw(n: u16) -> Option<Self> { match n { $($n => Some(Self::$name),)* _ => None } }
        }
    };
}

opcodes! {
    /// Does nothing; answers 0. Measures a round trip.
    Nop = 0;
    /// socket(2): `args[0]` = AF_INET or AF_INET6, `args[1]` = SOCK_STREAM or SOCK_DGRAM, `args[2]` = protocol. Result: the socket number; `args[0]` = its generation.
    Socket = 1;
    /// bind(2): argument = address.
    Bind = 2;
    /// listen(2): `args[0]` = backlog (i32).
    Listen = 3;
    /// connect(2): argument = address; family 0 (AF_UNSPEC) or no argument dissolves the association. Completes when connected or failed; with [`FLAG_NONBLOCK`] at once with EINPROGRESS.
    Connect = 4;
    /// accept(2). With [`FLAG_NONBLOCK`] EAGAIN instead of waiting. Result: the new socket's number; `args[0]` = its generation; argument = the peer's address.
    Accept = 5;
    /// shutdown(2): `args[0]` = 0 read, 1 write, 2 both. What was published in the FIFO before is sent before the FIN.
    Shutdown = 6;
    /// close(2): the number may be given out again as soon as this was taken. `args[0]` = 1: waits as SO_LINGER says, but for no time of its
    /// own: the client takes it back when its time is over, and closes without that.
    Close = 7;
    /// setsockopt(2): `args[0]` = level, `args[1]` = name, argument = value.
    SetSockOpt = 8;
    /// getsockopt(2): `args[0]` = level, `args[1]` = name, `args[2]` = most bytes wanted (at most [`ARG_BYTES`]). Result 0; argument = value.
    GetSockOpt = 9;
    /// getsockname(2): argument = address.
    GetSockName = 10;
    /// getpeername(2): argument = address.
    GetPeerName = 11;
    /// One-shot poll: `args[0]` = EPOLL* mask; ERR and HUP are always waited for. `args[1]`: a stream is readable from so many bytes on
    /// (0: as SO_RCVLOWAT says). Result: the bits that hold. With [`FLAG_NONBLOCK`] at once, 0 when none does.
    PollAdd = 12;
    /// Takes a `PollAdd` back: `args[0]` = its `user_data`. Result 0, or ENOENT when it has completed; the poll itself completes with ECANCELED.
    PollRemove = 13;
    /// Look at this socket's `tx_head` and `rx_tail`. No completion. With [`FLAG_MORE`] the last, partial segment is held back.
    Kick = 14;
    /// As `Kick`, with a completion (0): all that was published is known to the stack when it arrives. With [`FLAG_URGENT`] what will be
    /// published next, up to offset `args[0]`, is urgent (MSG_OOB).
    Consumed = 15;
    /// Takes any waiting call back: `args[0]` = its `user_data`. Result 0 or ENOENT.
    Cancel = 16;
    /// As `Consumed`, for datagrams: result = how many of the records from offset `args[0]` of the send FIFO on were sent. The first one
    /// that fails ends it: what was published behind it is dropped, and if it was the first, its errno is the result.
    Flush = 17;
    /// ioctl(2) on a socket: `args[0]` = SIOCINQ (FIONREAD), SIOCOUTQ, SIOCOUTQNSD or SIOCATMARK. Result 0; `args[0]` = the number.
    Ioctl = 18;
    /// recvmsg(2) with MSG_ERRQUEUE: `args[0]` = 1 leaves the entry (MSG_PEEK). Result: bytes of data; `args[0]` = bytes of control
    /// messages. Argument: where the packet went (an address), then the control messages, then what of its payload is known, cut to fit.
    ErrQueue = 24;
    /// send(2) on a stream under repair (TCP_REPAIR) whose receive queue is chosen: argument = bytes for the end of what was received.
    /// Result: how many fitted.
    RepairFill = 25;
    /// recv(2) with MSG_OOB: `args[0]` = 1 leaves the byte to be read (MSG_PEEK). Result 1 and `args[0]` = the byte's offset in the received
    /// stream, or 0 at the stream's end.
    RecvUrgent = 26;
}

/// Connect, Accept, PollAdd: do not wait.
pub const FLAG_NONBLOCK: u16 = 1;
/// The entry is for the socket that the last `Socket` entry of this ring made, whatever its `sock` says: the two may be submitted
/// together. If that one failed, so does this, with EBADF.
pub const FLAG_LAST_SOCKET: u16 = 2;
/// The number no socket has: what an entry with [`FLAG_LAST_SOCKET`] is for when there is none.
pub const NO_SOCKET: u32 = u32::MAX;
/// Kick: more will be written at once (MSG_MORE). A later kick without it lets everything go.
pub const FLAG_MORE: u16 = 4;

/// Consumed: the bytes up to offset `args[0]`, which are published afterwards, are urgent.
pub const FLAG_URGENT: u16 = 8;

/// Connect: as the first half of a sendto(2) with MSG_FASTOPEN. 0: what is written next goes with the SYN; EINPROGRESS: it left without.
pub const FLAG_FAST_OPEN: u16 = 16;

/// Readiness bits: Linux's EPOLL* values.
pub mod ready {
    /// Something can be read, or accepted, or the end of the stream was reached.
    pub const IN: u32 = 0x1;
    /// The urgent byte is here and was not read.
    pub const PRI: u32 = 0x2;
    /// Something can be written; a connection is established.
    pub const OUT: u32 = 0x4;
    /// An error waits: `error` in the control block, SO_ERROR.
    pub const ERR: u32 = 0x8;
    /// Both directions are finished.
    pub const HUP: u32 = 0x10;
    /// The peer's FIN was taken in: the stream ended well, even if a reset followed. Nothing to wait for.
    pub const FIN: u32 = 0x4000_0000;
    /// The peer will send no more (FIN), or reading was shut down. `rx_head` is final once this is seen.
    pub const RDHUP: u32 = 0x2000;
}

/// A submission entry: a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sqe {
    /// [`Opcode`] as a number; not validated yet.
    pub opcode: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// Socket number.
    pub sock: u32,
    /// Comes back in the completion. 0: nobody waits.
    pub user_data: u64,
    /// By opcode.
    pub args: [u64; 5],
    /// Bytes of the argument slot in use. Set by the ring.
    pub arg_len: u32,
}

/// A completion entry: an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cqe {
    /// Of the submission.
    pub user_data: u64,
    /// At least 0, or minus a Linux errno.
    pub result: i32,
    /// None defined yet.
    pub flags: u32,
    /// By opcode.
    pub args: [u64; 5],
    /// Bytes of the argument slot in use. Set by the ring.
    pub arg_len: u32,
}

/// An entry of a ring, as the words it consists of.
pub trait Entry: Copy {
    /// To words.
    fn to_words(self) -> [u64; ENTRY_WORDS];
    /// From words. Every bit pattern is an entry; validation comes after.
    fn from_words(words: [u64; ENTRY_WORDS]) -> Self;
    /// Bytes of the argument slot.
    fn arg_len(&self) -> u32;
    /// Says how many bytes of the argument slot are used.
    fn set_arg_len(&mut self, len: u32);
}

impl Entry for Sqe {
    fn to_words(self) -> [u64; ENTRY_WORDS] {
        let Self { opcode, flags, sock, user_data, args, arg_len } = self;
        let first = u64::from(opcode) | u64::from(flags) << 16 | u64::from(sock) << 32;
        [first, user_data, args[0], args[1], args[2], args[3], args[4], u64::from(arg_len)]
    }
    fn from_words(w: [u64; ENTRY_WORDS]) -> Self {
        Self {
            opcode: w[0] as u16,
            flags: (w[0] >> 16) as u16,
            sock: (w[0] >> 32) as u32,
            user_data: w[1],
            args: [w[2], w[3], w[4], w[5], w[6]],
            arg_len: w[7] as u32,
        }
    }
    fn arg_len(&self) -> u32 {
        self.arg_len
    }
    fn set_arg_len(&mut self, len: u32) {
        self.arg_len = len;
    }
}

impl Entry for Cqe {
    fn to_words(self) -> [u64; ENTRY_WORDS] {
        let Self { user_data, result, flags, args, arg_len } = self;
        let second = u64::from(result as u32) | u64::from(flags) << 32;
        [user_data, second, args[0], args[1], args[2], args[3], args[4], u64::from(arg_len)]
    }
    fn from_words(w: [u64; ENTRY_WORDS]) -> Self {
        Self {
            user_data: w[0],
            result: w[1] as u32 as i32,
            flags: (w[1] >> 32) as u32,
            args: [w[2], w[3], w[4], w[5], w[6]],
            arg_len: w[7] as u32,
        }
    }
    fn arg_len(&self) -> u32 {
        self.arg_len
    }
    fn set_arg_len(&mut self, len: u32) {
        self.arg_len = len;
    }
}

/// A private copy of an entry's argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    bytes: [u8; ARG_BYTES],
    len: usize,
}

impl Default for Arg {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Arg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Arg({:02x?})", self.as_bytes())
    }
}

impl Arg {
    /// Nothing, ready to lend.
    pub const NONE: &'static Self = &Self::new();
    /// Nothing.
    pub const fn new() -> Self {
        Self { bytes: [0; ARG_BYTES], len: 0 }
    }
    /// A copy of at most [`ARG_BYTES`] bytes; `None` if there are more.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut arg = Self::default();
        arg.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        arg.len = bytes.len();
        Some(arg)
    }
    /// An address: `{ family u16, port u16, scope u32, addr [u8; 16] }`, integers in host order.
    pub fn from_addr(addr: SocketAddr) -> Self {
        let mut arg = Self::default();
        arg.bytes[..ADDR_BYTES].copy_from_slice(&encode_addr(Some(addr)));
        arg.len = ADDR_BYTES;
        arg
    }
    /// What it holds.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    /// Reads an address.
    pub fn addr(&self) -> Result<SocketAddr, crate::Breach> {
        let bytes = self.as_bytes();
        let fixed: &[u8; ADDR_BYTES] = bytes.try_into().map_err(|_| crate::Breach::Address(bytes.len()))?;
        decode_addr(fixed).flatten().ok_or(crate::Breach::Address(bytes.len()))
    }
    /// Reads an address that may be missing: nothing at all, or family 0 (AF_UNSPEC).
    pub fn maybe_addr(&self) -> Result<Option<SocketAddr>, crate::Breach> {
        let bytes = self.as_bytes();
        if bytes.is_empty() {
            return Ok(None);
        }
        let fixed: &[u8; ADDR_BYTES] = bytes.try_into().map_err(|_| crate::Breach::Address(bytes.len()))?;
        decode_addr(fixed).ok_or(crate::Breach::Address(bytes.len()))
    }
    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.len = 0;
    }
    /// What goes into the slot. Bytes of the last word beyond `len` are zero, not what another client's argument left here.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let (whole, rest) = self.as_bytes().as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(last);
        whole.iter().copied().chain(last).map(u64::from_ne_bytes)
    }
    /// `len` must be at most [`ARG_BYTES`]; more is cut.
    pub(crate) fn fill(&mut self, len: usize, mut word: impl FnMut(usize) -> u64) {
        self.len = len.min(ARG_BYTES);
        let used = self.len.next_multiple_of(8);
        for (i, chunk) in self.bytes[..used].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *chunk = word(i).to_ne_bytes();
        }
    }
}

/// Size of an encoded address.
pub const ADDR_BYTES: usize = 24;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `None` is family 0: no address.
pub fn encode_addr(addr: Option<SocketAddr>) -> [u8; ADDR_BYTES] {
    let mut out = [0; ADDR_BYTES];
    let Some(addr) = addr else { return out };
    out[2..4].copy_from_slice(&addr.port().to_ne_bytes());
    match addr {
        SocketAddr::V4(v4) => {
            out[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            out[8..12].copy_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            out[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            out[4..8].copy_from_slice(&v6.scope_id().to_ne_bytes());
            out[8..24].copy_from_slice(&v6.ip().octets());
        }
    }
    out
}

/// Outer `None`: an unknown family. Inner `None`: no address.
pub fn decode_addr(bytes: &[u8; ADDR_BYTES]) -> Option<Option<SocketAddr>> {
    let port = u16::from_ne_bytes([bytes[2], bytes[3]]);
    let scope = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    match u16::from_ne_bytes([bytes[0], bytes[1]]) {
        0 => Some(None),
        AF_INET => {
            let ip = Ipv4Addr::new(bytes[8], bytes[9], bytes[10], bytes[11]);
            Some(Some(SocketAddr::V4(SocketAddrV4::new(ip, port))))
        }
        AF_INET6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[8..24]);
            Some(Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope))))
        }
        _ => None,
    }
}

/// The unspecified address of the same family.
pub fn unspecified(like: SocketAddr) -> SocketAddr {
    let ip = if like.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(ip, 0)
}
