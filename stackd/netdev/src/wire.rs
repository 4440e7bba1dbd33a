//! A virtual wire between two daemons: Ethernet frames with virtio-net headers over a SOCK_SEQPACKET Unix socket, so that GSO frames cross whole.
//!
//! One end listens, the other connects. When the peer goes, frames are lost as on a cut cable until it is back.

use crate::{Batch, Caps, Device, DeviceStats, RX_BUFFER_LEN, RxMeta, TxFrame, TxResult, sys, vnet};
use stackd_base::{Duration, Instant, QueueId};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Room for several 64 KiB frames in each direction.
static BUFFER: libc::c_int = 8 << 20;
/// A packet that is worth reading ahead of: copying it again costs less than a system call.
const SMALL: usize = 4096;
/// Room for the longest packet, rounded to pages.
const SLOT: usize = 17 * 4096;
const _: () = assert!(SLOT >= RX_BUFFER_LEN + vnet::LEN);
/// How often the connecting end tries again.
const RETRY: Duration = Duration::from_millis(50);

/// One end.
#[derive(Debug)]
pub struct Wire {
    path: PathBuf,
    mtu: u32,
    listener: Option<OwnedFd>,
    peer: Option<OwnedFd>,
    retry_at: Instant,
    header: [u8; vnet::LEN],
    inbox: Inbox,
    rx_invalid: u64,
}

/// Packets that were read ahead. Many small ones come with one call; after a large one, the next is read straight to its place.
#[derive(Debug, Default)]
struct Inbox {
    /// `sys::BATCH` slots; empty until the first small packet.
    slots: Box<[u8]>,
    lens: [usize; sys::BATCH],
    next: usize,
    count: usize,
    /// The last packet was small.
    small: bool,
}

impl Inbox {
    /// The next packet that was read ahead, vnet header included.
    fn take(&mut self) -> Option<&[u8]> {
        if self.next >= self.count {
            return None;
        }
        let at = self.next;
        self.next += 1;
        // The next small or large packet decides anew.
        self.small = self.lens[at] <= SMALL;
        self.slots.get(at * SLOT..at * SLOT + self.lens[at])
    }

    /// Reads ahead. False: nothing was waiting.
    fn fill(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        if self.slots.is_empty() {
            self.slots = vec![0; SLOT * sys::BATCH].into();
        }
        self.next = 0;
        self.count = 0;
        self.count = sys::receive_packets(fd, &mut self.slots, SLOT, &mut self.lens)?;
        Ok(self.count > 0)
    }
}

impl Wire {
    /// The end that makes the socket at `path`; a stale socket file is replaced.
    ///
    /// # Errors
    /// EADDRINUSE when another daemon listens there.
    pub fn listen(path: &Path, mtu: u32) -> io::Result<Self> {
        if path.exists() && connect(path).is_ok() {
            let text = format!("{}: another end of a wire listens here", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        use std::os::unix::fs::FileTypeExt;
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let fd = socket()?;
        let (address, len) = address(path)?;
        // SAFETY: the address is a sockaddr_un of at least `len` bytes.
        sys::check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } as isize)?;
        // SAFETY: takes a descriptor and a number.
        sys::check(unsafe { libc::listen(fd.as_raw_fd(), 1) } as isize)?;
        Ok(Self {
            path: path.to_owned(),
            mtu,
            listener: Some(fd),
            peer: None,
            retry_at: Instant::ZERO,
            header: [0; vnet::LEN],
            inbox: Inbox::default(),
            rx_invalid: 0,
        })
    }

    /// The end that connects to `path`, now or as soon as somebody listens there.
    pub fn connect(path: &Path, mtu: u32) -> Self {
        let peer = connect(path).ok();
        Self {
            path: path.to_owned(),
            mtu,
            listener: None,
            peer,
            retry_at: Instant::ZERO,
            header: [0; vnet::LEN],
            inbox: Inbox::default(),
            rx_invalid: 0,
        }
    }

    /// Whether there is a peer.
    pub fn link_up(&self) -> bool {
        self.peer.is_some()
    }

