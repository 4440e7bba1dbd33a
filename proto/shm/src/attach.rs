//! The attach socket (`SOCK_SEQPACKET`): how a client gets its region, and what its lease hangs on.
//!
//! ```text
//! client: Hello { magic, min_version, max_version, rings, name }
//! daemon: Welcome { version, geometry, rings } + [region memfd, session doorbell, completion eventfd x rings]   or   Refused { errno, text }
//! client: OpenRing                                   (whenever another thread appears)
//! daemon: RingOpened { index } + [completion eventfd]       or   Refused { errno, text }
//! ```
//! Each message is one packet: a u32 tag, then fixed fields, little-endian. Closing the connection ends the session.

use crate::abi::{ABI_VERSION, MAGIC};
use crate::region::Geometry;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// Longest message.
pub const MAX_MESSAGE: usize = 512;
/// Most descriptors with one message (the kernel's limit is 253).
pub const MAX_FDS: usize = 2 + MAX_INITIAL_RINGS as usize;
/// Most rings that `Hello` can ask for; more by `OpenRing`.
pub const MAX_INITIAL_RINGS: u32 = 16;
/// Bytes of a client's name.
pub const NAME_BYTES: usize = 16;

/// A message of the attach protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First message of a client.
    Hello {
        /// Oldest ABI version it can speak.
        min_version: u16,
        /// Newest.
        max_version: u16,
        /// Ring pairs it wants at once, at most [`MAX_INITIAL_RINGS`].
        rings: u32,
        /// For `netctl clients`: at most 16 bytes are kept.
        name: String,
    },
    /// The session is open. Descriptors: region, doorbell, and one completion eventfd for each of `rings` (pairs 0..rings).
    Welcome {
        /// The version both will speak.
        version: u16,
        /// Of the region.
        geometry: Geometry,
        /// Ring pairs opened.
        rings: u32,
    },
    /// No: a Linux errno and what to do about it.
    Refused {
        /// Linux's number.
        errno: i32,
        /// For people.
        text: String,
    },
    /// One more ring pair, please.
    OpenRing,
    /// Descriptor: its completion eventfd.
    RingOpened {
        /// Its number.
        index: u32,
    },
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short for what its tag says, or too long.
    #[error("attach message of {0} bytes is cut short or too long")]
    Length(usize),
    /// Unknown tag.
    #[error("attach message {0} does not exist")]
    Tag(u32),
    /// The first words are not stackd's.
    #[error("this is not a stackd client (magic {0:#018x})")]
    Magic(u64),
}

impl From<Malformed> for io::Error {
    fn from(e: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

/// The version to speak with a client that offers this range; `None`: there is none.
pub fn negotiate(min_version: u16, max_version: u16) -> Option<u16> {
    (min_version..=max_version).contains(&ABI_VERSION).then_some(ABI_VERSION)
}

struct Reader<'a>(&'a [u8], usize);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Length(self.1))?;
        self.0 = rest;
        Ok(*head)
    }
    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }
    fn text(&self) -> String {
        // It ends up in logs and on terminals: no escape sequences, no line breaks.
        let text = String::from_utf8_lossy(self.0);
        text.trim_end_matches('\0').chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// The longest prefix of `text` that fits `max` bytes.
fn cut(text: &str, max: usize) -> &[u8] {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

impl Message {
    /// As bytes of one packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let u32s = |out: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|w| out.extend(w.to_le_bytes()));
        match self {
            Self::Hello { min_version, max_version, rings, name } => {
                u32s(&mut out, &[1]);
                out.extend(MAGIC.to_le_bytes());
                out.extend(min_version.to_le_bytes());
                out.extend(max_version.to_le_bytes());
                u32s(&mut out, &[*rings]);
                out.extend(cut(name, NAME_BYTES));
            }
            Self::Welcome { version, geometry, rings } => {
                let Geometry { rings: pairs, ring_entries, sockets, chunks } = *geometry;
                u32s(&mut out, &[2]);
                out.extend(MAGIC.to_le_bytes());
                u32s(&mut out, &[u32::from(*version), pairs, ring_entries, sockets, chunks, *rings]);
            }
            Self::Refused { errno, text } => {
                u32s(&mut out, &[3, *errno as u32]);
                out.extend(cut(text, MAX_MESSAGE - 8));
            }
            Self::OpenRing => u32s(&mut out, &[4]),
            Self::RingOpened { index } => u32s(&mut out, &[5, *index]),
        }
        out
    }

    /// From the bytes of one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Malformed::Length(bytes.len()));
        }
        let mut r = Reader(bytes, bytes.len());
        let magic =
            |r: &mut Reader<'_>| r.u64().and_then(|m| if m == MAGIC { Ok(()) } else { Err(Malformed::Magic(m)) });
        Ok(match r.u32()? {
            1 => {
                magic(&mut r)?;
                let (min_version, max_version, rings) = (r.u16()?, r.u16()?, r.u32()?);
                r.0 = &r.0[..r.0.len().min(NAME_BYTES)];
                Self::Hello { min_version, max_version, rings, name: r.text() }
            }
            2 => {
                magic(&mut r)?;
                let version = r.u32()? as u16;
                let geometry =
                    Geometry { rings: r.u32()?, ring_entries: r.u32()?, sockets: r.u32()?, chunks: r.u32()? };
                Self::Welcome { version, geometry, rings: r.u32()? }
            }
            3 => Self::Refused { errno: r.u32()? as i32, text: r.text() },
            4 => Self::OpenRing,
            5 => Self::RingOpened { index: r.u32()? },
            tag => return Err(Malformed::Tag(tag)),
        })
    }
}

/// Sends one message with descriptors. Does not raise SIGPIPE, and does not wait: a peer that asks and never reads fills its own socket, and
/// the answer to it is WouldBlock, on which the daemon ends the session.
pub fn send(socket: impl AsFd, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} descriptors in one message", fds.len())));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Receives one message with its descriptors (close-on-exec). `None`: the other side hung up. Descriptors of a malformed message are closed.
pub fn recv(socket: impl AsFd) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut bytes = [0; MAX_MESSAGE + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "attach message lost descriptors: too many, or no room for them here",
        ));
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let message = bytes.get(..got.bytes).ok_or(Malformed::Length(got.bytes)).and_then(Message::decode)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
#[path = "attach_tests.rs"]
mod tests;