    /// The next packet: its vnet header in `self.header`, its frame (of which the length is returned) in `buf`.
    fn next_packet(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some(packet) = self.inbox.take() {
                let (header, frame) = packet.split_at(packet.len().min(vnet::LEN));
                // What is too short is found to be so by whoever decodes it; what does not fit `buf` counts as cut off.
                self.header = header.try_into().unwrap_or_default();
                let Some(to) = buf.get_mut(..frame.len()) else { return Ok(Some(0)) };
                to.copy_from_slice(frame);
                return Ok(Some(frame.len()));
            }
            let Some(peer) = &self.peer else { return Ok(None) };
            let got = if self.inbox.small {
                match self.inbox.fill(peer.as_fd()) {
                    Ok(true) => continue,
                    Ok(false) => Ok(None),
                    Err(e) => Err(e),
                }
            } else {
                sys::receive_frame(peer.as_fd(), &mut self.header, buf)
            };
            match got {
                Ok(len) => {
                    self.inbox.small = len.is_none_or(|l| l <= SMALL);
                    return Ok(len);
                }
                Err(_) => self.lose_peer(now),
            }
        }
    }

    /// The cable is cut; another peer may be there already.
    fn lose_peer(&mut self, now: Instant) {
        self.peer = None;
        self.retry_at = now;
        self.reconnect(now);
    }

    fn reconnect(&mut self, now: Instant) {
        if self.peer.is_some() {
            return;
        }
        if let Some(listener) = &self.listener {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: no address is asked for.
            let fd = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if fd >= 0 {
                // SAFETY: accept4 returned a new descriptor that nobody else owns.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                enlarge(&fd);
                self.peer = Some(fd);
            }
        } else if now >= self.retry_at {
            self.retry_at = now + RETRY;
            self.peer = connect(&self.path).ok();
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers.
    let fd = sys::check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) } as isize)?;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    enlarge(&fd);
    Ok(fd)
}

/// Asks for large buffers: by force where that is allowed, up to `net.core.wmem_max` elsewhere.
fn enlarge(fd: &OwnedFd) {
    for option in [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE] {
        // SAFETY: the option is one int. Refusal leaves the smaller buffer, which works too.
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const BUFFER).cast(), 4) };
    }
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket()?;
    let (address, len) = address(path)?;
    // SAFETY: the address is a sockaddr_un of at least `len` bytes.
    sys::check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), len) } as isize)?;
    Ok(fd)
}

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: an all-zero sockaddr_un is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "path of a wire has at most 107 bytes"));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.listener.is_some() {
            // Whoever starts next replaces a stale file anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Device for Wire {
    fn queue(&self) -> QueueId {
        QueueId(0)
    }
    fn caps(&self) -> Caps {
        Caps { mtu: self.mtu, tx_csum: true, tso_max: 65_535, uso: true, gro: true, ethernet: true }
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        self.reconnect(now);
        while let Some(len) = self.next_packet(now, buf)? {
            // A frame that the peer described wrongly is passed over.
            let frame = buf.get(..len).unwrap_or_default();
            if let Ok(offload) = vnet::decode(&self.header, frame) {
                return Ok(Some(RxMeta { at: now, offload, start: 0, len }));
            }
            self.rx_invalid += 1;
        }
        Ok(None)
    }
    unsafe fn transmit(&mut self, now: Instant, frame: &TxFrame<'_>) -> TxResult {
        // SAFETY: by this function's contract.
        let batch = unsafe { self.transmit_batch(now, std::slice::from_ref(frame)) };
        batch.stopped.unwrap_or(TxResult::Sent)
    }
    unsafe fn transmit_batch(&mut self, now: Instant, frames: &[TxFrame<'_>]) -> Batch {
        self.reconnect(now);
        let Some(peer) = &self.peer else {
            let down = io::Error::from_raw_os_error(libc::ENETDOWN);
            return Batch { sent: 0, stopped: Some(TxResult::Refused(down)) };
        };
        // SAFETY: by this function's contract.
        let batch = unsafe { sys::send_frames(peer.as_fd(), frames) };
        if let Some(TxResult::Refused(e)) = &batch.stopped
            && matches!(e.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN))
        {
            self.lose_peer(now);
        }
        batch
    }
    /// The peer's socket, or while there is none the listener: it changes with the peer, so ask before each wait.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.peer.as_ref().or(self.listener.as_ref()).map(AsFd::as_fd)
    }
    fn next_deadline(&self) -> Option<Instant> {
        (self.peer.is_none() && self.listener.is_none()).then_some(self.retry_at)
    }
    fn stats(&self) -> DeviceStats {
        DeviceStats { rx_invalid: self.rx_invalid, ..DeviceStats::default() }
    }
}
